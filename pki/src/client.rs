//! The agent's end of the southbound connection.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;

use crate::encoding::{certificate_pem, certificates, fingerprint, parse_fingerprint};
use crate::error::Cause;
use crate::identity::require_coordinator;
use crate::{Error, identity, provider};

/// An enrolled host: trusts the roots in `ca_pem`, shows `cert_pem`.
pub fn client_config(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Arc<ClientConfig>, Error> {
    client_config_since(ca_pem, cert_pem, key_pem, None)
}

/// [`client_config`] for a host that knows the coordinator's clock better than
/// its own.
pub fn client_config_since(
    ca_pem: &str,
    cert_pem: &str,
    key_pem: &str,
    clock: Option<KnownClock>,
) -> Result<Arc<ClientConfig>, Error> {
    let chain = certificates("cert.pem", cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|source| Error::BadPem { what: "key.pem", source: source.into() })?;
    let config = trusting(Trust::Roots(roots(ca_pem)?), clock.unwrap_or_default())?
        .with_client_auth_cert(chain, key)
        .map_err(|source| failed(source.into()))?;
    Ok(finished(config))
}

/// An enrolled host whose certificate is refused: trusts the roots in `ca_pem`
/// and shows nothing.
pub fn renewal_config(ca_pem: &str, clock: Option<KnownClock>) -> Result<Arc<ClientConfig>, Error> {
    Ok(finished(trusting(Trust::Roots(roots(ca_pem)?), clock.unwrap_or_default())?.with_no_client_auth()))
}

/// What a host learned of the coordinator's clock while they were connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownClock {
    /// The coordinator's clock minus the host's, in seconds.
    pub offset_seconds: i64,
    /// A time that has certainly passed, in seconds since 1970.
    pub passed: i64,
}

impl KnownClock {
    /// The time by which certificates are verified when the host's clock says
    /// `now`, in seconds since 1970.
    #[must_use]
    pub const fn corrected(&self, now: i64) -> i64 {
        let corrected = now.saturating_add(self.offset_seconds);
        if corrected > self.passed { corrected } else { self.passed }
    }
}

/// `now`, or the begin of the youngest certificate of a chain if that is later:
/// a certificate that exists has begun, so it is the clock that is behind.
pub(crate) fn verification_time(chain: &[CertificateDer<'_>], now: OffsetDateTime) -> UnixTime {
    let begins = chain
        .iter()
        .filter_map(|certificate| identity::parse(certificate).ok())
        .map(|parsed| parsed.validity().not_before.timestamp());
    let seconds = begins.fold(now.unix_timestamp(), i64::max);
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn roots(ca_pem: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for root in certificates("ca.pem", ca_pem)? {
        roots.add(root).map_err(|source| failed(source.into()))?;
    }
    Ok(roots)
}

/// A host that enrols: shows nothing, and trusts the one root among the
/// certificates presented whose fingerprint is `ca_fingerprint`.
///
/// After a handshake the [`PinnedRoot`] holds that root.
pub fn enrol_config(ca_fingerprint: &str) -> Result<(Arc<ClientConfig>, PinnedRoot), Error> {
    let pinned = PinnedRoot { fingerprint: parse_fingerprint(ca_fingerprint)?, root: Arc::default() };
    let config = trusting(Trust::Pinned(pinned.clone()), KnownClock::default())?.with_no_client_auth();
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

fn trusting(trust: Trust, clock: KnownClock) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let provider = provider();
    let verifier = CoordinatorVerifier { trust, clock, algorithms: provider.signature_verification_algorithms };
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
    clock: KnownClock,
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
        let now = self.clock.corrected(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        // The roots that are sent along belong to no chain.
        let sent: Vec<_> = [end_entity].into_iter().chain(intermediates.first()).cloned().collect();
        let now = verification_time(&sent, now);
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
