//! The integrations that checks use at present, read anew when the store's
//! have changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use farol_protocol::{Timestamp, system::SystemProbe};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Connection, Vault, http::Clients};
use crate::{
    checks::{seen::Seen, system},
    error::Result,
    store::Store,
};

/// A success is written down again only after this long.
const NOTE_EVERY_MS: i64 = 300_000;
/// Targets that are remembered while nobody asks them.
const MOST_TARGETS: usize = 4096;

/// See the module.
pub struct Integrations {
    vault: Vault,
    clients: Clients,
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    connections: HashMap<String, Arc<Connection>>,
    /// What the store said when they were read.
    version: Option<String>,
    noted: HashMap<String, (Option<String>, Timestamp)>,
}

impl Integrations {
    /// None yet; `vault` opens their secrets.
    #[must_use]
    pub fn new(vault: Vault) -> Self {
        Self { vault, clients: Clients::default(), turns: Mutex::default(), state: RwLock::default() }
    }

    /// Seals and opens secrets.
    #[must_use]
    pub const fn vault(&self) -> &Vault {
        &self.vault
    }

    /// For everybody who asks them, so that what one learned counts for all.
    pub(crate) const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Waits for one's turn at a target, whoever asks it: checks, tests, the
    /// API. `at_once` follows from the kind of the target.
    pub(crate) async fn turn(&self, target: Option<&str>, at_once: usize) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > MOST_TARGETS {
                // Nobody waits at those that only this map knows.
                all.retain(|_, turns| Arc::strong_count(turns) > 1 || turns.available_permits() == 0);
            }
            Arc::clone(all.entry(target?.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(at_once))))
        };
        // The semaphore is never closed.
        turns.acquire_owned().await.ok()
    }

    /// Reads them again if they have changed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn refresh(&self, store: &Store) -> Result<()> {
        let version = store.integrations_version().await?;
        if self.state.read().unwrap_or_else(PoisonError::into_inner).version.as_ref() == Some(&version) {
            return Ok(());
        }
        let connections = store.connections(&self.vault).await?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.connections = connections.into_iter().map(|there| (there.name.clone(), Arc::new(there))).collect();
        state.version = Some(version);
        state.noted.clear();
        Ok(())
    }

    /// By name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Connection>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).connections.get(name).cloned()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> =
            self.state.read().unwrap_or_else(PoisonError::into_inner).connections.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The one that a probe names, if it is of the probe's kind.
    #[must_use]
    pub(crate) fn for_probe(&self, probe: &SystemProbe) -> Option<Arc<Connection>> {
        self.get(probe.integration()?).filter(|there| there.kind.as_str() == system::kind(probe))
    }

    /// Writes down whether it answered, when that is news.
    pub(crate) async fn note(&self, store: &Store, connection: &Connection, seen: &Seen, now: Timestamp) {
        if seen.cause.is_some() {
            return;
        }
        let error = (!seen.answered).then(|| seen.text.clone());
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let noted = state.noted.get(&connection.id);
            if noted.is_some_and(|(said, at)| *said == error && now.since(*at) < NOTE_EVERY_MS) {
                return;
            }
        }
        match store.note_integration(&connection.id, error.as_deref(), now).await {
            Ok(()) => {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                state.noted.insert(connection.id.clone(), (error, now));
            }
            Err(why) => {
                tracing::warn!(integration = connection.name, "whether it answered was not written down: {why}");
            }
        }
    }
}
