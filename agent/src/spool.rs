//! Batches on disk until the coordinator has committed them.
//!
//! A batch is committed before it is sent and goes when it is acknowledged.
//! The deletion rides with the next insert, which halves the commits. Sequence
//! numbers are never used twice within a stream: the newest row stays until a
//! newer one is in, so the table itself remembers the number.
//!
//! What cannot be kept, because the spool is full or the disk refuses, leaves
//! a hole in the numbers. Holes are remembered with their observed times and
//! told to the coordinator by the next batch that jumps over them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use farol_protocol::{
    StreamId, Timestamp,
    telemetry::{Gap, Telemetry},
};
use sqlx::{
    Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{Error, state::create_private};

/// What a row costs beside its body.
const ROW_BYTES: u64 = 32;

/// One batch as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Position in the stream.
    pub seq: u64,
    /// When it was closed.
    pub ts: Timestamp,
    /// What it carries.
    pub payload: Telemetry,
}

/// The spool file.
pub struct Spool {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// Absent after a failure: the next use opens a fresh connection, since a
    /// full disk leaves SQLite's transaction in a state that is not ours to know.
    connection: Option<SqliteConnection>,
    stream: StreamId,
    next_seq: u64,
    acked: u64,
    max_bytes: u64,
    bytes: u64,
    gaps: Vec<Gap>,
    /// Batches lost to write failures, not yet in the file.
    lost: Option<Gap>,
}

impl Spool {
    /// Opens or creates the spool. A damaged file is set aside and a new
    /// stream begins.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub async fn open(path: &Path, max_bytes: u64) -> Result<Self, Error> {
        match Self::open_with(path, max_bytes, options(path)).await {
            Err(Error::Spool { source, .. }) if is_damaged(&source) => {
                let aside = path.with_extension(format!("damaged-{}", Timestamp::now().as_ms()));
                tracing::error!(
                    aside = %aside.display(),
                    "the spool is damaged and was set aside; batches in it are not sent: {source}"
                );
                std::fs::rename(path, &aside).map_err(|source| Error::Io {
                    operation: "rename",
                    path: path.to_owned(),
                    source,
                })?;
                for suffix in ["-wal", "-shm"] {
                    let mut side = path.as_os_str().to_owned();
                    side.push(suffix);
                    // Absent after a clean end.
                    let _ = std::fs::remove_file(side);
                }
                Self::open_with(path, max_bytes, options(path)).await
            }
            other => other,
        }
    }

    async fn open_with(path: &Path, max_bytes: u64, options: SqliteConnectOptions) -> Result<Self, Error> {
        create_private(path)?;
        let failed = |source| Error::Spool { operation: "open", path: path.to_owned(), source };
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let state = load(&mut connection).await.map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            options,
            connection: Some(connection),
            stream: state.stream,
            next_seq: state.next_seq,
            acked: 0,
            max_bytes,
            bytes: state.bytes,
            gaps: state.gaps,
            lost: None,
        })
    }

    /// The stream that sequence numbers count in.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The last number given to a batch; 0 before the first.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.acked >= self.last_seq()
    }

    /// Whether the last batch could not be kept.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.lost.is_some()
    }

    /// Commits one batch. Its number is used up even when this fails.
    ///
    /// # Errors
    /// The batch could not be kept; it is remembered as a gap.
    pub async fn push(&mut self, ts: Timestamp, payload: Telemetry) -> Result<Batch, Error> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let batch = Batch { seq, ts, payload };
        match self.commit(&batch).await {
            Ok(()) => Ok(batch),
            Err(source) => {
                self.connection = None;
                let first = self.lost.unwrap_or(Gap { first_seq: seq, last_seq: seq, from: ts, to: ts });
                self.lost = Some(Gap { last_seq: seq, to: ts, ..first });
                Err(self.failed("write", source))
            }
        }
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), sqlx::Error> {
        let body = serde_json::to_string(&batch.payload).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let size = body.len() as u64 + ROW_BYTES;
        let (acked, max_bytes, lost) = (self.acked, self.max_bytes, self.lost);
        let mut bytes = self.bytes;
        let mut gaps: Vec<Gap> = self.gaps.iter().copied().filter(|gap| gap.last_seq > acked).collect();
        let known = self.gaps.clone();

        let connection = self.connected().await?;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let freed: i64 = sqlx::query_scalar("select coalesce(sum(size), 0) from batch where seq <= ?")
            .bind(int(acked))
            .fetch_one(&mut *tx)
            .await?;
        if freed > 0 {
            sqlx::query("delete from batch where seq <= ?").bind(int(acked)).execute(&mut *tx).await?;
            bytes = bytes.saturating_sub(freed.unsigned_abs());
        }
        while bytes > 0 && bytes + size > max_bytes {
            let oldest =
                sqlx::query("delete from batch where seq = (select min(seq) from batch) returning seq, ts, size")
                    .fetch_optional(&mut *tx)
                    .await?;
            let Some(oldest) = oldest else {
                bytes = 0;
                break;
            };
            let at = Timestamp::from_ms(oldest.try_get("ts")?);
            let seq = count(oldest.try_get("seq")?);
            bytes = bytes.saturating_sub(count(oldest.try_get("size")?));
            add(&mut gaps, Gap { first_seq: seq, last_seq: seq, from: at, to: at });
        }
        if let Some(lost) = lost {
            add(&mut gaps, lost);
        }
        if gaps != known {
            sqlx::query("delete from gap").execute(&mut *tx).await?;
            for gap in &gaps {
                sqlx::query("insert into gap (first_seq, last_seq, first_ts, last_ts) values (?, ?, ?, ?)")
                    .bind(int(gap.first_seq))
                    .bind(int(gap.last_seq))
                    .bind(gap.from.as_ms())
                    .bind(gap.to.as_ms())
                    .execute(&mut *tx)
                    .await?;
            }
        }
        sqlx::query("insert into batch (seq, ts, size, body) values (?, ?, ?, ?)")
            .bind(int(batch.seq))
            .bind(batch.ts.as_ms())
            .bind(int(size))
            .bind(body)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;

        self.bytes = bytes + size;
        self.gaps = gaps;
        self.lost = None;
        Ok(())
    }

    /// Everything up to `seq` is committed at the coordinator.
    pub fn ack(&mut self, seq: u64) {
        self.acked = self.acked.max(seq.min(self.last_seq()));
    }

    /// Takes the coordinator's word at hello. Answers whether the stream of
    /// that hello can go on: where more is committed than this file ever
    /// numbered, it went backward, as with a restored snapshot, and what it
    /// holds now is not what was committed under its numbers. Then a new stream
    /// begins with all of it, and the connection must say hello again.
    ///
    /// # Errors
    /// The new stream could not be kept; nothing was let go.
    pub async fn resume(&mut self, committed: u64) -> Result<bool, Error> {
        if self.next_seq > committed {
            self.acked = committed;
            return Ok(true);
        }
        let restarted = match self.connected().await {
            Ok(connection) => restart(connection).await,
            Err(error) => Err(error),
        };
        match restarted {
            Ok(state) => {
                (self.stream, self.next_seq, self.bytes, self.gaps) =
                    (state.stream, state.next_seq, state.bytes, state.gaps);
                self.acked = 0;
                Ok(false)
            }
            Err(source) => Err(self.failed("write", source)),
        }
    }

    /// The next batches above `seq`, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn after(&mut self, seq: u64, limit: usize) -> Result<Vec<Batch>, Error> {
        let rows = match self.connected().await {
            Ok(connection) => sqlx::query("select seq, ts, body from batch where seq > ? order by seq limit ?")
                .bind(int(seq))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await
                .and_then(|rows| rows.iter().map(read_batch).collect()),
            Err(error) => Err(error),
        };
        rows.map_err(|source| {
            self.connection = None;
            self.failed("read", source)
        })
    }

    /// Gaps that cover exactly `first` to `last`. Where nothing is remembered
    /// about a number, `ts` stands for its time.
    #[must_use]
    pub fn gaps(&self, first: u64, last: u64, ts: Timestamp) -> Vec<Gap> {
        let mut covered = Vec::new();
        let mut next = first;
        for gap in self.gaps.iter().filter(|gap| gap.last_seq >= first && gap.first_seq <= last) {
            let begin = gap.first_seq.max(first);
            if begin > next {
                covered.push(Gap { first_seq: next, last_seq: begin - 1, from: ts, to: ts });
            }
            let end = gap.last_seq.min(last);
            covered.push(Gap { first_seq: begin, last_seq: end, from: gap.from, to: gap.to });
            next = end + 1;
        }
        if next <= last {
            covered.push(Gap { first_seq: next, last_seq: last, from: ts, to: ts });
        }
        covered
    }

    /// Flushes and closes the file.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!("the spool did not close cleanly: {error}");
        }
    }

    async fn connected(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&self.options).await?,
        };
        Ok(self.connection.insert(connection))
    }

    fn failed(&self, operation: &'static str, source: sqlx::Error) -> Error {
        Error::Spool { operation, path: self.path.clone(), source }
    }
}

/// What `farol-agent status` shows of a spool.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// The stream.
    pub stream: StreamId,
    /// Batches in the file; the newest may be acknowledged already.
    pub batches: u64,
    /// Their size.
    pub bytes: u64,
    /// When the oldest was closed.
    pub oldest: Option<Timestamp>,
    /// Ranges that had to be dropped and are not yet told.
    pub gaps: u64,
}

/// Looks at a spool that an agent may be using.
///
/// # Errors
/// The file cannot be read.
pub async fn summary(path: &Path) -> Result<Summary, Error> {
    let look = async {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let row = sqlx::query(
            "select (select id from stream) as stream, count(*) as batches, coalesce(sum(size), 0) as bytes,
                    min(ts) as oldest, (select count(*) from gap) as gaps from batch",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        let stream: String = row.try_get("stream")?;
        Ok(Summary {
            stream: stream.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            batches: count(row.try_get("batches")?),
            bytes: count(row.try_get("bytes")?),
            oldest: row.try_get::<Option<i64>, _>("oldest")?.map(Timestamp::from_ms),
            gaps: count(row.try_get("gaps")?),
        })
    };
    look.await.map_err(|source| Error::Spool { operation: "read", path: path.to_owned(), source })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(2))
        // Space freed by acknowledged batches is used again; the log is cut.
        .pragma("journal_size_limit", "1048576")
        .pragma("wal_autocheckpoint", "256")
}

struct State {
    stream: StreamId,
    next_seq: u64,
    bytes: u64,
    gaps: Vec<Gap>,
}

/// Numbers what the file holds from 1 in a new stream.
async fn restart(connection: &mut SqliteConnection) -> Result<State, sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let first: Option<i64> = sqlx::query_scalar(
        "select min(first) from (select min(seq) as first from batch union all select min(first_seq) from gap)",
    )
    .fetch_one(&mut *tx)
    .await?;
    let before = first.unwrap_or(1) - 1;
    sqlx::query("update batch set seq = seq - ?").bind(before).execute(&mut *tx).await?;
    sqlx::query("update gap set first_seq = first_seq - ?1, last_seq = last_seq - ?1")
        .bind(before)
        .execute(&mut *tx)
        .await?;
    sqlx::query("update stream set id = ?, floor = 0").bind(StreamId::new().to_string()).execute(&mut *tx).await?;
    tx.commit().await?;
    load(connection).await
}

async fn load(connection: &mut SqliteConnection) -> Result<State, sqlx::Error> {
    sqlx::raw_sql(
        "create table if not exists stream (id text not null, floor integer not null);
         create table if not exists batch (seq integer primary key, ts integer not null, size integer not null, body text not null);
         create table if not exists gap (first_seq integer primary key, last_seq integer not null, first_ts integer not null, last_ts integer not null);",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query("insert into stream (id, floor) select ?, 0 where not exists (select 1 from stream)")
        .bind(StreamId::new().to_string())
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query(
        "select id, max(floor, (select coalesce(max(seq), 0) from batch), (select coalesce(max(last_seq), 0) from gap)) as last,
                (select coalesce(sum(size), 0) from batch) as bytes
         from stream",
    )
    .fetch_one(&mut *connection)
    .await?;
    let gaps = sqlx::query("select first_seq, last_seq, first_ts, last_ts from gap order by first_seq")
        .fetch_all(&mut *connection)
        .await?;
    let gaps = gaps
        .iter()
        .map(|row| {
            Ok(Gap {
                first_seq: count(row.try_get("first_seq")?),
                last_seq: count(row.try_get("last_seq")?),
                from: Timestamp::from_ms(row.try_get("first_ts")?),
                to: Timestamp::from_ms(row.try_get("last_ts")?),
            })
        })
        .collect::<Result<_, sqlx::Error>>()?;
    let stream: String = row.try_get("id")?;
    Ok(State {
        stream: stream.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        next_seq: count(row.try_get("last")?) + 1,
        bytes: count(row.try_get("bytes")?),
        gaps,
    })
}

fn read_batch(row: &sqlx::sqlite::SqliteRow) -> Result<Batch, sqlx::Error> {
    let body: String = row.try_get("body")?;
    Ok(Batch {
        seq: count(row.try_get("seq")?),
        ts: Timestamp::from_ms(row.try_get("ts")?),
        payload: serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

/// Joins a range to its neighbour, so that a long outage stays one entry.
fn add(gaps: &mut Vec<Gap>, new: Gap) {
    let at = gaps.partition_point(|gap| gap.first_seq < new.first_seq);
    gaps.insert(at, new);
    let mut joined: Vec<Gap> = Vec::with_capacity(gaps.len());
    for gap in gaps.drain(..) {
        match joined.last_mut() {
            Some(last) if last.last_seq + 1 >= gap.first_seq => {
                last.last_seq = last.last_seq.max(gap.last_seq);
                last.from = last.from.min(gap.from);
                last.to = last.to.max(gap.to);
            }
            _ => joined.push(gap),
        }
    }
    *gaps = joined;
}

fn is_damaged(error: &sqlx::Error) -> bool {
    // SQLITE_CORRUPT and SQLITE_NOTADB.
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| matches!(&*code, "11" | "26"))
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Report, Status};

    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000).plus(Duration::from_secs(second))
    }

    fn telemetry(text: &str) -> Telemetry {
        let report = Report {
            check: "disk.root".parse().expect("valid"),
            status: Status::Ok,
            value: None,
            unit: None,
            text: text.to_owned(),
            observed_at: at(0),
            cause: None,
        };
        Telemetry { reports: vec![report], ..Telemetry::default() }
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("spool.db")
        }

        async fn open(&self, max_bytes: u64) -> Spool {
            Spool::open(&self.file(), max_bytes).await.expect("opens")
        }

        async fn sql(&self, sql: &'static str) -> i64 {
            let options = SqliteConnectOptions::new().filename(self.file());
            let mut other = SqliteConnection::connect_with(&options).await.expect("opens");
            sqlx::query_scalar(sql).fetch_optional(&mut other).await.expect("runs").unwrap_or(0)
        }
    }

    async fn push(spool: &mut Spool, second: u64) -> u64 {
        spool.push(at(second), telemetry("x")).await.expect("kept").seq
    }

    async fn pending(spool: &mut Spool) -> Vec<u64> {
        let acked = spool.acked;
        spool.after(acked, 1000).await.expect("readable").iter().map(|batch| batch.seq).collect()
    }

    #[tokio::test]
    async fn unacknowledged_batches_survive_a_reopen_and_numbers_go_on() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        let stream = spool.stream();
        assert_eq!((push(&mut spool, 1).await, push(&mut spool, 2).await), (1, 2));
        drop(spool);

        let mut spool = folder.open(1 << 20).await;
        assert_eq!(spool.stream(), stream);
        assert_eq!(push(&mut spool, 3).await, 3);
        let batches = spool.after(0, 10).await.expect("readable");
        assert_eq!(batches[0], Batch { seq: 1, ts: at(1), payload: telemetry("x") });
        assert_eq!(batches.len(), 3);
    }

    #[tokio::test]
    async fn acknowledged_batches_go_with_the_next_insert_and_the_number_stays() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        push(&mut spool, 1).await;
        push(&mut spool, 2).await;

        spool.ack(2);
        assert_eq!(folder.sql("select count(*) from batch").await, 2);
        assert_eq!(pending(&mut spool).await, [] as [u64; 0]);
        push(&mut spool, 3).await;
        assert_eq!(folder.sql("select count(*) from batch").await, 1);

        spool.ack(3);
        spool.close().await;
        let mut spool = folder.open(1 << 20).await;
        assert_eq!(push(&mut spool, 4).await, 4);
    }

    #[tokio::test]
    async fn an_acknowledgement_beyond_what_exists_frees_no_future_batch() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        push(&mut spool, 1).await;
        spool.ack(90);
        push(&mut spool, 2).await;
        push(&mut spool, 3).await;
        assert_eq!(pending(&mut spool).await, [2, 3]);
    }

    #[tokio::test]
    async fn hello_trims_what_is_committed() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        push(&mut spool, 1).await;
        push(&mut spool, 2).await;
        assert!(spool.resume(1).await.expect("kept"));
        assert_eq!(pending(&mut spool).await, [2]);
    }

    #[tokio::test]
    async fn a_spool_that_went_backward_sends_what_it_holds_in_a_new_stream() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        for second in 1..=5 {
            push(&mut spool, second).await;
        }
        spool.ack(3);
        push(&mut spool, 6).await;
        let before = spool.stream();
        assert!(!spool.resume(40).await.expect("kept"), "the old numbers went on");
        assert_ne!(spool.stream(), before);
        assert_eq!(pending(&mut spool).await, [1, 2, 3], "4, 5 and 6 under their new numbers");

        let stream = spool.stream();
        drop(spool);
        let mut spool = folder.open(1 << 20).await;
        assert_eq!(spool.stream(), stream);
        assert_eq!(push(&mut spool, 7).await, 4);
        assert!(spool.resume(0).await.expect("kept"));
    }

    #[tokio::test]
    async fn a_full_spool_drops_the_oldest_and_remembers_exactly_what() {
        let folder = Folder::new();
        let mut spool = folder.open(2_000).await;
        for second in 1..=50 {
            push(&mut spool, second).await;
        }
        let kept = pending(&mut spool).await;
        let first = kept[0];
        assert!(first > 1 && *kept.last().expect("some") == 50, "{kept:?}");
        let expected = [Gap { first_seq: 1, last_seq: first - 1, from: at(1), to: at(first - 1) }];
        assert_eq!(spool.gaps(1, first - 1, at(99)), expected);

        drop(spool);
        let mut spool = folder.open(2_000).await;
        assert_eq!(spool.gaps(1, first - 1, at(99)), expected);
        spool.ack(first);
        push(&mut spool, 51).await;
        assert_eq!(folder.sql("select count(*) from gap").await, 0);
    }

    #[tokio::test]
    async fn a_write_failure_is_a_gap_as_soon_as_writing_works_again() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        push(&mut spool, 1).await;

        folder.sql("create trigger full before insert on batch begin select raise(abort, 'disk full'); end").await;
        for second in [2, 3, 4] {
            spool.push(at(second), telemetry("lost")).await.expect_err("cannot be kept");
        }
        assert!(spool.is_failing());
        folder.sql("drop trigger full").await;

        assert_eq!(push(&mut spool, 5).await, 5);
        assert!(!spool.is_failing());
        assert_eq!(pending(&mut spool).await, [1, 5]);
        assert_eq!(spool.gaps(2, 4, at(99)), [Gap { first_seq: 2, last_seq: 4, from: at(2), to: at(4) }]);
    }

    #[tokio::test]
    async fn a_full_disk_is_survived_and_space_freed_by_an_acknowledgement_is_used() {
        let folder = Folder::new();
        folder.open(1 << 30).await.close().await;
        let limited = options(&folder.file()).pragma("max_page_count", "12");
        let mut spool = Spool::open_with(&folder.file(), 1 << 30, limited).await.expect("opens");
        let big = "y".repeat(3_000);
        let mut kept = 0;
        while spool.push(at(kept + 1), telemetry(&big)).await.is_ok() {
            kept += 1;
            assert!(kept < 100, "the page limit does not hold");
        }

        spool.ack(kept);
        let batch = spool.push(at(90), telemetry("small")).await.expect("space was freed");
        assert_eq!(batch.seq, kept + 2);
        assert_eq!(spool.gaps(kept + 1, kept + 1, at(0))[0].from, at(kept + 1));
    }

    #[tokio::test]
    async fn gaps_cover_exactly_the_asked_range() {
        let folder = Folder::new();
        let mut spool = folder.open(1 << 20).await;
        spool.gaps = vec![
            Gap { first_seq: 2, last_seq: 5, from: at(2), to: at(5) },
            Gap { first_seq: 8, last_seq: 9, from: at(8), to: at(9) },
        ];
        let ranges: Vec<(u64, u64)> =
            spool.gaps(4, 10, at(99)).iter().map(|gap| (gap.first_seq, gap.last_seq)).collect();
        assert_eq!(ranges, [(4, 5), (6, 7), (8, 9), (10, 10)]);
        assert!(spool.gaps(11, 10, at(0)).is_empty());
    }

    #[tokio::test]
    async fn a_damaged_spool_is_set_aside_and_a_new_stream_begins() {
        let folder = Folder::new();
        std::fs::write(folder.file(), "not a database, but long enough to look at".repeat(100)).expect("writable");
        let mut spool = folder.open(1 << 20).await;
        assert_eq!(push(&mut spool, 1).await, 1);
        let aside = std::fs::read_dir(folder.0.path()).expect("listable").flatten();
        assert!(aside.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("damaged")));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_day_of_acknowledged_batches_writes_less_than_its_budget() {
        fn written() -> u64 {
            let io = std::fs::read_to_string("/proc/self/io").expect("own counters");
            let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a counter");
            line.parse().expect("a number")
        }
        let folder = Folder::new();
        let mut spool = folder.open(64 << 20).await;
        let body = "m".repeat(2_500);
        let (batches, before) = (1_000, written());
        for second in 1..=batches {
            let seq = spool.push(at(second), telemetry(&body)).await.expect("kept").seq;
            spool.ack(seq);
        }
        let a_day = (written() - before) / batches * (24 * 3600 / 30);
        eprintln!("{a_day} bytes a day");
        assert!(a_day < 50_000_000, "{a_day} bytes a day");
    }
}
