//! Silences, and what is quiet now.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::{CheckId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Body, Caller, Limit, List, MAX_COMMENT, Query, Segment, Start, check_text},
    permissions::Permission,
    problem::{Answer, ApiError},
    scope::{self, ScopeView},
};
use crate::{
    app::{App, Shared},
    auth::Operator,
    correlate::QuietKind,
    events::Noun,
    quiet::{Place, Scope},
    store::quiet::{NewSilence, Silence, Which},
    text::{self, plain},
};

/// Unless said otherwise.
const USUAL: Duration = Duration::from_secs(2 * 3600);
/// Longest silence.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

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
pub(super) enum Shown {
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
    pub(super) state: Shown,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub(super) limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(super) cursor: Start,
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
        None => scope::meant(&app, &places, given)?,
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

/// The job looks at once, and whoever watches is told.
pub(super) fn changed(app: &Shared, kind: &str, id: &str, state: &str) {
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

pub(super) fn duration(field: &str, text: &str) -> Result<Duration, ApiError> {
    humantime::parse_duration(text.trim()).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| {
        ApiError::invalid_body(format!("`{field}`: `{}` is no time such as 90m, 2h or 3d", plain(text, 40)))
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

fn silence_view(app: &Shared, places: &[Place], row: Silence, now: Timestamp) -> SilenceView {
    let in_force = row.in_force(now);
    let reason = text::QuietReason::Silence { by: &row.created_by, until: row.until, comment: &row.comment };
    SilenceView {
        summary: reason.in_words(app.language()),
        in_force,
        next_change_at: in_force.then_some(row.until),
        scope: scope::view(places, row.scope),
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
