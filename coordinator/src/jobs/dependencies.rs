//! Tells the correlator what needs what, whenever that changes.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Input},
    correlate::Dependencies,
    topology::drawn,
};

/// How often the graph is drawn for it.
const EVERY: Duration = Duration::from_secs(30);

pub(super) async fn run(app: App, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = app.watching.subscribe();
    let mut told: Option<Dependencies> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // The sender lives as long as the app.
            Ok(()) = watched.changed() => {}
            _ = tick.tick() => {}
        }
        match drawn::dependencies(&app).await {
            Ok(dependencies) if told.as_ref() == Some(&dependencies) => {}
            Ok(dependencies) => {
                told = Some(dependencies.clone());
                // Only the coordinator's stop makes the correlator refuse.
                if app.correlator.send(Input::Dependencies(dependencies)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(job = "dependencies", "a pass failed, the next one tries again: {error}"),
        }
    }
}
