//! Strict YAML, with the file's name in front of a mistake.

use std::path::Path;

use farol_protocol::yaml;
use serde::de::DeserializeOwned;

use crate::Error;

/// Reads one document.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    yaml::read(text).map_err(|mistake| Error::File {
        path: path.to_owned(),
        line: mistake.line.max(1),
        column: mistake.column.max(1),
        message: mistake.message,
    })
}
