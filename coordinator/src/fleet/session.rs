//! One connection of an agent, from its hello to its end.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use farol_pki::PeerIdentity;
use farol_protocol::{
    ActionId, FromAgent, MAX_FRAME_BYTES, Report, SessionId, Timestamp, ToAgent,
    effect::DEFAULT_TIMEOUT_MS,
    frame::{
        self, ChecksAssign, ErrorCode, ErrorFrame, Heartbeat, Hello, HelloAnswer, HelloPolicy, TelemetryAck,
        TelemetryPush, Timeouts,
    },
    legacy as wire,
    version::VersionRange,
};
use futures_util::future::BoxFuture;
use hyper::upgrade::Upgraded;
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    Peer,
    certificate::{self, Certificate, Recognised},
    inventory::{self, Inventories},
    legacy,
    limits::Limits,
    own_reports, results,
    sequence::Verdict,
    socket::{Incoming, Socket},
    stream::{Stream, Streams},
    unfinished,
};
use crate::{
    app::App,
    error::Result,
    events::Noun,
    store::{
        bulk::{BatchWrite, Bulk, NOT_COMMITTED},
        hosts::{HostKey, HostRow},
    },
    watched::Watched,
};

/// The hello must come within this.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Orders and answers that may wait for the socket.
const OUTGOING: usize = 8;
/// Why a connection that somebody else cut is closed.
const REPLACED: &str = "replaced or revoked";
/// Below this a difference of clocks is the network's, not a skew.
const SKEW_FLOOR_MS: i64 = 1_000;
const SKEW_SAMPLES: usize = 8;
/// No frame waits for so long: a difference that grows by more is a clock that
/// was set.
const CLOCK_SET_MS: i64 = 30_000;

/// A connection whose identity is known.
pub(super) struct Connection {
    pub(super) app: App,
    pub(super) host: HostRow,
    pub(super) session: SessionId,
    pub(super) socket: Socket,
    pub(super) outgoing: mpsc::Receiver<String>,
    pub(super) cut: CancellationToken,
    pub(super) seen: Arc<AtomicI64>,
    /// Added to the host's times.
    pub(super) skew_ms: i64,
    pub(super) differences: VecDeque<i64>,
    /// An action that the host had accepted and whose result is due before
    /// anything else of it.
    pub(super) awaited: Option<ActionId>,
    /// What it may take up.
    pub(super) limits: Limits,
    /// Told when what is watched changes.
    pub(super) replaced: watch::Receiver<Arc<Watched>>,
    /// Version of the checks that it was given.
    pub(super) assigned: Option<[u8; 16]>,
    /// None where the connection was opened without one.
    pub(super) certificate: Option<Box<Certificate>>,
    /// An inventory on its way to the disk.
    pub(super) inventory: Option<Box<Inventories>>,
}

/// Why a connection ends.
pub(super) enum End {
    /// The peer is gone.
    Gone,
    /// We close it.
    Close(CloseCode, &'static str),
}

/// Opens one connection and serves it until it ends.
pub(super) async fn run(
    app: App,
    host: HostKey,
    identity: PeerIdentity,
    upgraded: Upgraded,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let session = SessionId::new();
    let span = tracing::info_span!("session", agent_id = identity.host_id, session_id = %session);
    let socket = Socket::new(upgraded);
    let key = identity.key_sha256.clone();
    let live = open(app, host, session, (key, Some(identity)), socket, stop).instrument(span.clone()).await;
    // In a task of its own: what it takes to open a session is several times
    // what it takes to hold one, and a task keeps its largest size to its end.
    if let Some(live) = live {
        tracker.spawn(live.run().instrument(span));
    }
}

/// The same on a socket that is open. `key` is the host's in the live set.
pub(super) async fn run_on(
    app: App,
    host: HostKey,
    session: SessionId,
    key: String,
    socket: Socket,
    stop: CancellationToken,
) {
    let socket = std::future::ready(Some(socket));
    if let Some(live) = Box::pin(open(app, host, session, (key, None), socket, stop)).await {
        live.run().await;
    }
}

/// The same on a simulated connection.
#[cfg(farol_simulation)]
pub(crate) async fn simulated(app: App, dialled: farol_agent::simulation::Dialled, stop: CancellationToken) {
    let Ok(row) = app.store.host(&dialled.host).await else { return };
    let Ok(live) = app.store.live_set().await else { return };
    if let Some(key) = live.into_iter().find_map(|(key, (host, _))| (host == row.key).then_some(key)) {
        run_on(app, row.key, SessionId::new(), key, Socket::simulated(dialled.end), stop).await;
    }
}

/// An open session of protocol v1.
struct Live {
    connection: Connection,
    streams: Streams,
    joined: Joined,
}

impl Live {
    /// Behind pointers throughout: this future stays for as long as the host
    /// is connected.
    async fn run(mut self: Box<Self>) {
        let end = self.connection.talk(&mut self.streams).await;
        self.end(end).await;
    }

    fn end(self: Box<Self>, end: End) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { connection, joined, .. } = *self;
            drop(joined);
            let replaced = matches!(&end, End::Close(_, reason) if *reason == REPLACED);
            let Connection { app, host, socket, .. } = connection;
            if over(end, socket).await && replaced {
                certificate::replaced(&app, host.key).await;
            }
        })
    }
}

/// Whether the peer was there to the end.
async fn over(end: End, socket: Socket) -> bool {
    match end {
        End::Gone => {
            tracing::info!("the connection ended");
            false
        }
        End::Close(code, reason) => {
            tracing::info!("the connection is closed: {reason}");
            socket.close(code, reason).await
        }
    }
}

/// Takes the hello and answers it. None when the connection is over: it was
/// refused, broke off, or was that of an older peer.
async fn open(
    app: App,
    host: HostKey,
    session: SessionId,
    (key_sha256, identity): (String, Option<PeerIdentity>),
    socket: impl Future<Output = Option<Socket>>,
    stop: CancellationToken,
) -> Option<Box<Live>> {
    let mut socket = socket.await?;
    let host = match app.store.host_by_key(host).await {
        Ok(row) => row,
        Err(error) => {
            tracing::error!("a connection could not begin: {error}");
            socket.close(CloseCode::Error, "the store failed").await;
            return None;
        }
    };
    let first = match timeout(HELLO_LIMIT, socket.receive()).await {
        Ok(Incoming::Text(text)) => text,
        Ok(Incoming::Violation(code, reason)) => {
            socket.close(code, &reason).await;
            return None;
        }
        Ok(Incoming::Sign | Incoming::Closed) | Err(_) => {
            socket.close(CloseCode::Policy, "no hello came").await;
            return None;
        }
    };
    let hello = match read_hello(first.as_str()) {
        Ok(hello) => hello,
        Err(error) => {
            refuse(socket, error).await;
            return None;
        }
    };
    let names = [host.id.as_str(), host.name.as_str()];
    let claimed = match &hello {
        First::V1(hello) => &hello.agent_id,
        First::Legacy(hello) => &hello.agent_id,
    };
    if !names.contains(&claimed.as_str()) {
        let message = format!(
            "the certificate is that of host `{}` ({}), but the hello claims another agent_id",
            host.name, host.id
        );
        refuse(socket, error(ErrorCode::WrongIdentity, message)).await;
        return None;
    }

    let mut has_rebooted = false;
    if let First::V1(hello) = &hello {
        match certificate::recognise(&app, &host, identity.as_ref(), hello, Timestamp::now()).await {
            Ok(Recognised::Welcome { rebooted }) => has_rebooted = rebooted,
            Ok(Recognised::Conflict(conflict)) => {
                refuse(socket, conflict).await;
                return None;
            }
            Err(error) => {
                tracing::error!("a machine could not be recognised: {error}");
                socket.close(CloseCode::Error, "the store failed").await;
                return None;
            }
        }
    }
    let certificate = identity.map(|identity| Certificate::new(identity, hello.v1()));

    let cut = stop.child_token();
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let seen = app.fleet.seen_cell(host.key, Timestamp::now());
    let joined = Joined { app: Arc::clone(&app), host: host.key, session, name: host.name.clone() };
    let replaced = app.watching.subscribe();
    let mut connection = Connection {
        app: Arc::clone(&app),
        host,
        session,
        socket,
        outgoing,
        cut: cut.clone(),
        seen,
        skew_ms: 0,
        differences: VecDeque::new(),
        awaited: None,
        limits: Limits::new(),
        replaced,
        assigned: None,
        certificate,
        inventory: None,
    };
    let host = connection.host.key;
    let join = |peer, awaited| app.fleet.join(host, session, key_sha256, (peer, awaited), sender, cut);
    let end = match hello {
        First::V1(hello) => match connection.answer_hello(&hello, has_rebooted).await {
            Ok(Some(streams)) => {
                join(Peer::V1, connection.awaited);
                joined.announce();
                // That the connection broke off shows in what comes next.
                certificate::look(&mut connection, Duration::ZERO).await;
                return Some(Box::new(Live { connection, streams, joined }));
            }
            Ok(None) => End::Gone,
            Err(error) => {
                tracing::error!("a hello could not be answered: {error}");
                End::Close(CloseCode::Error, "the store failed")
            }
        },
        First::Legacy(hello) => legacy::serve(&mut connection, hello, || join(Peer::Legacy, None), &joined).await,
    };
    drop(joined);
    over(end, connection.socket).await;
    None
}

/// Announces a connection, and its end however that comes.
pub(super) struct Joined {
    app: App,
    host: HostKey,
    session: SessionId,
    name: String,
}

impl Joined {
    pub(super) fn announce(&self) {
        self.app.events.publish(Noun::Host, &self.name, "online");
        self.app.wake.dispatch.look_at(self.host);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if self.app.fleet.leave(self.host, self.session) {
            self.app.events.publish(Noun::Host, &self.name, "silent");
        }
    }
}

enum First {
    V1(Box<Hello>),
    Legacy(wire::Hello),
}

impl First {
    fn v1(&self) -> Option<&Hello> {
        match self {
            Self::V1(hello) => Some(hello),
            Self::Legacy(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    protocol: Option<VersionRange>,
}

fn error(code: ErrorCode, message: String) -> ErrorFrame {
    ErrorFrame { code, message, action_id: None }
}

fn read_hello(text: &str) -> std::result::Result<First, ErrorFrame> {
    let peek: Peek = serde_json::from_str(text)
        .map_err(|error_| error(ErrorCode::InvalidFrame, format!("the first frame is not a hello: {error_}")))?;
    if peek.method.as_deref() != Some("hello") {
        return Err(error(ErrorCode::Unexpected, "the first frame of a connection is `hello`".to_owned()));
    }
    let Some(range) = peek.protocol else {
        return serde_json::from_str(text)
            .map(First::Legacy)
            .map_err(|error_| error(ErrorCode::InvalidFrame, format!("the hello is not valid: {error_}")));
    };
    if VersionRange::OURS.agree(range).is_none() {
        let ours = VersionRange::OURS;
        let message = format!(
            "no common protocol version: the agent speaks {} to {}, the coordinator {} to {}",
            range.min, range.max, ours.min, ours.max
        );
        return Err(error(ErrorCode::UnsupportedVersion, message));
    }
    match FromAgent::parse(text) {
        Ok(FromAgent::Hello(hello)) => Ok(First::V1(hello)),
        Ok(_) => Err(error(ErrorCode::Unexpected, "the first frame of a connection is `hello`".to_owned())),
        Err(frame) => Err(frame.into()),
    }
}

async fn refuse(mut socket: Socket, error: ErrorFrame) {
    tracing::warn!(code = ?error.code, "a hello was refused: {}", error.message);
    let text = frame::encode(&ToAgent::Error(error));
    if socket.send(text).await {
        socket.close(CloseCode::Policy, "the hello was refused").await;
    }
}

impl Connection {
    async fn answer_hello(&mut self, hello: &Hello, rebooted: bool) -> Result<Option<Streams>> {
        let now = Timestamp::now();
        self.set_skew(hello.timestamp, now);
        // In this order: what the old journal could tell is settled before the
        // new one takes its place, whatever fails in between.
        let journal = results::after_hello(self, hello).await?;
        self.awaited = unfinished::after_hello(self, hello, rebooted).await?;
        self.app.store.said_hello(&self.host, journal, hello, now).await?;
        let streams = Streams::open(&self.app.store, self.host.key, hello, now).await?;
        let (committed, backlog_committed_seq) = streams.committed();
        let interval = self.app.config.heartbeat;
        let answer = HelloAnswer {
            ok: true,
            policy: HelloPolicy {
                timeouts: Timeouts { exec: DEFAULT_TIMEOUT_MS },
                max_payload: MAX_FRAME_BYTES as u64,
            },
            protocol: farol_protocol::version::CURRENT,
            session_id: self.session,
            committed_seq: committed,
            backlog_committed_seq,
            heartbeat_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            timestamp: now,
        };
        tracing::info!(version = hello.version, committed_seq = committed, "the agent said hello");
        if !self.socket.send(frame::encode(&answer)).await || !self.assign().await {
            return Ok(None);
        }
        Ok(Some(streams))
    }

    /// Gives the host the checks that it is to run, unless it has them.
    /// Answers whether the connection stands.
    async fn assign(&mut self) -> bool {
        let checks = self.app.watched().registry.assigned_to(&self.host.name);
        let language = self.app.language();
        let digest = ring::digest::digest(&ring::digest::SHA256, frame::encode(&(language, &checks)).as_bytes());
        let mut assigned = [0; 16];
        assigned.copy_from_slice(&digest.as_ref()[..16]);
        if self.assigned.replace(assigned) == Some(assigned) {
            return true;
        }
        let version = farol_protocol::action::hex(&assigned);
        self.socket.send(frame::encode(&ToAgent::ChecksAssign(ChecksAssign { version, language, checks }))).await
    }

    /// The end of a connection that somebody else cut.
    pub(super) fn cut_off(&self) -> End {
        if self.app.stop.is_cancelled() {
            End::Close(CloseCode::Away, "the coordinator is stopping")
        } else {
            End::Close(CloseCode::Policy, REPLACED)
        }
    }

    /// A host's clock may be wrong: its times are moved by the difference to
    /// ours. A frame that waited makes the difference look larger, never
    /// smaller, so the smallest of the last few counts; below a second it is
    /// too likely the network's.
    pub(super) fn set_skew(&mut self, theirs: Timestamp, now: Timestamp) {
        let newest = now.since(theirs);
        if self.differences.iter().min().is_some_and(|least| newest - least > CLOCK_SET_MS) {
            self.differences.clear();
        }
        if self.differences.len() == SKEW_SAMPLES {
            self.differences.pop_front();
        }
        self.differences.push_back(newest);
        let difference = self.differences.iter().copied().min().unwrap_or(0);
        let skew_ms = if difference.abs() < SKEW_FLOOR_MS { 0 } else { difference };
        // The first of a connection counts in any case: another one may have
        // left what is no longer so.
        if skew_ms != self.skew_ms || self.differences.len() == 1 {
            self.skew_ms = skew_ms;
            self.app.fleet.set_skew(self.host.key, skew_ms);
        }
    }

    /// Drops reports about checks that this host was not assigned: nobody
    /// speaks for the checks that judge it, or for other hosts.
    pub(super) fn keep_own(&self, reports: &mut Vec<Report>) {
        let before = reports.len();
        let watched = self.app.watched();
        reports.retain(|report| watched.rules.may_report(self.host.key, &report.check));
        let refused = before - reports.len();
        if refused > 0 {
            self.app.metrics.refused(refused);
            tracing::debug!(refused, "reports about checks that are not this agent's were dropped");
        }
    }

    /// A time of the host by our clock, never in the future.
    pub(super) fn corrected(&self, theirs: Timestamp, now: Timestamp) -> Timestamp {
        theirs.plus_ms(self.skew_ms).min(now)
    }

    async fn talk(&mut self, streams: &mut Streams) -> End {
        let interval = self.app.config.heartbeat;
        let mut heard = Instant::now();
        let mut beat = tokio::time::interval(interval);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat.reset();
        loop {
            tokio::select! {
                () = self.cut.cancelled() => {
                    return self.cut_off();
                }
                incoming = self.socket.receive() => {
                    self.seen.store(Timestamp::now().as_ms(), Ordering::Relaxed);
                    match incoming {
                        Incoming::Text(text) => if let Some(end) = self.frame(streams, text.as_str()).await {
                            return end;
                        },
                        Incoming::Sign => {}
                        Incoming::Closed => return End::Gone,
                        Incoming::Violation(code, reason) => {
                            tracing::warn!("the agent broke a rule: {reason}");
                            return End::Close(code, "the frame is not acceptable");
                        }
                    }
                    // What it said while we were busy with this one still waits.
                    heard = Instant::now();
                }
                // The sender lives as long as the app.
                Ok(()) = self.replaced.changed(), if self.assigned.is_some() => {
                    if !self.assign().await {
                        return End::Gone;
                    }
                }
                Some(text) = self.outgoing.recv() => {
                    self.limits.asked();
                    if !self.socket.send(text).await {
                        return End::Gone;
                    }
                }
                (stream, seq) = streams.next_committed() => {
                    if seq == NOT_COMMITTED {
                        return End::Close(CloseCode::Again, "the store could not take a batch");
                    }
                    if seq > stream.acknowledged && !self.acknowledge(stream, seq).await {
                        return End::Gone;
                    }
                }
                () = tokio::time::sleep_until(heard + 2 * interval) => {
                    return End::Close(CloseCode::Away, "no sign of life in two intervals");
                }
                _ = beat.tick() => {
                    if !certificate::look(self, interval).await {
                        return End::Gone;
                    }
                    let heartbeat = ToAgent::Heartbeat(Heartbeat { timestamp: Timestamp::now() });
                    if !self.socket.send(frame::encode(&heartbeat)).await {
                        return End::Gone;
                    }
                }
            }
        }
    }

    async fn acknowledge(&mut self, stream: &mut Stream, seq: u64) -> bool {
        stream.acknowledged = seq;
        inventory::committed(self, stream.key, seq);
        self.socket.send(frame::encode(&ToAgent::TelemetryAck(TelemetryAck { stream: stream.id, seq }))).await
    }

    async fn frame(&mut self, streams: &mut Streams, text: &str) -> Option<End> {
        let frame = match FromAgent::parse(text) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(code = ?error.code, "a frame was not understood: {error}");
                let text = frame::encode(&ToAgent::Error(error.into()));
                return (!self.socket.send(text).await).then_some(End::Gone);
            }
        };
        if matches!(frame, FromAgent::TelemetryPush(_) | FromAgent::Heartbeat(_))
            && let Some(action) = self.awaited.take()
            && let Err(error) = Box::pin(unfinished::settle(self, action)).await
        {
            tracing::error!(action_id = %action, "an action could not be ended: {error}");
            return Some(End::Close(CloseCode::Again, "the store failed"));
        }
        if !matches!(frame, FromAgent::TelemetryPush(_)) {
            let pause = self.limits.pause(Instant::now());
            if !pause.is_zero() {
                Box::pin(tokio::time::sleep(pause)).await;
            }
        }
        match frame {
            FromAgent::TelemetryPush(push) => self.push(streams, push, text.len()).await,
            // Boxed: rare, and their futures would stay resident for every connection.
            FromAgent::ActionAccepted(accepted) => {
                results::accepted(self, &accepted);
                None
            }
            FromAgent::ActionResult(result) => Box::pin(results::finished(self, *result)).await,
            FromAgent::ActionOutput(chunk) => {
                results::output(self, chunk);
                None
            }
            FromAgent::CertificateInstalled(installed) => {
                Box::pin(certificate::installed(self, installed)).await;
                None
            }
            FromAgent::Heartbeat(heartbeat) => {
                self.set_skew(heartbeat.timestamp, Timestamp::now());
                None
            }
            FromAgent::Error(error) => {
                tracing::warn!(code = ?error.code, action_id = error.action_id.map(|id| id.to_string()),
                    "the agent did not take a frame: {}", error.message);
                Box::pin(results::not_taken(self, &error)).await
            }
            FromAgent::Hello(_) => {
                let again = error(ErrorCode::Unexpected, "the connection has said hello already".to_owned());
                (!self.socket.send(frame::encode(&ToAgent::Error(again))).await).then_some(End::Gone)
            }
        }
    }

    async fn push(&mut self, streams: &mut Streams, push: TelemetryPush, bytes: usize) -> Option<End> {
        let began = streams.began;
        let Some(stream) = streams.of(push.stream) else {
            let wrong = error(ErrorCode::Unexpected, "the batch is of another stream than the hello's".to_owned());
            return (!self.socket.send(frame::encode(&ToAgent::Error(wrong))).await).then_some(End::Gone);
        };
        let lost = match stream.sequence.judge(push.seq, &push.payload.gaps) {
            Verdict::Next { lost } => lost,
            // On its way to the disk, or there: say again what is committed.
            Verdict::Repeated => {
                let committed = stream.last_committed();
                return (!self.acknowledge(stream, committed).await).then_some(End::Gone);
            }
            Verdict::Hole { expected } => {
                let message = format!("batch {} came where {expected} was due, and no gap says why", push.seq);
                tracing::warn!("{message}");
                let text = frame::encode(&ToAgent::Error(error(ErrorCode::SeqGap, message)));
                self.socket.send(text).await;
                return Some(End::Close(CloseCode::Policy, "a sequence number was skipped"));
            }
        };
        let now = Timestamp::now();
        let mut payload = push.payload;
        self.keep_own(&mut payload.reports);
        for report in &mut payload.reports {
            report.observed_at = self.corrected(report.observed_at, now);
        }
        for gap in &mut payload.gaps {
            (gap.from, gap.to) = (self.corrected(gap.from, now), self.corrected(gap.to, now));
        }
        self.app.metrics.batch(payload.reports.len());
        if lost > 0 {
            tracing::warn!(lost, seq = push.seq, "the host had to drop batches");
            payload.reports.push(own_reports::lost(&self.host.name, lost, &payload.gaps, self.app.language(), now));
        }
        let observed_at = self.corrected(push.ts, now);
        let inventory = payload.inventory.and_then(|section| inventory::read(self, *section));
        if let Some(inventory) = &inventory {
            inventory::note(self, (stream.key, push.seq), observed_at, inventory);
        }
        let batch = BatchWrite {
            host: self.host.key,
            stream: stream.key,
            seq: push.seq,
            lost,
            observed_at,
            received_at: now,
            metrics: payload.metrics.as_ref().map(frame::encode),
            reports: payload.reports,
            gaps: payload.gaps,
            inventory,
            backfilled: observed_at < began,
            committed: Arc::clone(&stream.committed),
            room: self.limits.room(&self.app.room, bytes).await,
        };
        // A full queue slows this agent down, which keeps what it could not send.
        match self.app.bulk.send(Bulk::Batch(batch)).await {
            Ok(()) => None,
            Err(_) => Some(End::Close(CloseCode::Away, "the coordinator is stopping")),
        }
    }
}
