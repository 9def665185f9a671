//! What systemd is told of a service: that it is ready, and that it is well.

use std::time::Duration;

use tokio::time::Instant;

/// A watchdog that wants to hear of us, if the unit has one.
#[derive(Debug)]
pub struct Watchdog {
    /// From one sign to the next; none without a watchdog.
    every: Option<Duration>,
    next: Instant,
    well: bool,
}

impl Watchdog {
    /// As the unit's `WatchdogSec=` says, in the environment.
    #[must_use]
    pub fn from_environment(now: Instant) -> Self {
        Self::new(limit(), now)
    }

    /// For a unit that is ended after `limit` without a sign.
    fn new(limit: Option<Duration>, now: Instant) -> Self {
        Self { every: limit.map(|limit| limit / 3), next: now, well: true }
    }

    /// When [`Watchdog::turn`] wants to be called.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.every.map(|_| self.next)
    }

    /// The loop has turned. Gives the sign when it is due and all is `well`;
    /// without, systemd ends the service and starts it again.
    pub fn turn(&mut self, now: Instant, well: bool) {
        if self.turned(now, well) {
            tell(&[State::Watchdog]);
        }
    }

    fn turned(&mut self, now: Instant, well: bool) -> bool {
        let Some(every) = self.every.filter(|_| now >= self.next) else {
            return false;
        };
        self.next = now + every;
        if !well && self.well {
            tracing::error!("the connection makes no progress; without any, the watchdog restarts the agent");
        }
        self.well = well;
        well
    }
}

/// The service has begun its work.
pub fn ready() {
    tell(&[State::Ready]);
}

/// The service ends.
pub fn stopping() {
    tell(&[State::Stopping]);
}

enum State {
    Ready,
    Stopping,
    Watchdog,
}

#[cfg(target_os = "linux")]
fn tell(states: &[State]) {
    let states: Vec<sd_notify::NotifyState<'_>> = states
        .iter()
        .map(|state| match state {
            State::Ready => sd_notify::NotifyState::Ready,
            State::Stopping => sd_notify::NotifyState::Stopping,
            State::Watchdog => sd_notify::NotifyState::Watchdog,
        })
        .collect();
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!("systemd could not be told how the service is: {error}");
    }
}

#[cfg(target_os = "linux")]
fn limit() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

#[cfg(not(target_os = "linux"))]
fn tell(_states: &[State]) {}

#[cfg(not(target_os = "linux"))]
fn limit() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_given_three_times_a_limit_and_only_while_all_is_well() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(90)), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(watchdog.turned(at(0), true));
        assert!(!watchdog.turned(at(29), true));
        assert_eq!(watchdog.due(), Some(at(30)));
        assert!(watchdog.turned(at(30), true));
        assert!(!watchdog.turned(at(60), false), "a deaf agent says that it is well");
        assert!(watchdog.turned(at(90), true));
    }

    #[test]
    fn without_a_watchdog_nothing_is_said() {
        let mut watchdog = Watchdog::new(None, Instant::now());
        assert_eq!(watchdog.due(), None);
        assert!(!watchdog.turned(Instant::now(), true));
    }
}
