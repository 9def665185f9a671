use std::io::Read as _;

use farol_protocol::Timestamp;
use tokio::sync::mpsc;

use super::*;
use crate::{
    record::{
        RecordKey, Verdict,
        verify::tests::{Recorded, key, recorded},
    },
    store::Store,
};

async fn bytes(recorded: &Recorded, range: Range) -> crate::error::Result<(Vec<u8>, Exported)> {
    let store = Store::open(recorded.folder.path()).await?;
    let (to, mut pieces) = mpsc::channel::<Vec<u8>>(4);
    let take = async {
        let mut all = Vec::new();
        while let Some(piece) = pieces.recv().await {
            all.extend(piece);
        }
        all
    };
    let key = key(recorded.folder.path());
    let (exported, all) = tokio::join!(export(&store, &key, range, Timestamp::now(), to), take);
    store.close().await;
    Ok((all, exported?))
}

fn read(bytes: &[u8], anchors: &[Place], key: Option<&str>) -> Verdict {
    verify(bytes, anchors, key, |_| {}).expect("a bundle")
}

fn files(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("readable");
            (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), content)
        })
        .collect()
}

fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_slice()).expect("written");
    }
    builder.into_inner().expect("written")
}

#[tokio::test]
async fn a_bundle_verifies_where_nothing_else_is() {
    let recorded = recorded().await;
    let (all, exported) = bytes(&recorded, Range::default()).await.expect("exported");
    assert_eq!((exported.entries, exported.actions, exported.artifacts), (12, 1, 3));
    let public = key(recorded.folder.path()).public().to_owned();
    drop(recorded.folder);
    let verdict = read(&all, &[recorded.head], Some(&public));
    assert!(verdict.ok, "{:?}", verdict.faults);
    assert_eq!((verdict.entries, verdict.links, verdict.signatures, verdict.artifacts), (12, 12, 1, 3));
    assert_eq!(verdict.head, Some(recorded.head.to_string()));
    let names: Vec<String> = files(&all).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.first().map(String::as_str), Some("about.json"));
    assert!(names.iter().any(|name| name.ends_with("-stdout.txt")), "{names:?}");

    // Another's key, and a head of another record.
    let other = tempfile::tempdir().expect("a folder");
    let other = RecordKey::open_or_create(other.path()).expect("a key");
    assert_eq!(read(&all, &[], Some(other.public())).faults[0].code, "head_changed");
    let stranger = Place { seq: 5, hash: crate::record::Hash::of(b"x") };
    assert_eq!(read(&all, &[stranger], None).faults[0].code, "anchor_mismatch");
}

#[tokio::test]
async fn whatever_is_changed_in_a_bundle_is_found_and_its_file_is_named() {
    let recorded = recorded().await;
    let (all, _) = bytes(&recorded, Range::default()).await.expect("exported");
    let files = files(&all);
    assert!(read(&packed(&files), &[], None).ok);
    for at in 0..files.len() {
        let name = &files[at].0;
        let mut changed = files.clone();
        let content = &mut changed[at].1;
        let last = content.iter().rposition(u8::is_ascii_alphanumeric).expect("something");
        content[last] = if content[last] == b'0' { b'1' } else { b'0' };
        match verify(packed(&changed).as_slice(), &[], None, |_| {}) {
            Ok(verdict) => {
                assert!(!verdict.ok, "{name}");
                let named = |fault: &crate::record::Fault| {
                    fault.object.as_deref() == Some(&format!("file {name}"))
                        || fault.object.as_deref() == Some(&format!("file {SEAL}"))
                };
                assert!(verdict.faults.iter().any(named), "{name}: {:?}", verdict.faults);
            }
            Err(error) => assert!(name == ABOUT, "{name}: {error}"),
        }
        let mut removed = files.clone();
        removed.remove(at);
        match verify(packed(&removed).as_slice(), &[], None, |_| {}) {
            Ok(verdict) => assert!(!verdict.ok, "{name}"),
            Err(error) => assert!(name == ABOUT, "{name}: {error}"),
        }
    }
    let mut more = files.clone();
    more.push(("evidence/x".to_owned(), b"x".to_vec()));
    assert_eq!(read(&packed(&more), &[], None).faults[0].code, "file_unknown");
    for end in (0..all.len()).step_by(700) {
        // What breaks off is never a verdict that all is well.
        let is_fine = verify(&all[..end], &[], None, |_| {}).is_ok_and(|verdict| verdict.ok);
        assert!(!is_fine || is_whole(&all[..end]), "{end}");
    }
    assert!(verify(b"nothing of the kind".as_slice(), &[], None, |_| {}).is_err());
    assert!(verify(b"".as_slice(), &[], None, |_| {}).is_err());
}

/// Whether the signature, the last file, is all there.
fn is_whole(bytes: &[u8]) -> bool {
    let mut archive = tar::Archive::new(bytes);
    let Ok(entries) = archive.entries() else { return false };
    entries.filter_map(std::result::Result::ok).any(|mut entry| {
        let mut content = Vec::new();
        entry.path_bytes().as_ref() == SEAL.as_bytes()
            && entry.read_to_end(&mut content).is_ok()
            && serde_json::from_slice::<Seal>(&content).is_ok()
    })
}

#[tokio::test]
async fn a_part_of_the_record_verifies_up_to_the_signed_head() {
    let recorded = recorded().await;
    let middle = recorded.began.plus_ms(500);
    let (all, _) = bytes(&recorded, Range { from: Some(middle), until: None }).await.expect("exported");
    let verdict = read(&all, &[recorded.head], None);
    assert!(verdict.ok, "{:?}", verdict.faults);
    assert_eq!((verdict.entries, verdict.links, verdict.decisions, verdict.artifacts), (5, 5, 0, 3));
    let early = Place { seq: 3, hash: crate::record::Hash::of(b"x") };
    assert_eq!(read(&all, &[early], None).faults[0].code, "anchor_outside");

    let (all, _) = bytes(&recorded, Range { from: None, until: Some(middle) }).await.expect("exported");
    let verdict = read(&all, &[recorded.head], None);
    assert!(verdict.ok && verdict.notes.is_empty(), "{:?} {:?}", verdict.faults, verdict.notes);
    assert_eq!((verdict.entries, verdict.links, verdict.signatures, verdict.artifacts), (7, 12, 1, 0));

    let later = Range { from: Some(middle.plus_ms(86_400_000)), until: None };
    let refused = bytes(&recorded, later).await.expect_err("nothing").to_string();
    assert!(refused.contains("no sealed entry is of this time"), "{refused}");
}
