//! Writes a bundle, a page at a time.

use std::sync::Arc;

use farol_protocol::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::{ABOUT, About, FileDoc, KEYS, MANIFEST, Manifest, README, SEAL, Seal, VERSION};
use crate::{
    error::{Error, Result},
    record::{Hash, Place, RecordKey, docs::LinkDoc, matter::Matter, verify::doc},
    store::{Store, record::Snapshot},
};

/// Links of a file.
const LINKS: i64 = 5000;
/// Rows of other files, each with all that an action left at most.
const ROWS: i64 = 50;
/// How long a piece waits for whoever takes it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// Artifacts that are read at once, each with its content.
const ARTIFACTS: i64 = 50;

const TEXT: &str = "This is a part of Farol's record, or all of it: what was decided and done, by whom and when.

It verifies on any machine, without Farol's database:

    farol audit verify --bundle FILE [--against HEAD] [--key ed25519:KEY]

HEAD is one that was sent out before (SEQ:HASH), KEY the record's public key as a message with a head names it: whoever
could write a whole new bundle could not write one that fits them. How hashes and signatures are made is in
docs/SECURITY.md.
";

/// Which entries go into a bundle, by their time; all where neither is given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// From here on.
    pub from: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

/// What went into a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// Entries.
    pub entries: u64,
    /// Actions.
    pub actions: u64,
    /// Artifacts.
    pub artifacts: u64,
    /// Where the chain ends, `SEQ:HASH`.
    pub head: String,
    /// The key that signed it.
    pub public_key: String,
}

/// Writes a bundle to `out`, in pieces.
///
/// # Errors
/// Nothing is sealed, nothing lies in the range, nobody takes the pieces any
/// more, or the store failed.
pub async fn export(
    store: &Store,
    key: &RecordKey,
    range: Range,
    now: Timestamp,
    out: Sender<Vec<u8>>,
) -> Result<Exported> {
    let mut snapshot = store.snapshot().await?;
    let exported = of(&mut snapshot, key, range, Out::new(now, out)).await;
    snapshot.close().await?;
    exported
}

async fn of(snapshot: &mut Snapshot, key: &RecordKey, range: Range, mut out: Out) -> Result<Exported> {
    let nothing = |what: &str| Error::Refused(format!("{what}; there is nothing to export"));
    let head = snapshot.head().await?.ok_or_else(|| nothing("nothing of the record is sealed"))?;
    let end = i64::try_from(head.place.seq).unwrap_or(i64::MAX);
    let is_whole = range.from.is_none() && range.until.is_none();
    let (first, last) = if is_whole {
        (1, end)
    } else {
        let (from, until) =
            (range.from.map_or(i64::MIN, Timestamp::as_ms), range.until.map_or(i64::MAX, Timestamp::as_ms));
        snapshot.links_between(from, until).await?.ok_or_else(|| nothing("no sealed entry is of this time"))?
    };
    let before = match snapshot.links(first - 2, 1).await?.pop() {
        Some(link) if link.seq == first - 1 => format!("{}:{}", link.seq, link.chain_hash),
        _ => Place::START.to_string(),
    };
    out.json(ABOUT, &About { v: VERSION, made_at: out.now, is_whole, before, last }).await?;
    let mut matter = Matter::new(is_whole);
    let entries = links(snapshot, &mut out, &mut matter, first, last).await?;
    if is_whole {
        let mut after = String::new();
        loop {
            let page = snapshot.waiting(&after, LINKS).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            page.iter().for_each(|entry| matter.entry(entry));
            out.lines("unsealed", &page).await?;
        }
    }
    let (actions, artifacts) = matters(snapshot, &mut out, &matter, is_whole).await?;
    out.file(README, TEXT.as_bytes().to_vec()).await?;
    let (text, public_key) = (head.place.to_string(), head.public_key.clone());
    let manifest = Manifest { v: VERSION, head: head.into(), files: std::mem::take(&mut out.files) };
    let manifest = json(&manifest)?;
    let seal = Seal { public_key: key.public().to_owned(), signature: key.sign_bundle(&manifest) };
    out.file(MANIFEST, manifest).await?;
    out.json(SEAL, &seal).await?;
    out.end().await?;
    Ok(Exported { entries, actions, artifacts, head: text, public_key })
}

/// Links of the range with their entries, and those behind it without.
async fn links(snapshot: &mut Snapshot, out: &mut Out, matter: &mut Matter, first: i64, last: i64) -> Result<u64> {
    let (mut after, mut entries) = (first - 1, 0);
    loop {
        let mut page = snapshot.links(after, LINKS).await?;
        let Some(newest) = page.last().map(|link| link.seq) else { return Ok(entries) };
        after = newest;
        let behind: Vec<LinkDoc> = page
            .split_off(page.partition_point(|link| link.seq <= last))
            .into_iter()
            .map(|link| LinkDoc { entry: None, ..link })
            .collect();
        for entry in page.iter().filter_map(|link| link.entry.as_ref()) {
            entries += 1;
            matter.entry(entry);
        }
        out.lines("record", &page).await?;
        out.lines("links", &behind).await?;
    }
}

/// What the entries speak of; of a whole record, what is there beside it too.
async fn matters(snapshot: &mut Snapshot, out: &mut Out, matter: &Matter, is_whole: bool) -> Result<(u64, u64)> {
    let (mut actions, mut artifacts) = (0, 0);
    let keys = snapshot.keys().await?;
    let mut lines = Vec::new();
    for key in &keys {
        lines.extend(json(key)?);
        lines.push(b'\n');
    }
    out.file(KEYS, lines).await?;
    let mut after = String::new();
    loop {
        let mut page = snapshot.actions(&after, ROWS).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.id);
        page.retain(|action| is_whole || matter.has_action(&action.id));
        actions += page.len() as u64;
        out.lines("actions", &page).await?;
    }
    let mut after = (String::new(), String::new());
    loop {
        let mut page = snapshot.approvals((&after.0, &after.1), ROWS).await?;
        let Some(last) = page.last() else { break };
        after = (last.action_id.clone(), last.approver.clone());
        page.retain(|approval| is_whole || matter.has_decision(approval));
        out.lines("approvals", &page).await?;
    }
    let mut after = String::new();
    loop {
        let page = snapshot.artifacts(&after, ARTIFACTS).await?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(&last.id);
        let mut docs = Vec::with_capacity(page.len());
        for (row, content) in page {
            if is_whole || matter.has_artifact(&row.id) {
                let doc = doc(row);
                out.file(&doc.file, content).await?;
                docs.push(doc);
            }
        }
        artifacts += docs.len() as u64;
        out.lines("artifacts", &docs).await?;
    }
    Ok((actions, artifacts))
}

/// A tar on its way out.
struct Out {
    builder: tar::Builder<Vec<u8>>,
    files: Vec<FileDoc>,
    number: u64,
    now: Timestamp,
    to: Sender<Vec<u8>>,
}

impl Out {
    fn new(now: Timestamp, to: Sender<Vec<u8>>) -> Self {
        Self { builder: tar::Builder::new(Vec::new()), files: Vec::new(), number: 0, now, to }
    }

    /// A numbered file of a folder; none where there is nothing to write.
    async fn lines(&mut self, folder: &str, docs: &[impl Serialize]) -> Result<()> {
        if docs.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for doc in docs {
            lines.extend(json(doc)?);
            lines.push(b'\n');
        }
        self.number += 1;
        let name = format!("{folder}/{:06}.jsonl", self.number);
        self.file(&name, lines).await
    }

    async fn json(&mut self, name: &str, doc: &impl Serialize) -> Result<()> {
        let content = json(doc)?;
        self.file(name, content).await
    }

    async fn file(&mut self, name: &str, content: Vec<u8>) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.as_ms() / 1000).unwrap_or(0));
        self.builder.append_data(&mut header, name, content.as_slice()).map_err(failed)?;
        let sha256 = Hash::of(&content).to_string();
        self.files.push(FileDoc { name: name.to_owned(), sha256, bytes: content.len() as u64 });
        self.send().await
    }

    async fn end(&mut self) -> Result<()> {
        self.builder.finish().map_err(failed)?;
        self.send().await
    }

    async fn send(&mut self) -> Result<()> {
        let piece = std::mem::take(self.builder.get_mut());
        // A reader that stands still holds what it reads from, and with it the log of what is written meanwhile.
        match tokio::time::timeout(PATIENCE, self.to.send(piece)).await {
            Ok(sent) => sent.map_err(|_| Error::Refused("nobody takes the bundle any more".to_owned())),
            Err(_) => {
                Err(Error::Refused("the bundle is taken too slowly; export it again, or a part of it".to_owned()))
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: std::io::Error) -> Error {
    Error::Refused(format!("the bundle cannot be written: {error}"))
}

fn json(doc: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(doc).map_err(|error| Error::Refused(format!("the bundle cannot be written: {error}")))
}

/// Waits until everything that is written now is sealed, for as long as one
/// sealer needs to find out that another is gone.
///
/// # Errors
/// Nobody seals, or the store failed.
pub(crate) async fn settled(
    store: &Store,
    sealer: Option<&Arc<crate::store::seal::Sealer>>,
    now: Timestamp,
) -> Result<()> {
    let patience = crate::store::seal::LEASE + std::time::Duration::from_secs(5);
    let settle = async {
        loop {
            if let Some(sealer) = sealer {
                while let crate::store::seal::Sealed::Batch(..) = store.seal(sealer, Timestamp::now()).await? {}
            }
            if store.unsealed().await?.since.is_none_or(|since| since > now) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(patience, settle).await.unwrap_or_else(|_| {
        Err(Error::Refused(
            "the record is not being sealed; look at the coordinator's log and at `farol audit verify`".to_owned(),
        ))
    })
}
