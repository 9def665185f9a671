//! The catalogue of remediation, and planning from it.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    actions::{self, ActionView},
    extract::{self, Body, Caller, MAX_COMMENT, Segment},
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    catalogue::{Affects, Entry, Param, Words},
    remediation::Wanted,
};

/// An entry of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    /// Identity.
    #[schema(example = "service.restart")]
    id: String,
    /// What it is called.
    title: Words,
    /// The least class at which it is planned, `R0` to `R3`; its steps and the host's policy may raise it.
    class: &'static str,
    /// How far it reaches.
    affects: Affects,
    /// What has to be given, by name.
    params: BTreeMap<String, Param>,
    /// Time limit in ms from the first step to the last verification.
    timeout_ms: u64,
}

/// All of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CatalogueView {
    /// By id.
    items: Vec<EntryView>,
    /// Always null: there is one page.
    next_cursor: Option<String>,
}

/// A remediation to plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPlan {
    /// Id or name.
    host: String,
    /// The entry's parameters.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"service": "portal"}))]
    params: Map<String, Value>,
    /// Why, at most 1,000 characters.
    #[schema(max_length = 1000)]
    reason: String,
    /// The finding it is to mend.
    #[serde(default)]
    finding_id: Option<String>,
}

impl From<&Entry> for EntryView {
    fn from(entry: &Entry) -> Self {
        Self {
            id: entry.id.clone(),
            title: entry.title.clone(),
            class: entry.class.as_str(),
            affects: entry.affects,
            params: entry.params.clone(),
            timeout_ms: u64::try_from(entry.timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What may be done to hosts
///
/// An entry allows nothing by itself: a host runs what its own policy lists, and a person approves.
#[utoipa::path(get, path = "/api/v1/catalogue", tag = "actions", operation_id = "catalogue",
    responses((status = 200, body = CatalogueView)))]
pub(super) async fn list(State(app): State<App>) -> Answer<CatalogueView> {
    let items = app.catalogue.get().entries().map(EntryView::from).collect();
    Ok(Json(CatalogueView { items, next_cursor: None }))
}

/// Plans a remediation
///
/// The host is looked at first, and the plan holds what was seen. 409 says why there is no plan: `host_offline`,
/// `look_refused` (the host's policy), `validation_failed`.
#[utoipa::path(post, path = "/api/v1/catalogue/{id}/plan", tag = "actions", operation_id = "plan_remediation",
    params(("id" = String, Path, description = "The entry")), request_body = NewPlan,
    responses((status = 201, body = ActionView)))]
pub(super) async fn plan(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(new): Body<NewPlan>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ActionView>), ApiError> {
    extract::check_length("reason", &new.reason, MAX_COMMENT)?;
    let wanted = Wanted {
        entry: &id,
        host: &new.host,
        params: &new.params,
        reason: &new.reason,
        finding_id: new.finding_id.as_deref(),
    };
    let row = app.plan(&operator, wanted).await?;
    let location = format!("/api/v1/actions/{}", row.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(actions::named(&app, row).await?)))
}
