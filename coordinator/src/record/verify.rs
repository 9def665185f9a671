//! Verifies the record in the database: all of it, read from one moment.

use super::{
    Fault, Place, RecordKey, Verdict,
    check::{Anchor, Checker},
    docs::{ArtifactDoc, LinkDoc},
    matter::Matter,
    verdict::Faults,
};
use crate::{
    error::{Error, Result},
    store::{Store, evidence::ArtifactRow, record::Snapshot},
};

/// Links of a page.
const LINKS: i64 = 5000;
/// Rows of other pages.
const ROWS: i64 = 500;
/// Artifacts of a page, each with its content.
const ARTIFACTS: i64 = 50;

/// How far a verification has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Entries that were looked at.
    pub done: u64,
    /// Of how many.
    pub of: u64,
}

/// Verifies all there is: the chain with its entries and its signed end, the
/// heads in `anchors`, and plans, decisions, keys and artifacts against what
/// entries say of them. `key` is the installation's own.
///
/// # Errors
/// The store failed. What is wrong with the record is in the verdict.
pub async fn verify(
    store: &Store,
    key: Option<&RecordKey>,
    anchors: &[Place],
    mut progress: impl FnMut(Progress),
) -> Result<Verdict> {
    let mut anchors: Vec<Anchor> =
        anchors.iter().map(|place| Anchor { from: "--against".to_owned(), place: *place }).collect();
    let mut faults = Faults::default();
    // Before the database is read, which then goes at least that far.
    match key.map(RecordKey::seen).transpose() {
        Ok(seen) => anchors.extend(seen.flatten().map(|place| Anchor { from: "record.head".to_owned(), place })),
        Err(error) => faults.push(Fault::object("head_changed", "file record.head".to_owned(), error.to_string())),
    }
    let mut snapshot = store.snapshot().await?;
    let verdict = of(&mut snapshot, key, anchors, faults, &mut progress).await;
    snapshot.close().await?;
    verdict
}

/// What a page is looked at with, which goes from thread to thread.
struct Looking {
    checker: Checker,
    matter: Matter,
    faults: Faults,
}

impl Looking {
    fn page(mut self, page: &[LinkDoc]) -> Self {
        for link in page {
            self.checker.link(link, true, &mut self.faults);
            if let Some(entry) = &link.entry {
                self.matter.entry(entry);
            }
        }
        self
    }
}

async fn of(
    snapshot: &mut Snapshot,
    key: Option<&RecordKey>,
    anchors: Vec<Anchor>,
    faults: Faults,
    progress: &mut impl FnMut(Progress),
) -> Result<Verdict> {
    let (entries, _) = snapshot.counts().await?;
    let mut looking = Looking { checker: Checker::new(Place::START, anchors), matter: Matter::new(true), faults };
    let mut page = snapshot.links(0, LINKS).await?;
    while let Some(last) = page.last().map(|link| link.seq) {
        // The next page is read while this one is looked at.
        let looked = tokio::task::spawn_blocking(move || looking.page(&page));
        page = snapshot.links(last, LINKS).await?;
        looking = looked.await.map_err(|error| Error::Refused(format!("the verification ended badly: {error}")))?;
        progress(Progress { done: looking.checker.entries, of: entries });
    }
    let Looking { mut checker, mut matter, mut faults } = looking;
    let (mut unsealed, mut unsealed_since, mut after) = (0, None, String::new());
    loop {
        let waiting = snapshot.waiting(&after, LINKS).await?;
        let Some(last) = waiting.last() else { break };
        after.clone_from(&last.id);
        for entry in &waiting {
            unsealed += 1;
            let at = farol_protocol::Timestamp::from_ms(entry.at_ms);
            unsealed_since = Some(unsealed_since.map_or(at, |since: farol_protocol::Timestamp| since.min(at)));
            checker.unsealed(entry, true, &mut faults);
            matter.entry(entry);
        }
    }
    if checker.entries < entries {
        for entry in snapshot.unlinked(LINKS).await? {
            checker.unsealed(&entry, false, &mut faults);
        }
    }
    let head = snapshot.head().await?;
    let anchors = checker.end(head.as_ref(), key.map(RecordKey::public), Place::START, &mut faults);
    matters(snapshot, &mut matter, &mut faults).await?;
    progress(Progress { done: entries, of: entries });
    let place = checker.place().filter(|place| place.seq > 0);
    let mut verdict = verdict(&checker, &matter, faults, anchors);
    (verdict.unsealed, verdict.unsealed_since) = (unsealed, unsealed_since);
    verdict.head = place.map(|place| place.to_string());
    verdict.sealed_at = head.as_ref().map(|head| head.sealed_at);
    verdict.public_key = head.map(|head| head.public_key);
    Ok(verdict)
}

async fn matters(snapshot: &mut Snapshot, matter: &mut Matter, faults: &mut Faults) -> Result<()> {
    for key in snapshot.keys().await? {
        matter.key(&key, faults);
    }
    let mut after = String::new();
    loop {
        let page = snapshot.actions(&after, ROWS).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.id);
        page.iter().for_each(|action| matter.action(action, faults));
    }
    let mut after = (String::new(), String::new());
    loop {
        let page = snapshot.approvals((&after.0, &after.1), ROWS).await?;
        let Some(last) = page.last() else { break };
        after = (last.action_id.clone(), last.approver.clone());
        page.iter().for_each(|approval| matter.approval(approval, faults));
    }
    let mut after = String::new();
    loop {
        let page = snapshot.artifacts(&after, ARTIFACTS).await?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(&last.id);
        for (row, content) in page {
            let sha256 = super::Hash::of(&content).to_string();
            matter.artifact(&doc(row), &sha256, content.len() as u64, faults);
        }
    }
    matter.end(faults);
    Ok(())
}

/// Where its content lies in a bundle says who it belongs to and what it is.
pub(super) fn doc(row: ArtifactRow) -> ArtifactDoc {
    let about = row.action_id.as_deref().or(row.finding_id.as_deref()).unwrap_or("none");
    let file = format!("evidence/{about}/{}-{}", row.id, row.name);
    let ArtifactRow { id, action_id, finding_id, step, name, media_type, sha256, bytes, at_ms } = row;
    ArtifactDoc { id, action_id, finding_id, step, name, media_type, sha256, bytes, at_ms, file }
}

/// What was counted and found.
pub(super) fn verdict(checker: &Checker, matter: &Matter, faults: Faults, anchors: Vec<super::Anchored>) -> Verdict {
    let mut notes = checker.notes.list.clone();
    if matter.uncovered > 0 {
        let text = format!("{} outcomes are from before evidence was kept: nothing covers them", matter.uncovered);
        notes.push(Fault::object("outcomes_uncovered", "actions".to_owned(), text));
    }
    Verdict {
        ok: faults.count == 0,
        entries: checker.entries,
        links: checker.links,
        unsealed: 0,
        unsealed_since: None,
        head: None,
        sealed_at: None,
        public_key: None,
        actions: matter.compared,
        decisions: matter.decided,
        signatures: matter.signatures,
        artifacts: matter.stored,
        anchors,
        fault_count: faults.count,
        faults: faults.list,
        notes,
    }
}

#[cfg(test)]
pub(crate) mod tests;
