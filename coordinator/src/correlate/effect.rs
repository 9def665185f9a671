//! What the correlator says.

use farol_protocol::{Report, Status, Timestamp, registry::Severity};

use super::{CheckKey, Hidden};
use crate::store::hosts::HostKey;

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
    /// Status of the problem.
    pub status: Status,
    /// The newest report.
    pub report: Report,
    /// Status that was said before, in this episode.
    pub before: Option<Status>,
    /// When the episode began.
    pub since: Timestamp,
    /// What hides it now.
    pub hidden: Option<Hidden>,
    /// Whether the problem is that nothing is heard of the check any more.
    pub stale: bool,
    /// Whether it changes too often to be told each time.
    pub flapping: bool,
    /// Hosts whose alike problems have joined, of [`Transition::Grew`].
    pub members: Vec<HostKey>,
    /// What people are told, beside the thread.
    pub tell: Option<Tell>,
}

impl Effect {
    /// When the episode ended: with the report that says so, or now where a
    /// person does.
    #[must_use]
    pub fn ended_at(&self, now: Timestamp) -> Timestamp {
        if self.report.status == Status::Ok { self.report.observed_at } else { now }
    }
}

/// What people are told, beside the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tell {
    /// There is a problem, or it is worse: for channels that were not told yet.
    Problem,
    /// Others have joined it.
    Grew,
    /// What was told is over.
    Recovery,
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
    /// Something hides it from now on. Counts with the changes.
    Hidden(u32),
    /// Nothing hides it any more. Counts with the changes.
    Shown(u32),
    /// It waited, nothing explains it, and now it is told.
    Told,
    /// Others have joined it. Counts how often.
    Grew(u32),
    /// Healthy again.
    Resolved,
    /// It was healthy again before, and now so are all that had joined it.
    AllResolved,
}

impl Transition {
    /// Part of the effect's unique key.
    #[must_use]
    pub fn as_key(self) -> String {
        match self {
            Self::Opened => "opened".to_owned(),
            Self::Changed(n) => format!("changed.{n}"),
            Self::Acknowledged => "acknowledged".to_owned(),
            Self::Hidden(n) => format!("hidden.{n}"),
            Self::Shown(n) => format!("shown.{n}"),
            Self::Told => "told".to_owned(),
            Self::Grew(n) => format!("grew.{n}"),
            Self::Resolved => "resolved".to_owned(),
            Self::AllResolved => "all_resolved".to_owned(),
        }
    }
}
