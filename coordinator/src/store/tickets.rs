//! Tickets that were opened elsewhere about findings.

use farol_protocol::{Timestamp, action::hex};

use super::{Store, audit};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    integrations::github::Issue,
};

/// A ticket as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Hidden in the issue's text.
    pub marker: String,
    /// The issue; none while nobody knows whether it was made.
    pub issue: Option<Issue>,
    /// When making it was last tried, unless it is known that nothing was made.
    pub attempted_at: Option<Timestamp>,
}

impl Store {
    /// The ticket about a finding, begun if there is none.
    ///
    /// # Errors
    /// No such finding, or the store failed.
    pub async fn begin_ticket(&self, by: &Operator, finding: &str, repository: &str, now: Timestamp) -> Result<Ticket> {
        let finding = self.finding(finding).await?.id;
        // GitHub does not tell names apart by their case; a hash tells `a/b-c` from `a-b/c`.
        let repository = &repository.to_lowercase();
        let hash = hex(&ring::digest::digest(&ring::digest::SHA256, repository.as_bytes()).as_ref()[..6]);
        let marker = format!("farol-finding-{finding}-{hash}");
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into ticket (finding_id, repository, marker, requested_by, created_ms) values ($1, $2, $3, $4, $5)
             on conflict (finding_id, repository) do nothing",
        )
        .bind(&finding)
        .bind(repository)
        .bind(marker)
        .bind(by.name())
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("store a ticket")?;
        let (marker, number, url, attempted_ms): (String, Option<i64>, Option<String>, Option<i64>) = sqlx::query_as(
            "select marker, number, url, attempted_ms from ticket where finding_id = $1 and repository = $2",
        )
        .bind(&finding)
        .bind(repository)
        .fetch_one(&mut *write)
        .await
        .context("read a ticket")?;
        write.commit().await?;
        let issue = number.zip(url).map(|(number, url)| Issue { number, url });
        Ok(Ticket { marker, issue, attempted_at: attempted_ms.map(Timestamp::from_ms) })
    }

    /// Notes that an issue is about to be made, or, without a time, that none
    /// was.
    ///
    /// # Errors
    /// The store failed.
    pub async fn attempt_ticket(&self, marker: &str, at: Option<Timestamp>) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("update ticket set attempted_ms = $2 where marker = $1")
            .bind(marker)
            .bind(at.map(Timestamp::as_ms))
            .execute(&mut *write)
            .await
            .context("store a ticket")?;
        write.commit().await
    }

    /// Notes which issue a ticket is, and that it was made or found.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish_ticket(
        &self,
        by: &Operator,
        marker: &str,
        issue: &Issue,
        created: bool,
        now: Timestamp,
    ) -> Result<()> {
        let mut write = self.state().write().await?;
        let known: Option<(String,)> = sqlx::query_as("select finding_id from ticket where marker = $1")
            .bind(marker)
            .fetch_optional(&mut *write)
            .await
            .context("read a ticket")?;
        let (finding,) = known.ok_or_else(|| Error::NotFound { what: "ticket", id: marker.to_owned() })?;
        sqlx::query("update ticket set number = $2, url = $3 where marker = $1")
            .bind(marker)
            .bind(issue.number)
            .bind(&issue.url)
            .execute(&mut *write)
            .await
            .context("store a ticket")?;
        let detail = format!("{} {}", if created { "opened" } else { "found" }, issue.url);
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "issue.create",
            object: ("finding", &finding),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }
}

#[cfg(test)]
impl Store {
    /// A finding to open a ticket about.
    pub(crate) async fn some_finding(&self, title: &str, text: &str) -> super::findings::FindingRow {
        let mut write = self.state().write().await.expect("a change");
        sqlx::query(
            "insert into finding (id, fingerprint, episode, scenario, check_id, host_key, persona, severity, state,
                 title, status, text, thread_id, opened_ms, updated_ms)
             values ('f-1', 'h:c', 1, 's', 'c', 1, 'A1', 'high', 'open', $1, 'critical', $2, 't-1', 0, 0)",
        )
        .bind(title)
        .bind(text)
        .execute(&mut *write)
        .await
        .expect("inserted");
        write.commit().await.expect("committed");
        self.finding("f-1").await.expect("there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_repository_is_the_same_in_any_case_and_others_are_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let finding = store.some_finding("t", "x").await.id;
        let (by, now) = (Operator::local_administrator(), Timestamp::from_ms(1));
        let begin = async |repository: &str| store.begin_ticket(&by, &finding, repository, now).await.expect("begun");
        let first = begin("lab/portal").await;
        assert_eq!(begin("Lab/Portal").await, first);
        assert_ne!(begin("a/b-c").await.marker, begin("a-b/c").await.marker);
        store.attempt_ticket(&first.marker, Some(now)).await.expect("noted");
        assert_eq!(begin("LAB/portal").await.attempted_at, Some(now));
    }
}
