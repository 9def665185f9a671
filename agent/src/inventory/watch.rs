//! When the host is looked at, and whether what was seen is to be sent.

use std::time::Duration;

use farol_protocol::telemetry::Gap;
use tokio::time::Instant;

/// What was sent is sent again after this, for a coordinator that lost it.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// SHA-256 of an inventory's JSON.
pub(crate) type Digest = [u8; 32];

/// Decides; remembers only digests.
#[derive(Debug)]
pub(crate) struct Watch {
    /// None: never.
    every: Option<Duration>,
    /// None until a session begins.
    next: Option<Instant>,
    acked: Option<(Digest, Instant)>,
    /// In the spool under this number and not acknowledged.
    pending: Option<(u64, Digest)>,
}

impl Watch {
    /// Looks every so often while connected.
    pub(crate) const fn new(every: Option<Duration>) -> Self {
        Self { every, next: None, acked: None, pending: None }
    }

    /// A session began: what was on its way may have lost its number.
    pub(crate) fn on_session(&mut self, now: Instant) {
        self.pending = None;
        self.next = self.every.map(|_| now);
    }

    /// When to look; never while nothing could leave.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// The host was looked at; `random` is 0 to 1.
    pub(crate) fn on_looked(&mut self, now: Instant, random: f64) {
        self.next = self.every.map(|every| now + every.mul_f64(0.8 + 0.4 * random));
    }

    /// Whether to send what was seen.
    pub(crate) fn is_news(&self, digest: &Digest, now: Instant) -> bool {
        if let Some((_, pending)) = &self.pending {
            return pending != digest;
        }
        self.acked.as_ref().is_none_or(|(acked, at)| acked != digest || now.duration_since(*at) >= AGAIN)
    }

    /// It is in the spool.
    pub(crate) const fn on_sent(&mut self, seq: u64, digest: Digest) {
        self.pending = Some((seq, digest));
    }

    /// Batches up to this one are committed.
    pub(crate) fn on_ack(&mut self, seq: u64, now: Instant) {
        if let Some((_, digest)) = self.pending.take_if(|(pending, _)| *pending <= seq) {
            self.acked = Some((digest, now));
        }
    }

    /// The spool had to drop batches.
    pub(crate) fn on_gaps(&mut self, gaps: &[Gap], now: Instant) {
        let lost = |seq: u64| gaps.iter().any(|gap| (gap.first_seq..=gap.last_seq).contains(&seq));
        if self.pending.take_if(|(seq, _)| lost(*seq)).is_some() {
            self.next = self.every.map(|_| now);
        }
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Timestamp;

    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn gap(seq: u64) -> Gap {
        let at = Timestamp::from_ms(0);
        Gap { first_seq: seq, last_seq: seq, from: at, to: at }
    }

    #[test]
    fn what_was_seen_is_sent_when_it_differs_from_what_was_acknowledged() {
        let (mut watch, start) = (Watch::new(Some(EVERY)), Instant::now());
        assert_eq!(watch.due(), None, "nothing could leave yet");
        watch.on_session(start);
        assert_eq!(watch.due(), Some(start));
        assert!(watch.is_news(&[1; 32], start));
        watch.on_looked(start, 0.5);
        assert_eq!(watch.due(), Some(start + EVERY));
        watch.on_sent(7, [1; 32]);
        assert!(!watch.is_news(&[1; 32], start), "it is on its way");
        assert!(watch.is_news(&[2; 32], start));
        watch.on_ack(6, start);
        assert!(!watch.is_news(&[1; 32], start));
        watch.on_ack(7, start);
        assert!(!watch.is_news(&[1; 32], start), "it is there");
        assert!(watch.is_news(&[2; 32], start));

        watch.on_session(start);
        assert!(!watch.is_news(&[1; 32], start), "the next session knows it too");
        assert!(watch.is_news(&[1; 32], start + AGAIN), "a coordinator may have lost it");
    }

    #[test]
    fn what_a_session_or_the_spool_lost_is_sent_again() {
        let (mut watch, start) = (Watch::new(Some(EVERY)), Instant::now());
        watch.on_session(start);
        watch.on_sent(7, [1; 32]);
        watch.on_session(start);
        assert!(watch.is_news(&[1; 32], start));
        watch.on_sent(8, [1; 32]);
        watch.on_gaps(&[gap(7)], start);
        assert!(!watch.is_news(&[1; 32], start));
        watch.on_gaps(&[gap(8)], start);
        assert_eq!(watch.due(), Some(start));
        assert!(watch.is_news(&[1; 32], start));
    }

    #[test]
    fn looks_are_spread_and_may_be_off() {
        let (mut watch, start) = (Watch::new(Some(EVERY)), Instant::now());
        for (random, seconds) in [(0.0, 240), (1.0, 360)] {
            watch.on_looked(start, random);
            assert_eq!(watch.due(), Some(start + Duration::from_secs(seconds)));
        }
        let mut off = Watch::new(None);
        off.on_session(start);
        assert_eq!(off.due(), None);
    }
}
