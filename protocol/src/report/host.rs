//! What the newer probes of a host and of a service are told.
//!
//! Where low values are the bad ones (days or hours left), the thresholds must
//! say `worse: below`; [`Probe::mistake`](super::Probe::mistake) insists on it.

use serde::{Deserialize, Serialize};

use super::{Limits, Worse};

/// See [`super::Probe::Inodes`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InodesProbe {
    /// Mount point.
    pub mount: String,
    /// Thresholds in per cent used.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`super::Probe::DiskForecast`]. Unknown until half
/// an hour was seen; a file system that does not fill up is ok.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DiskForecastProbe {
    /// Mount point.
    pub mount: String,
    /// Thresholds in hours left, with `worse: below`.
    #[serde(default = "below")]
    pub limits: Limits,
}

impl DiskForecastProbe {
    /// Longest interval that gives four readings within a day although one
    /// comes late, in ms.
    pub const MOST_EVERY_MS: u64 = 6 * 3_600_000;
}

/// See [`super::Probe::Port`]. Critical: nothing listens, or
/// another process does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PortProbe {
    /// Local port.
    pub port: u16,
    /// Which protocol.
    #[serde(default)]
    pub protocol: PortProtocol,
    /// Name of the executable that must listen. Telling needs the right to
    /// look into that process; without it the check is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// What a port belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// A listening socket.
    #[default]
    Tcp,
    /// A bound socket.
    Udp,
}

/// See [`super::Probe::Certificate`]. Critical as well:
/// it is not trusted, or no TLS is spoken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CertificateProbe {
    /// `host:port` of a port that speaks TLS from the first byte on.
    pub address: String,
    /// The name it must be valid for, instead of the address's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// SHA-256 of the certificate that is trusted instead of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds in days left, with `worse: below`.
    #[serde(default = "below")]
    pub limits: Limits,
}

/// See [`super::Probe::Dns`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DnsProbe {
    /// Full name to ask for; no search domain is added.
    pub name: String,
    /// Type of record.
    #[serde(default, rename = "type")]
    pub record: DnsType,
    /// Values that must all be among the answers, as `dig +short` writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<String>,
    /// Name server to ask, an IP address with or without a port; absent: those
    /// of the system's `/etc/resolv.conf`, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Thresholds on the response time in ms.
    #[serde(default)]
    pub limits: Limits,
}

/// Types of records that [`DnsProbe`] asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsType {
    /// IPv4 address.
    #[default]
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Mail exchanger: `10 mail.example.org`.
    Mx,
    /// Name server.
    Ns,
    /// Reverse name.
    Ptr,
    /// Text.
    Txt,
}

impl DnsType {
    /// The word in the registry and in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
        }
    }
}

/// See [`super::Probe::Ping`]. Critical as well: no echo came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PingProbe {
    /// Host name or IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The host's own default gateway instead of an address.
    #[serde(default)]
    pub gateway: bool,
    /// How many requests, 1 to 20.
    #[serde(default = "three")]
    pub count: u32,
    /// Thresholds on the median time in ms.
    #[serde(default)]
    pub limits: Limits,
    /// Thresholds on the requests without an answer, in per cent.
    #[serde(default)]
    pub loss: Limits,
}

impl PingProbe {
    /// From one request to the next, in ms.
    pub const BETWEEN_MS: u64 = 200;
    /// What the last answer must be given, in ms.
    const LAST_MS: u64 = 500;

    /// Shortest time limit in which every request can be answered, in ms.
    #[must_use]
    pub fn least_timeout_ms(&self) -> u64 {
        u64::from(self.count) * Self::BETWEEN_MS + Self::LAST_MS
    }
}

/// See [`super::Probe::Units`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnitsProbe {
    /// Units that do not count; `*` and `?` stand for any text and any character.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// This many automatic restarts since the check looked last, or more, count.
    #[serde(default = "three")]
    pub restarts: u32,
    /// Thresholds on the number of units; by default one is critical.
    #[serde(default = "one_is_critical")]
    pub limits: Limits,
}

/// See [`super::Probe::Containers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainersProbe {
    /// Names that do not count; `*` and `?` stand for any text and any character.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// This many restarts by the engine since the check looked last, or more, count.
    #[serde(default = "super::one")]
    pub restarts: u32,
    /// Thresholds on the number of containers; by default one is critical.
    #[serde(default = "one_is_critical")]
    pub limits: Limits,
}

/// See [`super::Probe::FileAge`]. Critical as well: there is
/// no such file, or it is smaller than `min_bytes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileAgeProbe {
    /// Absolute path; `*` and `?` in its last part choose the newest of
    /// several. On an agent the policy's `paths.read` must cover it.
    pub path: String,
    /// Fewer bytes than this are critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<u64>,
    /// Thresholds on the age in hours.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`super::Probe::SqliteIntegrity`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SqliteIntegrityProbe {
    /// Absolute path of the file; on an agent the policy's `paths.read` must cover it.
    pub path: String,
}

/// See [`super::Probe::TimeSkew`]. Warning: not synchronised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TimeSkewProbe {
    /// Thresholds on the offset in seconds, in either direction.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`super::Probe::Zfs`]. Critical as well: a pool is not
/// online or has lost data; warning: it counts errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ZfsProbe {
    /// Name of the pool; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Thresholds in per cent used of the fullest pool.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`super::Probe::Smart`]. Critical as well: a drive says
/// that it fails; warning: it has bad sectors or is worn out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SmartProbe {
    /// Thresholds on the temperature of the hottest drive in °C.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`super::Probe::Raid`]. Critical: an array lacks members
/// or does not run; warning: it is being rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RaidProbe {}

/// See [`super::Probe::Updates`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdatesProbe {
    /// Thresholds on the number of packages.
    #[serde(default)]
    pub limits: Limits,
    /// Thresholds on those that close a security hole; by default one is a warning.
    #[serde(default = "one_is_a_warning")]
    pub security: Limits,
}

/// See [`super::Probe::RebootRequired`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RebootRequiredProbe {
    /// Thresholds on the days since it is needed; by default a warning at once.
    #[serde(default = "zero_is_a_warning")]
    pub limits: Limits,
}

/// See [`super::Probe::MailQueue`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MailQueueProbe {
    /// Thresholds on the number of messages.
    #[serde(default)]
    pub limits: Limits,
    /// Thresholds on those that wait for another attempt.
    #[serde(default)]
    pub deferred: Limits,
}

/// One value that a JSON document must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JsonMatch {
    /// Where: a JSON pointer such as `/status`, or nothing for the whole.
    pub at: String,
    /// What must stand there: a text, a number, `true`, `false` or `null`.
    pub is: serde_json::Value,
}

/// Thresholds on the days that a certificate has left; fewer are worse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DaysLeft {
    /// This many or fewer are a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// This many or fewer are critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

impl DaysLeft {
    /// The same as general thresholds.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits { warning: self.warning, critical: self.critical, worse: Worse::Below }
    }
}

/// Why thresholds on something that is running out are no such thresholds.
pub(super) fn not_below(limits: &Limits, what: &str) -> Option<String> {
    let given = limits.warning.or(limits.critical).is_some();
    (given && limits.worse != Worse::Below)
        .then(|| format!("few {what} are the bad ones: add `worse: below` to `limits`"))
}

fn below() -> Limits {
    Limits { worse: Worse::Below, ..Limits::default() }
}

fn one_is_critical() -> Limits {
    Limits { critical: Some(1.0), ..Limits::default() }
}

fn one_is_a_warning() -> Limits {
    Limits { warning: Some(1.0), ..Limits::default() }
}

fn zero_is_a_warning() -> Limits {
    Limits { warning: Some(0.0), ..Limits::default() }
}

const fn three() -> u32 {
    3
}
