//! Which of the waiting messages go out now, a pure function.
//!
//! **Invariant.** A channel gets its messages in the order in which they were
//! written. Only one that failed [`HOLDS`] times lets others pass, never those
//! about its own finding.

use std::collections::HashMap;

use farol_protocol::Timestamp;

use super::{Channel, Reason};
use crate::store::outbox::Waiting;

/// After so many failures a message no longer holds up those behind it.
const HOLDS: i64 = 3;

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Messages that nobody needs any more.
    pub cancelled: Vec<(String, Reason)>,
    /// Messages that waited in vain for somebody to acknowledge.
    pub promoted: Vec<String>,
    /// Messages of each channel, in order.
    pub queues: Vec<(Channel, Vec<String>)>,
    /// When to look again, as far as that is known.
    pub next: Option<Timestamp>,
}

impl Plan {
    /// Whether the store is to be changed before anything is sent.
    #[must_use]
    pub fn settles(&self) -> bool {
        !self.cancelled.is_empty() || !self.promoted.is_empty()
    }

    fn look_at(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |known| known.min(at)));
    }
}

/// Looks at what waits, which is sorted by age. `paused` says until when a
/// channel, by name, wants nothing.
#[must_use]
pub fn plan(waiting: &[Waiting], paused: &HashMap<String, Timestamp>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut queues: Vec<(Channel, Queue)> = Vec::new();
    for row in waiting {
        if let Some(reason) = over(row) {
            plan.cancelled.push((row.id.clone(), reason));
            continue;
        }
        let due = Timestamp::from_ms(row.next_ms);
        if row.escalates == 1 {
            if due <= now {
                plan.promoted.push(row.id.clone());
            } else {
                plan.look_at(due);
            }
            continue;
        }
        if let Some(until) = paused.get(&row.channel).filter(|until| **until > now) {
            plan.look_at(*until);
            continue;
        }
        let channel = Channel { name: row.channel.clone(), recipient: row.recipient.clone() };
        let place = queues.iter().position(|(known, _)| *known == channel).unwrap_or_else(|| {
            queues.push((channel, Queue::default()));
            queues.len() - 1
        });
        let queue = &mut queues[place].1;
        if queue.is_held(row) {
            continue;
        }
        if due > now {
            plan.look_at(due);
            queue.hold(row);
        } else {
            queue.ready.push(row.id.clone());
        }
    }
    let ready = queues.into_iter().map(|(channel, queue)| (channel, queue.ready));
    plan.queues = ready.filter(|(_, ready)| !ready.is_empty()).collect();
    plan
}

#[derive(Default)]
struct Queue {
    ready: Vec<String>,
    /// Nothing passes any more.
    closed: bool,
    /// Findings of messages that wait.
    held: Vec<String>,
}

impl Queue {
    fn is_held(&self, row: &Waiting) -> bool {
        self.closed || self.held.contains(&row.finding_id)
    }

    fn hold(&mut self, row: &Waiting) {
        if row.attempts < HOLDS {
            self.closed = true;
        }
        self.held.push(row.finding_id.clone());
    }
}

/// Why nobody needs it any more, if that is so.
fn over(row: &Waiting) -> Option<Reason> {
    if row.escalates == 1 {
        return match row.finding_state.as_str() {
            "open" => None,
            "acknowledged" => Some(Reason::Acknowledged),
            "suppressed" => Some(Reason::Suppressed),
            _ => Some(Reason::Resolved),
        };
    }
    let follows = row.what != "problem" && matches!(row.problem_state.as_str(), "dead" | "cancelled" | "skipped");
    follows.then_some(Reason::ProblemNotTold)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_ms(100_000)
    }

    fn row(id: &str, channel: &str, finding: &str) -> Waiting {
        Waiting {
            id: id.to_owned(),
            channel: channel.to_owned(),
            recipient: String::new(),
            finding_id: finding.to_owned(),
            what: "problem".to_owned(),
            attempts: 0,
            next_ms: 0,
            escalates: 0,
            finding_state: "open".to_owned(),
            problem_state: "pending".to_owned(),
        }
    }

    fn later(row: Waiting, attempts: i64, ms: i64) -> Waiting {
        Waiting { attempts, next_ms: now().as_ms() + ms, ..row }
    }

    fn ready(waiting: &[Waiting]) -> Vec<String> {
        plan(waiting, &HashMap::new(), now()).queues.into_iter().flat_map(|(_, ready)| ready).collect()
    }

    #[test]
    fn channels_do_not_wait_for_each_other_and_each_keeps_its_order() {
        let waiting =
            [later(row("1", "a", "f1"), 1, 5_000), row("2", "b", "f1"), row("3", "a", "f2"), row("4", "b", "f2")];
        let plan = plan(&waiting, &HashMap::new(), now());
        assert_eq!(plan.queues.len(), 1);
        assert_eq!(plan.queues[0].1, ["2", "4"]);
        assert_eq!(plan.next, Some(now().plus_ms(5_000)));
    }

    #[test]
    fn one_that_fails_again_and_again_lets_others_pass_but_not_its_own_recovery() {
        let recovery = Waiting { what: "recovery".to_owned(), ..row("3", "a", "f1") };
        let waiting = [later(row("1", "a", "f1"), HOLDS, 5_000), row("2", "a", "f2"), recovery];
        assert_eq!(ready(&waiting), ["2"]);
    }

    #[test]
    fn an_escalation_waits_is_let_go_or_is_cancelled_with_the_reason() {
        let waits = |state: &str, ms: i64| {
            let row = Waiting { escalates: 1, finding_state: state.to_owned(), ..row("1", "a", "f1") };
            plan(&[later(row, 0, ms)], &HashMap::new(), now())
        };
        assert_eq!(waits("open", 9).next, Some(now().plus_ms(9)));
        assert_eq!(waits("open", 0).promoted, ["1"]);
        for (state, reason) in
            [("acknowledged", Reason::Acknowledged), ("resolved", Reason::Resolved), ("suppressed", Reason::Suppressed)]
        {
            let plan = waits(state, 9);
            assert_eq!(plan.cancelled, [("1".to_owned(), reason)]);
            assert!(plan.settles() && plan.queues.is_empty());
        }
    }

    #[test]
    fn what_follows_a_problem_that_was_not_told_is_cancelled() {
        let follows = |state: &str| {
            let row = Waiting { what: "recovery".to_owned(), problem_state: state.to_owned(), ..row("1", "a", "f1") };
            plan(&[row], &HashMap::new(), now())
        };
        for state in ["dead", "cancelled", "skipped"] {
            assert_eq!(follows(state).cancelled, [("1".to_owned(), Reason::ProblemNotTold)]);
        }
        assert_eq!(follows("sent").queues[0].1, ["1"]);
        // A mail of before findings were noted.
        assert_eq!(follows("").queues[0].1, ["1"]);
    }

    #[test]
    fn a_channel_that_asked_for_a_pause_gets_one_and_the_others_do_not() {
        let waiting = [row("1", "a", "f1"), row("2", "b", "f1")];
        let paused = HashMap::from([("a".to_owned(), now().plus_ms(7)), ("b".to_owned(), now())]);
        let plan = plan(&waiting, &paused, now());
        assert_eq!(plan.queues.len(), 1);
        assert_eq!(plan.queues[0].1, ["2"]);
        assert_eq!(plan.next, Some(now().plus_ms(7)));
    }
}
