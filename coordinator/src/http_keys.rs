//! The secrets of hosts that sign their requests.
//!
//! A secret is derived, not stored: HMAC-SHA-256 with the key in
//! `http-signing.key` over the host's id and the key's id. Whoever copies the
//! database has no secret, and whoever changes it cannot make one host's key
//! speak for another.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use farol_pki::files;
use farol_protocol::{Timestamp, action::hex};
use ring::{hmac, rand::SecureRandom as _};

use crate::error::{Error, Result};

/// File in the data folder from which all secrets are derived.
const FILE: &str = "http-signing.key";
/// Requests a key may make at once, and each second in the long run.
const BURST: f64 = 60.0;
const PER_SECOND: f64 = 10.0;
/// Bearer tokens of hosts begin with this.
const TOKEN_PREFIX: &str = "farol-host_";

/// Derives secrets. Not `Debug`: it is one.
pub struct HttpKeys {
    master: hmac::Key,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl HttpKeys {
    /// Reads the file, or makes it.
    ///
    /// # Errors
    /// It cannot be read or written, others can read it, or it holds something
    /// else.
    pub fn open_or_create(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE);
        let exists = path.try_exists().map_err(|source| Error::File { what: "inspect", path: path.clone(), source })?;
        if !exists {
            let mut bytes = [0_u8; 32];
            ring::rand::SystemRandom::new()
                .fill(&mut bytes)
                .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
            // Never over a file that another process has made meanwhile.
            let new = data_dir.join(format!("{FILE}.{}", std::process::id()));
            files::write_private(&new, hex(&bytes).as_bytes())?;
            let linked = std::fs::hard_link(&new, &path);
            let removed = std::fs::remove_file(&new);
            match linked {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => {
                    linked.and(removed).map_err(|source| Error::File { what: "create", path: path.clone(), source })?
                }
            }
        }
        let text = files::read_private(&path)?;
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Config(format!(
                "{} does not hold 64 hexadecimal digits; restore it from the backup, or remove it and make new keys for \
                 the hosts that sign their requests",
                path.display()
            )));
        }
        Ok(Self { master: hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()), buckets: Mutex::default() })
    }

    /// The secret of a key, 64 hexadecimal digits.
    #[must_use]
    pub fn secret(&self, host_id: &str, key: &str) -> String {
        self.derive("farol-http-key-v1", host_id, key)
    }

    /// The bearer token of a key, good for telemetry only. The secret does not
    /// follow from it.
    #[must_use]
    pub fn token(&self, host_id: &str, key: &str) -> String {
        format!("{TOKEN_PREFIX}{key}_{}", self.derive("farol-http-token-v1", host_id, key))
    }

    /// The key that a bearer token names, if it is one of a host.
    #[must_use]
    pub fn key_of_token(token: &str) -> Option<&str> {
        token.strip_prefix(TOKEN_PREFIX)?.rsplit_once('_').map(|(key, _)| key)
    }

    /// Whether `token` is the one of this key.
    #[must_use]
    pub fn is_token(&self, token: &str, host_id: &str, key: &str) -> bool {
        let expected = self.token(host_id, key);
        // Compared through their tags, in a time that tells nothing.
        let tag = hmac::sign(&self.master, expected.as_bytes());
        hmac::verify(&self.master, token.as_bytes(), tag.as_ref()).is_ok()
    }

    /// Whether a key may make one more request now. To be asked only of keys
    /// that proved themselves, so that there are no more of them than hosts'.
    #[must_use]
    pub fn admit(&self, key: &str, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { tokens: BURST, at: now });
        bucket.take(now)
    }

    fn derive(&self, purpose: &str, host_id: &str, key: &str) -> String {
        hex(hmac::sign(&self.master, format!("{purpose}\0{host_id}\0{key}").as_bytes()).as_ref())
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds between two requests stay far below 53 bits")]
    fn take(&mut self, now: Timestamp) -> bool {
        let passed = now.since(self.at).max(0) as f64 / 1000.0;
        self.tokens = (self.tokens + passed * PER_SECOND).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_after_a_restart_and_another_for_each_host_and_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = HttpKeys::open_or_create(folder.path()).expect("made");
        let secret = first.secret("h1", "k1");
        assert_eq!(secret.len(), 64);
        assert_eq!(HttpKeys::open_or_create(folder.path()).expect("read").secret("h1", "k1"), secret);
        assert_ne!(first.secret("h2", "k1"), secret);
        assert_ne!(first.secret("h1", "k2"), secret);
        let other = tempfile::tempdir().expect("a folder");
        assert_ne!(HttpKeys::open_or_create(other.path()).expect("made").secret("h1", "k1"), secret);
    }

    #[test]
    fn a_token_names_its_key_and_is_good_for_that_one_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = HttpKeys::open_or_create(folder.path()).expect("made");
        let token = keys.token("h1", "k-1");
        assert_eq!(HttpKeys::key_of_token(&token), Some("k-1"));
        assert_eq!(HttpKeys::key_of_token("farol_abc"), None);
        assert!(keys.is_token(&token, "h1", "k-1"));
        assert!(!keys.is_token(&token, "h2", "k-1"));
        assert!(!keys.is_token(&format!("{token}x"), "h1", "k-1"));
        assert!(!token.contains(&keys.secret("h1", "k-1")));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_damaged_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        drop(HttpKeys::open_or_create(folder.path()).expect("made"));
        let mode = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode));
        mode(0o644).expect("opened");
        assert!(HttpKeys::open_or_create(folder.path()).is_err());
        mode(0o600).expect("closed");
        std::fs::write(&path, "short").expect("written");
        let error = HttpKeys::open_or_create(folder.path()).err().expect("refused");
        assert!(error.to_string().contains("restore it"), "{error}");
    }

    #[test]
    fn a_key_has_a_burst_and_then_a_rate() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = HttpKeys::open_or_create(folder.path()).expect("made");
        let start = Timestamp::from_ms(1_000_000);
        assert_eq!((0..100).filter(|_| keys.admit("k", start)).count(), 60);
        assert!(keys.admit("other", start), "one key slows another down");
        assert_eq!((0..100).filter(|_| keys.admit("k", start.plus_ms(1000))).count(), 10);
        assert!(!keys.admit("k", start), "a clock that goes back fills the bucket");
    }
}
