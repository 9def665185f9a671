//! Findings and the advice on them.

use farol_protocol::{CheckId, Timestamp};
use serde::Serialize;
use sqlx::{AnyConnection, FromRow};

use super::{
    Cursor, Page, Store, actions, audit,
    hosts::HostKey,
    inbox::{self, Note},
};
use crate::error::{Error, Result, StoreContext as _};

/// A finding as stored.
#[derive(Debug, Clone, FromRow)]
pub struct FindingRow {
    /// Identifier.
    pub id: String,
    /// What it is about, the same in each episode.
    pub fingerprint: String,
    /// Counts the problems of the fingerprint.
    pub episode: i64,
    /// Scenario.
    pub scenario: String,
    /// Check.
    pub check_id: String,
    host_key: i64,
    /// Who speaks.
    pub persona: String,
    /// How bad.
    pub severity: String,
    /// Where it is.
    pub state: String,
    /// What people read.
    pub title: String,
    /// Status of the report that spoke last.
    pub status: String,
    /// Its value.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: Option<String>,
    /// Its text.
    pub text: String,
    /// The thread.
    pub thread_id: String,
    opened_ms: i64,
    updated_ms: i64,
    acknowledged_ms: Option<i64>,
    /// By whom it was acknowledged.
    pub acknowledged_by: Option<String>,
    resolved_ms: Option<i64>,
    /// Why it is not told: `cause`, `silence`, `maintenance` or `backup`.
    pub hidden_kind: Option<String>,
    /// The finding or the window that hides it.
    pub hidden_by: Option<String>,
    /// The finding that it has joined.
    pub joined_id: Option<String>,
    told_ms: Option<i64>,
    flapping: i64,
    stale: i64,
}

impl FindingRow {
    /// The host it is about.
    #[must_use]
    pub const fn host(&self) -> HostKey {
        HostKey(self.host_key)
    }

    /// When its first bad report was observed.
    #[must_use]
    pub fn opened_at(&self) -> Timestamp {
        Timestamp::from_ms(self.opened_ms)
    }

    /// When it changed last.
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        Timestamp::from_ms(self.updated_ms)
    }

    /// When a person acknowledged it.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<Timestamp> {
        self.acknowledged_ms.map(Timestamp::from_ms)
    }

    /// When it was healthy again.
    #[must_use]
    pub fn resolved_at(&self) -> Option<Timestamp> {
        self.resolved_ms.map(Timestamp::from_ms)
    }

    /// When it was told beside its thread.
    #[must_use]
    pub fn told_at(&self) -> Option<Timestamp> {
        self.told_ms.map(Timestamp::from_ms)
    }

    /// Whether its check changes too often to tell each time.
    #[must_use]
    pub const fn is_flapping(&self) -> bool {
        self.flapping != 0
    }

    /// Whether the problem is that nothing is heard of its check any more.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale != 0
    }
}

pub(super) const COLUMNS: &str = "id, fingerprint, episode, scenario, check_id, host_key, persona, severity, state, \
     title, status, value, unit, text, thread_id, opened_ms, updated_ms, acknowledged_ms, acknowledged_by, resolved_ms, \
     hidden_kind, hidden_by, joined_id, told_ms, flapping, stale";

/// Which findings to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Open and acknowledged.
    Unresolved,
    /// All.
    All,
}

/// Advice as stored.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct AdviceRow {
    /// `t0` or `t1`.
    pub source: String,
    /// The advice as JSON.
    pub document: String,
}

/// What a person decides on a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is known.
    Acknowledge,
    /// It is over.
    Close,
}

/// With a finding its thread ends, and what was proposed for it.
pub(super) async fn close(connection: &mut AnyConnection, row: &FindingRow, now: Timestamp) -> Result<()> {
    sqlx::query("update agent_threads set state = 'closed' where id = $1")
        .bind(&row.thread_id)
        .execute(&mut *connection)
        .await
        .context("close the thread")?;
    actions::withdraw_proposals(connection, &row.id, now).await
}

pub(super) async fn select(connection: &mut AnyConnection, id: &str) -> Result<FindingRow> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from finding where id = $1")))
        .bind(id)
        .fetch_optional(connection)
        .await
        .context("read the finding")?
        .ok_or_else(|| Error::NotFound { what: "finding", id: id.to_owned() })
}

impl Store {
    /// One finding.
    ///
    /// # Errors
    /// No such finding, or the store failed.
    pub async fn finding(&self, id: &str) -> Result<FindingRow> {
        let mut connection = self.state().read().await?;
        select(&mut connection, id).await
    }

    /// The finding of a check's episode.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finding_of(&self, host: HostKey, check: &CheckId, episode: u64) -> Result<Option<FindingRow>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from finding where host_key = $1 and check_id = $2 and episode = $3"
        )))
        .bind(host.0)
        .bind(check.as_str())
        .bind(i64::try_from(episode).unwrap_or(i64::MAX))
        .fetch_optional(&mut *read)
        .await
        .context("read the finding")
    }

    /// Findings, the one that opened last first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn findings(&self, which: Which, from: &Cursor, limit: i64) -> Result<Page<FindingRow>> {
        let filter = match which {
            Which::Unresolved => "state <> 'resolved' and",
            Which::All => "",
        };
        let mut read = self.state().read().await?;
        let rows: Vec<FindingRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from finding where {filter} (opened_ms < $1 or (opened_ms = $1 and id < $2))
             order by opened_ms desc, id desc limit $3"
        )))
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(&mut *read)
        .await
        .context("read the findings")?;
        Ok(Page::cut(rows, limit, |row: &FindingRow| (row.opened_at(), row.id.clone())))
    }

    /// Unresolved findings that have no advice yet, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn findings_without_advice(&self, limit: i64) -> Result<Vec<FindingRow>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from finding where state <> 'resolved'
             and not exists (select 1 from advice where advice.finding_id = finding.id)
             order by opened_ms, id limit $1"
        )))
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the findings")
    }

    /// The advice on a finding.
    ///
    /// # Errors
    /// The store failed.
    pub async fn advice(&self, finding: &str) -> Result<Option<AdviceRow>> {
        let mut read = self.state().read().await?;
        sqlx::query_as("select source, document from advice where finding_id = $1")
            .bind(finding)
            .fetch_optional(&mut *read)
            .await
            .context("read the advice")
    }

    /// Stores advice and says it in the finding's thread.
    ///
    /// # Errors
    /// No such finding, or the store failed.
    pub async fn add_advice(&self, finding: &str, advice: &AdviceRow, note: &Note, now: Timestamp) -> Result<bool> {
        let mut write = self.state().write().await?;
        let row = select(&mut write, finding).await?;
        let inserted = sqlx::query(
            "insert into advice (finding_id, source, document, created_ms) values ($1, $2, $3, $4)
             on conflict (finding_id) do nothing",
        )
        .bind(finding)
        .bind(&advice.source)
        .bind(&advice.document)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("store the advice")?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        inbox::say(&mut write, &row.thread_id, note, now).await?;
        write.commit().await?;
        Ok(true)
    }

    /// What a person decides on a finding whose check is not watched any more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn decide_finding(
        &self,
        finding: &FindingRow,
        decision: Decision,
        note: &Note,
        now: Timestamp,
    ) -> Result<()> {
        let (update, verb) = match decision {
            Decision::Acknowledge => (
                "update finding set state = 'acknowledged', acknowledged_ms = $2, acknowledged_by = $3, updated_ms = $2
                 where id = $1 and state in ('open', 'suppressed')",
                "finding.acknowledged",
            ),
            Decision::Close => (
                "update finding set state = 'resolved', resolved_ms = $2, updated_ms = $2
                 where id = $1 and state <> 'resolved' and $3 <> ''",
                "finding.closed",
            ),
        };
        let mut write = self.state().write().await?;
        let changed = sqlx::query(update)
            .bind(&finding.id)
            .bind(now.as_ms())
            .bind(&note.author)
            .execute(&mut *write)
            .await
            .context("decide on the finding")?;
        if changed.rows_affected() > 0 {
            inbox::say(&mut write, &finding.thread_id, note, now).await?;
            if decision == Decision::Close {
                close(&mut write, finding, now).await?;
            }
            let entry = audit::NewEntry {
                at: now,
                actor: &note.author,
                verb,
                object: ("finding", &finding.id),
                detail: &finding.fingerprint,
            };
            audit::insert(&mut write, entry).await?;
        }
        write.commit().await
    }

    /// Findings that another one explains or that have joined it, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn findings_hidden_by(&self, id: &str) -> Result<Vec<FindingRow>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from finding where state <> 'resolved' and (hidden_by = $1 or joined_id = $1)
             order by opened_ms, id limit 500"
        )))
        .bind(id)
        .fetch_all(&mut *read)
        .await
        .context("read the findings")
    }

    /// Unresolved findings by severity, for `/metrics` and health.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finding_counts(&self) -> Result<Vec<(String, i64)>> {
        let mut read = self.state().read().await?;
        sqlx::query_as("select severity, count(*) from finding where state <> 'resolved' group by severity")
            .fetch_all(&mut *read)
            .await
            .context("count the findings")
    }
}
