//! From reports to findings: a pure function, state and event in, effects out.
//!
//! A check is *soft* bad until its scenario's `attempts` bad reports came in a
//! row, then *hard* bad, which opens an episode; `recover` good ones in a row
//! end it. Only positive evidence resolves: silence, or a check that is no
//! longer configured, never does.
//!
//! A problem is told unless something hides it, judged in this order: it is
//! kept quiet; what it depends on is down; what it depends on has not yet
//! shown that it is alive; an alike problem was told and it joins that one.
//! Whatever hides it ends with another judgement, and a problem that was told
//! has its recovery told, whatever hides it meanwhile.
//!
//! **Invariant.** No clock, no I/O, no randomness: replaying the same events
//! gives the same effects, and each effect has a key (fingerprint, episode,
//! transition) under which it is written once. An episode's problem is told at
//! most once, and its recovery at most once and only after it.

mod dependencies;
mod effect;
mod flapping;
mod quiet;
mod rules;
mod state;
mod tell;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
};

use farol_protocol::{CheckId, Report, Status, Timestamp, registry::RunsOn};

pub use dependencies::{Dependencies, Needs};
pub use effect::{Effect, Tell, Transition};
pub use quiet::{Matcher, Quiet, QuietKind};
pub use rules::{
    ALERT_PREFIX, CLOCK, IDENTITY, Rule, Rules, SIGNAL_PREFIX, SILENCE, TELEMETRY, clock, identity, silence, telemetry,
};
pub use state::{CheckState, Hidden, Problem};

use self::state::Step;
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
    /// A person says that it is over.
    Close {
        /// The check of the finding.
        key: CheckKey,
        /// The finding's episode.
        episode: u64,
    },
    /// What is kept quiet from now on, all of it.
    Quiet(Vec<Quiet>),
    /// What needs what from now on, all of it.
    Dependencies(Dependencies),
    /// A host gave a sign of life then.
    Seen(HostKey, Timestamp),
    /// Time has passed.
    Tick,
}

/// What an event did.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// What is to be written and said, in this order.
    pub effects: Vec<Effect>,
    /// Checks without effects whose states are part of it: they are saved with
    /// the effects or not at all.
    pub touched: Vec<CheckKey>,
}

/// Place of a check in memory.
type Slot = usize;

#[derive(Debug)]
struct Check {
    key: CheckKey,
    state: CheckState,
    /// When something was heard of it, by the coordinator's clock.
    heard_at: Timestamp,
    /// When it is looked at again at the latest.
    due: Option<Timestamp>,
}

/// The state of all checks, and what connects them.
#[derive(Debug, Default)]
pub struct Correlator {
    index: HashMap<CheckKey, Slot>,
    checks: Vec<Check>,
    agenda: BinaryHeap<Reverse<(Timestamp, Slot)>>,
    dependencies: Dependencies,
    quiet: Vec<Quiet>,
    /// Last sign of life.
    seen: HashMap<HostKey, Timestamp>,
    /// Checks with an open problem.
    open: BTreeSet<Slot>,
    /// Problems that wait for a sign of life, by host.
    awaited: BTreeMap<HostKey, BTreeSet<Slot>>,
    /// Those hosts, by problem.
    waiting: HashMap<Slot, Vec<HostKey>>,
    /// Problems that are explained, by the check that explains them.
    explained: BTreeMap<Slot, BTreeSet<Slot>>,
    /// Problems that have joined another.
    joined: BTreeMap<Slot, BTreeSet<Slot>>,
    /// Told problems that others have joined, which is told then.
    gathering: BTreeMap<Slot, Timestamp>,
    /// The told problem that alike ones may join, and when the last did.
    leading: HashMap<(CheckId, u32), (Slot, Timestamp)>,
}

/// How long those that join a told problem are gathered before that is told, in ms.
const GATHER_MS: i64 = 30_000;
/// Shortest and longest time in ms for a problem to end whose cause is gone.
const GRACE_MS: (i64, i64) = (60_000, 15 * 60_000);

impl Correlator {
    /// Starts from saved states. Whoever was not heard meanwhile gets the whole
    /// time again.
    #[must_use]
    pub fn new(rules: &Rules, checks: HashMap<CheckKey, CheckState>, now: Timestamp) -> Self {
        let mut checks: Vec<(CheckKey, CheckState)> = checks.into_iter().collect();
        checks.sort_by(|a, b| a.0.cmp(&b.0));
        let mut correlator = Self::default();
        for (key, state) in checks {
            correlator.add(key, state, now);
        }
        for slot in 0..correlator.checks.len() {
            correlator.resume(rules, slot, now);
        }
        // Those that had joined may not have been saved as such.
        for slot in 0..correlator.checks.len() {
            if !correlator.checks[slot].state.over.is_empty() && !correlator.joined.contains_key(&slot) {
                correlator.checks[slot].due = Some(now);
                correlator.agenda.push(Reverse((now, slot)));
            }
        }
        correlator
    }

    fn add(&mut self, key: CheckKey, state: CheckState, now: Timestamp) -> Slot {
        let slot = self.checks.len();
        self.index.insert(key.clone(), slot);
        self.checks.push(Check { key, state, heard_at: now, due: None });
        slot
    }

    /// Puts a saved problem back to where it was.
    fn resume(&mut self, rules: &Rules, slot: Slot, now: Timestamp) {
        let hold_ms = rules.hold_ms;
        let check = &mut self.checks[slot];
        if let Some(problem) = &mut check.state.problem {
            self.open.insert(slot);
            if let Some(Hidden::Waits { until, .. }) = &mut problem.hidden {
                *until = (*until).max(now.plus_ms(hold_ms));
            }
            let (hidden, told, own) = (problem.hidden.clone(), problem.told, check.key.1.clone());
            match hidden {
                Some(Hidden::Cause { host, check, .. }) => {
                    if let Some(cause) = self.index.get(&(host, check)) {
                        self.explained.entry(*cause).or_default().insert(slot);
                    }
                }
                Some(Hidden::Group { host, .. }) => {
                    if let Some(leader) = self.index.get(&(host, own)).copied() {
                        self.joined.entry(leader).or_default().insert(slot);
                        self.gathering.insert(leader, now.plus_ms(GATHER_MS));
                        self.plan(rules, leader, now);
                    }
                }
                Some(Hidden::Waits { grace: false, .. }) => self.wait(rules, slot),
                None if told => {
                    self.leading.entry((own, rules.site(self.checks[slot].key.0))).or_insert((slot, now));
                }
                _ => {}
            }
        }
        self.plan(rules, slot, now);
    }

    /// The state of each check that has reported.
    pub fn checks(&self) -> impl Iterator<Item = (&CheckKey, &CheckState)> {
        self.checks.iter().map(|check| (&check.key, &check.state))
    }

    /// The state of one check.
    #[must_use]
    pub fn check(&self, key: &CheckKey) -> Option<&CheckState> {
        Some(&self.checks[*self.index.get(key)?].state)
    }

    /// Hosts whose sign of life somebody waits for.
    pub fn awaited(&self) -> impl Iterator<Item = HostKey> {
        self.awaited.keys().copied()
    }

    /// Problems that a check explains at present.
    pub fn explained_by(&self, key: &CheckKey) -> Vec<&CheckKey> {
        let slots = self.index.get(key).and_then(|slot| self.explained.get(slot));
        slots.into_iter().flatten().map(|slot| &self.checks[*slot].key).collect()
    }

    /// When time alone changes something next, if nothing else happens.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.agenda.peek().map(|Reverse((at, _))| *at)
    }

    /// What needs what and what is kept quiet, together, as a coordinator that
    /// starts learns it.
    pub fn begin(&mut self, rules: &Rules, dependencies: Dependencies, quiet: Vec<Quiet>, now: Timestamp) -> Outcome {
        self.dependencies = dependencies;
        self.apply(rules, Event::Quiet(quiet), now)
    }

    /// Nobody could have been heard until `now`: everybody gets the whole time
    /// again.
    pub fn was_away(&mut self, now: Timestamp) {
        for check in &mut self.checks {
            check.heard_at = now;
        }
    }

    /// Takes one event in. `now` never goes back by more than clocks do: what
    /// is due later is due later.
    pub fn apply(&mut self, rules: &Rules, event: Event, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        match event {
            Event::Report(committed) => self.report(rules, committed, now, &mut outcome),
            Event::Acknowledge { key, episode } => self.acknowledge(rules, &key, episode, now, &mut outcome),
            Event::Close { key, episode } => {
                if let Some(slot) = self.open_episode(&key, episode) {
                    self.resolve(rules, slot, now, &mut outcome);
                }
            }
            Event::Quiet(quiet) => {
                self.quiet = quiet;
                for slot in self.open.clone() {
                    self.judge(rules, slot, now, &mut outcome);
                }
            }
            Event::Dependencies(dependencies) => {
                self.dependencies = dependencies;
                for slot in self.open.clone() {
                    self.judge(rules, slot, now, &mut outcome);
                }
            }
            Event::Seen(host, at) => self.see(rules, host, at, now, &mut outcome),
            Event::Tick => self.tick(rules, now, &mut outcome),
        }
        outcome
    }

    fn report(&mut self, rules: &Rules, committed: Committed, now: Timestamp, outcome: &mut Outcome) {
        let Committed { id, host, report } = committed;
        let key = (host, report.check.clone());
        let Some(rule) = rules.of(&key) else { return };
        let slot = match self.index.get(&key) {
            Some(slot) => *slot,
            None => self.add(key, CheckState::default(), now),
        };
        let (at, status) = (report.observed_at, report.status);
        let check = &mut self.checks[slot];
        if id > check.state.cursor {
            // Heard of, even where nobody could look.
            check.heard_at = now;
        }
        let flapped = check.state.flapping;
        let step = check.state.report(rule, host, id, report, now);
        if step == Step::None {
            if check.due.is_none() {
                self.plan(rules, slot, now);
            }
            return;
        }
        let stopped = flapped && !check.state.flapping;
        let over = step == Step::Counted && stopped && check.state.is_recovered(rule);
        if rule.runs_on == RunsOn::Agent || (status == Status::Ok && rules.is_alive_check(&self.checks[slot].key)) {
            self.see(rules, host, at, now, outcome);
        }
        match step {
            Step::Opened => self.opened(rules, slot, now, outcome),
            Step::Changed { from } => {
                self.worse(rules, slot, from, now, outcome);
                self.down_changed(rules, slot, now, outcome);
            }
            Step::Recovered => self.resolve(rules, slot, now, outcome),
            Step::Counted if over && self.checks[slot].state.problem.is_some() => {
                self.resolve(rules, slot, now, outcome);
            }
            // Whether it says that its host is down goes with each report while it flaps.
            Step::Counted if self.checks[slot].state.flapping => self.down_changed(rules, slot, now, outcome),
            Step::Counted | Step::None => {}
        }
        let check = &self.checks[slot];
        if check.due.is_none() || check.state.flapping {
            self.plan(rules, slot, now);
        }
    }

    fn open_episode(&self, key: &CheckKey, episode: u64) -> Option<Slot> {
        let slot = *self.index.get(key)?;
        let state = &self.checks[slot].state;
        (state.problem.is_some() && state.episode() == episode).then_some(slot)
    }

    fn acknowledge(&mut self, rules: &Rules, key: &CheckKey, episode: u64, now: Timestamp, outcome: &mut Outcome) {
        let Some(slot) = self.open_episode(key, episode) else { return };
        let Some(problem) = &mut self.checks[slot].state.problem else { return };
        if std::mem::replace(&mut problem.acknowledged, true) {
            return;
        }
        let before = problem.status;
        self.effect(slot, Transition::Acknowledged, Some(before), None, outcome);
        self.judge(rules, slot, now, outcome);
    }

    /// A new problem: it changes what explains others before it is judged itself.
    fn opened(&mut self, rules: &Rules, slot: Slot, now: Timestamp, outcome: &mut Outcome) {
        self.open.insert(slot);
        let place = outcome.effects.len();
        self.effect(slot, Transition::Opened, None, None, outcome);
        self.judge_into(rules, slot, now, outcome, Some(place));
        self.down_changed(rules, slot, now, outcome);
        self.plan(rules, slot, now);
    }

    /// A problem is worse or otherwise: channels that were not told may be now.
    fn worse(&mut self, rules: &Rules, slot: Slot, from: Status, now: Timestamp, outcome: &mut Outcome) {
        let Some(problem) = &self.checks[slot].state.problem else { return };
        let tell = (problem.told && problem.hidden.is_none()).then_some(Tell::Problem);
        self.effect(slot, Transition::Changed(problem.steps), Some(from), tell, outcome);
        // It may weigh more than what it has joined.
        self.judge(rules, slot, now, outcome);
    }

    fn resolve(&mut self, rules: &Rules, slot: Slot, now: Timestamp, outcome: &mut Outcome) {
        let Some(problem) = self.checks[slot].state.close() else { return };
        self.open.remove(&slot);
        self.forget_hidden(slot, problem.hidden.as_ref());
        let has_joined = self.joined.get(&slot).is_some_and(|joined| !joined.is_empty());
        let tell = (problem.told && !has_joined).then_some(Tell::Recovery);
        let state = &mut self.checks[slot].state;
        if problem.told && has_joined {
            state.over.push(state::Over {
                episode: state.episode(),
                severity: problem.severity,
                since: problem.since,
                status: problem.status,
            });
        }
        let key = self.checks[slot].key.clone();
        let led = (key.1.clone(), rules.site(key.0));
        if self.leading.get(&led).is_some_and(|(leader, _)| *leader == slot) {
            self.leading.remove(&led);
        }
        outcome.effects.extend(self.effect_of(slot, Transition::Resolved, &problem, Some(problem.status), tell));
        if let Some(Hidden::Group { host, .. }) = &problem.hidden {
            self.left(*host, &key.1, outcome);
        }
        self.down_changed(rules, slot, now, outcome);
        // What it explained has the time to recover too.
        for other in self.explained.remove(&slot).unwrap_or_default() {
            self.judge(rules, other, now, outcome);
        }
        self.plan(rules, slot, now);
    }

    /// Whether its host is down may have changed with it: those that wait for
    /// the host are told why.
    fn down_changed(&mut self, rules: &Rules, slot: Slot, now: Timestamp, outcome: &mut Outcome) {
        let key = &self.checks[slot].key;
        if !rules.is_alive_check(key) {
            return;
        }
        let host = key.0;
        for other in self.awaited.get(&host).cloned().unwrap_or_default() {
            if other != slot {
                self.judge(rules, other, now, outcome);
            }
        }
        // What is filed under another check of the host, or under another way in, may be free again. Of a host that
        // nobody needs and that one check speaks for, everything is filed under that check.
        let speaks_alone = rules.alive(host).len() == 1 && !self.dependencies.is_needed(host);
        if self.down(rules, host).is_none() {
            let explained: BTreeSet<Slot> = if speaks_alone {
                self.explained.get(&slot).cloned().unwrap_or_default()
            } else {
                self.explained.values().flatten().copied().collect()
            };
            for other in explained {
                self.judge(rules, other, now, outcome);
            }
        }
    }

    fn see(&mut self, rules: &Rules, host: HostKey, at: Timestamp, now: Timestamp, outcome: &mut Outcome) {
        let before = self.seen.get(&host).copied();
        if before.is_some_and(|before| before >= at) {
            return;
        }
        self.seen.insert(host, at);
        if self.awaited.is_empty() {
            return;
        }
        for slot in self.awaited.get(&host).cloned().unwrap_or_default() {
            self.judge(rules, slot, now, outcome);
        }
    }

    fn tick(&mut self, rules: &Rules, now: Timestamp, outcome: &mut Outcome) {
        // What is planned anew meanwhile is for the next time.
        let mut due = Vec::new();
        while let Some(Reverse((at, slot))) = self.agenda.peek().copied() {
            if at > now {
                break;
            }
            self.agenda.pop();
            if self.checks[slot].due == Some(at) {
                self.checks[slot].due = None;
                due.push(slot);
            }
        }
        for slot in due {
            self.fall_due(rules, slot, now, outcome);
            self.plan(rules, slot, now);
        }
    }

    fn fall_due(&mut self, rules: &Rules, slot: Slot, now: Timestamp, outcome: &mut Outcome) {
        let Some(rule) = rules.of(&self.checks[slot].key) else { return };
        let host = self.checks[slot].key.0;
        if self.calm_at(rule, slot).is_some_and(|at| at <= now) {
            let state = &mut self.checks[slot].state;
            state.calm();
            if state.problem.is_some() && state.is_recovered(rule) {
                self.resolve(rules, slot, now, outcome);
            }
        }
        if self.stale_at(rule, slot).is_some_and(|at| at <= now) && self.is_heard(rules, rule, slot) {
            self.checks[slot].state.go_stale(rule, host, now);
            self.opened(rules, slot, now, outcome);
        }
        if let Some(at) = self.rise_at(rule, slot)
            && at <= now
            && let Some(problem) = &mut self.checks[slot].state.problem
        {
            let before = problem.severity;
            problem.severity = rule.raised(before, problem.status);
            problem.raised = problem.raised.saturating_add(1);
            if problem.severity != before {
                problem.steps += 1;
                let status = problem.status;
                self.worse(rules, slot, status, now, outcome);
            }
        }
        self.judge(rules, slot, now, outcome);
        self.gathered(slot, now, outcome);
        if !self.checks[slot].state.over.is_empty() {
            let (host, check) = self.checks[slot].key.clone();
            self.left(host, &check, outcome);
        }
    }

    /// A check that went quiet is a problem of its own only while its agent
    /// talks of others; else it is the agent's silence.
    fn is_heard(&self, rules: &Rules, rule: &Rule, slot: Slot) -> bool {
        let Check { key, heard_at, .. } = &self.checks[slot];
        rule.runs_on == RunsOn::Coordinator
            || (self.down(rules, key.0).is_none() && self.seen.get(&key.0).is_some_and(|seen| *seen > *heard_at))
    }

    /// When the check is next looked at without an event.
    fn plan(&mut self, rules: &Rules, slot: Slot, now: Timestamp) {
        let Some(rule) = rules.of(&self.checks[slot].key) else { return };
        let waits = match self.checks[slot].state.problem.as_ref().and_then(|problem| problem.hidden.as_ref()) {
            Some(Hidden::Waits { until, .. }) => Some(*until),
            _ => None,
        };
        // A check of a silent agent is looked at again after a while.
        let stale = self.stale_at(rule, slot).map(|at| if at <= now { now.plus_ms(rules.hold_ms) } else { at });
        let grew = self.gather_at(slot);
        let due = [waits, stale, self.rise_at(rule, slot), self.calm_at(rule, slot), grew].into_iter().flatten().min();
        let check = &mut self.checks[slot];
        if let Some(due) = due
            && check.due.is_none_or(|at| due < at)
        {
            check.due = Some(due);
            self.agenda.push(Reverse((due, slot)));
        }
    }

    fn stale_at(&self, rule: &Rule, slot: Slot) -> Option<Timestamp> {
        let check = &self.checks[slot];
        // What is not configured is missed by nobody.
        let is_spared = check.state.last.as_ref().is_none_or(|last| last.cause.is_some());
        (check.state.problem.is_none() && !is_spared).then_some(check.heard_at.plus_ms(rule.stale_ms?))
    }

    fn calm_at(&self, rule: &Rule, slot: Slot) -> Option<Timestamp> {
        let state = &self.checks[slot].state;
        state.flapping.then(|| state.changed_at.map(|at| at.plus_ms(rule.calm_ms))).flatten()
    }

    fn rise_at(&self, rule: &Rule, slot: Slot) -> Option<Timestamp> {
        let problem = self.checks[slot].state.problem.as_ref()?;
        if problem.acknowledged || problem.raised > 0 || problem.hidden.as_ref().is_some_and(Hidden::is_suppressed) {
            return None;
        }
        Some(problem.opened_at?.plus_ms(rule.rise_ms?))
    }

    fn effect(
        &self,
        slot: Slot,
        transition: Transition,
        before: Option<Status>,
        tell: Option<Tell>,
        outcome: &mut Outcome,
    ) {
        if let Some(problem) = &self.checks[slot].state.problem {
            outcome.effects.extend(self.effect_of(slot, transition, problem, before, tell));
        }
    }

    fn effect_of(
        &self,
        slot: Slot,
        transition: Transition,
        problem: &Problem,
        before: Option<Status>,
        tell: Option<Tell>,
    ) -> Option<Effect> {
        let Check { key, state, .. } = &self.checks[slot];
        let report: Report = state.last.clone()?;
        Some(Effect {
            key: key.clone(),
            episode: state.episode(),
            transition,
            severity: problem.severity,
            status: problem.status,
            report,
            before,
            since: problem.since,
            hidden: problem.hidden.clone(),
            stale: problem.stale,
            flapping: state.flapping,
            members: Vec::new(),
            tell,
        })
    }
}

#[cfg(test)]
mod tests;
