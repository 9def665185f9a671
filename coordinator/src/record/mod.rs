//! The record: that what was written stays as it was, and that anybody can see
//! it.
//!
//! Entries are written by the store with what they record, each with a hash of
//! itself ([`chain::Said`]). A job chains them ([`chain::link`]) and signs where
//! the chain ends ([`key`]). [`check`] and [`matter`] are pure: they take links,
//! entries and what entries speak of, and name what does not fit. [`verify`]
//! feeds them from the database, [`bundle`] from a file that needs no database.
//! What this finds and what it cannot is in `docs/SECURITY.md`.

pub mod anchor;
pub mod bundle;
pub mod chain;
pub mod check;
pub mod docs;
pub mod key;
pub mod matter;
pub mod verdict;
pub mod verify;

pub use chain::{Hash, Place, Said};
pub use key::{Head, RecordKey};
pub use verdict::{Anchored, Fault, Verdict};
pub use verify::verify;

use std::sync::{Mutex, PoisonError};

/// How sealing goes, for whoever asks how the coordinator is.
#[derive(Debug, Default)]
pub struct Sealing {
    error: Mutex<Option<String>>,
    /// The last verdict and when it came; held while one is made, so that one
    /// is made at a time.
    pub(crate) verified: tokio::sync::Mutex<Option<(tokio::time::Instant, Verdict)>>,
    pub(crate) exports: Exports,
}

/// Whose turn it is to take the record along: an export holds what it reads
/// from, so there is one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Exports(std::sync::Arc<tokio::sync::Semaphore>);

impl Default for Exports {
    fn default() -> Self {
        Self(std::sync::Arc::new(tokio::sync::Semaphore::new(1)))
    }
}

impl Exports {
    /// The turn, if nobody has it.
    pub(crate) fn turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        std::sync::Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl Sealing {
    /// How it went; none for well. Answers whether that is news.
    pub fn fails(&self, error: Option<&crate::error::Error>) -> bool {
        let error = error.map(ToString::to_string);
        let mut known = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != error;
        *known = error;
        is_news
    }

    /// Why nothing is sealed, if so.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
