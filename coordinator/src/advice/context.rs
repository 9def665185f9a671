//! What advice is made from, and the numbers by which it is cited.

use farol_protocol::{Language, Status, Timestamp, registry::Severity, report::Limits, telemetry::Metrics};

use crate::text::{Fact, Measure, Reading, plain};

/// Longest fact, in characters.
const FACT_CHARS: usize = 300;
/// Most file systems that become facts.
const DISKS: usize = 5;

/// Everything known when advice is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Language of the operator.
    pub language: Language,
    /// The present, from which spans are counted.
    pub now: Timestamp,
    /// The finding.
    pub finding: FindingFacts,
    /// Recent reports of the same check and of the same host, in any order.
    pub reports: Vec<ReportFact>,
    /// Latest readings of the host.
    pub metrics: Option<Metrics>,
    /// Actions that may be proposed; the catalogue that suggestions come from.
    pub proposals: Vec<ProposalFact>,
}

/// The finding.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingFacts {
    /// Identifier.
    pub id: String,
    /// Title.
    pub title: String,
    /// Host.
    pub host: String,
    /// Scenario.
    pub scenario: String,
    /// Check.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// What its check says.
    pub status: Status,
    /// What its check measures.
    pub value: Option<f64>,
    /// Unit of `value`.
    pub unit: Option<String>,
    /// What its check said.
    pub text: String,
    /// When it opened.
    pub opened_at: Timestamp,
    /// Thresholds of `value`.
    pub thresholds: Option<Limits>,
}

/// One report.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportFact {
    /// Check.
    pub check: String,
    /// What it says.
    pub status: Status,
    /// What it measured.
    pub value: Option<f64>,
    /// Unit of `value`.
    pub unit: Option<String>,
    /// What it said.
    pub text: String,
    /// When the host observed it.
    pub observed_at: Timestamp,
}

/// An action that may be proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalFact {
    /// Identifier in the catalogue.
    pub id: String,
    /// What it does, in words.
    pub summary: String,
}

/// A fact with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// `F1`, `R1`, `M1`, `P1`.
    pub id: String,
    /// The fact in words, one line.
    pub what: String,
}

impl Context {
    /// Every fact, the most important first: the finding, what may be
    /// proposed, the readings, then reports as [`Context::ranked`] orders them.
    #[must_use]
    pub fn evidence(&self, language: Language) -> Vec<Evidence> {
        let mut all = Vec::new();
        let mut add = |kind: char, facts: Vec<String>| {
            all.extend(facts.into_iter().enumerate().map(|(position, fact)| Evidence {
                id: format!("{kind}{}", position + 1),
                what: plain(&fact, FACT_CHARS),
            }));
        };
        add('F', self.finding_facts(language));
        add('P', self.proposals.iter().map(|p| Fact::Proposal { summary: &p.summary }.in_words(language)).collect());
        add('M', self.readings(language));
        add(
            'R',
            self.ranked()
                .into_iter()
                .map(|report| {
                    Fact::Report {
                        check: &report.check,
                        status: report.status,
                        value: report.measure(),
                        text: &report.text,
                        ago_ms: self.now.since(report.observed_at),
                    }
                    .in_words(language)
                })
                .collect(),
        );
        all
    }

    /// Reports by what they can explain: each check's newest before its
    /// history, the finding's check before others, bad before good, new before
    /// old.
    #[must_use]
    pub fn ranked(&self) -> Vec<&ReportFact> {
        let mut newest = std::collections::BTreeMap::<&str, Timestamp>::new();
        for report in &self.reports {
            newest
                .entry(&report.check)
                .and_modify(|at| *at = report.observed_at.max(*at))
                .or_insert(report.observed_at);
        }
        let mut ranked: Vec<&ReportFact> = self.reports.iter().collect();
        ranked.sort_by_key(|report| {
            (
                newest.get(report.check.as_str()) != Some(&report.observed_at),
                report.check != self.finding.check,
                badness(report.status),
                std::cmp::Reverse(report.observed_at),
                &report.check,
            )
        });
        ranked
    }

    /// Readings of the host that say something, in words.
    pub(super) fn readings(&self, language: Language) -> Vec<String> {
        let Some(metrics) = &self.metrics else { return Vec::new() };
        let mut disks: Vec<(&str, f64)> =
            metrics.disks.iter().filter_map(|disk| Some((disk.mount.as_str(), disk.space.percent()?))).collect();
        disks.sort_by(|a, b| b.1.total_cmp(&a.1));
        disks.truncate(DISKS);
        [
            metrics.cpu_percent.map(Reading::Cpu),
            metrics.memory.and_then(|memory| memory.percent()).map(Reading::Memory),
            metrics.swap.and_then(|swap| swap.percent()).map(Reading::Swap),
            metrics.load.map(Reading::Load),
        ]
        .into_iter()
        .flatten()
        .chain(disks.into_iter().map(|(mount, percent)| Reading::Disk(mount, percent)))
        .chain(metrics.uptime_seconds.map(Reading::Uptime))
        .map(|reading| reading.in_words(language))
        .collect()
    }

    /// Names that a sentence may use without citing them.
    pub(super) fn names(&self) -> Vec<&str> {
        let finding = &self.finding;
        let mut names = vec![finding.id.as_str(), &finding.host, &finding.scenario, &finding.check];
        names.extend(self.reports.iter().map(|report| report.check.as_str()));
        names.extend(self.proposals.iter().map(|proposal| proposal.id.as_str()));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn finding_facts(&self, language: Language) -> Vec<String> {
        let finding = &self.finding;
        let mut facts = vec![
            Fact::Finding {
                title: &finding.title,
                host: &finding.host,
                scenario: &finding.scenario,
                check: &finding.check,
                severity: finding.severity,
                status: finding.status,
                value: finding.measure(),
                text: &finding.text,
                opened_at: finding.opened_at,
                open_ms: self.open_ms(),
            }
            .in_words(language),
        ];
        if let Some(limits) = finding.thresholds.filter(|l| l.warning.is_some() || l.critical.is_some()) {
            let measure = |limit: Option<f64>| limit.map(|value| Measure { value, unit: finding.unit.as_deref() });
            facts.push(
                Fact::Thresholds {
                    check: &finding.check,
                    warning: measure(limits.warning),
                    critical: measure(limits.critical),
                    worse: limits.worse,
                }
                .in_words(language),
            );
        }
        facts
    }

    /// How long the finding has been open.
    pub(super) fn open_ms(&self) -> i64 {
        self.now.since(self.finding.opened_at)
    }
}

impl FindingFacts {
    pub(super) fn measure(&self) -> Option<Measure<'_>> {
        Some(Measure { value: self.value?, unit: self.unit.as_deref() })
    }
}

impl ReportFact {
    pub(super) fn measure(&self) -> Option<Measure<'_>> {
        Some(Measure { value: self.value?, unit: self.unit.as_deref() })
    }
}

const fn badness(status: Status) -> u8 {
    match status {
        Status::Critical => 0,
        Status::Warning => 1,
        Status::Unknown => 2,
        Status::Ok => 3,
    }
}
