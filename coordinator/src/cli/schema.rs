//! `farol schema`: the wire types as JSON Schema, for other agents.

use std::{fs, path::Path};

use farol_protocol::schema;
use serde_json::Value;

use super::output;
use crate::error::{Error, Result};

/// Writes one file per document into `folder`, or prints them all as one
/// object by their names.
pub(super) fn export(folder: Option<&Path>) -> Result<()> {
    let documents = schema::documents();
    let Some(folder) = folder else { return output::json(&documents) };
    fs::create_dir_all(folder).map_err(|error| failed("create", folder, &error))?;
    for (name, document) in &documents {
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, text(document)).map_err(|error| failed("write", &path, &error))?;
    }
    output::line(&format!("wrote {} schemas to {}", documents.len(), folder.display()))
}

/// As it is kept in `docs/schema/`: indented, with an end of its last line.
fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Refused(format!("cannot {what} {}: {error}; name another folder with --out", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schema_is_written_to_its_own_file_and_a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("schema/v1");
        export(Some(&out)).expect("written");
        let written: Value =
            serde_json::from_slice(&fs::read(out.join("from-agent.json")).expect("there")).expect("JSON");
        assert_eq!(written["$id"], "urn:farol:schema:v1:from-agent");
        assert_eq!(fs::read_dir(&out).expect("a folder").count(), schema::documents().len());

        let file = out.join("plan.json");
        let refused = export(Some(&file)).expect_err("a file is no folder").to_string();
        assert!(refused.contains("plan.json") && refused.contains("--out"), "{refused}");
    }
}
