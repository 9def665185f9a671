//! The regular reading of a host. Processes are never listed here: that alone
//! would cost more than everything else together.

use std::time::Duration;

use farol_protocol::telemetry::{Disk, Metrics, Network, Usage};
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, Networks, System};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{disk::space, memory};

/// More mounts or interfaces than this are not reported.
const MOST: usize = 128;
/// How long the disks may take before a reading goes without them.
const DISKS_WAIT: Duration = Duration::from_secs(2);

/// Takes readings; keeps what it needs from one to the next.
pub struct Sampler {
    system: Option<System>,
    networks: Option<Networks>,
    disks: DiskReader,
    primed: bool,
    sampled: bool,
}

/// A dead file system blocks whoever looks at it, so disks are read aside. A
/// reader that never comes back costs one thread and the disks, nothing more.
enum DiskReader {
    Idle(Option<Disks>),
    Busy(JoinHandle<Option<Disks>>),
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// Prepares readings. The first one tells CPU use since now.
    #[must_use]
    pub fn new() -> Self {
        let mut system = System::new().ok();
        let primed = system.as_mut().map(System::refresh_cpu_usage).is_some();
        Self { system, networks: Networks::new().ok(), disks: DiskReader::Idle(None), primed, sampled: false }
    }

    /// Whether a reading was taken.
    #[must_use]
    pub const fn has_sampled(&self) -> bool {
        self.sampled
    }

    /// Takes one reading.
    pub async fn sample(&mut self) -> Metrics {
        self.sampled = true;
        let disks = self.disks().await;
        let mut metrics = Metrics {
            disks,
            networks: self.networks(),
            uptime_seconds: System::uptime().ok(),
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            ..Metrics::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
            let cpu = f64::from(system.global_cpu_usage());
            metrics.cpu_percent = (self.primed && cpu.is_finite()).then_some(cpu);
            metrics.cpus = u32::try_from(system.cpus().len()).ok();
            metrics.memory = Some(memory::usage(system));
            metrics.swap = Some(Usage { used: system.used_swap(), total: system.total_swap() });
            self.primed = true;
        }
        metrics
    }

    fn networks(&mut self) -> Vec<Network> {
        let Some(networks) = &mut self.networks else {
            return Vec::new();
        };
        networks.refresh(true);
        let mut all: Vec<Network> = networks
            .iter()
            .map(|(name, data)| Network {
                interface: name.to_string_lossy().into_owned(),
                received: data.total_received(),
                sent: data.total_transmitted(),
            })
            .collect();
        all.sort_unstable_by(|a, b| a.interface.cmp(&b.interface));
        all.truncate(MOST);
        all
    }

    async fn disks(&mut self) -> Vec<Disk> {
        let reader = match &mut self.disks {
            DiskReader::Busy(reader) => reader,
            DiskReader::Idle(disks) => {
                let disks = disks.take();
                self.disks = DiskReader::Busy(spawn_blocking(move || refreshed(disks)));
                let DiskReader::Busy(reader) = &mut self.disks else {
                    return Vec::new();
                };
                reader
            }
        };
        let Ok(read) = timeout(DISKS_WAIT, reader).await else {
            tracing::warn!("a file system does not answer; this reading goes without disks");
            return Vec::new();
        };
        let disks = read.ok().flatten();
        let usages = disks.as_ref().map(usages).unwrap_or_default();
        self.disks = DiskReader::Idle(disks);
        usages
    }
}

fn refreshed(disks: Option<Disks>) -> Option<Disks> {
    let mut disks = match disks {
        Some(disks) => disks,
        None => Disks::new().ok()?,
    };
    disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
    Some(disks)
}

fn usages(disks: &Disks) -> Vec<Disk> {
    let mut all: Vec<Disk> = disks
        .iter()
        .map(|disk| Disk { mount: disk.mount_point().to_string_lossy().into_owned(), space: space(disk) })
        .filter(|disk| disk.space.total > 0)
        .collect();
    all.sort_unstable_by(|a, b| a.mount.cmp(&b.mount));
    // A container's files are bind mounts of the same disk, one entry is enough.
    all.dedup_by(|a, b| a.mount == b.mount);
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reading_has_what_every_host_has() {
        let mut sampler = Sampler::new();
        let metrics = sampler.sample().await;
        assert!(metrics.cpus.is_some_and(|cpus| cpus > 0));
        assert!(metrics.memory.is_some_and(|memory| memory.total > memory.used && memory.used > 0));
        assert!(metrics.uptime_seconds.is_some() && metrics.load.is_some());
        assert!(metrics.networks.iter().any(|network| network.interface.starts_with("lo")));
        let second = sampler.sample().await;
        assert!(second.cpu_percent.is_some_and(|cpu| (0.0..=100.5).contains(&cpu)), "{:?}", second.cpu_percent);
    }
}
