//! `POST /ingest`: telemetry of hosts without Farol's agent, on both ports.
//!
//! Fields that are not known are ignored, as the programs that send here may
//! be older or newer than this one. What is known must be right.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use farol_protocol::{
    StreamId, Timestamp, frame,
    telemetry::{Disk, Metrics, Usage},
};
use hyper::{HeaderMap, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::{
    app::Shared,
    error::Error,
    events::Noun,
    fleet::http::Denied,
    http::permissions::Permission,
    http_keys::HttpKeys,
    roster::Role,
    store::{
        bulk::Bulk,
        hosts::{Enrolment, HostKey, HostRow},
        http_keys::live_name,
        tokens::TokenState,
    },
};

/// The path, on both ports.
pub const PATH: &str = "/ingest";
/// Largest body.
pub const MAX_BYTES: usize = 256 * 1024;
/// What is kept of each text.
const TEXT_LIMIT: usize = 64 * 1024;
/// A commit that takes longer is answered with an error; the sender repeats.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);
/// Most file systems that are kept.
const DISKS: usize = 64;
/// Who may post for any host.
pub(crate) const ROLES: &[Role] = &[Role::SuperAdmin, Role::OpsLead, Role::AgenticOperator, Role::Devops];

/// The stream of everything that a host posts: one for all hosts, since a
/// stream is known by its host and its id.
static STREAM: LazyLock<StreamId> = LazyLock::new(|| StreamId::from_uuid(uuid::Uuid::from_u128(0x001b_9e57)));

/// Who posts.
#[derive(Debug, Clone)]
pub(crate) enum Sender {
    /// A token that may post for any host.
    Anyone,
    /// A host, for itself.
    Host(HostKey),
}

/// Why a post is not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No credentials, or unknown ones.
    Unauthenticated(&'static str, String),
    /// Known, but not allowed.
    Forbidden(&'static str, String),
    /// The signature.
    Denied(Denied),
    /// A field is wrong.
    Invalid(String),
    /// Nobody has made the host known.
    UnknownHost(String),
    /// It was not stored; it can be sent again.
    Unavailable,
}

impl Refusal {
    /// Status, stable code and one sentence.
    pub(crate) fn parts(&self) -> (u16, &'static str, String) {
        match self {
            Self::Unauthenticated(code, detail) => (401, code, detail.clone()),
            Self::Forbidden(code, detail) => (403, code, detail.clone()),
            Self::Denied(denied) => denied.parts(),
            Self::Invalid(detail) => (422, "invalid_body", detail.clone()),
            Self::UnknownHost(name) => (
                404,
                "unknown_host",
                format!(
                    "no host is called `{name}`; make it known with `farol host add {name}` or `farol host key add {name}`"
                ),
            ),
            Self::Unavailable => (
                503,
                "unavailable",
                "the coordinator could not store it; send it again with the same timestamp".to_owned(),
            ),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        tracing::error!("a post could not be taken: {error}");
        Self::Unavailable
    }
}

/// Who presents a bearer token.
///
/// # Errors
/// There is none, it is not known, or it may not post.
pub(crate) async fn bearer(app: &Shared, headers: &HeaderMap, now: Timestamp) -> Result<Sender, Refusal> {
    let unknown = |code, detail: &str| Refusal::Unauthenticated(code, detail.to_owned());
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| {
            unknown(
                "unauthenticated",
                "send `authorization: Bearer TOKEN`, or sign the request (docs/SPEC.md, section 13)",
            )
        })?;
    if let Some(key) = HttpKeys::key_of_token(token) {
        let known = app.fleet.host_of(&live_name(key));
        let host = known.filter(|(_, id)| app.http_keys.is_token(token, id.as_str(), key));
        let (host, _) = host.ok_or_else(|| {
            unknown("unauthenticated", "the host's token is not live here; make one with `farol host key add`")
        })?;
        if !app.http_keys.admit(key, now) {
            return Err(Refusal::Denied(Denied::TooMany));
        }
        return Ok(Sender::Host(host));
    }
    match app.store.authenticate(token, now).await? {
        TokenState::Valid(operator) if Permission::Ingest.refusal(&operator, true).is_none() => Ok(Sender::Anyone),
        TokenState::Valid(operator) => {
            Err(Refusal::Forbidden("forbidden", Permission::Ingest.refusal(&operator, true).unwrap_or_default()))
        }
        TokenState::Expired => Err(unknown("token_expired", "the token has expired; ask for a new one")),
        TokenState::Unknown => Err(unknown(
            "unauthenticated",
            "the token is not known here; make one with `farol host key add` or `farol token create`",
        )),
    }
}

/// Stores what a host posted and answers once it is committed. The same
/// `hostname` and `timestamp` are stored once.
///
/// # Errors
/// The body is not right, the host is not known or another's, or the store
/// failed.
pub(crate) async fn take(app: &Shared, sender: &Sender, body: &[u8], now: Timestamp) -> Result<Value, Refusal> {
    let post = Post::parse(body).map_err(Refusal::Invalid)?;
    let host = host_of(app, sender, &post.hostname).await?;
    let (stream, _) = app.store.stream(host.key, *STREAM).await?;
    let done = Arc::new(Notify::new());
    let item = Bulk::Push {
        host: host.key,
        id: format!("ingest/{}", post.timestamp.as_ms()),
        observed_at: post.timestamp.min(now),
        received_at: now,
        payload: frame::encode(&post.kept),
        reports: Vec::new(),
        stream: Some(stream),
        done: Arc::clone(&done),
    };
    let sent = app.bulk.send(item).await.is_ok();
    if !sent || tokio::time::timeout(COMMIT_LIMIT, done.notified()).await.is_err() {
        return Err(Refusal::Unavailable);
    }
    let was_present = app.present(&host, now);
    app.fleet.note_post(host.key, now);
    if !was_present && app.present(&host, now) {
        app.events.publish(Noun::Host, &host.name, "online");
    }
    Ok(json!({"ok": true, "host": host.name}))
}

async fn host_of(app: &Shared, sender: &Sender, hostname: &str) -> Result<HostRow, Refusal> {
    let named = match app.store.host(hostname).await {
        Ok(host) if host.name == hostname => Some(host),
        Ok(_) | Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    match (sender, named) {
        (Sender::Anyone, None) => Err(Refusal::UnknownHost(hostname.to_owned())),
        (Sender::Anyone, Some(host)) if host.enrolment == Enrolment::Revoked => Err(Refusal::Forbidden(
            "host_revoked",
            format!("the host `{hostname}` is revoked; let it in again with `farol host add` or `farol host key add`"),
        )),
        (Sender::Anyone, Some(host)) => Ok(host),
        (Sender::Host(own), Some(host)) if host.key != *own => {
            Err(Refusal::Forbidden("wrong_host", format!("the credentials are another host's than `{hostname}`")))
        }
        // A machine may call itself otherwise than it was made known.
        (Sender::Host(own), _) => Ok(app.store.host_by_key(*own).await?),
    }
}

/// A body that was understood.
#[derive(Debug)]
struct Post {
    hostname: String,
    timestamp: Timestamp,
    kept: Kept,
}

/// What is stored: the readings by the names of telemetry, and the texts.
#[derive(Debug, Serialize)]
struct Kept {
    #[serde(flatten)]
    metrics: Metrics,
    texts: Texts,
}

#[derive(Debug, Serialize)]
struct Texts {
    processes: String,
    netstat: String,
    iostat: String,
    /// Names of the texts that were cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<&'static str>,
}

impl Post {
    fn parse(body: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let Value::Object(body) = document else { return Err("the body is not a JSON object".to_owned()) };
        let hostname = string(&body, "hostname")?;
        if !(1..=253).contains(&hostname.len()) || hostname.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("`hostname` is not a name of 1 to 253 characters without spaces".to_owned());
        }
        let timestamp = string(&body, "timestamp")?.parse().map_err(|_| {
            "`timestamp` is not an ISO 8601 time with an offset, such as 2026-11-20T09:00:00-03:00".to_owned()
        })?;
        let mut truncated = Vec::new();
        let [processes, netstat, iostat] = ["processes", "netstat", "iostat"].map(|name| {
            let text = match body.get(name) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(_) => return Err(format!("`{name}` is not a text")),
            };
            let (text, cut) = bounded(text);
            if cut {
                truncated.push(name);
            }
            Ok(text)
        });
        let texts = Texts { processes: processes?, netstat: netstat?, iostat: iostat?, truncated };
        let metrics = match body.get("os") {
            None | Some(Value::Null) => return Err("`os` is missing".to_owned()),
            Some(Value::Object(os)) => readings(os)?,
            Some(_) => return Err("`os` is not an object".to_owned()),
        };
        Ok(Self { hostname: hostname.to_owned(), timestamp, kept: Kept { metrics, texts } })
    }
}

fn readings(os: &Map<String, Value>) -> Result<Metrics, String> {
    let mut metrics = Metrics::default();
    if let Some(load) = present(os, "load") {
        let wrong = || "`os.load` is not a list of three numbers from 0 on".to_owned();
        let list = load.as_array().ok_or_else(wrong)?;
        let numbers: Vec<f64> = list.iter().filter_map(Value::as_f64).filter(|load| *load >= 0.0).collect();
        metrics.load = Some(<[f64; 3]>::try_from(numbers).ok().filter(|_| list.len() == 3).ok_or_else(wrong)?);
    }
    if let Some(memory) = present(os, "mem") {
        let memory = memory.as_object().ok_or("`os.mem` is not an object")?;
        let (total, free) = (bytes(memory, "total", "os.mem.total")?, bytes(memory, "free", "os.mem.free")?);
        let used = total.checked_sub(free).ok_or("`os.mem.free` is more than `os.mem.total`")?;
        metrics.memory = Some(Usage { used, total });
    }
    if let Some(uptime) = present(os, "uptime") {
        metrics.uptime_seconds = Some(uptime.as_u64().ok_or("`os.uptime` is not whole seconds")?);
    }
    if let Some(disks) = present(os, "disks") {
        for disk in disks.as_array().ok_or("`os.disks` is not a list")?.iter().take(DISKS) {
            let disk = disk.as_object().ok_or("`os.disks` holds something else than objects")?;
            let mount = string(disk, "mount").map_err(|_| "`os.disks` has an entry without `mount`")?;
            let (total, used) = (bytes(disk, "total", "os.disks.total")?, bytes(disk, "used", "os.disks.used")?);
            metrics.disks.push(Disk { mount: mount.chars().take(256).collect(), space: Usage { used, total } });
        }
    }
    Ok(metrics)
}

fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match object.get(name) {
        None => Err(format!("`{name}` is missing")),
        Some(value) => value.as_str().ok_or_else(|| format!("`{name}` is not a text")),
    }
}

/// A size. Programs that count in floating point write `1024.0`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole, and within 53 bits")]
fn bytes(object: &Map<String, Value>, name: &str, path: &str) -> Result<u64, String> {
    let value = object.get(name).ok_or_else(|| format!("`{path}` is missing"))?;
    let whole = |number: &f64| (0.0..9e15).contains(number) && number.fract() == 0.0;
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(whole).map(|number| number as u64))
        .ok_or_else(|| format!("`{path}` is not a whole number of bytes"))
}

fn bounded(mut text: String) -> (String, bool) {
    if text.len() <= TEXT_LIMIT {
        return (text, false);
    }
    let end = (0..=TEXT_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Value {
        json!({
            "hostname": "pf", "timestamp": "2026-11-20T09:00:00-03:00", "processes": "1 init 0.0 0.1",
            "netstat": "Total: 5", "iostat": "", "os": {"hostname": "pf", "load": [0.5, 1, 2.25],
            "mem": {"total": 1024, "free": 256}}
        })
    }

    fn parse(change: impl FnOnce(&mut Value)) -> Result<Post, String> {
        let mut body = body();
        change(&mut body);
        Post::parse(body.to_string().as_bytes())
    }

    #[test]
    fn the_format_of_the_older_programs_is_read() {
        let post = parse(|_| {}).expect("valid");
        assert_eq!(post.timestamp, "2026-11-20T12:00:00Z".parse().expect("valid"));
        assert_eq!(post.kept.metrics.load, Some([0.5, 1.0, 2.25]));
        assert_eq!(post.kept.metrics.memory, Some(Usage { used: 768, total: 1024 }));
        assert!(post.kept.texts.truncated.is_empty());
    }

    #[test]
    fn what_is_unknown_is_ignored_and_texts_may_be_absent() {
        let post = parse(|body| {
            body["gpu"] = json!({"fan": 3});
            body["os"]["kernel"] = json!("15.0");
            for name in ["processes", "netstat", "iostat"] {
                body.as_object_mut().expect("an object").remove(name);
            }
            body["os"]["mem"]["free"] = json!(256.0);
            body["os"]["uptime"] = json!(77);
            body["os"]["disks"] = json!([{"mount": "/", "total": 10, "used": 4}]);
        })
        .expect("valid");
        assert_eq!(post.kept.metrics.uptime_seconds, Some(77));
        assert_eq!(post.kept.metrics.disks[0].space, Usage { used: 4, total: 10 });
    }

    #[test]
    fn a_wrong_field_is_named() {
        let cases: [(&str, Value, &str); 12] = [
            ("/hostname", json!(5), "`hostname` is not a text"),
            ("/hostname", json!("a b"), "`hostname` is not a name"),
            ("/hostname", json!(""), "`hostname` is not a name"),
            ("/timestamp", json!("2026-11-20T09:00:00"), "`timestamp`"),
            ("/timestamp", json!(1), "`timestamp` is not a text"),
            ("/processes", json!(["x"]), "`processes` is not a text"),
            ("/os", json!([]), "`os` is not an object"),
            ("/os", Value::Null, "`os` is missing"),
            ("/os/load", json!([1, 2]), "`os.load`"),
            ("/os/load", json!([1, -2, 3]), "`os.load`"),
            ("/os/mem/free", json!(4096), "`os.mem.free` is more"),
            ("/os/mem/total", json!(10.5), "`os.mem.total` is not a whole"),
        ];
        for (pointer, value, said) in cases {
            let error = parse(|body| *body.pointer_mut(pointer).expect("a field") = value).expect_err(said);
            assert!(error.contains(said), "{pointer}: {error}");
        }
        assert!(Post::parse(b"[]").expect_err("a list").contains("not a JSON object"));
        assert!(Post::parse(b"{").expect_err("cut").contains("not JSON"));
        assert!(Post::parse(b"{}").expect_err("empty").contains("`hostname` is missing"));
    }

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        let post = parse(|body| body["netstat"] = json!("é".repeat(TEXT_LIMIT))).expect("valid");
        assert_eq!(post.kept.texts.netstat.len(), TEXT_LIMIT);
        assert_eq!(post.kept.texts.truncated, ["netstat"]);
    }
}
