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

use crate::encoding::{certificates, fingerprint, sha256_hex};
use crate::manifest::{self, Manifest};
use crate::{Error, files, identity, issue, provider};

/// The roots, the issuing authority below the newest one and the coordinator's
/// own leaf.
pub struct Authority {
    /// Trusted, newest first.
    roots: Vec<Stored>,
    /// Tie a root to the one before it, newest first.
    cross: Vec<Stored>,
    issuing: Stored,
    issuer: Issuer<'static, KeyPair>,
    server: Stored,
    server_key: PrivateKeyDer<'static>,
}

/// A certificate of the authority's folder.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// What a certificate of the authority is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its name in the folder.
    pub name: String,
    /// `sha256:` and the SHA-256 of its DER in hex.
    pub fingerprint: String,
    /// Its key's identifier in hex: what leaves name as their issuer.
    pub key_id: String,
    /// When it begins.
    pub not_before: OffsetDateTime,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

/// The certificates of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Trusted roots, newest first; two while one replaces the other.
    pub roots: Vec<CertificateInfo>,
    /// What signs leaves.
    pub issuing: CertificateInfo,
    /// The coordinator's own leaf.
    pub server: CertificateInfo,
}

impl Authority {
    /// Opens the authority in `dir`, or makes it there at the first start.
    ///
    /// A first start that crashed is completed. A root that exists is never
    /// replaced: when a file made before another is gone, this is an error that
    /// names it. After two thirds of its life the coordinator's certificate is
    /// renewed and the issuing authority is followed by a new one, so a
    /// coordinator that runs for months opens its authority again now and then
    /// and rebuilds its [`server_config`](crate::server_config).
    pub fn open_or_create(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        files::private_dir(dir)?;
        let _lock = files::lock(dir)?;
        files::remove_leftovers(dir)?;
        Self::open_locked(dir, now)
    }

    /// See [`Authority::open_or_create`]; the caller holds the folder's lock.
    pub(crate) fn open_locked(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        let known = Manifest::read(dir)?;
        match &known {
            Some(manifest) => refuse_losses(dir, manifest)?,
            None => refuse_gaps(dir)?,
        }
        let mut manifest = known.clone().unwrap_or_else(Manifest::first);
        let root = Pair::open(dir, manifest.root(), |key| issue::root(key, now))?;
        let root_issuer = issuer(&root.certificate, &root.key)?;
        let mut issuing = Pair::open(dir, &manifest.issuing, |key| issue::issuing(key, &root_issuer, now))?;
        issuing.require_signed_by(&root, dir)?;
        if issuing.is_due(now)? {
            manifest.issuing = manifest.take_name(dir, "issuing")?;
            // Below the same root, so nobody has to learn anything.
            issuing = Pair::open(dir, &manifest.issuing, |key| issue::issuing(key, &root_issuer, now))?;
        }
        let issuing_issuer = issuer(&issuing.certificate, issuing.key)?;
        let issuing = Stored { name: manifest.issuing.clone(), der: issuing.certificate, pem: issuing.pem };

        let issue_server = |key: &KeyPair| issue::coordinator(key, &issuing_issuer, now);
        let server = Pair::open(dir, "server", issue_server)?;
        let issuing_key = identity::key_id(&identity::parse(&issuing.der)?);
        let server = if server.is_due(now)? || server.issuer()? != issuing_key {
            server.reissued(issue_server)?
        } else {
            server
        };

        let mut roots = vec![Stored { name: manifest.root().to_owned(), der: root.certificate, pem: root.pem }];
        let older = manifest.roots.iter().rev().skip(1);
        roots.extend(older.map(|name| read_stored(dir, name)).collect::<Result<Vec<_>, _>>()?);
        let mut cross =
            manifest.cross.iter().rev().map(|name| read_stored(dir, name)).collect::<Result<Vec<_>, _>>()?;
        cross.retain(|one| {
            identity::parse(&one.der).is_ok_and(|parsed| now < parsed.validity().not_after.to_datetime())
        });

        let authority = Self {
            roots,
            cross,
            issuing,
            issuer: issuing_issuer,
            server: Stored { name: "server".to_owned(), der: server.certificate, pem: server.pem },
            server_key: PrivatePkcs8KeyDer::from(server.key.serialize_der()).into(),
        };
        authority.verify_chain(now).map_err(|source| Error::BrokenChain { dir: dir.to_owned(), source })?;
        if known.as_ref() != Some(&manifest) {
            manifest.write(dir)?;
        }
        Ok(authority)
    }

    /// The newest root's fingerprint, `sha256:` and the SHA-256 of its DER in
    /// hex: what an enrolling host is told.
    pub fn root_fingerprint(&self) -> String {
        self.roots.first().map(|root| fingerprint(&root.der)).unwrap_or_default()
    }

    /// The trusted roots, newest first, which hosts store as their `ca.pem`.
    pub fn ca_pem(&self) -> String {
        self.roots.iter().map(|root| root.pem.as_str()).collect()
    }

    /// New roots' keys, certified by the roots before them; often empty.
    pub fn cross_pem(&self) -> String {
        self.cross.iter().map(|cross| cross.pem.as_str()).collect()
    }

    /// SHA-256 of the DER of each trusted root, in hex, newest first.
    pub fn root_ids(&self) -> Vec<String> {
        self.roots.iter().map(|root| sha256_hex(&root.der)).collect()
    }

    /// Key identifier of the issuing authority, in hex.
    pub fn issuer_id(&self) -> String {
        identity::parse(&self.issuing.der).map(|parsed| identity::key_id(&parsed)).unwrap_or_default()
    }

    /// What there is and how long it lasts.
    pub fn overview(&self) -> Result<Overview, Error> {
        Ok(Overview {
            roots: self.roots.iter().map(info).collect::<Result<_, _>>()?,
            issuing: info(&self.issuing)?,
            server: info(&self.server)?,
        })
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.der)
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(crate) fn issuing_pem(&self) -> &str {
        &self.issuing.pem
    }

    /// For hosts of the newest root and of the one before it; with the roots
    /// themselves, so that an enrolling host can find the one it pins.
    pub(crate) fn server_chain(&self) -> Vec<CertificateDer<'static>> {
        let certificates = [&self.server, &self.issuing].into_iter().chain(&self.cross).chain(&self.roots);
        certificates.map(|stored| stored.der.clone()).collect()
    }

    pub(crate) fn server_key(&self) -> PrivateKeyDer<'static> {
        self.server_key.clone_key()
    }

    fn verify_chain(&self, now: OffsetDateTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        for root in self.roots.iter().take(1) {
            roots.add(root.der.clone())?;
        }
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(&self.server.der)?,
            &roots,
            std::slice::from_ref(&self.issuing.der),
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            provider().signature_verification_algorithms.all,
        )
    }
}

fn info(stored: &Stored) -> Result<CertificateInfo, Error> {
    let parsed = identity::parse(&stored.der)?;
    Ok(CertificateInfo {
        name: stored.name.clone(),
        fingerprint: fingerprint(&stored.der),
        key_id: identity::key_id(&parsed),
        not_before: parsed.validity().not_before.to_datetime(),
        not_after: parsed.validity().not_after.to_datetime(),
    })
}

fn read_stored(dir: &Path, name: &str) -> Result<Stored, Error> {
    let path = dir.join(format!("{name}.pem"));
    let pem = files::read_public(&path)?;
    let der = certificates("the certificate", &pem)
        .map_err(|source| Error::BadFile { path, expected: "certificate", source: source.into() })?
        .swap_remove(0);
    Ok(Stored { name: name.to_owned(), der, pem })
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("root_fingerprint", &self.root_fingerprint()).finish_non_exhaustive()
    }
}

/// In the order they are written, so that a first start that crashed leaves a
/// prefix.
const FILES: [&str; 7] =
    ["root.key", "root.pem", "issuing.key", "issuing.pem", "server.key", "server.pem", manifest::NAME];

/// What the list names is there. The coordinator's certificate alone can be
/// made again.
fn refuse_losses(dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let key_and_pem = |name: &str| [format!("{name}.key"), format!("{name}.pem")];
    let older = manifest.roots.iter().rev().skip(1).chain(&manifest.cross).map(|name| format!("{name}.pem"));
    let needed = key_and_pem(manifest.root()).into_iter().chain(key_and_pem(&manifest.issuing));
    for name in needed.chain(["server.key".to_owned()]).chain(older) {
        let path = dir.join(&name);
        if files::exists(&path)? {
            continue;
        }
        let certificate = dir.join(name.replace(".key", ".pem"));
        return Err(if certificate != path && files::exists(&certificate)? {
            Error::MissingKey { key: path, certificate }
        } else {
            Error::MissingFile { missing: path, found: dir.join(manifest::NAME) }
        });
    }
    Ok(())
}

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
    // Later ones have been made, so there was a list.
    for later in ["root-2.pem", "issuing-2.pem"] {
        let found = dir.join(later);
        if files::exists(&found)? {
            return Err(Error::MissingFile { missing: dir.join(manifest::NAME), found });
        }
    }
    Ok(())
}

/// A key and the certificate made for it.
pub(crate) struct Pair {
    path: PathBuf,
    pub(crate) key: KeyPair,
    pub(crate) certificate: CertificateDer<'static>,
    pem: String,
}

impl Pair {
    /// Makes what is missing: the key first, so that a crash between the two
    /// leaves no certificate without its key.
    pub(crate) fn open(
        dir: &Path,
        name: &str,
        issue: impl FnOnce(&KeyPair) -> Result<Certificate, Error>,
    ) -> Result<Self, Error> {
        let path = dir.join(format!("{name}.pem"));
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

    fn reissued(self, issue: impl FnOnce(&KeyPair) -> Result<Certificate, Error>) -> Result<Self, Error> {
        let issued = issue(&self.key)?;
        files::write_private(&self.path, issued.pem().as_bytes())?;
        Self::read(self.path, self.key)
    }

    /// Before anything is made below it.
    fn require_signed_by(&self, root: &Self, dir: &Path) -> Result<(), Error> {
        let root = identity::parse(&root.certificate)?;
        identity::parse(&self.certificate)?.verify_signature(Some(root.public_key())).map_err(|_| Error::BrokenChain {
            dir: dir.to_owned(),
            source: rustls::CertificateError::UnknownIssuer.into(),
        })
    }

    fn issuer(&self) -> Result<String, Error> {
        Ok(identity::issuer_id(&identity::parse(&self.certificate)?))
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

pub(crate) fn issuer<K: rcgen::SigningKey>(
    certificate: &CertificateDer<'_>,
    key: K,
) -> Result<Issuer<'static, K>, Error> {
    Issuer::from_ca_cert_der(certificate, key).map_err(|source| Error::Make { what: "an issuer", source })
}
