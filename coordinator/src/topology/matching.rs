//! Which guest of a hypervisor is which host.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Confidence, GuestFact, Input, Why,
    resolve::{Index, Names, Whose},
};

/// Signs, the best first.
const KEYS: [&str; 5] = ["vmid", "uuid", "mac", "address", "name"];

/// What became of a guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It is this host, by this sign with this value.
    Host { name: String, key: &'static str, value: String },
    /// It is none, or it cannot be told which.
    None { why: Why, key: Option<&'static str>, candidates: Names },
}

impl Match {
    pub(super) fn confidence(key: &str) -> Confidence {
        if matches!(key, "vmid" | "uuid" | "mac") { Confidence::Certain } else { Confidence::Likely }
    }
}

/// The hosts of all guests that integrations tell of, by the name of the
/// integration and the guest's number there. What is not sure is left out.
#[must_use]
pub fn hosts_by_guest(input: &Input) -> BTreeMap<(String, u32), String> {
    let index = Index::new(input);
    let told: Vec<(&str, &GuestFact, Option<&str>)> = input
        .said
        .iter()
        .filter(|said| said.is_fresh)
        .flat_map(|said| {
            let site = said.facts.host.as_deref().and_then(|host| index.host(host)?.site.as_deref());
            said.facts.guests.iter().map(move |guest| (said.integration.as_str(), guest, site))
        })
        .collect();
    let facts: Vec<(&GuestFact, Option<&str>)> = told.iter().map(|(_, guest, site)| (*guest, *site)).collect();
    let hosts = told.iter().zip(hosts_of(&index, &facts)).filter_map(|((integration, guest, _), found)| match found {
        Match::Host { name, .. } => Some((((*integration).to_owned(), guest.vmid), name)),
        Match::None { .. } => None,
    });
    hosts.collect()
}

/// Finds the hosts of all guests at once, so that none is two. Each guest comes
/// with the site of the integration that tells of it. One sign after the other:
/// the first that fits anyone decides, and where it fits several, nobody is
/// guessed. Answers in the order of `guests`.
pub(super) fn hosts_of(index: &Index<'_>, guests: &[(&GuestFact, Option<&str>)]) -> Vec<Match> {
    let mut found: Vec<Option<Match>> = guests.iter().map(|_| None).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for key in KEYS {
        let mut claims: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
        for (at, (guest, site)) in guests.iter().enumerate().filter(|(at, _)| found[*at].is_none()).collect::<Vec<_>>()
        {
            match by_key(index, guest, *site, key) {
                None => {}
                Some((Whose::One(name), _)) if taken.contains(&name) => {
                    found[at] = Some(Match::None { why: Why::Taken, key: Some(key), candidates: [name].into() });
                }
                Some((Whose::One(name), value)) => claims.entry(name).or_default().push((at, value)),
                Some((Whose::Several(candidates), _)) => {
                    found[at] = Some(Match::None { why: Why::Ambiguous, key: Some(key), candidates });
                }
                Some((Whose::Nobody, _)) => {}
            }
        }
        for (name, claims) in claims {
            let alone = claims.len() == 1;
            taken.insert(name.clone());
            for (at, value) in claims {
                found[at] = Some(if alone {
                    Match::Host { name: name.clone(), key, value }
                } else {
                    Match::None { why: Why::Ambiguous, key: Some(key), candidates: [name.clone()].into() }
                });
            }
        }
    }
    let nobody = || Match::None { why: Why::Nobody, key: None, candidates: Names::new() };
    found.into_iter().map(|found| found.unwrap_or_else(nobody)).collect()
}

/// The hosts that one sign of a guest fits, and the value that does.
fn by_key(index: &Index<'_>, guest: &GuestFact, site: Option<&str>, key: &str) -> Option<(Whose, String)> {
    let values: Vec<(Names, String)> = match key {
        "vmid" => vec![(index.by_vmid(guest.vmid, site), guest.vmid.to_string())],
        "uuid" => guest.uuid.iter().map(|uuid| (index.by_uuid(uuid, site), uuid.clone())).collect(),
        "mac" => guest.macs.iter().map(|mac| (index.by_mac(mac, site), mac.clone())).collect(),
        "address" => guest.addresses.iter().map(|a| (index.by_address(*a, site), a.to_string())).collect(),
        _ => vec![(index.by_name(&guest.name, site), guest.name.clone())],
    };
    // A value that several hosts share says nothing while another says one.
    let alone: Vec<&(Names, String)> = values.iter().filter(|(names, _)| names.len() == 1).collect();
    if let [first, ..] = alone[..] {
        let names: Names = alone.iter().flat_map(|(names, _)| names).cloned().collect();
        return Some((names.into(), first.1.clone()));
    }
    let (names, value) = values.into_iter().find(|(names, _)| names.len() > 1)?;
    Some((names.into(), value))
}
