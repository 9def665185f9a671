//! Work that nobody waits for: each job is idempotent, takes its input from
//! the store, and runs on a timer and when it is woken.

pub mod advise;
mod answer;
pub mod correlator;
mod dependencies;
mod dispatch;
pub mod history;
mod housekeeping;
mod liveness;
mod notify;
mod quiet;
pub(crate) mod registry;
mod seal;
mod signals;
mod trust;
mod watchdog;

use std::{future::Future, time::Duration};

use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{app::App, error::Result};

/// Starts the jobs that need nothing but the app.
/// `registry` is the text that is in use.
pub fn start(app: &App, registry: String, tracker: &TaskTracker, stop: &CancellationToken) {
    let every = |name, interval, job: Job| {
        tracker.spawn(run(app.clone(), name, interval, job, stop.clone()));
    };
    every("dispatch", dispatch::EVERY, |app| Box::pin(dispatch::pass(app)));
    every("live set", crate::fleet::LIVE_SET_INTERVAL, |app| Box::pin(housekeeping::live_set(app)));
    every("authority", crate::fleet::AUTHORITY_INTERVAL, |app| Box::pin(trust::authority(app)));
    every("trust", Duration::from_secs(1), |app| Box::pin(trust::pass(app)));
    every("advice", Duration::from_secs(30), |app| Box::pin(advise::pass(app)));
    every("answers", Duration::from_secs(30), |app| Box::pin(answer::pass(app)));
    every("daily", Duration::from_secs(2), |app| Box::pin(crate::daily::pass(app)));
    every("anchor", Duration::from_secs(30), |app| Box::pin(crate::record::anchor::pass(app)));
    every("integrations", Duration::from_secs(2), |app| Box::pin(housekeeping::integrations(app)));
    every("last seen", Duration::from_secs(60), |app| Box::pin(housekeeping::last_seen(app)));
    every("retention", Duration::from_secs(3600), |app| Box::pin(housekeeping::retention(app)));
    every("signals", Duration::from_secs(30), |app| Box::pin(signals::waiting(app)));
    every("signals' retention", Duration::from_secs(3600), |app| Box::pin(signals::retention(app)));
    every("sessions", Duration::from_secs(3600), |app| Box::pin(housekeeping::sessions(app)));
    every("nonces", Duration::from_secs(60), |app| Box::pin(housekeeping::nonces(app)));
    tracker.spawn(housekeeping::checkpoints(app.clone(), stop.clone()));
    tracker.spawn(registry::run(app.clone(), registry, stop.clone()));
    tracker.spawn(dependencies::run(app.clone(), stop.clone()));
    tracker.spawn(history::run(app.clone(), stop.clone()));
    tracker.spawn(liveness::run(app.clone(), stop.clone()));
    tracker.spawn(quiet::run(app.clone(), stop.clone()));
    tracker.spawn(notify::run(app.clone(), stop.clone()));
    tracker.spawn(notify::heartbeat(app.clone(), stop.clone()));
    tracker.spawn(seal::run(app.clone(), stop.clone()));
    tracker.spawn(watchdog::run(app.clone(), stop.clone()));
}

/// The jobs on the way of an order, for a simulation to poll.
#[cfg(farol_simulation)]
pub(crate) fn simulated(
    app: &App,
    stop: &CancellationToken,
) -> Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    let dispatch: Job = |app| Box::pin(dispatch::pass(app));
    let live_set: Job = |app| Box::pin(housekeeping::live_set(app));
    vec![
        Box::pin(run(app.clone(), "dispatch", dispatch::EVERY, dispatch, stop.clone())),
        Box::pin(run(app.clone(), "live set", Duration::from_secs(10), live_set, stop.clone())),
        Box::pin(liveness::run(app.clone(), stop.clone())),
    ]
}

type Job = fn(App) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

async fn run(app: App, name: &'static str, every: Duration, job: Job, stop: CancellationToken) {
    let never = Notify::new();
    let wake = match name {
        "dispatch" => &app.wake.dispatch.wake,
        "advice" => &app.wake.advice,
        "answers" => &app.wake.answers,
        _ => &never,
    };
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.notified() => {}
            _ = tick.tick() => {}
        }
        // Outside the select: a pass that began runs to its end.
        if let Err(error) = job(app.clone()).await {
            tracing::warn!(job = name, "a pass failed, the next one tries again: {error}");
        }
    }
}
