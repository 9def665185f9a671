//! The live set, what was seen when, retention and checkpoints.

use std::time::Duration;

use farol_protocol::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{app::App, error::Result, store::Checkpoint};

/// For so long after the end of its finding it is known who was told of it, in ms.
const MESSAGES_MS: i64 = 90 * 86_400_000;

/// Sees revocations and enrolments that another process wrote.
pub(super) async fn live_set(app: App) -> Result<()> {
    app.fleet.refresh(&app.store).await
}

pub(super) async fn last_seen(app: App) -> Result<()> {
    let seen = app.fleet.all_last_seen();
    if seen.is_empty() {
        return Ok(());
    }
    app.store.save_last_seen(&seen).await
}

pub(super) async fn retention(app: App) -> Result<()> {
    let keep = i64::try_from(app.config.retention.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp::now().plus_ms(-keep);
    // What the correlator has not saved yet may have to be replayed, and what
    // is not in the history yet is to come into it.
    let (cursor, _) = app.store.load_correlator().await?;
    let (batch, report) = app.store.history_cursor().await?;
    let removed = app.store.prune_telemetry(before, (batch, cursor.min(report))).await?;
    if removed > 0 {
        tracing::info!(rows = removed, "telemetry beyond its retention was removed");
    }
    let removed = app.store.prune_outbox(Timestamp::now().plus_ms(-MESSAGES_MS)).await?;
    if removed > 0 {
        tracing::info!(rows = removed, "messages about findings that ended long ago were removed");
    }
    Ok(())
}

/// Signed requests are remembered for as long as they could be repeated.
pub(super) async fn nonces(app: App) -> Result<()> {
    app.store.prune_nonces(Timestamp::now()).await
}

/// Sessions that ended long ago.
pub(super) async fn sessions(app: App) -> Result<()> {
    app.store.forget_sessions(app.config.sessions, Timestamp::now()).await
}

/// Checkpoints beside the writers: often while much is written, once a minute
/// otherwise, since each one writes pages a second time.
pub(super) async fn checkpoints(app: App, stop: CancellationToken) {
    const BUSY: Duration = Duration::from_millis(200);
    const QUIET_TICKS: u32 = 300;
    let mut state = Checkpoint::default();
    let mut tick = tokio::time::interval(BUSY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        ticks += 1;
        state.idle = ticks % QUIET_TICKS == 0;
        if let Err(error) = app.store.checkpoint(&mut state).await {
            tracing::warn!("a checkpoint failed, the next one tries again: {error}");
        }
    }
}

/// Takes changed integrations into use.
pub(super) async fn integrations(app: App) -> Result<()> {
    app.integrations.refresh(&app.store).await?;
    crate::checks::forget_told(&app);
    crate::checks::forget_backups(&app);
    Ok(())
}
