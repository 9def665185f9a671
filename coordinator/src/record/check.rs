//! The chain, link by link. Pure.
//!
//! **Invariant.** Each link is judged by the one before as it stands, so that
//! what was changed is named once and what follows it is looked at all the same.

use super::{
    Anchored, Fault, Hash, Head, Place,
    chain::link,
    docs::{EntryDoc, LinkDoc},
    verdict::Faults,
};

/// An entry that is so much older than one sealed before it is told.
const BACK_DATED_MS: i64 = 3_600_000;

/// A head that was kept elsewhere.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// Where.
    pub from: String,
    /// The head.
    pub place: Place,
}

/// Goes along the chain.
#[derive(Debug)]
pub struct Checker {
    /// Number of the last link.
    last: i64,
    /// Its hash as it stands; none where it cannot be known.
    before: Option<Hash>,
    anchors: Vec<(Anchor, Option<bool>)>,
    newest_ms: i64,
    /// Entries that were there.
    pub entries: u64,
    /// Links that were there.
    pub links: u64,
    /// What is odd.
    pub notes: Faults,
}

impl Checker {
    /// Begins behind `start`.
    #[must_use]
    pub fn new(start: Place, anchors: Vec<Anchor>) -> Self {
        Self {
            last: i64::try_from(start.seq).unwrap_or(i64::MAX),
            before: Some(start.hash),
            anchors: anchors.into_iter().map(|anchor| (anchor, None)).collect(),
            newest_ms: i64::MIN,
            entries: 0,
            links: 0,
            notes: Faults::default(),
        }
        .at(start)
    }

    fn at(mut self, place: Place) -> Self {
        self.compare(place.seq, Some(place.hash));
        self
    }

    /// How far it has come, as the links stand.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        Some(Place { seq: u64::try_from(self.last).ok()?, hash: self.before? })
    }

    /// Takes the next link in. `with_entry` says that its entry has to be there.
    pub fn link(&mut self, row: &LinkDoc, with_entry: bool, faults: &mut Faults) {
        let LinkDoc { seq, entry_id, entry_hash, chain_hash, entry } = row;
        let (seq, expected) = (*seq, self.last.saturating_add(1));
        if seq <= self.last {
            faults.push(Fault::link("link_order", seq, format!("link {seq} stands behind link {}", self.last)));
            return;
        }
        if seq > expected {
            let which = if seq - 1 == expected {
                format!("link {expected} is")
            } else {
                format!("links {expected} to {} are", seq - 1)
            };
            faults.push(Fault::link("link_missing", expected, format!("{which} not there: deleted")));
            self.before = None;
        }
        self.links += 1;
        let (sealed, stands) = (entry_hash.parse::<Hash>().ok(), chain_hash.parse::<Hash>().ok());
        let follows = match (self.before, sealed, stands) {
            (_, None, _) | (_, _, None) => false,
            (None, ..) => true,
            (Some(before), Some(sealed), Some(stands)) => {
                link(&before, u64::try_from(seq).unwrap_or(0), &sealed) == stands
            }
        };
        if !follows {
            let text = format!(
                "link {seq} (entry {entry_id}) does not follow from the link before it and the hash of its entry: one \
                 of them was changed, or put in another place"
            );
            faults.push(Fault { entry: Some(entry_id.clone()), ..Fault::link("link_changed", seq, text) });
        }
        match entry {
            Some(entry) => {
                self.entries += 1;
                if entry.id != *entry_id {
                    let text = format!("link {seq} is that of entry {entry_id}, and entry {} stands there", entry.id);
                    faults.push(Fault::entry("entry_changed", Some(seq), entry_id, text));
                }
                self.sealed_entry(seq, entry, sealed.as_ref(), faults);
            }
            None if with_entry => {
                let text = format!("entry {entry_id}, which link {seq} holds, is not there: deleted");
                faults.push(Fault::entry("entry_missing", Some(seq), entry_id, text));
            }
            None => {}
        }
        self.last = seq;
        self.before = stands;
        self.compare(u64::try_from(seq).unwrap_or(0), stands);
    }

    fn sealed_entry(&mut self, seq: i64, entry: &EntryDoc, sealed: Option<&Hash>, faults: &mut Faults) {
        let computed = entry.computed();
        let stored = entry.hash.parse::<Hash>().ok();
        let (fields, column) = (sealed == Some(&computed), stored.is_some() && sealed == stored.as_ref());
        let id = &entry.id;
        if !fields || !column {
            let what = match (fields, column) {
                (false, true) => "its fields are not those that its hash was made of",
                (true, _) => "its hash is not that of its fields, which are as they were sealed",
                (false, false) if stored == Some(computed) => "it was written anew, with a hash of its own",
                (false, false) => "neither its fields nor its hash are those that were sealed",
            };
            let (was, is) = (sealed.map_or_else(|| "no hash".to_owned(), Hash::to_string), computed);
            let text = format!("entry {id} (link {seq}) was changed: {what}; sealed {was}, its fields give {is}");
            faults.push(Fault::entry("entry_changed", Some(seq), id, text));
        }
        if entry.at_ms < self.newest_ms.saturating_sub(BACK_DATED_MS) {
            let text = format!(
                "entry {id} (link {seq}) says a time more than an hour before one that was sealed earlier: a clock that \
                 was put back, or an entry that was put in from outside"
            );
            self.notes.push(Fault::entry("back_dated", Some(seq), id, text));
        }
        self.newest_ms = self.newest_ms.max(entry.at_ms);
    }

    /// An entry that no link holds. `waits` says that it is to be sealed.
    pub fn unsealed(&mut self, entry: &EntryDoc, waits: bool, faults: &mut Faults) {
        self.entries += 1;
        let id = &entry.id;
        if entry.hash.parse::<Hash>().ok() != Some(entry.computed()) {
            let text = format!("entry {id}, which is not sealed yet, was changed: its fields do not give its hash");
            faults.push(Fault::entry("entry_changed", None, id, text));
        }
        if !waits {
            let text = format!(
                "entry {id} says that it is sealed, and no link holds it: it was put in from outside, or its link was \
                 deleted"
            );
            faults.push(Fault::entry("entry_unlinked", None, id, text));
        }
    }

    fn compare(&mut self, seq: u64, hash: Option<Hash>) {
        for (anchor, found) in &mut self.anchors {
            if anchor.place.seq == seq {
                *found = Some(hash == Some(anchor.place.hash));
            }
        }
    }

    /// The end of the chain: compares it with the signed head and with the
    /// heads that were kept elsewhere. `key` is the installation's own, where it
    /// is known. `began_at` is where the chain's part begins.
    pub fn end(
        &mut self,
        head: Option<&Head>,
        key: Option<&str>,
        began_at: Place,
        faults: &mut Faults,
    ) -> Vec<Anchored> {
        self.head(head, key, faults);
        let last = u64::try_from(self.last).unwrap_or(0);
        let anchors = std::mem::take(&mut self.anchors);
        let of = |(anchor, found): (Anchor, Option<bool>)| {
            let Anchor { from, place } = anchor;
            let ok = found == Some(true);
            let seq = i64::try_from(place.seq).unwrap_or(i64::MAX);
            if place.seq > last {
                let text = format!(
                    "the head {place} ({from}) lies behind the end of the chain, which has {last} links: the end was \
                     cut off, or an older database was put back"
                );
                faults.push(Fault::link("truncated", seq, text));
            } else if found.is_none() && place.seq < began_at.seq {
                let text = format!(
                    "the head {place} ({from}) lies before this part of the chain, which begins at link {}",
                    began_at.seq + 1
                );
                faults.push(Fault::link("anchor_outside", seq, text));
            } else if !ok {
                let text = format!(
                    "link {} is not the one of the head {place} ({from}): the chain was made anew from there or before",
                    place.seq
                );
                faults.push(Fault::link("anchor_mismatch", seq, text));
            }
            Anchored { head: place.to_string(), from, ok }
        };
        anchors.into_iter().map(of).collect()
    }

    fn head(&self, head: Option<&Head>, key: Option<&str>, faults: &mut Faults) {
        let Some(head) = head else {
            if self.links > 0 {
                faults.push(Fault::link(
                    "head_missing",
                    self.last,
                    "the signed head of the chain is not there: deleted",
                ));
            }
            return;
        };
        let seq = i64::try_from(head.place.seq).unwrap_or(i64::MAX);
        if !head.is_signed() {
            let text = "the head of the chain was changed: its signature is not that of its key";
            faults.push(Fault::link("head_changed", seq, text));
        } else if key.is_some_and(|key| key != head.public_key) {
            let text = format!(
                "the head of the chain is signed by {}, which is not this installation's record.key: the chain was made \
                 anew elsewhere, or the key was replaced without `farol audit resume`",
                head.public_key
            );
            faults.push(Fault::link("head_changed", seq, text));
        }
        if seq > self.last {
            let text = format!(
                "the signed head stands at link {seq}, and the chain ends at {}: its end was cut off",
                self.last
            );
            faults.push(Fault::link("truncated", self.last, text));
        } else if seq < self.last {
            let text = format!(
                "the signed head stands at link {seq}, and the chain goes on to {}: links were put in from outside, or \
                 an older head was put back",
                self.last
            );
            faults.push(Fault::link("head_changed", seq, text));
        } else if self.before.is_some_and(|before| before != head.place.hash) {
            let text = format!("link {seq} is not the one that the signed head says: the chain was made anew");
            faults.push(Fault::link("chain_rewritten", seq, text));
        }
    }
}

#[cfg(test)]
mod tests;
