//! One check: its last report, its soft count, how often it changes, and its
//! open problem. What other checks and hosts have to do with it is the
//! correlator's.

use farol_protocol::{CheckId, Report, Status, Timestamp, registry::Severity};
use serde::{Deserialize, Serialize};

use super::{QuietKind, Rule, flapping::Changes};
use crate::store::hosts::HostKey;

/// Reports may be dated so many ms later than the coordinator's clock says.
const FUTURE_MS: i64 = 5 * 60_000;

/// What is remembered of a check. Saved as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckState {
    /// Newest report taken in; earlier ones are not taken again.
    pub cursor: i64,
    /// The report itself.
    pub last: Option<Report>,
    /// Bad reports in a row.
    bad: u32,
    /// When the first of them was observed.
    bad_since: Option<Timestamp>,
    /// Good reports in a row.
    good: u32,
    /// Reports in a row with the status of `last`.
    same: u32,
    /// Problems so far.
    episodes: u64,
    /// The open one.
    pub problem: Option<Box<Problem>>,
    /// What changed of late.
    pub(super) changes: Changes,
    /// Whether it changes too often to be told each time.
    pub flapping: bool,
    /// When it changed last.
    pub(super) changed_at: Option<Timestamp>,
    /// Episodes that were told, are over, and wait for those that joined them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) over: Vec<Over>,
    /// How often alike problems were told as having joined it.
    pub(super) grew: u32,
}

/// An open problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Status at which it was last said.
    pub(super) status: Status,
    /// When its first bad report was observed.
    pub since: Timestamp,
    /// Whether a person has seen it.
    pub acknowledged: bool,
    /// Changes said so far.
    #[serde(alias = "changes")]
    pub(super) steps: u32,
    /// When it opened, by the coordinator's clock.
    #[serde(default)]
    pub(super) opened_at: Option<Timestamp>,
    /// Why it is not told, or not told any more.
    #[serde(default)]
    pub hidden: Option<Hidden>,
    /// Whether it was told. One of before this was known was.
    #[serde(default = "yes")]
    pub told: bool,
    /// By how many levels it rose.
    #[serde(default)]
    pub(super) raised: u8,
    /// Whether it is that nothing is heard of the check any more.
    #[serde(default)]
    pub stale: bool,
}

const fn yes() -> bool {
    true
}

/// Why a problem is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// Something that it depends on may explain it, which must show first
    /// whether it is alive.
    Waits {
        /// Until then at the latest.
        until: Timestamp,
        /// What hid it is gone, and it has the time to recover.
        grace: bool,
    },
    /// Something that it depends on is down.
    Cause {
        /// The check that says so.
        host: HostKey,
        /// The check that says so.
        check: CheckId,
        /// The episode of that one.
        episode: u64,
    },
    /// It has joined an alike problem that was told.
    Group {
        /// Whose.
        host: HostKey,
        /// The episode of that one.
        episode: u64,
        /// Whether it was told that it joined.
        said: bool,
    },
    /// It is kept quiet.
    Quiet {
        /// The silence, window or backup.
        id: String,
        /// Which of these.
        kind: QuietKind,
    },
}

impl Hidden {
    /// Whether the finding is suppressed: known, and kept from people.
    #[must_use]
    pub const fn is_suppressed(&self) -> bool {
        matches!(self, Self::Cause { .. } | Self::Quiet { .. })
    }
}

/// An episode that was told and is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Over {
    /// Which.
    pub(super) episode: u64,
    /// How bad it was.
    pub(super) severity: Severity,
    /// When it began.
    pub(super) since: Timestamp,
    /// Status at which it was last said.
    pub(super) status: Status,
}

/// What a report did to its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Seen before, or nobody looked: nothing at all.
    None,
    /// It was counted, and that is all.
    Counted,
    /// It has a problem.
    Opened,
    /// Its problem is another.
    Changed {
        /// Status that was said before.
        from: Status,
    },
    /// Its problem may be over.
    Recovered,
}

impl CheckState {
    /// Number of the newest episode.
    #[must_use]
    pub const fn episode(&self) -> u64 {
        self.episodes
    }

    /// Takes a report in, which must be newer than all before it.
    pub(super) fn report(&mut self, rule: &Rule, host: HostKey, id: i64, report: Report, now: Timestamp) -> Step {
        // Taken in before the last save: a replay after a crash.
        if id <= self.cursor {
            return Step::None;
        }
        self.cursor = id;
        // Older than what is known: backfill is history, not news.
        // One from the future was dated by a clock that was wrong, and is no bound.
        let bound = self.last.as_ref().map(|last| last.observed_at).filter(|at| at.since(now) <= FUTURE_MS);
        if bound.is_some_and(|bound| report.observed_at < bound) {
            return Step::None;
        }
        let (status, at, cause) = (report.status, report.observed_at, report.cause);
        let previous = self.last.replace(report);
        if cause.is_some() {
            // Nobody looked, so it counts for nothing.
            return Step::None;
        }
        let before = previous.filter(|last| last.cause.is_none());
        let same = before.as_ref().is_some_and(|last| last.status == status);
        self.same = if same { self.same.saturating_add(1) } else { 1 };
        if status == Status::Ok {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
        } else {
            if self.bad == 0 {
                self.bad_since = Some(at);
            }
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
        }
        self.count_change(rule, before.map(|last| last.observed_at), same, at);

        match (&mut self.problem, status) {
            (None, Status::Ok) if !self.flapping => Step::Counted,
            (None, _) if self.flapping || self.bad >= rule.attempts => {
                self.open(rule, host, status, at, now);
                Step::Opened
            }
            (None, _) => Step::Counted,
            (Some(_), Status::Ok) => {
                if self.flapping || self.good < rule.recover {
                    return Step::Counted;
                }
                Step::Recovered
            }
            (Some(problem), status) => {
                problem.stale = false;
                if self.flapping || problem.status == status || self.same < rule.attempts {
                    return Step::Counted;
                }
                let from = std::mem::replace(&mut problem.status, status);
                problem.severity = rule.severity(host, status);
                for _ in 0..problem.raised {
                    problem.severity = rule.raised(problem.severity, status);
                }
                problem.steps += 1;
                Step::Changed { from }
            }
        }
    }

    /// Whether it flaps now. What reports only its changes flaps when they
    /// follow each other closely, not when they come once a week.
    fn count_change(&mut self, rule: &Rule, before: Option<Timestamp>, same: bool, at: Timestamp) {
        if !rule.may_flap {
            return;
        }
        let Some(before) = before else { return };
        if rule.stale_ms.is_none() && at.since(before) > rule.calm_ms {
            self.changes.clear();
        }
        self.changes.push(!same);
        if !same {
            self.changed_at = Some(at);
        }
        self.flapping = self.changes.is_flapping(self.flapping);
    }

    /// It has not changed for a while: it flaps no more.
    pub(super) fn calm(&mut self) {
        self.flapping = false;
        self.changes.clear();
    }

    /// Whether its last reports end a problem.
    pub(super) fn is_recovered(&self, rule: &Rule) -> bool {
        let is_ok = |last: &Report| last.status == Status::Ok && last.cause.is_none();
        !self.flapping && self.good >= rule.recover && self.last.as_ref().is_some_and(is_ok)
    }

    fn open(&mut self, rule: &Rule, host: HostKey, status: Status, at: Timestamp, now: Timestamp) {
        self.episodes += 1;
        // One that flaps may be healthy just now, and is no less a problem.
        let status = if status == Status::Ok { Status::Warning } else { status };
        let severity = rule.severity(host, status);
        let since = self.bad_since.filter(|_| self.bad > 0).or(self.changed_at).unwrap_or(at);
        self.problem = Some(Box::new(Problem {
            severity,
            status,
            since,
            acknowledged: false,
            steps: 0,
            opened_at: Some(now),
            hidden: None,
            told: false,
            raised: 0,
            stale: false,
        }));
    }

    /// Nothing was heard of it for too long.
    pub(super) fn go_stale(&mut self, rule: &Rule, host: HostKey, now: Timestamp) {
        self.good = 0;
        self.bad = 0;
        self.open(rule, host, Status::Unknown, now, now);
        if let Some(problem) = &mut self.problem {
            problem.stale = true;
            problem.since = now;
        }
    }

    /// Ends the open problem.
    pub(super) fn close(&mut self) -> Option<Box<Problem>> {
        self.problem.take()
    }
}
