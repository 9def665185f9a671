//! What systems tell the topology beside their looks. It takes questions of its
//! own, so it is asked for seldom, and only once a look was answered.

use std::net::IpAddr;

use farol_protocol::system::{ProxmoxLook, SystemProbe};

use super::{Asking, opnsense, pfsense, proxmox};
use crate::{
    integrations::Connection,
    topology::{AddressFact, IntegrationFacts},
};

/// Least time in ms between two such questions to a system; none where there is
/// nothing to ask. `host` is the one that the system is about: addresses of
/// nobody in particular are of no use.
pub(crate) const fn least_every_ms(probe: &SystemProbe, host: Option<&str>) -> Option<i64> {
    match probe {
        SystemProbe::Proxmox(probe) if matches!(probe.look, ProxmoxLook::Guests) => Some(5 * 60_000),
        SystemProbe::Pfsense(_) | SystemProbe::Opnsense(_) if host.is_some() => Some(30 * 60_000),
        _ => None,
    }
}

/// Asks what `probe`'s system tells. `host` is the one that it is about.
///
/// # Errors
/// Why it tells nothing.
pub(crate) async fn ask(
    asking: &Asking<'_>,
    probe: &SystemProbe,
    connection: &Connection,
    host: Option<&str>,
) -> Result<IntegrationFacts, String> {
    let none = IntegrationFacts { host: host.map(str::to_owned), ..IntegrationFacts::default() };
    let addresses = match probe {
        SystemProbe::Proxmox(_) => {
            return Ok(IntegrationFacts { guests: proxmox::facts(asking, connection).await?, ..none });
        }
        SystemProbe::Pfsense(_) => pfsense::addresses(asking, connection).await?,
        SystemProbe::Opnsense(_) => opnsense::addresses(asking, connection).await?,
        _ => Vec::new(),
    };
    let fact = host.map(|host| AddressFact { host: host.to_owned(), addresses });
    Ok(IntegrationFacts { addresses: fact.into_iter().collect(), ..none })
}

/// An address as systems write it, with or without prefix and zone, if it
/// belongs to one machine.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.split(['/', '%']).next()?.trim().parse().ok()?;
    // The same link-local addresses are in use behind every firewall.
    let is_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (!is_local && !address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_every_spelling_and_those_that_many_share_are_none() {
        for (text, expected) in [
            ("10.10.10.1", Some("10.10.10.1")),
            ("10.10.10.1/24", Some("10.10.10.1")),
            ("2001:db8::1/64", Some("2001:db8::1")),
            ("fe80::1:1%igb1", None),
            ("169.254.1.1", None),
            ("127.0.0.1/8", None),
            ("0.0.0.0", None),
            ("dhcp", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected.map(|expected| expected.parse().unwrap()), "{text}");
        }
    }
}
