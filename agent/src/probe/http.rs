//! A GET request.

use std::time::Instant;

pub(super) use farol_protocol::report::HttpProbe;
use farol_protocol::{
    Status, Timestamp,
    report::{JsonMatch, Limits},
};
use reqwest::{Client, ClientBuilder, Response, Url, redirect::Policy, tls::TlsInfo};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Prober, Probing, Seen, crossed, milliseconds,
    text::{Text, cause_words},
    trust::{Judge, days_left, other_certificate},
};
use crate::text::cut;

/// How much of a body is searched.
const MAX_BODY: usize = 1 << 20;

pub(super) async fn run(prober: &Prober, probing: Probing, probe: &HttpProbe, now: Timestamp) -> Seen {
    let url = match Url::parse(&probe.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => return probing.not_configured(Text::BadUrl, &[("url", &shown_text(&probe.url))]),
    };
    let target = shown(&url);
    // A client for each pin would be kept for each, and costs little without
    // the system's authorities.
    let client = match &probe.pin {
        None => prober.http.get_or_init(client).clone(),
        Some(pin) => pinned(pin),
    };
    let client = match client {
        Ok(client) => client,
        Err(why) => return probing.unknown(Text::Unreachable, &[("target", &target), ("why", &why)]),
    };
    let began = Instant::now();
    match timeout(probing.limit, exchange(&client, url, probe, began, now)).await {
        Ok(Ok(answer)) => judge(probing, probe, &target, &answer),
        Ok(Err(error)) if error.is_timeout() => no_answer(probing, &target),
        Ok(Err(error)) if error.is_dns() => {
            let why = probing.say(Text::NoName, &[]);
            probing.critical(Text::Unreachable, &[("target", &target), ("why", &why)])
        }
        Ok(Err(error)) => match other_certificate(&error) {
            Some(other) => {
                let values = [("target", target.as_str()), ("fingerprint", other.fingerprint.as_str())];
                probing.critical(Text::CertificateChanged, &values)
            }
            None => probing.unreachable(&target, &error),
        },
        Err(_) => no_answer(probing, &target),
    }
}

fn no_answer(probing: Probing, target: &str) -> Seen {
    probing.critical(Text::NoAnswer, &[("target", target), ("seconds", &probing.seconds())])
}

/// One connection per request: an idle one that still works would hide a
/// listener that no longer accepts.
fn builder() -> ClientBuilder {
    farol_pki::install_default_provider();
    Client::builder()
        .user_agent(concat!("farol/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_info(true)
}

fn client() -> Result<Client, String> {
    builder().build().map_err(|error| error.to_string())
}

fn pinned(pin: &str) -> Result<Client, String> {
    let config = Judge::new(Some(pin)).and_then(|judge| judge.client_config()).map_err(|error| error.to_string())?;
    builder().tls_backend_preconfigured(config).build().map_err(|error| error.to_string())
}

struct Answer {
    status: u16,
    ms: f64,
    body: Body,
    /// What the certificate of this connection has left.
    days: Option<f64>,
}

enum Body {
    Fine,
    LacksText,
    NoJson,
    /// Where, what stands there, and what should.
    Differs(String, String, String),
    Broke(reqwest::Error),
}

async fn exchange(
    client: &Client,
    url: Url,
    probe: &HttpProbe,
    began: Instant,
    now: Timestamp,
) -> Result<Answer, reqwest::Error> {
    let response = client.get(url).send().await?;
    let ms = milliseconds(began.elapsed());
    let status = response.status().as_u16();
    let certificate = response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
    let days = certificate.and_then(|certificate| days_left(certificate, now));
    let body = match &probe.contains {
        _ if !expected(probe, status) => Body::Fine,
        text if !probe.json.is_empty() => document(response, text.as_deref().unwrap_or_default(), &probe.json).await,
        Some(text) => search(response, text.as_bytes()).await,
        None => Body::Fine,
    };
    Ok(Answer { status, ms, body, days })
}

/// Reads the whole body, which must be a document of at most [`MAX_BODY`].
async fn document(mut response: Response, text: &str, wanted: &[JsonMatch]) -> Body {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Body::NoJson,
            Ok(None) => break,
            Err(error) => return Body::Broke(error),
        }
    }
    let Ok(found) = serde_json::from_slice::<Value>(&body) else { return Body::NoJson };
    if !text.is_empty() && !body.windows(text.len()).any(|window| window == text.as_bytes()) {
        return Body::LacksText;
    }
    match wanted.iter().find(|wanted| !found.pointer(&wanted.at).is_some_and(|value| same(value, &wanted.is))) {
        None => Body::Fine,
        Some(wanted) => {
            let instead = match found.pointer(&wanted.at) {
                None => "—".to_owned(),
                Some(Value::Array(_)) => "[…]".to_owned(),
                Some(Value::Object(_)) => "{…}".to_owned(),
                Some(value) => cut(&value.to_string(), 80),
            };
            Body::Differs(wanted.at.clone(), instead, cut(&wanted.is.to_string(), 80))
        }
    }
}

/// Numbers are the same by their value, however they are written.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => found == wanted || found.as_f64() == wanted.as_f64(),
        _ => found == wanted,
    }
}

async fn search(mut response: Response, text: &[u8]) -> Body {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                // The text may begin in what came before.
                let from = body.len().saturating_sub(text.len());
                body.extend_from_slice(&chunk);
                body.truncate(MAX_BODY);
                if text.is_empty() || body[from.min(body.len())..].windows(text.len()).any(|window| window == text) {
                    return Body::Fine;
                }
                if body.len() == MAX_BODY {
                    return Body::LacksText;
                }
            }
            Ok(None) => return if text.is_empty() { Body::Fine } else { Body::LacksText },
            Err(error) => return Body::Broke(error),
        }
    }
}

fn judge(probing: Probing, probe: &HttpProbe, target: &str, answer: &Answer) -> Seen {
    let (status, ms) = (answer.status.to_string(), probing.number(answer.ms));
    let base = [("url", target), ("status", status.as_str()), ("ms", ms.as_str())];
    let seen = |status, text, more: &[(&str, &str)]| Seen {
        status,
        value: Some(answer.ms),
        unit: Some("ms".to_owned()),
        text: probing.say(text, &[&base, more].concat()),
        cause: None,
    };
    if !expected(probe, answer.status) {
        let text = if matches!(answer.status, 401 | 403 | 407) { Text::HttpDenied } else { Text::HttpStatus };
        return seen(Status::Critical, text, &[("expected", &expectation(probe))]);
    }
    match &answer.body {
        Body::Broke(error) => {
            seen(Status::Critical, Text::HttpBroke, &[("why", &cause_words(probing.language, error))])
        }
        Body::NoJson => seen(Status::Critical, Text::HttpNoJson, &[]),
        Body::Differs(at, instead, wanted) => {
            seen(Status::Critical, Text::HttpDiffers, &[("at", at), ("is", instead), ("expected", wanted)])
        }
        Body::LacksText => {
            let text = probe.contains.as_deref().unwrap_or_default();
            seen(Status::Critical, Text::HttpLacks, &[("text", &cut(text, 80))])
        }
        Body::Fine => {
            let (by_certificate, days) = certificate(probe, answer.days);
            let days = days.map(|days| probing.number(days)).unwrap_or_default();
            match (limit(&probe.limits, answer.ms), by_certificate) {
                ((by_time, _), Status::Unknown) if by_time != Status::Critical => {
                    seen(Status::Unknown, Text::HttpNoCertificate, &[])
                }
                ((by_time, _), status @ (Status::Warning | Status::Critical)) if by_time != Status::Critical => {
                    seen(status, Text::HttpCertificate, &[("days", &days)])
                }
                ((Status::Ok, _), _) => seen(Status::Ok, Text::HttpOk, &[]),
                ((status, limit), _) => seen(status, Text::HttpSlow, &[("limit", &probing.number(limit))]),
            }
        }
    }
}

/// What the days left say, where somebody asked.
fn certificate(probe: &HttpProbe, days: Option<f64>) -> (Status, Option<f64>) {
    match (&probe.certificate, days) {
        (None, _) => (Status::Ok, days),
        (Some(_), None) => (Status::Unknown, None),
        (Some(limits), Some(left)) => (limits.limits().judge(left), days),
    }
}

fn limit(limits: &Limits, ms: f64) -> (Status, f64) {
    (limits.judge(ms), crossed(limits, ms).unwrap_or_default())
}

fn expected(probe: &HttpProbe, status: u16) -> bool {
    if probe.expect.is_empty() { (200..=299).contains(&status) } else { probe.expect.contains(&status) }
}

fn expectation(probe: &HttpProbe) -> String {
    if probe.expect.is_empty() {
        return "200–299".to_owned();
    }
    probe.expect.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// The address without what may hold a secret: user, password, query, fragment.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for addresses without a host.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    cut(shown.as_str(), 200)
}

/// As [`shown`], for a text that is no address.
fn shown_text(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    cut(text, 100)
}
