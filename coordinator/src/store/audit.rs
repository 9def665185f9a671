//! The record: who did what, when. Each entry carries the hash of itself.

use farol_protocol::{Timestamp, action::hex};
use serde::Serialize;
use sqlx::{Any, AnyConnection, QueryBuilder};
use uuid::Uuid;

use super::{Cursor, Page, Store};
use crate::error::{Result, StoreContext as _};

/// One thing that was done.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Entry {
    /// Identifier; sorts by time.
    pub id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Operator, persona, host or `farol`.
    pub actor: String,
    /// What was done, such as `action.approved`.
    pub verb: String,
    /// `action`, `finding`, `host`, `token`, `scenario`.
    pub object_kind: String,
    /// Its id.
    pub object_id: String,
    /// One sentence.
    pub detail: String,
    /// SHA-256 of the fields above, in hexadecimal.
    pub hash: String,
}

/// What is written, without what is derived.
#[derive(Debug)]
pub(super) struct NewEntry<'a> {
    pub(super) at: Timestamp,
    pub(super) actor: &'a str,
    pub(super) verb: &'a str,
    pub(super) object: (&'a str, &'a str),
    pub(super) detail: &'a str,
}

/// An entry on an action, to be written with others.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) at: Timestamp,
    pub(super) actor: String,
    pub(super) verb: String,
    pub(super) object: String,
    pub(super) detail: String,
}

/// Inserts an entry in the transaction of what it records.
pub(super) async fn insert(connection: &mut AnyConnection, new: NewEntry<'_>) -> Result<()> {
    insert_chunk(connection, &[new]).await
}

/// Inserts entries on actions, as [`insert`] does.
pub(super) async fn insert_all(connection: &mut AnyConnection, drafts: &[Draft]) -> Result<()> {
    for chunk in drafts.chunks(50) {
        let entries: Vec<NewEntry<'_>> = chunk
            .iter()
            .map(|draft| NewEntry {
                at: draft.at,
                actor: &draft.actor,
                verb: &draft.verb,
                object: ("action", &draft.object),
                detail: &draft.detail,
            })
            .collect();
        insert_chunk(connection, &entries).await?;
    }
    Ok(())
}

async fn insert_chunk(connection: &mut AnyConnection, entries: &[NewEntry<'_>]) -> Result<()> {
    let mut insert =
        QueryBuilder::<Any>::new("insert into audit (id, at_ms, actor, verb, object_kind, object_id, detail, hash) ");
    insert.push_values(entries, |mut row, new| {
        let id = Uuid::now_v7().to_string();
        let (kind, object) = new.object;
        let document =
            serde_json::json!([id, new.at.as_ms(), new.actor, new.verb, kind, object, new.detail]).to_string();
        let hash = hex(ring::digest::digest(&ring::digest::SHA256, document.as_bytes()).as_ref());
        row.push_bind(id)
            .push_bind(new.at.as_ms())
            .push_bind(new.actor.to_owned())
            .push_bind(new.verb.to_owned())
            .push_bind(kind.to_owned())
            .push_bind(object.to_owned())
            .push_bind(new.detail.to_owned())
            .push_bind(hash);
    });
    insert.build().execute(connection).await.context("write the record")?;
    Ok(())
}

impl Store {
    /// The record, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn audit(&self, from: &Cursor, limit: i64) -> Result<Page<Entry>> {
        type Row = (String, i64, String, String, String, String, String, String);
        let mut read = self.state().read().await?;
        let rows: Vec<Row> = sqlx::query_as(
            "select id, at_ms, actor, verb, object_kind, object_id, detail, hash from audit
             where at_ms < $1 or (at_ms = $1 and id < $2) order by at_ms desc, id desc limit $3",
        )
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(&mut *read)
        .await
        .context("read the record")?;
        let entries = rows
            .into_iter()
            .map(|(id, at, actor, verb, object_kind, object_id, detail, hash)| Entry {
                id,
                at: Timestamp::from_ms(at),
                actor,
                verb,
                object_kind,
                object_id,
                detail,
                hash,
            })
            .collect();
        Ok(Page::cut(entries, limit, |entry| (entry.at, entry.id.clone())))
    }
}
