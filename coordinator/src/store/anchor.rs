//! Heads of the record on their way out.

use farol_protocol::Timestamp;
use uuid::Uuid;

use super::{Store, audit};
use crate::{
    error::{Error, Result, StoreContext as _},
    notify::{Channel, Told},
    record::Place,
};

/// The day whose head was sent last.
const DAY: &str = "anchored_on";

/// A head to send.
#[derive(Debug, Clone)]
pub struct NewAnchor {
    /// Its day.
    pub date: String,
    /// The head.
    pub head: Place,
    /// Where it goes.
    pub channels: Vec<Channel>,
    /// For channels that take more than text.
    pub told: Told,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

impl Store {
    /// The day whose head was sent last.
    ///
    /// # Errors
    /// The store failed.
    pub async fn anchored_on(&self) -> Result<Option<String>> {
        self.setting(DAY).await
    }

    /// Writes a day's head into the outbox, with an entry that says where it
    /// went. Answers false where the day has its own already.
    ///
    /// # Errors
    /// The store failed.
    pub async fn anchor(&self, anchor: &NewAnchor, now: Timestamp) -> Result<bool> {
        let mut write = self.state().write().await?;
        let taken = sqlx::query(
            "insert into setting (name, value) values ($1, $2)
             on conflict (name) do update set value = $2 where setting.value <> $2",
        )
        .bind(DAY)
        .bind(&anchor.date)
        .execute(&mut *write)
        .await
        .context("save a setting")?;
        if taken.rows_affected() == 0 {
            write.commit().await?;
            return Ok(false);
        }
        let told = serde_json::to_string(&anchor.told)
            .map_err(|error| Error::Refused(format!("it cannot be stored: {error}")))?;
        for channel in &anchor.channels {
            let id = Uuid::now_v7().to_string();
            sqlx::query(
                "insert into outbox (id, effect_key, channel, recipient, subject, body, message_id, state, attempts,
                     next_ms, created_ms, what, document)
                 values ($1, $2, $3, $4, $5, $6, $7, 'pending', 0, $8, $8, 'anchor', $9)
                 on conflict (effect_key) do nothing",
            )
            .bind(&id)
            .bind(format!("anchor/{}/{}/{}", anchor.date, channel.name, channel.recipient))
            .bind(&channel.name)
            .bind(&channel.recipient)
            .bind(&anchor.subject)
            .bind(&anchor.body)
            .bind(format!("<{id}@farol>"))
            .bind(now.as_ms())
            // A mail says all of it in its text.
            .bind((channel.name != "email").then_some(&told))
            .execute(&mut *write)
            .await
            .context("write the outbox")?;
        }
        let places: Vec<String> =
            anchor.channels.iter().map(|channel| format!("{} {}", channel.name, channel.recipient)).collect();
        let (head, detail) = (anchor.head.to_string(), format!("to {}", places.join(", ")));
        let entry = audit::NewEntry {
            at: now,
            actor: "farol",
            verb: "record.anchored",
            object: ("record", &head),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::registry::{Persona, Severity};

    use super::*;
    use crate::{record::Hash, store::Cursor};

    #[tokio::test]
    async fn a_days_head_goes_once_to_each_place_and_the_record_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let now = Timestamp::now();
        let told = Told {
            fingerprint: "farol:record".to_owned(),
            episode: 1,
            scenario: "farol.record".to_owned(),
            persona: Persona::A0,
            host: "farol".to_owned(),
            site: None,
            severity: Severity::Info,
            title: "t".to_owned(),
            since: now,
            at: now,
        };
        let channel = |name: &str, recipient: &str| Channel { name: name.to_owned(), recipient: recipient.to_owned() };
        let anchor = NewAnchor {
            date: "2026-11-21".to_owned(),
            head: Place::START.then(&Hash::of(b"x")),
            channels: vec![channel("email", "root@example.org"), channel("ntfy", "ops")],
            told,
            subject: "s".to_owned(),
            body: "b".to_owned(),
        };
        assert!(store.anchor(&anchor, now).await.expect("written"));
        assert!(!store.anchor(&anchor, now).await.expect("known"));
        let waiting = store.waiting_messages(10).await.expect("readable");
        assert_eq!(waiting.iter().map(|one| one.channel.as_str()).collect::<Vec<_>>(), ["email", "ntfy"]);
        let mail = store.due_message(&waiting[0].id).await.expect("readable").expect("due");
        assert_eq!((mail.what.as_str(), mail.body.as_str(), mail.document), ("anchor", "b", None));
        let entries = store.audit(&Cursor::start(), 9).await.expect("readable").items;
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].object_id.as_str(), entries[0].detail.as_str()),
            (anchor.head.to_string().as_str(), "to email root@example.org, ntfy ops")
        );
        let tomorrow = NewAnchor { date: "2026-11-22".to_owned(), ..anchor };
        assert!(store.anchor(&tomorrow, now).await.expect("written"));
    }
}
