//! Telemetry of hosts without Farol's agent.

use axum::{
    Json,
    extract::{Request, State},
};
use farol_protocol::{
    Timestamp,
    http_signing::{self, Signed},
};
use serde_json::Value;

use super::{
    extract,
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    fleet::http::{known, verify},
    ingest::{self, Refusal, Sender},
};

/// Telemetry of a host, by token or signature
///
/// `hostname`, `timestamp` with offset, the texts `processes`, `netstat` and `iostat`, and `os` with `load` and `mem`.
/// Stored once for each host and timestamp. The token is an API token, or one that a host got from `farol host key add`;
/// instead, the request may be signed as `docs/SPEC.md` says.
#[utoipa::path(post, path = "/ingest", tag = "hosts", operation_id = "ingest", request_body = Object,
    security(("token" = []), ("signature" = [])), responses((status = 200, body = Object)))]
pub(super) async fn take(State(app): State<App>, request: Request) -> Answer<Value> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or(ingest::PATH, |target| target.as_str());
    let (sender, body) = match parts.extensions.get::<Sender>() {
        Some(sender) => (sender.clone(), extract::bytes(body).await?),
        None => {
            let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
            let signed = Signed::read(header).map_err(|refusal| Refusal::Denied(refusal.into()))?;
            let host = known(&app, &signed).map_err(Refusal::Denied)?;
            let body = extract::bytes(body).await?;
            let what = http_signing::Request { method: parts.method.as_str(), target, body: &body };
            verify(&app, &host, &signed, what, Timestamp::now()).await.map_err(Refusal::Denied)?;
            (Sender::Host(host.key), body)
        }
    };
    Ok(Json(ingest::take(&app, &sender, &body, Timestamp::now()).await?))
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code, detail) = refusal.parts();
        Self::of(status, code, detail)
    }
}
