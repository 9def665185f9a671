//! What came of a verification.

use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Most that are told one by one.
const MOST: usize = 1000;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Stable, such as `entry_changed`.
    pub code: &'static str,
    /// Which link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// Which entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// What else: `action ID`, `artifact ID`, `key ID`, `file NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What is wrong with it.
    pub text: String,
}

impl Fault {
    /// Of a link.
    #[must_use]
    pub fn link(code: &'static str, seq: i64, text: impl Into<String>) -> Self {
        Self { code, seq: Some(seq), entry: None, object: None, text: text.into() }
    }

    /// Of an entry.
    #[must_use]
    pub fn entry(code: &'static str, seq: Option<i64>, entry: &str, text: impl Into<String>) -> Self {
        Self { code, seq, entry: Some(entry.to_owned()), object: None, text: text.into() }
    }

    /// Of something that entries speak of.
    #[must_use]
    pub fn object(code: &'static str, object: String, text: impl Into<String>) -> Self {
        Self { code, seq: None, entry: None, object: Some(object), text: text.into() }
    }
}

/// What is wrong, as far as it is told.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The first of them.
    pub list: Vec<Fault>,
    /// How many there are.
    pub count: u64,
}

impl Faults {
    /// One more.
    pub fn push(&mut self, fault: Fault) {
        self.count += 1;
        if self.list.len() < MOST {
            self.list.push(fault);
        }
    }
}

/// A head that was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Anchored {
    /// Where: `--against`, `record.head`.
    pub from: String,
    /// The head.
    #[schema(example = "118:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub head: String,
    /// Whether the chain goes through it.
    pub ok: bool,
}

/// What came of a verification.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Entries looked at.
    pub entries: u64,
    /// Links looked at.
    pub links: u64,
    /// Entries that are not sealed yet.
    pub unsealed: u64,
    /// When the oldest of them was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub unsealed_since: Option<Timestamp>,
    /// Where the chain ends, `SEQ:HASH`.
    pub head: Option<String>,
    /// When that was sealed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sealed_at: Option<Timestamp>,
    /// The key that signed it.
    pub public_key: Option<String>,
    /// Actions whose plans were compared.
    pub actions: u64,
    /// Decisions that were compared.
    pub decisions: u64,
    /// Signatures that were checked.
    pub signatures: u64,
    /// Artifacts whose content was compared.
    pub artifacts: u64,
    /// Heads that were kept elsewhere.
    pub anchors: Vec<Anchored>,
    /// What is wrong, the first thousand.
    pub faults: Vec<Fault>,
    /// How much is wrong.
    pub fault_count: u64,
    /// What is odd and may be right.
    pub notes: Vec<Fault>,
}
