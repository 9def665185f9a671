//! Checks and their outcomes.

use serde::{Deserialize, Serialize};

use crate::{CheckId, Timestamp};

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Healthy.
    Ok,
    /// Beyond the warning threshold.
    Warning,
    /// Beyond the critical threshold, or failing.
    Critical,
    /// The check could not tell: never the same as healthy.
    Unknown,
}

impl Status {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a status is unknown, where the cause changes what Farol does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnknownCause {
    /// A variable, path permission or target is missing; opens no finding.
    NotConfigured,
}

/// Outcome of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Which check.
    pub check: CheckId,
    /// What it found.
    pub status: Status,
    /// Measured value in `unit`; absent is unknown, never 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Unit of `value`: `ms`, `%`, `count`, `load/core`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What is so, in the operator's language.
    pub text: String,
    /// When the host observed it, by the host's clock.
    pub observed_at: Timestamp,
    /// Set only with [`Status::Unknown`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<UnknownCause>,
}

/// One check an agent or the coordinator runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// Identity within the host.
    pub id: CheckId,
    /// Interval in ms.
    pub every_ms: u64,
    /// Time limit in ms.
    pub timeout_ms: u64,
    /// What to look at.
    pub probe: Probe,
}

/// What a check looks at. Every probe is read-only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A GET request. Value: response time in ms.
    Http(HttpProbe),
    /// A TCP connection. Value: connect time in ms.
    Tcp(TcpProbe),
    /// Used space of a mounted file system. Value: per cent.
    Disk(DiskProbe),
    /// Used memory. Value: per cent of the total that is not available.
    Memory(Limits),
    /// Load average of 5 minutes divided by the number of CPUs. Value: load/core.
    Load(Limits),
    /// Running processes of a name. Value: count.
    Process(ProcessProbe),
    /// One SELECT on an SQLite file. Value: the first column.
    Sqlite(SqliteProbe),
    /// A unit of the service manager. Value: restarts since it was started by hand.
    Unit(UnitProbe),
    /// A container of the local engine. Value: restarts by the engine.
    Container(ContainerProbe),
    /// Lines of the system's journal that match. Value: count within the window.
    Journal(JournalProbe),
}

impl Probe {
    /// The keys in `registry.yaml` and on the wire, in the order of the variants.
    pub const KINDS: [&'static str; 10] =
        ["http", "tcp", "disk", "memory", "load", "process", "sqlite", "unit", "container", "journal"];

    /// The key in `registry.yaml` and on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Disk(_) => "disk",
            Self::Memory(_) => "memory",
            Self::Load(_) => "load",
            Self::Process(_) => "process",
            Self::Sqlite(_) => "sqlite",
            Self::Unit(_) => "unit",
            Self::Container(_) => "container",
            Self::Journal(_) => "journal",
        }
    }

    /// Its thresholds, where it has some.
    #[must_use]
    pub const fn limits(&self) -> Option<&Limits> {
        match self {
            Self::Http(HttpProbe { limits, .. })
            | Self::Tcp(TcpProbe { limits, .. })
            | Self::Disk(DiskProbe { limits, .. })
            | Self::Sqlite(SqliteProbe { limits, .. })
            | Self::Unit(UnitProbe { limits, .. })
            | Self::Journal(JournalProbe { limits, .. })
            | Self::Memory(limits)
            | Self::Load(limits) => Some(limits),
            Self::Process(_) | Self::Container(_) => None,
        }
    }

    /// What is wrong with it apart from its thresholds, if anything is.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        match self {
            Self::Http(http) if !http.url.starts_with("http://") && !http.url.starts_with("https://") => {
                Some(format!("`{}` is not an http:// or https:// address", http.url))
            }
            Self::Tcp(tcp) if tcp.address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) => {
                Some(format!("`{}` is not of the form host:port", tcp.address))
            }
            Self::Sqlite(sqlite) if !sqlite.path.starts_with('/') => {
                Some(format!("`{}` is not an absolute path", sqlite.path))
            }
            Self::Process(process) if process.max.is_some_and(|max| max < process.min) => {
                Some("`max` lies below `min`".to_owned())
            }
            Self::Unit(unit) if !unit.name.contains('.') => {
                Some(format!("`{}` has no type; write `{}.service`", unit.name, unit.name))
            }
            Self::Container(container) if container.name.is_empty() => Some("the container has no name".to_owned()),
            Self::Journal(journal) if journal.pattern.is_empty() => Some("`pattern` is empty".to_owned()),
            _ => None,
        }
    }
}

/// Which side of a threshold is bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    /// At or above the threshold is bad.
    #[default]
    Above,
    /// At or below the threshold is bad.
    Below,
}

/// Thresholds on a value, in the probe's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// From here on the report is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// From here on it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    /// Which side is bad.
    #[serde(default)]
    pub worse: Worse,
}

impl Limits {
    /// The status of `value`; a value that is not a number is unknown.
    #[must_use]
    pub fn judge(&self, value: f64) -> Status {
        if value.is_nan() {
            return Status::Unknown;
        }
        let beyond = |limit: Option<f64>| {
            limit.is_some_and(|limit| match self.worse {
                Worse::Above => value >= limit,
                Worse::Below => value <= limit,
            })
        };
        if beyond(self.critical) {
            Status::Critical
        } else if beyond(self.warning) {
            Status::Warning
        } else {
            Status::Ok
        }
    }

    /// Why the thresholds contradict each other, if they do.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let finite = |limit: Option<f64>| limit.is_none_or(f64::is_finite);
        if !finite(self.warning) || !finite(self.critical) {
            return Some("thresholds must be finite numbers");
        }
        match (self.warning, self.critical, self.worse) {
            (Some(w), Some(c), Worse::Above) if w > c => {
                Some("the warning threshold lies above the critical one (set `worse: below` if low values are bad)")
            }
            (Some(w), Some(c), Worse::Below) if w < c => {
                Some("the warning threshold lies below the critical one although `worse` is `below`")
            }
            _ => None,
        }
    }
}

/// See [`Probe::Http`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// `http://` or `https://` address.
    pub url: String,
    /// Accepted status codes; empty means 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<u16>,
    /// Text the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Thresholds on the response time in ms.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`Probe::Tcp`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// `host:port`.
    pub address: String,
    /// Thresholds on the connect time in ms.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`Probe::Disk`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskProbe {
    /// Mount point.
    pub mount: String,
    /// Thresholds in per cent used.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`Probe::Process`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProcessProbe {
    /// Name of the executable, as `ps -o comm` shows it.
    pub name: String,
    /// Fewer than this many is critical.
    #[serde(default = "one")]
    pub min: u32,
    /// More than this many is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

const fn one() -> u32 {
    1
}

/// See [`Probe::Sqlite`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SqliteProbe {
    /// Absolute path of the file; on an agent the policy's `paths.read` must cover it.
    pub path: String,
    /// One SELECT whose first row gives a number and, optionally, a text.
    pub query: String,
    /// Unit of the number.
    #[serde(default = "count")]
    pub unit: String,
    /// Thresholds on the number.
    #[serde(default)]
    pub limits: Limits,
}

fn count() -> String {
    "count".to_owned()
}

/// See [`Probe::Unit`]. Critical: failed, or not active; warning: on its way
/// there, or restarted as often as the limits say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnitProbe {
    /// Name with its type, `nginx.service`.
    pub name: String,
    /// Thresholds on the number of automatic restarts.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`Probe::Container`]. Critical: not running, or unhealthy by its own
/// health check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainerProbe {
    /// Name of the container.
    pub name: String,
    /// This many restarts by the engine, or more, are a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
}

/// See [`Probe::Journal`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JournalProbe {
    /// Whose lines; an agent reads only units that the policy lists under `services` or `logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Text that a line must contain, compared without regard to case.
    pub pattern: String,
    /// How far back to look, in ms.
    #[serde(default = "ten_minutes")]
    pub window_ms: u64,
    /// Thresholds on the number of lines.
    #[serde(default)]
    pub limits: Limits,
}

const fn ten_minutes() -> u64 {
    600_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_judge_on_the_bad_side_and_include_the_limit() {
        let above = Limits { warning: Some(80.0), critical: Some(90.0), worse: Worse::Above };
        assert_eq!(
            [79.9, 80.0, 90.0, f64::NAN].map(|v| above.judge(v)),
            [Status::Ok, Status::Warning, Status::Critical, Status::Unknown]
        );
        let below = Limits { warning: Some(3.0), critical: Some(1.0), worse: Worse::Below };
        assert_eq!([4.0, 3.0, 0.0].map(|v| below.judge(v)), [Status::Ok, Status::Warning, Status::Critical]);
    }

    #[test]
    fn contradicting_thresholds_are_named() {
        assert!(Limits { warning: Some(90.0), critical: Some(80.0), worse: Worse::Above }.mistake().is_some());
        assert!(Limits { warning: Some(1.0), critical: Some(3.0), worse: Worse::Below }.mistake().is_some());
        assert!(Limits { warning: Some(f64::INFINITY), ..Limits::default() }.mistake().is_some());
        assert!(Limits::default().mistake().is_none());
    }
}
