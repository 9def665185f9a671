//! Telemetry in bulk: one task writes, several batches a commit, and only what
//! is committed is acknowledged or passed on.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use farol_agent::fault;
use farol_protocol::{CheckId, Report, StreamId, Timestamp, report::UnknownCause, telemetry::Gap};
use sqlx::{Any, AnyConnection, Connection as _, QueryBuilder, Row as _};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Db, Store,
    hosts::HostKey,
    serde_word,
    topology::{self, InventoryWrite},
    word,
};
use crate::error::{Error, Result, StoreContext as _};
use crate::fleet::limits::Taken;

/// A stream inside the telemetry database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub(super) i64);

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
    /// What the host is made of, where the batch says so.
    pub inventory: Option<InventoryWrite>,
    /// Whether it was observed before the session in which it came.
    pub backfilled: bool,
    /// Told the sequence number once it is committed.
    pub committed: Arc<watch::Sender<u64>>,
    /// What it takes up until then.
    pub room: Taken,
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
        /// Where it counts as the host's newest readings; none: nowhere.
        stream: Option<StreamKey>,
        /// Told once it is committed.
        done: Arc<Notify>,
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

/// Told instead of a sequence number when a batch does not follow what is
/// committed: the session ends, and the agent starts again from there.
pub const NOT_COMMITTED: u64 = u64::MAX;

/// Wait before a failed commit is tried again.
const RETRY: Duration = Duration::from_millis(500);
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
    /// Last committed sequence number of the streams seen so far.
    last: HashMap<StreamKey, u64>,
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
        // The same of the history's.
        let (batch, report) = self.history_cursor().await?;
        let next_batch = next(&mut connection, "select max(id) from batch").await?.max(batch + 1);
        // Above everything the correlator has seen, even if the telemetry was
        // emptied or replaced since: it ignores what lies below its cursors.
        let (cursor, checks) = self.load_correlator().await?;
        let seen = checks.values().map(|state| state.cursor).fold(cursor.max(report), i64::max);
        let next_report = next(&mut connection, "select max(id) from report").await?.max(seen + 1);
        let next_gap = next(&mut connection, "select max(id) from gap").await?;
        Ok(BulkWriter {
            connection,
            db: Arc::clone(&self.telemetry),
            next_batch,
            next_report,
            next_gap,
            last: HashMap::new(),
            committed,
        })
    }

    /// The stream of a host, which is made if need be, and its last committed
    /// sequence number.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stream(&self, host: HostKey, stream: StreamId) -> Result<(StreamKey, u64)> {
        let name = stream.to_string();
        let mut read = self.telemetry().read().await?;
        let known: Option<(i64, i64)> =
            sqlx::query_as("select id, last_seq from stream where host_key = $1 and stream = $2")
                .bind(host.0)
                .bind(&name)
                .fetch_optional(&mut *read)
                .await
                .context("read the stream")?;
        if let Some((id, seq)) = known {
            return Ok((StreamKey(id), u64::try_from(seq).unwrap_or(0)));
        }
        let mut write = self.telemetry().write().await?;
        sqlx::query(
            "insert into stream (id, host_key, stream, last_seq, received, lost)
             select coalesce(max(id), 0) + 1, $1, $2, 0, 0, 0 from stream where true
             on conflict (host_key, stream) do nothing",
        )
        .bind(host.0)
        .bind(&name)
        .execute(&mut *write)
        .await
        .context("store the stream")?;
        let (id, seq): (i64, i64) =
            sqlx::query_as("select id, last_seq from stream where host_key = $1 and stream = $2")
                .bind(host.0)
                .bind(&name)
                .fetch_one(&mut *write)
                .await
                .context("read the stream")?;
        write.commit().await?;
        Ok((StreamKey(id), u64::try_from(seq).unwrap_or(0)))
    }

    /// Committed reports after `cursor`, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reports_after(&self, cursor: i64, limit: i64) -> Result<Vec<Committed>> {
        let mut read = self.telemetry().read().await?;
        let rows = sqlx::query(
            "select id, host_key, check_id, status, value, unit, text, cause, observed_ms from report
             where id > $1 order by id limit $2",
        )
        .bind(cursor)
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the reports")?;
        rows.iter().map(committed).collect()
    }

    /// The report before the first one that arrived from `since` on, and the
    /// newest one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reports_since(&self, since: Timestamp) -> Result<(i64, i64)> {
        let mut read = self.telemetry().read().await?;
        sqlx::query_as(
            "select coalesce(min(case when received_ms >= $1 then id end) - 1, coalesce(max(id), 0)),
                    coalesce(max(id), 0) from report",
        )
        .bind(since.as_ms())
        .fetch_one(&mut *read)
        .await
        .context("find the reports")
    }

    /// The newest reports, of one host where one is given.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recent_reports(&self, host: Option<HostKey>, limit: i64) -> Result<Vec<Committed>> {
        // The row id bounds the scan: history is long, "recent" is not.
        let mut read = self.telemetry().read().await?;
        let rows = sqlx::query(
            "select id, host_key, check_id, status, value, unit, text, cause, observed_ms from report
             where id > (select coalesce(max(id), 0) from report) - 50000 and ($1 = 0 or host_key = $1)
             order by id desc limit $2",
        )
        .bind(host.map_or(0, |host| host.0))
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the reports")?;
        rows.iter().map(committed).collect()
    }

    /// Forgets telemetry from before `before`, batches and reports up to their
    /// cursors, in small steps so that no step holds the writer up. Rows lie in
    /// the order of their arrival, so only the first ones are looked at.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_telemetry(&self, before: Timestamp, (batch, report): (i64, i64)) -> Result<u64> {
        const STEPS: [(&str, &str); 2] = [
            (
                "select max(id) from (select id, received_ms from batch order by id limit 500) oldest
                 where received_ms < $1 and id <= $2",
                "delete from batch where id <= $1",
            ),
            (
                "select max(id) from (select id, received_ms from report order by id limit 500) oldest
                 where received_ms < $1 and id <= $2",
                "delete from report where id <= $1",
            ),
        ];
        let mut removed = 0;
        for ((find, remove), cursor) in STEPS.into_iter().zip([batch, report]) {
            loop {
                let mut read = self.telemetry().read().await?;
                let (bound,): (Option<i64>,) = sqlx::query_as(find)
                    .bind(before.as_ms())
                    .bind(cursor)
                    .fetch_one(&mut *read)
                    .await
                    .context("look for old telemetry")?;
                let Some(bound) = bound else { break };
                let mut write = self.telemetry().write().await?;
                let rows = sqlx::query(remove)
                    .bind(bound)
                    .execute(&mut *write)
                    .await
                    .context("remove old telemetry")?
                    .rows_affected();
                write.commit().await?;
                removed += rows;
            }
        }
        let mut write = self.telemetry().write().await?;
        let rows = sqlx::query("delete from push where received_ms < $1")
            .bind(before.as_ms())
            .execute(&mut *write)
            .await
            .context("remove old telemetry")?
            .rows_affected();
        write.commit().await?;
        Ok(removed + rows)
    }
}

pub(super) fn committed(row: &sqlx::any::AnyRow) -> Result<Committed> {
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

impl BulkWriter {
    /// Writes what comes.
    ///
    /// A commit that fails is tried again with the same items: whatever was
    /// taken from the queue is either committed or still with the agents,
    /// which wait behind a queue that fills.
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
            let reports = loop {
                let committed = self.commit(&items).await;
                self.db.failing.store(committed.is_err(), Ordering::Relaxed);
                match committed {
                    Ok(reports) => break reports,
                    Err(error) if drain.is_cancelled() => {
                        tracing::error!(items = items.len(), "telemetry was not committed, agents keep it: {error}");
                        return;
                    }
                    Err(error) => {
                        tracing::error!(items = items.len(), "telemetry was not committed, trying again: {error}");
                        tokio::time::sleep(RETRY).await;
                        // What a failure such as a full disk leaves of a
                        // connection is not ours to know.
                        match self.db.own_connection().await {
                            Ok(connection) => self.connection = connection,
                            Err(error) => tracing::error!("{error}"),
                        }
                    }
                }
            };
            items.clear();
            self.db.commits.fetch_add(1, Ordering::Relaxed);
            // The receiver is gone only when the coordinator stops.
            if !reports.is_empty() && self.committed.send(reports).await.is_err() {
                return;
            }
        }
    }

    /// One transaction for all `items`. Nothing is remembered of one that fails.
    async fn commit(&mut self, items: &[Bulk]) -> Result<Vec<Committed>> {
        let mut transaction = self.connection.begin_with("begin immediate").await.context("begin a batch")?;
        let mut batches: Vec<(StreamKey, u64, Timestamp, Timestamp, Option<&String>)> = Vec::with_capacity(items.len());
        let mut gaps = Vec::new();
        let mut inventories = Vec::new();
        let mut reports = Vec::new();
        let mut received = Vec::new();
        let mut heads: BTreeMap<StreamKey, Head<'_>> = BTreeMap::new();
        let mut next_report = self.next_report;
        let (mut next_batch, mut next_gap) = (self.next_batch, self.next_gap);
        let mut add = |host, list: &[Report], at: Timestamp| {
            for report in list {
                reports.push(Committed { id: next_report, host, report: report.clone() });
                received.push(at.as_ms());
                next_report += 1;
            }
        };
        for item in items {
            match item {
                Bulk::Batch(batch) => {
                    let head = match heads.entry(batch.stream) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(place) => {
                            let seq = match self.last.get(&batch.stream) {
                                Some(last) => *last,
                                None => last_seq(&mut transaction, batch.stream).await?,
                            };
                            place.insert(Head { seq, ..Head::default() })
                        }
                    };
                    head.tell.push(&batch.committed);
                    // A connection that was replaced may have left batches in
                    // the queue that the next one sends again.
                    if batch.seq <= head.seq {
                        continue;
                    }
                    if batch.seq != head.seq + 1 + batch.lost {
                        head.broken.push(&batch.committed);
                        continue;
                    }
                    head.seq = batch.seq;
                    head.received += 1;
                    head.lost += batch.lost;
                    head.backfilled += i64::from(batch.backfilled);
                    if batch.lost > 0 {
                        head.gap = span(&batch.gaps, batch.lost);
                    }
                    if let Some(metrics) = &batch.metrics {
                        head.metrics = Some((metrics.clone(), batch.observed_at.as_ms()));
                    }
                    inventories.extend(batch.inventory.as_ref().map(|inventory| (batch, inventory)));
                    gaps.extend(batch.gaps.iter().map(|gap| (batch.stream, *gap, batch.received_at)));
                    add(batch.host, &batch.reports, batch.received_at);
                    let metrics = batch.metrics.as_ref();
                    batches.push((batch.stream, batch.seq, batch.observed_at, batch.received_at, metrics));
                }
                Bulk::Push { host, id, observed_at, received_at, payload, reports, stream, .. } => {
                    let inserted = sqlx::query(
                        "insert into push (host_key, action_id, received_ms) values ($1, $2, $3) on conflict do nothing",
                    )
                    .bind(host.0)
                    .bind(id)
                    .bind(received_at.as_ms())
                    .execute(&mut *transaction)
                    .await
                    .context("store a push")?;
                    if inserted.rows_affected() > 0 {
                        add(*host, reports, *received_at);
                        batches.push((StreamKey(-host.0), 0, *observed_at, *received_at, Some(payload)));
                        if let Some(stream) = stream {
                            newest_reading(&mut transaction, *stream, *observed_at, payload).await?;
                        }
                    }
                }
                Bulk::Own { host, reports, at } => add(*host, reports, *at),
            }
        }

        for chunk in batches.chunks(ROWS_PER_STATEMENT) {
            let mut insert =
                QueryBuilder::<Any>::new("insert into batch (id, stream_id, seq, observed_ms, received_ms, metrics) ");
            insert.push_values(chunk, |mut row, (stream, seq, observed, received, metrics)| {
                row.push_bind(next_batch)
                    .push_bind(stream.0)
                    .push_bind(i64::try_from(*seq).unwrap_or(i64::MAX))
                    .push_bind(observed.as_ms())
                    .push_bind(received.as_ms())
                    .push_bind(metrics.cloned());
                next_batch += 1;
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
                    .push_bind(report.cause.map(UnknownCause::as_str))
                    .push_bind(report.observed_at.as_ms())
                    .push_bind(*at);
            });
            insert.build().execute(&mut *transaction).await.context("store reports")?;
        }
        for (stream, gap, at) in gaps {
            sqlx::query(
                "insert into gap (id, stream_id, first_seq, last_seq, from_ms, to_ms, recorded_ms)
                 values ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(next_gap)
            .bind(stream.0)
            .bind(i64::try_from(gap.first_seq).unwrap_or(i64::MAX))
            .bind(i64::try_from(gap.last_seq).unwrap_or(i64::MAX))
            .bind(gap.from.as_ms())
            .bind(gap.to.as_ms())
            .bind(at.as_ms())
            .execute(&mut *transaction)
            .await
            .context("store a gap")?;
            next_gap += 1;
        }
        for (batch, inventory) in inventories {
            let times = (batch.observed_at, batch.received_at);
            topology::put(&mut transaction, batch.host, inventory, times).await?;
        }
        for (stream, head) in heads.iter().filter(|(_, head)| head.received > 0) {
            let (metrics, at) = head.metrics.clone().unzip();
            sqlx::query(
                "update stream set last_seq = $2, received = received + $3, lost = lost + $4,
                     metrics = coalesce($5, metrics), metrics_ms = coalesce($6, metrics_ms),
                     backfilled = backfilled + $7, gap_from_ms = coalesce($8, gap_from_ms),
                     gap_to_ms = coalesce($9, gap_to_ms), gap_batches = coalesce($10, gap_batches)
                 where id = $1",
            )
            .bind(stream.0)
            .bind(i64::try_from(head.seq).unwrap_or(i64::MAX))
            .bind(head.received)
            .bind(i64::try_from(head.lost).unwrap_or(i64::MAX))
            .bind(metrics)
            .bind(at)
            .bind(head.backfilled)
            .bind(head.gap.map(|(from, ..)| from.as_ms()))
            .bind(head.gap.map(|(_, to, _)| to.as_ms()))
            .bind(head.gap.map(|(.., count)| count))
            .execute(&mut *transaction)
            .await
            .context("advance a stream")?;
        }
        fault::point("coordinator.bulk.before");
        fault::check("telemetry").map_err(sqlx::Error::from).context("commit telemetry")?;
        transaction.commit().await.context("commit telemetry")?;
        fault::point("coordinator.bulk.after");

        (self.next_batch, self.next_report, self.next_gap) = (next_batch, next_report, next_gap);
        for (stream, head) in heads {
            self.last.insert(stream, head.seq);
            for session in head.tell {
                session.send_if_modified(|told| {
                    let news = *told != NOT_COMMITTED && *told != head.seq;
                    if news {
                        *told = head.seq;
                    }
                    news
                });
            }
            for session in head.broken {
                session.send_replace(NOT_COMMITTED);
            }
        }
        for item in items {
            if let Bulk::Push { done, .. } = item {
                done.notify_one();
            }
        }
        Ok(reports)
    }
}

/// What one stream becomes in a commit, and who is told.
#[derive(Default)]
struct Head<'a> {
    seq: u64,
    received: i64,
    lost: u64,
    backfilled: i64,
    gap: Option<(Timestamp, Timestamp, i64)>,
    metrics: Option<(String, i64)>,
    tell: Vec<&'a Arc<watch::Sender<u64>>>,
    broken: Vec<&'a Arc<watch::Sender<u64>>>,
}

/// When what was lost before one batch was observed, and how much it was.
fn span(gaps: &[Gap], lost: u64) -> Option<(Timestamp, Timestamp, i64)> {
    let from = gaps.iter().map(|gap| gap.from).min()?;
    let to = gaps.iter().map(|gap| gap.to).max()?;
    Some((from, to, i64::try_from(lost).unwrap_or(i64::MAX)))
}

/// Counts a push, whose readings are shown unless later ones are there already:
/// what a host kept while it was away comes after the present.
async fn newest_reading(
    connection: &mut AnyConnection,
    stream: StreamKey,
    observed_at: Timestamp,
    payload: &str,
) -> Result<()> {
    sqlx::query(
        "update stream set received = received + 1,
             metrics = case when coalesce(metrics_ms, 0) <= $2 then $3 else metrics end,
             metrics_ms = case when coalesce(metrics_ms, 0) <= $2 then $2 else metrics_ms end
         where id = $1",
    )
    .bind(stream.0)
    .bind(observed_at.as_ms())
    .bind(payload)
    .execute(connection)
    .await
    .context("show a push")?;
    Ok(())
}

async fn last_seq(connection: &mut AnyConnection, stream: StreamKey) -> Result<u64> {
    let (seq,): (i64,) = sqlx::query_as("select last_seq from stream where id = $1")
        .bind(stream.0)
        .fetch_one(connection)
        .await
        .context("read the stream")?;
    Ok(u64::try_from(seq).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, registry::Registry};

    use super::*;

    async fn store() -> (tempfile::TempDir, Store, HostKey) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        let registry = Registry::parse("version: 1\nhosts: [{name: a}]\n", &|_| None).expect("valid");
        store.sync_hosts(&registry, Timestamp::now()).await.expect("a host");
        let host = store.host("a").await.expect("a host").key;
        (folder, store, host)
    }

    fn report() -> Report {
        Report {
            check: "c".parse().expect("valid"),
            status: Status::Ok,
            value: None,
            unit: None,
            text: String::new(),
            observed_at: Timestamp::now(),
            cause: None,
        }
    }

    fn batch(host: HostKey, stream: StreamKey, seq: u64, told: &Arc<watch::Sender<u64>>) -> Bulk {
        let now = Timestamp::now();
        Bulk::Batch(BatchWrite {
            host,
            stream,
            seq,
            lost: 0,
            observed_at: now,
            received_at: now,
            metrics: None,
            reports: vec![report()],
            gaps: Vec::new(),
            inventory: None,
            backfilled: false,
            committed: Arc::clone(told),
            room: Taken::default(),
        })
    }

    #[tokio::test]
    async fn what_two_connections_left_in_the_queue_is_stored_once_and_a_hole_ends_its_session() {
        let (_folder, store, host) = store().await;
        let (stream, committed) = store.stream(host, StreamId::new()).await.expect("a stream");
        assert_eq!(committed, 0);
        let (sender, _reports) = mpsc::channel(8);
        let mut writer = store.bulk_writer(sender).await.expect("a writer");
        let (old, new) = (Arc::new(watch::Sender::new(0)), Arc::new(watch::Sender::new(0)));
        let queue = [1, 2, 3].map(|seq| batch(host, stream, seq, &old));
        let again = [1, 2, 3, 4].map(|seq| batch(host, stream, seq, &new));
        assert_eq!(writer.commit(&queue).await.expect("committed").len(), 3);
        assert_eq!(writer.commit(&again).await.expect("committed").len(), 1, "a repeat was stored again");
        assert_eq!((*old.borrow(), *new.borrow()), (3, 4));

        let broken = Arc::new(watch::Sender::new(4));
        writer.commit(&[batch(host, stream, 9, &broken)]).await.expect("committed");
        assert_eq!(*broken.borrow(), NOT_COMMITTED);
        let telemetry = store.telemetry_of(host).await.expect("readable");
        assert_eq!((telemetry.received, telemetry.lost), (4, 0));
    }

    #[tokio::test]
    async fn new_reports_are_news_to_the_correlator_even_after_the_telemetry_was_emptied() {
        let (_folder, store, host) = store().await;
        store.save_correlator(700, &[]).await.expect("saved");
        let (sender, _reports) = mpsc::channel(8);
        let mut writer = store.bulk_writer(sender).await.expect("a writer");
        let own = Bulk::Own { host, reports: vec![report()], at: Timestamp::now() };
        assert_eq!(writer.commit(&[own]).await.expect("committed")[0].id, 701);
    }

    #[tokio::test]
    async fn retention_removes_what_is_old_and_keeps_what_may_be_replayed() {
        let (_folder, store, host) = store().await;
        let (sender, _reports) = mpsc::channel(8);
        let mut writer = store.bulk_writer(sender).await.expect("a writer");
        let old = Timestamp::from_ms(1_000);
        for at in [old, old, Timestamp::now()] {
            writer.commit(&[Bulk::Own { host, reports: vec![report()], at }]).await.expect("committed");
        }
        assert_eq!(store.prune_telemetry(Timestamp::from_ms(2_000), (0, 1)).await.expect("pruned"), 1);
        let kept: Vec<i64> =
            store.reports_after(0, 10).await.expect("readable").into_iter().map(|report| report.id).collect();
        assert_eq!(kept, [2, 3]);
    }
}
