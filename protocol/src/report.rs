//! Checks and their outcomes.

use serde::{Deserialize, Serialize};

mod host;

pub use self::host::*;
use crate::{CheckId, Timestamp, system::pin_mistake};

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
    /// Too little was seen yet; opens no finding.
    NotEnoughData,
}

impl UnknownCause {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::NotEnoughData => "not_enough_data",
        }
    }
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
    /// Lines of the system's journal that match. Value: count within the
    /// window, or with `rate` lines per minute.
    Journal(JournalProbe),
    /// Used inodes of a mounted file system. Value: per cent.
    Inodes(InodesProbe),
    /// When a file system is full if it goes on like this. Value: hours.
    DiskForecast(DiskForecastProbe),
    /// Used swap space. Value: per cent.
    Swap(Limits),
    /// Whether something listens on a local port. Value: sockets, count.
    Port(PortProbe),
    /// The certificate of a TLS port. Value: days left.
    Certificate(CertificateProbe),
    /// A question to a name server. Value: response time in ms.
    Dns(DnsProbe),
    /// ICMP echo. Value: median time in ms.
    Ping(PingProbe),
    /// All units of the service manager. Value: failed or restarting ones, count.
    Units(UnitsProbe),
    /// All containers of the local engine. Value: those down, unhealthy or
    /// restarting, count.
    Containers(ContainersProbe),
    /// Age of a file, such as a backup. Value: hours.
    FileAge(FileAgeProbe),
    /// SQLite's own check of a file. Value: faults, count.
    SqliteIntegrity(SqliteIntegrityProbe),
    /// The local clock against its time source. Value: offset in seconds, where known.
    TimeSkew(TimeSkewProbe),
    /// ZFS pools. Value: per cent used of the fullest.
    Zfs(ZfsProbe),
    /// Drives by their own reckoning. Value: °C of the hottest.
    Smart(SmartProbe),
    /// Arrays of Linux's software RAID. Value: those that lack members, count.
    Raid(RaidProbe),
    /// Packages that wait for an update. Value: count.
    Updates(UpdatesProbe),
    /// Whether the host must be restarted. Value: days since then.
    RebootRequired(RebootRequiredProbe),
    /// Postfix's queue. Value: messages, count.
    MailQueue(MailQueueProbe),
}

impl Probe {
    /// The keys in `registry.yaml` and on the wire, in the order of the variants.
    pub const KINDS: [&'static str; 28] = [
        "http",
        "tcp",
        "disk",
        "memory",
        "load",
        "process",
        "sqlite",
        "unit",
        "container",
        "journal",
        "inodes",
        "disk_forecast",
        "swap",
        "port",
        "certificate",
        "dns",
        "ping",
        "units",
        "containers",
        "file_age",
        "sqlite_integrity",
        "time_skew",
        "zfs",
        "smart",
        "raid",
        "updates",
        "reboot_required",
        "mail_queue",
    ];

    /// Whether what it looks at may lie beyond the host that runs it, so that
    /// it fails with the way there.
    #[must_use]
    pub const fn looks_beyond(&self) -> bool {
        matches!(
            self,
            Self::Http(_) | Self::Tcp(_) | Self::Certificate(_) | Self::Dns(_) | Self::Ping(_) | Self::TimeSkew(_)
        )
    }

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
            Self::Inodes(_) => "inodes",
            Self::DiskForecast(_) => "disk_forecast",
            Self::Swap(_) => "swap",
            Self::Port(_) => "port",
            Self::Certificate(_) => "certificate",
            Self::Dns(_) => "dns",
            Self::Ping(_) => "ping",
            Self::Units(_) => "units",
            Self::Containers(_) => "containers",
            Self::FileAge(_) => "file_age",
            Self::SqliteIntegrity(_) => "sqlite_integrity",
            Self::TimeSkew(_) => "time_skew",
            Self::Zfs(_) => "zfs",
            Self::Smart(_) => "smart",
            Self::Raid(_) => "raid",
            Self::Updates(_) => "updates",
            Self::RebootRequired(_) => "reboot_required",
            Self::MailQueue(_) => "mail_queue",
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
            | Self::Inodes(InodesProbe { limits, .. })
            | Self::DiskForecast(DiskForecastProbe { limits, .. })
            | Self::Certificate(CertificateProbe { limits, .. })
            | Self::Dns(DnsProbe { limits, .. })
            | Self::Ping(PingProbe { limits, .. })
            | Self::Units(UnitsProbe { limits, .. })
            | Self::Containers(ContainersProbe { limits, .. })
            | Self::FileAge(FileAgeProbe { limits, .. })
            | Self::TimeSkew(TimeSkewProbe { limits, .. })
            | Self::Zfs(ZfsProbe { limits, .. })
            | Self::Smart(SmartProbe { limits, .. })
            | Self::Updates(UpdatesProbe { limits, .. })
            | Self::RebootRequired(RebootRequiredProbe { limits, .. })
            | Self::MailQueue(MailQueueProbe { limits, .. })
            | Self::Memory(limits)
            | Self::Load(limits)
            | Self::Swap(limits) => Some(limits),
            Self::Process(_) | Self::Container(_) | Self::Port(_) | Self::SqliteIntegrity(_) | Self::Raid(_) => None,
        }
    }

    /// What is wrong with it apart from its thresholds, if anything is.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        match self {
            Self::Http(http) => http.mistake(),
            Self::Tcp(tcp) if !is_address(&tcp.address) => Some(not_an_address(&tcp.address)),
            Self::Tcp(tcp) if tcp.banner.as_deref() == Some("") => Some("`banner` is empty".to_owned()),
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
            Self::DiskForecast(probe) => not_below(&probe.limits, "hours"),
            Self::Port(port) if port.port == 0 => Some("`port` is 0".to_owned()),
            Self::Certificate(probe) if !is_address(&probe.address) => Some(not_an_address(&probe.address)),
            Self::Certificate(probe) => {
                probe.pin.as_deref().and_then(pin_mistake).or_else(|| not_below(&probe.limits, "days"))
            }
            Self::Dns(dns) if dns.name.is_empty() => Some("`name` is empty".to_owned()),
            Self::Ping(ping) if ping.gateway == ping.address.is_some() => {
                Some("say either `address` or `gateway: true`".to_owned())
            }
            Self::Ping(ping) if !(1..=20).contains(&ping.count) => Some("`count` lies outside 1 to 20".to_owned()),
            Self::Ping(ping) => ping.loss.mistake().map(|why| format!("`loss`: {why}")),
            Self::FileAge(FileAgeProbe { path, .. }) | Self::SqliteIntegrity(SqliteIntegrityProbe { path })
                if !path.starts_with('/') =>
            {
                Some(format!("`{path}` is not an absolute path"))
            }
            Self::FileAge(probe)
                if probe.path.rsplit_once('/').is_some_and(|(folder, _)| folder.contains(['*', '?'])) =>
            {
                Some(format!("`{}` has a `*` or `?` before its last part", probe.path))
            }
            Self::Updates(updates) => updates.security.mistake().map(|why| format!("`security`: {why}")),
            Self::MailQueue(queue) => queue.deferred.mistake().map(|why| format!("`deferred`: {why}")),
            _ => None,
        }
    }

    /// What is wrong with running it each `every_ms` for `timeout_ms` at most,
    /// if anything is.
    #[must_use]
    pub fn timing_mistake(&self, every_ms: u64, timeout_ms: u64) -> Option<String> {
        match self {
            Self::DiskForecast(_) if every_ms > DiskForecastProbe::MOST_EVERY_MS => Some(
                "`disk_forecast` needs 4 readings within 24 hours; run it at least every 6 hours (`every: 6h`)"
                    .to_owned(),
            ),
            Self::Ping(ping) if timeout_ms < ping.least_timeout_ms() => Some(format!(
                "{} echo requests need a `timeout` of {} ms or more; raise it or lower `count`",
                ping.count,
                ping.least_timeout_ms()
            )),
            _ => None,
        }
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn not_an_address(text: &str) -> String {
    format!("`{text}` is not of the form host:port")
}

impl HttpProbe {
    fn mistake(&self) -> Option<String> {
        let secure = self.url.starts_with("https://");
        if !secure && !self.url.starts_with("http://") {
            return Some(format!("`{}` is not an http:// or https:// address", self.url));
        }
        if !secure && (self.pin.is_some() || self.certificate.is_some()) {
            return Some("`pin` and `certificate` need an https:// address".to_owned());
        }
        for JsonMatch { at, is } in &self.json {
            if !at.is_empty() && !at.starts_with('/') {
                return Some(format!("`{at}` is not a JSON pointer; write `/{at}`"));
            }
            if is.is_array() || is.is_object() {
                return Some(format!("`is` of `{at}` must be a text, a number, true, false or null"));
            }
        }
        self.pin.as_deref().and_then(pin_mistake).or_else(|| {
            self.certificate
                .as_ref()?
                .limits()
                .mistake()
                .map(|_| "`certificate`: the warning must have more days left than the critical one".to_owned())
        })
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
    /// Values that the body, a JSON document, must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<JsonMatch>,
    /// SHA-256 of the certificate that is trusted instead of the authorities,
    /// whatever name it carries: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds on the days left of the certificate that was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<DaysLeft>,
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
    /// Text with which the first line from the other side must begin, such as
    /// `SSH-2.0-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banner: Option<String>,
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
    /// Whether the value is lines per minute instead of lines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rate: bool,
    /// Thresholds on the value.
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

    /// What is wrong with a probe written as JSON.
    fn mistake(text: &str) -> Option<String> {
        serde_json::from_str::<Probe>(text).expect("a probe").mistake()
    }

    #[test]
    fn every_kind_is_a_variant_under_its_own_name() {
        for kind in Probe::KINDS {
            let error =
                serde_json::from_str::<Probe>(&format!(r#"{{"{kind}": {{"no_such": 1}}}}"#)).expect_err("refused");
            assert!(error.to_string().contains("no_such"), "{kind}: {error}");
        }
        for text in [r#"{"swap": {}}"#, r#"{"raid": {}}"#, r#"{"time_skew": {}}"#, r#"{"updates": {}}"#] {
            let probe: Probe = serde_json::from_str(text).expect("valid");
            assert!(text.contains(probe.kind()) && probe.mistake().is_none());
        }
    }

    #[test]
    fn what_runs_out_is_judged_downwards_or_refused() {
        let half = r#"{"disk_forecast": {"mount": "/", "limits": {"warning": 24}}}"#;
        assert!(mistake(half).is_some_and(|why| why.contains("worse: below")));
        assert_eq!(mistake(r#"{"disk_forecast": {"mount": "/", "limits": {"warning": 24, "worse": "below"}}}"#), None);
        assert!(mistake(r#"{"certificate": {"address": "a:443", "limits": {"critical": 7}}}"#).is_some());
        assert!(DaysLeft { warning: Some(21.0), critical: Some(7.0) }.limits().mistake().is_none());
    }

    #[test]
    fn mistakes_of_probes_are_named() {
        for (text, says) in [
            (r#"{"http": {"url": "ftp://a"}}"#, "http://"),
            (r#"{"http": {"url": "http://a", "pin": "sha256:00"}}"#, "https://"),
            (r#"{"http": {"url": "https://a", "pin": "sha256:00"}}"#, "SHA-256"),
            (r#"{"http": {"url": "https://a", "certificate": {"warning": 7, "critical": 21}}}"#, "more days"),
            (r#"{"http": {"url": "http://a", "json": [{"at": "status", "is": 1}]}}"#, "write `/status`"),
            (r#"{"http": {"url": "http://a", "json": [{"at": "/a", "is": []}]}}"#, "must be a text"),
            (r#"{"tcp": {"address": "a:22", "banner": ""}}"#, "empty"),
            (r#"{"tcp": {"address": "a"}}"#, "host:port"),
            (r#"{"ping": {}}"#, "gateway"),
            (r#"{"ping": {"address": "a", "gateway": true}}"#, "gateway"),
            (r#"{"ping": {"address": "a", "count": 0}}"#, "1 to 20"),
            (r#"{"file_age": {"path": "a"}}"#, "absolute"),
            (r#"{"file_age": {"path": "/srv/*/a"}}"#, "last part"),
            (r#"{"sqlite_integrity": {"path": "a"}}"#, "absolute"),
            (r#"{"port": {"port": 0}}"#, "is 0"),
            (r#"{"dns": {"name": ""}}"#, "empty"),
            (r#"{"mail_queue": {"deferred": {"warning": 9, "critical": 1}}}"#, "deferred"),
            (r#"{"updates": {"security": {"warning": 9, "critical": 1}}}"#, "security"),
        ] {
            let found = mistake(text).unwrap_or_else(|| panic!("{text} passes"));
            assert!(found.contains(says), "{text}: {found}");
        }
    }

    #[test]
    fn an_interval_or_time_limit_that_a_probe_cannot_work_with_is_named() {
        let probe = |text: &str| serde_json::from_str::<Probe>(text).expect("a probe");
        let forecast = probe(r#"{"disk_forecast": {"mount": "/"}}"#);
        let six_hours = 6 * 3_600_000;
        assert_eq!(forecast.timing_mistake(six_hours, 10), None);
        assert!(forecast.timing_mistake(six_hours + 1, 10).is_some_and(|why| why.contains("4 readings")));
        let ping = probe(r#"{"ping": {"address": "a", "count": 20}}"#);
        assert_eq!(ping.timing_mistake(60_000, 4_500), None);
        assert!(ping.timing_mistake(60_000, 4_499).is_some_and(|why| why.contains("4500 ms")));
        assert_eq!(probe(r#"{"swap": {}}"#).timing_mistake(u64::MAX, 0), None);
    }

    #[test]
    fn a_cause_is_the_same_word_in_the_store_and_on_the_wire() {
        for cause in [UnknownCause::NotConfigured, UnknownCause::NotEnoughData] {
            assert_eq!(serde_json::to_value(cause).expect("a word"), cause.as_str());
        }
    }

    #[test]
    fn contradicting_thresholds_are_named() {
        assert!(Limits { warning: Some(90.0), critical: Some(80.0), worse: Worse::Above }.mistake().is_some());
        assert!(Limits { warning: Some(1.0), critical: Some(3.0), worse: Worse::Below }.mistake().is_some());
        assert!(Limits { warning: Some(f64::INFINITY), ..Limits::default() }.mistake().is_some());
        assert!(Limits::default().mistake().is_none());
    }
}
