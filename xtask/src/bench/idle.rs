//! Memory of the coordinator for each agent that is connected and idle.

use std::time::Duration;

use anyhow::{Context as _, Result};
use farol_tests::Site;

use super::{
    Figure, Lengths,
    fleet::{self, Parked},
    proc_number,
    raw::Bare,
};

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let bare = bare(lengths.agents).await?;
    let mut site = Site::start("version: 1\n", &[]).await?;
    let hosts = fleet::enrol(&site, lengths.agents).await?;
    let pid = site.coordinator().and_then(farol_tests::process::Process::id).context("no process")?;
    let before = proc_number(pid, "status", "VmRSS:")?;
    let mut peers = Parked::new();
    for (n, host) in hosts.iter().enumerate() {
        let mut peer = host.connect(site.southbound()).await?;
        peer.send_text(host.batch(1, "x", "ok")).await?;
        peer.expect("telemetry.ack").await?;
        peers.park(n, peer);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = proc_number(pid, "status", "VmRSS:")?;
    drop(peers.back().await?);
    site.stop_coordinator().await?;
    let each = per(before, after, lengths.agents);
    Ok(vec![
        Figure::new(
            &format!("coordinator memory per idle agent at {}", lengths.agents),
            format!("{each:.1} KiB"),
            "<= 25 KiB",
            each <= 25.0,
        )
        .beside(format!("{bare:.1} KiB (bare mTLS WebSocket)"), each / bare),
    ])
}

async fn bare(count: usize) -> Result<f64> {
    let bare = Bare::start().await?;
    let pid = bare.id().context("no process")?;
    let before = proc_number(pid, "status", "VmRSS:")?;
    let mut peers = Vec::with_capacity(count);
    for n in 0..count {
        let mut peer = bare.identity.connect(bare.address).await?;
        let stream = uuid::Uuid::from_u128(n as u128).to_string();
        peer.send_text(fleet::batch(&stream, 1, "x", "ok")).await?;
        peer.expect("telemetry.ack").await?;
        peers.push(peer);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = proc_number(pid, "status", "VmRSS:")?;
    drop(peers);
    bare.stop().await?;
    Ok(per(before, after, count))
}

#[expect(clippy::cast_precision_loss, reason = "kibibytes")]
fn per(before: u64, after: u64, count: usize) -> f64 {
    after.saturating_sub(before) as f64 / count as f64
}
