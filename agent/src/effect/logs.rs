//! `logs.read`: the last lines of a log within a time span.

use std::collections::VecDeque;

use farol_protocol::{
    Timestamp,
    action::{FinalState, ReasonCode},
};
use tokio::time::Instant;

use super::{Course, Over, Why, done, file::read_end};
use crate::{
    exec::{Bounds, End, Ended, Program},
    journal::Ending,
    text::Detail,
};

/// Longest text that is answered, in bytes.
const MOST_TEXT: usize = 256 * 1024;
/// How much of a file's end is looked at, in bytes.
const MOST_READ: u64 = 8 << 20;

/// Where the lines come from; the policy has agreed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The journal of a unit.
    Unit(String),
    /// A file.
    Path(String),
}

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    pub(crate) source: Source,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) lines: u32,
}

impl Logs {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        // The answer is the log; nobody needs it twice.
        course.feed = None;
        match &self.source {
            Source::Unit(unit) => {
                let ended = course.spawn(&self.journalctl(unit)).await;
                match &ended.end {
                    End::SpawnFailed(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        let why = Why::failed(Detail::NoJournal, Vec::new());
                        course.because(&Why { reason: Some(ReasonCode::Unavailable), ..why }).into()
                    }
                    _ => course.conclude(ended),
                }
            }
            Source::Path(path) => self.read(course, path.clone()).await,
        }
    }

    fn journalctl(&self, unit: &str) -> Program {
        let mut args = vec![format!("--unit={unit}")];
        args.extend(self.since.map(|at| format!("--since={}", epoch(at))));
        args.extend(self.until.map(|at| format!("--until={}", epoch(at))));
        args.extend([format!("--lines={}", self.lines), "--output=short-iso-precise".to_owned()]);
        args.push("--no-pager".to_owned());
        Program::new("journalctl", args, None).keeping(Bounds { head: 0, tail: MOST_TEXT })
    }

    async fn read(&self, course: &mut Course<'_>, path: String) -> Over {
        let began = Instant::now();
        let zone_s = match self.since.or(self.until) {
            None => 0,
            Some(_) => match zone(course).await {
                Ok(seconds) => seconds,
                Err(over) => return *over,
            },
        };
        let logs = self.clone();
        let now = Timestamp::now();
        let read = course
            .blocking(move |_| {
                let (content, whole) = read_end(&path, MOST_READ)?;
                Ok(logs.select(&content, whole, zone_s, now))
            })
            .await;
        let selected = match read {
            Ok(selected) => selected,
            Err(over) => return *over,
        };
        let mut ending = done(selected.text, None, began);
        if let Some(outcome) = &mut ending.outcome {
            outcome.truncated = selected.truncated;
        }
        let detail = selected.timeless.then(|| course.say(Detail::NoTimes, &[]));
        Ending { detail, ..ending }.into()
    }

    /// The wanted lines of a file's end; `whole` when that is all of it.
    fn select(&self, content: &[u8], whole: bool, zone_s: i64, now: Timestamp) -> Selected {
        let bounded = self.since.is_some() || self.until.is_some();
        let most = usize::try_from(self.lines).unwrap_or(usize::MAX);
        let mut kept: VecDeque<&[u8]> = VecDeque::new();
        let (mut inside, mut first, mut dropped) = (!bounded, None, false);
        for line in content.split_inclusive(|byte| *byte == b'\n').skip(usize::from(!whole)) {
            if bounded && let Some(at) = time_of(line, zone_s, now) {
                first.get_or_insert(at);
                inside = self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at <= until);
            }
            if inside {
                kept.push_back(line);
                if kept.len() > most {
                    kept.pop_front();
                    dropped = true;
                }
            }
        }
        // Whether lines before what was read could have been wanted.
        let before = !whole && !dropped && self.since.is_none_or(|since| first.is_none_or(|first| first >= since));
        let mut length: usize = kept.iter().map(|line| line.len()).sum();
        let mut cut = false;
        while length > MOST_TEXT {
            length -= kept.pop_front().map_or(length, <[u8]>::len);
            cut = true;
        }
        let text: Vec<u8> = kept.into_iter().flatten().copied().collect();
        Selected {
            text: String::from_utf8_lossy(&text).into_owned(),
            truncated: cut || before,
            timeless: bounded && first.is_none() && !content.is_empty(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Selected {
    text: String,
    truncated: bool,
    /// No line had a time, so that none could be chosen by it.
    timeless: bool,
}

/// A time as journalctl takes it in every locale and zone.
pub(crate) fn epoch(at: Timestamp) -> String {
    let ms = at.as_ms();
    format!("@{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// Seconds that this host's local time is ahead of UTC: lines of a log often
/// name no zone.
async fn zone(course: &mut Course<'_>) -> Result<i64, Box<Over>> {
    let date = Program::new("date", vec!["+%z".to_owned()], None);
    let ended = course.spawn(&date).await;
    match &ended {
        Ended { end: End::Exited(status), outcome: Some(outcome), .. } if status.success() => {
            Ok(offset(outcome.stdout.trim().as_bytes()).unwrap_or(0))
        }
        _ => {
            let over = course.conclude(ended);
            // `date` has no end of its own that would be the action's.
            let state = if over.ending.state == FinalState::Done { FinalState::Failed } else { over.ending.state };
            Err(Box::new(Over { ending: Ending { state, ..over.ending }, ..over }))
        }
    }
}

/// The time that a line begins with: RFC 3339 or ISO 8601, with `/` for `-`
/// too, or that of syslog. Without a zone it is the host's.
fn time_of(line: &[u8], zone_s: i64, now: Timestamp) -> Option<Timestamp> {
    let line = line.strip_prefix(b"[").unwrap_or(line);
    iso(line, zone_s).or_else(|| syslog(line, zone_s, now))
}

fn iso(line: &[u8], zone_s: i64) -> Option<Timestamp> {
    let separators = [(4, b"-/" as &[u8]), (7, b"-/"), (10, b"T "), (13, b":"), (16, b":")];
    if !separators.iter().all(|(at, allowed)| line.get(*at).is_some_and(|byte| allowed.contains(byte))) {
        return None;
    }
    let number = |from: usize, to: usize| digits(line.get(from..to)?);
    let seconds = civil(number(0, 4)?, number(5, 7)?, number(8, 10)?, &line[11..])?;
    let mut rest = &line[19..];
    let mut ms = 0;
    if let Some((b'.' | b',', fraction)) = rest.split_first() {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        for place in 0..3 {
            ms = ms * 10 + fraction[..length].get(place).map_or(0, |byte| i64::from(byte - b'0'));
        }
        rest = &fraction[length..];
    }
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let zone_s = if rest.first() == Some(&b'Z') { 0 } else { offset(rest).unwrap_or(zone_s) };
    Some(Timestamp::from_ms((seconds - zone_s) * 1000 + ms))
}

/// `Nov 20 12:00:00`: the year is the last one in which that is not ahead of
/// now by more than a day.
fn syslog(line: &[u8], zone_s: i64, now: Timestamp) -> Option<Timestamp> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    const DAY_MS: i64 = 86_400_000;
    let month = MONTHS.iter().position(|month| line.starts_with(month))? + 1;
    let month = i64::try_from(month).ok()?;
    if line.get(3) != Some(&b' ') || line.get(6) != Some(&b' ') {
        return None;
    }
    let day = digits(line.get(4..6)?.trim_ascii_start())?;
    let year = 1970 + now.as_ms() / (365 * DAY_MS + DAY_MS / 4);
    (year - 1..=year + 1)
        .rev()
        .filter_map(|year| civil(year, month, day, line.get(7..)?))
        .map(|seconds| Timestamp::from_ms((seconds - zone_s) * 1000))
        .find(|at| at.since(now) <= DAY_MS)
}

/// `+0530`, `-03:00`.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let hours = digits(rest.get(..2)?)?;
    let rest = rest[2..].strip_prefix(b":").unwrap_or(&rest[2..]);
    let minutes = rest.get(..2).and_then(digits).unwrap_or(0);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, byte| number * 10 + i64::from(byte - b'0')))
}

/// Seconds since 1970 of a date and of `clock`, which begins with `HH:MM:SS`.
fn civil(year: i64, month: i64, day: i64, clock: &[u8]) -> Option<i64> {
    let part = |at: usize| digits(clock.get(at..at + 2)?);
    let (hour, minute, second) = (part(0)?, part(3)?, part(6)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // March counts as the first month, so that a leap day is the last one.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let of_year = (153 * months + 2) / 5 + day - 1;
    let total = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(total * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_value(serde_json::Value::from(text)).expect("a time")
    }

    fn now() -> Timestamp {
        at("2026-03-01T12:00:00Z")
    }

    #[test]
    fn times_of_common_logs_are_read_with_their_zone_or_the_hosts() {
        for (line, expected) in [
            ("2026-02-28T23:59:59Z up", "2026-02-28T23:59:59Z"),
            ("2026-02-28T23:59:59.1234567+01:00 up", "2026-02-28T22:59:59.123Z"),
            ("2024-02-29 10:00:00,5 INFO", "2024-02-29T07:00:00.500Z"),
            ("[2026/01/02 03:04:05] nginx", "2026-01-02T00:04:05Z"),
            ("2026-01-02 03:04:05 +0000 x", "2026-01-02T03:04:05Z"),
            ("Feb  3 04:05:06 host cron[1]: x", "2026-02-03T01:05:06Z"),
            ("Mar  2 12:00:00 host a: tomorrow", "2026-03-02T09:00:00Z"),
            ("Dec 31 23:59:59 host a: last year", "2025-12-31T20:59:59Z"),
        ] {
            assert_eq!(time_of(line.as_bytes(), 3 * 3600, now()), Some(at(expected)), "{line}");
        }
        for line in ["", "2026-02-30 00:00:00", "2026-02-28", "Feb 29 00:00", "Mon", "\tat x()", "20260228 10:00:00"] {
            assert_eq!(time_of(line.as_bytes(), 0, now()), None, "{line}");
        }
    }

    const LOG: &[u8] = b"  begun before\n\
        2026-01-01T00:00:00Z one\n\
        2026-01-01T00:00:10Z two\n  at somewhere\n\
        2026-01-01T00:00:20Z three\n\
        2026-01-01T00:00:30Z four\n";

    fn logs(since: Option<&str>, until: Option<&str>, lines: u32) -> Logs {
        let source = Source::Path("/var/log/x".to_owned());
        Logs { source, since: since.map(at), until: until.map(at), lines }
    }

    #[test]
    fn a_line_without_a_time_goes_with_the_line_above_it() {
        let all = logs(None, None, 100).select(LOG, true, 0, now());
        assert_eq!((all.text.as_bytes(), all.truncated), (LOG, false));
        let span = logs(Some("2026-01-01T00:00:05Z"), Some("2026-01-01T00:00:20Z"), 100).select(LOG, true, 0, now());
        assert_eq!(span.text, "2026-01-01T00:00:10Z two\n  at somewhere\n2026-01-01T00:00:20Z three\n");
        let last = logs(None, Some("2026-01-01T00:00:20Z"), 2).select(LOG, true, 0, now());
        assert_eq!(last.text, "  at somewhere\n2026-01-01T00:00:20Z three\n");
    }

    #[test]
    fn what_may_be_missing_at_the_front_is_told() {
        let cut = |since| logs(since, None, 100).select(LOG, false, 0, now()).truncated;
        assert!(cut(None) && cut(Some("2026-01-01T00:00:00Z")));
        assert!(!cut(Some("2026-01-01T00:00:05Z")));
        let long = [&b"x\n".repeat(MOST_TEXT)[..], b"end\n"].concat();
        let selected = logs(None, None, u32::MAX).select(&long, true, 0, now());
        assert!(selected.truncated && selected.text.len() <= MOST_TEXT && selected.text.ends_with("end\n"));
    }

    #[test]
    fn a_file_without_times_says_so_rather_than_looking_quiet() {
        let selected = logs(Some("2026-01-01T00:00:05Z"), None, 10).select(b"a\nb\n", true, 0, now());
        assert_eq!(selected, Selected { text: String::new(), truncated: false, timeless: true });
    }

    #[test]
    fn journalctl_gets_every_value_as_one_argument() {
        let logs =
            Logs { source: Source::Unit("--flush".to_owned()), ..logs(Some("2026-01-01T00:00:05.25Z"), None, 7) };
        let program = format!("{:?}", logs.journalctl("--flush"));
        for part in ["\"journalctl\"", "\"--unit=--flush\"", "\"--since=@1767225605.250\"", "\"--lines=7\""] {
            assert!(program.contains(part), "{part} is not in {program}");
        }
    }
}
