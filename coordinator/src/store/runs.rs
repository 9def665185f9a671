//! Runs of scenarios that people asked for.

use farol_protocol::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, audit};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
};

/// A run.
#[derive(Debug, Clone, Serialize, FromRow, utoipa::ToSchema)]
pub struct Run {
    /// Identifier.
    pub id: String,
    /// Which scenario.
    pub scenario: String,
    /// Who asked.
    pub requested_by: String,
    /// `queued` or `done`.
    pub state: String,
}

impl Store {
    /// Notes that a person asked for a scenario to run now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn request_run(&self, by: &Operator, scenario: &str, now: Timestamp) -> Result<Run> {
        let run = Run {
            id: Uuid::now_v7().to_string(),
            scenario: scenario.to_owned(),
            requested_by: by.name().to_owned(),
            state: "queued".to_owned(),
        };
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into scenario_run (id, scenario, requested_by, state, created_ms) values ($1, $2, $3, $4, $5)",
        )
        .bind(&run.id)
        .bind(&run.scenario)
        .bind(&run.requested_by)
        .bind(&run.state)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("store the run")?;
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "scenario.run",
            object: ("scenario", scenario),
            detail: &run.id,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(run)
    }

    /// Runs that wait, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn queued_runs(&self) -> Result<Vec<Run>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(
            "select id, scenario, requested_by, state from scenario_run where state = 'queued' order by created_ms",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the runs")
    }

    /// Closes a run.
    ///
    /// # Errors
    /// No such run, or the store failed.
    pub async fn finish_run(&self, id: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query("update scenario_run set state = 'done', finished_ms = $2 where id = $1")
            .bind(id)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("close the run")?;
        if changed.rows_affected() == 0 {
            return Err(Error::NotFound { what: "run", id: id.to_owned() });
        }
        write.commit().await
    }
}
