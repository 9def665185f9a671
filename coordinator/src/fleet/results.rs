//! What an agent says of its orders becomes steps of their actions.

use std::sync::Arc;

use farol_agent::task::scoped;
use farol_protocol::{
    ActionId, RiskClass, Timestamp, ToAgent,
    action::{FinalState, Outcome, ReasonCode},
    frame::{self, ActionAccepted, ActionOutput, ActionRef, ActionResult, ErrorFrame, Hello, JournalHead},
    registry::Persona,
};

use tracing::Instrument as _;

use super::session::{Connection, End};
use crate::{
    action::{Event, State},
    app::Shared,
    auth::Requester,
    error::{Error, Result},
    events::Noun,
    remediation::{self, Proposal},
    store::{
        actions::ActionRow,
        hosts::HostRow,
        steps::{Request, Step},
    },
    text::Message,
};

/// Orders that a host may have begun end as interrupted when its journal is
/// not the one that could tell: it changed, or went backward, as after a
/// restored snapshot, or the agent before it kept none. Answers where the
/// journal stood, as far as is known.
pub(super) async fn after_hello(connection: &Connection, hello: &Hello) -> Result<Option<JournalHead>> {
    let before = connection.app.store.journal_of(connection.host.key).await?;
    let had_none = connection.host.protocol == Some(0);
    let went_on = before.is_none_or(|before| before.id == hello.journal.id && hello.journal.seq >= before.seq);
    if went_on && !had_none {
        return Ok(before);
    }
    tracing::warn!(
        before = before.map(|before| before.seq),
        now = hello.journal.seq,
        "the host's action journal is another one or went backward; what was sent to it may have run"
    );
    lose_sent(connection).await?;
    Ok(before)
}

/// Ends everything that was sent to the host and not answered.
pub(super) async fn lose_sent(connection: &Connection) -> Result<()> {
    for row in connection.app.store.open_actions_of(&[connection.host.key]).await? {
        lose(&connection.app, &row, &connection.host, ReasonCode::JournalChanged).await?;
    }
    Ok(())
}

/// An order that the agent could not even read had no effect.
pub(super) async fn not_taken(connection: &Connection, error: &ErrorFrame) -> Option<End> {
    let id = error.action_id?;
    match own(connection, id).await {
        Ok(row) if row.state == State::Sent => {
            let note = ended(
                &connection.app,
                &row,
                &connection.host,
                FinalState::Refused,
                Some(ReasonCode::InvalidPlan),
                None,
                None,
            );
            let step = Step {
                reason: Some(ReasonCode::InvalidPlan),
                detail: Some(error.message.clone()),
                ..Step::new(Event::Finish(FinalState::Refused), &connection.host.name).saying(note)
            };
            match connection.app.store.step(Request::of(id, step, Timestamp::now())).await {
                Ok(stepped) => {
                    announce(&connection.app, stepped.row());
                    connection.app.wake.dispatch.look_at(connection.host.key);
                    None
                }
                Err(error) => failed(&error, id),
            }
        }
        Ok(_) => None,
        Err(error) => failed(&error, id),
    }
}

/// An action whose end cannot be known any more is `interrupted`.
///
/// # Errors
/// The store failed.
pub(crate) async fn lose(app: &Shared, row: &ActionRow, host: &HostRow, reason: ReasonCode) -> Result<()> {
    if !matches!(row.state, State::Sent | State::Accepted) {
        return Ok(());
    }
    let note = ended(app, row, host, FinalState::Interrupted, Some(reason), None, None);
    let step = Step { reason: Some(reason), ..Step::new(Event::Lose, "farol").saying(note) };
    let stepped = app.store.step(Request::of(row.id, step, Timestamp::now())).await?;
    announce(app, stepped.row());
    Ok(())
}

/// Written soon rather than now: a quick action's end takes it along, and
/// until either is committed the order counts as sent, which says as much.
pub(super) fn accepted(connection: &Connection, accepted: &ActionAccepted) {
    let (id, journal, name) = (accepted.action_id, accepted.journal, connection.host.name.clone());
    let choose = move |_: &ActionRow| Step { journal: Some(journal), ..Step::new(Event::Accept, &name) };
    let request = Request::choosing(id, Timestamp::now(), choose).by_host(connection.host.key);
    let pending = connection.app.store.step_soon(request);
    let app = Arc::clone(&connection.app);
    tokio::spawn(scoped(
        async move {
            match pending.committed().await {
                Ok(stepped) if stepped.moved() => announce(&app, stepped.row()),
                Ok(_) => {}
                Err(Error::NotFound { .. }) => {
                    tracing::warn!(action_id = %id, "the agent speaks of an action that is not its own");
                }
                // It stays `sent`, and the agent says more of it.
                Err(error) => tracing::error!(action_id = %id, "that an action began could not be stored: {error}"),
            }
        }
        .in_current_span(),
    ));
}

pub(super) async fn finished(connection: &mut Connection, result: ActionResult) -> Option<End> {
    match finish(connection, &result).await {
        Ok(()) => {}
        // An action that is not this host's is answered, so that the agent
        // stops repeating it; the record keeps what it said.
        Err(Error::NotFound { .. }) => {
            tracing::warn!(action_id = %result.action_id, "the agent reports an action that is not its own");
        }
        Err(error) => return failed(&error, result.action_id),
    }
    let ack = ToAgent::ActionAck(ActionRef { action_id: result.action_id });
    (!connection.socket.send(frame::encode(&ack)).await).then_some(End::Gone)
}

async fn finish(connection: &Connection, result: &ActionResult) -> Result<()> {
    let app = &connection.app;
    let id = result.action_id;
    let not_now = result.state == FinalState::Refused
        && matches!(result.reason, Some(ReasonCode::Busy | ReasonCode::JournalFailed));
    let choose = {
        let (app, host, result) = (Arc::clone(app), connection.host.clone(), result.clone());
        move |row: &ActionRow| if not_now { returned(&result, &host) } else { end(&app, row, &host, &result) }
    };
    let request = Request::choosing(id, Timestamp::now(), choose).by_host(connection.host.key);
    let stepped = app.store.step(request).await?;
    let row = stepped.row();
    if not_now {
        tracing::info!(action_id = %id, reason = ?result.reason, "the host cannot take the order now, it waits");
        announce(app, row);
        app.fleet.take_back(row.host, id);
        return Ok(());
    }
    if row.plan_hash != result.plan_hash && result.state != FinalState::Refused {
        tracing::error!(action_id = %id, "the agent ran another plan than the one that was sent");
    }
    if stepped.moved() {
        tracing::info!(action_id = %id, state = row.state.as_str(), "an action ended");
        announce(app, row);
        app.wake.dispatch.look_at(row.host);
        if let (FinalState::Refused, Some(ReasonCode::SignatureRequired), Some(class)) =
            (result.state, result.reason, result.required_class)
        {
            plan_again(app, row, &connection.host, class).await?;
        }
    }
    Ok(())
}

/// The host did not look at it, or could not write that it did: it had no
/// effect, and waits in the queue until its expiry.
fn returned(result: &ActionResult, host: &HostRow) -> Step {
    Step { detail: result.detail.clone(), ..Step::new(Event::Return, &host.name) }
}

fn end(app: &Shared, row: &ActionRow, host: &HostRow, result: &ActionResult) -> Step {
    // Refused because of a cancel that came before it: that is what a cancel asks for.
    let state = match (result.state, result.reason) {
        (FinalState::Refused, Some(ReasonCode::Cancelled)) => FinalState::Cancelled,
        (state, _) => state,
    };
    let note = ended(app, row, host, state, result.reason, result.detail.as_deref(), result.outcome.as_ref());
    Step {
        reason: result.reason,
        detail: result.detail.clone(),
        outcome: result.outcome.clone(),
        journal: Some(result.journal),
        ..Step::new(Event::Finish(state), &host.name).saying(note)
    }
}

/// The host's policy puts the step above what was planned: the same step is
/// proposed at that class, and waits for a decision that knows it.
async fn plan_again(app: &Shared, row: &ActionRow, host: &HostRow, class: RiskClass) -> Result<()> {
    if class <= row.class {
        return Ok(());
    }
    let (plan, _) = farol_protocol::Plan::parse(&row.plan)?;
    let proposal = Proposal {
        // Whoever asked stays whoever asked: of R3 they are not to be a signer.
        by: &Requester::of(row),
        host: (host.key, &host.id),
        kind: plan.kind,
        params: plan.params,
        reason: &row.reason,
        at_least: class,
        finding_id: row.finding_id.clone(),
        effect_key: Some(format!("{}/again", row.id)),
        seen: farol_protocol::PreState::read(&plan.pre_state)?,
        look_id: row.look_id,
    };
    let (action, effect) = proposal.plan(Timestamp::now())?;
    let note = remediation::proposal_note(app, &action, &effect, &host.name);
    if app.store.propose(&action, Some(&note)).await? {
        app.events.publish(Noun::Action, action.id.to_string(), State::Proposed.as_str());
    }
    Ok(())
}

/// The action, if it is this host's.
async fn own(connection: &Connection, id: ActionId) -> Result<ActionRow> {
    let row = connection.app.store.action(id).await?;
    if row.host == connection.host.key {
        return Ok(row);
    }
    Err(Error::NotFound { what: "action of this host", id: id.to_string() })
}

/// A7 says how an action ended.
pub(super) fn ended(
    app: &Shared,
    row: &ActionRow,
    host: &HostRow,
    state: FinalState,
    reason: Option<ReasonCode>,
    detail: Option<&str>,
    outcome: Option<&Outcome>,
) -> crate::store::inbox::Note {
    let message = Message::ActionFinished {
        id: &row.id.to_string(),
        what: &remediation::in_words(app, row),
        host: &host.name,
        state,
        reason,
        exit_code: outcome.and_then(|outcome| outcome.exit_code),
        duration_ms: outcome.map(|outcome| outcome.duration_ms),
        result: outcome.and_then(|outcome| outcome.result),
        // Of anything else the code and the output say it.
        detail: detail.filter(|_| outcome.is_some_and(|outcome| !outcome.steps.is_empty())),
    }
    .in_words(app.language());
    remediation::note(row.id, "ended", Persona::A7.as_str(), false, "outcome", message)
}

/// Part of what an action writes, for whoever watches it now. Only of the
/// order that this connection has.
pub(super) fn output(connection: &Connection, chunk: ActionOutput) {
    let (app, id) = (&connection.app, chunk.action_id);
    if !app.fleet.has_order(connection.host.key, id) {
        tracing::debug!(action_id = %id, "output of an action that is not under way here is dropped");
        return;
    }
    if app.outputs.put(chunk, Timestamp::now()) {
        app.events.mention(Noun::Action, id.to_string(), "output");
    }
}

pub(super) fn announce(app: &Shared, row: &ActionRow) {
    if row.state.is_final() {
        app.outputs.forget(row.id);
    }
    app.events.publish(Noun::Action, row.id.to_string(), row.state.as_str());
}

/// A store that fails ends the connection: the agent keeps its result and
/// repeats it after the next hello.
fn failed(error: &Error, action: ActionId) -> Option<End> {
    if matches!(error, Error::NotFound { .. }) {
        tracing::warn!(action_id = %action, "the agent speaks of an action that is not its own");
        return None;
    }
    tracing::error!(action_id = %action, "what the agent said of an action could not be stored: {error}");
    Some(End::Close(tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Again, "the store failed"))
}
