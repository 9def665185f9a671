//! Tells somebody outside that the coordinator is alive, so that its own death
//! is noticed: a dead man's switch.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    app::Shared,
    integrations::{
        Tls,
        http::{exchange, redacted},
    },
};

/// For one beat.
const LIMIT: Duration = Duration::from_secs(10);

/// How it goes.
#[derive(Debug, Default)]
pub struct Heartbeat {
    /// Why the last beat did not arrive.
    error: Mutex<Option<String>>,
}

impl Heartbeat {
    /// Why the last beat did not arrive; none where it did, or there was none.
    /// Holds no address.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a beat, if the coordinator does what it is there for.
    pub(crate) async fn beat(&self, app: &Shared, url: &str) {
        let result = match unwell(app).await {
            Some(why) => Err(format!("it was kept back: {why}")),
            None => ask(app, url).await,
        };
        app.metrics.heartbeat(result.is_ok());
        let mut known = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if known.take().is_some() {
                    tracing::info!("heartbeats arrive again");
                }
            }
            Err(error) => {
                if known.as_ref() != Some(&error) {
                    tracing::warn!("a heartbeat did not arrive: {error}");
                }
                *known = Some(error);
            }
        }
    }
}

/// Why the coordinator does not do its work, if that is so: what it commits
/// must be taken in, and what is taken in correlated.
async fn unwell(app: &Shared) -> Option<&'static str> {
    let (state_fails, telemetry_fails) = app.store.failing();
    if app.bulk.is_closed() {
        Some("the writer has ended")
    } else if app.correlator.is_closed() {
        Some("the correlator has ended")
    } else if state_fails || telemetry_fails {
        Some("the store cannot be written")
    } else if tokio::time::timeout(LIMIT, app.bulk.reserve()).await.is_err() {
        Some("the writer takes nothing in")
    } else if tokio::time::timeout(LIMIT, app.correlator.reserve()).await.is_err() {
        Some("the correlator takes nothing in")
    } else if !matches!(tokio::time::timeout(LIMIT, app.store.finding_counts()).await, Ok(Ok(_))) {
        Some("the store cannot be read")
    } else {
        None
    }
}

async fn ask(app: &Shared, url: &str) -> Result<(), String> {
    let language = app.language();
    let failed = |failure: crate::integrations::http::Failure| redacted(&failure.words(language, LIMIT), &[url]);
    let client = app.integrations.clients().of(&Tls::Verify).map_err(failed)?;
    let answer = exchange(client.get(url), LIMIT).await.map_err(failed)?;
    if answer.is_success() { Ok(()) } else { Err(format!("the receiver answered {}", answer.status)) }
}
