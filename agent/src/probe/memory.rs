//! Used memory.

use farol_protocol::{report::Limits, telemetry::Usage};
use sysinfo::{MemoryRefreshKind, System};

use super::{Probing, Seen, text::Text};

pub(super) async fn run(probing: Probing, limits: &Limits) -> Seen {
    let usage = probing.blocking(Text::WhatMemory, || {
        let mut system = System::new()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        Ok::<_, sysinfo::Error>(usage(&system))
    });
    match usage.await {
        Ok(usage) => {
            let percent = usage.percent().unwrap_or(f64::NAN);
            probing.judged(limits, percent, "%", [Text::MemoryOk, Text::MemoryOver], &[])
        }
        Err(seen) => seen,
    }
}

/// What is not available is in use; caches that give way are not.
pub(super) fn usage(system: &System) -> Usage {
    let total = system.total_memory();
    Usage { used: total.saturating_sub(system.available_memory()), total }
}
