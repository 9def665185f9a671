//! When each check is due: pure, with time and chance as arguments.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use farol_protocol::{
    CheckId, Timestamp,
    registry::{Registry, RunsOn, Scenario, Target},
};

/// A start spreads the first runs over this, and over more where there are many.
const SPREAD_MS: i64 = 5_000;
/// First runs that begin within a second.
const STARTS_PER_SECOND: i64 = 200;

/// When each check of the coordinator is due. A check that is due runs once,
/// whoever asks how often, and never beside itself.
#[derive(Debug, Default)]
pub struct Schedule {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    checks: HashMap<CheckId, Entry>,
    queue: BTreeSet<(Timestamp, CheckId)>,
    /// What runs, whatever the registry says meanwhile.
    running: HashSet<CheckId>,
}

#[derive(Debug)]
struct Entry {
    scenario: String,
    every_ms: i64,
    due: Timestamp,
}

/// Checks whose reports are made here: those that run here, and those of
/// agents that lack a variable and could not be assigned.
fn here(registry: &Registry) -> impl Iterator<Item = (&Scenario, &CheckId, i64)> {
    registry.scenarios.iter().flat_map(|scenario| {
        let own =
            move |target: &Target| scenario.runs_on == RunsOn::Coordinator || matches!(target, Target::Missing { .. });
        scenario.checks.iter().filter(move |check| own(&check.target)).map(move |check| {
            let every = i64::try_from(check.target.every_ms()).unwrap_or(i64::MAX / 4);
            (scenario, &check.id, every)
        })
    })
}

impl Schedule {
    /// Spreads the first runs. `random` gives numbers from 0 to 1.
    #[must_use]
    pub fn new(registry: &Registry, now: Timestamp, random: impl FnMut() -> f64) -> Self {
        let schedule = Self::default();
        schedule.update(registry, now, random);
        schedule
    }

    /// Takes another registry: a check that it had before at the same interval
    /// keeps its time, what is new begins soon, what is gone ends.
    pub fn update(&self, registry: &Registry, now: Timestamp, mut random: impl FnMut() -> f64) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.checks);
        state.queue.clear();
        let count = i64::try_from(here(registry).count()).unwrap_or(i64::MAX);
        let spread = SPREAD_MS.max(count.saturating_mul(1000) / STARTS_PER_SECOND);
        for (scenario, id, every_ms) in here(registry) {
            let known = before.remove(id).filter(|known| known.every_ms == every_ms);
            let entry = known.unwrap_or_else(|| Entry {
                scenario: String::new(),
                every_ms,
                due: now.plus_ms(part(spread.min(every_ms), random())),
            });
            state.queue.insert((entry.due, id.clone()));
            state.checks.insert(id.clone(), Entry { scenario: scenario.id.clone(), ..entry });
        }
    }

    /// How many scenarios have a check that is due, without taking any.
    #[must_use]
    pub fn count(&self, now: Timestamp) -> usize {
        let state = self.lock();
        let due = state.queue.iter().take_while(|(due, _)| *due <= now);
        due.filter_map(|(_, id)| state.checks.get(id)).map(|entry| &entry.scenario).collect::<HashSet<_>>().len()
    }

    /// When the next check is due.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.lock().queue.first().map(|(due, _)| *due)
    }

    /// Takes what is due. What still runs misses its turn: it answers second.
    pub fn take_due(&self, now: Timestamp) -> (Vec<CheckId>, usize) {
        let mut state = self.lock();
        let (mut taken, mut missed) = (Vec::new(), 0);
        while let Some((due, id)) = state.queue.first().cloned()
            && due <= now
        {
            state.queue.remove(&(due, id.clone()));
            let Some(entry) = state.checks.get_mut(&id) else { continue };
            entry.due = after(due, entry.every_ms, now);
            let next = entry.due;
            if state.running.insert(id.clone()) {
                taken.push(id.clone());
            } else {
                missed += 1;
            }
            state.queue.insert((next, id));
        }
        (taken, missed)
    }

    /// Takes every check of a scenario because a person asks, but for those that
    /// run already and answer soon; none while all of them run.
    pub fn take_scenario(&self, scenario: &str, now: Timestamp) -> Option<Vec<CheckId>> {
        let mut state = self.lock();
        let all: Vec<CheckId> =
            state.checks.iter().filter(|(_, entry)| entry.scenario == scenario).map(|(id, _)| id.clone()).collect();
        let some = !all.is_empty();
        let ids: Vec<CheckId> = all.into_iter().filter(|id| !state.running.contains(id)).collect();
        if some && ids.is_empty() {
            return None;
        }
        for id in &ids {
            let Some(entry) = state.checks.get_mut(id) else { continue };
            let old = entry.due;
            entry.due = now.plus_ms(entry.every_ms);
            let new = entry.due;
            state.queue.remove(&(old, id.clone()));
            state.queue.insert((new, id.clone()));
            state.running.insert(id.clone());
        }
        Some(ids)
    }

    /// A check has ended.
    pub fn done(&self, id: &CheckId) {
        self.lock().running.remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first time after `now` in the steps of `every_ms` from `due`: a check
/// keeps its place among the others.
fn after(due: Timestamp, every_ms: i64, now: Timestamp) -> Timestamp {
    let every = every_ms.max(1);
    let steps = now.since(due).max(0) / every + 1;
    due.plus_ms(steps.saturating_mul(every))
}

#[expect(clippy::cast_possible_truncation, reason = "at most the length of an interval")]
#[expect(clippy::cast_precision_loss, reason = "at most the length of an interval")]
fn part(whole: i64, random: f64) -> i64 {
    (whole as f64 * random) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(checks: &[(&str, &str)]) -> Registry {
        let scenarios: Vec<String> = checks
            .iter()
            .map(|(id, every)| {
                format!(
                    "{{id: {id}, title: S, persona: A1, severity: low, hosts: [a], every: {every}, \
                     checks: [{{name: x, probe: {{tcp: {{address: 'a:1'}}}}}}, {{name: y, probe: {{tcp: {{address: 'a:2'}}}}}}]}}"
                )
            })
            .collect();
        let text = format!("version: 1\nhosts: [{{name: a}}]\nscenarios: [{}]\n", scenarios.join(", "));
        Registry::parse(&text, &|_| None).expect("valid")
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn names(ids: &[CheckId]) -> Vec<&str> {
        let mut names: Vec<&str> = ids.iter().map(CheckId::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_due_runs_once_and_never_beside_itself() {
        let mut turns = [0.5, 0.75].into_iter().cycle();
        let schedule = Schedule::new(&registry(&[("s", "10s")]), at(0), || turns.next().unwrap_or_default());
        assert_eq!(schedule.next(), Some(at(2_500)));
        assert_eq!(schedule.count(at(2_499)), 0);
        assert_eq!(schedule.count(at(4_000)), 1, "two checks of one scenario");
        let (taken, missed) = schedule.take_due(at(2_500));
        assert_eq!((names(&taken), missed), (vec!["s/x"], 0));
        assert_eq!(schedule.take_due(at(2_600)).0, [], "a tick finds it taken");
        assert_eq!(schedule.take_due(at(3_750)).0.len(), 1);
        assert_eq!(schedule.take_due(at(13_800)), (Vec::new(), 2), "both still run");
        for id in ["s/x", "s/y"] {
            schedule.done(&id.parse().expect("an id"));
        }
        // It kept its place: 2.5 s, 12.5 s, 22.5 s.
        assert_eq!(schedule.next(), Some(at(22_500)));
    }

    #[test]
    fn what_runs_is_not_begun_again_because_its_interval_changed() {
        let schedule = Schedule::new(&registry(&[("s", "1m")]), at(0), || 0.0);
        assert_eq!(schedule.take_due(at(0)).0.len(), 2);
        schedule.update(&registry(&[]), at(10), || 0.0);
        schedule.update(&registry(&[("s", "2m")]), at(20), || 0.0);
        assert_eq!(schedule.take_due(at(20)), (Vec::new(), 2));
        schedule.done(&"s/x".parse().expect("an id"));
        assert_eq!(names(&schedule.take_scenario("s", at(30)).expect("one is idle")), ["s/x"]);
    }

    #[test]
    fn a_person_runs_a_whole_scenario_unless_it_runs() {
        let schedule = Schedule::new(&registry(&[("s", "1m"), ("t", "1m")]), at(0), || 0.0);
        let taken = schedule.take_scenario("s", at(0)).expect("nothing runs");
        assert_eq!(names(&taken), ["s/x", "s/y"]);
        assert_eq!(schedule.take_scenario("s", at(1)), None);
        assert_eq!(names(&schedule.take_due(at(1)).0), ["t/x", "t/y"]);
        for id in taken {
            schedule.done(&id);
        }
        assert!(schedule.take_scenario("s", at(2)).is_some());
    }

    #[test]
    fn another_registry_keeps_the_times_of_what_stays() {
        let schedule = Schedule::new(&registry(&[("s", "1m"), ("gone", "1m")]), at(0), || 0.5);
        schedule.take_due(at(2_500));
        schedule.update(&registry(&[("s", "1m"), ("new", "2m")]), at(10_000), || 1.0);
        assert_eq!(schedule.next(), Some(at(15_000)), "the new one");
        let (taken, missed) = schedule.take_due(at(62_500));
        assert_eq!((names(&taken), missed), (vec!["new/x", "new/y"], 2), "what ran still runs");
    }

    #[test]
    fn many_checks_begin_over_a_longer_time() {
        let many: Vec<(String, &str)> = (0..2_000).map(|n| (format!("s{n}"), "5m")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(id, every)| (id.as_str(), *every)).collect();
        let mut turn = 0.0;
        let schedule = Schedule::new(&registry(&many), at(0), || {
            turn += 1.0 / 4_000.0;
            turn
        });
        let first = schedule.take_due(at(1_000)).0.len();
        assert!((100..=300).contains(&first), "{first}");
    }
}
