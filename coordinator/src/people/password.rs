//! Passwords: Argon2id, and a bounded queue in front of it.
//!
//! One hash costs 64 MiB and three passes (RFC 9106, second recommended
//! choice, on one lane): about 200 ms of one core. Two run at once at most, and
//! of these one is kept for browsers from which the person has signed in
//! before, so that a flood of strangers neither starves the API nor keeps
//! people out.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _},
};
use ring::rand::SecureRandom as _;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// Memory of one hash, in KiB.
const MEMORY_KIB: u32 = 64 * 1024;
/// Passes over it.
const PASSES: u32 = 3;
/// Fewest characters of a new password.
pub const SHORTEST: usize = 12;
/// Most bytes that are hashed.
const LONGEST: usize = 1024;
/// What is compared where there is no account: nobody's password, by the same
/// parameters.
const NOBODY: &str =
    "$argon2id$v=19$m=65536,t=3,p=1$BwcHBwcHBwcHBwcHBwcHBw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Sign-ins that may wait in a lane.
const WAITING: usize = 16;
/// Sign-ins that may wait of one source.
const WAITING_OF_ONE: usize = 4;

/// A password, a code or another secret that somebody typed. No log, debug
/// output or answer shows it.
#[derive(Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "password")]
pub struct Typed(String);

impl Typed {
    /// Keeps `text` from being shown.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the check that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed")
    }
}

/// Whether a password may be taken by `user`.
///
/// # Errors
/// It is too short, too long, or the name itself.
pub fn check_new(user: &str, password: &Typed) -> Result<()> {
    let text = password.expose();
    let refuse = |why: String| Err(Error::InvalidPassword(why));
    match text.chars().count() {
        length if length < SHORTEST => {
            refuse(format!("the password has fewer than {SHORTEST} characters; several words make a good one"))
        }
        _ if text.len() > LONGEST => refuse(format!("the password is longer than {LONGEST} bytes")),
        _ if text.to_lowercase().contains(&user.to_lowercase()) && text.len() < user.len() + SHORTEST => {
            refuse("the password is little more than the name; choose another".to_owned())
        }
        _ => Ok(()),
    }
}

fn argon() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(failed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed(error: impl fmt::Display) -> Error {
    Error::Refused(format!("the password could not be hashed: {error}"))
}

/// Hashes a password, in PHC's notation. Takes 100 to 300 ms of this thread.
///
/// # Errors
/// The system gives no random numbers or no memory.
pub fn hash(password: &Typed) -> Result<String> {
    let mut salt = [0_u8; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
    Ok(argon()?.hash_password_with_salt(password.expose().as_bytes(), &salt).map_err(failed)?.to_string())
}

/// Whether `password` is the one of `hash`. Without a hash it takes as long and
/// is not, so that nobody learns who has an account.
#[must_use]
pub fn verify(password: &Typed, hash: Option<&str>) -> bool {
    let Ok(argon) = argon() else { return false };
    if password.expose().len() > LONGEST {
        return false;
    }
    // The parameters are those of the stored hash.
    let right = argon.verify_password(password.expose().as_bytes(), hash.unwrap_or(NOBODY)).is_ok();
    right && hash.is_some()
}

/// No place in the queue; ask again in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The queue in front of the hash function.
#[derive(Debug)]
pub struct Hashing {
    strangers: Lane,
    known: Lane,
}

#[derive(Debug)]
struct Lane {
    turn: Semaphore,
    waiting: Mutex<HashMap<String, usize>>,
}

impl Default for Hashing {
    fn default() -> Self {
        let lane = || Lane { turn: Semaphore::new(1), waiting: Mutex::default() };
        Self { strangers: lane(), known: lane() }
    }
}

impl Hashing {
    /// Runs `work`, which hashes, on a thread that may block, when it is its
    /// turn. `source` is where the request comes from; `known` whether the
    /// person has signed in from there.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn run<T: Send + 'static>(
        &self,
        source: &str,
        known: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let lane = if known { &self.known } else { &self.strangers };
        let _place = lane.enter(source)?;
        let _turn = lane.turn.acquire().await.map_err(|_| Busy)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| Busy)
    }
}

impl Lane {
    fn enter(&self, source: &str) -> Result<Place<'_>, Busy> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = waiting.values().sum();
        let own = waiting.get(source).copied().unwrap_or(0);
        if all >= WAITING || own >= WAITING_OF_ONE {
            return Err(Busy);
        }
        waiting.insert(source.to_owned(), own + 1);
        Ok(Place { lane: self, source: source.to_owned() })
    }
}

/// A place in the queue, given back when its holder is done or has gone.
struct Place<'a> {
    lane: &'a Lane,
    source: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.lane.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn typed(text: &str) -> Typed {
        Typed::new(text.to_owned())
    }

    #[test]
    fn a_password_is_known_again_and_another_or_nobodys_is_not() {
        let hashed = hash(&typed("correct horse battery")).expect("hashed");
        assert!(hashed.starts_with("$argon2id$v=19$m=65536,t=3,p=1$"), "{hashed}");
        assert_ne!(hashed, hash(&typed("correct horse battery")).expect("hashed"), "the salt repeats");
        assert!(verify(&typed("correct horse battery"), Some(&hashed)));
        assert!(!verify(&typed("correct horse batterz"), Some(&hashed)));
        assert!(!verify(&typed("correct horse battery"), None));
        assert!(!verify(&typed("correct horse battery"), Some("nonsense")));
        assert!(!verify(&Typed::new("x".repeat(LONGEST + 1)), Some(&hashed)));
        assert_eq!(format!("{:?}", typed("correct horse battery")), "Typed");
    }

    #[test]
    fn whoever_has_no_account_waits_for_a_whole_hash() {
        let hashed = hash(&typed("correct horse battery")).expect("hashed");
        let (parameters, _) = NOBODY.rsplit_once("p=1$").expect("parameters");
        assert!(hashed.starts_with(parameters), "{hashed}");
        let quickest = |stored: Option<&str>| {
            let time = |_| {
                let began = std::time::Instant::now();
                assert!(!verify(&typed("not the password"), stored));
                began.elapsed()
            };
            (0..3).map(time).min().expect("three")
        };
        let (nobody, somebody) = (quickest(None), quickest(Some(&hashed)));
        eprintln!("a wrong password takes {somebody:?}, nobody's {nobody:?}");
        assert!(nobody * 3 > somebody && somebody * 3 > nobody, "{nobody:?} {somebody:?}");
    }

    #[test]
    fn a_new_password_is_long_enough_and_not_the_name() {
        for (user, password, good) in [
            ("ana", "correct horse battery", true),
            ("ana", "ana is a good person", true),
            ("ana", "eleven chrs", false),
            ("ana.oliveira@example.org", "ana.oliveira@example.org1", false),
        ] {
            assert_eq!(check_new(user, &typed(password)).is_ok(), good, "{password}");
        }
        let said = check_new("ana", &typed("planted")).expect_err("short").to_string();
        assert!(!said.contains("planted"), "{said}");
        assert!(check_new("ana", &Typed::new("é".repeat(LONGEST))).is_err());
    }

    #[tokio::test]
    async fn a_source_and_all_of_them_may_only_so_many_wait_and_known_browsers_have_their_own_lane() {
        let queue = std::sync::Arc::new(Hashing::default());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let first = queue.clone();
        let first = tokio::spawn(async move { first.run("a", false, move || held.recv()).await });
        let wait = |count: usize| {
            let queue = queue.clone();
            async move {
                while queue.strangers.waiting.lock().expect("locked").values().sum::<usize>() < count {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        wait(1).await;
        let mut others = Vec::new();
        for (n, source) in
            ["a", "a", "a", "b", "b", "b", "b", "c", "c", "c", "c", "d", "d", "d", "d"].iter().enumerate()
        {
            let lane = queue.clone();
            others.push(tokio::spawn(async move { lane.run(source, false, || ()).await }));
            wait(n + 2).await;
            if n == 2 {
                assert_eq!(self::run(&queue, "a", false).await, Err(Busy), "one source took a fifth place");
            }
        }
        assert_eq!(self::run(&queue, "e", false).await, Err(Busy), "all places are taken");
        assert_eq!(self::run(&queue, "device", true).await, Ok(()), "a known browser waited behind strangers");
        release.send(()).expect("waiting");
        first.await.expect("no panic").expect("its turn").expect("released");
        for other in others {
            assert_eq!(other.await.expect("no panic"), Ok(()));
        }
        assert!(queue.strangers.waiting.lock().expect("locked").is_empty(), "a place was not given back");
    }

    async fn run(queue: &Hashing, source: &str, known: bool) -> Result<(), Busy> {
        queue.run(source, known, || ()).await
    }
}
