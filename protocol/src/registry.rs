//! `registry.yaml`: hosts, sites, scenarios, thresholds and routing as data.
//!
//! [`Registry::parse`] reads the document and refuses every mistake with its
//! line and column; what it returns has its variables filled in and its names
//! resolved. A check whose variable has no value stays in the registry as
//! [`Target::Missing`], so that its scenario can say which variable it wants.

mod correlation;
mod daily;
mod links;
pub mod notify;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

mod probe;
pub mod record;

use self::{correlation::CorrelationDoc, daily::DailyDoc, probe::AnyProbe, record::RecordDoc};
use crate::{
    ActionKind, CheckId, Effect, Language,
    report::{CheckSpec, Limits},
    site::{self, SiteDoc},
    system::SystemSpec,
    yaml::{self, Location, Mistake, Spanned},
};

pub use self::{correlation::Correlation, daily::Daily};
pub use crate::site::{Network, Site};

/// Members of the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Persona {
    /// Maestro, orchestrator.
    A0,
    /// Pulso, node health.
    A1,
    /// Trilho, mail infrastructure.
    A2,
    /// Carta, deliverability.
    A3,
    /// Escudo Mail, mail security.
    A4,
    /// Sentinela SOC.
    A5,
    /// Copiloto, support copilot.
    A6,
    /// Remediador, remediation.
    A7,
    /// Vigia, sentinel.
    #[serde(rename = "vigia")]
    Vigia,
    /// Curador, curator.
    #[serde(rename = "curador")]
    Curador,
}

impl Persona {
    /// All ten, in the order of the roster.
    pub const ALL: [Self; 10] =
        [Self::A0, Self::A1, Self::A2, Self::A3, Self::A4, Self::A5, Self::A6, Self::A7, Self::Vigia, Self::Curador];

    /// Identifier in the API, the store and the registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A0 => "A0",
            Self::A1 => "A1",
            Self::A2 => "A2",
            Self::A3 => "A3",
            Self::A4 => "A4",
            Self::A5 => "A5",
            Self::A6 => "A6",
            Self::A7 => "A7",
            Self::Vigia => "vigia",
            Self::Curador => "curador",
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Can wait for days.
    Low,
    /// Wants a look today.
    Medium,
    /// Wants a look now; sent by e-mail.
    High,
    /// Something people depend on is down; sent by e-mail.
    Critical,
}

impl Severity {
    /// The word in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Where a check runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunsOn {
    /// On the coordinator.
    #[default]
    Coordinator,
    /// On the agent of the scenario's host.
    Agent,
}

/// A registry that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    /// Language of the texts operators read.
    pub language: Language,
    /// Groups of hosts.
    pub sites: Vec<Site>,
    /// Machines that the registry knows; others may enrol too.
    pub hosts: Vec<Host>,
    /// Scenarios and the checks assigned to hosts, each as a bundle.
    pub scenarios: Vec<Scenario>,
    /// What is said when an agent falls silent.
    pub silence: Silence,
    /// How findings are made of reports.
    pub correlation: Correlation,
    /// Who is told of what; none where the document does not say.
    pub notify: Option<Vec<notify::Route>>,
    /// When A0 sums up the day.
    pub daily: Daily,
    /// Where the head of the record is sent.
    pub record: record::Record,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name under which it enrols.
    pub name: String,
    /// Its site.
    pub site: Option<String>,
    /// Its number in Proxmox.
    pub vmid: Option<u32>,
    /// Whether its critical reports weigh one level more.
    pub critical: bool,
    /// The host that it runs on.
    pub parent: Option<String>,
    /// Other hosts that it needs.
    pub depends_on: Vec<String>,
    /// Checks that all fail when it is down, beside its agent's silence.
    pub alive_by: Vec<CheckId>,
}

/// A named bundle of checks.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Identifier, such as `proxmox.cluster`.
    pub id: String,
    /// What people read.
    pub title: String,
    /// Who speaks.
    pub persona: Persona,
    /// How bad its findings are.
    pub severity: Severity,
    /// Hosts it is about; `None` stands for every enrolled host.
    pub hosts: Option<Vec<String>>,
    /// Where its checks run.
    pub runs_on: RunsOn,
    /// Bad reports in a row until a finding opens.
    pub attempts: u32,
    /// Good reports in a row until it resolves.
    pub recover: u32,
    /// Its checks.
    pub checks: Vec<Check>,
    /// After how long unacknowledged its problems rise by one level; absent: never.
    pub rise: Option<Duration>,
    /// The action that A7 may propose when it fails.
    pub propose: Option<Proposal>,
}

/// One check of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// `SCENARIO/NAME`, or the scenario's id when it is its only check.
    pub id: CheckId,
    /// Name within the scenario.
    pub name: String,
    /// What to run, or what is missing for it.
    pub target: Target,
}

/// Whether a check can run.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// It can, on an agent or on the coordinator.
    Ready(CheckSpec),
    /// It can, on the coordinator only.
    System(SystemSpec),
    /// A variable has no value.
    Missing {
        /// Its name.
        variable: String,
        /// Interval in ms, so that the scenario keeps saying so.
        every_ms: u64,
    },
}

impl Target {
    /// Interval in ms.
    #[must_use]
    pub const fn every_ms(&self) -> u64 {
        match self {
            Self::Ready(CheckSpec { every_ms, .. })
            | Self::System(SystemSpec { every_ms, .. })
            | Self::Missing { every_ms, .. } => *every_ms,
        }
    }

    /// Its thresholds, where it has some.
    #[must_use]
    pub const fn limits(&self) -> Option<&Limits> {
        match self {
            Self::Ready(spec) => spec.probe.limits(),
            Self::System(spec) => Some(spec.probe.limits()),
            Self::Missing { .. } => None,
        }
    }
}

/// An action that may be proposed. It is validated like one from a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Kind.
    pub kind: ActionKind,
    /// Host; absent stands for the finding's host.
    pub host: Option<String>,
    /// Parameters of the kind.
    pub params: Value,
}

/// What is said when an agent falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Silent for this long.
    pub after: Duration,
    /// Who speaks.
    pub persona: Persona,
    /// How bad it is; critical hosts are critical.
    pub severity: Severity,
}

/// Looks up a variable in the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Doc {
    #[cfg_attr(feature = "schema", schemars(with = "u32"))]
    version: Spanned<u32>,
    #[serde(default)]
    language: Language,
    #[serde(default)]
    variables: BTreeMap<String, Option<String>>,
    #[serde(default)]
    sites: Vec<SiteDoc>,
    #[serde(default)]
    hosts: Vec<HostDoc>,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    silence: SilenceDoc,
    #[serde(default)]
    correlation: CorrelationDoc,
    #[serde(default)]
    daily: DailyDoc,
    #[serde(default)]
    record: RecordDoc,
    #[serde(default)]
    scenarios: Vec<ScenarioDoc>,
    #[serde(default)]
    notify: Option<notify::NotifyDoc>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct HostDoc {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    name: Spanned<String>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    site: Option<Spanned<String>>,
    #[serde(default)]
    vmid: Option<u32>,
    #[serde(default)]
    critical: bool,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    parent: Option<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    depends_on: Vec<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    alive_by: Vec<Spanned<CheckId>>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
struct Defaults {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    every: Spanned<String>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    timeout: Spanned<String>,
    attempts: u32,
    recover: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        let text = |text: &str| Spanned::new(text.to_owned(), Location::UNKNOWN, Location::UNKNOWN);
        Self { every: text("5m"), timeout: text("10s"), attempts: 2, recover: 1 }
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
struct SilenceDoc {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    after: Spanned<String>,
    persona: Persona,
    severity: Severity,
}

impl Default for SilenceDoc {
    fn default() -> Self {
        Self {
            after: Spanned::new("90s".to_owned(), Location::UNKNOWN, Location::UNKNOWN),
            persona: Persona::A1,
            severity: Severity::High,
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct ScenarioDoc {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    id: Spanned<String>,
    title: String,
    persona: Persona,
    severity: Severity,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    hosts: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    runs_on: RunsOn,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    every: Option<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    timeout: Option<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u32>"))]
    attempts: Option<Spanned<u32>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u32>"))]
    recover: Option<Spanned<u32>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    rise: Option<Spanned<String>>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<CheckDoc>"))]
    checks: Spanned<Vec<CheckDoc>>,
    #[serde(default)]
    propose: Option<ProposalDoc>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct CheckDoc {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    name: Spanned<String>,
    #[cfg_attr(feature = "schema", schemars(with = "AnyProbe"))]
    probe: Spanned<AnyProbe>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    every: Option<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct ProposalDoc {
    kind: ActionKind,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    host: Option<Spanned<String>>,
    #[cfg_attr(feature = "schema", schemars(with = "Value"))]
    params: Spanned<Value>,
}

/// The schema of the document as it is written.
#[cfg(feature = "schema")]
pub(crate) fn schema(generator: schemars::SchemaGenerator) -> schemars::Schema {
    generator.into_root_schema_for::<Doc>()
}

/// Environment variables of the specification that change the registry itself.
const CRITICAL_VMIDS: &str = "AGENTIC_CRITICAL_VMIDS";
const INTERVAL_SEC: &str = "AGENTIC_INTERVAL_SEC";

impl Registry {
    /// Reads a registry and fills in its variables from `environment`, whose
    /// values go before the document's defaults.
    ///
    /// `AGENTIC_CRITICAL_VMIDS` marks hosts as critical by their `vmid`;
    /// `AGENTIC_INTERVAL_SEC` replaces the default interval.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(text: &str, environment: Environment<'_>) -> Result<Self, Mistake> {
        let doc: Doc = yaml::read(text)?;
        if doc.version.value != 1 {
            return Err(Mistake::at(
                doc.version.referenced,
                format!("registry version {} is not supported, only 1 is", doc.version.value),
            ));
        }
        let hosts = hosts(&doc, environment)?;
        let sites = site::resolve(&doc.sites)?;
        links::check(&doc.hosts)?;
        let names: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let correlation = doc.correlation.resolve()?;
        let daily = doc.daily.resolve()?;
        let mut defaults = doc.defaults;
        if let Some(seconds) = environment(INTERVAL_SEC) {
            let seconds: u32 = seconds.trim().parse().map_err(|_| Mistake {
                line: 0,
                column: 0,
                message: format!("the environment variable {INTERVAL_SEC} is `{seconds}`, not a number of seconds"),
            })?;
            defaults.every.value = format!("{}s", seconds.max(1));
        }

        let variables = Variables { declared: &doc.variables, environment };
        let mut seen = BTreeSet::new();
        let mut scenarios = Vec::with_capacity(doc.scenarios.len());
        for scenario in doc.scenarios {
            if !seen.insert(scenario.id.value.clone()) {
                return Err(Mistake::at(
                    scenario.id.referenced,
                    format!("the scenario `{}` is listed twice", scenario.id.value),
                ));
            }
            // Those are checks of what others send.
            if let Some(taken) = ["signal.", "alert."].iter().find(|taken| scenario.id.value.starts_with(**taken)) {
                return Err(Mistake::at(
                    scenario.id.referenced,
                    format!("`{}` begins with `{taken}`, which is kept for what others send", scenario.id.value),
                ));
            }
            scenarios.push(resolve(scenario, &defaults, correlation.rise, &variables, &names)?);
        }
        alive_by(&doc.hosts, &scenarios)?;
        let site_names: BTreeSet<&str> = sites.iter().map(|site| site.id.as_str()).collect();
        Ok(Self {
            record: doc.record.resolve()?,
            notify: doc.notify.map(|doc| notify::resolve(doc, &seen, &site_names)).transpose()?,
            language: doc.language,
            silence: Silence {
                after: duration(&doc.silence.after)?,
                persona: doc.silence.persona,
                severity: doc.silence.severity,
            },
            correlation,
            daily,
            sites,
            hosts,
            scenarios,
        })
    }

    /// The entry of a host, if the registry lists it.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Checks that the agent of `host` runs.
    #[must_use]
    pub fn assigned_to(&self, host: &str) -> Vec<CheckSpec> {
        self.scenarios
            .iter()
            .filter(|scenario| scenario.runs_on == RunsOn::Agent && scenario.covers(host))
            .flat_map(|scenario| &scenario.checks)
            .filter_map(|check| match &check.target {
                Target::Ready(spec) => Some(spec.clone()),
                Target::System(_) | Target::Missing { .. } => None,
            })
            .collect()
    }
}

impl Scenario {
    /// Whether its checks are about `host`.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|name| name == host))
    }
}

fn hosts(doc: &Doc, environment: Environment<'_>) -> Result<Vec<Host>, Mistake> {
    let critical: Vec<u32> = match environment(CRITICAL_VMIDS) {
        None => Vec::new(),
        Some(list) => list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| {
                item.parse().map_err(|_| Mistake {
                    line: 0,
                    column: 0,
                    message: format!("the environment variable {CRITICAL_VMIDS} holds `{item}`, not a number"),
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let mut seen = BTreeSet::new();
    doc.hosts
        .iter()
        .map(|host| {
            let name = &host.name.value;
            if let Err(error) = name.parse::<crate::HostId>() {
                return Err(Mistake::at(host.name.referenced, error.to_string()));
            }
            if !seen.insert(name) {
                return Err(Mistake::at(host.name.referenced, format!("the host `{name}` is listed twice")));
            }
            if let Some(site) = &host.site
                && !doc.sites.iter().any(|known| known.id.value == site.value)
            {
                return Err(Mistake::at(
                    site.referenced,
                    format!("the site `{}` is not listed under sites", site.value),
                ));
            }
            Ok(Host {
                name: name.clone(),
                site: host.site.as_ref().map(|site| site.value.clone()),
                vmid: host.vmid,
                critical: host.critical || host.vmid.is_some_and(|vmid| critical.contains(&vmid)),
                parent: host.parent.as_ref().map(|parent| parent.value.clone()),
                depends_on: host.depends_on.iter().map(|other| other.value.clone()).collect(),
                alive_by: host.alive_by.iter().map(|check| check.value.clone()).collect(),
            })
        })
        .collect()
}

/// What shows that a host lives is a check of that host.
fn alive_by(hosts: &[HostDoc], scenarios: &[Scenario]) -> Result<(), Mistake> {
    for host in hosts {
        for named in &host.alive_by {
            let mut about = scenarios.iter().filter(|scenario| scenario.covers(&host.name.value));
            if !about.any(|scenario| scenario.checks.iter().any(|check| check.id == named.value)) {
                return Err(Mistake::at(
                    named.referenced,
                    format!("`{}` is no check of the host `{}`", named.value, host.name.value),
                ));
            }
        }
    }
    Ok(())
}

fn resolve(
    doc: ScenarioDoc,
    defaults: &Defaults,
    rise: Option<Duration>,
    variables: &Variables<'_>,
    names: &BTreeSet<&str>,
) -> Result<Scenario, Mistake> {
    let known = |name: &Spanned<String>| {
        if names.contains(name.value.as_str()) {
            return Ok(name.value.clone());
        }
        Err(Mistake::at(name.referenced, format!("the host `{}` is not listed under hosts", name.value)))
    };
    let hosts = match &doc.hosts {
        None => None,
        Some(list) => Some(list.iter().map(known).collect::<Result<Vec<_>, _>>()?),
    };
    if doc.runs_on == RunsOn::Coordinator && hosts.as_ref().is_none_or(|hosts| hosts.len() != 1) {
        return Err(Mistake::at(
            doc.id.referenced,
            "a scenario that runs on the coordinator names in `hosts` the one host it is about",
        ));
    }
    let every = doc.every.as_ref().unwrap_or(&defaults.every);
    let timeout = doc.timeout.as_ref().unwrap_or(&defaults.timeout);
    let (every_ms, timeout_ms) = (millis(duration(every)?), millis(duration(timeout)?));
    let at_least_one = |count: Option<&Spanned<u32>>, default: u32| match count {
        Some(count) if count.value == 0 => Err(Mistake::at(count.referenced, "at least 1 is needed")),
        Some(count) => Ok(count.value),
        None => Ok(default.max(1)),
    };
    if doc.checks.value.is_empty() {
        return Err(Mistake::at(doc.checks.referenced, "a scenario needs at least one check"));
    }
    let single = doc.checks.value.len() == 1;
    let mut seen = BTreeSet::new();
    let mut checks = Vec::with_capacity(doc.checks.value.len());
    for check in &doc.checks.value {
        if !seen.insert(&check.name.value) {
            return Err(Mistake::at(
                check.name.referenced,
                format!("the check `{}` is listed twice in this scenario", check.name.value),
            ));
        }
        let id = if single { doc.id.value.clone() } else { format!("{}/{}", doc.id.value, check.name.value) };
        let place = if single { doc.id.referenced } else { check.name.referenced };
        let id: CheckId = id.parse().map_err(|error: crate::id::InvalidId| Mistake::at(place, error.to_string()))?;
        let own =
            |own: Option<&Spanned<String>>, of_scenario| own.map_or(Ok(of_scenario), |own| duration(own).map(millis));
        let every_ms = own(check.every.as_ref(), every_ms)?;
        let timeout_ms = own(check.timeout.as_ref(), timeout_ms)?;
        checks.push(Check {
            target: target(&id, &check.probe, every_ms, timeout_ms, doc.runs_on, variables)?,
            id,
            name: check.name.value.clone(),
        });
    }
    let propose = match &doc.propose {
        None => None,
        Some(proposal) if proposal.kind.is_remediation() => {
            let why = "a remediation is planned by a person, after a look at its host; propose one of its steps";
            return Err(Mistake::at(proposal.params.referenced, why));
        }
        Some(proposal) => {
            Effect::parse(proposal.kind, &proposal.params.value)
                .map_err(|error| Mistake::at(proposal.params.referenced, error.to_string()))?;
            Some(Proposal {
                kind: proposal.kind,
                host: proposal.host.as_ref().map(known).transpose()?,
                params: proposal.params.value.clone(),
            })
        }
    };
    Ok(Scenario {
        id: doc.id.value,
        title: doc.title,
        persona: doc.persona,
        severity: doc.severity,
        hosts,
        runs_on: doc.runs_on,
        attempts: at_least_one(doc.attempts.as_ref(), defaults.attempts)?,
        recover: at_least_one(doc.recover.as_ref(), defaults.recover)?,
        checks,
        rise: doc.rise.as_ref().map_or(Ok(rise), correlation::rise)?,
        propose,
    })
}

/// Fills in a probe's variables and judges what it then says.
fn target(
    id: &CheckId,
    probe: &Spanned<AnyProbe>,
    every_ms: u64,
    timeout_ms: u64,
    runs_on: RunsOn,
    variables: &Variables<'_>,
) -> Result<Target, Mistake> {
    let place = probe.referenced;
    let (probe, missing) = match &probe.value {
        AnyProbe::Wire(probe) => {
            let (probe, missing) = variables.fill_all(probe, place)?;
            (AnyProbe::Wire(probe), missing)
        }
        AnyProbe::System(probe) if runs_on == RunsOn::Agent => {
            return Err(Mistake::at(
                place,
                format!("`{}` is asked by the coordinator only; remove `runs_on: agent`", probe.kind()),
            ));
        }
        AnyProbe::System(probe) => {
            let (probe, missing) = variables.fill_all(probe, place)?;
            (AnyProbe::System(probe), missing)
        }
    };
    let (limits, mistake) = match &probe {
        AnyProbe::Wire(probe) => {
            (probe.limits(), probe.mistake().or_else(|| probe.timing_mistake(every_ms, timeout_ms)))
        }
        AnyProbe::System(probe) => (Some(probe.limits()), probe.mistake()),
    };
    if let Some(mistake) = limits.and_then(Limits::mistake) {
        return Err(Mistake::at(place, mistake));
    }
    if let Some(variable) = missing {
        return Ok(Target::Missing { variable, every_ms });
    }
    if let Some(mistake) = mistake {
        return Err(Mistake::at(place, mistake));
    }
    if let AnyProbe::System(probe) = &probe
        && every_ms < probe.least_every_ms()
    {
        let (kind, least) = (probe.kind(), humantime::format_duration(Duration::from_millis(probe.least_every_ms())));
        return Err(Mistake::at(place, format!("`{kind}` may not run more often than `every: {least}`")));
    }
    let id = id.clone();
    Ok(match probe {
        AnyProbe::Wire(probe) => Target::Ready(CheckSpec { id, every_ms, timeout_ms, probe }),
        AnyProbe::System(probe) => Target::System(SystemSpec { id, every_ms, timeout_ms, probe }),
    })
}

fn duration(text: &Spanned<String>) -> Result<Duration, Mistake> {
    let duration = humantime::parse_duration(&text.value).map_err(|_| {
        Mistake::at(text.referenced, format!("`{}` is not a duration such as 30s, 5m or 1h", text.value))
    })?;
    if duration < Duration::from_millis(100) || duration > Duration::from_secs(7 * 86_400) {
        return Err(Mistake::at(text.referenced, format!("`{}` lies outside 100 ms to 7 days", text.value)));
    }
    Ok(duration)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Variables<'a> {
    declared: &'a BTreeMap<String, Option<String>>,
    environment: Environment<'a>,
}

impl Variables<'_> {
    /// Fills every text inside a probe; answers the first name without a value.
    fn fill_all<T: Serialize + DeserializeOwned>(
        &self,
        probe: &T,
        place: Location,
    ) -> Result<(T, Option<String>), Mistake> {
        let broken = |error: serde_json::Error| Mistake::at(place, error.to_string());
        let mut document = serde_json::to_value(probe).map_err(broken)?;
        let mut missing = None;
        self.fill_value(&mut document, place, &mut missing)?;
        Ok((serde_json::from_value(document).map_err(broken)?, missing))
    }

    fn fill_value(&self, value: &mut Value, place: Location, missing: &mut Option<String>) -> Result<(), Mistake> {
        match value {
            Value::String(text) => {
                let name = self.fill(text, place)?;
                *missing = missing.take().or(name);
            }
            Value::Array(items) => {
                for item in items {
                    self.fill_value(item, place, missing)?;
                }
            }
            Value::Object(fields) => {
                for field in fields.values_mut() {
                    self.fill_value(field, place, missing)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    /// Replaces each `${NAME}` in `text`; answers the first name without a value.
    fn fill(&self, text: &mut String, place: Location) -> Result<Option<String>, Mistake> {
        let mut filled = String::with_capacity(text.len());
        let mut missing = None;
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err(Mistake::at(place, format!("`{text}` has a `${{` without its `}}`")));
            };
            let Some(default) = self.declared.get(name) else {
                return Err(Mistake::at(place, format!("the variable `{name}` is not listed under variables")));
            };
            filled.push_str(before);
            match (self.environment)(name).filter(|value| !value.is_empty()).or_else(|| default.clone()) {
                Some(value) => filled.push_str(&value),
                None => missing = missing.or_else(|| Some(name.to_owned())),
            }
            rest = after;
        }
        filled.push_str(rest);
        *text = filled;
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Probe, system::SystemProbe};

    const GOOD: &str = r#"
version: 1
variables:
  DESK_URL: http://10.10.10.122:8080
  TICKETS_DB:
sites: [{id: lab, name: Lab}]
hosts:
  - {name: vm122, site: lab, vmid: 122}
scenarios:
  - id: desk.api.health
    title: Desk
    persona: A1
    severity: high
    hosts: [vm122]
    checks:
      - name: api
        probe: {http: {url: "${DESK_URL}/health"}}
  - id: funnel
    title: Funil
    persona: A1
    severity: medium
    hosts: [vm122]
    checks:
      - name: stuck
        probe: {sqlite: {path: "${TICKETS_DB}", query: "select count(*) from t"}}
"#;

    fn refuse(text: &str) -> Mistake {
        Registry::parse(text, &|_| None).expect_err("must be refused")
    }

    #[test]
    fn variables_come_from_the_environment_then_the_document_and_a_missing_one_is_named() {
        let registry = Registry::parse(GOOD, &|_| None).expect("valid");
        let Target::Ready(spec) = &registry.scenarios[0].checks[0].target else { panic!("must be ready") };
        assert_eq!(spec.every_ms, 300_000);
        assert!(matches!(&spec.probe, Probe::Http(http) if http.url == "http://10.10.10.122:8080/health"));
        assert_eq!(
            registry.scenarios[1].checks[0].target,
            Target::Missing { variable: "TICKETS_DB".to_owned(), every_ms: 300_000 }
        );

        let environment = |name: &str| match name {
            "TICKETS_DB" => Some("/srv/tickets.db".to_owned()),
            "AGENTIC_INTERVAL_SEC" => Some("60".to_owned()),
            "AGENTIC_CRITICAL_VMIDS" => Some("112, 122".to_owned()),
            _ => None,
        };
        let registry = Registry::parse(GOOD, &environment).expect("valid");
        assert!(matches!(&registry.scenarios[1].checks[0].target, Target::Ready(spec) if spec.every_ms == 60_000));
        assert!(registry.hosts[0].critical);
    }

    #[test]
    fn every_mistake_is_refused_at_its_place() {
        let cases = [
            ("version: 1", "version: 2", 2, "version 2"),
            ("persona: A1", "persona: A9", 12, "A9"),
            ("severity: high", "severity: hgih", 13, "did you mean `high`"),
            ("hosts: [vm122]", "hosts: [vm999]", 14, "vm999"),
            ("${DESK_URL}", "${DESK}", 17, "DESK"),
            ("${DESK_URL}", "${DESK_URL", 17, "without its"),
            ("site: lab,", "site: moon,", 8, "moon"),
            ("id: funnel", "id: desk.api.health", 18, "twice"),
            ("id: funnel", "id: signal.funnel", 18, "kept for what others send"),
            ("id: funnel", "id: alert.funnel", 18, "kept for what others send"),
            ("title: Desk", "titel: Desk", 11, "did you mean `title`"),
            ("http: {url:", "htpp: {url:", 17, "did you mean `http`"),
            ("http: {url: \"${DESK_URL}/health\"", "odoo: {rul: x", 17, "did you mean `url`"),
            ("http: {url: \"${DESK_URL}/health\"", "odoo: {url: x", 17, "http://"),
            ("http: {url: \"${DESK_URL}/health\"}", "http: {url: \"http://a\"}, tcp: {address: a:1}", 17, "one probe"),
            ("\"${DESK_URL}/health\"", "\"ftp://x\"", 17, "http://"),
        ];
        for (from, to, line, says) in cases {
            let mistake = refuse(&GOOD.replacen(from, to, 1));
            assert_eq!(mistake.line, line, "{to}: {mistake}");
            assert!(mistake.column >= 1, "{to}: {mistake}");
            assert!(mistake.message.contains(says), "{to}: {mistake}");
        }
    }

    #[test]
    fn a_check_may_have_its_own_interval_and_time_limit() {
        let own = GOOD.replacen("{sqlite: {path", "{sqlite: {unit: rows, path", 1).replacen(
            "      - name: api\n",
            "      - name: api\n        every: 1h\n        timeout: 2m\n",
            1,
        );
        let registry = Registry::parse(&own, &|_| None).expect("valid");
        let Target::Ready(spec) = &registry.scenarios[0].checks[0].target else { panic!("must be ready") };
        assert_eq!((spec.every_ms, spec.timeout_ms), (3_600_000, 120_000));
        let mistake = refuse(&own.replacen("timeout: 2m", "timeout: soon", 1));
        assert_eq!((mistake.line, mistake.message.contains("soon")), (18, true), "{mistake}");
    }

    #[test]
    fn an_interval_too_long_for_a_forecast_is_refused_at_the_probe() {
        let with = |every: &str| {
            GOOD.replacen("{http: {url: \"${DESK_URL}/health\"}}", "{disk_forecast: {mount: /var}}", 1).replacen(
                "      - name: api\n",
                &format!("      - name: api\n        every: {every}\n"),
                1,
            )
        };
        Registry::parse(&with("6h"), &|_| None).expect("valid");
        let mistake = refuse(&with("8h"));
        assert_eq!((mistake.line, mistake.message.contains("every: 6h")), (18, true), "{mistake}");
    }

    #[test]
    fn a_system_is_asked_by_the_coordinator_only() {
        let quorum =
            GOOD.replacen("{http: {url: \"${DESK_URL}/health\"}}", "{proxmox: {integration: pve, look: quorum}}", 1);
        let registry = Registry::parse(&quorum, &|_| None).expect("valid");
        let target = &registry.scenarios[0].checks[0].target;
        assert!(
            matches!(target, Target::System(spec) if matches!(&spec.probe, SystemProbe::Proxmox(probe) if probe.integration == "pve")),
            "{target:?}"
        );
        let mistake = refuse(&quorum.replacen("hosts: [vm122]\n    checks", "runs_on: agent\n    checks", 1));
        assert!(mistake.message.contains("runs_on"), "{mistake}");
    }

    #[test]
    fn a_proposal_is_checked_like_an_order() {
        let with = |params: &str| {
            GOOD.replacen(
                "    hosts: [vm122]\n",
                &format!("    hosts: [vm122]\n    propose: {{kind: service.control, params: {params}}}\n"),
                1,
            )
        };
        assert!(Registry::parse(&with("{service: portal, verb: restart}"), &|_| None).is_ok());
        let mistake = refuse(&with("{service: portal, verb: purge}"));
        assert!(mistake.message.contains("purge"), "{mistake}");
        let run = with("{entry: x, steps: [], timeout: 1}").replace("service.control", "remediation.run");
        assert!(refuse(&run).message.contains("planned by a person"), "{}", refuse(&run));
        assert_eq!(mistake.line, 15, "{mistake}");
    }

    #[test]
    fn a_mistake_in_the_environment_is_named() {
        let mistake = Registry::parse(GOOD, &|name| (name == "AGENTIC_CRITICAL_VMIDS").then(|| "112,x".to_owned()))
            .expect_err("must be refused");
        assert!(mistake.message.contains("AGENTIC_CRITICAL_VMIDS"), "{mistake}");
    }
}
