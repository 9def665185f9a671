//! The API's port: bounded connections, none of which may dawdle; by TLS where
//! it has a certificate.

use std::{path::Path, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    access::Peer,
    error::{Error, Result},
};

/// Connections at once; more wait for one of them to end.
const CONNECTIONS: usize = 1024;
/// For the head of a request, and for the next one on a connection that idles.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// For the handshake of TLS.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// At a stop, for requests that have begun.
const GRACE: Duration = Duration::from_secs(20);
/// Before accepting again when the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// What speaks TLS with the chain in `cert` and the key in `key`, both PEM.
///
/// # Errors
/// A file cannot be read or used; the message names it.
pub fn tls(cert: &Path, key: &Path) -> Result<TlsAcceptor> {
    let unusable = |path: &Path, what: String| {
        Error::Config(format!(
            "{} cannot be used for FAROL_HTTP_TLS_CERT and FAROL_HTTP_TLS_KEY: {what}",
            path.display()
        ))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unusable(cert, error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| unusable(cert, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`, then lets what has begun end.
pub async fn serve(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accept = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection to the API: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Without it an event waits up to 40 ms for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("a connection to the API was gone at once: {error}");
            continue;
        }
        let inner = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(address.ip()));
            inner.call(request)
        });
        let (http, watcher, tls) = (http.clone(), graceful.watcher(), tls.clone());
        tokio::spawn(async move {
            let ended = match tls {
                None => watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await,
                Some(tls) => match timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await,
                    Ok(Err(error)) => return tracing::debug!("a connection to the API spoke no TLS: {error}"),
                    Err(_) => return tracing::debug!("a connection to the API did not get to speak TLS in time"),
                },
            };
            if let Err(error) = ended {
                tracing::debug!("a connection to the API ended: {error}");
            }
            drop(slot);
        });
    }
    drop(listener);
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running {GRACE:?} after the stop and are cut");
    }
}
