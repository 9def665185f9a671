//! Who a certificate belongs to: host id to URI name and back.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::Error;
use crate::encoding::{hex, sha256_hex};

/// The only name a coordinator's certificate carries.
pub const COORDINATOR_URI: &str = "spiffe://farol/coordinator";

/// What a host's certificate says about it, after TLS has verified the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The host's id.
    pub host_id: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), in hex: the pinned key.
    pub key_sha256: String,
    /// The certificate's serial number, in hex.
    pub serial: String,
    /// When the certificate begins.
    pub not_before: OffsetDateTime,
    /// When the certificate ends.
    pub not_after: OffsetDateTime,
    /// The issuing authority's key identifier, in hex; empty where the
    /// certificate names none.
    pub issuer: String,
    /// The public key itself (SubjectPublicKeyInfo, DER).
    pub public_key: Vec<u8>,
}

impl PeerIdentity {
    /// Reads the identity of a host. Whether the certificate is genuine is for
    /// the TLS handshake to say.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        let host_id = only_uri(&parsed)
            .and_then(|uri| uri.strip_prefix(HOST_URI))
            .filter(|host_id| is_host_id(host_id))
            .ok_or(Error::WrongName { expected: "spiffe://farol/host/HOST_ID" })?;
        Ok(Self {
            host_id: host_id.to_owned(),
            key_sha256: sha256_hex(parsed.public_key().raw),
            serial: hex(parsed.raw_serial()),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            issuer: issuer_id(&parsed),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }
}

/// Key identifier of the authority that signed a certificate, in hex.
pub(crate) fn issuer_id(certificate: &X509Certificate<'_>) -> String {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|key| hex(key.0)),
            _ => None,
        })
        .unwrap_or_default()
}

/// Key identifier of an authority's own key, in hex.
pub(crate) fn key_id(certificate: &X509Certificate<'_>) -> String {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(hex(key.0)),
            _ => None,
        })
        .unwrap_or_default()
}

/// Refuses a leaf that is not the coordinator's.
///
/// The key usage is asked for here as well because the chain verification lets
/// a leaf without any extended key usage pass for every purpose.
pub(crate) fn require_coordinator(certificate: &CertificateDer<'_>) -> Result<(), Error> {
    let parsed = parse(certificate)?;
    let serves = parsed.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.server_auth);
    if serves && only_uri(&parsed) == Some(COORDINATOR_URI) {
        return Ok(());
    }
    Err(Error::WrongName { expected: "spiffe://farol/coordinator with the usage serverAuth" })
}

pub(crate) fn host_uri(host_id: &str) -> Result<String, Error> {
    if is_host_id(host_id) {
        return Ok(format!("{HOST_URI}{host_id}"));
    }
    Err(Error::HostId { host_id: host_id.to_owned() })
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|source| Error::CertificateUnreadable { source: source.into() })?;
    if !rest.is_empty() {
        return Err(Error::CertificateUnreadable { source: "bytes follow the certificate".into() });
    }
    Ok(parsed)
}

/// From when to when a certificate is valid, whoever issued it.
///
/// # Errors
/// It is no certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Ok((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}

const HOST_URI: &str = "spiffe://farol/host/";

/// The rules of a SPIFFE path segment, and a length that fits a file name.
fn is_host_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok().flatten()?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Some(uri),
        _ => None,
    }
}
