//! The record: who did what, when. Each entry carries the hash of itself, and
//! becomes a link of the chain soon: see [`super::seal`].

use farol_protocol::Timestamp;
use serde::Serialize;
use sqlx::{Any, AnyConnection, QueryBuilder};
use uuid::Uuid;

use super::{Cursor, Page, Store};
use crate::{
    error::{Result, StoreContext as _},
    record::{Hash, Said},
};

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
    /// Its number in the chain; none while it is not sealed.
    pub seq: Option<i64>,
}

/// Which entries are meant; what is empty means all.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Who.
    pub actor: String,
    /// Beginning of what was done, such as `action.`.
    pub verb: String,
    /// `action`, `finding`, `host`, …
    pub object_kind: String,
    /// Its id.
    pub object_id: String,
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

/// Inserts a few entries with one statement.
pub(super) async fn insert_chunk(connection: &mut AnyConnection, entries: &[NewEntry<'_>]) -> Result<()> {
    let mut insert =
        QueryBuilder::<Any>::new("insert into audit (id, at_ms, actor, verb, object_kind, object_id, detail, hash) ");
    insert.push_values(entries, |mut row, new| {
        let id = Uuid::now_v7().to_string();
        let (kind, object) = new.object;
        let said = Said {
            id: &id,
            at_ms: new.at.as_ms(),
            actor: new.actor,
            verb: new.verb,
            object_kind: kind,
            object_id: object,
            detail: new.detail,
        };
        let hash = said.hash().to_string();
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
        self.audit_of(&Wanted::default(), from, limit).await
    }

    /// Records that a document is in use, where it is not the one that the last
    /// entry says: the `registry`, the site's own `catalogue`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record_in_use(
        &self,
        what: &'static str,
        path: &std::path::Path,
        text: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut write = self.state().write().await?;
        let known: Option<(String,)> = sqlx::query_as(
            "select detail from audit where object_kind = $1 and object_id = $1 order by id desc limit 1",
        )
        .bind(what)
        .fetch_optional(&mut *write)
        .await
        .context("read the record")?;
        let detail = format!("{}, {} bytes, sha256:{}", path.display(), text.len(), Hash::of(text.as_bytes()));
        if known.is_none_or(|(known,)| known != detail) {
            let verb = format!("{what}.in_use");
            insert(
                &mut write,
                NewEntry { at: now, actor: "farol", verb: &verb, object: (what, what), detail: &detail },
            )
            .await?;
        }
        write.commit().await
    }

    /// What is wanted of the record, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn audit_of(&self, wanted: &Wanted, from: &Cursor, limit: i64) -> Result<Page<Entry>> {
        type Row = (String, i64, String, String, String, String, String, String, Option<i64>);
        let mut select = QueryBuilder::<Any>::new(
            "select a.id, a.at_ms, a.actor, a.verb, a.object_kind, a.object_id, a.detail, a.hash, s.seq
             from audit a left join audit_seal s on s.entry_id = a.id where (a.at_ms < ",
        );
        select.push_bind(from.ms).push(" or (a.at_ms = ").push_bind(from.ms);
        select.push(" and a.id < ").push_bind(from.id.clone()).push("))");
        let Wanted { actor, verb, object_kind, object_id } = wanted;
        for (column, value) in [("a.actor", actor), ("a.object_kind", object_kind), ("a.object_id", object_id)] {
            if !value.is_empty() {
                select.push(format!(" and {column} = ")).push_bind(value.clone());
            }
        }
        if !verb.is_empty() {
            // Not `like`: what is asked for may hold its wildcards.
            let length = i64::try_from(verb.chars().count()).unwrap_or(i64::MAX);
            select.push(" and substr(a.verb, 1, ").push_bind(length).push(") = ").push_bind(verb.clone());
        }
        select.push(" order by a.at_ms desc, a.id desc limit ").push_bind(limit + 1);
        let mut read = self.state().read().await?;
        let rows: Vec<Row> = select.build_query_as().fetch_all(&mut *read).await.context("read the record")?;
        let entries = rows
            .into_iter()
            .map(|(id, at, actor, verb, object_kind, object_id, detail, hash, seq)| Entry {
                id,
                at: Timestamp::from_ms(at),
                actor,
                verb,
                object_kind,
                object_id,
                detail,
                hash,
                seq,
            })
            .collect();
        Ok(Page::cut(entries, limit, |entry| (entry.at, entry.id.clone())))
    }
}

#[doc(hidden)]
impl Store {
    /// Writes so many entries, each as `insert` does, for measurements.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record_many(&self, entries: usize, now: Timestamp) -> Result<()> {
        for begin in (0..entries).step_by(5000) {
            let mut write = self.state().write().await?;
            let texts: Vec<(String, String)> = (begin..entries.min(begin + 5000))
                .map(|n| (format!("host-{}", n % 97), format!("max_unsigned_class R1, effects allowed, number {n}")))
                .collect();
            for chunk in texts.chunks(50) {
                let entries: Vec<NewEntry<'_>> = chunk
                    .iter()
                    .map(|(host, detail)| NewEntry {
                        at: now,
                        actor: "measurement",
                        verb: "host.measured",
                        object: ("host", host),
                        detail,
                    })
                    .collect();
                insert_chunk(&mut write, &entries).await?;
            }
            write.commit().await?;
        }
        Ok(())
    }

    /// Writes one entry in a transaction of its own, for measurements.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record_one(&self, detail: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let object = ("host", "measured");
        insert(&mut write, NewEntry { at: now, actor: "measurement", verb: "host.measured", object, detail }).await?;
        write.commit().await
    }
}
