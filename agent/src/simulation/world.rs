//! What all nodes share: time, the record of what happened, the network.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::{Effects, Network};

/// The simulated world of one seed.
pub struct World {
    begun: Instant,
    /// Processes that stand for effects.
    pub effects: Effects,
    /// What connects the nodes.
    pub network: Network,
    trace: Mutex<Vec<String>>,
    acknowledged: Mutex<BTreeMap<String, u64>>,
    violations: Mutex<Vec<String>>,
}

/// When every simulation begins: 2026-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_767_225_600_000;

impl World {
    /// A world whose time begins now.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            effects: Effects::default(),
            network: Network::new(seed),
            trace: Mutex::default(),
            acknowledged: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    /// True time in ms since the Unix epoch, which no host need know.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.elapsed_ms()).unwrap_or(0)
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0)
    }

    /// Writes down what happened, for whoever reads a failing seed.
    pub fn say(&self, who: &str, what: &str) {
        let line = format!("{:>9.3} s  {who:<12} {what}", self.begun.elapsed().as_secs_f64());
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// An acknowledgement of a batch leaves the coordinator.
    pub fn acknowledged(&self, stream: &str, seq: u64) {
        let mut all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(stream.to_owned()).or_default();
        *known = (*known).max(seq);
    }

    /// The highest acknowledged batch of each stream.
    #[must_use]
    pub fn all_acknowledged(&self) -> BTreeMap<String, u64> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A guarantee does not hold.
    pub fn violated(&self, guarantee: u8, how: &str) {
        self.say("VIOLATION", &format!("guarantee {guarantee}: {how}"));
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        violations.push(format!("guarantee {guarantee}: {how}"));
    }

    /// What did not hold.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that happened.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
