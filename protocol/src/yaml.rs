//! Strict reading of the YAML documents that people write: a mistake is
//! refused with its line, its column, and the nearest known name.

use serde::de::DeserializeOwned;
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
        let plain = error.without_snippet().to_string();
        let message = without_place(&plain).trim().to_owned();
        let message = match nearest(&message) {
            Some(name) => format!("{message} (did you mean `{name}`?)"),
            None => message,
        };
        error.location().map_or_else(
            || Mistake { line: 0, column: 0, message: message.clone() },
            |place| Mistake::at(place, message.clone()),
        )
    })
}

/// The parser puts the place into its text too; ours says it once.
fn without_place(text: &str) -> &str {
    text.find(" at line ").map_or(text, |at| &text[..at])
}

/// The expected name closest to the unknown one, in a message such as
/// "unknown field `a`, expected one of b, c".
fn nearest(message: &str) -> Option<String> {
    let (unknown, expected) = message.strip_prefix("unknown ")?.split_once(", expected ")?;
    let unknown = unknown.split('`').nth(1)?;
    expected
        .trim_start_matches("one of ")
        .split([',', ' '])
        .map(|name| name.trim_matches('`'))
        .filter(|name| !name.is_empty() && *name != "or")
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min()
        .map(|(_, name)| name.to_owned())
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
