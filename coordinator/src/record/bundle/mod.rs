//! The record as a file that verifies without Farol's database: a plain tar.
//!
//! | file | holds |
//! |---|---|
//! | `about.json` | [`About`]: which part of the chain it is; the first file |
//! | `record/N.jsonl` | links with their entries, in the order of the chain |
//! | `links/N.jsonl` | links behind those, without entries, up to the signed head |
//! | `unsealed/N.jsonl` | entries that were not sealed yet |
//! | `keys.jsonl` | keys that people sign with |
//! | `actions/N.jsonl`, `approvals/N.jsonl` | what entries speak of: plans' exact bytes, outcomes, decisions, signatures |
//! | `evidence/…` | the content of artifacts, byte by byte |
//! | `artifacts/N.jsonl` | what those are, behind their contents |
//! | `README.txt` | for people |
//! | `manifest.json` | [`Manifest`]: the SHA-256 of each file above, and the signed head |
//! | `manifest.sig` | [`Seal`]: the record's key under the manifest's exact bytes |

mod read;
mod write;

use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};

pub use read::verify;
pub(crate) use write::settled;
pub use write::{Exported, Range, export};

use super::{Head, Place};

const ABOUT: &str = "about.json";
const MANIFEST: &str = "manifest.json";
const SEAL: &str = "manifest.sig";
const README: &str = "README.txt";
const KEYS: &str = "keys.jsonl";
/// Version of the format.
const VERSION: u32 = 1;

/// Which part of the chain a bundle is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of the format.
    pub v: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// Whether it is all of the record.
    pub is_whole: bool,
    /// Head before its first link, `SEQ:HASH`.
    pub before: String,
    /// Its last link that comes with its entry.
    pub last: i64,
}

/// A file of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDoc {
    /// Its name.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// How much it is.
    pub bytes: u64,
}

/// What a bundle holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub v: u32,
    /// Where the chain ends.
    pub head: HeadDoc,
    /// Everything but this and its signature.
    pub files: Vec<FileDoc>,
}

/// A signed head as a document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadDoc {
    /// `SEQ:HASH`.
    pub head: String,
    /// When its last links were made.
    pub sealed_at: Timestamp,
    /// The key that signed it.
    pub public_key: String,
    /// Its signature.
    pub signature: String,
}

impl From<Head> for HeadDoc {
    fn from(head: Head) -> Self {
        let Head { place, sealed_at, public_key, signature } = head;
        Self { head: place.to_string(), sealed_at, public_key, signature }
    }
}

impl HeadDoc {
    fn head(&self) -> Option<Head> {
        let place: Place = self.head.parse().ok()?;
        let (public_key, signature) = (self.public_key.clone(), self.signature.clone());
        Some(Head { place, sealed_at: self.sealed_at, public_key, signature })
    }
}

/// The signature under a manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The key that signed it.
    pub public_key: String,
    /// Over `"farol-bundle-v1\0"` and the manifest's exact bytes, in base64url.
    pub signature: String,
}

#[cfg(test)]
mod tests;
