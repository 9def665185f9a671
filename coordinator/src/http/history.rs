//! What hosts and checks showed over time.

use axum::{Json, extract::State};
use farol_protocol::{CheckId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Limit, List, Query, Segment, Start},
    hosts::{ReportView, report},
    problem::{Answer, ApiError},
};
use crate::{
    app::{App, Shared},
    history::{
        DAY, metric,
        query::{Plan, Step},
        roll::SeriesKey,
        spans::spans,
    },
    store::hosts::HostRow,
};

/// Time asked for unless said otherwise: a day.
const USUAL: i64 = DAY;

/// A metric that a host has values of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetricView {
    /// Its name, such as `cpu`, `disk.used_percent:/var` or `check:disk.root`.
    #[schema(example = "disk.used_percent:/var")]
    name: String,
    /// `%`, `bytes`, `bytes/s`, `load`, `s`, or what the check says; null where it says nothing.
    unit: Option<String>,
    /// Its first value, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    first_at: Option<Timestamp>,
    /// Its last value, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_at: Option<Timestamp>,
}

/// Metrics of a host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetricsView {
    #[serde(flatten)]
    list: List<MetricView>,
    /// How many more it sent that are not kept, since it has 1,000 already.
    dropped: usize,
}

/// Which page of the metrics.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsQuery {
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Metrics of a host, by name
#[utoipa::path(get, path = "/api/v1/hosts/{host}/metrics", tag = "history", operation_id = "host_metrics",
    params(("host" = String, Path, description = "Its id or name"), MetricsQuery),
    responses((status = 200, body = MetricsView)))]
pub(super) async fn metrics(
    State(app): State<App>,
    Segment(host): Segment<String>,
    Query(query): Query<MetricsQuery>,
) -> Answer<MetricsView> {
    let row = app.store.host(&host).await?;
    let items = app.store.metrics_of(row.key).await?.into_iter().map(|series| MetricView {
        name: series.name,
        unit: series.unit,
        first_at: series.known.map(|(first, _)| first),
        last_at: series.known.map(|(_, last)| last),
    });
    let items = items.collect();
    let list = List::cut(items, query.cursor.as_deref(), query.limit, |item: &MetricView| item.name.as_str());
    Ok(Json(MetricsView { list, dropped: app.store.dropped.of(row.key) }))
}

/// Which series, from when to when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SeriesQuery {
    /// Its name, as `…/metrics` lists it.
    metric: String,
    /// A day before `to` unless said otherwise.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Now unless said otherwise.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Time a point covers: `1m`, `5m`, `1h`, `1d`, or `auto`, the finest that gives at most 2048 points.
    #[serde(default, deserialize_with = "step")]
    #[param(value_type = Option<String>)]
    step: Step,
}

fn step<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Step, D::Error> {
    String::deserialize(text)?.parse().map_err(serde::de::Error::custom)
}

/// Begin in ms since 1970 in UTC, minimum, mean, maximum, number of values.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!([1_763_640_000_000_i64, 3.1, 4.2, 9.9, 6]))]
pub(super) struct PointView(i64, f64, f64, f64, u64);

/// A time without values.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GapView {
    /// Where it begins.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Where it ends.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
}

/// A series.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SeriesView {
    /// The host's name.
    host: String,
    /// The metric's name.
    metric: String,
    /// Its unit; null where it has none.
    unit: Option<String>,
    /// From this whole step on.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Up to the end of this whole step.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Time that each point covers: `1m`, `5m`, `1h`, `1d`; days are those of UTC.
    step: &'static str,
    /// Oldest first. A time without values has no point.
    points: Vec<PointView>,
    /// Where values are missing, oldest first.
    gaps: Vec<GapView>,
}

/// A series of a host
///
/// Points that cover less than an hour exist for the last 30 days, others for
/// two years, or as `FAROL_HISTORY_MINUTES` and `FAROL_HISTORY_HOURS` say.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/series", tag = "history", operation_id = "host_series",
    params(("host" = String, Path, description = "Its id or name"), SeriesQuery),
    responses((status = 200, body = SeriesView)))]
pub(super) async fn series(
    State(app): State<App>,
    Segment(host): Segment<String>,
    Query(query): Query<SeriesQuery>,
) -> Answer<SeriesView> {
    let row = app.store.host(&host).await?;
    let now = Timestamp::now();
    let (from, to) = asked(query.from, query.to, now);
    let plan = Plan::new(from, to, query.step, app.config.history.from(now).0).map_err(ApiError::invalid_query)?;
    let all = app.store.series_of(row.key).await?;
    let Some(series) = all.iter().find(|series| series.name == query.metric) else {
        let names = all.iter().map(|series| series.name.as_str());
        return Err(unknown("metric", &row, &query.metric, names));
    };
    let points = app.store.points(row.key, series.key, plan.kind, plan.from, plan.to).await?;
    let answer = plan.answer(points);
    let gaps = plan.gaps(&answer, now.as_ms()).into_iter();
    Ok(Json(SeriesView {
        host: row.name,
        metric: query.metric,
        unit: series.unit.clone(),
        from: Timestamp::from_ms(plan.from),
        to: Timestamp::from_ms(plan.to),
        step: plan.step_name(),
        gaps: gaps.map(|(from, to)| GapView { from: Timestamp::from_ms(from), to: Timestamp::from_ms(to) }).collect(),
        points: answer
            .into_iter()
            .map(|(at, point)| PointView(at, point.min, point.mean, point.max, point.count))
            .collect(),
    }))
}

fn asked(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> (i64, i64) {
    let to = to.unwrap_or(now);
    (from.unwrap_or_else(|| to.plus_ms(-USUAL)).as_ms(), to.as_ms())
}

/// Which check, and which page of its reports. Ids of checks have slashes, so
/// they are no part of the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportsQuery {
    /// The check's id, such as `disk.root` or `portal/answers`.
    #[param(value_type = String)]
    check: CheckId,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

/// Reports of a check, newest first
///
/// As far back as telemetry is kept (`FAROL_RETENTION`); `…/history` says for
/// longer what it said when.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/reports", tag = "history", operation_id = "host_reports",
    params(("host" = String, Path, description = "Its id or name"), ReportsQuery),
    responses((status = 200, body = List<ReportView>)))]
pub(super) async fn reports(
    State(app): State<App>,
    Segment(host): Segment<String>,
    Query(query): Query<ReportsQuery>,
) -> Answer<List<ReportView>> {
    let row = app.store.host(&host).await?;
    let series = check(&app, &row, &query.check).await?;
    let page = app.store.reports_of(row.key, series, &query.cursor.0, query.limit.0).await?;
    Ok(Json(List::of(page, |committed| report(committed.report))))
}

/// Which check, from when to when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// The check's id, such as `disk.root` or `portal/answers`.
    #[param(value_type = String)]
    check: CheckId,
    /// A day before `to` unless said otherwise.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Now unless said otherwise.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// A time in which a check said the same.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SpanView {
    /// `ok`, `warning`, `critical`, `unknown`.
    status: &'static str,
    /// When it said so first.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// When it said otherwise, or stopped saying anything; null for what it says still.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// When it said so last.
    #[schema(value_type = String, format = DateTime)]
    last_at: Timestamp,
    /// How often it said so.
    reports: u64,
}

/// What a check said from when to when.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryView {
    /// The host's name.
    host: String,
    /// The check.
    check: String,
    /// From here on.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Up to here.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Oldest first. Between the end of one and the beginning of the next
    /// nothing is known.
    spans: Vec<SpanView>,
}

/// Longest time asked for at once.
const LONGEST: i64 = 62 * DAY;

/// What a check said from when to when
///
/// As far back as points of minutes are kept.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/history", tag = "history", operation_id = "host_history",
    params(("host" = String, Path, description = "Its id or name"), HistoryQuery),
    responses((status = 200, body = HistoryView)))]
pub(super) async fn history(
    State(app): State<App>,
    Segment(host): Segment<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<HistoryView> {
    let row = app.store.host(&host).await?;
    let now = Timestamp::now();
    let (from, to) = asked(query.from, query.to, now);
    if !(1..=LONGEST).contains(&(to.saturating_sub(from))) {
        return Err(ApiError::invalid_query("`from` to `to` is not a time of at most 62 days"));
    }
    let series = check(&app, &row, &query.check).await?;
    let seen = app.store.seen(row.key, series, from, to).await?;
    let spans = spans(&seen, interval(&app, &query.check), now.as_ms().min(to)).into_iter();
    Ok(Json(HistoryView {
        host: row.name,
        check: query.check.to_string(),
        from: Timestamp::from_ms(from),
        to: Timestamp::from_ms(to),
        spans: spans
            .map(|span| SpanView {
                status: span.status.as_str(),
                from: Timestamp::from_ms(span.from),
                until: span.until.map(Timestamp::from_ms),
                last_at: Timestamp::from_ms(span.last),
                reports: span.reports,
            })
            .collect(),
    }))
}

/// How often a check is to report, in ms; none for what is reported when it
/// changes, or is in the registry no more.
fn interval(app: &Shared, check: &CheckId) -> Option<i64> {
    let watched = app.watched();
    let mut checks = watched.registry.scenarios.iter().flat_map(|scenario| &scenario.checks);
    let known = checks.find(|known| known.id == *check)?;
    i64::try_from(known.target.every_ms()).ok()
}

async fn check(app: &Shared, host: &HostRow, check: &CheckId) -> Result<SeriesKey, ApiError> {
    if let Some(series) = app.store.series_of_check(host.key, check).await? {
        return Ok(series);
    }
    let all = app.store.series_of(host.key).await?;
    let names = all.iter().filter_map(|series| series.name.strip_prefix(metric::CHECK));
    Err(unknown("check", host, check.as_str(), names))
}

/// Most names that are offered instead of one that is not known.
const OFFERED: usize = 3;

/// Says which names are near to one that is not known.
fn unknown<'a>(what: &str, host: &HostRow, name: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let mut near: Vec<(f64, &str)> = known.map(|known| (strsim::jaro_winkler(known, name), known)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let near: Vec<String> = near.iter().take(OFFERED).map(|(_, name)| format!("`{name}`")).collect();
    let advice = if near.is_empty() {
        "nothing of that kind came from it yet".to_owned()
    } else {
        format!("the nearest are {}", near.join(", "))
    };
    let name = crate::text::plain(name, 200);
    ApiError::of(404, "not_found", format!("{} has no {what} called `{name}`; {advice}", host.name))
}
