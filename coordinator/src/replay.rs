//! Backtest: recorded reports go through the correlator once more, with the
//! registry as it is or as it might be, and what would have been found is held
//! against what was found.
//!
//! Silences and windows are no part of it, nor are signs of life between
//! reports: what waits for one waits its whole time.

use std::collections::BTreeMap;

use farol_protocol::{CheckId, Report, Timestamp, registry::Severity};
use serde::{Deserialize, Serialize};

use crate::{
    correlate::{CheckKey, Correlator, Dependencies, Effect, Event, Outcome, Rules, Tell, Transition},
    store::{bulk::Committed, hosts::HostKey},
};

/// Nothing at all was reported for this long, in ms: the coordinator was away.
const AWAY_MS: i64 = 10 * 60_000;

/// A report with the name of its host: a line of a recorded file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Name of the host.
    pub host: String,
    /// What was reported.
    pub report: Report,
}

/// A problem from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Episode {
    /// Name of the host.
    pub host: String,
    /// Check.
    pub check: CheckId,
    /// Worst severity.
    pub severity: Severity,
    /// When its first bad report was observed.
    pub opened_at: Timestamp,
    /// When it was healthy again; none while it is not.
    pub resolved_at: Option<Timestamp>,
    /// Whether anybody was told beside the thread.
    pub told: bool,
}

/// How an episode differs from what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// As it was found.
    pub was: Episode,
    /// As it would have been.
    pub would_be: Episode,
}

/// What would have been otherwise.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Problems that were not found.
    pub opened: Vec<Episode>,
    /// Problems that would not have been found.
    pub vanished: Vec<Episode>,
    /// Problems of another severity, or told otherwise.
    pub changed: Vec<Changed>,
    /// Problems that would have been the same.
    pub same: usize,
}

/// Reports on their way through the correlator, in the time of the reports.
#[derive(Debug)]
pub struct Replay<'a> {
    rules: &'a Rules,
    names: BTreeMap<HostKey, String>,
    correlator: Correlator,
    now: Option<Timestamp>,
    episodes: BTreeMap<(CheckKey, u64), Episode>,
    /// Messages that would have been sent to a channel that takes everything.
    pub messages: u64,
    /// Reports taken in.
    pub reports: u64,
}

impl<'a> Replay<'a> {
    /// With the rules to try and what needs what.
    #[must_use]
    pub fn new(rules: &'a Rules, names: BTreeMap<HostKey, String>, dependencies: Dependencies) -> Self {
        let mut correlator = Correlator::default();
        correlator.apply(rules, Event::Dependencies(dependencies), Timestamp::from_ms(0));
        Self { rules, names, correlator, now: None, episodes: BTreeMap::new(), messages: 0, reports: 0 }
    }

    /// Takes the next report in, in the order of their commits.
    pub fn take(&mut self, committed: Committed) {
        let at = committed.report.observed_at;
        let now = self.now.map_or(at, |now| now.max(at));
        if self.now.is_some_and(|before| now.since(before) > AWAY_MS) {
            self.correlator.was_away(now);
        }
        self.pass(now);
        self.now = Some(now);
        self.reports += 1;
        let outcome = self.correlator.apply(self.rules, Event::Report(committed), now);
        self.note(outcome);
    }

    /// Lets time pass up to `now`, as the running coordinator would.
    fn pass(&mut self, now: Timestamp) {
        let mut last = None;
        while let Some(due) = self.correlator.next_due().filter(|due| *due <= now) {
            if last.is_some_and(|last| due <= last) {
                break;
            }
            last = Some(due);
            let outcome = self.correlator.apply(self.rules, Event::Tick, due);
            self.note(outcome);
        }
    }

    fn note(&mut self, outcome: Outcome) {
        for effect in outcome.effects {
            self.note_effect(&effect);
        }
    }

    fn note_effect(&mut self, effect: &Effect) {
        let name = self.names.get(&effect.key.0).cloned().unwrap_or_default();
        let episode = self.episodes.entry((effect.key.clone(), effect.episode)).or_insert_with(|| Episode {
            host: name,
            check: effect.key.1.clone(),
            severity: effect.severity,
            opened_at: effect.since,
            resolved_at: None,
            told: false,
        });
        episode.severity = episode.severity.max(effect.severity);
        episode.told |= effect.tell == Some(Tell::Problem);
        self.messages += u64::from(effect.tell.is_some());
        if effect.transition == Transition::Resolved {
            episode.resolved_at = Some(effect.report.observed_at);
        }
    }

    /// What would have been found, the oldest first.
    #[must_use]
    pub fn end(self) -> Vec<Episode> {
        let mut episodes: Vec<Episode> = self.episodes.into_values().collect();
        episodes.sort_by(|a, b| (a.opened_at, &a.host, &a.check).cmp(&(b.opened_at, &b.host, &b.check)));
        episodes
    }
}

/// Holds what would have been found against what was, from `since` on. An
/// episode is the same problem when host and check are and the times overlap.
#[must_use]
pub fn compare(would_be: Vec<Episode>, was: Vec<Episode>, since: Timestamp) -> Difference {
    let mut difference = Difference::default();
    let mut left: Vec<Option<Episode>> = was.into_iter().map(Some).collect();
    for episode in would_be {
        let twin = left.iter_mut().find(|other| other.as_ref().is_some_and(|other| is_same(other, &episode)));
        match twin.and_then(Option::take) {
            None => difference.opened.push(episode),
            Some(was) if was.severity == episode.severity && was.told == episode.told => difference.same += 1,
            Some(was) => difference.changed.push(Changed { was, would_be: episode }),
        }
    }
    difference.vanished = left.into_iter().flatten().filter(|was| was.opened_at >= since).collect();
    difference
}

fn is_same(a: &Episode, b: &Episode) -> bool {
    let ends_before = |first: &Episode, second: &Episode| first.resolved_at.is_some_and(|end| end < second.opened_at);
    a.host == b.host && a.check == b.check && !ends_before(a, b) && !ends_before(b, a)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use farol_protocol::{Status, registry::Registry};

    use super::*;

    fn rules(attempts: u32) -> Rules {
        let text = format!(
            "version: 1\nscenarios:\n  - {{id: disk, title: Disk, persona: A1, severity: high, attempts: {attempts}, \
             every: 1m, runs_on: agent, checks: [{{name: root, probe: {{disk: {{mount: /, limits: {{warning: 80}}}}}}}}]}}\n"
        );
        Rules::new(&Registry::parse(&text, &|_| None).expect("valid"), &HashMap::new())
    }

    fn replay(rules: &Rules, statuses: &[Status]) -> Vec<Episode> {
        let names = BTreeMap::from([(HostKey(1), "vm1".to_owned())]);
        let mut replay = Replay::new(rules, names, Dependencies::default());
        for (n, status) in (1..).zip(statuses) {
            let report = Report {
                check: "disk".parse().expect("valid"),
                status: *status,
                value: None,
                unit: None,
                text: String::new(),
                observed_at: Timestamp::from_ms(n * 60_000),
                cause: None,
            };
            replay.take(Committed { id: n, host: HostKey(1), report });
        }
        replay.end()
    }

    use Status::{Critical as C, Ok as O};

    #[test]
    fn a_stricter_registry_shows_what_would_have_opened_and_a_laxer_one_what_would_not() {
        let statuses = [O, C, O, O, C, C, C, O];
        let (strict, lax) = (replay(&rules(1), &statuses), replay(&rules(3), &statuses));
        assert_eq!((strict.len(), lax.len()), (2, 1));
        let since = Timestamp::from_ms(0);
        let opened = compare(strict.clone(), lax.clone(), since);
        assert_eq!((opened.opened.len(), opened.vanished.len(), opened.same), (1, 0, 1));
        let vanished = compare(lax, strict.clone(), since);
        assert_eq!((vanished.opened.len(), vanished.vanished.len(), vanished.same), (0, 1, 1));
        assert_eq!(vanished.vanished[0].opened_at, Timestamp::from_ms(120_000));
        assert_eq!(compare(strict.clone(), strict, since).same, 2);
    }

    #[test]
    fn a_problem_of_another_severity_is_the_same_one_changed() {
        let was = replay(&rules(1), &[C, O]);
        let would_be: Vec<Episode> =
            was.iter().cloned().map(|episode| Episode { severity: Severity::Low, ..episode }).collect();
        let difference = compare(would_be, was, Timestamp::from_ms(0));
        assert_eq!((difference.changed.len(), difference.opened.len(), difference.vanished.len()), (1, 0, 0));
    }

    #[test]
    fn a_time_without_any_report_is_the_coordinators_and_makes_nothing_stale() {
        let rules = rules(1);
        let mut replay = Replay::new(&rules, BTreeMap::new(), Dependencies::default());
        for (n, minute) in [(1, 0), (2, 1), (3, 600), (4, 601)] {
            let report = Report {
                check: "disk".parse().expect("valid"),
                status: O,
                value: None,
                unit: None,
                text: String::new(),
                observed_at: Timestamp::from_ms(minute * 60_000),
                cause: None,
            };
            replay.take(Committed { id: n, host: HostKey(1), report });
        }
        assert_eq!(replay.end(), []);
    }
}
