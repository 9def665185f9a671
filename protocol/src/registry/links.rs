//! What hosts stand on, as the registry states it: `parent` and `depends_on`.

use std::collections::BTreeMap;

use super::HostDoc;
use crate::yaml::{Location, Mistake};

/// Judges the links of all hosts: each names another host of the registry, and
/// no host stands on itself by way of others.
///
/// # Errors
/// The first mistake, at the name that makes it.
pub(super) fn check(hosts: &[HostDoc]) -> Result<(), Mistake> {
    let mut links: BTreeMap<&str, Vec<(&str, Location)>> = BTreeMap::new();
    for host in hosts {
        let name = host.name.value.as_str();
        let list = links.entry(name).or_default();
        for other in host.parent.iter().chain(&host.depends_on) {
            if !hosts.iter().any(|known| known.name.value == other.value) {
                return Err(Mistake::at(
                    other.referenced,
                    format!("the host `{}` is not listed under hosts", other.value),
                ));
            }
            if list.iter().any(|(known, _)| *known == other.value) {
                return Err(Mistake::at(
                    other.referenced,
                    format!("`{name}` names `{}` twice; once is enough", other.value),
                ));
            }
            list.push((&other.value, other.referenced));
        }
    }
    let mut done = BTreeMap::new();
    links.keys().try_for_each(|name| walk(name, &links, &mut Vec::new(), &mut done))
}

/// Goes down from one host. `done` holds hosts below which all is well.
fn walk<'a>(
    name: &'a str,
    links: &BTreeMap<&'a str, Vec<(&'a str, Location)>>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeMap<&'a str, ()>,
) -> Result<(), Mistake> {
    if done.contains_key(name) {
        return Ok(());
    }
    path.push(name);
    for (other, place) in links.get(name).into_iter().flatten() {
        if let Some(start) = path.iter().position(|known| known == other) {
            let around: Vec<&str> = path[start..].iter().copied().chain([*other]).collect();
            return Err(Mistake::at(
                *place,
                format!("the hosts stand on each other in a circle: {}", around.join(", ")),
            ));
        }
        walk(other, links, path, done)?;
    }
    path.pop();
    done.insert(name, ());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::registry::Registry;

    fn parse(hosts: &str) -> Result<Registry, crate::yaml::Mistake> {
        Registry::parse(&format!("version: 1\nhosts:\n{hosts}"), &|_| None)
    }

    #[test]
    fn a_host_says_what_it_runs_on_and_what_else_it_needs() {
        let registry = parse(
            "  - {name: vm112, parent: pve, depends_on: [pfsense]}\n  - {name: pfsense, parent: pve}\n  - {name: pve}\n",
        )
        .expect("valid");
        assert_eq!(registry.hosts[0].parent.as_deref(), Some("pve"));
        assert_eq!(registry.hosts[0].depends_on, ["pfsense"]);
        assert_eq!((&registry.hosts[2].parent, registry.hosts[2].depends_on.len()), (&None, 0));
    }

    #[test]
    fn links_to_nobody_twice_or_in_a_circle_are_refused_at_their_place() {
        for (hosts, place, says) in [
            ("  - {name: a, parent: b}\n", (3, 23), "`b` is not listed"),
            ("  - {name: a, depends_on: [a]}\n", (3, 28), "circle: a, a"),
            ("  - {name: a, parent: b, depends_on: [b]}\n  - {name: b}\n", (3, 39), "twice"),
            (
                "  - {name: a, parent: b}\n  - {name: b, depends_on: [d, c]}\n  - {name: c, parent: a}\n  - {name: d}\n",
                (5, 23),
                "circle: a, b, c, a",
            ),
        ] {
            let mistake = parse(hosts).expect_err(says);
            assert!(mistake.message.contains(says), "{mistake}");
            assert_eq!((mistake.line, mistake.column), place, "{mistake}");
        }
    }
}
