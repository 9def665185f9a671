//! Accounts of people, for whoever manages them.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    account::hash,
    extract::{Body, Caller, List, Segment},
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    error::Error,
    people::{Typed, password},
    roster::Role,
    store::people::{Change, NewUser, UserRow},
};

/// An account to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// The name in the record: 1 to 64 ASCII letters, digits and `._-@`.
    name: String,
    /// What the person may do.
    role: Role,
    /// Their password until they change it, at least 12 characters.
    password: Typed,
}

/// What to change of an account; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountChange {
    /// What the person may do.
    #[serde(default)]
    role: Option<Role>,
    /// Whether the account is disabled.
    #[serde(default)]
    disabled: Option<bool>,
    /// Another password, at least 12 characters.
    #[serde(default)]
    password: Option<Typed>,
    /// Forget the app that shows codes, and the recovery codes.
    #[serde(default)]
    reset_second_factor: bool,
}

/// Sessions that were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ended {
    /// How many.
    ended: u64,
}

/// Accounts, by name
#[utoipa::path(get, path = "/api/v1/users", tag = "users", operation_id = "users",
    responses((status = 200, body = List<UserRow>)))]
pub(super) async fn list(State(app): State<App>) -> Answer<List<UserRow>> {
    Ok(Json(List::whole(app.store.users().await?)))
}

/// An account
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "users", operation_id = "user",
    params(("name" = String, Path, description = "The account's name")),
    responses((status = 200, body = UserRow)))]
pub(super) async fn one(State(app): State<App>, Segment(name): Segment<String>) -> Answer<UserRow> {
    Ok(Json(app.store.user(&name).await?))
}

/// Makes an account
///
/// 409 `conflict` where a person has this name, or a token that goes on.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", operation_id = "add_user", request_body = NewAccount,
    responses((status = 201, body = UserRow)))]
pub(super) async fn add(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<NewAccount>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<UserRow>), ApiError> {
    crate::auth::check_name(&new.name).map_err(Error::InvalidName)?;
    password::check_new(&new.name, &new.password)?;
    let password = hash(&app, operator.name(), new.password).await?;
    let user = NewUser { name: &new.name, role: new.role, sites: None, password: &password };
    let row = app.store.create_user(&operator, user, false, Timestamp::now()).await?;
    app.people.first_run.close();
    let location = format!("/api/v1/users/{}", row.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(row)))
}

/// Changes an account
///
/// The person's sessions end. 409 `refused` for the last super_admin.
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "users", operation_id = "change_user",
    params(("name" = String, Path, description = "The account's name")), request_body = AccountChange,
    responses((status = 200, body = UserRow)))]
pub(super) async fn change(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(name): Segment<String>,
    Body(body): Body<AccountChange>,
) -> Answer<UserRow> {
    let user = app.store.user(&name).await?;
    if user.name == operator.person() && (body.password.is_some() || body.reset_second_factor) {
        return Err(Error::Refused(
            "how you sign in yourself is changed under /api/v1/account, with your password".to_owned(),
        )
        .into());
    }
    let password = match body.password {
        Some(new) => {
            password::check_new(&user.name, &new)?;
            Some(hash(&app, operator.name(), new).await?)
        }
        None => None,
    };
    let change = Change {
        role: body.role,
        sites: None,
        disabled: body.disabled,
        password: password.as_deref(),
        reset_second_factor: body.reset_second_factor,
    };
    let row = app.store.change_user(&operator, &user.name, change, Timestamp::now()).await?;
    app.people.something_ended();
    Ok(Json(row))
}

/// Ends all sessions of a person
#[utoipa::path(delete, path = "/api/v1/users/{name}/sessions", tag = "users", operation_id = "end_sessions_of_user",
    params(("name" = String, Path, description = "The account's name")),
    responses((status = 200, body = Ended)))]
pub(super) async fn end_sessions(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(name): Segment<String>,
) -> Answer<Ended> {
    let ended = app.store.end_sessions_of(&operator, &name, Timestamp::now()).await?;
    app.people.something_ended();
    Ok(Json(Ended { ended }))
}
