//! T0: the checks that run on the coordinator, when they are due or asked for.

pub(crate) mod seen;
pub(crate) mod system;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use farol_agent::probe::{Access, Prober};
use farol_protocol::{
    Report, Status, Timestamp,
    registry::{Registry, RunsOn, Scenario, Target},
    report::UnknownCause,
};
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{App, Shared},
    error::Result,
    events::Noun,
    store::bulk::Bulk,
    text::Message,
};

/// Checks at once.
const AT_ONCE: usize = 32;
/// A start spreads its first runs over this.
const SPREAD_MS: i64 = 5_000;

/// When each scenario is due. A scenario that is due runs once, whoever asks
/// how often: timer, tick and timer again.
#[derive(Debug, Default)]
pub struct Schedule {
    due: Mutex<HashMap<String, Timestamp>>,
    running: Mutex<HashSet<String>>,
}

impl Schedule {
    /// Spreads the first runs.
    #[must_use]
    pub fn new(registry: &Registry, now: Timestamp, mut random: impl FnMut() -> f64) -> Self {
        let due = here(registry)
            .map(|scenario| {
                #[expect(clippy::cast_possible_truncation, reason = "a few thousand milliseconds")]
                let offset = (random() * SPREAD_MS.min(every(scenario)) as f64) as i64;
                (scenario.id.clone(), now.plus_ms(offset))
            })
            .collect();
        Self { due: Mutex::new(due), running: Mutex::default() }
    }

    /// Scenarios that are due, without taking them.
    fn count(&self, now: Timestamp) -> usize {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|due| **due <= now).count()
    }

    /// Takes a scenario if it is due, or in any case if a person asks, and
    /// unless it runs.
    fn take(&self, scenario: &Scenario, now: Timestamp, asked: bool) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = due.get(&scenario.id).is_some_and(|due| *due <= now);
        if !(is_due || asked) || running.contains(&scenario.id) {
            return false;
        }
        running.insert(scenario.id.clone());
        due.insert(scenario.id.clone(), now.plus_ms(every(scenario)));
        true
    }

    fn done(&self, scenario: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(scenario);
    }
}

/// Scenarios whose reports are made here: those that run here, and those of
/// agents that lack a variable and could not be assigned.
fn here(registry: &Registry) -> impl Iterator<Item = &Scenario> {
    registry.scenarios.iter().filter(|scenario| {
        scenario.runs_on == RunsOn::Coordinator
            || scenario.checks.iter().any(|check| matches!(check.target, Target::Missing { .. }))
    })
}

fn every(scenario: &Scenario) -> i64 {
    let shortest = scenario.checks.iter().map(|check| check.target.every_ms());
    i64::try_from(shortest.min().unwrap_or(300_000)).unwrap_or(i64::MAX)
}

/// Wakes the scheduler; answers how many scenarios are due.
#[must_use]
pub fn tick(app: &Shared, now: Timestamp) -> usize {
    let queued = app.schedule.count(now);
    app.wake.checks.notify_one();
    queued
}

/// Runs what is due until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let runner =
        Arc::new(Runner { prober: Prober::new(app.language(), Access::All), slots: Semaphore::new(AT_ONCE), app });
    let mut timer = tokio::time::interval(Duration::from_secs(1));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = runner.app.wake.checks.notified() => {}
            _ = timer.tick() => {}
        }
        if let Err(error) = pass(&runner, &tracker).await {
            tracing::warn!(job = "checks", "a pass failed, the next one tries again: {error}");
        }
    }
    tracker.close();
    tracker.wait().await;
}

async fn pass(runner: &Arc<Runner>, tracker: &TaskTracker) -> Result<()> {
    let now = Timestamp::now();
    let asked = runner.app.store.queued_runs().await?;
    for scenario in here(&runner.app.registry) {
        let runs: Vec<String> =
            asked.iter().filter(|run| run.scenario == scenario.id).map(|run| run.id.clone()).collect();
        if !runner.app.schedule.take(scenario, now, !runs.is_empty()) {
            continue;
        }
        let (runner, id) = (Arc::clone(runner), scenario.id.clone());
        tracker.spawn(async move { runner.scenario(&id, runs).await });
    }
    Ok(())
}

struct Runner {
    app: App,
    prober: Prober,
    slots: Semaphore,
}

impl Runner {
    async fn scenario(&self, id: &str, runs: Vec<String>) {
        if let Some(scenario) = self.app.registry.scenarios.iter().find(|scenario| scenario.id == id) {
            let checks = scenario.checks.iter().map(|check| self.check(scenario, &check.id, &check.target));
            let reports: Vec<Report> = futures_util::future::join_all(checks).await.into_iter().flatten().collect();
            let hosts: Vec<_> = match &scenario.hosts {
                Some(names) => names.iter().filter_map(|name| self.app.hosts.get(name)).collect(),
                None => self.app.hosts.values().collect(),
            };
            for host in hosts {
                let item = Bulk::Own { host: *host, reports: reports.clone(), at: Timestamp::now() };
                if self.app.bulk.send(item).await.is_err() {
                    break;
                }
            }
            self.app.events.publish(Noun::Scenario, id, "done");
        }
        self.app.schedule.done(id);
        for run in runs {
            if let Err(error) = self.app.store.finish_run(&run, Timestamp::now()).await {
                tracing::warn!(run, "a run could not be closed, it will run again: {error}");
            }
        }
    }

    async fn check(&self, scenario: &Scenario, id: &farol_protocol::CheckId, target: &Target) -> Option<Report> {
        match target {
            Target::Ready(spec) if scenario.runs_on == RunsOn::Coordinator => {
                let _slot = self.slots.acquire().await.ok()?;
                Some(self.prober.run(spec, Timestamp::now()).await)
            }
            Target::Ready(_) | Target::System(_) => None,
            Target::Missing { variable, .. } => Some(Report {
                check: id.clone(),
                status: Status::Unknown,
                value: None,
                unit: None,
                text: Message::NotConfigured { scenario: &scenario.id, variable }.in_words(self.app.language()),
                observed_at: Timestamp::now(),
                cause: Some(UnknownCause::NotConfigured),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_runs_once_and_not_beside_itself() {
        let registry = Registry::parse(
            "version: 1\nhosts: [{name: a}]\nscenarios: [{id: s, title: S, persona: A1, severity: low, hosts: [a], \
             every: 10s, checks: [{name: c, probe: {tcp: {address: 'a:1'}}}]}]\n",
            &|_| None,
        )
        .expect("valid");
        let scenario = &registry.scenarios[0];
        let at = Timestamp::from_ms;
        let schedule = Schedule::new(&registry, at(0), || 0.5);
        assert_eq!(schedule.count(at(2_499)), 0);
        assert!(!schedule.take(scenario, at(2_499), false));
        assert_eq!(schedule.count(at(2_500)), 1);
        assert!(schedule.take(scenario, at(2_500), false));
        assert_eq!(schedule.count(at(2_600)), 0, "a tick finds it taken");
        assert!(!schedule.take(scenario, at(50_000), true), "it still runs");
        schedule.done("s");
        assert!(schedule.take(scenario, at(12_500), false));
        schedule.done("s");
        assert!(!schedule.take(scenario, at(12_600), false));
        assert!(schedule.take(scenario, at(12_600), true), "a person asked");
    }
}
