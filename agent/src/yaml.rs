//! Strict YAML: a mistake is named with its line, column and the nearest
//! known key.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::{DefaultMessageFormatter, SnippetMode};

use crate::Error;

/// Reads one document.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        Error::File { path: path.to_owned(), line, column, message: explain(&error) }
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
            // The place already stands in front of the message.
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
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(2))
        .min()
        .map(|(_, name)| name)
}
