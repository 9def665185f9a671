//! The coordinator's end of the southbound connection.

use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::error::Cause;
use crate::{Authority, Error, provider};

/// TLS 1.3 with the coordinator's chain, verifying a client's certificate when
/// one is sent. While two roots overlap, hosts of both are let in.
///
/// No session is ever resumed: resumption would skip the check of the
/// certificate, and with it the check of the pinned key.
pub fn server_config(authority: &Authority) -> Result<Arc<ServerConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(root.clone()).map_err(|source| failed(source.into()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|source| failed(source.into()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| failed(source.into()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(authority.server_chain(), authority.server_key())
        .map_err(|source| failed(source.into()))?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn failed(source: Cause) -> Error {
    Error::Tls { side: "the coordinator", source }
}
