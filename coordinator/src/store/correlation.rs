//! The correlator's memory, and the one transaction in which an effect becomes
//! finding, thread, message, mail and proposal.

use std::collections::HashMap;

use farol_protocol::{CheckId, Timestamp, registry::Persona};
use sqlx::AnyConnection;
use uuid::Uuid;

use super::{
    Store,
    actions::{self, NewAction},
    audit,
    findings::{self, COLUMNS, FindingRow},
    hosts::HostKey,
    inbox::{self, Note},
    outbox::{self, NewMessage},
    word,
};
use crate::{
    correlate::{CheckKey, CheckState, Effect, Hidden, Tell, Transition},
    error::{Error, Result, StoreContext as _},
};

const CURSOR: &str = "correlator.cursor";

/// An effect with everything that is said about it.
#[derive(Debug)]
pub struct Change {
    /// Identifier of the finding if this opens it.
    pub finding_id: String,
    /// What happened.
    pub effect: Effect,
    /// `HOST:CHECK`.
    pub fingerprint: String,
    /// Its scenario.
    pub scenario: String,
    /// What people read.
    pub title: String,
    /// Who speaks.
    pub persona: Persona,
    /// Subject of the thread.
    pub subject: String,
    /// Who moved it, for the record.
    pub actor: String,
    /// What is said.
    pub note: Note,
    /// What leaves the house.
    pub messages: Vec<NewMessage>,
    /// What A7 proposes with it, and says.
    pub proposal: Option<(NewAction, Note)>,
}

impl Store {
    /// What the correlator knew at the last save, and the report up to which
    /// every check's state was saved.
    ///
    /// # Errors
    /// The store failed or holds an unreadable state.
    pub async fn load_correlator(&self) -> Result<(i64, HashMap<CheckKey, CheckState>)> {
        let cursor = match self.setting(CURSOR).await? {
            None => 0,
            Some(text) => word("cursor", &text)?,
        };
        let mut read = self.state().read().await?;
        let rows: Vec<(i64, String, String)> = sqlx::query_as("select host_key, check_id, state from check_state")
            .fetch_all(&mut *read)
            .await
            .context("read the checks' states")?;
        let mut checks = HashMap::with_capacity(rows.len());
        for (host, check, state) in rows {
            let key = (HostKey(host), word::<CheckId>("check id", &check)?);
            let state = serde_json::from_str(&state)
                .map_err(|_| Error::Corrupt { what: "check state", value: state.clone() })?;
            checks.insert(key, state);
        }
        Ok((cursor, checks))
    }

    /// Saves states and the cursor below which nothing need be replayed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn save_correlator(&self, cursor: i64, states: &[(CheckKey, CheckState)]) -> Result<()> {
        let mut write = self.state().write().await?;
        for (key, state) in states {
            save(&mut write, key, state).await?;
        }
        sqlx::query("insert into setting (name, value) values ($1, $2) on conflict (name) do update set value = $2")
            .bind(CURSOR)
            .bind(cursor.to_string())
            .execute(&mut *write)
            .await
            .context("save the correlator's cursor")?;
        write.commit().await
    }

    /// Writes effects with the states that made them, all or nothing. Answers
    /// the findings that changed; an effect that was written before changes
    /// nothing and is left out.
    ///
    /// # Errors
    /// The store failed.
    pub async fn apply(
        &self,
        changes: &[Change],
        states: &[(CheckKey, CheckState)],
        now: Timestamp,
    ) -> Result<Vec<FindingRow>> {
        let mut write = self.state().write().await?;
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes {
            rows.extend(apply(&mut write, change, now).await?);
        }
        for (key, state) in states {
            save(&mut write, key, state).await?;
        }
        write.commit().await?;
        Ok(rows)
    }
}

async fn save(connection: &mut AnyConnection, key: &CheckKey, state: &CheckState) -> Result<()> {
    let text = serde_json::to_string(state)
        .map_err(|error| Error::Corrupt { what: "check state", value: error.to_string() })?;
    sqlx::query(
        "insert into check_state (host_key, check_id, state) values ($1, $2, $3)
         on conflict (host_key, check_id) do update set state = $3",
    )
    .bind(key.0.0)
    .bind(key.1.as_str())
    .bind(text)
    .execute(connection)
    .await
    .context("save a check's state")?;
    Ok(())
}

async fn apply(connection: &mut AnyConnection, change: &Change, now: Timestamp) -> Result<Option<FindingRow>> {
    let episode = i64::try_from(change.effect.episode).unwrap_or(i64::MAX);
    let moved = match change.effect.transition {
        Transition::Opened => open(connection, change, episode, now).await?,
        transition => {
            let told = change.effect.tell == Some(Tell::Problem);
            let moved = match transition {
                // Whose words these are is not the finding's state.
                Transition::Told | Transition::Grew(_) | Transition::AllResolved => {
                    known(connection, change, episode).await?
                }
                _ => step(connection, change, episode, now).await?,
            };
            if moved && told {
                sqlx::query(
                    "update finding set told_ms = coalesce(told_ms, $3) where fingerprint = $1 and episode = $2",
                )
                .bind(&change.fingerprint)
                .bind(episode)
                .bind(now.as_ms())
                .execute(&mut *connection)
                .await
                .context("note that the finding was told")?;
            }
            moved
        }
    };
    if !moved {
        return Ok(None);
    }
    let row: FindingRow = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from finding where fingerprint = $1 and episode = $2"
    )))
    .bind(&change.fingerprint)
    .bind(episode)
    .fetch_one(&mut *connection)
    .await
    .context("read the finding")?;
    if !inbox::say(connection, &row.thread_id, &change.note, now).await? {
        return Ok(None);
    }
    if change.effect.transition == Transition::Resolved {
        findings::close(connection, &row, now).await?;
    }
    for message in &change.messages {
        outbox::insert(connection, &row.id, message, now).await?;
    }
    let verb = match change.effect.transition {
        Transition::Opened => "finding.opened",
        Transition::Changed(_) => "finding.changed",
        Transition::Acknowledged => "finding.acknowledged",
        Transition::Hidden(_) => "finding.suppressed",
        Transition::Shown(_) => "finding.shown",
        Transition::Told => "finding.told",
        Transition::Grew(_) => "finding.grew",
        Transition::Resolved => "finding.resolved",
        Transition::AllResolved => "finding.all_resolved",
    };
    let entry = audit::NewEntry {
        at: now,
        actor: &change.actor,
        verb,
        object: ("finding", &row.id),
        detail: &change.fingerprint,
    };
    audit::insert(connection, entry).await?;
    if let Some((action, note)) = &change.proposal {
        actions::insert(connection, action, Some(note)).await?;
    }
    Ok(Some(row))
}

/// What a transition makes of a finding that is not resolved.
async fn step(connection: &mut AnyConnection, change: &Change, episode: i64, now: Timestamp) -> Result<bool> {
    let (effect, report) = (&change.effect, &change.effect.report);
    let (kind, by, joined) = hidden(connection, effect).await?;
    let is_resolved = matches!(effect.transition, Transition::Resolved);
    let is_acknowledged = matches!(effect.transition, Transition::Acknowledged);
    let state = if is_resolved {
        "resolved"
    } else if is_acknowledged {
        "acknowledged"
    } else if kind.is_some() {
        "suppressed"
    } else {
        "open"
    };
    // What was acknowledged stays so, and an end changes nothing of what it was.
    let done = sqlx::query(
        "update finding set
             state = case when state = 'acknowledged' and $3 <> 'resolved' then state else $3 end,
             severity = $4, status = $5, value = $6, unit = $7, text = $8, updated_ms = $9,
             hidden_kind = $10, hidden_by = $11, joined_id = coalesce($12, joined_id), flapping = $13, stale = $14,
             resolved_ms = $15, acknowledged_ms = coalesce(acknowledged_ms, $16),
             acknowledged_by = coalesce(acknowledged_by, $17)
         where fingerprint = $1 and episode = $2 and state <> 'resolved'",
    )
    .bind(&change.fingerprint)
    .bind(episode)
    .bind(state)
    .bind(effect.severity.as_str())
    .bind(if is_resolved { report.status.as_str() } else { effect.status.as_str() })
    .bind(report.value)
    .bind(&report.unit)
    .bind(&report.text)
    .bind(now.as_ms())
    .bind(kind)
    .bind(by)
    .bind(joined)
    .bind(i64::from(effect.flapping))
    .bind(i64::from(effect.stale))
    .bind(is_resolved.then(|| effect.ended_at(now).as_ms()))
    .bind(is_acknowledged.then_some(now.as_ms()))
    .bind(is_acknowledged.then_some(change.actor.as_str()))
    .execute(connection)
    .await
    .context("change the finding")?;
    Ok(done.rows_affected() > 0)
}

/// Why a finding is not told, by what, and the finding that it has joined.
async fn hidden(
    connection: &mut AnyConnection,
    effect: &Effect,
) -> Result<(Option<&'static str>, Option<String>, Option<String>)> {
    Ok(match &effect.hidden {
        Some(Hidden::Cause { host, check, episode }) => {
            (Some("cause"), id_of(connection, *host, check, *episode).await?, None)
        }
        Some(Hidden::Quiet { id, kind }) => (Some(kind.as_str()), Some(id.clone()), None),
        Some(Hidden::Group { host, episode, .. }) => {
            (None, None, id_of(connection, *host, &effect.key.1, *episode).await?)
        }
        Some(Hidden::Waits { .. }) | None => (None, None, None),
    })
}

async fn id_of(connection: &mut AnyConnection, host: HostKey, check: &CheckId, episode: u64) -> Result<Option<String>> {
    let row: Option<(String,)> =
        sqlx::query_as("select id from finding where host_key = $1 and check_id = $2 and episode = $3")
            .bind(host.0)
            .bind(check.as_str())
            .bind(i64::try_from(episode).unwrap_or(i64::MAX))
            .fetch_optional(connection)
            .await
            .context("read the finding")?;
    Ok(row.map(|(id,)| id))
}

async fn known(connection: &mut AnyConnection, change: &Change, episode: i64) -> Result<bool> {
    let (count,): (i64,) = sqlx::query_as("select count(*) from finding where fingerprint = $1 and episode = $2")
        .bind(&change.fingerprint)
        .bind(episode)
        .fetch_one(connection)
        .await
        .context("read the finding")?;
    Ok(count > 0)
}

async fn open(connection: &mut AnyConnection, change: &Change, episode: i64, now: Timestamp) -> Result<bool> {
    let (report, thread) = (&change.effect.report, Uuid::now_v7().to_string());
    let (kind, by, joined) = hidden(connection, &change.effect).await?;
    let inserted = sqlx::query(
        "insert into finding (id, fingerprint, episode, scenario, check_id, host_key, persona, severity, state, title,
             status, value, unit, text, thread_id, opened_ms, updated_ms, hidden_kind, hidden_by, joined_id, told_ms,
             flapping, stale)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $17, $9, $10, $11, $12, $13, $14, $15, $16, $18, $19, $20, $21, $22, $23)
         on conflict (fingerprint, episode) do nothing",
    )
    .bind(&change.finding_id)
    .bind(&change.fingerprint)
    .bind(episode)
    .bind(&change.scenario)
    .bind(change.effect.key.1.as_str())
    .bind(change.effect.key.0.0)
    .bind(change.persona.as_str())
    .bind(change.effect.severity.as_str())
    .bind(&change.title)
    .bind(change.effect.status.as_str())
    .bind(report.value)
    .bind(&report.unit)
    .bind(&report.text)
    .bind(&thread)
    .bind(change.effect.since.as_ms())
    .bind(now.as_ms())
    .bind(if kind.is_some() { "suppressed" } else { "open" })
    .bind(kind)
    .bind(by)
    .bind(joined)
    .bind(change.effect.tell.map(|_| now.as_ms()))
    .bind(i64::from(change.effect.flapping))
    .bind(i64::from(change.effect.stale))
    .execute(&mut *connection)
    .await
    .context("open the finding")?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "insert into agent_threads (id, finding_id, persona, subject, state, created_ms, updated_ms)
         values ($1, $2, $3, $4, 'open', $5, $5)",
    )
    .bind(&thread)
    .bind(&change.finding_id)
    .bind(change.persona.as_str())
    .bind(&change.subject)
    .bind(now.as_ms())
    .execute(connection)
    .await
    .context("open the thread")?;
    Ok(true)
}
