//! The running agent: one loop that owns everything and never blocks for long.

mod connection;
mod inventory;
mod link;
mod pace;
mod renewal;
mod telemetry;

use std::{collections::HashMap, sync::Arc, time::Duration};

use farol_pki::client_config_since;
use farol_protocol::{
    CheckId, Report, Status,
    frame::{ActionOutput, ChecksAssign},
    telemetry::Metrics,
};
use rustls::ClientConfig;
use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    inventory::{Found, Looked},
    link::Link,
    pace::Pace,
};
use crate::{
    Error,
    config::Config,
    inventory::{Looker, watch::Watch},
    journal::Journal,
    log,
    orders::{EffectEnded, Means, Orders},
    policy::Policy,
    probe::{Access, Prober, metrics::Sampler},
    schedule::Schedule,
    spool::Spool,
    state::{Clock, Connection, Identity, StateDir},
    systemd::{self, Watchdog},
};

/// What a running effect gets when the agent is asked to stop.
const EFFECT_WAIT: Duration = Duration::from_secs(10);
/// What its end may take after that: grace, kill, one commit.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// How long `run --once` tries.
const ONCE_WAIT: Duration = Duration::from_secs(60);
/// Chunks of output that may wait for the loop.
const OUTPUT_QUEUE: usize = 16;
/// How long `run --once` waits for a first assignment.
const ASSIGN_WAIT: Duration = Duration::from_secs(2);

/// Runs the agent until `shutdown`, or until its batch is delivered with
/// [`Config::once`].
///
/// # Errors
/// The host is not enrolled, its policy has a mistake, its files cannot be
/// used, or with [`Config::once`] the batch could not be delivered.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let state = StateDir::new(&config.state_dir);
    let identity = state.identity()?;
    log::set_agent(&identity.enrolment.host_id);
    if Policy::load(&config.policy)?.is_none() {
        tracing::warn!(
            path = %config.policy.display(),
            "there is no policy: the host is watched and every effect is refused"
        );
    }
    state.prepare()?;
    let _lock = state.lock()?;
    let mut agent = Agent::open(config, state, identity).await?;
    let end = agent.work(&shutdown).await;
    agent.close().await;
    end
}

struct Agent {
    config: Config,
    state: StateDir,
    identity: Identity,
    tls: Arc<ClientConfig>,
    clock: Option<Clock>,
    /// The coordinator did not accept it: the next thing is to ask for another.
    certificate_refused: bool,
    spool: Spool,
    journal: Arc<Journal>,
    orders: Orders,
    ended: mpsc::UnboundedReceiver<EffectEnded>,
    output: mpsc::Receiver<ActionOutput>,
    prober: Arc<Prober>,
    schedule: Schedule,
    assignment: Option<String>,
    probes: JoinSet<Report>,
    probed: HashMap<Id, CheckId>,
    sampling: Option<JoinHandle<(Sampler, Metrics)>>,
    sampler: Option<Sampler>,
    reports: Vec<Report>,
    told: HashMap<CheckId, Status>,
    looker: Looker,
    looking: Option<JoinHandle<Looked>>,
    watch: Watch,
    found: Option<Found>,
    link: Link,
    attempt: u32,
    connection: Option<Connection>,
    pruned: Option<Instant>,
    /// Whether live batches wait on the disk.
    behind: bool,
    pace: Pace,
    max_payload: u64,
}

impl Agent {
    async fn open(config: Config, state: StateDir, identity: Identity) -> Result<Self, Error> {
        let clock = state.clock();
        let tls = client_config_since(&identity.ca, &identity.cert, &identity.key, clock.map(Into::into))?;
        let journal = Arc::new(Journal::open(&state.journal()).await?);
        let spool = Spool::open(&state.spool(), config.spool_max_bytes).await?;
        let (sender, ended) = mpsc::unbounded_channel();
        let (chunks, output) = mpsc::channel(OUTPUT_QUEUE);
        let host_id = identity.enrolment.host_id.clone();
        let means = Means { files: state.files(), docker_socket: config.docker_socket.clone() };
        let mut orders = Orders::new(host_id, config.policy.clone(), means, Arc::clone(&journal), sender, chunks);
        orders.set_language(config.language.unwrap_or_default());
        orders.recover(journal.unfinished().await?);
        let prober = Prober::new(config.language.unwrap_or_default(), Access::NoPolicy)
            .with_docker_socket(&config.docker_socket);
        let prober = Arc::new(prober);
        let pace = Pace::new(config.backfill_per_second, Instant::now());
        // A simulated host is made of nothing.
        let watch = Watch::new(config.inventory_interval.filter(|_| !cfg!(farol_simulation)));
        let mut agent = Self {
            config,
            tls,
            clock,
            certificate_refused: false,
            spool,
            journal,
            orders,
            ended,
            output,
            prober,
            schedule: Schedule::default(),
            assignment: None,
            probes: JoinSet::new(),
            probed: HashMap::new(),
            sampling: None,
            sampler: Some(Sampler::new()),
            reports: Vec::new(),
            told: HashMap::new(),
            looker: Looker::default(),
            looking: None,
            watch,
            found: None,
            link: Link::Waiting(Instant::now()),
            attempt: 0,
            connection: None,
            pruned: None,
            behind: true,
            pace,
            max_payload: u64::MAX,
            identity,
            state,
        };
        match agent.state.assignment() {
            Ok(Some(assignment)) => agent.assign(assignment, false),
            Ok(None) => {}
            // The coordinator sends it again; the agent watches the host meanwhile.
            Err(error) => tracing::error!("the assigned checks are lost: {}", error.sentence()),
        }
        Ok(agent)
    }

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        // A moment later the CPU use since start can be told.
        let first = Instant::now() + self.config.interval.min(Duration::from_secs(1));
        let mut tick = interval_at(first, self.config.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut once = self.config.once.then(|| Once { give_up: Instant::now() + ONCE_WAIT, ready: None });
        if once.is_some() {
            self.orders.stop_taking();
            self.schedule.hurry(Instant::now());
        }
        let mut stopping: Option<Stopping> = None;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "the agent starts");
        systemd::ready();
        // Told from here alone, so that a loop that does not turn is noticed.
        let mut watchdog = Watchdog::from_environment(Instant::now());

        loop {
            if let Some(stop) = &stopping
                && stop.is_over(self.orders.is_busy())
            {
                return Ok(());
            }
            if let Some(once) = &mut once
                && let Some(end) = self.once(once).await
            {
                return end;
            }
            let now = Instant::now();
            watchdog.turn(now, !self.link.is_stuck(now));
            let due = self.schedule.next_due().filter(|_| stopping.is_none());
            let backfill = self.backfill_due().filter(|_| stopping.is_none());
            let look = self.look_due().filter(|_| stopping.is_none());
            let stop = stopping.as_ref().map(|stop| stop.until);
            let wake = [due, backfill, look, stop, once.as_ref().map(|once| once.next(now)), watchdog.due()];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                () = shutdown.cancelled(), if stopping.is_none() => {
                    tracing::info!("the agent stops");
                    systemd::stopping();
                    self.orders.stop_taking();
                    stopping = Some(Stopping { until: Instant::now() + EFFECT_WAIT, aborted: false });
                }
                event = self.link.next() => self.on_link(event).await,
                _ = tick.tick(), if stopping.is_none() && self.sampling.is_none() => self.start_sample(),
                sampled = finished(&mut self.sampling) => self.on_sample(sampled).await,
                looked = finished(&mut self.looking) => self.on_look(looked).await,
                Some(report) = self.probes.join_next_with_id() => self.on_report(report).await,
                Some(chunk) = self.output.recv() => self.on_output(chunk),
                Some(ended) = self.ended.recv() => self.on_effect_ended(ended),
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {
                    match &mut stopping {
                        Some(stop) if Instant::now() >= stop.until => {
                            tracing::warn!("the running action is ended because the agent stops");
                            self.orders.abort();
                            *stop = Stopping { until: Instant::now() + KILL_WAIT, aborted: true };
                        }
                        Some(_) => {}
                        None => {
                            self.start_checks();
                            self.start_look();
                            self.backfill().await;
                        }
                    }
                }
            }
        }
    }

    /// Keeps what is pending and says goodbye.
    async fn close(mut self) {
        self.probes.shutdown().await;
        if !self.reports.is_empty() {
            self.push(None).await;
        }
        self.note("stopped", None, None);
        self.note_sent();
        if let Link::Open(open) = std::mem::replace(&mut self.link, Link::Waiting(Instant::now())) {
            open.socket.go_away().await;
        }
        self.spool.close().await;
        drop(self.orders);
        if let Some(journal) = Arc::into_inner(self.journal) {
            journal.close().await;
        }
    }

    fn on_assign(&mut self, assignment: ChecksAssign) {
        if self.assignment.as_deref() == Some(assignment.version.as_str()) {
            return;
        }
        tracing::info!(version = assignment.version, checks = assignment.checks.len(), "checks are assigned");
        if let Err(error) = self.state.save_assignment(&assignment) {
            // They run all the same, and are asked for again after a restart.
            tracing::error!("{}", error.sentence());
        }
        self.assign(assignment, self.config.once);
    }

    fn assign(&mut self, assignment: ChecksAssign, at_once: bool) {
        let now = Instant::now();
        self.schedule.assign(&self.identity.enrolment.host_id, &assignment.checks, now);
        if at_once {
            self.schedule.hurry(now);
        }
        self.told.retain(|check, _| assignment.checks.iter().any(|spec| spec.id == *check));
        let language = self.config.language.unwrap_or(assignment.language);
        self.prober.set_language(language);
        self.orders.set_language(language);
        self.assignment = Some(assignment.version);
    }

    /// The end of `run --once`, when it is reached.
    async fn once(&mut self, once: &mut Once) -> Option<Result<(), Error>> {
        let now = Instant::now();
        if self.link.ready().is_some() {
            once.ready.get_or_insert(now);
        }
        let settled = once.ready.is_some_and(|at| self.assignment.is_some() || now >= at + ASSIGN_WAIT);
        let looked = self.looking.is_none() && self.look_due().is_none_or(|due| due > now);
        if settled && looked && self.has_sampled() && !self.schedule.is_busy(now) && self.probes.is_empty() {
            self.push(None).await;
            if self.spool.is_drained() {
                return Some(Ok(()));
            }
        }
        (now >= once.give_up).then_some(Err(Error::NotDelivered { seconds: ONCE_WAIT.as_secs() }))
    }

    fn has_sampled(&self) -> bool {
        self.sampler.as_ref().is_some_and(Sampler::has_sampled)
    }
}

struct Once {
    give_up: Instant,
    ready: Option<Instant>,
}

impl Once {
    fn next(&self, now: Instant) -> Instant {
        let assigned = self.ready.map(|at| at + ASSIGN_WAIT).filter(|at| *at > now);
        assigned.unwrap_or(self.give_up)
    }
}

struct Stopping {
    until: Instant,
    aborted: bool,
}

impl Stopping {
    fn is_over(&self, busy: bool) -> bool {
        !busy || (self.aborted && Instant::now() >= self.until)
    }
}

async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod renewal_tests;
#[cfg(test)]
mod tests;
