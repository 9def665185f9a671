//! Feeds the correlator what is committed and writes its effects.
//!
//! Effects and the states that made them are one transaction. States that made
//! none are saved now and then, with a cursor below which all are saved; after
//! a crash the reports above it are fed again, and each state knows which of
//! them it has seen.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use farol_protocol::Timestamp;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Decide, Input},
    correlate::{CheckKey, Correlator, Effect, Event, Outcome, Transition},
    error::Result,
    events::Noun,
    inbox::{self, ByPerson},
    store::{bulk::Committed, correlation::Change, findings::Decision},
    topology::drawn,
};

/// How often states without effects are saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Reports read at once while catching up.
const REPLAY: i64 = 1000;
/// How often time alone is looked at: what waits ends, what is late is noticed.
const TICK: Duration = Duration::from_millis(500);
/// Longest time in ms between two looks at the time that passes for one.
const AWAY_MS: i64 = 10_000;
/// Wait before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The correlator with its input.
pub struct Job {
    app: App,
    correlator: Correlator,
    dirty: HashSet<CheckKey>,
    cursor: i64,
    /// From then on nothing is tried again: the next start replays it.
    drain: CancellationToken,
    /// An effect was given up at the stop, so its state must not be saved.
    lost: AtomicBool,
    /// When time was looked at last.
    passed_at: Timestamp,
}

impl Job {
    /// Starts from what was saved and catches up with what was committed since.
    ///
    /// # Errors
    /// The store failed.
    pub async fn load(app: App) -> Result<Self> {
        let (cursor, checks) = app.store.load_correlator().await?;
        for (key, state) in &checks {
            if let Some(last) = &state.last {
                app.board.put(key.clone(), last.clone());
            }
        }
        let now = Timestamp::now();
        let mut correlator = Correlator::new(&app.watched().rules, checks, now);
        // Before the first report: what explains it, or keeps it quiet, must be known.
        let quiet = super::quiet::at_start(&app, now).await?;
        let dependencies = drawn::dependencies(&app).await?;
        let outcome = correlator.begin(&app.watched().rules, dependencies, quiet, now);
        let mut job = Self {
            app,
            correlator,
            dirty: HashSet::new(),
            cursor,
            drain: CancellationToken::new(),
            lost: AtomicBool::new(false),
            passed_at: now,
        };
        job.conclude(outcome, None, now).await;
        loop {
            let reports = job.app.store.reports_after(job.cursor, REPLAY).await?;
            let Some(last) = reports.last().map(|report| report.id) else { break };
            tracing::info!(from = job.cursor, to = last, "catching up with committed reports");
            job.take(reports).await?;
        }
        Ok(job)
    }

    /// Runs until the writer has ended, then saves.
    pub async fn run(
        mut self,
        mut committed: mpsc::Receiver<Vec<Committed>>,
        mut inputs: mpsc::Receiver<Input>,
        drain: CancellationToken,
    ) {
        self.drain = drain;
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        save.reset();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                reports = committed.recv() => match reports {
                    Some(reports) => self.take(reports).await,
                    // The writer has ended: everything committed is in.
                    None => break,
                },
                Some(input) = inputs.recv() => self.input(input).await,
                _ = tick.tick() => {
                    self.tick().await;
                    Ok(())
                }
                _ = save.tick() => self.save().await,
            };
            if let Err(error) = result {
                tracing::error!("the correlator could not write, it tries again at the next report: {error}");
            }
        }
        if let Err(error) = self.save().await {
            tracing::warn!("the checks' states were not saved, the next start replays them: {error}");
        }
    }

    async fn take(&mut self, reports: Vec<Committed>) -> Result<()> {
        let now = Timestamp::now();
        let mut all = Outcome::default();
        let watched = self.app.watched();
        for committed in reports {
            let key = (committed.host, committed.report.check.clone());
            self.cursor = self.cursor.max(committed.id);
            if watched.rules.of(&key).is_none() {
                continue;
            }
            self.app.board.put(key.clone(), committed.report.clone());
            let outcome = self.correlator.apply(&watched.rules, Event::Report(committed), now);
            all.effects.extend(outcome.effects);
            all.touched.extend(outcome.touched);
            self.dirty.insert(key);
        }
        self.conclude(all, None, now).await;
        Ok(())
    }

    async fn input(&mut self, input: Input) -> Result<()> {
        let now = Timestamp::now();
        let event = match input {
            Input::Decide(request) => return self.decide(*request, now).await,
            Input::Quiet(quiet) => Event::Quiet(quiet),
            Input::Dependencies(dependencies) => Event::Dependencies(dependencies),
        };
        let outcome = self.correlator.apply(&self.app.watched().rules, event, now);
        self.conclude(outcome, None, now).await;
        Ok(())
    }

    /// Signs of life that somebody waits for, and time.
    async fn tick(&mut self) {
        let (now, watched) = (Timestamp::now(), self.app.watched());
        // A machine that slept, a clock that was set, a disk that was full: nobody was late but this.
        if !(0..=AWAY_MS).contains(&now.since(self.passed_at)) {
            self.correlator.was_away(now);
        }
        self.passed_at = now;
        let mut all = Outcome::default();
        let awaited: Vec<_> = self.correlator.awaited().collect();
        let seen = awaited.into_iter().filter_map(|host| Some((host, self.app.fleet.last_seen(host)?)));
        let seen: Vec<_> = seen.map(|(host, at)| Event::Seen(host, at)).collect();
        for event in seen.into_iter().chain([Event::Tick]) {
            let outcome = self.correlator.apply(&watched.rules, event, now);
            all.effects.extend(outcome.effects);
            all.touched.extend(outcome.touched);
        }
        self.conclude(all, None, now).await;
    }

    async fn decide(&mut self, request: Decide, now: Timestamp) -> Result<()> {
        let Decide { finding, decision, by, comment, done } = request;
        let Ok(check) = finding.check_id.parse() else { return Ok(()) };
        let key: CheckKey = (finding.host(), check);
        let episode = u64::try_from(finding.episode).unwrap_or(0);
        let event = match decision {
            Decision::Acknowledge => Event::Acknowledge { key, episode },
            Decision::Close => Event::Close { key, episode },
        };
        let outcome = self.correlator.apply(&self.app.watched().rules, event, now);
        let by = ByPerson { name: &by, comment: comment.as_deref() };
        self.conclude(outcome, Some(&by), now).await;
        // Its check has left the registry: the finding is still a person's to decide on.
        let row = self.app.store.finding(&finding.id).await?;
        let is_done = match decision {
            Decision::Acknowledge => row.acknowledged_at().is_some() || row.state == "resolved",
            Decision::Close => row.state == "resolved",
        };
        if !is_done {
            let note = inbox::decision(&self.app, &finding, decision, &by);
            self.app.store.decide_finding(&finding, decision, &note, now).await?;
        }
        // Whoever asked may have gone; it is stored all the same.
        let _gone = done.send(());
        Ok(())
    }

    /// Puts what the correlator says into words and writes it with the states
    /// that made it.
    async fn conclude(&mut self, outcome: Outcome, by: Option<&ByPerson<'_>>, now: Timestamp) {
        let mut keys: HashSet<CheckKey> = outcome.touched.into_iter().collect();
        let mut changes = Vec::with_capacity(outcome.effects.len());
        for effect in outcome.effects {
            keys.insert(effect.key.clone());
            // A person moved one finding; what follows from that is the correlator's.
            let by = by.filter(|_| changes.is_empty());
            changes.extend(self.in_words(effect, by, now).await);
        }
        self.dirty.extend(keys.iter().cloned());
        if self.lost.load(Ordering::Relaxed) {
            // Its state would be saved with what is written; the next start replays all of it.
            return;
        }
        self.write(changes, &keys, now).await;
    }

    /// Words need the store (names of hosts), whose failure must not lose an
    /// effect that the state already holds: it is tried until it works.
    async fn in_words(&self, effect: Effect, by: Option<&ByPerson<'_>>, now: Timestamp) -> Option<Change> {
        loop {
            match inbox::change(&self.app, effect.clone(), by, now).await {
                Ok(change) => return change,
                Err(error) if self.drain.is_cancelled() => {
                    tracing::error!("an effect was not written, the next start replays it: {error}");
                    self.lost.store(true, Ordering::Relaxed);
                    return None;
                }
                Err(error) => {
                    tracing::error!("an effect could not be put into words, trying again: {error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Writes effects, again and again until it works: agents slow down behind
    /// it, and nothing is said twice.
    async fn write(&mut self, changes: Vec<Change>, keys: &HashSet<CheckKey>, now: Timestamp) {
        if changes.is_empty() {
            return;
        }
        let states: Vec<_> =
            keys.iter().filter_map(|key| Some((key.clone(), self.correlator.check(key)?.clone()))).collect();
        let rows = loop {
            match self.app.store.apply(&changes, &states, now).await {
                Ok(rows) => break rows,
                Err(error) if self.drain.is_cancelled() => {
                    tracing::error!("effects were not written, the next start replays them: {error}");
                    self.lost.store(true, Ordering::Relaxed);
                    return;
                }
                Err(error) => {
                    tracing::error!("effects could not be written, trying again: {error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        for change in &changes {
            let opened = change.effect.transition == Transition::Opened;
            self.app.metrics.transition(change.effect.transition, change.effect.severity);
            if opened {
                self.app.wake.advice.notify_one();
            }
            if let Some((action, _)) = &change.proposal {
                self.app.events.publish(Noun::Action, action.id.to_string(), "proposed");
            }
            if !change.messages.is_empty() {
                self.app.wake.mail.notify_one();
            }
        }
        for row in rows {
            tracing::info!(finding = row.id, fingerprint = row.fingerprint, state = row.state, "a finding changed");
            self.app.events.publish(Noun::Finding, &row.id, &row.state);
            self.app.events.publish(Noun::Thread, &row.thread_id, &row.state);
        }
    }

    async fn save(&mut self) -> Result<()> {
        if self.dirty.is_empty() || self.lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        let states: Vec<_> =
            self.dirty.iter().filter_map(|key| Some((key.clone(), self.correlator.check(key)?.clone()))).collect();
        self.app.store.save_correlator(self.cursor, &states).await?;
        self.dirty.clear();
        Ok(())
    }
}
