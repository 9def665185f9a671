//! What handlers take from a request, with errors that say what to change.

use std::{error::Error as _, fmt::Display, str::FromStr, time::Duration};

use axum::{
    body::{Body as RawBody, HttpBody as _},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};

use super::problem::ApiError;
use crate::{
    auth::Operator,
    store::{Cursor, Page},
};

/// Largest body.
pub(super) const MAX_BODY_BYTES: usize = 256 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is taken in and thrown away, so that
/// its sender gets to read the answer.
const DRAINED_BYTES: usize = 4 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Who calls, as the gate found out.
pub(super) struct Caller(pub(super) Operator);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let operator = parts.extensions.get::<Operator>().cloned();
        operator
            .map(Self)
            .ok_or_else(|| ApiError::internal("a handler wants an operator where its route asks for no token"))
    }
}

/// The variable part of a path.
pub(super) struct Segment<T>(pub(super) T);

impl<T: FromStr<Err: Display>, S: Send + Sync> FromRequestParts<S> for Segment<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::invalid_path(rejection.body_text()))?;
        let Some((name, text)) = params.iter().next() else {
            return Err(ApiError::internal("a handler wants a part of the path that its route does not have"));
        };
        if text.chars().count() > 200 || text.chars().any(char::is_control) {
            return Err(ApiError::invalid_path(format!(
                "`{name}` in the path has control characters or more than 200 characters"
            )));
        }
        text.parse().map(Self).map_err(|error: T::Err| ApiError::invalid_path(error.to_string()))
    }
}

/// The parameters behind the `?`.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::invalid_query(
                rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string),
            )),
        }
    }
}

/// A JSON body. None at all stands for `{}`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let announced = is_json(request.headers());
        if announced == Some(false) {
            return Err(ApiError::unsupported_media_type());
        }
        let bytes = bytes(request.into_body()).await?;
        if bytes.is_empty() {
            return parse(b"{}");
        }
        if announced.is_none() {
            return Err(ApiError::unsupported_media_type());
        }
        parse(&bytes)
    }
}

/// A body's bytes, bounded in size and time.
pub(super) async fn bytes(body: RawBody) -> Result<Vec<u8>, ApiError> {
    bytes_up_to(body, MAX_BODY_BYTES).await
}

/// The same for a route with its own limit.
pub(super) async fn bytes_up_to(body: RawBody, limit: usize) -> Result<Vec<u8>, ApiError> {
    tokio::time::timeout(BODY_TIMEOUT, read(body, limit)).await.map_err(|_| ApiError::body_timeout())?
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<Body<T>, ApiError> {
    // serde would fill the fields from an array too, by position.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::invalid_body("the body is not a JSON object"));
    }
    serde_json::from_slice(bytes)
        .map(Body)
        .map_err(|error| ApiError::invalid_body(format!("the body does not fit: {error}")))
}

/// None where the request says nothing about its body.
fn is_json(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let kind = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    Some(kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")))
}

async fn read(mut body: RawBody, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let announced = body.size_hint().lower();
    let mut fits = announced <= limit as u64;
    while fits && let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid_body("the body ended before it was complete"))?;
        if let Ok(data) = frame.into_data() {
            fits = bytes.len() + data.len() <= limit;
            bytes.extend_from_slice(&data);
        }
    }
    if fits {
        return Ok(bytes);
    }
    if announced <= DRAINED_BYTES as u64 {
        let _given_up = tokio::time::timeout(DRAIN_TIMEOUT, drain(body)).await;
    }
    Err(ApiError::body_too_large(limit))
}

async fn drain(mut body: RawBody) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, |data| data.len());
        if taken > DRAINED_BYTES {
            return;
        }
    }
}

/// `{}`: a route that takes no fields.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// What a person may add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Comment {
    /// What a person says about it, at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub(super) comment: Option<String>,
}

/// Refuses a text that is empty or too long for what it is.
pub(super) fn check_text(name: &str, text: &str, max: usize) -> Result<(), ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::invalid_body(format!("`{name}` is empty")));
    }
    check_length(name, text, max)
}

/// Refuses a text that is too long for what it is.
pub(super) fn check_length(name: &str, text: &str, max: usize) -> Result<(), ApiError> {
    match text.chars().count() {
        length if length > max => {
            Err(ApiError::invalid_body(format!("`{name}` has {length} characters; at most {max} fit")))
        }
        _ => Ok(()),
    }
}

/// Longest comment or reason.
pub(super) const MAX_COMMENT: usize = 1000;

/// A list. `next_cursor` is null on its last page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    items: Vec<T>,
    /// Pass it as `cursor` to go on; null at the end.
    next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that is always whole.
    pub(super) const fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// A page of the store.
    pub(super) fn of<R>(page: Page<R>, view: impl FnMut(R) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next_cursor: page.next_cursor }
    }

    /// A page of a list that is held whole, sorted by `key`.
    pub(super) fn cut(all: Vec<T>, after: Option<&str>, limit: Limit, key: impl Fn(&T) -> &str) -> Self {
        let limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
        let mut rest = all.into_iter().filter(|item| after.is_none_or(|after| key(item) > after));
        let items: Vec<T> = rest.by_ref().take(limit).collect();
        let next_cursor = rest.next().and_then(|_| items.last()).map(|last| key(last).to_owned());
        Self { items, next_cursor }
    }
}

/// How many items a page holds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Limit(pub(super) i64);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<String> for Limit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            Ok(limit @ 1..=200) => Ok(Self(limit)),
            _ => Err(format!("`{}` is not a number from 1 to 200", crate::text::plain(&text, 32))),
        }
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Start(pub(super) Cursor);

impl Default for Start {
    fn default() -> Self {
        Self(Cursor::start())
    }
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Cursor::parse(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub(super) limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(super) cursor: Start,
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request as HttpRequest};

    use super::*;

    async fn query(uri: &str) -> Result<PageQuery, ApiError> {
        let (mut parts, ()) = HttpRequest::builder().uri(uri).body(()).expect("a request").into_parts();
        Query::<PageQuery>::from_request_parts(&mut parts, &()).await.map(|Query(page)| page)
    }

    async fn body(kind: Option<&str>, body: impl Into<RawBody>) -> Result<Comment, String> {
        let mut request = HttpRequest::builder().method("POST").uri("/x");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(body.into()).expect("a request");
        Body::<Comment>::from_request(request, &())
            .await
            .map(|Body(comment)| comment)
            .map_err(|error| format!("{error:?}"))
    }

    #[tokio::test]
    async fn a_page_has_its_defaults_and_bounds() {
        let page = query("/x").await.expect("valid");
        assert_eq!((page.limit.0, page.cursor.0), (50, Cursor::start()));
        assert_eq!(query("/x?limit=200").await.expect("valid").limit.0, 200);
        assert_eq!(query("/x?cursor=5.abc").await.expect("valid").cursor.0, Cursor { ms: 5, id: "abc".to_owned() });
        for bad in ["limit=0", "limit=201", "limit=-1", "limit=ten", "limit=", "limit=1&limit=2", "cursor=abc", "x=1"] {
            let error = query(&format!("/x?{bad}")).await.expect_err("refused");
            assert!(format!("{error:?}").contains("invalid_query"), "{bad}");
        }
        let error = format!("{:?}", query("/x?limit=500").await.expect_err("refused"));
        assert!(error.contains("limit") && error.contains("`500` is not a number from 1 to 200"), "{error}");
    }

    #[tokio::test]
    async fn a_body_is_json_or_refused_with_the_reason() {
        let json = Some("application/json; charset=utf-8");
        assert_eq!(body(json, r#"{"comment":"ok"}"#).await.expect("valid").comment.as_deref(), Some("ok"));
        assert_eq!(body(None, "").await.expect("nothing stands for {}").comment, None);
        assert!(body(None, "{}").await.expect_err("no type").contains("unsupported_media_type"));
        assert!(body(Some("text/plain"), "{}").await.expect_err("text").contains("unsupported_media_type"));
        assert!(body(json, r#"{"coment":"ok"}"#).await.expect_err("typo").contains("unknown field `coment`"));
        for bad in ["{", "[]", r#"{"comment":1}"#, "{} {}", "\u{feff}{}"] {
            assert!(body(json, bad).await.expect_err("wrong").contains("invalid_body"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_is_refused_when_it_is_too_large_whether_announced_or_not() {
        let json = Some("application/json");
        let text = format!(r#"{{"comment":"{}"}}"#, "x".repeat(MAX_BODY_BYTES));
        assert!(body(json, text.clone()).await.expect_err("large").contains("body_too_large"));
        let chunks: Vec<Result<String, std::convert::Infallible>> =
            text.as_bytes().chunks(1000).map(|chunk| Ok(String::from_utf8_lossy(chunk).into_owned())).collect();
        let streamed = RawBody::from_stream(futures_util::stream::iter(chunks));
        assert!(body(json, streamed).await.expect_err("large").contains("body_too_large"));
    }

    #[test]
    fn a_media_type_is_recognised() {
        let kind = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            is_json(&headers)
        };
        assert_eq!(is_json(&HeaderMap::new()), None);
        assert_eq!(kind("Application/JSON"), Some(true));
        assert_eq!(kind("application/merge-patch+json"), Some(true));
        assert_eq!(kind("text/json"), Some(false));
        assert_eq!(kind(""), Some(false));
    }

    #[test]
    fn a_list_in_memory_is_paged_by_its_key() {
        let all = || vec!["a", "b", "c"];
        let page = |after, limit| {
            let list = List::cut(all(), after, Limit(limit), |name| name);
            (list.items, list.next_cursor)
        };
        assert_eq!(page(None, 2), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(page(Some("b"), 2), (vec!["c"], None));
        assert_eq!(page(None, 3), (vec!["a", "b", "c"], None));
        assert_eq!(page(Some("z"), 3), (vec![], None));
    }

    #[test]
    fn texts_have_bounds() {
        assert!(check_text("text", "olá", 3).is_ok());
        assert!(format!("{:?}", check_text("text", " \n", 3)).contains("`text` is empty"));
        assert!(format!("{:?}", check_text("text", "quatro", 3)).contains("6 characters; at most 3"));
        assert!(check_length("comment", "", 3).is_ok());
    }
}
