//! What keeps orders from leaving, whoever approved them: the switch that stops
//! all execution, and hosts on which a change could not be undone.

use farol_protocol::{ActionId, ActionKind, Timestamp, action::Outcome, remediation::Verdict};
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::{Store, actions::ActionRow, audit, hosts::HostRow};
use crate::{
    action::State,
    auth::Operator,
    error::{Error, Result, StoreContext as _},
};

const SWITCH: &str = "execution.stopped";

/// Who stopped all execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stopped {
    /// Who.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub comment: String,
}

impl Store {
    /// Whether all execution is stopped.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stopped(&self) -> Result<Option<Stopped>> {
        let text = self.setting(SWITCH).await?.filter(|text| !text.is_empty());
        text.map(|text| serde_json::from_str(&text).map_err(|_| Error::Corrupt { what: "switch", value: text.clone() }))
            .transpose()
    }

    /// Stops all execution, or lets it go on. Answers what is so afterwards.
    ///
    /// # Errors
    /// The store failed.
    pub async fn switch(&self, by: &Operator, stop: bool, comment: &str, now: Timestamp) -> Result<Option<Stopped>> {
        let stopped = stop.then(|| Stopped { by: by.name().to_owned(), at: now, comment: comment.to_owned() });
        let text = stopped.as_ref().map(farol_protocol::frame::encode).unwrap_or_default();
        let mut write = self.state().write().await?;
        sqlx::query("insert into setting (name, value) values ($1, $2) on conflict (name) do update set value = $2")
            .bind(SWITCH)
            .bind(text)
            .execute(&mut *write)
            .await
            .context("set the switch")?;
        let verb = if stop { "execution.stopped" } else { "execution.resumed" };
        let entry = audit::NewEntry { at: now, actor: by.name(), verb, object: ("execution", "all"), detail: comment };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(stopped)
    }

    /// A person says that a host's orders may go on.
    ///
    /// # Errors
    /// They were not halted, or the store failed.
    pub async fn resume(&self, by: &Operator, host: &HostRow, comment: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let done = sqlx::query("update host set halted_by = null where id = $1 and halted_by is not null")
            .bind(host.id.as_str())
            .execute(&mut *write)
            .await
            .context("let a host's orders go on")?;
        if done.rows_affected() == 0 {
            return Err(Error::Refused(format!("the orders of `{}` are not halted", host.name)));
        }
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "host.resumed",
            object: ("host", host.id.as_str()),
            detail: comment,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }
}

/// Halts the host of an action whose change could not be undone, in the
/// transaction of its outcome.
pub(super) async fn halt(connection: &mut AnyConnection, row: &ActionRow, now: Timestamp) -> Result<()> {
    let unknown = row.kind == ActionKind::RemediationRun && row.state == State::Interrupted;
    if !unknown && !row.outcome.as_ref().is_some_and(is_left_half_done) {
        return Ok(());
    }
    let id = row.id.to_string();
    let done = sqlx::query("update host set halted_by = $2 where host_key = $1 and halted_by is null")
        .bind(row.host.0)
        .bind(&id)
        .execute(&mut *connection)
        .await
        .context("halt a host's orders")?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    let detail = "a change may be half done; nothing more begins on its host until a person says so";
    let entry =
        audit::NewEntry { at: now, actor: "farol", verb: "action.host_halted", object: ("action", &id), detail };
    audit::insert(connection, entry).await
}

fn is_left_half_done(outcome: &Outcome) -> bool {
    outcome.result == Some(Verdict::RollbackFailed)
}

/// The action that halted a host, from its column.
pub(super) fn halted(text: Option<String>) -> Result<Option<ActionId>> {
    text.map(|id| super::word("action id", &id)).transpose()
}
