//! T0: the checks that run on the coordinator, when they are due or asked for.
//!
//! A check waits for its target's turn before it takes one of the places that
//! all share, so a target that hangs holds up its own checks and no other.

mod by_hand;
mod schedule;
pub(crate) mod seen;
pub(crate) mod system;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use farol_agent::probe::{Access, Prober};
use farol_protocol::{
    CheckId, Language, Report, Status, Timestamp,
    registry::{Check, RunsOn, Scenario, Target},
    report::{Probe, UnknownCause},
    system::SystemSpec,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{by_hand::ByHand, schedule::Schedule};
use self::{
    seen::{MAX_TEXT, Seen},
    system::Asking,
};
use crate::{
    app::{App, Shared},
    error::Result,
    events::Noun,
    integrations::{Connection, http::Clients},
    store::bulk::Bulk,
    text::{Message, plain},
    watched::Watched,
};

/// Checks at once.
const AT_ONCE: usize = 512;
/// Checks of one target at once, where its kind says nothing else.
const AT_ONCE_PER_TARGET: usize = 4;
/// Longest sleep: so late is noticed what a person asked for while nobody was
/// woken, and that the clock jumped.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Shortest one: what is due within it begins together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

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
    let runner = Arc::new(Runner {
        looker: Looker::new(app.language()),
        slots: Semaphore::new(AT_ONCE),
        targets: Mutex::default(),
        app,
    });
    let mut replaced = runner.app.watching.subscribe();
    let mut asked_at: Option<Instant> = None;
    loop {
        let now = Timestamp::now();
        let until = runner.app.schedule.next().map_or(LONGEST_SLEEP, |next| {
            Duration::from_millis(u64::try_from(next.since(now)).unwrap_or(0)).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
        });
        tokio::select! {
            () = stop.cancelled() => break,
            () = runner.app.wake.checks.notified() => asked_at = None,
            // The sender lives as long as the app.
            Ok(()) = replaced.changed() => {
                let watched = replaced.borrow_and_update().clone();
                runner.app.schedule.update(&watched.registry, Timestamp::now(), fastrand::f64);
                runner.looker.prober.set_language(watched.registry.language);
                runner.forget_targets();
            }
            () = tokio::time::sleep(until) => {}
        }
        start_due(&runner, &tracker);
        if asked_at.is_none_or(|at| at.elapsed() >= LONGEST_SLEEP) {
            asked_at = Some(Instant::now());
            if let Err(error) = start_asked(&runner, &tracker).await {
                tracing::warn!(job = "checks", "what people asked for waits, the next pass looks again: {error}");
            }
        }
    }
    tracker.close();
    tracker.wait().await;
}

/// What people asked for.
async fn start_asked(runner: &Arc<Runner>, tracker: &TaskTracker) -> Result<()> {
    let mut asked: HashMap<String, Vec<String>> = HashMap::new();
    for run in runner.app.store.queued_runs().await? {
        asked.entry(run.scenario).or_default().push(run.id);
    }
    for (scenario, runs) in asked {
        if let Some(checks) = runner.app.schedule.take_scenario(&scenario, Timestamp::now()) {
            let (runner, watched) = (Arc::clone(runner), runner.app.watched());
            tracker.spawn(async move { runner.scenario(&watched, &scenario, &checks, runs).await });
        }
    }
    Ok(())
}

fn start_due(runner: &Arc<Runner>, tracker: &TaskTracker) {
    let (due, missed) = runner.app.schedule.take_due(Timestamp::now());
    if missed > 0 {
        tracing::warn!(missed, "checks were due again before they had ended; give them a longer interval");
    }
    if due.is_empty() {
        return;
    }
    let watched = runner.app.watched();
    for id in due {
        let (runner, watched) = (Arc::clone(runner), Arc::clone(&watched));
        tracker.spawn(async move {
            if let Some((scenario, check)) = watched.check(&id) {
                runner.check(&watched, scenario, check).await;
                runner.app.events.publish(Noun::Scenario, &scenario.id, "done");
            }
            runner.app.schedule.done(&id);
        });
    }
}

struct Runner {
    app: App,
    looker: Looker,
    slots: Semaphore,
    targets: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Runner {
    /// Everything of a scenario, for those who asked.
    async fn scenario(&self, watched: &Watched, id: &str, checks: &[CheckId], runs: Vec<String>) {
        let looks = checks.iter().filter_map(|check| watched.check(check));
        futures_util::future::join_all(looks.map(|(scenario, check)| self.check(watched, scenario, check))).await;
        for check in checks {
            self.app.schedule.done(check);
        }
        self.app.events.publish(Noun::Scenario, id, "done");
        for run in runs {
            if let Err(error) = self.app.store.finish_run(&run, Timestamp::now()).await {
                tracing::warn!(run, "a run could not be closed, it will run again: {error}");
            }
        }
    }

    /// One check; its report is on its way as soon as it is there.
    async fn check(&self, watched: &Watched, scenario: &Scenario, check: &Check) {
        let Some(report) = self.look(watched, scenario, check).await else { return };
        let hosts: Vec<_> = match &scenario.hosts {
            Some(names) => names.iter().filter_map(|name| watched.hosts.get(name)).collect(),
            None => watched.hosts.values().collect(),
        };
        for host in hosts {
            let item = Bulk::Own { host: *host, reports: vec![report.clone()], at: Timestamp::now() };
            if self.app.bulk.send(item).await.is_err() {
                break;
            }
        }
    }

    async fn look(&self, watched: &Watched, scenario: &Scenario, check: &Check) -> Option<Report> {
        let language = watched.registry.language;
        match &check.target {
            Target::Ready(spec) if scenario.runs_on == RunsOn::Coordinator => {
                let _turn = self.turn(target(&spec.probe), AT_ONCE_PER_TARGET).await;
                let _slot = self.slots.acquire().await.ok()?;
                Some(self.looker.prober.run(spec, Timestamp::now()).await)
            }
            Target::Ready(_) => None,
            Target::System(spec) => {
                let connection = self.app.integrations.for_probe(&spec.probe);
                let at_once = connection.as_ref().map_or(AT_ONCE_PER_TARGET, |there| there.kind.at_once());
                let _turn = self.turn(spec.probe.target().map(str::to_owned), at_once).await;
                let _slot = self.slots.acquire().await.ok()?;
                let (seen, report) = self.looker.ask(language, spec, connection.as_deref()).await;
                if let Some(connection) = connection {
                    self.app.integrations.note(&self.app.store, &connection, &seen, Timestamp::now()).await;
                }
                Some(report)
            }
            Target::Missing { variable, .. } => Some(missing(language, scenario, &check.id, variable)),
        }
    }

    /// Waits for one's turn at a target.
    async fn turn(&self, target: Option<String>, at_once: usize) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let turns = {
            let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(targets.entry(target?).or_insert_with(|| Arc::new(Semaphore::new(at_once))))
        };
        turns.acquire_owned().await.ok()
    }

    /// Forgets targets that nobody asks at the moment.
    fn forget_targets(&self) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, turns| Arc::strong_count(turns) > 1);
    }
}

/// What looks, here and on the command line.
struct Looker {
    prober: Prober,
    clients: Clients,
}

impl Looker {
    fn new(language: Language) -> Self {
        Self { prober: Prober::new(language, Access::All), clients: Clients::default() }
    }

    async fn ask(&self, language: Language, spec: &SystemSpec, connection: Option<&Connection>) -> (Seen, Report) {
        let now = Timestamp::now();
        let limit = Duration::from_millis(spec.timeout_ms);
        let seen = system::ask(&Asking { language, limit, now, clients: &self.clients }, &spec.probe, connection).await;
        let report = Report {
            check: spec.id.clone(),
            status: seen.status,
            value: seen.value.filter(|value| value.is_finite()),
            unit: seen.value.and(seen.unit.clone()),
            text: plain(&seen.text, MAX_TEXT),
            observed_at: now,
            cause: seen.cause,
        };
        (seen, report)
    }
}

fn missing(language: Language, scenario: &Scenario, id: &CheckId, variable: &str) -> Report {
    Report {
        check: id.clone(),
        status: Status::Unknown,
        value: None,
        unit: None,
        text: Message::NotConfigured { scenario: &scenario.id, variable }.in_words(language),
        observed_at: Timestamp::now(),
        cause: Some(UnknownCause::NotConfigured),
    }
}

/// What a probe that an agent could run asks.
fn target(probe: &Probe) -> Option<String> {
    match probe {
        Probe::Http(http) => {
            let url = reqwest::Url::parse(&http.url).ok()?;
            Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
        }
        Probe::Tcp(tcp) => Some(tcp.address.clone()),
        Probe::Sqlite(sqlite) => Some(sqlite.path.clone()),
        _ => None,
    }
}
