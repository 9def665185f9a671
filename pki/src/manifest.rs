//! Which files of the authority's folder count: written last, so that a change
//! of several files happens at once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, files};

/// The file.
pub(crate) const NAME: &str = "authority.json";

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    /// Names of the roots that are trusted, oldest first; one or two.
    pub(crate) roots: Vec<String>,
    /// Name of the issuing authority.
    pub(crate) issuing: String,
    /// Names of certificates that tie a root to the one before it.
    pub(crate) cross: Vec<String>,
    /// Number of the next root or issuing authority.
    pub(crate) next: u32,
}

impl Manifest {
    /// What a first start makes.
    pub(crate) fn first() -> Self {
        Self { version: 1, roots: vec!["root".to_owned()], issuing: "issuing".to_owned(), cross: Vec::new(), next: 2 }
    }

    /// The newest root's name.
    pub(crate) fn root(&self) -> &str {
        self.roots.last().map_or("root", String::as_str)
    }

    /// None before the first start has ended.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(NAME);
        if !files::exists(&path)? {
            return Ok(None);
        }
        let bad = |source: crate::error::Cause| Error::BadFile { path: path.clone(), expected: "list", source };
        let manifest: Self = serde_json::from_str(&files::read_public(&path)?).map_err(|source| bad(source.into()))?;
        let plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        let all_plain = manifest.roots.iter().chain(&manifest.cross).all(plain) && plain(&manifest.issuing);
        if manifest.version != 1 || manifest.roots.is_empty() || !all_plain {
            return Err(bad("it is of another version, or names no root".into()));
        }
        Ok(Some(manifest))
    }

    /// The name of the next root or issuing authority. What a crash left under
    /// it was never in force, and goes.
    pub(crate) fn take_name(&mut self, dir: &Path, kind: &str) -> Result<String, Error> {
        let name = format!("{kind}-{}", self.next);
        for ending in ["pem", "key", "cross.pem"] {
            files::remove(&dir.join(format!("{name}.{ending}")))?;
        }
        self.next += 1;
        Ok(name)
    }

    /// From here on the folder is what this says.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(NAME);
        let text = serde_json::to_string_pretty(self).map_err(|source| Error::BadFile {
            path: path.clone(),
            expected: "list",
            source: source.into(),
        })?;
        files::write_private(&path, format!("{text}\n").as_bytes())
    }
}
