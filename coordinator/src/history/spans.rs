//! What a check said from when to when.

use farol_protocol::Status;

use super::{pack::Seen, query::usual, roll::status};

/// A time in which a check said the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What it said.
    pub status: Status,
    /// When it said so first, in ms.
    pub from: i64,
    /// When it said otherwise, in ms; where it stopped saying anything, when it
    /// said so last; none for the last span while it goes on.
    pub until: Option<i64>,
    /// When it said so last, in ms.
    pub last: i64,
    /// How often.
    pub reports: u64,
}

/// How many times its interval a check may be late before nothing is known of it.
const LATE: i64 = 3;

/// The spans of reports that are sorted by time. Between two reports that lie
/// further apart than a check's interval explains, nothing is known: no span
/// covers it. `every` is the interval in ms; none for what is reported when it
/// changes, which stays true until then.
#[must_use]
pub fn spans(seen: &[Seen], every: Option<i64>, now: i64) -> Vec<Span> {
    let times: Vec<i64> = seen.iter().map(|seen| seen.at).collect();
    // The interval may have been longer then than it is now.
    let limit = every.map(|every| LATE.saturating_mul(every.max(usual(&times).unwrap_or(0))));
    let lost = |from: i64, to: i64| limit.is_some_and(|limit| to.saturating_sub(from) > limit);
    let mut spans: Vec<Span> = Vec::new();
    for report in seen {
        let status = status(report.status);
        if let Some(open) = spans.last_mut() {
            let silent = lost(open.last, report.at);
            if open.status == status && !silent {
                open.last = report.at;
                open.reports += 1;
                continue;
            }
            open.until = Some(if silent { open.last } else { report.at });
        }
        spans.push(Span { status, from: report.at, until: None, last: report.at, reports: 1 });
    }
    if let Some(open) = spans.last_mut()
        && lost(open.last, now)
    {
        open.until = Some(open.last);
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(list: &[(i64, u8)]) -> Vec<Seen> {
        list.iter()
            .enumerate()
            .map(|(id, (at, status))| Seen { at: *at, id: i64::try_from(id).unwrap_or(0), status: *status })
            .collect()
    }

    fn short(spans: &[Span]) -> Vec<(&'static str, i64, Option<i64>, u64)> {
        spans.iter().map(|span| (span.status.as_str(), span.from, span.until, span.reports)).collect()
    }

    #[test]
    fn a_span_lasts_until_the_check_says_otherwise() {
        let list = seen(&[(0, 0), (10, 0), (20, 2), (30, 2), (40, 0)]);
        assert_eq!(
            short(&spans(&list, Some(10), 45)),
            [("ok", 0, Some(20), 2), ("critical", 20, Some(40), 2), ("ok", 40, None, 1)]
        );
        assert_eq!(spans(&[], Some(10), 45), []);
    }

    #[test]
    fn nothing_is_known_while_a_check_is_silent() {
        let list = seen(&[(0, 0), (10, 0), (20, 0), (100, 0), (110, 0)]);
        assert_eq!(short(&spans(&list, Some(10), 200)), [("ok", 0, Some(20), 3), ("ok", 100, Some(110), 2)]);
        // Reported when it changes, it stays true.
        assert_eq!(short(&spans(&list, None, 200)), [("ok", 0, None, 5)]);
    }

    #[test]
    fn an_interval_that_was_longer_before_is_no_silence() {
        let list = seen(&[(0, 0), (60, 0), (120, 0), (180, 0), (190, 0), (200, 0)]);
        assert_eq!(short(&spans(&list, Some(10), 210)), [("ok", 0, None, 6)]);
    }
}
