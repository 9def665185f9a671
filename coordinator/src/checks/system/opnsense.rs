//! OPNsense by its API.

pub(crate) mod api;
pub(crate) mod facts;
mod firmware;
mod gateways;
mod subsystems;

use std::net::IpAddr;

use farol_protocol::{
    Language, Status,
    system::{OpnsenseLook, OpnsenseProbe},
};
use serde_json::Value;

use self::api::{Firewall, Trouble};
use super::{
    Asking, Seen,
    facts::address,
    phrase::{Said, above, limits_or, listed, quoted, shown},
};
use crate::{
    integrations::{
        Connection,
        lenient::{number, rows, text},
    },
    text::{number as in_words, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &OpnsenseProbe, connection: &Connection) -> Seen {
    let seen = match Firewall::of(asking, connection) {
        Ok(firewall) => look(&firewall, probe).await.unwrap_or_else(|trouble| trouble.seen(&firewall)),
        Err(seen) => seen,
    };
    shown(connection, seen)
}

/// The addresses of its interfaces.
///
/// # Errors
/// It does not tell them; the text says why.
pub(super) async fn addresses(asking: &Asking<'_>, connection: &Connection) -> Result<Vec<IpAddr>, String> {
    let firewall = Firewall::of(asking, connection).map_err(|seen| shown(connection, seen).text)?;
    let told = facts::interfaces(&firewall).await;
    let told = told.map_err(|trouble| shown(connection, trouble.seen(&firewall)).text)?;
    Ok(told.items.iter().flat_map(|interface| &interface.addresses).filter_map(|text| address(text)).collect())
}

async fn look(firewall: &Firewall<'_>, probe: &OpnsenseProbe) -> Result<Seen, Trouble> {
    let language = firewall.language();
    let command = match probe.look {
        OpnsenseLook::System => "core/system/status",
        OpnsenseLook::Gateways => "routes/gateway/status",
        OpnsenseLook::Firmware => "core/firmware/status",
        OpnsenseLook::Disk => "diagnostics/system/system_disk",
    };
    let body = firewall.get(command).await?;
    match probe.look {
        OpnsenseLook::System => subsystems::look(language, probe, &body),
        OpnsenseLook::Gateways => gateways::look(language, probe, &body),
        OpnsenseLook::Firmware => Some(firmware::look(language, firewall.now(), probe, &body)),
        OpnsenseLook::Disk => disk(language, probe, &body),
    }
    .ok_or(Trouble::Shape { command })
}

/// What takes no space, and is always full.
const NO_DISKS: [&str; 6] = ["devfs", "fdescfs", "procfs", "linprocfs", "linsysfs", "nullfs"];

/// The fullest file system.
fn disk(language: Language, probe: &OpnsenseProbe, body: &Value) -> Option<Seen> {
    let read = rows(body.get("devices")?, |row| {
        if row.get("type").and_then(text).is_some_and(|kind| NO_DISKS.contains(&kind)) {
            return Some(None);
        }
        let share = row.get("used_pct")?;
        let share = number(share).or_else(|| number(&share.as_str()?.trim_end_matches('%').into()))?;
        Some(Some((share, quoted(row.get("mountpoint").and_then(text)?))))
    })?;
    let mut disks: Vec<(f64, String)> = read.good.into_iter().flatten().collect();
    disks.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut said = Said::new(language);
    let limits = limits_or(&probe.limits, above(Some(85.0), Some(95.0)));
    let name = |(share, place): &(f64, String)| format!("{place} {}%", in_words(*share, language));
    match disks.first() {
        None => said.say(
            Status::Unknown,
            say!(language, "o firewall não lista nenhum sistema de arquivos", "the firewall lists no file system"),
        ),
        Some(fullest) => {
            let beyond: Vec<String> =
                disks.iter().filter(|(share, _)| limits.judge(*share) != Status::Ok).map(name).collect();
            let text = if beyond.is_empty() {
                let (all, first) = (disks.len(), name(fullest));
                say!(
                    language,
                    "o mais cheio de {all} sistemas de arquivos: {first}",
                    "the fullest of {all} file systems: {first}"
                )
            } else {
                let names = listed(language, &beyond);
                say!(language, "sistema de arquivos cheio: {names}", "file system full: {names}")
            };
            said.judge(&limits, fullest.0, "%", &text);
        }
    }
    said.lost(read.bad);
    Some(said.seen())
}

#[cfg(test)]
mod tests;
