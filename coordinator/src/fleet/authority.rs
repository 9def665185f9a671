//! The authority as the running coordinator holds it: read again when its
//! folder changes, and now and then so that nothing in it ends.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use farol_pki::{Authority, server_config};
use rustls::ServerConfig;
use time::OffsetDateTime;

use crate::error::Result;

/// How often the folder is looked at.
pub const AUTHORITY_INTERVAL: Duration = Duration::from_millis(500);
/// How often the authority is opened although nothing changed.
const REOPEN: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug)]
pub struct Trust {
    dir: PathBuf,
    present: RwLock<Arc<Present>>,
    generation: AtomicU64,
    last: Mutex<Last>,
}

/// What is in force.
#[derive(Debug)]
pub struct Present {
    /// Signs certificates.
    pub authority: Authority,
    /// What hosts are shown.
    pub tls: Arc<ServerConfig>,
    /// Identifiers of the roots that hosts are to trust.
    pub roots: Vec<String>,
    /// Key identifier of the issuing authority.
    pub issuer: String,
}

#[derive(Debug)]
struct Last {
    files: Vec<Vec<u8>>,
    opened: Instant,
    problem: Option<String>,
}

impl Trust {
    /// Opens the authority in `dir`, or makes it.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open(dir: &Path) -> Result<Self> {
        let present = Present::open(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            present: RwLock::new(Arc::new(present)),
            generation: AtomicU64::new(0),
            last: Mutex::new(Last { files: files(dir), opened: Instant::now(), problem: None }),
        })
    }

    /// What is in force now.
    #[must_use]
    pub fn present(&self) -> Arc<Present> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Takes over what changed in the folder. What cannot be read is said once,
    /// and the present authority stays.
    pub(crate) fn refresh(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let found = files(&self.dir);
        if found == last.files && last.opened.elapsed() < REOPEN {
            return;
        }
        match Present::open(&self.dir) {
            Ok(present) => {
                // Opening may have renewed something.
                let found = files(&self.dir);
                if found != last.files {
                    tracing::info!(
                        ca_fingerprint = present.authority.root_fingerprint(),
                        issuer = present.issuer,
                        roots = present.roots.len(),
                        "the authority changed; hosts get their certificates from it now"
                    );
                    *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(present);
                    self.generation.fetch_add(1, Ordering::Relaxed);
                }
                *last = Last { files: found, opened: Instant::now(), problem: None };
            }
            Err(error) => {
                let problem = error.to_string();
                if last.problem.as_ref() != Some(&problem) {
                    tracing::error!("the authority could not be read again, the present one stays: {problem}");
                }
                last.problem = Some(problem);
            }
        }
    }
}

impl Present {
    fn open(dir: &Path) -> Result<Self> {
        let authority = Authority::open_or_create(dir, OffsetDateTime::now_utc())?;
        Ok(Self {
            tls: server_config(&authority)?,
            roots: authority.root_ids(),
            issuer: authority.issuer_id(),
            authority,
        })
    }
}

/// The two that change with anything that matters. One that cannot be read is
/// a change, which opening then explains.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    ["authority.json", "server.pem"].map(|name| std::fs::read(dir.join(name)).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_folder_is_taken_over_and_a_damaged_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("pki");
        let trust = Trust::open(&dir).expect("made");
        let first = trust.present();
        trust.refresh();
        assert_eq!(trust.generation(), 0);

        Authority::announce_root(&dir, OffsetDateTime::now_utc()).expect("announced");
        trust.refresh();
        let second = trust.present();
        assert_eq!((trust.generation(), second.roots.len()), (1, 2));
        assert_ne!(second.issuer, first.issuer);

        std::fs::write(dir.join("authority.json"), "{").expect("written");
        trust.refresh();
        assert_eq!((trust.generation(), trust.present().issuer == second.issuer), (1, true));
    }
}
