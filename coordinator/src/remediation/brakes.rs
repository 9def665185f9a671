//! What keeps orders from leaving, whoever approved them.

use std::sync::{PoisonError, RwLock};

use farol_protocol::{RiskClass, Timestamp};

use crate::{
    action::State,
    app::Shared,
    auth::Operator,
    error::{Error, Result},
    events::Noun,
    store::{Store, actions::ActionRow, brakes::Stopped, hosts::HostRow},
};

/// The switch, as dispatch asks it for every order.
#[derive(Debug, Default)]
pub struct Switch(RwLock<Option<Stopped>>);

impl Switch {
    /// As it was left.
    ///
    /// # Errors
    /// The store failed.
    pub async fn load(store: &Store) -> Result<Self> {
        Ok(Self(RwLock::new(store.stopped().await?)))
    }

    fn put(&self, stopped: Option<Stopped>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = stopped;
    }

    /// Whether something that changes a host may begin on it. What only reads
    /// always may: people need to see what is so.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_begin(&self, row: &ActionRow, host: &HostRow) -> Result<()> {
        if row.class == RiskClass::R0 {
            return Ok(());
        }
        let stopped = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Stopped { by, at, .. }) = stopped.as_ref() {
            return Err(Error::NotReady {
                code: "execution_stopped",
                detail: format!("{by} stopped all execution at {at}; `farol execution resume` lets it go on"),
            });
        }
        match &host.halted_by {
            None => Ok(()),
            Some(action) => Err(Error::NotReady {
                code: "host_halted",
                detail: format!(
                    "action {action} may have left `{0}` half changed; look at the host, then \
                     `farol hosts resume {0}`",
                    host.name
                ),
            }),
        }
    }
}

impl Shared {
    /// Stops all execution, and cancels what runs.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stop_execution(&self, by: &Operator, comment: &str) -> Result<Stopped> {
        let now = Timestamp::now();
        let stopped = Stopped { by: by.name().to_owned(), at: now, comment: comment.to_owned() };
        // First of all nothing more begins, whatever the disk says.
        self.switch.put(Some(stopped.clone()));
        self.store.switch(by, true, comment, now).await?;
        tracing::warn!(by = by.name(), "all execution is stopped");
        for row in self.store.open_actions().await? {
            if row.class > RiskClass::R0
                // Also of a host that is away: it is asked when it is back.
                && matches!(row.state, State::Sent | State::Accepted)
                && let Err(error) = self.cancel(by, row.id, comment).await
            {
                tracing::warn!(action_id = %row.id, "an action could not be cancelled: {error}");
            }
        }
        self.events.publish(Noun::Action, "execution", "stopped");
        Ok(stopped)
    }

    /// Lets orders leave again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resume_execution(&self, by: &Operator, comment: &str) -> Result<()> {
        self.store.switch(by, false, comment, Timestamp::now()).await?;
        self.switch.put(None);
        tracing::info!(by = by.name(), "execution goes on");
        self.events.publish(Noun::Action, "execution", "resumed");
        for row in self.store.open_actions().await? {
            self.wake.dispatch.look_at(row.host);
        }
        Ok(())
    }
}
