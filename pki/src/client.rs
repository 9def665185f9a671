//! The agent's end of the southbound connection.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::encoding::{certificate_pem, certificates, fingerprint, parse_fingerprint};
use crate::error::Cause;
use crate::identity::require_coordinator;
use crate::{Error, provider};

/// An enrolled host: trusts the roots in `ca_pem`, shows `cert_pem`.
pub fn client_config(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for root in certificates("ca.pem", ca_pem)? {
        roots.add(root).map_err(|source| failed(source.into()))?;
    }
    let chain = certificates("cert.pem", cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|source| Error::BadPem { what: "key.pem", source: source.into() })?;
    let config =
        trusting(Trust::Roots(roots))?.with_client_auth_cert(chain, key).map_err(|source| failed(source.into()))?;
    Ok(finished(config))
}

/// A host that enrols: shows nothing, and trusts the one root among the
/// certificates presented whose fingerprint is `ca_fingerprint`.
///
/// After a handshake the [`PinnedRoot`] holds that root.
pub fn enrol_config(ca_fingerprint: &str) -> Result<(Arc<ClientConfig>, PinnedRoot), Error> {
    let pinned = PinnedRoot { fingerprint: parse_fingerprint(ca_fingerprint)?, root: Arc::default() };
    let config = trusting(Trust::Pinned(pinned.clone()))?.with_no_client_auth();
    Ok((finished(config), pinned))
}

/// The root that a handshake of [`enrol_config`] verified.
#[derive(Debug, Clone)]
pub struct PinnedRoot {
    fingerprint: String,
    root: Arc<OnceLock<CertificateDer<'static>>>,
}

impl PinnedRoot {
    /// The root in PEM; none before a handshake has verified it.
    pub fn pem(&self) -> Option<String> {
        self.root.get().map(certificate_pem)
    }

    /// Refuses a `ca.pem` that lacks the pinned root.
    pub fn confirm(&self, ca_pem: &str) -> Result<(), Error> {
        let root = self.root.get().ok_or(Error::NoRootYet)?;
        if certificates("the coordinator's ca.pem", ca_pem)?.contains(root) {
            return Ok(());
        }
        Err(Error::ForeignRoot { expected: self.fingerprint.clone() })
    }

    fn find(&self, presented: &[CertificateDer<'_>]) -> Result<CertificateDer<'static>, rustls::Error> {
        let found = presented.iter().find(|certificate| fingerprint(certificate) == self.fingerprint);
        if let Some(root) = found {
            return Ok(root.clone().into_owned());
        }
        let names: Vec<_> = presented.iter().take(NAMED).map(fingerprint).collect();
        Err(rustls::Error::General(format!(
            "the coordinator did not present the authority {}, it presented {}; \
             check the address and the fingerprint",
            self.fingerprint,
            if names.is_empty() { "none".to_owned() } else { names.join(", ") },
        )))
    }
}

/// How many presented authorities an error names.
const NAMED: usize = 4;

fn trusting(trust: Trust) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let provider = provider();
    let verifier = CoordinatorVerifier { trust, algorithms: provider.signature_verification_algorithms };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| failed(source.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn failed(source: Cause) -> Error {
    Error::Tls { side: "the agent", source }
}

#[derive(Debug)]
enum Trust {
    Roots(RootCertStore),
    Pinned(PinnedRoot),
}

/// Accepts a coordinator by its name in the private authority. The address that
/// was dialled plays no part: coordinators move, and stand behind balancers.
#[derive(Debug)]
struct CoordinatorVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl CoordinatorVerifier {
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: &RootCertStore,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        require_coordinator(leaf).map_err(|refusal| rustls::Error::General(refusal.to_string()))
    }
}

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Roots(roots) => self.verify_chain(end_entity, intermediates, roots, now)?,
            Trust::Pinned(pinned) => {
                let root = pinned.find(intermediates)?;
                let mut roots = RootCertStore::empty();
                roots.add(root.clone())?;
                self.verify_chain(end_entity, intermediates, &roots, now)?;
                // Set before only by another handshake, to the same bytes.
                let _ = pinned.root.set(root);
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
