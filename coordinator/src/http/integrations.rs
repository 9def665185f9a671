//! Systems that the coordinator talks to with credentials. No answer holds a secret.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, List, Segment},
    hosts::ReportView,
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    checks::ByHand,
    integrations::{Kind, Secret, Tls},
    store::integrations::{Integration, Wanted},
};

/// What an integration is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IntegrationBody {
    /// Its name, by which checks mean it; needed to make one, and cannot be changed.
    #[serde(default)]
    #[schema(example = "pve")]
    name: Option<String>,
    /// What is there; needed to make one, and cannot be changed.
    #[serde(default)]
    kind: Option<Kind>,
    /// Base addresses; the first that answers counts.
    #[serde(default)]
    endpoints: Vec<String>,
    /// Whom to believe: `verify`, `{"ca": PEM}`, `{"pin": "sha256:…"}` or `insecure`.
    #[serde(default)]
    tls: Tls,
    /// Who Farol is to it.
    #[serde(default)]
    user: Option<String>,
    /// Its secret; stored sealed, never answered. Absent keeps the one that is there.
    #[serde(default)]
    #[schema(write_only)]
    secret: Option<String>,
    /// Site that it belongs to.
    #[serde(default)]
    site: Option<String>,
    /// Words of the operator's.
    #[serde(default)]
    tags: Vec<String>,
    /// What else its kind wants to know.
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl IntegrationBody {
    fn wanted(self, name: String, kind: Kind) -> Result<Wanted, ApiError> {
        Wanted {
            name,
            kind,
            site: self.site,
            endpoints: self.endpoints,
            tls: self.tls,
            tags: self.tags,
            options: self.options,
            user: self.user,
            secret: self.secret.filter(|secret| !secret.is_empty()).map(Secret::new),
        }
        .checked()
        .map_err(|error| ApiError::invalid_body(error.to_string()))
    }
}

/// Integrations, with when they answered last
#[utoipa::path(get, path = "/api/v1/integrations", tag = "integrations", operation_id = "integrations",
    responses((status = 200, body = List<Integration>)))]
pub(super) async fn list(State(app): State<App>) -> Answer<List<Integration>> {
    Ok(Json(List::whole(app.store.integrations().await?)))
}

/// One integration
#[utoipa::path(get, path = "/api/v1/integrations/{name}", tag = "integrations", operation_id = "integration",
    params(("name" = String, Path, description = "Its name or id")), responses((status = 200, body = Integration)))]
pub(super) async fn one(State(app): State<App>, Segment(name): Segment<String>) -> Answer<Integration> {
    Ok(Json(app.store.integration(&name).await?))
}

/// Makes an integration
#[utoipa::path(post, path = "/api/v1/integrations", tag = "integrations", operation_id = "add_integration",
    request_body = IntegrationBody, responses((status = 201, body = Integration)))]
pub(super) async fn add(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<IntegrationBody>,
) -> Result<(StatusCode, Json<Integration>), ApiError> {
    let (Some(name), Some(kind)) = (new.name.clone(), new.kind) else {
        return Err(ApiError::invalid_body("an integration needs a `name` and a `kind`"));
    };
    let wanted = new.wanted(name, kind)?;
    let made =
        app.store.save_integration(&operator, &wanted, false, app.integrations.vault(), Timestamp::now()).await?;
    app.integrations.refresh(&app.store).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Replaces what an integration is; its secret stays unless another is given
#[utoipa::path(put, path = "/api/v1/integrations/{name}", tag = "integrations", operation_id = "change_integration",
    params(("name" = String, Path, description = "Its name")), request_body = IntegrationBody,
    responses((status = 200, body = Integration)))]
pub(super) async fn change(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(name): Segment<String>,
    Body(what): Body<IntegrationBody>,
) -> Answer<Integration> {
    let known = app.store.integration(&name).await?;
    if what.name.as_ref().is_some_and(|name| *name != known.name) || what.kind.is_some_and(|kind| kind != known.kind) {
        return Err(ApiError::invalid_body("`name` and `kind` cannot be changed; make another integration"));
    }
    let wanted = what.wanted(known.name, known.kind)?;
    let made = app.store.save_integration(&operator, &wanted, true, app.integrations.vault(), Timestamp::now()).await?;
    app.integrations.refresh(&app.store).await?;
    Ok(Json(made))
}

/// Removes an integration with its secret
#[utoipa::path(delete, path = "/api/v1/integrations/{name}", tag = "integrations", operation_id = "remove_integration",
    params(("name" = String, Path, description = "Its name")), responses((status = 204, description = "It is gone")))]
pub(super) async fn remove(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(name): Segment<String>,
) -> Result<StatusCode, ApiError> {
    let known = app.store.integration(&name).await?;
    app.store.remove_integration(&operator, &known.name, Timestamp::now()).await?;
    app.integrations.refresh(&app.store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks an integration now
#[utoipa::path(post, path = "/api/v1/integrations/{name}/test", tag = "integrations", operation_id = "test_integration",
    params(("name" = String, Path, description = "Its name")), responses((status = 200, body = ReportView)))]
pub(super) async fn test(State(app): State<App>, Segment(name): Segment<String>) -> Answer<ReportView> {
    let known = app.store.integration(&name).await?;
    let report = ByHand::test(&app.integrations, &app.store, app.language(), &known.name).await?;
    Ok(Json(super::hosts::report(report)))
}
