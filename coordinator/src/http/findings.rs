//! Findings, for both families of routes.

use axum::{Json, extract::State};
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{self, Body, Caller, Comment, Limit, List, MAX_COMMENT, Query, Segment, Start},
    problem::Answer,
};
use crate::{
    advice::Advice,
    app::App,
    cause::{self, Verdict},
    error::Error,
    store::{
        daily::Replies,
        findings::{FindingRow, Which},
    },
};

/// A problem.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FindingView {
    /// Identifier.
    id: String,
    /// What it is about, the same each time the problem comes back.
    fingerprint: String,
    /// Counts the times it came.
    episode: i64,
    /// Scenario.
    scenario: String,
    /// Check.
    check: String,
    /// Host.
    host: String,
    /// Persona that speaks of it.
    persona: String,
    /// `info`, `low`, `medium`, `high`, `critical`.
    severity: String,
    /// `open`, `acknowledged`, `suppressed`, `resolved`.
    state: String,
    /// Why nobody is told: `cause`, `silence`, `maintenance`, `backup`; null while nothing hides it.
    hidden_kind: Option<String>,
    /// What hides it: a finding where the kind is `cause`, else a silence or a window.
    hidden_by: Option<String>,
    /// The finding of another host that it has joined, and with which it is told.
    joined: Option<String>,
    /// Whether its check changes too often to tell each time.
    flapping: bool,
    /// Whether the problem is that nothing is heard of its check any more.
    stale: bool,
    /// When it was told beside its thread; null where it was not.
    #[schema(value_type = Option<String>, format = DateTime)]
    told_at: Option<Timestamp>,
    /// What people read.
    title: String,
    /// Status of the report that spoke last.
    status: String,
    /// Its value.
    value: Option<f64>,
    /// Its unit.
    unit: Option<String>,
    /// Its text.
    text: String,
    /// Where it is talked about.
    thread_id: String,
    /// When its first bad report was observed.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// When it changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When a person acknowledged it.
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
    /// Who did.
    acknowledged_by: Option<String>,
    /// When it was healthy again.
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
}

/// A finding and the advice on it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FindingDetail {
    #[serde(flatten)]
    finding: FindingView,
    /// Null until it is written.
    advice: Option<Advice>,
    /// What probably caused it.
    cause: Verdict,
    /// Findings that it explains, or that have joined it.
    explains: Vec<FindingView>,
    /// What people said in its thread.
    replies: Replies,
}

/// Which findings.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Shown {
    /// Those that are not resolved.
    #[default]
    Unresolved,
    /// All.
    All,
}

/// Which findings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingsQuery {
    /// `all` shows resolved ones too; `unresolved` is what is shown unless said otherwise.
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

/// Findings, the one that opened last first
#[utoipa::path(get, path = "/api/v1/findings", tag = "findings", operation_id = "findings", params(FindingsQuery),
    responses((status = 200, body = List<FindingView>)))]
pub(super) async fn list(State(app): State<App>, Query(query): Query<FindingsQuery>) -> Answer<List<FindingView>> {
    page(&app, query).await
}

/// Findings, the one that opened last first
#[utoipa::path(get, path = "/api/v1/agents/findings", tag = "agents", operation_id = "agents_findings",
    params(FindingsQuery), responses((status = 200, body = List<FindingView>)))]
pub(super) async fn agents_list(
    State(app): State<App>,
    Query(query): Query<FindingsQuery>,
) -> Answer<List<FindingView>> {
    page(&app, query).await
}

async fn page(app: &App, query: FindingsQuery) -> Answer<List<FindingView>> {
    let which = match query.state {
        Shown::Unresolved => Which::Unresolved,
        Shown::All => Which::All,
    };
    let page = app.store.findings(which, &query.cursor.0, query.limit.0).await?;
    let names = app.store.host_names().await?;
    Ok(Json(List::of(page, |row| {
        let host = names.get(&row.host()).cloned().unwrap_or_default();
        view(row, host)
    })))
}

/// A finding with its advice
#[utoipa::path(get, path = "/api/v1/findings/{id}", tag = "findings", operation_id = "finding",
    params(("id" = String, Path, description = "The finding")),
    responses((status = 200, body = FindingDetail)))]
pub(super) async fn one(State(app): State<App>, Segment(id): Segment<String>) -> Answer<FindingDetail> {
    let row = app.store.finding(&id).await?;
    let host = app.store.host_by_key(row.host()).await?.name;
    let advice = match app.store.advice(&id).await? {
        None => None,
        Some(stored) => Some(
            serde_json::from_str(&stored.document).map_err(|_| Error::Corrupt { what: "advice", value: id.clone() })?,
        ),
    };
    let names = app.store.host_names().await?;
    let explains = app.store.findings_hidden_by(&id).await?;
    let explains = explains.into_iter().map(|row| {
        let host = names.get(&row.host()).cloned().unwrap_or_default();
        view(row, host)
    });
    let cause = cause::of(&app, &row).await?;
    let replies = app.store.replies(&row.thread_id).await?;
    Ok(Json(FindingDetail { explains: explains.collect(), cause, finding: view(row, host), advice, replies }))
}

/// Acknowledges a finding
///
/// It stays acknowledged until it resolves. Doing it again changes nothing.
#[utoipa::path(post, path = "/api/v1/agents/findings/{id}/ack", tag = "agents", operation_id = "acknowledge_finding",
    params(("id" = String, Path, description = "The finding")), request_body = Comment,
    responses((status = 200, body = FindingView)))]
pub(super) async fn acknowledge(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(body): Body<Comment>,
) -> Answer<FindingView> {
    extract::check_length("comment", body.comment.as_deref().unwrap_or_default(), MAX_COMMENT)?;
    let row = app.acknowledge(&operator, &id, body.comment.as_deref()).await?;
    let host = app.store.host_by_key(row.host()).await?.name;
    Ok(Json(view(row, host)))
}

/// Closes a finding that no report will end
///
/// For one whose check is watched no more, or that others sent without ever sending its end. One whose check still
/// reports is refused: acknowledge it or silence it.
#[utoipa::path(post, path = "/api/v1/findings/{id}/close", tag = "findings", operation_id = "close_finding",
    params(("id" = String, Path, description = "The finding")), request_body = Comment,
    responses((status = 200, body = FindingView)))]
pub(super) async fn close(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(body): Body<Comment>,
) -> Answer<FindingView> {
    let comment = body.comment.unwrap_or_default();
    extract::check_length("comment", &comment, MAX_COMMENT)?;
    let row = app.close(&operator, &id, &comment).await?;
    let host = app.store.host_by_key(row.host()).await?.name;
    Ok(Json(view(row, host)))
}

fn view(row: FindingRow, host: String) -> FindingView {
    FindingView {
        opened_at: row.opened_at(),
        updated_at: row.updated_at(),
        acknowledged_at: row.acknowledged_at(),
        resolved_at: row.resolved_at(),
        told_at: row.told_at(),
        flapping: row.is_flapping(),
        stale: row.is_stale(),
        hidden_kind: row.hidden_kind,
        hidden_by: row.hidden_by,
        joined: row.joined_id,
        id: row.id,
        fingerprint: row.fingerprint,
        episode: row.episode,
        scenario: row.scenario,
        check: row.check_id,
        host,
        persona: row.persona,
        severity: row.severity,
        state: row.state,
        title: row.title,
        status: row.status,
        value: row.value,
        unit: row.unit,
        text: row.text,
        thread_id: row.thread_id,
        acknowledged_by: row.acknowledged_by,
    }
}
