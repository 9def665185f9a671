use std::{collections::BTreeMap, sync::Arc};

use farol_protocol::{
    Report, Status, StreamId,
    registry::Registry,
    telemetry::{Network, Usage},
};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::{
    fleet::limits::Taken,
    history::Kind,
    store::{
        Cursor,
        bulk::{BatchWrite, Bulk, StreamKey},
        history::Series,
    },
};

const KEEP: Keep = Keep { minutes: Duration::from_secs(30 * 86_400), hours: Duration::from_secs(730 * 86_400) };

struct Site {
    _folder: tempfile::TempDir,
    store: Store,
    host: HostKey,
    stream: StreamKey,
    seq: u64,
    now: Timestamp,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        let registry = Registry::parse("version: 1\nhosts: [{name: a}]\n", &|_| None).expect("valid");
        store.sync_hosts(&registry, Timestamp::now()).await.expect("a host");
        let host = store.host("a").await.expect("a host").key;
        let (stream, _) = store.stream(host, StreamId::new()).await.expect("a stream");
        // The middle of a day, so that a test's minutes share one.
        let now = Timestamp::from_ms(floor(Timestamp::now().as_ms(), DAY) + DAY / 2);
        Self { _folder: folder, store, host, stream, seq: 0, now }
    }

    /// Commits what the writer would.
    async fn commit(&self, items: Vec<Bulk>) {
        let (sender, mut committed) = mpsc::channel(items.len() + 1);
        let writer = self.store.bulk_writer(sender).await.expect("a writer");
        let (queue, waiting) = mpsc::channel(items.len() + 1);
        for item in items {
            queue.send(item).await.expect("room");
        }
        drop(queue);
        writer.run(waiting, CancellationToken::new()).await;
        while committed.recv().await.is_some() {}
    }

    fn batch(&mut self, minutes_ago: i64, metrics: &Metrics) -> Bulk {
        self.batch_at(self.now.as_ms() - minutes_ago * MINUTE, metrics)
    }

    fn batch_at(&mut self, at: i64, metrics: &Metrics) -> Bulk {
        self.seq += 1;
        Bulk::Batch(BatchWrite {
            host: self.host,
            stream: self.stream,
            seq: self.seq,
            lost: 0,
            observed_at: Timestamp::from_ms(at),
            received_at: self.now,
            metrics: Some(serde_json::to_string(metrics).expect("serializable")),
            inventory: None,
            reports: Vec::new(),
            gaps: Vec::new(),
            backfilled: false,
            committed: Arc::new(watch::Sender::new(0)),
            room: Taken::default(),
        })
    }

    fn reports(&self, list: &[(i64, Status, Option<f64>)]) -> Bulk {
        let report = |(ago, status, value): &(i64, Status, Option<f64>)| Report {
            check: "portal/answers".parse().expect("valid"),
            status: *status,
            value: *value,
            unit: Some("ms".to_owned()),
            text: format!("{} minutes ago", ago),
            observed_at: self.now.plus_ms(-ago * MINUTE),
            cause: None,
        };
        Bulk::Own { host: self.host, reports: list.iter().map(report).collect(), at: self.now }
    }

    async fn roll(&self) {
        let mut roller = Roller::load(&self.store).await.expect("loaded");
        while roller.page(&self.store, KEEP, self.now).await.expect("rolled up") {}
    }

    async fn fold(&self) {
        fold(&self.store, KEEP, self.now, &CancellationToken::new()).await.expect("folded");
    }

    async fn series(&self, name: &str) -> Option<Series> {
        self.store.metrics_of(self.host).await.expect("readable").into_iter().find(|series| series.name == name)
    }

    /// Points by how many minutes, or hours, ago they began.
    async fn points(&self, name: &str, kind: Kind) -> BTreeMap<i64, (u64, f64)> {
        let Some(series) = self.series(name).await else { return BTreeMap::new() };
        let now = floor(self.now.as_ms(), kind.point());
        let points = self.store.points(self.host, series.key, kind, 0, i64::MAX).await.expect("readable");
        let mut all: BTreeMap<i64, Point> = BTreeMap::new();
        for (at, point) in points {
            let ago = (now - floor(at, kind.point())) / kind.point();
            all.entry(ago).and_modify(|known| known.merge(&point)).or_insert(point);
        }
        all.into_iter().map(|(ago, point)| (ago, (point.count, (point.mean * 10.0).round() / 10.0))).collect()
    }
}

fn cpu(percent: f64) -> Metrics {
    Metrics { cpu_percent: Some(percent), ..Metrics::default() }
}

#[tokio::test]
async fn committed_readings_become_minutes_and_what_was_not_observed_stays_absent() {
    let mut site = Site::start().await;
    let mut items = Vec::new();
    for (ago, percent) in [(9, 10.0), (9, 20.0), (8, 30.0), (5, 50.0)] {
        items.push(site.batch(ago, &cpu(percent)));
    }
    items.push(site.batch(4, &Metrics { memory: Some(Usage { used: 1, total: 2 }), ..Metrics::default() }));
    site.commit(items).await;
    site.roll().await;
    assert_eq!(site.points("cpu", Kind::Minutes).await, [(5, (1, 50.0)), (8, (1, 30.0)), (9, (2, 15.0))].into());
    assert_eq!(site.points("cpu", Kind::Hours).await, [(1, (4, 27.5))].into());
    assert_eq!(site.series("cpu").await.expect("known").unit.as_deref(), Some("%"));
    assert_eq!(site.points("swap.used_percent", Kind::Minutes).await, BTreeMap::new());
}

#[tokio::test]
async fn what_comes_late_lands_in_its_minute_although_its_day_is_packed() {
    let mut site = Site::start().await;
    let live: Vec<Bulk> =
        (0..200).filter(|ago| !(50..90).contains(ago)).map(|ago| site.batch(ago, &cpu(10.0))).collect();
    site.commit(live).await;
    site.roll().await;
    site.fold().await;
    let before = site.points("cpu", Kind::Minutes).await;
    assert_eq!((before.len(), before.get(&60)), (160, None));
    let (unfolded, _, _) = (site.store.unfolded().await.expect("readable")[0].1, 0, 0);
    assert!(unfolded < FOLD_AT, "{unfolded} minutes wait");

    let late: Vec<Bulk> = (50..90).rev().map(|ago| site.batch(ago, &cpu(40.0))).chain([]).collect();
    site.commit(late).await;
    let again = site.batch(120, &cpu(30.0));
    site.commit(vec![again]).await;
    site.roll().await;
    let waiting = site.points("cpu", Kind::Minutes).await;
    assert_eq!((waiting.len(), waiting[&60], waiting[&120]), (200, (1, 40.0), (2, 20.0)));
    let more: Vec<Bulk> = (3 * 1440..3 * 1440 + 70).map(|ago| site.batch(ago, &cpu(7.0))).collect();
    site.commit(more).await;
    site.roll().await;
    site.fold().await;
    let folded = site.points("cpu", Kind::Minutes).await;
    assert_eq!((folded.len(), folded[&60], folded[&120], folded[&(3 * 1440)]), (270, (1, 40.0), (2, 20.0), (1, 7.0)));
}

#[tokio::test]
async fn an_end_between_any_two_steps_loses_nothing_and_repeats_nothing() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut site = Site::start().await;
        let mut expected: BTreeMap<i64, u64> = BTreeMap::new();
        let mut roller = Roller::load(&site.store).await.expect("loaded");
        for _ in 0..6 {
            let mut items = Vec::new();
            for _ in 0..random.usize(1..150) {
                let ago = random.i64(0..400);
                *expected.entry(ago).or_default() += 1;
                items.push(site.batch(ago, &cpu(12.0)));
            }
            site.commit(items).await;
            match random.u8(0..4) {
                // The process ends before anything was rolled up.
                0 => roller = Roller::load(&site.store).await.expect("loaded"),
                // It ends after a page, before the fold.
                1 => {
                    roller.page(&site.store, KEEP, site.now).await.expect("rolled up");
                    roller = Roller::load(&site.store).await.expect("loaded");
                }
                2 => site.fold().await,
                _ => while roller.page(&site.store, KEEP, site.now).await.expect("rolled up") {},
            }
        }
        site.roll().await;
        assert!(
            roller.page(&site.store, KEEP, site.now).await.is_err()
                || roller.state.cursor == site.store.history_cursor().await.expect("readable")
        );
        site.fold().await;
        let counts = |points: BTreeMap<i64, (u64, f64)>| -> BTreeMap<i64, u64> {
            assert!(points.values().all(|(_, mean)| *mean == 12.0));
            points.into_iter().map(|(ago, (count, _))| (ago, count)).collect()
        };
        assert_eq!(counts(site.points("cpu", Kind::Minutes).await), expected, "seed {seed}");
        let hours: u64 = counts(site.points("cpu", Kind::Hours).await).values().sum();
        assert_eq!(hours, expected.values().sum::<u64>(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_second_one_that_rolls_up_the_same_is_refused() {
    let mut site = Site::start().await;
    let (mut first, mut second) =
        (Roller::load(&site.store).await.expect("loaded"), Roller::load(&site.store).await.expect("loaded"));
    let item = site.batch(3, &cpu(5.0));
    site.commit(vec![item]).await;
    first.page(&site.store, KEEP, site.now).await.expect("rolled up");
    let error = second.page(&site.store, KEEP, site.now).await.expect_err("refused");
    assert!(error.to_string().contains("somebody else"), "{error}");
    assert_eq!(site.points("cpu", Kind::Minutes).await, [(3, (1, 5.0))].into());
}

#[tokio::test]
async fn rates_go_on_after_a_restart_and_end_at_a_reboot() {
    let mut site = Site::start().await;
    let counters = |received: u64, uptime: u64| Metrics {
        networks: vec![Network { interface: "eth0".to_owned(), received, sent: 0 }],
        uptime_seconds: Some(uptime),
        ..Metrics::default()
    };
    let items = vec![site.batch(9, &counters(0, 100)), site.batch(8, &counters(6_000, 160))];
    site.commit(items).await;
    site.roll().await;
    // Another process, which knows the last reading from the store.
    let items = vec![site.batch(7, &counters(18_000, 220)), site.batch(6, &counters(90_000, 5))];
    site.commit(items).await;
    site.roll().await;
    let rates = site.points("net.received_per_second:eth0", Kind::Minutes).await;
    assert_eq!(rates, [(7, (1, 200.0)), (8, (1, 100.0))].into());
}

#[tokio::test]
async fn a_check_has_values_where_it_knew_them_and_its_reports_in_the_order_of_their_times() {
    let site = Site::start().await;
    let (ok, bad, unknown) = (Status::Ok, Status::Critical, Status::Unknown);
    site.commit(vec![site.reports(&[(30, ok, Some(5.0)), (29, ok, Some(7.0)), (10, ok, Some(5.0))])]).await;
    site.roll().await;
    // What was observed meanwhile comes afterwards.
    site.commit(vec![site.reports(&[(28, bad, None), (27, unknown, Some(1.0)), (26, ok, Some(6.0))])]).await;
    site.roll().await;
    let values = site.points("check:portal/answers", Kind::Minutes).await;
    assert_eq!(values, [(10, (1, 5.0)), (26, (1, 6.0)), (29, (1, 7.0)), (30, (1, 5.0))].into());

    let series = site.series("check:portal/answers").await.expect("known");
    assert_eq!(series.unit.as_deref(), Some("ms"));
    let seen = site.store.seen(site.host, series.key, 0, i64::MAX).await.expect("readable");
    let statuses: Vec<u8> = seen.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [0, 0, 2, 3, 0, 0]);
}

#[tokio::test]
async fn reports_of_a_check_are_paged_newest_first_across_chunks_and_the_newest_minutes() {
    let site = Site::start().await;
    let times: Vec<i64> = (0..300).map(|n| n * 17).collect();
    let list: Vec<_> = times.iter().rev().map(|ago| (*ago, Status::Ok, Some(1.0))).collect();
    site.commit(vec![site.reports(&list)]).await;
    site.roll().await;
    site.fold().await;
    // Twice at the same time, and one that comes late.
    site.commit(vec![site.reports(&[(0, Status::Warning, None), (100, Status::Critical, None)])]).await;
    site.roll().await;
    let series = site.series("check:portal/answers").await.expect("known").key;
    let mut cursor = Cursor::start();
    let mut found = Vec::new();
    loop {
        let page = site.store.reports_of(site.host, series, &cursor, 7).await.expect("readable");
        assert!(page.items.len() == 7 || page.next_cursor.is_none());
        found.extend(
            page.items.iter().map(|item| (site.now.since(item.report.observed_at) / MINUTE, item.report.status)),
        );
        let Some(next) = page.next_cursor else { break };
        cursor = Cursor::parse(&next).expect("ours");
    }
    assert_eq!(found.len(), 302);
    assert!(found.is_sorted_by_key(|(ago, _)| *ago), "{found:?}");
    assert_eq!(found[..3], [(0, Status::Warning), (0, Status::Ok), (17, Status::Ok)]);
    assert!(found.contains(&(100, Status::Critical)));

    // Telemetry is kept for less time: the list ends, what was said stays known.
    site.store.prune_telemetry(site.now.plus_ms(1), (0, 290)).await.expect("pruned");
    let page = site.store.reports_of(site.host, series, &Cursor::start(), 50).await.expect("readable");
    assert_eq!((page.items.len(), page.next_cursor), (12, None));
    assert_eq!(site.store.seen(site.host, series, 0, i64::MAX).await.expect("readable").len(), 302);
}

#[tokio::test]
async fn what_is_beyond_its_retention_goes_and_hours_outlive_minutes() {
    let mut site = Site::start().await;
    let ago = 29 * 1440;
    let items: Vec<Bulk> = (0..100).map(|n| site.batch(ago + n, &cpu(5.0))).collect();
    site.commit(items).await;
    site.roll().await;
    site.fold().await;
    site.now = site.now.plus_ms(DAY);
    site.fold().await;
    assert_eq!(site.store.unfolded().await.expect("readable"), [], "a host that is away is folded whole");
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(site.points("cpu", Kind::Minutes).await.len(), 100, "the day is not over for all of its minutes");
    site.now = site.now.plus_ms(3 * DAY);
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(site.points("cpu", Kind::Minutes).await.len(), 0);
    assert_eq!(site.points("cpu", Kind::Hours).await.values().map(|(count, _)| count).sum::<u64>(), 100);
    site.now = site.now.plus_ms(800 * DAY);
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(site.series("cpu").await, None);
}

#[tokio::test]
async fn times_that_cannot_be_and_names_without_end_are_not_kept() {
    let mut site = Site::start().await;
    let items = vec![site.batch(-60, &cpu(1.0)), site.batch(3 * 365 * 1440, &cpu(1.0)), site.batch(1, &cpu(1.0))];
    site.commit(items).await;
    let many = |from: u64| Metrics {
        disks: (from..from + 600)
            .map(|n| farol_protocol::telemetry::Disk { mount: format!("/m{n}"), space: Usage { used: 1, total: 2 } })
            .collect(),
        ..Metrics::default()
    };
    let items = vec![site.batch(1, &many(0)), site.batch(1, &many(600)), site.batch(0, &cpu(2.0))];
    site.commit(items).await;
    site.roll().await;
    assert_eq!(site.store.metrics_of(site.host).await.expect("readable").len(), SERIES);
    // Two of each mount, and `cpu`.
    assert_eq!(site.store.dropped.of(site.host), 2 * 1200 + 1 - SERIES);
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(site.store.dropped.of(site.host), 0, "there may be room by now");
    assert!(!site.store.dropped.add(site.host, "x"), "but it was said already");
    assert_eq!(site.points("cpu", Kind::Minutes).await, [(0, (1, 2.0)), (1, (1, 1.0))].into());
}

#[tokio::test]
async fn a_page_that_was_not_full_ends_the_pass_and_a_full_one_does_not() {
    let mut site = Site::start().await;
    let most = usize::try_from(BATCHES).expect("few");
    let mut roller = Roller::load(&site.store).await.expect("loaded");
    let items: Vec<Bulk> = (0..=most).map(|_| site.batch(3, &cpu(5.0))).collect();
    site.commit(items).await;
    assert!(roller.page(&site.store, KEEP, site.now).await.expect("rolled up"), "one waits");
    assert!(!roller.page(&site.store, KEEP, site.now).await.expect("rolled up"), "whatever comes meanwhile");
    assert_eq!(site.points("cpu", Kind::Minutes).await, [(3, (most as u64 + 1, 5.0))].into());
    let many = usize::try_from(REPORTS).expect("few");
    site.commit(vec![site.reports(&vec![(2, Status::Ok, None); many])]).await;
    assert!(roller.page(&site.store, KEEP, site.now).await.expect("rolled up"), "as many reports as fit");
    assert!(!roller.page(&site.store, KEEP, site.now).await.expect("rolled up"));
}

#[tokio::test]
async fn whoever_is_far_behind_stops_for_the_fold_and_goes_on_from_there() {
    let mut site = Site::start().await;
    let items: Vec<Bulk> = (0..=2 * BATCHES).map(|n| site.batch(1 + n % 9, &cpu(5.0))).collect();
    site.commit(items).await;
    let (mut roller, stop) = (None, CancellationToken::new());
    pass(&site.store, &mut roller, KEEP, Duration::ZERO, &stop).await.expect("passed");
    assert_eq!(site.store.history_cursor().await.expect("readable").0, BATCHES, "one page, however many wait");
    pass(&site.store, &mut roller, KEEP, LONGEST_PASS, &stop).await.expect("passed");
    assert_eq!(site.store.history_cursor().await.expect("readable").0, 2 * BATCHES + 1);
}

impl Site {
    async fn spoil(&self, statement: &str) {
        let mut write = self.store.telemetry().write().await.expect("a turn");
        let changed =
            sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut *write).await.expect("changed");
        assert!(changed.rows_affected() > 0, "{statement}");
        write.commit().await.expect("committed");
    }
}

#[tokio::test]
async fn a_minute_that_cannot_be_read_is_lost_and_nothing_else_is() {
    let mut site = Site::start().await;
    let items: Vec<Bulk> = (0..100).map(|ago| site.batch(ago, &cpu(5.0))).collect();
    site.commit(items).await;
    site.roll().await;
    let of = |site: &Site, ago: i64| floor(site.now.as_ms() - ago * MINUTE, MINUTE);
    let (added, folded) = (of(&site, 50), of(&site, 60));
    site.spoil(&format!("update history_minute set points = x'09' where minute_ms in ({added}, {folded})")).await;
    let item = site.batch(50, &cpu(7.0));
    site.commit(vec![item]).await;
    site.roll().await;
    site.fold().await;
    let points = site.points("cpu", Kind::Minutes).await;
    assert_eq!((points.len(), points[&50], points.get(&60)), (99, (1, 7.0), None));
}

#[tokio::test]
async fn a_report_whose_status_cannot_be_read_is_left_out_and_the_cursor_moves_on() {
    let site = Site::start().await;
    site.commit(vec![site.reports(&[
        (5, Status::Ok, Some(1.0)),
        (4, Status::Ok, Some(2.0)),
        (3, Status::Ok, Some(3.0)),
    ])])
    .await;
    site.spoil("update report set status = 'purple' where value = 2").await;
    site.roll().await;
    assert_eq!(site.points("check:portal/answers", Kind::Minutes).await, [(3, (1, 3.0)), (5, (1, 1.0))].into());
    let (_, report) = site.store.history_cursor().await.expect("readable");
    assert_eq!(report, 3, "telemetry up to here may go");
}

#[tokio::test]
async fn a_host_whose_minutes_cannot_be_folded_keeps_no_other_from_it() {
    let mut site = Site::start().await;
    let items: Vec<Bulk> = (0..100).map(|ago| site.batch(ago, &cpu(5.0))).collect();
    site.commit(items).await;
    site.roll().await;
    // Another host, which is looked at first, with a series that has no key.
    site.spoil(&format!(
        "insert into history_minute select {0}, minute_ms, points, reports from history_minute",
        site.host.0 - 1
    ))
    .await;
    site.spoil(&format!(
        "insert into history_series (id, host_key, name) values (5000000000, {}, 'x')",
        site.host.0 - 1
    ))
    .await;
    site.fold().await;
    let left: BTreeMap<i64, i64> =
        site.store.unfolded().await.expect("readable").into_iter().map(|(host, count, _)| (host.0, count)).collect();
    assert_eq!(left[&(site.host.0 - 1)], 100);
    assert!(left[&site.host.0] < FOLD_AT, "{left:?}");
}

#[tokio::test]
async fn a_series_that_never_had_a_value_goes_once_nothing_is_left_of_it_and_not_before() {
    let mut site = Site::start().await;
    let unknown: Vec<_> = (0..100).map(|ago| (ago, Status::Unknown, None)).collect();
    site.commit(vec![site.reports(&unknown)]).await;
    site.roll().await;
    let count = async |site: &Site| site.store.series_of(site.host).await.expect("readable").len();
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(count(&site).await, 1, "its minutes wait to be folded");
    site.fold().await;
    site.now = site.now.plus_ms(2 * DAY);
    site.fold().await;
    assert_eq!(site.store.unfolded().await.expect("readable"), []);
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(count(&site).await, 1, "its reports are kept");
    site.now = site.now.plus_ms(31 * DAY);
    prune(&site.store, KEEP, site.now).await.expect("pruned");
    assert_eq!(count(&site).await, 0);
}

#[tokio::test]
async fn the_first_value_of_what_was_only_seen_before_says_when_it_was() {
    let site = Site::start().await;
    let seen: Vec<_> = (0..100).map(|ago| (ago, Status::Ok, (40..60).contains(&ago).then_some(1.0))).collect();
    site.commit(vec![site.reports(&seen[..10]), site.reports(&seen[60..])]).await;
    site.roll().await;
    let later = Timestamp::now().plus_ms(2 * DAY);
    fold(&site.store, KEEP, later, &CancellationToken::new()).await.expect("folded");
    assert_eq!(site.series("check:portal/answers").await, None, "it has no value yet");
    site.commit(vec![site.reports(&seen[40..60])]).await;
    site.roll().await;
    fold(&site.store, KEEP, later, &CancellationToken::new()).await.expect("folded");
    let (first, last) = site.series("check:portal/answers").await.expect("known").known.expect("values");
    assert_eq!((site.now.since(first) / MINUTE, site.now.since(last) / MINUTE), (59, 40));
}
