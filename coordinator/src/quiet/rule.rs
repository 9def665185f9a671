//! How a window comes again: the part of iCalendar's RRULE (RFC 5545) that
//! windows are written with.
//!
//! `FREQ` is `DAILY`, `WEEKLY` or `MONTHLY`, with `INTERVAL`, `COUNT`, `UNTIL`,
//! `BYDAY` (with a number in a month: `2TU`, `-1FR`), `BYMONTHDAY` (`-1` is the
//! last) and `WKST`. What a rule of this shape says of a date does not depend
//! on any other date, so nothing has to be counted from the beginning.
//!
//! The time of day is the window's own. Where its first day does not fit the
//! rule, the window begins on the first day that does; RFC 5545 leaves this open.

use std::{collections::BTreeSet, fmt};

use jiff::{
    Timestamp as Instant,
    civil::{Date, DateTime, Weekday},
};

use crate::text::plain;

/// Largest `INTERVAL` of days and weeks.
const MAX_INTERVAL: i64 = 366;
/// Largest `INTERVAL` of months.
const MAX_MONTHS: i64 = 24;
/// Largest `COUNT`.
const MAX_COUNT: u32 = 1000;
/// Longest rule, in bytes.
const MAX_LENGTH: usize = 500;

/// What is counted from one time to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Every {
    Day,
    Week,
    Month,
}

/// The last moment at which a window may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Date(Date),
    Local(DateTime),
    Instant(Instant),
}

/// A rule of recurrence; it shows as the text it was read from, in capitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: String,
    pub(crate) every: Every,
    pub(crate) interval: i64,
    /// Days of the week, each with its number in the month; 0 for all of them.
    pub(crate) by_day: Vec<(i8, Weekday)>,
    /// Days of the month; -1 is the last.
    pub(crate) by_month_day: BTreeSet<i8>,
    week_starts: Weekday,
    pub(crate) count: Option<u32>,
    pub(super) until: Option<Until>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rule {
    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=SU`, with or without `RRULE:`.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("the rule has {} characters; at most {MAX_LENGTH} fit", text.len()));
        }
        let upper = text.trim().to_ascii_uppercase();
        let body = upper.strip_prefix("RRULE:").unwrap_or(&upper).trim_end_matches(';');
        let mut seen = BTreeSet::new();
        let mut every = None;
        let mut rule = Self {
            text: body.to_owned(),
            every: Every::Day,
            interval: 1,
            by_day: Vec::new(),
            by_month_day: BTreeSet::new(),
            week_starts: Weekday::Monday,
            count: None,
            until: None,
        };
        for part in body.split(';') {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{}` is no part of a rule; write FREQ=WEEKLY;BYDAY=SU", plain(part, 40)))?;
            if !seen.insert(name) {
                return Err(format!("`{}` is there twice", plain(name, 40)));
            }
            match name {
                "FREQ" => every = Some(frequency(value)?),
                "INTERVAL" => rule.interval = number(name, value, 1..=MAX_INTERVAL)?,
                "COUNT" => rule.count = Some(number(name, value, 1..=MAX_COUNT)?),
                "UNTIL" => rule.until = Some(until(value)?),
                "BYDAY" => {
                    rule.by_day = list(value).map(day).collect::<Result<_, _>>()?;
                }
                "BYMONTHDAY" => {
                    rule.by_month_day = list(value).map(month_day).collect::<Result<_, _>>()?;
                }
                "WKST" => rule.week_starts = weekday(value)?,
                "BYHOUR" | "BYMINUTE" | "BYSECOND" => {
                    return Err(format!("`{name}` is not taken: the time of day is that of `start`"));
                }
                _ => {
                    return Err(format!(
                        "`{}` is not taken; there are FREQ, INTERVAL, COUNT, UNTIL, BYDAY, BYMONTHDAY and WKST",
                        plain(name, 40)
                    ));
                }
            }
        }
        rule.every = every.ok_or("the rule has no FREQ; write FREQ=DAILY, FREQ=WEEKLY or FREQ=MONTHLY")?;
        rule.check()?;
        Ok(rule)
    }

    /// The date of UNTIL.
    pub(crate) fn ends(&self) -> Option<Date> {
        Some(match self.until? {
            Until::Date(date) => date,
            Until::Local(at) => at.date(),
            Until::Instant(at) => jiff::tz::Offset::UTC.to_datetime(at).date(),
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.count.is_some() && self.until.is_some() {
            return Err("a rule ends by COUNT or by UNTIL, not by both".to_owned());
        }
        if self.every != Every::Month && self.by_day.iter().any(|(nth, _)| *nth != 0) {
            return Err("a number before a day of BYDAY, such as 2TU, goes with FREQ=MONTHLY".to_owned());
        }
        if self.every == Every::Month && self.interval > MAX_MONTHS {
            return Err(format!("with FREQ=MONTHLY, INTERVAL is a number from 1 to {MAX_MONTHS}"));
        }
        if self.every == Every::Week && !self.by_month_day.is_empty() {
            return Err("BYMONTHDAY goes with FREQ=MONTHLY or FREQ=DAILY".to_owned());
        }
        Ok(())
    }

    /// Whether a window that first began on `first` begins on `date`, its end
    /// by COUNT or UNTIL aside.
    pub(super) fn falls_on(&self, first: Date, date: Date) -> bool {
        if date < first {
            return false;
        }
        let on_day = || {
            self.by_day.is_empty()
                || self.by_day.iter().any(|(nth, weekday)| *weekday == date.weekday() && is_nth(*nth, date))
        };
        let on_month_day = || {
            self.by_month_day.is_empty()
                || self.by_month_day.contains(&date.day())
                || self.by_month_day.contains(&(date.day() - date.days_in_month() - 1))
        };
        match self.every {
            Every::Day => days(first, date) % self.interval == 0 && on_day() && on_month_day(),
            Every::Week => {
                let week = |date: Date| days(Date::ZERO, date) - since_week_start(date, self.week_starts);
                let day = if self.by_day.is_empty() { date.weekday() == first.weekday() } else { on_day() };
                day && (week(date) - week(first)) / 7 % self.interval == 0
            }
            Every::Month => {
                let month = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
                let day = if self.by_day.is_empty() && self.by_month_day.is_empty() {
                    date.day() == first.day()
                } else {
                    on_day() && on_month_day()
                };
                day && (month(date) - month(first)) % self.interval == 0
            }
        }
    }
}

/// Days from `from` to `to`.
pub(super) fn days(from: Date, to: Date) -> i64 {
    // Between two dates a span in days always fits.
    from.until(to).map_or(0, |span| i64::from(span.get_days()))
}

fn since_week_start(date: Date, start: Weekday) -> i64 {
    i64::from(start.until(date.weekday()))
}

/// Whether `date` is the nth of its weekday in its month, from the end where
/// `nth` is negative.
fn is_nth(nth: i8, date: Date) -> bool {
    let from_start = (date.day() - 1) / 7 + 1;
    let from_end = -((date.days_in_month() - date.day()) / 7 + 1);
    nth == 0 || nth == from_start || nth == from_end
}

fn frequency(text: &str) -> Result<Every, String> {
    match text {
        "DAILY" => Ok(Every::Day),
        "WEEKLY" => Ok(Every::Week),
        "MONTHLY" => Ok(Every::Month),
        "YEARLY" => Err("FREQ=YEARLY is not taken; write FREQ=MONTHLY;INTERVAL=12".to_owned()),
        other => Err(format!("FREQ is DAILY, WEEKLY or MONTHLY, not `{}`", plain(other, 40))),
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn number<T>(name: &str, text: &str, range: std::ops::RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        format!("{name} is a number from {} to {}, not `{}`", range.start(), range.end(), plain(text, 40))
    })
}

fn month_day(text: &str) -> Result<i8, String> {
    let day: i8 = number("BYMONTHDAY", text, -31..=31)?;
    if day == 0 { Err("BYMONTHDAY counts from 1, or from -1 at the end of the month".to_owned()) } else { Ok(day) }
}

/// `SU`, `2TU`, `-1FR`.
fn day(text: &str) -> Result<(i8, Weekday), String> {
    let wrong = || format!("BYDAY lists days such as MO, 2TU or -1FR, not `{}`", plain(text, 40));
    let at = text.len().checked_sub(2).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
    let (nth, name) = text.split_at(at);
    let weekday = weekday(name).map_err(|_| wrong())?;
    let nth = match nth {
        "" => 0,
        nth => nth.parse().ok().filter(|nth: &i8| *nth != 0 && nth.abs() <= 5).ok_or_else(wrong)?,
    };
    Ok((nth, weekday))
}

fn weekday(text: &str) -> Result<Weekday, String> {
    Ok(match text {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        other => return Err(format!("a day is MO, TU, WE, TH, FR, SA or SU, not `{}`", plain(other, 40))),
    })
}

/// `20261231`, `20261231T235959` or `20261231T235959Z`.
fn until(text: &str) -> Result<Until, String> {
    let wrong = || format!("UNTIL is a date such as 20261231 or 20261231T235959Z, not `{}`", plain(text, 40));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (text.split_once('T'), text.strip_suffix('Z')) {
        (None, None) if text.len() == 8 && digits(text) => {
            Date::strptime("%Y%m%d", text).map(Until::Date).map_err(|_| wrong())
        }
        (Some((date, time)), zulu) => {
            let time = time.strip_suffix('Z').unwrap_or(time);
            if date.len() != 8 || time.len() != 6 || !digits(date) || !digits(time) {
                return Err(wrong());
            }
            let at = DateTime::strptime("%Y%m%dT%H%M%S", format!("{date}T{time}")).map_err(|_| wrong())?;
            match zulu {
                None => Ok(Until::Local(at)),
                Some(_) => jiff::tz::Offset::UTC.to_timestamp(at).map(Until::Instant).map_err(|_| wrong()),
            }
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    /// Days in 2026 on which a rule falls that first fell on `first`.
    fn dates(rule: &str, first: Date) -> Vec<String> {
        let rule = Rule::parse(rule).expect("a rule");
        let year = first.series(jiff::Span::new().days(1)).take_while(|date| date.year() <= 2026);
        year.filter(|date| rule.falls_on(first, *date)).map(|date| date.strftime("%m-%d").to_string()).collect()
    }

    #[test]
    fn days_weeks_and_months_come_again_as_written() {
        assert_eq!(dates("FREQ=DAILY;INTERVAL=10", date(2026, 12, 1)), ["12-01", "12-11", "12-21", "12-31"]);
        assert_eq!(dates("RRULE:FREQ=WEEKLY", date(2026, 12, 6)), ["12-06", "12-13", "12-20", "12-27"]);
        assert_eq!(dates("freq=weekly;byday=su,we", date(2026, 12, 20)), ["12-20", "12-23", "12-27", "12-30"]);
        assert_eq!(dates("FREQ=MONTHLY", date(2026, 8, 31)), ["08-31", "10-31", "12-31"]);
        assert_eq!(dates("FREQ=MONTHLY;BYDAY=2TU", date(2026, 9, 1)), ["09-08", "10-13", "11-10", "12-08"]);
        assert_eq!(dates("FREQ=MONTHLY;BYDAY=-1FR", date(2026, 10, 1)), ["10-30", "11-27", "12-25"]);
        assert_eq!(dates("FREQ=MONTHLY;BYMONTHDAY=1,-1", date(2026, 11, 15)), ["11-30", "12-01", "12-31"]);
        assert_eq!(dates("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", date(2026, 1, 1)), ["02-13", "03-13", "11-13"]);
        assert_eq!(dates("FREQ=DAILY;BYDAY=SA,SU", date(2026, 12, 24)), ["12-26", "12-27"]);
        assert_eq!(dates("FREQ=MONTHLY;INTERVAL=12", date(2026, 5, 4)), ["05-04"]);
    }

    #[test]
    fn every_other_week_counts_weeks_from_their_first_day() {
        // As RFC 5545 shows it: with weeks from Monday, and from Sunday.
        let first = date(1997, 8, 5);
        let some = |rule: &str| -> Vec<String> {
            let rule = Rule::parse(rule).expect("a rule");
            let days = first.series(jiff::Span::new().days(1)).take(31);
            days.filter(|date| rule.falls_on(first, *date)).map(|date| date.strftime("%m-%d").to_string()).collect()
        };
        assert_eq!(some("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO"), ["08-05", "08-10", "08-19", "08-24", "09-02"]);
        assert_eq!(some("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU"), ["08-05", "08-17", "08-19", "08-31", "09-02"]);
    }

    #[test]
    fn a_rule_that_is_wrong_is_refused_with_what_to_write() {
        for (text, says) in [
            ("", "is no part of a rule"),
            ("every sunday", "write FREQ=WEEKLY;BYDAY=SU"),
            ("INTERVAL=2", "no FREQ"),
            ("FREQ=HOURLY", "FREQ is DAILY, WEEKLY or MONTHLY"),
            ("FREQ=YEARLY", "INTERVAL=12"),
            ("FREQ=DAILY;FREQ=DAILY", "there twice"),
            ("FREQ=DAILY;INTERVAL=0", "from 1 to 366"),
            ("FREQ=DAILY;COUNT=9999", "from 1 to 1000"),
            ("FREQ=DAILY;COUNT=2;UNTIL=20261231", "not by both"),
            ("FREQ=DAILY;BYHOUR=2", "that of `start`"),
            ("FREQ=DAILY;BYSETPOS=1", "`BYSETPOS` is not taken"),
            ("FREQ=WEEKLY;BYDAY=SUN", "such as MO, 2TU or -1FR"),
            ("FREQ=WEEKLY;BYDAY=2SU", "goes with FREQ=MONTHLY"),
            ("FREQ=WEEKLY;BYDAY=é", "BYDAY lists days"),
            ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY goes with"),
            ("FREQ=MONTHLY;BYDAY=6SU", "BYDAY lists days"),
            ("FREQ=MONTHLY;INTERVAL=36", "from 1 to 24"),
            ("FREQ=MONTHLY;BYMONTHDAY=0", "counts from 1"),
            ("FREQ=MONTHLY;BYMONTHDAY=32", "from -31 to 31"),
            ("FREQ=DAILY;UNTIL=2026-12-31", "UNTIL is a date"),
            ("FREQ=DAILY;UNTIL=20261331", "UNTIL is a date"),
            ("FREQ=DAILY;UNTIL=20261231T25", "UNTIL is a date"),
            ("FREQ=DAILY;WKST=X", "a day is MO"),
        ] {
            let error = Rule::parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Rule::parse(&"X".repeat(600)).expect_err("long").contains("at most 500"));
        for good in
            ["FREQ=DAILY;UNTIL=20261231", "FREQ=DAILY;UNTIL=20261231T235959", "FREQ=DAILY;UNTIL=20261231T235959Z"]
        {
            assert_eq!(Rule::parse(good).expect("a rule").to_string(), good);
        }
    }
}
