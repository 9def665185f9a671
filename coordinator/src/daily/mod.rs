//! A0 sums up the day: what is open, what ended, what is kept quiet and what
//! waits for a person; and what the logs of the last day held.
//!
//! [`DailyFacts`] and [`LogReview`] are read by [`gather`] and [`logs`], put into
//! words by [`crate::text`], and said by [`job`] once a day.

mod facts;
mod gather;
mod job;
mod logs;

use farol_protocol::{
    Language, Timestamp,
    registry::{Daily, Registry},
    yaml::Mistake,
};
use jiff::{Timestamp as Instant, civil::Date, tz::TimeZone};

pub use self::{
    facts::{DailyCertificate, DailyFacts, DailyProblem, Ending, HostLogs, LogCheck, LogReview, SilentHost, Waiting},
    gather::gather,
    logs::review,
};
pub(crate) use job::{key, pass, thread};

/// A day in ms.
pub(crate) const DAY: i64 = 86_400_000;

/// A day of a zone's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Which.
    pub date: Date,
    /// When its summary is due; absent: never.
    pub due: Option<Timestamp>,
    /// When it ends.
    pub ends: Timestamp,
}

/// The zone by whose clock the summary is written: the registry's, else the one
/// whose clock the operators' texts show.
#[must_use]
pub fn zone(registry: &Registry) -> &str {
    let shown = match registry.language {
        Language::PtBr => "America/Sao_Paulo",
        Language::En => "UTC",
    };
    registry.daily.timezone.as_deref().unwrap_or(shown)
}

/// Whether the zone that the registry names is one.
///
/// # Errors
/// It is not.
pub fn check(registry: &Registry) -> Result<(), Mistake> {
    let zone = zone(registry);
    TimeZone::get(zone).map(drop).map_err(|_| Mistake {
        line: 0,
        column: 0,
        message: format!("daily.timezone: `{zone}` is no IANA time zone such as America/Sao_Paulo"),
    })
}

/// The day on which `now` falls by the clock of `zone`. A time that the clock
/// skips on that day is due as much later; one that it shows twice, at
/// the first. None where there is no such zone.
#[must_use]
pub fn day(daily: &Daily, zone: &str, now: Timestamp) -> Option<Day> {
    let zone = TimeZone::get(zone).ok()?;
    let date = Instant::from_millisecond(now.as_ms()).ok()?.to_zoned(zone.clone()).date();
    let stamp = |at: jiff::Zoned| Timestamp::from_ms(at.timestamp().as_millisecond());
    let due = match daily.minute {
        None => None,
        Some(minute) => {
            let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
            Some(stamp(date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?))
        }
    };
    let ends = stamp(date.tomorrow().ok()?.to_zoned(zone).ok()?);
    Some(Day { date, due, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn on(zone: &str, minute: u16, now: &str) -> (String, String, String) {
        let daily = Daily { minute: Some(minute), timezone: None };
        let day = day(&daily, zone, at(now)).expect("a day");
        (day.date.to_string(), day.due.expect("due").to_string(), day.ends.to_string())
    }

    #[test]
    fn a_day_begins_and_is_due_by_the_clock_of_its_zone() {
        let (date, due, ends) = on("America/Sao_Paulo", 420, "2026-11-22T02:59:59Z");
        assert_eq!(date, "2026-11-21");
        assert_eq!((at(&due), at(&ends)), (at("2026-11-21T10:00:00Z"), at("2026-11-22T03:00:00Z")));
        assert_eq!(on("America/Sao_Paulo", 420, "2026-11-22T03:00:00Z").0, "2026-11-22");
        assert!(day(&Daily::default(), "Mars/Olympus", at("2026-11-22T03:00:00Z")).is_none());
        let never = Daily { minute: None, timezone: None };
        assert_eq!(day(&never, "UTC", at("2026-11-22T03:00:00Z")).expect("a day").due, None);
    }

    #[test]
    fn a_time_that_the_clock_skips_or_shows_twice_is_due_once() {
        // Put forward from 02:00 to 03:00 in New York.
        let (_, due, ends) = on("America/New_York", 150, "2026-03-08T12:00:00Z");
        assert_eq!((at(&due), at(&ends)), (at("2026-03-08T07:30:00Z"), at("2026-03-09T04:00:00Z")));
        // Put back from 02:00 to 01:00.
        let (_, due, ends) = on("America/New_York", 90, "2026-11-01T12:00:00Z");
        assert_eq!((at(&due), at(&ends)), (at("2026-11-01T05:30:00Z"), at("2026-11-02T05:00:00Z")));
    }

    #[test]
    fn a_zone_that_is_none_is_refused_and_without_one_the_clock_of_the_texts_counts() {
        let registry = |more: &str| Registry::parse(&format!("version: 1\n{more}"), &|_| None).expect("well formed");
        assert_eq!(zone(&registry("")), "America/Sao_Paulo");
        assert_eq!(zone(&registry("language: en\n")), "UTC");
        let named = registry("language: en\ndaily: {timezone: Europe/Lisbon}\n");
        assert_eq!((zone(&named), check(&named)), ("Europe/Lisbon", Ok(())));
        let mistake = check(&registry("daily: {timezone: Mars/Olympus}\n")).expect_err("refused");
        assert!(mistake.message.contains("daily.timezone: `Mars/Olympus`"), "{mistake}");
    }
}
