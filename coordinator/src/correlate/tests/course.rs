//! What happens to a problem between its beginning and its end.

use super::*;

const REGISTRY: &str = r"
version: 1
silence: {after: 90s}
correlation: {hold: 60s, group: 10m, rise: 4h}
hosts:
  - {name: pve1}
  - {name: vm1}
  - {name: vm2}
  - {name: vm3}
  - {name: fw1}
  - {name: fw2}
scenarios:
  - {id: disk, title: Disk, persona: A1, severity: medium, attempts: 1, every: 1m, runs_on: agent,
     checks: [{name: root, probe: {disk: {mount: /, limits: {warning: 80, critical: 90}}}}]}
  - {id: web1, title: Web, persona: A1, severity: high, attempts: 1, every: 1m, hosts: [vm1],
     checks: [{name: http, probe: {http: {url: 'http://127.0.0.1/'}}}]}
";

const PVE1: HostKey = HostKey(1);
const VM1: HostKey = HostKey(2);
const VM2: HostKey = HostKey(3);
const VM3: HostKey = HostKey(4);
const FW1: HostKey = HostKey(5);
const FW2: HostKey = HostKey(6);

struct Fleet {
    correlator: Correlator,
    rules: Rules,
    next: i64,
    /// In seconds.
    now: i64,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(seconds * 1000)
}

/// Who is told what, in short.
fn told(effects: &[Effect]) -> Vec<(HostKey, String, Tell)> {
    let told = |effect: &Effect| Some((effect.key.0, effect.key.1.to_string(), effect.tell?));
    effects.iter().filter_map(told).collect()
}

impl Fleet {
    fn new() -> Self {
        let registry = Registry::parse(REGISTRY, &|_| None).expect("valid");
        let hosts = ["pve1", "vm1", "vm2", "vm3", "fw1", "fw2"];
        let hosts = (1..).zip(hosts).map(|(key, name)| (name.to_owned(), HostKey(key))).collect();
        let mut fleet =
            Self { correlator: Correlator::default(), rules: Rules::new(&registry, &hosts), next: 0, now: 1 };
        let needs = |all: &[HostKey], any: &[HostKey]| Needs { all: all.to_vec(), any: any.to_vec() };
        let vms = [VM1, VM2, VM3].map(|vm| (vm, needs(&[PVE1], &[])));
        fleet.event(Event::Dependencies(Dependencies::new(vms.into_iter().chain([(PVE1, needs(&[], &[FW1, FW2]))]))));
        for host in [PVE1, VM1, VM2, VM3, FW1, FW2] {
            fleet.say(host, SILENCE, O);
        }
        fleet
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        self.correlator.apply(&self.rules, event, at(self.now)).effects
    }

    fn say(&mut self, host: HostKey, check: &str, status: Status) -> Vec<Effect> {
        self.next += 1;
        let report = Report {
            check: check.parse().expect("valid"),
            status,
            value: None,
            unit: None,
            text: String::new(),
            observed_at: at(self.now),
            cause: None,
        };
        let id = self.next;
        self.event(Event::Report(Committed { id, host, report }))
    }

    /// Passes time second by second, as the job does.
    fn pass(&mut self, seconds: i64) -> Vec<Effect> {
        (0..seconds)
            .flat_map(|_| {
                self.now += 1;
                self.event(Event::Tick)
            })
            .collect()
    }

    fn problem(&self, host: HostKey, check: &str) -> Option<&Problem> {
        self.correlator.check(&(host, check.parse().expect("valid")))?.problem.as_deref()
    }
}

const PROBLEM: Tell = Tell::Problem;
const RECOVERY: Tell = Tell::Recovery;

fn told_of(host: HostKey, check: &str, tell: Tell) -> (HostKey, String, Tell) {
    (host, check.to_owned(), tell)
}

#[test]
fn an_outage_of_a_hypervisor_is_told_once_whichever_silence_is_noticed_first() {
    for pve_at in 0..4 {
        let mut fleet = Fleet::new();
        fleet.pass(100);
        let mut order = vec![VM1, VM2, VM3];
        order.insert(pve_at, PVE1);
        // The ways in have shown that they live.
        let mut effects = Vec::new();
        for host in order {
            effects.extend(fleet.say(host, SILENCE, C));
            effects.extend(fleet.event(Event::Seen(FW1, at(fleet.now))));
            effects.extend(fleet.pass(1));
        }
        effects.extend(fleet.say(VM1, "web1", C));
        effects.extend(fleet.pass(600));
        assert_eq!(told(&effects), [told_of(PVE1, SILENCE, PROBLEM)], "the hypervisor as number {pve_at}");
        let root = (PVE1, SILENCE.parse().expect("valid"));
        assert_eq!(fleet.correlator.explained_by(&root).len(), 4, "the finding lists what it hides");

        // All of it comes back, the hypervisor first; what stays is told in time.
        let mut effects = fleet.say(PVE1, SILENCE, O);
        effects.extend(fleet.pass(5));
        for host in [VM3, VM1] {
            effects.extend(fleet.say(host, SILENCE, O));
        }
        effects.extend(fleet.say(VM1, "web1", O));
        assert_eq!(told(&effects), [told_of(PVE1, SILENCE, RECOVERY)]);
        let resolved: Vec<HostKey> = effects
            .iter()
            .filter(|effect| effect.transition == Transition::Resolved)
            .map(|effect| effect.key.0)
            .collect();
        assert_eq!(resolved, [PVE1, VM3, VM1, VM1], "suppression hides no recovery from the findings");
        assert_eq!(told(&fleet.pass(150)), [told_of(VM2, SILENCE, PROBLEM)], "it is down for a reason of its own");
        assert_eq!(told(&fleet.say(VM2, SILENCE, O)), [told_of(VM2, SILENCE, RECOVERY)]);
    }
}

#[test]
fn a_problem_that_another_may_explain_waits_until_that_one_shows_that_it_lives() {
    let mut fleet = Fleet::new();
    fleet.pass(100);
    let effects = fleet.say(VM1, SILENCE, C);
    assert_eq!((told(&effects).len(), effects[0].transition), (0, Transition::Opened));
    assert_eq!(told(&fleet.pass(5)), []);
    assert_eq!(fleet.correlator.awaited().collect::<Vec<_>>(), [PVE1]);
    let before = at(fleet.now - 50);
    assert_eq!(told(&fleet.event(Event::Seen(PVE1, before))), [], "that was before the problem began");
    let effects = fleet.event(Event::Seen(PVE1, at(fleet.now)));
    assert_eq!(told(&effects), [told_of(VM1, SILENCE, PROBLEM)]);
    assert_eq!(effects[0].transition, Transition::Told);
}

#[test]
fn a_service_whose_host_may_be_down_waits_and_is_explained_by_the_furthest_cause_once_that_is_known() {
    let mut fleet = Fleet::new();
    fleet.pass(100);
    let mut effects = fleet.say(VM1, "web1", C);
    effects.extend(fleet.pass(2));
    // The machine is on its way down.
    effects.extend(fleet.event(Event::Seen(VM1, at(fleet.now))));
    effects.extend(fleet.say(VM1, SILENCE, C));
    effects.extend(fleet.pass(2));
    effects.extend(fleet.say(PVE1, SILENCE, C));
    effects.extend(fleet.event(Event::Seen(FW1, at(fleet.now))));
    assert_eq!(told(&effects), [told_of(PVE1, SILENCE, PROBLEM)]);
    let cause = fleet.problem(VM1, "web1").and_then(|problem| problem.hidden.clone());
    assert!(matches!(cause, Some(Hidden::Cause { host: PVE1, .. })), "{cause:?}");
}

#[test]
fn a_service_whose_host_goes_on_living_is_told() {
    let mut fleet = Fleet::new();
    fleet.pass(100);
    assert_eq!(told(&fleet.say(VM1, "web1", C)), []);
    fleet.pass(16);
    assert_eq!(told(&fleet.event(Event::Seen(VM1, at(fleet.now)))), [told_of(VM1, "web1", PROBLEM)]);
}

#[test]
fn nothing_waits_for_ever() {
    let mut fleet = Fleet::new();
    fleet.pass(100);
    fleet.say(VM1, SILENCE, C);
    assert_eq!(told(&fleet.pass(59)), []);
    assert_eq!(told(&fleet.pass(2)), [told_of(VM1, SILENCE, PROBLEM)]);
}

#[test]
fn what_a_host_says_of_itself_is_told_at_once_and_not_hidden_by_what_it_depends_on() {
    let mut fleet = Fleet::new();
    fleet.say(PVE1, SILENCE, C);
    assert_eq!(told(&fleet.say(VM1, "disk", C)), [told_of(VM1, "disk", PROBLEM)]);
}

#[test]
fn one_way_into_a_network_is_enough() {
    let mut fleet = Fleet::new();
    fleet.pass(10);
    fleet.say(FW1, SILENCE, C);
    fleet.pass(70);
    fleet.say(PVE1, SILENCE, C);
    let effects = fleet.event(Event::Seen(FW2, at(fleet.now)));
    assert_eq!(told(&effects).len(), 0, "it has joined the alike problem of the firewall");
    assert!(matches!(
        fleet.problem(PVE1, SILENCE).and_then(|problem| problem.hidden.clone()),
        Some(Hidden::Group { .. })
    ));

    let mut fleet = Fleet::new();
    fleet.pass(10);
    fleet.say(FW1, SILENCE, C);
    fleet.say(FW2, SILENCE, C);
    fleet.pass(70);
    fleet.say(PVE1, SILENCE, C);
    assert!(matches!(
        fleet.problem(PVE1, SILENCE).and_then(|problem| problem.hidden.clone()),
        Some(Hidden::Cause { .. })
    ));
}

#[test]
fn alike_problems_of_several_hosts_are_two_messages_and_one_recovery() {
    let mut fleet = Fleet::new();
    assert_eq!(told(&fleet.say(VM1, "disk", C)), [told_of(VM1, "disk", PROBLEM)]);
    let mut effects = fleet.say(VM2, "disk", C);
    effects.extend(fleet.pass(5));
    effects.extend(fleet.say(VM3, "disk", C));
    assert_eq!(told(&effects), []);
    let grew = fleet.pass(60);
    assert_eq!(told(&grew), [told_of(VM1, "disk", Tell::Grew)]);
    let grew = grew.iter().find(|effect| effect.tell.is_some()).expect("told");
    assert_eq!(grew.members, [VM2, VM3]);
    // The first one recovers first; the recovery is told with the last.
    let mut effects = fleet.say(VM1, "disk", O);
    effects.extend(fleet.say(VM3, "disk", O));
    assert_eq!(told(&effects), []);
    let effects = fleet.say(VM2, "disk", O);
    assert_eq!(told(&effects), [told_of(VM1, "disk", RECOVERY)]);
    assert_eq!(effects.last().map(|effect| (effect.transition, effect.episode)), Some((Transition::AllResolved, 1)));
}

#[test]
fn one_that_weighs_more_or_comes_late_is_told_for_itself() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", W);
    assert_eq!(told(&fleet.say(VM2, "disk", C)), [told_of(VM2, "disk", PROBLEM)]);
    fleet.pass(601);
    assert_eq!(told(&fleet.say(VM3, "disk", C)), [told_of(VM3, "disk", PROBLEM)]);
}

fn quiet(hosts: &[HostKey]) -> Vec<Quiet> {
    let matcher = Matcher { hosts: Some(hosts.to_vec()), ..Matcher::default() };
    vec![Quiet { id: "maintenance/1".to_owned(), kind: QuietKind::Maintenance, matcher, until: None }]
}

#[test]
fn a_window_keeps_new_problems_quiet_and_what_outlives_it_is_told() {
    let mut fleet = Fleet::new();
    fleet.event(Event::Quiet(quiet(&[VM1, VM2])));
    let mut effects = fleet.say(VM1, "disk", C);
    effects.extend(fleet.say(VM2, "disk", C));
    effects.extend(fleet.pass(600));
    assert_eq!(told(&effects), []);
    fleet.say(VM2, "disk", O);
    let mut effects = fleet.event(Event::Quiet(Vec::new()));
    effects.extend(fleet.pass(59));
    assert_eq!(told(&effects), [], "its next report may end it");
    effects.extend(fleet.pass(300));
    assert_eq!(told(&effects), [told_of(VM1, "disk", PROBLEM)]);
    assert_eq!(effects.last().map(|effect| effect.transition), Some(Transition::Shown(1)));
}

#[test]
fn a_silence_over_a_told_problem_hides_no_recovery() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", C);
    let effects = fleet.event(Event::Quiet(quiet(&[VM1])));
    assert_eq!(effects.iter().map(|effect| effect.transition).collect::<Vec<_>>(), [Transition::Hidden(1)]);
    assert_eq!(told(&fleet.say(VM1, "disk", O)), [told_of(VM1, "disk", RECOVERY)]);
}

#[test]
fn a_problem_that_was_told_and_hidden_is_told_to_whom_it_was_not_once_it_is_shown() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", W);
    fleet.event(Event::Quiet(quiet(&[VM1])));
    assert_eq!(told(&fleet.say(VM1, "disk", C)), [], "it is worse, and still quiet");
    let effects = fleet.event(Event::Quiet(Vec::new()));
    assert_eq!(told(&effects), [told_of(VM1, "disk", PROBLEM)]);
}

#[test]
fn what_a_host_explained_is_free_when_any_of_its_checks_shows_that_it_lives() {
    const REGISTRY: &str = r"
version: 1
correlation: {hold: 60s}
hosts: [{name: h, alive_by: [ping]}]
scenarios:
  - {id: ping, title: Ping, persona: A1, severity: high, attempts: 1, every: 1m, hosts: [h],
     checks: [{name: p, probe: {tcp: {address: '127.0.0.1:1'}}}]}
  - {id: web1, title: Web, persona: A1, severity: high, attempts: 1, every: 1m, hosts: [h],
     checks: [{name: p, probe: {tcp: {address: '127.0.0.1:1'}}}]}
";
    let registry = Registry::parse(REGISTRY, &|_| None).expect("valid");
    let hosts = HashMap::from([("h".to_owned(), VM1)]);
    let rules = Rules::new(&registry, &hosts);
    let mut fleet = Fleet { correlator: Correlator::default(), rules, next: 0, now: 1 };
    for check in [SILENCE, "ping", "web1"] {
        fleet.say(VM1, check, O);
    }
    fleet.pass(100);
    let mut effects = fleet.say(VM1, "ping", C);
    effects.extend(fleet.say(VM1, SILENCE, C));
    effects.extend(fleet.say(VM1, "web1", C));
    assert!(matches!(
        fleet.problem(VM1, "web1").and_then(|problem| problem.hidden.clone()),
        Some(Hidden::Cause { .. })
    ));
    // The agent is back, the ping stays blocked, the service stays down.
    effects.extend(fleet.say(VM1, SILENCE, O));
    effects.extend(fleet.pass(300));
    assert_eq!(told(&effects), [told_of(VM1, "ping", PROBLEM), told_of(VM1, "web1", PROBLEM)]);
}

#[test]
fn a_host_that_nobody_could_look_at_explains_nothing() {
    let mut fleet = Fleet::new();
    fleet.pass(100);
    fleet.say(PVE1, SILENCE, U);
    let mut effects = fleet.say(VM1, SILENCE, C);
    effects.extend(fleet.pass(70));
    assert!(!matches!(
        fleet.problem(VM1, SILENCE).and_then(|problem| problem.hidden.clone()),
        Some(Hidden::Cause { .. })
    ));
}

#[test]
fn whoever_acknowledged_a_problem_before_it_was_told_is_not_told() {
    let mut fleet = Fleet::new();
    fleet.pass(100);
    fleet.say(VM1, SILENCE, C);
    let key = (VM1, SILENCE.parse().expect("valid"));
    let mut effects = fleet.event(Event::Acknowledge { key, episode: 1 });
    effects.extend(fleet.pass(300));
    effects.extend(fleet.say(VM1, SILENCE, O));
    assert_eq!(told(&effects), []);
}

#[test]
fn a_check_that_nobody_hears_of_while_its_agent_speaks_is_a_problem_and_silence_is_no_second_one() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", O);
    fleet.say(VM2, "disk", O);
    // One agent speaks of its network only, the other not at all.
    let mut effects = fleet.pass(200);
    effects.extend(fleet.event(Event::Seen(VM1, at(fleet.now))));
    effects.extend(fleet.say(VM2, SILENCE, C));
    effects.extend(fleet.event(Event::Seen(PVE1, at(fleet.now))));
    effects.extend(fleet.pass(600));
    let expected = [told_of(VM2, SILENCE, PROBLEM), told_of(VM1, "disk", PROBLEM)];
    assert_eq!(told(&effects), expected);
    let stale = effects.iter().find(|effect| effect.stale).expect("stale");
    assert_eq!((stale.key.0, stale.status), (VM1, U));
    assert_eq!(told(&fleet.say(VM1, "disk", O)), [told_of(VM1, "disk", RECOVERY)]);
}

#[test]
fn a_coordinator_that_starts_gives_every_check_the_whole_time_again() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", O);
    let saved: HashMap<CheckKey, CheckState> =
        fleet.correlator.checks().map(|(key, state)| (key.clone(), state.clone())).collect();
    fleet.now += 86_400;
    fleet.correlator = Correlator::new(&fleet.rules, saved, at(fleet.now));
    fleet.event(Event::Seen(VM1, at(fleet.now + 1)));
    assert_eq!(told(&fleet.pass(100)), []);
    assert_eq!(told(&fleet.pass(900)), [told_of(VM1, "disk", PROBLEM)]);
}

#[test]
fn a_service_that_flaps_is_told_once_and_its_end_once() {
    let mut fleet = Fleet::new();
    let mut effects = Vec::new();
    for n in 0..60 {
        effects.extend(fleet.say(VM1, "disk", if n % 2 == 0 { C } else { O }));
        effects.extend(fleet.pass(60));
    }
    let count = told(&effects).len();
    assert!(count <= 7, "{count} messages for sixty changes");
    assert!(fleet.problem(VM1, "disk").is_some(), "it is one problem as long as it flaps");
    let mut calm = Vec::new();
    for _ in 0..25 {
        calm.extend(fleet.say(VM1, "disk", O));
        calm.extend(fleet.pass(60));
    }
    assert_eq!(told(&calm), [told_of(VM1, "disk", RECOVERY)]);
}

#[test]
fn a_host_that_comes_and_goes_flaps_and_one_that_goes_once_a_week_does_not() {
    let mut fleet = Fleet::new();
    let mut effects = Vec::new();
    for n in 0..40 {
        effects.extend(fleet.say(FW1, SILENCE, if n % 2 == 0 { C } else { O }));
        effects.extend(fleet.pass(120));
    }
    let while_flapping = told(&effects).len();
    assert!(while_flapping <= 7, "{while_flapping}");
    assert_eq!(
        told(&fleet.pass(3600)).last(),
        Some(&told_of(FW1, SILENCE, RECOVERY)),
        "it ends though nothing more is said"
    );

    let mut fleet = Fleet::new();
    let mut effects = Vec::new();
    for n in 0..40 {
        effects.extend(fleet.say(FW1, SILENCE, if n % 2 == 0 { C } else { O }));
        fleet.now += 7 * 86_400;
    }
    assert_eq!(told(&effects).len(), 40);
}

#[test]
fn a_problem_that_nobody_acknowledges_rises_by_one_level() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", C);
    fleet.now += 4 * 3600;
    let effects = fleet.pass(2);
    assert_eq!(
        effects.iter().map(|effect| (effect.transition, effect.severity, effect.tell)).collect::<Vec<_>>(),
        [(Transition::Changed(1), Severity::High, Some(PROBLEM))]
    );
    fleet.now += 8 * 3600;
    assert_eq!(fleet.pass(2), []);

    let mut fleet = Fleet::new();
    fleet.say(VM1, "disk", C);
    fleet.event(Event::Acknowledge { key: (VM1, "disk".parse().expect("valid")), episode: 1 });
    fleet.now += 40 * 3600;
    assert_eq!(fleet.pass(2), [], "an acknowledged problem stays as it is");
}

#[test]
fn a_person_can_close_what_no_report_will_end() {
    let mut fleet = Fleet::new();
    fleet.say(VM1, "signal.container_down/x", C);
    let key: CheckKey = (VM1, "signal.container_down/x".parse().expect("valid"));
    let effects = fleet.event(Event::Close { key: key.clone(), episode: 1 });
    assert_eq!(
        effects.iter().map(|effect| (effect.transition, effect.tell)).collect::<Vec<_>>(),
        [(Transition::Resolved, Some(RECOVERY))]
    );
    assert_eq!(fleet.event(Event::Close { key, episode: 1 }), []);
}
