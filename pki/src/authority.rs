//! The private authority and the folder it lives in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{Certificate, Issuer, KeyPair, PublicKeyData};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use time::OffsetDateTime;

use crate::encoding::{certificates, fingerprint};
use crate::{Error, files, identity, issue, provider};

/// The root, the issuing authority below it and the coordinator's own leaf.
pub struct Authority {
    root: CertificateDer<'static>,
    root_pem: String,
    issuing: CertificateDer<'static>,
    issuing_pem: String,
    issuer: Issuer<'static, KeyPair>,
    server: CertificateDer<'static>,
    server_key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority in `dir`, or makes it there at the first start.
    ///
    /// A first start that crashed is completed. A root that exists is never
    /// replaced: when a file made before another is gone, this is an error that
    /// names it. The issuing and coordinator certificates are renewed, for the
    /// same keys, after two thirds of their life; a coordinator that runs for
    /// months opens its authority again now and then and rebuilds its
    /// [`server_config`](crate::server_config).
    pub fn open_or_create(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        files::private_dir(dir)?;
        let _lock = files::lock(dir)?;
        files::remove_leftovers(dir)?;
        refuse_gaps(dir)?;

        let root = Pair::open(dir, "root", |key| issue::root(key, now))?;
        let root_issuer = issuer(&root.certificate, &root.key)?;

        let issue_issuing = |key: &KeyPair| issue::issuing(key, &root_issuer, now);
        let issuing = Pair::open(dir, "issuing", issue_issuing)?.renewed(now, issue_issuing)?;
        let issuing_issuer = issuer(&issuing.certificate, issuing.key)?;

        let issue_server = |key: &KeyPair| issue::coordinator(key, &issuing_issuer, now);
        let server = Pair::open(dir, "server", issue_server)?.renewed(now, issue_server)?;

        let authority = Self {
            root: root.certificate,
            root_pem: root.pem,
            issuing: issuing.certificate,
            issuing_pem: issuing.pem,
            issuer: issuing_issuer,
            server: server.certificate,
            server_key: PrivatePkcs8KeyDer::from(server.key.serialize_der()).into(),
        };
        authority.verify_chain(now).map_err(|source| Error::BrokenChain { dir: dir.to_owned(), source })?;
        Ok(authority)
    }

    /// The root's fingerprint, `sha256:` and the SHA-256 of its DER in hex.
    pub fn root_fingerprint(&self) -> String {
        fingerprint(&self.root)
    }

    /// The root certificate, which hosts store as their `ca.pem`.
    pub fn ca_pem(&self) -> &str {
        &self.root_pem
    }

    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(crate) fn issuing_pem(&self) -> &str {
        &self.issuing_pem
    }

    /// With the root, so that an enrolling host can find the one it pins.
    pub(crate) fn server_chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.server.clone(), self.issuing.clone(), self.root.clone()]
    }

    pub(crate) fn server_key(&self) -> PrivateKeyDer<'static> {
        self.server_key.clone_key()
    }

    fn verify_chain(&self, now: OffsetDateTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(&self.server)?,
            &roots,
            std::slice::from_ref(&self.issuing),
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            provider().signature_verification_algorithms.all,
        )
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("root_fingerprint", &self.root_fingerprint()).finish_non_exhaustive()
    }
}

/// In the order they are written, so that a crash leaves a prefix.
const FILES: [&str; 6] = ["root.key", "root.pem", "issuing.key", "issuing.pem", "server.key", "server.pem"];

/// Anything but a prefix of [`FILES`] is a loss, not a crash.
fn refuse_gaps(dir: &Path) -> Result<(), Error> {
    let mut missing: Option<PathBuf> = None;
    for name in FILES {
        let path = dir.join(name);
        match (&missing, files::exists(&path)?) {
            (None, false) => missing = Some(path),
            (Some(key), true) if path.with_extension("key") == *key => {
                return Err(Error::MissingKey { key: key.clone(), certificate: path });
            }
            (Some(missing), true) => {
                return Err(Error::MissingFile { missing: missing.clone(), found: path });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A key and the certificate made for it.
struct Pair {
    path: PathBuf,
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Pair {
    /// Makes what is missing: the key first, so that a crash between the two
    /// leaves no certificate without its key.
    fn open(dir: &Path, name: &str, issue: impl FnOnce(&KeyPair) -> Result<Certificate, Error>) -> Result<Self, Error> {
        let path = dir.join(name).with_extension("pem");
        let key = open_key(&path.with_extension("key"))?;
        if !files::exists(&path)? {
            let issued = issue(&key)?;
            files::write_private(&path, issued.pem().as_bytes())?;
        }
        Self::read(path, key)
    }

    fn read(path: PathBuf, key: KeyPair) -> Result<Self, Error> {
        let pem = files::read_public(&path)?;
        let bad = |source: Error| Error::BadFile { path: path.clone(), expected: "certificate", source: source.into() };
        let certificate = certificates("the certificate", &pem).map_err(bad)?.swap_remove(0);
        let parsed = identity::parse(&certificate).map_err(bad)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::KeyMismatch { key: path.with_extension("key"), certificate: path });
        }
        Ok(Self { path, key, certificate, pem })
    }

    fn renewed(
        self,
        now: OffsetDateTime,
        issue: impl FnOnce(&KeyPair) -> Result<Certificate, Error>,
    ) -> Result<Self, Error> {
        if !self.is_due(now)? {
            return Ok(self);
        }
        let issued = issue(&self.key)?;
        files::write_private(&self.path, issued.pem().as_bytes())?;
        Self::read(self.path, self.key)
    }

    /// Also when it begins in the future: it was made by a clock that was wrong.
    fn is_due(&self, now: OffsetDateTime) -> Result<bool, Error> {
        let parsed = identity::parse(&self.certificate)?;
        let not_before = parsed.validity().not_before.to_datetime();
        let not_after = parsed.validity().not_after.to_datetime();
        Ok(now < not_before || now >= not_before + (not_after - not_before) * 2 / 3)
    }
}

fn open_key(path: &Path) -> Result<KeyPair, Error> {
    if !files::exists(path)? {
        let key = KeyPair::generate().map_err(|source| Error::Make { what: "a key", source })?;
        files::write_private(path, key.serialize_pem().as_bytes())?;
    }
    KeyPair::from_pem(&files::read_private(path)?).map_err(|source| Error::BadFile {
        path: path.to_owned(),
        expected: "PKCS#8 private key",
        source: source.into(),
    })
}

fn issuer<K: rcgen::SigningKey>(certificate: &CertificateDer<'_>, key: K) -> Result<Issuer<'static, K>, Error> {
    Issuer::from_ca_cert_der(certificate, key).map_err(|source| Error::Make { what: "an issuer", source })
}
