//! Reports that the coordinator makes about its line to a host: what was lost
//! on it, and how wrong the host's clock is.

use std::time::Duration;

use farol_protocol::{Report, Status, Timestamp, telemetry::Gap};

use crate::{correlate, text::Line};

/// A clock that is further off is reported. Hosts refuse signed orders from there on.
pub(crate) const SKEW_LIMIT: Duration = Duration::from_secs(300);
/// Without a new loss for so long, the last one is history.
const CALM: Duration = Duration::from_secs(3600);

/// A host had to drop batches.
#[expect(clippy::cast_precision_loss, reason = "a number of batches stays far below 53 bits")]
pub(super) fn lost(host: &str, lost: u64, gaps: &[Gap], language: farol_protocol::Language, now: Timestamp) -> Report {
    let from = gaps.iter().map(|gap| gap.from).min().unwrap_or(now);
    let to = gaps.iter().map(|gap| gap.to).max().unwrap_or(now);
    Report {
        check: correlate::telemetry(),
        status: Status::Warning,
        value: Some(lost as f64),
        unit: Some("count".to_owned()),
        text: Line::Lost { host, batches: lost, from, to }.in_words(language),
        observed_at: now,
        cause: None,
    }
}

/// Whether a loss is history by now.
pub(crate) fn calm(last: Option<&Report>, online: bool, now: Timestamp) -> Option<Status> {
    let limit = i64::try_from(CALM.as_millis()).unwrap_or(i64::MAX);
    let last = last.filter(|last| last.status != Status::Ok)?;
    (online && now.since(last.observed_at) > limit).then_some(Status::Ok)
}

/// That it is.
pub(crate) fn calmed(host: &str, language: farol_protocol::Language, now: Timestamp) -> Report {
    Report {
        check: correlate::telemetry(),
        status: Status::Ok,
        value: Some(0.0),
        unit: Some("count".to_owned()),
        text: Line::NothingLost { host }.in_words(language),
        observed_at: now,
        cause: None,
    }
}

/// What is to be said about a clock; nothing about one that was right and is.
pub(crate) fn clock(last: Option<&Report>, skew_ms: i64) -> Option<Status> {
    if u128::from(skew_ms.unsigned_abs()) > SKEW_LIMIT.as_millis() {
        return Some(Status::Warning);
    }
    last.filter(|last| last.status != Status::Ok).map(|_| Status::Ok)
}

/// The same as a report. `skew_ms` is what is added to the host's times.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a clock's error stay far below 53 bits")]
pub(crate) fn clocked(
    host: &str,
    status: Status,
    skew_ms: i64,
    language: farol_protocol::Language,
    now: Timestamp,
) -> Report {
    Report {
        check: correlate::clock(),
        status,
        value: Some((skew_ms.abs() / 1000) as f64),
        unit: Some("s".to_owned()),
        text: match status {
            Status::Ok => Line::ClockRight { host }.in_words(language),
            _ => Line::ClockWrong { host, skew_ms }.in_words(language),
        },
        observed_at: now,
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Language;

    use super::*;

    #[test]
    fn a_loss_is_history_after_an_hour_of_a_host_that_is_there() {
        let at = Timestamp::from_ms(1_800_000_000_000);
        let gap = Gap { first_seq: 3, last_seq: 9, from: at.plus_ms(-9_000), to: at.plus_ms(-3_000) };
        let last = lost("vm112", 7, &[gap], Language::En, at);
        assert!(last.text.contains("7 batches") && last.status == Status::Warning, "{}", last.text);
        let later = at.plus(CALM).plus_ms(1);
        assert_eq!(calm(Some(&last), true, at.plus(CALM)), None);
        assert_eq!(calm(Some(&last), true, later), Some(Status::Ok));
        assert_eq!(calm(Some(&last), false, later), None, "silence is no evidence");
        assert_eq!(calm(Some(&calmed("vm112", Language::En, at)), true, later), None);
        assert_eq!(calm(None, true, later), None);
    }

    #[test]
    fn a_clock_is_reported_beyond_five_minutes_either_way_and_when_it_is_right_again() {
        assert_eq!(clock(None, 300_000), None);
        assert_eq!((clock(None, 300_001), clock(None, -300_001)), (Some(Status::Warning), Some(Status::Warning)));
        let wrong = clocked("vm112", Status::Warning, -7_200_000, Language::En, Timestamp::now());
        assert_eq!((wrong.value, clock(Some(&wrong), 0)), (Some(7200.0), Some(Status::Ok)));
        assert!(wrong.text.contains("ahead"), "{}", wrong.text);
    }
}
