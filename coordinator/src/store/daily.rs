//! What the summary of a day is made of, and its thread; questions in threads.

use farol_protocol::{Timestamp, registry::Persona};
use serde::Serialize;

use super::{
    Store,
    findings::{COLUMNS, FindingRow},
    inbox::{self, Note},
};
use crate::error::{Result, StoreContext as _};

/// Findings that one summary looks at.
const MOST: i64 = 2000;

/// A thread to be, about no finding.
#[derive(Debug, Clone)]
pub struct NewThread {
    /// Identifier, the same whenever it is tried again.
    pub id: String,
    /// Who opens it.
    pub persona: Persona,
    /// Subject.
    pub subject: String,
}

/// What people said in a finding's thread.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Replies {
    /// How often.
    pub count: i64,
    /// The last time; null where there is none.
    pub last: Option<inbox::Message>,
}

/// A question that a person asked in a thread.
#[derive(Debug, Clone)]
pub struct Question {
    /// The message.
    pub id: String,
    /// Its thread.
    pub thread_id: String,
    /// What is asked.
    pub body: String,
}

impl Store {
    /// Findings that are not resolved, or were at `since` or later; the one
    /// that opened last first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn findings_since(&self, since: Timestamp) -> Result<Vec<FindingRow>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from finding where state <> 'resolved' or resolved_ms >= $1
             order by opened_ms desc, id desc limit $2"
        )))
        .bind(since.as_ms())
        .bind(MOST)
        .fetch_all(&mut *read)
        .await
        .context("read the findings of the day")
    }

    /// Whether something was said under this key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn was_said(&self, effect_key: &str) -> Result<bool> {
        let mut read = self.state().read().await?;
        let row: Option<(String,)> = sqlx::query_as("select id from agent_messages where effect_key = $1")
            .bind(effect_key)
            .fetch_optional(&mut *read)
            .await
            .context("look for a message")?;
        Ok(row.is_some())
    }

    /// Opens the thread of a day with what is said in it, and closes those of
    /// the days before. Answers whether it was new; all of it is written, or
    /// nothing.
    ///
    /// # Errors
    /// The store failed.
    pub async fn open_daily(&self, thread: &NewThread, notes: &[Note], now: Timestamp) -> Result<bool> {
        let mut write = self.state().write().await?;
        let inserted = sqlx::query(
            "insert into agent_threads (id, finding_id, persona, subject, state, created_ms, updated_ms)
             values ($1, null, $2, $3, 'open', $4, $4) on conflict (id) do nothing",
        )
        .bind(&thread.id)
        .bind(thread.persona.as_str())
        .bind(&thread.subject)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("open the day's thread")?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        for note in notes {
            inbox::say(&mut write, &thread.id, note, now).await?;
        }
        sqlx::query(
            "update agent_threads set state = 'closed'
             where finding_id is null and persona = $1 and state = 'open' and id <> $2 and id like 'daily-%'",
        )
        .bind(thread.persona.as_str())
        .bind(&thread.id)
        .execute(&mut *write)
        .await
        .context("close the threads of other days")?;
        write.commit().await?;
        Ok(true)
    }

    /// What people said in a thread.
    ///
    /// # Errors
    /// No such thread, or the store failed.
    pub async fn replies(&self, thread: &str) -> Result<Replies> {
        let mut messages = self.messages(thread).await?;
        messages.retain(|message| message.kind == "reply");
        Ok(Replies { count: i64::try_from(messages.len()).unwrap_or(i64::MAX), last: messages.pop() })
    }

    /// Questions of people since `since` that nobody answered, oldest first.
    /// A question is a reply that ends in a question mark.
    ///
    /// # Errors
    /// The store failed.
    pub async fn questions(&self, since: Timestamp, limit: i64) -> Result<Vec<Question>> {
        let mut read = self.state().read().await?;
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "select id, thread_id, body from agent_messages
             where archived_ms is null and created_ms >= $1 and kind = 'reply' and body like '%?'
             and not exists (select 1 from agent_messages answer where answer.effect_key = 'answer/' || agent_messages.id)
             order by created_ms, id limit $2",
        )
        .bind(since.as_ms())
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the questions")?;
        Ok(rows.into_iter().map(|(id, thread_id, body)| Question { id, thread_id, body }).collect())
    }
}
