//! Reviews what checks of journals, units and containers said in the last day.

use std::cmp::Ordering;

use farol_protocol::{
    Report, Status, Timestamp,
    registry::{Check, Target},
    report::Probe,
};

use super::{
    DAY,
    facts::{HostLogs, LogCheck, LogReview},
    gather::is_about,
};
use crate::{
    app::Shared,
    error::Result,
    history::{Kind, roll},
    store::{
        Cursor,
        hosts::{Enrolment, HostKey, SITE_PREFIX},
    },
    text::plain,
};

/// Longest sample, in characters.
const SAMPLE: usize = 240;
/// Reports around the worst minute that are looked at.
const AROUND: i64 = 200;
const MINUTE: i64 = 60_000;

/// What the last day's logs held, as far as checks looked.
///
/// # Errors
/// The store failed.
pub async fn review(app: &Shared, now: Timestamp) -> Result<LogReview> {
    let since = now.plus_ms(-DAY);
    let watched = app.watched();
    let mut rows = app.store.hosts().await?;
    rows.retain(|host| host.enrolment != Enrolment::Revoked && !host.name.starts_with(SITE_PREFIX));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut hosts, mut not_looked_at) = (Vec::new(), Vec::new());
    for host in rows {
        let mut checks = Vec::new();
        let scenarios = watched.registry.scenarios.iter().filter(|scenario| is_about(scenario, &host));
        for check in scenarios.flat_map(|scenario| &scenario.checks) {
            if let Some(kind) = kind(check) {
                checks.push(look(app, host.key, check, kind, (since, now)).await?);
            }
        }
        if checks.is_empty() {
            not_looked_at.push(host.name);
        } else {
            hosts.push(HostLogs { host: host.name, checks });
        }
    }
    Ok(LogReview { since, until: now, hosts, not_looked_at })
}

/// What a check looks at, where that tells of errors.
fn kind(check: &Check) -> Option<&'static str> {
    let Target::Ready(spec) = &check.target else { return None };
    match &spec.probe {
        Probe::Journal(_) => Some("journal"),
        Probe::Container(_) => Some("container"),
        Probe::Containers(_) => Some("containers"),
        Probe::Unit(_) => Some("unit"),
        Probe::Units(_) => Some("units"),
        _ => None,
    }
}

async fn look(
    app: &Shared,
    host: HostKey,
    Check { id: check, target, .. }: &Check,
    kind: &'static str,
    (since, until): (Timestamp, Timestamp),
) -> Result<LogCheck> {
    let mut found = LogCheck {
        check: check.to_string(),
        kind,
        expected: DAY.unsigned_abs().checked_div(target.every_ms()).unwrap_or(0),
        reports: 0,
        bad: 0,
        unknown: 0,
        most: None,
        unit: None,
        at: None,
        sample: None,
    };
    let Some(series) = app.store.series_of_check(host, check).await? else { return Ok(found) };
    let (from, to) = (since.as_ms(), until.as_ms());
    let (mut last_bad, mut last_unknown) = (None, None);
    for seen in app.store.seen(host, series, from, to).await? {
        found.reports += 1;
        match roll::status(seen.status) {
            Status::Ok => {}
            Status::Unknown => {
                found.unknown += 1;
                last_unknown = Some(seen);
            }
            Status::Warning | Status::Critical => {
                found.bad += 1;
                last_bad = Some(seen.at);
            }
        }
    }
    let points = app.store.points(host, series, Kind::Minutes, from, to).await?;
    let peak = points.into_iter().max_by(|a, b| a.1.max.total_cmp(&b.1.max));
    found.most = peak.map(|(_, point)| point.max);
    // A journal is worst where it held most; elsewhere the value says less than the status.
    let worst = if kind == "journal" { peak.map(|(at, _)| at) } else { last_bad.map(|at| at - at.rem_euclid(MINUTE)) };
    if let Some(minute) = worst.filter(|_| found.found()) {
        let before = Cursor { ms: minute + MINUTE - 1, id: i64::MAX.to_string() };
        let page = app.store.reports_of(host, series, &before, AROUND).await?;
        let around = page.items.into_iter().map(|row| row.report).filter(|report| report.observed_at.as_ms() >= minute);
        if let Some(report) = around.max_by(by_weight) {
            found.at = Some(report.observed_at);
            found.unit = report.unit;
            found.sample = Some(plain(&report.text, SAMPLE)).filter(|text| !text.is_empty());
        } else {
            found.at = Some(Timestamp::from_ms(minute));
        }
    } else if let Some(seen) = last_unknown {
        let before = Cursor { ms: seen.at, id: seen.id.saturating_add(1).to_string() };
        let page = app.store.reports_of(host, series, &before, 1).await?;
        let last = page.items.into_iter().next().map(|row| plain(&row.report.text, SAMPLE));
        found.sample = last.filter(|text| !text.is_empty());
    }
    Ok(found)
}

/// The worst report of a minute is a bad one, then the one that measured most.
fn by_weight(a: &Report, b: &Report) -> Ordering {
    let is_bad = |report: &Report| matches!(report.status, Status::Warning | Status::Critical);
    let value = |report: &Report| report.value.unwrap_or(0.0);
    is_bad(a).cmp(&is_bad(b)).then(value(a).total_cmp(&value(b)))
}
