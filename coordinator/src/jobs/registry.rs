//! Takes a changed registry into use while everything runs. One with a mistake
//! replaces nothing, and says why.

use std::{collections::HashMap, path::Path, time::Duration};

use farol_protocol::{Timestamp, registry::Registry};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Shared},
    config,
    error::{Error, Result},
    store::{Store, hosts::HostKey},
    watched::Watched,
};

/// How often the file is looked at; SIGHUP makes it at once.
const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(app: App, text: String, stop: CancellationToken) {
    let mut known = text;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = signal(SignalKind::hangup()).ok();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
            Some(()) = async { asked.as_mut()?.recv().await } => tracing::info!("asked to read the registry again"),
        }
        match look(&app, &known).await {
            Ok(None) => {}
            Ok(Some(text)) => known = text,
            Err(error) => {
                if app.watching.keep(&error.to_string()) {
                    tracing::error!("the registry stays as it was: {error}");
                }
            }
        }
    }
}

/// Replaces what is watched if the file says something else than `known`.
async fn look(app: &Shared, known: &str) -> Result<Option<String>> {
    let path = &app.config.registry;
    let text = config::read(path)?;
    if text == known {
        app.watching.fine();
        return Ok(None);
    }
    let registry = parse(path, &text)?;
    app.store.sync_hosts(&registry, Timestamp::now()).await?;
    let hosts = hosts(&app.store).await?;
    let scenarios = registry.scenarios.len();
    app.watching.replace(Watched::new(registry, hosts));
    tracing::info!(scenarios, "the registry changed and is in use");
    Ok(Some(text))
}

/// Reads a registry with the environment of this process.
///
/// # Errors
/// The first mistake, with its place.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Registry> {
    let refuse = |mistake| Error::Document { path: path.to_owned(), mistake };
    let registry = Registry::parse(text, &|name| std::env::var(name).ok()).map_err(refuse)?;
    crate::daily::check(&registry).map_err(refuse)?;
    Ok(registry)
}

/// The keys of all known hosts, by name.
///
/// # Errors
/// The store failed.
pub(crate) async fn hosts(store: &Store) -> Result<HashMap<String, HostKey>> {
    Ok(store.hosts().await?.into_iter().map(|host| (host.name, host.key)).collect())
}
