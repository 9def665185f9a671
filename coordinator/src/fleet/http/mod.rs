//! The southbound messages as signed requests, for hosts that cannot hold a
//! socket. A session runs the same code as a WebSocket's: `line` stands where
//! its socket would be.

mod authenticate;
mod line;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

pub(crate) use authenticate::{Denied, Host, known, verify};
use farol_protocol::{
    MAX_FRAME_BYTES, SessionId, Timestamp,
    frame::{ErrorCode, ErrorFrame},
    http_signing::{self, Signed},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
pub(in crate::fleet) use line::Line;
use line::{Inbound, Outbox, Pending, Reply, Wants};
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    admission::Anonymous,
    listener::{self, Answer, Southbound},
    session,
};
use crate::{
    access::{Access, Peer},
    ingest,
    store::hosts::HostKey,
};

const PREFIX: &str = "/southbound/v1/";
/// A body must come within this.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a session's answer, below the limit of a connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Longest poll.
const POLL_LIMIT: Duration = Duration::from_secs(25);
/// Requests of one session at the same time.
const AT_ONCE: usize = 4;
/// Frames that may wait for the session.
const REQUESTS: usize = 8;

/// Number of the frame that a poll answers with.
const FRAME_NUMBER: &str = "farol-frame";

/// Sessions by host; a host has one.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_host: RwLock<HashMap<HostKey, Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    requests: mpsc::Sender<Inbound>,
    outbox: Arc<Outbox>,
    at_once: Semaphore,
}

impl Sessions {
    fn put(&self, host: HostKey, session: Arc<Session>) {
        self.by_host.write().unwrap_or_else(PoisonError::into_inner).insert(host, session);
    }

    fn get(&self, host: HostKey) -> Option<Arc<Session>> {
        self.by_host.read().unwrap_or_else(PoisonError::into_inner).get(&host).cloned()
    }

    fn remove(&self, host: HostKey, session: SessionId) {
        let mut sessions = self.by_host.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&host).is_some_and(|known| known.id == session) {
            sessions.remove(&host);
        }
    }
}

/// What a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Hello,
    Telemetry,
    Action,
    Orders,
    Ingest,
}

fn door(path: &str) -> Option<Door> {
    match path.strip_prefix(PREFIX) {
        Some("hello") => Some(Door::Hello),
        Some("telemetry") => Some(Door::Telemetry),
        Some("action") => Some(Door::Action),
        Some("orders") => Some(Door::Orders),
        _ if path == ingest::PATH => Some(Door::Ingest),
        _ => None,
    }
}

/// Whether a path is answered here.
pub(super) fn serves(path: &str) -> bool {
    door(path).is_some()
}

/// Answers a request, and closes its connection: a request proves itself, so
/// nothing is gained by keeping one.
pub(super) async fn answer(
    south: Southbound,
    request: Request<Incoming>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> Answer {
    let mut answer = match handle(&south, request, tracker, stop).await {
        Ok(answer) => answer,
        Err(refused) => *refused,
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(http_signing::TIME, Timestamp::now().as_ms().into());
    answer
}

/// A refusal on its way out; boxed, for it is large and rare.
type Refused = Box<Answer>;

fn problem(status: StatusCode, code: &str, detail: &str) -> Refused {
    Box::new(listener::problem(status, code, detail))
}

async fn handle(
    south: &Southbound,
    request: Request<Incoming>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> Result<Answer, Refused> {
    let (parts, body) = request.into_parts();
    let door = door(parts.uri.path())
        .ok_or_else(|| problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"))?;
    let method = if door == Door::Orders { Method::GET } else { Method::POST };
    if parts.method != method {
        let detail = format!("this path takes {method}");
        return Err(problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &detail));
    }
    let app = &south.app;
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    if door == Door::Ingest && !app.config.access.admits(peer) {
        return Err(problem(StatusCode::FORBIDDEN, "network_not_allowed", &Access::not_admitted(peer)));
    }
    if door == Door::Ingest && !parts.headers.contains_key(http_signing::SIGNATURE) {
        let sender =
            ingest::bearer(app, &parts.headers, Timestamp::now()).await.map_err(|refusal| refused(&refusal))?;
        let body = read(body, ingest::MAX_BYTES).await?;
        return ingested(app, &sender, &body).await;
    }
    let signed = Signed::read(|name| text(&parts.headers, name)).map_err(|refusal| denied(&refusal.into()))?;
    let host = known(app, &signed).map_err(|refusal| denied(&refusal))?;
    let body = read(body, if door == Door::Ingest { ingest::MAX_BYTES } else { MAX_FRAME_BYTES }).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let what = http_signing::Request { method: parts.method.as_str(), target, body: &body };
    verify(app, &host, &signed, what, Timestamp::now()).await.map_err(|refusal| denied(&refusal))?;
    if let Some(anonymous) = parts.extensions.get::<Anonymous>() {
        anonymous.known();
    }
    if door == Door::Ingest {
        return ingested(app, &ingest::Sender::Host(host.key), &body).await;
    }
    let query = Query::read(parts.uri.query())?;
    let text = String::from_utf8(body.into())
        .map_err(|_| problem(StatusCode::UNPROCESSABLE_ENTITY, "not_json", "the body is not UTF-8"))?;
    match door {
        Door::Hello => hello(south, &host, text, tracker, stop).await,
        Door::Orders => poll(&*session(south, &host, &query)?, &query, app.config.heartbeat).await,
        Door::Telemetry | Door::Action => say(&*session(south, &host, &query)?, door, text).await,
        Door::Ingest => Err(problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")),
    }
}

async fn ingested(app: &crate::app::App, sender: &ingest::Sender, body: &[u8]) -> Result<Answer, Refused> {
    let taken = ingest::take(app, sender, body, Timestamp::now()).await.map_err(|refusal| refused(&refusal))?;
    Ok(json(StatusCode::OK, taken.to_string()))
}

fn refused(refusal: &ingest::Refusal) -> Refused {
    let (status, code, detail) = refusal.parts();
    tracing::info!(code, "telemetry was refused: {detail}");
    problem(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), code, &detail)
}

fn denied(denied: &Denied) -> Refused {
    let (status, code, detail) = denied.parts();
    tracing::info!(code, "a signed request was refused: {detail}");
    problem(StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED), code, &detail)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, Refused> {
    match timeout(BODY_LIMIT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is larger than {limit} bytes");
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &detail))
        }
        Ok(Err(error)) => {
            Err(problem(StatusCode::BAD_REQUEST, "invalid_body", &format!("the body broke off: {error}")))
        }
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")),
    }
}

/// What may stand behind the `?`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    session: Option<SessionId>,
    wait: Duration,
    after: Option<u64>,
}

impl Query {
    fn read(query: Option<&str>) -> Result<Self, Refused> {
        let bad = |detail: &str| problem(StatusCode::BAD_REQUEST, "invalid_query", detail);
        let mut read = Self { wait: POLL_LIMIT, ..Self::default() };
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("session", value)) => {
                    read.session = Some(value.parse().map_err(|_| bad("`session` is not a session's id"))?);
                }
                Some(("wait", value)) => {
                    let seconds: u64 = value.parse().map_err(|_| bad("`wait` is not a number of seconds"))?;
                    read.wait = Duration::from_secs(seconds).min(POLL_LIMIT);
                }
                Some(("after", value)) => {
                    read.after = Some(value.parse().map_err(|_| bad("`after` is not a frame's number"))?);
                }
                _ => return Err(bad("the parameters are `session`, and for orders `wait` and `after`")),
            }
        }
        // The numbers begin anew with each session: frames of this one must
        // not be forgotten because of another's.
        if read.session.is_none() && read.after.is_some_and(|after| after > 0) {
            return Err(bad(
                "`after` names frames of a session: add `session`, the `session_id` of its hello's answer",
            ));
        }
        Ok(read)
    }
}

fn session(south: &Southbound, host: &Host, query: &Query) -> Result<Arc<Session>, Refused> {
    let found = south.app.fleet.http.get(host.key).filter(|session| !session.requests.is_closed());
    found.filter(|session| query.session.is_none_or(|wanted| wanted == session.id)).ok_or_else(no_session)
}

fn no_session() -> Refused {
    problem(
        StatusCode::CONFLICT,
        "no_session",
        "there is no such session: it ended, was replaced, or the coordinator began anew; say hello",
    )
}

/// Begins a session, in the place of the one that the host has.
async fn hello(
    south: &Southbound,
    host: &Host,
    text: String,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> Result<Answer, Refused> {
    let app = &south.app;
    let id = SessionId::new();
    let (requests, inbound) = mpsc::channel(REQUESTS);
    let outbox = Arc::new(Outbox::default());
    // Half an interval more than a WebSocket has.
    let patience = app.config.heartbeat * 5 / 2;
    let line = Line::new(inbound, Arc::clone(&outbox), patience);
    let session = Arc::new(Session { id, requests, outbox, at_once: Semaphore::new(AT_ONCE) });
    let span = tracing::info_span!("session", agent_id = host.id, session_id = %id, transport = "http");
    let (running, key, name) = (Arc::clone(app), host.key, host.live_name.clone());
    let served = async move {
        session::run_on(Arc::clone(&running), key, id, name, line.into(), stop).await;
        running.fleet.http.remove(key, id);
    };
    tracker.spawn(Box::pin(served.instrument(span)));
    let (pending, reply) = Pending::new(Wants::Dealt);
    if session.requests.send(Inbound::Frame(text, pending)).await.is_err() {
        return Err(unavailable("the session ended at its hello"));
    }
    let answer = frame(timeout(ANSWER_LIMIT, reply).await)?;
    app.fleet.http.put(host.key, session);
    Ok(answer)
}

/// Puts a frame into the session and waits for what it says.
async fn say(session: &Session, door: Door, text: String) -> Result<Answer, Refused> {
    let _one = session.at_once.try_acquire().map_err(|_| too_many())?;
    let wants = wants(door, &text)?;
    let (pending, reply) = Pending::new(wants);
    session.requests.send(Inbound::Frame(text, pending)).await.map_err(|_| no_session())?;
    frame(timeout(ANSWER_LIMIT, reply).await)
}

#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    seq: Option<u64>,
}

/// A frame that is not of its door is refused; whether it is valid is for the
/// session to say.
fn wants(door: Door, text: &str) -> Result<Wants, Refused> {
    let bad = |code, detail: &str| problem(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
    let peek: Peek = serde_json::from_str(text).map_err(|error| bad("not_json", &format!("not a frame: {error}")))?;
    match (door, peek.method.as_deref()) {
        (Door::Telemetry, Some("telemetry.push")) => Ok(match (peek.stream, peek.seq) {
            (Some(stream), Some(seq)) => Wants::Ack { stream: stream.to_ascii_lowercase(), seq },
            _ => Wants::Dealt,
        }),
        (Door::Telemetry, _) => Err(bad("unexpected", "this path takes `telemetry.push`")),
        (_, Some("hello" | "telemetry.push")) => Err(bad("unexpected", "this frame has a path of its own")),
        _ => Ok(Wants::Dealt),
    }
}

type Waited = Result<Result<Reply, tokio::sync::oneshot::error::RecvError>, tokio::time::error::Elapsed>;

fn frame(reply: Waited) -> Result<Answer, Refused> {
    match reply {
        Ok(Ok(Reply::Frame(text))) => Ok(json(status(&text), text)),
        Ok(Ok(Reply::Done)) => Ok(empty()),
        Ok(Ok(Reply::Ended(reason))) => Err(unavailable(&format!("the session ended: {reason}; say hello again"))),
        Ok(Err(_)) => Err(unavailable("the session ended before it answered; say hello again")),
        Err(_) => Err(unavailable("the coordinator could not take it in time; send it again")),
    }
}

/// The status that says the same as the frame.
fn status(text: &str) -> StatusCode {
    #[derive(Deserialize)]
    struct Refused {
        ok: Option<bool>,
    }
    #[derive(Deserialize)]
    #[serde(tag = "method")]
    enum Said {
        #[serde(rename = "error")]
        Error(ErrorFrame),
        #[serde(other)]
        Other,
    }
    match serde_json::from_str(text) {
        Ok(Said::Error(error)) => match error.code {
            ErrorCode::WrongIdentity => StatusCode::FORBIDDEN,
            ErrorCode::Unexpected | ErrorCode::SeqGap | ErrorCode::IdentityConflict => StatusCode::CONFLICT,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::TooMuch => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::NotJson | ErrorCode::UnknownMethod | ErrorCode::InvalidFrame | ErrorCode::UnsupportedVersion => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        },
        // The older contract refuses with `ok`.
        _ if serde_json::from_str(text).is_ok_and(|refused: Refused| refused.ok == Some(false)) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        _ => StatusCode::OK,
    }
}

/// Waits for the next frame.
async fn poll(session: &Session, query: &Query, heartbeat: Duration) -> Result<Answer, Refused> {
    let _one = session.at_once.try_acquire().map_err(|_| too_many())?;
    let until = Instant::now() + query.wait;
    loop {
        // A poll is a sign of life for as long as it waits. A queue that is
        // full holds other signs.
        let _full = session.requests.try_send(Inbound::Sign);
        if let Some((number, text)) = session.outbox.next(query.after) {
            let mut answer = json(StatusCode::OK, text);
            answer.headers_mut().insert(FRAME_NUMBER, number.into());
            return Ok(answer);
        }
        if Instant::now() >= until {
            return Ok(empty());
        }
        let look = until.min(Instant::now() + heartbeat);
        tokio::select! {
            () = session.requests.closed() => return Err(no_session()),
            _ = timeout_at(look, session.outbox.news.notified()) => {}
        }
    }
}

fn too_many() -> Refused {
    problem(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        "this session has four requests open already; wait for one of them",
    )
}

fn unavailable(detail: &str) -> Refused {
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn empty() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_the_frame_says() {
        let error = |code| format!(r#"{{"method":"error","code":"{code}","message":"m"}}"#);
        for (text, wanted) in [
            (error("wrong_identity"), 403),
            (error("seq_gap"), 409),
            (error("invalid_frame"), 422),
            (error("unavailable"), 503),
            (r#"{"ok":true,"protocol":1}"#.to_owned(), 200),
            (r#"{"ok":false,"error":"no"}"#.to_owned(), 422),
            (r#"{"method":"action.ack","action_id":"x"}"#.to_owned(), 200),
        ] {
            assert_eq!(status(&text).as_u16(), wanted, "{text}");
        }
    }

    #[test]
    fn parameters_are_read_and_strangers_refused() {
        let id = SessionId::new();
        let read = Query::read(Some(&format!("wait=5&session={id}&after=3"))).expect("valid");
        assert_eq!(read, Query { session: Some(id), wait: Duration::from_secs(5), after: Some(3) });
        assert_eq!(Query::read(Some("wait=600")).expect("valid").wait, POLL_LIMIT);
        assert_eq!(Query::read(None).expect("valid").wait, POLL_LIMIT);
        assert_eq!(Query::read(Some("after=0")).expect("nothing is forgotten").after, Some(0));
        for bad in ["wait=-1", "wait", "session=x", "after=x", "after=1", "late=1"] {
            assert_eq!(Query::read(Some(bad)).expect_err(bad).status(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn a_frame_has_its_path() {
        let push = r#"{"method":"telemetry.push","stream":"S","seq":3}"#;
        assert_eq!(wants(Door::Telemetry, push).expect("taken"), Wants::Ack { stream: "s".to_owned(), seq: 3 });
        assert_eq!(wants(Door::Telemetry, r#"{"method":"telemetry.push"}"#).expect("taken"), Wants::Dealt);
        assert_eq!(wants(Door::Action, r#"{"ok":true,"exit_code":0}"#).expect("taken"), Wants::Dealt);
        for (door, text) in [(Door::Telemetry, r#"{"method":"hello"}"#), (Door::Action, push), (Door::Action, "{")] {
            assert_eq!(wants(door, text).expect_err(text).status(), StatusCode::UNPROCESSABLE_ENTITY);
        }
    }
}
