//! What hosts measured and the history had no room for, in memory.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::hosts::HostKey;

/// Names of a host that are told apart; there may be no end of them.
const NAMES: usize = 10_000;

/// Which metrics are not kept, since their hosts have too many. It begins anew
/// whenever there may be room again.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Hashes of names, by host. A host stays when its names go.
    hosts: Mutex<HashMap<HostKey, HashSet<u64>>>,
}

impl Dropped {
    fn hosts(&self) -> MutexGuard<'_, HashMap<HostKey, HashSet<u64>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A metric was not kept. Answers whether it is the first of its host.
    pub fn add(&self, host: HostKey, name: &str) -> bool {
        let mut hosts = self.hosts();
        let is_first = !hosts.contains_key(&host);
        let names = hosts.entry(host).or_default();
        if names.len() < NAMES {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            names.insert(hasher.finish());
        }
        is_first
    }

    /// How many metrics of a host are not kept, at most 10,000.
    #[must_use]
    pub fn of(&self, host: HostKey) -> usize {
        self.hosts().get(&host).map_or(0, HashSet::len)
    }

    /// Forgets the names; those that are still not kept come again.
    pub fn begin_anew(&self) {
        self.hosts().values_mut().for_each(HashSet::clear);
    }
}
