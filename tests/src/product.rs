//! The ground on which stand-ins for products stand: an HTTP server over a real
//! socket, with a certificate of its own, that records what it is asked and
//! breaks in the ways a test wants.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// What follows the `?`.
    pub query: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Asked {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// User and password of `Authorization: Basic`.
    #[must_use]
    pub fn basic(&self) -> Option<(String, String)> {
        let coded = self.header("authorization")?.strip_prefix("Basic ")?;
        let text = String::from_utf8(data_encoding::BASE64.decode(coded.as_bytes()).ok()?).ok()?;
        text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
    }

    /// The value of a query parameter, as it is written.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code, of any size.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Kind of the body.
    pub content_type: String,
    /// Body.
    pub body: String,
    /// Headers besides.
    pub headers: Vec<(&'static str, String)>,
}

impl Reply {
    /// JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json;charset=UTF-8", body.to_string())
    }

    /// HTML.
    #[must_use]
    pub fn html(status: u16, body: &str) -> Self {
        Self::new(status, "text/html; charset=UTF-8", body.to_owned())
    }

    /// Of any kind.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: String) -> Self {
        Self { status, reason: "Status".to_owned(), content_type: content_type.to_owned(), body, headers: Vec::new() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with a reason phrase.
    #[must_use]
    pub fn because(self, reason: &str) -> Self {
        Self { reason: reason.to_owned(), ..self }
    }
}

/// How an answer breaks.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another answer.
    Reply(Reply),
    /// Nothing ever.
    Silent,
    /// Late.
    Delay(Duration),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The right body under a wrong name.
    ContentType(&'static str),
    /// In pieces of so many bytes.
    Pieces(usize),
}

type Answer = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// The server.
#[derive(Clone)]
pub struct Product {
    address: SocketAddr,
    scheme: &'static str,
    inner: Arc<Inner>,
    accepting: AbortHandle,
}

struct Inner {
    answer: Answer,
    tls: Mutex<Option<(TlsAcceptor, String)>>,
    asked: Mutex<Vec<Asked>>,
    faults: Mutex<Vec<(String, Fault)>>,
}

impl Product {
    /// Listens on a free port of loopback, with TLS and a certificate that it
    /// signs itself.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::listen(Some(certificate()?), Box::new(answer)).await
    }

    /// The same without TLS.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_plain(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::listen(None, Box::new(answer)).await
    }

    async fn listen(tls: Option<(TlsAcceptor, String)>, answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let inner = Arc::new(Inner { answer, tls: Mutex::new(tls), asked: Mutex::default(), faults: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&inner))).abort_handle();
        Ok(Self { address, scheme, inner, accepting })
    }

    /// Base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// SHA-256 of its present certificate, as integrations pin it; empty without TLS.
    #[must_use]
    pub fn pin(&self) -> String {
        locked(&self.inner.tls).as_ref().map_or_else(String::new, |(_, pin)| pin.clone())
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// None can be made.
    pub fn change_certificate(&self) -> Result<()> {
        *locked(&self.inner.tls) = Some(certificate()?);
        Ok(())
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.inner.asked).clone()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        locked(&self.inner.asked).clear();
    }

    /// Breaks the answers for paths that begin with `path`.
    pub fn fault(&self, path: &str, fault: Fault) {
        locked(&self.inner.faults).push((path.to_owned(), fault));
    }

    /// Breaks nothing any more.
    pub fn heal(&self) {
        locked(&self.inner.faults).clear();
    }

    /// Takes no connection any more: its port refuses.
    pub fn stop(&self) {
        self.accepting.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn certificate() -> Result<(TlsAcceptor, String)> {
    farol_pki::install_default_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let der = made.cert.der().clone();
    let pin = format!("sha256:{}", farol_pki::sha256_hex(&der));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![der], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), pin))
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let acceptor = locked(&inner.tls).as_ref().map(|(acceptor, _)| acceptor.clone());
            // Whoever hangs up, or does not believe the certificate, is done.
            let _ = match acceptor {
                None => serve(stream, &inner).await,
                Some(acceptor) => secured(acceptor, stream, &inner).await,
            };
        });
    }
}

async fn secured(acceptor: TlsAcceptor, stream: TcpStream, inner: &Inner) -> Result<()> {
    serve(acceptor.accept(stream).await?, inner).await
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, inner: &Inner) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream).await?;
    locked(&inner.asked).push(asked.clone());
    let fault = locked(&inner.faults).iter().find(|(path, _)| asked.path.starts_with(path)).map(|(_, f)| f.clone());
    let mut reply = (inner.answer)(&asked);
    let mut pieces = usize::MAX;
    let mut cut = usize::MAX;
    match fault {
        Some(Fault::Reply(other)) => reply = other,
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Delay(by)) => tokio::time::sleep(by).await,
        Some(Fault::Cut(at)) => cut = at,
        Some(Fault::ContentType(kind)) => kind.clone_into(&mut reply.content_type),
        Some(Fault::Pieces(size)) => pieces = size,
        None => {}
    }
    let Reply { status, reason, content_type, body, headers } = &reply;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let sent = &body.as_bytes()[..body.len().min(cut)];
    for piece in sent.chunks(pieces.max(1)) {
        stream.write_all(piece).await?;
        stream.flush().await?;
    }
    stream.shutdown().await?;
    Ok(())
}

async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let target = words.next().context("no path")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Ok(Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
