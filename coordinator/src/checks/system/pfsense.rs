//! pfSense by its REST API package, version 2.
//!
//! The package is not part of pfSense, and an upgrade of pfSense removes it;
//! so what answers instead is told apart from a firewall that is down. Every
//! refused login counts towards pfSense's login protection, which blocks the
//! asking address: after one, this file asks nothing for half an hour.

mod api;
mod gateways;
mod services;

use std::net::IpAddr;

use farol_protocol::{
    Language, Status,
    report::{Limits, Worse},
    system::{PfsenseLook, PfsenseProbe},
};

use self::api::{Firewall, Trouble};
use super::{
    Asking, Seen,
    facts::address,
    phrase::{Said, above, limits_or, shown},
};
use crate::{
    integrations::{
        Connection,
        lenient::{flag, number, rows, text},
    },
    text::{number as in_words, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &PfsenseProbe, connection: &Connection) -> Seen {
    let seen = match Firewall::of(asking, connection) {
        Ok(firewall) => look(&firewall, probe).await.unwrap_or_else(|seen| seen),
        Err(seen) => seen,
    };
    shown(connection, seen)
}

/// The addresses of its interfaces.
///
/// # Errors
/// It does not tell them; the text says why.
pub(super) async fn addresses(asking: &Asking<'_>, connection: &Connection) -> Result<Vec<IpAddr>, String> {
    const PATH: &str = "/status/interfaces";
    let firewall = Firewall::of(asking, connection).map_err(|seen| shown(connection, seen).text)?;
    let data = firewall.get(&format!("{PATH}?limit=0")).await.map_err(|trouble| match trouble {
        Trouble::Api { status, id, .. } => format!("/api/v2{PATH} answered {status} {id}"),
        _ => format!("/api/v2{PATH} gave no answer that can be read"),
    })?;
    let read = rows(&data, |row| {
        let addresses = ["ipaddr", "ipaddrv6"].iter().filter_map(|key| row.get(*key).and_then(text));
        Some(addresses.filter_map(address).collect::<Vec<_>>())
    });
    let read = read.ok_or_else(|| format!("/api/v2{PATH} gave no list"))?;
    Ok(read.good.concat())
}

/// `Err` is an outcome as well: there was nothing to look at.
async fn look(firewall: &Firewall<'_>, probe: &PfsenseProbe) -> Result<Seen, Seen> {
    let language = firewall.language();
    let is_system = probe.look == PfsenseLook::System;
    let path = match probe.look {
        PfsenseLook::System => "/status/system",
        PfsenseLook::Gateways => "/status/gateways?limit=0",
        PfsenseLook::Services => "/status/services?limit=0",
        PfsenseLook::Carp => "/status/carp",
    };
    let data = match firewall.get(path).await {
        Ok(data) => data,
        Err(trouble) => return Err(firewall.explain(trouble, is_system).await),
    };
    let strange = || {
        let (path, place) = (path.split('?').next().unwrap_or_default(), firewall.reach.place());
        Seen::unknown(say!(
            language,
            "{place}: a resposta de {path} não tem a forma esperada",
            "{place}: the answer of {path} is not of the expected form"
        ))
    };
    match probe.look {
        PfsenseLook::System => data.as_object().map(|data| system(language, probe, data)),
        PfsenseLook::Gateways => gateways::look(language, probe, &data),
        PfsenseLook::Services => services::look(language, probe, &data),
        PfsenseLook::Carp => data.as_object().map(|data| carp(language, probe, data)),
    }
    .ok_or_else(strange)
}

/// The fullest of memory, disk, swap and network buffers.
fn system(language: Language, probe: &PfsenseProbe, data: &serde_json::Map<String, serde_json::Value>) -> Seen {
    let mut said = Said::new(language);
    let usage = |key: &str| data.get(key).and_then(number);
    // A firewall without swap has no figure for it; memory and disk it always has.
    let parts = [
        ("mem_usage", "memória", "memory", true),
        ("disk_usage", "disco", "disk", true),
        ("swap_usage", "swap", "swap", false),
        ("mbuf_usage", "mbufs", "mbufs", false),
    ];
    let mut known = Vec::new();
    let mut absent = Vec::new();
    for (key, pt, en, needed) in parts {
        let name = if language == Language::PtBr { pt } else { en };
        match usage(key) {
            Some(share) => known.push((share, name)),
            None if needed => absent.push(name),
            None => {}
        }
    }
    known.sort_by(|a, b| b.0.total_cmp(&a.0));
    if let Some((fullest, _)) = known.first() {
        let each: Vec<String> =
            known.iter().map(|(share, name)| format!("{name} {}%", in_words(*share, language))).collect();
        let each = each.join(", ");
        let limits = limits_or(&probe.limits, above(Some(85.0), Some(95.0)));
        said.judge(&limits, *fullest, "%", &say!(language, "a API responde: {each}", "the API answers: {each}"));
    }
    if !absent.is_empty() {
        let names = absent.join(", ");
        said.say(Status::Unknown, say!(language, "a API não informa: {names}", "the API does not tell: {names}"));
    }
    said.seen()
}

/// Whether high availability is on.
fn carp(language: Language, probe: &PfsenseProbe, data: &serde_json::Map<String, serde_json::Value>) -> Seen {
    let truth = |key: &str| data.get(key).and_then(flag);
    let (Some(on), Some(resting)) = (truth("enable"), truth("maintenance_mode")) else {
        return Seen::unknown(say!(
            language,
            "a API não diz se o CARP está ativo",
            "the API does not tell whether CARP is on"
        ));
    };
    let text = match (on, resting) {
        (false, _) => say!(language, "o CARP está desligado", "CARP is off"),
        (true, true) => say!(language, "o CARP está em modo de manutenção", "CARP is in maintenance mode"),
        (true, false) => say!(language, "o CARP está ativo", "CARP is on"),
    };
    let limits = limits_or(&probe.limits, Limits { warning: Some(0.0), critical: None, worse: Worse::Below });
    let limits = Limits { worse: Worse::Below, ..limits };
    let value = if on && !resting { 1.0 } else { 0.0 };
    Seen::new(limits.judge(value), text).measured(value, "count")
}

#[cfg(test)]
mod tests;
