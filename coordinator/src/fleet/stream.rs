//! The streams of one session: what the host observes now, and beside it the
//! backlog of a partition, each with its own numbers.

use std::sync::Arc;

use farol_protocol::{StreamId, Timestamp, frame::Hello};
use tokio::sync::watch;

use super::sequence::Sequence;
use crate::{
    error::Result,
    store::{Store, bulk::StreamKey, hosts::HostKey},
};

/// Where a session stands in one stream.
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) key: StreamKey,
    pub(super) sequence: Sequence,
    pub(super) acknowledged: u64,
    pub(super) committed: Arc<watch::Sender<u64>>,
    commits: watch::Receiver<u64>,
}

impl Stream {
    fn new(id: StreamId, (key, committed): (StreamKey, u64)) -> Self {
        let (sender, commits) = watch::channel(committed);
        Self {
            id,
            key,
            sequence: Sequence::after(committed),
            acknowledged: committed,
            committed: Arc::new(sender),
            commits,
        }
    }

    /// The last number that is on disk.
    pub(super) fn last_committed(&self) -> u64 {
        *self.commits.borrow()
    }

    /// The next number that gets there. Cancel-safe.
    async fn next_committed(&mut self) -> u64 {
        if self.commits.changed().await.is_err() {
            // Not while this holds a sender.
            std::future::pending::<()>().await;
        }
        *self.commits.borrow_and_update()
    }
}

/// Both of them.
pub(super) struct Streams {
    /// What is observed now.
    live: Stream,
    /// Boxed: few sessions have one.
    backlog: Option<Box<Stream>>,
    /// When the session began; what was observed before is backfill.
    pub(super) began: Timestamp,
}

impl Streams {
    /// The streams that a hello names.
    pub(super) async fn open(store: &Store, host: HostKey, hello: &Hello, began: Timestamp) -> Result<Self> {
        let live = Stream::new(hello.stream, store.stream(host, hello.stream).await?);
        // One stream cannot have two sets of numbers.
        let named = hello.backlog.filter(|backlog| backlog.stream != hello.stream);
        let known = store.backlog(host, named).await?;
        let backlog = named.zip(known).map(|(named, known)| Box::new(Stream::new(named.stream, known)));
        Ok(Self { live, backlog, began })
    }

    /// Last committed numbers, of the live stream and of the backlog.
    pub(super) fn committed(&self) -> (u64, Option<u64>) {
        (self.live.last_committed(), self.backlog.as_ref().map(|backlog| backlog.last_committed()))
    }

    /// The stream of that name, if the hello had it.
    pub(super) fn of(&mut self, id: StreamId) -> Option<&mut Stream> {
        if self.live.id == id {
            return Some(&mut self.live);
        }
        self.backlog.as_deref_mut().filter(|backlog| backlog.id == id)
    }

    /// The next stream of which more is on disk, and up to where. Cancel-safe.
    pub(super) async fn next_committed(&mut self) -> (&mut Stream, u64) {
        let Some(backlog) = &mut self.backlog else {
            let seq = self.live.next_committed().await;
            return (&mut self.live, seq);
        };
        tokio::select! {
            seq = self.live.next_committed() => (&mut self.live, seq),
            seq = backlog.next_committed() => (backlog, seq),
        }
    }
}
