//! Alertmanager's webhook.

use axum::{
    Extension, Json,
    extract::{Request, State},
};
use farol_protocol::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    extract,
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    ingest::Sender,
    signals::{
        self,
        alertmanager::{Group, Refused},
    },
};

/// A group has no limit unless Alertmanager is told one, and it does not repeat
/// what is refused for its size.
const BODY_BYTES: usize = 4 << 20;
/// The site of alerts that name none, where the registry has not exactly one.
const SITE: &str = "alertmanager";

/// What became of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// Alerts that said something new.
    stored: usize,
    /// Alerts that said what was known.
    repeated: usize,
    /// Alerts that are not right.
    refused: Vec<Refused>,
    /// Alerts that Alertmanager left out; raise its `max_alerts`.
    truncated: u64,
}

/// Takes a group of alerts from Alertmanager
///
/// For a `webhook_configs` entry, payload version 4. Answers 200 once what is new is stored. An alert that is not right
/// costs itself alone and is named in the answer; a group without one that is right is refused.
#[utoipa::path(post, path = "/api/v1/alertmanager", tag = "signals", operation_id = "alertmanager",
    request_body = Object, responses((status = 200, body = Taken)))]
pub(super) async fn take(
    State(app): State<App>,
    Extension(sender): Extension<Sender>,
    request: Request,
) -> Answer<Taken> {
    let body = extract::bytes_up_to(request.into_body(), BODY_BYTES).await?;
    let Ok(Value::Object(body)) = serde_json::from_slice(&body) else {
        return Err(ApiError::invalid_body("the body is not a JSON object"));
    };
    let now = Timestamp::now();
    let watched = app.watched();
    let site = match watched.registry.sites.as_slice() {
        [only] => only.id.as_str(),
        _ => SITE,
    };
    let group = Group::parse(&body, site, now).map_err(ApiError::invalid_body)?;
    if let (true, Some(first)) = (group.drafts.is_empty(), group.refused.first()) {
        return Err(ApiError::invalid_body(format!(
            "no alert of the group is right; alert {}: {}",
            first.index, first.why
        )));
    }
    for refused in &group.refused {
        tracing::warn!(
            index = refused.index,
            fingerprint = refused.fingerprint,
            "an alert was refused: {}",
            refused.why
        );
    }
    if group.truncated > 0 {
        tracing::warn!(alerts = group.truncated, "Alertmanager left alerts out of a group; raise its max_alerts");
    }
    let taken = signals::take(&app, &sender, group.drafts, now).await?;
    let stored = taken.iter().flatten().count();
    Ok(Json(Taken { stored, repeated: taken.len() - stored, refused: group.refused, truncated: group.truncated }))
}
