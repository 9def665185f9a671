//! Tells systemd that the coordinator is well: that its tasks turn and that its
//! store answers. A store that answers with an error is not mended by a restart.

use farol_agent::systemd::Watchdog;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::app::App;

pub(super) async fn run(app: App, stop: CancellationToken) {
    let mut watchdog = Watchdog::from_environment(Instant::now());
    while let Some(due) = watchdog.due() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(due) => {}
        }
        // Passes the same lock as every other change of the live set: where one
        // of those hangs, so does this.
        if let Err(error) = app.fleet.refresh(&app.store).await {
            tracing::warn!(job = "watchdog", "the store does not answer well: {error}");
        }
        watchdog.turn(Instant::now(), true);
    }
}
