//! What an entry's hash, a link and a place in the chain are. Pure; whoever
//! verifies the record with other means has to do exactly this.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256, digest};

/// Begins what is hashed for a link, so that no other hash of Farol's is one.
const CONTEXT: &[u8] = b"farol-link-v1\0";

/// A SHA-256, written in 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands before the first link: zeros.
    pub const GENESIS: Self = Self([0; 32]);

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(digest(&SHA256, bytes))
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<ring::digest::Digest> for Hash {
    fn from(digest: ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        let decoded = HEXLOWER.decode_len(text.len()).is_ok_and(|length| length == 32)
            && HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).is_ok();
        if !decoded {
            return Err("a hash has 64 hexadecimal digits in lower case".to_owned());
        }
        Ok(Self(bytes))
    }
}

/// What an entry says, without its hash.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Identifier.
    pub id: &'a str,
    /// When, in ms.
    pub at_ms: i64,
    /// Who.
    pub actor: &'a str,
    /// What was done.
    pub verb: &'a str,
    /// To what kind of thing.
    pub object_kind: &'a str,
    /// To which.
    pub object_id: &'a str,
    /// More about it.
    pub detail: &'a str,
}

impl Said<'_> {
    /// SHA-256 of the fields as a compact JSON array, in this order.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let Said { id, at_ms, actor, verb, object_kind, object_id, detail } = self;
        let fields = (id, at_ms, actor, verb, object_kind, object_id, detail);
        // Texts and a number always become JSON.
        Hash::of(&serde_json::to_vec(&fields).unwrap_or_default())
    }
}

/// The hash of a link: SHA-256 over `"farol-link-v1\0"`, the 32 bytes of the
/// link before, `seq` as 8 bytes with the highest first, and the 32 bytes of
/// the entry's hash.
#[must_use]
pub fn link(before: &Hash, seq: u64, entry: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in [CONTEXT, before.bytes(), &seq.to_be_bytes(), entry.bytes()] {
        context.update(part);
    }
    Hash::from(context.finish())
}

/// A place in the chain: how far it goes, and its hash there. Written
/// `SEQ:HASH`; what is anchored outside is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the last link; 0 where there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Place {
    /// Before the first link.
    pub const START: Self = Self { seq: 0, hash: Hash::GENESIS };

    /// The place behind the next link.
    #[must_use]
    pub fn then(&self, entry: &Hash) -> Self {
        let seq = self.seq.saturating_add(1);
        Self { seq, hash: link(&self.hash, seq, entry) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is not a head such as 118:9f86d0…; copy all of it", crate::text::plain(text, 80));
        let (seq, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        Ok(Self { seq: seq.parse().map_err(|_| wrong())?, hash: hash.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: Said<'static> = Said {
        id: "i",
        at_ms: -7,
        actor: "Zoë",
        verb: "a.b",
        object_kind: "host",
        object_id: "h\"1\\",
        detail: "two\nlines \u{1} / end",
    };

    /// What `docs/SECURITY.md` says, done by hand.
    #[test]
    fn the_hash_of_an_entry_is_that_of_its_fields_as_a_json_array() {
        let document = r#"["i",-7,"Zoë","a.b","host","h\"1\\","two\nlines \u0001 / end"]"#;
        assert_eq!(SAID.hash(), Hash::of(document.as_bytes()));
    }

    #[test]
    fn every_field_counts_and_none_can_run_into_the_next() {
        let other = |change: fn(&mut Said<'static>)| {
            let mut said = SAID;
            change(&mut said);
            said.hash()
        };
        let hashes = [
            SAID.hash(),
            other(|said| said.id = "j"),
            other(|said| said.at_ms = -6),
            other(|said| said.actor = "Zoe"),
            other(|said| said.verb = "a.c"),
            other(|said| said.object_kind = "hosth"),
            other(|said| said.object_id = ""),
            other(|said| said.detail = ""),
        ];
        for (n, one) in hashes.iter().enumerate() {
            assert!(hashes[n + 1..].iter().all(|other| other != one), "{n}");
        }
    }

    #[test]
    fn a_link_is_the_hash_of_what_the_documents_say() {
        let entry = Hash::of(b"x");
        let bytes = [b"farol-link-v1\0".as_slice(), &[0; 32], &[0, 0, 0, 0, 0, 0, 0, 1], entry.bytes()].concat();
        let first = Place::START.then(&entry);
        assert_eq!((first.seq, first.hash), (1, Hash::of(&bytes)));
        assert_ne!(first.then(&entry).hash, first.hash);
    }

    #[test]
    fn a_place_is_read_as_it_is_written_and_nothing_else() {
        let place = Place::START.then(&Hash::of(b"x"));
        assert_eq!(place.to_string().parse(), Ok(place));
        let digits = "a".repeat(64);
        for wrong in ["", "1", "1:", ":", "1:ff", &format!("x:{digits}"), &format!("1:{}", "A".repeat(64)), &digits] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
