//! Strict reading of the YAML documents that people write: a mistake is
//! refused with its line, its column, and the nearest known name.

use serde::de::DeserializeOwned;
use serde_saphyr::{DefaultMessageFormatter, SnippetMode};
pub use serde_saphyr::{Location, Spanned};

/// A mistake in a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Mistake {
    /// From 1; 0 when it concerns the whole document.
    pub line: u64,
    /// From 1; 0 when it concerns the whole document.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

impl Mistake {
    /// A mistake at a place.
    #[must_use]
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        Self { line: location.line(), column: location.column(), message: message.into() }
    }
}

/// Reads one document.
///
/// # Errors
/// The first mistake.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    serde_saphyr::from_str(text).map_err(|error| {
        let message = explain(&error);
        match error.location() {
            Some(place) => Mistake::at(place, message),
            None => Mistake { line: 0, column: 0, message },
        }
    })
}

fn explain(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        other => {
            let plain = other.render_with_options(serde_saphyr::render_options! {
                formatter: &DefaultMessageFormatter,
                snippets: SnippetMode::Off,
            });
            // The place is told beside the message.
            let place = other.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
            place.map_or(plain.clone(), |place| plain.replace(&place, ""))
        }
    }
}

fn unknown(what: &str, given: &str, known: &[&'static str]) -> String {
    match nearest(given, known.iter().copied()) {
        Some(near) => format!("`{given}` is not a known {what}; did you mean `{near}`?"),
        None if known.is_empty() => format!("`{given}` is not a known {what}; remove it"),
        None => format!("`{given}` is not a known {what}; use one of {}", known.join(", ")),
    }
}

/// The known name that `given` most likely meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(2))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is read")]
    struct Doc {
        schedule: String,
        severity: String,
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_name() {
        let mistake = read::<Doc>("severity: high\nschedul: 5m\n").expect_err("must be refused");
        assert_eq!((mistake.line, mistake.column), (2, 1), "{mistake}");
        assert!(mistake.message.contains("did you mean `schedule`"), "{mistake}");
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let mistake = read::<Doc>("severity: [\n").expect_err("must be refused");
        assert!(mistake.line >= 1, "{mistake}");
    }
}
