//! What the registry says about a check, ready to be looked up.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use farol_protocol::{
    CheckId, Status,
    registry::{Check, Persona, Registry, RunsOn, Severity, Target},
};

use super::CheckKey;
use crate::{
    store::hosts::HostKey,
    text::{Line, SignalTitle},
};

/// Identity of the report that the coordinator makes about an agent's silence.
pub const SILENCE: &str = "agent.silence";

/// Identity of the report that the coordinator makes about batches that a host lost.
pub const TELEMETRY: &str = "host.telemetry";
/// Identity of the report that the coordinator makes about a host's clock.
pub const CLOCK: &str = "host.clock";

/// [`TELEMETRY`] as a check.
///
/// # Panics
/// Never: the text is a check id.
#[must_use]
pub fn telemetry() -> CheckId {
    TELEMETRY.parse().unwrap_or_else(|error| unreachable!("{TELEMETRY} is a check id: {error}"))
}

/// [`CLOCK`] as a check.
///
/// # Panics
/// Never: the text is a check id.
#[must_use]
pub fn clock() -> CheckId {
    CLOCK.parse().unwrap_or_else(|error| unreachable!("{CLOCK} is a check id: {error}"))
}

/// [`SILENCE`] as a check.
///
/// # Panics
/// Never: the text is a check id.
#[must_use]
pub fn silence() -> CheckId {
    SILENCE.parse().unwrap_or_else(|error| unreachable!("{SILENCE} is a check id: {error}"))
}

/// Identity of the report that the coordinator makes about a host's identity.
pub const IDENTITY: &str = "host.identity";

/// [`IDENTITY`] as a check.
///
/// # Panics
/// Never: the text is a check id.
#[must_use]
pub fn identity() -> CheckId {
    IDENTITY.parse().unwrap_or_else(|error| unreachable!("{IDENTITY} is a check id: {error}"))
}

/// Checks of what others report as signals begin so.
pub const SIGNAL_PREFIX: &str = "signal.";
/// Checks of what Alertmanager reports begin so.
pub const ALERT_PREFIX: &str = "alert.";

/// How a check becomes a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its scenario.
    pub scenario: String,
    /// What people read.
    pub title: String,
    /// Who speaks.
    pub persona: Persona,
    /// Bad reports in a row until it opens.
    pub attempts: u32,
    /// Good reports in a row until it resolves.
    pub recover: u32,
    severity: Severity,
    critical_hosts: HashSet<HostKey>,
    pub(super) runs_on: RunsOn,
    /// Longest wait in ms for its next report; none where reports are not regular.
    pub(super) stale_ms: Option<i64>,
    /// Whether a host that it needs may explain its problems.
    pub(super) is_explicable: bool,
    /// Whether it is one of several alike, on several hosts.
    pub(super) is_grouped: bool,
    /// After how many ms unacknowledged it rises by a level.
    pub(super) rise_ms: Option<i64>,
    /// Whether it is told once when it keeps changing.
    pub(super) may_flap: bool,
    /// After how many ms without a change it flaps no more.
    pub(super) calm_ms: i64,
    /// Hosts it is about; none stands for all.
    hosts: Option<HashSet<HostKey>>,
    /// Beginning of the checks it is for, where it is for more than one.
    prefix: Option<&'static str>,
}

impl Rule {
    /// What people read about one of its checks: a rule for many adds what the
    /// check is about.
    #[must_use]
    pub fn title_of(&self, check: &CheckId) -> String {
        let thing = self.prefix.and_then(|prefix| check.as_str().strip_prefix(prefix)?.split('/').next());
        match thing.filter(|thing| !thing.is_empty()) {
            Some(thing) => format!("{}: {thing}", self.title),
            None => self.title.clone(),
        }
    }

    /// Whether its reports come by themselves, good ones too.
    #[must_use]
    pub const fn is_regular(&self) -> bool {
        self.prefix.is_none()
    }

    fn covers(&self, host: HostKey) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(&host))
    }

    /// A critical report counts for more on a critical host, a warning for
    /// less than the scenario says.
    pub(super) fn severity(&self, host: HostKey, status: Status) -> Severity {
        match status {
            Status::Ok | Status::Warning => match self.severity {
                Severity::Critical => Severity::High,
                Severity::High => Severity::Medium,
                Severity::Medium | Severity::Low => Severity::Low,
                Severity::Info => Severity::Info,
            },
            Status::Critical if self.critical_hosts.contains(&host) => match self.severity {
                Severity::Info => Severity::Low,
                Severity::Low => Severity::Medium,
                Severity::Medium => Severity::High,
                Severity::High | Severity::Critical => Severity::Critical,
            },
            Status::Critical | Status::Unknown => self.severity,
        }
    }

    /// One level more, but a warning never counts for more than the scenario.
    pub(super) fn raised(&self, severity: Severity, status: Status) -> Severity {
        let next = match severity {
            Severity::Info => Severity::Low,
            Severity::Low => Severity::Medium,
            Severity::Medium => Severity::High,
            Severity::High | Severity::Critical => Severity::Critical,
        };
        if status == Status::Warning { next.min(self.severity.max(severity)) } else { next }
    }
}

/// The longest wait for a check's next report: three intervals and its limit.
fn stale(check: &Check) -> i64 {
    let timeout_ms = match &check.target {
        Target::Ready(spec) => spec.timeout_ms,
        Target::System(spec) => spec.timeout_ms,
        Target::Missing { .. } => 0,
    };
    let every = check.target.every_ms().saturating_mul(3).saturating_add(timeout_ms);
    ms(Duration::from_millis(every)).saturating_add(MARGIN_MS)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 8).min(i64::MAX / 8)
}

/// All rules of a registry.
#[derive(Debug, Default)]
pub struct Rules {
    by_check: HashMap<CheckId, Rule>,
    /// For checks that nobody can list beforehand, the longer beginning first.
    by_prefix: Vec<Rule>,
    /// Checks that show that a host lives, of hosts that name some.
    alive: HashMap<HostKey, Vec<CheckId>>,
    pub(super) hold_ms: i64,
    pub(super) group_ms: i64,
    pub(super) silence: Option<CheckId>,
    /// Sites of hosts, as numbers from 1.
    sites: HashMap<HostKey, u32>,
}

/// Margin of everything that is waited for, in ms.
const MARGIN_MS: i64 = 30_000;
/// A check that did not change for this long flaps no more.
const CALM_MS: i64 = 30 * 60_000;

impl Rules {
    /// Of `registry`, where `hosts` gives the keys of its hosts by name.
    #[must_use]
    pub fn new(registry: &Registry, hosts: &HashMap<String, HostKey>) -> Self {
        let critical_hosts: HashSet<HostKey> = registry
            .hosts
            .iter()
            .filter(|host| host.critical)
            .filter_map(|host| hosts.get(&host.name).copied())
            .collect();
        let mut by_check: HashMap<CheckId, Rule> = registry
            .scenarios
            .iter()
            .flat_map(|scenario| scenario.checks.iter().map(move |check| (scenario, check)))
            .map(|(scenario, check)| {
                let title = if scenario.checks.len() == 1 {
                    scenario.title.clone()
                } else {
                    format!("{}: {}", scenario.title, check.name)
                };
                let rule = Rule {
                    scenario: scenario.id.clone(),
                    title,
                    persona: scenario.persona,
                    attempts: scenario.attempts,
                    recover: scenario.recover,
                    severity: scenario.severity,
                    critical_hosts: critical_hosts.clone(),
                    runs_on: scenario.runs_on,
                    stale_ms: Some(stale(check)),
                    is_explicable: match &check.target {
                        Target::Ready(spec) => scenario.runs_on == RunsOn::Coordinator || spec.probe.looks_beyond(),
                        Target::System(_) | Target::Missing { .. } => true,
                    },
                    is_grouped: scenario.runs_on == RunsOn::Agent,
                    rise_ms: scenario.rise.map(ms),
                    may_flap: registry.correlation.flapping,
                    calm_ms: CALM_MS.max(ms(Duration::from_millis(check.target.every_ms())).saturating_mul(6)),
                    hosts: scenario
                        .hosts
                        .as_ref()
                        .map(|names| names.iter().filter_map(|name| hosts.get(name).copied()).collect()),
                    prefix: None,
                };
                (check.id.clone(), rule)
            })
            .collect();
        // Each is measured over time, so one report is enough.
        let own = |scenario: &str, title, severity| Rule {
            scenario: scenario.to_owned(),
            title,
            persona: registry.silence.persona,
            attempts: 1,
            recover: 1,
            severity,
            critical_hosts: critical_hosts.clone(),
            runs_on: RunsOn::Coordinator,
            stale_ms: None,
            is_explicable: scenario == SILENCE,
            is_grouped: true,
            rise_ms: registry.correlation.rise.map(ms),
            may_flap: registry.correlation.flapping,
            calm_ms: CALM_MS,
            hosts: None,
            prefix: None,
        };
        let language = registry.language;
        let title = crate::text::Message::AgentSilentTitle.in_words(language);
        by_check.insert(silence(), own(SILENCE, title, registry.silence.severity));
        let title = crate::text::Message::IdentityTitle.in_words(language);
        by_check.insert(identity(), own(IDENTITY, title, registry.silence.severity));
        by_check.insert(telemetry(), own(TELEMETRY, Line::LostTitle.in_words(language), Severity::Medium));
        by_check.insert(clock(), own(CLOCK, Line::ClockTitle.in_words(language), Severity::High));
        let by_prefix = SignalTitle::ALL
            .into_iter()
            .map(|(prefix, title)| Rule {
                prefix: Some(prefix),
                is_grouped: false,
                persona: Persona::A1,
                ..own(prefix.trim_end_matches(['.', '/']), title.in_words(language), Severity::High)
            })
            .collect();
        let alive = registry
            .hosts
            .iter()
            .filter(|host| !host.alive_by.is_empty())
            .filter_map(|host| Some((*hosts.get(&host.name)?, host)))
            .map(|(key, host)| (key, host.alive_by.iter().cloned().chain([silence()]).collect()))
            .collect();
        let place = |site: &String| (1..).zip(&registry.sites).find(|(_, known)| known.id == *site).map(|(n, _)| n);
        let sites = registry
            .hosts
            .iter()
            .filter_map(|host| Some((*hosts.get(&host.name)?, host.site.as_ref().and_then(place)?)))
            .collect();
        let hold = registry.correlation.hold.map_or_else(|| ms(registry.silence.after) + MARGIN_MS, ms);
        Self {
            by_check,
            by_prefix,
            alive,
            hold_ms: hold,
            group_ms: ms(registry.correlation.group),
            silence: Some(silence()),
            sites,
        }
    }

    /// The site of a host as a number; 0 for none.
    pub(super) fn site(&self, host: HostKey) -> u32 {
        self.sites.get(&host).copied().unwrap_or(0)
    }

    /// The checks that all fail when a host is down.
    pub(super) fn alive(&self, host: HostKey) -> &[CheckId] {
        self.alive.get(&host).map_or(self.silence.as_slice(), Vec::as_slice)
    }

    /// Whether a check is one of those.
    pub(super) fn is_alive_check(&self, key: &CheckKey) -> bool {
        self.alive(key.0).contains(&key.1)
    }

    /// The rule of a host's check; none where the registry does not have it.
    #[must_use]
    pub fn of(&self, key: &CheckKey) -> Option<&Rule> {
        let of_prefix = || {
            let begins = |rule: &&Rule| rule.prefix.is_some_and(|prefix| key.1.as_str().starts_with(prefix));
            self.by_prefix.iter().find(begins)
        };
        self.by_check.get(&key.1).or_else(of_prefix).filter(|rule| rule.covers(key.0))
    }

    /// Whether the agent of `host` was assigned this check.
    #[must_use]
    pub fn may_report(&self, host: HostKey, check: &CheckId) -> bool {
        self.by_check.get(check).is_some_and(|rule| rule.runs_on == RunsOn::Agent && rule.covers(host))
    }
}
