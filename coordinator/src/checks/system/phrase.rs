//! How a look puts what it saw into one short text.

use farol_protocol::{Language, Status, report::Limits};

use super::Seen;
use crate::{
    checks::seen::MAX_TEXT,
    integrations::{
        Connection,
        http::{forms, hidden, redacted},
    },
    text::{plain, say},
};

/// Names that a list holds before it is cut.
const SHOWN: usize = 4;
/// Longest text that a system gave and that is repeated, in characters.
const QUOTED: usize = 100;

/// What is said of several things: the worst decides and is said first.
#[derive(Debug)]
pub(super) struct Said {
    language: Language,
    parts: Vec<(Status, String)>,
    measured: Option<(f64, &'static str)>,
}

impl Said {
    pub(super) const fn new(language: Language) -> Self {
        Self { language, parts: Vec::new(), measured: None }
    }

    /// Adds a part.
    pub(super) fn say(&mut self, status: Status, text: impl Into<String>) {
        self.parts.push((status, text.into()));
    }

    /// Adds what was measured and the part that says it.
    pub(super) fn judge(&mut self, limits: &Limits, value: f64, unit: &'static str, text: &str) {
        let seen = Seen::judged(self.language, limits, value, unit, text);
        self.measured = Some((value, unit));
        self.say(seen.status, seen.text);
    }

    /// Adds what was measured; the parts say what it means.
    pub(super) const fn measure(&mut self, value: f64, unit: &'static str) {
        self.measured = Some((value, unit));
    }

    /// Adds how many rows of a list could not be read. They cost themselves and
    /// nothing else.
    pub(super) fn lost(&mut self, rows: usize) {
        if rows == 1 {
            self.say(Status::Ok, say!(self.language, "1 linha não pôde ser lida", "1 row could not be read"));
        } else if rows > 1 {
            let text = say!(self.language, "{rows} linhas não puderam ser lidas", "{rows} rows could not be read");
            self.say(Status::Ok, text);
        }
    }

    /// All of it.
    pub(super) fn seen(mut self) -> Seen {
        self.parts.sort_by_key(|(status, _)| std::cmp::Reverse(badness(*status)));
        let status = self.parts.first().map_or(Status::Unknown, |(status, _)| *status);
        let texts: Vec<String> = self.parts.into_iter().map(|(_, text)| text).collect();
        let seen = Seen::new(status, texts.join("; "));
        match self.measured {
            Some((value, unit)) => seen.measured(value, unit),
            None => seen,
        }
    }
}

const fn badness(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::Warning => 1,
        Status::Unknown => 2,
        Status::Critical => 3,
    }
}

/// `a, b and 3 more`: as many as fit a short text.
pub(super) fn listed(language: Language, items: &[String]) -> String {
    let more = items.len().saturating_sub(SHOWN);
    let shown = items[..items.len() - more].join(", ");
    match more {
        0 => shown,
        _ => say!(language, "{shown} e mais {more}", "{shown} and {more} more"),
    }
}

/// A text that a system gave, as one short line.
pub(super) fn quoted(text: &str) -> String {
    plain(&hidden(text), QUOTED)
}

/// The limits of a probe; where it has none, those that make sense.
pub(super) fn limits_or(limits: &Limits, default: Limits) -> Limits {
    if limits.warning.is_none() && limits.critical.is_none() { default } else { *limits }
}

/// Limits where high values are bad.
pub(super) fn above(warning: Option<f64>, critical: Option<f64>) -> Limits {
    Limits { warning, critical, ..Limits::default() }
}

/// The look as it may be shown: one line, not too long, without the secret
/// that a confused system may have repeated.
pub(crate) fn shown(connection: &Connection, seen: Seen) -> Seen {
    let forms = forms(connection);
    let secrets: Vec<&str> = forms.iter().map(String::as_str).collect();
    Seen { text: plain(&redacted(&seen.text, &secrets), MAX_TEXT), ..seen }
}

/// A count as the number that a report holds.
#[expect(clippy::cast_precision_loss, reason = "counts of rows stay far below 2^52")]
pub(super) const fn count(items: usize) -> f64 {
    items as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_how_much_is_missing() {
        let items: Vec<String> = (1..=7).map(|at| at.to_string()).collect();
        assert_eq!(listed(Language::En, &items), "1, 2, 3, 4 and 3 more");
        assert_eq!(listed(Language::PtBr, &items[..2]), "1, 2");
        assert_eq!(listed(Language::PtBr, &items), "1, 2, 3, 4 e mais 3");
    }

    #[test]
    fn the_worst_part_decides_and_is_said_first() {
        let mut said = Said::new(Language::En);
        said.say(Status::Ok, "fine");
        said.lost(2);
        said.say(Status::Critical, "broken");
        said.measure(1.0, "count");
        let seen = said.seen();
        assert_eq!((seen.status, seen.text.as_str()), (Status::Critical, "broken; fine; 2 rows could not be read"));
        assert_eq!(seen.value, Some(1.0));
    }
}
