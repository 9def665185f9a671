//! One check: its last report, its soft count and its open problem.

use farol_protocol::{Report, Status, Timestamp, registry::Severity};
use serde::{Deserialize, Serialize};

use super::{CheckKey, Effect, Rule, Transition};
use crate::store::bulk::Committed;

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
    pub problem: Option<Problem>,
}

/// An open problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Status at which it was last said.
    pub status: Status,
    /// When its first bad report was observed.
    pub since: Timestamp,
    /// Whether a person has seen it.
    pub acknowledged: bool,
    /// Changes said so far.
    changes: u32,
}

impl CheckState {
    /// Number of the newest episode.
    #[must_use]
    pub const fn episode(&self) -> u64 {
        self.episodes
    }

    pub(super) fn report(&mut self, rule: &Rule, key: CheckKey, committed: Committed) -> Option<Effect> {
        let Committed { id, report, .. } = committed;
        // Taken in before the last save: a replay after a crash.
        if id <= self.cursor {
            return None;
        }
        self.cursor = id;
        // Older than what is known: backfill is history, not news.
        if self.last.as_ref().is_some_and(|last| report.observed_at < last.observed_at) {
            return None;
        }
        let previous = self.last.replace(report.clone());
        if report.cause.is_some() {
            // Nobody looked, so it counts for nothing.
            return None;
        }
        let same = previous.is_some_and(|last| last.status == report.status && last.cause.is_none());
        self.same = if same { self.same.saturating_add(1) } else { 1 };
        if report.status == Status::Ok {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
        } else {
            if self.bad == 0 {
                self.bad_since = Some(report.observed_at);
            }
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
        }

        match (&mut self.problem, report.status) {
            (None, Status::Ok) => None,
            (None, status) => {
                if self.bad < rule.attempts {
                    return None;
                }
                self.episodes += 1;
                let severity = rule.severity(key.0, status);
                let since = self.bad_since.unwrap_or(report.observed_at);
                self.problem = Some(Problem { severity, status, since, acknowledged: false, changes: 0 });
                Some(self.effect(key, Transition::Opened, severity, report, None, since))
            }
            (Some(problem), Status::Ok) => {
                if self.good < rule.recover {
                    return None;
                }
                let (severity, before, since) = (problem.severity, problem.status, problem.since);
                self.problem = None;
                Some(self.effect(key, Transition::Resolved, severity, report, Some(before), since))
            }
            (Some(problem), status) => {
                if problem.status == status || self.same < rule.attempts {
                    return None;
                }
                let before = std::mem::replace(&mut problem.status, status);
                problem.severity = rule.severity(key.0, status);
                problem.changes += 1;
                let (severity, since, changes) = (problem.severity, problem.since, problem.changes);
                Some(self.effect(key, Transition::Changed(changes), severity, report, Some(before), since))
            }
        }
    }

    pub(super) fn acknowledge(&mut self, key: CheckKey, episode: u64) -> Option<Effect> {
        let report = self.last.clone()?;
        let problem = self.problem.as_mut().filter(|problem| episode == self.episodes && !problem.acknowledged)?;
        problem.acknowledged = true;
        let (severity, before, since) = (problem.severity, problem.status, problem.since);
        Some(self.effect(key, Transition::Acknowledged, severity, report, Some(before), since))
    }

    const fn effect(
        &self,
        key: CheckKey,
        transition: Transition,
        severity: Severity,
        report: Report,
        before: Option<Status>,
        since: Timestamp,
    ) -> Effect {
        Effect { key, episode: self.episodes, transition, severity, report, before, since }
    }
}
