//! Points of minutes and hours, packed, and when each check said what.
//!
//! One job writes here. What it writes of committed telemetry is one
//! transaction with its cursor, and minutes leave their table in the
//! transaction in which they enter chunks: a crash loses and repeats nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use farol_protocol::{CheckId, Status, Timestamp};
use sqlx::{Any, AnyConnection, QueryBuilder, any::AnyRow};

use super::{Page, Store, bulk::Committed, hosts::HostKey, serde_word};
use crate::{
    error::{Error, Result, StoreContext as _},
    history::{
        Kind, Point,
        metric::CHECK,
        pack::{self, Seen, Unreadable},
        roll::{self, Addition, ChunkKey, Minute, SeriesKey},
    },
};

/// Rows per statement.
const ROWS: usize = 50;

/// Where the rolling up stands.
#[derive(Debug, Clone, Default)]
pub struct HistoryState {
    /// The last batch and the last report that are in.
    pub cursor: (i64, i64),
    /// What there is, with its unit.
    pub series: HashMap<(HostKey, String), (SeriesKey, Option<String>)>,
    /// The key of the next one.
    pub next: u32,
}

/// Readings of a batch.
#[derive(Debug)]
pub struct BatchReading {
    /// Its row.
    pub id: i64,
    /// The stream it came in; readings of one stream follow each other.
    pub stream: i64,
    /// Whose.
    pub host: HostKey,
    /// When it was observed.
    pub observed_at: Timestamp,
    /// As they were sent.
    pub metrics: Option<String>,
}

/// What a report says in numbers.
#[derive(Debug)]
pub struct ReportValue {
    /// Its row.
    pub id: i64,
    /// The host it is about.
    pub host: HostKey,
    /// Its check, as `check:ID`.
    pub name: String,
    /// What it said; the stored word where that is no status.
    pub status: std::result::Result<Status, String>,
    /// What was measured.
    pub value: Option<f64>,
    /// In which unit.
    pub unit: Option<String>,
    /// When.
    pub observed_at: Timestamp,
}

/// A part of the telemetry, rolled up.
#[derive(Debug, Default)]
pub struct RolledUp {
    /// Up to and with these rows.
    pub cursor: (i64, i64),
    /// Series that are new or have another unit.
    pub series: Vec<(SeriesKey, HostKey, String, Option<String>)>,
    /// What to add to which minute.
    pub minutes: BTreeMap<(HostKey, i64), Minute>,
}

/// A metric of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its key.
    pub key: SeriesKey,
    /// Its name.
    pub name: String,
    /// Its unit; none where it has none.
    pub unit: Option<String>,
    /// The minutes of its first and last value; none where it has none yet.
    pub known: Option<(Timestamp, Timestamp)>,
}

/// A report's row, host, check, status, value, unit and time.
type ValueRow = (i64, i64, String, String, Option<f64>, Option<String>, i64);
/// A series' row, name, unit, and the times of its first and last value. One
/// that never had a value has no first time; its last is that of a report.
type SeriesRow = (i64, String, Option<String>, Option<i64>, Option<i64>);

/// A chunk as it is stored.
type Packed = (ChunkKey, Vec<u8>);

impl Store {
    /// Where the rolling up stands.
    ///
    /// # Errors
    /// The store failed.
    pub async fn history(&self) -> Result<HistoryState> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<(i64, i64, String, Option<String>)> =
            sqlx::query_as("select id, host_key, name, unit from history_series")
                .fetch_all(&mut *read)
                .await
                .context("read the series")?;
        let mut state = HistoryState { cursor: cursor(&mut read).await?, ..HistoryState::default() };
        for (id, host, name, unit) in rows {
            let key = series_key(id)?;
            state.next = state.next.max(key.0);
            state.series.insert((HostKey(host), name), (key, unit));
        }
        state.next += 1;
        Ok(state)
    }

    /// The last batch and the last report that were rolled up.
    ///
    /// # Errors
    /// The store failed.
    pub async fn history_cursor(&self) -> Result<(i64, i64)> {
        cursor(&mut *self.telemetry().read().await?).await
    }

    /// Batches after `cursor` and up to `until`, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn batches_after(&self, cursor: i64, until: i64, limit: i64) -> Result<Vec<BatchReading>> {
        let mut read = self.telemetry().read().await?;
        // A push has no stream; its number is the host's, negative.
        let rows: Vec<(i64, i64, i64, i64, Option<String>)> = sqlx::query_as(
            "select b.id, b.stream_id, coalesce(s.host_key, -b.stream_id), b.observed_ms, b.metrics
             from batch b left join stream s on s.id = b.stream_id
             where b.id > $1 and b.id <= $2 order by b.id limit $3",
        )
        .bind(cursor)
        .bind(until)
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the batches")?;
        let reading = |(id, stream, host, at, metrics)| BatchReading {
            id,
            stream,
            host: HostKey(host),
            observed_at: Timestamp::from_ms(at),
            metrics,
        };
        Ok(rows.into_iter().map(reading).collect())
    }

    /// What reports after `cursor` say in numbers, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn report_values_after(&self, cursor: i64, limit: i64) -> Result<Vec<ReportValue>> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<ValueRow> = sqlx::query_as(
            "select id, host_key, check_id, status, value, unit, observed_ms from report
             where id > $1 order by id limit $2",
        )
        .bind(cursor)
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the reports")?;
        let value = |(id, host, check, status, value, unit, at): ValueRow| ReportValue {
            id,
            host: HostKey(host),
            name: format!("{CHECK}{check}"),
            status: serde_word("status", &status).map_err(|_| status),
            value,
            unit,
            observed_at: Timestamp::from_ms(at),
        };
        Ok(rows.into_iter().map(value).collect())
    }

    /// Adds what was rolled up to its minutes and moves the cursor, at once.
    ///
    /// # Errors
    /// The store failed, or somebody else moved the cursor from `before`;
    /// nothing was changed.
    pub async fn roll_up(&self, before: (i64, i64), rolled: &RolledUp) -> Result<()> {
        // Read before the change begins, so that the writer of telemetry waits
        // for as little as possible; who else might write them is refused below.
        let mut rows = Vec::with_capacity(rolled.minutes.len());
        for ((host, at), minute) in &rolled.minutes {
            let encoded = match self.minute(*host, *at).await? {
                None => minute.encode(),
                Some(mut known) => {
                    known.merge(minute);
                    known.encode()
                }
            };
            rows.push((*host, *at, encoded));
        }
        let mut write = self.telemetry().write().await?;
        let moved = sqlx::query(
            "update history_cursor set batch = $1, report = $2 where id = 1 and batch = $3 and report = $4",
        )
        .bind(rolled.cursor.0)
        .bind(rolled.cursor.1)
        .bind(before.0)
        .bind(before.1)
        .execute(&mut *write)
        .await
        .context("move the cursor of the history")?;
        if moved.rows_affected() != 1 {
            return Err(Error::Refused("the history was rolled up by somebody else; it is read again".to_owned()));
        }
        for (key, host, name, unit) in &rolled.series {
            sqlx::query(
                "insert into history_series (id, host_key, name, unit) values ($1, $2, $3, $4)
                 on conflict (host_key, name) do update set unit = excluded.unit",
            )
            .bind(i64::from(key.0))
            .bind(host.0)
            .bind(name)
            .bind(unit.clone())
            .execute(&mut *write)
            .await
            .context("store a series")?;
        }
        for rows in rows.chunks(ROWS) {
            let mut upsert =
                QueryBuilder::<Any>::new("insert into history_minute (host_key, minute_ms, points, reports) ");
            upsert.push_values(rows, |mut row, (host, at, (points, reports))| {
                row.push_bind(host.0).push_bind(*at).push_bind(points.clone()).push_bind(reports.clone());
            });
            upsert.push(
                " on conflict (host_key, minute_ms) do update set points = excluded.points, reports = excluded.reports",
            );
            upsert.build().execute(&mut *write).await.context("store minutes")?;
        }
        write.commit().await
    }

    async fn minute(&self, host: HostKey, at: i64) -> Result<Option<Minute>> {
        let mut read = self.telemetry().read().await?;
        let known: Option<(Vec<u8>, Vec<u8>)> =
            sqlx::query_as("select points, reports from history_minute where host_key = $1 and minute_ms = $2")
                .bind(host.0)
                .bind(at)
                .fetch_optional(&mut *read)
                .await
                .context("read a minute")?;
        Ok(known.map(|(points, reports)| decoded(host, at, &points, &reports)))
    }

    /// Hosts with minutes that are in no chunk, how many, and the oldest in ms.
    ///
    /// # Errors
    /// The store failed.
    pub async fn unfolded(&self) -> Result<Vec<(HostKey, i64, i64)>> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<(i64, i64, i64)> =
            sqlx::query_as("select host_key, count(*), min(minute_ms) from history_minute group by host_key")
                .fetch_all(&mut *read)
                .await
                .context("count the minutes")?;
        Ok(rows.into_iter().map(|(host, count, oldest)| (HostKey(host), count, oldest)).collect())
    }

    /// The oldest minutes of a host that are in no chunk, and when they began.
    ///
    /// # Errors
    /// The store failed.
    pub async fn minutes_of(&self, host: HostKey, limit: i64) -> Result<Vec<(i64, Minute)>> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "select minute_ms, points, reports from history_minute where host_key = $1 order by minute_ms limit $2",
        )
        .bind(host.0)
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the minutes")?;
        Ok(rows.into_iter().map(|(at, points, reports)| (at, decoded(host, at, &points, &reports))).collect())
    }

    /// Puts minutes of a host into chunks; `additions` is what they add.
    ///
    /// # Errors
    /// The store failed; nothing was changed.
    pub async fn fold(
        &self,
        host: HostKey,
        minutes: &[(i64, Minute)],
        additions: BTreeMap<ChunkKey, Addition>,
    ) -> Result<()> {
        let names: HashMap<SeriesKey, String> =
            self.series_of(host).await?.into_iter().map(|series| (series.key, series.name)).collect();
        let mut chunks: Vec<Packed> = Vec::with_capacity(additions.len());
        for (key, addition) in additions {
            // What a host has no series for any more was pruned with it.
            let Some(name) = names.get(&key.0) else { continue };
            let known = self.chunk(key).await?;
            chunks.push((key, packed(key, name, known.as_deref(), addition)?));
            // Packing takes a while; others have their turn.
            tokio::task::yield_now().await;
        }
        let mut times: BTreeMap<SeriesKey, (i64, i64)> = BTreeMap::new();
        // What only ever said `unknown` has no values, but was there.
        let mut seen: BTreeMap<SeriesKey, i64> = BTreeMap::new();
        for (at, minute) in minutes {
            for (series, _) in &minute.reports {
                seen.insert(*series, seen.get(series).map_or(*at, |known| *at.max(known)));
            }
            for series in minute.points.keys() {
                let span = times.entry(*series).or_insert((*at, *at));
                *span = (span.0.min(*at), span.1.max(*at));
            }
        }
        // Most series of a host share theirs.
        let mut spans: BTreeMap<(i64, i64), Vec<SeriesKey>> = BTreeMap::new();
        let mut last_seen: BTreeMap<i64, Vec<SeriesKey>> = BTreeMap::new();
        for (series, at) in seen.into_iter().filter(|(series, _)| !times.contains_key(series)) {
            last_seen.entry(at).or_default().push(series);
        }
        for (series, span) in times {
            spans.entry(span).or_default().push(series);
        }
        let mut write = self.telemetry().write().await?;
        put(&mut write, &chunks).await?;
        for ((first, last), series) in spans {
            let mut update = QueryBuilder::<Any>::new("update history_series set first_ms = case when first_ms < ");
            update.push_bind(first).push(" then first_ms else ").push_bind(first);
            update.push(" end, last_ms = case when first_ms is not null and last_ms > ").push_bind(last);
            update.push(" then last_ms else ").push_bind(last).push(" end where id in (");
            among(&mut update, series.iter().map(|key| i64::from(key.0)));
            update.build().execute(&mut *write).await.context("store the times of series")?;
        }
        for (last, series) in last_seen {
            let mut update = QueryBuilder::<Any>::new("update history_series set last_ms = case when last_ms > ");
            update.push_bind(last).push(" then last_ms else ").push_bind(last);
            update.push(" end where first_ms is null and id in (");
            among(&mut update, series.iter().map(|key| i64::from(key.0)));
            update.build().execute(&mut *write).await.context("store when series were seen")?;
        }
        for part in minutes.chunks(ROWS) {
            let mut remove = QueryBuilder::<Any>::new("delete from history_minute where host_key = ");
            remove.push_bind(host.0).push(" and minute_ms in (");
            let mut list = remove.separated(", ");
            for (at, _) in part {
                list.push_bind(*at);
            }
            remove.push(")");
            remove.build().execute(&mut *write).await.context("remove folded minutes")?;
        }
        write.commit().await
    }

    async fn chunk(&self, (series, kind, from): ChunkKey) -> Result<Option<Vec<u8>>> {
        let mut read = self.telemetry().read().await?;
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("select data from history_chunk where series_id = $1 and kind = $2 and from_ms = $3")
                .bind(i64::from(series.0))
                .bind(kind.code())
                .bind(from)
                .fetch_optional(&mut *read)
                .await
                .context("read a chunk")?;
        Ok(row.map(|(data,)| data))
    }

    /// Removes chunks that ended before the times in ms, reports with the
    /// minutes, in small steps, and series of which nothing is left. Whoever
    /// knows keys of series reads them again afterwards.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_history(&self, minutes_from: i64, hours_from: i64) -> Result<u64> {
        const CHUNKS_PER_STEP: usize = 200;
        let mut removed = 0;
        for (kind, before) in [(Kind::Minutes, minutes_from), (Kind::Reports, minutes_from), (Kind::Hours, hours_from)]
        {
            let mut read = self.telemetry().read().await?;
            let old: Vec<(i64, i64)> =
                sqlx::query_as("select series_id, from_ms from history_chunk where kind = $1 and from_ms <= $2")
                    .bind(kind.code())
                    .bind(before.saturating_sub(kind.chunk()))
                    .fetch_all(&mut *read)
                    .await
                    .context("look for old chunks")?;
            drop(read);
            for step in old.chunks(CHUNKS_PER_STEP) {
                let mut write = self.telemetry().write().await?;
                for (series, from) in step {
                    sqlx::query("delete from history_chunk where series_id = $1 and kind = $2 and from_ms = $3")
                        .bind(*series)
                        .bind(kind.code())
                        .bind(*from)
                        .execute(&mut *write)
                        .await
                        .context("remove an old chunk")?;
                    removed += 1;
                }
                write.commit().await?;
            }
        }
        self.prune_series(minutes_from).await?;
        Ok(removed)
    }

    /// Removes series of which there is nothing since `from`, in ms: no chunk,
    /// and no minute that waits to be folded.
    async fn prune_series(&self, from: i64) -> Result<()> {
        let mut read = self.telemetry().read().await?;
        let empty: Vec<(i64, i64)> = sqlx::query_as(
            "select id, host_key from history_series where (last_ms is null or last_ms < $1)
             and not exists (select 1 from history_chunk where series_id = history_series.id)",
        )
        .bind(from)
        .fetch_all(&mut *read)
        .await
        .context("look for series without values")?;
        drop(read);
        let mut hosts: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for (series, host) in empty {
            hosts.entry(host).or_default().insert(series);
        }
        for (host, mut series) in hosts {
            for (_, minute) in self.minutes_of(HostKey(host), i64::MAX).await? {
                for key in minute.points.keys().chain(minute.reports.iter().map(|(key, _)| key)) {
                    series.remove(&i64::from(key.0));
                }
            }
            let series: Vec<i64> = series.into_iter().collect();
            for part in series.chunks(ROWS) {
                let mut write = self.telemetry().write().await?;
                let mut remove = QueryBuilder::<Any>::new("delete from history_series where id in (");
                among(&mut remove, part.iter().copied());
                remove.build().execute(&mut *write).await.context("remove series without values")?;
                write.commit().await?;
            }
        }
        Ok(())
    }

    /// Everything that a host has a series of, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn series_of(&self, host: HostKey) -> Result<Vec<Series>> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<SeriesRow> = sqlx::query_as(
            "select id, name, unit, first_ms, last_ms from history_series where host_key = $1 order by name",
        )
        .bind(host.0)
        .fetch_all(&mut *read)
        .await
        .context("read the series")?;
        let series = |(id, name, unit, first, last): SeriesRow| {
            let known = first.zip(last).map(|(first, last)| (Timestamp::from_ms(first), Timestamp::from_ms(last)));
            Ok(Series { key: series_key(id)?, name, unit, known })
        };
        rows.into_iter().map(series).collect()
    }

    /// The same with the minutes that are in no chunk yet, without what never
    /// had a value.
    ///
    /// # Errors
    /// The store failed.
    pub async fn metrics_of(&self, host: HostKey) -> Result<Vec<Series>> {
        let mut all = self.series_of(host).await?;
        let mut times: HashMap<SeriesKey, (i64, i64)> = HashMap::new();
        let mut read = self.telemetry().read().await?;
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("select minute_ms, points from history_minute where host_key = $1")
                .bind(host.0)
                .fetch_all(&mut *read)
                .await
                .context("read the minutes")?;
        drop(read);
        for (at, points) in rows {
            for (series, _) in roll::read_points(&points).map_err(corrupt("minute"))? {
                let span = times.entry(series).or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
        }
        all.retain_mut(|series| {
            if let Some((first, last)) = times.get(&series.key) {
                let (first, last) = (Timestamp::from_ms(*first), Timestamp::from_ms(*last));
                series.known =
                    Some(series.known.map_or((first, last), |known| (known.0.min(first), known.1.max(last))));
            }
            series.known.is_some()
        });
        Ok(all)
    }

    /// The points of a series from `from` on and before `to`, in ms, each with
    /// the time it begins. A time may come more than once: its points add up.
    ///
    /// # Errors
    /// The store failed.
    pub async fn points(
        &self,
        host: HostKey,
        series: SeriesKey,
        kind: Kind,
        from: i64,
        to: i64,
    ) -> Result<Vec<(i64, Point)>> {
        let mut points = Vec::new();
        for (chunk, from, data) in self.stored(host, series, kind, from, to, "points").await? {
            if chunk {
                let (list, _) = pack::read_points(&data, kind).map_err(corrupt("chunk"))?;
                points.extend(list.into_iter().map(|(slot, point)| (from + i64::from(slot) * kind.point(), point)));
            } else {
                let list = roll::read_points(&data).map_err(corrupt("minute"))?;
                points.extend(list.filter(|(key, _)| *key == series).map(|(_, point)| (from, point)));
            }
        }
        points.retain(|(at, _)| (from..to).contains(at));
        Ok(points)
    }

    /// When a check reported what, from `from` on and before `to`, in ms,
    /// sorted by time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn seen(&self, host: HostKey, series: SeriesKey, from: i64, to: i64) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for (chunk, from, data) in self.stored(host, series, Kind::Reports, from, to, "reports").await? {
            if chunk {
                seen.extend(pack::read_reports(&data, from).map_err(corrupt("chunk"))?);
            } else {
                let list = roll::read_reports(&data).map_err(corrupt("minute"))?;
                seen.extend(list.filter(|(key, _)| *key == series).map(|(_, seen)| seen));
            }
        }
        seen.retain(|seen| (from..to).contains(&seen.at));
        seen.sort_unstable();
        Ok(seen)
    }

    /// Chunks of a series and minutes of its host that overlap a time, in one
    /// look: between two, minutes could move from the one to the other.
    async fn stored(
        &self,
        host: HostKey,
        series: SeriesKey,
        kind: Kind,
        from: i64,
        to: i64,
        column: &'static str,
    ) -> Result<Vec<(bool, i64, Vec<u8>)>> {
        let query = match column {
            "reports" => {
                "select 1, from_ms, data from history_chunk
                 where series_id = $1 and kind = $2 and from_ms > $3 and from_ms < $4
                 union all
                 select 0, minute_ms, reports from history_minute
                 where host_key = $5 and minute_ms > $6 and minute_ms < $4"
            }
            _ => {
                "select 1, from_ms, data from history_chunk
                 where series_id = $1 and kind = $2 and from_ms > $3 and from_ms < $4
                 union all
                 select 0, minute_ms, points from history_minute
                 where host_key = $5 and minute_ms > $6 and minute_ms < $4"
            }
        };
        let mut read = self.telemetry().read().await?;
        let rows: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(query)
            .bind(i64::from(series.0))
            .bind(kind.code())
            .bind(from.saturating_sub(kind.chunk()))
            .bind(to)
            .bind(host.0)
            .bind(from.saturating_sub(crate::history::MINUTE))
            .fetch_all(&mut *read)
            .await
            .context("read a series")?;
        Ok(rows.into_iter().map(|(chunk, from, data)| (chunk == 1, from, data)).collect())
    }

    /// Reports of a check, newest first, from `before` back. Those that are
    /// beyond the retention of telemetry are gone; their status is in [`Store::seen`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn reports_of(
        &self,
        host: HostKey,
        series: SeriesKey,
        before: &super::Cursor,
        limit: i64,
    ) -> Result<Page<Committed>> {
        let mut read = self.telemetry().read().await?;
        let (oldest,): (Option<i64>,) =
            sqlx::query_as("select min(id) from report").fetch_one(&mut *read).await.context("read the reports")?;
        let days: Vec<(i64,)> = sqlx::query_as(
            "select from_ms from history_chunk where series_id = $1 and kind = $2 and from_ms <= $3
             order by from_ms desc",
        )
        .bind(i64::from(series.0))
        .bind(Kind::Reports.code())
        .bind(before.ms)
        .fetch_all(&mut *read)
        .await
        .context("read a check's days")?;
        drop(read);
        let oldest = oldest.unwrap_or(i64::MAX);
        let before_id: i64 = before.id.parse().unwrap_or(i64::MAX);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let mut found: Vec<Seen> = Vec::new();
        // What is newer than the newest chunk, then day by day.
        let mut to = before.ms.saturating_add(1);
        for from in days.into_iter().map(|(from,)| from).chain([i64::MIN / 2]) {
            let seen = self.seen(host, series, from, to).await?;
            let fits = |seen: &&Seen| seen.id >= oldest && (seen.at, seen.id) < (before.ms, before_id);
            found.extend(seen.iter().rev().filter(fits));
            to = from;
            if found.len() >= wanted {
                break;
            }
        }
        found.truncate(wanted);
        let rows = self.reports_by_id(&found.iter().map(|seen| seen.id).collect::<Vec<_>>()).await?;
        let items: Vec<Committed> = found.iter().filter_map(|seen| rows.get(&seen.id).cloned()).collect();
        Ok(Page::cut(items, limit, |item| (item.report.observed_at, item.id.to_string())))
    }

    async fn reports_by_id(&self, ids: &[i64]) -> Result<HashMap<i64, Committed>> {
        let mut read = self.telemetry().read().await?;
        let mut found = HashMap::with_capacity(ids.len());
        for part in ids.chunks(ROWS) {
            let mut select = QueryBuilder::<Any>::new(
                "select id, host_key, check_id, status, value, unit, text, cause, observed_ms from report where id in (",
            );
            let mut list = select.separated(", ");
            for id in part {
                list.push_bind(*id);
            }
            select.push(")");
            let rows: Vec<AnyRow> = select.build().fetch_all(&mut *read).await.context("read the reports")?;
            for row in &rows {
                let report = super::bulk::committed(row)?;
                found.insert(report.id, report);
            }
        }
        Ok(found)
    }

    /// The series of a check; none where it never reported.
    ///
    /// # Errors
    /// The store failed.
    pub async fn series_of_check(&self, host: HostKey, check: &CheckId) -> Result<Option<SeriesKey>> {
        let mut read = self.telemetry().read().await?;
        let row: Option<(i64,)> = sqlx::query_as("select id from history_series where host_key = $1 and name = $2")
            .bind(host.0)
            .bind(format!("{CHECK}{check}"))
            .fetch_optional(&mut *read)
            .await
            .context("read a series")?;
        row.map(|(id,)| series_key(id)).transpose()
    }

    /// Stores whole chunks of points beside the rolling up, for measurements.
    ///
    /// # Errors
    /// The store failed.
    pub async fn put_points(&self, chunks: &[(ChunkKey, Vec<u8>)]) -> Result<()> {
        let mut write = self.telemetry().write().await?;
        put(&mut write, chunks).await?;
        write.commit().await
    }
}

/// The rest of `in (`.
fn among(query: &mut QueryBuilder<Any>, keys: impl Iterator<Item = i64>) {
    let mut list = query.separated(", ");
    for key in keys {
        list.push_bind(key);
    }
    query.push(")");
}

async fn cursor(connection: &mut AnyConnection) -> Result<(i64, i64)> {
    sqlx::query_as("select batch, report from history_cursor where id = 1")
        .fetch_one(connection)
        .await
        .context("read the cursor of the history")
}

async fn put(connection: &mut AnyConnection, chunks: &[Packed]) -> Result<()> {
    for rows in chunks.chunks(ROWS) {
        let mut upsert = QueryBuilder::<Any>::new("insert into history_chunk (series_id, kind, from_ms, data) ");
        upsert.push_values(rows, |mut row, ((series, kind, from), data)| {
            row.push_bind(i64::from(series.0)).push_bind(kind.code()).push_bind(*from).push_bind(data.clone());
        });
        upsert.push(" on conflict (series_id, kind, from_ms) do update set data = excluded.data");
        upsert.build().execute(&mut *connection).await.context("store chunks")?;
    }
    Ok(())
}

/// A minute as it is stored. One that cannot be read is lost already; it must
/// not keep all that comes after it, of every host, from the history.
fn decoded(host: HostKey, at: i64, points: &[u8], reports: &[u8]) -> Minute {
    Minute::decode(points, reports).unwrap_or_else(|error| {
        tracing::error!(host.key = host.0, minute_ms = at, "a minute of the history is lost and begun anew: {error}");
        Minute::default()
    })
}

/// A chunk with what was added. One that cannot be read is lost already; it
/// must not keep all that comes after it from being stored.
fn packed((_, kind, from): ChunkKey, name: &str, known: Option<&[u8]>, addition: Addition) -> Result<Vec<u8>> {
    let lost = |error: Unreadable| {
        tracing::error!(series = name, from_ms = from, "a chunk of the history is lost and begun anew: {error}");
    };
    let packed = match addition {
        Addition::Points(points) => {
            let known = known.and_then(|data| pack::read_points(data, kind).map_err(lost).ok());
            let (list, grain) = known.unwrap_or_else(|| (Vec::new(), crate::history::metric::grain(name)));
            let mut all: BTreeMap<u32, Point> = list.into_iter().collect();
            for (slot, point) in points {
                all.entry(slot).and_modify(|known| known.merge(&point)).or_insert(point);
            }
            pack::points(&all.into_iter().collect::<Vec<_>>(), grain)
        }
        Addition::Reports(reports) => {
            let known = known.and_then(|data| pack::read_reports(data, from).map_err(lost).ok());
            let mut all = known.unwrap_or_default();
            all.extend(reports);
            all.sort_unstable();
            pack::reports(&all, from)
        }
    };
    packed.map_err(corrupt("chunk"))
}

fn series_key(id: i64) -> Result<SeriesKey> {
    u32::try_from(id).map(SeriesKey).map_err(|_| Error::Corrupt { what: "series", value: id.to_string() })
}

fn corrupt(what: &'static str) -> impl Fn(Unreadable) -> Error {
    move |error| Error::Corrupt { what, value: error.to_string() }
}
