//! Draws the graph.

use std::{collections::BTreeMap, net::IpAddr};

use farol_protocol::{
    Timestamp,
    inventory::{Address, ContainerItem, Inventory, Transport},
};

use super::{
    Confidence, Correction, Decision, Edge, EdgeKind, EdgeState, Evidence, Graph, GuestFact, Input, KnownHost, Node,
    NodeKind, RouteFact, Said, Unmatched, Why,
    matching::{self, Match},
    resolve::{Index, Names, Whose, endpoint, is_inner},
};

/// Draws everything that `input` shows. The same input gives the same graph.
#[must_use]
pub fn build(input: &Input) -> Graph {
    let index = Index::new(input);
    let mut draft = Draft { index: &index, nodes: BTreeMap::new(), edges: BTreeMap::new(), unmatched: Vec::new() };
    for host in index.hosts() {
        draft.node(&host_id(&host.name), NodeKind::Host, &host.name, host.site.as_deref());
    }
    for host in index.hosts() {
        draft.host(host);
    }
    let fresh: Vec<&Said> = input.said.iter().filter(|said| said.is_fresh).collect();
    draft.guests(&fresh);
    for said in &fresh {
        draft.integration(said);
    }
    for said in input.said.iter().filter(|said| !said.is_fresh) {
        let id = format!("integration:{}", said.integration);
        draft.unplaced(&id, &said.integration, Why::Stale, None, Names::new());
    }
    for correction in &input.corrections {
        draft.correct(correction);
    }
    let seen = input.hosts.iter().filter_map(|host| host.inventory.as_ref()).map(|(_, at)| *at);
    let said = input.said.iter().map(|said| said.at).chain(input.corrections.iter().map(|correction| correction.at));
    let Draft { nodes, edges, mut unmatched, .. } = draft;
    unmatched.sort();
    unmatched.dedup();
    Graph {
        nodes: nodes.into_values().collect(),
        edges: edges.into_values().collect(),
        unmatched,
        updated_at: seen.chain(said).max(),
    }
}

/// The node of a host.
#[must_use]
pub fn host_id(name: &str) -> String {
    format!("host:{name}")
}

struct Draft<'a> {
    index: &'a Index<'a>,
    nodes: BTreeMap<String, Node>,
    edges: BTreeMap<(String, String, EdgeKind), Edge>,
    unmatched: Vec<Unmatched>,
}

impl Draft<'_> {
    fn node(&mut self, id: &str, kind: NodeKind, label: &str, site: Option<&str>) -> &mut Node {
        self.nodes.entry(id.to_owned()).or_insert_with(|| Node {
            id: id.to_owned(),
            kind,
            label: label.to_owned(),
            site: site.map(str::to_owned),
            status: None,
        })
    }

    /// An edge with one more reason. Nothing depends on itself.
    fn edge(&mut self, (from, kind, to): (&str, EdgeKind, &str), confidence: Confidence, evidence: Evidence) {
        if from == to {
            return;
        }
        let edge = self.edges.entry((from.to_owned(), to.to_owned(), kind)).or_insert_with(|| Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            kind,
            state: EdgeState::Discovered,
            confidence,
            evidence: Vec::new(),
            correction: None,
        });
        edge.confidence = edge.confidence.max(confidence);
        if evidence.source == "registry" {
            edge.state = EdgeState::Stated;
        }
        if let Err(place) = edge.evidence.binary_search(&evidence) {
            edge.evidence.insert(place, evidence);
        }
    }

    fn unplaced(&mut self, id: &str, label: &str, why: Why, key: Option<&'static str>, candidates: Names) {
        let (id, label) = (id.to_owned(), label.to_owned());
        let candidates = candidates.into_iter().map(|name| host_id(&name)).collect();
        self.unmatched.push(Unmatched { id, label, why, key, candidates });
    }

    /// What a host and the registry say of it.
    fn host(&mut self, host: &KnownHost) {
        let id = host_id(&host.name);
        let stated = |key, value: &String| Evidence {
            source: "registry",
            of: host.name.clone(),
            key,
            value: value.clone(),
            at: None,
        };
        if let Some(parent) = &host.parent {
            let to = host_id(parent);
            self.edge((&id, EdgeKind::RunsOn, &to), Confidence::Stated, stated("parent", parent));
        }
        for other in &host.depends_on {
            let to = host_id(other);
            self.edge((&id, EdgeKind::DependsOn, &to), Confidence::Stated, stated("depends_on", other));
        }
        let Some((inventory, at)) = &host.inventory else { return };
        let seen = Seen { host, id, at: *at };
        self.networks(&seen, inventory);
        for gateway in &inventory.gateways {
            self.gateway(&seen, *gateway);
        }
        for container in inventory.containers.iter().flatten() {
            let container_id = container_id(host, container);
            let node = self.node(&container_id, NodeKind::Container, &container.name, host.site.as_deref());
            node.status = Some(container.state.clone());
            let evidence = seen.evidence("container", container.name.clone());
            self.edge((&container_id, EdgeKind::RunsOn, &seen.id), Confidence::Certain, evidence);
        }
        for mount in &inventory.mounts {
            let Some(server) = server_of(&mount.device, &mount.kind) else { continue };
            let evidence = seen.evidence("mount", mount.device.clone());
            match self.index.server(server, host.site.as_deref()) {
                (Whose::One(name), _) => {
                    let to = host_id(&name);
                    self.edge((&seen.id, EdgeKind::DependsOn, &to), Confidence::Likely, evidence);
                }
                (Whose::Several(names), key) => {
                    self.unplaced(&seen.id, &mount.device, Why::Ambiguous, Some(key), names);
                }
                // Storage outside is no concern of the graph.
                (Whose::Nobody, _) => {}
            }
        }
    }

    fn networks(&mut self, seen: &Seen<'_>, inventory: &Inventory) {
        for interface in inventory.interfaces.iter().filter(|interface| !is_inner(&interface.name)) {
            for address in &interface.addresses {
                let Some(network) = network(*address) else { continue };
                let id = format!("network:{}", seen.in_site(&network));
                self.node(&id, NodeKind::Network, &network, seen.host.site.as_deref());
                let evidence = seen.evidence("address", format!("{} {}", interface.name, address.address));
                self.edge((&seen.id, EdgeKind::AttachedTo, &id), Confidence::Certain, evidence);
            }
        }
    }

    /// Two hosts behind the same unknown gateway hang on the same node.
    fn gateway(&mut self, seen: &Seen<'_>, gateway: IpAddr) {
        let mut names = self.index.by_address(gateway, seen.host.site.as_deref());
        // Addresses that move between machines are on both of them.
        names.remove(&seen.host.name);
        let address = gateway.to_string();
        let (to, label) = match names.into() {
            Whose::One(name) => (host_id(&name), name),
            whose => {
                let id = format!("firewall:{}", seen.in_site(&address));
                if let Whose::Several(names) = whose {
                    self.unplaced(&id, &address, Why::Ambiguous, Some("address"), names);
                }
                (id, address.clone())
            }
        };
        let node = self.node(&to, NodeKind::Firewall, &label, seen.host.site.as_deref());
        if node.kind == NodeKind::Host {
            node.kind = NodeKind::Firewall;
        }
        let evidence = seen.evidence("gateway", address);
        self.edge((&seen.id, EdgeKind::RoutesThrough, &to), Confidence::Certain, evidence);
    }

    /// Guests of all integrations together: no host is two guests.
    fn guests(&mut self, fresh: &[&Said]) {
        let guests: Vec<(&Said, &GuestFact, Option<&str>)> = fresh
            .iter()
            .flat_map(|said| {
                let site = self.site_of(said);
                said.facts.guests.iter().map(move |guest| (*said, guest, site))
            })
            .collect();
        let facts: Vec<(&GuestFact, Option<&str>)> = guests.iter().map(|(_, guest, site)| (*guest, *site)).collect();
        for ((said, guest, site), matched) in guests.iter().zip(matching::hosts_of(self.index, &facts)) {
            let evidence = |key, value: String| Evidence {
                source: "integration",
                of: said.integration.clone(),
                key,
                value,
                at: Some(said.at),
            };
            let node = self.hypervisor(said, &guest.node, *site);
            let (id, confidence, evidence) = match matched {
                Match::Host { name, key, value } => (host_id(&name), Match::confidence(key), evidence(key, value)),
                Match::None { why, key, candidates } => {
                    let id = format!("guest:{}/{}", said.integration, guest.vmid);
                    self.node(&id, NodeKind::Guest, &guest.name, *site);
                    self.unplaced(&id, &guest.name, why, key, candidates);
                    (id, Confidence::Certain, evidence("guest", guest.vmid.to_string()))
                }
            };
            if let Some(node) = self.nodes.get_mut(&id) {
                node.status = Some(guest.status.clone());
            }
            self.edge((&id, EdgeKind::RunsOn, &node), confidence, evidence);
        }
    }

    /// The node of a hypervisor: the host of that name, or the integration's
    /// own host where there is only one node.
    fn hypervisor(&mut self, said: &Said, name: &str, site: Option<&str>) -> String {
        let alone = said.facts.guests.iter().all(|guest| guest.node == name);
        let own = said.facts.host.as_ref().filter(|host| alone && self.index.host(host).is_some());
        let id = match (self.index.by_name(name, site).into(), own) {
            (Whose::One(host), _) => host_id(&host),
            (_, Some(host)) => host_id(host),
            _ => format!("node:{}/{name}", said.integration),
        };
        let node = self.node(&id, NodeKind::ProxmoxNode, name, site);
        if node.kind == NodeKind::Host {
            node.kind = NodeKind::ProxmoxNode;
        }
        id
    }

    fn site_of<'b>(&self, said: &'b Said) -> Option<&'b str>
    where
        Self: 'b,
    {
        self.index.host(said.facts.host.as_deref()?)?.site.as_deref()
    }

    fn integration(&mut self, said: &Said) {
        let id = format!("integration:{}", said.integration);
        let site = self.site_of(said);
        self.node(&id, NodeKind::Integration, &said.integration, site);
        let evidence = |key, value: &str| Evidence {
            source: "integration",
            of: said.integration.clone(),
            key,
            value: value.to_owned(),
            at: Some(said.at),
        };
        if let Some(host) = said.facts.host.as_deref().filter(|host| self.index.host(host).is_some()) {
            self.edge((&id, EdgeKind::RunsOn, &host_id(host)), Confidence::Stated, evidence("host", host));
        }
        for route in &said.facts.routes {
            let service = format!("service:{}/{}", said.integration, route.host_rule);
            self.node(&service, NodeKind::Service, &route.host_rule, site);
            let proxied = evidence("route", &route.service);
            self.edge((&service, EdgeKind::ProxiedBy, &id), Confidence::Certain, proxied);
            match self.backend(said, route, site) {
                Backend::Found { node, confidence, evidence: mut found } => {
                    found.push(evidence("backend", &route.backend));
                    for evidence in found {
                        self.edge((&service, EdgeKind::ServedBy, &node), confidence, evidence);
                    }
                }
                Backend::Unclear { why, key, candidates } => {
                    let label = format!("{} {}", route.host_rule, route.backend);
                    self.unplaced(&service, &label, why, key, candidates);
                }
            }
        }
    }

    /// What answers for a route: a container where one has that address or
    /// that port, else the host.
    fn backend(&self, said: &Said, route: &RouteFact, site: Option<&str>) -> Backend {
        let nobody = |key| Backend::Unclear { why: Why::Nobody, key, candidates: Names::new() };
        let Some((server, port)) = endpoint(&route.backend) else { return nobody(None) };
        let address = server.parse::<IpAddr>().ok();
        let proxy = said.facts.host.as_deref().and_then(|host| self.index.host(host));
        let near = |host: &KnownHost| proxy.is_some_and(|proxy| proxy.name == host.name);

        // A name or an address inside the proxy's own machine comes first.
        let inside = self.index.containers(|host, container| {
            near(host)
                && match address {
                    Some(address) => container.addresses.contains(&address),
                    None => container.name == server,
                }
        });
        if let [(host, container)] = inside[..] {
            let key = if address.is_some() { "address" } else { "name" };
            let evidence = of_inventory(host, "container", format!("{} {key} {server}", container.name));
            let node = container_id(host, container);
            return Backend::Found { node, confidence: Confidence::Likely, evidence: evidence.into_iter().collect() };
        }
        let local = address.is_some_and(|address| address.is_loopback()) || server == "localhost";
        let (whose, key) = match proxy {
            Some(proxy) if local => (Whose::One(proxy.name.clone()), "address"),
            _ if local => (Whose::Nobody, "address"),
            _ => self.index.server(&server, site),
        };
        let name = match whose {
            Whose::One(name) => name,
            Whose::Several(candidates) => return Backend::Unclear { why: Why::Ambiguous, key: Some(key), candidates },
            Whose::Nobody => return nobody(Some(key)),
        };
        let Some(host) = self.index.host(&name) else { return nobody(Some(key)) };
        let behind = self.index.containers(|at, container| {
            at.name == host.name
                && container.published.iter().any(|published| {
                    published.transport == Transport::Tcp
                        && Some(published.port) == port
                        && published.address.is_none_or(|bound| local || Some(bound) == address || address.is_none())
                })
        });
        if let [(host, container)] = behind[..] {
            let port = port.map(|port| port.to_string()).unwrap_or_default();
            let evidence = of_inventory(host, "port", format!("{} publishes {port}", container.name));
            let node = container_id(host, container);
            return Backend::Found { node, confidence: Confidence::Certain, evidence: evidence.into_iter().collect() };
        }
        let listening = host
            .inventory
            .iter()
            .flat_map(|(inventory, _)| &inventory.ports)
            .find(|listening| listening.transport == Transport::Tcp && Some(listening.port) == port);
        let evidence = listening.and_then(|listening| {
            let process = listening.process.as_deref().unwrap_or("?");
            of_inventory(host, "port", format!("{} {process}", listening.port))
        });
        let confidence = if evidence.is_some() { Confidence::Certain } else { Confidence::Likely };
        Backend::Found { node: host_id(&name), confidence, evidence: evidence.into_iter().collect() }
    }

    /// A person's word wins.
    fn correct(&mut self, correction: &Correction) {
        let key = (correction.from.clone(), correction.to.clone(), correction.kind);
        let known = [&correction.from, &correction.to].into_iter().all(|id| self.nodes.contains_key(id));
        let state = match correction.decision {
            Decision::Remove => EdgeState::Removed,
            Decision::Confirm => EdgeState::Confirmed,
            Decision::Add => EdgeState::Added,
        };
        if let Some(edge) = self.edges.get_mut(&key) {
            edge.state = state;
            edge.confidence = Confidence::Stated;
            edge.correction = Some(correction.clone());
        } else if correction.decision == Decision::Remove {
            // It waits for what it removes to be found again.
        } else if known {
            let edge = Edge {
                from: correction.from.clone(),
                to: correction.to.clone(),
                kind: correction.kind,
                state,
                confidence: Confidence::Stated,
                evidence: Vec::new(),
                correction: Some(correction.clone()),
            };
            self.edges.insert(key, edge);
        } else {
            let label = format!("{} {} {}", correction.from, correction.kind.as_str(), correction.to);
            self.unplaced(&correction.id, &label, Why::Gone, None, Names::new());
        }
    }
}

enum Backend {
    Found { node: String, confidence: Confidence, evidence: Vec<Evidence> },
    Unclear { why: Why, key: Option<&'static str>, candidates: Names },
}

/// A host with the time of its inventory.
struct Seen<'a> {
    host: &'a KnownHost,
    id: String,
    at: Timestamp,
}

impl Seen<'_> {
    fn evidence(&self, key: &'static str, value: String) -> Evidence {
        Evidence { source: "inventory", of: self.host.name.clone(), key, value, at: Some(self.at) }
    }

    /// An address means something only within a site.
    fn in_site(&self, address: &str) -> String {
        match &self.host.site {
            Some(site) => format!("{site}/{address}"),
            None => address.to_owned(),
        }
    }
}

fn of_inventory(host: &KnownHost, key: &'static str, value: String) -> Option<Evidence> {
    let (_, at) = host.inventory.as_ref()?;
    Some(Evidence { source: "inventory", of: host.name.clone(), key, value, at: Some(*at) })
}

fn container_id(host: &KnownHost, container: &ContainerItem) -> String {
    format!("container:{}/{}", host.name, container.name)
}

/// The network of an address; none for an address that is its own network.
fn network(address: Address) -> Option<String> {
    let prefix = u32::from(address.prefix);
    let base = match address.address {
        IpAddr::V4(address) if (1..32).contains(&prefix) => {
            IpAddr::V4((u32::from(address) & (u32::MAX << (32 - prefix))).into())
        }
        IpAddr::V6(address) if (1..128).contains(&prefix) => {
            IpAddr::V6((u128::from(address) & (u128::MAX << (128 - prefix))).into())
        }
        _ => return None,
    };
    Some(format!("{base}/{prefix}"))
}

/// The server of a mount that comes over the network.
fn server_of<'a>(device: &'a str, kind: &str) -> Option<&'a str> {
    match kind {
        "cifs" | "smb3" | "smbfs" => device.trim_start_matches(['/', '\\']).split(['/', '\\']).next(),
        _ if kind.starts_with("nfs") || kind.starts_with("fuse.sshfs") || kind == "fuse.glusterfs" => {
            let server = device.split_once(":/").map(|(server, _)| server)?;
            let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
            Some(server.trim_start_matches('[').trim_end_matches(']'))
        }
        _ => None,
    }
    .filter(|server| !server.is_empty())
}
