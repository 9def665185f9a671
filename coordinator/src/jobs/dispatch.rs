//! Hands approved actions to their hosts, one at a time each, and ends those
//! whose time has passed.

use std::collections::HashSet;

use farol_protocol::{
    Timestamp,
    action::{FinalState, ReasonCode},
    registry::Persona,
};

use crate::{
    action::{Event, State},
    app::App,
    error::Result,
    events::Noun,
    fleet::Handed,
    remediation,
    store::{
        actions::{ActionRow, Step},
        hosts::Enrolment,
    },
    text::Message,
};

/// After its expiry and its time limit, a host that is gone for this long does
/// not come back with an outcome.
const HOST_LOST_MS: i64 = 24 * 3600 * 1000;

/// After its expiry and its time limit, a host that is there has told the
/// outcome by now.
const ANSWER_LIMIT_MS: i64 = 600 * 1000;
/// Wait before an order that came back is handed over again.
const RETURNED_WAIT_MS: i64 = 2_000;

pub(super) async fn pass(app: App) -> Result<()> {
    let now = Timestamp::now();
    let mut hosts = HashSet::new();
    for row in app.store.open_actions().await? {
        match row.state {
            State::Proposed | State::Approved | State::Queued if row.expires_at <= now => {
                expire(&app, &row, now).await?
            }
            // A crash between the two steps of an approval cannot be: they are
            // one transaction. This keeps it so for whatever writes later.
            State::Approved => {
                app.store.step(row.id, &Step::new(Event::Queue, "farol"), now).await?;
                hosts.insert(row.host);
            }
            State::Queued | State::Sent | State::Accepted if !lost(&app, &row, now).await? => {
                hosts.insert(row.host);
            }
            _ => {}
        }
    }
    for host in hosts.into_iter().filter(|host| app.fleet.online(*host)) {
        if let Some(row) = app.store.next_order(host).await? {
            hand(&app, row, now).await?;
        }
    }
    Ok(())
}

async fn hand(app: &App, mut row: ActionRow, now: Timestamp) -> Result<()> {
    let fresh = row.state == State::Queued;
    if !fresh && app.fleet.has_order(row.host, row.id) {
        return Ok(());
    }
    let host = app.store.host_by_key(row.host).await?;
    // An agent refuses what has expired; a peer that cannot is not asked.
    if row.expires_at <= now && host.protocol == Some(0) {
        return Ok(());
    }
    if fresh {
        // The host may have changed since the approval: then it waits.
        if let Err(why) = remediation::may_leave(&row, &host) {
            tracing::debug!(action_id = %row.id, "an order waits: {why}");
            return Ok(());
        }
        if row.reason_code.is_none() && row.detail.is_some() && now.since(row.updated_at) < RETURNED_WAIT_MS {
            return Ok(());
        }
        // Written before it is sent: what may have reached the host is known.
        let stepped = app.store.step(row.id, &Step::new(Event::Send, "farol"), now).await?;
        if !stepped.moved() {
            return Ok(());
        }
        row = stepped.row().clone();
        app.events.publish(Noun::Action, row.id.to_string(), State::Sent.as_str());
    }
    // Before the order, so that the host refuses what it has not begun.
    if row.cancel_requested && !app.fleet.cancel(row.host, row.id) {
        return Ok(());
    }
    match app.fleet.hand(&row) {
        Handed::Now => {
            let session_id = app.fleet.session(row.host).map(|session| session.to_string());
            tracing::info!(agent_id = host.id.as_str(), session_id, action_id = %row.id, "an order was sent");
        }
        Handed::Before => {}
        // It stays `sent` and goes out under the same id when the host is back.
        Handed::NotNow => tracing::info!(action_id = %row.id, "an order waits for its host's connection"),
        Handed::Never => {
            let step = Step {
                reason: Some(ReasonCode::InvalidPlan),
                detail: Some("the host's agent has no such order"),
                ..Step::new(Event::Finish(FinalState::Refused), "farol")
            };
            let stepped = app.store.step(row.id, &step, now).await?;
            app.events.publish(Noun::Action, row.id.to_string(), stepped.row().state.as_str());
        }
    }
    Ok(())
}

async fn expire(app: &App, row: &ActionRow, now: Timestamp) -> Result<()> {
    let host = app.store.host_by_key(row.host).await?;
    let body = Message::ActionExpired {
        id: &row.id.to_string(),
        what: &remediation::in_words(app, row),
        host: &host.name,
        at: row.expires_at,
    }
    .in_words(app.language());
    let note = remediation::note(row.id, "expired", Persona::A7.as_str(), false, "outcome", body);
    let stepped = app.store.step(row.id, &Step::new(Event::Expire, "farol").saying(note), now).await?;
    app.events.publish(Noun::Action, row.id.to_string(), stepped.row().state.as_str());
    Ok(())
}

/// Whether nobody will ever tell how an order ended: its host was revoked, or
/// is gone for too long.
async fn lost(app: &App, row: &ActionRow, now: Timestamp) -> Result<bool> {
    let gone_since = row.expires_at.plus_ms(row.timeout_ms).plus_ms(HOST_LOST_MS);
    let host = app.store.host_by_key(row.host).await?;
    let revoked = host.enrolment == Enrolment::Revoked;
    // A host that is there answers within the order's own times, or never will.
    let unanswered = row.expires_at.plus_ms(row.timeout_ms).plus_ms(ANSWER_LIMIT_MS);
    let limit = if app.fleet.online(row.host) { unanswered } else { gone_since };
    if !revoked && now < limit {
        return Ok(false);
    }
    if row.state == State::Queued {
        // It never left, so it is known to have had no effect.
        expire(app, row, now).await?;
    } else {
        crate::fleet::lose(app, row, &host, ReasonCode::HostLost).await?;
    }
    Ok(true)
}
