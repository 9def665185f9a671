//! Used space of a mounted file system.

use std::path::Path;

pub(super) use farol_protocol::report::DiskProbe;
use farol_protocol::telemetry::Usage;
use sysinfo::{DiskRefreshKind, Disks};

use super::{Probing, Seen, text::Text};

/// What a look at all mounted file systems is called.
pub(super) const ALL: &str = "/proc/self/mounts";

pub(super) async fn run(probing: Probing, probe: &DiskProbe) -> Seen {
    let mount = probe.mount.clone();
    let usage = probing.blocking_on(ALL, Text::WhatDisks, move || {
        let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage())?;
        Ok::<_, sysinfo::Error>(disks.iter().find(|disk| disk.mount_point() == Path::new(&mount)).map(space))
    });
    match usage.await {
        Ok(Some(usage)) => {
            let texts = [Text::DiskOk, Text::DiskOver];
            let percent = usage.percent().unwrap_or(f64::NAN);
            probing.judged(&probe.limits, percent, "%", texts, &[("mount", &probe.mount)])
        }
        Ok(None) => probing.unknown(Text::NoMount, &[("mount", &probe.mount)]),
        Err(seen) => seen,
    }
}

/// What is left for users counts as free; what is reserved for root does not.
pub(super) fn space(disk: &sysinfo::Disk) -> Usage {
    let total = disk.total_space();
    Usage { used: total.saturating_sub(disk.available_space()), total }
}
