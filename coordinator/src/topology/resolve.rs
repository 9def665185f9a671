//! Who is meant by an address, a name or a machine's sign.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use farol_protocol::inventory::ContainerItem;

use super::{Input, KnownHost};

/// Names of hosts.
pub(super) type Names = BTreeSet<String>;

/// Hosts by their signs.
pub(super) struct Index<'a> {
    hosts: BTreeMap<&'a str, &'a KnownHost>,
    addresses: BTreeMap<IpAddr, Names>,
    macs: BTreeMap<String, Names>,
    uuids: BTreeMap<String, Names>,
    names: BTreeMap<String, Names>,
}

/// Who is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Nobody,
    One(String),
    Several(Names),
}

impl From<Names> for Whose {
    fn from(mut names: Names) -> Self {
        match names.len() {
            0 => Self::Nobody,
            1 => names.pop_first().map_or(Self::Nobody, Self::One),
            _ => Self::Several(names),
        }
    }
}

/// Interfaces inside a machine, of containers and guests: their addresses are
/// the same on many, and their names come and go.
pub(crate) fn is_inner(interface: &str) -> bool {
    const INNER: [&str; 14] = [
        "docker", "br-", "veth", "virbr", "vnet", "cni", "flannel", "podman", "lxcbr", "lxdbr", "cali", "fwbr", "fwpr",
        "fwln",
    ];
    // `tap0` is a tunnel of the machine itself, `tap104i0` a guest's interface.
    let is_tap = interface.strip_prefix("tap").is_some_and(|rest| !rest.bytes().all(|byte| byte.is_ascii_digit()));
    is_tap || INNER.iter().any(|prefix| interface.starts_with(prefix))
}

fn add<K: Ord>(map: &mut BTreeMap<K, Names>, key: K, host: &str) {
    map.entry(key).or_default().insert(host.to_owned());
}

impl<'a> Index<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        let mut index = Self {
            hosts: input.hosts.iter().map(|host| (host.name.as_str(), host)).collect(),
            addresses: BTreeMap::new(),
            macs: BTreeMap::new(),
            uuids: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        for host in &input.hosts {
            add(&mut index.names, host.name.to_ascii_lowercase(), &host.name);
            let Some((inventory, _)) = &host.inventory else { continue };
            if let Some(name) = &inventory.name {
                add(&mut index.names, name.to_ascii_lowercase(), &host.name);
            }
            if let Some(uuid) = &inventory.dmi.uuid {
                add(&mut index.uuids, uuid.to_ascii_lowercase(), &host.name);
            }
            for interface in inventory.interfaces.iter().filter(|interface| !is_inner(&interface.name)) {
                if let Some(mac) = &interface.mac {
                    add(&mut index.macs, mac.to_ascii_lowercase(), &host.name);
                }
                for address in &interface.addresses {
                    add(&mut index.addresses, address.address.to_canonical(), &host.name);
                }
            }
        }
        for fact in input.said.iter().filter(|said| said.is_fresh).flat_map(|said| &said.facts.addresses) {
            if index.hosts.contains_key(fact.host.as_str()) {
                for address in fact.addresses.iter().filter(|address| !address.is_loopback()) {
                    add(&mut index.addresses, address.to_canonical(), &fact.host);
                }
            }
        }
        index
    }

    pub(super) fn host(&self, name: &str) -> Option<&'a KnownHost> {
        self.hosts.get(name).copied()
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &'a KnownHost> + '_ {
        self.hosts.values().copied()
    }

    /// Those of `names` that may be meant from within `site`.
    fn within(&self, names: Option<&Names>, site: Option<&str>) -> Names {
        let near = |name: &&String| {
            let known = self.hosts.get(name.as_str()).and_then(|host| host.site.as_deref());
            site.is_none() || known.is_none() || known == site
        };
        names.into_iter().flatten().filter(near).cloned().collect()
    }

    pub(super) fn by_address(&self, address: IpAddr, site: Option<&str>) -> Names {
        self.within(self.addresses.get(&address.to_canonical()), site)
    }

    pub(super) fn by_mac(&self, mac: &str, site: Option<&str>) -> Names {
        self.within(self.macs.get(&mac.to_ascii_lowercase()), site)
    }

    pub(super) fn by_uuid(&self, uuid: &str, site: Option<&str>) -> Names {
        self.within(self.uuids.get(&uuid.to_ascii_lowercase()), site)
    }

    /// By what people or the host itself call it, with or without its domain.
    pub(super) fn by_name(&self, name: &str, site: Option<&str>) -> Names {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let found = self.within(self.names.get(&name), site);
        match name.split_once('.') {
            Some((first, _)) if found.is_empty() && name.parse::<IpAddr>().is_err() => {
                self.within(self.names.get(first), site)
            }
            _ => found,
        }
    }

    pub(super) fn by_vmid(&self, vmid: u32, site: Option<&str>) -> Names {
        let names: Names = self.hosts().filter(|host| host.vmid == Some(vmid)).map(|host| host.name.clone()).collect();
        self.within(Some(&names), site)
    }

    /// The host that an address or a name of a server means.
    pub(super) fn server(&self, server: &str, site: Option<&str>) -> (Whose, &'static str) {
        match server.parse::<IpAddr>() {
            Ok(address) => (self.by_address(address, site).into(), "address"),
            Err(_) => (self.by_name(server, site).into(), "name"),
        }
    }

    /// Containers that `fits` takes, with the names of their hosts.
    pub(super) fn containers(
        &self,
        fits: impl Fn(&KnownHost, &ContainerItem) -> bool,
    ) -> Vec<(&'a KnownHost, &'a ContainerItem)> {
        let all = self.hosts().flat_map(|host| {
            let list = host.inventory.iter().filter_map(|(inventory, _)| inventory.containers.as_ref()).flatten();
            list.map(move |container| (host, container))
        });
        all.filter(|(host, container)| fits(host, container)).collect()
    }
}

/// Scheme and path taken off, host and port apart. None where no host is named.
pub(super) fn endpoint(backend: &str) -> Option<(String, Option<u16>)> {
    let (scheme, rest) = match backend.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, backend),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let by_scheme = match scheme.as_deref() {
        Some("http" | "h2c") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    // An address of IPv6 stands in brackets, or alone.
    if let Some((host, port)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Some((host.to_owned(), port.strip_prefix(':').and_then(|port| port.parse().ok()).or(by_scheme)));
    }
    if authority.parse::<IpAddr>().is_ok() {
        return Some((authority.to_owned(), by_scheme));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, by_scheme),
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}
