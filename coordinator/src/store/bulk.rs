//! Telemetry in bulk: one task writes, several batches a commit, and only what
//! is committed is acknowledged or passed on.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering};

use farol_protocol::{CheckId, Report, StreamId, Timestamp, report::UnknownCause, telemetry::Gap};
use sqlx::{Any, AnyConnection, Connection as _, QueryBuilder, Row as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Db, Store, hosts::HostKey, serde_word, word};
use crate::error::{Error, Result, StoreContext as _};

/// A stream inside the telemetry database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey(i64);

/// One batch of an agent, times already corrected for the host's clock.
#[derive(Debug)]
pub struct BatchWrite {
    /// Whose.
    pub host: HostKey,
    /// In which stream.
    pub stream: StreamKey,
    /// Position; the session has checked that it is the next one.
    pub seq: u64,
    /// Batches that `gaps` says were lost.
    pub lost: u64,
    /// When it was closed.
    pub observed_at: Timestamp,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Readings as JSON.
    pub metrics: Option<String>,
    /// Outcomes of checks.
    pub reports: Vec<Report>,
    /// What was lost before it.
    pub gaps: Vec<Gap>,
    /// Told the sequence number once it is committed.
    pub committed: Arc<watch::Sender<u64>>,
}

/// What the writer takes.
#[derive(Debug)]
pub enum Bulk {
    /// A batch of a stream.
    Batch(BatchWrite),
    /// A push without sequence number, deduplicated by host and id.
    Push {
        /// Whose.
        host: HostKey,
        /// Its `action_id`.
        id: String,
        /// When it was observed.
        observed_at: Timestamp,
        /// When it arrived.
        received_at: Timestamp,
        /// The payload as JSON.
        payload: String,
        /// Reports found in the payload.
        reports: Vec<Report>,
        /// Told once it is committed.
        done: oneshot::Sender<()>,
    },
    /// Reports of the coordinator's own checks.
    Own {
        /// The host they are about.
        host: HostKey,
        /// The outcomes.
        reports: Vec<Report>,
        /// When.
        at: Timestamp,
    },
}

/// A report that is on disk.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its place in the order of commits.
    pub id: i64,
    /// The host it is about.
    pub host: HostKey,
    /// What was found.
    pub report: Report,
}

/// Sent instead of a sequence number when a commit failed: the session ends,
/// so that the agent starts again from what is committed.
pub const NOT_COMMITTED: u64 = u64::MAX;

/// Most items in one transaction.
const ITEMS_PER_COMMIT: usize = 500;
/// Rows per statement: beyond about 50 a longer statement gains little.
const ROWS_PER_STATEMENT: usize = 50;

/// The one writer of telemetry.
pub struct BulkWriter {
    connection: AnyConnection,
    db: Arc<Db>,
    next_batch: i64,
    next_report: i64,
    next_gap: i64,
    committed: mpsc::Sender<Vec<Committed>>,
}

impl Store {
    /// Takes over the writing of telemetry. What is committed is sent to
    /// `committed`, whose fullness slows the writer and through it the agents.
    ///
    /// # Errors
    /// The store failed.
    pub async fn bulk_writer(&self, committed: mpsc::Sender<Vec<Committed>>) -> Result<BulkWriter> {
        let mut connection = self.telemetry.own_connection().await?;
        let next_batch = next(&mut connection, "select max(id) from batch").await?;
        let next_report = next(&mut connection, "select max(id) from report").await?;
        let next_gap = next(&mut connection, "select max(id) from gap").await?;
        Ok(BulkWriter { connection, db: Arc::clone(&self.telemetry), next_batch, next_report, next_gap, committed })
    }

    /// The stream of a host, which is made if need be, and its last committed
    /// sequence number.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stream(&self, host: HostKey, stream: StreamId) -> Result<(StreamKey, u64)> {
        let name = stream.to_string();
        let known: Option<(i64, i64)> =
            sqlx::query_as("select id, last_seq from stream where host_key = $1 and stream = $2")
                .bind(host.0)
                .bind(&name)
                .fetch_optional(self.telemetry().read())
                .await
                .context("read the stream")?;
        if let Some((id, seq)) = known {
            return Ok((StreamKey(id), u64::try_from(seq).unwrap_or(0)));
        }
        let mut write = self.telemetry().write().await?;
        let (id,): (i64,) = sqlx::query_as(
            "insert into stream (id, host_key, stream, last_seq, received, lost)
             select coalesce(max(id), 0) + 1, $1, $2, 0, 0, 0 from stream returning id",
        )
        .bind(host.0)
        .bind(&name)
        .fetch_one(&mut *write)
        .await
        .context("store the stream")?;
        write.commit().await?;
        Ok((StreamKey(id), 0))
    }

    /// Committed reports after `cursor`, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reports_after(&self, cursor: i64, limit: i64) -> Result<Vec<Committed>> {
        let rows = sqlx::query(
            "select id, host_key, check_id, status, value, unit, text, cause, observed_ms from report
             where id > $1 order by id limit $2",
        )
        .bind(cursor)
        .bind(limit)
        .fetch_all(self.telemetry().read())
        .await
        .context("read the reports")?;
        rows.iter().map(committed).collect()
    }

    /// The newest reports, of one host where one is given.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recent_reports(&self, host: Option<HostKey>, limit: i64) -> Result<Vec<Committed>> {
        // The row id bounds the scan: history is long, "recent" is not.
        let rows = sqlx::query(
            "select id, host_key, check_id, status, value, unit, text, cause, observed_ms from report
             where id > (select coalesce(max(id), 0) from report) - 50000 and ($1 = 0 or host_key = $1)
             order by id desc limit $2",
        )
        .bind(host.map_or(0, |host| host.0))
        .bind(limit)
        .fetch_all(self.telemetry().read())
        .await
        .context("read the reports")?;
        rows.iter().map(committed).collect()
    }

    /// Latest readings and counts of a host over all its streams.
    ///
    /// # Errors
    /// The store failed.
    pub async fn telemetry_of(&self, host: HostKey) -> Result<HostTelemetry> {
        let rows: Vec<(i64, i64, Option<String>, Option<i64>)> =
            sqlx::query_as("select received, lost, metrics, metrics_ms from stream where host_key = $1 order by id")
                .bind(host.0)
                .fetch_all(self.telemetry().read())
                .await
                .context("read the telemetry")?;
        let mut all = HostTelemetry::default();
        for (received, lost, metrics, at) in rows {
            all.received += received;
            all.lost += lost;
            if let (Some(metrics), Some(at)) = (metrics, at) {
                all.metrics = serde_json::from_str(&metrics).ok();
                all.metrics_at = Some(Timestamp::from_ms(at));
            }
        }
        Ok(all)
    }

    /// Forgets telemetry from before `before` and up to the report `cursor`,
    /// in small steps so that no step holds the writer up.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_telemetry(&self, before: Timestamp, cursor: i64) -> Result<u64> {
        let mut removed = 0;
        for statement in [
            "delete from batch where id in (select id from batch where received_ms < $1 order by id limit 500)",
            "delete from report where id in
                 (select id from report where received_ms < $1 and id <= $2 order by id limit 500)",
            "delete from push where (host_key, action_id) in
                 (select host_key, action_id from push where received_ms < $1 limit 500)",
        ] {
            loop {
                let mut write = self.telemetry().write().await?;
                let mut query = sqlx::query(statement).bind(before.as_ms());
                if statement.contains("$2") {
                    query = query.bind(cursor);
                }
                let rows = query.execute(&mut *write).await.context("remove old telemetry")?.rows_affected();
                write.commit().await?;
                removed += rows;
                if rows < 500 {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

/// What a host has sent.
#[derive(Debug, Default)]
pub struct HostTelemetry {
    /// Batches committed.
    pub received: i64,
    /// Batches that the host's spool dropped.
    pub lost: i64,
    /// Latest readings.
    pub metrics: Option<serde_json::Value>,
    /// When they were taken.
    pub metrics_at: Option<Timestamp>,
}

fn committed(row: &sqlx::any::AnyRow) -> Result<Committed> {
    let get = |error: sqlx::Error| Error::Store { what: "read a report", source: error };
    let status: String = row.try_get(3).map_err(get)?;
    let check: String = row.try_get(2).map_err(get)?;
    let cause: Option<String> = row.try_get(7).map_err(get)?;
    Ok(Committed {
        id: row.try_get(0).map_err(get)?,
        host: HostKey(row.try_get(1).map_err(get)?),
        report: Report {
            check: word::<CheckId>("check id", &check)?,
            status: serde_word("status", &status)?,
            value: row.try_get(4).map_err(get)?,
            unit: row.try_get(5).map_err(get)?,
            text: row.try_get(6).map_err(get)?,
            cause: cause.map(|cause| serde_word::<UnknownCause>("cause", &cause)).transpose()?,
            observed_at: Timestamp::from_ms(row.try_get(8).map_err(get)?),
        },
    })
}

async fn next(connection: &mut AnyConnection, query: &'static str) -> Result<i64> {
    let (max,): (Option<i64>,) = sqlx::query_as(query).fetch_one(connection).await.context("read the last row")?;
    Ok(max.unwrap_or(0) + 1)
}

/// What one stream has become in a commit.
struct Head {
    seq: u64,
    received: i64,
    lost: u64,
    metrics: Option<(String, i64)>,
    committed: Arc<watch::Sender<u64>>,
}

impl BulkWriter {
    /// Writes what comes.
    ///
    /// A commit that fails acknowledges nothing: the agents still hold what it
    /// would have written and send it again after the reconnect that
    /// [`NOT_COMMITTED`] causes.
    ///
    /// From `drain` on it takes nothing new, writes what waits and ends.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Bulk>, drain: CancellationToken) {
        let mut items = Vec::with_capacity(ITEMS_PER_COMMIT);
        loop {
            let taken = tokio::select! {
                taken = queue.recv_many(&mut items, ITEMS_PER_COMMIT) => taken,
                () = drain.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            };
            if taken == 0 {
                return;
            }
            match self.commit(&mut items).await {
                Ok(reports) => {
                    self.db.commits.fetch_add(1, Ordering::Relaxed);
                    // The receiver is gone only when the coordinator stops.
                    if !reports.is_empty() && self.committed.send(reports).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(items = items.len(), "telemetry was not committed, agents keep it: {error}");
                }
            }
            items.clear();
        }
    }

    /// One transaction for all `items`.
    async fn commit(&mut self, items: &mut Vec<Bulk>) -> Result<Vec<Committed>> {
        let ids = (self.next_batch, self.next_report, self.next_gap);
        let streams: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Bulk::Batch(batch) => Some(Arc::clone(&batch.committed)),
                Bulk::Push { .. } | Bulk::Own { .. } => None,
            })
            .collect();
        let result = self.try_commit(items).await;
        if result.is_err() {
            (self.next_batch, self.next_report, self.next_gap) = ids;
            for stream in streams {
                stream.send_replace(NOT_COMMITTED);
            }
        }
        result
    }

    async fn try_commit(&mut self, items: &mut Vec<Bulk>) -> Result<Vec<Committed>> {
        let mut transaction = self.connection.begin_with("begin immediate").await.context("begin a batch")?;
        let mut batches = Vec::with_capacity(items.len());
        let mut gaps = Vec::new();
        let mut reports = Vec::new();
        let mut received = Vec::new();
        let mut heads: HashMap<StreamKey, Head> = HashMap::new();
        let mut done = Vec::new();
        let mut next_report = self.next_report;
        let mut add = |host, list: Vec<Report>, at: Timestamp| {
            for report in list {
                reports.push(Committed { id: next_report, host, report });
                received.push(at.as_ms());
                next_report += 1;
            }
        };
        for item in items.drain(..) {
            match item {
                Bulk::Batch(batch) => {
                    let head = heads.entry(batch.stream).or_insert_with(|| Head {
                        seq: 0,
                        received: 0,
                        lost: 0,
                        metrics: None,
                        committed: Arc::clone(&batch.committed),
                    });
                    head.seq = head.seq.max(batch.seq);
                    head.received += 1;
                    head.lost += batch.lost;
                    if let Some(metrics) = &batch.metrics {
                        head.metrics = Some((metrics.clone(), batch.observed_at.as_ms()));
                    }
                    gaps.extend(batch.gaps.iter().map(|gap| (batch.stream, *gap, batch.received_at)));
                    add(batch.host, batch.reports, batch.received_at);
                    batches.push((batch.stream, batch.seq, batch.observed_at, batch.received_at, batch.metrics));
                }
                Bulk::Push { host, id, observed_at, received_at, payload, reports, done: told } => {
                    let inserted = sqlx::query(
                        "insert into push (host_key, action_id, received_ms) values ($1, $2, $3) on conflict do nothing",
                    )
                    .bind(host.0)
                    .bind(&id)
                    .bind(received_at.as_ms())
                    .execute(&mut *transaction)
                    .await
                    .context("store a push")?;
                    if inserted.rows_affected() > 0 {
                        add(host, reports, received_at);
                        batches.push((StreamKey(-host.0), 0, observed_at, received_at, Some(payload)));
                    }
                    done.push(told);
                }
                Bulk::Own { host, reports, at } => add(host, reports, at),
            }
        }

        for chunk in batches.chunks(ROWS_PER_STATEMENT) {
            let mut insert =
                QueryBuilder::<Any>::new("insert into batch (id, stream_id, seq, observed_ms, received_ms, metrics) ");
            insert.push_values(chunk, |mut row, (stream, seq, observed, received, metrics)| {
                row.push_bind(self.next_batch)
                    .push_bind(stream.0)
                    .push_bind(i64::try_from(*seq).unwrap_or(i64::MAX))
                    .push_bind(observed.as_ms())
                    .push_bind(received.as_ms())
                    .push_bind(metrics.clone());
                self.next_batch += 1;
            });
            insert.build().execute(&mut *transaction).await.context("store batches")?;
        }
        for (chunk, times) in reports.chunks(ROWS_PER_STATEMENT).zip(received.chunks(ROWS_PER_STATEMENT)) {
            let mut insert = QueryBuilder::<Any>::new(
                "insert into report (id, host_key, check_id, status, value, unit, text, cause, observed_ms, received_ms) ",
            );
            insert.push_values(chunk.iter().zip(times), |mut row, (committed, at)| {
                let report = &committed.report;
                row.push_bind(committed.id)
                    .push_bind(committed.host.0)
                    .push_bind(report.check.as_str().to_owned())
                    .push_bind(report.status.as_str())
                    .push_bind(report.value)
                    .push_bind(report.unit.clone())
                    .push_bind(report.text.clone())
                    .push_bind(report.cause.map(|UnknownCause::NotConfigured| "not_configured"))
                    .push_bind(report.observed_at.as_ms())
                    .push_bind(*at);
            });
            insert.build().execute(&mut *transaction).await.context("store reports")?;
        }
        self.next_report = next_report;
        for (stream, gap, at) in gaps {
            sqlx::query(
                "insert into gap (id, stream_id, first_seq, last_seq, from_ms, to_ms, recorded_ms)
                 values ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(self.next_gap)
            .bind(stream.0)
            .bind(i64::try_from(gap.first_seq).unwrap_or(i64::MAX))
            .bind(i64::try_from(gap.last_seq).unwrap_or(i64::MAX))
            .bind(gap.from.as_ms())
            .bind(gap.to.as_ms())
            .bind(at.as_ms())
            .execute(&mut *transaction)
            .await
            .context("store a gap")?;
            self.next_gap += 1;
        }
        for (stream, head) in &heads {
            let (metrics, at) = head.metrics.clone().unzip();
            sqlx::query(
                "update stream set last_seq = $2, received = received + $3, lost = lost + $4,
                     metrics = coalesce($5, metrics), metrics_ms = coalesce($6, metrics_ms)
                 where id = $1",
            )
            .bind(stream.0)
            .bind(i64::try_from(head.seq).unwrap_or(i64::MAX))
            .bind(head.received)
            .bind(i64::try_from(head.lost).unwrap_or(i64::MAX))
            .bind(metrics)
            .bind(at)
            .execute(&mut *transaction)
            .await
            .context("advance a stream")?;
        }
        transaction.commit().await.context("commit telemetry")?;

        for head in heads.into_values() {
            head.committed.send_replace(head.seq);
        }
        for told in done {
            // The connection may be gone; the push is committed all the same.
            let _gone = told.send(());
        }
        Ok(reports)
    }
}
