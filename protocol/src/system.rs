//! Probes that only the coordinator runs: they ask a system about itself,
//! mostly with credentials that stay on the coordinator.
//!
//! They stand in `registry.yaml` beside [`Probe`](crate::report::Probe) and
//! never travel to an agent. Where a probe names an `integration`, that object
//! holds the address, the credentials and how TLS is verified; without it the
//! check is `unknown` for want of configuration.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    CheckId,
    report::{Limits, Worse},
};

/// One check that only the coordinator runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemSpec {
    /// Identity within the host.
    pub id: CheckId,
    /// Interval in ms.
    pub every_ms: u64,
    /// Time limit in ms.
    pub timeout_ms: u64,
    /// What to ask.
    pub probe: SystemProbe,
}

/// What the coordinator asks a system. Every probe only reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SystemProbe {
    /// A Proxmox VE cluster.
    Proxmox(ProxmoxProbe),
    /// A pfSense firewall through its REST API package, version 2.
    Pfsense(PfsenseProbe),
    /// An OPNsense firewall.
    Opnsense(OpnsenseProbe),
    /// A Wazuh manager.
    Wazuh(WazuhProbe),
    /// An Ollama server. Value: response time in ms.
    Ollama(OllamaProbe),
    /// The bridge in front of OpenPanel. Value: response time in ms.
    OpenpanelBridge(ServiceProbe),
    /// An Odoo server. Value: response time in ms.
    Odoo(ServiceProbe),
    /// A FOSSBilling installation. Value: response time in ms.
    Fossbilling(ServiceProbe),
    /// A Docker or Podman engine over TCP.
    Docker(DockerProbe),
    /// A PostgreSQL server.
    Postgres(PostgresProbe),
    /// A Redis or Valkey server.
    Redis(RedisProbe),
    /// A Prometheus server.
    Prometheus(PrometheusProbe),
    /// An Alertmanager. Value: response time in ms.
    Alertmanager(ServiceProbe),
    /// A Traefik proxy whose API is on. Value: routers and services in error or
    /// without a server that is up, count.
    Traefik(TraefikProbe),
    /// The dialogue of a mail server. Value: response time in ms.
    Smtp(SmtpProbe),
    /// What the name system says about a mail domain.
    MailDomain(MailDomainProbe),
    /// Whether an address or a domain is on block lists. Value: number of lists.
    BlockList(BlockListProbe),
    /// Workflow runs of a GitHub repository. Value: number of failed workflows.
    GithubRuns(GithubRunsProbe),
}

impl SystemProbe {
    /// The keys in `registry.yaml`, in the order of the variants.
    pub const KINDS: [&'static str; 18] = [
        "proxmox",
        "pfsense",
        "opnsense",
        "wazuh",
        "ollama",
        "openpanel_bridge",
        "odoo",
        "fossbilling",
        "docker",
        "postgres",
        "redis",
        "prometheus",
        "alertmanager",
        "traefik",
        "smtp",
        "mail_domain",
        "block_list",
        "github_runs",
    ];

    /// The key in `registry.yaml`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Proxmox(_) => "proxmox",
            Self::Pfsense(_) => "pfsense",
            Self::Opnsense(_) => "opnsense",
            Self::Wazuh(_) => "wazuh",
            Self::Ollama(_) => "ollama",
            Self::OpenpanelBridge(_) => "openpanel_bridge",
            Self::Odoo(_) => "odoo",
            Self::Fossbilling(_) => "fossbilling",
            Self::Docker(_) => "docker",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Prometheus(_) => "prometheus",
            Self::Alertmanager(_) => "alertmanager",
            Self::Traefik(_) => "traefik",
            Self::Smtp(_) => "smtp",
            Self::MailDomain(_) => "mail_domain",
            Self::BlockList(_) => "block_list",
            Self::GithubRuns(_) => "github_runs",
        }
    }

    /// The integration it names.
    #[must_use]
    pub fn integration(&self) -> Option<&str> {
        match self {
            Self::Proxmox(probe) => Some(&probe.integration),
            Self::Pfsense(probe) => Some(&probe.integration),
            Self::Opnsense(probe) => Some(&probe.integration),
            Self::Wazuh(probe) => Some(&probe.integration),
            Self::Docker(probe) => Some(&probe.integration),
            Self::Postgres(probe) => Some(&probe.integration),
            Self::Redis(probe) => Some(&probe.integration),
            Self::GithubRuns(probe) => Some(&probe.integration),
            Self::Ollama(_)
            | Self::OpenpanelBridge(_)
            | Self::Odoo(_)
            | Self::Fossbilling(_)
            | Self::Prometheus(_)
            | Self::Alertmanager(_)
            | Self::Traefik(_)
            | Self::Smtp(_)
            | Self::MailDomain(_)
            | Self::BlockList(_) => None,
        }
    }

    /// What is asked, as one word: checks of the same target share its limit
    /// on questions at a time. None: nothing is shared.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.integration().or(match self {
            Self::Ollama(probe) => Some(&probe.url),
            Self::OpenpanelBridge(probe) | Self::Odoo(probe) | Self::Fossbilling(probe) | Self::Alertmanager(probe) => {
                Some(&probe.url)
            }
            Self::Prometheus(probe) => Some(&probe.url),
            Self::Traefik(probe) => Some(&probe.url),
            Self::Smtp(probe) => Some(&probe.address),
            Self::MailDomain(probe) => Some(&probe.domain),
            Self::BlockList(probe) => Some(&probe.subject),
            _ => None,
        })
    }

    /// Its thresholds.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        match self {
            Self::Proxmox(probe) => &probe.limits,
            Self::Pfsense(probe) => &probe.limits,
            Self::Opnsense(probe) => &probe.limits,
            Self::Wazuh(probe) => &probe.limits,
            Self::Ollama(probe) => &probe.limits,
            Self::OpenpanelBridge(probe) | Self::Odoo(probe) | Self::Fossbilling(probe) | Self::Alertmanager(probe) => {
                &probe.limits
            }
            Self::Docker(probe) => &probe.limits,
            Self::Postgres(probe) => &probe.limits,
            Self::Redis(probe) => &probe.limits,
            Self::Prometheus(probe) => &probe.limits,
            Self::Traefik(probe) => &probe.limits,
            Self::Smtp(probe) => &probe.limits,
            Self::MailDomain(probe) => &probe.limits,
            Self::BlockList(probe) => &probe.limits,
            Self::GithubRuns(probe) => &probe.limits,
        }
    }

    /// Shortest interval in ms that those who are asked put up with.
    #[must_use]
    pub const fn least_every_ms(&self) -> u64 {
        match self {
            // The terms of lists that may be asked for nothing.
            Self::BlockList(_) => 3_600_000,
            _ => 0,
        }
    }

    /// What is wrong with it, if anything is: said at the place where it stands.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        let url = match self {
            Self::Ollama(probe) => Some((&probe.url, &probe.pin)),
            Self::OpenpanelBridge(probe) | Self::Odoo(probe) | Self::Fossbilling(probe) | Self::Alertmanager(probe) => {
                Some((&probe.url, &probe.pin))
            }
            Self::Prometheus(probe) => Some((&probe.url, &probe.pin)),
            Self::Traefik(probe) => Some((&probe.url, &probe.pin)),
            _ => None,
        };
        if let Some((url, pin)) = url {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Some(format!("`{url}` is not an http:// or https:// address"));
            }
            if let Some(pin) = pin {
                return pin_mistake(pin);
            }
        }
        match self {
            Self::Postgres(probe) if probe.look == PostgresLook::Query && probe.query.is_none() => {
                Some("looking at `query` needs a `query`".to_owned())
            }
            Self::Smtp(probe) if !is_address(&probe.address) => {
                Some(format!("`{}` is not of the form host:port", probe.address))
            }
            Self::Smtp(probe) => probe.pin.as_deref().and_then(pin_mistake),
            Self::MailDomain(probe) if probe.look == MailLook::Dkim && probe.selector.is_none() => {
                Some("looking at `dkim` needs a `selector`".to_owned())
            }
            Self::MailDomain(probe) if probe.look == MailLook::Ptr && probe.domain.parse::<IpAddr>().is_err() => {
                Some(format!("looking at `ptr` needs an address as `domain`, and `{}` is none", probe.domain))
            }
            Self::BlockList(probe) if probe.zones.is_empty() => {
                Some("`zones` is empty: name the block lists whose terms allow you to ask them".to_owned())
            }
            Self::GithubRuns(probe) if probe.repository.split('/').filter(|part| !part.is_empty()).count() != 2 => {
                Some(format!("`{}` is not of the form OWNER/NAME", probe.repository))
            }
            _ => None,
        }
    }
}

/// What is wrong with the pin of a certificate, if anything is.
#[must_use]
pub fn pin_mistake(pin: &str) -> Option<String> {
    let digits = pin.strip_prefix("sha256:").unwrap_or_default().replace(':', "");
    let good = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!good).then(|| {
        format!("`{pin}` is not the SHA-256 of a certificate: write `sha256:` and 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them")
    })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// See [`SystemProbe::Proxmox`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProxmoxProbe {
    /// The integration that reaches the cluster.
    pub integration: String,
    /// What to look at.
    pub look: ProxmoxLook,
    /// With `guests`: numbers of the guests that must run; empty stands for
    /// those that start by themselves with their node or that high
    /// availability keeps running. With `backups`: numbers of the guests that
    /// must have one; empty stands for those that a backup job covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<u32>,
    /// What does not count: numbers or names of guests, names of nodes or
    /// storages, ids of replication jobs, types of tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`ProxmoxProbe`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProxmoxLook {
    /// Whether the cluster has its quorum. Value: nodes online, count.
    Quorum,
    /// Whether every node is online. Value: nodes away, count.
    Nodes,
    /// Whether guests run. Value: guests that do not, count.
    Guests,
    /// Fullest storage. Value: per cent used.
    Storage,
    /// Replication jobs. Value: age of the oldest last success, minutes.
    Replication,
    /// Tasks that failed in the last 24 hours. Value: count.
    Tasks,
    /// Newest backup of each guest. Value: age of the oldest of them, hours.
    Backups,
}

/// See [`SystemProbe::Pfsense`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PfsenseProbe {
    /// The integration that reaches the firewall.
    pub integration: String,
    /// What to look at.
    pub look: PfsenseLook,
    /// With `services`: names of the services that must run; empty stands for
    /// all that are enabled. With `gateways`: names that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`PfsenseProbe`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PfsenseLook {
    /// The API answers, and the fullest of memory, disk, swap and buffers. Value: per cent.
    System,
    /// Gateways. Value: worst packet loss, per cent.
    Gateways,
    /// Services. Value: enabled ones that do not run, count.
    Services,
    /// High availability. Value: 1 where it is on and not in maintenance, else 0.
    Carp,
}

/// See [`SystemProbe::Opnsense`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OpnsenseProbe {
    /// The integration that reaches the firewall.
    pub integration: String,
    /// What to look at.
    pub look: OpnsenseLook,
    /// With `gateways`: names that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`OpnsenseProbe`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OpnsenseLook {
    /// What the firewall says about its own subsystems. Value: subsystems in trouble, count.
    System,
    /// Gateways. Value: worst packet loss, per cent.
    Gateways,
    /// Updates and whether a restart is needed. Value: age of the last look, days.
    Firmware,
    /// Fullest file system. Value: per cent.
    Disk,
}

/// See [`SystemProbe::Wazuh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WazuhProbe {
    /// The integration that reaches the manager.
    pub integration: String,
    /// What to look at.
    pub look: WazuhLook,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`WazuhProbe`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WazuhLook {
    /// The manager's daemons. Value: those that do not run, count.
    Manager,
    /// Its agents. Value: disconnected ones, count.
    Agents,
}

/// See [`SystemProbe::Ollama`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OllamaProbe {
    /// Base address.
    pub url: String,
    /// A model that must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it must answer a question of one word, too. A model that is not
    /// loaded takes as long as it takes to load: give such a check time.
    #[serde(default)]
    pub answers: bool,
    /// SHA-256 of the certificate that is trusted instead of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds on the response time in ms.
    #[serde(default)]
    pub limits: Limits,
}

/// A service at an address that says about itself how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceProbe {
    /// Base address.
    pub url: String,
    /// SHA-256 of the certificate that is trusted instead of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds on the response time in ms.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`SystemProbe::Docker`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DockerProbe {
    /// The integration that reaches the engine.
    pub integration: String,
    /// Names of the containers that must run and be healthy; empty stands for
    /// all whose restart policy wants them up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// Thresholds on the highest number of restarts.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`SystemProbe::Postgres`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PostgresProbe {
    /// The integration that reaches the server.
    pub integration: String,
    /// What to look at.
    #[serde(default)]
    pub look: PostgresLook,
    /// With `query`: one SELECT whose first row gives a number and, optionally, a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// With `query`: the unit of the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`PostgresProbe`] looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PostgresLook {
    /// It answers a query. Value: response time in ms.
    #[default]
    Answers,
    /// Connections in use. Value: per cent of what is allowed.
    Connections,
    /// Longest transaction. Value: seconds.
    Transaction,
    /// Furthest replica. Value: seconds behind.
    Replication,
    /// The number that a query gives.
    Query,
}

/// See [`SystemProbe::Redis`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RedisProbe {
    /// The integration that reaches the server.
    pub integration: String,
    /// What to look at.
    #[serde(default)]
    pub look: RedisLook,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`RedisProbe`] looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RedisLook {
    /// It answers. Value: response time in ms.
    #[default]
    Answers,
    /// Memory in use. Value: per cent of what is allowed.
    Memory,
    /// Whether it can save and its link to its primary stands. Value: seconds since the last save.
    Persistence,
}

/// See [`SystemProbe::Prometheus`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PrometheusProbe {
    /// Base address.
    pub url: String,
    /// An expression that gives one number; without it, whether the server is
    /// ready and how many of its targets are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The unit of the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// SHA-256 of the certificate that is trusted instead of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds on the number.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`SystemProbe::Traefik`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TraefikProbe {
    /// Base address of its API, such as `http://10.0.0.7:8080`.
    pub url: String,
    /// SHA-256 of the certificate that is trusted instead of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds on the number of routers and services. Without them what
    /// carries no traffic is critical and what Traefik warns of a warning.
    #[serde(default)]
    pub limits: Limits,
}

/// See [`SystemProbe::Smtp`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SmtpProbe {
    /// `host:port`.
    pub address: String,
    /// How TLS begins.
    #[serde(default)]
    pub tls: SmtpTls,
    /// SHA-256 of the certificate that is trusted instead of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Thresholds on the response time in ms.
    #[serde(default)]
    pub limits: Limits,
    /// Thresholds on the days for which its certificate is still valid.
    #[serde(default = "two_weeks")]
    pub certificate_days: Limits,
}

const fn two_weeks() -> Limits {
    Limits { warning: Some(14.0), critical: Some(3.0), worse: Worse::Below }
}

/// How TLS begins in a dialogue of [`SmtpProbe`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SmtpTls {
    /// Not at all.
    None,
    /// By STARTTLS, which must be offered.
    #[default]
    Starttls,
    /// With the first byte.
    Implicit,
}

/// See [`SystemProbe::MailDomain`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MailDomainProbe {
    /// The domain after the `@`; with `ptr`, the address of the mail server.
    pub domain: String,
    /// What to look at.
    pub look: MailLook,
    /// With `dkim`: the selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// `host:port` of the name server to ask, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Thresholds on the value of what is looked at.
    #[serde(default)]
    pub limits: Limits,
}

/// What [`MailDomainProbe`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MailLook {
    /// Mail exchangers, each with an address. Value: count.
    Mx,
    /// Exactly one policy that can be evaluated. Value: lookups it costs, count.
    Spf,
    /// The key of a selector. Value: bits of the key.
    Dkim,
    /// The policy for what fails.
    Dmarc,
    /// The reverse name of an address leads back to it.
    Ptr,
    /// The policy that asks senders for TLS. Value: its remaining `max_age`, seconds.
    MtaSts,
}

/// See [`SystemProbe::BlockList`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BlockListProbe {
    /// An IPv4 or IPv6 address, or a domain.
    pub subject: String,
    /// Zones to ask. None is built in: whoever asks must hold to the terms of
    /// the list.
    pub zones: Vec<String>,
    /// `host:port` of the name server to ask, instead of the system's. Lists
    /// refuse public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Thresholds on the number of lists; by default one is critical.
    #[serde(default = "one_is_critical")]
    pub limits: Limits,
}

fn one_is_critical() -> Limits {
    Limits { critical: Some(1.0), ..Limits::default() }
}

/// See [`SystemProbe::GithubRuns`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GithubRunsProbe {
    /// The integration that holds the token.
    pub integration: String,
    /// `OWNER/NAME`.
    pub repository: String,
    /// Only runs of this branch; absent: the repository's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Thresholds on the number of failed workflows; by default one is critical.
    #[serde(default = "one_is_critical")]
    pub limits: Limits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_needs_a_port_also_where_its_certificate_is_pinned() {
        let mistake = |address: &str, pin: Option<String>| {
            let tls = SmtpTls::default();
            let probe = SmtpProbe {
                address: address.to_owned(),
                tls,
                pin,
                limits: Limits::default(),
                certificate_days: two_weeks(),
            };
            SystemProbe::Smtp(probe).mistake()
        };
        let pin = || Some(format!("sha256:{}", "0".repeat(64)));
        assert_eq!(mistake("mail:25", pin()), None);
        assert!(mistake("mail", pin()).is_some_and(|why| why.contains("host:port")));
        assert!(mistake("mail", None).is_some());
        assert!(mistake("mail:25", Some("sha256:1".to_owned())).is_some());
    }
}
