//! The registry of OPNsense firewalls, at the paths that existing clients know:
//! integrations of the kind `opnsense` under other names. Only reads from the
//! firewalls; no answer holds a secret.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, Segment},
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    checks::{
        seen::Seen,
        system::{
            Asking,
            opnsense::{
                api::Firewall,
                facts::{self, Health, Interfaces, Metrics},
            },
        },
    },
    error::Error,
    integrations::{Connection, Kind, Secret, Tls, http::hiding},
    store::integrations::{Integration, Wanted},
};

/// How long a firewall is given.
const LIMIT: Duration = Duration::from_secs(10);

/// A firewall to be known.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFirewall {
    /// Its name: letters, digits and `._-`.
    #[schema(example = "edge")]
    name: String,
    /// Base address.
    #[schema(example = "https://192.0.2.1")]
    base_url: String,
    /// API key.
    api_key: String,
    /// Its secret; stored sealed, never answered.
    #[schema(write_only)]
    api_secret: String,
    /// Whether its certificate must be one that an authority vouches for. To pin a certificate, change the integration.
    #[serde(default = "yes")]
    verify_tls: bool,
    /// Words of the operator's.
    #[serde(default)]
    tags: Vec<String>,
}

const fn yes() -> bool {
    true
}

/// A firewall that is known now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Added {
    /// Identifier.
    id: String,
    /// Whether it answered.
    tested: bool,
    /// What it said, or why it did not.
    info: Health,
}

/// A known firewall.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FirewallView {
    /// Identifier.
    id: String,
    /// Name.
    name: String,
    /// Base address.
    base_url: String,
    /// Whether its certificate is verified: by an authority or by a pin.
    verify_tls: bool,
    /// Words of the operator's.
    tags: Vec<String>,
    /// When it was made known.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When it last answered.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// Why it did not answer last; null since it answers again.
    last_error: Option<String>,
    /// Release that it last told; null while nobody has asked since the coordinator began.
    version: Option<String>,
}

/// Makes an OPNsense firewall known and asks it how it is
///
/// It stays known if it does not answer: `tested` is false, and `info` says why.
#[utoipa::path(post, path = "/opn/add", tag = "opnsense", operation_id = "add_opnsense", request_body = NewFirewall,
    responses((status = 200, body = Added)))]
pub(super) async fn add(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<NewFirewall>,
) -> Answer<Added> {
    let wanted = Wanted {
        name: new.name,
        kind: Kind::Opnsense,
        site: None,
        endpoints: vec![new.base_url],
        tls: if new.verify_tls { Tls::Verify } else { Tls::Insecure },
        tags: new.tags,
        options: BTreeMap::new(),
        user: Some(new.api_key).filter(|key| !key.is_empty()),
        secret: Some(new.api_secret).filter(|secret| !secret.is_empty()).map(Secret::new),
    }
    .checked()
    .map_err(|error| ApiError::invalid_body(error.to_string()))?;
    if wanted.secret.is_none() {
        return Err(ApiError::invalid_body("`api_secret` is empty: OPNsense gives it once, with the key"));
    }
    let made =
        app.store.save_integration(&operator, &wanted, false, app.integrations.vault(), Timestamp::now()).await?;
    app.integrations.refresh(&app.store).await?;
    let connection = connection(&app, &made)?;
    let info = ask(&app, &connection).await;
    Ok(Json(Added { id: made.id, tested: info.ok, info }))
}

/// Known OPNsense firewalls
#[utoipa::path(get, path = "/opn/list", tag = "opnsense", operation_id = "opnsenses",
    responses((status = 200, body = Vec<FirewallView>)))]
pub(super) async fn list(State(app): State<App>) -> Answer<Vec<FirewallView>> {
    let all = app.store.integrations().await?;
    Ok(Json(all.into_iter().filter(|known| known.kind == Kind::Opnsense).map(|known| view(&app, known)).collect()))
}

/// How a firewall is
///
/// Asks one command after the other, since a limited key reaches only some; `endpoint` is the one that told.
#[utoipa::path(get, path = "/opn/{id}/health", tag = "opnsense", operation_id = "opnsense_health",
    params(("id" = String, Path, description = "Its id or name")), responses((status = 200, body = Health)))]
pub(super) async fn health(State(app): State<App>, Segment(id): Segment<String>) -> Answer<Health> {
    let connection = firewall(&app, &id).await?;
    Ok(Json(ask(&app, &connection).await))
}

/// Interfaces of a firewall
#[utoipa::path(get, path = "/opn/{id}/interfaces", tag = "opnsense", operation_id = "opnsense_interfaces",
    params(("id" = String, Path, description = "Its id or name")), responses((status = 200, body = Interfaces)))]
pub(super) async fn interfaces(State(app): State<App>, Segment(id): Segment<String>) -> Answer<Interfaces> {
    let connection = firewall(&app, &id).await?;
    let _turn = app.integrations.turn(Some(&connection.name), connection.kind.at_once()).await;
    let asking = asking(&app);
    let there = Firewall::of(&asking, &connection).map_err(|seen| no_answer(&connection, seen))?;
    match hiding(Some(&connection), facts::interfaces(&there)).await {
        Ok(found) => Ok(Json(found)),
        Err(trouble) => Err(no_answer(&connection, trouble.seen(&there))),
    }
}

/// Figures of a firewall
#[utoipa::path(get, path = "/opn/{id}/metrics", tag = "opnsense", operation_id = "opnsense_metrics",
    params(("id" = String, Path, description = "Its id or name")), responses((status = 200, body = Metrics)))]
pub(super) async fn metrics(State(app): State<App>, Segment(id): Segment<String>) -> Answer<Metrics> {
    let connection = firewall(&app, &id).await?;
    let _turn = app.integrations.turn(Some(&connection.name), connection.kind.at_once()).await;
    let asking = asking(&app);
    let there = Firewall::of(&asking, &connection).map_err(|seen| no_answer(&connection, seen))?;
    match hiding(Some(&connection), facts::metrics(&there)).await {
        Ok(found) => Ok(Json(found)),
        Err(trouble) => Err(no_answer(&connection, trouble.seen(&there))),
    }
}

/// The firewall did not tell: that is no fault of the caller's or Farol's.
fn no_answer(connection: &Connection, seen: Seen) -> ApiError {
    let seen = crate::checks::system::shown(connection, seen);
    ApiError::of(502, "firewall_no_answer", seen.text)
}

fn asking(app: &App) -> Asking<'_> {
    Asking { language: app.language(), limit: LIMIT, now: Timestamp::now(), clients: app.integrations.clients() }
}

/// Asks how it is, and writes down whether it answered.
async fn ask(app: &App, connection: &Connection) -> Health {
    let _turn = app.integrations.turn(Some(&connection.name), connection.kind.at_once()).await;
    let asking = asking(app);
    let (mut health, seen) = match Firewall::of(&asking, connection) {
        Ok(there) => {
            let health = hiding(Some(connection), facts::health(&there)).await;
            let seen = match &health.error {
                None => Seen::ok(String::new()),
                Some(error) => Seen { answered: false, ..Seen::unknown(error.clone()) },
            };
            (health, seen)
        }
        Err(seen) => {
            let error = Some(seen.text.clone());
            (Health { ok: false, endpoint: None, version: None, status: None, error, tried: Vec::new() }, seen)
        }
    };
    let clean = |text: &str| crate::checks::system::shown(connection, Seen::unknown(text)).text;
    health.error = health.error.as_deref().map(clean);
    for tried in &mut health.tried {
        tried.error = clean(&tried.error);
    }
    if let Some(version) = &health.version {
        app.integrations.clients().memory.with(connection, |known| known.version = Some(version.clone()));
    }
    let seen = crate::checks::system::shown(connection, seen);
    app.integrations.note(&app.store, connection, &seen, asking.now).await;
    health
}

/// By id or name; another kind of integration is none.
async fn firewall(app: &App, id: &str) -> Result<Arc<Connection>, ApiError> {
    let known = app.store.integration(id).await?;
    connection(app, &known)
}

fn connection(app: &App, known: &Integration) -> Result<Arc<Connection>, ApiError> {
    let found = app.integrations.get(&known.name).filter(|there| there.kind == Kind::Opnsense);
    Ok(found.ok_or_else(|| Error::NotFound { what: "OPNsense firewall", id: known.name.clone() })?)
}

fn view(app: &App, known: Integration) -> FirewallView {
    let connection = app.integrations.get(&known.name);
    let memory = &app.integrations.clients().memory;
    FirewallView {
        version: connection.and_then(|there| memory.with(&there, |known| known.version.clone())),
        base_url: known.endpoints.into_iter().next().unwrap_or_default(),
        verify_tls: known.tls != Tls::Insecure,
        id: known.id,
        name: known.name,
        tags: known.tags,
        created_at: known.created_at,
        updated_at: known.updated_at,
        last_seen: known.last_success,
        last_error: known.last_error,
    }
}
