//! The southbound port: TLS 1.3, then HTTP, then a WebSocket.

use std::{convert::Infallible, sync::Arc, time::Duration};

use farol_pki::PeerIdentity;
use farol_protocol::{ENROL_PATH, RENEW_PATH, SOUTHBOUND_PATH};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    admission::{Admission, Ticket},
    enrol, http, renew, session,
};
use crate::{access::Peer, app::App, store::hosts::HostKey};

/// From its turn on; a stalled handshake keeps others waiting.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// From the end of the handshake to the upgrade or the end of the request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// An answer on this port.
pub(super) type Answer = Response<Full<Bytes>>;

/// What the port needs.
#[derive(Clone)]
pub struct Southbound {
    /// Everything.
    pub app: App,
}

/// Accepts agents until `stop`, then waits for the connections to end.
pub async fn serve(south: Southbound, listener: TcpListener, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let admission = Arc::new(Admission::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) => {
                // Out of file descriptors, mostly: wait for some to come back.
                tracing::warn!("cannot accept an agent's connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = admission.place(address) else {
            tracing::debug!(peer = %address, "a connection was closed unseen: too many wait for their handshake");
            continue;
        };
        let (south, admission, tracker_of, stop) =
            (south.clone(), Arc::clone(&admission), tracker.clone(), stop.clone());
        // Boxed: the handshake's state is large and the connection is long.
        tracker.spawn(Box::pin(async move {
            let stopped = stop.clone();
            let accepted = async {
                let Some(ticket) = admission.ticket(place).await else { return };
                accept(south, stream, tracker_of, stop, &admission, ticket).await;
            };
            // What has not become a session yet has nothing to lose.
            tokio::select! {
                () = accepted => {}
                () = stopped.cancelled() => {}
            }
        }));
    }
    tracker.close();
    tracker.wait().await;
}

async fn accept(
    south: Southbound,
    stream: TcpStream,
    tracker: TaskTracker,
    stop: CancellationToken,
    admission: &Admission,
    ticket: Ticket,
) {
    let address = match stream.peer_addr() {
        Ok(address) => address,
        Err(error) => {
            tracing::debug!("a connection went before its handshake: {error}");
            return;
        }
    };
    let peer = address.to_string();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(peer, "cannot set TCP_NODELAY: {error}");
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&south.app.trust.present().tls));
    let tls = match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::info!(peer, "a TLS handshake failed: {error}");
            return;
        }
        Err(_) => {
            tracing::info!(peer, "a TLS handshake took longer than {HANDSHAKE_LIMIT:?}");
            return;
        }
    };
    drop(ticket);
    let identity = match tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        None => None,
        Some(certificate) => match PeerIdentity::from_certificate(certificate) {
            Ok(identity) => Some(identity),
            Err(error) => {
                tracing::warn!(peer, "a client certificate names no host: {error}");
                return;
            }
        },
    };
    let anonymous = if identity.is_some() {
        None
    } else {
        let permit = admission.anonymous(address.ip());
        if permit.is_none() {
            tracing::info!(
                peer,
                "a connection without certificate was closed: there are too many, of all or of its address"
            );
            return;
        }
        permit
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(address.ip()));
        if let Some(anonymous) = &anonymous {
            request.extensions_mut().insert(anonymous.clone());
        }
        let (south, identity) = (south.clone(), identity.clone());
        let (tracker, stop) = (tracker.clone(), stop.clone());
        async move { Ok::<_, Infallible>(route(south, identity, request, &tracker, stop).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades();
    match timeout(REQUEST_LIMIT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(peer, "a southbound connection ended: {error}"),
        Err(_) => tracing::info!(peer, "a southbound connection asked for nothing in {REQUEST_LIMIT:?}"),
    }
}

async fn route(
    south: Southbound,
    identity: Option<PeerIdentity>,
    request: Request<Incoming>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::POST, ENROL_PATH) => enrol::answer(&south, request).await,
        (&Method::POST, RENEW_PATH) => renew::answer(&south, request).await,
        (&Method::GET, SOUTHBOUND_PATH) => upgrade(south, identity, request, tracker, stop),
        (_, path) if http::serves(path) => http::answer(south, request, tracker, stop).await,
        (_, ENROL_PATH | RENEW_PATH | SOUTHBOUND_PATH) => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes another method")
        }
        _ => problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path of the agents' port"),
    }
}

fn upgrade(
    south: Southbound,
    identity: Option<PeerIdentity>,
    mut request: Request<Incoming>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) -> Answer {
    let Some(identity) = identity else {
        return problem(
            StatusCode::UNAUTHORIZED,
            "certificate_required",
            "a client certificate is needed here; enrol the host first",
        );
    };
    let host = match live(&south, &identity) {
        Ok(host) => host,
        Err(refusal) => return *refusal,
    };
    let is = |name: header::HeaderName, value: &str| {
        request
            .headers()
            .get(name)
            .and_then(|found| found.to_str().ok())
            .is_some_and(|found| found.split(',').any(|part| part.trim().eq_ignore_ascii_case(value)))
    };
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let (true, true, true, Some(accept)) = (
        is(header::CONNECTION, "upgrade"),
        is(header::UPGRADE, "websocket"),
        is(header::SEC_WEBSOCKET_VERSION, "13"),
        key,
    ) else {
        return problem(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "this path takes a WebSocket of version 13");
    };
    let sessions = tracker.clone();
    tracker.spawn(async move {
        match hyper::upgrade::on(&mut request).await {
            Ok(upgraded) => {
                drop(request);
                session::run(south.app, host, identity, upgraded, stop, sessions).await;
            }
            Err(error) => tracing::info!("a WebSocket upgrade failed: {error}"),
        }
    });
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    match header::HeaderValue::from_str(&accept) {
        Ok(accept) => headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept),
        Err(_) => {
            return problem(StatusCode::BAD_REQUEST, "invalid_upgrade", "the WebSocket key is not valid");
        }
    };
    answer
}

fn live(south: &Southbound, identity: &PeerIdentity) -> Result<HostKey, Box<Answer>> {
    let refuse = |code, detail: &str| {
        tracing::warn!(agent_id = identity.host_id, "a host was refused: {detail}");
        Box::new(problem(StatusCode::FORBIDDEN, code, detail))
    };
    match south.app.fleet.host_of(&identity.key_sha256) {
        Some((host, id)) if id.as_str() == identity.host_id => Ok(host),
        Some(_) => Err(refuse("wrong_identity", "the certificate and its pinned key name different hosts")),
        None => Err(refuse(
            "key_not_live",
            "the key of this certificate is not live: the host was revoked or enrolled again; enrol it with a new token",
        )),
    }
}

/// An RFC 9457 answer.
pub(super) fn problem(status: StatusCode, code: &str, detail: &str) -> Answer {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    let json = header::HeaderValue::from_static("application/problem+json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
