//! What changed, for whoever watches: a ring in memory and a broadcast.
//!
//! Events say that something changed, not what it now is: a watcher reads it
//! through the API, with its own permissions.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use tokio::sync::broadcast;
use uuid::Uuid;

const REMEMBERED: usize = 1024;

/// Nouns that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Noun {
    /// A host's connection or identity.
    Host,
    /// A finding.
    Finding,
    /// A thread has a new message.
    Thread,
    /// An action.
    Action,
    /// A scenario has run.
    Scenario,
    /// What stands on what: a host's inventory, or a person's correction.
    Topology,
    /// A silence, maintenance or a backup; its id says which, before the slash.
    Quiet,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Changed {
    /// Position: where a watcher resumes.
    #[serde(skip)]
    pub position: u64,
    /// What.
    pub noun: Noun,
    /// Which.
    pub id: String,
    /// What it is now, in one word.
    pub state: String,
}

/// The ring.
#[derive(Debug)]
pub struct Events {
    life: String,
    ring: Mutex<Ring>,
    live: broadcast::Sender<Changed>,
}

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    past: VecDeque<Changed>,
}

/// What a watcher begins with.
#[derive(Debug)]
pub struct Watch {
    /// What it missed, or none when it must read everything again.
    pub missed: Option<Vec<Changed>>,
    /// What comes.
    pub live: broadcast::Receiver<Changed>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            life: Uuid::now_v7().simple().to_string(),
            ring: Mutex::default(),
            live: broadcast::Sender::new(REMEMBERED),
        }
    }
}

impl Events {
    /// Tells everyone.
    pub fn publish(&self, noun: Noun, id: impl Into<String>, state: impl Into<String>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Changed { position: ring.next, noun, id: id.into(), state: state.into() };
        ring.next += 1;
        if ring.past.len() == REMEMBERED {
            ring.past.pop_front();
        }
        ring.past.push_back(event.clone());
        // Inside the lock, so that the order of the ring is the order of the
        // broadcast; it fails only when nobody watches.
        let _nobody = self.live.send(event);
    }

    /// Tells whoever watches now, and nobody later: for what changes too often
    /// to be remembered. A watcher resumes at what was remembered before.
    pub fn mention(&self, noun: Noun, id: impl Into<String>, state: impl Into<String>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Changed { position: ring.next.wrapping_sub(1), noun, id: id.into(), state: state.into() };
        let _nobody = self.live.send(event);
    }

    /// The id of an event on the wire: positions of another life of the
    /// coordinator mean nothing here.
    #[must_use]
    pub fn id(&self, position: u64) -> String {
        format!("{}-{position}", self.life)
    }

    /// Begins to watch, after the event `last` where one is given.
    #[must_use]
    pub fn watch(&self, last: Option<&str>) -> Watch {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let Some(last) = last else { return Watch { missed: Some(Vec::new()), live } };
        let position = last
            .split_once('-')
            .filter(|(life, _)| *life == self.life)
            .and_then(|(_, position)| position.parse::<u64>().ok())
            .filter(|position| *position < ring.next);
        let oldest = ring.past.front().map_or(ring.next, |event| event.position);
        let missed = position
            .filter(|position| position + 1 >= oldest)
            .map(|position| ring.past.iter().filter(|event| event.position > position).cloned().collect());
        Watch { missed, live }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_resumes_where_it_was_or_is_told_to_start_again() {
        let events = Events::default();
        for n in 0..3 {
            events.publish(Noun::Finding, n.to_string(), "open");
        }
        let missed = |last: &str| {
            events.watch(Some(last)).missed.map(|list| list.into_iter().map(|event| event.id).collect::<Vec<_>>())
        };
        assert_eq!(missed(&events.id(0)), Some(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(missed(&events.id(2)), Some(vec![]));
        assert_eq!(missed(&events.id(3)), None, "an event that never was");
        assert_eq!(missed("other-1"), None, "another life");
        assert_eq!(missed("nonsense"), None);
        let mut live = events.watch(None).live;
        events.mention(Noun::Action, "a", "output");
        let mentioned = live.try_recv().expect("told");
        assert_eq!(missed(&events.id(mentioned.position)), Some(vec![]), "it is not remembered");
        for n in 0..REMEMBERED {
            events.publish(Noun::Finding, n.to_string(), "open");
        }
        assert_eq!(missed(&events.id(0)), None, "fell out of the ring");
    }
}
