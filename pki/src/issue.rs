//! The shapes of the certificates: root, cross, issuing, coordinator, host.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::encoding::{random, sha256_hex};
use crate::identity::{COORDINATOR_URI, PeerIdentity, host_uri};
use crate::{Authority, Error, csr};

/// A certificate issued to a host, and what the coordinator stores about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// The host's leaf followed by the issuing certificate.
    pub cert_pem: String,
    /// The leaf's serial number, in hex.
    pub serial: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), in hex: the pinned key.
    pub key_sha256: String,
    /// When the leaf ends.
    pub not_after: OffsetDateTime,
    /// The issuing authority's key identifier, in hex.
    pub issuer: String,
}

impl Authority {
    /// Issues a host certificate of 30 days, valid from a day ago so that a
    /// host whose clock is behind can use it at once.
    pub fn issue_host(&self, csr_pem: &str, host_id: &str, now: OffsetDateTime) -> Result<HostCertificate, Error> {
        self.issue_host_with(csr_pem, host_id, now - BACKDATE, now + HOST_LIFE)
    }

    /// The general form of [`Authority::issue_host`], with any validity.
    ///
    /// Of the request only the key is used, once its signature proves that the
    /// sender holds it.
    pub fn issue_host_with(
        &self,
        csr_pem: &str,
        host_id: &str,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<HostCertificate, Error> {
        self.certify(&csr::proven_key(csr_pem)?, host_id, not_before, not_after)
    }

    /// Issues the next certificate of a host for the key it has, as
    /// [`Authority::issue_host`] does for a request. The caller knows that the
    /// host holds the key: a handshake proved it.
    ///
    /// `public_key` is a SubjectPublicKeyInfo in DER.
    pub fn issue_for_key(
        &self,
        public_key: &[u8],
        host_id: &str,
        now: OffsetDateTime,
    ) -> Result<HostCertificate, Error> {
        let key = SubjectPublicKeyInfo::from_der(public_key).map_err(|_| Error::CsrKey)?;
        self.certify(&key, host_id, now - BACKDATE, now + HOST_LIFE)
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        host_id: &str,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<HostCertificate, Error> {
        let uri = host_uri(host_id)?;
        let leaf = Profile { what: "a host certificate", not_before, not_after }.leaf(
            &uri,
            ExtendedKeyUsagePurpose::ClientAuth,
            key,
            self.issuer(),
        )?;
        // Read back, so that what is stored is what a handshake will show.
        let identity = PeerIdentity::from_certificate(leaf.der())?;
        Ok(HostCertificate {
            cert_pem: leaf.pem() + self.issuing_pem(),
            serial: identity.serial,
            key_sha256: identity.key_sha256,
            not_after: identity.not_after,
            issuer: identity.issuer,
        })
    }
}

pub(crate) fn root(key: &KeyPair, now: OffsetDateTime) -> Result<Certificate, Error> {
    let profile = Profile::starting("a root certificate", now, ROOT_LIFE);
    profile.authority(ROOT_NAME, None, key)?.self_signed(key).map_err(profile.failed())
}

/// A root's key certified by the root before it, under the same name: whoever
/// trusts the old root can verify the new one.
pub(crate) fn cross(
    key: &KeyPair,
    old_root: &Issuer<'_, impl SigningKey>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<Certificate, Error> {
    let profile = Profile { what: "a cross certificate", not_before, not_after };
    profile.authority(ROOT_NAME, None, key)?.signed_by(key, old_root).map_err(profile.failed())
}

pub(crate) fn issuing(
    key: &KeyPair,
    root: &Issuer<'_, impl SigningKey>,
    now: OffsetDateTime,
) -> Result<Certificate, Error> {
    let profile = Profile::starting("an issuing certificate", now, ISSUING_LIFE);
    profile.authority("Farol issuing", Some(0), key)?.signed_by(key, root).map_err(profile.failed())
}

pub(crate) fn coordinator(
    key: &KeyPair,
    issuing: &Issuer<'_, impl SigningKey>,
    now: OffsetDateTime,
) -> Result<Certificate, Error> {
    Profile::starting("a coordinator certificate", now, SERVER_LIFE).leaf(
        COORDINATOR_URI,
        ExtendedKeyUsagePurpose::ServerAuth,
        key,
        issuing,
    )
}

/// Roots and what certifies them across share a name, so that either ends a
/// chain that the other ends.
const ROOT_NAME: &str = "Farol root";
pub(crate) const BACKDATE: Duration = Duration::hours(24);
const ROOT_LIFE: Duration = Duration::days(7305);
const ISSUING_LIFE: Duration = Duration::days(1096);
const SERVER_LIFE: Duration = Duration::days(365);
const HOST_LIFE: Duration = Duration::days(30);

/// What all certificates share.
struct Profile {
    what: &'static str,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Profile {
    fn starting(what: &'static str, now: OffsetDateTime, life: Duration) -> Self {
        Self { what, not_before: now - BACKDATE, not_after: now + life }
    }

    fn leaf(
        &self,
        uri: &str,
        usage: ExtendedKeyUsagePurpose,
        key: &impl PublicKeyData,
        issuer: &Issuer<'_, impl SigningKey>,
    ) -> Result<Certificate, Error> {
        let mut params = self.params()?;
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(self.failed())?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.signed_by(key, issuer).map_err(self.failed())
    }

    fn authority(&self, name: &str, below: Option<u8>, key: &impl PublicKeyData) -> Result<CertificateParams, Error> {
        let mut params = self.params()?;
        // The name follows the key: authorities that overlap differ in it, and
        // a renewed one keeps it, so the leaves it issued before still chain.
        let digest = sha256_hex(&key.subject_public_key_info());
        let name = format!("{name} {}", &digest[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params)
    }

    fn params(&self) -> Result<CertificateParams, Error> {
        let mut serial = random::<16>()?;
        // Positive, and never shortened by a leading zero byte.
        serial[0] = (serial[0] & 0x7f) | 0x40;
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = DistinguishedName::new();
        params.not_before = self.not_before.to_offset(UtcOffset::UTC);
        params.not_after = self.not_after.to_offset(UtcOffset::UTC);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn failed(&self) -> impl Fn(rcgen::Error) -> Error + use<> {
        let what = self.what;
        move |source| Error::Make { what, source }
    }
}
