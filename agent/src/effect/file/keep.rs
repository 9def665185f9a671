//! Content that a `file.apply` replaced, kept for its `file.rollback`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use farol_pki::files::{private_dir, write_private};
use farol_protocol::ActionId;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What an action did, or was about to do, to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The file.
    pub(crate) path: String,
    /// SHA-256 before; none: there was no such file.
    pub(crate) before_sha256: Option<String>,
    /// SHA-256 afterwards; none: it is removed.
    pub(crate) after_sha256: Option<String>,
    /// Whether the action was a `file.rollback`, which cannot be undone.
    #[serde(default)]
    pub(crate) rollback: bool,
}

/// The folder of what is kept: one content and one record for each action.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn content_file(&self, action_id: ActionId) -> PathBuf {
        self.folder.join(action_id.to_string())
    }

    fn record_file(&self, action_id: ActionId) -> PathBuf {
        self.folder.join(format!("{action_id}.json"))
    }

    /// Keeps it, on the disk: the content first, so that a record always has
    /// its content.
    pub(crate) fn keep(&self, action_id: ActionId, record: &Record, before: Option<&[u8]>) -> Result<(), Error> {
        private_dir(&self.folder)?;
        if let Some(before) = before {
            write_private(&self.content_file(action_id), before)?;
        }
        crate::state::write_json(&self.record_file(action_id), record)
    }

    /// What an action did; none when nothing of it is kept.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub(crate) fn record(&self, action_id: ActionId) -> io::Result<Option<Record>> {
        match fs::read(self.record_file(action_id)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content before.
    pub(crate) fn content(&self, action_id: ActionId) -> io::Result<Vec<u8>> {
        fs::read(self.content_file(action_id))
    }

    /// Removes what is kept of an action.
    pub(crate) fn forget(&self, action_id: ActionId) {
        for file in [self.record_file(action_id), self.content_file(action_id)] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{} could not be removed: {error}", file.display());
                }
                _ => {}
            }
        }
    }

    /// The actions of which something is kept.
    pub(crate) fn actions(&self) -> Vec<ActionId> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut ids: Vec<ActionId> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                let name = name.to_str()?;
                name.strip_suffix(".json").unwrap_or(name).parse().ok()
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
