//! Every identifier is its own type, so that one cannot stand for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {why}")]
pub struct InvalidId {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// A UUID in its usual text form.
#[cfg(feature = "schema")]
const UUID: &str = "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$";

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("format" = "uuid", "pattern" = UUID)))]
        pub struct $name(#[cfg_attr(feature = "schema", schemars(with = "String"))] Uuid);

        impl $name {
            /// A new identifier that sorts by its time of creation (UUID version 7).
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps a UUID made elsewhere, for seeded tests.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId {
                    what: $what,
                    text: text.chars().take(64).collect(),
                    why: "a UUID is expected",
                })
            }
        }
    };
}

uuid_id!(
    /// One effectful step, whoever repeats it.
    ActionId, "an action id"
);
uuid_id!(
    /// One life of an agent's action journal; a new file has a new id.
    JournalId, "a journal id"
);
uuid_id!(
    /// One connection of an agent.
    SessionId, "a session id"
);
uuid_id!(
    /// One life of an agent's spool, within which `seq` counts.
    StreamId, "a stream id"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(
            feature = "schema",
            derive(schemars::JsonSchema),
            schemars(extend(
                "pattern" = concat!("^[A-Za-z0-9", $allowed, "]{1,128}$"),
                "not" = { "enum": [".", ".."] }
            ))
        )]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = |why| InvalidId {
                    what: $what,
                    text: text.chars().take(64).collect(),
                    why,
                };
                if text.is_empty() || text.len() > 128 {
                    return Err(invalid("it must have 1 to 128 characters"));
                }
                if text == "." || text == ".." {
                    return Err(invalid("`.` and `..` are reserved"));
                }
                let allowed = |c: char| c.is_ascii_alphanumeric() || $allowed.contains(c);
                if !text.chars().all(allowed) {
                    return Err(invalid(concat!(
                        "only ASCII letters, digits and `", $allowed, "` are allowed"
                    )));
                }
                Ok(Self(text.to_owned()))
            }
        }
    };
}

text_id!(
    /// A host, as its certificate names it: one segment of a SPIFFE path.
    HostId, "a host id", "._-"
);
text_id!(
    /// A check, unique within a host: `disk.root`, `wizard.vm112.bundle/portal`.
    CheckId, "a check id", "._/-"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_id_is_one_segment_of_a_path() {
        assert!("vm112".parse::<HostId>().is_ok());
        for bad in ["", ".", "..", "a/b", "á", "a b", &"x".repeat(129)] {
            assert!(bad.parse::<HostId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_invalid_id_is_refused_by_serde_too() {
        assert!(serde_json::from_str::<HostId>(r#""../etc""#).is_err());
        assert!(serde_json::from_str::<ActionId>(r#""12""#).is_err());
        assert!(serde_json::from_str::<CheckId>(r#""scenario/check""#).is_ok());
    }
}
