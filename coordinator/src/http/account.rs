//! One's own account: password, app, recovery codes, passkeys.
//!
//! What changes how somebody signs in asks that they have just proved who they
//! are, gives their session another secret, and ends their other sessions.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    cookies,
    extract::{Body, Caller, Nothing, Segment, check_text},
    problem::{Answer, ApiError},
    session::{handle, own, unavailable, with_cookies},
};
use crate::{
    app::App,
    auth::{Operator, SessionRef},
    error::Error,
    people::{
        FRESH_MS, Typed, codes,
        passkey::{self, LASTS_MS, Purpose, Registration},
        password, seal_of,
    },
    store::{passkeys::PasskeyRow, people::UserRow},
};

/// One's own account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountView {
    /// The account.
    user: UserRow,
    /// Recovery codes that are left.
    recovery_codes: i64,
    /// Passkeys in use.
    passkeys: Vec<PasskeyRow>,
}

/// Somebody proves who they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    /// The password.
    password: Typed,
}

/// Another password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The one in use.
    current: Typed,
    /// The new one, at least 12 characters.
    new: Typed,
}

/// The secret of an app. Shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct TotpView {
    /// To type into the app, in base32.
    secret: String,
    /// To show as a picture for the app to scan.
    uri: String,
}

/// A code of the app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    /// Six digits.
    code: Typed,
}

/// Recovery codes. Shown once; each lets its owner in once in the place of a code.
#[derive(Serialize, ToSchema)]
pub(super) struct RecoveryCodes {
    /// Ten of them.
    recovery_codes: Vec<String>,
}

/// What a browser's `navigator.credentials.create` takes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistrationOptions {
    /// Base64url; good for five minutes, once.
    challenge: String,
    /// Whose passkeys they are.
    rp: Party,
    /// Who registers.
    user: Owner,
    /// ES256 alone: approvals are signed with it.
    pub_key_cred_params: [Algorithm; 1],
    /// How long it can be answered, in ms.
    timeout: i64,
    /// Those that are registered already.
    exclude_credentials: Vec<Known>,
    /// What authenticators are asked for.
    authenticator_selection: Selection,
    /// `none`.
    attestation: &'static str,
}

/// The relying party.
#[derive(Debug, Serialize, ToSchema)]
struct Party {
    /// The name in the address.
    id: String,
    /// What people read.
    name: &'static str,
}

/// Who registers a passkey.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Owner {
    /// Base64url.
    id: String,
    /// The account's name.
    name: String,
    /// The same.
    display_name: String,
}

/// An algorithm of WebAuthn.
#[derive(Debug, Serialize, ToSchema)]
struct Algorithm {
    /// `public-key`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// COSE's number.
    alg: i64,
}

/// A passkey that is registered already.
#[derive(Debug, Serialize, ToSchema)]
struct Known {
    /// `public-key`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Base64url.
    id: String,
}

/// What authenticators are asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Selection {
    /// `required`: nobody types a name to sign in.
    resident_key: &'static str,
    /// `required`: the passkey is both factors.
    user_verification: &'static str,
}

/// A passkey to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPasskey {
    /// What its owner calls it, at most 64 characters.
    #[schema(max_length = 64)]
    name: String,
    /// What `PublicKeyCredential.toJSON()` gives.
    credential: Registration,
}

/// The session, in which the person has just proved who they are.
fn fresh(operator: &Operator, now: Timestamp) -> Result<&SessionRef, ApiError> {
    let session = own(operator)?;
    if now.as_ms() - session.proved_ms > FRESH_MS {
        return Err(ApiError::of(
            403,
            "proof_required",
            "enter your password again, or sign in again, before you change how you sign in".to_owned(),
        ));
    }
    Ok(session)
}

/// The answer with another secret of the session, after the others have ended.
async fn rotated<T: Serialize>(
    app: &App,
    session: &SessionRef,
    proved: bool,
    (status, answer): (StatusCode, T),
) -> Result<Response, ApiError> {
    let secret = app.store.rotate_session(&session.id, proved, Timestamp::now()).await?;
    app.people.something_ended();
    Ok(with_cookies([cookies::set_session(&app.config, &secret)], (status, Json(answer))))
}

async fn view(app: &App, operator: &Operator) -> Result<AccountView, ApiError> {
    let user = app.store.user(operator.person()).await?;
    Ok(AccountView {
        recovery_codes: app.store.recovery_codes_left(&user.id).await?,
        passkeys: app.store.passkeys(&user.id).await?,
        user,
    })
}

/// One's own account
#[utoipa::path(get, path = "/api/v1/account", tag = "account", operation_id = "account",
    responses((status = 200, body = AccountView)))]
pub(super) async fn show(State(app): State<App>, Caller(operator): Caller) -> Answer<AccountView> {
    Ok(Json(view(&app, &operator).await?))
}

/// Proves again who one is
///
/// For the next 15 minutes one may change how one signs in.
#[utoipa::path(post, path = "/api/v1/account/prove", tag = "account", operation_id = "prove",
    request_body = Proof, responses((status = 200, body = AccountView)))]
pub(super) async fn prove(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<Proof>,
) -> Result<Response, ApiError> {
    let session = own(&operator)?;
    app.prove(operator.person(), &session.id, &body.password, Timestamp::now()).await?;
    rotated(&app, session, true, (StatusCode::OK, view(&app, &operator).await?)).await
}

/// Changes one's own password
///
/// All other sessions of the account end.
#[utoipa::path(post, path = "/api/v1/account/password", tag = "account", operation_id = "change_password",
    request_body = NewPassword, responses((status = 200, body = AccountView)))]
pub(super) async fn change_password(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<NewPassword>,
) -> Result<Response, ApiError> {
    let session = own(&operator)?;
    password::check_new(operator.person(), &body.new)?;
    app.prove(operator.person(), &session.id, &body.current, Timestamp::now()).await?;
    let hash = hash(&app, &session.id, body.new).await?;
    app.store.change_password(&operator, &session.user_id, &hash, Timestamp::now()).await?;
    rotated(&app, session, true, (StatusCode::OK, view(&app, &operator).await?)).await
}

/// Hashes a new password, in its turn.
pub(super) async fn hash(app: &App, source: &str, password: Typed) -> Result<String, ApiError> {
    let hashed = app.people.hashing.run(source, true, move || password::hash(&password)).await;
    Ok(hashed.map_err(|password::Busy| crate::people::sign_in::Refusal::Busy)??)
}

/// Begins to set up an app that shows codes
///
/// It counts once a code of it is confirmed.
#[utoipa::path(post, path = "/api/v1/account/totp", tag = "account", operation_id = "propose_totp",
    request_body = Nothing, responses((status = 201, body = TotpView)))]
pub(super) async fn propose_totp(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(Nothing {}): Body<Nothing>,
) -> Result<(StatusCode, Json<TotpView>), ApiError> {
    let session = fresh(&operator, Timestamp::now())?;
    let secret = codes::new_secret()?;
    let sealed = app.people.vault.seal(&seal_of(&session.user_id), &secret)?;
    app.store.propose_totp(&session.user_id, &sealed).await?;
    let uri = codes::uri(operator.person(), &secret);
    Ok((StatusCode::CREATED, Json(TotpView { secret: secret.expose().to_owned(), uri })))
}

/// Takes the app into use
///
/// From now on a code is asked for beside the password. Answers recovery codes, once.
#[utoipa::path(post, path = "/api/v1/account/totp/confirm", tag = "account", operation_id = "confirm_totp",
    request_body = Code, responses((status = 200, body = RecoveryCodes)))]
pub(super) async fn confirm_totp(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<Code>,
) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let session = fresh(&operator, now)?;
    let waiting = app.store.totp(&session.user_id).await?.filter(|(_, confirmed)| !confirmed);
    let Some((sealed, _)) = waiting else {
        return Err(Error::Refused("no app waits to be confirmed; begin again".to_owned()).into());
    };
    let secret = app.people.vault.open(&seal_of(&session.user_id), &sealed);
    let step = secret.and_then(|secret| codes::step(&secret, &body.code, now)).ok_or_else(|| {
        ApiError::of(422, "wrong_code", "the code is not the one that the app shows now; check its clock".to_owned())
    })?;
    let recovery_codes = codes::recovery_codes()?;
    app.store.confirm_totp(&operator, &session.user_id, step, &recovery_codes, now).await?;
    rotated(&app, session, false, (StatusCode::OK, RecoveryCodes { recovery_codes })).await
}

/// Removes the app that shows codes
#[utoipa::path(delete, path = "/api/v1/account/totp", tag = "account", operation_id = "remove_totp",
    responses((status = 200, body = AccountView)))]
pub(super) async fn remove_totp(State(app): State<App>, Caller(operator): Caller) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let session = fresh(&operator, now)?;
    app.store.remove_totp(&operator, &session.user_id, now).await?;
    rotated(&app, session, false, (StatusCode::OK, view(&app, &operator).await?)).await
}

/// Makes new recovery codes in the place of the old ones
#[utoipa::path(post, path = "/api/v1/account/recovery-codes", tag = "account", operation_id = "new_recovery_codes",
    request_body = Nothing, responses((status = 200, body = RecoveryCodes)))]
pub(super) async fn new_recovery_codes(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(Nothing {}): Body<Nothing>,
) -> Answer<RecoveryCodes> {
    let now = Timestamp::now();
    let session = fresh(&operator, now)?;
    if !app.store.totp(&session.user_id).await?.is_some_and(|(_, confirmed)| confirmed) {
        return Err(
            Error::Refused("recovery codes stand in for an app that shows codes; set one up first".to_owned()).into()
        );
    }
    let recovery_codes = codes::recovery_codes()?;
    app.store.new_recovery_codes(&operator, &session.user_id, &recovery_codes, now).await?;
    Ok(Json(RecoveryCodes { recovery_codes }))
}

/// Asks for a challenge to register a passkey
#[utoipa::path(post, path = "/api/v1/account/passkeys/challenge", tag = "account",
    operation_id = "new_passkey_challenge", request_body = Nothing,
    responses((status = 200, body = RegistrationOptions)))]
pub(super) async fn passkey_challenge(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(Nothing {}): Body<Nothing>,
) -> Answer<RegistrationOptions> {
    let now = Timestamp::now();
    let session = fresh(&operator, now)?;
    let site = passkey::site(&app.config).map_err(unavailable)?;
    let known = app.store.passkeys(&session.user_id).await?;
    let name = operator.person().to_owned();
    Ok(Json(RegistrationOptions {
        challenge: app.people.challenges.make(Purpose::Register, &session.user_id, now)?,
        rp: Party { id: site.rp_id, name: "Farol" },
        user: Owner { id: handle(&session.user_id), name: name.clone(), display_name: name },
        pub_key_cred_params: [Algorithm { kind: "public-key", alg: -7 }],
        timeout: LASTS_MS,
        exclude_credentials: known.into_iter().map(|row| Known { kind: "public-key", id: row.id }).collect(),
        authenticator_selection: Selection { resident_key: "required", user_verification: "required" },
        attestation: "none",
    }))
}

/// Registers a passkey
///
/// It signs its owner in without a password, and is one of their signing keys: where a host's policy lists it,
/// approvals can be signed with it.
#[utoipa::path(post, path = "/api/v1/account/passkeys", tag = "account", operation_id = "add_passkey",
    request_body = NewPasskey, responses((status = 201, body = PasskeyRow)))]
pub(super) async fn add_passkey(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(body): Body<NewPasskey>,
) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let session = fresh(&operator, now)?;
    check_text("name", &body.name, 64)?;
    let site = passkey::site(&app.config).map_err(unavailable)?;
    let new = body
        .credential
        .check(&app.people.challenges, &site, &session.user_id, now)
        .map_err(|why| ApiError::of(422, "bad_passkey", format!("the passkey is not taken: {why}")))?;
    let name = crate::text::plain(&body.name, 64);
    let row = app.store.add_passkey(&operator, &session.user_id, &name, &new, now).await?;
    rotated(&app, session, false, (StatusCode::CREATED, row)).await
}

/// Takes a passkey back, and the signing key that it is
///
/// Hosts go on to take its signatures until their policy files are changed.
#[utoipa::path(delete, path = "/api/v1/account/passkeys/{id}", tag = "account", operation_id = "revoke_passkey",
    params(("id" = String, Path, description = "The credential's id, base64url")),
    responses((status = 200, body = AccountView)))]
pub(super) async fn revoke_passkey(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let session = fresh(&operator, now)?;
    app.store.revoke_passkey(&operator, &session.user_id, &id, now).await?;
    rotated(&app, session, false, (StatusCode::OK, view(&app, &operator).await?)).await
}
