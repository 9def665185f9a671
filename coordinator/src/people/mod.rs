//! People: accounts, how they prove who they are, and what strangers who try
//! cannot do with it.
//!
//! `password` hashes behind a bounded queue, `throttle` (pure) delays by account
//! and source, `codes` is the second factor, `passkey` signs in without either,
//! `sign_in` puts them together, `first_run` makes the first account.
//!
//! **Invariant.** What lets somebody in is stored as a hash or sealed, and is in
//! no log, address or debug output. What is answered to a wrong password is the
//! same, and takes as long, whether the account exists or not.

pub mod codes;
pub mod first_run;
pub mod passkey;
pub mod password;
pub mod sign_in;
pub mod throttle;

use std::{path::Path, time::Duration};

pub use password::Typed;
use tokio::sync::watch;

use self::{first_run::FirstRun, passkey::Challenges, password::Hashing, throttle::Throttle};
use crate::{error::Result, integrations::Vault};

/// So long after proving who they are may people change how they sign in, in ms.
pub const FRESH_MS: i64 = 15 * 60_000;

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without being used.
    pub idle: Duration,
    /// At all.
    pub lifetime: Duration,
}

impl Limits {
    /// [`Limits::idle`] in ms.
    #[must_use]
    pub fn idle_ms(self) -> i64 {
        i64::try_from(self.idle.as_millis()).unwrap_or(i64::MAX)
    }
}

/// What signing in needs beside the store. Not `Debug`: it holds keys.
pub struct People {
    /// The queue in front of the hash function.
    pub hashing: Hashing,
    /// Who has to wait.
    pub throttle: Throttle,
    /// Challenges for passkeys.
    pub challenges: Challenges,
    /// Seals the secrets of apps.
    pub vault: Vault,
    /// The link by which the first account is made.
    pub first_run: FirstRun,
    ended: watch::Sender<()>,
}

impl People {
    /// With the sealing key of `data_dir`.
    ///
    /// # Errors
    /// The key cannot be read, or the system gives no random numbers.
    pub fn new(data_dir: &Path) -> Result<Self> {
        Ok(Self {
            hashing: Hashing::default(),
            throttle: Throttle::default(),
            challenges: Challenges::new()?,
            vault: Vault::open_or_create(data_dir)?,
            first_run: FirstRun::default(),
            ended: watch::Sender::new(()),
        })
    }

    /// Says that a session or a token may have ended.
    pub fn something_ended(&self) {
        self.ended.send_replace(());
    }

    /// Told of [`People::something_ended`].
    #[must_use]
    pub fn watch_ends(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }
}

/// What the secret of an account's app is sealed for.
#[must_use]
pub fn seal_of(user_id: &str) -> String {
    format!("totp/{user_id}")
}
