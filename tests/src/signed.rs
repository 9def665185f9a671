//! A client of signed HTTP written by hand from docs/SPEC.md: TLS, a request
//! as text, HMAC. Nothing of Farol's own protocol crate.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use ring::{digest, hmac};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{Site, peer::Identity, process};

/// Longer than the longest poll.
const PATIENCE: Duration = Duration::from_secs(40);

/// A key as `farol host key add --json` prints it, and where it is used.
#[derive(Clone)]
pub struct Client {
    /// The key's id.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// Its bearer token.
    pub token: String,
    /// The authority's certificate.
    pub ca: String,
    /// TLS without a certificate of its own.
    pub identity: Identity,
    /// The southbound port.
    pub address: SocketAddr,
    /// Added to the client's clock, in ms.
    pub clock_off_ms: i64,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Head as it came.
    pub head: String,
    /// Body; null when there is none.
    pub body: Value,
}

impl Reply {
    /// A header by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{now:032x}{:08x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Client {
    /// Makes a key for a host of `site` and waits until it is live.
    ///
    /// # Errors
    /// It is not.
    pub async fn new(site: &Site, host: &str) -> Result<Self> {
        let made = process::json(&mut site.farol(&["host", "key", "add", host, "--json"])?).await?;
        let field = |name: &str| made[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {made}"));
        let ca = field("ca")?;
        let client = Self {
            key: field("id")?,
            secret: field("secret")?,
            token: field("token")?,
            identity: Identity::from_pem(ca.as_bytes(), None)?,
            ca,
            address: site.southbound(),
            clock_off_ms: 0,
        };
        crate::wait_until("the key to be live", PATIENCE, async || {
            let reply = client.call("GET", "/southbound/v1/orders?wait=0", "").await?;
            Ok((reply.body["code"] != "unknown_key").then_some(()))
        })
        .await?;
        Ok(client)
    }

    /// The headers that sign a request.
    #[must_use]
    pub fn headers(&self, method: &str, target: &str, body: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let time = i64::try_from(now).unwrap_or(0) + self.clock_off_ms;
        let nonce = nonce();
        let hash = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        let text = format!("farol-http-v1\n{method}\n{target}\n{hash}\n{time}\n{nonce}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
        format!(
            "Farol-Key: {}\r\nFarol-Timestamp: {time}\r\nFarol-Nonce: {nonce}\r\nFarol-Signature: {signature}\r\n",
            self.key
        )
    }

    /// A signed request.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn call(&self, method: &str, target: &str, body: &str) -> Result<Reply> {
        self.send(method, target, &self.headers(method, target, body), body).await
    }

    /// A signed POST of JSON.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn post(&self, target: &str, body: &Value) -> Result<Reply> {
        self.call("POST", target, &body.to_string()).await
    }

    /// A request with any headers, each ended by CR LF.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn send(&self, method: &str, target: &str, headers: &str, body: &str) -> Result<Reply> {
        exchange(self.identity.tls(self.address).await?, method, target, headers, body).await
    }

    /// The same to a port without TLS.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn plain(address: &str, method: &str, target: &str, headers: &str, body: &str) -> Result<Reply> {
        exchange(TcpStream::connect(address).await?, method, target, headers, body).await
    }
}

async fn exchange(
    mut stream: impl AsyncWrite + tokio::io::AsyncRead + Unpin,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Result<Reply> {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: coordinator.test\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    // A TLS stream that ends without its farewell has said all it had.
    match timeout(PATIENCE, stream.read_to_end(&mut bytes)).await? {
        Err(error) if bytes.is_empty() => return Err(error.into()),
        _ => {}
    }
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text}"))?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body)? };
    Ok(Reply { status, head: head.to_owned(), body })
}
