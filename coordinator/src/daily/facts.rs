//! What a summary is made of.

use farol_protocol::{Timestamp, registry::Severity};
use serde::Serialize;
use utoipa::ToSchema;

/// What there is to say of the last day.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DailyFacts {
    /// The day, as `2026-11-21`.
    pub date: String,
    /// From here on is the last day.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// As of when.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// Open and acknowledged, the worst first.
    pub open: Vec<DailyProblem>,
    /// Kept quiet, the worst first.
    pub suppressed: Vec<DailyProblem>,
    /// Resolved in the last day, the one that resolved last first.
    pub resolved: Vec<DailyProblem>,
    /// Actions that wait for approval, oldest first.
    pub waiting: Vec<Waiting>,
    /// Silences and windows that end before the day does, in that order.
    pub ending: Vec<Ending>,
    /// Hosts of which nothing is heard, by name.
    pub silent: Vec<SilentHost>,
    /// Certificates that end soon, the next first.
    pub certificates: Vec<DailyCertificate>,
    /// Checks of which nothing is known now: nothing is calm because nobody looked.
    pub unknown_checks: u64,
}

impl DailyFacts {
    /// How many problems opened in the last day, whatever became of them.
    #[must_use]
    pub fn opened(&self) -> usize {
        let all = self.open.iter().chain(&self.suppressed).chain(&self.resolved);
        all.filter(|problem| problem.opened_at >= self.since).count()
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let problems = self.open.len() + self.suppressed.len() + self.resolved.len();
        let others = self.waiting.len() + self.ending.len() + self.silent.len() + self.certificates.len();
        problems + others == 0 && self.unknown_checks == 0
    }
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DailyProblem {
    /// Identifier.
    pub id: String,
    /// How bad.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// Host.
    pub host: String,
    /// What people read.
    pub title: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Timestamp>,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
    /// Why it is kept quiet, in one sentence.
    pub why: Option<String>,
}

/// An action that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Waiting {
    /// Identifier.
    pub action_id: String,
    /// What it does, in words.
    pub what: String,
    /// Host.
    pub host: String,
    /// Its class.
    pub risk_class: &'static str,
    /// When it can no longer begin.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A silence or a maintenance window that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ending {
    /// `silence/…` or `maintenance/…`.
    pub id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// What it is, in one sentence.
    pub summary: String,
}

/// A host of which nothing is heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SilentHost {
    /// Its name.
    pub host: String,
    /// When it was last heard; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
}

/// A certificate that ends soon.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DailyCertificate {
    /// Host that the check is about.
    pub host: String,
    /// The check.
    pub check: String,
    /// Days left.
    pub days: f64,
}

/// What the logs of the last day held, as far as checks looked.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LogReview {
    /// From here on.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Until here.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// Hosts with a check of that kind, by name.
    pub hosts: Vec<HostLogs>,
    /// Hosts without one, by name.
    pub not_looked_at: Vec<String>,
}

/// What checks of logs, units and containers said of a host.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HostLogs {
    /// Its name.
    pub host: String,
    /// Its checks.
    pub checks: Vec<LogCheck>,
}

/// What a check of that kind said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LogCheck {
    /// The check.
    pub check: String,
    /// `journal`, `container`, `containers`, `unit` or `units`.
    pub kind: &'static str,
    /// How often it is to report in a day.
    pub expected: u64,
    /// How often it reported.
    pub reports: u64,
    /// How often it reported a warning or worse.
    pub bad: u64,
    /// How often it could not look.
    pub unknown: u64,
    /// The most it measured at once; null where it measured nothing.
    pub most: Option<f64>,
    /// The unit of that.
    pub unit: Option<String>,
    /// When that was, or when it was bad last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// What its report said then.
    pub sample: Option<String>,
}

impl LogCheck {
    /// Whether it found something: lines in a journal, however few, or trouble.
    #[must_use]
    pub fn found(&self) -> bool {
        self.bad > 0 || self.kind == "journal" && self.most.is_some_and(|most| most > 0.0)
    }

    /// Whether it looked at a part of the day only, so that nothing found is
    /// not the same as nothing there.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.reports == 0 || self.unknown > 0 || self.reports.saturating_mul(2) < self.expected
    }
}
