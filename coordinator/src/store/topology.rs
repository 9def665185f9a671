//! What hosts are made of, and what people say about the graph.

use farol_protocol::{Timestamp, inventory::Inventory};
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Store, audit, hosts::HostKey, serde_word};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    topology::{Correction, Decision, EdgeKind},
};

/// An inventory on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryWrite {
    /// JSON.
    pub body: String,
    /// SHA-256 of it.
    pub digest: String,
}

impl InventoryWrite {
    /// The bounded JSON of an inventory.
    #[must_use]
    pub fn new(mut inventory: Inventory) -> Self {
        inventory.settle();
        let body = inventory.json();
        let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        Self { digest: farol_protocol::action::hex(digest.as_ref()), body }
    }
}

/// An inventory as stored.
#[derive(Debug)]
pub struct InventoryRow {
    /// Whose.
    pub host: HostKey,
    /// When the host was looked at.
    pub observed_at: Timestamp,
    /// When that arrived.
    pub received_at: Timestamp,
    /// JSON of an [`Inventory`].
    pub body: String,
}

/// A correction with what became of it.
#[derive(Debug, Clone)]
pub struct CorrectionRow {
    /// As it was said; nodes of hosts by the host's id.
    pub correction: Correction,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    from_node: String,
    to_node: String,
    kind: String,
    decision: String,
    comment: String,
    created_ms: i64,
    created_by: String,
    revoked_ms: Option<i64>,
    revoked_by: Option<String>,
}

impl TryFrom<Raw> for CorrectionRow {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        Ok(Self {
            correction: Correction {
                kind: serde_word::<EdgeKind>("kind of edge", &raw.kind)?,
                decision: serde_word::<Decision>("decision", &raw.decision)?,
                id: raw.id,
                from: raw.from_node,
                to: raw.to_node,
                comment: raw.comment,
                by: raw.created_by,
                at: Timestamp::from_ms(raw.created_ms),
            },
            revoked_at: raw.revoked_ms.map(Timestamp::from_ms),
            revoked_by: raw.revoked_by,
        })
    }
}

/// Stores an inventory in the writer's transaction, unless a later one is there.
pub(super) async fn put(
    connection: &mut AnyConnection,
    host: HostKey,
    inventory: &InventoryWrite,
    (observed_at, received_at): (Timestamp, Timestamp),
) -> Result<()> {
    sqlx::query(
        "insert into inventory (host_key, observed_ms, received_ms, digest, body) values ($1, $2, $3, $4, $5)
         on conflict (host_key) do update set observed_ms = $2, received_ms = $3, digest = $4, body = $5
         where inventory.observed_ms <= $2",
    )
    .bind(host.0)
    .bind(observed_at.as_ms())
    .bind(received_at.as_ms())
    .bind(&inventory.digest)
    .bind(&inventory.body)
    .execute(connection)
    .await
    .context("store an inventory")?;
    Ok(())
}

impl Store {
    /// The newest inventory of a host; none before its agent sent one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn inventory(&self, host: HostKey) -> Result<Option<InventoryRow>> {
        let mut read = self.telemetry().read().await?;
        let row: Option<(i64, i64, i64, String)> =
            sqlx::query_as("select host_key, observed_ms, received_ms, body from inventory where host_key = $1")
                .bind(host.0)
                .fetch_optional(&mut *read)
                .await
                .context("read an inventory")?;
        Ok(row.map(row_of))
    }

    /// The newest inventory of every host.
    ///
    /// # Errors
    /// The store failed.
    pub async fn inventories(&self) -> Result<Vec<InventoryRow>> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<(i64, i64, i64, String)> =
            sqlx::query_as("select host_key, observed_ms, received_ms, body from inventory order by host_key")
                .fetch_all(&mut *read)
                .await
                .context("read the inventories")?;
        Ok(rows.into_iter().map(row_of).collect())
    }

    /// Corrections in the order in which they were said, those that were taken
    /// back too.
    ///
    /// # Errors
    /// The store failed.
    pub async fn corrections(&self) -> Result<Vec<CorrectionRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(
            "select id, from_node, to_node, kind, decision, comment, created_ms, created_by, revoked_ms, revoked_by
             from topology_correction order by created_ms, id",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the corrections")?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Says something about an edge, in the place of what was said about it
    /// before. Answers the correction's id.
    ///
    /// # Errors
    /// The store failed.
    pub async fn correct(
        &self,
        by: &Operator,
        (from, kind, to): (&str, EdgeKind, &str),
        decision: Decision,
        comment: &str,
        now: Timestamp,
    ) -> Result<String> {
        let id = Uuid::now_v7().to_string();
        let mut write = self.state().write().await?;
        sqlx::query(
            "update topology_correction set revoked_ms = $4, revoked_by = $5
             where from_node = $1 and to_node = $2 and kind = $3 and revoked_ms is null",
        )
        .bind(from)
        .bind(to)
        .bind(kind.as_str())
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("replace a correction")?;
        let word = decision.as_str();
        sqlx::query(
            "insert into topology_correction (id, from_node, to_node, kind, decision, comment, created_ms, created_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&id)
        .bind(from)
        .bind(to)
        .bind(kind.as_str())
        .bind(word)
        .bind(comment)
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("store a correction")?;
        let detail = format!("{word}: {from} {} {to}: {comment}", kind.as_str());
        record(&mut write, by, "topology.corrected", &id, &detail, now).await?;
        write.commit().await?;
        Ok(id)
    }

    /// Takes a correction back: what is found counts again.
    ///
    /// # Errors
    /// No such correction, it was taken back already, or the store failed.
    pub async fn revoke_correction(&self, by: &Operator, id: &str, comment: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let known: Option<(Option<i64>,)> = sqlx::query_as("select revoked_ms from topology_correction where id = $1")
            .bind(id)
            .fetch_optional(&mut *write)
            .await
            .context("read a correction")?;
        match known {
            None => return Err(Error::NotFound { what: "correction", id: id.to_owned() }),
            Some((Some(_),)) => return Err(Error::Refused(format!("the correction `{id}` was taken back already"))),
            Some((None,)) => {}
        }
        sqlx::query("update topology_correction set revoked_ms = $2, revoked_by = $3 where id = $1")
            .bind(id)
            .bind(now.as_ms())
            .bind(by.name())
            .execute(&mut *write)
            .await
            .context("take a correction back")?;
        record(&mut write, by, "topology.correction_revoked", id, comment, now).await?;
        write.commit().await
    }
}

fn row_of((host, observed, received, body): (i64, i64, i64, String)) -> InventoryRow {
    let (observed_at, received_at) = (Timestamp::from_ms(observed), Timestamp::from_ms(received));
    InventoryRow { host: HostKey(host), observed_at, received_at, body }
}

async fn record(
    connection: &mut AnyConnection,
    by: &Operator,
    verb: &str,
    id: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let entry = audit::NewEntry { at: now, actor: by.name(), verb, object: ("topology", id), detail };
    audit::insert(connection, entry).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        (folder, store)
    }

    #[tokio::test]
    async fn a_later_inventory_replaces_an_earlier_one_and_never_the_other_way() {
        let (_folder, store) = store().await;
        let host = HostKey(1);
        let named = |name: &str| InventoryWrite::new(Inventory { name: Some(name.to_owned()), ..Inventory::default() });
        assert!(store.inventory(host).await.expect("readable").is_none());
        for (name, at) in [("a", 10), ("b", 20), ("late", 15)] {
            let mut write = store.telemetry().write().await.expect("a change");
            let at = Timestamp::from_ms(at);
            put(&mut write, host, &named(name), (at, at)).await.expect("stored");
            write.commit().await.expect("committed");
        }
        let row = store.inventory(host).await.expect("readable").expect("there");
        assert!(row.body.contains("\"b\"") && row.observed_at == Timestamp::from_ms(20), "{row:?}");
        assert_eq!(store.inventories().await.expect("readable").len(), 1);
    }

    #[tokio::test]
    async fn what_is_said_about_an_edge_replaces_what_was_said_before_and_is_recorded() {
        let (_folder, store) = store().await;
        let (by, now) = (Operator::local_administrator(), Timestamp::now());
        let edge = ("host:a", EdgeKind::RunsOn, "host:b");
        let first = store.correct(&by, edge, Decision::Remove, "no", now).await.expect("said");
        let second = store.correct(&by, edge, Decision::Confirm, "yes", now.plus_ms(1)).await.expect("said");
        let rows = store.corrections().await.expect("readable");
        let live: Vec<&str> =
            rows.iter().filter(|row| row.revoked_at.is_none()).map(|row| row.correction.id.as_str()).collect();
        assert_eq!((rows.len(), live), (2, vec![second.as_str()]));
        assert_eq!(rows[1].correction.decision, Decision::Confirm);

        store.revoke_correction(&by, &second, "", now.plus_ms(2)).await.expect("taken back");
        for (id, says) in [(first.as_str(), "already"), ("nothing", "no correction")] {
            let error = store.revoke_correction(&by, id, "", now).await.expect_err("refused");
            assert!(error.to_string().contains(says), "{error}");
        }
        let verbs: Vec<String> = store
            .audit(&crate::store::Cursor::start(), 10)
            .await
            .expect("readable")
            .items
            .into_iter()
            .map(|entry| entry.verb)
            .collect();
        assert_eq!(verbs, ["topology.correction_revoked", "topology.corrected", "topology.corrected"]);
    }
}
