//! Negotiation of the protocol version.

use serde::{Deserialize, Serialize};

/// The version this crate speaks.
pub const CURRENT: u32 = 1;

/// Versions a peer speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VersionRange {
    /// Oldest.
    pub min: u32,
    /// Newest.
    pub max: u32,
}

impl VersionRange {
    /// What this crate speaks.
    pub const OURS: Self = Self { min: CURRENT, max: CURRENT };

    /// The newest version that both peers speak.
    #[must_use]
    pub fn agree(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min && self.min <= self.max && other.min <= other.max).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins_and_none_is_none() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).agree(range(2, 9)), Some(3));
        assert_eq!(range(1, 1).agree(range(2, 3)), None);
        assert_eq!(range(3, 1).agree(range(1, 3)), None);
    }
}
