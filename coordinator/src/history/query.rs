//! A question for a series: which points answer it, and where there are none.

use std::collections::BTreeMap;

use super::{DAY, HOUR, Kind, MINUTE, Point, floor};

/// Most points in an answer: a week of five minutes, twelve weeks of hours.
pub const MOST_POINTS: i64 = 2048;

/// How much time a point of an answer covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Step {
    /// The finest that fits.
    #[default]
    Auto,
    /// So many ms.
    Of(i64),
}

/// The steps there are, by name.
const STEPS: [(&str, i64); 4] = [("1m", MINUTE), ("5m", 5 * MINUTE), ("1h", HOUR), ("1d", DAY)];

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let known = STEPS.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, ms)| Self::Of(*ms))
            .ok_or_else(|| format!("`{}` is no step; use 1m, 5m, 1h, 1d or auto", crate::text::plain(text, 32)))
    }
}

/// What is read, and how it is put together. Times in ms, moved out to whole steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Which chunks.
    pub kind: Kind,
    /// First time asked for.
    pub from: i64,
    /// First time not asked for any more.
    pub to: i64,
    /// Time that a point covers.
    pub step: i64,
}

impl Plan {
    /// The plan for a time and a step; `minutes_from` is the oldest minute that
    /// is kept.
    ///
    /// # Errors
    /// The time is empty, or holds more than [`MOST_POINTS`]; the text says
    /// what to ask for instead.
    pub fn new(from: i64, to: i64, step: Step, minutes_from: i64) -> Result<Self, String> {
        if from >= to {
            return Err("`from` is not before `to`".to_owned());
        }
        let fits = |step: i64| points(from, to, step) <= MOST_POINTS;
        let step = match step {
            Step::Of(step) if fits(step) => step,
            Step::Of(step) => {
                let next = STEPS.iter().find(|(_, wider)| *wider > step && fits(*wider));
                return Err(format!(
                    "`from` to `to` at step {} is {} points and at most {MOST_POINTS} fit; ask for {}",
                    name(step),
                    points(from, to, step),
                    next.map_or_else(|| "less time".to_owned(), |(next, _)| format!("step={next} or for less time"))
                ));
            }
            Step::Auto => {
                // Of what is older than that, only hours are left.
                let kept = |step: i64| step >= HOUR || from >= minutes_from;
                let finest = STEPS.iter().find(|(_, step)| fits(*step) && kept(*step));
                let finest = finest.ok_or_else(|| {
                    let days = points(from, to, DAY);
                    format!("`from` to `to` is {days} days and at most {MOST_POINTS} fit; ask for less time")
                })?;
                finest.1
            }
        };
        let kind = if step < HOUR { Kind::Minutes } else { Kind::Hours };
        Ok(Self { kind, from: floor(from, step), to: floor(to - 1, step) + step, step })
    }

    /// Puts points, by the time they begin, together into those of the answer.
    #[must_use]
    pub fn answer(&self, points: impl IntoIterator<Item = (i64, Point)>) -> BTreeMap<i64, Point> {
        let mut all: BTreeMap<i64, Point> = BTreeMap::new();
        for (at, point) in points {
            if (self.from..self.to).contains(&at) {
                let at = floor(at, self.step);
                all.entry(at).and_modify(|known| known.merge(&point)).or_insert(point);
            }
        }
        all
    }

    /// Where an answer has no points, up to `now`: from the end of one point to
    /// the beginning of the next. What is observed less often than each step is
    /// expected as often as it usually comes.
    #[must_use]
    pub fn gaps(&self, answer: &BTreeMap<i64, Point>, now: i64) -> Vec<(i64, i64)> {
        let times: Vec<i64> = answer.keys().copied().collect();
        let usual = usual(&times).unwrap_or(self.step);
        // The step that is under way, or has just ended, is not rolled up yet.
        let end = self.to.min(floor(now - MINUTE, self.step));
        let mut gaps = Vec::new();
        let mut covered = self.from;
        for (place, at) in times.iter().chain([&end]).enumerate() {
            let last = place == times.len();
            let allowed = if place == 0 || last { usual - self.step } else { usual + usual / 2 - self.step };
            if at - covered > allowed {
                gaps.push((covered, *at));
            }
            covered = at + self.step;
        }
        gaps
    }

    /// The step's name.
    #[must_use]
    pub fn step_name(&self) -> &'static str {
        name(self.step)
    }
}

fn name(step: i64) -> &'static str {
    STEPS.iter().find(|(_, ms)| *ms == step).map_or("auto", |(name, _)| name)
}

fn points(from: i64, to: i64, step: i64) -> i64 {
    (floor(to - 1, step) - floor(from, step)) / step + 1
}

/// The usual distance of rising times: the lower median; none for fewer than three.
#[must_use]
pub fn usual(times: &[i64]) -> Option<i64> {
    if times.len() < 3 {
        return None;
    }
    let mut distances: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let middle = (distances.len() - 1) / 2;
    Some(*distances.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 20_000 * DAY + 12 * HOUR;

    fn at(times: &[i64]) -> BTreeMap<i64, Point> {
        times.iter().map(|at| (*at, Point::of(1.0).expect("a number"))).collect()
    }

    fn plan(from: i64, to: i64, step: Step) -> Plan {
        Plan::new(from, to, step, NOON - 30 * DAY).expect("a plan")
    }

    #[test]
    fn auto_is_the_finest_step_that_fits_and_is_kept() {
        let step = |length| plan(NOON - length, NOON, Step::Auto).step_name();
        assert_eq!(step(HOUR), "1m");
        assert_eq!(step(DAY), "1m");
        assert_eq!(step(7 * DAY), "5m");
        assert_eq!(step(30 * DAY), "1h");
        assert_eq!(step(730 * DAY), "1d");
        assert_eq!(plan(NOON - 40 * DAY, NOON - 39 * DAY, Step::Auto).step_name(), "1h", "its minutes are gone");
        assert_eq!(plan(NOON - 7 * DAY - 1, NOON - 1, Step::Auto).step_name(), "5m", "one more for the edges");
    }

    #[test]
    fn too_many_points_are_refused_with_what_to_ask_for_instead() {
        let error = Plan::new(NOON - 7 * DAY, NOON, Step::Of(MINUTE), 0).expect_err("refused");
        assert!(error.contains("10080 points") && error.contains("2048") && error.contains("step=5m"), "{error}");
        assert!(Plan::new(NOON - MOST_POINTS * MINUTE, NOON, Step::Of(MINUTE), 0).is_ok());
        assert!(Plan::new(NOON - MOST_POINTS * MINUTE - 1, NOON, Step::Of(MINUTE), 0).is_err());
        let error = Plan::new(0, NOON, Step::Of(DAY), 0).expect_err("refused");
        assert!(error.ends_with("ask for less time"), "{error}");
        assert!(Plan::new(0, NOON, Step::Auto, 0).expect_err("refused").contains("days"));
        assert!(Plan::new(NOON, NOON, Step::Auto, 0).expect_err("refused").contains("`from`"));
        assert!("2m".parse::<Step>().expect_err("refused").contains("1m, 5m, 1h, 1d or auto"));
    }

    #[test]
    fn points_are_put_together_and_none_is_made_up() {
        let plan = plan(NOON, NOON + HOUR, Step::Of(5 * MINUTE));
        let points = [0, 1, 4, 5, 59, 60].map(|minute| {
            (NOON + minute * MINUTE, Point::of(f64::from(i32::try_from(minute).expect("small"))).expect("a number"))
        });
        let answer = plan.answer(points);
        let seen: Vec<(i64, u64)> = answer.iter().map(|(at, point)| ((at - NOON) / MINUTE, point.count)).collect();
        assert_eq!(seen, [(0, 3), (5, 1), (55, 1)]);
        assert_eq!((answer[&NOON].min, answer[&NOON].max), (0.0, 4.0));
    }

    #[test]
    fn gaps_lie_between_points_and_at_both_ends_but_not_in_the_future() {
        let plan = plan(NOON, NOON + 20 * MINUTE, Step::Of(MINUTE));
        let minutes = |list: &[i64]| list.iter().map(|minute| NOON + minute * MINUTE).collect::<Vec<_>>();
        let gaps = |answer: &[i64], now: i64| -> Vec<(i64, i64)> {
            let found = plan.gaps(&at(&minutes(answer)), NOON + now * MINUTE);
            found.iter().map(|(from, to)| ((from - NOON) / MINUTE, (to - NOON) / MINUTE)).collect()
        };
        let all: Vec<i64> = (0..20).collect();
        assert_eq!(gaps(&all, 30), []);
        assert_eq!(gaps(&[2, 3, 4, 5, 9, 10], 13), [(0, 2), (6, 9), (11, 12)]);
        assert_eq!(gaps(&[], 30), [(0, 20)]);
        assert_eq!(gaps(&[], -5), [], "the future is no gap");
        assert_eq!(gaps(&all[..10], 11), [], "nor is the minute that has just ended");
    }

    #[test]
    fn what_comes_every_five_minutes_has_a_gap_only_where_one_did_not_come() {
        let plan = plan(NOON, NOON + HOUR, Step::Of(MINUTE));
        let every = [2, 7, 12, 17, 32, 37, 42, 47, 52, 57].map(|minute| NOON + minute * MINUTE);
        assert_eq!(plan.gaps(&at(&every), NOON + 2 * HOUR), [(NOON + 18 * MINUTE, NOON + 32 * MINUTE)]);
    }
}
