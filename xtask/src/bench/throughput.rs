//! Committed batches a second, saturated.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use farol_tests::{Site, peer::Peer};

use super::{
    Figure, Lengths,
    fleet::{self, Host},
    raw::Bare,
};

const CONNECTIONS: usize = 50;
/// Batches sent and not acknowledged, for each connection.
const WINDOW: u64 = 64;
const REGISTRY: &str = "version: 1
scenarios:
  - {id: load, title: Carga, persona: A1, severity: low, runs_on: agent, checks: [{name: c, probe: {load: {critical: 99}}}]}
";

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    // Alternating, so that both see the same machine.
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        raw.push(bare(lengths.saturated).await?);
        ours.push(product(lengths.saturated).await?);
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (raw, ours) = (median(&mut raw), median(&mut ours));
    let ratio = ours / raw;
    Ok(vec![
        Figure::new(
            "committed and correlated batches, saturated",
            format!("{ours:.0} /s"),
            ">= 0.60 of raw",
            ratio >= 0.6,
        )
        .beside(format!("{raw:.0} /s (receive, parse, commit, ack)"), ratio),
    ])
}

async fn bare(length: Duration) -> Result<f64> {
    let bare = Bare::start().await?;
    let mut peers = Vec::new();
    for n in 0..CONNECTIONS {
        let stream = uuid::Uuid::from_u128(n as u128).to_string();
        let peer = bare.identity.connect(bare.address).await?;
        peers.push((peer, move |seq| fleet::batch(&stream, seq, "load", "ok")));
    }
    let rate = saturate(peers, length).await?;
    bare.stop().await?;
    Ok(rate)
}

async fn product(length: Duration) -> Result<f64> {
    let mut site = Site::start(REGISTRY, &[]).await?;
    let hosts = fleet::enrol(&site, CONNECTIONS).await?;
    let mut peers = Vec::new();
    for host in hosts {
        let peer = connect(&host, site.southbound()).await?;
        peers.push((peer, move |seq| host.batch(seq, "load", "ok")));
    }
    let rate = saturate(peers, length).await?;
    site.stop_coordinator().await?;
    Ok(rate)
}

async fn connect(host: &Host, address: SocketAddr) -> Result<Peer> {
    host.connect(address).await
}

/// Sends as fast as acknowledgements allow; answers acknowledged batches a second.
async fn saturate(peers: Vec<(Peer, impl Fn(u64) -> String + Send + 'static)>, length: Duration) -> Result<f64> {
    let total = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for (mut peer, batch) in peers {
        let (total, stop) = (Arc::clone(&total), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let (mut sent, mut acknowledged) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                while sent < acknowledged + WINDOW {
                    sent += 1;
                    peer.send_text(batch(sent)).await?;
                }
                let ack = peer.expect("telemetry.ack").await?;
                let seq = ack["seq"].as_u64().unwrap_or(acknowledged);
                total.fetch_add(seq - acknowledged, Ordering::Relaxed);
                acknowledged = seq;
            }
            anyhow::Ok(())
        }));
    }
    // The first second warms up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), total.load(Ordering::Relaxed));
    tokio::time::sleep(length).await;
    let committed = total.load(Ordering::Relaxed) - before;
    let elapsed = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(committed as f64 / elapsed.as_secs_f64())
}
