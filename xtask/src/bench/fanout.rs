//! One order each for many hosts at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use farol_coordinator::{
    auth::Operator,
    remediation::{Proposal, note},
    store::{Store, actions::Approval},
};
use farol_protocol::{ActionKind, PlanHash, RiskClass, Timestamp};
use farol_tests::{Site, peer::Peer, process::Process};
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    Figure, Lengths,
    fleet::{self, Host},
    ms, percentile,
    raw::{self, Bare},
};

const HOSTS: usize = 1000;

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..lengths.rounds {
        raw.push(echo().await? + 2 * raw::group_commit(HOSTS).await?);
    }
    let mut site = Site::start("version: 1\n", &[]).await?;
    let hosts = fleet::enrol(&site, HOSTS).await?;
    let mut peers = Vec::with_capacity(HOSTS);
    for host in &hosts {
        peers.push(host.connect(site.southbound()).await?);
    }
    for _ in 0..lengths.rounds {
        let (took, back) = round(&site, &hosts, peers).await?;
        ours.push(took);
        peers = back;
    }
    drop(peers);
    site.stop_coordinator().await?;
    raw.sort_unstable();
    ours.sort_unstable();
    let (raw, ours) = (percentile(&raw, 0.5), percentile(&ours, 0.5));
    let ratio = ours.as_secs_f64() / raw.as_secs_f64();
    Ok(vec![
        Figure::new("fan-out to 1000 hosts, first order to last outcome committed", ms(ours), "<= 3 raw", ratio <= 3.0)
            .beside(format!("{} (echo of 1000 and two commits of 1000 rows)", ms(raw)), ratio),
    ])
}

/// A frame to a bare server on each of the connections, and back.
async fn echo() -> Result<Duration> {
    let bare = Bare::start().await?;
    let mut peers = Vec::with_capacity(HOSTS);
    for _ in 0..HOSTS {
        peers.push(bare.identity.connect(bare.address).await?);
    }
    let order = json!({"method": "command.exec", "pad": "x".repeat(400)}).to_string();
    let start = std::sync::Arc::new(Barrier::new(HOSTS + 1));
    let mut tasks = JoinSet::new();
    for mut peer in peers {
        let (order, start) = (order.clone(), std::sync::Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            peer.send_text(order).await?;
            peer.receive().await?;
            anyhow::Ok(peer)
        });
    }
    start.wait().await;
    let begun = Instant::now();
    let peers = tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let took = begun.elapsed();
    drop(peers);
    bare.stop().await?;
    Ok(took)
}

/// The orders are put into the queue while the coordinator stands still, so
/// that it finds them all at once.
async fn round(site: &Site, hosts: &[Host], peers: Vec<Peer>) -> Result<(Duration, Vec<Peer>)> {
    let pid = site.coordinator().and_then(Process::id).context("no process")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    let store = Store::open(&site.data_dir()).await?;
    rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
    let queued = queue(&store, hosts).await;
    store.close().await;
    let mut tasks = JoinSet::new();
    for (index, mut peer) in peers.into_iter().enumerate() {
        tasks.spawn(async move {
            let order = peer.expect("command.exec").await?;
            let began = Instant::now();
            let id = order["action_id"].clone();
            let plan = order["plan"].as_str().context("no plan")?;
            let journal = json!({"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0});
            peer.send(&json!({"method": "action.accepted", "action_id": id, "journal": journal})).await?;
            peer.send(&json!({
                "method": "action.result", "action_id": id, "plan_hash": PlanHash::of(plan), "state": "done",
                "outcome": {"exit_code": 0, "stdout": "", "stderr": "", "truncated": false, "duration_ms": 1},
                "ended_at": Timestamp::now(), "journal": journal,
            }))
            .await?;
            peer.expect("action.ack").await?;
            anyhow::Ok((index, peer, began, Instant::now()))
        });
    }
    // Before anything is asked of it again.
    rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
    queued?;
    let mut ends = tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    ends.sort_by_key(|(index, ..)| *index);
    let first = ends.iter().map(|(_, _, began, _)| *began).min().context("no order")?;
    let last = ends.iter().map(|(.., end)| *end).max().context("no order")?;
    Ok((last - first, ends.into_iter().map(|(_, peer, ..)| peer).collect()))
}

async fn queue(store: &Store, hosts: &[Host]) -> Result<()> {
    let by = Operator::local_administrator();
    for host in hosts {
        let row = store.host(&host.name).await?;
        let proposal = Proposal {
            by: &by.requester(),
            host: (row.key, &row.id),
            kind: ActionKind::CommandExec,
            params: json!({"command": "/bin/true"}),
            reason: "bench",
            at_least: RiskClass::R0,
            finding_id: None,
            effect_key: None,
            seen: None,
            look_id: None,
        };
        let (action, _) = proposal.plan(Timestamp::now())?;
        store.propose(&action, None).await?;
        let said = note(action.id, "approved", "bench", true, "decision", String::new());
        let agreed = Approval { comment: "", signature: None, hold: false };
        store.approve(&by, action.id, &action.plan_hash, agreed, said, Timestamp::now()).await?;
    }
    Ok(())
}
