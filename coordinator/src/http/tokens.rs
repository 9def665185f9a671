//! API tokens. One that is made here belongs to whoever makes it: nobody makes
//! one that acts as another person.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, List, Segment},
    permissions::Permission,
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    auth::Scope,
    error::Error,
    roster::Role,
    store::tokens::{TokenRow, TokenSpec},
};

/// Unless said otherwise, in ms.
const LASTS_MS: i64 = 30 * 86_400_000;
/// At most, in ms.
const LONGEST_MS: i64 = 366 * 86_400_000;

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// Its name: 1 to 64 ASCII letters, digits and `._-@`, unlike that of any person.
    name: String,
    /// What it may do; one's own role unless said otherwise.
    #[serde(default)]
    role: Option<Role>,
    /// When it ends, within 366 days; in 30 days unless said otherwise.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Only what changes nothing.
    #[serde(default)]
    read_only: bool,
    /// Only these of its role: `ops_view`, `run_scenario`, `propose`, `decide`, `correct`, `maintain`, `resend`,
    /// `ingest`, `trust`, `people`.
    #[serde(default)]
    permissions: Option<Vec<String>>,
}

/// A token with its secret, which is shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// The secret.
    token: String,
    /// Identifier.
    id: String,
    /// Its name.
    name: String,
    /// Whose it is.
    owner: String,
    /// What it may do.
    role: Role,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Tokens without their secrets, by name
#[utoipa::path(get, path = "/api/v1/tokens", tag = "users", operation_id = "tokens",
    responses((status = 200, body = List<TokenRow>)))]
pub(super) async fn list(State(app): State<App>) -> Answer<List<TokenRow>> {
    Ok(Json(List::whole(app.store.tokens().await?)))
}

/// Makes a token of one's own
///
/// What is done with it counts as done by its owner: it cannot approve what its owner asked for, or approve beside
/// them.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "users", operation_id = "add_token", request_body = NewToken,
    responses((status = 201, body = MadeToken)))]
pub(super) async fn add(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<MadeToken>), ApiError> {
    let now = Timestamp::now();
    if operator.scope() != &Scope::default() {
        return Err(ApiError::forbidden("whoever is limited makes no tokens, which might not be"));
    }
    let expires_at = new.expires_at.unwrap_or_else(|| now.plus_ms(LASTS_MS));
    if !(1..=LONGEST_MS).contains(&expires_at.since(now)) {
        return Err(ApiError::invalid_body("`expires_at` is not within the next 366 days"));
    }
    let known = Permission::OF_TOKENS.map(Permission::as_str);
    let stranger = new.permissions.iter().flatten().find(|name| !known.contains(&name.as_str()));
    if let Some(stranger) = stranger {
        let stranger = crate::text::plain(stranger, 64);
        let known = known.join(", ");
        return Err(ApiError::invalid_body(format!("permissions: `{stranger}` is none of {known}")));
    }
    let role = new.role.unwrap_or(operator.role());
    let scope = Scope { read_only: new.read_only, permissions: new.permissions, sites: None };
    let owner = operator.person();
    let spec = TokenSpec { name: &new.name, owner: Some(owner), role, scope, expires_at: Some(expires_at) };
    let made = app.store.create_scoped_token(&operator, spec, now).await?;
    let view = MadeToken {
        token: made.token,
        id: made.id,
        name: new.name,
        owner: owner.to_owned(),
        role,
        expires_at: made.expires_at,
    };
    let location = format!("/api/v1/tokens/{}", view.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)))
}

/// Ends a token
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "users", operation_id = "revoke_token",
    params(("id" = String, Path, description = "The token's id")), responses((status = 204)))]
pub(super) async fn revoke(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
) -> Result<StatusCode, ApiError> {
    let tokens = app.store.tokens().await?;
    let token = tokens.iter().find(|token| token.id == id);
    let token = token.ok_or_else(|| Error::NotFound { what: "token", id: id.clone() })?;
    app.store.revoke_token(&operator, &token.name, Timestamp::now()).await?;
    app.people.something_ended();
    Ok(StatusCode::NO_CONTENT)
}
