use std::time::Duration;

use farol_protocol::{ActionKind, PlanHash, RiskClass};
use serde_json::json;

use super::*;
use crate::{
    auth::Scope,
    people::Limits,
    remediation::Proposal,
    store::{
        actions::{Approval, Decided},
        inbox::Note,
        sessions::{NewSession, SessionState},
        tokens::{TokenSpec, TokenState},
    },
};

const LIMITS: Limits = Limits { idle: Duration::from_secs(120), lifetime: Duration::from_secs(600) };

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    (folder, store)
}

fn now() -> Timestamp {
    Timestamp::now()
}

async fn user(store: &Store, name: &str, role: Role) -> Result<UserRow> {
    let new = NewUser { name, role, sites: None, password: "$argon2id$none" };
    store.create_user(&Operator::local_administrator(), new, false, now()).await
}

async fn token(store: &Store, name: &str, owner: Option<&str>, role: Role) -> Result<Operator> {
    let spec = TokenSpec { name, owner, role, scope: Scope::default(), expires_at: None };
    let made = store.create_scoped_token(&Operator::local_administrator(), spec, now()).await?;
    match store.authenticate(&made.token, now()).await? {
        TokenState::Valid(operator) => Ok(operator),
        other => Err(Error::Refused(format!("{other:?}"))),
    }
}

async fn signed_in(store: &Store, name: &str) -> Operator {
    let user = store.user(name).await.expect("an account");
    let new = NewSession { user: (&user.id, name), method: "password", address: "", browser: "", replaces: None };
    let (secret, _) = store.begin_session(new, LIMITS, now()).await.expect("begun");
    match store.session(secret.expose(), LIMITS, now()).await.expect("read") {
        SessionState::Valid(operator, _) => operator,
        other => panic!("{other:?}"),
    }
}

async fn r3(store: &Store, by: &Operator) -> (farol_protocol::ActionId, PlanHash) {
    let host = store.host("h").await.expect("the host");
    let proposal = Proposal {
        by: &by.requester(),
        host: (host.key, &host.id),
        kind: ActionKind::CommandExec,
        params: json!({"command": "true"}),
        reason: "",
        at_least: RiskClass::R3,
        finding_id: None,
        effect_key: None,
        seen: None,
        look_id: None,
    };
    let (action, _) = proposal.plan(now()).expect("a plan");
    store.propose(&action, None).await.expect("proposed");
    (action.id, action.plan_hash)
}

async fn approve(store: &Store, by: &Operator, (id, hash): &(farol_protocol::ActionId, PlanHash)) -> Result<Decided> {
    let note = Note {
        author: by.name().to_owned(),
        by_person: true,
        kind: "decision",
        body: String::new(),
        effect_key: format!("{id}/{}", by.name()),
    };
    store.approve(by, *id, hash, Approval { comment: "", signature: None, hold: false }, note, now()).await
}

#[tokio::test]
async fn r3_takes_two_people_and_a_token_of_nobody_is_none_once_there_are_accounts() {
    let (_folder, store) = store().await;
    let admin = Operator::local_administrator();
    store.add_host(&admin, "h", Duration::from_secs(60), now()).await.expect("a host");
    let bot = token(&store, "bot", None, Role::SuperAdmin).await.expect("a token");
    let other_bot = token(&store, "other", None, Role::SuperAdmin).await.expect("a token");
    let action = r3(&store, &admin).await;
    assert!(matches!(approve(&store, &bot, &action).await, Ok(Decided::WaitsForSecond(_))));
    assert!(matches!(approve(&store, &other_bot, &action).await, Ok(Decided::Queued(_))), "tokens stand for people");

    for name in ["ana", "bia"] {
        user(&store, name, Role::SuperAdmin).await.expect("made");
    }
    let (ana, bia) = (signed_in(&store, "ana").await, signed_in(&store, "bia").await);
    let anas = token(&store, "ci", Some("ana"), Role::OpsLead).await.expect("a token");
    let bias = token(&store, "deploy", Some("bia"), Role::SuperAdmin).await.expect("a token");
    assert_eq!((anas.name(), anas.person()), ("ana/ci", "ana"));
    let action = r3(&store, &bias).await;
    for (who, why) in [(&bot, "belongs to nobody"), (&bia, "whoever asked"), (&bias, "whoever asked")] {
        let refused = approve(&store, who, &action).await.expect_err("refused");
        assert!(matches!(refused, Error::Forbidden(_)) && refused.to_string().contains(why), "{refused}");
    }
    assert!(matches!(approve(&store, &anas, &action).await, Ok(Decided::WaitsForSecond(_))));
    let twice = approve(&store, &ana, &action).await.expect_err("one person counted twice");
    assert!(twice.to_string().contains("already"), "{twice}");
    user(&store, "rui", Role::AgenticOperator).await.expect("made");
    let rui = signed_in(&store, "rui").await;
    assert!(matches!(approve(&store, &rui, &action).await, Ok(Decided::Queued(_))));
    let approvers: Vec<String> =
        store.approvals(action.0).await.expect("read").into_iter().map(|row| row.approver).collect();
    assert_eq!(approvers, ["ana", "rui"]);
}

#[tokio::test]
async fn people_and_tokens_never_share_a_name_and_a_token_never_outgrows_its_owner() {
    let (_folder, store) = store().await;
    user(&store, "ana", Role::Devops).await.expect("made");
    assert!(matches!(user(&store, "ANA", Role::Seo).await, Err(Error::Exists { what: "user", .. })));
    assert!(token(&store, "Ana", None, Role::Seo).await.is_err(), "a token is called like a person");
    token(&store, "bot", None, Role::Seo).await.expect("made");
    let taken = user(&store, "Bot", Role::Seo).await.expect_err("a person is called like a token");
    assert!(taken.to_string().contains("farol token revoke bot"), "{taken}");
    for name in ["A7", "cli", "farol", "unknown", "a/b", ""] {
        assert!(matches!(user(&store, name, Role::Seo).await, Err(Error::InvalidName(_))), "{name}");
    }
    let admin = Operator::local_administrator();
    let more = token(&store, "more", Some("ana"), Role::OpsLead).await.expect_err("a token may more than its owner");
    assert!(matches!(more, Error::Forbidden(_)), "{more}");
    assert!(token(&store, "x", Some("nobody"), Role::Seo).await.is_err());

    let spec =
        TokenSpec { name: "ci", owner: Some("ana"), role: Role::Devops, scope: Scope::default(), expires_at: None };
    let made = store.create_scoped_token(&admin, spec, now()).await.expect("made");
    assert!(matches!(store.authenticate(&made.token, now()).await, Ok(TokenState::Valid(_))));
    let change = |role, disabled| Change { role, disabled, ..Change::default() };
    store.change_user(&admin, "ana", change(Some(Role::Seo), None), now()).await.expect("changed");
    assert!(matches!(store.authenticate(&made.token, now()).await, Ok(TokenState::Unknown)));
    store.change_user(&admin, "ana", change(Some(Role::Devops), None), now()).await.expect("changed");
    assert!(matches!(store.authenticate(&made.token, now()).await, Ok(TokenState::Valid(_))));
    store.change_user(&admin, "ana", change(None, Some(true)), now()).await.expect("changed");
    assert!(matches!(store.authenticate(&made.token, now()).await, Ok(TokenState::Unknown)));
}

#[tokio::test]
async fn a_key_is_a_persons_and_a_token_that_somebody_owns_has_none() {
    let (_folder, store) = store().await;
    user(&store, "ana", Role::OpsLead).await.expect("made");
    token(&store, "ci", Some("ana"), Role::OpsLead).await.expect("made");
    let key = |text: &str| text.parse::<farol_protocol::signing::PublicKey>().expect("a key");
    let one = key("ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    let admin = Operator::local_administrator();
    assert!(matches!(store.add_key(&admin, "ci", &one, now()).await, Err(Error::NotFound { .. })));
    store.add_key(&admin, "ana", &one, now()).await.expect("registered");
    assert_eq!(store.keys().await.expect("read")[0].role, Some(Role::OpsLead));
}

#[tokio::test]
async fn a_session_has_two_limits_one_secret_at_a_time_and_ends_with_its_account() {
    let (_folder, store) = store().await;
    let admin = Operator::local_administrator();
    let ana = user(&store, "ana", Role::SuperAdmin).await.expect("made");
    user(&store, "bia", Role::SuperAdmin).await.expect("made");
    let start = now();
    let begin = async || {
        let new = NewSession { user: (&ana.id, "ana"), method: "password", address: "", browser: "", replaces: None };
        store.begin_session(new, LIMITS, start).await.expect("begun")
    };
    let state =
        async |secret: &Secret, ms: i64| store.session(secret.expose(), LIMITS, start.plus_ms(ms)).await.expect("read");
    let (secret, _) = begin().await;
    assert!(matches!(state(&secret, 120_000).await, SessionState::Expired), "it idles");
    // Used often enough, only its lifetime ends it.
    let (secret, id) = begin().await;
    for ms in (0..600_000).step_by(50_000) {
        assert!(matches!(state(&secret, ms).await, SessionState::Valid(..)), "it ended after {ms} ms");
    }
    assert!(matches!(state(&secret, 600_000).await, SessionState::Expired), "its lifetime is over");
    assert!(store.rotate_session(&id, true, start).await.is_ok());
    let (secret, id) = begin().await;
    let renewed = store.rotate_session(&id, false, start).await.expect("renewed");
    assert!(matches!(state(&secret, 1).await, SessionState::Unknown), "the old secret lives on");
    assert!(matches!(state(&renewed, 1).await, SessionState::Valid(..)));
    let change = Change { disabled: Some(true), ..Change::default() };
    store.change_user(&admin, "ana", change, start).await.expect("disabled");
    assert!(matches!(state(&renewed, 1).await, SessionState::Unknown));
    let last = Change { disabled: Some(true), ..Change::default() };
    assert!(store.change_user(&admin, "bia", last, start).await.is_err(), "nobody could manage accounts any more");
}

#[tokio::test]
async fn strangers_are_told_of_together_once_a_minute() {
    let (_folder, store) = store().await;
    let start = now();
    for n in 0..50 {
        store.record_stranger("192.0.2.0/24", start.plus_ms(n * 1000)).await.expect("counted");
    }
    store.record_stranger("198.51.100.0/24", start.plus_ms(60_000)).await.expect("counted");
    let entries = store.audit(&crate::store::Cursor::start(), 10).await.expect("read").items;
    let told: Vec<&str> = entries.iter().map(|entry| entry.detail.as_str()).collect();
    assert_eq!(
        told,
        [
            "50 attempts for names that nobody has, the last from 198.51.100.0/24",
            "1 attempts for names that nobody has, the last from 192.0.2.0/24"
        ]
    );
}
