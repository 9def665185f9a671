//! The agent's folder: identity, journal, spool, and what it remembers.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use farol_pki::{
    KnownClock, PeerIdentity,
    files::{private_dir, read_private, write_private},
};
use farol_protocol::{HostId, SessionId, Timestamp, frame::ChecksAssign};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, endpoint::Endpoint};

/// The state folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// Who this host is and where its coordinator listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The coordinator's address.
    pub url: String,
    /// The host's id.
    pub host_id: HostId,
    /// Its enrolled name.
    pub name: String,
}

/// Everything needed to connect.
pub(crate) struct Identity {
    pub(crate) enrolment: Enrolment,
    pub(crate) endpoint: Endpoint,
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// What a running agent writes down for `farol-agent status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// `connected`, `disconnected` or `stopped`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// The session, while connected.
    pub session_id: Option<SessionId>,
    /// Why it is not connected.
    pub reason: Option<String>,
    /// Version of the agent that wrote this.
    pub version: String,
}

/// The coordinator's clock, as it was seen on the last connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    /// It minus the host's.
    pub(crate) offset_ms: i64,
    /// What it said: a time that has passed.
    pub(crate) passed: Timestamp,
}

impl From<Clock> for KnownClock {
    fn from(clock: Clock) -> Self {
        Self { offset_seconds: clock.offset_ms / 1000, passed: clock.passed.as_ms() / 1000 }
    }
}

impl StateDir {
    /// Names a folder; nothing is read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The identity's folder.
    #[must_use]
    pub fn identity_dir(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.identity_dir().join("key.pem")
    }

    /// The key of an enrolment that will replace the present identity.
    #[must_use]
    pub fn next_key(&self) -> PathBuf {
        self.identity_dir().join("next-key.pem")
    }

    /// Leaf and issuing certificate.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.identity_dir().join("cert.pem")
    }

    /// Root certificates.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.identity_dir().join("ca.pem")
    }

    /// Where the coordinator is and who this host is.
    #[must_use]
    pub fn enrolment_file(&self) -> PathBuf {
        self.identity_dir().join("enrolment.json")
    }

    /// The action journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.db")
    }

    /// The spool.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool.db")
    }

    /// The checks last assigned.
    #[must_use]
    pub fn assignment_file(&self) -> PathBuf {
        self.root.join("assignment.json")
    }

    /// Content that a `file.apply` replaced.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// What is known of the coordinator's clock.
    pub(crate) fn clock(&self) -> Option<Clock> {
        // Without it, or damaged, the host's own clock counts.
        read_json(&self.clock_file(), "remove it").ok().flatten()
    }

    pub(crate) fn save_clock(&self, clock: &Clock) -> Result<(), Error> {
        write_json(&self.clock_file(), clock)
    }

    pub(crate) fn forget_clock(&self) {
        // There need not be one.
        let _ = std::fs::remove_file(self.clock_file());
    }

    fn clock_file(&self) -> PathBuf {
        self.root.join("clock.json")
    }

    fn connection_file(&self) -> PathBuf {
        self.root.join("connection.json")
    }

    /// Makes the folders.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        private_dir(&self.root)?;
        private_dir(&self.identity_dir())?;
        Ok(())
    }

    /// Claims the folder for this process until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.root.join("agent.lock");
        let failed = |source| Error::Io { operation: "lock", path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: self.root.clone() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether an agent holds the folder.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        File::open(self.root.join("agent.lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Who this host is.
    ///
    /// # Errors
    /// The host is not enrolled or the file is damaged.
    pub fn enrolment(&self) -> Result<Enrolment, Error> {
        let path = self.enrolment_file();
        read_json(&path, "run `farol-agent enroll` again with --force")?.ok_or(Error::NotEnrolled { path })
    }

    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        let enrolment = self.enrolment()?;
        for path in [self.cert(), self.key(), self.ca()] {
            if !path.exists() {
                return Err(Error::NotEnrolled { path });
            }
        }
        Ok(Identity {
            endpoint: enrolment.url.parse()?,
            ca: read_private(&self.ca())?,
            cert: read_private(&self.cert())?,
            key: read_private(&self.key())?,
            enrolment,
        })
    }

    /// The checks last assigned; none before the first assignment.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn assignment(&self) -> Result<Option<ChecksAssign>, Error> {
        read_json(&self.assignment_file(), "remove it and restart the agent; the coordinator sends the checks again")
    }

    pub(crate) fn save_assignment(&self, assignment: &ChecksAssign) -> Result<(), Error> {
        write_json(&self.assignment_file(), assignment)
    }

    /// What the agent last said about its connection.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn connection(&self) -> Result<Option<Connection>, Error> {
        read_json(&self.connection_file(), "remove it and restart the agent")
    }

    /// Without flushing: after a crash of the machine the agent is not
    /// connected anyway.
    pub(crate) fn save_connection(&self, connection: &Connection) -> io::Result<()> {
        let path = self.connection_file();
        let temp = path.with_extension("json.tmp");
        fs::write(&temp, serde_json::to_vec(connection)?)?;
        fs::rename(temp, path)
    }
}

/// When the first certificate of a chain ends.
pub(crate) fn certificate_end(chain_pem: &str) -> Option<Timestamp> {
    let leaf = CertificateDer::from_pem_slice(chain_pem.as_bytes()).ok()?;
    let end = PeerIdentity::from_certificate(&leaf).ok()?.not_after;
    Some(Timestamp::from_ms(end.unix_timestamp().saturating_mul(1000)))
}

fn read_json<T: DeserializeOwned>(path: &Path, remedy: &'static str) -> Result<Option<T>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|source| Error::Damaged {
            path: path.to_owned(),
            remedy,
            source,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { operation: "read", path: path.to_owned(), source }),
    }
}

/// Creates a file that only its owner may read, if it is missing. SQLite gives
/// its side files the mode of the main one.
pub(crate) fn create_private(path: &Path) -> Result<(), Error> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|source| Error::Io { operation: "create", path: path.to_owned(), source })
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::Io {
        operation: "write",
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(write_private(path, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_holds_a_folder_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path());
        assert!(!state.is_in_use());
        let lock = state.lock().expect("free");
        assert!(state.is_in_use());
        assert!(matches!(state.lock(), Err(Error::Locked { .. })));
        drop(lock);
        assert!(state.lock().is_ok());
    }

    #[test]
    fn a_host_without_identity_is_told_to_enrol() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = StateDir::new(folder.path()).enrolment().expect_err("not enrolled");
        assert!(error.to_string().contains("farol host add"));
        assert_eq!(error.exit_code(), 2);
    }
}
