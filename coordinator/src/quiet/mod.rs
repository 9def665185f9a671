//! When nobody is to be told: silences that people set, maintenance that was
//! planned, and backups that a hypervisor makes.
//!
//! [`Window`] decides when planned work is in force, [`Scope`] what is meant,
//! [`Backups`] is the board where looks at hypervisors put up what runs. The
//! job `jobs/quiet.rs` turns all of it into [`correlate::Quiet`]s and hands the
//! set to the correlator whenever it changed.
//!
//! **Invariant.** What is in force is computed from `now` each time, never
//! counted down: a clock that jumps or a machine that slept makes no window
//! longer or shorter.
//!
//! [`correlate::Quiet`]: crate::correlate::Quiet

mod backup;
pub(crate) mod rule;
mod scope;
mod window;

use std::sync::{Mutex, PoisonError};

use farol_protocol::Timestamp;
use tokio::sync::Notify;

pub use self::{
    backup::{Backup, Backups, RunningBackup, SavedBackups},
    rule::Rule,
    scope::{Place, Scope},
    window::{Span, Window},
};
use crate::correlate::Quiet;

/// What the running coordinator keeps for it.
#[derive(Debug, Default)]
pub struct Live {
    /// Backups that hypervisors make now.
    pub backups: Backups,
    /// Something changed: the job looks at once.
    pub wake: Notify,
    in_force: Mutex<Vec<InForce>>,
}

/// What keeps something quiet now, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// As the correlator has it.
    pub quiet: Quiet,
    /// Since when.
    pub since: Timestamp,
    /// Why, in one sentence.
    pub why: String,
}

impl Live {
    /// What is in force, as the correlator was told last.
    #[must_use]
    pub fn in_force(&self) -> Vec<InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts up what is in force now. Answers what was there before.
    pub(crate) fn put(&self, present: Vec<InForce>) -> Vec<InForce> {
        std::mem::replace(&mut *self.in_force.lock().unwrap_or_else(PoisonError::into_inner), present)
    }
}
