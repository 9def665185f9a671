//! Messages that leave the house: written with what they tell, delivered by a
//! job, each under a key that exists once. Who was not told stands here too,
//! with the reason.
//!
//! **Invariant.** A recovery, or news of a problem, is written only for
//! channels that were told of the problem or are about to be, and waits for it.

use farol_protocol::Timestamp;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Cursor, Page, Store, audit};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    notify::{Channel, Reason, Told, Verdict, What},
};

/// A message to write into the outbox, once for each of its channels.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Which of the episode's messages.
    pub what: What,
    /// What a channel needs that takes more than text.
    pub told: Told,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// Of a mail, with angle brackets.
    pub message_id: String,
    /// Message id of the mail it follows.
    pub in_reply_to: Option<String>,
    /// For a problem what is decided of each channel; anything else goes where
    /// the problem went.
    pub channels: Vec<(Channel, Verdict)>,
}

/// A message that waits, without its text.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Waiting {
    /// Identifier.
    pub id: String,
    /// Name of the channel.
    pub channel: String,
    /// Address, topic, room.
    pub recipient: String,
    /// Finding; empty for one of before findings were noted.
    pub finding_id: String,
    /// `problem`, `grew.N`, `recovery`.
    pub what: String,
    /// Tries so far.
    pub attempts: i64,
    /// Not before then.
    pub next_ms: i64,
    /// 1 while it waits whether somebody acknowledges.
    pub escalates: i64,
    /// State of the finding; empty where there is none.
    pub finding_state: String,
    /// State of the channel's message of the problem; empty where there is none.
    pub problem_state: String,
}

/// A message to deliver.
#[derive(Debug, Clone, FromRow)]
pub struct Due {
    /// Identifier, the same at every try.
    pub id: String,
    /// Finding; empty for one of before findings were noted.
    pub finding_id: String,
    /// State of the finding.
    pub finding_state: String,
    /// `problem`, `grew.N`, `recovery`.
    pub what: String,
    /// Name of the channel.
    pub channel: String,
    /// Address, topic, room.
    pub recipient: String,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// Of a mail, with angle brackets.
    pub message_id: String,
    /// Message id of the mail it follows.
    pub in_reply_to: Option<String>,
    /// Tries so far.
    pub attempts: i64,
    /// How long was waited for somebody to acknowledge, in ms.
    pub after_ms: i64,
    /// JSON of [`Told`].
    pub document: Option<String>,
    /// The same of the channel's message of the problem.
    pub problem_document: Option<String>,
    /// What the other side called that one.
    pub problem_provider_id: Option<String>,
}

/// How a delivery went.
#[derive(Debug)]
pub enum Delivery {
    /// The other side took it.
    Sent {
        /// What it calls it.
        provider_id: Option<String>,
    },
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

/// A message as people see it.
#[derive(Debug, Clone, FromRow)]
pub struct Row {
    /// Identifier.
    pub id: String,
    /// Finding.
    pub finding_id: Option<String>,
    /// Counts the finding's problems.
    pub episode: i64,
    /// `problem`, `grew.N`, `recovery`.
    pub what: String,
    /// Name of the channel.
    pub channel: String,
    /// Address, topic, room.
    pub recipient: String,
    /// `pending`, `sent`, `dead`, `skipped`, `cancelled`.
    pub state: String,
    reason: Option<String>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// Tries so far.
    pub attempts: i64,
    next_ms: i64,
    created_ms: i64,
    sent_ms: Option<i64>,
    /// How long is waited for somebody to acknowledge, in ms.
    pub after_ms: i64,
    /// 1 while that is so.
    pub escalates: i64,
    /// What the other side calls it.
    pub provider_id: Option<String>,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

impl Row {
    /// Why it was not sent, where that was decided here.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Some(serde_json::from_str(self.reason.as_deref()?).unwrap_or(Reason::Unknown))
    }

    /// Not before then.
    #[must_use]
    pub fn next_at(&self) -> Timestamp {
        Timestamp::from_ms(self.next_ms)
    }

    /// When it was written.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_ms(self.created_ms)
    }

    /// When it was sent.
    #[must_use]
    pub fn sent_at(&self) -> Option<Timestamp> {
        self.sent_ms.map(Timestamp::from_ms)
    }
}

const COLUMNS: &str = "id, finding_id, episode, what, channel, recipient, state, reason, last_error, attempts, next_ms, \
     created_ms, sent_ms, after_ms, escalates, provider_id, subject, body";

/// What is known of a channel beside its messages.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ChannelState {
    /// Name.
    pub channel: String,
    /// It asked for no more before then.
    pub paused_ms: Option<i64>,
    /// Since when it wants none any more.
    pub disabled_ms: Option<i64>,
    /// Why.
    pub reason: Option<String>,
}

/// Writes a message in the transaction of what it tells.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    finding: &str,
    message: &NewMessage,
    now: Timestamp,
) -> Result<()> {
    if message.what != What::Problem {
        return follow(connection, finding, message, now).await;
    }
    for (channel, verdict) in &message.channels {
        let row = match verdict {
            Verdict::Told(after) => Written {
                state: "pending",
                reason: None,
                next: now.plus(*after),
                after_ms: i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            },
            Verdict::Not(reason) => Written { state: "skipped", reason: Some(reason), next: now, after_ms: 0 },
        };
        write(connection, finding, message, channel, &row, now).await?;
    }
    Ok(())
}

struct Written<'a> {
    state: &'static str,
    reason: Option<&'a Reason>,
    next: Timestamp,
    after_ms: i64,
}

/// To whoever was told of the problem, whatever the routes say now.
async fn follow(connection: &mut AnyConnection, finding: &str, message: &NewMessage, now: Timestamp) -> Result<()> {
    if message.what == What::Recovery {
        sqlx::query(
            "update outbox set state = 'cancelled', escalates = 0, reason = $2
             where finding_id = $1 and state = 'pending' and escalates = 1",
        )
        .bind(finding)
        .bind(json(&Reason::Resolved)?)
        .execute(&mut *connection)
        .await
        .context("cancel what was to be told later")?;
    }
    let told: Vec<(String, String, String)> = sqlx::query_as(
        "select channel, recipient, state from outbox
         where finding_id = $1 and what = 'problem' and escalates = 0 and state in ('pending', 'sent', 'dead')
         order by created_ms, id",
    )
    .bind(finding)
    .fetch_all(&mut *connection)
    .await
    .context("read the outbox")?;
    for (name, recipient, state) in told {
        let channel = Channel { name, recipient };
        // Where the problem is sent again by a person, this follows.
        let row = if state == "dead" {
            Written { state: "cancelled", reason: Some(&Reason::ProblemNotTold), next: now, after_ms: 0 }
        } else {
            Written { state: "pending", reason: None, next: now, after_ms: 0 }
        };
        write(connection, finding, message, &channel, &row, now).await?;
    }
    Ok(())
}

/// Writes it for one channel. What was not told yet may be told now, or sooner;
/// what was told stays as it is.
async fn write(
    connection: &mut AnyConnection,
    finding: &str,
    message: &NewMessage,
    channel: &Channel,
    row: &Written<'_>,
    now: Timestamp,
) -> Result<()> {
    let what = message.what.as_key();
    let Told { fingerprint, episode, .. } = &message.told;
    sqlx::query(
        "insert into outbox (id, effect_key, channel, recipient, subject, body, message_id, in_reply_to, state, attempts,
             next_ms, created_ms, finding_id, episode, what, reason, document, after_ms, escalates)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         on conflict (effect_key) do update set subject = $5, body = $6, state = $9, next_ms = $10, created_ms = $11,
             reason = $15, document = $16, after_ms = $17, escalates = $18
         where outbox.state = 'skipped' or (outbox.state = 'cancelled' and outbox.reason = $19 and $9 = 'pending')
             or (outbox.state = 'pending' and outbox.escalates = 1 and $9 = 'pending' and $10 < outbox.next_ms)",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(format!("{}/{}/{fingerprint}/{episode}/{what}", channel.name, channel.recipient))
    .bind(&channel.name)
    .bind(&channel.recipient)
    .bind(&message.subject)
    .bind(&message.body)
    .bind(&message.message_id)
    .bind(&message.in_reply_to)
    .bind(row.state)
    .bind(row.next.as_ms())
    .bind(now.as_ms())
    .bind(finding)
    .bind(i64::try_from(*episode).unwrap_or(i64::MAX))
    .bind(&what)
    .bind(row.reason.map(json).transpose()?)
    .bind(json(&message.told)?)
    .bind(row.after_ms)
    .bind(i64::from(row.after_ms > 0))
    .bind(json(&Reason::Suppressed)?)
    .execute(connection)
    .await
    .context("write the outbox")?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Refused(format!("it cannot be stored: {error}")))
}

impl Store {
    /// What waits, oldest first, without its text: of each channel at most
    /// `limit`, so that one that takes nothing hides no other.
    ///
    /// # Errors
    /// The store failed.
    pub async fn waiting_messages(&self, limit: i64) -> Result<Vec<Waiting>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(
            "select o.id, o.channel, o.recipient, coalesce(o.finding_id, '') as finding_id, o.what, o.attempts, o.next_ms,
                 o.escalates, case when f.state = 'resolved' and exists (select 1 from finding joined where joined.joined_id = f.id
                     and joined.state <> 'resolved') then 'open' else coalesce(f.state, '') end as finding_state, coalesce((select p.state from outbox p
                     where p.finding_id = o.finding_id and p.channel = o.channel and p.recipient = o.recipient
                     and p.what = 'problem'), '') as problem_state
             from (select outbox.*, row_number() over (partition by channel, recipient, escalates
                     order by created_ms, id) as place from outbox where state = 'pending') o
                 left join finding f on f.id = o.finding_id
             where o.place <= $1 order by o.created_ms, o.id",
        )
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the outbox")
    }

    /// Takes messages back that nobody needs any more, and lets those go whose
    /// time to escalate has come.
    ///
    /// # Errors
    /// The store failed.
    pub async fn settle_messages(&self, cancelled: &[(String, Reason)], promoted: &[String]) -> Result<()> {
        let mut write = self.state().write().await?;
        for (id, reason) in cancelled {
            sqlx::query(
                "update outbox set state = 'cancelled', escalates = 0, reason = $2 where id = $1 and state = 'pending'",
            )
            .bind(id)
            .bind(json(reason)?)
            .execute(&mut *write)
            .await
            .context("cancel a message")?;
        }
        for id in promoted {
            // The finding may have been acknowledged since it was looked at.
            sqlx::query(
                "update outbox set escalates = 0 where id = $1 and state = 'pending' and escalates = 1
                 and exists (select 1 from finding where finding.id = outbox.finding_id and finding.state = 'open')",
            )
            .bind(id)
            .execute(&mut *write)
            .await
            .context("escalate")?;
        }
        write.commit().await
    }

    /// A message to deliver; none where it waits no more, or its problem has
    /// not been told.
    ///
    /// # Errors
    /// The store failed.
    pub async fn due_message(&self, id: &str) -> Result<Option<Due>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(
            "select o.id, coalesce(o.finding_id, '') as finding_id, case when f.state = 'resolved' and exists (select 1 from finding joined where joined.joined_id = f.id
                     and joined.state <> 'resolved') then 'open' else coalesce(f.state, '') end as finding_state, o.what,
                 o.channel, o.recipient, o.subject, o.body, o.message_id, o.in_reply_to, o.attempts, o.after_ms,
                 o.document, p.document as problem_document, p.provider_id as problem_provider_id
             from outbox o left join finding f on f.id = o.finding_id
                 left join outbox p on p.finding_id = o.finding_id and p.channel = o.channel
                     and p.recipient = o.recipient and p.what = 'problem'
             where o.id = $1 and o.state = 'pending' and o.escalates = 0
                 and (o.what = 'problem' or p.state is null or p.state = 'sent')",
        )
        .bind(id)
        .fetch_optional(&mut *read)
        .await
        .context("read the outbox")
    }

    /// Saves how a delivery went.
    ///
    /// # Errors
    /// The store failed; the message may be sent a second time, under the same
    /// identifier.
    pub async fn delivered(&self, id: &str, delivery: &Delivery, now: Timestamp) -> Result<()> {
        let (state, next, error, provider_id) = match delivery {
            Delivery::Sent { provider_id } => ("sent", now, None, provider_id.as_ref()),
            Delivery::Later { at, error } => ("pending", *at, Some(error), None),
            Delivery::Dead { error } => ("dead", now, Some(error), None),
        };
        let mut write = self.state().write().await?;
        sqlx::query(
            "update outbox set state = $2, next_ms = $3, last_error = $4, sent_ms = $5, provider_id = $6,
                 attempts = attempts + 1
             where id = $1 and state = 'pending'",
        )
        .bind(id)
        .bind(state)
        .bind(next.as_ms())
        .bind(error)
        .bind((state == "sent").then_some(now.as_ms()))
        .bind(provider_id)
        .execute(&mut *write)
        .await
        .context("update the outbox")?;
        write.commit().await
    }

    /// What is known of the channels.
    ///
    /// # Errors
    /// The store failed.
    pub async fn channel_states(&self) -> Result<Vec<ChannelState>> {
        let mut read = self.state().read().await?;
        sqlx::query_as("select channel, paused_ms, disabled_ms, reason from notify_channel order by channel")
            .fetch_all(&mut *read)
            .await
            .context("read the channels")
    }

    /// The channel asked for no more before then.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pause_channel(&self, channel: &str, until: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into notify_channel (channel, paused_ms) values ($1, $2)
             on conflict (channel) do update set paused_ms = $2",
        )
        .bind(channel)
        .bind(until.as_ms())
        .execute(&mut *write)
        .await
        .context("pause the channel")?;
        write.commit().await
    }

    /// The channel wants none any more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn disable_channel(&self, channel: &str, reason: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into notify_channel (channel, disabled_ms, reason) values ($1, $2, $3)
             on conflict (channel) do update set disabled_ms = $2, reason = $3",
        )
        .bind(channel)
        .bind(now.as_ms())
        .bind(reason)
        .execute(&mut *write)
        .await
        .context("disable the channel")?;
        let entry = audit::NewEntry {
            at: now,
            actor: "farol",
            verb: "notification.channel_disabled",
            object: ("channel", channel),
            detail: reason,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// The channel is to be used again, and at once.
    ///
    /// # Errors
    /// The store failed.
    pub async fn enable_channel(&self, channel: &str) -> Result<()> {
        let mut write = self.state().write().await?;
        enable(&mut write, channel, Timestamp::now()).await?;
        write.commit().await
    }

    /// Sends a dead message again. What follows its problem goes with it.
    ///
    /// # Errors
    /// No such message, it is not dead, or the store failed.
    pub async fn resend_message(&self, by: &Operator, id: &str, now: Timestamp) -> Result<Row> {
        let mut write = self.state().write().await?;
        let row = one(&mut write, id).await?;
        if row.state != "dead" {
            return Err(Error::Refused(format!(
                "the message is {}; only one that could not be delivered (dead) is sent again",
                row.state
            )));
        }
        sqlx::query(
            "update outbox set state = 'pending', attempts = 0, next_ms = $2, last_error = null, reason = null
             where id = $1 or (finding_id = $3 and channel = $4 and recipient = $5 and state = 'cancelled'
                 and reason = $6 and $7 = 'problem')",
        )
        .bind(id)
        .bind(now.as_ms())
        .bind(&row.finding_id)
        .bind(&row.channel)
        .bind(&row.recipient)
        .bind(json(&Reason::ProblemNotTold)?)
        .bind(&row.what)
        .execute(&mut *write)
        .await
        .context("send the message again")?;
        enable(&mut write, &row.channel, now).await?;
        let detail = format!("{} to {} {}", row.what, row.channel, row.recipient);
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "notification.resent",
            object: ("notification", id),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        let row = one(&mut write, id).await?;
        write.commit().await?;
        Ok(row)
    }

    /// Everything about a finding, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finding_messages(&self, finding: &str) -> Result<Vec<Row>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from outbox where finding_id = $1 order by created_ms, id"
        )))
        .bind(finding)
        .fetch_all(&mut *read)
        .await
        .context("read the outbox")
    }

    /// Messages, newest first; with `state` only those.
    ///
    /// # Errors
    /// The store failed.
    pub async fn messages_page(&self, state: Option<&str>, from: &Cursor, limit: i64) -> Result<Page<Row>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from outbox where ($1 = '' or state = $1)
             and (created_ms < $2 or (created_ms = $2 and id < $3))
             order by created_ms desc, id desc limit $4"
        )))
        .bind(state.unwrap_or_default())
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(&mut *read)
        .await
        .context("read the outbox")?;
        Ok(Page::cut(rows, limit, |row: &Row| (row.created_at(), row.id.clone())))
    }

    /// Problems that a channel was told and that are not over: what was said,
    /// and its document.
    ///
    /// # Errors
    /// The store failed.
    pub async fn firing(&self, channel: &str) -> Result<Vec<(String, String)>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(
            "select o.body, coalesce(o.document, '') from outbox o join finding f on f.id = o.finding_id
             where o.channel = $1 and o.what = 'problem' and o.state = 'sent' and (f.state <> 'resolved' or exists
                 (select 1 from finding joined where joined.joined_id = f.id and joined.state <> 'resolved'))
             order by o.created_ms, o.id",
        )
        .bind(channel)
        .fetch_all(&mut *read)
        .await
        .context("read the outbox")
    }

    /// Forgets what became of messages about findings that ended before `before`,
    /// and links that can be used no more. Answers how many messages.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_outbox(&self, before: Timestamp) -> Result<u64> {
        let mut write = self.state().write().await?;
        let removed = sqlx::query(
            "delete from outbox where state <> 'pending' and finding_id in
                 (select id from finding where state = 'resolved' and resolved_ms < $1
                      and not exists (select 1 from finding joined where joined.joined_id = finding.id
                          and joined.state <> 'resolved'))",
        )
        .bind(before.as_ms())
        .execute(&mut *write)
        .await
        .context("prune the outbox")?
        .rows_affected();
        sqlx::query("delete from ack_link where expires_ms < $1")
            .bind(before.as_ms())
            .execute(&mut *write)
            .await
            .context("prune the links")?;
        write.commit().await?;
        Ok(removed)
    }

    /// Messages that were tried this often and still wait.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stuck_messages(&self, tries: i64) -> Result<Vec<(String, i64)>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(
            "select channel, count(*) from outbox where state = 'pending' and attempts >= $1
             group by channel order by channel",
        )
        .bind(tries)
        .fetch_all(&mut *read)
        .await
        .context("read the outbox")
    }

    /// Messages by state, for `/metrics` and health.
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

async fn one(connection: &mut AnyConnection, id: &str) -> Result<Row> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from outbox where id = $1")))
        .bind(id)
        .fetch_optional(connection)
        .await
        .context("read the outbox")?
        .ok_or_else(|| Error::NotFound { what: "notification", id: id.to_owned() })
}

async fn enable(connection: &mut AnyConnection, channel: &str, now: Timestamp) -> Result<()> {
    let was: Option<(Option<i64>,)> =
        sqlx::query_as("delete from notify_channel where channel = $1 returning disabled_ms")
            .bind(channel)
            .fetch_optional(&mut *connection)
            .await
            .context("enable the channel")?;
    if was.is_some_and(|(disabled,)| disabled.is_some()) {
        let entry = audit::NewEntry {
            at: now,
            actor: "farol",
            verb: "notification.channel_enabled",
            object: ("channel", channel),
            detail: "",
        };
        audit::insert(connection, entry).await?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
