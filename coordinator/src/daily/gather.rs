//! Reads what the summary of a day is made of.

use std::collections::HashMap;

use farol_protocol::{
    Report, Status, Timestamp,
    registry::{Check, Scenario, Target},
    report::Probe,
};

use super::{
    DAY, Day,
    facts::{DailyCertificate, DailyFacts, DailyProblem, Ending, SilentHost, Waiting},
};
use crate::{
    action::State,
    app::Shared,
    error::Result,
    quiet::{Place, Scope},
    remediation,
    store::{
        Cursor,
        findings::FindingRow,
        hosts::{Enrolment, HostKey, HostRow},
        serde_word,
    },
    text::{Course, QuietReason},
};

/// Actions that are looked at.
const ACTIONS: i64 = 200;
/// From so many days on a certificate ends soon.
const SOON: f64 = 21.0;

/// What there is to say at `now` on this day.
///
/// # Errors
/// The store failed.
pub async fn gather(app: &Shared, day: &Day, now: Timestamp) -> Result<DailyFacts> {
    let since = now.plus_ms(-DAY);
    let hosts = app.store.hosts().await?;
    let names: HashMap<HostKey, &str> = hosts.iter().map(|host| (host.key, host.name.as_str())).collect();
    let rows = app.store.findings_since(since).await?;
    let [open, suppressed, resolved] = problems(app, &rows, &names)?;
    let (certificates, unknown_checks) = checks(app, &hosts, now);
    Ok(DailyFacts {
        date: day.date.to_string(),
        since,
        now,
        open,
        suppressed,
        resolved,
        waiting: waiting(app, &names).await?,
        ending: ending(app, day, now).await?,
        silent: silent(app, &hosts, now),
        certificates,
        unknown_checks,
    })
}

/// Those that are open, kept quiet and resolved.
fn problems(app: &Shared, rows: &[FindingRow], names: &HashMap<HostKey, &str>) -> Result<[Vec<DailyProblem>; 3]> {
    let [mut open, mut suppressed, mut resolved] = [const { Vec::new() }; 3];
    let host = |row: &FindingRow| names.get(&row.host()).map_or_else(String::new, |name| (*name).to_owned());
    let by_id: HashMap<&str, &FindingRow> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
    for row in rows {
        let cause = row.hidden_by.as_deref().or(row.joined_id.as_deref()).and_then(|id| by_id.get(id));
        let cause = cause.map(|cause| (cause.title.clone(), host(cause)));
        let problem = DailyProblem {
            id: row.id.clone(),
            severity: serde_word("severity", &row.severity)?,
            host: host(row),
            title: row.title.clone(),
            opened_at: row.opened_at(),
            resolved_at: row.resolved_at(),
            acknowledged_by: row.acknowledged_by.clone(),
            why: why(app, row, cause.as_ref().map(|(title, host)| (title.as_str(), host.as_str()))),
        };
        match row.state.as_str() {
            "resolved" => resolved.push(problem),
            "suppressed" => suppressed.push(problem),
            _ => open.push(problem),
        }
    }
    for list in [&mut open, &mut suppressed] {
        list.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.opened_at.cmp(&b.opened_at)).then(a.id.cmp(&b.id)));
    }
    resolved.sort_by(|a, b| b.resolved_at.cmp(&a.resolved_at).then(a.id.cmp(&b.id)));
    Ok([open, suppressed, resolved])
}

/// Why nobody is told of it; the window's own words where it is in force.
fn why(app: &Shared, row: &FindingRow, cause: Option<(&str, &str)>) -> Option<String> {
    if row.state == "resolved" {
        return None;
    }
    let language = app.language();
    let window = || {
        let id = row.hidden_by.as_deref()?;
        app.quiet.in_force().into_iter().find(|one| one.quiet.id == id).map(|one| one.why)
    };
    match row.hidden_kind.as_deref() {
        Some("silence") => Some(window().unwrap_or_else(|| Course::Silenced.in_words(language))),
        Some("maintenance") => Some(window().unwrap_or_else(|| Course::InMaintenance.in_words(language))),
        Some("backup") => Some(window().unwrap_or_else(|| Course::InBackup.in_words(language))),
        Some("cause") => cause.map(|(title, host)| Course::Caused { title, host }.in_words(language)),
        _ if row.joined_id.is_some() => cause.map(|(_, host)| Course::Joined { host }.in_words(language)),
        _ => None,
    }
}

async fn waiting(app: &Shared, names: &HashMap<HostKey, &str>) -> Result<Vec<Waiting>> {
    let page = app.store.actions(Some(State::Proposed), &Cursor::start(), ACTIONS).await?;
    let mut rows = page.items;
    rows.sort_by_key(|row| row.issued_at);
    let view = |row: &crate::store::actions::ActionRow| Waiting {
        action_id: row.id.to_string(),
        what: remediation::in_words(app, row),
        host: names.get(&row.host).map_or_else(String::new, |name| (*name).to_owned()),
        risk_class: row.class.as_str(),
        expires_at: row.expires_at,
    };
    Ok(rows.iter().map(view).collect())
}

/// Silences and windows that end before the day does.
async fn ending(app: &Shared, day: &Day, now: Timestamp) -> Result<Vec<Ending>> {
    let language = app.language();
    let places = app.store.places().await?;
    let mut list = Vec::new();
    for silence in app.store.silences_in_force(now).await? {
        if silence.until < day.ends {
            let reason =
                QuietReason::Silence { by: &silence.created_by, until: silence.until, comment: &silence.comment };
            list.push(Ending {
                id: format!("silence/{}", silence.id),
                until: silence.until,
                summary: about(&reason.in_words(language), &silence.scope, &places),
            });
        }
    }
    for maintenance in app.store.maintenance_enabled().await? {
        // One that comes twice a day is named for its next end.
        let span = maintenance.window().and_then(|window| window.spans(now).next());
        if let Some(span) = span.filter(|span| span.to < day.ends) {
            let reason = QuietReason::Maintenance { name: &maintenance.plan.name, until: span.to };
            list.push(Ending {
                id: format!("maintenance/{}", maintenance.id),
                until: span.to,
                summary: about(&reason.in_words(language), &maintenance.plan.scope, &places),
            });
        }
    }
    list.sort_by(|a, b| a.until.cmp(&b.until).then(a.id.cmp(&b.id)));
    Ok(list)
}

/// A reason with what it covers.
fn about(reason: &str, scope: &Scope, places: &[Place]) -> String {
    let hosts =
        scope.hosts.iter().map(|id| places.iter().find(|place| place.id == *id).map_or(id, |place| &place.name));
    let mut covers: Vec<&str> = hosts.chain(&scope.sites).chain(&scope.scenario).map(String::as_str).collect();
    covers.extend(scope.check.as_ref().map(farol_protocol::CheckId::as_str));
    if covers.is_empty() { reason.to_owned() } else { format!("{reason} ({})", covers.join(", ")) }
}

fn silent(app: &Shared, hosts: &[HostRow], now: Timestamp) -> Vec<SilentHost> {
    let mut silent: Vec<SilentHost> = hosts
        .iter()
        .filter(|host| host.enrolment == Enrolment::Enrolled && !app.present(host, now))
        .map(|host| SilentHost { host: host.name.clone(), last_seen: app.fleet.last_seen(host.key).or(host.last_seen) })
        .collect();
    silent.sort_by(|a, b| a.host.cmp(&b.host));
    silent
}

/// Certificates that end soon, and how many checks nothing is known of.
fn checks(app: &Shared, hosts: &[HostRow], now: Timestamp) -> (Vec<DailyCertificate>, u64) {
    let watched = app.watched();
    let (mut certificates, mut unknown) = (Vec::new(), 0);
    let each = watched
        .registry
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.checks.iter().map(move |check| (scenario, check)));
    for (scenario, check) in each {
        for host in hosts.iter().filter(|host| is_about(scenario, host)) {
            let report = app.board.get(&(host.key, check.id.clone()));
            unknown += u64::from(!is_known(check, report.as_ref(), now));
            let is_certificate =
                matches!(&check.target, Target::Ready(spec) if matches!(spec.probe, Probe::Certificate(_)));
            let days = report.and_then(|report| report.value).filter(|days| is_certificate && *days <= SOON);
            if let Some(days) = days {
                certificates.push(DailyCertificate { host: host.name.clone(), check: check.id.to_string(), days });
            }
        }
    }
    certificates.sort_by(|a, b| a.days.total_cmp(&b.days).then_with(|| a.check.cmp(&b.check)));
    (certificates, unknown)
}

/// Whether a scenario's checks report on a host.
pub(super) fn is_about(scenario: &Scenario, host: &HostRow) -> bool {
    match &scenario.hosts {
        Some(names) => names.contains(&host.name),
        None => host.enrolment == Enrolment::Enrolled,
    }
}

/// Whether a check could look, and did so lately.
fn is_known(check: &Check, report: Option<&Report>, now: Timestamp) -> bool {
    let patience = i64::try_from(check.target.every_ms()).unwrap_or(i64::MAX).saturating_mul(3).saturating_add(60_000);
    !matches!(check.target, Target::Missing { .. })
        && report.is_some_and(|report| report.status != Status::Unknown && now.since(report.observed_at) <= patience)
}
