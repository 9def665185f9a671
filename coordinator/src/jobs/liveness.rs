//! An agent's silence is a report of its own, made here.

use std::{collections::HashMap, time::Duration};

use farol_protocol::{Report, Status, Timestamp};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    correlate::{self, CLOCK, SILENCE, TELEMETRY},
    error::Result,
    fleet::own_reports,
    store::{
        bulk::Bulk,
        hosts::{Enrolment, HostKey, HostRow},
    },
    text::Message,
};

pub(super) async fn run(app: App, stop: CancellationToken) {
    let after = app.watched().registry.silence.after;
    let every = (after / 10).clamp(Duration::from_millis(200), Duration::from_secs(5));
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = pass(&app, &mut said).await {
            tracing::warn!(job = "liveness", "a pass failed, the next one tries again: {error}");
        }
    }
}

/// What was said last about a host's check.
type Said = HashMap<(HostKey, &'static str), Status>;

async fn pass(app: &App, said: &mut Said) -> Result<()> {
    let now = Timestamp::now();
    for host in app.store.hosts().await? {
        if host.enrolment != Enrolment::Enrolled {
            said.retain(|(known, _), _| *known != host.key);
            continue;
        }
        let mut reports = Vec::new();
        if let Some(status) = judge(app, &host, now)
            && said.insert((host.key, SILENCE), status) != Some(status)
        {
            reports.push(report(app, &host, status, now));
        }
        reports.extend(of_line(app, &host, said, now));
        if reports.is_empty() {
            continue;
        }
        // Only the coordinator's stop makes the writer refuse.
        if app.bulk.send(Bulk::Own { host: host.key, reports, at: now }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What is news about lost batches and the host's clock. A loss itself is
/// reported with the batch that tells it.
fn of_line(app: &App, host: &HostRow, said: &mut Said, now: Timestamp) -> Vec<Report> {
    let online = app.fleet.online(host.key);
    let last = |check| app.board.get(&(host.key, check));
    let skew_ms = app.fleet.clock_skew(host.key).filter(|_| online);
    let verdicts = [
        (TELEMETRY, own_reports::calm(last(correlate::telemetry()).as_ref(), online, now)),
        (CLOCK, skew_ms.and_then(|skew_ms| own_reports::clock(last(correlate::clock()).as_ref(), skew_ms))),
    ];
    let mut reports = Vec::new();
    for (check, verdict) in verdicts {
        let Some(status) = verdict else {
            said.remove(&(host.key, check));
            continue;
        };
        if said.insert((host.key, check), status) == Some(status) {
            continue;
        }
        reports.push(if check == TELEMETRY {
            own_reports::calmed(&host.name, app.language(), now)
        } else {
            own_reports::clocked(&host.name, status, skew_ms.unwrap_or(0), app.language(), now)
        });
    }
    reports
}

/// `None` while nothing can be said yet: a coordinator that has just started
/// gives every agent the whole time again.
fn judge(app: &App, host: &HostRow, now: Timestamp) -> Option<Status> {
    if app.present(host, now) {
        return Some(Status::Ok);
    }
    let since = last_sign(app, host);
    let limit = i64::try_from(app.watched().registry.silence.after.as_millis()).unwrap_or(i64::MAX);
    (now.since(since) > limit).then_some(Status::Critical)
}

fn last_sign(app: &App, host: &HostRow) -> Timestamp {
    let signs = [app.fleet.last_seen(host.key), host.enrolled_at, Some(app.started_at)];
    signs.into_iter().flatten().max().unwrap_or(app.started_at)
}

#[expect(clippy::cast_precision_loss, reason = "seconds of silence stay far below 53 bits")]
fn report(app: &App, host: &HostRow, status: Status, now: Timestamp) -> Report {
    let silent_ms = now.since(last_sign(app, host)).max(0);
    let text = if status == Status::Ok {
        Message::AgentBack { host: &host.name, silent_ms }
    } else {
        Message::AgentSilent {
            host: &host.name,
            last_seen: app.fleet.last_seen(host.key).or(host.last_seen),
            silent_ms,
        }
    };
    Report {
        check: crate::correlate::silence(),
        status,
        value: Some(if status == Status::Ok { 0.0 } else { (silent_ms / 1000) as f64 }),
        unit: Some("s".to_owned()),
        text: text.in_words(app.language()),
        observed_at: now,
        cause: None,
    }
}
