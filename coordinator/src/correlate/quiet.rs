//! What keeps a problem from being told for a while: silences, maintenance
//! windows and backups that are in force. When they are is decided elsewhere.

use farol_protocol::{CheckId, Timestamp};
use serde::{Deserialize, Serialize};

use super::CheckKey;
use crate::store::hosts::HostKey;

/// Why nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuietKind {
    /// A person said so, until then.
    Silence,
    /// Work that was planned.
    Maintenance,
    /// The hypervisor backs the host up.
    Backup,
}

impl QuietKind {
    /// The word in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Maintenance => "maintenance",
            Self::Backup => "backup",
        }
    }
}

/// Which checks are meant; what is absent or empty stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    /// Hosts, those of sites among them.
    pub hosts: Option<Vec<HostKey>>,
    /// A scenario, or the beginning of several when it ends in `*`.
    pub scenario: Option<String>,
    /// One check.
    pub check: Option<CheckId>,
}

impl Matcher {
    /// Whether a check is meant.
    #[must_use]
    pub fn covers(&self, key: &CheckKey, scenario: &str) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => scenario.starts_with(beginning),
            None => scenario == pattern,
        };
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(&key.0))
            && self.scenario.as_ref().is_none_or(named)
            && self.check.as_ref().is_none_or(|check| *check == key.1)
    }
}

/// A silence, window or backup that is in force now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Identifier, unique among all kinds.
    pub id: String,
    /// What it is.
    pub kind: QuietKind,
    /// What it covers.
    pub matcher: Matcher,
    /// When it ends, as far as that is known.
    pub until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_stands_for_all_and_a_star_for_the_rest_of_a_name() {
        let key: CheckKey = (HostKey(3), "web.site/http".parse().expect("valid"));
        let covers = |matcher: Matcher| matcher.covers(&key, "web.site");
        assert!(covers(Matcher::default()));
        assert!(covers(Matcher { hosts: Some(vec![HostKey(3)]), ..Matcher::default() }));
        assert!(
            !covers(Matcher { hosts: Some(Vec::new()), ..Matcher::default() }),
            "a site without hosts covers nothing"
        );
        assert!(covers(Matcher { scenario: Some("web.*".to_owned()), ..Matcher::default() }));
        assert!(!covers(Matcher { scenario: Some("web".to_owned()), ..Matcher::default() }));
        assert!(covers(Matcher { check: Some(key.1.clone()), ..Matcher::default() }));
        assert!(!covers(Matcher { check: Some("web.site".parse().expect("valid")), ..Matcher::default() }));
    }
}
