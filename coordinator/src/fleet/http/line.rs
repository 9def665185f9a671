//! Where a WebSocket's session meets requests: frames of requests go in, and
//! what the session sends becomes the answer of the request it belongs to, or
//! waits for the next poll.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::fleet::socket::Incoming;

/// Frames that wait for a poll. A host that takes none of so many is gone.
const WAITING_FRAMES: usize = 64;
const WAITING_BYTES: usize = 8 << 20;

/// What became of a request's frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The session answers with this frame.
    Frame(String),
    /// It was taken, and nothing is to be said.
    Done,
    /// The session ended first.
    Ended(String),
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wants {
    /// That the frame was dealt with.
    Dealt,
    /// That this batch is committed.
    Ack { stream: String, seq: u64 },
}

/// A request whose answer is due.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) wants: Wants,
    pub(super) reply: oneshot::Sender<Reply>,
    frame: Option<String>,
}

impl Pending {
    pub(super) fn new(wants: Wants) -> (Self, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        (Self { wants, reply, frame: None }, answer)
    }

    // Whoever asked may have hung up: then nobody hears the answer.
    fn answer(self, reply: Reply) {
        let _gone = self.reply.send(reply);
    }
}

/// What requests put in.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A frame.
    Frame(String, Pending),
    /// The host polls: it lives.
    Sign,
}

/// Frames that wait for a poll, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(u64, String)>,
    bytes: usize,
    last: u64,
}

impl Outbox {
    /// False when too much waits already.
    fn put(&self, text: String) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.frames.len() >= WAITING_FRAMES || waiting.bytes + text.len() > WAITING_BYTES {
            return false;
        }
        waiting.last += 1;
        waiting.bytes += text.len();
        let number = waiting.last;
        waiting.frames.push_back((number, text));
        drop(waiting);
        self.news.notify_one();
        true
    }

    /// The next frame. With `after`, frames up to that number are forgotten and
    /// the next one stays until a poll says that it came; without, what is
    /// handed out is forgotten.
    pub(super) fn next(&self, after: Option<u64>) -> Option<(u64, String)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(after) = after else {
            let frame = waiting.frames.pop_front()?;
            waiting.bytes -= frame.1.len();
            return Some(frame);
        };
        while let Some((number, _)) = waiting.frames.front()
            && *number <= after
        {
            let frame = waiting.frames.pop_front();
            waiting.bytes -= frame.map_or(0, |(_, text)| text.len());
        }
        waiting.frames.front().cloned()
    }
}

/// The session's end.
#[derive(Debug)]
pub(in crate::fleet) struct Line {
    requests: mpsc::Receiver<Inbound>,
    outbox: Arc<Outbox>,
    /// The request whose frame is being dealt with.
    current: Option<Pending>,
    /// Batches on their way to the disk.
    committing: VecDeque<Pending>,
    heard: Instant,
    patience: Duration,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(default, borrow)]
    method: Option<&'a str>,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    seq: Option<u64>,
}

impl Line {
    /// `patience` is how long a host may ask for nothing.
    pub(super) fn new(requests: mpsc::Receiver<Inbound>, outbox: Arc<Outbox>, patience: Duration) -> Self {
        Self { requests, outbox, current: None, committing: VecDeque::new(), heard: Instant::now(), patience }
    }

    /// Cancel-safe. To be asked for the next frame means that the one before
    /// has been dealt with.
    pub(in crate::fleet) async fn receive(&mut self) -> Incoming {
        self.settle();
        tokio::select! {
            inbound = self.requests.recv() => {
                self.heard = Instant::now();
                match inbound {
                    Some(Inbound::Frame(text, pending)) => {
                        self.current = Some(pending);
                        Incoming::Text(text.into())
                    }
                    Some(Inbound::Sign) => Incoming::Sign,
                    None => Incoming::Closed,
                }
            }
            () = sleep_until(self.heard + self.patience) => Incoming::Closed,
        }
    }

    /// False when the host does not fetch what it is sent.
    pub(in crate::fleet) fn send(&mut self, text: String) -> bool {
        // Our own frames: always JSON.
        let peek: Peek<'_> = serde_json::from_str(&text).unwrap_or(Peek { method: None, stream: None, seq: None });
        match (peek.method, &mut self.current) {
            (Some("heartbeat"), _) => true,
            (Some("telemetry.ack"), _) => {
                let (stream, seq) = (peek.stream.unwrap_or_default(), peek.seq.unwrap_or(0));
                self.acknowledge(&stream, seq, &text);
                true
            }
            (None | Some("error" | "action.ack"), Some(current)) => {
                current.frame.get_or_insert(text);
                true
            }
            _ => self.outbox.put(text),
        }
    }

    pub(in crate::fleet) fn close(mut self, reason: &str) {
        match self.current.take() {
            Some(Pending { frame: Some(frame), reply, wants }) => {
                Pending { frame: None, reply, wants }.answer(Reply::Frame(frame));
            }
            Some(current) => current.answer(Reply::Ended(reason.to_owned())),
            None => {}
        }
        for pending in self.committing.drain(..) {
            pending.answer(Reply::Ended(reason.to_owned()));
        }
    }

    fn settle(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        match (current.frame.take(), &current.wants) {
            (Some(frame), _) => current.answer(Reply::Frame(frame)),
            (None, Wants::Dealt) => current.answer(Reply::Done),
            (None, Wants::Ack { .. }) => self.committing.push_back(current),
        }
    }

    fn acknowledge(&mut self, stream: &str, committed: u64, text: &str) {
        let covers = |pending: &Pending| match &pending.wants {
            Wants::Ack { stream: of, seq } => of == stream && *seq <= committed,
            Wants::Dealt => false,
        };
        if let Some(current) = self.current.take_if(|current| covers(current)) {
            current.answer(Reply::Frame(text.to_owned()));
        }
        for pending in std::mem::take(&mut self.committing) {
            if covers(&pending) {
                pending.answer(Reply::Frame(text.to_owned()));
            } else {
                self.committing.push_back(pending);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> (mpsc::Sender<Inbound>, Arc<Outbox>, Line) {
        let (sender, requests) = mpsc::channel(8);
        let outbox = Arc::new(Outbox::default());
        let line = Line::new(requests, Arc::clone(&outbox), Duration::from_secs(60));
        (sender, outbox, line)
    }

    async fn put(sender: &mpsc::Sender<Inbound>, wants: Wants) -> oneshot::Receiver<Reply> {
        let (pending, answer) = Pending::new(wants);
        sender.send(Inbound::Frame("{}".to_owned(), pending)).await.expect("taken");
        answer
    }

    fn push(seq: u64) -> Wants {
        Wants::Ack { stream: "s".to_owned(), seq }
    }

    fn ack(seq: u64) -> String {
        format!(r#"{{"method":"telemetry.ack","stream":"s","seq":{seq}}}"#)
    }

    #[tokio::test]
    async fn a_batch_is_answered_when_its_number_is_committed_and_not_before() {
        let (sender, _outbox, mut line) = line();
        let (mut first, mut second) = (put(&sender, push(1)).await, put(&sender, push(2)).await);
        line.receive().await;
        assert!(line.send(ack(0)));
        line.receive().await;
        assert!(first.try_recv().is_err(), "an older acknowledgement answered it");
        assert!(line.send(ack(1)));
        assert_eq!(first.await.expect("answered"), Reply::Frame(ack(1)));
        assert!(second.try_recv().is_err());
        assert!(line.send(ack(2)));
        assert_eq!(second.await.expect("answered"), Reply::Frame(ack(2)));
    }

    #[tokio::test]
    async fn an_answer_belongs_to_the_request_at_hand_and_an_order_to_the_next_poll() {
        let (sender, outbox, mut line) = line();
        let (told, silent) = (put(&sender, Wants::Dealt).await, put(&sender, Wants::Dealt).await);
        line.receive().await;
        assert!(line.send(r#"{"method":"command.exec"}"#.to_owned()));
        assert!(line.send(r#"{"method":"heartbeat"}"#.to_owned()));
        assert!(line.send(r#"{"method":"action.ack"}"#.to_owned()));
        line.receive().await;
        assert_eq!(told.await.expect("answered"), Reply::Frame(r#"{"method":"action.ack"}"#.to_owned()));
        sender.send(Inbound::Sign).await.expect("taken");
        line.receive().await;
        assert_eq!(silent.await.expect("answered"), Reply::Done);
        assert_eq!(outbox.next(Some(0)), Some((1, r#"{"method":"command.exec"}"#.to_owned())));
        assert_eq!(outbox.next(Some(0)).expect("it stays until it came").0, 1);
        assert_eq!(outbox.next(Some(1)), None);
    }

    #[tokio::test]
    async fn a_session_that_ends_answers_everyone() {
        let (sender, _outbox, mut line) = line();
        let (batch, refused) = (put(&sender, push(1)).await, put(&sender, Wants::Dealt).await);
        line.receive().await;
        line.receive().await;
        assert!(line.send(r#"{"method":"error"}"#.to_owned()));
        line.close("over");
        assert_eq!(batch.await.expect("answered"), Reply::Ended("over".to_owned()));
        assert_eq!(refused.await.expect("answered"), Reply::Frame(r#"{"method":"error"}"#.to_owned()));
    }

    #[tokio::test]
    async fn a_host_that_asks_for_nothing_is_gone() {
        let (_sender, requests) = mpsc::channel(8);
        let mut line = Line::new(requests, Arc::default(), Duration::from_millis(1));
        assert!(matches!(line.receive().await, Incoming::Closed));
    }

    #[test]
    fn frames_that_nobody_fetches_are_bounded() {
        let (_sender, outbox, mut line) = line();
        let order = r#"{"method":"command.exec"}"#;
        assert!((0..WAITING_FRAMES).all(|_| line.send(order.to_owned())));
        assert!(!line.send(order.to_owned()));
        assert_eq!(outbox.next(None).expect("waits").0, 1);
        assert!(line.send(order.to_owned()));
        while outbox.next(None).is_some() {}
        assert!(line.send("x".repeat(WAITING_BYTES)));
        assert!(!line.send("x".to_owned()));
    }
}
