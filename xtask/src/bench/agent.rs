//! What agents cost their hosts, and twenty of them their coordinator.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use farol_tests::{Agent, Site, process::Process};

use super::{Figure, Lengths, proc_number};

const HOSTS: usize = 20;
const MIB: f64 = 1024.0 * 1024.0;

/// Three checks a host, at the intervals of the registry that is shipped.
const REGISTRY: &str = "version: 1
scenarios:
  - {id: disk.root, title: Disco, persona: A1, severity: high, runs_on: agent, checks: [{name: c, probe: {disk: {mount: /, limits: {critical: 99}}}}]}
  - {id: memory, title: Memória, persona: A1, severity: high, runs_on: agent, checks: [{name: c, probe: {memory: {critical: 99}}}]}
  - {id: load, title: Carga, persona: A1, severity: high, runs_on: agent, checks: [{name: c, probe: {load: {critical: 99}}}]}
";

/// Cumulated use of a process.
#[derive(Clone, Copy)]
struct Use {
    cpu_seconds: f64,
    written: f64,
}

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let mut site = Site::start(REGISTRY, &[]).await?;
    let coordinator = site.coordinator().and_then(Process::id).context("no process")?;
    let mut agents = Vec::new();
    for n in 0..HOSTS {
        agents.push(start(&site, &format!("host-{n}"), "").await?);
    }
    // On a coordinator of its own, so that it adds nothing to what twenty cost theirs.
    let mut other = Site::start(&checks(&site, 8), &[]).await?;
    let quick = start(&other, "quick", "interval: 10s\n").await?;
    let mut third = Site::start(&checks(&site, 20), &[]).await?;
    let twenty = start(&third, "twenty", "interval: 10s\n").await?;
    let twenty_pid = pid(&twenty).context("no process")?;
    // Connections and first checks are not the steady state.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let used = |pids: &[u32]| pids.iter().map(|pid| use_of(*pid)).collect::<Result<Vec<_>>>();
    let pids: Vec<u32> = agents.iter().filter_map(pid).collect();
    let quick_pid = pid(&quick).context("no process")?;
    let before = (used(&pids)?, use_of(quick_pid)?, use_of(coordinator)?);
    let twenty_before = use_of(twenty_pid)?.cpu_seconds;
    // Ten minutes in, and at the end of a long run.
    let first = lengths.footprint.min(Duration::from_secs(600));
    tokio::time::sleep(first).await;
    let resident = proc_number(quick_pid, "status", "VmRSS:")?;
    let twenty_resident = proc_number(twenty_pid, "status", "VmRSS:")?;
    tokio::time::sleep(lengths.footprint.saturating_sub(first)).await;
    let after = (used(&pids)?, use_of(quick_pid)?, use_of(coordinator)?);
    let at_end = proc_number(quick_pid, "status", "VmRSS:")?;

    let seconds = lengths.footprint.as_secs_f64();
    let twenty_cpu = (use_of(twenty_pid)?.cpu_seconds - twenty_before) * 600.0 / seconds;
    let day = 86_400.0 / seconds;
    let cpu = (after.1.cpu_seconds - before.1.cpu_seconds) * 600.0 / seconds;
    let written: Vec<f64> =
        before.0.iter().zip(&after.0).map(|(before, after)| (after.written - before.written) * day / MIB).collect();
    let worst = written.iter().copied().fold(0.0, f64::max);
    let coordinator_written = (after.2.written - before.2.written) * day / MIB;
    let size = std::fs::metadata(farol_tests::process::binary("farol-agent")?)?.len();
    let breakdown = breakdown(&site, &agents)?;
    for mut agent in agents.into_iter().chain([quick, twenty]) {
        agent.stop().await?;
    }
    site.stop_coordinator().await?;
    other.stop_coordinator().await?;
    third.stop_coordinator().await?;
    #[expect(clippy::cast_precision_loss, reason = "kibibytes and bytes of a program")]
    let (resident, at_end, size) = (resident as f64 / 1024.0, at_end as f64 / 1024.0, size as f64 / 1_000_000.0);
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of a program")]
    let twenty_resident = twenty_resident as f64 / 1024.0;
    let mut figures = Vec::new();
    if lengths.footprint > first {
        figures.push(Figure::new(
            &format!("the same after {:?}", lengths.footprint),
            format!("{at_end:.1} MiB"),
            "<= 0.3 MiB more",
            at_end <= resident + 0.3,
        ));
    }
    figures.extend([
        Figure::new(
            "agent CPU in ten minutes at a 10 s interval, eight checks a minute",
            format!("{cpu:.3} s"),
            "<= 0.2 s",
            cpu <= 0.2,
        ),
        Figure::new(
            "the same with twenty checks a minute",
            format!("{twenty_cpu:.3} s, {twenty_resident:.1} MiB"),
            "<= 0.2 s, 8 MiB",
            twenty_cpu <= 0.2 && twenty_resident <= 8.0,
        ),
        Figure::new("agent binary, stripped", format!("{size:.2} MB"), "<= 5 MB", size <= 5.0),
        Figure::new(
            "agent writes a day at default intervals (worst of 20)",
            format!("{worst:.0} MiB"),
            "<= 100 MB",
            worst * MIB <= 100e6,
        ),
        Figure::new(
            "coordinator writes a day for 20 hosts",
            format!("{coordinator_written:.0} MiB"),
            "<= 1 GB",
            coordinator_written * MIB <= 1e9,
        ),
        Figure::told("what lies in the folders after it", breakdown),
    ]);
    let resident = Figure::new(
        "agent resident after ten minutes at a 10 s interval",
        format!("{resident:.1} MiB"),
        "<= 8 MiB",
        resident <= 8.0,
    );
    figures.insert(0, resident);
    Ok(figures)
}

/// The first eight or all twenty of named checks of every kind that needs nothing installed, once a minute.
fn checks(site: &Site, count: usize) -> String {
    let (south, api) = (site.southbound(), site.api().base());
    let check = |id: &str, probe: &str| {
        format!(
            "  - {{id: {id}, title: {id}, persona: A1, severity: high, runs_on: agent, every: 1m, checks: [{{name: c, probe: {{{probe}}}}}]}}\n"
        )
    };
    let checks = [
        ("disk.root", "disk: {mount: /, limits: {critical: 100}}".to_owned()),
        ("memory", "memory: {critical: 100}".to_owned()),
        ("load", "load: {critical: 99}".to_owned()),
        ("process.coordinator", "process: {name: farol}".to_owned()),
        ("process.agent", "process: {name: farol-agent}".to_owned()),
        ("tcp.southbound", format!("tcp: {{address: '{south}'}}")),
        ("tcp.again", format!("tcp: {{address: '{south}', limits: {{critical: 5000}}}}")),
        ("http.health", format!("http: {{url: '{api}/api/v1/agents/health', expect: [200]}}")),
        ("inodes.root", "inodes: {mount: /, limits: {critical: 100}}".to_owned()),
        ("forecast.root", "disk_forecast: {mount: /, limits: {worse: below, critical: 1}}".to_owned()),
        ("swap", "swap: {critical: 101}".to_owned()),
        ("port.api", format!("port: {{port: {}}}", api.rsplit(':').next().unwrap_or("8180"))),
        (
            "certificate",
            format!("certificate: {{address: '{south}', server_name: farol, limits: {{worse: below, critical: 1}}}}"),
        ),
        ("units", "units: {}".to_owned()),
        ("containers", "containers: {}".to_owned()),
        ("raid", "raid: {}".to_owned()),
        ("time_skew", "time_skew: {}".to_owned()),
        ("updates", "updates: {}".to_owned()),
        ("reboot", "reboot_required: {}".to_owned()),
        (
            "http.again",
            format!("http: {{url: '{api}/api/v1/agents/health', expect: [200], limits: {{critical: 5000}}}}"),
        ),
    ];
    let checks: String = checks.iter().take(count).map(|(id, probe)| check(id, probe)).collect();
    format!("version: 1\nscenarios:\n{checks}")
}

async fn start(site: &Site, name: &str, config: &str) -> Result<Agent> {
    let mut agent = site.enrol(name, None).await?;
    agent.configure(config)?;
    agent.start()?;
    site.wait_host(name, "online").await?;
    Ok(agent)
}

fn pid(agent: &Agent) -> Option<u32> {
    agent.process().and_then(Process::id)
}

/// CPU time that a process and its children have used.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(use_of(pid)?.cpu_seconds)
}

fn use_of(pid: u32) -> Result<Use> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read /proc")?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "bytes of one process")]
    let written = proc_number(pid, "io", "write_bytes:")? as f64;
    // Fields 14 to 17 of proc(5), counted from the third: user, system, and children's.
    Ok(Use { cpu_seconds: (11..=14).map(ticks).sum::<f64>() / 100.0, written })
}

fn breakdown(site: &Site, agents: &[Agent]) -> Result<String> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len() / 1024);
    let data = site.data_dir();
    let agent = agents.first().context("no agent")?.state_dir();
    let list = |folder: &Path, names: &[&str]| {
        names.iter().map(|name| format!("{name} {} KiB", size(&folder.join(name)))).collect::<Vec<_>>().join(", ")
    };
    Ok(format!(
        "coordinator: {}; agent: {}",
        list(&data, &["telemetry.db", "telemetry.db-wal", "state.db", "state.db-wal"]),
        list(agent, &["spool.db", "spool.db-wal", "journal.db", "journal.db-wal"])
    ))
}
