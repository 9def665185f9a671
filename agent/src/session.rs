//! One connection as a state machine: frames and times in, decisions out. It
//! does no I/O and reads no clock.

use std::{collections::VecDeque, time::Duration};

use farol_protocol::{
    ActionId, ActionKind, FromAgent, SessionId, StreamId, Timestamp, ToAgent,
    frame::{CertificateUpdate, ChecksAssign, ErrorCode, ErrorFrame, Heartbeat, HelloAnswer, Order, TelemetryAck},
    version,
};
use tokio::time::Instant;

use crate::spool::Lane;

/// How long the coordinator may take to answer hello.
pub const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Most batches sent and not acknowledged.
pub const WINDOW: usize = 64;
/// Bounds of the heartbeat a coordinator may ask for.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
/// Most batches of the backlog sent and not acknowledged.
pub const BACKLOG_WINDOW: usize = 8;

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// Hello was answered: go on above `committed_seq`.
    Ready {
        /// This connection.
        session_id: SessionId,
        /// Last batch the coordinator has.
        committed_seq: u64,
        /// The same of the backlog's stream, where hello named one and the
        /// coordinator takes it.
        backlog_committed_seq: Option<u64>,
        /// Largest frame it takes.
        max_payload: u64,
    },
    /// Batches of that lane up to here are committed.
    Acked(Lane, u64),
    /// Carry out, or refuse.
    Order(ActionKind, Order),
    /// Stop it, or never begin it.
    Cancel(ActionId),
    /// The coordinator has the result.
    ResultAcked(ActionId),
    /// The checks to run from now on.
    Assign(ChecksAssign),
    /// Send this frame.
    Send(Box<FromAgent>),
    /// The coordinator complains; the connection lives.
    Complaint(ErrorFrame),
    /// A certificate to verify and install.
    Certificate(Box<CertificateUpdate>),
    /// Drop the connection and come back later.
    Drop(String),
    /// The same, at the longest pause: a person has to decide first.
    Rest(String),
    /// Nothing.
    Nothing,
}

/// State of one connection.
#[derive(Debug)]
pub struct Session {
    stream: StreamId,
    backlog: Option<StreamId>,
    live: Option<Live>,
    opened: Instant,
    heard: Instant,
    sent: Instant,
    offset_ms: i64,
}

#[derive(Debug)]
struct Live {
    session_id: SessionId,
    heartbeat: Duration,
    sent: Sent,
    /// Absent where the coordinator takes no backlog.
    backlog: Option<Sent>,
}

/// What has left of one stream.
#[derive(Debug)]
struct Sent {
    cursor: u64,
    in_flight: VecDeque<u64>,
}

impl Sent {
    const fn above(committed: u64) -> Self {
        Self { cursor: committed, in_flight: VecDeque::new() }
    }

    fn on_ack(&mut self, seq: u64) -> bool {
        if seq > self.cursor {
            return false;
        }
        while self.in_flight.front().is_some_and(|sent| *sent <= seq) {
            self.in_flight.pop_front();
        }
        true
    }
}

impl Session {
    /// A connection on which hello was just sent, with these streams.
    #[must_use]
    pub const fn new(stream: StreamId, backlog: Option<StreamId>, now: Instant) -> Self {
        Self { stream, backlog, live: None, opened: now, heard: now, sent: now, offset_ms: 0 }
    }

    /// Takes one text frame.
    pub fn on_text(&mut self, text: &str, now: Instant, clock: Timestamp) -> Event {
        self.heard = now;
        if self.live.is_none() {
            return self.on_answer(text, clock);
        }
        match ToAgent::parse(text) {
            Ok(frame) => self.on_frame(frame, clock),
            Err(error) => Event::Send(Box::new(FromAgent::Error(error.into()))),
        }
    }

    fn on_answer(&mut self, text: &str, clock: Timestamp) -> Event {
        let Ok(answer) = serde_json::from_str::<HelloAnswer>(text) else {
            return Event::Drop(match ToAgent::parse(text) {
                Ok(ToAgent::Error(error)) if error.code == ErrorCode::IdentityConflict => {
                    return Event::Rest(refusal(&error));
                }
                Ok(ToAgent::Error(error)) => refusal(&error),
                _ => "the coordinator's first frame is not an answer to hello".to_owned(),
            });
        };
        if !answer.ok {
            return Event::Drop("the coordinator did not accept the session".to_owned());
        }
        if answer.protocol != version::CURRENT {
            return Event::Drop(format!(
                "the coordinator wants protocol version {}, this agent speaks {}; update the older side",
                answer.protocol,
                version::CURRENT
            ));
        }
        self.offset_ms = answer.timestamp.since(clock);
        let heartbeat_ms = answer.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
        self.live = Some(Live {
            session_id: answer.session_id,
            heartbeat: Duration::from_millis(heartbeat_ms),
            sent: Sent::above(answer.committed_seq),
            backlog: self.backlog.and(answer.backlog_committed_seq).map(Sent::above),
        });
        Event::Ready {
            session_id: answer.session_id,
            committed_seq: answer.committed_seq,
            backlog_committed_seq: self.backlog.and(answer.backlog_committed_seq),
            max_payload: answer.policy.max_payload,
        }
    }

    fn on_frame(&mut self, frame: ToAgent, clock: Timestamp) -> Event {
        let frame = match frame.into_order() {
            Ok((kind, order)) => return Event::Order(kind, order),
            Err(other) => *other,
        };
        match frame {
            ToAgent::TelemetryAck(ack) => self.on_ack(ack),
            ToAgent::ActionCancel(action) => Event::Cancel(action.action_id),
            ToAgent::ActionAck(action) => Event::ResultAcked(action.action_id),
            ToAgent::ChecksAssign(assign) => Event::Assign(assign),
            ToAgent::CertificateUpdate(update) => Event::Certificate(Box::new(update)),
            ToAgent::Heartbeat(heartbeat) => {
                self.offset_ms = heartbeat.timestamp.since(clock);
                Event::Nothing
            }
            ToAgent::Error(error) => match error.code {
                ErrorCode::IdentityConflict => Event::Rest(refusal(&error)),
                // Both are repaired by saying hello again.
                ErrorCode::SeqGap
                | ErrorCode::Unavailable
                | ErrorCode::WrongIdentity
                | ErrorCode::UnsupportedVersion => Event::Drop(refusal(&error)),
                _ => Event::Complaint(error),
            },
            // Nothing takes this yet; orders left above.
            _ => Event::Nothing,
        }
    }

    fn on_ack(&mut self, ack: TelemetryAck) -> Event {
        let Some(live) = &mut self.live else {
            return Event::Nothing;
        };
        let (lane, sent) = if ack.stream == self.stream {
            (Lane::Live, Some(&mut live.sent))
        } else if Some(ack.stream) == self.backlog {
            (Lane::Backlog, live.backlog.as_mut())
        } else {
            (Lane::Live, None)
        };
        if sent.is_some_and(|sent| sent.on_ack(ack.seq)) {
            return Event::Acked(lane, ack.seq);
        }
        Event::Send(Box::new(FromAgent::Error(ErrorFrame {
            code: ErrorCode::Unexpected,
            message: format!("batch {} of stream {} was not sent here", ack.seq, ack.stream),
            action_id: None,
        })))
    }

    /// A frame of any kind arrived, a WebSocket ping for example.
    pub const fn on_sign_of_life(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A frame left.
    pub const fn on_sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// A batch left.
    pub fn on_batch_sent(&mut self, lane: Lane, seq: u64) {
        if let Some(sent) = self.sent_mut(lane) {
            sent.cursor = sent.cursor.max(seq);
            sent.in_flight.push_back(seq);
        }
    }

    const fn sent_mut(&mut self, lane: Lane) -> Option<&mut Sent> {
        match (&mut self.live, lane) {
            (Some(live), Lane::Live) => Some(&mut live.sent),
            (Some(live), Lane::Backlog) => live.backlog.as_mut(),
            (None, _) => None,
        }
    }

    fn sent(&self, lane: Lane) -> Option<&Sent> {
        let live = self.live.as_ref()?;
        match lane {
            Lane::Live => Some(&live.sent),
            Lane::Backlog => live.backlog.as_ref(),
        }
    }

    /// When [`Session::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.live {
            None => self.opened + HELLO_WAIT,
            Some(live) => (self.sent + live.heartbeat).min(self.heard + live.patience()),
        }
    }

    /// Lets time pass.
    pub fn on_time(&self, now: Instant, clock: Timestamp) -> Event {
        match &self.live {
            None if now >= self.opened + HELLO_WAIT => {
                Event::Drop(format!("the coordinator did not answer hello within {} s", HELLO_WAIT.as_secs()))
            }
            Some(live) if now >= self.heard + live.patience() => {
                Event::Drop(format!("nothing came from the coordinator for {:.1} s", live.patience().as_secs_f64()))
            }
            Some(live) if now >= self.sent + live.heartbeat => {
                Event::Send(Box::new(FromAgent::Heartbeat(Heartbeat { timestamp: clock })))
            }
            _ => Event::Nothing,
        }
    }

    /// Whether hello was answered.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.live.is_some()
    }

    /// The connection's name, once hello was answered.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.live.as_ref().map(|live| live.session_id)
    }

    /// The stream of a lane.
    #[must_use]
    pub const fn stream(&self, lane: Lane) -> Option<StreamId> {
        match lane {
            Lane::Live => Some(self.stream),
            Lane::Backlog => self.backlog,
        }
    }

    /// The highest batch of a lane sent here or committed before.
    #[must_use]
    pub fn cursor(&self, lane: Lane) -> u64 {
        self.sent(lane).map_or(0, |sent| sent.cursor)
    }

    /// How many batches of a lane may leave now.
    #[must_use]
    pub fn room(&self, lane: Lane) -> usize {
        let window = match lane {
            Lane::Live => WINDOW,
            Lane::Backlog => BACKLOG_WINDOW,
        };
        self.sent(lane).map_or(0, |sent| window.saturating_sub(sent.in_flight.len()))
    }

    /// The coordinator's clock minus this host's, in ms.
    #[must_use]
    pub const fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    /// How long the connection has lived.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }
}

impl Live {
    fn patience(&self) -> Duration {
        self.heartbeat * 2
    }
}

fn refusal(error: &ErrorFrame) -> String {
    let code = serde_json::to_string(&error.code).unwrap_or_default();
    format!("the coordinator refused ({}): {}", code.trim_matches('"'), error.message)
}

/// Full jitter: any moment between now and an exponentially growing bound.
/// `random` lies in 0 to 1.
#[must_use]
pub fn backoff(attempt: u32, cap: Duration, random: f64) -> Duration {
    let bound = cap.min(Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(attempt)));
    bound.mul_f64(random.clamp(0.0, 1.0))
}

/// From this attempt on the pause is bounded by its cap alone, an hour at most.
pub const LAST_ATTEMPT: u32 = 12;
/// A session that lived this long resets the pause.
pub const STEADY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use farol_protocol::frame::{ActionRef, HelloPolicy, Timeouts, encode};

    use super::*;

    fn clock() -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000)
    }

    fn answer(committed_seq: u64) -> HelloAnswer {
        HelloAnswer {
            ok: true,
            policy: HelloPolicy { timeouts: Timeouts { exec: 60_000 }, max_payload: 1 << 20 },
            protocol: 1,
            session_id: SessionId::new(),
            committed_seq,
            backlog_committed_seq: None,
            heartbeat_ms: 15_000,
            timestamp: clock().plus_ms(700),
        }
    }

    fn ready(committed_seq: u64) -> (Session, Instant) {
        let now = Instant::now();
        let mut session = Session::new(StreamId::from_uuid(uuid()), None, now);
        let event = session.on_text(&encode(&answer(committed_seq)), now, clock());
        assert!(matches!(event, Event::Ready { .. }), "{event:?}");
        (session, now)
    }

    fn uuid() -> uuid::Uuid {
        uuid::Uuid::from_u128(7)
    }

    fn ack(stream: StreamId, seq: u64) -> String {
        encode(&ToAgent::TelemetryAck(TelemetryAck { stream, seq }))
    }

    #[test]
    fn the_answer_opens_the_session_and_tells_the_clocks_apart() {
        let (session, _) = ready(41);
        assert!(session.is_ready());
        assert_eq!((session.cursor(Lane::Live), session.offset_ms(), session.room(Lane::Live)), (41, 700, WINDOW));
    }

    #[test]
    fn silence_after_hello_drops_the_connection() {
        let now = Instant::now();
        let session = Session::new(StreamId::new(), None, now);
        assert_eq!(session.deadline(), now + HELLO_WAIT);
        assert_eq!(session.on_time(now + HELLO_WAIT - Duration::from_millis(1), clock()), Event::Nothing);
        assert!(matches!(session.on_time(now + HELLO_WAIT, clock()), Event::Drop(_)));
    }

    #[test]
    fn an_error_frame_instead_of_the_answer_is_told_and_drops_the_connection() {
        let mut session = Session::new(StreamId::new(), None, Instant::now());
        let refused = ErrorFrame {
            code: ErrorCode::WrongIdentity,
            message: "the certificate names another host".to_owned(),
            action_id: None,
        };
        let Event::Drop(why) = session.on_text(&encode(&ToAgent::Error(refused)), Instant::now(), clock()) else {
            panic!("dropped")
        };
        assert!(why.contains("wrong_identity") && why.contains("names another host"), "{why}");
    }

    #[test]
    fn a_conflict_of_identities_waits_for_a_person() {
        let conflict = ErrorFrame {
            code: ErrorCode::IdentityConflict,
            message: "another machine uses this identity".to_owned(),
            action_id: None,
        };
        let conflict = encode(&ToAgent::Error(conflict));
        let mut session = Session::new(StreamId::new(), None, Instant::now());
        let refused = session.on_text(&conflict, Instant::now(), clock());
        assert!(matches!(&refused, Event::Rest(why) if why.contains("another machine")), "{refused:?}");
        let (mut session, now) = ready(0);
        assert!(matches!(session.on_text(&conflict, now, clock()), Event::Rest(_)));
    }

    #[test]
    fn another_protocol_version_drops_the_connection() {
        let mut session = Session::new(StreamId::new(), None, Instant::now());
        let other = HelloAnswer { protocol: 2, ..answer(0) };
        assert!(matches!(session.on_text(&encode(&other), Instant::now(), clock()), Event::Drop(_)));
        let no = HelloAnswer { ok: false, ..answer(0) };
        assert!(matches!(session.on_text(&encode(&no), Instant::now(), clock()), Event::Drop(_)));
    }

    #[test]
    fn a_heartbeat_is_due_after_silence_of_our_own_and_not_before() {
        let (mut session, now) = ready(0);
        let beat = Duration::from_secs(15);
        session.on_sent(now + Duration::from_secs(5));
        assert_eq!(session.deadline(), now + Duration::from_secs(20));
        assert_eq!(session.on_time(now + beat, clock()), Event::Nothing);
        assert!(matches!(session.on_time(now + Duration::from_secs(20), clock()), Event::Send(_)));
    }

    #[test]
    fn a_coordinator_silent_for_two_heartbeats_is_gone() {
        let (mut session, now) = ready(0);
        let patience = Duration::from_secs(30);
        session.on_sent(now + Duration::from_secs(29));
        assert!(matches!(session.on_time(now + patience, clock()), Event::Drop(_)));

        let beat = encode(&ToAgent::Heartbeat(Heartbeat { timestamp: clock().plus_ms(-90) }));
        session.on_text(&beat, now + Duration::from_secs(29), clock());
        assert_eq!(session.offset_ms(), -90);
        assert_eq!(session.on_time(now + patience, clock()), Event::Nothing);
    }

    #[test]
    fn at_most_a_window_of_batches_is_in_flight() {
        let (mut session, now) = ready(10);
        for seq in 11..=74 {
            assert!(session.room(Lane::Live) > 0);
            session.on_batch_sent(Lane::Live, seq);
        }
        assert_eq!((session.room(Lane::Live), session.cursor(Lane::Live)), (0, 74));
        assert_eq!(session.on_text(&ack(session.stream, 20), now, clock()), Event::Acked(Lane::Live, 20));
        assert_eq!(session.room(Lane::Live), 10);
    }

    #[test]
    fn a_backlog_has_its_own_numbers_and_a_small_window() {
        let now = Instant::now();
        let (live, backlog) = (StreamId::new(), StreamId::new());
        let mut session = Session::new(live, Some(backlog), now);
        let answer = HelloAnswer { backlog_committed_seq: Some(3), ..answer(10) };
        session.on_text(&encode(&answer), now, clock());
        for seq in 4..4 + BACKLOG_WINDOW as u64 {
            session.on_batch_sent(Lane::Backlog, seq);
        }
        assert_eq!((session.room(Lane::Backlog), session.room(Lane::Live)), (0, WINDOW));
        assert_eq!(session.on_text(&ack(backlog, 5), now, clock()), Event::Acked(Lane::Backlog, 5));
        assert_eq!((session.room(Lane::Backlog), session.cursor(Lane::Live)), (2, 10));
        assert!(matches!(session.on_text(&ack(live, 11), now, clock()), Event::Send(_)));
    }

    #[test]
    fn a_coordinator_that_does_not_know_backlogs_gets_none() {
        let mut session = Session::new(StreamId::new(), Some(StreamId::new()), Instant::now());
        session.on_text(&encode(&answer(10)), Instant::now(), clock());
        assert_eq!(session.room(Lane::Backlog), 0);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_answered_with_an_error() {
        let (mut session, now) = ready(10);
        session.on_batch_sent(Lane::Live, 11);
        for text in [ack(session.stream, 12), ack(StreamId::new(), 11)] {
            assert!(matches!(session.on_text(&text, now, clock()), Event::Send(_)));
        }
        assert_eq!(session.room(Lane::Live), WINDOW - 1);
    }

    #[test]
    fn a_frame_that_is_not_understood_is_answered_and_the_session_lives() {
        let (mut session, now) = ready(0);
        let Event::Send(frame) = session.on_text(r#"{"method":"reboot.now"}"#, now, clock()) else {
            panic!("answered")
        };
        assert!(matches!(*frame, FromAgent::Error(ErrorFrame { code: ErrorCode::UnknownMethod, .. })));
        let action_id = ActionId::new();
        let cancel = encode(&ToAgent::ActionCancel(ActionRef { action_id }));
        assert_eq!(session.on_text(&cancel, now, clock()), Event::Cancel(action_id));
    }

    #[test]
    fn a_sequence_error_reconnects_and_other_complaints_do_not() {
        let (mut session, now) = ready(0);
        let mut say = |code| {
            let error = ErrorFrame { code, message: "x".to_owned(), action_id: None };
            session.on_text(&encode(&ToAgent::Error(error)), now, clock())
        };
        assert!(matches!(say(ErrorCode::SeqGap), Event::Drop(_)));
        assert!(matches!(say(ErrorCode::InvalidFrame), Event::Complaint(_)));
    }

    #[test]
    fn the_pause_grows_with_full_jitter_up_to_its_cap() {
        let cap = Duration::from_secs(60);
        assert_eq!(backoff(0, cap, 1.0), Duration::from_secs(1));
        assert_eq!(backoff(0, Duration::from_millis(100), 1.0), Duration::from_millis(100));
        assert_eq!(backoff(3, cap, 0.5), Duration::from_secs(4));
        assert_eq!(backoff(5, cap, 0.0), Duration::ZERO);
        assert_eq!(backoff(LAST_ATTEMPT, Duration::from_secs(3600), 1.0), Duration::from_secs(3600));
        assert_eq!(backoff(u32::MAX, cap, 1.0), cap);
    }
}
