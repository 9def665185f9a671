//! What steps left, as it was.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use farol_protocol::{ActionId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    audit::attachment,
    extract::{List, Segment},
    problem::{Answer, ApiError},
};
use crate::{app::App, store::evidence::ArtifactRow};

/// What a step left, without its content.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ArtifactView {
    /// Identifier.
    id: String,
    /// The action it is about.
    action_id: Option<String>,
    /// The finding it is about.
    finding_id: Option<String>,
    /// Which step left it.
    #[schema(example = "outcome")]
    step: String,
    /// A file's name.
    #[schema(example = "stdout.txt")]
    name: String,
    /// `text/plain`, `application/json` or `application/octet-stream`.
    media_type: String,
    /// SHA-256 of the content, in hexadecimal; the record holds it too.
    sha256: String,
    /// How much it is.
    bytes: i64,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// What an action left, the oldest first
#[utoipa::path(get, path = "/api/v1/actions/{id}/evidence", tag = "actions", operation_id = "action_evidence",
    params(("id" = String, Path, description = "The action")),
    responses((status = 200, body = List<ArtifactView>)))]
pub(super) async fn of_action(State(app): State<App>, Segment(id): Segment<ActionId>) -> Answer<List<ArtifactView>> {
    app.store.action(id).await?;
    Ok(Json(List::whole(app.store.evidence_of(id).await?.into_iter().map(view).collect())))
}

/// One artifact without its content
#[utoipa::path(get, path = "/api/v1/evidence/{id}", tag = "actions", operation_id = "artifact",
    params(("id" = String, Path, description = "The artifact")),
    responses((status = 200, body = ArtifactView)))]
pub(super) async fn one(State(app): State<App>, Segment(id): Segment<String>) -> Answer<ArtifactView> {
    Ok(Json(view(app.store.artifact(&id).await?)))
}

/// The content of an artifact, byte by byte
///
/// Always a file to keep, never a page. Content that is not what was stored is refused.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/content", tag = "actions", operation_id = "artifact_content",
    params(("id" = String, Path, description = "The artifact")),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn content(State(app): State<App>, Segment(id): Segment<String>) -> Result<Response, ApiError> {
    let (row, content) = app.store.artifact_content(&id).await?;
    let kind = match row.media_type.as_str() {
        "text/plain" | "application/json" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, attachment(&row.name)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
    ];
    Ok((headers, content).into_response())
}

fn view(row: ArtifactRow) -> ArtifactView {
    let at = row.at();
    let ArtifactRow { id, action_id, finding_id, step, name, media_type, sha256, bytes, .. } = row;
    ArtifactView { id, action_id, finding_id, step, name, media_type, sha256, bytes, at }
}
