//! Actions: asking, reading, deciding.

use std::collections::HashMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use farol_protocol::{
    ActionId, ActionKind, PlanHash, Timestamp,
    action::{FileOutcome, Outcome},
    remediation::{StepOutcome, Verdict},
    signing::Signature,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{self, Body, Caller, Comment, Limit, List, MAX_COMMENT, Query, Segment, Start},
    problem::{Answer, ApiError},
};
use crate::{
    action,
    app::{App, Shared},
    output::Chunk,
    remediation,
    store::{
        actions::{ActionRow, ApprovalRow, Decided, TransitionRow},
        hosts::HostKey,
    },
};

/// An action.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActionView {
    /// Identifier.
    #[schema(value_type = String, format = "uuid")]
    action_id: ActionId,
    /// Where it runs.
    host: String,
    /// `command.exec`, `service.control`, `container.control`, `file.diff`, `file.apply`, `file.rollback`,
    /// `logs.read`, `remediation.look` or `remediation.run`.
    #[schema(value_type = String)]
    kind: ActionKind,
    /// Where it is.
    state: action::State,
    /// `R0` to `R3`.
    risk_class: &'static str,
    /// SHA-256 of the plan's bytes, in hexadecimal.
    plan_hash: String,
    /// The plan's exact bytes, a JSON document.
    plan: String,
    /// What it does, in words.
    what: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// When it can no longer begin.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Who asked.
    requested_by: String,
    /// Why.
    reason: String,
    /// Why it ended so, as a stable code.
    reason_code: Option<String>,
    /// The same in words.
    detail: Option<String>,
    /// The finding it is to mend.
    finding_id: Option<String>,
}

/// An action with its life.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActionDetail {
    #[serde(flatten)]
    action: ActionView,
    /// What it left; null until it ends.
    outcome: Option<OutcomeView>,
    /// The entry of the catalogue that it was planned from; null where there was none.
    entry: Option<String>,
    /// What was found on the host when it was planned: what is there, and what would change.
    look: Option<OutcomeView>,
    /// The end of what it has written so far, while it runs; null otherwise.
    output: Option<Vec<Chunk>>,
    /// Each state it entered, oldest first.
    transitions: Vec<TransitionRow>,
    /// Decisions on it, oldest first.
    approvals: Vec<ApprovalRow>,
}

/// What an action left.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutcomeView {
    /// Null when a signal ended it or nothing ran.
    exit_code: Option<i32>,
    /// Standard output, as far as it was kept.
    stdout: String,
    /// Standard error, as far as it was kept.
    stderr: String,
    /// Whether output was cut.
    truncated: bool,
    /// How long it ran, in ms.
    duration_ms: u64,
    /// What was seen of a file, or done to it.
    file: Option<FileView>,
    /// Of a remediation: `verified`, `contradicted`, `inconclusive`, `rolled_back` or `rollback_failed`; null where
    /// nothing was changed, or what was done could not be undone and was never verified.
    #[schema(value_type = Option<String>)]
    result: Option<Verdict>,
    /// Of a remediation: what each step left, in the order in which they ended.
    steps: Vec<StepView>,
}

/// What a step of a remediation left.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StepView {
    /// The step.
    id: String,
    /// `validate`, `snapshot`, `modify`, `verify` or `rollback`.
    phase: &'static str,
    /// How it ended: `done` as wanted, `interrupted` where a check could not tell.
    state: &'static str,
    /// Null when a signal ended it or no program ran.
    exit_code: Option<i32>,
    /// Standard output, or what a check said.
    stdout: String,
    /// Standard error.
    stderr: String,
    /// Whether output was cut.
    truncated: bool,
    /// How long it took, in ms.
    duration_ms: u64,
    /// What was seen of a file, or done to it.
    file: Option<FileView>,
    /// Why it ended so, in words.
    detail: Option<String>,
}

/// What a `file.…` action saw and left.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileView {
    /// The file.
    path: String,
    /// SHA-256 of the content before; null: there was no such file.
    before_sha256: Option<String>,
    /// SHA-256 of the content afterwards, or of the wanted content after a `file.diff`; null: no such file.
    after_sha256: Option<String>,
    /// Unified diff from before to after; null when it is too long or the content is not text.
    patch: Option<String>,
    /// Whether the file was changed.
    applied: bool,
}

/// An action to ask for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAction {
    /// Id or name.
    host: String,
    /// `command.exec`, `service.control`, `container.control`, `file.diff`, `file.apply`, `file.rollback` or `logs.read`.
    #[schema(value_type = String, example = "command.exec")]
    kind: ActionKind,
    /// Of the kind, each with an optional `timeout` in ms:
    /// `command.exec` `{"command", "args", "cwd"}`;
    /// `service.control` `{"service", "verb"}`;
    /// `container.control` `{"container", "verb"}`;
    /// `file.diff` `{"path", "want"}`;
    /// `file.apply` `{"path", "patch" or "content", "expected_sha256", "mode"}`;
    /// `file.rollback` `{"action_id"}`;
    /// `logs.read` `{"source": {"unit"} or {"path"}, "since", "until", "lines"}`.
    #[schema(value_type = Object, example = json!({"command": "uptime", "args": [], "timeout": 10_000}))]
    params: Value,
    /// Why, at most 1,000 characters.
    #[schema(max_length = 1000)]
    reason: String,
}

/// A decision, bound to the plan it was made on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// The `plan_hash` of the action as the person read it.
    #[schema(value_type = String)]
    plan_hash: PlanHash,
    /// What they say, at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    comment: String,
}

/// An approval, bound to the plan it was made on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApproval {
    /// The `plan_hash` of the action as the person read it.
    #[schema(value_type = String)]
    plan_hash: PlanHash,
    /// What they say, at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    comment: String,
    /// The approver's signature under the plan, where the host asks for one:
    /// `operator`, `key_id`, `alg`, `signature`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    signatures: Vec<Signature>,
}

/// Which actions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionsQuery {
    /// Only those in this state.
    state: Option<action::State>,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

/// Actions, newest first
#[utoipa::path(get, path = "/api/v1/actions", tag = "actions", operation_id = "actions", params(ActionsQuery),
    responses((status = 200, body = List<ActionView>)))]
pub(super) async fn list(State(app): State<App>, Query(query): Query<ActionsQuery>) -> Answer<List<ActionView>> {
    let page = app.store.actions(query.state, &query.cursor.0, query.limit.0).await?;
    let names: HashMap<HostKey, String> = app.store.host_names().await?;
    Ok(Json(List::of(page, |row| {
        let host = names.get(&row.host).cloned().unwrap_or_default();
        view(&app, row, host)
    })))
}

/// Asks for an action
///
/// It waits for a person's decision.
#[utoipa::path(post, path = "/api/v1/actions", tag = "actions", operation_id = "propose_action",
    request_body = NewAction, responses((status = 201, body = ActionView)))]
pub(super) async fn propose(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<NewAction>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ActionView>), ApiError> {
    extract::check_length("reason", &new.reason, MAX_COMMENT)?;
    let row = app.propose(&operator, &new.host, new.kind, new.params, &new.reason).await?;
    let location = format!("/api/v1/actions/{}", row.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(named(&app, row).await?)))
}

/// An action with its life
#[utoipa::path(get, path = "/api/v1/actions/{id}", tag = "actions", operation_id = "action",
    params(("id" = String, Path, description = "The action")),
    responses((status = 200, body = ActionDetail)))]
pub(super) async fn one(State(app): State<App>, Segment(id): Segment<ActionId>) -> Answer<ActionDetail> {
    let row = app.store.action(id).await?;
    let outcome = row.outcome.clone().map(OutcomeView::from);
    let output = if row.state.is_final() { None } else { app.outputs.of(id) };
    Ok(Json(ActionDetail {
        entry: remediation::entry_of(&row),
        look: remediation::look_of(&app, &row).await?.map(OutcomeView::from),
        action: named(&app, row).await?,
        outcome,
        output,
        transitions: app.store.transitions(id).await?,
        approvals: app.store.approvals(id).await?,
    }))
}

/// Agrees to exactly this plan
///
/// 200 when the action is on its way to its host, 202 when another person must agree too. Above the class that the
/// host runs unsigned, a signature is needed: 409 `signature_required`; one that does not count is 422
/// `bad_signature`.
#[utoipa::path(post, path = "/api/v1/actions/{id}/approve", tag = "actions", operation_id = "approve_action",
    params(("id" = String, Path, description = "The action")), request_body = NewApproval,
    responses((status = 200, body = ActionView), (status = 202, body = ActionView)))]
pub(super) async fn approve(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<ActionId>,
    Body(decision): Body<NewApproval>,
) -> Result<(StatusCode, Json<ActionView>), ApiError> {
    extract::check_length("comment", &decision.comment, MAX_COMMENT)?;
    let decided = app.approve(&operator, id, &decision.plan_hash, &decision.comment, &decision.signatures).await?;
    let (status, row) = match decided {
        Decided::Queued(row) => (StatusCode::OK, row),
        Decided::WaitsForSecond(row) => (StatusCode::ACCEPTED, row),
    };
    Ok((status, Json(named(&app, row).await?)))
}

/// Declines this plan
#[utoipa::path(post, path = "/api/v1/actions/{id}/reject", tag = "actions", operation_id = "reject_action",
    params(("id" = String, Path, description = "The action")), request_body = Decision,
    responses((status = 200, body = ActionView)))]
pub(super) async fn reject(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<ActionId>,
    Body(decision): Body<Decision>,
) -> Answer<ActionView> {
    extract::check_length("comment", &decision.comment, MAX_COMMENT)?;
    let row = app.reject(&operator, id, &decision.plan_hash, &decision.comment).await?;
    Ok(Json(named(&app, row).await?))
}

/// Cancels an action
///
/// One that has left for its host is asked back: its state then changes when the host answers.
#[utoipa::path(post, path = "/api/v1/actions/{id}/cancel", tag = "actions", operation_id = "cancel_action",
    params(("id" = String, Path, description = "The action")), request_body = Comment,
    responses((status = 200, body = ActionView)))]
pub(super) async fn cancel(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<ActionId>,
    Body(body): Body<Comment>,
) -> Answer<ActionView> {
    let comment = body.comment.unwrap_or_default();
    extract::check_length("comment", &comment, MAX_COMMENT)?;
    let row = app.cancel(&operator, id, &comment).await?;
    Ok(Json(named(&app, row).await?))
}

pub(super) async fn named(app: &Shared, row: ActionRow) -> Result<ActionView, ApiError> {
    let host = app.store.host_by_key(row.host).await?.name;
    Ok(view(app, row, host))
}

fn view(app: &Shared, row: ActionRow, host: String) -> ActionView {
    ActionView {
        what: remediation::in_words(app, &row),
        action_id: row.id,
        host,
        kind: row.kind,
        state: row.state,
        risk_class: row.class.as_str(),
        plan_hash: row.plan_hash.to_string(),
        plan: row.plan,
        issued_at: row.issued_at,
        expires_at: row.expires_at,
        updated_at: row.updated_at,
        requested_by: row.requested_by,
        reason: row.reason,
        reason_code: row.reason_code,
        detail: row.detail,
        finding_id: row.finding_id,
    }
}

impl From<Outcome> for OutcomeView {
    fn from(outcome: Outcome) -> Self {
        Self {
            exit_code: outcome.exit_code,
            stdout: outcome.stdout,
            stderr: outcome.stderr,
            truncated: outcome.truncated,
            duration_ms: outcome.duration_ms,
            file: outcome.file.map(FileView::from),
            result: outcome.result,
            steps: outcome.steps.into_iter().map(StepView::from).collect(),
        }
    }
}

impl From<StepOutcome> for StepView {
    fn from(step: StepOutcome) -> Self {
        Self {
            id: step.id,
            phase: step.phase.as_str(),
            state: step.state.as_str(),
            exit_code: step.exit_code,
            stdout: step.stdout,
            stderr: step.stderr,
            truncated: step.truncated,
            duration_ms: step.duration_ms,
            file: step.file.map(FileView::from),
            detail: step.detail,
        }
    }
}

impl From<FileOutcome> for FileView {
    fn from(file: FileOutcome) -> Self {
        Self {
            path: file.path,
            before_sha256: file.before_sha256,
            after_sha256: file.after_sha256,
            patch: file.patch,
            applied: file.applied,
        }
    }
}
