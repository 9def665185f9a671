//! What was measured and found, over weeks and years: points of minutes and of
//! hours, and when each check said what.
//!
//! Committed telemetry is rolled up into points (`roll`), which wait in one row
//! a host and minute until they are folded into packed chunks (`pack`): one a
//! series and day for minutes, one a series and thirty days for hours. Everything
//! here is pure; the job that drives it is `jobs::history`, the SQL
//! `store::history`.
//!
//! **Invariant.** Where nothing was observed there is no point: never 0, never
//! a guess between two others.

pub mod metric;
pub mod pack;
pub mod query;
pub mod roll;
pub mod spans;

use std::time::Duration;

use farol_protocol::Timestamp;

/// Length of a minute in ms.
pub const MINUTE: i64 = 60_000;
/// Length of an hour in ms.
pub const HOUR: i64 = 60 * MINUTE;
/// Length of a day in ms.
pub const DAY: i64 = 24 * HOUR;

/// How long points are kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Those of minutes, and of reports when they came.
    pub minutes: Duration,
    /// Those of hours.
    pub hours: Duration,
}

impl Keep {
    /// The oldest minute and the oldest hour that are kept, in ms.
    #[must_use]
    pub fn from(&self, now: Timestamp) -> (i64, i64) {
        let before = |keep: Duration| now.plus_ms(-i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)).as_ms();
        (floor(before(self.minutes), MINUTE), floor(before(self.hours), HOUR))
    }
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A point a minute, of one day.
    Minutes,
    /// A point an hour, of thirty days.
    Hours,
    /// Each report of one day: when, which row, which status.
    Reports,
}

impl Kind {
    /// The number in the store.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Minutes => 0,
            Self::Hours => 1,
            Self::Reports => 2,
        }
    }

    /// How much time a chunk covers, in ms; chunks begin at multiples of it.
    #[must_use]
    pub const fn chunk(self) -> i64 {
        match self {
            Self::Minutes | Self::Reports => DAY,
            Self::Hours => 30 * DAY,
        }
    }

    /// How much time a point covers, in ms.
    #[must_use]
    pub const fn point(self) -> i64 {
        match self {
            Self::Minutes => MINUTE,
            Self::Hours => HOUR,
            Self::Reports => 1,
        }
    }

    /// Most points in a chunk.
    #[must_use]
    pub const fn slots(self) -> i64 {
        self.chunk() / self.point()
    }
}

/// `at` moved back to a multiple of `length`, both in ms.
#[must_use]
pub const fn floor(at: i64, length: i64) -> i64 {
    at - at.rem_euclid(length)
}

/// What was measured within a minute or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// How many values.
    pub count: u64,
    /// The lowest.
    pub min: f64,
    /// Their mean.
    pub mean: f64,
    /// The highest.
    pub max: f64,
}

/// Beyond this nothing is a measurement, and sums stay finite.
const LARGEST: f64 = 1e100;

impl Point {
    /// One value; none where it is no number.
    #[must_use]
    pub fn of(value: f64) -> Option<Self> {
        (value.abs() <= LARGEST).then_some(Self { count: 1, min: value, mean: value, max: value })
    }

    /// Adds what another point of the same time holds.
    #[expect(clippy::cast_precision_loss, reason = "counts of readings are far below 2^52")]
    pub fn merge(&mut self, other: &Self) {
        let count = self.count.saturating_add(other.count);
        let share = other.count as f64 / count.max(1) as f64;
        self.mean += (other.mean - self.mean) * share;
        self.count = count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        // Rounding must not carry it past its own bounds.
        // No `clamp`, which panics where a corrupt chunk has a minimum above its maximum.
        self.mean = self.mean.max(self.min).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_whatever_their_order() {
        let mut forth = Point::of(1.0).expect("a number");
        let mut back = Point::of(9.0).expect("a number");
        for value in [2.0, 9.0] {
            forth.merge(&Point::of(value).expect("a number"));
        }
        for value in [2.0, 1.0] {
            back.merge(&Point::of(value).expect("a number"));
        }
        assert_eq!((forth.count, forth.min, forth.max), (3, 1.0, 9.0));
        assert!((forth.mean - 4.0).abs() < 1e-9 && (back.mean - 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_measurement_is_no_point() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e101, f64::MIN] {
            assert_eq!(Point::of(value), None, "{value}");
        }
    }

    #[test]
    fn points_that_cannot_be_do_not_end_the_process() {
        let mut wrong = Point { count: 1, min: 9.0, mean: 5.0, max: 1.0 };
        wrong.merge(&wrong.clone());
        assert_eq!(wrong.count, 2);
    }

    #[test]
    fn times_before_the_epoch_are_moved_back_too() {
        assert_eq!((floor(-1, MINUTE), floor(0, MINUTE), floor(59_999, MINUTE)), (-MINUTE, 0, 0));
    }
}
