//! The link by which whoever reads the log of the first start makes the first
//! account. It is in memory only, acts once, and ends after an hour.

use std::sync::{Mutex, PoisonError};

use farol_protocol::Timestamp;

use super::Typed;
use crate::{access::same_secret, app::Shared, error::Result, integrations::Secret};

/// How long it lasts, in ms.
pub const LASTS_MS: i64 = 3_600_000;

/// The link, while there is one. Not `Debug`: it is a secret.
#[derive(Default)]
pub struct FirstRun {
    link: Mutex<Option<(Secret, Timestamp)>>,
}

impl FirstRun {
    /// Makes the link's secret.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn open(&self, now: Timestamp) -> Result<Secret> {
        let secret = Secret::new(crate::store::tokens::secret("first")?);
        *self.lock() = Some((secret.clone(), now.plus_ms(LASTS_MS)));
        Ok(secret)
    }

    /// Whether `presented` is the link's secret and its time has not passed.
    #[must_use]
    pub fn is_open_for(&self, presented: &Typed, now: Timestamp) -> bool {
        self.lock().as_ref().is_some_and(|(secret, until)| {
            same_secret(secret.expose().as_bytes(), presented.expose().as_bytes()) && now < *until
        })
    }

    /// Whether there is a link at all.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.lock().as_ref().is_some_and(|(_, until)| now < *until)
    }

    /// There is an account: it is of no use any more.
    pub fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Secret, Timestamp)>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Whether the first account can still be made by the link. Another process
    /// may have made one.
    pub async fn first_run_is_open(&self, now: Timestamp) -> bool {
        if self.people.first_run.is_open(now) && self.store.anybody().await.is_ok_and(|(users, _)| users) {
            self.people.first_run.close();
        }
        self.people.first_run.is_open(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_opens_with_its_secret_for_an_hour_until_it_is_closed() {
        let (link, now) = (FirstRun::default(), Timestamp::from_ms(1_000));
        assert!(!link.is_open_for(&Typed::new(String::new()), now));
        let secret = Typed::new(link.open(now).expect("made").expose().to_owned());
        assert!(link.is_open_for(&secret, now.plus_ms(LASTS_MS - 1)));
        assert!(!link.is_open_for(&secret, now.plus_ms(LASTS_MS)));
        assert!(!link.is_open_for(&Typed::new("first_0".to_owned()), now));
        link.close();
        assert!(!link.is_open_for(&secret, now) && !link.is_open(now));
    }
}
