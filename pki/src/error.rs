use std::io;
use std::path::PathBuf;

/// The cause below an [`Error`].
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with keys, certificates and the files that hold them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error(
        "could not {operation} {}; check that it exists, belongs to this user and that the disk has room",
        path.display()
    )]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// A private folder is a symbolic link, so its owner is not known.
    #[error("{} is a symbolic link; give the real folder instead", path.display())]
    SymlinkedFolder {
        /// The link.
        path: PathBuf,
    },

    /// Something else stands where a private folder should be.
    #[error("{} is not a folder; move it away or choose another path", path.display())]
    NotAFolder {
        /// What stands there.
        path: PathBuf,
    },

    /// A private file can be read or changed by others.
    #[error(
        "{} is open to other users (mode {mode:04o}); run: chmod 600 {}",
        path.display(),
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// A certificate has lost its key.
    #[error(
        "{} is missing beside {}; restore it from a backup",
        key.display(),
        certificate.display()
    )]
    MissingKey {
        /// The missing key file.
        key: PathBuf,
        /// The certificate that needs it.
        certificate: PathBuf,
    },

    /// A file of the authority is gone although files made after it exist.
    #[error(
        "{} is missing although {} was made from it; restore it from a backup",
        missing.display(),
        found.display()
    )]
    MissingFile {
        /// The missing file.
        missing: PathBuf,
        /// A file made later, which proves that the missing one existed.
        found: PathBuf,
    },

    /// A file does not hold what its name says.
    #[error("{} does not hold a valid {expected}; restore it from a backup", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Why it does not.
        #[source]
        source: Cause,
    },

    /// A certificate was made for another key.
    #[error(
        "{} does not belong to {}; restore both from the same backup",
        key.display(),
        certificate.display()
    )]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },

    /// The files of an authority are each valid but do not fit together now.
    #[error(
        "the certificates in {} do not form a chain valid at this time; check the clock, or restore the folder from a backup",
        dir.display()
    )]
    BrokenChain {
        /// The authority's folder.
        dir: PathBuf,
        /// Why the chain was refused.
        #[source]
        source: rustls::Error,
    },

    /// A second root cannot be announced while one is.
    #[error("a new root is announced already; finish that with `farol ca rotate --finish` before you begin another")]
    RolloverOpen,

    /// There is no older root to retire.
    #[error("there is one root only, so there is nothing to finish; `farol ca rotate --root` announces another")]
    NoRollover,

    /// A host was sent a certificate that it must not take.
    #[error("the coordinator sent a certificate that is not taken: {why}")]
    Update {
        /// Why not.
        why: String,
    },

    /// The operating system gave no random bytes.
    #[error("no random bytes are available; check /dev/urandom and try again")]
    Random,

    /// Making a key, a request or a certificate failed.
    #[error("could not make {what}; this is a defect in Farol, please report it")]
    Make {
        /// What was being made.
        what: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },

    /// A host id cannot stand in a certificate.
    #[error("{host_id:?} is not a host id; use 1 to 128 letters, digits, dots, dashes and underscores")]
    HostId {
        /// The refused id.
        host_id: String,
    },

    /// A host's private key is not usable.
    #[error("the host's key is not a PKCS#8 private key in PEM; enrol again to make a new one")]
    HostKey {
        /// Why it was refused.
        #[source]
        source: rcgen::Error,
    },

    /// A signing request is not one.
    #[error("the signing request is not a PKCS#10 request in PEM; make a new one")]
    CsrUnreadable {
        /// Where reading stopped.
        #[source]
        source: Cause,
    },

    /// A signing request is for a kind of key that is not accepted.
    #[error("the signing request's key is neither P-256 nor Ed25519; make a new key")]
    CsrKey,

    /// A signing request was not signed by the key in it.
    #[error("the signing request is not signed by its own key; make a new one")]
    CsrSignature,

    /// A certificate cannot be read.
    #[error("the certificate cannot be read; ask the coordinator for a new one")]
    CertificateUnreadable {
        /// Where reading stopped.
        #[source]
        source: Cause,
    },

    /// A certificate does not say who it belongs to the way Farol says it.
    #[error(
        "the certificate does not carry exactly one name that is {expected}; present a certificate made for that purpose"
    )]
    WrongName {
        /// The name it should carry.
        expected: &'static str,
    },

    /// PEM text does not hold what it should.
    #[error("{what} is not valid PEM; enrol again, or restore it from a backup")]
    BadPem {
        /// Which text it was.
        what: &'static str,
        /// Where reading stopped.
        #[source]
        source: Cause,
    },

    /// A fingerprint is not written as one.
    #[error("{given:?} is not a fingerprint; give sha256: followed by 64 hexadecimal digits")]
    BadFingerprint {
        /// What was given.
        given: String,
    },

    /// A pinned root was asked for before a handshake found it.
    #[error("no root has been verified yet; finish the handshake first")]
    NoRootYet,

    /// The roots that were answered do not include the pinned one.
    #[error(
        "the coordinator answered other roots than the pinned {expected}; do not enrol, and check who answers at that address"
    )]
    ForeignRoot {
        /// The pinned root's fingerprint.
        expected: String,
    },

    /// A TLS configuration was refused.
    #[error("could not set up TLS for {side}; check that its key and certificates belong together")]
    Tls {
        /// Which end.
        side: &'static str,
        /// What the library said.
        #[source]
        source: Cause,
    },
}
