//! Unified diffs: what `file.apply` takes and what an outcome shows.

use diffy::{DiffOptions, Patch};

/// Longest diff in an outcome, in bytes.
const MOST_PATCH: usize = 192 * 1024;
/// Most lines on both sides together that are compared: the time that takes
/// can grow with their square.
pub(crate) const MOST_LINES: usize = 20_000;

/// Why a diff was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no unified diff of one file.
    #[error("{0}")]
    Unreadable(String),
    /// The content is not what it was made from.
    #[error("{0}")]
    DoesNotFit(String),
}

/// The content that `patch` makes of `old`: all of its hunks, or none.
///
/// # Errors
/// It is no diff of one file, or does not fit.
pub fn apply(old: &[u8], patch: &str) -> Result<Vec<u8>, Refusal> {
    let read = Patch::from_bytes(patch.as_bytes()).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    // Within a hunk each line has its sign, so these are the hunks of all
    // files; what was approved is not to be done by half.
    let headers = patch.lines().filter(|line| line.starts_with("@@ ")).count();
    if read.hunks().is_empty() || read.hunks().len() != headers {
        return Err(Refusal::Unreadable(format!("{headers} hunks, {} of them for one file", read.hunks().len())));
    }
    diffy::apply_bytes(old, &read).map_err(|error| Refusal::DoesNotFit(error.to_string()))
}

/// A unified diff, where both sides are text and it is not too long; empty
/// where they are the same.
#[must_use]
pub fn between(path: &str, before: &[u8], after: &[u8]) -> Option<String> {
    if before == after {
        return Some(String::new());
    }
    let (before, after) = (str::from_utf8(before).ok()?, str::from_utf8(after).ok()?);
    if before.lines().count() + after.lines().count() > MOST_LINES {
        return None;
    }
    let mut options = DiffOptions::new();
    options.set_original_filename(path.to_owned()).set_modified_filename(path.to_owned());
    let text = options.create_patch(before, after).to_string();
    (text.len() <= MOST_PATCH).then_some(text)
}
