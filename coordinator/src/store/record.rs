//! Reading the whole record, in big pages and from one moment.

use sqlx::{AnyConnection, Connection as _, Executor as _, FromRow};

use super::{
    Store,
    evidence::{self, ArtifactRow},
};
use crate::{
    error::{Error, Result, StoreContext as _},
    record::{
        Head,
        docs::{ActionDoc, ApprovalDoc, EntryDoc, KeyDoc, LinkDoc},
    },
};

/// The record as it was at one moment, on a connection of its own.
pub struct Snapshot {
    connection: AnyConnection,
}

type LinkRow = (
    i64,
    String,
    String,
    String,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

const ENTRY: &str = "id, at_ms, actor, verb, object_kind, object_id, detail, hash";

impl Store {
    /// Opens the record as it is now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut connection = self.state().own_connection().await?;
        connection.execute("begin").await.context("begin to read the record")?;
        Ok(Snapshot { connection })
    }
}

impl Snapshot {
    /// Entries, and links.
    ///
    /// # Errors
    /// The store failed.
    pub async fn counts(&mut self) -> Result<(u64, u64)> {
        let (entries, links): (i64, i64) =
            sqlx::query_as("select (select count(*) from audit), (select count(*) from audit_seal)")
                .fetch_one(&mut self.connection)
                .await
                .context("count the record")?;
        Ok((u64::try_from(entries).unwrap_or(0), u64::try_from(links).unwrap_or(0)))
    }

    /// The signed head. One that cannot be read is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn head(&mut self) -> Result<Option<Head>> {
        super::seal::head(&mut self.connection).await
    }

    /// Links with their entries.
    ///
    /// # Errors
    /// The store failed.
    pub async fn links(&mut self, after: i64, limit: i64) -> Result<Vec<LinkDoc>> {
        let rows: Vec<LinkRow> = sqlx::query_as(
            "select s.seq, s.entry_id, s.entry_hash, s.chain_hash, a.at_ms, a.actor, a.verb, a.object_kind, a.object_id,
                 a.detail, a.hash
             from audit_seal s left join audit a on a.id = s.entry_id where s.seq > $1 order by s.seq limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .context("read the chain")?;
        let link = |(seq, entry_id, entry_hash, chain_hash, at, actor, verb, kind, object, detail, hash): LinkRow| {
            let entry = (|| {
                Some(EntryDoc {
                    id: entry_id.clone(),
                    at_ms: at?,
                    actor: actor?,
                    verb: verb?,
                    object_kind: kind?,
                    object_id: object?,
                    detail: detail?,
                    hash: hash?,
                })
            })();
            LinkDoc { seq, entry_id, entry_hash, chain_hash, entry }
        };
        Ok(rows.into_iter().map(link).collect())
    }

    /// Links of entries of this time: the first and the last.
    ///
    /// # Errors
    /// The store failed.
    pub async fn links_between(&mut self, from_ms: i64, until_ms: i64) -> Result<Option<(i64, i64)>> {
        let (first, last): (Option<i64>, Option<i64>) = sqlx::query_as(
            "select min(s.seq), max(s.seq) from audit a join audit_seal s on s.entry_id = a.id
             where a.at_ms >= $1 and a.at_ms < $2",
        )
        .bind(from_ms)
        .bind(until_ms)
        .fetch_one(&mut self.connection)
        .await
        .context("read the chain")?;
        Ok(first.zip(last))
    }

    /// Entries that wait to be sealed, by id.
    ///
    /// # Errors
    /// The store failed.
    pub async fn waiting(&mut self, after: &str, limit: i64) -> Result<Vec<EntryDoc>> {
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {ENTRY} from audit where sealed = 0 and id > $1
             and not exists (select 1 from audit_seal where entry_id = audit.id) order by id limit $2"
        )))
        .bind(after)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .context("read the entries that are not sealed")
    }

    /// Entries that say that they are sealed and that no link holds. Looks at
    /// all of them.
    ///
    /// # Errors
    /// The store failed.
    pub async fn unlinked(&mut self, limit: i64) -> Result<Vec<EntryDoc>> {
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {ENTRY} from audit where sealed <> 0
             and not exists (select 1 from audit_seal where entry_id = audit.id) order by id limit $1"
        )))
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .context("read the entries that no link holds")
    }

    /// Actions by id.
    ///
    /// # Errors
    /// The store failed.
    pub async fn actions(&mut self, after: &str, limit: i64) -> Result<Vec<ActionDoc>> {
        sqlx::query_as(
            "select a.id, coalesce(h.name, '') as host, a.kind, a.plan, a.plan_hash, a.risk_class, a.state,
                 a.reason_code, a.detail, a.requested_by, a.reason, a.finding_id, a.issued_ms, a.expires_ms, a.outcome
             from action a left join host h on h.host_key = a.host_key where a.id > $1 order by a.id limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .context("read the actions")
    }

    /// Decisions by action and person.
    ///
    /// # Errors
    /// The store failed.
    pub async fn approvals(&mut self, after: (&str, &str), limit: i64) -> Result<Vec<ApprovalDoc>> {
        sqlx::query_as(
            "select action_id, approver, role, decision, plan_hash, comment, at_ms, signature from approval
             where action_id > $1 or (action_id = $1 and approver > $2) order by action_id, approver limit $3",
        )
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .context("read the decisions")
    }

    /// All keys that people sign with, revoked ones too.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keys(&mut self) -> Result<Vec<KeyDoc>> {
        sqlx::query_as("select key_id, operator, public, created_ms, revoked_ms from operator_key order by key_id")
            .fetch_all(&mut self.connection)
            .await
            .context("read the keys")
    }

    /// Artifacts by id, with their content.
    ///
    /// # Errors
    /// The store failed.
    pub async fn artifacts(&mut self, after: &str, limit: i64) -> Result<Vec<(ArtifactRow, Vec<u8>)>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "select {}, content from evidence where id > $1 order by id limit $2",
            evidence::COLUMNS
        )))
        .bind(after)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .context("read the evidence")?;
        let read = |row: &sqlx::any::AnyRow| Ok((ArtifactRow::from_row(row)?, evidence::content(row)?));
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().context("read the evidence")
    }

    /// Ends it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn close(mut self) -> Result<()> {
        self.connection.execute("rollback").await.context("end reading the record")?;
        self.connection.close().await.map_err(|source| Error::Store { what: "close the record", source })
    }
}
