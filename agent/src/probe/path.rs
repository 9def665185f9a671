//! Which paths a probe may read, and the one small pattern language of probes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Access, Probing, Seen,
    text::{Text, io_words},
};

/// The canonical path, if the policy covers it: a link inside an allowed
/// folder must not lead out of it.
pub(super) async fn allowed(probing: Probing, access: &Access, path: &str) -> Result<PathBuf, Seen> {
    let (access, wanted) = (access.clone(), path.to_owned());
    // A dead file system blocks whoever resolves a path on it.
    let look = move || Ok::<_, io::Error>(find(probing, &access, &wanted));
    match probing.blocking_on(path, Text::WhatFiles, look).await? {
        Ok(Ok(canonical)) => Ok(canonical),
        Ok(Err(error)) => {
            let why = io_words(probing.language, &error);
            Err(probing.unknown(Text::PathMissing, &[("path", path), ("why", &why)]))
        }
        Err(seen) => Err(*seen),
    }
}

/// As [`allowed`], for probes to which a path that is not there says something.
/// May block in the kernel.
pub(super) fn find(probing: Probing, access: &Access, path: &str) -> Result<io::Result<PathBuf>, Box<Seen>> {
    if !Path::new(path).is_absolute() {
        return Err(Box::new(probing.not_configured(Text::PathRelative, &[("path", path)])));
    }
    let roots = match access {
        Access::NoPolicy => return Err(Box::new(probing.not_configured(Text::PathNoPolicy, &[("path", path)]))),
        Access::All => None,
        Access::Listed(policy) => Some(&policy.read_paths),
    };
    let refused = || Box::new(probing.not_configured(Text::PathNotAllowed, &[("path", path)]));
    let canonical = match fs::canonicalize(path) {
        Ok(canonical) => canonical,
        // Whether a file exists is not told about paths that may not be read.
        Err(_) if roots.is_some_and(|roots| !roots.iter().any(|root| Path::new(path).starts_with(root))) => {
            return Err(refused());
        }
        Err(error) => return Ok(Err(error)),
    };
    let covers = |root: &PathBuf| fs::canonicalize(root).is_ok_and(|root| canonical.starts_with(root));
    if roots.is_some_and(|roots| !roots.iter().any(covers)) {
        return Err(refused());
    }
    Ok(Ok(canonical))
}

/// Whether `text` is what `pattern` says, where `*` stands for any text and
/// `?` for any character.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            // The last star takes one character more.
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text_and_question_marks_for_one_character() {
        for (pattern, text) in [
            ("*", ""),
            ("user@*.service", "user@1000.service"),
            ("db-*.dump", "db-2026-01-02.dump"),
            ("a?c", "abc"),
            ("*.tar.*", "x.tar.tar.gz"),
            ("é*", "éa"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("?", ""), ("*.dump", "x.dump.tmp"), ("a*b*c", "acb")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(200), &"b".repeat(4000)), "a hostile pattern costs no more than its length");
    }
}
