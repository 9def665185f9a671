//! The correlator alone: events a second, bytes a check, and how the cost of
//! an event grows with the number of checks; and the replay of a million
//! reports. One report in a thousand is bad, as in a fleet that is mostly well.

use std::{
    collections::{BTreeMap, HashMap},
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use farol_coordinator::{
    correlate::{Correlator, Dependencies, Event, Rules},
    replay::Replay,
    store::{bulk::Committed, hosts::HostKey},
};
use farol_protocol::{CheckId, Report, Status, Timestamp, registry::Registry};

use super::{Figure, proc_number};

/// Checks of a host.
const OF_HOST: usize = 20;
/// The curve.
const CHECKS: [usize; 5] = [1_000, 3_000, 10_000, 30_000, 100_000];
/// Events at each point of it, at least four for each check.
const EVENTS: usize = 1_000_000;
const REPLAYED: usize = 1_000_000;
/// Made at once, outside of what is measured.
const BATCH: usize = 10_000;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let ids: Vec<CheckId> = (0..OF_HOST).map(|n| format!("s{n}").parse()).collect::<Result<_, _>>()?;
    let scenarios: String = (0..OF_HOST)
        .map(|n| {
            format!(
                "  - {{id: s{n}, title: S, persona: A1, severity: medium, attempts: 2, every: 1m, runs_on: agent, \
                 checks: [{{name: root, probe: {{disk: {{mount: /, limits: {{warning: 80}}}}}}}}]}}\n"
            )
        })
        .collect();
    let registry = Registry::parse(&format!("version: 1\nscenarios:\n{scenarios}"), &|_| None)
        .map_err(|mistake| anyhow::anyhow!("{mistake}"))?;
    let rules = Rules::new(&registry, &HashMap::new());
    let mut figures = Vec::new();
    let mut curve = Vec::new();
    for checks in CHECKS {
        let before = resident()?;
        let mut correlator = Correlator::default();
        let (events, mut spent) = (EVENTS.max(checks * 4), Duration::ZERO);
        for batch in (0..events).step_by(BATCH) {
            let events: Vec<_> = (batch..batch + BATCH).map(|n| report(&ids, n, checks)).collect();
            let begun = Instant::now();
            for committed in events {
                let now = committed.report.observed_at;
                black_box(correlator.apply(&rules, Event::Report(committed), now));
            }
            let now = Timestamp::from_ms(i64::try_from(batch / checks)? * 60_000);
            black_box(correlator.apply(&rules, Event::Tick, now));
            spent += begun.elapsed();
        }
        let bytes = resident()?.saturating_sub(before) / u64::try_from(checks)?;
        curve.push((checks, spent.as_secs_f64() * 1e9 / count(events), bytes));
    }
    let told: Vec<String> = curve.iter().map(|(checks, ns, _)| format!("{checks}: {ns:.0}")).collect();
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else { anyhow::bail!("no point was measured") };
    figures.push(Figure::told("correlator, ns an event by number of checks", told.join(", ")));
    let rate = 1e9 / last.1;
    figures.push(Figure::new(
        "correlator, events a second on one core at 100,000 checks",
        format!("{rate:.0}"),
        ">= 500,000",
        rate >= 500_000.0,
    ));
    figures.push(Figure::new(
        "correlator, cost of an event at 100,000 checks",
        format!("{:.1} x that at 1,000", last.1 / first.1),
        "flat",
        last.1 / first.1 <= 2.0,
    ));
    figures.push(Figure::new(
        "correlator, memory of a check at 100,000",
        format!("{} B", last.2),
        "<= 1,024 B",
        last.2 <= 1024,
    ));

    let mut replay = Replay::new(&rules, BTreeMap::new(), Dependencies::default());
    let reports: Vec<_> = (0..REPLAYED).map(|n| report(&ids, n, 1_000)).collect();
    let begun = Instant::now();
    for committed in reports {
        replay.take(committed);
    }
    let episodes = replay.end().len();
    let spent = begun.elapsed();
    let value = format!("{:.2} s, {episodes} episodes", spent.as_secs_f64());
    figures.push(Figure::new(
        "replay of a million reports, without reading them",
        value,
        "<= 10 s",
        spent < Duration::from_secs(10),
    ));
    Ok(figures)
}

/// Report number `n` of a fleet with so many checks, each once a minute.
fn report(ids: &[CheckId], n: usize, checks: usize) -> Committed {
    let (of_round, round) = (n % checks, n / checks);
    let (host, check) = (of_round / OF_HOST, of_round % OF_HOST);
    // A pattern without a period that the checks have.
    let is_bad = (n.wrapping_mul(2_654_435_761) >> 7).is_multiple_of(1000);
    Committed {
        id: i64::try_from(n).unwrap_or(i64::MAX - 1) + 1,
        host: HostKey::unstored(i64::try_from(host).unwrap_or(0) + 1),
        report: Report {
            check: ids[check].clone(),
            status: if is_bad { Status::Critical } else { Status::Ok },
            value: Some(41.5),
            unit: Some("%".to_owned()),
            text: "41,5 % de / usados, limite 80 %".to_owned(),
            observed_at: Timestamp::from_ms(i64::try_from(round).unwrap_or(0) * 60_000),
            cause: None,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 53 bits")]
fn count(events: usize) -> f64 {
    events as f64
}

/// Bytes of this process.
fn resident() -> Result<u64> {
    Ok(proc_number(std::process::id(), "status", "VmRSS:").context("own memory")? * 1024)
}
