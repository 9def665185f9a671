//! Messages that leave the house: written with what they tell, delivered by a
//! job, each under a key that exists once.

use farol_protocol::Timestamp;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::Store;
use crate::error::{Result, StoreContext as _};

/// A mail to write into the outbox.
#[derive(Debug, Clone)]
pub struct NewMail {
    /// Under which it is sent once.
    pub effect_key: String,
    /// Address.
    pub recipient: String,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// With angle brackets.
    pub message_id: String,
    /// Message id of the mail it follows; it is written only if that one was.
    pub in_reply_to: Option<String>,
}

/// A mail to deliver.
#[derive(Debug, Clone, FromRow)]
pub struct Due {
    /// Identifier.
    pub id: String,
    /// Address.
    pub recipient: String,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// With angle brackets.
    pub message_id: String,
    /// Message id of the mail it follows.
    pub in_reply_to: Option<String>,
    /// Tries so far.
    pub attempts: i64,
}

/// How a delivery went.
#[derive(Debug)]
pub enum Delivery {
    /// The server took it.
    Sent,
    /// Try again then.
    Later {
        /// When.
        at: Timestamp,
        /// Why.
        error: String,
    },
    /// It cannot be delivered.
    Dead {
        /// Why.
        error: String,
    },
}

/// Writes a mail in the transaction of what it tells. A mail that follows
/// another (a recovery) is written only where that other was: nobody hears of
/// a recovery whose problem they never heard of.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    _finding: &str,
    mail: &NewMail,
    now: Timestamp,
) -> Result<()> {
    if let Some(problem) = &mail.in_reply_to {
        let (known,): (i64,) = sqlx::query_as("select count(*) from outbox where message_id = $1")
            .bind(problem)
            .fetch_one(&mut *connection)
            .await
            .context("read the outbox")?;
        if known == 0 {
            return Ok(());
        }
    }
    sqlx::query(
        "insert into outbox (id, effect_key, channel, recipient, subject, body, message_id, in_reply_to, state,
             attempts, next_ms, created_ms)
         values ($1, $2, 'email', $3, $4, $5, $6, $7, 'pending', 0, $8, $8) on conflict (effect_key) do nothing",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(&mail.effect_key)
    .bind(&mail.recipient)
    .bind(&mail.subject)
    .bind(&mail.body)
    .bind(&mail.message_id)
    .bind(&mail.in_reply_to)
    .bind(now.as_ms())
    .execute(connection)
    .await
    .context("write the outbox")?;
    Ok(())
}

impl Store {
    /// Mails whose time has come, oldest first. One that follows another waits
    /// for it, so that a recovery never overtakes its problem.
    ///
    /// # Errors
    /// The store failed.
    pub async fn due_mails(&self, now: Timestamp, limit: i64) -> Result<Vec<Due>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(
            "select id, recipient, subject, body, message_id, in_reply_to, attempts from outbox
             where state = 'pending' and next_ms <= $1 and not exists
                 (select 1 from outbox earlier where earlier.message_id = outbox.in_reply_to and earlier.state = 'pending')
             order by created_ms, id limit $2",
        )
        .bind(now.as_ms())
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the outbox")
    }

    /// Saves how a delivery went.
    ///
    /// # Errors
    /// The store failed; the mail may be sent a second time, under the same
    /// message id.
    pub async fn delivered(&self, id: &str, delivery: &Delivery, now: Timestamp) -> Result<()> {
        let (state, next, error, sent) = match delivery {
            Delivery::Sent => ("sent", now, None, Some(now.as_ms())),
            Delivery::Later { at, error } => ("pending", *at, Some(error), None),
            Delivery::Dead { error } => ("dead", now, Some(error), None),
        };
        let mut write = self.state().write().await?;
        sqlx::query(
            "update outbox set state = $2, next_ms = $3, last_error = $4, sent_ms = $5, attempts = attempts + 1
             where id = $1 and state = 'pending'",
        )
        .bind(id)
        .bind(state)
        .bind(next.as_ms())
        .bind(error)
        .bind(sent)
        .execute(&mut *write)
        .await
        .context("update the outbox")?;
        write.commit().await
    }

    /// Mails by state, for `/metrics` and health.
    ///
    /// # Errors
    /// The store failed.
    pub async fn outbox_counts(&self) -> Result<Vec<(String, i64)>> {
        let mut read = self.state().read().await?;
        sqlx::query_as("select state, count(*) from outbox group by state order by state")
            .fetch_all(&mut *read)
            .await
            .context("read the outbox")
    }
}
