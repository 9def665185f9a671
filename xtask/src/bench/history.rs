//! Bytes of two years of history, and the time of a week's series.
//!
//! A few hosts are written in full (40 metrics, a value every ten seconds) and
//! told for fifty: hosts share nothing but the file. The last thirty days go
//! the way that telemetry goes, from minutes through folds of six hours; the
//! hours before are packed at once, each from what 360 noisy values are like.
//! Reports, by which checks' spans are found, are beyond the roll-ups; their
//! bytes are told apart. The time is that of the store and of the answer's
//! JSON, without HTTP.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use farol_coordinator::{
    history::{
        DAY, HOUR, Kind, MINUTE, Point, floor, metric, pack,
        pack::Seen,
        query::{Plan, Step},
        roll::{self, Minute, SeriesKey},
    },
    store::{Store, history::RolledUp, hosts::HostKey},
};
use farol_protocol::{Timestamp, registry::Registry};

use super::{Figure, Lengths, ms, percentile};

/// Hosts and metrics of the target.
const HOSTS: u32 = 50;
const METRICS: usize = 40;
const MINUTES_KEPT: i64 = 30 * DAY;
const HOURS_KEPT: i64 = 730 * DAY;
/// Minutes folded at once.
const FOLD: i64 = 360;
const LIMIT_MB: f64 = 600.0;
const QUERIES: usize = 200;

/// How the values of a metric go.
#[derive(Clone, Copy)]
struct Shape {
    /// Around this much.
    level: f64,
    /// Up and down with the day by so much.
    daily: f64,
    /// Each value off by about so much.
    noise: f64,
    /// More each day by so much.
    growth: f64,
}

/// The forty metrics of a host: nine of the machine, four file systems, three
/// interfaces, seventeen checks.
fn metrics() -> Vec<(String, Shape)> {
    let shape = |level, daily, noise, growth| Shape { level, daily, noise, growth };
    let gib = f64::from(1 << 30);
    let mut all = vec![
        ("cpu".to_owned(), shape(25.0, 15.0, 8.0, 0.0)),
        ("load1".to_owned(), shape(1.2, 0.6, 0.4, 0.0)),
        ("load5".to_owned(), shape(1.2, 0.6, 0.15, 0.0)),
        ("load15".to_owned(), shape(1.2, 0.6, 0.05, 0.0)),
        ("memory.used_percent".to_owned(), shape(55.0, 5.0, 0.8, 0.0)),
        ("memory.used_bytes".to_owned(), shape(8.0 * gib, 0.7 * gib, 0.1 * gib, 0.0)),
        ("swap.used_percent".to_owned(), shape(4.0, 0.1, 0.02, 0.0)),
        ("swap.used_bytes".to_owned(), shape(0.2 * gib, 0.01 * gib, 0.0, 0.0)),
        ("uptime".to_owned(), shape(86_400.0, 0.0, 0.0, 86_400.0)),
    ];
    for mount in ["/", "/var", "/home", "/srv"] {
        all.push((format!("disk.used_percent:{mount}"), shape(30.0, 0.2, 0.003, 0.05)));
        all.push((format!("disk.used_bytes:{mount}"), shape(30.0 * gib, 0.2 * gib, 0.003 * gib, 0.05 * gib)));
    }
    for interface in ["eth0", "eth1", "wg0"] {
        for way in ["received", "sent"] {
            all.push((format!("net.{way}_per_second:{interface}"), shape(2e6, 1.2e6, 6e5, 0.0)));
        }
    }
    // Response times, and counts that seldom change.
    for n in 0..11 {
        all.push((format!("check:site{n}/http"), shape(120.0, 30.0, 25.0, 0.0)));
    }
    for n in 0..6 {
        all.push((format!("check:unit{n}/restarts"), shape(f64::from(n), 0.0, 0.0, 0.0)));
    }
    all
}

impl Shape {
    fn base(&self, at: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "days since 1970")]
        let days = at as f64 / DAY as f64;
        self.level + self.daily * (days * std::f64::consts::TAU).sin() + self.growth * (days % 1000.0)
    }

    /// One value; noise leans upwards, as that of loads and latencies does.
    fn value(&self, at: i64, random: &mut fastrand::Rng) -> f64 {
        let noise = (random.f64() + random.f64() + random.f64() - 1.5) * 2.0;
        let burst = if random.f64() < 0.02 { 3.0 * random.f64() } else { 0.0 };
        (self.base(at) + self.noise * (noise + burst)).max(0.0)
    }

    /// What a point of so many values is like.
    fn point(&self, at: i64, values: u64, random: &mut fastrand::Rng) -> Option<Point> {
        let mut point = Point::of(self.value(at, random))?;
        // A sixth of an hour's values has the same extremes, nearly.
        let drawn = values.min(60);
        for n in 1..drawn {
            let at = at + i64::try_from(n * values / drawn).unwrap_or(0) * 10_000;
            point.merge(&Point::of(self.value(at, random))?);
        }
        point.count = values;
        Some(point)
    }
}

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let store = Store::open(&data).await?;
    let names: Vec<String> = (0..lengths.history).map(|n| format!("{{name: h{n}}}")).collect();
    let registry = Registry::parse(&format!("version: 1\nhosts: [{}]\n", names.join(", ")), &|_| None)
        .map_err(|mistake| anyhow::anyhow!("{mistake}"))?;
    store.sync_hosts(&registry, Timestamp::now()).await?;
    let metrics = metrics();
    anyhow::ensure!(metrics.len() == METRICS, "{} metrics instead of {METRICS}", metrics.len());
    let empty = size(&data)?;
    let now = floor(Timestamp::now().as_ms(), DAY);
    let mut hosts = Vec::new();
    let mut rolled = RolledUp::default();
    for (n, host) in store.hosts().await?.into_iter().enumerate() {
        let keys: Vec<SeriesKey> =
            (0..METRICS).map(|m| SeriesKey(u32::try_from(1 + n * METRICS + m).unwrap_or(u32::MAX))).collect();
        for ((name, _), key) in metrics.iter().zip(&keys) {
            rolled.series.push((*key, host.key, name.clone(), metric::unit(name).map(str::to_owned)));
        }
        hosts.push((host.key, keys));
    }
    store.roll_up((0, 0), &rolled).await?;

    let began = Instant::now();
    let mut random = fastrand::Rng::with_seed(4);
    for (host, keys) in &hosts {
        old_hours(&store, keys, &metrics, now, &mut random).await?;
        minutes(&store, *host, keys, &metrics, now, &mut random).await?;
    }
    let wrote = began.elapsed();
    store.close().await;
    let rolled_up = size(&data)?;

    let store = Store::open(&data).await?;
    let mut times = Vec::with_capacity(QUERIES);
    for _ in 0..QUERIES {
        let (host, keys) = &hosts[random.usize(0..hosts.len())];
        let began = Instant::now();
        let points = week(&store, *host, keys[random.usize(0..METRICS)], now).await?;
        times.push(began.elapsed());
        anyhow::ensure!(points >= 2016, "a week has {points} points");
    }
    times.sort_unstable();
    for (host, keys) in &hosts {
        reports(&store, *host, &keys[METRICS - 17..], now, &mut random).await?;
    }
    store.close().await;
    let with_reports = size(&data)?;

    let scale = f64::from(HOSTS) / f64::from(lengths.history);
    let (all, reports) = (mb(rolled_up - empty) * scale, mb(with_reports - rolled_up) * scale);
    let points = f64::from(HOSTS) * 40.0 * (43_200.0 + 17_520.0);
    let slow = percentile(&times, 0.99);
    Ok(vec![
        Figure::new(
            &format!("history of 50 hosts x 40 metrics, from {} of them", lengths.history),
            format!("{all:.0} MB"),
            &format!("<= {LIMIT_MB:.0} MB"),
            all <= LIMIT_MB,
        ),
        Figure::told("the same, per point", format!("{:.2} bytes", all * 1e6 / points)),
        Figure::new("a week of one metric, 5 min points, p99", ms(slow), "<= 50 ms", slow <= Duration::from_millis(50)),
        Figure::told("the same, p50", ms(percentile(&times, 0.5))),
        Figure::told("reports of 50 x 17 checks each minute, 30 days, beside it", format!("{reports:.0} MB")),
        Figure::told("writing one host's 30 days and two years", ms(wrote / lengths.history.max(1))),
    ])
}

/// The hours before the days of which minutes are kept.
async fn old_hours(
    store: &Store,
    keys: &[SeriesKey],
    metrics: &[(String, Shape)],
    now: i64,
    random: &mut fastrand::Rng,
) -> Result<()> {
    for ((name, shape), key) in metrics.iter().zip(keys) {
        let mut chunks: BTreeMap<i64, Vec<(u32, Point)>> = BTreeMap::new();
        let mut at = now - HOURS_KEPT;
        while at < now - MINUTES_KEPT {
            let from = floor(at, Kind::Hours.chunk());
            let point = shape.point(at, 360, random).context("a value")?;
            chunks.entry(from).or_default().push((u32::try_from((at - from) / HOUR)?, point));
            at += HOUR;
        }
        let packed = chunks
            .into_iter()
            .map(|(from, points)| Ok(((*key, Kind::Hours, from), pack::points(&points, metric::grain(name))?)));
        store.put_points(&packed.collect::<Result<Vec<_>>>()?).await?;
    }
    Ok(())
}

/// Thirty days of minutes, folded as they come.
async fn minutes(
    store: &Store,
    host: HostKey,
    keys: &[SeriesKey],
    metrics: &[(String, Shape)],
    now: i64,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let mut at = now - MINUTES_KEPT;
    while at < now {
        let mut list = Vec::new();
        for _ in 0..FOLD {
            let mut minute = Minute::default();
            for ((_, shape), key) in metrics.iter().zip(keys) {
                minute.add(*key, &shape.point(at, 6, random).context("a value")?);
            }
            list.push((at, minute));
            at += MINUTE;
        }
        store.fold(host, &list, roll::additions(&list, 0)).await?;
    }
    Ok(())
}

/// Thirty days of reports, a day at a time.
async fn reports(store: &Store, host: HostKey, keys: &[SeriesKey], now: i64, random: &mut fastrand::Rng) -> Result<()> {
    let mut id = 1;
    let mut at = now - MINUTES_KEPT;
    while at < now {
        let mut list = Vec::new();
        for _ in 0..DAY / MINUTE {
            let mut minute = Minute::default();
            // Among those of fifty hosts.
            for key in keys {
                id += random.i64(1..100);
                let status = u8::from(random.f64() < 0.001);
                minute.reports.push((*key, Seen { at: at + random.i64(0..400), id, status }));
            }
            list.push((at, minute));
            at += MINUTE;
        }
        store.fold(host, &list, roll::additions(&list, 0)).await?;
    }
    Ok(())
}

/// What the API does for a week of a series. Answers how many points it has.
async fn week(store: &Store, host: HostKey, key: SeriesKey, now: i64) -> Result<usize> {
    let plan = Plan::new(now - 7 * DAY, now, Step::Auto, now - MINUTES_KEPT).map_err(anyhow::Error::msg)?;
    let answer = plan.answer(store.points(host, key, plan.kind, plan.from, plan.to).await?);
    let gaps = plan.gaps(&answer, now);
    let points: Vec<_> =
        answer.iter().map(|(at, point)| (*at, point.min, point.mean, point.max, point.count)).collect();
    let text = serde_json::to_string(&(&points, gaps))?;
    anyhow::ensure!(!text.is_empty(), "no answer");
    Ok(points.len())
}

fn size(data: &std::path::Path) -> Result<u64> {
    Ok(std::fs::metadata(data.join("telemetry.db")).context("the database")?.len())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
