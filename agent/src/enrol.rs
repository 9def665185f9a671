//! Enrolment: a key made here, a certificate for it, and nothing secret on the
//! way before the coordinator has proven that it is the one expected.

use std::path::Path;

use farol_pki::{PeerIdentity, client_config, csr_for, enrol_config, files, new_host_key};
use farol_protocol::{
    ENROL_PATH,
    frame::{EnrolAnswer, EnrolRequest, encode},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    Error,
    endpoint::Endpoint,
    state::{Enrolment, StateDir, write_json},
    tls::{self, CONNECT_WAIT},
};

/// Largest answer that is read.
const MAX_ANSWER: usize = 256 * 1024;

/// What is needed to enrol.
#[derive(Clone)]
pub struct Enrol {
    /// Where the coordinator listens.
    pub endpoint: Endpoint,
    /// Single-use token.
    pub token: String,
    /// SHA-256 of the root certificate, as `sha256:…`.
    pub ca_fingerprint: String,
    /// Replace an existing identity.
    pub force: bool,
}

/// Gives this host its identity.
///
/// # Errors
/// The host has one already, the coordinator is not the expected one or
/// refuses, or the files cannot be written. The same command can be repeated.
pub async fn enrol(state: &StateDir, request: &Enrol) -> Result<Enrolment, Error> {
    state.prepare()?;
    let _lock = state.lock()?;
    let replaces = state.cert().exists();
    let before = state.enrolment().ok();
    if replaces && !request.force {
        let host = before.as_ref().map_or("unknown", |old| old.host_id.as_str()).to_owned();
        return Err(Error::AlreadyEnrolled { path: state.identity_dir(), host });
    }
    // The present identity stays usable until the new one is complete.
    let key_path = if replaces { state.next_key() } else { state.key() };
    let (key, csr) = key_and_request(&key_path)?;

    let answer = exchange(request, &csr).await?;
    verify(&answer, &key)?;

    let enrolment =
        Enrolment { url: request.endpoint.to_string(), host_id: answer.host_id.clone(), name: answer.name.clone() };
    if before.is_some_and(|old| old.host_id != enrolment.host_id) {
        // Checks of another host are not this one's.
        let _ = std::fs::remove_file(state.assignment_file());
    }
    // What an earlier coordinator said of the time binds no longer.
    state.forget_clock();
    files::write_private(&state.key(), key.as_bytes())?;
    files::write_private(&state.cert(), answer.cert.as_bytes())?;
    files::write_private(&state.ca(), answer.ca.as_bytes())?;
    write_json(&state.enrolment_file(), &enrolment)?;
    if replaces {
        let _ = std::fs::remove_file(state.next_key());
    }
    give_to_owner(state)?;
    Ok(enrolment)
}

/// The key of an earlier attempt is used again: the coordinator may have
/// certified it before the answer was lost.
fn key_and_request(path: &Path) -> Result<(String, String), Error> {
    if path.exists() {
        let key = files::read_private(path)?;
        let csr = csr_for(&key)?;
        return Ok((key, csr));
    }
    let made = new_host_key()?;
    files::write_private(path, made.key_pem.as_bytes())?;
    Ok((made.key_pem, made.csr_pem))
}

async fn exchange(request: &Enrol, csr: &str) -> Result<EnrolAnswer, Error> {
    let (config, pinned) = enrol_config(&request.ca_fingerprint)?;
    let address = request.endpoint.authority();
    // The fingerprint is verified inside the handshake, before the token leaves.
    let stream = tls::connect(&request.endpoint, config).await?;
    let body = encode(&EnrolRequest { token: request.token.clone(), csr: csr.to_owned() });
    let exchange = post(&address, TokioIo::new(stream), ENROL_PATH, body);
    let (status, body) = timeout(CONNECT_WAIT, exchange).await.map_err(|_| Error::Slow {
        address: address.clone(),
        operation: "the enrolment",
        seconds: CONNECT_WAIT.as_secs(),
    })??;
    if status != StatusCode::OK && status != StatusCode::CREATED {
        return Err(refusal(status, &body));
    }
    let answer: EnrolAnswer =
        serde_json::from_slice(&body).map_err(|error| Error::Answer(format!("it is not an enrolment: {error}")))?;
    pinned.confirm(&answer.ca)?;
    Ok(answer)
}

pub(crate) async fn post<S>(address: &str, stream: S, path: &str, body: String) -> Result<(StatusCode, Bytes), Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let broken = |source| Error::Http { address: address.to_owned(), source };
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, application/problem+json")
        .header(header::USER_AGENT, concat!("farol-agent/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Error::Answer(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| Error::Answer(format!("its body could not be read: {error}")))?;
    driver.abort();
    Ok((status, body.to_bytes()))
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    title: Option<String>,
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let (code, detail) = told(status, body);
    Error::Refused { code, detail }
}

/// Code and reason of a refusal.
pub(crate) fn told(status: StatusCode, body: &[u8]) -> (String, String) {
    let problem = serde_json::from_slice(body).unwrap_or(Problem { code: None, detail: None, title: None });
    (
        problem.code.unwrap_or_else(|| format!("HTTP {}", status.as_u16())),
        problem
            .detail
            .or(problem.title)
            .unwrap_or_else(|| "it gave no reason; look at the coordinator's log".to_owned()),
    )
}

/// The certificate must be for this key and name the host it is said to.
fn verify(answer: &EnrolAnswer, key: &str) -> Result<(), Error> {
    // Refuses a certificate that does not belong to the key.
    client_config(&answer.ca, &answer.cert, key)?;
    let leaf = CertificateDer::from_pem_slice(answer.cert.as_bytes())
        .map_err(|error| Error::Answer(format!("its certificate cannot be read: {error}")))?;
    let named = PeerIdentity::from_certificate(&leaf)?.host_id;
    if named == answer.host_id.as_str() {
        return Ok(());
    }
    Err(Error::Answer(format!("the certificate names the host `{named}` instead of `{}`", answer.host_id)))
}

/// When root enrols a host whose agent runs as another user, that user owns
/// the state folder and must be able to read its identity.
#[cfg(unix)]
fn give_to_owner(state: &StateDir) -> Result<(), Error> {
    use std::os::unix::fs::{MetadataExt as _, chown};

    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { operation: "change the owner of", path, source }
    };
    let folder = std::fs::metadata(state.root()).map_err(io_error(state.root()))?;
    if !rustix::process::geteuid().is_root() || folder.uid() == 0 {
        return Ok(());
    }
    let lock = state.root().join("agent.lock");
    for path in [state.identity_dir(), state.key(), state.cert(), state.ca(), state.enrolment_file(), lock] {
        chown(&path, Some(folder.uid()), Some(folder.gid())).map_err(io_error(&path))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn give_to_owner(_state: &StateDir) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests;
