//! Somebody who can write the database, with SQL on a real file.

use std::path::Path;

use farol_protocol::{
    ActionId, ActionKind, RiskClass, Timestamp,
    action::{FinalState, Outcome},
    signing::sign_ed25519,
};
use serde_json::json;

use super::*;
use crate::{
    action::Event,
    auth::Operator,
    remediation::Proposal,
    roster::Role,
    store::{
        actions::{Approval, Decided},
        inbox::Note,
        seal::{Sealed, Sealer},
        steps::{Request, Step},
        tokens::TokenState,
    },
};

/// A record in which one action was asked for, signed and run.
pub(crate) struct Recorded {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) action: ActionId,
    pub(crate) head: Place,
    /// When it was asked for and decided on; it was sent and ended a second later.
    pub(crate) began: Timestamp,
}

pub(crate) fn key(folder: &Path) -> RecordKey {
    RecordKey::open_or_create(folder).expect("a key")
}

pub(crate) async fn recorded() -> Recorded {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    let (cli, now) = (Operator::local_administrator(), Timestamp::now());
    let token = store.create_token(&cli, "ana", Role::OpsLead, None, now).await.expect("a token").token;
    let TokenState::Valid(ana) = store.authenticate(&token, now).await.expect("readable") else { panic!("valid") };
    let pkcs8 = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("a key");
    store.add_host(&cli, "h", std::time::Duration::from_secs(60), now).await.expect("a host");
    let host = store.host("h").await.expect("the host");
    let proposal = Proposal {
        by: &cli.requester(),
        host: (host.key, &host.id),
        kind: ActionKind::CommandExec,
        params: json!({"command": "true"}),
        reason: "disk",
        at_least: RiskClass::R2,
        finding_id: None,
        effect_key: None,
        seen: None,
        look_id: None,
    };
    let (action, _) = proposal.plan(now).expect("a plan");
    let (public, signature) = sign_ed25519(pkcs8.as_ref(), "ana", &action.plan_hash).expect("signed");
    store.add_key(&cli, "ana", &public, now).await.expect("registered");
    store.propose(&action, None).await.expect("proposed");
    let note = Note {
        author: "ana".to_owned(),
        by_person: true,
        kind: "decision",
        body: String::new(),
        effect_key: action.id.to_string(),
    };
    let said = Approval { comment: "go ahead", signature: Some(&signature), hold: false };
    let decided = store.approve(&ana, action.id, &action.plan_hash, said, note, now).await.expect("approved");
    assert!(matches!(decided, Decided::Queued(_)));
    let outcome: Outcome = serde_json::from_value(json!({
        "exit_code": 0, "stdout": "hello\n", "stderr": "hm\n", "truncated": false, "duration_ms": 7,
    }))
    .expect("an outcome");
    let done = Step { outcome: Some(outcome), ..Step::new(Event::Finish(FinalState::Done), "h") };
    for step in [Step::new(Event::Send, "farol"), done] {
        store.step(Request::of(action.id, step, now.plus_ms(1000))).await.expect("taken");
    }
    let sealer = Sealer::new(key(folder.path()));
    let Sealed::Batch(12, head) = store.seal(&sealer, now).await.expect("sealed") else { panic!("twelve entries") };
    store.close().await;
    Recorded { folder, action: action.id, head: head.place, began: now }
}

/// What is found after this was done to a copy.
async fn after(recorded: &Recorded, sql: &[&'static str]) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["state.db", "telemetry.db", "record.key"] {
        std::fs::copy(recorded.folder.path().join(file), folder.path().join(file)).expect("copied");
    }
    let store = Store::open(folder.path()).await.expect("a store");
    let mut write = store.state().write().await.expect("a change");
    for sql in sql {
        let changed = sqlx::query(*sql).execute(&mut *write).await.expect(sql);
        assert!(changed.rows_affected() > 0, "{sql}");
    }
    write.commit().await.expect("committed");
    verify(&store, Some(&key(folder.path())), &[recorded.head], |_| {}).await.expect("readable")
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.faults.iter().map(|fault| fault.code).collect()
}

#[tokio::test]
async fn a_record_as_it_was_written_has_no_fault_and_all_of_it_was_compared() {
    let recorded = recorded().await;
    let store = Store::open(recorded.folder.path()).await.expect("a store");
    let mut told = 0;
    let key = key(recorded.folder.path());
    let verdict = verify(&store, Some(&key), &[recorded.head], |at| told = at.done).await.expect("readable");
    assert!(verdict.ok, "{:?}", verdict.faults);
    let Verdict { entries, links, actions, decisions, signatures, artifacts, .. } = verdict;
    assert_eq!((entries, links, actions, decisions, signatures, artifacts, told), (12, 12, 1, 1, 1, 3, 12));
    assert_eq!(verdict.head, Some(recorded.head.to_string()));
    assert!(verdict.anchors[0].ok && verdict.notes.is_empty());
}

/// The place of an entry, for SQL.
macro_rules! of {
    ($seq:literal) => {
        concat!("(select entry_id from audit_seal where seq = ", $seq, ")")
    };
}

#[tokio::test]
async fn whatever_is_changed_deleted_inserted_or_reordered_is_found_and_named() {
    let recorded = recorded().await;
    let action = format!("action {}", recorded.action);
    let cases: &[(&[&'static str], &[&str], Option<i64>)] = &[
        // Entries. Number 4 says that the action was proposed, 8 that it was sent.
        (&[concat!("update audit set actor = 'eve' where id = ", of!(4))], &["entry_changed"], Some(4)),
        (&[concat!("update audit set at_ms = at_ms + 1 where id = ", of!(8))], &["entry_changed"], Some(8)),
        (
            &[concat!("update audit set hash = (select hash from audit where id = ", of!(1), ") where id = ", of!(8))],
            &["entry_changed"],
            Some(8),
        ),
        (&[concat!("delete from audit where id = ", of!(8))], &["entry_missing"], Some(8)),
        (
            &[concat!("delete from audit where id = ", of!(8)), "delete from audit_seal where seq = 8"],
            &["link_missing"],
            Some(8),
        ),
        (&["delete from audit_seal where seq = 2"], &["link_missing", "entry_unlinked"], Some(2)),
        (
            &[concat!(
                "insert into audit (id, at_ms, actor, verb, object_kind, object_id, detail, hash, sealed)
                select 'x', at_ms, 'eve', verb, object_kind, object_id, detail, hash, 1 from audit where id = ",
                of!(3)
            )],
            &["entry_changed", "entry_unlinked"],
            None,
        ),
        // Links.
        (&["update audit_seal set entry_hash = chain_hash where seq = 5"], &["link_changed", "entry_changed"], Some(5)),
        (&["update audit_seal set chain_hash = entry_hash where seq = 5"], &["link_changed", "link_changed"], Some(5)),
        (
            &[
                "update audit_seal set seq = -seq where seq in (2, 3)",
                "update audit_seal set seq = case seq when -2 then 3 else 2 end where seq < 0",
            ],
            &["link_changed", "link_changed", "link_changed"],
            Some(2),
        ),
        (
            &[
                "delete from audit where id in (select entry_id from audit_seal where seq > 9)",
                "delete from audit_seal where seq > 9",
                "delete from evidence",
                "update action set outcome = null",
            ],
            &["truncated", "truncated"],
            Some(9),
        ),
        (&["delete from audit_head"], &["head_missing"], Some(12)),
        (&["update audit_head set seq = 11"], &["head_changed", "head_changed"], Some(11)),
    ];
    for (sql, wanted, seq) in cases {
        let verdict = after(&recorded, sql).await;
        assert_eq!(codes(&verdict), *wanted, "{sql:?}: {:?}", verdict.faults);
        if seq.is_some() {
            assert_eq!(verdict.faults[0].seq, *seq, "{sql:?}: {:?}", verdict.faults);
        }
    }
    let cases: &[(&[&'static str], &[&str], &str)] = &[
        (&["update action set plan = replace(plan, 'true', 'false')"], &["plan_changed"], &action),
        (&["update action set plan_hash = (select entry_hash from audit_seal where seq = 1)"],
            &["plan_changed", "plan_changed"], &action),
        (&["update action set state = 'rejected'"], &["state_changed"], &action),
        (&["update action set outcome = replace(outcome, 'hello', 'hi')"], &["outcome_changed"], &action),
        (&["update action set outcome = replace(outcome, ':0', ':1')"], &["outcome_changed"], &action),
        (&["update action set outcome = null"], &["outcome_changed"], &action),
        (&["delete from approval", "delete from action"], &["action_missing", "approval_missing"], &action),
        (&["insert into action (id, host_key, kind, plan, plan_hash, risk_class, state, reason_code, detail, requested_by,
                reason, finding_id, effect_key, issued_ms, expires_ms, timeout_ms, updated_ms, outcome, cancel_requested)
                select 'x', host_key, kind, plan, plan_hash, risk_class, 'proposed', null, null, requested_by,
                reason, finding_id, null, issued_ms, expires_ms, timeout_ms, updated_ms, null, 0 from action"],
            &["action_unrecorded"], "action x"),
        // Decisions.
        (&["update approval set comment = 'stop'"], &["approval_changed"], &action),
        (&["update approval set decision = 'rejected'"], &["approval_changed"], &action),
        (&["update approval set signature = null"], &["approval_changed"], &action),
        (&["update approval set signature = replace(signature, '\"signature\":\"', '\"signature\":\"AAAA')"],
            &["signature_bad"], &action),
        (&["update approval set signature = '{}'"], &["signature_bad", "approval_changed"], &action),
        (&["delete from approval"], &["approval_missing"], &action),
        (&["insert into approval select action_id, 'eve', role, decision, plan_hash, comment, at_ms, null from approval"],
            &["approval_unrecorded"], &action),
        // Keys.
        (&["update operator_key set operator = 'eve'"], &["key_changed", "signature_bad"], "key "),
        (&["update operator_key set revoked_ms = 1"], &["key_changed"], "key "),
        (&["delete from operator_key"], &["signature_bad", "key_missing"], &action),
        // Artifacts.
        (&["update evidence set content = 'bye' where name = 'stdout.txt'"], &["artifact_changed"], "artifact "),
        (&["update evidence set name = 'stdin.txt' where name = 'stdout.txt'"], &["artifact_changed"], "artifact "),
        (&["update evidence set action_id = null, finding_id = 'f' where name = 'stdout.txt'"],
            &["artifact_changed"], "artifact "),
        (&["delete from evidence where name = 'stderr.txt'"], &["artifact_missing"], "artifact "),
        (&["insert into evidence select 'x', action_id, finding_id, step, name, media_type, sha256, bytes, content, at_ms
                from evidence where name = 'stdout.txt'"],
            &["artifact_unrecorded"], "artifact x"),
    ];
    for (sql, wanted, named) in cases {
        let verdict = after(&recorded, sql).await;
        assert_eq!(codes(&verdict), *wanted, "{sql:?}: {:?}", verdict.faults);
        let object = verdict.faults[0].object.as_deref().expect("named");
        assert!(object.starts_with(named), "{sql:?}: {object}");
    }
}

#[tokio::test]
async fn what_is_put_in_before_it_is_sealed_is_chained_and_told_where_it_says_an_older_time() {
    let recorded = recorded().await;
    let store = Store::open(recorded.folder.path()).await.expect("a store");
    let said = crate::record::Said {
        id: "forged",
        at_ms: 1,
        actor: "ana",
        verb: "a.b",
        object_kind: "host",
        object_id: "h",
        detail: "",
    };
    let mut write = store.state().write().await.expect("a change");
    sqlx::query(
        "insert into audit (id, at_ms, actor, verb, object_kind, object_id, detail, hash)
         values ('forged', 1, 'ana', 'a.b', 'host', 'h', '', $1)",
    )
    .bind(said.hash().to_string())
    .execute(&mut *write)
    .await
    .expect("inserted");
    write.commit().await.expect("committed");
    let sealer = Sealer::new(key(recorded.folder.path()));
    store.seal(&sealer, Timestamp::now().plus(crate::store::seal::LEASE)).await.expect("sealed");
    let verdict = verify(&store, Some(&sealer.key), &[recorded.head], |_| {}).await.expect("readable");
    assert!(verdict.ok, "{:?}", verdict.faults);
    assert_eq!(verdict.notes.iter().map(|note| note.code).collect::<Vec<_>>(), ["back_dated"]);
}

/// `FAROL_RECORD_ENTRIES=1000000 cargo nextest run --run-ignored only a_million`
#[tokio::test]
#[ignore = "a measurement; `cargo xtask bench --only record` is the one that counts"]
async fn a_million_entries_are_verified() {
    let entries: usize = std::env::var("FAROL_RECORD_ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    store.record_many(entries, Timestamp::now()).await.expect("written");
    let sealer = Sealer::new(key(folder.path()));
    let begun = std::time::Instant::now();
    while let Sealed::Batch(..) = store.seal(&sealer, Timestamp::now()).await.expect("sealed") {}
    eprintln!("sealed in {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    let verdict = verify(&store, Some(&sealer.key), &[], |_| {}).await.expect("readable");
    eprintln!("{} entries verified in {:?}", verdict.entries, begun.elapsed());
    assert!(verdict.ok && verdict.links == entries as u64);
}
