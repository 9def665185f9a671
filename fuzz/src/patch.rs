//! Unified diffs that a plan brings for a file.

use farol_agent::patch::{Refusal, apply, between};

/// A diff never makes more than the old content and its own lines, and what
/// lies between two texts leads from the one to the other. The input is the
/// old content, a NUL, and a diff.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let old = parts.next().unwrap_or_default();
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    match apply(old, text) {
        Ok(new) => {
            assert!(text.contains("@@ "), "no hunk, and yet applied");
            assert!(new.len() <= old.len() + text.len());
        }
        Err(Refusal::Unreadable(why) | Refusal::DoesNotFit(why)) => assert!(!why.is_empty() && why.len() < 400),
    }
    // The same bytes as two contents.
    let Some(patch) = between("/etc/portal.conf", old, text.as_bytes()) else { return };
    if patch.is_empty() {
        assert_eq!(old, text.as_bytes());
    } else {
        assert_eq!(apply(old, &patch).as_deref(), Ok(text.as_bytes()), "{patch}");
    }
}
