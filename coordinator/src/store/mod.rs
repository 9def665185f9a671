//! All SQL. Two databases: *state* (what people decide) and *telemetry*
//! (bulk), so that bulk never delays an approval.
//!
//! **Invariant.** Every change of state goes through [`Db::write`]: one writer
//! at a time, `begin immediate`, so that a conditional update never meets a
//! locked database half-way.

pub mod actions;
pub mod anchor;
pub mod audit;
pub mod brakes;
pub mod bulk;
pub mod correlation;
pub mod daily;
pub mod dropped;
pub mod evidence;
pub mod findings;
pub mod history;
pub mod hosts;
pub mod http_keys;
pub mod inbox;
pub mod integrations;
pub mod keys;
pub mod links;
pub mod outbox;
pub mod passkeys;
pub mod people;
pub mod quiet;
pub mod record;
pub mod runs;
pub mod seal;
pub mod sessions;
pub mod signals;
pub mod steps;
pub mod streams;
pub mod tickets;
pub mod tokens;
pub mod topology;
pub mod trust;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use farol_protocol::Timestamp;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _, any::install_default_drivers, migrate::Migrator};
use tokio::{
    sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::{Error, Result, StoreContext as _};

static STATE: Migrator = sqlx::migrate!("migrations/state");
static TELEMETRY: Migrator = sqlx::migrate!("migrations/telemetry");

/// The open store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    state: Arc<Db>,
    telemetry: Arc<Db>,
    /// Steps of actions that the next commit takes.
    steps: Arc<std::sync::Mutex<VecDeque<steps::Waiting>>>,
    /// What the history has no room for.
    pub dropped: Arc<dropped::Dropped>,
}

/// One database.
#[derive(Debug)]
pub struct Db {
    url: String,
    log: PathBuf,
    /// How many may read at once.
    turns: Arc<Semaphore>,
    /// Connections that read and are free; the one used last is used first,
    /// since it remembers most. The library's pool would ask each connection
    /// whether it is there whenever it comes back, which costs as much as what
    /// it was used for; a file does not go away.
    readers: Free,
    /// The one connection that changes something; none before the first change
    /// and after a failed one. What it has read stays right from one change to
    /// the next, since nobody else writes.
    writer: Mutex<Option<AnyConnection>>,
    commits: AtomicU64,
    failing: AtomicBool,
}

/// A transaction that changes state; commit it with [`Write::commit`].
///
/// Not the transaction type of the library: after a failure such as a full
/// disk SQLite has ended the transaction by itself, and the library goes on to
/// count it. Here a connection that did not commit is closed.
pub struct Write<'a> {
    /// There until the commit.
    connection: Option<AnyConnection>,
    db: &'a Db,
    turn: Turn<'a>,
}

type Turn<'a> = MutexGuard<'a, Option<AnyConnection>>;

const HELD: &str = "a change has its connection until it ends";

impl std::ops::Deref for Write<'_> {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.connection.as_ref().expect(HELD)
    }
}

impl std::ops::DerefMut for Write<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.connection.as_mut().expect(HELD)
    }
}

impl Write<'_> {
    /// Makes the changes durable.
    ///
    /// # Errors
    /// The store failed; nothing was changed.
    pub async fn commit(mut self) -> Result<()> {
        let committed = match farol_agent::fault::check("a change") {
            Ok(()) => self.execute("commit").await,
            Err(error) => Err(error.into()),
        };
        self.db.failing.store(committed.is_err(), Ordering::Relaxed);
        committed.context("commit a change")?;
        *self.turn = self.connection.take();
        self.db.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A connection to read with.
pub(crate) struct Read {
    /// There until the end.
    connection: Option<AnyConnection>,
    free: Free,
    _turn: OwnedSemaphorePermit,
}

type Free = Arc<std::sync::Mutex<Vec<AnyConnection>>>;

impl std::ops::Deref for Read {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.connection.as_ref().expect(HELD)
    }
}

impl std::ops::DerefMut for Read {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.connection.as_mut().expect(HELD)
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(self.connection.take());
    }
}

/// Settings of every connection: durable after a power loss, no checkpoint
/// inside a write (a job does those), readers that wait instead of failing.
const PRAGMAS: &str = "pragma busy_timeout = 10000; pragma journal_mode = wal; pragma synchronous = full; \
     pragma foreign_keys = on; pragma wal_autocheckpoint = 0; pragma cache_size = -16384; \
     pragma journal_size_limit = 67108864";

impl Db {
    async fn open(path: &Path, readers: usize, page_size: &'static str, migrations: &Migrator) -> Result<Self> {
        install_default_drivers();
        let text = path.to_str().filter(|text| !text.contains(['?', '#', '%'])).ok_or_else(|| {
            Error::Config(format!("the path {} cannot hold a database; use one without ?, # and %", path.display()))
        })?;
        let url = format!("sqlite://{text}?mode=rwc");
        // The first connection turns the file to write-ahead logging, which two
        // at once would quarrel over.
        let mut first = AnyConnection::connect(&url).await.context("open the database")?;
        first.execute(page_size).await.context("configure the database")?;
        first.execute(PRAGMAS).await.context("configure the database")?;
        first.close().await.context("configure the database")?;
        let pool = AnyPool::connect(&url).await.context("open the database")?;
        migrations.run(&pool).await?;
        pool.close().await;
        let log = PathBuf::from(format!("{text}-wal"));
        Ok(Self {
            url,
            log,
            turns: Arc::new(Semaphore::new(readers)),
            readers: Free::default(),
            writer: Mutex::new(None),
            commits: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        })
    }

    /// A connection to read with, once there is a free one.
    ///
    /// # Errors
    /// None became free within half a minute, or none could be opened.
    pub(crate) async fn read(&self) -> Result<Read> {
        let turn = timeout(READ_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        // The semaphore is never closed.
        let Ok(Ok(turn)) = turn else {
            return Err(Error::Refused("too much is being read from the database; try again".to_owned()));
        };
        let free = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match free {
            Some(connection) => connection,
            None => self.own_connection().await?,
        };
        Ok(Read { connection: Some(connection), free: Arc::clone(&self.readers), _turn: turn })
    }

    /// Begins a change.
    ///
    /// # Errors
    /// Another process kept the database locked for ten seconds, or it failed.
    pub async fn write(&self) -> Result<Write<'_>> {
        self.begin(self.turn().await).await
    }

    /// Waits to be the one that changes something.
    async fn turn(&self) -> Turn<'_> {
        self.writer.lock().await
    }

    /// Begins a change on one's turn.
    async fn begin<'a>(&'a self, mut turn: Turn<'a>) -> Result<Write<'a>> {
        let begun = async {
            // Gone from its place until it has committed: whatever fails, or is
            // given up, in between closes it.
            let mut connection = match turn.take() {
                Some(connection) => connection,
                None => self.own_connection().await?,
            };
            connection.execute("begin immediate").await.context("begin a change")?;
            Ok(connection)
        };
        match begun.await {
            Ok(connection) => Ok(Write { connection: Some(connection), db: self, turn }),
            Err(error) => {
                self.failing.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    async fn close(&self) {
        let mut connections = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        connections.extend(self.writer.lock().await.take());
        // The last one folds the write-ahead log in.
        for connection in connections {
            if let Err(error) = connection.close().await {
                tracing::warn!("a database did not close cleanly: {error}");
            }
        }
    }

    /// Whether the last write failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// A new connection, for whoever keeps it.
    async fn own_connection(&self) -> Result<AnyConnection> {
        let mut connection = AnyConnection::connect(&self.url).await.context("open the database")?;
        connection.execute(PRAGMAS).await.context("configure the database")?;
        Ok(connection)
    }
}

impl Store {
    /// Opens both databases in `folder` and brings them up to date.
    ///
    /// # Errors
    /// A database cannot be opened, or is newer than this program.
    pub async fn open(folder: &Path) -> Result<Self> {
        farol_pki::files::private_dir(folder)?;
        let state = Db::open(&folder.join("state.db"), STATE_READERS, "pragma page_size = 4096", &STATE).await?;
        // A batch touches three or four pages, and each is written whole.
        let telemetry =
            Db::open(&folder.join("telemetry.db"), TELEMETRY_READERS, "pragma page_size = 2048", &TELEMETRY).await?;
        Ok(Self {
            state: Arc::new(state),
            telemetry: Arc::new(telemetry),
            steps: Arc::default(),
            dropped: Arc::default(),
        })
    }

    pub(crate) fn state(&self) -> &Db {
        &self.state
    }

    pub(crate) fn telemetry(&self) -> &Db {
        &self.telemetry
    }

    /// Whether the last writes of state and of telemetry failed.
    #[must_use]
    pub fn failing(&self) -> (bool, bool) {
        (self.state.is_failing(), self.telemetry.is_failing())
    }

    /// A remembered value.
    ///
    /// # Errors
    /// The store failed.
    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        let mut read = self.state().read().await?;
        let row: Option<(String,)> = sqlx::query_as("select value from setting where name = $1")
            .bind(name)
            .fetch_optional(&mut *read)
            .await
            .context("read a setting")?;
        Ok(row.map(|(value,)| value))
    }

    /// Remembers a value.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("insert into setting (name, value) values ($1, $2) on conflict (name) do update set value = $2")
            .bind(name)
            .bind(value)
            .execute(&mut *write)
            .await
            .context("save a setting")?;
        write.commit().await
    }

    /// Moves what was committed from the write-ahead logs into the databases
    /// when enough has gathered, so that no write has to. Returns at once when
    /// there is little.
    ///
    /// # Errors
    /// The store failed.
    pub async fn checkpoint(&self, state: &mut Checkpoint) -> Result<()> {
        for (db, seen) in [(&self.state, &mut state.state), (&self.telemetry, &mut state.telemetry)] {
            let commits = db.commits.load(Ordering::Relaxed);
            if commits.wrapping_sub(*seen) < COMMITS_PER_CHECKPOINT && !state.idle {
                continue;
            }
            *seen = commits;
            // A writer that never pauses keeps a passive checkpoint from starting
            // the log over; beyond its cap the writer has to wait for once.
            let log = std::fs::metadata(&db.log).map_or(0, |file| file.len());
            let mode = if log > LOG_CAP { "pragma wal_checkpoint(restart)" } else { "pragma wal_checkpoint(passive)" };
            sqlx::query(mode).fetch_all(&mut *db.read().await?).await.context("checkpoint")?;
        }
        Ok(())
    }

    /// Closes the connections; the last one folds the write-ahead log in.
    pub async fn close(&self) {
        self.state.close().await;
        self.telemetry.close().await;
    }
}

/// Wait for a connection to read with.
const READ_WAIT: Duration = Duration::from_secs(30);
/// Connections that read.
#[cfg(not(farol_simulation))]
const STATE_READERS: usize = 8;
#[cfg(not(farol_simulation))]
const TELEMETRY_READERS: usize = 4;
/// A simulation waits for each of its threads after every step.
#[cfg(farol_simulation)]
const STATE_READERS: usize = 2;
#[cfg(farol_simulation)]
const TELEMETRY_READERS: usize = 1;

const COMMITS_PER_CHECKPOINT: u64 = 256;
/// Cap of a write-ahead log in bytes, the `journal_size_limit` of [`PRAGMAS`].
const LOG_CAP: u64 = 64 << 20;

/// What the checkpoint job remembers.
#[derive(Debug, Default)]
pub struct Checkpoint {
    state: u64,
    telemetry: u64,
    /// Checkpoint whatever there is.
    pub idle: bool,
}

/// A page of a list, newest first, and where the next one begins.
#[derive(Debug, serde::Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass it as `cursor` to go on; null at the end.
    pub next_cursor: Option<String>,
}

/// Where a page begins: before this time and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Sort key.
    pub ms: i64,
    /// Breaks ties.
    pub id: String,
}

impl Cursor {
    /// The first page.
    #[must_use]
    pub fn start() -> Self {
        Self { ms: i64::MAX, id: String::new() }
    }

    /// Reads the text of [`Page::next_cursor`].
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(text: &str) -> Result<Self> {
        text.split_once('.')
            .and_then(|(ms, id)| Some(Self { ms: ms.parse().ok()?, id: id.to_owned() }))
            .ok_or_else(|| Error::Refused("the cursor is not one that this API gave out".to_owned()))
    }
}

impl<T> Page<T> {
    /// Cuts `rows`, of which one more than `limit` was asked for.
    fn cut(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> (Timestamp, String)) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| {
            let (at, id) = key(last);
            format!("{}.{id}", at.as_ms())
        });
        Self { items, next_cursor }
    }
}

/// Reads a column that holds one of a known set of words.
fn word<T: std::str::FromStr>(what: &'static str, value: &str) -> Result<T> {
    value.parse().map_err(|_| Error::Corrupt { what, value: value.to_owned() })
}

/// The words of an enumeration are those that serde writes.
pub(crate) fn serde_word<T: serde::de::DeserializeOwned>(what: &'static str, value: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(value.to_owned()))
        .map_err(|_| Error::Corrupt { what, value: value.to_owned() })
}
