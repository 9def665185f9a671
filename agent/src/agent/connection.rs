//! What comes from the coordinator and what it gets in answer.

use std::{sync::Arc, time::Duration};

use farol_protocol::{
    FromAgent, SessionId, Timestamp,
    frame::{ActionOutput, ActionResult, Hello, encode},
    version::VersionRange,
};
use tokio::time::Instant;

use super::{
    Agent,
    link::{Link, LinkEvent, Open},
};
use crate::{
    Error, log,
    orders::{Clock, EffectEnded},
    session::{Event, LAST_ATTEMPT, STEADY, Session, backoff},
    socket::{Incoming, Socket},
    spool::Lane,
    state::{Connection, certificate_end},
    task::scoped,
    tls, trust,
};

/// From this long before its end on, the certificate is warned about daily.
const CERTIFICATE_WARNING_MS: i64 = 5 * 24 * 3600 * 1000;
/// How often old journal entries are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Methods this agent takes.
const CAPABILITIES: [&str; 12] = [
    "command.exec",
    "service.control",
    "container.control",
    "file.diff",
    "file.apply",
    "file.rollback",
    "logs.read",
    "remediation.look",
    "remediation.run",
    "action.cancel",
    "checks.assign",
    "certificate.update",
];

impl Agent {
    pub(super) async fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Due => {
                let (endpoint, tls) = (self.identity.endpoint.clone(), Arc::clone(&self.tls));
                if self.certificate_refused {
                    return self.start_renewal();
                }
                let connecting = tokio::spawn(scoped(async move { Socket::connect(&endpoint, tls).await }));
                self.link = Link::Connecting(connecting, Instant::now());
            }
            LinkEvent::Connected(Ok(socket)) => self.on_connected(socket).await,
            LinkEvent::Connected(Err(error)) => {
                let untrusted = matches!(error, Error::Trust { .. });
                self.lose(&error.sentence(), tls::loss(&error, untrusted));
            }
            LinkEvent::Renewed(renewed) => self.on_renewed(renewed),
            LinkEvent::Incoming(Incoming::Text(text)) => {
                if let Link::Open(open) = &mut self.link {
                    let event = open.session.on_text(&text, Instant::now(), Timestamp::now());
                    self.on_event(event).await;
                }
            }
            LinkEvent::Incoming(Incoming::SignOfLife) => {
                if let Link::Open(open) = &mut self.link {
                    open.session.on_sign_of_life(Instant::now());
                }
            }
            LinkEvent::Incoming(Incoming::Closed { why, loss }) => self.lose(&why, loss),
            LinkEvent::Time => {
                if let Link::Open(open) = &self.link {
                    let event = open.session.on_time(Instant::now(), Timestamp::now());
                    self.on_event(event).await;
                }
            }
        }
    }

    pub(super) async fn on_connected(&mut self, socket: Socket) {
        let unfinished = match self.journal.unfinished().await {
            Ok(unfinished) => unfinished.iter().map(|entry| entry.action_id).collect(),
            Err(error) => return self.disconnect(&error.sentence(), false),
        };
        if let Err(error) = self.spool.set_apart().await {
            return self.disconnect(&error.sentence(), false);
        }
        let backlog = self.spool.backlog();
        let readiness = self.orders.readiness();
        let hello = Hello {
            agent_id: self.identity.enrolment.host_id.to_string(),
            name: sysinfo::System::host_name().unwrap_or_else(|_| self.identity.enrolment.name.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            timestamp: Timestamp::now(),
            protocol: VersionRange::OURS,
            journal: self.journal.head().await,
            stream: self.spool.stream(),
            unfinished,
            max_unsigned_class: readiness.max_unsigned_class,
            effects_allowed: readiness.effects_allowed,
            machine: trust::machine(),
            roots: farol_pki::root_ids(&self.identity.ca).ok(),
            backlog,
        };
        let session = Session::new(self.spool.stream(), backlog.map(|backlog| backlog.stream), Instant::now());
        self.link = Link::Open(Box::new(Open { socket, session }));
        self.link.send(&FromAgent::Hello(Box::new(hello)));
    }

    /// Drops the connection, if there is one, and plans the next attempt.
    pub(super) fn disconnect(&mut self, why: &str, untrusted: bool) {
        if let Link::Open(open) = &self.link
            && open.session.is_ready()
            && open.session.age(Instant::now()) >= STEADY
        {
            self.attempt = 0;
        }
        self.note_sent();
        if untrusted {
            self.attempt = LAST_ATTEMPT;
        }
        let pause = backoff(self.attempt, self.config.reconnect_max, fastrand::f64());
        self.attempt = (self.attempt + 1).min(LAST_ATTEMPT);
        self.link = Link::Waiting(Instant::now() + pause);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let known = self.connection.as_ref().is_some_and(|last| last.reason.as_deref() == Some(why));
        if known {
            tracing::debug!(pause_ms, "still not connected: {why}");
        } else if untrusted {
            tracing::error!(pause_ms, "not connected: {why}");
        } else {
            tracing::warn!(pause_ms, "not connected: {why}");
        }
        log::set_session(None);
        self.note("disconnected", None, Some(why.to_owned()));
    }

    /// Remembers how far the session came, so that what never left can be told
    /// from what may have arrived.
    pub(super) fn note_sent(&mut self) {
        if let Link::Open(open) = &self.link
            && open.session.is_ready()
        {
            self.spool.ended(open.session.cursor(Lane::Live));
        }
    }

    pub(super) fn note(&mut self, state: &str, session_id: Option<SessionId>, reason: Option<String>) {
        let same = |old: &Connection| old.state == state && old.session_id == session_id && old.reason == reason;
        if self.connection.as_ref().is_some_and(same) {
            return;
        }
        let connection = Connection {
            state: state.to_owned(),
            since: Timestamp::now(),
            session_id,
            reason,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if let Err(error) = self.state.save_connection(&connection) {
            tracing::debug!("the connection's state was not written down: {error}");
        }
        self.connection = Some(connection);
    }

    pub(super) async fn on_event(&mut self, event: Event) {
        match event {
            Event::Ready { session_id, committed_seq, backlog_committed_seq, max_payload } => {
                let committed = (committed_seq, backlog_committed_seq);
                self.on_ready(session_id, committed, max_payload).await;
            }
            Event::Acked(lane, seq) => {
                self.spool.ack(lane, seq);
                if matches!(lane, Lane::Live) {
                    self.watch.on_ack(seq, Instant::now());
                }
                self.drain().await;
                self.backfill().await;
            }
            Event::Order(kind, order) => {
                // Whatever it knows of the order, it cannot say it: the order
                // must stay where it is until the journal can be read again.
                let answer = match self.orders.take(kind, order, self.clock()).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        tracing::error!("{}", error.sentence());
                        return self.disconnect("the journal could not be read", false);
                    }
                };
                self.send(answer);
            }
            Event::Cancel(action_id) => self.orders.cancel(action_id).await,
            Event::ResultAcked(action_id) => {
                if let Err(error) = self.journal.ack(action_id).await {
                    tracing::error!(%action_id, "{}", error.sentence());
                }
            }
            Event::Assign(assignment) => self.on_assign(assignment),
            Event::Send(frame) => {
                if let FromAgent::Error(error) = &*frame {
                    tracing::warn!("a frame of the coordinator was not accepted: {}", error.message);
                }
                self.link.send(&frame);
            }
            Event::Complaint(error) => {
                tracing::warn!(code = ?error.code, "the coordinator complains: {}", error.message);
            }
            Event::Certificate(update) => self.on_certificate(&update),
            Event::Drop(why) => self.disconnect(&why, false),
            Event::Rest(why) => self.disconnect(&why, true),
            Event::Nothing => {}
        }
    }

    pub(super) async fn on_ready(
        &mut self,
        session_id: SessionId,
        (committed_seq, backlog_committed_seq): (u64, Option<u64>),
        max_payload: u64,
    ) {
        log::set_session(Some(session_id));
        tracing::info!(committed_seq, backlog_committed_seq, clock_offset_ms = self.offset_ms(), "connected");
        self.note("connected", Some(session_id), None);
        self.max_payload = max_payload;
        self.remember_clock();
        match self.spool.resume(committed_seq, backlog_committed_seq).await {
            Ok(true) => {}
            Ok(false) => {
                // The journal lies on the same disk, and its numbers may look
                // whole: under a new id, nothing that was sent is sent again.
                if let Err(error) = self.journal.begin_anew().await {
                    tracing::error!("{}", error.sentence());
                    return self.disconnect("the journal could not be given a new id", false);
                }
                let why = "the spool went backward, as with a restored snapshot; it goes on in a new stream";
                return self.disconnect(why, false);
            }
            Err(error) => {
                tracing::error!("{}", error.sentence());
                return self.disconnect("the spool could not be read", false);
            }
        }
        // Results come before anything else: an action that the hello did not
        // list and whose result does not come is lost to the coordinator.
        match self.journal.unacknowledged().await {
            Ok(results) => {
                for result in results {
                    self.send(FromAgent::ActionResult(Box::new(result)));
                }
            }
            Err(error) => return self.disconnect(&error.sentence(), false),
        }
        if self.pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            self.pruned = Some(Instant::now());
            if let Err(error) = self.journal.prune(self.clock().earlier()).await {
                tracing::warn!("{}", error.sentence());
            }
            self.orders.forget_old().await;
            self.warn_of_certificate();
        }
        self.behind = true;
        self.watch.on_session(Instant::now());
        self.pace.refill(Instant::now());
        self.drain().await;
        self.backfill().await;
    }

    /// The coordinator renews long before this; that it did not is worth a word.
    pub(super) fn warn_of_certificate(&self) {
        let Some(end) = certificate_end(&self.identity.cert) else {
            return;
        };
        if end.since(Timestamp::now().plus_ms(self.offset_ms())) < CERTIFICATE_WARNING_MS {
            tracing::warn!(
                certificate_ends = %end,
                "this host's certificate ends soon and the coordinator has not renewed it; look at its log"
            );
        }
    }

    fn clock(&self) -> Clock {
        Clock { own: Timestamp::now(), offset_ms: self.offset_ms() }
    }

    pub(super) fn offset_ms(&self) -> i64 {
        match &self.link {
            Link::Open(open) => open.session.offset_ms(),
            _ => 0,
        }
    }

    /// Sends a frame if connected. A result that cannot leave now is in the
    /// journal and leaves after the next hello.
    pub(super) fn send(&mut self, frame: FromAgent) {
        if self.link.ready().is_none() {
            return;
        }
        let frame = match frame {
            FromAgent::ActionResult(result) => FromAgent::ActionResult(Box::new(fitted(*result, self.max_payload))),
            other => other,
        };
        self.link.send(&frame);
    }

    /// For whoever watches now: nothing keeps it.
    pub(super) fn on_output(&mut self, chunk: ActionOutput) {
        self.send(FromAgent::ActionOutput(chunk));
    }

    pub(super) fn on_effect_ended(&mut self, ended: EffectEnded) {
        // Nothing follows a result.
        while let Ok(chunk) = self.output.try_recv() {
            self.on_output(chunk);
        }
        if ended.idle {
            self.orders.on_idle();
        }
        for result in ended.results {
            self.send(FromAgent::ActionResult(Box::new(result)));
        }
    }
}

/// Shortens the output until the frame is one the coordinator takes.
pub(super) fn fitted(mut result: ActionResult, max_payload: u64) -> ActionResult {
    let mut keep = 128 * 1024;
    while encode(&result).len() as u64 + 64 > max_payload && keep > 256 {
        keep /= 2;
        if let Some(outcome) = &mut result.outcome {
            if let Some(file) = &mut outcome.file {
                file.patch.take_if(|patch| patch.len() > keep);
            }
            for text in [&mut outcome.stdout, &mut outcome.stderr] {
                if text.len() > keep {
                    let end = text.floor_char_boundary(keep);
                    text.truncate(end);
                    outcome.truncated = true;
                }
            }
        }
    }
    result
}
