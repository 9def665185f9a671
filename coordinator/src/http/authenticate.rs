//! The gate before every handler: method, token or session, permission and
//! query parameters, in this order, before any body is read.

use axum::{
    extract::{MatchedPath, Query, Request, State},
    http::{HeaderMap, Method, Uri, header},
    middleware::Next,
    response::Response,
};
use farol_protocol::Timestamp;

use super::{
    cookies,
    permissions::{self, Found, Permission, Row},
    problem::ApiError,
};
use crate::{
    access::{Access, Peer, same_secret},
    app::App,
    auth::Operator,
    store::{
        sessions::{SessionRow, SessionState},
        tokens::TokenState,
    },
};

/// Header of the coordinator's own workers.
pub(super) const INTERNAL_TOKEN: &str = "x-ops-internal-token";

/// Lets a request through to its handler, or answers in its place.
pub(super) async fn gate(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return Ok(next.run(request).await);
    };
    let row = match permissions::find(request.method(), path.as_str()) {
        Found::Row(row) => row,
        Found::Methods(allow) => return Err(ApiError::method_not_allowed(&allow)),
        Found::Nothing => {
            return Err(ApiError::internal(&format!("the route {} has no row among the permissions", path.as_str())));
        }
    };
    if matches!(row.permission, Permission::Ingest | Permission::Signals) {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        if !app.config.access.admits(peer) {
            return Err(ApiError::of(403, "network_not_allowed", Access::not_admitted(peer)));
        }
    }
    match row.permission {
        Permission::Public => {}
        Permission::Internal => internal(app.config.internal_token.as_deref(), request.headers())?,
        // A signature covers the body, so the handler verifies it.
        Permission::Ingest if request.headers().contains_key(farol_protocol::http_signing::SIGNATURE) => {}
        Permission::Ingest => {
            let sender = crate::ingest::bearer(&app, request.headers(), Timestamp::now()).await?;
            request.extensions_mut().insert(sender);
        }
        Permission::Signals => {
            let sender = crate::signals::sender(&app, request.headers(), Timestamp::now()).await?;
            request.extensions_mut().insert(sender);
        }
        permission => {
            let (operator, _) = operator(&app, request.headers(), request.method()).await?;
            if let Some(why) = permission.refusal(&operator, row.writes) {
                return Err(ApiError::forbidden(why));
            }
            request.extensions_mut().insert(operator);
        }
    }
    check_query(row, request.uri())?;
    if !row.writes {
        return Ok(next.run(request).await);
    }
    // hyper drops a handler whose caller hangs up. One that writes goes on
    // alone, so that nothing is left half-way between two steps.
    tokio::spawn(next.run(request))
        .await
        .map_err(|error| ApiError::internal(&format!("a handler ended early: {error}")))
}

/// Who calls: by token where one came, else by session.
pub(super) async fn operator(
    app: &App,
    headers: &HeaderMap,
    method: &Method,
) -> Result<(Operator, Option<SessionRow>), ApiError> {
    let now = Timestamp::now();
    if !headers.contains_key(header::AUTHORIZATION)
        && let Some(secret) = cookies::session(&app.config, headers)
    {
        // Browsers send cookies whoever asks; a token only our own programs send.
        if !method.is_safe() && !cookies::from_our_page(app, headers) {
            return Err(ApiError::of(
                403,
                "origin_not_allowed",
                "a page of another address asked for this; open the console at the coordinator's own address"
                    .to_owned(),
            ));
        }
        return match app.store.session(secret.expose(), app.config.sessions, now).await? {
            SessionState::Valid(operator, row) => Ok((operator, Some(*row))),
            SessionState::Expired => {
                Err(ApiError::of(401, "session_expired", "the session is over; sign in again".to_owned()))
            }
            SessionState::Unknown => Err(ApiError::unauthenticated("the session has ended; sign in again")),
        };
    }
    let token = bearer(headers)?;
    match app.store.authenticate(token, now).await? {
        TokenState::Valid(operator) => Ok((operator, None)),
        TokenState::Expired => Err(ApiError::token_expired()),
        TokenState::Unknown => {
            Err(ApiError::unauthenticated("the token is not known here; make one with `farol token create`"))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthenticated("sign in, or send `authorization: Bearer TOKEN`"));
    };
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| ApiError::unauthenticated("the authorization header is not `Bearer TOKEN`"))
}

fn internal(configured: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(configured) = configured else { return Err(ApiError::internal_closed()) };
    match headers.get(INTERNAL_TOKEN) {
        Some(presented) if same_secret(configured.as_bytes(), presented.as_bytes()) => Ok(()),
        Some(_) => Err(ApiError::unauthenticated("the X-Ops-Internal-Token is wrong")),
        None => Err(ApiError::unauthenticated("the header X-Ops-Internal-Token is missing")),
    }
}

fn check_query(row: &Row, uri: &Uri) -> Result<(), ApiError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| ApiError::invalid_query("the query is not `name=value&name=value`"))?;
    let Some((stranger, _)) = pairs.iter().find(|(name, _)| !row.query.contains(&name.as_str())) else {
        return Ok(());
    };
    let stranger = crate::text::plain(stranger, 64);
    Err(ApiError::invalid_query(if row.query.is_empty() {
        format!("`{stranger}` is not a parameter of this address, which takes none")
    } else {
        format!("`{stranger}` is not a parameter of this address; it takes {}", row.query.join(", "))
    }))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_bearer_token_is_read_and_nothing_else_is() {
        assert_eq!(bearer(&headers("authorization", "Bearer abc")).expect("read"), "abc");
        assert_eq!(bearer(&headers("authorization", "bearer abc")).expect("read"), "abc");
        for bad in ["abc", "Basic abc", "Bearer", "Bearer  "] {
            assert!(bearer(&headers("authorization", bad)).is_err(), "{bad}");
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }

    #[test]
    fn secrets_are_equal_only_when_they_are() {
        assert!(same_secret(b"secret", b"secret"));
        for other in [&b"secre"[..], b"secretx", b"", b"Secret"] {
            assert!(!same_secret(b"secret", other));
        }
    }

    #[test]
    fn the_internal_token_is_wanted_and_closed_where_none_is_set() {
        let said = |configured, headers| format!("{:?}", internal(configured, &headers));
        assert!(said(None, headers(INTERNAL_TOKEN, "x")).contains("internal_token_unset"));
        assert!(said(Some("x"), HeaderMap::new()).contains("missing"));
        assert!(said(Some("x"), headers(INTERNAL_TOKEN, "y")).contains("wrong"));
        assert!(internal(Some("x"), &headers(INTERNAL_TOKEN, "x")).is_ok());
    }

    #[test]
    fn an_unknown_query_parameter_is_named_with_those_there_are() {
        let Found::Row(row) = permissions::find(&Method::GET, "/api/v1/hosts") else { panic!("a row") };
        let check = |uri: &'static str| check_query(row, &Uri::from_static(uri));
        assert!(check("/api/v1/hosts").is_ok());
        assert!(check("/api/v1/hosts?limit=5&cursor=x").is_ok());
        let said = format!("{:?}", check("/api/v1/hosts?limit=5&lmit=6"));
        assert!(said.contains("`lmit`") && said.contains("limit, cursor"), "{said}");
    }
}
