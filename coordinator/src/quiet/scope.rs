//! What a silence or a maintenance window is about, as people wrote it.

use farol_protocol::CheckId;
use serde::{Deserialize, Serialize};

use crate::{correlate::Matcher, store::hosts::HostKey};

/// What is meant. Names of hosts change and sites get new hosts, so this is
/// stored and the [`Matcher`] is made of it each time. All that is given must
/// fit; hosts and sites are one list of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Ids of hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Sites, all of whose hosts are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// A scenario, or the beginning of several when it ends in `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// One check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckId>,
}

/// A host and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Inside the databases.
    pub key: HostKey,
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its site. What stands for a site itself is in it too.
    pub site: Option<String>,
}

impl Scope {
    /// Whether nothing in particular is meant, but everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The checks that are meant now.
    #[must_use]
    pub fn matcher(&self, places: &[Place]) -> Matcher {
        let named = !self.hosts.is_empty() || !self.sites.is_empty();
        let meant = |place: &&Place| {
            self.hosts.contains(&place.id) || place.site.as_ref().is_some_and(|site| self.sites.contains(site))
        };
        Matcher {
            hosts: named.then(|| places.iter().filter(meant).map(|place| place.key).collect()),
            scenario: self.scenario.clone(),
            check: self.check.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_the_hosts_of_sites_are_one_list_and_a_site_without_hosts_covers_nothing() {
        let place = |key: i64, site: Option<&str>| Place {
            key: HostKey(key),
            id: format!("id{key}"),
            name: format!("vm{key}"),
            site: site.map(str::to_owned),
        };
        let places = [place(1, Some("lab")), place(2, None), place(3, Some("lab")), place(4, Some("home"))];
        let keys = |scope: &Scope| scope.matcher(&places).hosts.map(|keys| keys.iter().map(|key| key.0).collect());
        let sites = vec!["lab".to_owned()];
        let both = Scope { hosts: vec!["id2".to_owned()], sites: sites.clone(), ..Scope::default() };
        assert_eq!(keys(&both), Some(vec![1, 2, 3]));
        assert_eq!(keys(&Scope::default()), None);
        assert_eq!(keys(&Scope { sites: vec!["away".to_owned()], ..Scope::default() }), Some(Vec::new()));
        assert!(Scope::default().is_all() && !both.is_all());
        let text = serde_json::to_string(&both).expect("serializable");
        assert_eq!(serde_json::from_str::<Scope>(&text).expect("a scope"), both);
    }
}
