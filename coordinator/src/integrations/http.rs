//! HTTP towards systems whose answers cannot be relied on: own authorities and
//! pinned certificates, a cap on bodies, errors that hold no secret.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use farol_agent::probe::{cause_words, is_local};
use farol_pki::{OtherCertificate, Pin, pinned_config};
use farol_protocol::Language;
use reqwest::{Client, RequestBuilder, redirect::Policy};
use serde_json::Value;
use tokio::time::timeout;

use super::{Connection, Tls, memory::Memory};
use crate::text::{plain, say};

/// Largest answer.
const MAX_BODY: usize = 8 << 20;
/// How much of a body is kept for a person to look at.
const START: usize = 512;
/// How much of a body is searched for secrets before that.
const SEARCHED: usize = 64 << 10;
/// Shorter secrets are left alone: they stand in any text.
const LEAST: usize = 4;
/// What stands for a secret.
const DOTS: &str = "•••";

/// Clients by whom they believe; each is made once.
#[derive(Debug, Default)]
pub struct Clients {
    made: Mutex<HashMap<Tls, Client>>,
    /// What earlier questions told.
    pub(crate) memory: Memory,
}

impl Clients {
    /// The client that believes `tls`. Each request has its own connection:
    /// an idle one that still works would hide a listener that does not.
    ///
    /// # Errors
    /// The pin or the authority cannot be used.
    pub fn of(&self, tls: &Tls) -> Result<Client, Failure> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(tls) {
            return Ok(client.clone());
        }
        let client = build(tls).map_err(Failure::Unusable)?;
        made.insert(tls.clone(), client.clone());
        Ok(client)
    }
}

fn build(tls: &Tls) -> Result<Client, String> {
    farol_pki::install_default_provider();
    let builder = Client::builder()
        .user_agent(concat!("farol/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0);
    let builder = match tls {
        Tls::Verify => builder,
        Tls::Ca(pem) => builder.tls_certs_only(authorities(pem)?),
        Tls::Pin(pin) => {
            let pin = Pin::parse(pin).ok_or_else(|| "the pin is not the SHA-256 of a certificate".to_owned())?;
            builder.tls_backend_preconfigured(pinned_config(pin))
        }
        Tls::Insecure => builder.tls_danger_accept_invalid_certs(true),
    };
    builder.build().map_err(|error| error.to_string())
}

/// The certificates in `pem`.
///
/// # Errors
/// There is none, or one cannot be read.
pub(super) fn authorities(pem: &str) -> Result<Vec<reqwest::Certificate>, String> {
    let found = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}

/// An answer, whatever it says.
#[derive(Debug)]
pub struct Answer {
    /// Status code; some systems use ones beyond 599.
    pub status: u16,
    /// The reason beside it, where the server gave one of its own.
    pub reason: Option<String>,
    /// Kind of the body.
    pub content_type: String,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body, at most 8 MiB.
    pub body: Vec<u8>,
    /// From the request to the end of the body.
    pub ms: f64,
}

impl Answer {
    /// Whether the status is one of success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..=299).contains(&self.status)
    }

    /// The body as JSON, if it says that it is.
    ///
    /// # Errors
    /// It does not say so, or is not.
    pub fn json(&self) -> Result<Value, Failure> {
        let not_json = || Failure::NotJson {
            status: self.status,
            content_type: plain(&hidden(&self.content_type), 80),
            start: self.start(&[]),
        };
        if !self.content_type.to_ascii_lowercase().contains("json") {
            return Err(not_json());
        }
        serde_json::from_slice(&self.body).map_err(|_| not_json())
    }

    /// The beginning of the body, for a person, without the secrets named.
    #[must_use]
    pub fn start(&self, secrets: &[&str]) -> String {
        // Cut after the secrets are out: a part of one is no secret that could be found.
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(SEARCHED)]);
        plain(&redacted(&hidden(&start), secrets), START)
    }
}

tokio::task_local! {
    /// What no text of the present look may hold.
    static HIDDEN: Vec<String>;
}

/// Does `work`, in which [`hidden`] knows the secrets of a connection.
pub async fn hiding<F: Future>(connection: Option<&Connection>, work: F) -> F::Output {
    HIDDEN.scope(connection.map(forms).unwrap_or_default(), work).await
}

/// `text` without the secrets of the system that is being asked. To be called
/// before a text is cut: what is left of a secret would not be found any more.
#[must_use]
pub fn hidden(text: &str) -> String {
    let redacted = HIDDEN.try_with(|secrets| {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        redacted(text, &secrets)
    });
    // Where nobody hides anything, no secret was sent.
    redacted.unwrap_or_else(|_| text.to_owned())
}

/// The secret of a connection as requests hold it: as it is, and in the
/// base64 of `Authorization: Basic`.
#[must_use]
pub fn forms(connection: &Connection) -> Vec<String> {
    let secret = connection.secret();
    if secret.is_empty() {
        return Vec::new();
    }
    let mut forms = vec![secret.to_owned()];
    for text in [format!("{}:{secret}", connection.user()), format!(":{secret}"), secret.to_owned()] {
        forms.push(BASE64_NOPAD.encode(text.as_bytes()));
        forms.push(BASE64URL_NOPAD.encode(text.as_bytes()));
    }
    forms
}

/// `text` without the secrets, also where they are escaped as in addresses
/// (`%2F`) or in JSON (`\\/`).
#[must_use]
pub fn redacted(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= LEAST) {
        text = text.replace(secret, DOTS);
        if text.contains(['%', '\\', '+']) {
            text = without_escaped(&text, secret.as_bytes());
        }
    }
    text
}

fn without_escaped(text: &str, secret: &[u8]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found = escaped(rest.as_bytes(), secret).and_then(|length| rest.get(length..));
        match found {
            Some(after) => {
                clean.push_str(DOTS);
                rest = after;
            }
            None => {
                clean.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    clean
}

/// How long the secret is at the beginning of `text`, each of its bytes
/// escaped or not; none where it does not stand there.
fn escaped(text: &[u8], secret: &[u8]) -> Option<usize> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = text;
    for byte in secret {
        rest = match rest {
            [b'%', high, low, rest @ ..]
                if digit(*high).zip(digit(*low)) == Some((u32::from(byte >> 4), u32::from(byte & 15))) =>
            {
                rest
            }
            [same, rest @ ..] if same == byte => rest,
            [b'\\', same, rest @ ..] if same == byte => rest,
            [b'+', rest @ ..] if *byte == b' ' => rest,
            _ => return None,
        };
    }
    Some(text.len() - rest.len())
}

/// Why there is no answer to be read.
#[derive(Debug)]
pub enum Failure {
    /// What is configured cannot be used.
    Unusable(String),
    /// Nothing came in time.
    Timeout,
    /// The target takes no connection, or ends it.
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// This machine found no way to it: nothing is known of the target.
    NoWay(Box<dyn std::error::Error + Send + Sync>),
    /// The server showed a certificate that is not believed.
    Tls(Box<dyn std::error::Error + Send + Sync>),
    /// It showed another certificate than the pinned one.
    OtherCertificate(OtherCertificate),
    /// What came is no answer of the protocol, or breaks off.
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// The body is longer than 8 MiB.
    TooLong,
    /// The answer is not JSON, as a proxy's error page.
    NotJson {
        /// Status code.
        status: u16,
        /// What it says to be.
        content_type: String,
        /// How it begins.
        start: String,
    },
}

impl Failure {
    /// Whether the target itself is at fault, rather than unknown.
    #[must_use]
    pub const fn is_targets(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// In the operator's words. `limit` is how long was waited.
    #[must_use]
    pub fn words(&self, language: Language, limit: Duration) -> String {
        match self {
            Self::Unusable(why) => {
                say!(language, "a configuração não pode ser usada: {why}", "the configuration cannot be used: {why}")
            }
            Self::Timeout => {
                let seconds = crate::text::number(limit.as_secs_f64(), language);
                say!(language, "não respondeu em {seconds} s", "did not answer within {seconds} s")
            }
            Self::Refused(error) | Self::NoWay(error) | Self::Tls(error) => {
                let why = cause_words(language, error.as_ref());
                say!(language, "não pôde ser alcançado: {why}", "could not be reached: {why}")
            }
            Self::Broken(error) => {
                let why = cause_words(language, error.as_ref());
                say!(
                    language,
                    "deu uma resposta que não pode ser lida: {why}",
                    "gave an answer that cannot be read: {why}"
                )
            }
            Self::OtherCertificate(OtherCertificate { shown }) => say!(
                language,
                "mostrou outro certificado ({shown}) e não o fixado; se a troca é legítima, atualize o `pin`",
                "showed another certificate ({shown}) than the pinned one; if that is meant to be, update the `pin`"
            ),
            Self::TooLong => say!(
                language,
                "a resposta passa de 8 MiB e não foi lida",
                "the answer is longer than 8 MiB and was not read"
            ),
            Self::NotJson { status, content_type, start } => say!(
                language,
                "respondeu {status} com `{content_type}` em vez de JSON: {start}",
                "answered {status} with `{content_type}` instead of JSON: {start}"
            ),
        }
    }
}

/// Sends a request and reads the whole answer within `limit`.
///
/// # Errors
/// There is none that can be read.
pub async fn exchange(request: RequestBuilder, limit: Duration) -> Result<Answer, Failure> {
    timeout(limit, read(request)).await.unwrap_or(Err(Failure::Timeout))
}

async fn read(request: RequestBuilder) -> Result<Answer, Failure> {
    let began = Instant::now();
    let mut response = request.send().await.map_err(failure)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cut(failure(error)))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
    Ok(Answer {
        status: response.status().as_u16(),
        reason: reason.map(|reason| plain(&hidden(&String::from_utf8_lossy(reason.as_bytes())), 200)),
        content_type: response
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
        headers: response.headers().clone(),
        body,
        ms: (began.elapsed().as_secs_f64() * 1000.0).round(),
    })
}

/// The address may hold a secret, so the error goes on without it.
fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if error.is_timeout() {
        return Failure::Timeout;
    }
    if let Some(tls) = farol_agent::probe::tls_error(&error) {
        if let Some(other) = OtherCertificate::of(tls) {
            return Failure::OtherCertificate(other.clone());
        }
        return Failure::Tls(Box::new(error));
    }
    if error.is_builder() {
        return Failure::Unusable(error.to_string());
    }
    if is_local(&error) || farol_agent::probe::is_no_way(&error) || error.is_dns() {
        return Failure::NoWay(Box::new(error));
    }
    if error.is_connect() || is_reset(&error) {
        Failure::Refused(Box::new(error))
    } else {
        Failure::Broken(Box::new(error))
    }
}

/// An answer had begun: whoever ends it takes connections.
fn cut(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(error) => Failure::Broken(error),
        other => other,
    }
}

fn is_reset(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind as Kind;

    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|io| {
        matches!(
            io.kind(),
            Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
        )
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn answered(bytes: &'static [u8]) -> Failure {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(bytes).await.expect("answered");
        });
        let client = Clients::default().of(&Tls::Verify).expect("a client");
        let failure = exchange(client.get(url), Duration::from_secs(5)).await.expect_err("no answer");
        server.await.expect("ended");
        failure
    }

    #[tokio::test]
    async fn only_a_connection_that_is_not_taken_is_the_targets_and_a_broken_answer_is_unknown() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            b"",
        ] {
            let failure = answered(bytes).await;
            assert!(matches!(failure, Failure::Broken(_)), "{failure:?}");
            assert!(!failure.is_targets());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        drop(listener);
        let client = Clients::default().of(&Tls::Verify).expect("a client");
        let refused = exchange(client.get(url), Duration::from_secs(5)).await.expect_err("refused");
        assert!(matches!(refused, Failure::Refused(_)), "{refused:?}");
    }

    #[test]
    fn a_secret_is_found_in_all_its_spellings_and_before_a_text_is_cut() {
        let secret = "pa/ss wörd\"9";
        for text in
            ["a pa/ss wörd\"9 b", "a pa%2Fss%20w%C3%B6rd%229 b", "a pa%2fss+w%c3%b6rd%229 b", "a pa\\/ss wörd\\\"9 b"]
        {
            assert_eq!(redacted(text, &[secret]), "a ••• b", "{text}");
        }
        assert_eq!(redacted("50% of a+b \\ é", &[secret]), "50% of a+b \\ é");
        let body = format!("{}{secret} and more", "x".repeat(START - 6));
        let answer = Answer {
            status: 500,
            reason: None,
            content_type: "text/plain".to_owned(),
            headers: reqwest::header::HeaderMap::new(),
            body: body.into_bytes(),
            ms: 1.0,
        };
        let start = answer.start(&[secret]);
        assert!(!start.contains("pa/") && start.contains('•'), "{start}");
    }
}
