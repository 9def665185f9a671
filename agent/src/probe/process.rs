//! Running processes of a name.

use farol_protocol::Status;
pub(super) use farol_protocol::report::ProcessProbe;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

use super::{Probing, Seen, text::Text};

pub(super) async fn run(probing: Probing, probe: &ProcessProbe) -> Seen {
    let name = probe.name.clone();
    match probing.blocking(Text::WhatProcesses, move || count(&name)).await {
        Ok(count) => judge(probing, probe, count),
        Err(seen) => seen,
    }
}

/// The list of processes lives only as long as this call: keeping it would
/// cost more memory than the rest of the agent.
fn count(name: &str) -> Result<u32, sysinfo::Error> {
    let mut system = System::new()?;
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let wanted = comm(name);
    let count = system
        .processes()
        .values()
        .filter(|process| process.thread_kind().is_none())
        .filter(|process| !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead))
        .filter(|process| process.name().as_encoded_bytes() == wanted)
        .count();
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Linux keeps the first 15 bytes of a name.
pub(super) fn comm(name: &str) -> &[u8] {
    let bytes = name.as_bytes();
    if cfg!(target_os = "linux") { &bytes[..bytes.len().min(15)] } else { bytes }
}

fn judge(probing: Probing, probe: &ProcessProbe, count: u32) -> Seen {
    let (status, text) = if count < probe.min {
        (Status::Critical, Text::ProcessFew)
    } else if probe.max.is_some_and(|max| count > max) {
        (Status::Critical, Text::ProcessMany)
    } else {
        (Status::Ok, Text::ProcessOk)
    };
    let [shown, min, max] = [count, probe.min, probe.max.unwrap_or_default()].map(|number| number.to_string());
    let values =
        [("count", shown.as_str()), ("name", probe.name.as_str()), ("min", min.as_str()), ("max", max.as_str())];
    Seen {
        status,
        value: Some(f64::from(count)),
        unit: Some("count".to_owned()),
        text: probing.say(text, &values),
        cause: None,
    }
}
