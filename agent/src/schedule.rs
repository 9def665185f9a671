//! When each check runs. No clock and no I/O: times are arguments.

use std::{collections::HashMap, time::Duration};

use farol_protocol::{CheckId, HostId, report::CheckSpec};
use tokio::time::Instant;

/// Shortest interval of a check.
const SHORTEST: Duration = Duration::from_secs(1);
/// First runs are spread over this time or the interval, whichever is shorter.
const SPREAD: Duration = Duration::from_secs(30);

/// The checks of a host and when each is due.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<CheckId, Entry>,
}

#[derive(Debug)]
struct Entry {
    spec: CheckSpec,
    due: Instant,
    running: bool,
}

impl Schedule {
    /// Replaces the checks. One that did not change keeps its rhythm.
    pub fn assign(&mut self, host: &HostId, checks: &[CheckSpec], now: Instant) {
        let mut old = std::mem::take(&mut self.entries);
        for spec in checks {
            let entry = match old.remove(&spec.id) {
                Some(entry) if entry.spec == *spec => entry,
                previous => Entry {
                    spec: spec.clone(),
                    due: now + offset(host, spec),
                    running: previous.is_some_and(|entry| entry.running),
                },
            };
            self.entries.insert(spec.id.clone(), entry);
        }
    }

    /// Makes every check due.
    pub fn hurry(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.due = now;
        }
    }

    /// When the next check is due; none without checks.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.running).map(|entry| entry.due).min()
    }

    /// The checks to start now. Each counts as running until [`Schedule::finished`].
    pub fn start_due(&mut self, now: Instant) -> Vec<CheckSpec> {
        let mut started = Vec::new();
        for entry in self.entries.values_mut().filter(|entry| !entry.running && entry.due <= now) {
            let every = interval(&entry.spec);
            // The rhythm stays; runs that were missed are not made up for.
            let missed = now.duration_since(entry.due).as_millis() / every.as_millis();
            entry.due += every * u32::try_from(missed + 1).unwrap_or(u32::MAX);
            entry.running = true;
            started.push(entry.spec.clone());
        }
        started
    }

    /// A run ended; whether the check is still assigned.
    pub fn finished(&mut self, check: &CheckId) -> bool {
        self.entries.get_mut(check).map(|entry| entry.running = false).is_some()
    }

    /// Whether a check runs or is due.
    #[must_use]
    pub fn is_busy(&self, now: Instant) -> bool {
        self.entries.values().any(|entry| entry.running || entry.due <= now)
    }
}

fn interval(spec: &CheckSpec) -> Duration {
    Duration::from_millis(spec.every_ms).max(SHORTEST)
}

/// Spreads the checks of all hosts, always the same way.
fn offset(host: &HostId, spec: &CheckSpec) -> Duration {
    let window = interval(spec).min(SPREAD).as_millis();
    let hash = fnv1a(host.as_str().bytes().chain([0]).chain(spec.id.as_str().bytes()));
    Duration::from_millis(u64::try_from(u128::from(hash) % window).unwrap_or(0))
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The low bits of this hash alone are poor for short texts.
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::{Limits, Probe};

    use super::*;

    fn spec(id: &str, every_ms: u64) -> CheckSpec {
        let probe = Probe::Memory(Limits::default());
        CheckSpec { id: id.parse().expect("valid"), every_ms, timeout_ms: 1000, probe }
    }

    fn host() -> HostId {
        "vm112".parse().expect("valid")
    }

    #[test]
    fn checks_start_spread_and_keep_their_rhythm() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let specs: Vec<_> = (0..20).map(|n| spec(&format!("check.{n}"), 60_000)).collect();
        schedule.assign(&host(), &specs, now);
        let first = schedule.next_due().expect("some");
        assert!(first < now + SPREAD);
        assert!(schedule.start_due(first).len() < 20, "all at once");

        let mut schedule = Schedule::default();
        schedule.assign(&host(), &specs[..1], now);
        let first = schedule.next_due().expect("some");
        assert_eq!(schedule.start_due(first + Duration::from_millis(20)).len(), 1);
        schedule.finished(&specs[0].id);
        assert_eq!(schedule.next_due(), Some(first + Duration::from_secs(60)));
    }

    #[test]
    fn a_check_never_overlaps_itself_and_missed_runs_are_not_made_up_for() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.assign(&host(), &[spec("a", 1000)], now);
        schedule.hurry(now);
        assert_eq!(schedule.start_due(now).len(), 1);
        let later = now + Duration::from_millis(10_500);
        assert!(schedule.start_due(later).is_empty() && schedule.next_due().is_none());
        assert!(schedule.finished(&"a".parse().expect("valid")));
        assert_eq!(schedule.start_due(later).len(), 1);
        schedule.finished(&"a".parse().expect("valid"));
        assert_eq!(schedule.next_due(), Some(now + Duration::from_secs(11)));
    }

    #[test]
    fn the_same_check_keeps_its_time_and_a_removed_one_is_forgotten() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.assign(&host(), &[spec("a", 60_000), spec("b", 60_000)], now);
        schedule.hurry(now);
        assert_eq!(schedule.start_due(now).len(), 2);

        schedule.assign(&host(), &[spec("a", 60_000)], now + Duration::from_secs(5));
        assert!(schedule.finished(&"a".parse().expect("valid")));
        assert!(!schedule.finished(&"b".parse().expect("valid")));
        assert_eq!(schedule.next_due(), Some(now + Duration::from_secs(60)));
    }
}
