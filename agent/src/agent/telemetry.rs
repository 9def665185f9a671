//! Readings and reports on their way into the spool and out of it.

use std::sync::Arc;

use farol_protocol::{
    FromAgent, Report, Timestamp,
    frame::TelemetryPush,
    inventory::Section,
    report::Probe,
    telemetry::{Metrics, Telemetry},
};
use tokio::{
    task::{Id, JoinError},
    time::Instant,
};

use super::Agent;
use crate::{
    config::Config,
    policy::Policy,
    probe::{Access, metrics::Sampler},
    spool::{Batch, Lane},
    task::scoped,
};

/// A batch is closed early when this many reports wait.
const MOST_REPORTS: usize = 100;
/// Batches read from the disk at a time.
const READ_AHEAD: usize = 16;

impl Agent {
    pub(super) fn start_sample(&mut self) {
        let Some(mut sampler) = self.sampler.take() else {
            return;
        };
        self.sampling = Some(tokio::spawn(scoped(async move {
            let metrics = sampler.sample().await;
            (sampler, metrics)
        })));
    }

    pub(super) async fn on_sample(&mut self, sampled: Result<(Sampler, Metrics), JoinError>) {
        self.sampling = None;
        let metrics = match sampled {
            Ok((sampler, metrics)) => {
                self.sampler = Some(sampler);
                Some(metrics)
            }
            Err(error) => {
                tracing::error!("a reading of the host failed: {error}");
                self.sampler = Some(Sampler::new());
                None
            }
        };
        self.push(metrics).await;
    }

    pub(super) fn start_checks(&mut self) {
        let due = self.schedule.start_due(Instant::now());
        if due.iter().any(|spec| reads_by_policy(&spec.probe)) {
            self.prober.set_access(access(&self.config));
        }
        for spec in due {
            let prober = Arc::clone(&self.prober);
            let check = spec.id.clone();
            let handle = self.probes.spawn(scoped(async move { prober.run(&spec, Timestamp::now()).await }));
            self.probed.insert(handle.id(), check);
        }
    }

    /// A report that says something new leaves at once, with whatever else is
    /// ready; the others ride with the next reading.
    pub(super) async fn on_report(&mut self, ended: Result<(Id, Report), JoinError>) {
        let mut news = self.keep(ended);
        while let Some(ended) = self.probes.try_join_next_with_id() {
            news |= self.keep(ended);
        }
        if news || self.reports.len() >= MOST_REPORTS {
            self.push(None).await;
        }
    }

    pub(super) fn keep(&mut self, ended: Result<(Id, Report), JoinError>) -> bool {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let assigned = self.probed.remove(&id).is_some_and(|check| self.schedule.finished(&check));
        match ended {
            Ok((_, report)) if assigned => {
                let news = self.told.get(&report.check) != Some(&report.status);
                self.reports.push(report);
                news
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!("a check failed to run: {error}");
                false
            }
        }
    }

    pub(super) async fn push(&mut self, metrics: Option<Metrics>) {
        let reports = std::mem::take(&mut self.reports);
        let (inventory, digest) =
            self.found.take().map(|found| (Box::new(Section::Read(found.inventory)), found.digest)).unzip();
        if metrics.is_none() && reports.is_empty() && inventory.is_none() {
            return;
        }
        let statuses: Vec<_> = reports.iter().map(|report| (report.check.clone(), report.status)).collect();
        let was_failing = self.spool.is_failing();
        let payload = Telemetry { metrics, reports, inventory, gaps: Vec::new() };
        match self.spool.push(Timestamp::now(), payload).await {
            Ok(batch) => {
                if was_failing {
                    tracing::info!(seq = batch.seq, "the spool can be written again");
                }
                self.told.extend(statuses);
                if let Some(digest) = digest {
                    self.watch.on_sent(batch.seq, digest);
                }
                self.offer(batch);
                self.drain().await;
            }
            Err(error) if was_failing => tracing::debug!("{}", error.sentence()),
            Err(error) => tracing::error!("batches are lost and will be reported as a gap: {}", error.sentence()),
        }
    }

    /// Sends a new batch from memory if everything before it has left.
    pub(super) fn offer(&mut self, batch: Batch) {
        if self.behind || self.link.ready().is_none_or(|open| open.session.room(Lane::Live) == 0) {
            self.behind = true;
            return;
        }
        self.send_batch(Lane::Live, batch);
    }

    /// Sends what waits on the disk, as far as the window allows.
    pub(super) async fn drain(&mut self) {
        while self.behind {
            let Some((room, cursor)) =
                self.link.ready().map(|open| (open.session.room(Lane::Live), open.session.cursor(Lane::Live)))
            else {
                return;
            };
            if room == 0 {
                return;
            }
            let limit = room.min(READ_AHEAD);
            let batches = match self.spool.after(Lane::Live, cursor, limit).await {
                Ok(batches) => batches,
                Err(error) => {
                    tracing::error!("{}", error.sentence());
                    return;
                }
            };
            self.behind = batches.len() == limit;
            for batch in batches {
                self.send_batch(Lane::Live, batch);
            }
        }
    }

    /// When the backlog may go on; none while nothing of it can leave.
    pub(super) fn backfill_due(&mut self) -> Option<Instant> {
        let waiting = self.spool.backlog()?;
        let behind = self.behind;
        let open = self.link.ready()?;
        let next = open.session.room(Lane::Backlog) > 0 && open.session.cursor(Lane::Backlog) < waiting.last_seq;
        // Live batches go first; an acknowledgement of theirs wakes this again.
        (next && !behind).then(|| self.pace.due())
    }

    /// Sends as much of the backlog as its pace and its window allow.
    pub(super) async fn backfill(&mut self) {
        let now = Instant::now();
        if self.backfill_due().is_none_or(|due| due > now) {
            return;
        }
        let Some((room, cursor)) =
            self.link.ready().map(|open| (open.session.room(Lane::Backlog), open.session.cursor(Lane::Backlog)))
        else {
            return;
        };
        let limit = self.pace.take(room, now);
        match self.spool.after(Lane::Backlog, cursor, limit).await {
            Ok(batches) => {
                for batch in batches {
                    self.send_batch(Lane::Backlog, batch);
                }
            }
            Err(error) => tracing::error!("{}", error.sentence()),
        }
    }

    pub(super) fn send_batch(&mut self, lane: Lane, mut batch: Batch) {
        let Some(open) = self.link.ready() else {
            return;
        };
        let Some(stream) = open.session.stream(lane) else {
            return;
        };
        let first = open.session.cursor(lane) + 1;
        if batch.seq > first {
            batch.payload.gaps = self.spool.gaps(lane, first, batch.seq - 1, batch.ts);
            if matches!(lane, Lane::Live) {
                self.watch.on_gaps(&batch.payload.gaps, Instant::now());
            }
        }
        open.session.on_batch_sent(lane, batch.seq);
        let push = TelemetryPush { stream, seq: batch.seq, ts: batch.ts, payload: batch.payload };
        self.link.send(&FromAgent::TelemetryPush(push));
    }
}

/// The policy is read again each time, so that an edit takes effect at once.
/// Whether a probe asks the policy what it may read, so that a policy that
/// changed counts from its next run on.
const fn reads_by_policy(probe: &Probe) -> bool {
    matches!(probe, Probe::Sqlite(_) | Probe::SqliteIntegrity(_) | Probe::FileAge(_) | Probe::Journal(_))
}

fn access(config: &Config) -> Access {
    match Policy::load(&config.policy) {
        Ok(policy) => policy.into(),
        Err(error) => {
            tracing::error!("the policy cannot be used: {}", error.sentence());
            Access::NoPolicy
        }
    }
}
