//! What a running program writes, as it writes it, for people who watch.
//!
//! Bounded in every way: a chunk a quarter of a second for each stream, 16 KiB
//! a chunk, and what finds no room is dropped. The outcome holds what counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use farol_protocol::{
    ActionId,
    frame::{ActionOutput, OutputStream},
};
use tokio::{sync::mpsc, time::Instant};

/// Shortest time between two chunks of a stream.
const EVERY: Duration = Duration::from_millis(250);
/// Longest text of a chunk, in bytes.
const MOST: usize = 16 * 1024;

/// Where the chunks of one action go.
#[derive(Debug, Clone)]
pub struct Feed {
    action_id: ActionId,
    n: Arc<AtomicU64>,
    to: mpsc::Sender<ActionOutput>,
}

impl Feed {
    /// No chunk was sent yet.
    #[must_use]
    pub fn new(action_id: ActionId, to: mpsc::Sender<ActionOutput>) -> Self {
        Self { action_id, n: Arc::default(), to }
    }

    /// Says where an action of several steps is.
    pub(crate) fn say(&self, text: String) {
        self.send(OutputStream::Stdout, text);
    }

    fn skip(&self) {
        self.n.fetch_add(1, Ordering::Relaxed);
    }

    fn send(&self, stream: OutputStream, text: String) {
        let n = self.n.fetch_add(1, Ordering::Relaxed) + 1;
        // A full queue drops the chunk; its number stays missing.
        let _ = self.to.try_send(ActionOutput { action_id: self.action_id, n, stream, text });
    }
}

/// One stream on its way into chunks.
pub(super) struct Chunks {
    feed: Feed,
    stream: OutputStream,
    pending: Vec<u8>,
    dropped: bool,
    sent: Option<Instant>,
}

impl Chunks {
    pub(super) const fn new(feed: Feed, stream: OutputStream) -> Self {
        Self { feed, stream, pending: Vec::new(), dropped: false, sent: None }
    }

    /// Takes what was read. The newest bytes stay where all find no room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let excess = self.pending.len().saturating_sub(MOST);
        if excess > 0 {
            self.pending.drain(..excess);
            self.dropped = true;
        }
    }

    /// When a chunk may leave, if there is one.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let whole = self.pending.len() > unfinished(&self.pending);
        whole.then(|| self.sent.map_or(now, |sent| sent + EVERY))
    }

    /// Sends a chunk if it is time.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.due(now).is_none_or(|due| now < due) {
            return;
        }
        let end = self.pending.len() - unfinished(&self.pending);
        let rest = self.pending.split_off(end);
        let bytes = std::mem::replace(&mut self.pending, rest);
        // A cut in the middle of a character leaves up to three bytes of it.
        let cut = if self.dropped { bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count() } else { 0 };
        let mut text = String::from_utf8_lossy(&bytes[cut..]).into_owned();
        if text.len() > MOST {
            // Replaced bytes take more room than they did.
            let from = text.ceil_char_boundary(text.len() - MOST);
            text.drain(..from);
            self.dropped = true;
        }
        if std::mem::take(&mut self.dropped) {
            self.feed.skip();
        }
        self.sent = Some(now);
        if !text.is_empty() {
            self.feed.send(self.stream, text);
        }
    }
}

/// How many bytes at the end begin a character whose rest has not come.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(room: usize) -> (Chunks, mpsc::Receiver<ActionOutput>) {
        let (to, from) = mpsc::channel(room);
        (Chunks::new(Feed::new(ActionId::new(), to), OutputStream::Stdout), from)
    }

    fn take(from: &mut mpsc::Receiver<ActionOutput>) -> Vec<(u64, String)> {
        std::iter::from_fn(|| from.try_recv().ok()).map(|chunk| (chunk.n, chunk.text)).collect()
    }

    #[test]
    fn the_first_chunk_leaves_at_once_and_the_next_a_quarter_of_a_second_later() {
        let (mut chunks, mut from) = chunks(4);
        let now = Instant::now();
        chunks.push(b"one\n");
        chunks.flush(now);
        chunks.push(b"two\n");
        chunks.flush(now + EVERY / 2);
        assert_eq!(take(&mut from), [(1, "one\n".to_owned())]);
        assert_eq!(chunks.due(now), Some(now + EVERY));
        chunks.push(b"three\n");
        chunks.flush(now + EVERY);
        assert_eq!(take(&mut from), [(2, "two\nthree\n".to_owned())]);
        assert_eq!(chunks.due(now), None);
    }

    #[test]
    fn a_character_is_never_split_between_two_chunks() {
        for text in ["é", "€", "🚨"] {
            for cut in 1..text.len() {
                let (mut chunks, mut from) = chunks(4);
                let now = Instant::now();
                chunks.push(b"a");
                chunks.push(&text.as_bytes()[..cut]);
                chunks.flush(now);
                chunks.push(&text.as_bytes()[cut..]);
                chunks.flush(now + EVERY);
                assert_eq!(take(&mut from), [(1, "a".to_owned()), (2, text.to_owned())]);
            }
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_leaves_a_hole_in_the_numbers() {
        let (mut chunks, mut from) = chunks(1);
        let now = Instant::now();
        chunks.push("é".repeat(MOST).as_bytes());
        chunks.push(b"x");
        chunks.flush(now);
        chunks.push(b"lost");
        chunks.flush(now + EVERY);
        let [(n, text)] = &take(&mut from)[..] else { panic!("one chunk") };
        assert!(*n == 2 && text.len() <= MOST && text.ends_with("éx") && text.starts_with('é'), "{n} {}", text.len());
        chunks.push(b"kept");
        chunks.flush(now + EVERY * 2);
        assert_eq!(take(&mut from), [(4, "kept".to_owned())]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_within_the_bound() {
        let (mut chunks, mut from) = chunks(1);
        chunks.push(&[0xFF; MOST]);
        chunks.flush(Instant::now());
        let [(n, text)] = &take(&mut from)[..] else { panic!("one chunk") };
        assert!(*n == 2 && text.len() <= MOST && text.chars().all(|c| c == '\u{fffd}'));
    }
}
