//! Rolls committed telemetry up into minutes, folds minutes into chunks, and
//! forgets chunks beyond their retention.
//!
//! It reads what is committed, behind the writer and never in its way: a
//! cursor moves in the transaction that stores what was read up to it.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use farol_protocol::{Timestamp, telemetry::Metrics};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    error::Result,
    history::{
        DAY, Keep, MINUTE, Point, floor,
        metric::{self, Counters},
        pack::Seen,
        roll::{self, SeriesKey},
    },
    store::{
        Store,
        dropped::Dropped,
        history::{HistoryState, RolledUp},
        hosts::HostKey,
    },
};

/// How often what was committed is rolled up.
const EVERY: Duration = Duration::from_secs(15);
/// How often old chunks are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Batches in one transaction: few, since the writer waits behind it.
const BATCHES: i64 = 500;
/// Reports in one transaction; those of a host and minute are one row.
const REPORTS: i64 = 4000;
/// Whoever is far behind folds and forgets all the same, after so long.
const LONGEST_PASS: Duration = Duration::from_secs(60);
/// How many times as long as a page took the next one waits.
const RESTS: u32 = 3;
/// Batches below the cursor that are looked at for the counters of their readings.
const PRIMING: i64 = 20_000;
/// Minutes of a host that gather before they are folded.
const FOLD_AT: i64 = 64;
/// Most minutes folded at once.
const FOLD_MOST: i64 = 256;
/// Most days folded at once: each is a chunk of every series.
const FOLD_DAYS: usize = 8;
/// The newest minutes stay: more may come to them.
const FOLD_LEAVES: usize = 4;
/// Minutes of a host that went away are folded all the same, after so long.
const FOLD_AFTER: i64 = DAY;
/// Most series of a host; names of mounts and interfaces are a host's to choose.
const SERIES: usize = 1000;
/// Further ahead than this is no time at which something was observed.
const AHEAD: i64 = 10 * MINUTE;

/// Rolls up, folds and forgets until `stop`.
pub(super) async fn run(app: App, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut roller = None;
    let mut pruned: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let keep = app.config.history;
        if let Err(error) = pass(&app.store, &mut roller, keep, LONGEST_PASS, &stop).await {
            tracing::warn!(job = "history", "a pass failed, the next one tries again: {error}");
        }
        if let Err(error) = fold(&app.store, keep, Timestamp::now(), &stop).await {
            tracing::warn!(job = "history", "minutes were not folded, the next pass tries again: {error}");
        }
        if pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            // Series may go: what is known of them is read again.
            roller = None;
            match prune(&app.store, keep, Timestamp::now()).await {
                Ok(()) => pruned = Some(Instant::now()),
                Err(error) => tracing::warn!(job = "history", "old chunks were not removed: {error}"),
            }
        }
    }
}

/// Rolls up what there is, page by page, until one was not full or `longest` has passed.
async fn pass(
    store: &Store,
    roller: &mut Option<Roller>,
    keep: Keep,
    longest: Duration,
    stop: &CancellationToken,
) -> Result<()> {
    let start = Instant::now();
    // After a failure nobody knows what was stored of the last page.
    let mut known = match roller.take() {
        Some(known) => known,
        None => Roller::load(store).await?,
    };
    loop {
        let began = Instant::now();
        // A page that was not full is the last one: what came meanwhile waits
        // for the next pass, so that a steady load is written many rows at a time.
        if !known.page(store, keep, Timestamp::now()).await? || start.elapsed() >= longest {
            break;
        }
        // Whoever is behind leaves most of the time to the writer.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(began.elapsed() * RESTS) => {}
        }
    }
    *roller = Some(known);
    Ok(())
}

async fn prune(store: &Store, keep: Keep, now: Timestamp) -> Result<()> {
    let (minutes, hours) = keep.from(now);
    let removed = store.prune_history(minutes, hours).await?;
    store.dropped.begin_anew();
    if removed > 0 {
        tracing::info!(chunks = removed, "history beyond its retention was removed");
    }
    Ok(())
}

/// Folds the minutes of hosts that have gathered enough of them. A host whose
/// minutes cannot be folded keeps none of the others from it.
///
/// # Errors
/// The store failed; what was folded before stays so.
pub async fn fold(store: &Store, keep: Keep, now: Timestamp, stop: &CancellationToken) -> Result<()> {
    for (host, count, oldest) in store.unfolded().await? {
        if let Err(error) = fold_host(store, (host, count, oldest), keep, now, stop).await {
            tracing::warn!(job = "history", host.key = host.0, "minutes of a host were not folded: {error}");
        }
    }
    Ok(())
}

async fn fold_host(
    store: &Store,
    (host, count, oldest): (HostKey, i64, i64),
    keep: Keep,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<()> {
    let mut left = count;
    let late = now.as_ms() - oldest > FOLD_AFTER && count > 0;
    while (left >= FOLD_AT || late && left == count) && !stop.is_cancelled() {
        let mut minutes = store.minutes_of(host, FOLD_MOST).await?;
        if !late || left > FOLD_MOST {
            minutes.truncate(minutes.len().saturating_sub(FOLD_LEAVES));
        }
        let mut days = BTreeSet::new();
        let most = minutes.iter().position(|(at, _)| days.insert(floor(*at, DAY)) && days.len() > FOLD_DAYS);
        minutes.truncate(most.unwrap_or(minutes.len()));
        if minutes.is_empty() {
            break;
        }
        let additions = roll::additions(&minutes, keep.from(now).0);
        store.fold(host, &minutes, additions).await?;
        left -= i64::try_from(minutes.len()).unwrap_or(left);
    }
    Ok(())
}

/// Reads committed telemetry page by page and stores it as minutes.
#[derive(Debug)]
pub struct Roller {
    state: HistoryState,
    /// The last reading of each stream.
    counters: HashMap<i64, Counters>,
    /// How many series each host has.
    counts: HashMap<HostKey, usize>,
}

impl Roller {
    /// From where the last one ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn load(store: &Store) -> Result<Self> {
        let state = store.history().await?;
        let mut counters = HashMap::new();
        // The next rates need the last readings before the cursor. A fleet so
        // large that these are not all of them misses one rate a host.
        let mut from = state.cursor.0.saturating_sub(PRIMING);
        loop {
            let batches = store.batches_after(from, state.cursor.0, BATCHES).await?;
            let Some(last) = batches.last() else { break };
            from = last.id;
            for batch in &batches {
                if let Some(metrics) = batch.metrics.as_deref().and_then(readings) {
                    counters.insert(batch.stream, Counters::of(&metrics, batch.observed_at.as_ms()));
                }
            }
        }
        let mut counts = HashMap::new();
        for (host, _) in state.series.keys() {
            *counts.entry(*host).or_default() += 1;
        }
        Ok(Self { state, counters, counts })
    }

    /// Rolls the next page up. Answers whether it was full, so that there is
    /// probably more.
    ///
    /// # Errors
    /// The store failed: this must be loaded again.
    pub async fn page(&mut self, store: &Store, keep: Keep, now: Timestamp) -> Result<bool> {
        let before = self.state.cursor;
        let batches = store.batches_after(before.0, i64::MAX, BATCHES).await?;
        let reports = store.report_values_after(before.1, REPORTS).await?;
        if batches.is_empty() && reports.is_empty() {
            return Ok(false);
        }
        let full = is_full(batches.len(), BATCHES) || is_full(reports.len(), REPORTS);
        let mut rolled = RolledUp { cursor: before, ..RolledUp::default() };
        let oldest = keep.from(now).1;
        let in_time = |at: i64| at >= oldest && at - now.as_ms() <= AHEAD;
        for batch in &batches {
            rolled.cursor.0 = batch.id;
            let at = batch.observed_at.as_ms();
            let Some(metrics) = batch.metrics.as_deref().and_then(readings).filter(|_| in_time(at)) else { continue };
            let counters = Counters::of(&metrics, at);
            let mut values = metric::values(&metrics);
            if let Some(last) = self.counters.get(&batch.stream) {
                values.extend(counters.rates(last));
            }
            self.counters.insert(batch.stream, counters);
            for (name, value) in values {
                let unit = metric::unit(&name);
                let Some(point) = Point::of(value) else { continue };
                let Some(series) = self.series(&store.dropped, &mut rolled, batch.host, name, unit) else { continue };
                rolled.minutes.entry((batch.host, floor(at, MINUTE))).or_default().add(series, &point);
            }
        }
        for report in reports {
            rolled.cursor.1 = report.id;
            let at = report.observed_at.as_ms();
            // A report that cannot be read is lost already; it must not keep
            // those that come after it from the history.
            let Ok(status) = report.status else {
                tracing::error!(
                    job = "history",
                    report = report.id,
                    check = report.name,
                    "a report is left out: its status cannot be read"
                );
                continue;
            };
            if !in_time(at) {
                continue;
            }
            let Some(series) =
                self.series(&store.dropped, &mut rolled, report.host, report.name.clone(), report.unit.as_deref())
            else {
                continue;
            };
            let minute = rolled.minutes.entry((report.host, floor(at, MINUTE))).or_default();
            minute.reports.push((series, Seen { at, id: report.id, status: roll::status_code(status) }));
            let known = status != farol_protocol::Status::Unknown;
            if let Some(point) = report.value.filter(|_| known).and_then(Point::of) {
                minute.add(series, &point);
            }
        }
        store.roll_up(before, &rolled).await?;
        self.state.cursor = rolled.cursor;
        Ok(full)
    }

    /// The series of a name, which is made if need be; none where the host has
    /// too many.
    fn series(
        &mut self,
        dropped: &Dropped,
        rolled: &mut RolledUp,
        host: HostKey,
        name: String,
        unit: Option<&str>,
    ) -> Option<SeriesKey> {
        let place = (host, name);
        if let Some((key, known)) = self.state.series.get_mut(&place) {
            // A report without a unit says nothing about it.
            if unit.is_some() && known.as_deref() != unit {
                *known = unit.map(str::to_owned);
                rolled.series.push((*key, host, place.1, known.clone()));
            }
            return Some(*key);
        }
        let count = self.counts.entry(host).or_default();
        if *count >= SERIES {
            if dropped.add(host, &place.1) {
                tracing::warn!(host.key = host.0, name = place.1, "a host has {SERIES} metrics; no new ones are kept");
            }
            return None;
        }
        *count += 1;
        let key = SeriesKey(self.state.next);
        self.state.next = self.state.next.checked_add(1)?;
        let unit = unit.map(str::to_owned);
        rolled.series.push((key, host, place.1.clone(), unit.clone()));
        self.state.series.insert(place, (key, unit));
        Some(key)
    }
}

fn is_full(rows: usize, limit: i64) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows >= limit)
}

/// Readings as they were sent. What a peer without a version pushes may be
/// anything; it has no readings then.
fn readings(text: &str) -> Option<Metrics> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests;
