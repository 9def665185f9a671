//! A fleet that loses its connections at once and comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use farol_tests::{Site, peer::Peer};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    Figure, Lengths,
    fleet::{self, Host, Parked},
};

/// Clients that shake hands at once in this process.
const AT_ONCE: usize = 256;
const LIMIT: Duration = Duration::from_secs(15);

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let mut site = Site::start("version: 1\n", &[]).await?;
    let hosts = Arc::new(fleet::enrol(&site, lengths.agents).await?);
    let first = connect_all(&site, &hosts).await?;
    // Two batches each, of which the second is not waited for.
    let mut tasks = JoinSet::new();
    for (host, (mut peer, _)) in hosts.iter().zip(first) {
        let (one, two) = (host.batch(1, "x", "ok"), host.batch(2, "x", "ok"));
        tasks.spawn(async move {
            peer.send_text(one).await?;
            peer.expect("telemetry.ack").await?;
            peer.send_text(two).await?;
            anyhow::Ok(peer)
        });
    }
    let peers = tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    drop(peers);

    let begun = Instant::now();
    let again = connect_all(&site, &hosts).await?;
    let answered = begun.elapsed();
    let mut tasks = JoinSet::new();
    for (host, (mut peer, answer)) in hosts.iter().zip(again) {
        let committed = answer["committed_seq"].as_u64().context("no committed_seq")?;
        anyhow::ensure!(committed >= 1, "an acknowledged batch is gone");
        let batches: Vec<String> = (committed + 1..=3).map(|seq| host.batch(seq, "x", "ok")).collect();
        tasks.spawn(async move {
            for batch in batches {
                peer.send_text(batch).await?;
            }
            while peer.expect("telemetry.ack").await?["seq"] != 3 {}
            anyhow::Ok(peer)
        });
    }
    let peers = tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let acknowledged = begun.elapsed();
    drop(peers);
    site.stop_coordinator().await?;
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    Ok(vec![
        Figure::new(
            &format!("{} agents reconnect, every hello answered", lengths.agents),
            seconds(answered),
            "<= 15 s",
            answered <= LIMIT,
        ),
        Figure::told("the same, until all their batches are acknowledged, none lost", seconds(acknowledged)),
    ])
}

async fn connect_all(site: &Site, hosts: &Arc<Vec<Host>>) -> Result<Vec<(Peer, Value)>> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let address = site.southbound();
    let mut tasks = Vec::with_capacity(hosts.len());
    for n in 0..hosts.len() {
        let (hosts, turns) = (Arc::clone(hosts), Arc::clone(&turns));
        tasks.push(tokio::spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let host = hosts.get(n).context("no such host")?;
            host.hello(address).await
        }));
    }
    // Those that are there stay there while the others come.
    let (mut peers, mut answers) = (Parked::new(), Vec::with_capacity(tasks.len()));
    for (n, task) in tasks.into_iter().enumerate() {
        let (peer, answer) = task.await??;
        peers.park(n, peer);
        answers.push(answer);
    }
    Ok(peers.back().await?.into_iter().zip(answers).collect())
}
