//! Verifies a bundle as it is read, on a machine that has nothing else.

use std::{
    collections::HashMap,
    io::{BufRead as _, Read},
};

use serde::de::DeserializeOwned;

use super::{ABOUT, About, KEYS, MANIFEST, Manifest, README, SEAL, Seal, VERSION};
use crate::{
    error::{Error, Result},
    record::{
        Fault, Hash, Place, Verdict,
        check::{Anchor, Checker},
        docs::EntryDoc,
        key::is_signed_bundle,
        matter::Matter,
        verdict::Faults,
        verify::verdict,
    },
};

/// Largest file that is read.
const MOST_BYTES: u64 = 256 << 20;

/// Verifies a bundle: its files against its manifest, the chain with its
/// entries, the heads in `anchors`, and what entries speak of. `key` is the
/// record's public key as it was told elsewhere.
///
/// # Errors
/// It cannot be read, or is no bundle. What is wrong with one is in the verdict.
pub fn verify(
    bundle: impl Read,
    anchors: &[Place],
    key: Option<&str>,
    mut progress: impl FnMut(u64),
) -> Result<Verdict> {
    let mut archive = tar::Archive::new(bundle);
    let no_bundle = |why: &str| Error::Refused(format!("this is no bundle of `farol audit export`: {why}"));
    let entries = archive.entries().map_err(|error| no_bundle(&error.to_string()))?;
    let mut reading: Option<Reading> = None;
    for entry in entries {
        let read = entry.and_then(|mut entry| {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            (&mut entry).take(MOST_BYTES).read_to_end(&mut content)?;
            if content.len() as u64 != entry.size() {
                return Err(std::io::Error::other(format!("{name} is cut short, or larger than {MOST_BYTES} bytes")));
            }
            Ok((name, content))
        });
        match (read, &mut reading) {
            (Ok((name, content)), None) if name == ABOUT => reading = Some(Reading::new(&content, anchors)?),
            (Ok((name, content)), Some(reading)) => {
                reading.file(&name, content);
                progress(reading.checker.entries);
            }
            (Ok(_), None) => return Err(no_bundle("it does not begin with about.json")),
            (Err(error), None) => return Err(no_bundle(&error.to_string())),
            (Err(error), Some(reading)) => {
                let text = format!("the bundle breaks off or cannot be read any further: {error}");
                reading.faults.push(Fault::object("bundle_cut", "bundle".to_owned(), text));
                break;
            }
        }
    }
    Ok(reading.ok_or_else(|| no_bundle("it is empty"))?.end(key))
}

struct Reading {
    about: About,
    before: Place,
    checker: Checker,
    matter: Matter,
    faults: Faults,
    /// SHA-256 and length of each file.
    files: HashMap<String, (String, u64)>,
    manifest: Option<Vec<u8>>,
    seal: Option<Seal>,
    unsealed: u64,
}

impl Reading {
    fn new(content: &[u8], anchors: &[Place]) -> Result<Self> {
        let no_bundle = |why: String| Error::Refused(format!("this is no bundle that can be read: about.json: {why}"));
        let about: About = serde_json::from_slice(content).map_err(|error| no_bundle(error.to_string()))?;
        if about.v != VERSION {
            return Err(no_bundle(format!("it is of version {}, and this program reads {VERSION}", about.v)));
        }
        let before: Place = about.before.parse().map_err(no_bundle)?;
        let anchors = anchors.iter().map(|place| Anchor { from: "--against".to_owned(), place: *place }).collect();
        let mut faults = Faults::default();
        if about.is_whole && before != Place::START {
            let text = "it says that it is whole, and does not begin at the first link";
            faults.push(Fault::object("file_changed", format!("file {ABOUT}"), text));
        }
        let files = HashMap::from([(ABOUT.to_owned(), hashed(content))]);
        Ok(Self {
            checker: Checker::new(before, anchors),
            matter: Matter::new(about.is_whole),
            about,
            before,
            faults,
            files,
            manifest: None,
            seal: None,
            unsealed: 0,
        })
    }

    fn file(&mut self, name: &str, content: Vec<u8>) {
        if name != MANIFEST && name != SEAL && self.files.insert(name.to_owned(), hashed(&content)).is_some() {
            let text = format!("{name} is there twice");
            self.faults.push(Fault::object("file_twice", format!("file {name}"), text));
        }
        let Self { checker, matter, faults, files, about, unsealed, .. } = self;
        match name.split('/').next().unwrap_or_default() {
            "record" => lines(name, &content, faults, |link, faults| {
                let link: crate::record::docs::LinkDoc = link;
                checker.link(&link, true, faults);
                if let Some(entry) = &link.entry {
                    matter.entry(entry);
                }
            }),
            "links" => lines(name, &content, faults, |link: crate::record::docs::LinkDoc, faults| {
                if link.seq <= about.last {
                    let text = format!("link {} comes without its entry", link.seq);
                    faults.push(Fault::link("entry_missing", link.seq, text));
                }
                checker.link(&link, false, faults);
            }),
            "unsealed" => lines(name, &content, faults, |entry: EntryDoc, faults| {
                *unsealed += 1;
                checker.unsealed(&entry, true, faults);
                matter.entry(&entry);
            }),
            KEYS => lines(name, &content, faults, |key, faults| matter.key(&key, faults)),
            "actions" => lines(name, &content, faults, |action, faults| matter.action(&action, faults)),
            "approvals" => lines(name, &content, faults, |approval, faults| matter.approval(&approval, faults)),
            "artifacts" => lines(name, &content, faults, |artifact, faults| {
                let artifact: crate::record::docs::ArtifactDoc = artifact;
                match files.get(&artifact.file) {
                    Some((sha256, bytes)) => matter.artifact(&artifact, sha256, *bytes, faults),
                    None => {
                        let text = format!("the content of artifact {} is not in the bundle", artifact.id);
                        faults.push(Fault::object("file_missing", format!("file {}", artifact.file), text));
                    }
                }
            }),
            "evidence" | README => {}
            MANIFEST => self.manifest = Some(content),
            SEAL => match serde_json::from_slice(&content) {
                Ok(seal) => self.seal = Some(seal),
                Err(error) => faults.push(Fault::object("file_changed", format!("file {SEAL}"), error.to_string())),
            },
            _ => {
                let text = format!("{name} belongs to no bundle");
                faults.push(Fault::object("file_unknown", format!("file {name}"), text));
            }
        }
    }

    fn end(mut self, key: Option<&str>) -> Verdict {
        self.matter.end(&mut self.faults);
        let manifest = self.manifest();
        let head = manifest.as_ref().and_then(|manifest| manifest.head.head());
        let anchors = self.checker.end(head.as_ref(), key, self.before, &mut self.faults);
        if self.about.is_whole
            && head.as_ref().is_some_and(|head| i64::try_from(head.place.seq).ok() != Some(self.about.last))
        {
            let text = "it says that it is whole, and does not reach the signed head";
            self.faults.push(Fault::object("file_changed", format!("file {ABOUT}"), text));
        }
        let mut verdict = verdict(&self.checker, &self.matter, self.faults, anchors);
        verdict.unsealed = self.unsealed;
        verdict.head = self.checker.place().map(|place| place.to_string());
        verdict.sealed_at = head.as_ref().map(|head| head.sealed_at);
        verdict.public_key = head.map(|head| head.public_key);
        verdict
    }

    /// The manifest, its signature, and the files that it names.
    fn manifest(&mut self) -> Option<Manifest> {
        let faults = &mut self.faults;
        let mut wrong = |code, file: &str, text: String| faults.push(Fault::object(code, format!("file {file}"), text));
        let Some(bytes) = &self.manifest else {
            wrong("manifest_missing", MANIFEST, "the manifest is not there: the bundle is cut short".to_owned());
            return None;
        };
        let manifest: Manifest = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                wrong("file_changed", MANIFEST, format!("the manifest cannot be read: {error}"));
                return None;
            }
        };
        match &self.seal {
            None => wrong("signature_bad", SEAL, "the manifest is not signed".to_owned()),
            Some(seal) if seal.public_key != manifest.head.public_key => {
                wrong(
                    "signature_bad",
                    SEAL,
                    "the manifest is signed by another key than the head of the chain".to_owned(),
                );
            }
            Some(seal) if !is_signed_bundle(&seal.public_key, bytes, &seal.signature) => {
                wrong("signature_bad", SEAL, "the manifest is not what was signed".to_owned());
            }
            Some(_) => {}
        }
        for file in &manifest.files {
            let name = &file.name;
            match self.files.remove(name) {
                None => wrong("file_missing", name, format!("{name} is not there: deleted")),
                Some((sha256, bytes)) if sha256 != file.sha256 || bytes != file.bytes => {
                    wrong(
                        "file_changed",
                        name,
                        format!("{name} was changed: its SHA-256 was {} and is {sha256}", file.sha256),
                    );
                }
                Some(_) => {}
            }
        }
        let mut more: Vec<&String> = self.files.keys().collect();
        more.sort_unstable();
        for name in more {
            wrong("file_unknown", name, format!("{name} is not in the manifest: it was put in from outside"));
        }
        Some(manifest)
    }
}

fn hashed(content: &[u8]) -> (String, u64) {
    (Hash::of(content).to_string(), content.len() as u64)
}

/// Takes each line in; one that cannot be read is told and passed over.
fn lines<T: DeserializeOwned>(name: &str, content: &[u8], faults: &mut Faults, mut take: impl FnMut(T, &mut Faults)) {
    for (n, line) in content.lines().enumerate() {
        let read = line.map_err(|error| error.to_string());
        match read.and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string())) {
            Ok(document) => take(document, faults),
            Err(error) => {
                let text = format!("line {} of {name} cannot be read: {error}", n + 1);
                faults.push(Fault::object("file_changed", format!("file {name}"), text));
            }
        }
    }
}
