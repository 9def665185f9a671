//! Systems that are asked about themselves: one file a kind.
//!
//! A look has three outcomes. Healthy and unhealthy are what the system says;
//! whatever keeps it from being asked (a refused login, no answer in time, an
//! answer that cannot be read) leaves it unknown.

mod alertmanager;
mod block_list;
mod dns;
mod docker;
pub(crate) mod facts;
mod fossbilling;
mod github_runs;
mod mail_domain;
mod odoo;
mod ollama;
mod openpanel;
pub(crate) mod opnsense;
mod pfsense;
mod phrase;
mod postgres;
mod prometheus;
mod proxmox;
mod reach;
mod redis;
mod smtp;
mod talk;
#[cfg(test)]
mod testing;
mod traefik;
mod wazuh;

use std::time::Duration;

use farol_protocol::{Language, Timestamp, system::SystemProbe};
use reqwest::Client;

pub(crate) use self::{phrase::shown, proxmox::backups};
use super::seen::Seen;
use crate::{
    integrations::{
        Connection, Kind, Tls,
        http::{Clients, Failure, hiding},
    },
    text::say,
};

/// Questions that a target takes at a time, unless [`at_once`] says less.
pub(crate) const AT_ONCE: usize = 4;

/// Questions that what a probe asks takes at a time.
pub(crate) const fn at_once(probe: &SystemProbe) -> usize {
    match probe {
        SystemProbe::Pfsense(_) => Kind::Pfsense.at_once(),
        SystemProbe::Opnsense(_) => Kind::Opnsense.at_once(),
        _ => AT_ONCE,
    }
}

/// What every look needs.
pub(crate) struct Asking<'a> {
    /// Of the operators.
    pub(crate) language: Language,
    /// Time limit of the whole look.
    pub(crate) limit: Duration,
    /// The time of the look.
    pub(crate) now: Timestamp,
    /// HTTP.
    pub(crate) clients: &'a Clients,
}

impl Asking<'_> {
    /// The client for a connection.
    pub(crate) fn client(&self, connection: &Connection) -> Result<Client, Failure> {
        self.clients.of(&connection.tls)
    }

    /// The client for an address with an optional pin.
    pub(crate) fn client_for(&self, pin: Option<&str>) -> Result<Client, Failure> {
        self.clients.of(&Tls::pinned(pin))
    }

    /// There was no answer of `target` that can be read.
    pub(crate) fn failed(&self, target: &str, failure: &Failure) -> Seen {
        Seen::failed(self.language, target, failure, self.limit)
    }
}

/// Looks at what a probe names. `connection` is that of the integration it
/// names, if there is one of that name and kind.
pub(crate) async fn ask(asking: &Asking<'_>, probe: &SystemProbe, connection: Option<&Connection>) -> Seen {
    let connection = match (probe.integration(), connection) {
        (Some(name), None) => {
            let kind = kind(probe);
            return Seen::not_configured(say!(
                asking.language,
                "a integração `{name}` não existe; crie-a com `farol integration add {name} --kind {kind} …`",
                "the integration `{name}` does not exist; make it with `farol integration add {name} --kind {kind} …`"
            ));
        }
        (_, connection) => connection,
    };
    let look = async {
        match (probe, connection) {
            (SystemProbe::Proxmox(probe), Some(connection)) => proxmox::ask(asking, probe, connection).await,
            (SystemProbe::Pfsense(probe), Some(connection)) => pfsense::ask(asking, probe, connection).await,
            (SystemProbe::Opnsense(probe), Some(connection)) => opnsense::ask(asking, probe, connection).await,
            (SystemProbe::Wazuh(probe), Some(connection)) => wazuh::ask(asking, probe, connection).await,
            (SystemProbe::Docker(probe), Some(connection)) => docker::ask(asking, probe, connection).await,
            (SystemProbe::Postgres(probe), Some(connection)) => postgres::ask(asking, probe, connection).await,
            (SystemProbe::Redis(probe), Some(connection)) => redis::ask(asking, probe, connection).await,
            (SystemProbe::GithubRuns(probe), Some(connection)) => github_runs::ask(asking, probe, connection).await,
            (SystemProbe::Ollama(probe), _) => ollama::ask(asking, probe).await,
            (SystemProbe::OpenpanelBridge(probe), _) => openpanel::ask(asking, probe).await,
            (SystemProbe::Odoo(probe), _) => odoo::ask(asking, probe).await,
            (SystemProbe::Fossbilling(probe), _) => fossbilling::ask(asking, probe).await,
            (SystemProbe::Prometheus(probe), _) => prometheus::ask(asking, probe).await,
            (SystemProbe::Alertmanager(probe), _) => alertmanager::ask(asking, probe).await,
            (SystemProbe::Traefik(probe), _) => traefik::ask(asking, probe).await,
            (SystemProbe::Smtp(probe), _) => smtp::ask(asking, probe).await,
            (SystemProbe::MailDomain(probe), _) => mail_domain::ask(asking, probe).await,
            (SystemProbe::BlockList(probe), _) => block_list::ask(asking, probe).await,
            // Whoever names an integration came with one, as seen above.
            (_, None) => Seen::unknown(probe.kind()),
        }
    };
    // A look that forgets its limit still ends.
    let look = tokio::time::timeout(asking.limit + Duration::from_secs(1), look);
    let seen = match hiding(connection, look).await {
        Ok(seen) => seen,
        Err(_) => {
            let target = probe.target().unwrap_or_default();
            asking.failed(target, &Failure::Timeout)
        }
    };
    match connection {
        Some(connection) => shown(connection, seen),
        None => seen,
    }
}

/// The kind of integration that a probe wants, as the command line names it.
pub(crate) const fn kind(probe: &SystemProbe) -> &'static str {
    match probe {
        SystemProbe::GithubRuns(_) => "github",
        other => other.kind(),
    }
}
