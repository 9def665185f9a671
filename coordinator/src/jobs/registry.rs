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
    catalogue, config,
    error::{Error, Result},
    store::{Store, hosts::HostKey},
    watched::Watched,
};

/// How often the file is looked at; SIGHUP makes it at once.
const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(app: App, text: String, stop: CancellationToken) {
    let mut known = text;
    let mut own_catalogue = catalogue::read(&app.config.catalogue).ok().flatten();
    let mut catalogue_mistake = None;
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
        match look_at_catalogue(&app, own_catalogue.as_deref()) {
            Ok(None) => catalogue_mistake = None,
            Ok(Some(text)) => {
                let (path, now) = (&app.config.catalogue, Timestamp::now());
                let said = text.as_deref().unwrap_or_default();
                if let Err(error) = app.store.record_in_use("catalogue", path, said, now).await {
                    tracing::error!("the record does not say that the catalogue changed: {error}");
                }
                (own_catalogue, catalogue_mistake) = (text, None);
            }
            Err(error) => {
                let why = error.to_string();
                if catalogue_mistake.as_ref() != Some(&why) {
                    tracing::error!("the catalogue stays as it was: {why}");
                    catalogue_mistake = Some(why);
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
    app.store.record_in_use("registry", path, &text, Timestamp::now()).await?;
    let hosts = hosts(&app.store).await?;
    let scenarios = registry.scenarios.len();
    app.watching.replace(Watched::new(registry, hosts));
    tracing::info!(scenarios, "the registry changed and is in use");
    Ok(Some(text))
}

/// Replaces the catalogue if the site's own file says something else than
/// `known`.
fn look_at_catalogue(app: &Shared, known: Option<&str>) -> Result<Option<Option<String>>> {
    let path = &app.config.catalogue;
    let text = catalogue::read(path)?;
    if text.as_deref() == known {
        return Ok(None);
    }
    app.catalogue.replace(catalogue::load(path, text.as_deref())?);
    tracing::info!("the catalogue changed and is in use");
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
