use super::*;
use crate::{
    record::{Verdict, verify},
    store::Cursor,
};

struct Site {
    folder: tempfile::TempDir,
    store: Store,
}

async fn site() -> Site {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    Site { folder, store }
}

impl Site {
    fn sealer(&self) -> Sealer {
        Sealer::new(RecordKey::open_or_create(self.folder.path()).expect("a key"))
    }

    async fn write(&self, entries: usize) {
        for n in 0..entries {
            let by = Operator::local_administrator();
            self.store.record_authority(&by, "ca.test", &n.to_string(), Timestamp::now()).await.expect("written");
        }
    }

    async fn sql(&self, sql: &'static str) {
        let mut write = self.store.state().write().await.expect("a change");
        sqlx::query(sql).execute(&mut *write).await.expect(sql);
        write.commit().await.expect("committed");
    }

    async fn verify(&self) -> Verdict {
        let key = RecordKey::open_or_create(self.folder.path()).expect("a key");
        verify(&self.store, Some(&key), &[], |_| {}).await.expect("readable")
    }

    async fn links(&self) -> Vec<(i64, String)> {
        let mut read = self.store.state().read().await.expect("readable");
        sqlx::query_as("select seq, entry_id from audit_seal order by seq").fetch_all(&mut *read).await.expect("links")
    }
}

#[tokio::test]
async fn entries_become_links_without_gaps_and_their_end_is_signed() {
    let site = site().await;
    let sealer = site.sealer();
    let now = Timestamp::now();
    assert_eq!(site.store.seal(&sealer, now).await.expect("nothing"), Sealed::Nothing);
    site.write(3).await;
    let Sealed::Batch(3, first) = site.store.seal(&sealer, now).await.expect("sealed") else { panic!("a batch") };
    site.write(1).await;
    let Sealed::Batch(1, second) = site.store.seal(&sealer, now).await.expect("sealed") else { panic!("a batch") };
    assert_eq!((first.place.seq, second.place.seq), (3, 4));
    assert!(first.is_signed() && second.is_signed());
    assert_eq!(site.store.head().await.expect("readable"), Some(second));
    assert_eq!(site.store.unsealed().await.expect("readable").count, 0);
    let newest = site.store.audit(&Cursor::start(), 1).await.expect("readable").items.remove(0);
    assert_eq!(newest.seq, Some(4));
    assert!(site.verify().await.ok);
}

#[tokio::test]
async fn an_old_record_is_sealed_in_batches() {
    let site = site().await;
    let mut write = site.store.state().write().await.expect("a change");
    for n in 0..BATCH + 7 {
        let (id, at) = (n.to_string(), Timestamp::now());
        let entry = audit::NewEntry { at, actor: "a", verb: "b.c", object: ("host", &id), detail: "" };
        audit::insert(&mut write, entry).await.expect("written");
    }
    write.commit().await.expect("committed");
    let sealer = site.sealer();
    let mut counts = Vec::new();
    while let Sealed::Batch(count, _) = site.store.seal(&sealer, Timestamp::now()).await.expect("sealed") {
        counts.push(count);
    }
    assert_eq!(counts, [BATCH, 7]);
    assert!(site.verify().await.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sealers_at_once_never_fork_the_chain() {
    let site = site().await;
    // As two processes: each with a store of its own.
    let other = Store::open(site.folder.path()).await.expect("another store");
    let (one, two) = (site.sealer(), site.sealer());
    // They do not even respect each other's lease: their clocks are hours apart.
    let hours = |n: i64| Timestamp::now().plus_ms(n * 3_600_000);
    for _ in 0..10 {
        site.write(5).await;
        let (first, second) = tokio::join!(site.store.seal(&one, hours(0)), other.seal(&two, hours(5)));
        first.expect("sealed or not");
        second.expect("sealed or not");
    }
    while let Sealed::Batch(..) = site.store.seal(&one, hours(9)).await.expect("sealed") {}
    let links = site.links().await;
    assert_eq!(links.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    let entries: std::collections::BTreeSet<&String> = links.iter().map(|(_, entry)| entry).collect();
    assert_eq!(entries.len(), 50);
    assert!(site.verify().await.ok);
}

#[tokio::test]
async fn one_seals_and_the_other_waits_until_it_is_gone_or_gives_its_turn_back() {
    let site = site().await;
    let (one, two) = (site.sealer(), site.sealer());
    let now = Timestamp::now();
    site.write(1).await;
    assert!(matches!(site.store.seal(&one, now).await.expect("sealed"), Sealed::Batch(1, _)));
    site.write(1).await;
    assert_eq!(site.store.seal(&two, now).await.expect("not now"), Sealed::Elsewhere);
    // A clock that was put back far must not keep everybody out.
    assert!(matches!(site.store.seal(&two, now.plus_ms(-3_600_000)).await.expect("sealed"), Sealed::Batch(1, _)));
    site.write(1).await;
    assert_eq!(site.store.seal(&one, now.plus_ms(-3_600_000)).await.expect("not now"), Sealed::Elsewhere);
    site.store.stop_sealing(&two).await.expect("given back");
    assert!(matches!(site.store.seal(&one, now).await.expect("sealed"), Sealed::Batch(1, _)));
    site.write(1).await;
    assert!(matches!(site.store.seal(&two, now.plus(LEASE)).await.expect("sealed"), Sealed::Batch(1, _)));
    assert!(site.verify().await.ok);
}

#[tokio::test]
async fn what_a_crash_left_unsealed_is_reported_and_sealed_by_the_next() {
    let site = site().await;
    site.write(2).await;
    let sealer = site.sealer();
    site.store.seal(&sealer, Timestamp::now()).await.expect("sealed");
    site.write(3).await;
    let verdict = site.verify().await;
    assert!(verdict.ok, "{:?}", verdict.faults);
    assert_eq!((verdict.entries, verdict.links, verdict.unsealed), (5, 2, 3));
    assert!(verdict.unsealed_since.is_some());
    site.store.close().await;
    let store = Store::open(site.folder.path()).await.expect("opened again");
    let later = Timestamp::now().plus(LEASE);
    assert!(matches!(store.seal(&site.sealer(), later).await.expect("sealed"), Sealed::Batch(3, _)));
}

#[tokio::test]
async fn an_end_that_was_changed_from_outside_stops_the_sealer_until_a_person_looks() {
    for (sql, says) in [
        ("update audit_head set chain_hash = replace(chain_hash, substr(chain_hash, 1, 1), 'g')", "holds no place"),
        ("update audit_head set sealed_ms = sealed_ms + 1", "not what record.key signed"),
        ("update audit_head set public_key = 'ed25519:AAAA'", "another key"),
        ("delete from audit_seal where seq = 4", "says 4 links, and 3 are there"),
        ("delete from audit_head", "says 0 links, and 4 are there"),
        ("update audit_seal set chain_hash = entry_hash where seq = 4", "link 4 is not the one"),
    ] {
        let site = site().await;
        site.write(4).await;
        let sealer = site.sealer();
        let Sealed::Batch(_, head) = site.store.seal(&sealer, Timestamp::now()).await.expect("sealed") else {
            panic!("a batch")
        };
        sealer.key.see(&head.place).expect("seen");
        assert!(
            site.store.resume_record(&Operator::local_administrator(), &sealer, "x", Timestamp::now()).await.is_err()
        );
        site.sql(sql).await;
        site.write(1).await;
        let error = site.store.seal(&sealer, Timestamp::now()).await.expect_err(sql).to_string();
        assert!(error.contains(says), "{sql}: {error}");
        assert!(!site.verify().await.ok, "{sql}");
        let by = Operator::local_administrator();
        site.store.resume_record(&by, &sealer, "seen", Timestamp::now()).await.expect(sql);
        site.store.seal(&sealer, Timestamp::now()).await.expect("sealed again");
        assert_eq!(site.store.unsealed().await.expect("readable").count, 0, "{sql}");
        let newest = site.store.audit(&Cursor::start(), 1).await.expect("readable").items.remove(0);
        assert_eq!((newest.actor.as_str(), newest.verb.as_str()), ("cli", "record.resumed"));
    }
}

#[tokio::test]
async fn a_database_that_was_put_back_is_found_by_the_head_beside_it() {
    let site = site().await;
    site.write(2).await;
    let sealer = site.sealer();
    site.store.seal(&sealer, Timestamp::now()).await.expect("sealed");
    site.store.stop_sealing(&sealer).await.expect("given back");
    let backup = site.folder.path().join("backup.db");
    site.store.close().await;
    std::fs::copy(site.folder.path().join("state.db"), &backup).expect("copied");
    let store = Store::open(site.folder.path()).await.expect("opened again");
    let again = Site { folder: site.folder, store };
    again.write(2).await;
    let Sealed::Batch(_, head) = again.store.seal(&sealer, Timestamp::now()).await.expect("sealed") else {
        panic!("a batch")
    };
    sealer.key.see(&head.place).expect("seen");
    again.store.close().await;
    std::fs::copy(&backup, again.folder.path().join("state.db")).expect("put back");
    let store = Store::open(again.folder.path()).await.expect("opened again");
    let again = Site { folder: again.folder, store };
    let verdict = again.verify().await;
    assert_eq!(verdict.faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), ["truncated"]);
    again.write(1).await;
    assert!(again.store.seal(&sealer, Timestamp::now()).await.is_err());
}
