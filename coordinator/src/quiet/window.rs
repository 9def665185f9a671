//! When planned work is in force.
//!
//! A window begins at a time of the wall clock of its zone and lasts for a
//! duration of elapsed time. Where the clock is put forward over its beginning,
//! it begins at the first instant after the gap; where the clock is put back
//! and shows its beginning twice, it begins once, at the first. It is as long
//! as ever in both nights.
//!
//! Occurrences that overlap or touch are one [`Span`].

use std::time::Duration;

use farol_protocol::Timestamp;
use jiff::{
    SignedDuration, Timestamp as Instant,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};

use super::rule::{Rule, Until};
use crate::text::plain;

/// Shortest window.
const SHORTEST: Duration = Duration::from_secs(60);
/// Longest window that comes once.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// Longest occurrence of one that comes again.
const LONGEST_AGAIN: Duration = Duration::from_secs(7 * 86_400);
/// A span of occurrences that run into one another is not longer: whoever
/// wants to be told nothing for ever takes the check away.
const LONGEST_SPAN: SignedDuration = SignedDuration::from_hours(62 * 24);
/// How far ahead the next occurrence is looked for: a 29 February is eight
/// years away at most.
const AHEAD_DAYS: i32 = 9 * 366;
/// How far behind a span may have begun.
const BEHIND_DAYS: i32 = 70;

/// Planned work, once or again and again.
#[derive(Debug, Clone)]
pub struct Window {
    zone: TimeZone,
    /// By the clock of the zone.
    start: DateTime,
    duration: Duration,
    rule: Option<Rule>,
    /// The last day on which it begins, where COUNT or UNTIL says one.
    last: Option<Date>,
}

/// Time for which a window is in force without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// It is in force from here.
    pub from: Timestamp,
    /// It is no more.
    pub to: Timestamp,
}

impl Window {
    /// A window that begins at `start` by the clock of the IANA time zone
    /// `zone`, such as `2026-11-22T02:00` in `America/Sao_Paulo`.
    ///
    /// # Errors
    /// One sentence that names the field and says what to write.
    pub fn parse(start: &str, zone: &str, duration: Duration, rule: Option<&str>) -> Result<Self, String> {
        let window = Self::read(start, zone, duration, rule)?;
        let longest = if rule.is_some() { LONGEST_AGAIN } else { LONGEST };
        if !(SHORTEST..=longest).contains(&duration) {
            let days = longest.as_secs() / 86_400;
            let again = if rule.is_some() { " for one that comes again" } else { "" };
            return Err(format!("`duration` is from 1m to {days}d{again}"));
        }
        window.check()?;
        Ok(window)
    }

    /// The same for what was parsed before, which costs far less.
    ///
    /// # Errors
    /// A part of it cannot be read.
    pub(crate) fn read(start: &str, zone: &str, duration: Duration, rule: Option<&str>) -> Result<Self, String> {
        // Names only: a rule of POSIX such as `<-03>3` says nothing to people.
        let zone = TimeZone::get(zone).map_err(|_| {
            format!("`zone`: `{}` is no IANA time zone such as America/Sao_Paulo or UTC", plain(zone, 60))
        })?;
        let start = local(start)?;
        let rule = rule.map(Rule::parse).transpose().map_err(|error| format!("`repeat`: {error}"))?;
        let mut window = Self { zone, start, duration, rule, last: None };
        window.last = window.last_day();
        Ok(window)
    }

    /// Name of its time zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// When it first begins, by the clock of its zone: `2026-11-22T02:00:00`.
    #[must_use]
    pub fn start(&self) -> String {
        self.start.to_string()
    }

    /// The day on which it may first begin.
    pub(crate) fn date(&self) -> Date {
        self.start.date()
    }

    /// When it begins in the day: `02:00`, with seconds only where there are some.
    pub(crate) fn time(&self) -> String {
        let format = if self.start.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
        self.start.strftime(format).to_string()
    }

    /// A moment by the clock of its zone, for people: `2026-11-22 02:00 -03`.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> String {
        instant(at).to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
    }

    /// How long each of its occurrences lasts.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// How it comes again.
    #[must_use]
    pub const fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref()
    }

    /// The span in which `now` lies.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> Option<Span> {
        self.spans_until(now, now).next().filter(|span| span.from <= now)
    }

    /// When it next begins, or ends where it is in force; none where it has
    /// ended for good.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let span = self.spans(now).next()?;
        Some(if span.from <= now { span.to } else { span.from })
    }

    /// Spans that end after `from`, in their order; they neither overlap nor
    /// touch.
    pub fn spans(&self, from: Timestamp) -> impl Iterator<Item = Span> {
        // What is planned for long after `from` comes all the same.
        let begins = self.local_date(instant(from)).max(self.start.date());
        self.spans_to(from, begins.saturating_add(jiff::Span::new().days(AHEAD_DAYS)))
    }

    /// Those of [`Self::spans`] that begin until about `to`.
    fn spans_until(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Span> {
        let last = self.local_date(instant(to)).saturating_add(jiff::Span::new().days(BEHIND_DAYS));
        self.spans_to(from, last)
    }

    fn spans_to(&self, from: Timestamp, last: Date) -> impl Iterator<Item = Span> {
        let first = self.local_date(instant(from)).saturating_sub(jiff::Span::new().days(BEHIND_DAYS));
        let last = self.last.map_or(last, |end| end.min(last));
        let mut starts = self.starts(first, last).peekable();
        let duration = SignedDuration::try_from(self.duration).unwrap_or(SignedDuration::ZERO);
        let spans = std::iter::from_fn(move || {
            let begun = starts.next()?;
            let mut ended = after(begun, duration);
            while let Some(next) = starts.next_if(|next| *next <= ended) {
                ended = ended.max(after(next, duration));
            }
            Some((begun, ended))
        });
        let stamp = |at: Instant| Timestamp::from_ms(at.as_millisecond());
        spans.map(move |(from, to)| Span { from: stamp(from), to: stamp(to) }).filter(move |span| span.to > from)
    }

    /// When its occurrences begin, from the day `first` to the day `last`.
    fn starts(&self, first: Date, last: Date) -> impl Iterator<Item = Instant> {
        let begin = self.start.date();
        // What comes once may have begun long before and last still.
        let first = if self.rule.is_some() { first.max(begin) } else { begin };
        let last = if self.rule.is_some() { last } else { begin };
        let days = first.series(jiff::Span::new().days(1)).take_while(move |date| *date <= last);
        days.filter(move |date| self.rule.as_ref().is_none_or(|rule| rule.falls_on(begin, *date)))
            .filter_map(move |date| self.instant_on(date))
    }

    /// The instant at which it begins on a day.
    fn instant_on(&self, date: Date) -> Option<Instant> {
        let local = date.to_datetime(self.start.time());
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { before, .. } => {
                // By the former offset it lies behind the gap: the change before it is where the gap ends.
                let behind = before.to_timestamp(local).ok()?;
                let change = self.zone.preceding(after(behind, SignedDuration::from_secs(1))).next();
                Some(change.map_or(behind, |change| change.timestamp()))
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
        }
    }

    fn local_date(&self, at: Instant) -> Date {
        self.zone.to_datetime(at).date()
    }

    fn last_day(&self) -> Option<Date> {
        let rule = self.rule.as_ref()?;
        let begin = self.start.date();
        if let Some(count) = rule.count {
            // What has not come so often by then ends there.
            let far = begin.saturating_add(jiff::Span::new().years(100));
            let days = begin.series(jiff::Span::new().days(1)).take_while(|date| *date <= far);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            return days.filter(|date| rule.falls_on(begin, *date)).take(count).last();
        }
        let is_in = |date: Date| match rule.until {
            None => true,
            Some(Until::Date(last)) => date <= last,
            Some(Until::Local(last)) => date.to_datetime(self.start.time()) <= last,
            Some(Until::Instant(last)) => self.instant_on(date).is_some_and(|at| at <= last),
        };
        let last = match rule.until? {
            Until::Date(last) => last,
            Until::Local(last) => last.date(),
            // The zone may be a day ahead of UTC or behind.
            Until::Instant(last) => self.local_date(last),
        };
        // The time of day may be later than that of the last day.
        [Some(last), last.yesterday().ok()].into_iter().flatten().find(|date| is_in(*date)).or(Some(last))
    }

    fn check(&self) -> Result<(), String> {
        let Some(rule) = &self.rule else { return Ok(()) };
        let begin = self.start.date();
        let last = begin.saturating_add(jiff::Span::new().days(AHEAD_DAYS));
        let last = self.last.map_or(last, |end| end.min(last));
        if self.starts(begin, last).next().is_none() {
            return Err(format!("`repeat`: `{rule}` never falls on a day from {begin} on"));
        }
        let first = self.zone.to_timestamp(begin.to_datetime(self.start.time())).map_err(|_| out_of_range())?;
        let from = Timestamp::from_ms(first.as_millisecond());
        let longest = LONGEST_SPAN.as_millis();
        // The pattern is the same again after a few years.
        if self.spans(from).take(400).any(|span| i128::from(span.to.since(span.from)) > longest) {
            return Err(format!(
                "`repeat`: with this `duration` the occurrences of `{rule}` run into one another and nobody would ever be \
                 told; make it shorter, or take the checks out of the registry"
            ));
        }
        Ok(())
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        (self.zone(), self.start, self.duration, &self.rule) == (other.zone(), other.start, other.duration, &other.rule)
    }
}

/// A time by the clock: `2026-11-22T02:00`, with or without seconds.
fn local(text: &str) -> Result<DateTime, String> {
    let wrong = || format!("`start`: `{}` is no time by the clock of `zone` such as 2026-11-22T02:00", plain(text, 60));
    // An offset would be one more zone, and the parser would ignore it.
    let (_, time) = text.trim().split_once(['T', 't', ' ']).ok_or_else(wrong)?;
    if text.len() > 30 || !time.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte)) {
        return Err(wrong());
    }
    let at: DateTime = text.trim().parse().map_err(|_| wrong())?;
    if !(2000..=2200).contains(&at.year()) { Err(out_of_range()) } else { Ok(at) }
}

fn out_of_range() -> String {
    "`start` is in a year from 2000 to 2200".to_owned()
}

fn instant(at: Timestamp) -> Instant {
    // Only the last day of the year 9999 is beyond what it takes.
    Instant::from_millisecond(at.as_ms()).unwrap_or(Instant::MAX)
}

fn after(at: Instant, by: SignedDuration) -> Instant {
    at.checked_add(by).unwrap_or(Instant::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn window(start: &str, zone: &str, hours: u64, rule: Option<&str>) -> Window {
        Window::parse(start, zone, HOUR * u32::try_from(hours).expect("few"), rule).expect("a window")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// The next spans, in UTC to the minute.
    fn next(window: &Window, from: &str, count: usize) -> Vec<String> {
        let shown = |at: Timestamp| at.to_string()[5..16].to_owned();
        window.spans(at(from)).take(count).map(|span| format!("{}/{}", shown(span.from), shown(span.to))).collect()
    }

    #[test]
    fn a_window_that_comes_once_is_in_force_once() {
        let window = window("2026-11-22T02:00", "America/Sao_Paulo", 2, None);
        for (now, in_force, change) in [
            ("2026-11-01T00:00:00Z", false, Some("2026-11-22T05:00:00Z")),
            ("2026-11-22T04:59:59Z", false, Some("2026-11-22T05:00:00Z")),
            ("2026-11-22T05:00:00Z", true, Some("2026-11-22T07:00:00Z")),
            ("2026-11-22T06:59:59Z", true, Some("2026-11-22T07:00:00Z")),
            ("2026-11-22T07:00:00Z", false, None),
            ("2036-11-22T07:00:00Z", false, None),
        ] {
            assert_eq!(window.in_force(at(now)).is_some(), in_force, "{now}");
            assert_eq!(window.next_change(at(now)), change.map(at), "{now}");
        }
        let month = Window::parse("2026-11-01T00:00", "UTC", HOUR * 24 * 31, None).expect("a window");
        assert!(month.in_force(at("2026-12-01T23:59:00Z")).is_some());
    }

    #[test]
    fn a_beginning_that_the_clock_skips_is_the_first_instant_after_the_gap() {
        // New York, 2026-03-08: 02:00 EST is 03:00 EDT, 07:00 UTC.
        let daily = window("2026-03-07T02:30", "America/New_York", 1, Some("FREQ=DAILY"));
        let expected = ["03-07T07:30/03-07T08:30", "03-08T07:00/03-08T08:00", "03-09T06:30/03-09T07:30"];
        assert_eq!(next(&daily, "2026-03-07T00:00:00Z", 3), expected);
        // Lisbon, 2026-03-29: 01:00 WET is 02:00 WEST, 01:00 UTC.
        let once = window("2026-03-29T01:15", "Europe/Lisbon", 1, None);
        assert_eq!(next(&once, "2026-03-01T00:00:00Z", 2), ["03-29T01:00/03-29T02:00"]);
        // São Paulo, 2018-11-04: midnight is 01:00, 03:00 UTC.
        let daily = window("2018-11-03T00:00", "America/Sao_Paulo", 1, Some("FREQ=DAILY;COUNT=3"));
        let expected = ["11-03T03:00/11-03T04:00", "11-04T03:00/11-04T04:00", "11-05T02:00/11-05T03:00"];
        assert_eq!(next(&daily, "2018-11-01T00:00:00Z", 9), expected);
    }

    #[test]
    fn a_beginning_that_the_clock_shows_twice_is_the_first_and_no_other() {
        // New York, 2026-11-01: 02:00 EDT is 01:00 EST, 06:00 UTC.
        let daily = window("2026-10-31T01:30", "America/New_York", 1, Some("FREQ=DAILY"));
        let expected = ["10-31T05:30/10-31T06:30", "11-01T05:30/11-01T06:30", "11-02T06:30/11-02T07:30"];
        assert_eq!(next(&daily, "2026-10-31T00:00:00Z", 3), expected);
        // São Paulo, 2019-02-16: midnight is 23:00 again, 02:00 UTC.
        let daily = window("2019-02-16T23:30", "America/Sao_Paulo", 1, Some("FREQ=DAILY;COUNT=2"));
        assert_eq!(next(&daily, "2019-02-01T00:00:00Z", 9), ["02-17T01:30/02-17T02:30", "02-18T02:30/02-18T03:30"]);
    }

    #[test]
    fn it_lasts_as_long_as_ever_while_the_clock_changes() {
        let spring = window("2026-03-08T01:00", "America/New_York", 3, None);
        assert_eq!(next(&spring, "2026-03-01T00:00:00Z", 1), ["03-08T06:00/03-08T09:00"]);
        let autumn = window("2026-11-01T00:30", "America/New_York", 3, None);
        assert_eq!(next(&autumn, "2026-10-01T00:00:00Z", 1), ["11-01T04:30/11-01T07:30"]);
    }

    #[test]
    fn occurrences_that_touch_or_overlap_are_one_span() {
        let nights = window("2026-06-01T22:00", "UTC", 24, Some("FREQ=WEEKLY;BYDAY=FR,SA"));
        assert_eq!(next(&nights, "2026-06-02T00:00:00Z", 2), ["06-05T22:00/06-07T22:00", "06-12T22:00/06-14T22:00"]);
        // In the middle of it the whole of it is known.
        assert_eq!(next(&nights, "2026-06-07T00:00:00Z", 1), ["06-05T22:00/06-07T22:00"]);
    }

    #[test]
    fn count_and_until_end_it() {
        let twice = window("2026-06-01T10:00", "UTC", 1, Some("FREQ=DAILY;INTERVAL=2;COUNT=2"));
        assert_eq!(next(&twice, "2026-01-01T00:00:00Z", 9), ["06-01T10:00/06-01T11:00", "06-03T10:00/06-03T11:00"]);
        assert_eq!(twice.next_change(at("2026-06-03T11:00:00Z")), None);
        // The last day counts, unless its beginning is later than that moment.
        for (until, count) in [
            ("20260603", 3),
            ("20260603T100000", 3),
            ("20260603T095959", 2),
            ("20260603T130000Z", 3),
            ("20260603T125959Z", 2),
        ] {
            let rule = format!("FREQ=DAILY;UNTIL={until}");
            let window = window("2026-06-01T10:00", "America/Sao_Paulo", 1, Some(&rule));
            assert_eq!(next(&window, "2026-01-01T00:00:00Z", 9).len(), count, "{until}");
        }
    }

    #[test]
    fn a_window_that_begins_in_the_next_century_is_known_now() {
        let weekly = window("2198-11-03T01:30", "America/Sao_Paulo", 1, Some("FREQ=WEEKLY;BYDAY=SU"));
        assert_eq!(weekly.next_change(at("2026-11-21T00:00:00Z")), Some(at("2198-11-04T04:30:00Z")));
        assert_eq!(weekly.in_force(at("2026-11-22T04:30:00Z")), None);
        let leap = window("2024-02-29T10:00", "UTC", 1, Some("FREQ=MONTHLY;INTERVAL=12"));
        assert_eq!(leap.next_change(at("2096-03-01T00:00:00Z")), Some(at("2104-02-29T10:00:00Z")));
    }

    #[test]
    fn whatever_is_written_is_read_or_refused_and_never_panics() {
        const PARTS: [&str; 22] = [
            "FREQ=",
            "DAILY",
            "WEEKLY",
            "MONTHLY",
            ";",
            "INTERVAL=",
            "COUNT=",
            "UNTIL=",
            "BYDAY=",
            "BYMONTHDAY=",
            "WKST=",
            "-1",
            "31",
            "999999999999",
            "SU",
            "MO,",
            "20261231",
            "T235959Z",
            "99991231T235959",
            "00000000",
            "é",
            "=",
        ];
        let mut made = 0;
        for seed in 0..3000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut rule = String::from(if rng.bool() { "FREQ=DAILY;" } else { "" });
            for _ in 0..rng.usize(0..9) {
                rule.push_str(PARTS[rng.usize(0..PARTS.len())]);
            }
            let start = ["2000-01-01T00:00", "2200-12-31T23:59:59", "2026-03-29T01:30"][rng.usize(0..3)];
            let zone = ZONES[rng.usize(0..3)];
            let Ok(window) = Window::parse(start, zone, HOUR, Some(&rule)) else { continue };
            made += 1;
            for now in [Timestamp::from_ms(i64::MIN), Timestamp::from_ms(0), Timestamp::from_ms(i64::MAX)] {
                let in_force = window.in_force(now);
                assert!(window.next_change(now).is_none_or(|change| change > now) && in_force.is_none(), "{rule}");
            }
        }
        assert!(made > 50, "{made} rules could be read");
    }

    #[test]
    fn what_makes_no_window_is_refused_with_what_to_write() {
        let refused = |start: &str, zone: &str, hours: u32, rule: Option<&str>| {
            Window::parse(start, zone, HOUR * hours, rule).expect_err("refused")
        };
        for zone in ["", "Sao_Paulo", "<-03>3", "../etc/passwd", "America/Sao Paulo", "-03:00"] {
            let error = refused("2026-11-22T02:00", zone, 1, None);
            assert!(error.contains("IANA time zone such as America/Sao_Paulo"), "{zone}: {error}");
        }
        for start in
            ["", "02:00", "2026-11-22", "2026-11-22T02:00Z", "2026-11-22T02:00-03:00", "2026-02-30T02:00", "soon"]
        {
            let error = refused(start, "UTC", 1, None);
            assert!(error.contains("such as 2026-11-22T02:00"), "{start}: {error}");
        }
        assert!(refused("1890-11-22T02:00", "UTC", 1, None).contains("2000 to 2200"));
        assert!(refused("2026-11-22T02:00", "UTC", 0, None).contains("1m to 31d"));
        assert!(refused("2026-11-22T02:00", "UTC", 24 * 32, None).contains("1m to 31d"));
        assert!(refused("2026-11-22T02:00", "UTC", 24 * 8, Some("FREQ=MONTHLY")).contains("1m to 7d"));
        assert!(refused("2026-11-22T02:00", "UTC", 1, Some("FREQ=SOON")).starts_with("`repeat`: FREQ"));
        for (hours, rule) in [(24, "FREQ=DAILY"), (168, "FREQ=WEEKLY"), (168, "FREQ=MONTHLY;BYMONTHDAY=1,8,15,22,29")] {
            let error = refused("2026-11-22T02:00", "America/New_York", hours, Some(rule));
            assert!(error.contains("run into one another"), "{rule}: {error}");
        }
        for rule in ["FREQ=MONTHLY;BYMONTHDAY=31;BYDAY=5MO;INTERVAL=12;UNTIL=20261231", "FREQ=DAILY;UNTIL=20200101"] {
            let error = refused("2026-11-22T02:00", "UTC", 1, Some(rule));
            assert!(error.contains("never falls on a day"), "{rule}: {error}");
        }
    }

    const ZONES: [&str; 3] = ["America/Sao_Paulo", "Europe/Lisbon", "America/New_York"];

    /// A window of any shape, that begins near a change of the clock.
    fn any(rng: &mut fastrand::Rng) -> (Window, Timestamp) {
        const DAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
        let near = ["2018-11-04", "2019-02-16", "2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01", "2024-02-29"];
        loop {
            let day: Date = rng.choice(near).expect("some").parse().expect("a date");
            let day = day.saturating_sub(jiff::Span::new().days(rng.i32(0..9)));
            let start =
                format!("{day}T{:02}:{:02}", if rng.bool() { rng.u8(0..4) } else { rng.u8(0..24) }, rng.u8(0..60));
            let zone = rng.choice(ZONES).expect("some");
            let interval = rng.u8(1..4);
            let mut days = |count: u8| -> Vec<&str> { (0..count).map(|_| DAYS[rng.usize(0..7)]).collect() };
            let list = days(3).join(",");
            let one = days(1)[0];
            let rule = match rng.u8(0..8) {
                0 => None,
                1 => Some(format!("FREQ=DAILY;INTERVAL={interval}")),
                2 => Some(format!("FREQ=WEEKLY;INTERVAL={interval};BYDAY={list}")),
                3 => Some(format!("FREQ=MONTHLY;BYDAY={}{one}", [1, 2, -1][rng.usize(0..3)])),
                4 => Some(format!("FREQ=MONTHLY;BYMONTHDAY={},-1", rng.u8(1..29))),
                5 => Some(format!("FREQ=DAILY;COUNT={}", rng.u8(1..20))),
                6 => Some(format!(
                    "FREQ=DAILY;UNTIL={}",
                    day.saturating_add(jiff::Span::new().days(9)).strftime("%Y%m%d")
                )),
                _ => Some("FREQ=DAILY".to_owned()),
            };
            let longest = if rng.bool() { 180 } else { 3000 };
            let minutes = rng.u64(1..longest);
            let made = Window::parse(&start, zone, Duration::from_secs(minutes * 60), rule.as_deref());
            let Ok(window) = made else { continue };
            let begin = Timestamp::from_ms(window.zone.to_timestamp(window.start).expect("in range").as_millisecond());
            let now = begin.plus_ms(rng.i64(-3 * 86_400_000..25 * 86_400_000));
            return (window, now);
        }
    }

    /// The same by brute force: whoever looks at the clock of the zone minute
    /// by minute sees when the beginning of a day is reached or passed.
    struct Oracle {
        spans: Vec<(i64, i64)>,
    }

    impl Oracle {
        const MINUTE: i64 = 60_000;

        fn of(window: &Window, now: Timestamp) -> Self {
            let (first, last) = (now.plus_ms(-6 * 86_400_000), now.plus_ms(70 * 86_400_000));
            let mut spans = Vec::new();
            let mut date = window.local_date(instant(first));
            let mut count = window.rule.as_ref().and_then(|rule| rule.count).unwrap_or(u32::MAX);
            if window.rule.is_none() || count != u32::MAX {
                date = window.start.date();
            }
            while date <= window.local_date(instant(last)) && count > 0 {
                let falls = match &window.rule {
                    None => date == window.start.date(),
                    Some(rule) => {
                        rule.falls_on(window.start.date(), date)
                            && !matches!(rule.until, Some(Until::Date(end)) if date > end)
                    }
                };
                if falls {
                    count -= 1;
                    let target = date.to_datetime(window.start.time());
                    // Every zone here is behind UTC by at most five hours, or ahead by one.
                    let utc = jiff::tz::Offset::UTC.to_timestamp(target).expect("in range").as_millisecond();
                    let begun = (-90..400)
                        .map(|minute| utc + minute * Self::MINUTE)
                        .find(|ms| window.zone.to_datetime(instant(Timestamp::from_ms(*ms))) >= target)
                        .expect("the clock gets there");
                    spans.push((begun, begun + i64::try_from(window.duration.as_millis()).expect("short")));
                }
                date = date.tomorrow().expect("in range");
            }
            Self { spans }
        }

        fn in_force(&self, at: Timestamp) -> bool {
            self.spans.iter().any(|(from, to)| (*from..*to).contains(&at.as_ms()))
        }
    }

    #[test]
    fn whoever_watches_the_clock_minute_by_minute_sees_the_same() {
        for seed in 0..600 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (window, now) = any(&mut rng);
            let oracle = Oracle::of(&window, now);
            let is_in_force = window.in_force(now).is_some();
            let context = || format!("seed {seed}: {window:?} at {now}");
            assert_eq!(is_in_force, oracle.in_force(now), "{}", context());
            // Nothing changes before the next change, and then it does.
            let change = window.next_change(now);
            let horizon = now.plus_ms(40 * 86_400_000);
            let end = change.unwrap_or(horizon).min(horizon);
            let steps = (end.since(now) - 1).max(0) / Oracle::MINUTE;
            for minute in (0..=steps).step_by(if steps > 3000 { 7 } else { 1 }) {
                let then = now.plus_ms(minute * Oracle::MINUTE);
                assert_eq!(oracle.in_force(then), is_in_force, "{} then {then}", context());
            }
            assert_eq!(oracle.in_force(end.plus_ms(-1)), is_in_force, "{}", context());
            if let Some(change) = change.filter(|change| *change <= horizon) {
                assert!(change > now, "{}", context());
                assert_ne!(oracle.in_force(change), is_in_force, "{} change {change}", context());
            }
        }
    }

    #[test]
    fn spans_are_apart_in_order_and_the_same_from_wherever_one_looks() {
        for seed in 0..600 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (window, now) = any(&mut rng);
            let spans: Vec<Span> = window.spans(now).take(6).collect();
            let context = || format!("seed {seed}: {window:?} at {now}: {spans:?}");
            for pair in spans.windows(2) {
                assert!(pair[0].to < pair[1].from, "{}", context());
            }
            for span in &spans {
                let middle = span.from.plus_ms(span.to.since(span.from) / 2);
                assert_eq!(window.in_force(middle), Some(*span), "{}", context());
                assert_eq!(window.in_force(span.from), Some(*span), "{}", context());
                assert_ne!(window.in_force(span.to), Some(*span), "{}", context());
                assert_eq!(window.next_change(middle), Some(span.to), "{}", context());
                assert_eq!(window.next_change(span.from.plus_ms(-1)), Some(span.from), "{}", context());
            }
        }
    }
}
