//! What makes every action happen at most once.
//!
//! An entry with the action's id, its plan's hash and the state `started` is
//! committed before any effect; its result is committed before it is sent. A
//! repeated order is answered from here. Every write is one statement and so
//! one commit: there is no transaction that a full disk could leave half open.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use farol_protocol::{
    ActionId, JournalId, PlanHash, Timestamp,
    action::{FinalState, Outcome, ReasonCode, RiskClass},
    frame::{ActionResult, JournalHead},
};
use serde::Serialize;
use sqlx::{
    Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteQueryResult, SqliteRow, SqliteSynchronous},
};
use tokio::sync::Mutex;

use crate::{Error, exec::Group, fault, state::create_private};

/// No plan lives longer; older orders are refused.
pub const MAX_PLAN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an entry outlives its plan's expiry.
const KEEP_AFTER_EXPIRY: Duration = Duration::from_secs(8 * 24 * 3600);

/// The journal file.
pub struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    id: JournalId,
    connection: SqliteConnection,
    seq: u64,
    /// Every action with an entry: an order that is new, as nearly all are, is
    /// known to be so without asking the file.
    actions: HashSet<ActionId>,
}

impl Inner {
    const fn head(&self) -> JournalHead {
        JournalHead { id: self.id, seq: self.seq }
    }
}

/// What the journal knows about an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It began and has not ended.
    Running(PlanHash),
    /// It ended, or was refused.
    Ended(Box<ActionResult>),
    /// A cancel came before it.
    Tombstone,
}

/// How an action ended, before the journal adds its position.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Final state.
    pub state: FinalState,
    /// Why, where the state does not say.
    pub reason: Option<ReasonCode>,
    /// The reason in words.
    pub detail: Option<String>,
    /// Class by the host's policy.
    pub required_class: Option<RiskClass>,
    /// What the process left.
    pub outcome: Option<Outcome>,
}

impl Ending {
    /// Ended for a reason, without a process.
    #[must_use]
    pub const fn because(state: FinalState, reason: ReasonCode, detail: String) -> Self {
        Self { state, reason: Some(reason), detail: Some(detail), required_class: None, outcome: None }
    }

    /// As it is sent.
    #[must_use]
    pub fn into_result(
        self,
        action_id: ActionId,
        plan_hash: PlanHash,
        now: Timestamp,
        journal: JournalHead,
    ) -> ActionResult {
        ActionResult {
            action_id,
            plan_hash,
            state: self.state,
            reason: self.reason,
            detail: self.detail,
            required_class: self.required_class,
            outcome: self.outcome,
            ended_at: now,
            journal,
        }
    }
}

/// What is known of an order before it runs.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The action.
    pub action_id: ActionId,
    /// Hash of its plan.
    pub plan_hash: PlanHash,
    /// Its kind, as far as it is known.
    pub kind: String,
    /// When the plan expires.
    pub expires_at: Timestamp,
    /// Who signed it, where the host's policy asked for that.
    pub signed_by: Vec<String>,
}

/// An action that began and never ended.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// The action.
    pub action_id: ActionId,
    /// Hash of its plan.
    pub plan_hash: PlanHash,
    /// Its process group, if it got so far.
    pub group: Option<Group>,
}

/// One line of `farol-agent journal`.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Position.
    pub seq: u64,
    /// The action.
    pub action_id: String,
    /// Hash of its plan; empty for a cancel that came first.
    pub plan_hash: String,
    /// Kind of action.
    pub kind: String,
    /// `started`, `tombstone` or how it ended.
    pub state: String,
    /// When it was journalled.
    pub started_at: Timestamp,
    /// When its plan expires.
    pub expires_at: Timestamp,
    /// Names of the operators who signed it; empty where nobody had to.
    pub signed_by: String,
    /// Whether the coordinator has the result.
    pub acked: bool,
    /// The result, once there is one.
    pub result: Option<serde_json::Value>,
}

impl Journal {
    /// Opens or creates the journal.
    ///
    /// # Errors
    /// The file cannot be opened. It is never replaced by itself: without it
    /// the agent could run an action twice.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        create_private(path)?;
        let open = async {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(2))
                .pragma("wal_autocheckpoint", "256");
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
            add_signers(&mut connection).await?;
            sqlx::query("insert into journal (id) select ? where not exists (select 1 from journal)")
                .bind(JournalId::new().to_string())
                .execute(&mut connection)
                .await?;
            let id: String = sqlx::query_scalar("select id from journal").fetch_one(&mut connection).await?;
            let seq: Option<i64> = sqlx::query_scalar("select seq from sqlite_sequence where name = 'entry'")
                .fetch_optional(&mut connection)
                .await?;
            let id = id.parse().map_err(decode)?;
            let actions = actions(&mut connection).await?;
            Ok(Inner { id, connection, seq: seq.unwrap_or(0).unsigned_abs(), actions })
        };
        let inner = open.await.map_err(|source| Error::Journal { operation: "open", path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), inner: Mutex::new(inner) })
    }

    /// Where the journal stands.
    pub async fn head(&self) -> JournalHead {
        self.inner.lock().await.head()
    }

    /// Gives the journal a new id: what it knew may be older than what this
    /// host did, as after a restored snapshot. The coordinator then sends
    /// nothing again that it sent before.
    ///
    /// # Errors
    /// It could not be committed.
    pub async fn begin_anew(&self) -> Result<(), Error> {
        let mut inner = self.inner.lock().await;
        let id = JournalId::new();
        sqlx::query("update journal set id = ?")
            .bind(id.to_string())
            .execute(&mut inner.connection)
            .await
            .and_then(|done| one_row(&done))
            .map_err(|source| self.failed("write", source))?;
        inner.id = id;
        Ok(())
    }

    /// What is known about an action.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn find(&self, action_id: ActionId) -> Result<Option<Known>, Error> {
        let mut inner = self.inner.lock().await;
        if !inner.actions.contains(&action_id) {
            return Ok(None);
        }
        let head = inner.head();
        let row = sqlx::query("select plan_hash, state, result from entry where action_id = ?")
            .bind(action_id.to_string())
            .fetch_optional(&mut inner.connection)
            .await;
        row.and_then(|row| row.map(|row| known(&row, head)).transpose()).map_err(|source| self.failed("read", source))
    }

    /// Commits that an effect is about to happen.
    ///
    /// # Errors
    /// It could not be committed: nothing may run.
    pub async fn begin(&self, intent: &Intent) -> Result<JournalHead, Error> {
        fault::point("agent.journal.begin.before");
        let begun = self.insert(intent, STARTED, None).await;
        fault::point("agent.journal.begin.after");
        begun.map_err(|source| self.failed("write", source))
    }

    /// Commits a refusal, so that a repeat gets the same answer. A tombstone
    /// becomes the refusal; any other entry stays as it is.
    ///
    /// # Errors
    /// It could not be committed.
    pub async fn refuse(&self, intent: &Intent, ending: Ending) -> Result<ActionResult, Error> {
        let now = Timestamp::now();
        let result = ending.into_result(intent.action_id, intent.plan_hash.clone(), now, self.head().await);
        fault::point("agent.journal.refuse.before");
        let head = self
            .insert(intent, result.state.as_str(), Some(&result))
            .await
            .map_err(|source| self.failed("write", source))?;
        fault::point("agent.journal.refuse.after");
        Ok(ActionResult { journal: head, ..result })
    }

    async fn insert(
        &self,
        intent: &Intent,
        state: &str,
        result: Option<&ActionResult>,
    ) -> Result<JournalHead, sqlx::Error> {
        fault::check("an entry of the journal")?;
        let mut inner = self.inner.lock().await;
        // Before the file has it: a write of which nobody knows how it ended
        // must be asked for.
        inner.actions.insert(intent.action_id);
        // All rows, not the first one: only the end of the statement is its commit,
        // and a full disk says so there.
        let seq: Vec<i64> = sqlx::query_scalar(
            "insert into entry (action_id, plan_hash, kind, state, started_ms, expires_ms, signed_by, result)
             values (?, ?, ?, ?, ?, ?, ?, ?)
             on conflict (action_id) do update
                set plan_hash = excluded.plan_hash, kind = excluded.kind, state = excluded.state,
                    expires_ms = max(entry.expires_ms, excluded.expires_ms), result = excluded.result, acked = 0
                where entry.state = 'tombstone' and excluded.state = 'refused'
             returning seq",
        )
        .bind(intent.action_id.to_string())
        .bind(intent.plan_hash.as_str())
        .bind(&intent.kind)
        .bind(state)
        .bind(Timestamp::now().as_ms())
        .bind(intent.expires_at.as_ms())
        .bind(intent.signed_by.join(", "))
        .bind(
            result
                .map(|result| serde_json::to_string(result).map_err(|error| sqlx::Error::Encode(error.into())))
                .transpose()?,
        )
        .fetch_all(&mut inner.connection)
        .await?;
        match seq.first() {
            Some(seq) => inner.seq = inner.seq.max(seq.unsigned_abs()),
            // An effect must never begin on an entry that is not its own.
            None if result.is_none() => return Err(sqlx::Error::RowNotFound),
            None => {}
        }
        Ok(inner.head())
    }

    /// Commits the process group of a running action.
    ///
    /// # Errors
    /// It could not be committed: the group must be killed.
    pub async fn record_group(&self, action_id: ActionId, group: &Group) -> Result<(), Error> {
        let mut inner = self.inner.lock().await;
        sqlx::query(
            "update entry set pgid = ?, pg_start = ?, pg_session = ?, boot_id = ? where action_id = ? and state = 'started'",
        )
        .bind(group.pgid)
        .bind(group.start)
        .bind(group.session)
        .bind(&group.boot_id)
        .bind(action_id.to_string())
        .execute(&mut inner.connection)
        .await
        .and_then(|done| one_row(&done))
        .map_err(|source| self.failed("write", source))
    }

    /// Commits how a started action ended.
    ///
    /// # Errors
    /// It could not be committed: the result must not be sent yet.
    pub async fn finish(
        &self,
        action_id: ActionId,
        plan_hash: &PlanHash,
        ending: Ending,
    ) -> Result<ActionResult, Error> {
        let mut inner = self.inner.lock().await;
        let result = ending.into_result(action_id, plan_hash.clone(), Timestamp::now(), inner.head());
        let text = serde_json::to_string(&result).map_err(|error| sqlx::Error::Encode(error.into()));
        fault::point("agent.journal.finish.before");
        let text = text.and_then(|text| fault::check("a result").map(|()| text).map_err(sqlx::Error::from));
        let written = match text {
            Ok(text) => sqlx::query("update entry set state = ?, result = ? where action_id = ? and state = 'started'")
                .bind(result.state.as_str())
                .bind(text)
                .bind(action_id.to_string())
                .execute(&mut inner.connection)
                .await
                .and_then(|done| one_row(&done)),
            Err(error) => Err(error),
        };
        fault::point("agent.journal.finish.after");
        written.map(|()| result).map_err(|source| self.failed("write", source))
    }

    /// Leaves a tombstone for an action that was cancelled before its order came.
    ///
    /// # Errors
    /// It could not be committed.
    pub async fn bury(&self, action_id: ActionId, now: Timestamp) -> Result<(), Error> {
        let mut inner = self.inner.lock().await;
        inner.actions.insert(action_id);
        fault::point("agent.journal.bury.before");
        let seq: Result<Vec<i64>, _> = sqlx::query_scalar(
            "insert into entry (action_id, plan_hash, kind, state, started_ms, expires_ms, acked)
             values (?, '', '', 'tombstone', ?, ?, 1) on conflict (action_id) do nothing returning seq",
        )
        .bind(action_id.to_string())
        .bind(now.as_ms())
        .bind(now.plus(MAX_PLAN_LIFE).as_ms())
        .fetch_all(&mut inner.connection)
        .await;
        fault::point("agent.journal.bury.after");
        match seq {
            Ok(seq) => {
                inner.seq = inner.seq.max(seq.first().copied().unwrap_or(0).unsigned_abs());
                Ok(())
            }
            Err(source) => Err(self.failed("write", source)),
        }
    }

    /// The coordinator has the result.
    ///
    /// # Errors
    /// It could not be committed.
    pub async fn ack(&self, action_id: ActionId) -> Result<(), Error> {
        let mut inner = self.inner.lock().await;
        fault::point("agent.journal.ack.before");
        let acked = sqlx::query("update entry set acked = 1 where action_id = ? and result is not null")
            .bind(action_id.to_string())
            .execute(&mut inner.connection)
            .await;
        fault::point("agent.journal.ack.after");
        acked.map(|_| ()).map_err(|source| self.failed("write", source))
    }

    /// Results that the coordinator has not acknowledged, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn unacknowledged(&self) -> Result<Vec<ActionResult>, Error> {
        let mut inner = self.inner.lock().await;
        let head = inner.head();
        let rows = sqlx::query("select result from entry where acked = 0 and result is not null order by seq")
            .fetch_all(&mut inner.connection)
            .await;
        rows.and_then(|rows| rows.iter().map(|row| stored_result(row, head)).collect())
            .map_err(|source| self.failed("read", source))
    }

    /// Actions that began and have not ended, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        let mut inner = self.inner.lock().await;
        let rows = sqlx::query(
            "select action_id, plan_hash, pgid, pg_start, pg_session, boot_id from entry where state = 'started' order by seq",
        )
        .fetch_all(&mut inner.connection)
        .await;
        rows.and_then(|rows| rows.iter().map(unfinished).collect()).map_err(|source| self.failed("read", source))
    }

    /// Removes entries whose plan expired long ago. `now` is the earlier of the
    /// host's and the coordinator's time: a host whose clock ran ahead must not
    /// forget early, nor must one whose coordinator was captured and says so.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, Error> {
        let mut inner = self.inner.lock().await;
        let pruned = async {
            let done = sqlx::query("delete from entry where state <> 'started' and max(expires_ms, started_ms) < ?")
                .bind(now.as_ms().saturating_sub(i64::try_from(KEEP_AFTER_EXPIRY.as_millis()).unwrap_or(i64::MAX)))
                .execute(&mut inner.connection)
                .await?;
            inner.actions = actions(&mut inner.connection).await?;
            Ok(done.rows_affected())
        };
        pruned.await.map_err(|source| self.failed("write", source))
    }

    /// Flushes and closes the file, if nothing else holds the journal.
    pub async fn close(self) {
        if let Err(error) = self.inner.into_inner().connection.close().await {
            tracing::warn!("the journal did not close cleanly: {error}");
        }
    }

    fn failed(&self, operation: &'static str, source: sqlx::Error) -> Error {
        Error::Journal { operation, path: self.path.clone(), source }
    }
}

/// All entries of a journal that an agent may be using, newest first.
///
/// # Errors
/// The file cannot be read.
pub async fn lines(path: &Path) -> Result<Vec<Line>, Error> {
    let look = async {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let rows = sqlx::query("select * from entry order by seq desc").fetch_all(&mut connection).await?;
        connection.close().await?;
        rows.iter().map(line).collect::<Result<_, sqlx::Error>>()
    };
    look.await.map_err(|source| Error::Journal { operation: "read", path: path.to_owned(), source })
}

async fn actions(connection: &mut SqliteConnection) -> Result<HashSet<ActionId>, sqlx::Error> {
    let ids: Vec<String> = sqlx::query_scalar("select action_id from entry").fetch_all(connection).await?;
    ids.iter().map(|id| id.parse().map_err(decode)).collect()
}

const STARTED: &str = "started";

const SCHEMA: &str = "
create table if not exists journal (id text not null);
create table if not exists entry (
    seq integer primary key autoincrement,
    action_id text not null unique,
    plan_hash text not null,
    kind text not null,
    state text not null,
    started_ms integer not null,
    expires_ms integer not null,
    pgid integer,
    pg_start integer,
    pg_session integer,
    boot_id text,
    result text,
    acked integer not null default 0
);";

/// A journal of an agent before this one has no such column.
async fn add_signers(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let there: i64 = sqlx::query_scalar("select count(*) from pragma_table_info('entry') where name = 'signed_by'")
        .fetch_one(&mut *connection)
        .await?;
    if there == 0 {
        sqlx::raw_sql("alter table entry add column signed_by text not null default ''").execute(connection).await?;
    }
    Ok(())
}

fn known(row: &SqliteRow, head: JournalHead) -> Result<Known, sqlx::Error> {
    match row.try_get::<&str, _>("state")? {
        STARTED => Ok(Known::Running(plan_hash(row)?)),
        "tombstone" => Ok(Known::Tombstone),
        _ => stored_result(row, head).map(|result| Known::Ended(Box::new(result))),
    }
}

/// A stored result is sent with the journal's present head: the head at its
/// own end would look like a journal that went backward.
fn stored_result(row: &SqliteRow, head: JournalHead) -> Result<ActionResult, sqlx::Error> {
    let result: ActionResult = serde_json::from_str(row.try_get("result")?).map_err(decode)?;
    Ok(ActionResult { journal: head, ..result })
}

fn plan_hash(row: &SqliteRow) -> Result<PlanHash, sqlx::Error> {
    PlanHash::try_from(row.try_get::<String, _>("plan_hash")?).map_err(decode)
}

fn unfinished(row: &SqliteRow) -> Result<Unfinished, sqlx::Error> {
    let group = match row.try_get::<Option<i32>, _>("pgid")? {
        Some(pgid) => Some(Group {
            pgid,
            start: row.try_get("pg_start")?,
            session: row.try_get("pg_session")?,
            boot_id: row.try_get("boot_id")?,
        }),
        None => None,
    };
    Ok(Unfinished {
        action_id: row.try_get::<&str, _>("action_id")?.parse().map_err(decode)?,
        plan_hash: plan_hash(row)?,
        group,
    })
}

fn line(row: &SqliteRow) -> Result<Line, sqlx::Error> {
    let result: Option<&str> = row.try_get("result")?;
    Ok(Line {
        seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
        action_id: row.try_get("action_id")?,
        plan_hash: row.try_get("plan_hash")?,
        kind: row.try_get("kind")?,
        state: row.try_get("state")?,
        started_at: Timestamp::from_ms(row.try_get("started_ms")?),
        expires_at: Timestamp::from_ms(row.try_get("expires_ms")?),
        signed_by: match row.try_get("signed_by") {
            // Of an agent before this one, which has not opened it yet.
            Err(sqlx::Error::ColumnNotFound(_)) => String::new(),
            names => names?,
        },
        acked: row.try_get::<i64, _>("acked")? != 0,
        result: result.map(serde_json::from_str).transpose().map_err(decode)?,
    })
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// An update of an entry that is not there has kept nothing.
fn one_row(done: &SqliteQueryResult) -> Result<(), sqlx::Error> {
    if done.rows_affected() == 0 { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(folder: &tempfile::TempDir) -> Journal {
        Journal::open(&folder.path().join("journal.db")).await.expect("opens")
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn intent(plan: &str) -> Intent {
        Intent {
            action_id: ActionId::new(),
            plan_hash: PlanHash::of(plan),
            kind: "command.exec".to_owned(),
            expires_at: Timestamp::now().plus(Duration::from_secs(60)),
            signed_by: Vec::new(),
        }
    }

    fn done() -> Ending {
        Ending {
            state: FinalState::Done,
            reason: None,
            detail: None,
            required_class: None,
            outcome: Some(Outcome { exit_code: Some(0), ..Outcome::default() }),
        }
    }

    fn refused() -> Ending {
        Ending::because(FinalState::Refused, ReasonCode::NotAllowed, "no".to_owned())
    }

    #[tokio::test]
    async fn a_journal_that_began_anew_has_another_id_and_still_knows_its_entries() {
        let folder = folder();
        let journal = open(&folder).await;
        let (before, intent) = (journal.head().await, intent("a plan"));
        journal.begin(&intent).await.expect("written");
        journal.begin_anew().await.expect("written");
        let now = journal.head().await;
        assert!(now.id != before.id && now.seq == 1);
        journal.close().await;
        let journal = open(&folder).await;
        assert_eq!(journal.head().await, now);
        assert!(matches!(journal.find(intent.action_id).await, Ok(Some(Known::Running(_)))));
    }

    #[tokio::test]
    async fn a_journal_of_an_earlier_agent_learns_who_signed() {
        let folder = folder();
        let path = folder.path().join("journal.db");
        let before = intent("before");
        let journal = open(&folder).await;
        journal.begin(&before).await.expect("written");
        sqlx::raw_sql("alter table entry drop column signed_by")
            .execute(&mut journal.inner.lock().await.connection)
            .await
            .expect("as it was");
        journal.close().await;
        assert_eq!(lines(&path).await.expect("read")[0].signed_by, "");

        let journal = open(&folder).await;
        let signed = Intent { signed_by: vec!["ana".to_owned(), "bia".to_owned()], ..intent("a") };
        journal.begin(&signed).await.expect("written");
        let lines = lines(&path).await.expect("read");
        assert_eq!([lines[0].signed_by.as_str(), lines[1].signed_by.as_str()], ["ana, bia", ""]);
    }

    #[tokio::test]
    async fn a_result_is_kept_over_a_restart_until_it_is_acknowledged() {
        let folder = folder();
        let journal = open(&folder).await;
        let intent = intent("a");
        let head = journal.begin(&intent).await.expect("written");
        assert_eq!(journal.find(intent.action_id).await.expect("read"), Some(Known::Running(intent.plan_hash.clone())));
        journal.finish(intent.action_id, &intent.plan_hash, done()).await.expect("written");
        drop(journal);

        let journal = open(&folder).await;
        assert_eq!(journal.head().await, head);
        let [result] = &journal.unacknowledged().await.expect("read")[..] else { panic!("one result") };
        assert_eq!((result.state, result.action_id), (FinalState::Done, intent.action_id));
        journal.ack(intent.action_id).await.expect("written");
        assert!(journal.unacknowledged().await.expect("read").is_empty());
        assert!(matches!(journal.find(intent.action_id).await.expect("read"), Some(Known::Ended(_))));
    }

    #[tokio::test]
    async fn an_entry_is_never_begun_twice_nor_replaced_by_a_refusal() {
        let journal = open(&folder()).await;
        let first = intent("a");
        journal.begin(&first).await.expect("written");
        journal.begin(&first).await.expect_err("it exists");
        let other = Intent { plan_hash: PlanHash::of("b"), ..first.clone() };
        journal.refuse(&other, refused()).await.expect("answered");
        assert_eq!(journal.find(first.action_id).await.expect("read"), Some(Known::Running(first.plan_hash)));
    }

    #[tokio::test]
    async fn a_tombstone_becomes_the_refusal_of_the_later_order() {
        let journal = open(&folder()).await;
        let late = intent("a");
        journal.bury(late.action_id, Timestamp::now()).await.expect("written");
        assert_eq!(journal.find(late.action_id).await.expect("read"), Some(Known::Tombstone));
        assert!(journal.begin(&late).await.is_err());
        journal.refuse(&late, refused()).await.expect("written");
        let Some(Known::Ended(result)) = journal.find(late.action_id).await.expect("read") else { panic!("ended") };
        assert_eq!((result.state, &result.plan_hash), (FinalState::Refused, &late.plan_hash));
        assert_eq!(journal.unacknowledged().await.expect("read").len(), 1);
    }

    #[tokio::test]
    async fn burying_a_known_action_changes_nothing() {
        let journal = open(&folder()).await;
        let known = intent("a");
        journal.begin(&known).await.expect("written");
        journal.bury(known.action_id, Timestamp::now()).await.expect("ignored");
        assert_eq!(journal.find(known.action_id).await.expect("read"), Some(Known::Running(known.plan_hash)));
    }

    #[tokio::test]
    async fn unfinished_actions_come_back_with_their_group() {
        let folder = folder();
        let journal = open(&folder).await;
        let (bare, grouped) = (intent("a"), intent("b"));
        journal.begin(&bare).await.expect("written");
        journal.begin(&grouped).await.expect("written");
        let group = Group { pgid: 12, start: 34, session: 56, boot_id: "boot".to_owned() };
        journal.record_group(grouped.action_id, &group).await.expect("written");
        drop(journal);

        let unfinished = open(&folder).await.unfinished().await.expect("read");
        let found: Vec<_> = unfinished.iter().map(|entry| (entry.action_id, entry.group.clone())).collect();
        assert_eq!(found, [(bare.action_id, None), (grouped.action_id, Some(group))]);
    }

    #[tokio::test]
    async fn pruning_keeps_what_may_still_be_ordered_and_the_head_never_goes_back() {
        let journal = open(&folder()).await;
        let (old, running, tombstone) = (intent("a"), intent("b"), ActionId::new());
        journal.refuse(&old, refused()).await.expect("written");
        journal.begin(&running).await.expect("written");
        journal.bury(tombstone, Timestamp::now()).await.expect("written");
        let head = journal.head().await;
        let day = |days: u64| Timestamp::now().plus(Duration::from_secs(days * 24 * 3600));

        assert_eq!(journal.prune(day(7)).await.expect("pruned"), 0);
        assert_eq!(journal.prune(day(9)).await.expect("pruned"), 1);
        assert_eq!(journal.prune(day(16)).await.expect("pruned"), 1);
        assert!(matches!(journal.find(running.action_id).await.expect("read"), Some(Known::Running(_))));
        assert_eq!(journal.head().await, head);
    }

    #[tokio::test]
    async fn the_journal_can_be_read_while_an_agent_uses_it() {
        let folder = folder();
        let journal = open(&folder).await;
        let entry = intent("a");
        journal.begin(&entry).await.expect("written");
        let lines = lines(&folder.path().join("journal.db")).await.expect("read");
        assert_eq!((lines.len(), lines[0].state.as_str()), (1, "started"));
    }
}
