//! The key that signs where the chain ends. It lies in the data folder, not in
//! the database: whoever can only write the database cannot move the end.

use std::{
    io,
    path::{Path, PathBuf},
};

use data_encoding::BASE64URL_NOPAD;
use farol_pki::files;
use farol_protocol::{Timestamp, action::hex};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};

use super::Place;
use crate::error::{Error, Result};

/// File in the data folder. Coordinators on one database share it.
const FILE: &str = "record.key";
/// File in the data folder: the last head, so that a database that was put back
/// is found.
const SEEN: &str = "record.head";
/// Begins what is signed of a head.
const HEAD: &[u8] = b"farol-head-v1\0";
/// Begins what is signed of a bundle.
const BUNDLE: &[u8] = b"farol-bundle-v1\0";

/// Where the chain ends, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How far it goes.
    pub place: Place,
    /// When its last links were made.
    pub sealed_at: Timestamp,
    /// `ed25519:` and the key in base64url.
    pub public_key: String,
    /// Base64url without padding, over `"farol-head-v1\0"`, `seq` and the time
    /// in ms as 8 bytes each with the highest first, and the 32 bytes of the hash.
    pub signature: String,
}

impl Head {
    /// Whether its own key signed it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        is_signed(&self.public_key, &message(&self.place, self.sealed_at), &self.signature)
    }
}

fn message(place: &Place, sealed_at: Timestamp) -> Vec<u8> {
    [HEAD, &place.seq.to_be_bytes(), &sealed_at.as_ms().to_be_bytes(), place.hash.bytes()].concat()
}

fn is_signed(public_key: &str, message: &[u8], signature: &str) -> bool {
    let decoded = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    let (Some(key), Some(signature)) = (public_key.strip_prefix("ed25519:").and_then(decoded), decoded(signature))
    else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()
}

/// Whether `public_key` signed these bytes of a bundle's manifest.
#[must_use]
pub fn is_signed_bundle(public_key: &str, manifest: &[u8], signature: &str) -> bool {
    is_signed(public_key, &[BUNDLE, manifest].concat(), signature)
}

/// Signs heads and bundles. Not `Debug`: it is a secret.
pub struct RecordKey {
    pair: Ed25519KeyPair,
    public: String,
    seen: PathBuf,
}

impl RecordKey {
    /// Takes the key from its file in the data folder, which is made where it
    /// is missing.
    ///
    /// # Errors
    /// It cannot be read or written, others can read it, or it holds something
    /// else than 64 hexadecimal digits.
    pub fn open_or_create(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE);
        if !path.try_exists().map_err(|source| Error::File { what: "inspect", path: path.clone(), source })? {
            create(data_dir, &path)?;
        }
        let text = files::read_private(&path)?;
        let seed = data_encoding::HEXLOWER.decode(text.trim().as_bytes()).unwrap_or_default();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| {
            Error::Config(format!(
                "{} does not hold 64 hexadecimal digits; restore it from the backup, or remove it and run \
                 `farol audit resume`",
                path.display()
            ))
        })?;
        let public = format!("ed25519:{}", BASE64URL_NOPAD.encode(pair.public_key().as_ref()));
        Ok(Self { pair, public, seen: data_dir.join(SEEN) })
    }

    /// `ed25519:` and the public half in base64url.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Signs that the chain goes this far.
    #[must_use]
    pub fn head(&self, place: Place, sealed_at: Timestamp) -> Head {
        let signature = BASE64URL_NOPAD.encode(self.pair.sign(&message(&place, sealed_at)).as_ref());
        Head { place, sealed_at, public_key: self.public.clone(), signature }
    }

    /// Signs a bundle by its manifest's exact bytes.
    #[must_use]
    pub fn sign_bundle(&self, manifest: &[u8]) -> String {
        BASE64URL_NOPAD.encode(self.pair.sign(&[BUNDLE, manifest].concat()).as_ref())
    }

    /// The head that this machine has seen last, outside of the database.
    ///
    /// # Errors
    /// Its file cannot be read, or holds something else.
    pub fn seen(&self) -> Result<Option<Place>> {
        let text = match std::fs::read_to_string(&self.seen) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { what: "read", path: self.seen.clone(), source }),
        };
        let place = text.trim().parse().map_err(|why| Error::Config(format!("{}: {why}", self.seen.display())))?;
        Ok(Some(place))
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn see(&self, place: &Place) -> Result<()> {
        Ok(files::write_private(&self.seen, format!("{place}\n").as_bytes())?)
    }
}

/// Never over a file that another process has made meanwhile.
fn create(data_dir: &Path, path: &Path) -> Result<()> {
    let mut seed = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
    let new = data_dir.join(format!("{FILE}.{}", uuid::Uuid::now_v7()));
    files::write_private(&new, hex(&seed).as_bytes())?;
    let linked = std::fs::hard_link(&new, path);
    let removed = std::fs::remove_file(&new);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked.and(removed).map_err(|source| Error::File { what: "create", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Hash;

    #[test]
    fn a_head_is_signed_by_the_folders_key_and_no_part_of_it_can_be_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = RecordKey::open_or_create(folder.path()).expect("a key");
        let again = RecordKey::open_or_create(folder.path()).expect("the same key");
        assert_eq!(key.public(), again.public());
        let head = key.head(Place::START.then(&Hash::of(b"x")), Timestamp::from_ms(7));
        assert!(head.is_signed());
        let changed = |change: fn(&mut Head)| {
            let mut head = head.clone();
            change(&mut head);
            head.is_signed()
        };
        assert!(!changed(|head| head.place.seq = 2));
        assert!(!changed(|head| head.place.hash = Hash::GENESIS));
        assert!(!changed(|head| head.sealed_at = Timestamp::from_ms(8)));
        assert!(!changed(|head| head.public_key = "ed25519:".to_owned()));
        assert!(!changed(|head| head.signature.truncate(10)));
        // What is signed of one thing is of no use for another.
        assert!(!is_signed_bundle(key.public(), &message(&head.place, head.sealed_at), &head.signature));
        assert!(is_signed_bundle(key.public(), b"{}", &key.sign_bundle(b"{}")));
    }

    #[test]
    fn the_last_head_is_remembered_and_a_file_that_says_something_else_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = RecordKey::open_or_create(folder.path()).expect("a key");
        assert_eq!(key.seen().expect("readable"), None);
        let place = Place::START.then(&Hash::of(b"x"));
        key.see(&place).expect("written");
        assert_eq!(key.seen().expect("readable"), Some(place));
        std::fs::write(folder.path().join(SEEN), "soon").expect("written");
        assert!(key.seen().expect_err("refused").to_string().contains("is not a head"));
        std::fs::write(folder.path().join(FILE), "short").expect("written");
        assert!(RecordKey::open_or_create(folder.path()).err().expect("refused").to_string().contains("64 hexa"));
    }
}
