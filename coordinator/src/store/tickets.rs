//! Tickets that were opened elsewhere about findings.

use farol_protocol::Timestamp;

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
}

impl Store {
    /// The ticket about a finding, begun if there is none.
    ///
    /// # Errors
    /// No such finding, or the store failed.
    pub async fn begin_ticket(&self, by: &Operator, finding: &str, repository: &str, now: Timestamp) -> Result<Ticket> {
        let finding = self.finding(finding).await?.id;
        let marker = format!("farol-finding-{finding}-{}", repository.to_lowercase().replace('/', "-"));
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
        let (marker, number, url): (String, Option<i64>, Option<String>) =
            sqlx::query_as("select marker, number, url from ticket where finding_id = $1 and repository = $2")
                .bind(&finding)
                .bind(repository)
                .fetch_one(&mut *write)
                .await
                .context("read a ticket")?;
        write.commit().await?;
        let issue = number.zip(url).map(|(number, url)| Issue { number, url });
        Ok(Ticket { marker, issue })
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
