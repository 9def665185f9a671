//! Signatures of requests over plain HTTP, for hosts that hold no certificate.
//!
//! What is signed is six lines, each but the last ended by a line feed:
//!
//! ```text
//! farol-http-v1
//! POST
//! /ingest
//! 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
//! 1795176000000
//! 5f1d7a9c3b2e4d60
//! ```
//!
//! the method, the target as the request line has it (path and query), the
//! SHA-256 of the body in hexadecimal, the time, and a nonce. The signature is
//! HMAC-SHA-256 over it; the key is the secret's text as it was given out.

use std::fmt;

use ring::{digest, hmac};

use crate::{Timestamp, action::hex};

/// Header that names the key.
pub const KEY: &str = "farol-key";
/// Header with the sender's time: RFC 3339, or milliseconds since the epoch.
pub const TIMESTAMP: &str = "farol-timestamp";
/// Header with what makes the request one of a kind.
pub const NONCE: &str = "farol-nonce";
/// Header with the signature in 64 hexadecimal digits.
pub const SIGNATURE: &str = "farol-signature";
/// Header of every answer: the coordinator's clock, milliseconds since the epoch.
pub const TIME: &str = "farol-time";

/// How far the sender's clock may be from the verifier's, either way, in ms.
pub const MAX_SKEW_MS: i64 = 5 * 60 * 1000;
/// How long a nonce is remembered, in ms: longer than its time stays acceptable.
pub const NONCE_LIFE_MS: i64 = 2 * MAX_SKEW_MS;

const VERSION: &str = "farol-http-v1";

/// The four headers as they came, bounded and of the right form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Which key.
    pub key: String,
    /// The time as it was written: these characters are signed.
    pub timestamp: String,
    /// The nonce.
    pub nonce: String,
    /// When the sender says it is.
    pub at: Timestamp,
    signature: [u8; 32],
}

/// What of a request is signed besides the headers.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// Path and query as the request line has them.
    pub target: &'a str,
    /// The body's bytes.
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("target", &self.target).finish_non_exhaustive()
    }
}

/// Why a signed request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header is missing.
    #[error(
        "the header {0} is missing; a signed request has farol-key, farol-timestamp, farol-nonce and farol-signature"
    )]
    Missing(&'static str),
    /// A header cannot be read.
    #[error("the header {0} is not valid: {1}")]
    Malformed(&'static str, &'static str),
    /// No live key has this id.
    #[error("the key is not live here; make one with `farol host key add`, or wait a second if it is new")]
    UnknownKey,
    /// The signature is of something else, or made with another secret.
    #[error(
        "the signature does not fit the request; sign method, target, body hash, time and nonce with the key's secret"
    )]
    BadSignature,
    /// The clocks differ too much.
    #[error(
        "the clocks differ by {seconds} s and 300 are allowed; correct the clock, or send the time of the header farol-time"
    )]
    ClockSkew {
        /// Seconds by which the sender is behind; negative: ahead.
        seconds: i64,
    },
    /// The nonce was used.
    #[error("this request was taken before; sign it again with a new nonce")]
    Replayed,
}

impl Refusal {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "signature_missing",
            Self::Malformed(..) => "signature_malformed",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::ClockSkew { .. } => "clock_skew",
            Self::Replayed => "replayed",
        }
    }
}

impl Signed {
    /// Reads the headers through `header`, which answers a header by its name
    /// in lower case.
    ///
    /// # Errors
    /// One is missing or not of its form.
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Result<Self, Refusal> {
        let get = |name| header(name).map(str::trim).filter(|text| !text.is_empty()).ok_or(Refusal::Missing(name));
        let (key, timestamp, nonce, signature) = (get(KEY)?, get(TIMESTAMP)?, get(NONCE)?, get(SIGNATURE)?);
        if key.len() > 64 || !key.bytes().all(word) {
            return Err(Refusal::Malformed(KEY, "it is the id that `farol host key add` printed"));
        }
        if !(16..=64).contains(&nonce.len()) || !nonce.bytes().all(word) {
            return Err(Refusal::Malformed(NONCE, "it has 16 to 64 letters, digits, `-` and `_`"));
        }
        let at = time(timestamp)
            .ok_or(Refusal::Malformed(TIMESTAMP, "it is an RFC 3339 time or whole milliseconds since 1970"))?;
        let signature = unhex(signature).ok_or(Refusal::Malformed(SIGNATURE, "it has 64 hexadecimal digits"))?;
        Ok(Self { key: key.to_owned(), timestamp: timestamp.to_owned(), nonce: nonce.to_owned(), at, signature })
    }

    /// Whether the request was signed with `secret`, in a time that says
    /// nothing about where the signatures differ.
    ///
    /// # Errors
    /// It was not.
    pub fn verify(&self, secret: &str, request: Request<'_>) -> Result<(), Refusal> {
        let text = canonical(request, &self.timestamp, &self.nonce);
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes(), &self.signature)
            .map_err(|_| Refusal::BadSignature)
    }

    /// Whether the sender's clock is near enough to `now`.
    ///
    /// # Errors
    /// It is not.
    pub fn in_time(&self, now: Timestamp) -> Result<(), Refusal> {
        let behind = now.since(self.at);
        if behind.saturating_abs() <= MAX_SKEW_MS { Ok(()) } else { Err(Refusal::ClockSkew { seconds: behind / 1000 }) }
    }
}

/// The text that is signed.
#[must_use]
pub fn canonical(request: Request<'_>, timestamp: &str, nonce: &str) -> String {
    let body = hex(digest::digest(&digest::SHA256, request.body).as_ref());
    format!("{VERSION}\n{}\n{}\n{body}\n{timestamp}\n{nonce}", request.method, request.target)
}

/// The signature in hexadecimal.
#[must_use]
pub fn sign(secret: &str, request: Request<'_>, timestamp: &str, nonce: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, canonical(request, timestamp, nonce).as_bytes()).as_ref())
}

const fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn time(text: &str) -> Option<Timestamp> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Timestamp::from_ms);
    }
    text.parse().ok()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The worked example of docs/SPEC.md, checked with openssl.
    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const REQUEST: Request<'_> = Request { method: "POST", target: "/ingest", body: b"{}" };
    const TIME: &str = "1795176000000";
    const NONCE_: &str = "5f1d7a9c3b2e4d60";
    const EXPECTED: &str = "27004c3da5862fa79f01b14d403947275f014d7243a4f748fb8e8569d0dcee13";

    fn signed(headers: &[(&'static str, &'static str)]) -> Result<Signed, Refusal> {
        Signed::read(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    fn good() -> Vec<(&'static str, &'static str)> {
        vec![(KEY, "k1"), (TIMESTAMP, TIME), (NONCE, NONCE_), (SIGNATURE, EXPECTED)]
    }

    #[test]
    fn the_worked_example_of_the_specification_holds() {
        assert_eq!(
            canonical(REQUEST, TIME, NONCE_),
            "farol-http-v1\nPOST\n/ingest\n44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n\
             1795176000000\n5f1d7a9c3b2e4d60"
        );
        assert_eq!(sign(SECRET, REQUEST, TIME, NONCE_), EXPECTED);
        assert_eq!(signed(&good()).expect("read").verify(SECRET, REQUEST), Ok(()));
    }

    #[test]
    fn a_change_of_anything_that_is_signed_is_noticed() {
        let good = signed(&good()).expect("read");
        for other in [
            Request { method: "GET", ..REQUEST },
            Request { target: "/ingest?x=1", ..REQUEST },
            Request { body: b"{ }", ..REQUEST },
        ] {
            assert_eq!(good.verify(SECRET, other), Err(Refusal::BadSignature), "{other:?}");
        }
        let later = Signed { timestamp: "1795176000001".to_owned(), ..good.clone() };
        let again = Signed { nonce: "5f1d7a9c3b2e4d61".to_owned(), ..good.clone() };
        for changed in [later, again] {
            assert_eq!(changed.verify(SECRET, REQUEST), Err(Refusal::BadSignature));
        }
        assert_eq!(good.verify("another secret", REQUEST), Err(Refusal::BadSignature));
    }

    #[test]
    fn a_header_that_is_missing_or_of_another_form_is_named() {
        for name in [KEY, TIMESTAMP, NONCE, SIGNATURE] {
            let mut headers = good();
            headers.retain(|(known, _)| *known != name);
            assert_eq!(signed(&headers), Err(Refusal::Missing(name)));
        }
        for (name, bad) in [
            (KEY, "a b"),
            (TIMESTAMP, "soon"),
            (TIMESTAMP, "99999999999999999999999"),
            (NONCE, "short"),
            (NONCE, "0123456789 123456"),
            (SIGNATURE, "abcd"),
            (SIGNATURE, "éééééééééééééééééééééééééééééééé"),
        ] {
            let mut headers = good();
            headers.retain(|(known, _)| *known != name);
            headers.push((name, bad));
            assert!(matches!(signed(&headers), Err(Refusal::Malformed(which, _)) if which == name), "{name}: {bad}");
        }
    }

    #[test]
    fn a_clock_may_be_five_minutes_off_either_way_and_no_more() {
        let good = signed(&good()).expect("read");
        for (off, taken) in [(0, true), (300_000, true), (-300_000, true), (300_001, false), (-300_001, false)] {
            assert_eq!(good.in_time(good.at.plus_ms(off)).is_ok(), taken, "{off}");
        }
        assert_eq!(good.in_time(good.at.plus_ms(600_000)), Err(Refusal::ClockSkew { seconds: 600 }));
        let written = signed(&[(TIMESTAMP, "2026-11-20T09:00:00-03:00"), good_(0), good_(2), good_(3)]).expect("read");
        assert_eq!(written.at, "2026-11-20T12:00:00Z".parse().expect("valid"));
    }

    fn good_(at: usize) -> (&'static str, &'static str) {
        good()[at]
    }
}
