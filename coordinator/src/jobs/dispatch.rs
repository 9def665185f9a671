//! Hands approved actions to their hosts, one at a time each, and ends those
//! whose time has passed.

use std::{collections::BTreeMap, time::Duration};

use farol_agent::fault;
use farol_protocol::{
    RiskClass, Timestamp,
    action::{FinalState, ReasonCode},
    registry::Persona,
};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    action::{Event, State},
    app::App,
    error::Result,
    events::Noun,
    fleet::Handed,
    remediation,
    store::{
        actions::ActionRow,
        hosts::{Enrolment, HostKey, HostRow},
        steps::{Request, Step},
    },
    text::Message,
};

/// How often every open action is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(1);
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
    let hold_ms = i64::try_from(app.config.approval_hold.as_millis()).unwrap_or(i64::MAX);
    // A thousand orders that end at once wake this a thousand times: each time
    // only what has changed is read.
    let open = match app.wake.dispatch.due(Instant::now(), EVERY) {
        None => app.store.open_actions().await?,
        Some(hosts) => app.store.open_actions_of(&hosts).await?,
    };
    let hosts = app.store.hosts_of(open.iter().map(|row| row.host)).await?;
    // The order a host is to get now: the one that was sent and not answered,
    // or else the oldest in its queue. One at a time.
    let mut orders: BTreeMap<HostKey, (u8, ActionRow)> = BTreeMap::new();
    for row in open {
        let Some(host) = hosts.get(&row.host) else { continue };
        match row.state {
            State::Proposed | State::Approved | State::Held | State::Queued if row.expires_at <= now => {
                expire(&app, &row, host, now).await?;
            }
            // An approved one is held or queued in the transaction that approves it; this keeps it so for whatever writes
            // later.
            State::Held if now.since(row.updated_at) < hold_ms => {}
            State::Held | State::Approved => {
                app.store.step(Request::of(row.id, Step::new(Event::Queue, "farol"), now)).await?;
                app.wake.dispatch.look_at(row.host);
            }
            State::Queued | State::Sent | State::Accepted if !lost(&app, &row, host, now).await? => {
                let turn = match row.state {
                    State::Accepted => 0,
                    State::Sent => 1,
                    // What only reads waits for nothing but what runs: plans are made from it.
                    _ if row.class == RiskClass::R0 => 2,
                    _ => 3,
                };
                // Oldest first, so that among equals the first one stays.
                if orders.get(&row.host).is_none_or(|(first, _)| turn < *first) {
                    orders.insert(row.host, (turn, row));
                }
            }
            _ => {}
        }
    }
    let handed = orders
        .into_iter()
        .filter(|(host, _)| app.fleet.online(*host))
        .filter_map(|(key, (_, row))| Some(hand(&app, row, hosts.get(&key)?, now)));
    // Together, so that what they write is one commit.
    for handed in join_all(handed).await {
        handed?;
    }
    Ok(())
}

async fn hand(app: &App, mut row: ActionRow, host: &HostRow, now: Timestamp) -> Result<()> {
    let fresh = row.state == State::Queued;
    if !fresh && app.fleet.has_order(row.host, row.id) {
        return Ok(());
    }
    // Also what was sent: the one that answers now may be the other machine.
    if host.held {
        tracing::debug!(action_id = %row.id, "an order waits: two machines answer as its host");
        return Ok(());
    }
    // An agent refuses what has expired; a peer that cannot is not asked.
    if row.expires_at <= now && host.protocol == Some(0) {
        return Ok(());
    }
    let signatures = if fresh {
        // The host may have changed since the approval: then it waits.
        let signatures = match remediation::may_leave(app, &row, host).await {
            Ok(signatures) => signatures,
            Err(why) => {
                tracing::debug!(action_id = %row.id, "an order waits: {why}");
                return Ok(());
            }
        };
        if row.reason_code.is_none() && row.detail.is_some() && now.since(row.updated_at) < RETURNED_WAIT_MS {
            return Ok(());
        }
        // Written before it is sent: what may have reached the host is known.
        let stepped = app.store.step(Request::of(row.id, Step::new(Event::Send, "farol"), now)).await?;
        if !stepped.moved() {
            return Ok(());
        }
        row = stepped.into_row();
        app.events.publish(Noun::Action, row.id.to_string(), State::Sent.as_str());
        signatures
    } else {
        app.store.signatures(row.id).await?.into_iter().map(|signed| signed.signature).collect()
    };
    // Before the order, so that the host refuses what it has not begun.
    if row.cancel_requested && !app.fleet.cancel(row.host, row.id) {
        return Ok(());
    }
    if row.state == State::Accepted && host.protocol != Some(0) {
        // It has begun. The host tells its end by itself; sent again to a
        // journal that lost it, it would begin a second time.
        app.fleet.note_order(row.host, row.id);
        return Ok(());
    }
    // Also what was sent before and waits for its host: the switch may have been set meanwhile.
    if let Err(why) = app.switch.may_begin(&row, host) {
        tracing::info!(action_id = %row.id, "an order does not leave: {why}");
        return Ok(());
    }
    fault::point("coordinator.hand.before");
    let handed = app.fleet.hand(&row, signatures);
    fault::point("coordinator.hand.after");
    match handed {
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
                detail: Some("the host's agent has no such order".to_owned()),
                ..Step::new(Event::Finish(FinalState::Refused), "farol")
            };
            let stepped = app.store.step(Request::of(row.id, step, now)).await?;
            app.events.publish(Noun::Action, row.id.to_string(), stepped.row().state.as_str());
        }
    }
    Ok(())
}

async fn expire(app: &App, row: &ActionRow, host: &HostRow, now: Timestamp) -> Result<()> {
    let body = Message::ActionExpired {
        id: &row.id.to_string(),
        what: &remediation::in_words(app, row),
        host: &host.name,
        at: row.expires_at,
    }
    .in_words(app.language());
    let note = remediation::note(row.id, "expired", Persona::A7.as_str(), false, "outcome", body);
    let step = Step::new(Event::Expire, "farol").saying(note);
    let stepped = app.store.step(Request::of(row.id, step, now)).await?;
    app.events.publish(Noun::Action, row.id.to_string(), stepped.row().state.as_str());
    Ok(())
}

/// Whether nobody will ever tell how an order ended: its host was revoked, or
/// is gone for too long.
async fn lost(app: &App, row: &ActionRow, host: &HostRow, now: Timestamp) -> Result<bool> {
    let gone_since = row.expires_at.plus_ms(row.timeout_ms).plus_ms(HOST_LOST_MS);
    let revoked = host.enrolment == Enrolment::Revoked;
    // A host that is there answers within the order's own times, or never will.
    let unanswered = row.expires_at.plus_ms(row.timeout_ms).plus_ms(ANSWER_LIMIT_MS);
    let limit = if app.fleet.online(row.host) { unanswered } else { gone_since };
    if !revoked && now < limit {
        return Ok(false);
    }
    if row.state == State::Queued {
        // It never left, so it is known to have had no effect.
        expire(app, row, host, now).await?;
    } else {
        crate::fleet::lose(app, row, host, ReasonCode::HostLost).await?;
    }
    Ok(true)
}
