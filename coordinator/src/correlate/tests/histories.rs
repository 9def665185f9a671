//! Properties over generated histories: reports in any order, signs of life,
//! windows, acknowledgements, new dependencies, and crashes between any two
//! steps.

use std::collections::HashSet;

use super::*;

const REGISTRY: &str = r"
version: 1
silence: {after: 90s}
correlation: {hold: 2m, group: 10m, rise: 2h}
hosts: [{name: h1}, {name: h2}, {name: h3}, {name: h4}, {name: h5}, {name: h6}]
scenarios:
  - {id: disk, title: Disk, persona: A1, severity: medium, attempts: 2, every: 1m, runs_on: agent,
     checks: [{name: root, probe: {disk: {mount: /, limits: {warning: 80, critical: 90}}}}]}
  - {id: site, title: Site, persona: A1, severity: high, attempts: 1, recover: 2, every: 1m, runs_on: agent,
     checks: [{name: http, probe: {http: {url: 'http://127.0.0.1/'}}}]}
  - {id: web, title: Web, persona: A1, severity: high, attempts: 1, every: 1m, hosts: [h4],
     checks: [{name: http, probe: {http: {url: 'http://127.0.0.1/'}}}]}
";
const HOSTS: i64 = 6;
const CHECKS: [&str; 4] = [SILENCE, "disk", "site", "web"];
/// Histories of the test run; `FAROL_HISTORIES` says another number.
const HISTORIES: u64 = 500;
const EVENTS: usize = 250;

fn histories() -> u64 {
    std::env::var("FAROL_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(HISTORIES)
}

fn rules() -> Rules {
    let registry = Registry::parse(REGISTRY, &|_| None).expect("valid");
    let hosts = (1..=HOSTS).map(|key| (format!("h{key}"), HostKey(key))).collect();
    Rules::new(&registry, &hosts)
}

/// What happens, and when.
type History = Vec<(Event, Timestamp)>;

fn report(id: i64, host: HostKey, check: &str, status: Status, at: Timestamp) -> Event {
    let check = check.parse().expect("valid");
    let report = Report { check, status, value: None, unit: None, text: String::new(), observed_at: at, cause: None };
    Event::Report(Committed { id, host, report })
}

fn dependencies(random: &mut fastrand::Rng) -> Event {
    let mut needs = Vec::new();
    for host in 1..=HOSTS {
        let mut pick = |most: usize| -> Vec<HostKey> {
            (0..random.usize(..=most)).map(|_| HostKey(random.i64(1..=HOSTS))).collect()
        };
        let (all, any) = (pick(1), pick(2));
        needs.push((HostKey(host), Needs { all, any }));
    }
    Event::Dependencies(Dependencies::new(needs))
}

fn quiet(random: &mut fastrand::Rng) -> Event {
    let windows = (0..random.usize(..3)).map(|n| Quiet {
        id: format!("silence/{n}"),
        kind: QuietKind::Silence,
        matcher: Matcher { hosts: Some(vec![HostKey(random.i64(1..=HOSTS))]), ..Matcher::default() },
        until: None,
    });
    Event::Quiet(windows.collect())
}

fn history(seed: u64) -> History {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut now, mut id) = (1_000_000, 0);
    let mut events = Vec::with_capacity(EVENTS);
    // Some histories are calm, some are storms.
    let bad = random.u32(5..70);
    for _ in 0..EVENTS {
        let most = if random.u8(..20) == 0 { 1_800_000 } else { 45_000 };
        now += random.i64(0..most);
        let at = Timestamp::from_ms(now);
        let host = HostKey(random.i64(1..=HOSTS));
        let event = match random.u32(..100) {
            0..70 => {
                id += 1;
                let check = *random.choice(&CHECKS).expect("some");
                let host = if check == "web" { HostKey(4) } else { host };
                let status = match random.u32(..100) {
                    n if n >= bad => O,
                    n if n % 4 == 0 => W,
                    n if n % 7 == 0 => U,
                    _ => C,
                };
                report(id, host, check, status, at.plus_ms(-random.i64(0..20_000)))
            }
            70..80 => Event::Seen(host, at),
            80..90 => Event::Tick,
            90..94 => {
                let check = random.choice(&CHECKS).expect("some").parse().expect("valid");
                Event::Acknowledge { key: (host, check), episode: random.u64(1..4) }
            }
            94..97 => quiet(&mut random),
            _ => dependencies(&mut random),
        };
        events.push((event, at));
    }
    // In the end all of it is healthy, whatever that takes.
    let mut at = Timestamp::from_ms(now);
    events.push((Event::Quiet(Vec::new()), at));
    for _ in 0..45 {
        at = at.plus_ms(60_000);
        for host in 1..=HOSTS {
            for check in CHECKS {
                if check != "web" || host == 4 {
                    id += 1;
                    events.push((report(id, HostKey(host), check, O, at), at));
                }
            }
        }
        events.push((Event::Tick, at));
    }
    events
}

/// The promises, watched while effects come.
#[derive(Default)]
struct Watch {
    written: HashSet<(CheckKey, u64, String)>,
    told: HashSet<(CheckKey, u64)>,
    recovered: HashSet<(CheckKey, u64)>,
    opened: HashSet<(CheckKey, u64)>,
    resolved: HashSet<(CheckKey, u64)>,
    messages: usize,
}

impl Watch {
    /// Writes what is new. `is_first` is that nothing was lost, so that nothing
    /// may come twice.
    fn take(&mut self, seed: u64, effect: &Effect, is_first: bool) {
        let episode = (effect.key.clone(), effect.episode);
        let key = (effect.key.clone(), effect.episode, effect.transition.as_key());
        if !self.written.insert(key) {
            assert!(!is_first, "seed {seed}: the key of {effect:?} was used before");
            return;
        }
        match effect.transition {
            Transition::Opened => assert!(self.opened.insert(episode.clone()), "seed {seed}: {effect:?}"),
            Transition::Resolved => {
                assert!(self.opened.contains(&episode), "seed {seed}: resolved what never opened: {effect:?}");
                self.resolved.insert(episode.clone());
            }
            Transition::Grew(_) | Transition::AllResolved => {}
            _ => assert!(!self.resolved.contains(&episode), "seed {seed}: said after its end: {effect:?}"),
        }
        match effect.tell {
            Some(Tell::Problem) => {
                assert!(!self.recovered.contains(&episode), "seed {seed}: a problem after its recovery: {effect:?}");
                assert!(
                    !super::super::tell::is_suppressed(effect.hidden.as_ref()),
                    "seed {seed}: told although it is hidden: {effect:?}"
                );
                self.messages += usize::from(self.told.insert(episode));
            }
            Some(Tell::Grew) => {
                assert!(self.told.contains(&episode), "seed {seed}: others joined what nobody knows: {effect:?}");
                assert!(!self.recovered.contains(&episode), "seed {seed}: after its recovery: {effect:?}");
                assert!(!effect.members.is_empty());
                self.messages += 1;
            }
            Some(Tell::Recovery) => {
                assert!(self.told.contains(&episode), "seed {seed}: a recovery without its problem: {effect:?}");
                assert!(self.resolved.contains(&episode), "seed {seed}: a recovery before the end: {effect:?}");
                assert!(self.recovered.insert(episode), "seed {seed}: a second recovery: {effect:?}");
                self.messages += 1;
            }
            None => {}
        }
    }

    /// What must be so once everything is healthy.
    fn end(&self, seed: u64, correlator: &Correlator) {
        let open: Vec<_> = correlator.checks().filter(|(_, state)| state.problem.is_some()).collect();
        assert!(open.is_empty(), "seed {seed}: still open: {open:#?}");
        assert_eq!(self.opened, self.resolved, "seed {seed}: findings without an end");
        let left: Vec<_> = self.told.symmetric_difference(&self.recovered).collect();
        assert!(left.is_empty(), "seed {seed}: told and never over, or the other way round: {left:?}");
        let left =
            [correlator.open.len(), correlator.awaited.len(), correlator.waiting.len(), correlator.gathering.len()];
        assert_eq!(left, [0; 4], "seed {seed}: something is still waited for");
        let kept = correlator.explained.values().chain(correlator.joined.values()).map(BTreeSet::len).sum::<usize>();
        assert_eq!(kept, 0, "seed {seed}: something still explains another");
        assert!(correlator.checks().all(|(_, state)| state.over.is_empty()), "seed {seed}: an end that is never told");
    }
}

fn play(rules: &Rules, history: &[(Event, Timestamp)]) -> (Correlator, Vec<Outcome>) {
    let mut correlator = Correlator::default();
    let outcomes = history.iter().map(|(event, now)| correlator.apply(rules, event.clone(), *now)).collect();
    (correlator, outcomes)
}

#[test]
fn an_episode_is_told_once_and_over_once_in_that_order_whatever_happens() {
    let rules = rules();
    let (mut episodes, mut messages) = (0, 0);
    for seed in 0..histories() {
        let history = history(seed);
        let (correlator, outcomes) = play(&rules, &history);
        let mut watch = Watch::default();
        outcomes.iter().flat_map(|outcome| &outcome.effects).for_each(|effect| watch.take(seed, effect, true));
        watch.end(seed, &correlator);
        episodes += watch.opened.len();
        messages += watch.messages;
        if seed % 10 == 0 {
            let (_, again) = play(&rules, &history);
            assert_eq!(outcomes, again, "seed {seed}: a replay says something else");
        }
    }
    assert!(episodes > 5_000 && messages > 2_500, "{episodes} episodes, {messages} messages");
    eprintln!("{} histories, {episodes} episodes, {messages} messages", histories());
}

/// A coordinator with what it has written, ended and started anew at any point.
struct Crashing<'a> {
    rules: &'a Rules,
    correlator: Correlator,
    saved: HashMap<CheckKey, String>,
    dirty: HashSet<CheckKey>,
    cursor: i64,
    reports: Vec<Event>,
    quiet: Event,
    dependencies: Event,
}

impl<'a> Crashing<'a> {
    fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            correlator: Correlator::default(),
            saved: HashMap::new(),
            dirty: HashSet::new(),
            cursor: 0,
            reports: Vec::new(),
            quiet: Event::Quiet(Vec::new()),
            dependencies: Event::Dependencies(Dependencies::default()),
        }
    }

    fn save(&mut self, keys: impl IntoIterator<Item = CheckKey>) {
        for key in keys {
            let state = self.correlator.check(&key).expect("known");
            self.saved.insert(key, serde_json::to_string(state).expect("JSON"));
        }
    }

    fn apply(&mut self, event: Event, now: Timestamp) -> Outcome {
        match &event {
            Event::Report(committed) => {
                self.dirty.insert((committed.host, committed.report.check.clone()));
                self.reports.push(event.clone());
            }
            Event::Quiet(_) => self.quiet = event.clone(),
            Event::Dependencies(_) => self.dependencies = event.clone(),
            _ => {}
        }
        self.correlator.apply(self.rules, event, now)
    }

    /// Writes an outcome as one transaction.
    fn write(&mut self, seed: u64, outcome: &Outcome, watch: &mut Watch) {
        if !outcome.effects.is_empty() {
            let effects = outcome.effects.iter().map(|effect| effect.key.clone());
            let keys: Vec<CheckKey> = outcome.touched.iter().cloned().chain(effects).collect();
            self.save(keys);
        }
        outcome.effects.iter().for_each(|effect| watch.take(seed, effect, false));
        self.dirty.extend(outcome.touched.iter().cloned());
    }

    fn save_all(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        self.save(dirty);
        self.cursor = self.reports.iter().map(id_of).max().unwrap_or(0);
    }

    fn restart(&mut self, seed: u64, now: Timestamp, watch: &mut Watch) {
        let saved = self.saved.iter().map(|(key, state)| (key.clone(), serde_json::from_str(state).expect("JSON")));
        self.correlator = Correlator::new(self.rules, saved.collect(), now);
        let missed: Vec<Event> = self.reports.iter().filter(|event| id_of(event) > self.cursor).cloned().collect();
        let begin = [self.dependencies.clone(), self.quiet.clone()];
        for event in begin.into_iter().chain(missed) {
            let outcome = self.correlator.apply(self.rules, event, now);
            self.write(seed, &outcome, watch);
        }
    }
}

fn id_of(event: &Event) -> i64 {
    if let Event::Report(committed) = event { committed.id } else { 0 }
}

#[test]
fn a_crash_between_any_two_steps_loses_and_repeats_nothing() {
    let rules = rules();
    let mut crashes = 0;
    for seed in 0..histories() {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xC0FFEE);
        let mut site = Crashing::new(&rules);
        let mut watch = Watch::default();
        for (event, now) in history(seed) {
            let outcome = site.apply(event, now);
            // The end comes before or after what it said was written.
            let (ends, is_written) = (random.u8(..30) == 0, random.bool());
            if !ends || is_written {
                site.write(seed, &outcome, &mut watch);
            }
            if ends {
                crashes += 1;
                site.restart(seed, now.plus_ms(random.i64(0..600_000)), &mut watch);
            } else if random.u8(..40) == 0 {
                site.save_all();
            }
        }
        watch.end_after_crashes(seed, &site.correlator);
    }
    eprintln!("{} histories, {crashes} crashes", histories());
}

impl Watch {
    /// As [`Self::end`], when stale checks at the end of time do not count.
    fn end_after_crashes(&self, seed: u64, correlator: &Correlator) {
        let open: HashSet<(CheckKey, u64)> = correlator
            .checks()
            .filter(|(_, state)| state.problem.is_some())
            .map(|(key, state)| (key.clone(), state.episode()))
            .collect();
        let bad = correlator.checks().filter_map(|(_, state)| state.problem.as_ref()).filter(|problem| !problem.stale);
        assert_eq!(bad.count(), 0, "seed {seed}: still open");
        let ended: HashSet<_> = self.opened.difference(&open).cloned().collect();
        assert_eq!(ended, self.resolved, "seed {seed}: findings without an end");
        let told: HashSet<_> = self.told.difference(&open).cloned().collect();
        let left: Vec<_> = told.symmetric_difference(&self.recovered).collect();
        assert!(left.is_empty(), "seed {seed}: told and never over, or the other way round: {left:?}");
    }
}

#[test]
fn events_that_have_nothing_to_do_with_each_other_commute() {
    let rules = rules();
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let statuses = [O, C, W, C];
        let mut events: Vec<(HostKey, Event)> = Vec::new();
        for n in 0..40_i64 {
            let at = Timestamp::from_ms(n * 60_000);
            let mut status = || statuses[random.usize(..statuses.len())];
            events.push((HostKey(1), report(2 * n + 1, HostKey(1), "disk", status(), at)));
            events.push((HostKey(2), report(2 * n + 2, HostKey(2), "site", status(), at)));
        }
        let run = |events: &[(HostKey, Event)]| {
            let mut correlator = Correlator::default();
            let mut effects: Vec<Effect> = Vec::new();
            for (n, (_, event)) in (0..).zip(events) {
                let now = Timestamp::from_ms(n / 2 * 60_000);
                effects.extend(correlator.apply(&rules, event.clone(), now).effects);
            }
            effects.sort_by_key(|effect| (effect.key.0, effect.report.observed_at));
            let mut states: Vec<_> = correlator.checks().map(|(key, state)| (key.clone(), state.clone())).collect();
            states.sort_by_key(|(key, _)| key.clone());
            (effects, states)
        };
        let turned: Vec<_> = events.chunks(2).flat_map(|pair| [pair[1].clone(), pair[0].clone()]).collect();
        assert_eq!(run(&events), run(&turned), "seed {seed}");
    }
}
