//! Counters that only say something by how much they grew since the last look.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Checks whose counters are kept.
const MOST_CHECKS: usize = 64;

/// The counters of each check at its last look, by name.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<HashMap<String, HashMap<String, u32>>>);

impl Counters {
    /// How much each counter of `check` grew since the last look; none of what
    /// was not there then. A counter that fell began anew.
    pub(super) fn grown(&self, check: &str, now: HashMap<String, u32>) -> HashMap<String, u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_CHECKS && !all.contains_key(check) {
            all.clear();
        }
        let grown = match all.get(check) {
            None => HashMap::new(),
            Some(before) => now
                .iter()
                .filter_map(|(name, count)| {
                    let was = before.get(name).copied()?;
                    Some((name.clone(), count.checked_sub(was).unwrap_or(*count)))
                })
                .collect(),
        };
        all.insert(check.to_owned(), now);
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u32)]) -> HashMap<String, u32> {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn the_first_look_says_nothing_and_later_ones_the_difference() {
        let counters = Counters::default();
        assert!(counters.grown("c", counts(&[("a", 70), ("b", 1)])).is_empty());
        assert_eq!(counters.grown("c", counts(&[("a", 72), ("b", 0), ("new", 9)])), counts(&[("a", 2), ("b", 0)]));
        assert_eq!(counters.grown("c", counts(&[("a", 1), ("new", 9)])), counts(&[("a", 1), ("new", 0)]));
        assert!(counters.grown("other", counts(&[("a", 1)])).is_empty(), "each check has its own");
        for n in 0..200 {
            counters.grown(&n.to_string(), counts(&[]));
        }
        assert!(counters.0.lock().expect("whole").len() <= MOST_CHECKS);
    }
}
