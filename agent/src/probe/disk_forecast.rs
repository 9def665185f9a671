//! When a file system is full if it goes on like this.
//!
//! A straight line through what was in use over the last hours, by Theil and
//! Sen: the median of the slopes between all pairs. One large file that came
//! and went does not move it. Samples live in memory only, so a forecast
//! begins half an hour after the agent does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

pub(super) use farol_protocol::report::DiskForecastProbe;
use farol_protocol::{Timestamp, report::UnknownCause};

use super::{Probing, Seen, mount, text::Text};

/// Samples further back than this do not count, in ms.
const SPAN_MS: i64 = 24 * 3_600_000;
/// No forecast from less than this, in ms.
const ENOUGH_MS: i64 = 30 * 60_000;
/// No forecast from fewer samples than this.
const ENOUGH: usize = 4;
/// Samples nearer to one another than this are not kept, in ms.
const APART_MS: i64 = 3 * 60_000;
/// Samples of one file system: 6.4 hours at the shortest distance.
const MOST: usize = 128;
/// File systems whose samples are kept.
const MOST_MOUNTS: usize = 64;
/// A forecast further away than this says nothing, in hours.
const NEVER: f64 = 10.0 * 365.0 * 24.0;

/// What was seen of each mount point.
#[derive(Debug, Default)]
pub(super) struct Fills(Mutex<HashMap<String, Fill>>);

/// One file system over time.
#[derive(Debug, Default, Clone)]
struct Fill {
    total: u64,
    /// Time in ms and bytes in use, oldest first.
    samples: VecDeque<(i64, u64)>,
}

pub(super) async fn run(probing: Probing, fills: &Fills, probe: &DiskForecastProbe, now: Timestamp) -> Seen {
    let stat = match mount::look(probing, &probe.mount).await {
        Ok(stat) => stat,
        Err(seen) => return seen,
    };
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    if total == 0 {
        return probing.not_configured(Text::ForecastNoSize, &[("mount", &probe.mount)]);
    }
    let fill = fills.add(&probe.mount, now.as_ms(), total.saturating_sub(available), total);
    judge(probing, probe, &fill, available)
}

impl Fills {
    fn add(&self, mount: &str, at: i64, used: u64, total: u64) -> Fill {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_MOUNTS && !all.contains_key(mount) {
            let last = |fill: &Fill| fill.samples.back().map(|(at, _)| *at);
            let stalest = all.iter().min_by_key(|(_, fill)| last(fill)).map(|(name, _)| name.clone());
            stalest.map(|name| all.remove(&name));
        }
        let fill = all.entry(mount.to_owned()).or_default();
        fill.add(at, used, total);
        fill.clone()
    }
}

impl Fill {
    fn add(&mut self, at: i64, used: u64, total: u64) {
        // It was made larger or smaller, or the clock was set back: what was
        // before says nothing about what comes.
        if self.total != total || self.samples.back().is_some_and(|(last, _)| *last > at) {
            self.samples.clear();
            self.total = total;
        }
        if self.samples.back().is_some_and(|(last, _)| at - last < APART_MS) {
            return;
        }
        self.samples.push_back((at, used));
        while self.samples.len() > MOST || self.samples.front().is_some_and(|(first, _)| at - first > SPAN_MS) {
            self.samples.pop_front();
        }
    }

    /// From the first sample to the last, in ms.
    fn span(&self) -> i64 {
        let (Some((first, _)), Some((last, _))) = (self.samples.front(), self.samples.back()) else { return 0 };
        last - first
    }

    /// Bytes per hour, once enough was seen.
    #[expect(clippy::cast_precision_loss, reason = "a forecast is no finer than that")]
    fn slope(&self) -> Option<f64> {
        if self.samples.len() < ENOUGH || self.span() < ENOUGH_MS {
            return None;
        }
        let mut slopes = Vec::with_capacity(self.samples.len() * (self.samples.len() - 1) / 2);
        for (n, (later, more)) in self.samples.iter().enumerate() {
            for (earlier, less) in self.samples.iter().take(n) {
                let hours = (later - earlier) as f64 / 3_600_000.0;
                slopes.push((*more as f64 - *less as f64) / hours);
            }
        }
        let middle = slopes.len() / 2;
        let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
        Some(*median)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a forecast is no finer than that")]
fn judge(probing: Probing, probe: &DiskForecastProbe, fill: &Fill, available: u64) -> Seen {
    let mount = ("mount", probe.mount.as_str());
    let Some(slope) = fill.slope() else {
        let minutes = probing.number((fill.span() / 60_000) as f64);
        let enough = probing.number((ENOUGH_MS / 60_000) as f64);
        let values = [mount, ("minutes", &*minutes), ("enough", &*enough)];
        // Every start of the agent comes here: it must open no finding.
        return Seen { cause: Some(UnknownCause::NotEnoughData), ..probing.unknown(Text::ForecastEarly, &values) };
    };
    let hours = if available == 0 { 0.0 } else { available as f64 / slope };
    if available > 0 && (slope <= 0.0 || hours > NEVER) {
        return probing.without_value(farol_protocol::Status::Ok, Text::ForecastFlat, &[mount]);
    }
    let hours = (hours * 10.0).round() / 10.0;
    let rate = probing.number(slope / f64::from(1 << 20));
    probing.judged(&probe.limits, hours, "h", [Text::ForecastOk, Text::ForecastOver], &[mount, ("rate", &rate)])
}

#[cfg(test)]
mod tests {
    use farol_protocol::{
        Status,
        report::{Limits, Worse},
    };

    use super::{super::tests::probing, *};

    const GIB: u64 = 1 << 30;
    const MINUTE: i64 = 60_000;

    fn judged(fill: &Fill, available: u64) -> Seen {
        let limits = Limits { warning: Some(48.0), critical: Some(12.0), worse: Worse::Below };
        judge(probing(), &DiskForecastProbe { mount: "/srv".to_owned(), limits }, fill, available)
    }

    /// A sample each five minutes for `minutes`, growing by `each` bytes.
    fn growing(minutes: i64, each: u64) -> Fill {
        let mut fill = Fill::default();
        for n in 0..=minutes / 5 {
            fill.add(n * 5 * MINUTE, 100 * GIB + u64::try_from(n).expect("small") * each, 500 * GIB);
        }
        fill
    }

    #[test]
    fn half_an_hour_must_have_been_seen_and_until_then_no_finding_opens() {
        let early = judged(&growing(25, GIB), 10 * GIB);
        assert_eq!(
            (early.status, early.value, early.cause),
            (Status::Unknown, None, Some(UnknownCause::NotEnoughData))
        );
        assert!(early.text.contains("25"), "{}", early.text);
        assert_eq!(judged(&growing(30, GIB), 10 * GIB).status, Status::Critical);
    }

    #[test]
    fn what_is_left_is_divided_by_what_comes_each_hour() {
        // 12 GiB an hour.
        let fill = growing(120, GIB);
        let seen = judged(&fill, 240 * GIB);
        assert_eq!((seen.status, seen.value, seen.unit.as_deref()), (Status::Warning, Some(20.0), Some("h")));
        assert_eq!(judged(&fill, 1200 * GIB).status, Status::Ok);
        let full = judged(&fill, 0);
        assert_eq!((full.status, full.value), (Status::Critical, Some(0.0)));
    }

    #[test]
    fn one_that_shrinks_or_stays_is_fine_and_has_no_number() {
        let mut shrinking = Fill::default();
        for n in 0..12_u64 {
            shrinking.add(i64::try_from(n).expect("small") * 5 * MINUTE, (100 - n) * GIB, 500 * GIB);
        }
        for fill in [shrinking, growing(60, 0)] {
            let seen = judged(&fill, GIB);
            assert_eq!((seen.status, seen.value), (Status::Ok, None), "{}", seen.text);
        }
    }

    #[test]
    fn a_large_file_that_came_and_went_does_not_move_the_line() {
        let mut fill = growing(115, GIB);
        fill.add(116 * MINUTE + APART_MS, 400 * GIB, 500 * GIB);
        let hours = judged(&fill, 240 * GIB).value.expect("a forecast");
        assert!((18.0..=20.5).contains(&hours), "{hours}");
    }

    #[test]
    fn history_is_bounded_and_ends_where_the_file_system_changed() {
        let mut fill = Fill::default();
        for n in 0..10_000 {
            fill.add(n * MINUTE, 1, GIB);
        }
        assert!(fill.samples.len() <= MOST && fill.span() <= SPAN_MS);
        fill.add(10_001 * MINUTE + APART_MS, 1, 2 * GIB);
        assert_eq!(fill.samples.len(), 1, "it was made larger");
        fill.add(5, 1, 2 * GIB);
        assert_eq!(fill.samples.len(), 1, "the clock was set back");
        let fills = Fills::default();
        for n in 0..200_i64 {
            fills.add(&format!("/{n}"), n, 1, GIB);
        }
        assert_eq!(fills.0.lock().expect("whole").len(), MOST_MOUNTS);
    }

    #[tokio::test]
    async fn samples_gather_from_run_to_run() {
        let fills = Fills::default();
        let probe = DiskForecastProbe { mount: "/".to_owned(), limits: Limits::default() };
        let mut last = None;
        for n in 0..8 {
            last = Some(run(probing(), &fills, &probe, Timestamp::from_ms(n * 5 * MINUTE)).await);
            assert!(n > 3 || last.as_ref().is_some_and(|seen| seen.status == Status::Unknown));
        }
        assert_eq!(last.expect("ran").status, Status::Ok);
    }
}
