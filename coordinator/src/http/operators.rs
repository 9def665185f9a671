//! The keys that people sign approvals with.

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::{
    Timestamp,
    signing::{PublicKey, SignatureAlgorithm},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, List, Segment},
    problem::{Answer, ApiError},
};
use crate::{app::App, error::Error, roster::Role, store::keys::KeyRow};

/// A public key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyView {
    /// Whose: the name of their token.
    operator: String,
    /// What they may do; null where no token has that name any more.
    role: Option<Role>,
    /// First 16 hexadecimal digits of the SHA-256 of the key's bytes.
    key_id: String,
    /// `ed25519` or `webauthn-es256`.
    alg: &'static str,
    /// As a host's policy lists it.
    public: String,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// By whom.
    created_by: String,
    /// When it was taken back; null while it is in use.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

/// A key to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// Whose: the name of their token.
    operator: String,
    /// `ed25519:` and 43 characters of base64url.
    public: String,
}

/// Keys of operators
#[utoipa::path(get, path = "/api/v1/operators/keys", tag = "operators", operation_id = "operator_keys",
    responses((status = 200, body = List<KeyView>)))]
pub(super) async fn keys(State(app): State<App>) -> Answer<List<KeyView>> {
    Ok(Json(List::whole(app.store.keys().await?.into_iter().map(view).collect())))
}

/// Registers the public key of an operator
///
/// Hosts go by the lists in their own policy files: there the key is added by hand.
#[utoipa::path(post, path = "/api/v1/operators/keys", tag = "operators", operation_id = "add_operator_key",
    request_body = NewKey, responses((status = 201, body = KeyView)))]
pub(super) async fn add(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<KeyView>), ApiError> {
    let public: PublicKey = new
        .public
        .parse()
        .map_err(|error: farol_protocol::signing::KeyError| ApiError::invalid_body(format!("public: {error}")))?;
    if public.alg() != SignatureAlgorithm::Ed25519 {
        return Err(ApiError::invalid_body("public: only ed25519 keys can be registered here"));
    }
    app.store.add_key(&operator, &new.operator, &public, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(one(&app, &public.id()).await?)))
}

/// Takes a key back
///
/// No approval is taken with it from now on. A host goes on to take it until its policy file is changed.
#[utoipa::path(post, path = "/api/v1/operators/keys/{key_id}/revoke", tag = "operators",
    operation_id = "revoke_operator_key", params(("key_id" = String, Path, description = "The key")),
    responses((status = 200, body = KeyView)))]
pub(super) async fn revoke(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(key_id): Segment<String>,
) -> Answer<KeyView> {
    app.store.revoke_key(&operator, &key_id, Timestamp::now()).await?;
    Ok(Json(one(&app, &key_id).await?))
}

async fn one(app: &App, key_id: &str) -> Result<KeyView, Error> {
    let rows = app.store.keys().await?;
    let row = rows.into_iter().find(|row| row.public.id() == key_id);
    row.map(view).ok_or_else(|| Error::NotFound { what: "key", id: key_id.to_owned() })
}

fn view(row: KeyRow) -> KeyView {
    KeyView {
        operator: row.operator,
        role: row.role,
        key_id: row.public.id(),
        alg: row.public.alg().as_str(),
        public: row.public.to_string(),
        created_at: row.created_at,
        created_by: row.created_by,
        revoked_at: row.revoked_at,
    }
}
