//! Trust in exactly one certificate, for systems that sign their own.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{encoding::sha256_hex, provider};

/// SHA-256 of the DER bytes of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin(String);

impl Pin {
    /// Reads `sha256:` and 64 hexadecimal digits, with or without colons
    /// between them; none where it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.replace(':', "").to_ascii_lowercase();
        (digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(Self(digits))
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// The server showed another certificate than the pinned one. Found among the
/// causes of the failed handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is {shown}, not the pinned one")]
pub struct OtherCertificate {
    /// The one that it showed.
    pub shown: Pin,
}

impl OtherCertificate {
    /// Looks for it in why a handshake failed.
    #[must_use]
    pub fn of(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
            _ => None,
        }
    }
}

/// Trusts the certificate with this digest and no other. Names, dates and
/// issuers do not count; that the server holds the certificate's key does.
///
/// # Panics
/// Never: the provider supports the default versions.
#[must_use]
pub fn pinned_config(pin: Pin) -> ClientConfig {
    config(Some(pin))
}

/// Trusts anybody: encryption against those who only listen. For targets whose
/// operator has said so in so many words.
///
/// # Panics
/// Never: the provider supports the default versions.
#[must_use]
pub fn unverified_config() -> ClientConfig {
    config(None)
}

fn config(pin: Option<Pin>) -> ClientConfig {
    let provider = provider();
    let verifier = Arc::new(Verifier { pin, provider: Arc::clone(&provider) });
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| unreachable!("the provider supports the default versions: {error}"))
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

#[derive(Debug)]
struct Verifier {
    pin: Option<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Pin(sha256_hex(end_entity));
        if self.pin.as_ref().is_none_or(|pin| *pin == shown) {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherError(Arc::new(OtherCertificate { shown }));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_openssl_prints_it() {
        let colons = format!("sha256:{}", ["AB"; 32].join(":"));
        let pin = Pin::parse(&colons).expect("a pin");
        assert_eq!(pin.to_string(), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(Pin::parse(&pin.to_string()), Some(pin));
        for wrong in ["", "sha256:", "sha1:abcd", &"ab".repeat(32), &format!("sha256:{}", "zz".repeat(32))] {
            assert_eq!(Pin::parse(wrong), None, "{wrong}");
        }
    }
}
