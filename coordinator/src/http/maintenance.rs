//! Planned work, during which nobody is told.

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::{CheckId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, List, MAX_COMMENT, Query, Segment, check_length, check_text},
    problem::{Answer, ApiError},
    quiet::{QuietQuery, changed, duration},
    scope::{self, ScopeView},
};
use crate::{
    app::{App, Shared},
    quiet::{Place, Span, Window},
    store::quiet::{Maintenance, Plan},
    text::{self, plain},
};

/// Longest name.
const MAX_NAME: usize = 100;
/// Occurrences that are shown.
const SHOWN: usize = 3;

/// What maintenance is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceBody {
    /// For people, at most 100 characters.
    #[schema(max_length = 100)]
    name: String,
    /// Names or ids of hosts.
    #[serde(default)]
    hosts: Vec<String>,
    /// Sites, all of whose hosts are meant.
    #[serde(default)]
    sites: Vec<String>,
    /// A scenario, or the beginning of several with `*` behind it.
    #[serde(default)]
    scenario: Option<String>,
    /// One check.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    check: Option<CheckId>,
    /// Everything is meant.
    #[serde(default)]
    all: bool,
    /// When it first begins, by the clock of `zone`.
    #[schema(example = "2026-11-22T02:00")]
    start: String,
    /// Name of an IANA time zone.
    #[schema(example = "America/Sao_Paulo")]
    zone: String,
    /// How long it lasts: at most 31 days, 7 where it comes again.
    #[schema(example = "2h")]
    duration: String,
    /// How it comes again, as iCalendar's RRULE; absent or null where it does not.
    #[serde(default)]
    #[schema(example = "FREQ=WEEKLY;BYDAY=SU")]
    repeat: Option<String>,
    /// Whether it counts.
    #[serde(default = "yes")]
    enabled: bool,
    /// Why, at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    comment: String,
}

const fn yes() -> bool {
    true
}

/// What of maintenance is turned.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceSwitch {
    /// Whether it counts.
    enabled: bool,
}

/// Time for which something is in force without a break.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SpanView {
    /// From here.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// To here.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
}

/// Planned work, during which nobody is told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MaintenanceView {
    /// Identifier.
    id: String,
    /// For people.
    name: String,
    #[serde(flatten)]
    scope: ScopeView,
    /// When it first begins, by the clock of `zone`.
    start: String,
    /// IANA time zone.
    zone: String,
    /// How long it lasts, such as `1h 30m`.
    duration: String,
    /// How it comes again.
    repeat: Option<String>,
    /// Whether it counts.
    enabled: bool,
    /// Why.
    comment: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// By whom.
    created_by: String,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// By whom.
    updated_by: String,
    /// When it was taken back.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// By whom.
    ended_by: Option<String>,
    /// Whether it counts now.
    in_force: bool,
    /// When that changes; null where it never does.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_change_at: Option<Timestamp>,
    /// The next three occurrences, with the one that is in force; none while it does not count.
    next: Vec<SpanView>,
    /// When it is in force, in words in the operators' language.
    summary: String,
}

/// Maintenance, the newest first
///
/// What comes once stays in the list when it is over, until it is taken back.
#[utoipa::path(get, path = "/api/v1/maintenance", tag = "quiet", operation_id = "maintenance", params(QuietQuery),
    responses((status = 200, body = List<MaintenanceView>)))]
pub(super) async fn list(State(app): State<App>, Query(query): Query<QuietQuery>) -> Answer<List<MaintenanceView>> {
    let page = app.store.maintenances(query.state.into(), &query.cursor.0, query.limit.0).await?;
    let (places, now) = (app.store.places().await?, Timestamp::now());
    Ok(Json(List::of(page, |row| maintenance_view(&app, &places, row, now))))
}

/// Plans maintenance
///
/// It begins at a time by the clock of its zone and lasts for a duration of elapsed time. A beginning that the clock
/// skips is the first instant after the gap; one that it shows twice is the first of both.
#[utoipa::path(post, path = "/api/v1/maintenance", tag = "quiet", operation_id = "add_maintenance",
    request_body = MaintenanceBody, responses((status = 201, body = MaintenanceView)))]
pub(super) async fn plan(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<MaintenanceBody>,
) -> Result<(StatusCode, Json<MaintenanceView>), ApiError> {
    let (places, now) = (app.store.places().await?, Timestamp::now());
    let plan = planned(&app, &places, body)?;
    if plan.window.next_change(now).is_none() {
        let detail = "`start`: it would be over already; give a later one, or a `repeat`";
        return Err(ApiError::invalid_body(detail));
    }
    let made = app.store.add_maintenance(&operator, &plan, now).await?;
    changed(&app, "maintenance", &made.id, "added");
    Ok((StatusCode::CREATED, Json(maintenance_view(&app, &places, made, now))))
}

/// Replaces what maintenance is to be
#[utoipa::path(put, path = "/api/v1/maintenance/{id}", tag = "quiet", operation_id = "change_maintenance",
    params(("id" = String, Path, description = "The maintenance")), request_body = MaintenanceBody,
    responses((status = 200, body = MaintenanceView)))]
pub(super) async fn change(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(body): Body<MaintenanceBody>,
) -> Answer<MaintenanceView> {
    let (places, now) = (app.store.places().await?, Timestamp::now());
    let plan = planned(&app, &places, body)?;
    let row = app.store.change_maintenance(&operator, &id, &plan, now).await?;
    changed(&app, "maintenance", &id, "changed");
    Ok(Json(maintenance_view(&app, &places, row, now)))
}

/// Turns maintenance on or off
#[utoipa::path(patch, path = "/api/v1/maintenance/{id}", tag = "quiet", operation_id = "switch_maintenance",
    params(("id" = String, Path, description = "The maintenance")), request_body = MaintenanceSwitch,
    responses((status = 200, body = MaintenanceView)))]
pub(super) async fn switch(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(body): Body<MaintenanceSwitch>,
) -> Answer<MaintenanceView> {
    let now = Timestamp::now();
    let row = app.store.enable_maintenance(&operator, &id, body.enabled, now).await?;
    changed(&app, "maintenance", &id, if body.enabled { "enabled" } else { "disabled" });
    Ok(Json(maintenance_view(&app, &app.store.places().await?, row, now)))
}

/// Takes maintenance back, an occurrence that is in force with it
#[utoipa::path(delete, path = "/api/v1/maintenance/{id}", tag = "quiet", operation_id = "end_maintenance",
    params(("id" = String, Path, description = "The maintenance")),
    responses((status = 200, body = MaintenanceView)))]
pub(super) async fn end(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
) -> Answer<MaintenanceView> {
    let now = Timestamp::now();
    let row = app.store.end_maintenance(&operator, &id, now).await?;
    changed(&app, "maintenance", &id, "ended");
    Ok(Json(maintenance_view(&app, &app.store.places().await?, row, now)))
}

fn planned(app: &Shared, places: &[Place], body: MaintenanceBody) -> Result<Plan, ApiError> {
    check_text("name", &body.name, MAX_NAME)?;
    check_length("comment", &body.comment, MAX_COMMENT)?;
    let lasts = duration("duration", &body.duration)?;
    let window =
        Window::parse(&body.start, &body.zone, lasts, body.repeat.as_deref()).map_err(ApiError::invalid_body)?;
    let given =
        ScopeView { hosts: body.hosts, sites: body.sites, scenario: body.scenario, check: body.check, all: body.all };
    Ok(Plan {
        scope: scope::meant(app, places, given)?,
        name: plain(&body.name, MAX_NAME),
        window,
        enabled: body.enabled,
        comment: body.comment,
    })
}

fn maintenance_view(app: &Shared, places: &[Place], row: Maintenance, now: Timestamp) -> MaintenanceView {
    let counts = row.window();
    let next: Vec<Span> = counts.map(|window| window.spans(now).take(SHOWN).collect()).unwrap_or_default();
    let in_force = next.first().is_some_and(|span| span.from <= now);
    let next_change_at = counts.and_then(|window| window.next_change(now));
    let Plan { name, scope, window, enabled, comment } = row.plan;
    MaintenanceView {
        in_force,
        next_change_at,
        next: next.into_iter().map(|Span { from, to }| SpanView { from, to }).collect(),
        summary: text::window(&window, app.language()),
        scope: scope::view(places, scope),
        start: window.start(),
        zone: window.zone().to_owned(),
        duration: humantime::format_duration(window.duration()).to_string(),
        repeat: window.rule().map(ToString::to_string),
        id: row.id,
        name,
        enabled,
        comment,
        created_at: row.created_at,
        created_by: row.created_by,
        updated_at: row.updated_at,
        updated_by: row.updated_by,
        ended_at: row.ended_at,
        ended_by: row.ended_by,
    }
}
