//! The switch that stops all execution, and hosts whose orders are halted.

use axum::{Json, extract::State};
use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    extract::{self, Body, Caller, Comment, MAX_COMMENT, Segment},
    problem::Answer,
};
use crate::{app::App, store::brakes::Stopped};

/// Whether orders leave.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Execution {
    /// Who stopped all execution; null: orders leave.
    stopped: Option<Stopped>,
}

/// A host whose orders go on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resumed {
    /// Its name.
    host: String,
}

/// Whether orders leave
#[utoipa::path(get, path = "/api/v1/execution", tag = "actions", operation_id = "execution",
    responses((status = 200, body = Execution)))]
pub(super) async fn show(State(app): State<App>) -> Answer<Execution> {
    Ok(Json(Execution { stopped: app.store.stopped().await? }))
}

/// Stops all execution
///
/// From now on no order above R0 leaves and none is approved, and what runs is cancelled on its host.
#[utoipa::path(post, path = "/api/v1/execution/stop", tag = "actions", operation_id = "stop_execution",
    request_body = Comment, responses((status = 200, body = Execution)))]
pub(super) async fn stop(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<Comment>,
) -> Answer<Execution> {
    let comment = body.comment.unwrap_or_default();
    extract::check_length("comment", &comment, MAX_COMMENT)?;
    Ok(Json(Execution { stopped: Some(app.stop_execution(&operator, &comment).await?) }))
}

/// Lets orders leave again
///
/// What was cancelled stays so; what waits in queues leaves.
#[utoipa::path(post, path = "/api/v1/execution/resume", tag = "actions", operation_id = "resume_execution",
    request_body = Comment, responses((status = 200, body = Execution)))]
pub(super) async fn resume(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<Comment>,
) -> Answer<Execution> {
    let comment = body.comment.unwrap_or_default();
    extract::check_length("comment", &comment, MAX_COMMENT)?;
    app.resume_execution(&operator, &comment).await?;
    Ok(Json(Execution { stopped: None }))
}

/// Lets the orders of a halted host go on
///
/// They were halted because a change on it could not be undone: look at the host first.
#[utoipa::path(post, path = "/api/v1/hosts/{host}/resume", tag = "hosts", operation_id = "resume_host",
    params(("host" = String, Path, description = "Id or name")), request_body = Comment,
    responses((status = 200, body = Resumed)))]
pub(super) async fn resume_host(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(host): Segment<String>,
    Body(body): Body<Comment>,
) -> Answer<Resumed> {
    let comment = body.comment.unwrap_or_default();
    extract::check_length("comment", &comment, MAX_COMMENT)?;
    let host = app.store.host(&host).await?;
    app.store.resume(&operator, &host, &comment, Timestamp::now()).await?;
    app.wake.dispatch.look_at(host.key);
    Ok(Json(Resumed { host: host.name }))
}
