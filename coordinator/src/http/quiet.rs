//! Silences, maintenance, and what is quiet now.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::{CheckId, Timestamp, registry::Registry, yaml};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Body, Caller, Limit, List, MAX_COMMENT, Query, Segment, Start, check_length, check_text},
    permissions::Permission,
    problem::{Answer, ApiError},
};
use crate::{
    app::{App, Shared},
    auth::Operator,
    correlate::{ALERT_PREFIX, CLOCK, IDENTITY, QuietKind, SIGNAL_PREFIX, SILENCE, TELEMETRY},
    events::Noun,
    quiet::{Place, Scope, Span, Window},
    store::quiet::{Maintenance, NewSilence, Plan, Silence, Which},
    text::{self, plain},
};

/// Unless said otherwise.
const USUAL: Duration = Duration::from_secs(2 * 3600);
/// Longest silence.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Names in one list.
const MOST_NAMES: usize = 200;
/// Longest name.
const MAX_NAME: usize = 100;
/// Occurrences that are shown.
const SHOWN: usize = 3;

/// What is meant. All that is given must fit; hosts and sites are one list.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
pub(super) struct ScopeView {
    /// Names of hosts; ids are taken too.
    #[serde(default)]
    hosts: Vec<String>,
    /// Sites, all of whose hosts are meant.
    #[serde(default)]
    sites: Vec<String>,
    /// A scenario, or the beginning of several with `*` behind it.
    #[serde(default)]
    #[schema(example = "proxmox.*")]
    scenario: Option<String>,
    /// One check.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    check: Option<CheckId>,
    /// Whether everything is meant, so that none of the others is given.
    #[serde(default)]
    all: bool,
}

/// A silence to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SilenceBody {
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
    /// The check of this finding is meant, and nothing else.
    #[serde(default)]
    finding_id: Option<String>,
    /// Why, at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    comment: String,
    /// Until when, at most 30 days from now; in two hours unless said otherwise.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// The same as a time from now: `90m`, `2h`, `3d`.
    #[serde(default, rename = "for")]
    #[schema(example = "2h")]
    lasts: Option<String>,
}

/// A silence.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SilenceView {
    /// Identifier.
    id: String,
    #[serde(flatten)]
    scope: ScopeView,
    /// The finding that it was set on.
    finding_id: Option<String>,
    /// Why.
    comment: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who.
    created_by: String,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// When a person ended it before its time.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Who did.
    ended_by: Option<String>,
    /// Whether it counts now.
    in_force: bool,
    /// When that changes; null where it is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_change_at: Option<Timestamp>,
    /// Who, until when and why, in one sentence in the operators' language.
    summary: String,
}

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

/// What keeps problems from being told now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuietView {
    /// Identifier: `silence/…`, `maintenance/…` or `backup/…`.
    id: String,
    /// What it is.
    kind: QuietKind,
    /// Hosts that it covers by name; null for all.
    hosts: Option<Vec<String>>,
    /// Scenario that it covers, or the beginning of several with `*`; null for all.
    scenario: Option<String>,
    /// Check that it covers; null for all.
    #[schema(value_type = Option<String>)]
    check: Option<CheckId>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Until when, as far as that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Why, in one sentence in the operators' language.
    summary: String,
}

/// Which ones.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Shown {
    /// Those that have not ended.
    #[default]
    Current,
    /// Past ones too.
    All,
}

impl From<Shown> for Which {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Current => Self::Current,
            Shown::All => Self::All,
        }
    }
}

/// Which ones.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct QuietQuery {
    /// `all` shows past ones too; `current` is what is shown unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<Shown>, inline)]
    state: Shown,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

/// What keeps problems from being told now
///
/// Silences, maintenance and running backups that are in force.
#[utoipa::path(get, path = "/api/v1/quiet", tag = "quiet", operation_id = "quiet",
    responses((status = 200, body = List<QuietView>)))]
pub(super) async fn now(State(app): State<App>) -> Answer<List<QuietView>> {
    let present = app.quiet.in_force();
    let places = if present.is_empty() { Vec::new() } else { app.store.places().await? };
    let name = |key| places.iter().find(|place| place.key == key).map(|place| place.name.clone());
    let view = |one: crate::quiet::InForce| QuietView {
        hosts: one.quiet.matcher.hosts.map(|keys| keys.into_iter().filter_map(name).collect()),
        scenario: one.quiet.matcher.scenario,
        check: one.quiet.matcher.check,
        kind: one.quiet.kind,
        id: one.quiet.id,
        since: one.since,
        until: one.quiet.until,
        summary: one.why,
    };
    Ok(Json(List::whole(present.into_iter().map(view).collect())))
}

/// Silences, the newest first
#[utoipa::path(get, path = "/api/v1/silences", tag = "quiet", operation_id = "silences", params(QuietQuery),
    responses((status = 200, body = List<SilenceView>)))]
pub(super) async fn silences(State(app): State<App>, Query(query): Query<QuietQuery>) -> Answer<List<SilenceView>> {
    let now = Timestamp::now();
    let page = app.store.silences(query.state.into(), now, &query.cursor.0, query.limit.0).await?;
    let places = app.store.places().await?;
    Ok(Json(List::of(page, |row| silence_view(&app, &places, row, now))))
}

/// Sets a silence from now on
///
/// Nobody is told of problems that it covers until it ends; they open, change and resolve as ever. Whoever may
/// acknowledge may silence; `all` takes a role that plans maintenance.
#[utoipa::path(post, path = "/api/v1/silences", tag = "quiet", operation_id = "add_silence",
    request_body = SilenceBody, responses((status = 201, body = SilenceView)))]
pub(super) async fn silence(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<SilenceBody>,
) -> Result<(StatusCode, Json<SilenceView>), ApiError> {
    let now = Timestamp::now();
    check_text("comment", &body.comment, MAX_COMMENT)?;
    let until = until(&body, now)?;
    let places = app.store.places().await?;
    let given =
        ScopeView { hosts: body.hosts, sites: body.sites, scenario: body.scenario, check: body.check, all: body.all };
    let scope = match &body.finding_id {
        None => scope(&app, &places, given)?,
        Some(id) => of_finding(&app, &places, &given, id).await?,
    };
    if scope.is_all() {
        check_role(&operator)?;
    }
    let new = NewSilence { scope, finding_id: body.finding_id, comment: body.comment, until };
    let made = app.store.add_silence(&operator, &new, now).await?;
    changed(&app, "silence", &made.id, "added");
    Ok((StatusCode::CREATED, Json(silence_view(&app, &places, made, now))))
}

/// Ends a silence before its time
#[utoipa::path(delete, path = "/api/v1/silences/{id}", tag = "quiet", operation_id = "end_silence",
    params(("id" = String, Path, description = "The silence")), responses((status = 200, body = SilenceView)))]
pub(super) async fn end_silence(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
) -> Answer<SilenceView> {
    let now = Timestamp::now();
    if app.store.silence(&id).await?.scope.is_all() {
        check_role(&operator)?;
    }
    let ended = app.store.end_silence(&operator, &id, now).await?;
    changed(&app, "silence", &id, "ended");
    Ok(Json(silence_view(&app, &app.store.places().await?, ended, now)))
}

/// Maintenance, the newest first
///
/// What comes once stays in the list when it is over, until it is taken back.
#[utoipa::path(get, path = "/api/v1/maintenance", tag = "quiet", operation_id = "maintenance", params(QuietQuery),
    responses((status = 200, body = List<MaintenanceView>)))]
pub(super) async fn maintenance(
    State(app): State<App>,
    Query(query): Query<QuietQuery>,
) -> Answer<List<MaintenanceView>> {
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
    // Enough to be right over a change of the clock and over a slow request.
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

/// The job looks at once, and whoever watches is told.
fn changed(app: &Shared, kind: &str, id: &str, state: &str) {
    app.events.publish(Noun::Quiet, format!("{kind}/{id}"), state);
    app.quiet.wake.notify_one();
}

/// What covers everything is no small thing.
fn check_role(operator: &Operator) -> Result<(), ApiError> {
    if Permission::Maintain.roles().contains(&operator.role()) {
        return Ok(());
    }
    let names: Vec<&str> = Permission::Maintain.roles().iter().map(|role| role.as_str()).collect();
    Err(ApiError::forbidden(format!(
        "a silence of everything takes one of the roles {}; name hosts, sites, a scenario or a check",
        names.join(", ")
    )))
}

fn until(body: &SilenceBody, now: Timestamp) -> Result<Timestamp, ApiError> {
    let until = match (body.until, &body.lasts) {
        (Some(_), Some(_)) => return Err(ApiError::invalid_body("give `until` or `for`, not both")),
        (Some(until), None) => until,
        (None, Some(lasts)) => now.plus(duration("for", lasts)?),
        (None, None) => now.plus(USUAL),
    };
    if until <= now {
        return Err(ApiError::invalid_body(format!("`until`: {until} is past; it is {now} here")));
    }
    // A second for a request that took its time.
    if until > now.plus(LONGEST + Duration::from_secs(1)) {
        return Err(ApiError::invalid_body(
            "a silence lasts 30 days at most; plan maintenance for longer, or take the check out of the registry",
        ));
    }
    Ok(until)
}

fn duration(field: &str, text: &str) -> Result<Duration, ApiError> {
    humantime::parse_duration(text.trim()).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| {
        ApiError::invalid_body(format!("`{field}`: `{}` is no time such as 90m, 2h or 3d", plain(text, 40)))
    })
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
        scope: scope(app, places, given)?,
        name: plain(&body.name, MAX_NAME),
        window,
        enabled: body.enabled,
        comment: body.comment,
    })
}

/// The check that a finding is about.
async fn of_finding(app: &Shared, places: &[Place], given: &ScopeView, id: &str) -> Result<Scope, ApiError> {
    if !(given.hosts.is_empty() && given.sites.is_empty() && given.scenario.is_none() && given.check.is_none())
        || given.all
    {
        return Err(ApiError::invalid_body("with `finding_id` its check is meant; leave the other fields out"));
    }
    let finding = app.store.finding(id).await?;
    let host = places.iter().find(|place| place.key == finding.host());
    let check = finding.check_id.parse().ok();
    let (Some(host), Some(check)) = (host, check) else {
        return Err(ApiError::internal("a finding is about no host or check"));
    };
    Ok(Scope { hosts: vec![host.id.clone()], check: Some(check), ..Scope::default() })
}

/// Finds what names mean, and refuses those that mean nothing: a silence with a
/// slip in it would be silent about nothing.
fn scope(app: &Shared, places: &[Place], given: ScopeView) -> Result<Scope, ApiError> {
    let watched = app.watched();
    let registry = &watched.registry;
    for (field, list) in [("hosts", &given.hosts), ("sites", &given.sites)] {
        if list.len() > MOST_NAMES {
            return Err(ApiError::invalid_body(format!(
                "`{field}` lists {} names; at most {MOST_NAMES} fit",
                list.len()
            )));
        }
    }
    let mut scope = Scope { scenario: given.scenario, check: given.check, ..Scope::default() };
    for name in &given.hosts {
        let place = places.iter().find(|place| place.name == *name || place.id == *name);
        let place =
            place.ok_or_else(|| unknown("hosts", "host", name, places.iter().map(|place| place.name.as_str())))?;
        if !scope.hosts.contains(&place.id) {
            scope.hosts.push(place.id.clone());
        }
    }
    let sites = || {
        let written = registry.sites.iter().map(|site| site.id.as_str());
        written.chain(places.iter().filter_map(|place| place.site.as_deref()))
    };
    for name in given.sites {
        if !sites().any(|site| site == name) {
            return Err(unknown("sites", "site", &name, sites()));
        }
        if !scope.sites.contains(&name) {
            scope.sites.push(name);
        }
    }
    if let Some(pattern) = &scope.scenario {
        check_scenario(registry, pattern)?;
    }
    match (given.all, scope.is_all()) {
        (true, false) => Err(ApiError::invalid_body("`all` means everything; leave out what narrows it, or `all`")),
        (false, true) => Err(ApiError::invalid_body(
            "say what is meant: `hosts`, `sites`, `scenario`, `check`, or `all` for everything",
        )),
        _ => Ok(scope),
    }
}

fn check_scenario(registry: &Registry, pattern: &str) -> Result<(), ApiError> {
    if pattern == "*" {
        return Err(ApiError::invalid_body("`scenario`: `*` alone means everything; give `all` instead"));
    }
    let own = [SILENCE, TELEMETRY, CLOCK, IDENTITY];
    let known = || registry.scenarios.iter().map(|scenario| scenario.id.as_str()).chain(own);
    let fits = match pattern.strip_suffix('*') {
        // What others send has names that nobody can list beforehand.
        Some(beginning) => {
            known().any(|id| id.starts_with(beginning))
                || [SIGNAL_PREFIX, ALERT_PREFIX].iter().any(|prefix| is_beginning(prefix, beginning))
        }
        None => known().any(|id| id == pattern) || [SIGNAL_PREFIX, ALERT_PREFIX].iter().any(|p| pattern.starts_with(p)),
    };
    if fits && pattern.len() <= 200 { Ok(()) } else { Err(unknown("scenario", "scenario", pattern, known())) }
}

/// Whether one of both begins with the other.
fn is_beginning(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn unknown<'a>(field: &str, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let near = yaml::nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    ApiError::invalid_body(format!("`{field}`: no {what} is called `{}`{near}", plain(name, 100)))
}

fn scope_view(places: &[Place], scope: Scope) -> ScopeView {
    let all = scope.is_all();
    let name = |id: String| places.iter().find(|place| place.id == id).map_or(id, |place| place.name.clone());
    ScopeView {
        hosts: scope.hosts.into_iter().map(name).collect(),
        sites: scope.sites,
        scenario: scope.scenario,
        check: scope.check,
        all,
    }
}

fn silence_view(app: &Shared, places: &[Place], row: Silence, now: Timestamp) -> SilenceView {
    let in_force = row.in_force(now);
    let reason = text::QuietReason::Silence { by: &row.created_by, until: row.until, comment: &row.comment };
    SilenceView {
        summary: reason.in_words(app.language()),
        in_force,
        next_change_at: in_force.then_some(row.until),
        scope: scope_view(places, row.scope),
        id: row.id,
        finding_id: row.finding_id,
        comment: row.comment,
        created_at: row.created_at,
        created_by: row.created_by,
        until: row.until,
        ended_at: row.ended_at,
        ended_by: row.ended_by,
    }
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
        scope: scope_view(places, scope),
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
