//! One check, run now for a person at a terminal.

use farol_protocol::{
    Language, Report, Timestamp,
    registry::{Registry, RunsOn, Scenario, Target},
    report::Limits,
    system::{
        DockerProbe, GithubRunsProbe, OpnsenseLook, OpnsenseProbe, PfsenseLook, PfsenseProbe, PostgresLook,
        PostgresProbe, ProxmoxLook, ProxmoxProbe, RedisLook, RedisProbe, SystemProbe, SystemSpec, WazuhLook,
        WazuhProbe,
    },
};

use super::{Looker, missing};
use crate::{
    error::{Error, Result},
    integrations::{Connection, Integrations, Kind},
    store::Store,
};

/// How long a test may take: the slowest firewall's own limit.
const TEST_LIMIT_MS: u64 = 30_000;

/// What shows best that an integration works; none for one that takes messages.
fn first_question(connection: &Connection) -> Option<SystemProbe> {
    let (integration, limits) = (connection.name.clone(), Limits::default());
    Some(match connection.kind {
        Kind::Ntfy | Kind::Matrix | Kind::Webhook | Kind::Alertmanager => return None,
        Kind::Proxmox => SystemProbe::Proxmox(ProxmoxProbe {
            integration,
            look: ProxmoxLook::Quorum,
            guests: Vec::new(),
            ignore: Vec::new(),
            limits,
        }),
        Kind::Pfsense => {
            SystemProbe::Pfsense(PfsenseProbe { integration, look: PfsenseLook::System, names: Vec::new(), limits })
        }
        Kind::Opnsense => {
            SystemProbe::Opnsense(OpnsenseProbe { integration, look: OpnsenseLook::System, names: Vec::new(), limits })
        }
        Kind::Wazuh => SystemProbe::Wazuh(WazuhProbe { integration, look: WazuhLook::Manager, limits }),
        Kind::Docker => SystemProbe::Docker(DockerProbe { integration, containers: Vec::new(), limits }),
        Kind::Postgres => SystemProbe::Postgres(PostgresProbe {
            integration,
            look: PostgresLook::Answers,
            query: None,
            unit: None,
            limits,
        }),
        Kind::Redis => SystemProbe::Redis(RedisProbe { integration, look: RedisLook::Answers, limits }),
        Kind::Github => SystemProbe::GithubRuns(GithubRunsProbe {
            integration,
            // Of several, with commas between them, the first.
            repository: connection
                .options
                .get("repository")
                .and_then(|names| names.split(',').next())
                .map(|name| name.trim().to_owned())
                .unwrap_or_default(),
            branch: None,
            limits,
        }),
    })
}

/// Runs checks of a registry outside the schedule. Nothing is stored.
pub struct ByHand<'a> {
    registry: &'a Registry,
    integrations: &'a Integrations,
    looker: Looker,
}

impl<'a> ByHand<'a> {
    /// With the checks of `registry`.
    #[must_use]
    pub fn new(registry: &'a Registry, integrations: &'a Integrations) -> Self {
        Self { registry, integrations, looker: Looker::new(registry.language) }
    }

    /// Runs the check `name`, or every check of the scenario `name`.
    ///
    /// # Errors
    /// Nothing has this name, or the agents run it.
    pub async fn run(&self, name: &str) -> Result<Vec<Report>> {
        let of_scenario = self.registry.scenarios.iter().filter(|scenario| scenario.id == name);
        let whole: Vec<_> =
            of_scenario.flat_map(|scenario| scenario.checks.iter().map(move |c| (scenario, c))).collect();
        let found = if whole.is_empty() {
            let all =
                self.registry.scenarios.iter().flat_map(|scenario| scenario.checks.iter().map(move |c| (scenario, c)));
            all.filter(|(_, check)| check.id.as_str() == name).collect()
        } else {
            whole
        };
        if found.is_empty() {
            return Err(self.unknown(name));
        }
        let mut reports = Vec::new();
        for (scenario, check) in found {
            reports.push(self.one(scenario, check).await?);
        }
        Ok(reports)
    }

    /// Asks an integration what its kind is asked first, or sends a test message
    /// through it, and writes down whether it answered.
    ///
    /// # Errors
    /// No such integration, or the store failed.
    pub async fn test(integrations: &Integrations, store: &Store, language: Language, name: &str) -> Result<Report> {
        let connection = integrations.get(name);
        let connection = connection.ok_or_else(|| Error::NotFound { what: "integration", id: name.to_owned() })?;
        let now = Timestamp::now();
        let id =
            format!("integration/{name}").parse().map_err(|_| Error::Refused(format!("`{name}` is not a name")))?;
        let Some(probe) = first_question(&connection) else {
            let seen = crate::notify::test(integrations.clients(), language, &connection, now).await;
            integrations.note(store, &connection, &seen, now).await;
            if seen.answered {
                store.enable_channel(&format!("integration:{name}")).await?;
            }
            return Ok(Report {
                check: id,
                status: seen.status,
                value: None,
                unit: None,
                text: seen.text,
                observed_at: now,
                cause: None,
            });
        };
        let spec = SystemSpec { id, every_ms: 60_000, timeout_ms: TEST_LIMIT_MS, probe };
        let _turn = integrations.turn(Some(&connection.name), connection.kind.at_once()).await;
        // A person asks although it refused the credentials a while ago, and
        // when it takes them now the checks go on.
        integrations.clients().memory.with(&connection, |known| known.hold = None);
        let looker = Looker::new(language);
        let (seen, report) = looker.ask(integrations.clients(), language, &spec, Some(&connection)).await;
        integrations.note(store, &connection, &seen, now).await;
        Ok(report)
    }

    async fn one(&self, scenario: &Scenario, check: &farol_protocol::registry::Check) -> Result<Report> {
        Ok(match &check.target {
            Target::Missing { variable, .. } => missing(self.registry.language, scenario, &check.id, variable),
            Target::Ready(_) if scenario.runs_on == RunsOn::Agent => {
                return Err(Error::Config(format!(
                    "the agents run `{id}` by themselves; on a host, run `farol-agent check {id}`",
                    id = check.id
                )));
            }
            Target::Ready(spec) => self.looker.prober.run(spec, Timestamp::now()).await,
            Target::System(spec) => {
                let connection = self.integrations.for_probe(&spec.probe);
                let clients = self.integrations.clients();
                self.looker.ask(clients, self.registry.language, spec, connection.as_deref()).await.1
            }
        })
    }

    fn unknown(&self, name: &str) -> Error {
        let scenarios = self.registry.scenarios.iter();
        let names = || {
            scenarios.clone().flat_map(|scenario| {
                std::iter::once(scenario.id.as_str()).chain(scenario.checks.iter().map(|check| check.id.as_str()))
            })
        };
        let near = match farol_protocol::yaml::nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`farol check` lists them all".to_owned(),
        };
        Error::Config(format!("no check or scenario is called `{name}`; {near}"))
    }
}
