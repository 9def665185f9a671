//! Which host needs which: the part of the topology that explains outages.

use std::collections::{HashMap, HashSet, VecDeque, hash_map::Entry};

use crate::store::hosts::HostKey;

/// What a host needs to be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Each of them: the hypervisor that it runs on, a server that it cannot do without.
    pub all: Vec<HostKey>,
    /// One of them: the ways into its network.
    pub any: Vec<HostKey>,
}

impl Needs {
    fn each(&self) -> impl Iterator<Item = HostKey> {
        self.all.iter().chain(&self.any).copied()
    }
}

/// What each host needs. Free of circles: of hosts that need each other, the
/// edge that closes the circle is left out, walking from the lowest key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    needs: HashMap<HostKey, Needs>,
    /// Hosts that others need.
    needed: HashSet<HostKey>,
}

impl Dependencies {
    /// Of what each host needs directly.
    #[must_use]
    pub fn new(needs: impl IntoIterator<Item = (HostKey, Needs)>) -> Self {
        let mut needs: HashMap<HostKey, Needs> = needs.into_iter().collect();
        for one in needs.values_mut() {
            for list in [&mut one.all, &mut one.any] {
                list.sort_unstable();
                list.dedup();
            }
        }
        let mut hosts: Vec<HostKey> = needs.keys().copied().collect();
        hosts.sort_unstable();
        let mut done = HashSet::new();
        for host in hosts {
            Self::open_circles(&mut needs, &mut done, host);
        }
        let needed = needs.values().flat_map(Needs::each).collect();
        Self { needs, needed }
    }

    /// Takes out every edge that leads back to where the walk came from.
    fn open_circles(needs: &mut HashMap<HostKey, Needs>, done: &mut HashSet<HostKey>, start: HostKey) {
        let next_of = |needs: &HashMap<HostKey, Needs>, host| -> Vec<HostKey> {
            let mut next: Vec<HostKey> = needs.get(&host).map(|own| own.each().collect()).unwrap_or_default();
            next.sort_unstable_by(|a, b| b.cmp(a));
            next
        };
        if !done.insert(start) {
            return;
        }
        let mut path = vec![(start, next_of(needs, start))];
        let mut on_path = HashSet::from([start]);
        while let Some((host, next)) = path.last_mut() {
            let host = *host;
            let Some(there) = next.pop() else {
                on_path.remove(&host);
                path.pop();
                continue;
            };
            if on_path.contains(&there) {
                if let Some(own) = needs.get_mut(&host) {
                    own.all.retain(|other| *other != there);
                    own.any.retain(|other| *other != there);
                }
            } else if done.insert(there) {
                on_path.insert(there);
                let further = next_of(needs, there);
                path.push((there, further));
            }
        }
    }

    /// How many steps each host is from `start` along what it needs, itself
    /// included.
    #[must_use]
    pub fn distances(&self, start: HostKey) -> HashMap<HostKey, u32> {
        let mut steps = HashMap::from([(start, 0)]);
        let mut queue = VecDeque::from([(start, 0)]);
        while let Some((host, step)) = queue.pop_front() {
            for there in self.needs.get(&host).into_iter().flat_map(Needs::each) {
                if let Entry::Vacant(place) = steps.entry(there) {
                    place.insert(step + 1);
                    queue.push_back((there, step + 1));
                }
            }
        }
        steps
    }

    /// Whether another host needs this one.
    pub(super) fn is_needed(&self, host: HostKey) -> bool {
        self.needed.contains(&host)
    }

    /// What a host needs directly.
    #[must_use]
    pub fn of(&self, host: HostKey) -> Option<&Needs> {
        self.needs.get(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(list: &[i64]) -> Needs {
        Needs { all: list.iter().copied().map(HostKey).collect(), any: Vec::new() }
    }

    #[test]
    fn hosts_that_need_each_other_are_no_longer_a_circle_whatever_the_order() {
        let edges = [(1, all(&[3])), (2, all(&[1])), (3, all(&[2, 9])), (4, all(&[4]))];
        let built = Dependencies::new(edges.clone().map(|(host, needs)| (HostKey(host), needs)));
        let turned = Dependencies::new(edges.into_iter().rev().map(|(host, needs)| (HostKey(host), needs)));
        assert_eq!(built, turned);
        assert_eq!(built.of(HostKey(1)), Some(&all(&[3])));
        assert_eq!(built.of(HostKey(3)), Some(&all(&[2, 9])));
        assert_eq!(built.of(HostKey(2)), Some(&all(&[])), "the edge that closes the circle is left out");
        assert_eq!(built.of(HostKey(4)), Some(&all(&[])));
    }
}
