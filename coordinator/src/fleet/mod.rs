//! The agents' side: who may connect, who is connected, what they say.
//!
//! **Invariant.** After every handshake, and every 500 ms from then on, the
//! pinned key of a connection must be in the store's live set.

mod admission;
mod authority;
mod certificate;
mod enrol;
pub(crate) mod http;
pub mod identity;
mod inventory;
mod legacy;
pub(crate) mod limits;
mod listener;
pub(crate) mod own_reports;
mod renew;
mod results;
mod sequence;
mod session;
#[cfg_attr(farol_simulation, path = "../simulation/socket.rs")]
mod socket;
mod stream;
mod unfinished;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

pub use authority::{AUTHORITY_INTERVAL, Trust};
use farol_protocol::{
    ActionId, Effect, HostId, Plan, SessionId, Timestamp,
    frame::{self, ActionRef, Order, ToAgent},
    legacy as wire,
    signing::Signature,
};
pub use listener::{Southbound, serve};
pub(crate) use results::lose;
#[cfg(farol_simulation)]
pub(crate) use session::simulated;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    store::{
        Store,
        actions::ActionRow,
        hosts::{HostKey, LiveSet},
    },
};

/// How often the live set is read again.
pub const LIVE_SET_INTERVAL: Duration = Duration::from_millis(500);

/// Who is connected and who may.
#[derive(Debug, Default)]
pub struct Fleet {
    live: RwLock<LiveSet>,
    refreshing: tokio::sync::Mutex<()>,
    connected: RwLock<HashMap<HostKey, Connected>>,
    seen: RwLock<HashMap<HostKey, Arc<AtomicI64>>>,
    /// Only clocks that are off.
    skews: RwLock<HashMap<HostKey, i64>>,
    /// Sessions of hosts that speak signed HTTP.
    http: http::Sessions,
    /// When hosts posted telemetry without a session.
    posted: RwLock<HashMap<HostKey, Timestamp>>,
    renewals: Mutex<renew::Gate>,
    replaced: Mutex<HashMap<HostKey, Vec<Timestamp>>>,
}

/// A connection, as the rest of the coordinator sees it.
#[derive(Debug)]
struct Connected {
    session: SessionId,
    key_sha256: String,
    peer: Peer,
    outgoing: mpsc::Sender<String>,
    cut: CancellationToken,
    sent: Mutex<Option<ActionId>>,
}

/// Which contract a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Protocol v1.
    V1,
    /// The older contract, without a version.
    Legacy,
}

/// What became of an order that was to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// It is on its way.
    Now,
    /// This connection has it already.
    Before,
    /// The host is away, or its queue is full.
    NotNow,
    /// The host's agent does not know such an order.
    Never,
}

impl Fleet {
    /// The host whose live key this is.
    #[must_use]
    pub(crate) fn host_of(&self, key_sha256: &str) -> Option<(HostKey, HostId)> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(key_sha256).cloned()
    }

    /// Reads the live set and takes it. One at a time, so that an older reading
    /// never replaces a newer one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn refresh(&self, store: &Store) -> Result<()> {
        let _one = self.refreshing.lock().await;
        self.set_live(store.live_set().await?);
        Ok(())
    }

    /// Takes a new live set and cuts whoever is no longer in it.
    fn set_live(&self, live: LiveSet) {
        for (host, connected) in self.connected.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if live.get(&connected.key_sha256).is_none_or(|(known, _)| known != host) {
                tracing::warn!(session_id = %connected.session, "the key of this connection is no longer live, cutting it");
                connected.cut.cancel();
            }
        }
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Whether a host is connected.
    #[must_use]
    pub fn online(&self, host: HostKey) -> bool {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).contains_key(&host)
    }

    /// Hosts that are connected.
    #[must_use]
    pub fn connected(&self) -> Vec<HostKey> {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The connection of a host.
    #[must_use]
    pub fn session(&self, host: HostKey) -> Option<SessionId> {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).get(&host).map(|connected| connected.session)
    }

    /// When a host was last heard by this process.
    #[must_use]
    pub fn last_seen(&self, host: HostKey) -> Option<Timestamp> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(&host).map(|at| Timestamp::from_ms(at.load(Ordering::Relaxed)))
    }

    /// All of [`Fleet::last_seen`], to be saved.
    #[must_use]
    pub fn all_last_seen(&self) -> Vec<(HostKey, Timestamp)> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(host, at)| (*host, Timestamp::from_ms(at.load(Ordering::Relaxed)))).collect()
    }

    /// What is added to a host's times, in ms; none of a host that this process
    /// has not heard.
    #[must_use]
    pub fn clock_skew(&self, host: HostKey) -> Option<i64> {
        self.last_seen(host)?;
        Some(self.skews.read().unwrap_or_else(PoisonError::into_inner).get(&host).copied().unwrap_or(0))
    }

    /// Notes how far a host's clock is off.
    pub(crate) fn set_skew(&self, host: HostKey, skew_ms: i64) {
        let mut skews = self.skews.write().unwrap_or_else(PoisonError::into_inner);
        if skew_ms == 0 {
            skews.remove(&host);
        } else {
            skews.insert(host, skew_ms);
        }
    }

    /// Notes that a host posted telemetry, for which it needs no session.
    pub(crate) fn note_post(&self, host: HostKey, now: Timestamp) {
        self.seen_cell(host, now);
        self.posted.write().unwrap_or_else(PoisonError::into_inner).insert(host, now);
    }

    /// When a host last posted telemetry to this process.
    #[must_use]
    pub fn last_post(&self, host: HostKey) -> Option<Timestamp> {
        self.posted.read().unwrap_or_else(PoisonError::into_inner).get(&host).copied()
    }

    /// Where a connection notes that its host was heard.
    pub(crate) fn seen_cell(&self, host: HostKey, now: Timestamp) -> Arc<AtomicI64> {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(seen.entry(host).or_default());
        cell.store(now.as_ms(), Ordering::Relaxed);
        cell
    }

    /// Registers a connection; one that the host had before is cut. An awaited
    /// order counts as handed over, so that it is not sent again.
    pub(crate) fn join(
        &self,
        host: HostKey,
        session: SessionId,
        key_sha256: String,
        (peer, awaited): (Peer, Option<ActionId>),
        outgoing: mpsc::Sender<String>,
        cut: CancellationToken,
    ) {
        let connected = Connected { session, key_sha256, peer, outgoing, cut, sent: Mutex::new(awaited) };
        let before = self.connected.write().unwrap_or_else(PoisonError::into_inner).insert(host, connected);
        if let Some(before) = before {
            tracing::warn!(session_id = %before.session, replaced_by = %session, "a new connection of this host replaces this one");
            before.cut.cancel();
        }
    }

    /// Ends the connection of a host, if it has one.
    pub(crate) fn cut(&self, host: HostKey) {
        if let Some(known) = self.connected.read().unwrap_or_else(PoisonError::into_inner).get(&host) {
            tracing::warn!(session_id = %known.session, "a person decided on this host's identity, cutting its connection");
            known.cut.cancel();
        }
    }

    /// Whether connections of a host replace each other too often.
    fn takes_turns(&self, host: HostKey, now: Timestamp) -> bool {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        identity::takes_turns(replaced.entry(host).or_default(), now)
    }

    /// Asks the gate before renewals.
    fn renewals(&self, ask: impl FnOnce(&mut renew::Gate) -> bool) -> bool {
        ask(&mut self.renewals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets a connection, unless another one has taken its place.
    pub(crate) fn leave(&self, host: HostKey, session: SessionId) -> bool {
        let mut connected = self.connected.write().unwrap_or_else(PoisonError::into_inner);
        if connected.get(&host).is_some_and(|known| known.session == session) {
            connected.remove(&host);
            return true;
        }
        false
    }

    /// Whether the connection of a host has been handed this order.
    #[must_use]
    pub fn has_order(&self, host: HostKey, action: ActionId) -> bool {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        connected
            .get(&host)
            .is_some_and(|known| *known.sent.lock().unwrap_or_else(PoisonError::into_inner) == Some(action))
    }

    /// Hands an order to its host's connection, once per connection.
    pub fn hand(&self, row: &ActionRow, signatures: Vec<Signature>) -> Handed {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = connected.get(&row.host) else { return Handed::NotNow };
        let mut sent = known.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if *sent == Some(row.id) {
            return Handed::Before;
        }
        let Some(text) = order(known.peer, row, signatures) else { return Handed::Never };
        if known.outgoing.try_send(text).is_err() {
            return Handed::NotNow;
        }
        *sent = Some(row.id);
        Handed::Now
    }

    /// Notes that the connection of a host knows an order without being sent it.
    pub(crate) fn note_order(&self, host: HostKey, action: ActionId) {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = connected.get(&host) {
            *known.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(action);
        }
    }

    /// Notes that a host did not look at an order, so that it is handed over
    /// again.
    pub(crate) fn take_back(&self, host: HostKey, action: ActionId) {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = connected.get(&host) {
            let mut sent = known.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.take_if(|sent| *sent == action);
        }
    }

    /// Asks a host to stop an action. False when it cannot be asked now.
    #[must_use]
    pub fn cancel(&self, host: HostKey, action_id: ActionId) -> bool {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        connected.get(&host).filter(|known| known.peer == Peer::V1).is_some_and(|known| {
            known.outgoing.try_send(frame::encode(&ToAgent::ActionCancel(ActionRef { action_id }))).is_ok()
        })
    }
}

/// The order in the words of its peer; none where that peer has no such order.
fn order(peer: Peer, row: &ActionRow, signatures: Vec<Signature>) -> Option<String> {
    match peer {
        Peer::V1 => {
            let order = Order { action_id: row.id, plan: row.plan.clone(), signatures };
            Some(frame::encode(&ToAgent::order(row.kind, order)))
        }
        Peer::Legacy => match Plan::parse(&row.plan) {
            Ok((_, Effect::CommandExec(exec))) => Some(frame::encode(&wire::Exec::new(row.id, exec))),
            _ => None,
        },
    }
}
