//! Guests with the signs by which they are known inside: hardware addresses,
//! the UUID of their machine, addresses that their configuration gives them.
//!
//! The signs stand in each guest's configuration, which takes one call a guest.
//! They seldom change, so each is read once an hour, and a guest whose
//! configuration cannot be read keeps those of before.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    api::{Cluster, Trouble},
    rows::Guest,
};
use crate::{checks::system::facts::address, topology::GuestFact};

/// Configurations that are read at a time; the next time it is others' turn.
const MOST: usize = 256;
/// For how long one is good, in ms.
const GOOD_FOR_MS: i64 = 3_600_000;
/// Signs of a kind that one guest has at most.
const MOST_SIGNS: usize = 32;

/// # Errors
/// The cluster does not list its guests.
pub(super) async fn read(cluster: &Cluster<'_>) -> Result<Vec<GuestFact>, Trouble> {
    let resources = cluster.resources().await?;
    let now = cluster.reach.asking.now;
    let guests: Vec<&Guest> = resources.guests.iter().filter(|guest| !guest.template).collect();
    let key = |guest: &Guest| (guest.vmid, guest.node.clone());
    // The others wait half a minute for a node that is away.
    let is_away =
        |guest: &Guest| resources.nodes.iter().any(|(node, status)| *node == guest.node && status != "online");
    let present: BTreeSet<_> = guests.iter().map(|guest| key(guest)).collect();
    let due: Vec<&Guest> = cluster.reach.known(|known| {
        known.guests.retain(|guest, _| present.contains(guest));
        let is_old = |guest: &Guest| known.guests.get(&key(guest)).is_none_or(|(at, _)| now.since(*at) >= GOOD_FOR_MS);
        guests.iter().copied().filter(|guest| !is_away(guest) && is_old(guest)).take(MOST).collect()
    });
    let paths: Vec<String> = due.iter().map(|guest| format!("{}/config", guest.path())).collect();
    let answers = cluster.get_all(&paths).await;
    let unread = answers.iter().filter(|answer| answer.is_err()).count();
    if unread > 0 {
        let integration = &cluster.reach.connection.name;
        tracing::debug!(integration, unread, "configurations of guests could not be read, their signs are missing");
    }
    Ok(cluster.reach.known(|known| {
        for (guest, answer) in due.iter().zip(answers) {
            if let Ok(configuration) = answer {
                known.guests.insert(key(guest), (now, signs(&configuration)));
            }
        }
        let fact = |guest: &&Guest| GuestFact {
            node: guest.node.clone(),
            vmid: guest.vmid,
            name: guest.name.clone().unwrap_or_else(|| guest.vmid.to_string()),
            status: guest.status.clone(),
            ..known.guests.get(&key(guest)).map(|(_, signs)| signs.clone()).unwrap_or_default()
        };
        guests.iter().map(fact).collect()
    }))
}

/// The signs in a configuration of a machine or a container.
fn signs(configuration: &Value) -> GuestFact {
    let mut found = GuestFact::default();
    for (key, value) in configuration.as_object().into_iter().flatten() {
        let Some(value) = value.as_str() else { continue };
        let parts = value.split(',').filter_map(|part| part.trim().split_once('='));
        if numbered(key, "net") || numbered(key, "ipconfig") {
            for (name, value) in parts {
                match name {
                    "ip" | "ip6" => found.addresses.extend(address(value)),
                    // By its model in a machine, by `hwaddr` in a container.
                    _ if is_mac(value) => found.macs.push(value.to_ascii_lowercase()),
                    _ => {}
                }
            }
        } else if key == "smbios1" {
            let uuid = parts.filter(|(name, _)| *name == "uuid").find_map(|(_, uuid)| uuid::Uuid::try_parse(uuid).ok());
            found.uuid = uuid.filter(|uuid| !uuid.is_nil()).map(|uuid| uuid.to_string());
        }
    }
    found.macs.truncate(MOST_SIGNS);
    found.addresses.truncate(MOST_SIGNS);
    found
}

/// Whether `key` is `of` with a number behind it.
fn numbered(key: &str, of: &str) -> bool {
    key.strip_prefix(of).is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_mac(text: &str) -> bool {
    let bytes: Vec<&str> = text.split(':').collect();
    bytes.len() == 6 && bytes.iter().all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
