//! What a look at a system gave, before it is a report.

use std::time::Duration;

use farol_protocol::{
    Language, Status,
    report::{Limits, UnknownCause, Worse},
};

use crate::{
    integrations::http::Failure,
    text::{number, say},
    topology::IntegrationFacts,
};

/// Longest text of a report, in characters.
pub(crate) const MAX_TEXT: usize = 400;

/// Outcome of one look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// What it means.
    pub(crate) status: Status,
    /// What was measured.
    pub(crate) value: Option<f64>,
    /// In which unit.
    pub(crate) unit: Option<String>,
    /// In the operator's language.
    pub(crate) text: String,
    /// Whether the system answered, so that this is its own word.
    pub(crate) answered: bool,
    /// Why it is unknown.
    pub(crate) cause: Option<UnknownCause>,
    /// What it tells the topology, where the look has that anyway.
    pub(crate) facts: Option<Box<IntegrationFacts>>,
}

impl Seen {
    /// With this status and nothing measured.
    pub(crate) fn new(status: Status, text: impl Into<String>) -> Self {
        Self {
            status,
            value: None,
            unit: None,
            text: text.into(),
            answered: status != Status::Unknown,
            cause: None,
            facts: None,
        }
    }

    /// Healthy.
    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Self::new(Status::Ok, text)
    }

    /// Not as it should be, and not down.
    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Self::new(Status::Warning, text)
    }

    /// Broken.
    pub(crate) fn critical(text: impl Into<String>) -> Self {
        Self::new(Status::Critical, text)
    }

    /// It could not be told.
    pub(crate) fn unknown(text: impl Into<String>) -> Self {
        Self::new(Status::Unknown, text)
    }

    /// Something is missing that only a person can give; opens no finding.
    pub(crate) fn not_configured(text: impl Into<String>) -> Self {
        Self { cause: Some(UnknownCause::NotConfigured), ..Self::unknown(text) }
    }

    /// The same with what was measured.
    pub(crate) fn measured(self, value: f64, unit: &str) -> Self {
        Self { value: Some(value), unit: Some(unit.to_owned()), ..self }
    }

    /// Judges a value. `text` is said, with the limit where one is crossed.
    pub(crate) fn judged(language: Language, limits: &Limits, value: f64, unit: &str, text: &str) -> Self {
        let status = limits.judge(value);
        let text = match crossed(limits, value) {
            None => text.to_owned(),
            Some(limit) => {
                let limit = number(limit, language);
                let unit = if unit == "count" { String::new() } else { format!(" {unit}") };
                say!(language, "{text} (limite {limit}{unit})", "{text} (limit {limit}{unit})")
            }
        };
        Self::new(status, text).measured(value, unit)
    }

    /// The worse of two looks at one thing; of equally bad ones the first.
    #[must_use]
    pub(crate) fn worse(self, other: Self) -> Self {
        const fn badness(status: Status) -> u8 {
            match status {
                Status::Ok => 0,
                Status::Warning => 1,
                Status::Unknown => 2,
                Status::Critical => 3,
            }
        }
        if badness(other.status) > badness(self.status) { other } else { self }
    }

    /// There was no answer that can be read. A target that refuses is broken;
    /// of any other nothing is known.
    pub(crate) fn failed(language: Language, target: &str, failure: &Failure, limit: Duration) -> Self {
        let status = if failure.is_targets() { Status::Critical } else { Status::Unknown };
        Self { answered: false, ..Self::new(status, format!("{target} {}", failure.words(language, limit))) }
    }
}

/// The most serious limit that `value` crosses.
fn crossed(limits: &Limits, value: f64) -> Option<f64> {
    let beyond = |limit: &f64| match limits.worse {
        Worse::Above => value >= *limit,
        Worse::Below => value <= *limit,
    };
    limits.critical.filter(beyond).or_else(|| limits.warning.filter(beyond))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_judged_and_the_crossed_limit_is_said() {
        let limits = Limits { warning: Some(80.0), critical: Some(90.5), ..Limits::default() };
        let seen = |value| Seen::judged(Language::En, &limits, value, "%", "the store is used");
        assert_eq!(seen(79.0).text, "the store is used");
        assert_eq!((seen(85.0).status, seen(85.0).text.as_str()), (Status::Warning, "the store is used (limit 80 %)"));
        assert_eq!(seen(95.0).text, "the store is used (limit 90.5 %)");
    }

    #[test]
    fn not_knowing_is_worse_than_a_warning_and_better_than_broken() {
        let worse = Seen::warning("w").worse(Seen::unknown("u")).worse(Seen::ok("o"));
        assert_eq!(worse.text, "u");
        assert_eq!(worse.worse(Seen::critical("c")).worse(Seen::critical("d")).text, "c");
    }
}
