//! Whether guests run.
//!
//! Which must: those that the check lists, else those whose own configuration
//! starts them with their node (`onboot`), and those that high availability is
//! to keep running. Only of a guest that does not run the configuration is
//! read. Templates never run and never count.

use std::collections::HashMap;

use farol_protocol::{Language, Status, system::ProxmoxProbe};
use serde_json::Value;

use super::{
    api::{Cluster, Trouble, segment},
    ignored,
    rows::{Guest, Standing},
};
use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, count, limits_or, listed},
    },
    integrations::lenient::{flag, integer, text},
    text::say,
};

/// What a guest is found to be.
enum Found {
    Runs,
    /// How it does not.
    Down(String),
    /// It does not run because it is being saved.
    Saved,
    /// Why that is not known.
    Unknown(String),
    /// It does not run and need not.
    Idle,
}

pub(super) async fn look(cluster: &Cluster<'_>, probe: &ProxmoxProbe, standing: &Standing) -> Result<Seen, Trouble> {
    let language = cluster.language();
    let resources = cluster.resources().await?;
    let mut said = Said::new(language);
    let named = |guest: &&Guest| probe.guests.is_empty() || probe.guests.contains(&guest.vmid);
    let counts = |guest: &&Guest| {
        let number = guest.vmid.to_string();
        !guest.template && !ignored(probe, &[&number, guest.name.as_deref().unwrap_or_default()])
    };
    let guests: Vec<Guest> = resources.guests.iter().filter(named).filter(counts).cloned().collect();
    if resources.guests.is_empty() {
        said.say(
            Status::Unknown,
            say!(
                language,
                "o token não vê nenhum guest: dê-lhe o papel PVEAuditor em `/` (VM.Audit)",
                "the token sees no guest: give it the role PVEAuditor on `/` (VM.Audit)"
            ),
        );
        said.lost(resources.bad);
        return Ok(said.seen());
    }
    let unseen: Vec<String> = probe
        .guests
        .iter()
        .filter(|vmid| !resources.guests.iter().any(|guest| guest.vmid == **vmid))
        .map(u32::to_string)
        .collect();
    if !unseen.is_empty() {
        let names = listed(language, &unseen);
        said.say(
            Status::Unknown,
            say!(
                language,
                "{names} não está na lista: foi removido, ou o token não o vê (VM.Audit)",
                "{names} is not in the list: it was removed, or the token does not see it (VM.Audit)"
            ),
        );
    }
    let templates: Vec<String> = resources
        .guests
        .iter()
        .filter(|guest| guest.template && probe.guests.contains(&guest.vmid))
        .map(Guest::label)
        .collect();
    if !templates.is_empty() {
        let names = listed(language, &templates);
        said.say(
            Status::Unknown,
            say!(language, "{names} é um modelo e nunca funciona", "{names} is a template and never runs"),
        );
    }
    let inner = inner_states(cluster, probe, &guests, standing, &mut said).await;
    let found = judge(cluster, probe, &guests, &inner, standing).await;
    tell(cluster, probe, &guests, &found, &mut said);
    said.lost(resources.bad);
    Ok(said.seen())
}

/// What QEMU says of running machines, by number: a paused one or one whose
/// disk fails is `running` everywhere else.
async fn inner_states(
    cluster: &Cluster<'_>,
    probe: &ProxmoxProbe,
    guests: &[Guest],
    standing: &Standing,
    said: &mut Said,
) -> HashMap<u32, String> {
    let language = cluster.language();
    let machines: Vec<&Guest> = guests
        .iter()
        .filter(|guest| !guest.is_container && guest.status == "running" && !standing.is_away(&guest.node))
        .collect();
    // A few machines are asked one by one, else each node for all of its own.
    let one_by_one = !probe.guests.is_empty();
    let mut nodes: Vec<&str> = machines.iter().map(|guest| guest.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let paths: Vec<String> = if one_by_one {
        machines.iter().map(|guest| format!("{}/status/current", guest.path())).collect()
    } else {
        nodes.iter().map(|node| format!("/nodes/{}/qemu?full=1", segment(node))).collect()
    };
    let mut states = HashMap::new();
    let mut take = |row: &Value, vmid: Option<u32>| {
        let vmid = vmid.or_else(|| u32::try_from(row.get("vmid").and_then(integer)?).ok());
        if let (Some(vmid), Some(state)) = (vmid, row.get("qmpstatus").and_then(text)) {
            states.insert(vmid, state.to_owned());
        }
    };
    for (at, answer) in cluster.get_all(&paths).await.into_iter().enumerate() {
        match answer {
            Ok(row) if one_by_one => take(&row, Some(machines[at].vmid)),
            Ok(list) => list.as_array().into_iter().flatten().for_each(|row| take(row, None)),
            Err(trouble) => {
                let what = if one_by_one { machines[at].label() } else { nodes[at].to_owned() };
                let why = trouble.words(cluster);
                said.say(
                    Status::Unknown,
                    say!(
                        language,
                        "o estado interno das VMs não pôde ser lido ({what}: {why})",
                        "the inner state of the VMs could not be read ({what}: {why})"
                    ),
                );
            }
        }
    }
    states
}

async fn judge(
    cluster: &Cluster<'_>,
    probe: &ProxmoxProbe,
    guests: &[Guest],
    inner: &HashMap<u32, String>,
    standing: &Standing,
) -> Vec<Found> {
    let language = cluster.language();
    let wanted = |guest: &Guest| !probe.guests.is_empty() || guest.ha.as_deref() == Some("started");
    let unclear: Vec<&Guest> = guests
        .iter()
        .filter(|guest| guest.status == "stopped" && !wanted(guest) && !standing.is_away(&guest.node))
        .collect();
    let paths: Vec<String> = unclear.iter().map(|guest| format!("{}/config", guest.path())).collect();
    let mut configurations: HashMap<u32, Result<Value, Trouble>> =
        unclear.iter().map(|guest| guest.vmid).zip(cluster.get_all(&paths).await).collect();
    guests
        .iter()
        .map(|guest| {
            let node = &guest.node;
            if standing.is_away(node) {
                return Found::Unknown(say!(language, "o nó {node} está fora do ar", "the node {node} is away"));
            }
            if guest.status == "running" {
                return match inner.get(&guest.vmid).map(String::as_str) {
                    // Between, a machine begins or moves; that passes by itself.
                    None
                    | Some("running" | "prelaunch" | "inmigrate" | "postmigrate" | "finish-migrate" | "save-vm") => {
                        Found::Runs
                    }
                    Some("suspended") => Found::Down(say!(language, "suspenso", "suspended")),
                    Some("paused") if guest.lock.is_some() => Found::Saved,
                    Some("paused") => Found::Down(say!(language, "em pausa", "paused")),
                    Some("io-error") => Found::Down(say!(
                        language,
                        "parado por erro de disco (io-error; storage cheio?)",
                        "halted by a disk error (io-error; is its storage full?)"
                    )),
                    Some(state) => Found::Down(state.to_owned()),
                };
            }
            if guest.status != "stopped" {
                let status = &guest.status;
                return Found::Unknown(say!(
                    language,
                    "estado `{status}` no nó {node}",
                    "state `{status}` on the node {node}"
                ));
            }
            if !wanted(guest) {
                match configurations.remove(&guest.vmid) {
                    Some(Ok(configuration)) => {
                        if configuration.get("onboot").and_then(flag) != Some(true) {
                            return Found::Idle;
                        }
                    }
                    Some(Err(trouble)) => return Found::Unknown(trouble.words(cluster)),
                    None => return Found::Idle,
                }
            }
            match guest.lock.as_deref() {
                Some("backup" | "snapshot") => Found::Saved,
                Some(lock) => Found::Down(say!(language, "parado, trava `{lock}`", "stopped, lock `{lock}`")),
                None => Found::Down(say!(language, "parado em {node}", "stopped on {node}")),
            }
        })
        .collect()
}

fn tell(cluster: &Cluster<'_>, probe: &ProxmoxProbe, guests: &[Guest], found: &[Found], said: &mut Said) {
    let language = cluster.language();
    let with = |pick: &dyn Fn(&Guest, &Found) -> Option<String>| -> Vec<String> {
        guests.iter().zip(found).filter_map(|(guest, found)| pick(guest, found)).collect()
    };
    let down = with(&|guest, found| match found {
        Found::Down(how) => Some(format!("{} ({how})", guest.label())),
        _ => None,
    });
    let unknown = with(&|guest, found| match found {
        Found::Unknown(why) => Some(format!("{} ({why})", guest.label())),
        _ => None,
    });
    let saved = with(&|guest, found| matches!(found, Found::Saved).then(|| guest.label()));
    let idle = with(&|guest, found| matches!(found, Found::Idle).then(|| guest.label()));
    let runs = found.iter().filter(|found| matches!(found, Found::Runs)).count();
    let failing = with(&|guest, _| {
        let state = guest.ha.as_deref().filter(|state| matches!(*state, "error" | "fence" | "recovery"))?;
        Some(format!("{} ({state})", guest.label()))
    });
    let locked = with(&|guest, found| {
        let lock = guest.lock.as_deref().filter(|_| matches!(found, Found::Runs))?;
        Some(format!("{} ({lock})", guest.label()))
    });
    let limits = limits_or(&probe.limits, above(None, Some(1.0)));
    let (gone, all) = (down.len(), guests.len() - idle.len());
    let text = if gone == 0 {
        say!(language, "{runs} de {all} guests funcionam", "{runs} of {all} guests run")
    } else {
        let names = listed(language, &down);
        say!(language, "{gone} de {all} guests não funcionam: {names}", "{gone} of {all} guests do not run: {names}")
    };
    if all > 0 {
        said.judge(&limits, count(gone), "count", &text);
    } else if probe.guests.is_empty() {
        said.judge(
            &limits,
            0.0,
            "count",
            &say!(language, "nenhum guest funciona nem inicia com o seu nó", "no guest runs or starts with its node"),
        );
    }
    let mut part = |status: Status, items: &[String], pt: &str, en: &str| {
        if !items.is_empty() {
            let what = match language {
                Language::PtBr => pt,
                Language::En => en,
            };
            said.say(status, format!("{what}: {}", listed(language, items)));
        }
    };
    part(Status::Unknown, &unknown, "não se sabe de", "unknown");
    part(Status::Critical, &failing, "alta disponibilidade em erro", "high availability fails for");
    part(Status::Warning, &saved, "parado para backup ou snapshot", "halted for a backup or a snapshot");
    part(Status::Ok, &locked, "com trava", "locked");
    part(Status::Ok, &idle, "parado de propósito", "stopped on purpose");
}
