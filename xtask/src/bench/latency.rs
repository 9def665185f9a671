//! From a failing report to its thread message, under a steady load.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use farol_tests::Site;

use super::{
    Figure, Lengths,
    fleet::{self, Events},
    ms, percentile,
};

const HOSTS: usize = 50;
const REPORTS_PER_SECOND: u64 = 5000;

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let mut registry = "version: 1\nscenarios:\n".to_owned();
    for n in 0..lengths.findings {
        writeln!(
            registry,
            "  - {{id: s{n}, title: S, persona: A1, severity: medium, runs_on: agent, attempts: 1, \
             checks: [{{name: c, probe: {{load: {{critical: 99}}}}}}]}}"
        )?;
    }
    let mut site = Site::start(&registry, &[]).await?;
    let mut hosts = fleet::enrol(&site, HOSTS + 1).await?;
    let subject = hosts.remove(0);
    let token = site.token("bench", "super_admin", None).await?;
    let mut events = Events::open(site.api().base(), &token).await?;

    let (stop, load) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for host in hosts {
        let mut peer = host.connect(site.southbound()).await?;
        let (stop, load) = (Arc::clone(&stop), Arc::clone(&load));
        tasks.push(tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 * HOSTS as u64 / REPORTS_PER_SECOND));
            let mut seq = 0;
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                seq += 1;
                peer.send_text(host.batch(seq, "s0", "ok")).await?;
                peer.expect("telemetry.ack").await?;
                load.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    let mut peer = subject.connect(site.southbound()).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun_all, before) = (Instant::now(), load.load(Ordering::Relaxed));
    let mut times = Vec::with_capacity(lengths.findings);
    for n in 0..lengths.findings {
        let text = subject.batch(n as u64 + 1, &format!("s{n}"), "critical");
        let begun = Instant::now();
        peer.send_text(text).await?;
        // Published right after the commit that holds finding, thread and message.
        events.find(|event| event["noun"] == "thread" && event["state"] == "open").await?;
        times.push(begun.elapsed());
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = (load.load(Ordering::Relaxed) - before) as f64 / begun_all.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    site.stop_coordinator().await?;
    times.sort_unstable();
    let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
    Ok(vec![
        Figure::told("report to thread message, p50", format!("{} at {rate:.0} reports/s beside it", ms(p50))),
        Figure::new("report to thread message, p99", ms(p99), "<= 6 ms", p99 <= Duration::from_millis(6)),
    ])
}
