//! Batches on disk until the coordinator has committed them.
//!
//! A batch is committed before it is sent and goes when it is acknowledged.
//! The deletion rides with the next insert, which halves the commits. Sequence
//! numbers are never used twice within a stream: the newest row stays until a
//! newer one is in, so the table itself remembers the number.
//!
//! There are two lanes. New batches go to the *live* one. When many of them
//! wait that were never sent, as after a partition, those become the *backlog*:
//! a stream of its own, sent beside the live one, which goes on at once. Only
//! what was certainly never sent is moved, since the coordinator may know the
//! rest under its number; `sent` remembers the highest number that left. It is
//! removed from the file before a session sends anything, so that after a crash
//! everything counts as sent.
//!
//! What cannot be kept, because the spool is full or the disk refuses, leaves
//! a hole in the numbers. Holes are remembered with their observed times and
//! told to the coordinator by the next batch that jumps over them.

mod gaps;
mod lane;
mod summary;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use farol_protocol::{
    StreamId, Timestamp,
    frame::Backlog,
    telemetry::{Gap, Telemetry},
};
use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use self::{
    gaps::{add, cover, renumber, split},
    lane::{State, count, int},
};
pub use self::{
    lane::Lane,
    summary::{Summary, summary},
};
use crate::{Error, fault, state::create_private};

/// What a row costs beside its body.
const ROW_BYTES: u64 = 32;
/// Up to so many batches that were never sent the live stream catches up by itself.
#[cfg(not(farol_simulation))]
pub const CATCH_UP: u64 = 64;
/// Few, so that the partitions of a seed reach it.
#[cfg(farol_simulation)]
pub const CATCH_UP: u64 = 3;

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
    live: State,
    backlog: Option<State>,
    max_bytes: u64,
    /// Live batches lost to write failures, not yet in the file. Their numbers
    /// are the last ones in use.
    lost: Option<Gap>,
    /// Nothing above this number of the live stream was ever sent; none when
    /// that is not known.
    sent: Option<u64>,
    /// The same as the file says it.
    saved_sent: Option<u64>,
    /// Sent before the present session, for all that is known.
    sent_before: u64,
    /// Whether batches may be sent now.
    in_session: bool,
    /// The file may have been numbered anew; it is read again before its next use.
    stale: bool,
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
        prepare(&mut connection).await.map_err(failed)?;
        let (live, backlog, sent) = load(&mut connection).await.map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            options,
            connection: Some(connection),
            live,
            backlog,
            max_bytes,
            lost: None,
            sent,
            saved_sent: sent,
            sent_before: 0,
            in_session: false,
            stale: false,
        })
    }

    /// The live stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.live.stream
    }

    /// The last number given to a live batch; 0 before the first.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.live.last
    }

    /// The backlog's stream, while it holds something.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        let waiting = self.backlog.as_ref().filter(|backlog| backlog.acked < backlog.last)?;
        Some(Backlog { stream: waiting.stream, last_seq: waiting.last })
    }

    /// Whether every live batch is acknowledged.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.live.acked >= self.live.last
    }

    /// Whether the last batch could not be kept.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.lost.is_some()
    }

    /// Commits one live batch. Its number is used up even when this fails.
    ///
    /// # Errors
    /// The batch could not be kept; it is remembered as a gap.
    pub async fn push(&mut self, ts: Timestamp, payload: Telemetry) -> Result<Batch, Error> {
        if self.stale
            && let Err(error) = self.reload().await
        {
            tracing::debug!("{}", error.sentence());
        }
        let seq = self.live.last + 1;
        self.live.last = seq;
        let batch = Batch { seq, ts, payload };
        fault::point("agent.spool.push.before");
        let committed = if self.stale { Err(sqlx::Error::PoolClosed) } else { self.commit(&batch).await };
        fault::point("agent.spool.push.after");
        match committed {
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
        let (max_bytes, lost, sent, saved_sent) = (self.max_bytes, self.lost, self.sent, self.saved_sent);
        let (mut live, mut backlog) = (self.live.clone(), self.backlog.clone());
        let (known_gaps, known_backlog_gaps) =
            (live.gaps.clone(), backlog.as_ref().map(|backlog| backlog.gaps.clone()).unwrap_or_default());

        fault::check("a batch")?;
        let connection = self.connected().await?;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        live.bytes = live.bytes.saturating_sub(Lane::Live.let_go(&mut tx, live.acked).await?);
        live.gaps.retain(|gap| gap.last_seq > live.acked);
        match &mut backlog {
            Some(done) if done.acked >= done.last => {
                Lane::Backlog.end(&mut tx).await?;
                backlog = None;
            }
            Some(waiting) => {
                waiting.bytes = waiting.bytes.saturating_sub(Lane::Backlog.let_go(&mut tx, waiting.acked).await?);
                waiting.gaps.retain(|gap| gap.last_seq > waiting.acked);
            }
            None => {}
        }
        loop {
            let kept = live.bytes + backlog.as_ref().map_or(0, |backlog| backlog.bytes);
            if kept + size <= max_bytes {
                break;
            }
            if let Some(backlog) = &mut backlog
                && let Some(freed) = Lane::Backlog.drop_oldest(&mut tx, &mut backlog.gaps, None).await?
            {
                backlog.bytes = backlog.bytes.saturating_sub(freed);
                continue;
            }
            let Some(freed) = Lane::Live.drop_oldest(&mut tx, &mut live.gaps, sent).await? else { break };
            live.bytes = live.bytes.saturating_sub(freed);
        }
        if let Some(lost) = lost {
            add(&mut live.gaps, lost, sent);
        }
        if live.gaps != known_gaps {
            Lane::Live.save_gaps(&mut tx, &live.gaps).await?;
        }
        if let Some(backlog) = &backlog
            && backlog.gaps != known_backlog_gaps
        {
            Lane::Backlog.save_gaps(&mut tx, &backlog.gaps).await?;
        }
        sqlx::query("insert into batch (seq, ts, size, body) values (?, ?, ?, ?)")
            .bind(int(batch.seq))
            .bind(batch.ts.as_ms())
            .bind(int(size))
            .bind(body)
            .execute(&mut *tx)
            .await?;
        if sent != saved_sent {
            save_sent(&mut tx, sent).await?;
        }
        tx.commit().await?;

        live.bytes += size;
        (self.live, self.backlog, self.lost, self.saved_sent) = (live, backlog, None, sent);
        Ok(())
    }

    /// Everything up to `seq` of that lane is committed at the coordinator.
    pub fn ack(&mut self, lane: Lane, seq: u64) {
        if let Some(state) = self.state_mut(lane) {
            state.acked = state.acked.max(seq.min(state.last));
        }
        fault::point("agent.spool.ack");
    }

    /// Moves live batches that were never sent into the backlog, if so many
    /// wait that the live stream would be held up. To be called before hello.
    ///
    /// # Errors
    /// The file cannot be changed; nothing was moved, or all of it.
    pub async fn set_apart(&mut self) -> Result<(), Error> {
        if self.stale {
            self.reload().await?;
        }
        // Numbers lost to write failures come last and stay with the live lane.
        let in_file = self.lost.map_or(self.live.last, |lost| lost.first_seq - 1);
        let Some(sent) = self.sent.filter(|sent| in_file.saturating_sub(*sent) > CATCH_UP) else {
            return Ok(());
        };
        let (live, backlog) = (self.live.clone(), self.backlog.clone());
        let moving = async {
            let connection = self.connected().await?;
            move_unsent(connection, sent, &live, backlog.as_ref()).await
        };
        let moved = moving.await;
        if !matches!(moved, Ok(false)) {
            self.stale = true;
            self.reload().await?;
        }
        match moved {
            Ok(true) => {
                tracing::info!(backlog = ?self.backlog(), "what waited is sent beside what is observed now");
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(source) => Err(self.failed("write", source)),
        }
    }

    /// Takes the coordinator's word at hello; from here on batches may be sent.
    /// Answers whether the streams of that hello can go on: where more is
    /// committed than this file ever numbered, it went backward, as with a
    /// restored snapshot, and what it holds now is not what was committed under
    /// its numbers. Then a new stream begins with all of it, and the connection
    /// must say hello again.
    ///
    /// # Errors
    /// The file could not be changed; nothing was let go, and nothing may be sent.
    pub async fn resume(&mut self, committed: u64, backlog: Option<u64>) -> Result<bool, Error> {
        let live_ok = self.live.last >= committed;
        let backlog_ok = match (&self.backlog, backlog) {
            (Some(waiting), Some(committed)) => waiting.last >= committed,
            _ => true,
        };
        if live_ok && backlog_ok {
            if self.saved_sent.is_some() {
                let cleared = match self.connected().await {
                    Ok(connection) => save_sent(connection, None).await,
                    Err(error) => Err(error),
                };
                cleared.map_err(|source| self.broken("write", source))?;
            }
            self.sent_before = self.sent.unwrap_or(self.live.last);
            (self.sent, self.saved_sent, self.in_session) = (None, None, true);
            self.live.acked = committed;
            if let (Some(waiting), Some(committed)) = (&mut self.backlog, backlog) {
                waiting.acked = committed;
            }
            return Ok(true);
        }
        let restarting = async {
            let connection = self.connected().await?;
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            if !live_ok {
                Lane::Live.restart(&mut tx).await?;
                save_sent(&mut tx, Some(0)).await?;
            }
            if !backlog_ok {
                Lane::Backlog.restart(&mut tx).await?;
            }
            tx.commit().await
        };
        let restarted = restarting.await;
        self.stale = true;
        self.reload().await?;
        restarted.map_err(|source| self.failed("write", source))?;
        Ok(false)
    }

    /// The session has ended; nothing above `cursor` of the live stream was
    /// sent in it. Kept with the next batch.
    pub fn ended(&mut self, cursor: u64) {
        // A session that could not begin has sent nothing.
        if std::mem::take(&mut self.in_session) {
            // What an earlier connection sent may still be on its way to the
            // coordinator's disk.
            self.sent = Some(cursor.max(self.sent_before));
        }
    }

    /// The next batches above `seq`, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn after(&mut self, lane: Lane, seq: u64, limit: usize) -> Result<Vec<Batch>, Error> {
        let batches = match self.connected().await {
            Ok(connection) => lane.after(connection, seq, limit).await,
            Err(error) => Err(error),
        };
        batches.map_err(|source| self.broken("read", source))
    }

    /// Gaps that cover exactly `first` to `last`. Where nothing is remembered
    /// about a number, `ts` stands for its time.
    #[must_use]
    pub fn gaps(&self, lane: Lane, first: u64, last: u64, ts: Timestamp) -> Vec<Gap> {
        let gaps: &[Gap] = match lane {
            Lane::Live => &self.live.gaps,
            Lane::Backlog => self.backlog.as_ref().map_or(&[], |backlog| &backlog.gaps),
        };
        cover(gaps, first, last, ts)
    }

    /// Flushes and closes the file.
    pub async fn close(mut self) {
        if self.sent != self.saved_sent {
            let sent = self.sent;
            let saved = match self.connected().await {
                Ok(connection) => save_sent(connection, sent).await,
                Err(error) => Err(error),
            };
            if let Err(error) = saved {
                // Then everything counts as sent, which is slower and loses nothing.
                tracing::warn!("the spool does not remember what was sent: {error}");
            }
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!("the spool did not close cleanly: {error}");
        }
    }

    const fn state_mut(&mut self, lane: Lane) -> Option<&mut State> {
        match lane {
            Lane::Live => Some(&mut self.live),
            Lane::Backlog => self.backlog.as_mut(),
        }
    }

    /// Takes what the file says, as after a change of numbers. Whatever was
    /// acknowledged is told again at the next hello.
    async fn reload(&mut self) -> Result<(), Error> {
        let loaded = match self.connected().await {
            Ok(connection) => load(connection).await,
            Err(error) => Err(error),
        };
        let (live, backlog, sent) = loaded.map_err(|source| self.broken("read", source))?;
        (self.live, self.backlog, self.sent, self.saved_sent) = (live, backlog, sent, sent);
        self.stale = false;
        if let Some(lost) = self.lost {
            let lost = renumber(lost, lost.first_seq, self.live.last + 1);
            self.live.last = lost.last_seq;
            self.lost = Some(lost);
        }
        Ok(())
    }

    async fn connected(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&self.options).await?,
        };
        Ok(self.connection.insert(connection))
    }

    fn broken(&mut self, operation: &'static str, source: sqlx::Error) -> Error {
        self.connection = None;
        self.failed(operation, source)
    }

    fn failed(&self, operation: &'static str, source: sqlx::Error) -> Error {
        Error::Spool { operation, path: self.path.clone(), source }
    }
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

async fn prepare(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    Lane::Live.create(&mut tx).await?;
    Lane::Backlog.create(&mut tx).await?;
    sqlx::raw_sql("create table if not exists sent (high integer not null)").execute(&mut *tx).await?;
    if Lane::Live.begin(&mut tx, 0).await? {
        save_sent(&mut tx, Some(0)).await?;
    }
    tx.commit().await
}

async fn load(connection: &mut SqliteConnection) -> Result<(State, Option<State>, Option<u64>), sqlx::Error> {
    let live = Lane::Live.load(connection).await?.ok_or(sqlx::Error::RowNotFound)?;
    let backlog = Lane::Backlog.load(connection).await?;
    let sent: Option<i64> = sqlx::query_scalar("select high from sent").fetch_optional(connection).await?;
    Ok((live, backlog, sent.map(count)))
}

async fn save_sent(connection: &mut SqliteConnection, sent: Option<u64>) -> Result<(), sqlx::Error> {
    sqlx::query("delete from sent").execute(&mut *connection).await?;
    if let Some(sent) = sent {
        sqlx::query("insert into sent (high) values (?)").bind(int(sent)).execute(connection).await?;
    }
    Ok(())
}

/// Appends the live batches and gaps above `sent` to the backlog, if there are
/// more than [`CATCH_UP`], and lets the live numbers go on after `sent`.
async fn move_unsent(
    connection: &mut SqliteConnection,
    sent: u64,
    live: &State,
    backlog: Option<&State>,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let waiting: i64 =
        sqlx::query_scalar("select count(*) from batch where seq > ?").bind(int(sent)).fetch_one(&mut *tx).await?;
    if count(waiting) <= CATCH_UP {
        return Ok(false);
    }
    let appended = backlog.filter(|backlog| backlog.acked < backlog.last);
    if appended.is_none() {
        Lane::Backlog.end(&mut tx).await?;
        Lane::Backlog.begin(&mut tx, 0).await?;
    }
    let base = appended.map_or(0, |backlog| backlog.last);
    sqlx::query(
        "insert into backlog_batch (seq, ts, size, body)
         select seq - ?1 + ?2, ts, size, body from batch where seq > ?1 order by seq",
    )
    .bind(int(sent))
    .bind(int(base))
    .execute(&mut *tx)
    .await?;
    sqlx::query("delete from batch where seq > ?").bind(int(sent)).execute(&mut *tx).await?;
    let (below, above) = split(&live.gaps, sent);
    let mut backlog_gaps = appended.map(|backlog| backlog.gaps.clone()).unwrap_or_default();
    for gap in above {
        add(&mut backlog_gaps, renumber(gap, sent, base), None);
    }
    Lane::Live.save_gaps(&mut tx, &below).await?;
    Lane::Backlog.save_gaps(&mut tx, &backlog_gaps).await?;
    sqlx::query("update stream set floor = ?").bind(int(sent)).execute(&mut *tx).await?;
    save_sent(&mut tx, Some(sent)).await?;
    tx.commit().await?;
    Ok(true)
}

fn is_damaged(error: &sqlx::Error) -> bool {
    // SQLITE_CORRUPT and SQLITE_NOTADB.
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| matches!(&*code, "11" | "26"))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
