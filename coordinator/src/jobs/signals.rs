//! Signals whose reports a crash or a slow writer left behind, and old ones.

use farol_protocol::Timestamp;

use crate::{app::App, error::Result, signals};

pub(super) async fn waiting(app: App) -> Result<()> {
    signals::waiting(&app).await
}

/// Signals stay as long as telemetry does.
pub(super) async fn retention(app: App) -> Result<()> {
    let keep = i64::try_from(app.config.retention.as_millis()).unwrap_or(i64::MAX);
    let removed = app.store.prune_signals(Timestamp::now().plus_ms(-keep)).await?;
    if removed > 0 {
        tracing::info!(rows = removed, "signals beyond their retention were removed");
    }
    Ok(())
}
