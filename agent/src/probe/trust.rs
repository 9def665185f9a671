//! Which certificate of a service a probe trusts, and what it saw of it.
//!
//! Either the authorities that this system trusts, or exactly one certificate
//! by its SHA-256, whatever name it carries. There is no third way.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use farol_protocol::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::tls_error;

/// A certificate that is not the pinned one.
#[derive(Debug)]
pub(super) struct OtherCertificate {
    /// Its SHA-256, as a pin is written.
    pub(super) fingerprint: String,
}

impl fmt::Display for OtherCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate is not the pinned one but {}", self.fingerprint)
    }
}

impl StdError for OtherCertificate {}

/// The certificate that stood in the way, if it was not the pinned one.
pub(super) fn other_certificate<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a OtherCertificate> {
    match tls_error(error)? {
        TlsError::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.downcast_ref(),
        _ => None,
    }
}

/// `sha256:` and the digits, as a pin is written.
pub(super) fn fingerprint(certificate: &[u8]) -> String {
    format!("sha256:{}", farol_pki::sha256_hex(certificate))
}

/// Days from `now` until a certificate ends; negative once it has. None where
/// it cannot be read.
#[expect(clippy::cast_precision_loss, reason = "a time in ms, shown in days")]
pub(super) fn days_left(certificate: &[u8], now: Timestamp) -> Option<f64> {
    let (_, end) = farol_pki::validity(&CertificateDer::from(certificate)).ok()?;
    let ms = i64::try_from(end.unix_timestamp_nanos() / 1_000_000).ok()? - now.as_ms();
    Some((ms as f64 / 86_400_000.0 * 10.0).floor() / 10.0)
}

/// Verifies a server and remembers what it showed.
pub(super) struct Judge {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

enum Trust {
    Authorities(Arc<dyn ServerCertVerifier>),
    /// The digits of the only certificate.
    Pin(String),
}

impl Judge {
    /// By a pin, if there is one, else by the authorities of this system.
    pub(super) fn new(pin: Option<&str>) -> Result<Arc<Self>, TlsError> {
        let provider = farol_pki::provider();
        let trust = match pin {
            Some(pin) => Trust::Pin(pin.trim_start_matches("sha256:").replace(':', "").to_ascii_lowercase()),
            None => Trust::Authorities(Arc::new(rustls_platform_verifier::Verifier::new(Arc::clone(&provider))?)),
        };
        Ok(Arc::new(Self { provider, trust, shown: Mutex::default() }))
    }

    /// The certificate of the last handshake, also of one that failed.
    pub(super) fn shown(&self) -> Option<CertificateDer<'static>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How a client connects that asks this judge.
    pub(super) fn client_config(self: &Arc<Self>) -> Result<ClientConfig, TlsError> {
        let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(self) as _;
        Ok(ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth())
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        match &self.trust {
            Trust::Authorities(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Trust::Pin(pin) if *pin == farol_pki::sha256_hex(end_entity) => Ok(ServerCertVerified::assertion()),
            Trust::Pin(_) => {
                let other = OtherCertificate { fingerprint: fingerprint(end_entity) };
                Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        match &self.trust {
            Trust::Authorities(verifier) => verifier.root_hint_subjects(),
            Trust::Pin(_) => None,
        }
    }
}
