//! A peer without a protocol version: only the fields it knows, answers
//! without `method`, pushes deduplicated by host and `action_id`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use farol_protocol::{
    ActionId, MAX_FRAME_BYTES, Report, Timestamp,
    action::{FinalState, Outcome},
    effect::DEFAULT_TIMEOUT_MS,
    frame::{self, HelloPolicy, Timeouts},
    legacy::{Answer, ExecAnswer, FromAgent, Hello, HelloAnswer, TelemetryPush},
};
use serde::Deserialize as _;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    results,
    session::{Connection, End, Joined},
    socket::Incoming,
};
use crate::{
    action::Event,
    error::{Error, Result},
    store::{
        bulk::Bulk,
        steps::{Request, Step},
    },
};

/// Such a peer sends no heartbeats; its WebSocket answers pings.
const SILENCE_LIMIT: Duration = Duration::from_secs(900);
/// A push that is not committed by then is answered with an error.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// What one answer keeps of an output.
const OUTPUT_LIMIT: usize = 64 * 1024;

pub(super) async fn serve(connection: &mut Connection, hello: Hello, join: impl FnOnce(), joined: &Joined) -> End {
    let now = Timestamp::now();
    if let Some(theirs) = hello.timestamp {
        connection.set_skew(theirs, now);
    }
    if connection.host.protocol.is_some_and(|version| version > 0) {
        // What the agent before it was sent lies in a journal that this one
        // does not have.
        if let Err(error) = results::lose_sent(connection).await {
            tracing::error!("orders of the agent before could not be ended: {error}");
            return End::Close(CloseCode::Error, "the store failed");
        }
    }
    let saved = connection
        .app
        .store
        .said_legacy_hello(&connection.host, hello.version.as_deref(), &hello.capabilities, now)
        .await;
    if let Err(error) = saved {
        tracing::error!("a hello could not be saved: {error}");
        return End::Close(CloseCode::Error, "the store failed");
    }
    tracing::info!(version = hello.version, "an agent of the older contract said hello");
    let answer = HelloAnswer {
        ok: true,
        policy: HelloPolicy { timeouts: Timeouts { exec: DEFAULT_TIMEOUT_MS }, max_payload: MAX_FRAME_BYTES as u64 },
    };
    if !connection.socket.send(frame::encode(&answer)).await {
        return End::Gone;
    }
    join();
    joined.announce();
    talk(connection).await
}

async fn talk(connection: &mut Connection) -> End {
    loop {
        tokio::select! {
            () = connection.cut.cancelled() => {
                return connection.cut_off();
            }
            incoming = connection.socket.receive() => {
                connection.seen.store(Timestamp::now().as_ms(), Ordering::Relaxed);
                match incoming {
                    Incoming::Text(text) => {
                        let answer = match FromAgent::parse(text.as_str()) {
                            Ok(FromAgent::TelemetryPush(push)) => Some(pushed(connection, push).await),
                            Ok(FromAgent::ExecAnswer(answer)) => {
                                match executed(connection, answer).await {
                                    Ok(()) => None,
                                    Err(Error::NotFound { .. }) => {
                                        tracing::warn!("the agent answers an order that is not its own");
                                        None
                                    }
                                    Err(error) => {
                                        tracing::error!("an outcome could not be stored: {error}");
                                        return End::Close(CloseCode::Again, "the store failed");
                                    }
                                }
                            }
                            Err(error) => {
                                tracing::warn!(code = ?error.code, "a frame was not understood: {error}");
                                Some(Answer { ok: false, action_id: None, error: Some(error.message) })
                            }
                        };
                        if let Some(answer) = answer
                            && !connection.socket.send(frame::encode(&answer)).await
                        {
                            return End::Gone;
                        }
                    }
                    Incoming::Sign => {}
                    Incoming::Closed => return End::Gone,
                    Incoming::Violation(code, reason) => {
                        tracing::warn!("the agent broke a rule: {reason}");
                        return End::Close(code, "the frame is not acceptable");
                    }
                }
            }
            Some(text) = connection.outgoing.recv() => if !connection.socket.send(text).await {
                return End::Gone;
            },
            () = tokio::time::sleep(SILENCE_LIMIT) => {
                return End::Close(CloseCode::Away, "no sign of life");
            }
        }
    }
}

/// Stores a push and answers once it is committed.
async fn pushed(connection: &Connection, push: TelemetryPush) -> Answer {
    let now = Timestamp::now();
    // Reports that have our shape count as such; the rest is kept as it is.
    let mut reports: Vec<Report> = push
        .payload
        .get("reports")
        .and_then(|reports| reports.as_array())
        .map(|list| list.iter().filter_map(|report| Report::deserialize(report).ok()).collect())
        .unwrap_or_default();
    connection.keep_own(&mut reports);
    for report in &mut reports {
        report.observed_at = connection.corrected(report.observed_at, now);
    }
    let done = Arc::new(Notify::new());
    let item = Bulk::Push {
        host: connection.host.key,
        id: push.action_id.to_string(),
        observed_at: connection.corrected(push.ts, now),
        received_at: now,
        payload: frame::encode(&push.payload),
        reports,
        stream: None,
        done: Arc::clone(&done),
    };
    let stored = connection.app.bulk.send(item).await.is_ok()
        && tokio::time::timeout(COMMIT_LIMIT, done.notified()).await.is_ok();
    Answer {
        ok: stored,
        action_id: Some(push.action_id),
        error: (!stored).then(|| "the coordinator could not store the batch; send it again".to_owned()),
    }
}

async fn executed(connection: &Connection, answer: ExecAnswer) -> Result<()> {
    let Some(id) = open_order(connection, answer.action_id).await? else {
        tracing::warn!("the agent answers an order that is not open");
        return Ok(());
    };
    let app = &connection.app;
    let row = app.store.action(id).await?;
    if row.host != connection.host.key {
        return Err(Error::NotFound { what: "action of this host", id: id.to_string() });
    }
    let state = match (answer.ok, answer.error.is_some(), answer.exit_code) {
        (true, ..) => FinalState::Done,
        (false, true, None) => FinalState::Refused,
        (false, ..) => FinalState::Failed,
    };
    let (stdout, cut_out) = bounded(answer.stdout);
    let (stderr, cut_err) = bounded(answer.stderr);
    let outcome = Outcome {
        exit_code: answer.exit_code,
        stdout,
        stderr,
        truncated: cut_out || cut_err,
        duration_ms: u64::try_from(Timestamp::now().since(row.updated_at)).unwrap_or(0),
        ..Outcome::default()
    };
    let note = results::ended(app, &row, &connection.host, state, None, answer.error.as_deref(), Some(&outcome));
    let step = Step {
        detail: answer.error,
        outcome: Some(outcome),
        ..Step::new(Event::Finish(state), &connection.host.name).saying(note)
    };
    let stepped = app.store.step(Request::of(id, step, Timestamp::now())).await?;
    results::announce(app, stepped.row());
    app.wake.dispatch.look_at(connection.host.key);
    Ok(())
}

/// The order an answer belongs to: the one it names, else the one that is open.
async fn open_order(connection: &Connection, named: Option<ActionId>) -> Result<Option<ActionId>> {
    if named.is_some() {
        return Ok(named);
    }
    Ok(connection.app.store.under_way(connection.host.key).await?.map(|row| row.id))
}

fn bounded(mut text: String) -> (String, bool) {
    if text.len() <= OUTPUT_LIMIT {
        return (text, false);
    }
    let end = (0..=OUTPUT_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    (text, true)
}
