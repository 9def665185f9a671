//! What a host verifies before it takes a certificate and roots over a
//! connection: whoever captured the coordinator can send anything.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use crate::client::{client_config_since, verification_time};
use crate::encoding::{certificates, sha256_hex};
use crate::identity::{PeerIdentity, parse};
use crate::{Error, csr, provider};

/// What the coordinator sent, in PEM.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// Leaf and issuing certificate.
    pub cert: &'a str,
    /// Roots to trust from now on.
    pub ca: &'a str,
    /// New roots' keys, certified by older roots; may be empty.
    pub cross: &'a str,
}

/// An update that a host may take.
pub struct Accepted {
    /// TLS with the new certificate and roots.
    pub config: Arc<ClientConfig>,
    /// End of the certificate.
    pub not_after: OffsetDateTime,
    /// Identifiers of the roots, see [`root_ids`].
    pub roots: Vec<String>,
}

/// Accepts an update for the host `host_id`, which holds `key_pem` and trusts
/// the roots in `trusted_pem`.
///
/// The certificate must be for that key and that host, for clients only, and
/// chain to a root in `ca`; each root in `ca` must be trusted already, or be
/// tied by `cross` to one that is. `now` is the coordinator's clock as far as
/// the host knows it.
pub fn verify_update(
    key_pem: &str,
    host_id: &str,
    trusted_pem: &str,
    update: &Update<'_>,
    now: OffsetDateTime,
) -> Result<Accepted, Error> {
    let trusted = certificates("ca.pem", trusted_pem)?;
    let roots = certificates("the coordinator's ca", update.ca)?;
    let cross = if update.cross.trim().is_empty() {
        Vec::new()
    } else {
        certificates("the coordinator's cross certificates", update.cross)?
    };
    tied(&trusted, &roots, &cross, now)?;
    let chain = certificates("the coordinator's cert", update.cert)?;
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| refused("it holds no certificate"))?;

    let identity = PeerIdentity::from_certificate(leaf)?;
    if identity.host_id != host_id {
        return Err(refused(&format!("it names the host `{}` instead of `{host_id}`", identity.host_id)));
    }
    require_client_only(leaf)?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|source| refused(&format!("a root cannot be used ({source})")))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|source| refused(&source.to_string()))?;
    verifier
        .verify_client_cert(leaf, intermediates, verification_time(&chain, now))
        .map_err(|source| refused(&format!("it does not chain to its roots ({source})")))?;
    // Refuses a certificate for another key.
    let config = client_config_since(update.ca, update.cert, key_pem, None)
        .map_err(|_| refused("it is not for this host's key"))?;
    Ok(Accepted { config, not_after: identity.not_after, roots: roots.iter().map(|root| sha256_hex(root)).collect() })
}

/// SHA-256 of the DER of each certificate in `ca_pem`, in hex: how hosts name
/// the roots they trust.
pub fn root_ids(ca_pem: &str) -> Result<Vec<String>, Error> {
    Ok(certificates("ca.pem", ca_pem)?.iter().map(|root| sha256_hex(root)).collect())
}

/// SHA-256 of the public key in a signing request, in hex, once the request's
/// signature has proven that its sender holds the key.
pub fn proven_key_sha256(csr_pem: &str) -> Result<String, Error> {
    use rcgen::PublicKeyData as _;
    Ok(sha256_hex(&csr::proven_key(csr_pem)?.subject_public_key_info()))
}

/// Every root must be known, or certified by a known one.
fn tied(
    trusted: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    cross: &[CertificateDer<'_>],
    now: OffsetDateTime,
) -> Result<(), Error> {
    let trusted_parsed: Vec<_> = trusted.iter().map(parse).collect::<Result<_, _>>()?;
    let cross: Vec<_> = cross.iter().map(parse).collect::<Result<_, _>>()?;
    // Keys that are trusted, by what vouches for them: at first the known roots.
    let mut known: Vec<&X509Certificate<'_>> = trusted_parsed.iter().collect();
    loop {
        let new: Vec<_> = cross.iter().filter(|one| !known.contains(one) && vouched(one, &known, now)).collect();
        if new.is_empty() {
            break;
        }
        known.extend(new);
    }
    for root in roots {
        if trusted.contains(root) {
            continue;
        }
        let parsed = parse(root)?;
        let same_key = |one: &&X509Certificate<'_>| {
            one.public_key().raw == parsed.public_key().raw && one.subject().as_raw() == parsed.subject().as_raw()
        };
        if !is_root(&parsed) || parsed.verify_signature(None).is_err() || !known.iter().any(same_key) {
            return Err(refused(&format!(
                "its root sha256:{} is not one that this host trusts, and no root that it trusts vouches for it",
                sha256_hex(root)
            )));
        }
    }
    Ok(())
}

/// Whether a known key certified this one as a root, for a time that is not
/// over. An issuing authority, which may not certify another one, is none:
/// otherwise whoever holds its key could make a root of it.
fn vouched(certificate: &X509Certificate<'_>, known: &[&X509Certificate<'_>], now: OffsetDateTime) -> bool {
    is_root(certificate)
        && now <= certificate.validity().not_after.to_datetime()
        && known.iter().any(|authority| {
            certificate.issuer().as_raw() == authority.subject().as_raw()
                && certificate.verify_signature(Some(authority.public_key())).is_ok()
        })
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    let signs = certificate.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
    let basic = certificate.basic_constraints().ok().flatten().map(|basic| basic.value);
    signs && basic.is_some_and(|basic| basic.ca && basic.path_len_constraint.is_none())
}

/// Asked for here because the chain verification lets a leaf without any
/// extended key usage pass for every purpose.
fn require_client_only(leaf: &CertificateDer<'_>) -> Result<(), Error> {
    let parsed = parse(leaf)?;
    let usage = parsed.extended_key_usage().ok().flatten().map(|usage| usage.value);
    match usage {
        Some(usage) if usage.client_auth && !usage.server_auth && !usage.any => Ok(()),
        _ => Err(refused("it is not one for clients only")),
    }
}

fn refused(why: &str) -> Error {
    Error::Update { why: why.to_owned() }
}
