//! When a check changes so often that each change is no news: the share of
//! changes among its last twenty reports, the newer ones counting for more, as
//! Nagios and Icinga reckon it.

use serde::{Deserialize, Serialize};

/// Reports that count.
const WINDOW: u32 = 20;
/// It flaps above this share, in per cent of the weights.
const HIGH: u32 = 30;
/// It flaps no more below this one.
const LOW: u32 = 25;
/// Of the oldest report, in hundredths.
const LEAST: u32 = 80;
/// By how much each newer one counts for more.
const STEP: u32 = 2;

/// The changes among the last reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Changes(u32);

impl Changes {
    /// Takes one report in. The newest is the lowest bit.
    pub(super) fn push(&mut self, changed: bool) {
        self.0 = ((self.0 << 1) | u32::from(changed)) & ((1 << WINDOW) - 1);
    }

    pub(super) fn clear(&mut self) {
        self.0 = 0;
    }

    /// The share of changes, in per cent.
    pub(super) fn percent(self) -> u32 {
        if self.0 == 0 {
            return 0;
        }
        let weight = |age: u32| LEAST + STEP * (WINDOW - 1 - age);
        let changed: u32 = (0..WINDOW).filter(|age| self.0 & (1 << age) != 0).map(weight).sum();
        changed / WINDOW
    }

    /// Whether it flaps, when it did or did not before.
    pub(super) fn is_flapping(self, before: bool) -> bool {
        let percent = self.percent();
        if before { percent >= LOW } else { percent > HIGH }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(reports: &str) -> Changes {
        let mut changes = Changes::default();
        reports.chars().for_each(|c| changes.push(c == 'x'));
        changes
    }

    #[test]
    fn newer_changes_count_for_more_and_old_ones_fall_out() {
        assert_eq!(after("").percent(), 0);
        assert!(after("x...................").percent() < after("...................x").percent());
        assert_eq!(after(&"x".repeat(20)).percent(), 99);
        assert_eq!(after(&format!("{}{}", "x".repeat(20), ".".repeat(20))), Changes::default());
    }

    #[test]
    fn it_begins_above_the_high_mark_and_ends_only_below_the_low_one() {
        let few = after("x..x..x..x..x");
        assert!(!few.is_flapping(false), "{}", few.percent());
        let many = after("x.x.x.x.x.x.x");
        assert!(many.is_flapping(false), "{}", many.percent());
        let between = after("x.x.x.x.x.x......");
        assert!((LOW..=HIGH).contains(&between.percent()), "{}", between.percent());
        assert!(between.is_flapping(true) && !between.is_flapping(false));
    }
}
