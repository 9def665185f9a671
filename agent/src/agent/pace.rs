//! How fast the backlog leaves: a bucket that fills evenly.

use std::time::Duration;

use tokio::time::Instant;

/// At most this share of a second leaves at once.
const BURST: Duration = Duration::from_millis(200);

/// A bounded rate.
#[derive(Debug)]
pub(super) struct Pace {
    /// From one batch to the next.
    every: Duration,
    /// How many may leave at once.
    burst: u32,
    /// When the bucket was empty, as if it had filled evenly since.
    empty: Instant,
}

impl Pace {
    /// `per_second` batches, 1 at least.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let every = Duration::from_secs(1) / per_second.max(1);
        let burst = u32::try_from(BURST.as_nanos() / every.as_nanos().max(1)).unwrap_or(u32::MAX).max(1);
        Self { every, burst, empty: now }
    }

    /// Begins anew with one batch to go.
    pub(super) fn refill(&mut self, now: Instant) {
        self.empty = now.checked_sub(self.every).unwrap_or(now);
    }

    /// When the next batch may leave.
    pub(super) fn due(&self) -> Instant {
        self.empty + self.every
    }

    /// Takes up to `most` out of the bucket.
    pub(super) fn take(&mut self, most: usize, now: Instant) -> usize {
        let full = self.every * self.burst;
        if now.saturating_duration_since(self.empty) > full {
            self.empty = now.checked_sub(full).unwrap_or(now);
        }
        let in_it = now.saturating_duration_since(self.empty).as_nanos() / self.every.as_nanos().max(1);
        let taken = u32::try_from(in_it).unwrap_or(u32::MAX).min(u32::try_from(most).unwrap_or(u32::MAX));
        self.empty += self.every * taken;
        taken as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_than_its_share_and_a_small_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(50, start);
        pace.refill(start);
        let mut left = Vec::new();
        for ms in 0..3_000_u64 {
            let now = start + Duration::from_millis(ms);
            if pace.due() <= now {
                left.extend(std::iter::repeat_n(ms, pace.take(8, now)));
            }
        }
        assert!((149..=151).contains(&left.len()), "{}", left.len());
        for from in (0..2_000).step_by(100) {
            let within = left.iter().filter(|at| (from..from + 1_000).contains(*at)).count();
            assert!(within <= 60, "{within} in the second from {from} ms");
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_the_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(50, start);
        assert_eq!(pace.take(1000, start + Duration::from_secs(3600)), 10);
        assert_eq!(pace.take(1000, start + Duration::from_secs(3600)), 0);
        assert_eq!(pace.take(8, start + Duration::from_secs(3601)), 8, "the window counts too");
    }
}
