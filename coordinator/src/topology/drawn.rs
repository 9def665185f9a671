//! The graph of everything that is known now, and what of it explains outages.

use std::collections::HashMap;

use farol_protocol::Timestamp;

use super::{Confidence, Correction, EdgeKind, Graph, Input, gather::Gathered, graph};
use crate::{
    app::Shared,
    correlate::{Dependencies, Needs},
    error::{Error, Result},
    store::hosts::HostKey,
};

/// Names and ids of hosts: corrections keep the ids, people see the names.
pub(crate) struct Names(pub(crate) Vec<(String, String)>);

impl Names {
    pub(crate) async fn read(app: &Shared) -> Result<Self> {
        Ok(Self(app.store.hosts().await?.into_iter().map(|host| (host.id.to_string(), host.name)).collect()))
    }

    /// The node as people see it. A bare name, or a host's id, is a host's.
    pub(crate) fn by_name(&self, node: &str) -> String {
        let host = match node.split_once(':') {
            None => node,
            Some(("host", host)) => host,
            Some(_) => return node.to_owned(),
        };
        let name = self.0.iter().find(|(id, name)| id == host || name == host).map_or(host, |(_, name)| name);
        graph::host_id(name)
    }

    /// The node as it is stored.
    pub(crate) fn by_id(&self, node: &str) -> String {
        let host = node.strip_prefix("host:").and_then(|host| self.0.iter().find(|(_, name)| name == host));
        host.map_or_else(|| node.to_owned(), |(id, _)| graph::host_id(id))
    }

    pub(crate) fn named(&self, correction: Correction) -> Correction {
        let [from, to] = [self.by_name(&correction.from), self.by_name(&correction.to)];
        Correction { from, to, ..correction }
    }
}

/// Draws the graph of everything that is known now. Hosts whose identity was
/// taken back are no part of it.
pub(crate) async fn draw(app: &Shared) -> Result<Graph> {
    drawn(app, false).await
}

/// `with_old` draws also what is too old to be shown as it is: a hypervisor
/// that is down tells nothing of its guests, and is why they are.
async fn drawn(app: &Shared, with_old: bool) -> Result<Graph> {
    let names = Names::read(app).await?;
    let corrections = app.store.corrections().await?;
    let corrections = corrections.into_iter().filter(|row| row.revoked_at.is_none());
    let corrections = corrections.map(|row| names.named(row.correction)).collect();
    let mut gathered = Gathered::read(app, Timestamp::now()).await?;
    for said in &mut gathered.said {
        said.is_fresh |= with_old;
    }
    let draw = move || graph::build(&Input { corrections, ..gathered.input() });
    // A large fleet's takes a while, and others wait for this thread.
    tokio::task::spawn_blocking(draw)
        .await
        .map_err(|error| Error::Refused(format!("the graph could not be drawn: {error}")))
}

/// What each host needs, as far as it is sure: a guess must not hide a problem.
pub(crate) async fn dependencies(app: &Shared) -> Result<Dependencies> {
    let keys: HashMap<String, HostKey> =
        app.store.hosts().await?.into_iter().map(|host| (graph::host_id(&host.name), host.key)).collect();
    Ok(needs(&drawn(app, true).await?, &keys))
}

fn needs(graph: &Graph, keys: &HashMap<String, HostKey>) -> Dependencies {
    let mut needs: HashMap<HostKey, Needs> = HashMap::new();
    for edge in graph.edges.iter().filter(|edge| edge.counts() && edge.confidence > Confidence::Likely) {
        let (Some(from), Some(to)) = (keys.get(&edge.from), keys.get(&edge.to)) else { continue };
        let needs = needs.entry(*from).or_default();
        match edge.kind {
            EdgeKind::RunsOn | EdgeKind::DependsOn => needs.all.push(*to),
            EdgeKind::RoutesThrough => needs.any.push(*to),
            EdgeKind::ProxiedBy | EdgeKind::ServedBy | EdgeKind::AttachedTo => {}
        }
    }
    Dependencies::new(needs)
}
