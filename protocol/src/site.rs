//! Sites: groups of hosts and integrations with one set of networks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::yaml::{Mistake, Spanned};

/// A group of hosts and integrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Identifier: 1 to 64 ASCII letters, digits and `._-`.
    pub id: String,
    /// Name that people read.
    pub name: String,
    /// What people read about it.
    pub description: Option<String>,
    /// Its networks by name.
    pub networks: BTreeMap<String, Network>,
}

/// A network of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its addresses.
    pub cidr: Cidr,
    /// Its way out, one of its addresses.
    pub gateway: Option<IpAddr>,
}

/// Addresses with a prefix in common, such as `10.10.10.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network such as 10.10.10.0/24 or fd00::/64")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// A lone address is the network of itself.
    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            // `+8` and `08` are numbers for Rust and mistakes for people.
            Some(digits) if digits.len() > 1 && digits.starts_with(['0', '+']) => return Err(invalid()),
            Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= longest).ok_or_else(invalid)?,
        };
        Ok(Self { address, prefix })
    }
}

impl Cidr {
    /// Whether `address` is one of its addresses. An IPv4 address that came in
    /// an IPv6 one is itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 4),
            IpAddr::V6(v6) => (u128::from(v6), 6),
        };
        let ((own, family), (other, other_family)) = (bits(self.address), bits(address.to_canonical()));
        family == other_family && (self.prefix == 0 || (own ^ other) >> (128 - u32::from(self.prefix)) == 0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A site as it is written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Site"))]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteDoc {
    /// Identifier.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub(crate) id: Spanned<String>,
    /// Name that people read.
    name: String,
    /// What people read about it.
    #[serde(default)]
    description: Option<String>,
    /// Its networks by name.
    #[serde(default)]
    networks: BTreeMap<String, NetworkDoc>,
}

/// A network as it is written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Network"))]
#[serde(deny_unknown_fields)]
struct NetworkDoc {
    /// Its addresses, such as `10.10.10.0/24`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    cidr: Spanned<String>,
    /// Its way out, one of its addresses.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    gateway: Option<Spanned<String>>,
}

/// Judges what is written about sites.
pub(crate) fn resolve(docs: &[SiteDoc]) -> Result<Vec<Site>, Mistake> {
    let mut seen = BTreeSet::new();
    docs.iter()
        .map(|doc| {
            let id = &doc.id.value;
            if !is_id(id) {
                let says = format!("`{id}` is not a site id: it has 1 to 64 ASCII letters, digits and `._-`");
                return Err(Mistake::at(doc.id.referenced, says));
            }
            if !seen.insert(id) {
                return Err(Mistake::at(doc.id.referenced, format!("the site `{id}` is listed twice")));
            }
            let networks = doc.networks.iter().map(|(name, doc)| Ok((name.clone(), network(doc)?)));
            Ok(Site {
                id: id.clone(),
                name: doc.name.clone(),
                description: doc.description.clone(),
                networks: networks.collect::<Result<_, Mistake>>()?,
            })
        })
        .collect()
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn network(doc: &NetworkDoc) -> Result<Network, Mistake> {
    let written = &doc.cidr.value;
    let cidr: Cidr =
        written.parse().map_err(|error: InvalidCidr| Mistake::at(doc.cidr.referenced, error.to_string()))?;
    let Some(gateway) = &doc.gateway else { return Ok(Network { cidr, gateway: None }) };
    let address: IpAddr = gateway
        .value
        .parse()
        .map_err(|_| Mistake::at(gateway.referenced, format!("`{}` is not an IP address", gateway.value)))?;
    if !cidr.contains(address) {
        let says = format!("the gateway {address} lies outside {written}");
        return Err(Mistake::at(gateway.referenced, says));
    }
    Ok(Network { cidr, gateway: Some(address) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |cidr: &str, address: &str| {
            cidr.parse::<Cidr>().expect("a network").contains(address.parse().expect("an address"))
        };
        for (cidr, address) in [
            ("10.10.10.0/24", "10.10.10.255"),
            ("10.10.10.7/24", "10.10.10.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("0.0.0.0/0", "203.0.113.9"),
            ("192.0.2.7", "192.0.2.7"),
            ("fd00::/64", "fd00::1"),
            ("::/0", "2001:db8::1"),
        ] {
            assert!(holds(cidr, address), "{cidr} {address}");
        }
        for (cidr, address) in [
            ("10.10.10.0/24", "10.10.11.0"),
            ("10.10.10.0/25", "10.10.10.128"),
            ("192.0.2.7", "192.0.2.8"),
            ("fd00::/64", "fd00:0:0:1::1"),
            ("::/0", "192.0.2.1"),
            ("0.0.0.0/0", "::1"),
        ] {
            assert!(!holds(cidr, address), "{cidr} {address}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/+8", "lan", "10.0.0/8", "::/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_site_may_say_its_networks_and_a_mistake_in_one_has_its_place() {
        let with = |site: &str| Registry::parse(&format!("version: 1\nsites:\n  - {site}\n"), &|_| None);
        let site = with(
            "{id: lab, name: Lab, description: Rack, networks: {lan: {cidr: 10.10.10.0/24, gateway: 10.10.10.1}, \
             v6: {cidr: 'fd00::/64'}}}",
        )
        .expect("valid")
        .sites
        .remove(0);
        assert_eq!(site.description.as_deref(), Some("Rack"));
        assert_eq!(site.networks["lan"].cidr.to_string(), "10.10.10.0/24");
        assert_eq!(site.networks["v6"].gateway, None);
        for (site, says) in [
            ("{id: lab, name: Lab, networks: {lan: {cidr: 10.10.10.0/99}}}", "10.10.10.0/99"),
            ("{id: lab, name: Lab, networks: {lan: {cidr: 10.10.10.0/24, gateway: 10.10.11.1}}}", "outside"),
            ("{id: lab, name: Lab, networks: {lan: {cidr: 10.10.10.0/24, gateway: router}}}", "not an IP address"),
            ("{id: 'la b', name: Lab}", "not a site id"),
            ("{id: lab, name: Lab}\n  - {id: lab, name: Again}", "listed twice"),
        ] {
            let mistake = with(site).expect_err(site);
            assert!(mistake.message.contains(says) && mistake.line >= 3, "{site}: {mistake}");
        }
    }
}
