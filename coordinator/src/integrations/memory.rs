//! What is known of a system from earlier questions. It is kept in memory and
//! holds for one set of addresses and credentials: a changed integration is
//! asked like a new one.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
};

use farol_protocol::Timestamp;

use super::{Connection, Secret};
use crate::topology::GuestFact;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<(String, u64), Known>>);

/// Of one integration.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The address that answered last.
    pub(crate) endpoint: Option<String>,
    /// Until when it is not asked, since it refused the credentials.
    pub(crate) hold: Option<Timestamp>,
    /// Until when an older interface is taken to be there.
    pub(crate) older: Option<Timestamp>,
    /// A login, and until when it is good.
    pub(crate) token: Option<(Secret, Timestamp)>,
    /// Release that it last told.
    pub(crate) version: Option<String>,
    /// By command, whether its older spelling is the one that works.
    pub(crate) spelled_older: HashMap<String, bool>,
    /// When it was last asked what it tells the topology.
    pub(crate) told_at: Option<Timestamp>,
    /// Signs of its guests by number and node, and when they were read.
    pub(crate) guests: HashMap<(u32, String), (Timestamp, GuestFact)>,
}

impl Memory {
    /// Reads or changes what is known behind `connection`.
    pub(crate) fn with<T>(&self, connection: &Connection, act: impl FnOnce(&mut Known) -> T) -> T {
        let mut hasher = DefaultHasher::new();
        (&connection.endpoints, &connection.tls, connection.user(), connection.secret()).hash(&mut hasher);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (connection.id.clone(), hasher.finish());
        if !all.contains_key(&key) {
            // What was known behind the former credentials is of no use.
            all.retain(|(id, _), _| *id != connection.id);
        }
        act(all.entry(key).or_default())
    }
}
