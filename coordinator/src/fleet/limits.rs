//! What one host may take up of what all share. Whoever sends more is read
//! more slowly: TCP holds it back, its spool keeps what waits.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Telemetry of all hosts that waits for its commit, in KiB.
const SHARED: usize = 64 * 1024;
/// Of one host.
const OF_ONE_HOST: usize = 4 * 1024;
/// What a batch counts at least, in KiB: the queue is as long as it is wide.
const LEAST: usize = 16;
/// Frames other than telemetry that a host may send a second, evenly.
const FRAMES_A_SECOND: u32 = 50;
/// And at once.
const BURST: u32 = 500;
/// Frames that answer an order, `action.accepted` and `action.result`: whoever
/// is asked may answer, however often.
const ANSWERS: u32 = 2;

/// Room in memory for telemetry that waits for its commit.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// For all hosts together.
    pub(crate) fn shared() -> Self {
        Self(Arc::new(Semaphore::new(SHARED)))
    }

    fn of_one_host() -> Self {
        Self(Arc::new(Semaphore::new(OF_ONE_HOST)))
    }

    async fn take(&self, size: u32) -> Option<OwnedSemaphorePermit> {
        // In the order in which they asked; the semaphore is never closed.
        Arc::clone(&self.0).acquire_many_owned(size).await.ok()
    }
}

/// Room that a batch takes up until it is committed.
#[derive(Debug, Default)]
pub struct Taken {
    _own: Option<OwnedSemaphorePermit>,
    _shared: Option<OwnedSemaphorePermit>,
}

/// Limits of one connection.
pub(super) struct Limits {
    own: Room,
    /// When the bucket of other frames is full again.
    full_at: Option<Instant>,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { own: Room::of_one_host(), full_at: None }
    }

    /// Waits for room for a batch of so many bytes: the host's own first, so
    /// that one that sends too much waits for itself alone.
    pub(super) async fn room(&self, shared: &Room, bytes: usize) -> Taken {
        let size = u32::try_from((bytes / 1024 + 1).clamp(LEAST, OF_ONE_HOST)).unwrap_or(u32::MAX);
        let own = self.own.take(size).await;
        Taken { _own: own, _shared: shared.take(size).await }
    }

    /// How long a frame other than telemetry has to wait for its turn.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / FRAMES_A_SECOND;
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + each;
        self.full_at = Some(full_at);
        (full_at - now).saturating_sub(each * BURST)
    }

    /// An order went out; its answers cost nothing.
    pub(super) fn asked(&mut self) {
        let back = Duration::from_secs(1) / FRAMES_A_SECOND * ANSWERS;
        self.full_at = self.full_at.and_then(|at| at.checked_sub(back));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_host_that_sends_too_much_waits_for_itself_and_leaves_room_for_others() {
        let shared = Room::shared();
        let (greedy, other) = (Limits::new(), Limits::new());
        let mut held: Vec<Taken> =
            std::iter::from_fn(|| greedy.room(&shared, 1 << 20).now_or_never()).take(100).collect();
        // Four frames of a mebibyte, and the last one counts a KiB more.
        assert_eq!(held.len(), 3);
        let small: Vec<Taken> = std::iter::from_fn(|| other.room(&shared, 570).now_or_never()).take(1000).collect();
        assert_eq!(small.len(), 256);
        held.pop();
        assert!(greedy.room(&shared, 1 << 20).now_or_never().is_some());
    }

    #[test]
    fn all_hosts_together_stay_within_the_shared_room() {
        let shared = Room::shared();
        let hosts: Vec<Limits> = (0..100).map(|_| Limits::new()).collect();
        let taken: Vec<Taken> = hosts.iter().filter_map(|host| host.room(&shared, 4 << 20).now_or_never()).collect();
        assert_eq!(taken.len(), SHARED / OF_ONE_HOST);
    }

    #[test]
    fn other_frames_come_in_bursts_and_then_evenly() {
        let mut limits = Limits::new();
        let now = Instant::now();
        assert!((0..BURST).all(|_| limits.pause(now).is_zero()));
        assert_eq!(limits.pause(now), Duration::from_millis(20));
        assert_eq!(limits.pause(now), Duration::from_millis(40));
        assert!(limits.pause(now + Duration::from_secs(60)).is_zero());
    }

    #[test]
    fn answers_to_orders_are_never_too_many() {
        let mut limits = Limits::new();
        let now = Instant::now();
        while limits.pause(now).is_zero() {}
        for _ in 0..10 * BURST {
            limits.asked();
            for _ in 0..ANSWERS {
                assert!(limits.pause(now) <= Duration::from_millis(20));
            }
        }
        // What nobody asked for still waits.
        assert!(!limits.pause(now).is_zero());
    }
}
