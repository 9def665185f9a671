//! Seals the record: chains what was written, every second. One that finds the
//! chain changed from outside stops, and says so until a person looks.

use std::time::Duration;

use farol_protocol::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    error::{Error, Result},
    record::{Place, RecordKey},
    store::seal::{Sealed, Sealer},
};

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How often the head is remembered outside of the database at most: it costs
/// two syncs of a file.
const SEE_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(app: App, stop: CancellationToken) {
    let sealer = match RecordKey::open_or_create(&app.config.data_dir) {
        Ok(key) => Sealer::new(key),
        Err(error) => {
            tracing::error!("the record is not sealed: {error}");
            app.sealing.fails(Some(&error));
            return;
        }
    };
    let mut job = Job { app, sealer, unseen: None, seen_at: None };
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        job.all(false).await;
    }
    // What the others write while they stop is sealed at the next start.
    job.all(true).await;
    if let Err(error) = job.app.store.stop_sealing(&job.sealer).await {
        tracing::warn!("the turn to seal was not given back, another waits for it: {error}");
    }
}

struct Job {
    app: App,
    sealer: Sealer,
    /// The head that is not yet remembered outside.
    unseen: Option<Place>,
    seen_at: Option<Instant>,
}

impl Job {
    async fn all(&mut self, is_last: bool) {
        let sealed = self.pass(is_last).await;
        if self.app.sealing.fails(sealed.as_ref().err()) {
            match &sealed {
                Err(error @ Error::Refused(_)) => tracing::error!("{error}"),
                Err(error) => tracing::warn!("the record was not sealed, the next pass tries again: {error}"),
                Ok(()) => tracing::info!("the record is sealed again"),
            }
        }
    }

    async fn pass(&mut self, is_last: bool) -> Result<()> {
        while let Sealed::Batch(_, head) = self.app.store.seal(&self.sealer, Timestamp::now()).await? {
            self.unseen = Some(head.place);
        }
        if let Some(place) = self.unseen
            && (is_last || self.seen_at.is_none_or(|at| at.elapsed() >= SEE_EVERY))
        {
            self.sealer.key.see(&place)?;
            (self.unseen, self.seen_at) = (None, Some(Instant::now()));
        }
        Ok(())
    }
}
