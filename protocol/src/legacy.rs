//! Peers that speak the older southbound contract: `hello` without `protocol`.
//!
//! Field names are fixed by clients that exist. Orders carry only these
//! fields, answers have no `method`, pushes have no `seq`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ActionId, Timestamp,
    effect::CommandExec,
    frame::{ErrorCode, FrameError, HelloPolicy, shortened},
};

/// First frame of such a peer. Open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// The host's id or its enrolled name.
    pub agent_id: String,
    /// Name the host gives itself.
    #[serde(default)]
    pub name: Option<String>,
    /// Version of the agent.
    #[serde(default)]
    pub version: Option<String>,
    /// Methods it takes.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The host's clock.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

/// Answer to [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HelloAnswer {
    /// Always true; a refused peer gets [`Answer`] with an error.
    pub ok: bool,
    /// Limits.
    pub policy: HelloPolicy,
}

/// Answer to a push, or the refusal of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    /// Whether it is committed.
    pub ok: bool,
    /// Repeats the push's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_id: Option<ActionId>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The one order such a peer takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Exec {
    /// Always `command.exec`.
    pub method: String,
    /// The action.
    pub action_id: ActionId,
    /// Program.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Time limit in ms.
    pub timeout: u64,
    /// Working directory.
    pub cwd: String,
}

impl Exec {
    /// The order that carries `exec`.
    #[must_use]
    pub fn new(action_id: ActionId, exec: CommandExec) -> Self {
        Self {
            method: "command.exec".to_owned(),
            action_id,
            command: exec.command,
            args: exec.args,
            timeout: exec.timeout,
            cwd: exec.cwd.unwrap_or_else(|| "/".to_owned()),
        }
    }
}

/// What such a peer sends after its hello.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    /// Any JSON object as a batch.
    TelemetryPush(TelemetryPush),
    /// Outcome of the open order.
    ExecAnswer(ExecAnswer),
}

/// A batch without `seq`, deduplicated by host and `action_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TelemetryPush {
    /// Always `telemetry.push`.
    pub method: String,
    /// Identity of the push.
    pub action_id: ActionId,
    /// Any object.
    pub payload: Map<String, Value>,
    /// When it was observed, by the host's clock.
    pub ts: Timestamp,
}

/// Answer to [`Exec`], matched by `action_id` if present, else to the one open order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecAnswer {
    /// Whether it ran and succeeded.
    pub ok: bool,
    /// The order.
    #[serde(default)]
    pub action_id: Option<ActionId>,
    /// Exit code.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Standard output.
    #[serde(default)]
    pub stdout: String,
    /// Standard error.
    #[serde(default)]
    pub stderr: String,
    /// Why the peer refused it.
    #[serde(default)]
    pub error: Option<String>,
}

impl FromAgent {
    /// Reads one frame.
    ///
    /// # Errors
    /// What to answer.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let fail = |code, message, method: Option<&str>| FrameError {
            code,
            message: shortened(message),
            method: method.map(|m| m.chars().take(64).collect()),
            action_id: None,
        };
        let value: Value = serde_json::from_str(text)
            .map_err(|error| fail(ErrorCode::NotJson, format!("the frame is not JSON: {error}"), None))?;
        match value.get("method").map(|method| method.as_str()) {
            None => ExecAnswer::deserialize(&value)
                .map(Self::ExecAnswer)
                .map_err(|error| fail(ErrorCode::InvalidFrame, format!("the answer is not valid: {error}"), None)),
            Some(Some("telemetry.push")) => {
                TelemetryPush::deserialize(&value).map(Self::TelemetryPush).map_err(|error| {
                    let message = format!("the `telemetry.push` frame is not valid: {error}");
                    fail(ErrorCode::InvalidFrame, message, Some("telemetry.push"))
                })
            }
            Some(method) => {
                let message = format!("the method {:?} is not known here", method.unwrap_or("(not a text)"));
                Err(fail(ErrorCode::UnknownMethod, message, method))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_method_is_an_outcome_and_anything_else_is_refused() {
        assert!(matches!(
            FromAgent::parse(r#"{"ok":true,"exit_code":0,"stdout":"x","stderr":""}"#),
            Ok(FromAgent::ExecAnswer(_))
        ));
        for bad in [r#"{"ok":true,"extra":1}"#, r#"{"method":"nope"}"#, r#"{"method":7}"#, "nonsense", "[]"] {
            assert!(FromAgent::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
