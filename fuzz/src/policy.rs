//! The host's policy, which decides what a coordinator may do to it.

use std::path::Path;

use farol_agent::policy::{Policy, Verdict};
use farol_protocol::effect::{CommandExec, DEFAULT_TIMEOUT_MS};

const FILE: &str = "policy.yaml";

/// A policy that is read allows no empty command and reads only below absolute
/// paths; a mistake is named in one line with its place.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = match Policy::parse(Path::new(FILE), text) {
        Ok(policy) => policy,
        Err(error) => {
            let sentence = error.sentence();
            assert!(sentence.starts_with(&format!("{FILE}:")), "no place: {sentence}");
            return;
        }
    };
    for args in [Vec::new(), vec![String::new()], vec!["x".to_owned(); 3]] {
        let empty = CommandExec { command: String::new(), args, cwd: None, timeout: DEFAULT_TIMEOUT_MS };
        assert_eq!(policy.command(&empty), Verdict::NotListed);
    }
    assert!(policy.read_paths.iter().all(|path| path.is_absolute()));
    // The same text is the same policy: nothing outside of it plays a part.
    assert_eq!(Policy::parse(Path::new(FILE), text).ok(), Some(policy));
}
