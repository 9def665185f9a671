//! A GET request.

use std::time::Instant;

pub(super) use farol_protocol::report::HttpProbe;
use farol_protocol::{Status, report::Limits};
use reqwest::{Client, Response, Url, redirect::Policy};
use tokio::time::timeout;

use super::{
    Prober, Probing, Seen, crossed, milliseconds,
    text::{Text, cause_words},
};

/// How much of a body is searched.
const MAX_BODY: usize = 1 << 20;

pub(super) async fn run(prober: &Prober, probing: Probing, probe: &HttpProbe) -> Seen {
    let url = match Url::parse(&probe.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => return probing.not_configured(Text::BadUrl, &[("url", &shown_text(&probe.url))]),
    };
    let target = shown(&url);
    let client = match prober.http.get_or_init(client) {
        Ok(client) => client,
        Err(why) => return probing.unknown(Text::Unreachable, &[("target", &target), ("why", why)]),
    };
    let began = Instant::now();
    match timeout(probing.limit, exchange(client, url, probe, began)).await {
        Ok(Ok(answer)) => judge(probing, probe, &target, &answer),
        Ok(Err(error)) if error.is_timeout() => no_answer(probing, &target),
        Ok(Err(error)) if error.is_dns() => {
            let why = probing.say(Text::NoName, &[]);
            probing.critical(Text::Unreachable, &[("target", &target), ("why", &why)])
        }
        Ok(Err(error)) => probing.unreachable(&target, &error),
        Err(_) => no_answer(probing, &target),
    }
}

fn no_answer(probing: Probing, target: &str) -> Seen {
    probing.critical(Text::NoAnswer, &[("target", target), ("seconds", &probing.seconds())])
}

/// One connection per request: an idle one that still works would hide a
/// listener that no longer accepts.
fn client() -> Result<Client, String> {
    farol_pki::install_default_provider();
    Client::builder()
        .user_agent(concat!("farol/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| error.to_string())
}

struct Answer {
    status: u16,
    ms: f64,
    body: Body,
}

enum Body {
    Fine,
    LacksText,
    Broke(reqwest::Error),
}

async fn exchange(client: &Client, url: Url, probe: &HttpProbe, began: Instant) -> Result<Answer, reqwest::Error> {
    let response = client.get(url).send().await?;
    let ms = milliseconds(began.elapsed());
    let status = response.status().as_u16();
    let body = match &probe.contains {
        Some(text) if expected(probe, status) => search(response, text.as_bytes()).await,
        _ => Body::Fine,
    };
    Ok(Answer { status, ms, body })
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
        return seen(Status::Critical, Text::HttpStatus, &[("expected", &expectation(probe))]);
    }
    match &answer.body {
        Body::Broke(error) => {
            seen(Status::Critical, Text::HttpBroke, &[("why", &cause_words(probing.language, error))])
        }
        Body::LacksText => {
            let text = probe.contains.as_deref().unwrap_or_default();
            seen(Status::Critical, Text::HttpLacks, &[("text", &crate::text::cut(text, 80))])
        }
        Body::Fine => match limit(&probe.limits, answer.ms) {
            (Status::Ok, _) => seen(Status::Ok, Text::HttpOk, &[]),
            (status, limit) => seen(status, Text::HttpSlow, &[("limit", &probing.number(limit))]),
        },
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
    crate::text::cut(shown.as_str(), 200)
}

/// As [`shown`], for a text that is no address.
fn shown_text(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    crate::text::cut(text, 100)
}
