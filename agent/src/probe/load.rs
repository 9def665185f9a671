//! Load average per CPU.

use farol_protocol::report::Limits;
use sysinfo::{CpuRefreshKind, System};

use super::{Probing, Seen, text::Text};

pub(super) async fn run(probing: Probing, limits: &Limits) -> Seen {
    let load = probing.blocking(Text::WhatLoad, || {
        let mut system = System::new()?;
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let cpus = u32::try_from(system.cpus().len()).unwrap_or(u32::MAX).max(1);
        Ok::<_, sysinfo::Error>(System::load_average()?.five / f64::from(cpus))
    });
    match load.await {
        Ok(load) => probing.judged(limits, load, "load/core", [Text::LoadOk, Text::LoadOver], &[]),
        Err(seen) => seen,
    }
}
