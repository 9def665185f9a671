//! Threads and messages.

use farol_protocol::Timestamp;
use serde::Serialize;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Cursor, Page, Store, audit};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
};

/// Something said in a thread.
#[derive(Debug, Clone)]
pub struct Note {
    /// Persona id or operator name.
    pub author: String,
    /// Whether a person said it.
    pub by_person: bool,
    /// `finding`, `update`, `acknowledged`, `resolved`, `advice`, `proposal`, `decision`, `outcome`, `reply`, `chat`,
    /// `cause`, `daily`.
    pub kind: &'static str,
    /// The text.
    pub body: String,
    /// Under which it is said once, whatever is repeated.
    pub effect_key: String,
}

/// A thread.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Thread {
    /// Identifier.
    pub id: String,
    /// What it is about.
    pub finding_id: Option<String>,
    /// Who opened it.
    pub persona: String,
    /// Subject.
    pub subject: String,
    /// `open` or `closed`.
    pub state: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When something was said last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A message.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Message {
    /// Identifier.
    pub id: String,
    /// Its thread.
    pub thread_id: String,
    /// Persona id or operator name.
    pub author: String,
    /// `persona` or `person`.
    pub author_kind: String,
    /// What it is.
    pub kind: String,
    /// The text.
    pub body: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was archived.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
    /// By whom.
    pub archived_by: Option<String>,
}

#[derive(FromRow)]
struct RawThread {
    id: String,
    finding_id: Option<String>,
    persona: String,
    subject: String,
    state: String,
    created_ms: i64,
    updated_ms: i64,
}

impl From<RawThread> for Thread {
    fn from(raw: RawThread) -> Self {
        Self {
            id: raw.id,
            finding_id: raw.finding_id,
            persona: raw.persona,
            subject: raw.subject,
            state: raw.state,
            created_at: Timestamp::from_ms(raw.created_ms),
            updated_at: Timestamp::from_ms(raw.updated_ms),
        }
    }
}

#[derive(FromRow)]
struct RawMessage {
    id: String,
    thread_id: String,
    author: String,
    author_kind: String,
    kind: String,
    body: String,
    created_ms: i64,
    archived_ms: Option<i64>,
    archived_by: Option<String>,
}

impl From<RawMessage> for Message {
    fn from(raw: RawMessage) -> Self {
        Self {
            id: raw.id,
            thread_id: raw.thread_id,
            author: raw.author,
            author_kind: raw.author_kind,
            kind: raw.kind,
            body: raw.body,
            created_at: Timestamp::from_ms(raw.created_ms),
            archived_at: raw.archived_ms.map(Timestamp::from_ms),
            archived_by: raw.archived_by,
        }
    }
}

/// Says something in a thread, once per effect key.
pub(super) async fn say(connection: &mut AnyConnection, thread: &str, note: &Note, now: Timestamp) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into agent_messages (id, thread_id, effect_key, author, author_kind, kind, body, created_ms)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (effect_key) do nothing",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(thread)
    .bind(&note.effect_key)
    .bind(&note.author)
    .bind(if note.by_person { "person" } else { "persona" })
    .bind(note.kind)
    .bind(&note.body)
    .bind(now.as_ms())
    .execute(&mut *connection)
    .await
    .context("store a message")?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("update agent_threads set updated_ms = $2 where id = $1")
        .bind(thread)
        .bind(now.as_ms())
        .execute(connection)
        .await
        .context("update a thread")?;
    Ok(true)
}

impl Store {
    /// Says something in a thread. Answers whether it was new.
    ///
    /// # Errors
    /// No such thread, or the store failed.
    pub async fn say(&self, thread: &str, note: &Note, now: Timestamp) -> Result<bool> {
        self.thread(thread).await?;
        let mut write = self.state().write().await?;
        let new = say(&mut write, thread, note, now).await?;
        write.commit().await?;
        Ok(new)
    }

    /// One thread.
    ///
    /// # Errors
    /// No such thread, or the store failed.
    pub async fn thread(&self, id: &str) -> Result<Thread> {
        let mut read = self.state().read().await?;
        let row: Option<RawThread> = sqlx::query_as(
            "select id, finding_id, persona, subject, state, created_ms, updated_ms from agent_threads where id = $1",
        )
        .bind(id)
        .fetch_optional(&mut *read)
        .await
        .context("read the thread")?;
        row.map(Thread::from).ok_or_else(|| Error::NotFound { what: "thread", id: id.to_owned() })
    }

    /// Threads, the one that changed last first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn threads(&self, from: &Cursor, limit: i64) -> Result<Page<Thread>> {
        let mut read = self.state().read().await?;
        let rows: Vec<RawThread> = sqlx::query_as(
            "select id, finding_id, persona, subject, state, created_ms, updated_ms from agent_threads
             where updated_ms < $1 or (updated_ms = $1 and id < $2) order by updated_ms desc, id desc limit $3",
        )
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(&mut *read)
        .await
        .context("read the threads")?;
        let threads = rows.into_iter().map(Thread::from).collect();
        Ok(Page::cut(threads, limit, |thread: &Thread| (thread.updated_at, thread.id.clone())))
    }

    /// Messages of a thread, oldest first.
    ///
    /// # Errors
    /// No such thread, or the store failed.
    pub async fn messages(&self, thread: &str) -> Result<Vec<Message>> {
        self.thread(thread).await?;
        let mut read = self.state().read().await?;
        let rows: Vec<RawMessage> = sqlx::query_as(
            "select id, thread_id, author, author_kind, kind, body, created_ms, archived_ms, archived_by
             from agent_messages where thread_id = $1 order by created_ms, id",
        )
        .bind(thread)
        .fetch_all(&mut *read)
        .await
        .context("read the messages")?;
        Ok(rows.into_iter().map(Message::from).collect())
    }

    /// What personas said and nobody archived yet, newest first, of the
    /// personas whose inbox is one of `personas`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pending_messages(&self, personas: &[&str], from: &Cursor, limit: i64) -> Result<Page<Message>> {
        let mut query = sqlx::QueryBuilder::<sqlx::Any>::new(
            "select id, thread_id, author, author_kind, kind, body, created_ms, archived_ms, archived_by
             from agent_messages where archived_ms is null and author_kind = 'persona' and (created_ms < ",
        );
        query.push_bind(from.ms).push(" or (created_ms = ").push_bind(from.ms).push(" and id < ");
        query.push_bind(from.id.clone()).push(")) and author in (''");
        for persona in personas {
            query.push(", ").push_bind((*persona).to_owned());
        }
        query.push(") order by created_ms desc, id desc limit ").push_bind(limit + 1);
        let mut read = self.state().read().await?;
        let rows: Vec<RawMessage> = query.build_query_as().fetch_all(&mut *read).await.context("read the inbox")?;
        let messages = rows.into_iter().map(Message::from).collect();
        Ok(Page::cut(messages, limit, |message: &Message| (message.created_at, message.id.clone())))
    }

    /// Takes a message out of the inbox; archiving it again changes nothing.
    ///
    /// # Errors
    /// No such message, or the store failed.
    pub async fn archive_message(&self, by: &Operator, id: &str, comment: &str, now: Timestamp) -> Result<Message> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update agent_messages set archived_ms = $2, archived_by = $3 where id = $1 and archived_ms is null",
        )
        .bind(id)
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("archive the message")?;
        if changed.rows_affected() > 0 {
            let entry = audit::NewEntry {
                at: now,
                actor: by.name(),
                verb: "message.archived",
                object: ("message", id),
                detail: comment,
            };
            audit::insert(&mut write, entry).await?;
        }
        let row: Option<RawMessage> = sqlx::query_as(
            "select id, thread_id, author, author_kind, kind, body, created_ms, archived_ms, archived_by
             from agent_messages where id = $1",
        )
        .bind(id)
        .fetch_optional(&mut *write)
        .await
        .context("read the message")?;
        write.commit().await?;
        row.map(Message::from).ok_or_else(|| Error::NotFound { what: "message", id: id.to_owned() })
    }
}
