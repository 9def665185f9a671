//! What the coordinator's own workers call.

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    extract::{Body, Nothing},
    problem::ApiError,
};
use crate::{app::App, checks};

/// What a beat set going.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ticked {
    /// Scenarios that were due.
    queued: usize,
}

/// One beat of the scheduler: what is due runs, once
#[utoipa::path(post, path = "/api/v1/agents/internal/tick", tag = "agents", operation_id = "tick",
    security(("internal" = [])), request_body = Nothing, responses((status = 202, body = Ticked)))]
pub(super) async fn tick(
    State(app): State<App>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<(StatusCode, Json<Ticked>), ApiError> {
    let queued = checks::tick(&app, Timestamp::now());
    Ok((StatusCode::ACCEPTED, Json(Ticked { queued })))
}
