//! T0: the checks that run on the coordinator, when they are due or asked for.
//!
//! A check waits for its target's turn before it takes one of the places that
//! all share, so a target that hangs holds up its own checks and no other.

mod by_hand;
mod saving;
mod schedule;
pub(crate) mod seen;
pub(crate) mod system;
mod told;

use std::{
    collections::HashMap,
    sync::Arc,
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
pub(crate) use self::{saving::forget as forget_backups, told::forget as forget_told};
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
    text::{Message, plain, say},
    watched::Watched,
};

/// Checks at once.
const AT_ONCE: usize = 512;
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
    let runner = Arc::new(Runner { looker: Looker::new(app.language()), slots: Semaphore::new(AT_ONCE), app });
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
            let _running = Running { schedule: &runner.app.schedule, id: &id };
            if let Some((scenario, check)) = watched.check(&id) {
                runner.check(&watched, scenario, check).await;
                runner.app.events.publish(Noun::Scenario, &scenario.id, "done");
            }
        });
    }
}

struct Runner {
    app: App,
    looker: Looker,
    slots: Semaphore,
}

/// A check that runs, until it ends in whatever way.
struct Running<'a> {
    schedule: &'a Schedule,
    id: &'a CheckId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.schedule.done(self.id);
    }
}

impl Runner {
    /// Everything of a scenario, for those who asked.
    async fn scenario(&self, watched: &Watched, id: &str, checks: &[CheckId], runs: Vec<String>) {
        let looks = checks.iter().map(async |id| {
            let _running = Running { schedule: &self.app.schedule, id };
            if let Some((scenario, check)) = watched.check(id) {
                self.check(watched, scenario, check).await;
            }
        });
        futures_util::future::join_all(looks).await;
        if self.app.stop.is_cancelled() {
            // It is still asked for at the next start.
            return;
        }
        self.app.events.publish(Noun::Scenario, id, "done");
        for run in runs {
            if let Err(error) = self.app.store.finish_run(&run, Timestamp::now()).await {
                tracing::warn!(run, "a run could not be closed, it will run again: {error}");
            }
        }
    }

    /// One check; its report is on its way as soon as it is there. At a stop
    /// nobody waits for a system that takes its time.
    async fn check(&self, watched: &Watched, scenario: &Scenario, check: &Check) {
        let looked = tokio::select! {
            looked = self.look(watched, scenario, check) => looked,
            () = self.app.stop.cancelled() => None,
        };
        let Some((report, seen)) = looked else { return };
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
        if let (Target::System(spec), Some(seen)) = (&check.target, seen) {
            tokio::select! {
                () = async {
                    self.note_backups(watched, scenario, spec, &seen).await;
                    self.tell(watched, scenario, spec, seen).await;
                } => {}
                () = self.app.stop.cancelled() => {}
            }
        }
    }

    /// The report, and what was seen of a system.
    async fn look(&self, watched: &Watched, scenario: &Scenario, check: &Check) -> Option<(Report, Option<Seen>)> {
        let language = watched.registry.language;
        match &check.target {
            Target::Ready(spec) if scenario.runs_on == RunsOn::Coordinator => {
                let _turn = self.app.integrations.turn(target(&spec.probe).as_deref(), system::AT_ONCE).await;
                let _slot = self.slots.acquire().await.ok()?;
                Some((self.looker.prober.run(spec, Timestamp::now()).await, None))
            }
            Target::Ready(_) => None,
            Target::System(spec) => {
                let integrations = &self.app.integrations;
                let _turn = integrations.turn(spec.probe.target(), system::at_once(&spec.probe)).await;
                let _slot = self.slots.acquire().await.ok()?;
                // Now, and not before the wait: it may have changed meanwhile.
                let connection = integrations.for_probe(&spec.probe);
                let (seen, report) =
                    self.looker.ask(integrations.clients(), language, spec, connection.as_deref()).await;
                if let Some(connection) = connection {
                    integrations.note(&self.app.store, &connection, &seen, Timestamp::now()).await;
                }
                Some((report, Some(seen)))
            }
            Target::Missing { variable, .. } => Some((missing(language, scenario, &check.id, variable), None)),
        }
    }
}

/// What looks, here and on the command line.
struct Looker {
    prober: Prober,
}

impl Looker {
    fn new(language: Language) -> Self {
        Self { prober: Prober::new(language, Access::All) }
    }

    async fn ask(
        &self,
        clients: &Clients,
        language: Language,
        spec: &SystemSpec,
        connection: Option<&Connection>,
    ) -> (Seen, Report) {
        let now = Timestamp::now();
        let limit = Duration::from_millis(spec.timeout_ms);
        let seen = match connection.filter(|there| there.is_locked) {
            // A person has to do something, and would not learn of it otherwise.
            Some(Connection { name, .. }) => Seen::unknown(say!(
                language,
                "o segredo da integração `{name}` não abre com o secrets.key desta instalação; informe-o de novo com \
                 `farol integration set {name} --secret-file -`",
                "the secret of the integration `{name}` does not open with this installation's secrets.key; enter it \
                 again with `farol integration set {name} --secret-file -`"
            )),
            None => system::ask(&Asking { language, limit, now, clients }, &spec.probe, connection).await,
        };
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
