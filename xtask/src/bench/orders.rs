//! From the committed approval to the committed outcome.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use farol_tests::Site;
use serde_json::json;

use super::{Figure, Lengths, fleet::Events, ms, percentile, raw};

/// Synced commits that guarantee 1 puts one after the other.
const COMMITS: [&str; 5] = ["sent", "journal started", "journal process group", "journal result", "outcome"];

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let echo = echo(lengths.orders).await?;
    let commits = raw::commits(lengths.orders * 2).await?;
    let spawns = raw::spawns(lengths.orders).await?;
    let (ours, before_sent) = product(lengths.orders).await?;

    let mut figures = vec![Figure::told(
        "order round trip: raw is made of",
        format!(
            "echo {} + {} commits ({}) of {} + process {} (p50)",
            ms(percentile(&echo, 0.5)),
            COMMITS.len(),
            COMMITS.join(", "),
            ms(percentile(&commits, 0.5)),
            ms(percentile(&spawns, 0.5)),
        ),
    )];
    figures.push(Figure::told(
        "of the round trip, until the order is committed as sent",
        format!("p50 {}, p99 {}", ms(percentile(&before_sent, 0.5)), ms(percentile(&before_sent, 0.99))),
    ));
    let count = u32::try_from(COMMITS.len())?;
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let commits = percentile(&echo, share) + count * percentile(&commits, share);
        // The process is the host's own cost: it is taken off one side, then
        // added to the other.
        let without = percentile(&ours, share).saturating_sub(percentile(&spawns, 0.5));
        let strict = without.as_secs_f64() / commits.as_secs_f64();
        figures.push(
            Figure::new(&format!("order round trip less the process, {name}"), ms(without), "<= 2 raw", strict <= 2.0)
                .beside(format!("{} (echo and commits)", ms(commits)), strict),
        );
        let limit = 2 * commits + percentile(&spawns, share);
        let value = percentile(&ours, share);
        let whole = value.as_secs_f64() / limit.as_secs_f64();
        figures.push(
            Figure::new(
                &format!("order round trip, command.exec of true, {name}"),
                ms(value),
                "<= 1.3 (2 raw + process)",
                whole <= 1.3,
            )
            .beside(format!("{} (2 raw + process)", ms(limit)), whole),
        );
    }
    Ok(figures)
}

async fn echo(count: usize) -> Result<Vec<Duration>> {
    let bare = raw::Bare::start().await?;
    let mut peer = bare.identity.connect(bare.address).await?;
    let order = json!({"method": "command.exec", "pad": "x".repeat(400)});
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        peer.send(&order).await?;
        peer.receive().await?;
        times.push(begun.elapsed());
    }
    bare.stop().await?;
    times.sort_unstable();
    Ok(times)
}

/// Whole round trips, and the part of each until the order was sent.
async fn product(count: usize) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut site = Site::start("version: 1\n", &[]).await?;
    let policy = "version: 1\nmax_unsigned_class: R2\ncommands: [{command: /bin/true, args: [], class: R2}]\n";
    let mut agent = site.agent("bench", Some(policy)).await?;
    agent.stop().await?;
    agent.configure("interval: 1h\n")?;
    agent.start()?;
    site.wait_host("bench", "online").await?;
    let token = site.token("bench", "super_admin", None).await?;
    let mut events = Events::open(site.api().base(), &token).await?;
    let (mut times, mut before_sent) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let id = site.api().propose_command("bench", "/bin/true", &[]).await?;
        let api = site.api().clone();
        let approved = id.clone();
        let approval = tokio::spawn(async move { api.approve(&approved).await });
        // Each event is published right after its commit: from the approval on,
        // all five commits lie between.
        events.find(|event| event["id"] == id.as_str() && event["state"] == "queued").await?;
        let begun = Instant::now();
        events.find(|event| event["id"] == id.as_str() && event["state"] == "sent").await?;
        before_sent.push(begun.elapsed());
        let end = events.find(|event| event["id"] == id.as_str() && event["state"] != "accepted").await?;
        times.push(begun.elapsed());
        anyhow::ensure!(end["state"] == "done", "the order ended as {end}");
        approval.await.context("approve")??;
    }
    agent.stop().await?;
    site.stop_coordinator().await?;
    times.sort_unstable();
    before_sent.sort_unstable();
    Ok((times, before_sent))
}
