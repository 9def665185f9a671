//! What an action does: the typed parameters of each kind.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ActionId, ActionKind, RiskClass, Timestamp, action::PlanError, remediation::Remediation};

/// The typed parameters of a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// `command.exec`.
    CommandExec(CommandExec),
    /// `service.control`.
    ServiceControl(ServiceControl),
    /// `container.control`.
    ContainerControl(ContainerControl),
    /// `file.diff`.
    FileDiff(FileDiff),
    /// `file.apply`.
    FileApply(FileApply),
    /// `file.rollback`.
    FileRollback(FileRollback),
    /// `logs.read`.
    LogsRead(LogsRead),
    /// `remediation.look`.
    RemediationLook(Remediation),
    /// `remediation.run`.
    RemediationRun(Remediation),
}

impl Effect {
    /// Reads the parameters of `kind`.
    ///
    /// # Errors
    /// A field is missing, unknown, of the wrong type or out of its bounds.
    pub fn parse(kind: ActionKind, params: &Value) -> Result<Self, PlanError> {
        let wrong = |source| PlanError::Params { kind, source };
        let effect = match kind {
            ActionKind::CommandExec => Self::CommandExec(CommandExec::deserialize(params).map_err(wrong)?),
            ActionKind::ServiceControl => Self::ServiceControl(ServiceControl::deserialize(params).map_err(wrong)?),
            ActionKind::ContainerControl => {
                Self::ContainerControl(ContainerControl::deserialize(params).map_err(wrong)?)
            }
            ActionKind::FileDiff => Self::FileDiff(FileDiff::deserialize(params).map_err(wrong)?),
            ActionKind::FileApply => Self::FileApply(FileApply::deserialize(params).map_err(wrong)?),
            ActionKind::FileRollback => Self::FileRollback(FileRollback::deserialize(params).map_err(wrong)?),
            ActionKind::LogsRead => Self::LogsRead(LogsRead::deserialize(params).map_err(wrong)?),
            ActionKind::RemediationLook => Self::RemediationLook(Remediation::deserialize(params).map_err(wrong)?),
            ActionKind::RemediationRun => Self::RemediationRun(Remediation::deserialize(params).map_err(wrong)?),
        };
        effect.check().map_err(PlanError::Bounds)?;
        Ok(effect)
    }

    fn check(&self) -> Result<(), String> {
        let timeout = self.timeout_ms();
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout) {
            return Err(format!("the timeout of {timeout} ms is outside 1 to {MAX_TIMEOUT_MS} ms"));
        }
        let texts: Vec<&str> = match self {
            Self::CommandExec(exec) => {
                if exec.command.is_empty() {
                    return Err("the command is empty".to_owned());
                }
                if exec.cwd.as_deref().is_some_and(|cwd| !cwd.starts_with('/')) {
                    return Err("cwd must be an absolute path".to_owned());
                }
                std::iter::once(&exec.command).chain(&exec.args).chain(&exec.cwd).map(String::as_str).collect()
            }
            Self::ServiceControl(control) => {
                if control.service.is_empty() {
                    return Err("the service is empty".to_owned());
                }
                vec![&control.service]
            }
            Self::ContainerControl(control) => {
                if control.container.is_empty() {
                    return Err("the container is empty".to_owned());
                }
                vec![&control.container]
            }
            Self::FileDiff(diff) => {
                check_file(&diff.path, &diff.want)?;
                vec![&diff.path]
            }
            Self::FileApply(apply) => {
                match (&apply.patch, &apply.content) {
                    (Some(text), None) | (None, Some(text)) => check_file(&apply.path, text)?,
                    _ => return Err("exactly one of `patch` and `content` is needed".to_owned()),
                }
                if apply.patch.is_some() && apply.expected_sha256.is_none() {
                    return Err("a patch needs `expected_sha256`: it changes a file that is there".to_owned());
                }
                if let Some(sha256) = &apply.expected_sha256 {
                    check_sha256(sha256)?;
                }
                if apply.mode.is_some_and(|mode| mode > 0o777) {
                    return Err("the mode is above 0777".to_owned());
                }
                vec![&apply.path]
            }
            Self::FileRollback(_) => vec![],
            Self::LogsRead(read) => {
                if !(1..=MAX_LOG_LINES).contains(&read.lines) {
                    return Err(format!("{} lines are outside 1 to {MAX_LOG_LINES}", read.lines));
                }
                match &read.source {
                    LogSource::Unit(unit) if unit.is_empty() => return Err("the unit is empty".to_owned()),
                    LogSource::Path(path) => check_path(path)?,
                    LogSource::Unit(_) => {}
                }
                if let (Some(since), Some(until)) = (read.since, read.until)
                    && until < since
                {
                    return Err("`until` lies before `since`".to_owned());
                }
                match &read.source {
                    LogSource::Unit(text) | LogSource::Path(text) => vec![text],
                }
            }
            Self::RemediationLook(remediation) | Self::RemediationRun(remediation) => {
                remediation.check()?;
                vec![]
            }
        };
        if texts.iter().any(|text| text.contains('\0')) {
            return Err("a NUL byte cannot be part of an argument".to_owned());
        }
        Ok(())
    }

    /// The class a kind has by default; a policy may raise it, never lower it.
    #[must_use]
    pub fn default_class(&self) -> RiskClass {
        match self {
            Self::RemediationRun(remediation) => remediation.class(),
            Self::FileDiff(_) | Self::LogsRead(_) | Self::RemediationLook(_) => RiskClass::R0,
            Self::CommandExec(_)
            | Self::FileApply(_)
            | Self::FileRollback(_)
            | Self::ServiceControl(ServiceControl { verb: ServiceVerb::Stop, .. })
            | Self::ContainerControl(ContainerControl { verb: ServiceVerb::Stop, .. }) => RiskClass::R2,
            Self::ServiceControl(_) | Self::ContainerControl(_) => RiskClass::R1,
        }
    }

    /// Time limit in ms.
    #[must_use]
    pub const fn timeout_ms(&self) -> u64 {
        match self {
            Self::CommandExec(exec) => exec.timeout,
            Self::ServiceControl(control) => control.timeout,
            Self::ContainerControl(control) => control.timeout,
            Self::FileDiff(diff) => diff.timeout,
            Self::FileApply(apply) => apply.timeout,
            Self::FileRollback(rollback) => rollback.timeout,
            Self::LogsRead(read) => read.timeout,
            Self::RemediationLook(remediation) | Self::RemediationRun(remediation) => remediation.timeout,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::CommandExec(_) => ActionKind::CommandExec,
            Self::ServiceControl(_) => ActionKind::ServiceControl,
            Self::ContainerControl(_) => ActionKind::ContainerControl,
            Self::FileDiff(_) => ActionKind::FileDiff,
            Self::FileApply(_) => ActionKind::FileApply,
            Self::FileRollback(_) => ActionKind::FileRollback,
            Self::LogsRead(_) => ActionKind::LogsRead,
            Self::RemediationLook(_) => ActionKind::RemediationLook,
            Self::RemediationRun(_) => ActionKind::RemediationRun,
        }
    }
}

/// Longest text of a file that an order carries, in bytes: it must fit a
/// frame, escaped, beside its plan.
pub const MAX_FILE_TEXT: usize = 256 * 1024;
/// Most lines that one `logs.read` answers.
pub const MAX_LOG_LINES: u32 = 10_000;

fn check_path(path: &str) -> Result<(), String> {
    let absolute = path.starts_with('/') && path.len() > 1;
    if !absolute || path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err("the path must be absolute and plain: no `.`, `..` or empty part".to_owned());
    }
    Ok(())
}

fn check_file(path: &str, text: &str) -> Result<(), String> {
    check_path(path)?;
    if text.len() > MAX_FILE_TEXT {
        return Err(format!("the text has {} bytes, at most {MAX_FILE_TEXT} are taken", text.len()));
    }
    Ok(())
}

fn check_sha256(text: &str) -> Result<(), String> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 64 && text.bytes().all(hex) {
        return Ok(());
    }
    Err("a SHA-256 has 64 lowercase hexadecimal digits".to_owned())
}

/// Longest time limit of an action: one hour.
pub const MAX_TIMEOUT_MS: u64 = 3_600_000;
/// Time limit where none is given: one minute.
pub const DEFAULT_TIMEOUT_MS: u64 = 60_000;

const fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_MS
}

/// Runs a program: an argument vector, never a shell line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandExec {
    /// Program: an absolute path, or a name resolved in a fixed PATH.
    pub command: String,
    /// Arguments, passed as they are.
    #[serde(default)]
    pub args: Vec<String>,
    /// Working directory; `/` when absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceVerb {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
}

impl ServiceVerb {
    /// The word on the wire and in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Controls a service that the host's policy lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceControl {
    /// Name in the host's policy.
    pub service: String,
    /// What to do.
    pub verb: ServiceVerb,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// Controls a container that the host's policy lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainerControl {
    /// Name of the container.
    pub container: String,
    /// What to do.
    pub verb: ServiceVerb,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// Says how a file differs from wanted content; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileDiff {
    /// Absolute path, which the policy's `paths.read` covers.
    pub path: String,
    /// Whole wanted content.
    pub want: String,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// Replaces a file's content at once, or not at all. Owner, mode and times of
/// access stay; the content before is kept on the host for `file.rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileApply {
    /// Absolute path, which the policy's `paths.write` covers.
    pub path: String,
    /// Unified diff against what is there. Either this or `content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Whole content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// SHA-256 of what is there, in 64 lowercase hexadecimal digits. Absent or
    /// null: there must be no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_sha256: Option<String>,
    /// Permission bits of a file that is new; 0644 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// Puts back what a `file.apply` of the same host replaced, if the file is
/// still as that action left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileRollback {
    /// The `file.apply`.
    pub action_id: ActionId,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// Where `logs.read` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The system's journal of one unit, which the policy lists under `services` or `logs`.
    Unit(String),
    /// A file, which the policy's `paths.read` covers.
    Path(String),
}

/// Reads the last lines of a log within a time span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LogsRead {
    /// Where.
    pub source: LogSource,
    /// From then on. With a file, lines without a time that can be read count as the line above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// At most this many, the last ones.
    #[serde(default = "default_lines")]
    pub lines: u32,
    /// Time limit in ms.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

const fn default_lines() -> u32 {
    200
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn params_out_of_bounds_are_refused() {
        let refuse = |kind, params| Effect::parse(kind, &params).expect_err("must be refused").to_string();
        let exec = ActionKind::CommandExec;
        assert!(refuse(exec, json!({"command": "", "args": []})).contains("empty"));
        assert!(refuse(exec, json!({"command": "id", "timeout": 0})).contains("timeout"));
        assert!(refuse(exec, json!({"command": "id", "cwd": "tmp"})).contains("absolute"));
        assert!(refuse(exec, json!({"command": "a\u{0}b"})).contains("NUL"));
        assert!(refuse(exec, json!({"command": "id", "shell": true})).contains("unknown field"));
        assert!(
            refuse(ActionKind::ServiceControl, json!({"service": "x", "verb": "purge"})).contains("unknown variant")
        );
    }

    #[test]
    fn stopping_a_service_is_riskier_than_restarting_it() {
        let class = |verb| {
            Effect::parse(ActionKind::ServiceControl, &json!({"service": "x", "verb": verb}))
                .expect("valid")
                .default_class()
        };
        assert_eq!(class("stop"), RiskClass::R2);
        assert_eq!(class("restart"), RiskClass::R1);
    }

    #[test]
    fn a_file_is_named_by_a_plain_absolute_path_and_changed_only_from_a_known_state() {
        let sha256 = "0".repeat(64);
        let refuse = |params| Effect::parse(ActionKind::FileApply, &params).expect_err("must be refused").to_string();
        for path in ["etc/motd", "/", "/etc/../shadow", "/etc//motd", "/etc/./motd", ""] {
            assert!(refuse(json!({"path": path, "content": ""})).contains("absolute"), "{path}");
        }
        assert!(refuse(json!({"path": "/a"})).contains("exactly one"));
        assert!(refuse(json!({"path": "/a", "content": "", "patch": ""})).contains("exactly one"));
        assert!(refuse(json!({"path": "/a", "patch": ""})).contains("expected_sha256"));
        assert!(refuse(json!({"path": "/a", "content": "", "expected_sha256": "A"})).contains("64 lowercase"));
        assert!(refuse(json!({"path": "/a", "content": "x".repeat(MAX_FILE_TEXT + 1)})).contains("at most"));
        let good = json!({"path": "/a", "patch": "", "expected_sha256": sha256});
        assert_eq!(Effect::parse(ActionKind::FileApply, &good).expect("valid").default_class(), RiskClass::R2);
    }

    #[test]
    fn reading_a_log_is_bounded() {
        let parse = |params| Effect::parse(ActionKind::LogsRead, &params);
        assert!(parse(json!({"source": {"unit": "nginx.service"}})).is_ok());
        assert!(parse(json!({"source": {"unit": "nginx.service"}, "lines": MAX_LOG_LINES + 1})).is_err());
        assert!(parse(json!({"source": {"path": "var/log"}})).is_err());
        let backward =
            json!({"source": {"unit": "x"}, "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"});
        assert!(parse(backward).is_err());
    }
}
