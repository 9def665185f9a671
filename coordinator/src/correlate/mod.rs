//! From reports to findings: a pure function, state and event in, effects out.
//!
//! A check is *soft* bad until its scenario's `attempts` bad reports came in a
//! row, then *hard* bad, which opens an episode; `recover` good ones in a row
//! end it. Only positive evidence resolves: silence, or a check that is no
//! longer configured, never does.
//!
//! **Invariant.** No clock, no I/O, no randomness: replaying the same events
//! gives the same effects, and each effect has a key (fingerprint, episode,
//! transition) under which it is written once.

mod quiet;
mod rules;
mod state;

use std::collections::HashMap;

use farol_protocol::{CheckId, Report, Status, Timestamp, registry::Severity};

pub use quiet::{Matcher, Quiet, QuietKind};
pub use rules::{
    ALERT_PREFIX, CLOCK, IDENTITY, Rule, Rules, SIGNAL_PREFIX, SILENCE, TELEMETRY, clock, identity, silence, telemetry,
};
pub use state::{CheckState, Problem};

use crate::store::{bulk::Committed, hosts::HostKey};

/// A check of a host.
pub type CheckKey = (HostKey, CheckId);

/// What the correlator takes in.
#[derive(Debug, Clone)]
pub enum Event {
    /// A check's outcome.
    Report(Committed),
    /// A person has seen the finding.
    Acknowledge {
        /// The check of the finding.
        key: CheckKey,
        /// The finding's episode.
        episode: u64,
    },
    /// What is kept quiet from now on, all of it.
    Quiet(Vec<Quiet>),
}

/// A change of a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The check it is about.
    pub key: CheckKey,
    /// Counts the check's problems from 1.
    pub episode: u64,
    /// What changed.
    pub transition: Transition,
    /// How bad it is now; for a resolution, how bad it was.
    pub severity: Severity,
    /// The report that made the difference.
    pub report: Report,
    /// Status that was said before, in this episode.
    pub before: Option<Status>,
    /// When the episode began.
    pub since: Timestamp,
}

/// How a finding changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// A new problem.
    Opened,
    /// Worse or better, but still a problem. Counts the changes of the episode.
    Changed(u32),
    /// A person has seen it.
    Acknowledged,
    /// Healthy again.
    Resolved,
}

impl Transition {
    /// Part of the effect's unique key.
    #[must_use]
    pub fn as_key(self) -> String {
        match self {
            Self::Opened => "opened".to_owned(),
            Self::Changed(n) => format!("changed.{n}"),
            Self::Acknowledged => "acknowledged".to_owned(),
            Self::Resolved => "resolved".to_owned(),
        }
    }
}

/// The state of all checks.
#[derive(Debug, Default)]
pub struct Correlator {
    checks: HashMap<CheckKey, CheckState>,
}

impl Correlator {
    /// Starts from saved states.
    #[must_use]
    pub const fn new(checks: HashMap<CheckKey, CheckState>) -> Self {
        Self { checks }
    }

    /// The state of each check that has reported.
    pub fn checks(&self) -> impl Iterator<Item = (&CheckKey, &CheckState)> {
        self.checks.iter()
    }

    /// The state of one check.
    #[must_use]
    pub fn check(&self, key: &CheckKey) -> Option<&CheckState> {
        self.checks.get(key)
    }

    /// Takes one event in.
    pub fn apply(&mut self, rules: &Rules, event: Event) -> Option<Effect> {
        match event {
            Event::Report(committed) => {
                let key = (committed.host, committed.report.check.clone());
                let rule = rules.of(&key)?;
                let state = self.checks.entry(key.clone()).or_default();
                state.report(rule, key, committed)
            }
            Event::Acknowledge { key, episode } => {
                let state = self.checks.get_mut(&key)?;
                state.acknowledge(key, episode)
            }
            Event::Quiet(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
