//! What a host is made of: the section `inventory` of a telemetry batch, sent
//! when it changed.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::frame::encode;

/// Most listening ports.
pub const MOST_PORTS: usize = 256;
/// Most units.
pub const MOST_UNITS: usize = 512;
/// Most containers.
pub const MOST_CONTAINERS: usize = 256;
/// Most mounts.
pub const MOST_MOUNTS: usize = 64;
/// Most interfaces, gateways, and addresses or ports of one thing.
pub const MOST_INTERFACES: usize = 64;
/// Largest JSON of a settled inventory, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Longest text, in bytes.
pub const MAX_TEXT: usize = 256;

/// A section that is read apart from its batch, so that a mistake in it costs
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section<T> {
    /// It was understood.
    Read(T),
    /// It was not; why. Written again, it is `null`.
    Malformed(String),
}

impl<T: Serialize> Serialize for Section<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Read(section) => section.serialize(serializer),
            Self::Malformed(_) => serializer.serialize_unit(),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(match serde_json::from_value(value) {
            Ok(section) => Self::Read(section),
            Err(error) => Self::Malformed(error.to_string()),
        })
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Section<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("SectionOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let section = generator.subschema_for::<T>();
        schemars::json_schema!({
            "description": "Read apart from the batch: what does not fit is dropped, and the batch is taken.",
            "anyOf": [section, true]
        })
    }
}

/// What a host is made of. What its agent may not read is absent. Open: fields
/// that a newer agent adds are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Inventory {
    /// What the host calls itself.
    pub name: Option<String>,
    /// Operating system with its version.
    pub os: Option<String>,
    /// Version of the kernel.
    pub kernel: Option<String>,
    /// Digest of the machine's identity, as in `hello`.
    pub machine: Option<String>,
    /// What it runs on: `none` on bare metal, `kvm`, `lxc`, `docker`, `vmware` and so on.
    pub virtualisation: Option<String>,
    /// What its firmware says of the machine.
    pub dmi: Dmi,
    /// Interfaces with an address, loopback left out.
    pub interfaces: Vec<Interface>,
    /// Default gateways.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub gateways: Vec<IpAddr>,
    /// Ports that accept connections or datagrams.
    pub ports: Vec<Port>,
    /// Services of the service manager that are active or failed.
    pub units: Vec<UnitItem>,
    /// Containers of the engine, running or not; absent where no engine can be asked.
    pub containers: Option<Vec<ContainerItem>>,
    /// Mounted file systems, pseudo ones left out.
    pub mounts: Vec<Mount>,
    /// Names of the lists that were cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<String>,
}

/// What the firmware says of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Dmi {
    /// UUID in small letters; on most systems only root may read it.
    pub uuid: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// Model.
    pub product: Option<String>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Hardware address in small letters.
    #[serde(default)]
    pub mac: Option<String>,
    /// Addresses, link-local ones left out.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Address {
    /// The address.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

/// How a port is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

impl Transport {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Other => "other",
        }
    }
}

/// A port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Port {
    /// Of the port.
    pub transport: Transport,
    /// Number.
    pub port: u16,
    /// The address it is bound to; unspecified for all.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub address: IpAddr,
    /// Name of the process; absent where the agent may not see whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnitItem {
    /// Name with its type.
    pub name: String,
    /// `active` or `failed`.
    pub state: String,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContainerItem {
    /// Name.
    pub name: String,
    /// Image it was made from.
    #[serde(default)]
    pub image: Option<String>,
    /// `running`, `exited` and so on.
    pub state: String,
    /// Its addresses inside the host.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpAddr>,
    /// Ports that the host passes on to it.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// A port of a host that is passed on to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Published {
    /// Of the port.
    pub transport: Transport,
    /// The address on the host; absent for all.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub address: Option<IpAddr>,
    /// The port on the host.
    pub port: u16,
    /// The port in the container.
    pub inside: u16,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mount {
    /// Where.
    pub mount: String,
    /// What, such as `/dev/sda1` or `10.0.0.5:/export`.
    pub device: String,
    /// Its type.
    pub kind: String,
}

impl Inventory {
    /// Puts its lists into one order without repeats and cuts what goes over
    /// the bounds; `truncated` names the lists that were cut. Two inventories
    /// of the same host are equal after this.
    pub fn settle(&mut self) {
        let mut cut = std::mem::take(&mut self.truncated);
        cut.truncate(8);
        for text in [&mut self.name, &mut self.os, &mut self.kernel, &mut self.machine, &mut self.virtualisation]
            .into_iter()
            .chain([&mut self.dmi.uuid, &mut self.dmi.vendor, &mut self.dmi.product])
            .flatten()
        {
            shorten(text);
        }
        for interface in &mut self.interfaces {
            shorten(&mut interface.name);
            interface.mac.iter_mut().for_each(shorten);
            put_in_order(&mut interface.addresses, MOST_INTERFACES);
        }
        for port in &mut self.ports {
            port.process.iter_mut().for_each(shorten);
        }
        for unit in &mut self.units {
            [&mut unit.name, &mut unit.state].into_iter().for_each(shorten);
        }
        for container in self.containers.iter_mut().flatten() {
            [&mut container.name, &mut container.state].into_iter().for_each(shorten);
            container.image.iter_mut().for_each(shorten);
            put_in_order(&mut container.addresses, MOST_INTERFACES);
            put_in_order(&mut container.published, MOST_INTERFACES);
        }
        for mount in &mut self.mounts {
            [&mut mount.mount, &mut mount.device, &mut mount.kind].into_iter().for_each(shorten);
        }
        // Failed units are worth more than active ones.
        self.units.sort_by(|a, b| (a.state != "failed", &a.name).cmp(&(b.state != "failed", &b.name)));
        let over = [
            ("interfaces", put_in_order(&mut self.interfaces, MOST_INTERFACES)),
            ("gateways", put_in_order(&mut self.gateways, MOST_INTERFACES)),
            ("ports", put_in_order(&mut self.ports, MOST_PORTS)),
            ("units", cut_to(&mut self.units, MOST_UNITS)),
            ("containers", self.containers.as_mut().is_some_and(|list| put_in_order(list, MOST_CONTAINERS))),
            ("mounts", put_in_order(&mut self.mounts, MOST_MOUNTS)),
        ];
        cut.extend(over.into_iter().filter(|(_, over)| *over).map(|(name, _)| name.to_owned()));
        while self.json().len() > MAX_BYTES {
            cut.push(self.halve_the_longest().to_owned());
        }
        cut.iter_mut().for_each(shorten);
        cut.sort_unstable();
        cut.dedup();
        self.truncated = cut;
    }

    /// Within the bounds of every list the whole may still be too long.
    fn halve_the_longest(&mut self) -> &'static str {
        let bytes = [
            encode(&self.interfaces).len(),
            encode(&self.ports).len(),
            encode(&self.units).len(),
            encode(&self.containers).len(),
            encode(&self.mounts).len(),
        ];
        let longest = (0..bytes.len()).max_by_key(|at| bytes[*at]).unwrap_or(0);
        fn halve<T>(list: &mut Vec<T>) {
            list.truncate(list.len() / 2);
        }
        match longest {
            0 => halve(&mut self.interfaces),
            1 => halve(&mut self.ports),
            2 => halve(&mut self.units),
            3 => self.containers.iter_mut().for_each(halve),
            _ => halve(&mut self.mounts),
        }
        ["interfaces", "ports", "units", "containers", "mounts"][longest]
    }

    /// The JSON that is sent and stored.
    #[must_use]
    pub fn json(&self) -> String {
        encode(self)
    }
}

/// Cuts a text to [`MAX_TEXT`] bytes between two characters.
fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
}

fn put_in_order<T: Ord>(list: &mut Vec<T>, most: usize) -> bool {
    list.sort_unstable();
    cut_to(list, most)
}

fn cut_to<T: PartialEq>(list: &mut Vec<T>, most: usize) -> bool {
    list.dedup();
    let over = list.len() > most;
    list.truncate(most);
    over
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    #[test]
    fn a_malformed_inventory_costs_only_itself() {
        let text = r#"{"metrics": {"cpus": 2}, "inventory": {"ports": [{"port": "eighty"}]}}"#;
        let batch: Telemetry = serde_json::from_str(text).expect("taken");
        assert_eq!(batch.metrics.expect("kept").cpus, Some(2));
        let Some(Section::Malformed(why)) = batch.inventory.as_deref() else { panic!("malformed") };
        assert!(why.contains("eighty") || why.contains("missing field"), "{why}");
        for text in [r#"{"inventory": 5}"#, r#"{"inventory": []}"#] {
            let batch: Telemetry = serde_json::from_str(text).expect("taken");
            assert!(matches!(batch.inventory.as_deref(), Some(Section::Malformed(_) | Section::Read(_))));
        }
        let batch: Telemetry = serde_json::from_str(r#"{"inventory": null}"#).expect("taken");
        assert_eq!(batch.inventory, None);
    }

    #[test]
    fn what_a_newer_agent_adds_is_ignored() {
        let text = r#"{"gpu": 1, "ports": [{"transport": "sctp", "port": 7, "address": "::", "tls": true}]}"#;
        let inventory: Inventory = serde_json::from_str(text).expect("open");
        assert_eq!(inventory.ports[0].transport, Transport::Other);
    }

    #[test]
    fn lists_are_cut_in_one_order_and_say_so() {
        let port =
            |port| Port { transport: Transport::Tcp, port, address: "0.0.0.0".parse().expect("valid"), process: None };
        let unit = |name: &str, state: &str| UnitItem { name: name.to_owned(), state: state.to_owned() };
        let mut inventory = Inventory {
            ports: (0..400).rev().chain(0..400).map(port).collect(),
            units: (0..600).map(|n| unit(&format!("{n:03}.service"), "active")).collect(),
            name: Some("é".repeat(MAX_TEXT)),
            ..Inventory::default()
        };
        inventory.units.push(unit("z.service", "failed"));
        inventory.settle();
        assert_eq!(inventory.ports.iter().map(|port| port.port).collect::<Vec<_>>(), (0..256).collect::<Vec<_>>());
        assert_eq!((inventory.units.len(), inventory.units[0].name.as_str()), (MOST_UNITS, "z.service"));
        assert_eq!(inventory.truncated, ["ports", "units"]);
        assert_eq!(inventory.name.as_ref().map(String::len), Some(MAX_TEXT));
        let mut wide = inventory.clone();
        let container = |n: u8| ContainerItem {
            name: format!("{n:03}{}", "x".repeat(MAX_TEXT)),
            image: Some("y".repeat(MAX_TEXT)),
            state: "running".to_owned(),
            addresses: (0..64).map(|last| IpAddr::from([10, 0, n, last])).collect(),
            published: Vec::new(),
        };
        wide.containers = Some((0..=255).map(container).collect());
        wide.settle();
        assert!(wide.json().len() <= MAX_BYTES, "{}", wide.json().len());
        assert_eq!(wide.truncated, ["containers", "ports", "units"]);
        assert_eq!(wide.ports.len(), 256);
        let once = inventory.clone();
        inventory.settle();
        assert_eq!(inventory, once);
    }
}
