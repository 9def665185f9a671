use farol_protocol::Timestamp;

use super::*;
use crate::record::RecordKey;

fn entry(n: i64) -> EntryDoc {
    let mut entry = EntryDoc {
        id: format!("e{n:03}"),
        at_ms: n * 1000,
        actor: "ana".to_owned(),
        verb: "a.b".to_owned(),
        object_kind: "host".to_owned(),
        object_id: format!("h{}", n % 3),
        detail: format!("number {n}"),
        hash: String::new(),
    };
    entry.hash = entry.computed().to_string();
    entry
}

/// So many links, and where they end.
fn chain(length: i64) -> (Vec<LinkDoc>, Place) {
    let mut place = Place::START;
    let links = (1..=length)
        .map(|n| {
            let entry = entry(n);
            place = place.then(&entry.computed());
            LinkDoc {
                seq: n,
                entry_id: entry.id.clone(),
                entry_hash: entry.hash.clone(),
                chain_hash: place.hash.to_string(),
                entry: Some(entry),
            }
        })
        .collect();
    (links, place)
}

fn check(links: &[LinkDoc], head: Option<&Head>, key: &str, anchors: &[Place]) -> Faults {
    let anchors = anchors.iter().map(|place| Anchor { from: "test".to_owned(), place: *place }).collect();
    let (mut faults, mut checker) = (Faults::default(), Checker::new(Place::START, anchors));
    for link in links {
        checker.link(link, true, &mut faults);
    }
    checker.end(head, Some(key), Place::START, &mut faults);
    faults
}

fn codes(faults: &Faults) -> Vec<(&'static str, Option<i64>)> {
    faults.list.iter().map(|fault| (fault.code, fault.seq)).collect()
}

struct Signed {
    _folder: tempfile::TempDir,
    key: RecordKey,
    links: Vec<LinkDoc>,
    head: Head,
}

fn signed(length: i64) -> Signed {
    let folder = tempfile::tempdir().expect("a folder");
    let key = RecordKey::open_or_create(folder.path()).expect("a key");
    let (links, place) = chain(length);
    let head = key.head(place, Timestamp::from_ms(1));
    Signed { _folder: folder, key, links, head }
}

impl Signed {
    fn check(&self, links: &[LinkDoc]) -> Faults {
        check(links, Some(&self.head), self.key.public(), &[])
    }
}

#[test]
fn a_chain_as_it_was_made_has_no_fault() {
    let record = signed(20);
    assert_eq!(codes(&record.check(&record.links)), []);
    let (_, middle) = chain(7);
    assert_eq!(codes(&check(&record.links, Some(&record.head), record.key.public(), &[middle])), []);
}

/// Any single change of any row, in any place, and any other order.
#[test]
fn any_single_mutation_of_any_row_or_order_is_found() {
    type Mutation = fn(&mut LinkDoc);
    fn of_entry(link: &mut LinkDoc) -> &mut EntryDoc {
        link.entry.as_mut().expect("an entry")
    }
    let mutations: &[(&str, Mutation)] = &[
        ("seal id", |link| link.entry_id.push('x')),
        ("seal hash", |link| link.entry_hash = Hash::of(b"other").to_string()),
        ("seal hash gone", |link| link.entry_hash.clear()),
        ("chain hash", |link| link.chain_hash = Hash::of(b"other").to_string()),
        ("chain hash gone", |link| link.chain_hash.clear()),
        ("seq", |link| link.seq += 1000),
        ("deleted entry", |link| link.entry = None),
        ("id", |link| of_entry(link).id.push('x')),
        ("time", |link| of_entry(link).at_ms += 1),
        ("actor", |link| of_entry(link).actor = "bob".to_owned()),
        ("verb", |link| of_entry(link).verb.clear()),
        ("kind", |link| of_entry(link).object_kind.push('s')),
        ("object", |link| of_entry(link).object_id.push('1')),
        ("detail", |link| of_entry(link).detail.push(' ')),
        ("own hash", |link| of_entry(link).hash = Hash::of(b"other").to_string()),
        ("written anew", |link| {
            let entry = of_entry(link);
            entry.detail = "forged".to_owned();
            entry.hash = entry.computed().to_string();
        }),
        ("written anew with its seal", |link| {
            let entry = of_entry(link);
            entry.detail = "forged".to_owned();
            entry.hash = entry.computed().to_string();
            link.entry_hash = link.entry.as_ref().expect("an entry").hash.clone();
        }),
    ];
    let record = signed(12);
    for at in 0..record.links.len() {
        for (what, mutate) in mutations {
            let mut links = record.links.clone();
            mutate(&mut links[at]);
            assert!(record.check(&links).count > 0, "{what} at {at}");
        }
        let mut deleted = record.links.clone();
        deleted.remove(at);
        assert!(record.check(&deleted).count > 0, "deleted {at}");
        let mut doubled = record.links.clone();
        doubled.insert(at, record.links[at].clone());
        assert!(record.check(&doubled).count > 0, "doubled {at}");
        for with in at + 1..record.links.len() {
            let mut moved = record.links.clone();
            moved.swap(at, with);
            assert!(record.check(&moved).count > 0, "{at} and {with} as they are");
            // With numbers that look right.
            let (one, two) = (moved[at].seq, moved[with].seq);
            (moved[at].seq, moved[with].seq) = (two, one);
            assert!(record.check(&moved).count > 0, "{at} and {with} renumbered");
            let (one, two) = (moved[at].chain_hash.clone(), moved[with].chain_hash.clone());
            (moved[at].chain_hash, moved[with].chain_hash) = (two, one);
            assert!(record.check(&moved).count > 0, "{at} and {with} with each other's hashes");
        }
    }
}

#[test]
fn what_was_changed_is_named_and_nothing_else() {
    let record = signed(9);
    let faults = |change: fn(&mut Vec<LinkDoc>)| {
        let mut links = record.links.clone();
        change(&mut links);
        record.check(&links)
    };
    let changed = faults(|links| links[3].entry.as_mut().expect("an entry").actor = "bob".to_owned());
    assert_eq!(codes(&changed), [("entry_changed", Some(4))]);
    assert_eq!(changed.list[0].entry.as_deref(), Some("e004"));
    assert!(changed.list[0].text.contains("its fields are not those"), "{}", changed.list[0].text);
    assert_eq!(codes(&faults(|links| links[3].entry = None)), [("entry_missing", Some(4))]);
    assert_eq!(codes(&faults(|links| drop(links.remove(3)))), [("link_missing", Some(4))]);
    assert_eq!(codes(&faults(|links| drop(links.drain(2..5)))), [("link_missing", Some(3))]);
    assert_eq!(codes(&faults(|links| links.truncate(7))), [("truncated", Some(7))]);
    let swapped = faults(|links| {
        links.swap(3, 5);
        (links[3].seq, links[5].seq) = (4, 6);
    });
    assert_eq!(swapped.list[0].code, "link_changed");
    assert_eq!(swapped.list[0].seq, Some(4));
}

#[test]
fn a_chain_made_anew_is_found_by_its_signature_and_by_a_head_that_was_kept() {
    let record = signed(9);
    let (forged, end) = {
        let mut links = record.links.clone();
        let entry = links[3].entry.as_mut().expect("an entry");
        entry.detail = "forged".to_owned();
        entry.hash = entry.computed().to_string();
        let mut place = Place::START;
        for link in &mut links {
            link.entry_hash = link.entry.as_ref().expect("an entry").hash.clone();
            place = place.then(&link.entry_hash.parse().expect("a hash"));
            link.chain_hash = place.hash.to_string();
        }
        (links, place)
    };
    assert_eq!(codes(&record.check(&forged)), [("chain_rewritten", Some(9))]);
    let unsigned = Head { place: end, ..record.head.clone() };
    assert_eq!(codes(&check(&forged, Some(&unsigned), record.key.public(), &[])), [("head_changed", Some(9))]);
    // With another key all of it fits, but for whoever kept a head or the key.
    let folder = tempfile::tempdir().expect("a folder");
    let other = RecordKey::open_or_create(folder.path()).expect("a key");
    let resigned = other.head(end, Timestamp::from_ms(1));
    assert_eq!(codes(&check(&forged, Some(&resigned), other.public(), &[])), []);
    assert_eq!(codes(&check(&forged, Some(&resigned), record.key.public(), &[])), [("head_changed", Some(9))]);
    let (_, kept) = chain(6);
    assert_eq!(codes(&check(&forged, Some(&resigned), other.public(), &[kept])), [("anchor_mismatch", Some(6))]);
    let early = chain(2).1;
    assert_eq!(codes(&check(&forged, Some(&resigned), other.public(), &[early])), []);
}

#[test]
fn an_end_that_was_cut_off_with_its_head_is_found_by_a_head_that_was_kept() {
    let record = signed(9);
    let cut = record.key.head(chain(6).1, Timestamp::from_ms(1));
    let links = &record.links[..6];
    assert_eq!(codes(&check(links, Some(&cut), record.key.public(), &[])), []);
    let kept = check(links, Some(&cut), record.key.public(), &[record.head.place]);
    assert_eq!(codes(&kept), [("truncated", Some(9))]);
    assert_eq!(codes(&check(links, None, record.key.public(), &[])), [("head_missing", Some(6))]);
}

#[test]
fn an_entry_without_a_link_is_told_and_so_is_one_of_long_ago() {
    let (mut faults, mut checker) = (Faults::default(), Checker::new(Place::START, Vec::new()));
    checker.unsealed(&entry(1), true, &mut faults);
    assert_eq!(codes(&faults), []);
    checker.unsealed(&EntryDoc { actor: "bob".to_owned(), ..entry(1) }, true, &mut faults);
    checker.unsealed(&entry(2), false, &mut faults);
    assert_eq!(codes(&faults), [("entry_changed", None), ("entry_unlinked", None)]);

    let record = signed(2);
    let mut late = entry(3);
    late.at_ms = -BACK_DATED_MS;
    late.hash = late.computed().to_string();
    let place = record.head.place.then(&late.computed());
    let link = LinkDoc {
        seq: 3,
        entry_id: late.id.clone(),
        entry_hash: late.hash.clone(),
        chain_hash: place.hash.to_string(),
        entry: Some(late),
    };
    let (mut faults, mut checker) = (Faults::default(), Checker::new(Place::START, Vec::new()));
    for link in record.links.iter().chain([&link]) {
        checker.link(link, true, &mut faults);
    }
    assert_eq!(codes(&faults), []);
    assert_eq!(codes(&checker.notes), [("back_dated", Some(3))]);
}
