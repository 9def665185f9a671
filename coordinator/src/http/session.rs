//! Signing in and out, and who one is.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{AppendHeaders, IntoResponse, Response},
};
use data_encoding::BASE64URL_NOPAD;
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    authenticate, cookies,
    extract::{Body, Caller, List, Nothing, Query, Segment},
    permissions::{self, Permission},
    problem::{Answer, ApiError},
};
use crate::{
    access::Peer,
    app::{App, Shared},
    auth::{Operator, SessionRef},
    people::{
        Typed,
        passkey::{self, Assertion, LASTS_MS, Purpose},
        sign_in::{Begun, Browser, Claim, Refusal},
        throttle::Source,
    },
    roster::Role,
    store::sessions::SessionRow,
};

/// Who calls, and how the door is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    /// Whether the caller is known.
    authenticated: bool,
    /// Why not: the code of the problem; null where the caller is known or came with nothing.
    why: Option<&'static str>,
    /// The name in the record.
    name: Option<String>,
    /// Who it is: approvals count people, whatever they act with.
    person: Option<String>,
    /// What they may do.
    role: Option<Role>,
    /// Only these sites; null for all.
    sites: Option<Vec<String>>,
    /// The permissions that they hold.
    permissions: Vec<&'static str>,
    /// The session; null where the caller came with a token.
    session: Option<SessionRow>,
    /// Passkeys.
    passkeys: PasskeysView,
    /// Whether the first account is still to be made, by the link in the log.
    first_run: bool,
}

/// Whether people can sign in with passkeys here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PasskeysView {
    /// Whether.
    available: bool,
    /// Why not.
    why: Option<&'static str>,
    /// The name that they belong to, as hosts' policies list it.
    rp_id: Option<String>,
    /// The page's origin, as hosts' policies list it.
    origin: Option<String>,
}

/// Who says to be somebody.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// The account's name.
    name: String,
    /// The password.
    password: Typed,
    /// The code that the app shows, or a recovery code, where the account has them.
    #[serde(default)]
    code: Option<Typed>,
}

/// What a browser's `navigator.credentials.get` takes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssertionOptions {
    /// Base64url; good for five minutes, once.
    challenge: String,
    /// How long it can be answered, in ms.
    timeout: i64,
    /// The name that passkeys belong to.
    rp_id: String,
    /// `required`.
    user_verification: &'static str,
    /// Empty: the person picks one of theirs.
    allow_credentials: Vec<String>,
}

/// A passkey's answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasskeySignIn {
    /// What `PublicKeyCredential.toJSON()` gives.
    credential: Assertion,
}

/// Whose sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsQuery {
    /// Of this person; one's own unless said otherwise. Others' only for whoever manages accounts.
    user: Option<String>,
}

/// What a caller may do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Operation {
    /// Method.
    method: String,
    /// The address, with its variable parts in braces.
    path: &'static str,
    /// What it needs.
    permission: &'static str,
    /// Whether the caller may.
    allowed: bool,
    /// Why not; null where they may.
    why: Option<String>,
}

/// From which browser a stranger calls; not from a page of somebody else's.
pub(super) struct Visitor(pub(super) Browser);

impl FromRequestParts<App> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if parts.headers.contains_key(header::ORIGIN) && !cookies::from_our_page(app, &parts.headers) {
            return Err(ApiError::of(
                403,
                "origin_not_allowed",
                "a page of another address cannot sign in here".to_owned(),
            ));
        }
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self(Browser {
            network: Source::of(parts.extensions.get::<Peer>().map(|peer| peer.0)),
            device: cookies::device(&app.config, &parts.headers),
            session: cookies::session(&app.config, &parts.headers),
            agent: agent.unwrap_or_default().to_owned(),
        }))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let seconds = |ms: i64| u64::try_from(ms.max(0)).unwrap_or(0).div_ceil(1000);
        match refusal {
            Refusal::Wrong => Self::of(401, "sign_in_refused", "name, password or code is wrong; try again".to_owned()),
            Refusal::CodeNeeded => Self::of(
                401,
                "code_required",
                "enter the code that your app shows too, or one of your recovery codes".to_owned(),
            ),
            Refusal::Wait(ms) => Self::of(
                429,
                "sign_in_delayed",
                format!("too many attempts from your network for this account; wait {} s", seconds(ms)),
            )
            .retry_after(seconds(ms)),
            Refusal::Busy => {
                Self::of(503, "sign_in_busy", "too many sign in just now; try again in a moment".to_owned())
                    .retry_after(2)
            }
            Refusal::Passkey(why) => Self::of(401, "passkey_refused", format!("the passkey is not taken: {why}")),
            Refusal::Failed(error) => error.into(),
        }
    }
}

/// The answer with its cookies.
pub(super) fn with_cookies<const N: usize>(cookies: [Option<HeaderValue>; N], answer: impl IntoResponse) -> Response {
    let cookies: Vec<_> = cookies.into_iter().flatten().map(|value| (header::SET_COOKIE, value)).collect();
    (AppendHeaders(cookies), answer).into_response()
}

/// Who calls, without whom an answer is given too
///
/// Whether the caller is known, what they may do, and whether passkeys can be used. Needs nothing.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", operation_id = "session", security(()),
    responses((status = 200, body = SessionView)))]
pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> Answer<SessionView> {
    let came = headers.contains_key(header::AUTHORIZATION) || cookies::session(&app.config, &headers).is_some();
    let known = match authenticate::operator(&app, &headers, &Method::GET).await {
        Ok(known) => Ok(known),
        Err(error) if error.is_unauthenticated() => Err(error.code()),
        Err(error) => return Err(error),
    };
    let mut view = door(&app).await;
    match known {
        Ok((operator, session)) => fill(&mut view, &operator, session),
        Err(code) => view.why = came.then_some(code),
    }
    Ok(Json(view))
}

async fn door(app: &Shared) -> SessionView {
    let site = passkey::site(&app.config);
    SessionView {
        authenticated: false,
        why: None,
        name: None,
        person: None,
        role: None,
        sites: None,
        permissions: Vec::new(),
        session: None,
        passkeys: PasskeysView {
            available: site.is_ok(),
            why: site.as_ref().err().copied(),
            rp_id: site.as_ref().ok().map(|site| site.rp_id.clone()),
            origin: site.ok().map(|site| site.origin),
        },
        first_run: app.first_run_is_open(Timestamp::now()).await,
    }
}

fn fill(view: &mut SessionView, operator: &Operator, session: Option<SessionRow>) {
    let held = Permission::OF_TOKENS.into_iter().chain([Permission::Account]);
    view.authenticated = true;
    view.name = Some(operator.name().to_owned());
    view.person = Some(operator.person().to_owned());
    view.role = Some(operator.role());
    view.sites.clone_from(&operator.scope().sites);
    view.permissions = held.filter(|held| held.refusal(operator, false).is_none()).map(Permission::as_str).collect();
    view.session = session;
}

async fn begun(app: &App, begun: Begun) -> Result<Response, ApiError> {
    let state = app.store.session(begun.session.expose(), app.config.sessions, Timestamp::now()).await?;
    let crate::store::sessions::SessionState::Valid(operator, row) = state else {
        return Err(ApiError::unauthenticated("the account was disabled meanwhile"));
    };
    let mut view = door(app).await;
    fill(&mut view, &operator, Some(*row));
    let set = [cookies::set_session(&app.config, &begun.session), cookies::set_device(&app.config, &begun.device)];
    Ok(with_cookies(set, (StatusCode::CREATED, Json(view))))
}

/// Signs in
///
/// 401 `sign_in_refused`, or `code_required` where the password is right and the account has a second factor; 429
/// `sign_in_delayed` after many attempts from one network for one account, 503 `sign_in_busy` when too many sign in at
/// once, both with `Retry-After`. The session is a cookie; the one before it ends.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", operation_id = "sign_in", security(()),
    request_body = SignIn, responses((status = 201, body = SessionView)))]
pub(super) async fn sign_in(
    State(app): State<App>,
    Visitor(browser): Visitor,
    Body(body): Body<SignIn>,
) -> Result<Response, ApiError> {
    let claim = Claim { name: body.name, password: body.password, code: body.code };
    let done = app.sign_in(claim, browser, Timestamp::now()).await?;
    begun(&app, done).await
}

/// Asks for a challenge to sign in with a passkey
#[utoipa::path(post, path = "/api/v1/session/passkey/challenge", tag = "session", operation_id = "passkey_challenge",
    security(()), request_body = Nothing, responses((status = 200, body = AssertionOptions)))]
pub(super) async fn challenge(
    State(app): State<App>,
    _visitor: Visitor,
    Body(Nothing {}): Body<Nothing>,
) -> Answer<AssertionOptions> {
    let site = passkey::site(&app.config).map_err(unavailable)?;
    Ok(Json(AssertionOptions {
        challenge: app.people.challenges.make(Purpose::SignIn, "", Timestamp::now())?,
        timeout: LASTS_MS,
        rp_id: site.rp_id,
        user_verification: "required",
        allow_credentials: Vec::new(),
    }))
}

/// Passkeys cannot be used here.
pub(super) fn unavailable(why: &'static str) -> ApiError {
    ApiError::of(409, "passkeys_unavailable", format!("passkeys cannot be used here: {why}"))
}

/// Signs in with a passkey
#[utoipa::path(post, path = "/api/v1/session/passkey", tag = "session", operation_id = "sign_in_with_passkey",
    security(()), request_body = PasskeySignIn, responses((status = 201, body = SessionView)))]
pub(super) async fn passkey_sign_in(
    State(app): State<App>,
    Visitor(browser): Visitor,
    Body(body): Body<PasskeySignIn>,
) -> Result<Response, ApiError> {
    passkey::site(&app.config).map_err(unavailable)?;
    let done = app.sign_in_with_passkey(&body.credential, browser, Timestamp::now()).await?;
    begun(&app, done).await
}

/// The session of a caller who may manage their account: the gate let them in.
pub(super) fn own(operator: &Operator) -> Result<&SessionRef, ApiError> {
    operator.session().ok_or_else(|| ApiError::internal("a handler wants a session where its route asks for none"))
}

/// Signs out
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", operation_id = "sign_out",
    responses((status = 200, body = SessionView)))]
pub(super) async fn sign_out(State(app): State<App>, Caller(operator): Caller) -> Result<Response, ApiError> {
    let session = own(&operator)?;
    app.store.end_session(&operator, &session.id, Some(operator.person()), Timestamp::now()).await?;
    app.people.something_ended();
    Ok(with_cookies([cookies::clear_session(&app.config)], Json(door(&app).await)))
}

/// What the caller may do, operation by operation
#[utoipa::path(get, path = "/api/v1/session/permissions", tag = "session", operation_id = "session_permissions",
    responses((status = 200, body = List<Operation>)))]
pub(super) async fn permissions(Caller(operator): Caller) -> Answer<List<Operation>> {
    let items = permissions::rows().map(|row| {
        let why = row.permission.refusal(&operator, row.writes);
        Operation {
            method: row.method.to_string(),
            path: row.path,
            permission: row.permission.as_str(),
            allowed: why.is_none(),
            why,
        }
    });
    Ok(Json(List::whole(items.collect())))
}

/// Sessions that go on, the newest first
#[utoipa::path(get, path = "/api/v1/sessions", tag = "session", operation_id = "sessions", params(SessionsQuery),
    responses((status = 200, body = List<SessionRow>)))]
pub(super) async fn list(
    State(app): State<App>,
    Caller(operator): Caller,
    Query(query): Query<SessionsQuery>,
) -> Answer<List<SessionRow>> {
    let user = query.user.unwrap_or_else(|| operator.person().to_owned());
    if user != operator.person()
        && let Some(why) = Permission::People.refusal(&operator, false)
    {
        return Err(ApiError::forbidden(why));
    }
    Ok(Json(List::whole(app.store.sessions_of(&user, app.config.sessions, Timestamp::now()).await?)))
}

/// Ends a session, one's own or, for whoever manages accounts, anybody's
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "session", operation_id = "end_session",
    params(("id" = String, Path, description = "The session")), responses((status = 204)))]
pub(super) async fn end(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
) -> Result<StatusCode, ApiError> {
    let anybodys = Permission::People.refusal(&operator, true).is_none();
    let of = Some(operator.person()).filter(|_| !anybodys);
    app.store.end_session(&operator, &id, of, Timestamp::now()).await?;
    app.people.something_ended();
    Ok(StatusCode::NO_CONTENT)
}

/// An account's id as passkeys keep it.
pub(super) fn handle(user_id: &str) -> String {
    BASE64URL_NOPAD.encode(user_id.as_bytes())
}
