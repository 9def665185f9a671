//! One seed from its beginning to its verdict.

use std::{hash::Hasher as _, sync::Arc, time::Duration};

use anyhow::Result;
use farol_agent::simulation::World;
use farol_coordinator::simulation::Wish;
use tokio::{
    runtime::{Builder, RngSeed},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    check,
    script::Script,
    site::{Site, Template},
};

/// Within this, an action whose host is there has ended by itself: its plan
/// lives an hour, then ten minutes and its own time limit pass.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// What came of a seed.
pub(crate) struct Outcome {
    pub(crate) trace: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) summary: String,
}

impl Outcome {
    /// The same for the same order of events; identifiers are not in it.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        for line in &self.trace {
            hasher.write(line.get(..26).unwrap_or(line).as_bytes());
        }
        hasher.finish()
    }
}

pub(crate) fn run(template: &Template, seed: u64) -> Result<Outcome> {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        // Answers of threads are looked for when nothing else is to do.
        .global_queue_interval(u32::MAX)
        // Nor does time pass before they have answered.
        .on_thread_park(farol_agent::simulation::quiet)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()?;
    let outcome = runtime.block_on(live(template, seed));
    runtime.shutdown_background();
    outcome
}

async fn live(template: &Template, seed: u64) -> Result<Outcome> {
    let world = World::new(seed);
    let script = Script::of(seed);
    let (begun, length, events) = (Instant::now(), script.length, script.events.clone());
    let mut site = Site::new(template, &world, seed, script)?;
    for (at, event) in events {
        sleep_until(begun + at).await;
        site.apply(event)?;
    }
    sleep_until(begun + length).await;
    site.heal();
    let summary = settle(&mut site).await;
    check::all(&mut site).await?;
    let world = Arc::clone(&site.world);
    site.stop_all();
    drop(site);
    Ok(Outcome { trace: world.trace(), violations: world.violations(), summary })
}

/// Waits until every action has ended and what waited has arrived.
async fn settle(site: &mut Site) -> String {
    let begun = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let reject = !site.script().patient;
    let mut rounds = 0;
    loop {
        // Again: a host may ask for a higher class.
        if rounds < 6 {
            site.wish(Wish::Settle { reject });
        }
        sleep(Duration::from_secs(if rounds < 60 { 5 } else { 60 })).await;
        rounds += 1;
        // An agent that met a damaged folder, for example, is started again by its service manager.
        site.start_all();
        let open = site
            .look()
            .await
            .map(|rows| rows.iter().filter(|row| row.requested_by == "cli" && !row.state.is_final()).count());
        if open == Some(0) && rounds >= 6 {
            return format!("every action had ended {} s after the last fault", begun.elapsed().as_secs());
        }
        if begun.elapsed() > LONGEST {
            site.world.violated(1, &format!("{open:?} actions have not ended by themselves"));
            return "some actions never ended".to_owned();
        }
    }
}
