//! What entries speak of, as it is verified: rows of the database, and lines of
//! a bundle.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::{Hash, Said};

/// An entry of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[serde(deny_unknown_fields)]
pub struct EntryDoc {
    /// Identifier.
    pub id: String,
    /// When, in ms.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// What was done.
    pub verb: String,
    /// To what kind of thing.
    pub object_kind: String,
    /// To which.
    pub object_id: String,
    /// More about it.
    pub detail: String,
    /// Its own hash, as it was written.
    pub hash: String,
}

impl EntryDoc {
    /// The hash of its fields.
    #[must_use]
    pub fn computed(&self) -> Hash {
        let Self { id, at_ms, actor, verb, object_kind, object_id, detail, .. } = self;
        Said { id, at_ms: *at_ms, actor, verb, object_kind, object_id, detail }.hash()
    }
}

/// A link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkDoc {
    /// Its number.
    pub seq: i64,
    /// Its entry.
    pub entry_id: String,
    /// The entry's hash when it was sealed.
    pub entry_hash: String,
    /// Its own.
    pub chain_hash: String,
    /// The entry itself; absent where only the links of a stretch are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryDoc>,
}

/// An action with its plan's exact bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[serde(deny_unknown_fields)]
pub struct ActionDoc {
    /// Identifier.
    pub id: String,
    /// Name of its host.
    pub host: String,
    /// Kind.
    pub kind: String,
    /// Exact bytes.
    pub plan: String,
    /// Their SHA-256.
    pub plan_hash: String,
    /// Class in the plan.
    pub risk_class: String,
    /// Where it is.
    pub state: String,
    /// Why it ended so.
    pub reason_code: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// The finding it is to mend.
    pub finding_id: Option<String>,
    /// When it was written, in ms.
    pub issued_ms: i64,
    /// When it could no longer begin, in ms.
    pub expires_ms: i64,
    /// What it left, as JSON.
    pub outcome: Option<String>,
}

/// A person's decision on an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDoc {
    /// The action.
    pub action_id: String,
    /// Who.
    pub approver: String,
    /// What they were then.
    pub role: String,
    /// `approved` or `rejected`.
    pub decision: String,
    /// The plan that they saw.
    pub plan_hash: String,
    /// What they said.
    pub comment: String,
    /// When, in ms.
    pub at_ms: i64,
    /// Their signature, as JSON.
    pub signature: Option<String>,
}

/// A person's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromRow)]
#[serde(deny_unknown_fields)]
pub struct KeyDoc {
    /// Identifier.
    pub key_id: String,
    /// Whose.
    pub operator: String,
    /// The key, with its algorithm before it.
    pub public: String,
    /// When it was registered, in ms.
    pub created_ms: i64,
    /// When it was taken back, in ms.
    pub revoked_ms: Option<i64>,
}

/// An artifact without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactDoc {
    /// Identifier.
    pub id: String,
    /// The action it is about.
    pub action_id: Option<String>,
    /// The finding it is about.
    pub finding_id: Option<String>,
    /// Which step left it.
    pub step: String,
    /// A file's name.
    pub name: String,
    /// How it is read.
    pub media_type: String,
    /// SHA-256 of the content.
    pub sha256: String,
    /// How much it is.
    pub bytes: i64,
    /// When it was taken, in ms.
    pub at_ms: i64,
    /// Where its content lies in a bundle.
    pub file: String,
}
