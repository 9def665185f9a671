use std::collections::HashMap;

use farol_protocol::{
    Report, Status, Timestamp,
    registry::{Registry, Severity},
    report::UnknownCause,
};

use super::*;

mod course;
mod histories;

const REGISTRY: &str = r"
version: 1
correlation: {flapping: false, rise: never}
hosts: [{name: vm112, critical: true}, {name: pfsense}]
scenarios:
  - id: portal
    title: Portal
    persona: A1
    severity: high
    attempts: 2
    recover: 2
    runs_on: agent
    checks: [{name: http, probe: {http: {url: 'http://127.0.0.1/'}}}]
";

const VM112: HostKey = HostKey(1);
const PFSENSE: HostKey = HostKey(2);

struct Line {
    correlator: Correlator,
    rules: Rules,
    next: i64,
}

impl Line {
    fn new() -> Self {
        let registry = Registry::parse(REGISTRY, &|_| None).expect("valid");
        let hosts = HashMap::from([("vm112".to_owned(), VM112), ("pfsense".to_owned(), PFSENSE)]);
        Self { correlator: Correlator::default(), rules: Rules::new(&registry, &hosts), next: 1 }
    }

    fn report_of(&mut self, host: HostKey, check: &str, status: Status, at: i64) -> Event {
        let report = Report {
            check: check.parse().expect("valid"),
            status,
            value: None,
            unit: None,
            text: status.as_str().to_owned(),
            observed_at: Timestamp::from_ms(at),
            cause: None,
        };
        self.next += 1;
        Event::Report(Committed { id: self.next, host, report })
    }

    fn apply(&mut self, event: Event) -> Option<Effect> {
        let now = Timestamp::from_ms(self.next);
        let outcome = self.correlator.apply(&self.rules, event, now);
        assert!(outcome.effects.len() <= 1, "{outcome:?}");
        outcome.effects.into_iter().next()
    }

    fn say(&mut self, status: Status, at: i64) -> Option<Effect> {
        let event = self.report_of(VM112, "portal", status, at);
        self.apply(event)
    }

    fn transitions(&mut self, statuses: &[Status]) -> Vec<Option<Transition>> {
        let begun = self.next;
        (begun..).zip(statuses).map(|(at, status)| self.say(*status, at).map(|effect| effect.transition)).collect()
    }
}

use Status::{Critical as C, Ok as O, Unknown as U, Warning as W};

#[test]
fn a_problem_opens_after_its_attempts_and_resolves_after_its_recoveries() {
    let opened = Some(Transition::Opened);
    let resolved = Some(Transition::Resolved);
    assert_eq!(
        Line::new().transitions(&[C, O, C, C, C, O, C, O, O, O]),
        [None, None, None, opened, None, None, None, None, resolved, None]
    );
}

#[test]
fn the_episode_begins_with_the_first_bad_report_and_is_counted() {
    let mut line = Line::new();
    line.say(C, 10);
    let effect = line.say(C, 20).expect("opens");
    assert_eq!((effect.since.as_ms(), effect.episode), (10, 1));
    line.say(O, 30);
    assert_eq!(line.say(O, 40).expect("resolves").since.as_ms(), 10);
    line.say(U, 50);
    assert_eq!(line.say(U, 60).expect("opens").episode, 2);
}

#[test]
fn a_level_changes_only_when_it_holds_and_flapping_between_levels_still_opens() {
    assert_eq!(Line::new().transitions(&[W, C, W, C, C, C]), [None, Some(Transition::Opened), None, None, None, None]);
    assert_eq!(
        Line::new().transitions(&[W, W, C, W, C, C]),
        [None, Some(Transition::Opened), None, None, None, Some(Transition::Changed(1))]
    );
}

#[test]
fn what_is_not_configured_or_not_seen_long_enough_neither_opens_nor_resolves() {
    for cause in [UnknownCause::NotConfigured, UnknownCause::NotEnoughData] {
        let mut line = Line::new();
        let spared = |line: &mut Line, at| {
            let Event::Report(mut committed) = line.report_of(VM112, "portal", U, at) else { unreachable!() };
            committed.report.cause = Some(cause);
            line.apply(Event::Report(committed))
        };
        for at in 1..10 {
            assert_eq!(spared(&mut line, at), None);
        }
        // However long it stays so.
        for day in 1..5 {
            let now = Timestamp::from_ms(day * 86_400_000);
            let seen = line.correlator.apply(&line.rules, Event::Seen(VM112, now), now);
            let ticked = line.correlator.apply(&line.rules, Event::Tick, now);
            assert_eq!((seen.effects.len(), ticked.effects.len()), (0, 0));
        }
        line.say(C, 11);
        line.say(C, 12).expect("opens");
        for at in 13..20 {
            assert_eq!(spared(&mut line, at), None, "absence of evidence resolved a finding");
        }
    }
}

#[test]
fn a_report_older_than_the_newest_only_fills_history() {
    let mut line = Line::new();
    line.say(O, 100);
    assert_eq!(line.say(C, 50), None);
    assert_eq!(line.say(C, 60), None);
    let state = line.correlator.check(&(VM112, "portal".parse().expect("valid"))).expect("known");
    assert_eq!(state.last.as_ref().map(|report| report.status), Some(O));
}

#[test]
fn a_replay_from_an_older_cursor_says_nothing_twice() {
    let mut line = Line::new();
    let events: Vec<Event> =
        (1..).zip([C, C, W, W, O, O, C]).map(|(at, status)| line.report_of(VM112, "portal", status, at)).collect();
    let first: Vec<_> = events.iter().cloned().filter_map(|event| line.apply(event)).collect();
    assert_eq!(first.len(), 3);

    let saved = serde_json::to_string(line.correlator.checks().next().expect("one").1).expect("JSON");
    let key = (VM112, "portal".parse().expect("valid"));
    let states = HashMap::from([(key, serde_json::from_str(&saved).expect("JSON"))]);
    line.correlator = Correlator::new(&line.rules, states, Timestamp::from_ms(line.next));
    assert!(events.into_iter().all(|event| line.apply(event).is_none()));
}

#[test]
fn critical_hosts_weigh_more_and_warnings_less() {
    let mut line = Line::new();
    let mut severity = |host, status| {
        let first = line.report_of(host, "portal", status, 1);
        line.apply(first);
        let second = line.report_of(host, "portal", status, 2);
        line.apply(second).map(|effect| effect.severity)
    };
    assert_eq!(severity(VM112, C), Some(Severity::Critical));
    assert_eq!(severity(PFSENSE, C), Some(Severity::High));
    assert_eq!(severity(HostKey(3), W), Some(Severity::Medium));
}

#[test]
fn an_acknowledgement_holds_until_recovery_and_for_its_own_episode_only() {
    let mut line = Line::new();
    let key: CheckKey = (VM112, "portal".parse().expect("valid"));
    let acknowledge = |line: &mut Line, episode| {
        line.apply(Event::Acknowledge { key: key.clone(), episode }).map(|effect| effect.transition)
    };
    assert_eq!(acknowledge(&mut line, 1), None);
    line.transitions(&[C, C]);
    assert_eq!(acknowledge(&mut line, 2), None);
    assert_eq!(acknowledge(&mut line, 1), Some(Transition::Acknowledged));
    assert_eq!(acknowledge(&mut line, 1), None);
    line.transitions(&[O, O, C, C]);
    assert_eq!(acknowledge(&mut line, 1), None);
    assert_eq!(acknowledge(&mut line, 2), Some(Transition::Acknowledged));
}

#[test]
fn an_agent_speaks_for_its_own_checks_only() {
    let rules = Line::new().rules;
    let check = |text: &str| text.parse().expect("valid");
    assert!(rules.may_report(VM112, &check("portal")));
    assert!(!rules.may_report(VM112, &check(SILENCE)), "it would call itself alive");
    assert!(!rules.may_report(VM112, &check("unheard-of")));
}

#[test]
fn a_check_that_the_registry_does_not_have_opens_nothing() {
    let mut line = Line::new();
    for at in 1..5 {
        let event = line.report_of(VM112, "unheard-of", C, at);
        assert_eq!(line.apply(event), None);
    }
}
