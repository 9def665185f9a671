//! Proxmox VE: a cluster by its API, with a token that only reads.
//!
//! Rights that are missing shorten Proxmox's lists without a word. So each
//! look first asks for the cluster's own members, which takes `Sys.Audit` on
//! `/`, and takes an empty list, where there must be something, for unknown.

mod api;
mod backups;
mod facts;
mod guests;
mod members;
mod replication;
mod rows;
mod running;
mod storage;
mod tasks;

use std::collections::BTreeMap;

use farol_protocol::{
    Language,
    system::{ProxmoxLook, ProxmoxProbe},
};

use self::api::{Cluster, Trouble};
use super::{Asking, Seen, phrase::shown};
use crate::{integrations::Connection, quiet::RunningBackup, text::say, topology::GuestFact};

pub(super) async fn ask(asking: &Asking<'_>, probe: &ProxmoxProbe, connection: &Connection) -> Seen {
    let seen = match Cluster::of(asking, connection) {
        Ok(cluster) => look(&cluster, probe).await.unwrap_or_else(|trouble| trouble.seen(&cluster)),
        Err(seen) => seen,
    };
    shown(connection, seen)
}

/// Its guests with the signs by which they are known inside.
///
/// # Errors
/// It does not list them; the text says why.
pub(super) async fn facts(asking: &Asking<'_>, connection: &Connection) -> Result<Vec<GuestFact>, String> {
    let cluster = Cluster::of(asking, connection).map_err(|seen| shown(connection, seen).text)?;
    facts::read(&cluster).await.map_err(|trouble| shown(connection, trouble.seen(&cluster)).text)
}

/// The backups that it makes now, by node.
///
/// # Errors
/// No node tells; the text says why.
pub(crate) async fn backups(
    asking: &Asking<'_>,
    connection: &Connection,
) -> Result<BTreeMap<String, Vec<RunningBackup>>, String> {
    let cluster = Cluster::of(asking, connection).map_err(|seen| shown(connection, seen).text)?;
    running::read(&cluster).await.map_err(|trouble| shown(connection, trouble.seen(&cluster)).text)
}

async fn look(cluster: &Cluster<'_>, probe: &ProxmoxProbe) -> Result<Seen, Trouble> {
    let standing = cluster.standing().await?;
    if standing.members.good.is_empty() {
        let place = cluster.reach.place();
        return Ok(Seen::unknown(say!(
            cluster.language(),
            "{place} não mostra nenhum nó: dê ao token o papel PVEAuditor em `/`",
            "{place} shows no node: give the token the role PVEAuditor on `/`"
        )));
    }
    match probe.look {
        ProxmoxLook::Quorum => Ok(members::quorum(cluster.language(), probe, &standing)),
        ProxmoxLook::Nodes => members::nodes(cluster, probe, &standing).await,
        ProxmoxLook::Guests => guests::look(cluster, probe, &standing).await,
        ProxmoxLook::Storage => storage::look(cluster, probe, &standing).await,
        ProxmoxLook::Replication => replication::look(cluster, probe, &standing).await,
        ProxmoxLook::Tasks => tasks::look(cluster, probe, &standing).await,
        ProxmoxLook::Backups => backups::look(cluster, probe, &standing).await,
    }
}

/// Whether an operator named one of `names` under `ignore`.
fn ignored(probe: &ProxmoxProbe, names: &[&str]) -> bool {
    probe.ignore.iter().any(|entry| names.contains(&entry.as_str()))
}

#[cfg(test)]
mod tests;
