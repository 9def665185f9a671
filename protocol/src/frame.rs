//! Frames of protocol v1: one JSON document per WebSocket message.
//!
//! A new variant needs a file in `fixtures/v1/`. `deny_unknown_fields` stands
//! on each payload: on the enum it does not reach into newtype variants.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    ActionId, ActionKind, HostId, JournalId, Language, PlanHash, RiskClass, SessionId, StreamId, Timestamp,
    action::{FinalState, Outcome, ReasonCode},
    report::CheckSpec,
    signing::Signature,
    telemetry::Telemetry,
    version::VersionRange,
};

/// Frames an agent sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "method")]
pub enum FromAgent {
    /// First frame of a connection.
    #[serde(rename = "hello")]
    Hello(Box<Hello>),
    /// One batch.
    #[serde(rename = "telemetry.push")]
    TelemetryPush(TelemetryPush),
    /// The order is in the journal and about to run.
    #[serde(rename = "action.accepted")]
    ActionAccepted(ActionAccepted),
    /// What the running action wrote since the last such frame.
    #[serde(rename = "action.output")]
    ActionOutput(ActionOutput),
    /// The order ended; repeated after each hello until acknowledged.
    #[serde(rename = "action.result")]
    ActionResult(Box<ActionResult>),
    /// A new certificate, or the refusal of one, is on the host's disk.
    #[serde(rename = "certificate.installed")]
    CertificateInstalled(CertificateInstalled),
    /// The agent lives.
    #[serde(rename = "heartbeat")]
    Heartbeat(Heartbeat),
    /// A frame could not be understood.
    #[serde(rename = "error")]
    Error(ErrorFrame),
}

/// Frames the coordinator sends. The answer to `hello` alone has no method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "method")]
pub enum ToAgent {
    /// Every batch of the stream up to `seq` is committed.
    #[serde(rename = "telemetry.ack")]
    TelemetryAck(TelemetryAck),
    /// Order of kind `command.exec`.
    #[serde(rename = "command.exec")]
    CommandExec(Order),
    /// Order of kind `service.control`.
    #[serde(rename = "service.control")]
    ServiceControl(Order),
    /// Order of kind `container.control`.
    #[serde(rename = "container.control")]
    ContainerControl(Order),
    /// Order of kind `file.diff`.
    #[serde(rename = "file.diff")]
    FileDiff(Order),
    /// Order of kind `file.apply`.
    #[serde(rename = "file.apply")]
    FileApply(Order),
    /// Order of kind `file.rollback`.
    #[serde(rename = "file.rollback")]
    FileRollback(Order),
    /// Order of kind `logs.read`.
    #[serde(rename = "logs.read")]
    LogsRead(Order),
    /// Order of kind `remediation.look`.
    #[serde(rename = "remediation.look")]
    RemediationLook(Order),
    /// Order of kind `remediation.run`.
    #[serde(rename = "remediation.run")]
    RemediationRun(Order),
    /// Stop the action, or never begin it.
    #[serde(rename = "action.cancel")]
    ActionCancel(ActionRef),
    /// The result is committed; the agent need not repeat it.
    #[serde(rename = "action.ack")]
    ActionAck(ActionRef),
    /// Replaces all assigned checks.
    #[serde(rename = "checks.assign")]
    ChecksAssign(ChecksAssign),
    /// A newer certificate for the host's key, and the roots to trust.
    #[serde(rename = "certificate.update")]
    CertificateUpdate(CertificateUpdate),
    /// The coordinator lives.
    #[serde(rename = "heartbeat")]
    Heartbeat(Heartbeat),
    /// A frame could not be understood or was refused.
    #[serde(rename = "error")]
    Error(ErrorFrame),
}

/// See [`FromAgent::Hello`]. Open: fields of a newer agent are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// The host's id or its enrolled name; must agree with the certificate.
    pub agent_id: String,
    /// Name the host gives itself.
    pub name: String,
    /// Version of the agent.
    pub version: String,
    /// Methods it takes.
    pub capabilities: Vec<String>,
    /// The host's clock.
    pub timestamp: Timestamp,
    /// Versions it speaks.
    pub protocol: VersionRange,
    /// State of its action journal.
    pub journal: JournalHead,
    /// Its spool's stream.
    pub stream: StreamId,
    /// Actions that began and have not ended.
    #[serde(default)]
    pub unfinished: Vec<ActionId>,
    /// Highest class its policy runs without signatures; absent means R2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unsigned_class: Option<RiskClass>,
    /// Whether a policy file allows any effect at all.
    #[serde(default)]
    pub effects_allowed: bool,
    /// What tells two machines with one identity apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// SHA-256 of the DER of each root it trusts, in 64 hexadecimal digits;
    /// absent: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<Vec<String>>,
    /// An older stream that still holds batches from before the connection was
    /// lost; sent beside the live one, at its own pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
}

/// See [`Hello::machine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Digest of the operating system's machine id, which a copied disk keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The running kernel's boot id: two machines never share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// See [`Hello::backlog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Backlog {
    /// The stream.
    pub stream: StreamId,
    /// Its last batch.
    pub last_seq: u64,
}

/// Where an agent's journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JournalHead {
    /// Life of the journal.
    pub id: JournalId,
    /// Last sequence number written; 0 when empty.
    pub seq: u64,
}

/// Answer to [`Hello`]; the first frame the coordinator sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HelloAnswer {
    /// Whether the session is accepted.
    pub ok: bool,
    /// Limits.
    pub policy: HelloPolicy,
    /// Version both speak.
    pub protocol: u32,
    /// This connection, for logs on both sides.
    pub session_id: SessionId,
    /// Last committed `seq` of the stream; the agent continues above it.
    pub committed_seq: u64,
    /// The same of the backlog's stream, where hello named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_committed_seq: Option<u64>,
    /// Send a heartbeat after this many ms of silence, and expect one.
    pub heartbeat_ms: u64,
    /// The coordinator's clock.
    pub timestamp: Timestamp,
}

/// Limits a coordinator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HelloPolicy {
    /// Time limits in ms.
    pub timeouts: Timeouts,
    /// Largest frame in bytes.
    pub max_payload: u64,
}

/// Default time limits in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timeouts {
    /// Of `command.exec`.
    pub exec: u64,
}

/// See [`FromAgent::TelemetryPush`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TelemetryPush {
    /// The stream `seq` counts in.
    pub stream: StreamId,
    /// Position in the stream, from 1 without holes but for announced gaps.
    pub seq: u64,
    /// When the batch was closed, by the host's clock.
    pub ts: Timestamp,
    /// The sections.
    pub payload: Telemetry,
}

/// See [`FromAgent::ActionAccepted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActionAccepted {
    /// The action.
    pub action_id: ActionId,
    /// The journal after `started` was committed.
    pub journal: JournalHead,
}

/// Which output a chunk is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// See [`FromAgent::ActionOutput`]. For people who watch: what counts is the
/// outcome in the result, and a chunk that cannot leave is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActionOutput {
    /// The action.
    pub action_id: ActionId,
    /// Counts the action's chunks from 1; a hole is a dropped chunk.
    pub n: u64,
    /// Where it was written.
    pub stream: OutputStream,
    /// The text, invalid UTF-8 replaced.
    pub text: String,
}

/// See [`FromAgent::CertificateInstalled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CertificateInstalled {
    /// End of the certificate that the host has now.
    pub not_after: Timestamp,
    /// Roots it trusts now, as in [`Hello::roots`].
    pub roots: Vec<String>,
    /// Why the host did not take what was sent; absent: it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// See [`FromAgent::ActionResult`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActionResult {
    /// The action.
    pub action_id: ActionId,
    /// Hash of the plan the agent holds for it.
    pub plan_hash: PlanHash,
    /// How it ended.
    pub state: FinalState,
    /// Why, where the state alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonCode>,
    /// The reason in words for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Class by the host's policy, with [`ReasonCode::SignatureRequired`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_class: Option<RiskClass>,
    /// What the process left, where one ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it ended, by the host's clock.
    pub ended_at: Timestamp,
    /// The journal after the end was committed.
    pub journal: JournalHead,
}

/// Sent both ways after `heartbeat_ms` without another frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The sender's clock.
    pub timestamp: Timestamp,
}

/// See [`ToAgent::TelemetryAck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TelemetryAck {
    /// The stream.
    pub stream: StreamId,
    /// Last committed sequence number.
    pub seq: u64,
}

/// An order: the agent executes only from the bytes of `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The action; the plan names the same.
    pub action_id: ActionId,
    /// Exact bytes of a [`crate::Plan`].
    pub plan: String,
    /// Of the people who approved it, where the host asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

/// Names an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActionRef {
    /// The action.
    pub action_id: ActionId,
}

/// See [`ToAgent::ChecksAssign`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChecksAssign {
    /// Digest of the assignment; the same version changes nothing.
    pub version: String,
    /// Language of the reports' texts.
    #[serde(default)]
    pub language: Language,
    /// All checks of the host.
    pub checks: Vec<CheckSpec>,
}

/// See [`ToAgent::CertificateUpdate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CertificateUpdate {
    /// Leaf for the key the host has, and issuing certificate, PEM.
    pub cert: String,
    /// Roots to trust, PEM. One that the host does not know yet must chain to
    /// one that it knows, through `cross`.
    pub ca: String,
    /// New roots' keys, certified by the roots before them, PEM; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cross: String,
}

/// Says that a frame was not understood or not accepted; the connection lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ErrorFrame {
    /// Stable code.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
    /// The action of the refused frame, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_id: Option<ActionId>,
}

/// Stable codes of [`ErrorFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not one JSON document.
    NotJson,
    /// The method is not known in the agreed version.
    UnknownMethod,
    /// A field is missing, unknown or of the wrong type.
    InvalidFrame,
    /// The frame does not fit the state of the session.
    Unexpected,
    /// `agent_id` is not the host of the certificate.
    WrongIdentity,
    /// No common version.
    UnsupportedVersion,
    /// A sequence number was skipped without a gap.
    SeqGap,
    /// The store could not take it; send it again after a reconnect.
    Unavailable,
    /// Another machine uses this identity; a person has to decide.
    IdentityConflict,
    /// More than this host may send; it comes back later.
    TooMuch,
}

/// Why a frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// What to answer.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
    /// The method, if it could be read.
    pub method: Option<String>,
    /// The action, if it could be read.
    pub action_id: Option<ActionId>,
}

impl From<FrameError> for ErrorFrame {
    fn from(error: FrameError) -> Self {
        Self { code: error.code, message: error.message, action_id: error.action_id }
    }
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    action_id: Option<Cow<'a, str>>,
}

const FROM_AGENT: &[&str] = &[
    "hello",
    "telemetry.push",
    "action.accepted",
    "action.output",
    "action.result",
    "certificate.installed",
    "heartbeat",
    "error",
];
const TO_AGENT: &[&str] = &[
    "telemetry.ack",
    "command.exec",
    "service.control",
    "container.control",
    "file.diff",
    "file.apply",
    "file.rollback",
    "logs.read",
    "remediation.look",
    "remediation.run",
    "certificate.update",
    "action.cancel",
    "action.ack",
    "checks.assign",
    "heartbeat",
    "error",
];

/// Longest message of a refusal, in characters. It repeats parts of what was
/// refused, which may be as long as a frame and must not make its answer so.
const LONGEST_MESSAGE: usize = 500;
/// Of these the end, which names the place.
const MESSAGE_END: usize = 100;

/// The message, without its middle where it is too long.
pub(crate) fn shortened(message: String) -> String {
    let length = message.chars().count();
    if length <= LONGEST_MESSAGE {
        return message;
    }
    let begin = message.chars().take(LONGEST_MESSAGE - MESSAGE_END - 1);
    begin.chain(std::iter::once('…')).chain(message.chars().skip(length - MESSAGE_END)).collect()
}

fn explain(text: &str, known: &[&str], error: &serde_json::Error) -> FrameError {
    let Ok(peek) = serde_json::from_str::<Peek<'_>>(text) else {
        return FrameError {
            code: if error.is_data() { ErrorCode::InvalidFrame } else { ErrorCode::NotJson },
            message: shortened(format!("the frame is not one JSON object with a text `method`: {error}")),
            method: None,
            action_id: None,
        };
    };
    let method = peek.method.map(|method| method.chars().take(64).collect::<String>());
    let (code, message) = match &method {
        None => (ErrorCode::InvalidFrame, "the frame has no `method`".to_owned()),
        Some(name) if !known.contains(&name.as_str()) => {
            (ErrorCode::UnknownMethod, format!("the method `{name}` is not known in protocol version 1"))
        }
        Some(name) => (ErrorCode::InvalidFrame, format!("the `{name}` frame is not valid: {error}")),
    };
    FrameError { code, message: shortened(message), method, action_id: peek.action_id.and_then(|id| id.parse().ok()) }
}

impl FromAgent {
    /// Reads one frame.
    ///
    /// # Errors
    /// What to answer, with the method and action if they could be read.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str(text).map_err(|error| explain(text, FROM_AGENT, &error))
    }
}

impl ToAgent {
    /// Reads one frame.
    ///
    /// # Errors
    /// What to answer, with the method and action if they could be read.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str(text).map_err(|error| explain(text, TO_AGENT, &error))
    }

    /// The frame of an order.
    #[must_use]
    pub const fn order(kind: ActionKind, order: Order) -> Self {
        match kind {
            ActionKind::CommandExec => Self::CommandExec(order),
            ActionKind::ServiceControl => Self::ServiceControl(order),
            ActionKind::ContainerControl => Self::ContainerControl(order),
            ActionKind::FileDiff => Self::FileDiff(order),
            ActionKind::FileApply => Self::FileApply(order),
            ActionKind::FileRollback => Self::FileRollback(order),
            ActionKind::LogsRead => Self::LogsRead(order),
            ActionKind::RemediationLook => Self::RemediationLook(order),
            ActionKind::RemediationRun => Self::RemediationRun(order),
        }
    }

    /// The order in the frame, or the frame again.
    ///
    /// # Errors
    /// The frame is no order.
    pub fn into_order(self) -> Result<(ActionKind, Order), Box<Self>> {
        Ok(match self {
            Self::CommandExec(order) => (ActionKind::CommandExec, order),
            Self::ServiceControl(order) => (ActionKind::ServiceControl, order),
            Self::ContainerControl(order) => (ActionKind::ContainerControl, order),
            Self::FileDiff(order) => (ActionKind::FileDiff, order),
            Self::FileApply(order) => (ActionKind::FileApply, order),
            Self::FileRollback(order) => (ActionKind::FileRollback, order),
            Self::LogsRead(order) => (ActionKind::LogsRead, order),
            Self::RemediationLook(order) => (ActionKind::RemediationLook, order),
            Self::RemediationRun(order) => (ActionKind::RemediationRun, order),
            other => return Err(Box::new(other)),
        })
    }
}

/// A frame as text. Frames hold only what JSON can write, so this cannot fail.
///
/// # Panics
/// Never for the types of this crate.
#[must_use]
pub fn encode<T: Serialize>(frame: &T) -> String {
    serde_json::to_string(frame).unwrap_or_else(|error| unreachable!("a frame is always JSON: {error}"))
}

/// Body of `POST /southbound/v1/enroll`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// Single-use enrolment token.
    pub token: String,
    /// Certificate request, PEM.
    pub csr: String,
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolRequest").field("token", &"[redacted]").field("csr", &self.csr.len()).finish()
    }
}

/// Answer to [`EnrolRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnrolAnswer {
    /// The host's id.
    pub host_id: HostId,
    /// Its enrolled name.
    pub name: String,
    /// Leaf and issuing certificate, PEM.
    pub cert: String,
    /// Root certificate, PEM.
    pub ca: String,
}

/// Body of `POST /southbound/v1/renew`: a host whose certificate is no longer
/// accepted proves by its key who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The host's id.
    pub host_id: HostId,
    /// Certificate request signed by the key that was pinned, PEM.
    pub csr: String,
}

/// Answer to [`RenewRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RenewAnswer {
    /// As in [`CertificateUpdate::cert`].
    pub cert: String,
    /// As in [`CertificateUpdate::ca`].
    pub ca: String,
    /// As in [`CertificateUpdate::cross`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cross: String,
    /// The coordinator's clock.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_frame_says_what_is_wrong_and_keeps_the_action_id() {
        let id = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a";
        let code = |text: &str| ToAgent::parse(text).expect_err("must be refused");

        assert_eq!(code("{").code, ErrorCode::NotJson);
        assert_eq!(code("[]").code, ErrorCode::InvalidFrame);
        assert_eq!(code("{}").code, ErrorCode::InvalidFrame);
        assert_eq!(code(r#"{"method":"reboot.now"}"#).code, ErrorCode::UnknownMethod);
        let unknown_field = code(&format!(r#"{{"method":"command.exec","action_id":"{id}","plan":"","sudo":true}}"#));
        assert_eq!(unknown_field.code, ErrorCode::InvalidFrame);
        assert!(unknown_field.message.contains("sudo"), "{}", unknown_field.message);
        assert_eq!(unknown_field.action_id.map(|id| id.to_string()), Some(id.to_owned()));
    }

    #[test]
    fn the_refusal_of_a_long_frame_is_short_and_still_names_the_place() {
        let field = "x".repeat(100_000);
        let refused = FromAgent::parse(&format!(r#"{{"method":"heartbeat","{field}":1}}"#)).expect_err("refused");
        assert_eq!(refused.message.chars().count(), LONGEST_MESSAGE);
        assert!(refused.message.starts_with("the `heartbeat` frame is not valid: unknown field `xxx"), "{refused}");
        assert!(refused.message.contains("expected `timestamp`"), "{refused}");
    }

    #[test]
    fn the_list_of_known_methods_is_the_list_of_variants() {
        let message = serde_json::from_str::<FromAgent>(r#"{"method":"?"}"#).expect_err("unknown").to_string();
        for method in FROM_AGENT {
            assert!(message.contains(&format!("`{method}`")), "{method} is not in: {message}");
        }
        let message = serde_json::from_str::<ToAgent>(r#"{"method":"?"}"#).expect_err("unknown").to_string();
        for method in TO_AGENT {
            assert!(message.contains(&format!("`{method}`")), "{method} is not in: {message}");
        }
    }

    #[test]
    fn hello_and_telemetry_are_open_and_a_push_is_not() {
        let push = |extra: &str, inner: &str| {
            FromAgent::parse(&format!(
                r#"{{"method":"telemetry.push","stream":"0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a","seq":1,"ts":"2026-11-20T12:00:00Z","payload":{{{inner}}}{extra}}}"#
            ))
        };
        assert!(push("", r#""kernel":"6.1""#).is_ok());
        assert!(push(r#","urgent":true"#, "").is_err());
    }
}
