//! Every error of the API: RFC 9457 documents with a stable `code`.

use std::error::Error as _;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// What went wrong, as `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    #[schema(example = "Conflict")]
    title: &'static str,
    /// The status.
    #[schema(example = 409)]
    status: u16,
    /// One sentence about this very request.
    detail: String,
    /// Stable, for programs.
    #[schema(example = "plan_mismatch")]
    code: &'static str,
}

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// A refusal that has its own status and stable code.
    pub(crate) fn of(status: u16, code: &'static str, detail: String) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = Self::new(status, code, detail);
        match status {
            StatusCode::UNAUTHORIZED => {
                error.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"farol\""))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                error.with(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => error,
        }
    }

    /// Whether it says that the caller is not known.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    /// The same, to be asked again after so many seconds.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// No credentials, or unknown ones.
    pub(crate) fn unauthenticated(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"farol\""))
    }

    /// Credentials of yesterday.
    pub(crate) fn token_expired() -> Self {
        let challenge = "Bearer realm=\"farol\", error=\"invalid_token\", error_description=\"expired\"";
        Self::new(StatusCode::UNAUTHORIZED, "token_expired", "the token has expired; ask for a new one")
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Known, but not allowed.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// The internal routes are closed because no token is configured.
    pub(crate) fn internal_closed() -> Self {
        let detail = "OPS_INTERNAL_TOKEN is not set on the coordinator, so its internal routes are closed";
        Self::new(StatusCode::FORBIDDEN, "internal_token_unset", detail)
    }

    /// No route has this address.
    pub(crate) fn no_route(path: &str) -> Self {
        let path = crate::text::plain(path, 200);
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("nothing is at {path}; /api/openapi.json lists what there is"),
        )
    }

    /// The route has other methods.
    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let error =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this address takes {allow}"));
        match HeaderValue::from_str(allow) {
            Ok(allow) => error.with(header::ALLOW, allow),
            Err(_) => error,
        }
    }

    /// The body is not what the route takes.
    pub(crate) fn invalid_body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", detail)
    }

    /// A query parameter is not what the route takes.
    pub(crate) fn invalid_query(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
    }

    /// A part of the path cannot be read.
    pub(crate) fn invalid_path(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_path", detail)
    }

    /// More than the limit.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// The body did not come.
    pub(crate) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")
    }

    /// Not JSON.
    pub(crate) fn unsupported_media_type() -> Self {
        let detail = "the body must be JSON, announced as `content-type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// A mistake of ours. The caller learns no more than that.
    pub(crate) fn internal(cause: &str) -> Self {
        tracing::error!("a request failed: {cause}");
        let detail = "the coordinator could not do this; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Error::Exists { .. } => (StatusCode::CONFLICT, "conflict"),
            Error::Stale { .. } => (StatusCode::CONFLICT, "stale"),
            Error::PlanMismatch => (StatusCode::CONFLICT, "plan_mismatch"),
            Error::SignatureRequired(_) => (StatusCode::CONFLICT, "signature_required"),
            Error::BadSignature(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_signature"),
            Error::NotReady { code, .. } => (StatusCode::CONFLICT, *code),
            Error::Params(_) => (StatusCode::BAD_REQUEST, "invalid_params"),
            Error::Refused(_) => (StatusCode::CONFLICT, "refused"),
            Error::Plan(_) | Error::InvalidName(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            Error::InvalidPassword(_) => (StatusCode::BAD_REQUEST, "invalid_password"),
            Error::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Error::Enrolment(refusal) => (StatusCode::FORBIDDEN, refusal.code()),
            Error::Config(_)
            | Error::Document { .. }
            | Error::File { .. }
            | Error::Unreadable { .. }
            | Error::Listen { .. }
            | Error::Store { .. }
            | Error::Corrupt { .. }
            | Error::Migrate(_)
            | Error::Pki(_) => return Self::internal(&chain(&error)),
        };
        Self::new(status, code, error.to_string())
    }
}

/// The error and its causes, without what a cause repeats.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(extra) = self.header {
            headers.insert(extra.0, extra.1);
        }
        response
    }
}

/// What a handler answers.
pub(crate) type Answer<T> = Result<Json<T>, ApiError>;

#[cfg(test)]
mod tests {
    use farol_protocol::{ActionId, ActionKind, Effect};
    use serde_json::{Value, json};

    use super::*;
    use crate::{action::State, error::EnrolmentRefusal};

    async fn document(error: ApiError) -> (StatusCode, Option<String>, Value) {
        let response = error.into_response();
        let status = response.status();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let challenge =
            response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a body");
        (status, challenge, serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[tokio::test]
    async fn a_problem_is_a_complete_document() {
        let (status, challenge, body) = document(ApiError::forbidden("not you")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(challenge, None);
        assert_eq!(
            body,
            json!({"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "not you", "code": "forbidden"})
        );
    }

    #[tokio::test]
    async fn whoever_lacks_credentials_is_told_the_scheme() {
        for error in [ApiError::unauthenticated("who?"), ApiError::token_expired()] {
            let (status, challenge, _) = document(error).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert!(challenge.is_some_and(|challenge| challenge.starts_with("Bearer")));
        }
    }

    #[tokio::test]
    async fn each_error_has_its_status_and_code() {
        let params = Effect::parse(ActionKind::CommandExec, &json!({"command": ""})).expect_err("refused");
        let stale = Error::Stale { action: ActionId::new(), state: State::Done, step: "approved" };
        let cases = [
            (Error::NotFound { what: "host", id: "x".to_owned() }, 404, "not_found"),
            (Error::Exists { what: "token", id: "x".to_owned() }, 409, "conflict"),
            (stale, 409, "stale"),
            (Error::PlanMismatch, 409, "plan_mismatch"),
            (Error::SignatureRequired("sign".to_owned()), 409, "signature_required"),
            (Error::BadSignature("no".to_owned()), 422, "bad_signature"),
            (Error::Refused("no".to_owned()), 409, "refused"),
            (Error::Plan(params), 400, "invalid_body"),
            (Error::Forbidden("no".to_owned()), 403, "forbidden"),
            (Error::Enrolment(EnrolmentRefusal::Used), 403, "token_used"),
        ];
        for (error, status, code) in cases {
            let words = error.to_string();
            let (_, _, body) = document(error.into()).await;
            assert_eq!(body["status"], status, "{code}");
            assert_eq!(body["code"], code);
            assert_eq!(body["detail"], words);
        }
    }

    #[tokio::test]
    async fn an_internal_cause_stays_in_the_log() {
        let error = Error::Store { what: "read secrets", source: sqlx::Error::PoolClosed };
        assert!(chain(&error).contains("read secrets"));
        let (status, _, body) = document(error.into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["code"], "internal");
        assert!(!body.to_string().contains("secrets"), "{body}");
    }
}
