//! The way to the coordinator, step by step, without a hello.

use std::{net::SocketAddr, time::Duration};

use farol_protocol::{SOUTHBOUND_PATH, Timestamp};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Level, Line, Voice, text::Say};
use crate::{Error, state::Identity, tls};

const STEP_WAIT: Duration = Duration::from_secs(5);
/// Beyond this the clock is worth a warning, in seconds.
const CLOCK_WARNING: i64 = 30;
/// Beyond this hosts refuse signed orders, in seconds.
const CLOCK_PROBLEM: i64 = 300;
/// Nothing of Farol existed before: 2025-01-01.
const EARLIEST_MS: i64 = 1_735_689_600_000;
/// Of an answer, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Name, port, TLS and acceptance; the first that fails ends it. Answers the
/// coordinator's time.
pub(super) async fn coordinator(voice: Voice, identity: &Identity, lines: &mut Vec<Line>) -> Option<Timestamp> {
    let endpoint = &identity.endpoint;
    let address = endpoint.authority();
    let found = timeout(STEP_WAIT, lookup_host((endpoint.host(), endpoint.port()))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            let values = [("host", endpoint.host()), ("error", &error.to_string())];
            lines.push(voice.bad("name", Level::Problem, (Say::NameBad, Say::NameBadDo), &values));
            return None;
        }
        Err(_) => {
            let values = [("host", endpoint.host()), ("error", "5 s")];
            lines.push(voice.bad("name", Level::Problem, (Say::NameBad, Say::NameBadDo), &values));
            return None;
        }
    };
    let shown = addresses.iter().map(|found| found.ip().to_string()).collect::<Vec<_>>().join(", ");
    lines.push(voice.ok("name", Say::NameOk, &[("host", endpoint.host()), ("addresses", &shown)]));

    let error = match timeout(STEP_WAIT, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("5 s".to_owned()),
    };
    if let Some(error) = error {
        let values = [("address", address.as_str()), ("error", error.as_str())];
        lines.push(voice.bad("port", Level::Problem, (Say::PortBad, Say::PortBadDo), &values));
        return None;
    }
    lines.push(voice.ok("port", Say::PortOk, &[("address", &address)]));

    let config = match farol_pki::client_config(&identity.ca, &identity.cert, &identity.key) {
        Ok(config) => config,
        Err(error) => {
            lines.push(untrusted(voice, &Error::from(error)));
            return None;
        }
    };
    let stream = match tls::connect(endpoint, config).await {
        Ok(stream) => stream,
        Err(error) => {
            lines.push(untrusted(voice, &error));
            return None;
        }
    };
    // In TLS 1.3 the coordinator's verdict on our certificate comes with the answer.
    match timeout(STEP_WAIT, ask(&address, TokioIo::new(stream))).await {
        Ok(Ok(answer)) => {
            lines.push(voice.ok("tls", Say::TlsOk, &[]));
            lines.push(accepted(voice, &answer));
            answer.date
        }
        Ok(Err(error)) => {
            lines.push(untrusted(voice, &error));
            None
        }
        Err(_) => {
            let slow = Error::Slow { address, operation: "an answer", seconds: STEP_WAIT.as_secs() };
            lines.push(untrusted(voice, &slow));
            None
        }
    }
}

fn untrusted(voice: Voice, error: &Error) -> Line {
    let said = tls::advice(error).unwrap_or_else(|| error.sentence());
    voice.bad("tls", Level::Problem, (Say::TlsBad, Say::TlsBadDo), &[("error", &said)])
}

struct Answer {
    status: StatusCode,
    /// Stable code of a problem document.
    code: String,
    date: Option<Timestamp>,
}

/// A GET without an upgrade: answered after the live set was asked, and no
/// session begins.
async fn ask<S>(address: &str, stream: S) -> Result<Answer, Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let broken = |source| Error::Http { address: address.to_owned(), source };
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::get(SOUTHBOUND_PATH)
        .header(header::HOST, address)
        .header(header::USER_AGENT, concat!("farol-agent-doctor/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Answer(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| Error::Answer(format!("its body could not be read: {error}")))?
        .to_bytes();
    driver.abort();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Answer { status, code: problem["code"].as_str().unwrap_or_default().to_owned(), date })
}

fn http_date(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_ms(i64::try_from(since.as_millis()).ok()?))
}

fn accepted(voice: Voice, answer: &Answer) -> Line {
    let refused = |say| voice.bad("accepted", Level::Problem, (say, Say::EnrolAgain), &[]);
    match (answer.status.as_u16(), answer.code.as_str()) {
        (426, "upgrade_required") => voice.ok("accepted", Say::AcceptedOk, &[]),
        (403, "wrong_identity") => refused(Say::WrongIdentity),
        (403, "key_not_live") => refused(Say::NotLive),
        (401, "certificate_required") => refused(Say::NoCertificate),
        (status, code) => {
            let status = format!("{status} {code}");
            let said = (Say::NotCoordinator, Say::NotCoordinatorDo);
            voice.bad("accepted", Level::Problem, said, &[("status", status.trim())])
        }
    }
}

/// The host's clock beside the coordinator's, or by itself.
pub(super) fn clock(voice: Voice, theirs: Option<Timestamp>, now: Timestamp) -> Line {
    let Some(theirs) = theirs else {
        let shown = now.to_string();
        let values = [("now", shown.as_str())];
        if now.as_ms() < EARLIEST_MS {
            return voice.bad("clock", Level::Problem, (Say::ClockAbsurd, Say::ClockDo), &values);
        }
        return voice.ok("clock", Say::ClockPlausible, &values);
    };
    // The other time is cut to its second.
    let seconds = now.since(theirs) / 1000;
    let shown = seconds.to_string();
    let values = [("seconds", shown.as_str())];
    match seconds.abs() {
        off if off > CLOCK_PROBLEM => voice.bad("clock", Level::Problem, (Say::ClockOff, Say::ClockDo), &values),
        off if off > CLOCK_WARNING => voice.bad("clock", Level::Warning, (Say::ClockOff, Say::ClockDo), &values),
        _ => voice.ok("clock", Say::ClockOk, &values),
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Language;

    use super::*;

    const VOICE: Voice = Voice(Language::En);

    #[test]
    fn a_clock_is_judged_by_the_coordinators_or_else_by_itself() {
        let now = Timestamp::from_ms(1_800_000_000_000);
        let level = |off_ms| clock(VOICE, Some(now.plus_ms(off_ms)), now).level;
        assert_eq!((level(0), level(-900)), (Level::Ok, Level::Ok));
        assert_eq!((level(60_000), level(-3_600_000)), (Level::Warning, Level::Problem));
        assert_eq!(clock(VOICE, None, now).level, Level::Ok);
        assert_eq!(clock(VOICE, None, Timestamp::from_ms(0)).level, Level::Problem);
    }

    #[test]
    fn each_refusal_is_explained() {
        let line = |status: u16, code: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            accepted(VOICE, &Answer { status, code: code.to_owned(), date: None })
        };
        assert_eq!(line(426, "upgrade_required").level, Level::Ok);
        for (status, code) in [(403, "key_not_live"), (403, "wrong_identity"), (401, "certificate_required"), (200, "")]
        {
            let line = line(status, code);
            assert_eq!(line.level, Level::Problem);
            assert!(line.text.contains(code) && line.advice.is_some(), "{line:?}");
        }
    }

    #[test]
    fn an_http_date_is_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:10 GMT"), Some(Timestamp::from_ms(10_000)));
        assert_eq!(http_date("soon"), None);
    }
}
