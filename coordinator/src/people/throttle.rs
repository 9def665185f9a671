//! How long whoever failed to sign in waits: by account and by where they come
//! from, so that nobody keeps another person out.
//!
//! An attempt is counted when it begins and forgotten when it succeeds: many at
//! once are no way around it. There is no lock, only a growing delay.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use farol_protocol::Timestamp;

/// Attempts without any delay: people mistype.
const FREE: u32 = 5;
/// Longest delay, in ms.
const LONGEST_MS: i64 = 15 * 60_000;
/// So long after the last attempt all is forgotten, in ms.
const FORGOTTEN_MS: i64 = 3_600_000;
/// Most pairs that are remembered; beyond, the oldest go.
const REMEMBERED: usize = 16_384;

/// What is remembered of one account and one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How many have begun since the last success.
    pub count: u32,
    /// When the last one began.
    pub last: Timestamp,
}

/// Whether an attempt may begin now.
///
/// # Errors
/// It has to wait, for so many ms.
pub fn judge(known: Option<Attempts>, now: Timestamp) -> Result<Attempts, i64> {
    let Some(known) = known.filter(|known| now.since(known.last) < FORGOTTEN_MS) else {
        return Ok(Attempts { count: 1, last: now });
    };
    let delay = match known.count.checked_sub(FREE) {
        None => 0,
        Some(over) => 1000_i64.checked_shl(over.min(20)).unwrap_or(LONGEST_MS).min(LONGEST_MS),
    };
    // A clock that was set back makes nobody wait longer than the delay.
    let passed = now.since(known.last).max(0);
    if passed < delay {
        return Err(delay - passed);
    }
    Ok(Attempts { count: known.count.saturating_add(1), last: now })
}

/// Where somebody comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A network: the /24 or /64 of the address.
    Network(String),
    /// A browser from which this very person has signed in before, or a
    /// session of theirs.
    Known(String),
}

impl Source {
    /// The network of an address.
    #[must_use]
    pub fn of(peer: Option<IpAddr>) -> Self {
        Self::Network(match peer.map(|peer| peer.to_canonical()) {
            Some(IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
            None => "unknown".to_owned(),
        })
    }

    /// All networks together, for what is guessed with the right password.
    #[must_use]
    pub fn everywhere() -> Self {
        Self::Network("everywhere".to_owned())
    }

    /// As text, unlike that of any other.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Network(text) | Self::Known(text) => text,
        }
    }

    /// Whether the person has been here before.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

/// All that is remembered. It ends with the process, which strangers cannot end.
#[derive(Debug, Default)]
pub struct Throttle {
    attempts: Mutex<HashMap<(String, Source), Attempts>>,
}

impl Throttle {
    /// Begins an attempt; answers which one it is.
    ///
    /// # Errors
    /// It has to wait, for so many ms.
    pub fn begin(&self, account: &str, source: &Source, now: Timestamp) -> Result<u32, i64> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account.to_ascii_lowercase(), source.clone());
        let next = judge(attempts.get(&key).copied(), now)?;
        if attempts.len() >= REMEMBERED && !attempts.contains_key(&key) {
            let oldest = attempts.iter().min_by_key(|(_, known)| (known.count, known.last)).map(|(key, _)| key.clone());
            attempts.retain(|known, at| now.since(at.last) < FORGOTTEN_MS && Some(known) != oldest.as_ref());
        }
        attempts.insert(key, next);
        Ok(next.count)
    }

    /// Forgets what came to a good end.
    pub fn succeeded(&self, account: &str, source: &Source) {
        let key = (account.to_ascii_lowercase(), source.clone());
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Takes an attempt back that was not looked at.
    pub fn give_back(&self, account: &str, source: &Source) {
        let key = (account.to_ascii_lowercase(), source.clone());
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let left = attempts.get_mut(&key).map(|known| {
            known.count = known.count.saturating_sub(1);
            known.count
        });
        // What was never looked at takes nobody's place.
        if left == Some(0) {
            attempts.remove(&key);
        }
    }

    /// Whether the attempt with this number makes the next one wait.
    #[must_use]
    pub const fn delays_after(count: u32) -> bool {
        count >= FREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_000_000 + ms)
    }

    fn network(text: &str) -> Source {
        Source::of(Some(text.parse().expect("an address")))
    }

    #[test]
    fn the_delay_begins_after_five_doubles_has_an_end_and_is_forgotten() {
        let known = |count| Some(Attempts { count, last: at(0) });
        assert_eq!(judge(None, at(0)), Ok(Attempts { count: 1, last: at(0) }));
        assert!(judge(known(4), at(0)).is_ok());
        for (count, delay) in
            [(5, 1000), (6, 2000), (9, 16_000), (14, 512_000), (15, LONGEST_MS), (u32::MAX, LONGEST_MS)]
        {
            assert_eq!(judge(known(count), at(1)), Err(delay - 1), "{count}");
            assert!(judge(known(count), at(delay)).is_ok(), "{count}");
        }
        assert_eq!(judge(known(100), at(FORGOTTEN_MS)), Ok(Attempts { count: 1, last: at(FORGOTTEN_MS) }));
        assert_eq!(judge(known(5), at(-50_000)), Err(1000), "the clock was set back");
    }

    #[test]
    fn failures_from_elsewhere_or_of_others_delay_nobody() {
        let throttle = Throttle::default();
        let attacker = network("198.51.100.7");
        for _ in 0..5 {
            throttle.begin("ana", &attacker, at(0)).expect("free");
        }
        assert_eq!(throttle.begin("Ana", &network("198.51.100.99"), at(0)), Err(1000), "the network is one source");
        for (account, source) in [
            ("ana", network("192.0.2.1")),
            ("ana", Source::Known("1".to_owned())),
            ("bia", attacker.clone()),
            ("ana", network("2001:db8::1")),
        ] {
            assert_eq!(throttle.begin(account, &source, at(0)), Ok(1), "{account} {source:?}");
        }
        throttle.succeeded("ana", &attacker);
        assert_eq!(throttle.begin("ana", &attacker, at(0)), Ok(1));
        throttle.give_back("ana", &attacker);
        assert_eq!(throttle.begin("ana", &attacker, at(0)), Ok(1));
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_the_oldest_goes_first() {
        let throttle = Throttle::default();
        for n in 0..REMEMBERED {
            throttle.begin(&n.to_string(), &network("192.0.2.1"), at(i64::try_from(n).expect("small"))).expect("free");
        }
        throttle.begin("one more", &network("192.0.2.1"), at(20_000)).expect("free");
        let attempts = throttle.attempts.lock().expect("locked");
        assert_eq!(attempts.len(), REMEMBERED);
        assert!(!attempts.contains_key(&("0".to_owned(), network("192.0.2.1"))));
    }

    #[test]
    fn neighbours_share_a_network() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.200"));
        assert_eq!(network("2001:db8:1:2:3::1"), network("2001:db8:1:2:4::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
    }
}
