//! What stands on what: the graph of hosts, guests, networks, firewalls,
//! proxies and containers, drawn from what agents, integrations, the registry
//! and people say.
//!
//! [`graph::build`] is a pure function of its [`Input`]. Every edge points from
//! what depends to what it depends on, carries its evidence, and is one that a
//! person can confirm, remove or add.

pub(crate) mod drawn;
pub(crate) mod gather;
pub mod graph;
pub mod impact;
mod matching;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use farol_protocol::{Timestamp, inventory::Inventory};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::matching::hosts_by_guest;
pub(crate) use self::resolve::is_inner;
use crate::store::hosts::HostKey;

/// A host with all that is known of it.
#[derive(Debug, Clone, Default)]
pub struct KnownHost {
    /// Name for people.
    pub name: String,
    /// Its site. Addresses mean something only within one.
    pub site: Option<String>,
    /// Its number in Proxmox, as the registry says.
    pub vmid: Option<u32>,
    /// The host that it runs on, as the registry says.
    pub parent: Option<String>,
    /// What else it needs, as the registry says.
    pub depends_on: Vec<String>,
    /// What it is made of, and when that was seen.
    pub inventory: Option<(Inventory, Timestamp)>,
}

/// A virtual machine or container of Proxmox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFact {
    /// The node that it runs on.
    pub node: String,
    /// Its number.
    pub vmid: u32,
    /// Its name there.
    pub name: String,
    /// `running`, `stopped` and so on.
    pub status: String,
    /// Hardware addresses of its interfaces.
    pub macs: Vec<String>,
    /// Addresses that its own agent reports.
    pub addresses: Vec<IpAddr>,
    /// `uuid` of its `smbios1`.
    pub uuid: Option<String>,
}

/// A route of a reverse proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteFact {
    /// The names that it answers to.
    pub host_rule: String,
    /// The proxy's own name of what is behind it.
    pub service: String,
    /// Where that is: an address with or without scheme and port.
    pub backend: String,
}

/// Addresses of a host that has no agent, such as a firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressFact {
    /// The host's name.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What one integration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntegrationFacts {
    /// The host that it is about, or that it runs on.
    pub host: Option<String>,
    /// Guests of a hypervisor.
    pub guests: Vec<GuestFact>,
    /// Routes of a proxy.
    pub routes: Vec<RouteFact>,
    /// Addresses of hosts without agents.
    pub addresses: Vec<AddressFact>,
}

/// What an integration said, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Name of the integration.
    pub integration: String,
    /// When.
    pub at: Timestamp,
    /// Whether it is recent enough to draw from.
    pub is_fresh: bool,
    /// What.
    pub facts: IntegrationFacts,
}

/// What integrations said last, in memory. Checks put it up:
///
/// ```
/// # use std::time::Duration;
/// # use farol_coordinator::topology::{Facts, GuestFact, IntegrationFacts};
/// # let (facts, now) = (Facts::default(), farol_protocol::Timestamp::now());
/// let guest = GuestFact { node: "pve1".to_owned(), vmid: 112, name: "vm112".to_owned(), ..GuestFact::default() };
/// let said = IntegrationFacts { guests: vec![guest], ..IntegrationFacts::default() };
/// facts.set("proxmox", said, now, Duration::from_secs(900));
/// assert_eq!(facts.all(now).len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Facts(Mutex<BTreeMap<String, (IntegrationFacts, Timestamp, Duration)>>);

impl Facts {
    /// Replaces what `integration` said. It counts for `fresh_for` from `now`
    /// on; three times the interval of the check is a good measure. Answers
    /// whether that is news.
    pub fn set(&self, integration: &str, facts: IntegrationFacts, now: Timestamp, fresh_for: Duration) -> bool {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = board.get(integration).is_none_or(|(known, ..)| *known != facts);
        board.insert(integration.to_owned(), (facts, now, fresh_for));
        news
    }

    /// Forgets an integration that was removed.
    pub fn forget(&self, integration: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(integration);
    }

    /// Who said something.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// What all of them said, by name.
    #[must_use]
    pub fn all(&self, now: Timestamp) -> Vec<Said> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |(name, (facts, at, fresh_for)): (&String, &(IntegrationFacts, Timestamp, Duration))| Said {
            integration: name.clone(),
            at: *at,
            is_fresh: now <= at.plus(*fresh_for),
            facts: facts.clone(),
        };
        board.iter().map(said).collect()
    }
}

/// What the running coordinator keeps for the graph.
#[derive(Debug, Default)]
pub struct Live {
    /// What integrations said.
    pub facts: Facts,
    told: Mutex<HashMap<HostKey, (Timestamp, String)>>,
}

impl Live {
    /// Notes that an inventory is committed. Whether it is news: neither older
    /// than the last one nor the same.
    pub fn note(&self, host: HostKey, observed_at: Timestamp, digest: String) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.get(&host).is_none_or(|(at, known)| *at <= observed_at && *known != digest);
        if news {
            told.insert(host, (observed_at, digest));
        }
        news
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A host that Farol knows.
    Host,
    /// A node of Proxmox.
    ProxmoxNode,
    /// A guest of Proxmox that no host could be found for.
    Guest,
    /// Where others' traffic passes.
    Firewall,
    /// A container.
    Container,
    /// What a proxy answers for.
    Service,
    /// A network with its prefix.
    Network,
    /// A system that is asked, such as a proxy.
    Integration,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Node {
    /// Such as `host:vm112`.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// Name for people.
    pub label: String,
    /// Its site, where that is known.
    pub site: Option<String>,
    /// What its manager says: `running`, `exited` and so on.
    pub status: Option<String>,
}

/// How one thing depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// A guest on its node, a container on its host.
    RunsOn,
    /// A host by way of its default gateway.
    RoutesThrough,
    /// A service by way of its proxy.
    ProxiedBy,
    /// A service by what answers for it.
    ServedBy,
    /// In another way.
    DependsOn,
    /// A host in a network. No dependency: a network does not fail by itself.
    AttachedTo,
}

impl EdgeKind {
    /// The word in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunsOn => "runs_on",
            Self::RoutesThrough => "routes_through",
            Self::ProxiedBy => "proxied_by",
            Self::ServedBy => "served_by",
            Self::DependsOn => "depends_on",
            Self::AttachedTo => "attached_to",
        }
    }

    /// Whether what is at its end takes down what is at its beginning.
    #[must_use]
    pub const fn is_dependency(self) -> bool {
        !matches!(self, Self::AttachedTo)
    }
}

/// Where an edge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeState {
    /// Found.
    Discovered,
    /// Written in the registry.
    Stated,
    /// A person says that it is so.
    Confirmed,
    /// A person added it.
    Added,
    /// A person says that it is not so; it counts for nothing.
    Removed,
}

/// How sure an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// By a name or an address, which others may take.
    Likely,
    /// By what belongs to one machine only.
    Certain,
    /// A person says so.
    Stated,
}

/// Why an edge is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Evidence {
    /// `inventory`, `integration` or `registry`.
    pub source: &'static str,
    /// Whose: a host or an integration.
    pub of: String,
    /// What fits: `vmid`, `uuid`, `mac`, `address`, `name`, `gateway`, `route`, `port`, `mount`, `parent` and so on.
    pub key: &'static str,
    /// The value that fits.
    pub value: String,
    /// When it was seen; null for the registry.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
}

/// What a person says about an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is there although nothing shows it.
    Add,
    /// It is not there although something shows it.
    Remove,
    /// It is there, whatever shows it later.
    Confirm,
}

impl Decision {
    /// The word in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Confirm => "confirm",
        }
    }
}

/// A person's word on an edge; it wins over what is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Correction {
    /// Identifier.
    pub id: String,
    /// The node that depends.
    pub from: String,
    /// The node that it depends on.
    pub to: String,
    /// How.
    pub kind: EdgeKind,
    /// What the person says.
    pub decision: Decision,
    /// Why.
    pub comment: String,
    /// Who.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Edge {
    /// The node that depends.
    pub from: String,
    /// The node that it depends on.
    pub to: String,
    /// How.
    pub kind: EdgeKind,
    /// Where it stands.
    pub state: EdgeState,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why it is there; empty where only a person says so.
    pub evidence: Vec<Evidence>,
    /// A person's word on it.
    pub correction: Option<Correction>,
}

impl Edge {
    /// Whether what is at its end takes down what is at its beginning.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.kind.is_dependency() && !matches!(self.state, EdgeState::Removed)
    }
}

/// Why something could not be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Several fit, and none is guessed.
    Ambiguous,
    /// None fits.
    Nobody,
    /// The only one that fits has another place already, by a better sign.
    Taken,
    /// What it rests on is too old.
    Stale,
    /// What a person's correction names is not there.
    Gone,
}

/// Something that could not be placed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Unmatched {
    /// Node, integration or correction.
    pub id: String,
    /// Name for people.
    pub label: String,
    /// Why.
    pub why: Why,
    /// The sign by which it was looked for; null for all of them.
    pub key: Option<&'static str>,
    /// What fits.
    pub candidates: Vec<String>,
}

/// Everything that a graph is drawn from.
#[derive(Debug, Default)]
pub struct Input {
    /// Hosts.
    pub hosts: Vec<KnownHost>,
    /// What integrations said.
    pub said: Vec<Said>,
    /// What people said.
    pub corrections: Vec<Correction>,
}

/// The graph, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Graph {
    /// By id.
    pub nodes: Vec<Node>,
    /// By ends and kind.
    pub edges: Vec<Edge>,
    /// What could not be placed.
    pub unmatched: Vec<Unmatched>,
    /// Time of the newest thing that it is drawn from; null where there is none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
}
