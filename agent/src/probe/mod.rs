//! Probes: what a check looks at. Every probe only reads, ends within its time
//! limit, and says in the operator's language what it saw. "It is broken" and
//! "I could not tell" are never the same status.
//!
//! The coordinator uses this module too, for the checks it runs itself.

mod aside;
mod certificate;
mod container;
mod containers;
mod counters;
mod disk;
mod disk_forecast;
mod dns;
mod file_age;
mod http;
mod inodes;
mod journal;
mod load;
mod mail_queue;
mod memory;
#[cfg_attr(farol_simulation, path = "../simulation/metrics.rs")]
pub mod metrics;
mod mount;
mod path;
mod ping;
mod port;
mod process;
mod program;
mod raid;
mod reboot_required;
mod smart;
mod sqlite;
mod sqlite_integrity;
mod swap;
mod tcp;
mod text;
mod time_skew;
mod trust;
mod unit;
mod units;
mod updates;
mod zfs;

use std::{
    fmt::Display,
    path::PathBuf,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use farol_protocol::{
    Language, Report, Status, Timestamp,
    report::{CheckSpec, Limits, Probe, UnknownCause, Worse},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use self::text::Text;
pub use self::text::{cause_words, is_local, is_no_way};
pub use crate::tls::tls_error;
use crate::{
    config::DEFAULT_DOCKER_SOCKET,
    policy::Policy,
    text::{cut, number},
};

/// Longest text of a report, in characters.
const MAX_TEXT: usize = 400;
/// Bounds of a check's own time limit.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=300_000;

/// Which files and journals a probe may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Any file and no journal: the coordinator's own checks, whose assignment
    /// is the operator's own configuration.
    All,
    /// The files and journals that this policy lists.
    Listed(Arc<Policy>),
    /// None, since the host has no policy.
    NoPolicy,
}

impl From<Option<Policy>> for Access {
    fn from(policy: Option<Policy>) -> Self {
        policy.map_or(Self::NoPolicy, |policy| Self::Listed(Arc::new(policy)))
    }
}

/// Runs checks. Cheap to keep; the HTTP client is built on first use.
pub struct Prober {
    settings: RwLock<(Language, Access)>,
    docker_socket: PathBuf,
    http: OnceLock<Result<reqwest::Client, String>>,
    history: History,
}

/// What probes remember from one run to the next. A restart forgets it.
#[derive(Debug, Default)]
struct History {
    fills: disk_forecast::Fills,
    units: counters::Counters,
    containers: counters::Counters,
    updates: updates::Known,
}

impl Prober {
    /// Runs nothing yet.
    #[must_use]
    pub fn new(language: Language, access: Access) -> Self {
        let docker_socket = DEFAULT_DOCKER_SOCKET.into();
        Self {
            settings: RwLock::new((language, access)),
            docker_socket,
            http: OnceLock::new(),
            history: History::default(),
        }
    }

    /// The same, with the container engine's socket elsewhere.
    #[must_use]
    pub fn with_docker_socket(self, docker_socket: impl Into<PathBuf>) -> Self {
        Self { docker_socket: docker_socket.into(), ..self }
    }

    /// Changes the language of later reports.
    pub fn set_language(&self, language: Language) {
        self.settings.write().unwrap_or_else(PoisonError::into_inner).0 = language;
    }

    /// Changes what later checks may read.
    pub fn set_access(&self, access: Access) {
        self.settings.write().unwrap_or_else(PoisonError::into_inner).1 = access;
    }

    /// Runs one check now. `now` becomes the report's observed time.
    pub async fn run(&self, spec: &CheckSpec, now: Timestamp) -> Report {
        #[cfg(farol_simulation)]
        if let Some(report) = crate::simulation::report(spec, now) {
            return report;
        }
        let (language, access) = self.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        let probing = Probing {
            language,
            limit: Duration::from_millis(spec.timeout_ms.clamp(*TIMEOUT_MS.start(), *TIMEOUT_MS.end())),
        };
        let seen = match spec.probe.limits().and_then(Limits::mistake) {
            Some(why) => probing.not_configured(Text::BadLimits, &[("why", why)]),
            None => match &spec.probe {
                Probe::Http(probe) => http::run(self, probing, probe, now).await,
                Probe::Tcp(probe) => tcp::run(probing, probe).await,
                Probe::Disk(probe) => disk::run(probing, probe).await,
                Probe::Memory(limits) => memory::run(probing, limits).await,
                Probe::Load(limits) => load::run(probing, limits).await,
                Probe::Process(probe) => process::run(probing, probe).await,
                Probe::Sqlite(probe) => sqlite::run(probing, &access, probe).await,
                Probe::Unit(probe) => unit::run(probing, probe).await,
                Probe::Container(probe) => container::run(probing, &self.docker_socket, probe).await,
                Probe::Journal(probe) => journal::run(probing, &access, probe, now).await,
                Probe::Inodes(probe) => inodes::run(probing, probe).await,
                Probe::DiskForecast(probe) => disk_forecast::run(probing, &self.history.fills, probe, now).await,
                Probe::Swap(limits) => swap::run(probing, limits).await,
                Probe::Port(probe) => port::run(probing, probe).await,
                Probe::Certificate(probe) => certificate::run(probing, probe, now).await,
                Probe::Dns(probe) => dns::run(probing, probe).await,
                Probe::Ping(probe) => ping::run(probing, probe).await,
                Probe::Units(probe) => units::run(probing, &self.history.units, spec.id.as_str(), probe).await,
                Probe::Containers(probe) => {
                    let (socket, counters) = (&self.docker_socket, &self.history.containers);
                    containers::run(probing, socket, counters, spec.id.as_str(), probe).await
                }
                Probe::FileAge(probe) => file_age::run(probing, &access, probe, now).await,
                Probe::SqliteIntegrity(probe) => sqlite_integrity::run(probing, &access, probe).await,
                Probe::TimeSkew(probe) => time_skew::run(probing, probe).await,
                Probe::Zfs(probe) => zfs::run(probing, probe).await,
                Probe::Smart(probe) => smart::run(probing, probe).await,
                Probe::Raid(_) => raid::run(probing).await,
                Probe::Updates(probe) => updates::run(probing, &self.history.updates, probe, now).await,
                Probe::RebootRequired(probe) => reboot_required::run(probing, probe).await,
                Probe::MailQueue(probe) => mail_queue::run(probing, probe, now).await,
            },
        };
        Report {
            check: spec.id.clone(),
            status: seen.status,
            value: seen.value.filter(|value| value.is_finite()),
            unit: seen.value.and(seen.unit),
            text: cut(&seen.text, MAX_TEXT),
            observed_at: now,
            cause: seen.cause,
        }
    }
}

/// What one run of a probe saw.
struct Seen {
    status: Status,
    value: Option<f64>,
    unit: Option<String>,
    text: String,
    cause: Option<UnknownCause>,
}

/// What every probe needs to know.
#[derive(Clone, Copy)]
struct Probing {
    language: Language,
    limit: Duration,
}

impl Probing {
    fn say(self, text: Text, values: &[(&str, &str)]) -> String {
        text.say(self.language, values)
    }

    fn number(self, value: f64) -> String {
        number(self.language, value)
    }

    /// The time limit in seconds, as text.
    fn seconds(self) -> String {
        self.number(self.limit.as_secs_f64())
    }

    fn without_value(self, status: Status, text: Text, values: &[(&str, &str)]) -> Seen {
        Seen { status, value: None, unit: None, text: self.say(text, values), cause: None }
    }

    fn critical(self, text: Text, values: &[(&str, &str)]) -> Seen {
        self.without_value(Status::Critical, text, values)
    }

    /// The target is at fault, unless this host is.
    fn unreachable(self, target: &str, error: &(dyn std::error::Error + 'static)) -> Seen {
        let status = if text::is_local(error) { Status::Unknown } else { Status::Critical };
        let why = text::cause_words(self.language, error);
        self.without_value(status, Text::Unreachable, &[("target", target), ("why", &why)])
    }

    fn unknown(self, text: Text, values: &[(&str, &str)]) -> Seen {
        self.without_value(Status::Unknown, text, values)
    }

    fn not_configured(self, text: Text, values: &[(&str, &str)]) -> Seen {
        Seen { cause: Some(UnknownCause::NotConfigured), ..self.unknown(text, values) }
    }

    /// Judges a value; `over` is said instead of `fine` when a limit is crossed.
    fn judged(self, limits: &Limits, value: f64, unit: &str, [fine, over]: [Text; 2], values: &[(&str, &str)]) -> Seen {
        let status = limits.judge(value);
        let measured = self.number(value);
        let limit = crossed(limits, value).map(|limit| self.number(limit)).unwrap_or_default();
        let text = match status {
            Status::Ok => fine,
            Status::Warning | Status::Critical => over,
            Status::Unknown => return self.unknown(Text::NotANumber, &[]),
        };
        let common = [("value", measured.as_str()), ("limit", limit.as_str())];
        let values: Vec<_> = values.iter().copied().chain(common).collect();
        Seen { status, value: Some(value), unit: Some(unit.to_owned()), text: self.say(text, &values), cause: None }
    }

    /// A number of things whose status is known already.
    fn counted(self, status: Status, count: usize, text: Text, values: &[(&str, &str)]) -> Seen {
        let value = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let shown = self.number(value);
        let values: Vec<_> = values.iter().copied().chain([("value", shown.as_str())]).collect();
        let text = self.say(text, &values);
        Seen { status, value: Some(value), unit: Some("count".to_owned()), text, cause: None }
    }

    /// Runs what may block in the kernel, such as a dead file system, aside.
    async fn blocking<T: Send + 'static, E: Display + Send + 'static>(
        self,
        what: Text,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Seen> {
        self.blocking_until(Instant::now() + self.limit, what, read).await
    }

    /// The same for a path that may hang for long: there is one look at it at
    /// a time, whoever asks.
    async fn blocking_on<T: Send + 'static, E: Display + Send + 'static>(
        self,
        path: &str,
        what: Text,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Seen> {
        let deadline = Instant::now() + self.limit;
        let Ok(held) = timeout_at(deadline, aside::hold(path)).await else {
            return Err(self.unknown(Text::StillBusy, &[("what", path)]));
        };
        let read = move || {
            let _held = held;
            read()
        };
        self.blocking_until(deadline, what, read).await
    }

    async fn blocking_until<T: Send + 'static, E: Display + Send + 'static>(
        self,
        deadline: Instant,
        what: Text,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Seen> {
        let failed = |why: &str| self.unknown(Text::NotReadable, &[("what", &self.say(what, &[])), ("why", why)]);
        match timeout_at(deadline, spawn_blocking(read)).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(failed(&error.to_string())),
            Ok(Err(error)) => Err(failed(&error.to_string())),
            Err(_) => Err(self.unknown(Text::TimeLimit, &[("seconds", &self.seconds())])),
        }
    }
}

/// The most serious limit that `value` crosses.
fn crossed(limits: &Limits, value: f64) -> Option<f64> {
    let beyond = |limit: &f64| match limits.worse {
        Worse::Above => value >= *limit,
        Worse::Below => value <= *limit,
    };
    limits.critical.filter(beyond).or_else(|| limits.warning.filter(beyond))
}

fn milliseconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
