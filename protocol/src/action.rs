//! Plans: what an approval is bound to and what an agent executes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ActionId, HostId, Timestamp,
    effect::Effect,
    remediation::{Look, SeenBySteps, StepOutcome, Verdict},
};

/// How much an action may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RiskClass {
    /// Observes.
    R0,
    /// Reversible and small.
    R1,
    /// Changes state or configuration.
    R2,
    /// Destructive, exposing or security-relevant.
    R3,
}

impl RiskClass {
    /// `R0` to `R3`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::R0 => "R0",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
        }
    }
}

impl fmt::Display for RiskClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RiskClass {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        [Self::R0, Self::R1, Self::R2, Self::R3]
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| PlanError::RiskClass(text.chars().take(64).collect()))
    }
}

/// Kinds of action, by their name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ActionKind {
    /// Run a program.
    #[serde(rename = "command.exec")]
    CommandExec,
    /// Start, stop or restart a service.
    #[serde(rename = "service.control")]
    ServiceControl,
    /// Start, stop or restart a container.
    #[serde(rename = "container.control")]
    ContainerControl,
    /// Say how a file differs from wanted content.
    #[serde(rename = "file.diff")]
    FileDiff,
    /// Replace a file's content.
    #[serde(rename = "file.apply")]
    FileApply,
    /// Put back what a `file.apply` replaced.
    #[serde(rename = "file.rollback")]
    FileRollback,
    /// Read a bounded part of a log.
    #[serde(rename = "logs.read")]
    LogsRead,
    /// Look at what a remediation would find, and change nothing.
    #[serde(rename = "remediation.look")]
    RemediationLook,
    /// Several steps under one approval, verified and undone on the host.
    #[serde(rename = "remediation.run")]
    RemediationRun,
}

impl ActionKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::CommandExec,
        Self::ServiceControl,
        Self::ContainerControl,
        Self::FileDiff,
        Self::FileApply,
        Self::FileRollback,
        Self::LogsRead,
        Self::RemediationLook,
        Self::RemediationRun,
    ];

    /// Whether it is made of steps of other kinds.
    #[must_use]
    pub const fn is_remediation(self) -> bool {
        matches!(self, Self::RemediationLook | Self::RemediationRun)
    }

    /// The name on the wire, also the method of the order.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CommandExec => "command.exec",
            Self::ServiceControl => "service.control",
            Self::ContainerControl => "container.control",
            Self::FileDiff => "file.diff",
            Self::FileApply => "file.apply",
            Self::FileRollback => "file.rollback",
            Self::LogsRead => "logs.read",
            Self::RemediationLook => "remediation.look",
            Self::RemediationRun => "remediation.run",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The document is not a plan of version 1.
    #[error("the plan is not a valid document: {0}")]
    Document(#[source] serde_json::Error),
    /// `params` do not fit `kind`.
    #[error("the params do not fit {kind}: {source}")]
    Params {
        /// The plan's kind.
        kind: ActionKind,
        /// What serde said.
        source: serde_json::Error,
    },
    /// A value out of its bounds.
    #[error("{0}")]
    Bounds(String),
    /// `pre_state` is none that this version knows.
    #[error("the pre_state is not one that can be compared: {0}")]
    PreState(#[source] serde_json::Error),
    /// `v` is not 1.
    #[error("plan version {0} is not supported, only 1 is")]
    Version(u32),
    /// Not one of R0 to R3.
    #[error("`{0}` is not a risk class; use R0, R1, R2 or R3")]
    RiskClass(String),
    /// Not a hash.
    #[error("`{0}` is not a plan hash of 64 hexadecimal digits")]
    Hash(String),
}

/// SHA-256 of a plan's exact bytes, in lowercase hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^[0-9a-f]{64}$")))]
pub struct PlanHash(String);

impl PlanHash {
    /// The hash of a plan as stored and sent.
    #[must_use]
    pub fn of(plan: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, plan.as_bytes());
        Self(hex(digest.as_ref()))
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 bytes that the digits stand for.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let digit = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        let digits = self.0.as_bytes();
        // Never other than 64 digits, see `try_from`.
        std::array::from_fn(|at| digit(digits[2 * at]) << 4 | digit(digits[2 * at + 1]))
    }
}

/// Lowercase hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PlanHash> for String {
    fn from(hash: PlanHash) -> Self {
        hash.0
    }
}

impl TryFrom<String> for PlanHash {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(PlanError::Hash(text.chars().take(80).collect()))
        }
    }
}

/// The document an approval is bound to. The coordinator writes its bytes
/// once; from then on everyone passes the same bytes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this document: 1.
    pub v: u32,
    /// The action.
    pub action_id: ActionId,
    /// The one host that may execute it.
    pub host_id: HostId,
    /// What kind of step it is.
    pub kind: ActionKind,
    /// Parameters of the kind, see [`Effect`].
    pub params: Value,
    /// What the approver saw; null where nothing was looked at.
    #[cfg_attr(feature = "schema", schemars(with = "Option<PreState>"))]
    pub pre_state: Value,
    /// Class at which it was planned.
    pub risk_class: RiskClass,
    /// Who asked for it: an operator or a persona.
    pub requested_by: String,
    /// When it was written.
    pub issued_at: Timestamp,
    /// From then on no agent accepts it.
    pub expires_at: Timestamp,
}

impl Plan {
    /// Reads a plan from its exact bytes.
    ///
    /// # Errors
    /// The document, its version, or its params are not valid.
    pub fn parse(text: &str) -> Result<(Self, Effect), PlanError> {
        let plan: Self = serde_json::from_str(text).map_err(PlanError::Document)?;
        if plan.v != 1 {
            return Err(PlanError::Version(plan.v));
        }
        let effect = Effect::parse(plan.kind, &plan.params)?;
        PreState::read(&plan.pre_state)?;
        Ok((plan, effect))
    }

    /// The exact bytes, written once.
    ///
    /// # Errors
    /// Never for a plan whose params came from JSON.
    pub fn to_text(&self) -> Result<String, PlanError> {
        serde_json::to_string(self).map_err(PlanError::Document)
    }
}

/// What the approver saw of the thing that a plan changes. The host compares
/// it with what is there before it begins and refuses a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PreState {
    /// Whether the service ran.
    ServiceActive(bool),
    /// Whether the container ran.
    ContainerRunning(bool),
    /// SHA-256 of the file's content; null: there was no such file.
    FileSha256(Option<String>),
    /// Of a remediation: the same for each of its steps that was looked at.
    Steps(SeenBySteps),
}

impl PreState {
    /// Reads a plan's `pre_state`; none for null.
    ///
    /// # Errors
    /// It is something else.
    pub fn read(value: &Value) -> Result<Option<Self>, PlanError> {
        Option::deserialize(value).map_err(PlanError::PreState)
    }
}

/// How an action ended on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FinalState {
    /// It ran and succeeded.
    Done,
    /// It ran and failed.
    Failed,
    /// Its time limit passed and its process group was killed.
    TimedOut,
    /// A person cancelled it.
    Cancelled,
    /// The host would not run it; it had no effect.
    Refused,
    /// It began and nobody knows how it ended; it is never run again by itself.
    Interrupted,
}

impl FinalState {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Stable reasons for which a host refuses or ends an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// The host has no policy file, so it allows no effect.
    NoPolicy,
    /// The policy says `read_only`.
    ReadOnly,
    /// The policy does not list this command, service or verb.
    NotAllowed,
    /// The host's policy puts it above what was approved or may go unsigned.
    SignatureRequired,
    /// The order's time has passed.
    Expired,
    /// The plan is for another host or names another action.
    WrongTarget,
    /// The id was seen before with another plan.
    PlanMismatch,
    /// The host is not in the state that the approver saw.
    PreStateChanged,
    /// The plan is not valid.
    InvalidPlan,
    /// A cancel came before the order.
    Cancelled,
    /// The agent ended while it ran.
    AgentRestarted,
    /// The program could not be started.
    SpawnFailed,
    /// Another effect runs on this host.
    Busy,
    /// The agent could not write its journal.
    JournalFailed,
    /// The agent's journal changed or went backward, as after a restored snapshot.
    JournalChanged,
    /// The host was gone for too long, or its identity was revoked.
    HostLost,
    /// The clocks of host and coordinator differ too much for a signed order.
    ClockSkew,
    /// A signature is not valid, or not of somebody the host's policy lists.
    BadSignature,
    /// The host lacks what the action needs: no container engine, no journal.
    Unavailable,
    /// What must hold before a remediation changes anything does not hold.
    ValidationFailed,
}

impl ReasonCode {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::ReadOnly => "read_only",
            Self::NotAllowed => "not_allowed",
            Self::SignatureRequired => "signature_required",
            Self::Expired => "expired",
            Self::WrongTarget => "wrong_target",
            Self::PlanMismatch => "plan_mismatch",
            Self::PreStateChanged => "pre_state_changed",
            Self::InvalidPlan => "invalid_plan",
            Self::Cancelled => "cancelled",
            Self::AgentRestarted => "agent_restarted",
            Self::SpawnFailed => "spawn_failed",
            Self::Busy => "busy",
            Self::JournalFailed => "journal_failed",
            Self::JournalChanged => "journal_changed",
            Self::HostLost => "host_lost",
            Self::ClockSkew => "clock_skew",
            Self::BadSignature => "bad_signature",
            Self::Unavailable => "unavailable",
            Self::ValidationFailed => "validation_failed",
        }
    }
}

/// What a process left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Exit code; absent when a signal ended it.
    pub exit_code: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// Whether output was cut at the limit.
    pub truncated: bool,
    /// From spawn to end, in ms.
    pub duration_ms: u64,
    /// What was seen of a file, or done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileOutcome>,
    /// What the verification of a remediation said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Verdict>,
    /// What a look at a host found before a remediation is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<Look>,
    /// What each step of a remediation left, in the order in which they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepOutcome>,
}

/// What a `file.…` action saw and left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileOutcome {
    /// The file.
    pub path: String,
    /// SHA-256 of the content before, in 64 hexadecimal digits; absent: no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_sha256: Option<String>,
    /// SHA-256 of the content afterwards, or of the wanted content after a `file.diff`; absent: no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_sha256: Option<String>,
    /// Unified diff from before to after; empty when nothing differs, absent
    /// when it is too long for a frame or the content is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Whether the file was changed.
    pub applied: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_survives_its_own_bytes_and_its_hash_follows_them() {
        let plan = Plan {
            v: 1,
            action_id: ActionId::new(),
            host_id: "vm112".parse().expect("valid"),
            kind: ActionKind::ServiceControl,
            params: json!({"service": "portal", "verb": "restart"}),
            pre_state: Value::Null,
            risk_class: RiskClass::R1,
            requested_by: "A7".to_owned(),
            issued_at: Timestamp::from_ms(0),
            expires_at: Timestamp::from_ms(1),
        };
        let text = plan.to_text().expect("serializable");
        let (read, effect) = Plan::parse(&text).expect("valid");
        assert_eq!(read, plan);
        assert_eq!(effect.default_class(), RiskClass::R1);
        assert_ne!(PlanHash::of(&text), PlanHash::of(&format!("{text} ")));
    }
}
