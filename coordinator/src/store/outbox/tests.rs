//! The outbox on a real store: who is written down, what follows what, and that
//! no order of events tells anybody twice or of an end without its beginning.

use std::{collections::HashMap, time::Duration};

use farol_protocol::registry::{Persona, Severity};

use super::*;
use crate::notify::plan;

/// Writes a finding as the correlator would; answers its id.
pub(crate) async fn finding(store: &Store, host: &str, scenario: &str) -> String {
    let id = Uuid::now_v7().to_string();
    let mut write = store.state().write().await.expect("a turn");
    sqlx::query(
        "insert into finding (id, fingerprint, episode, scenario, check_id, host_key, persona, severity, state, title,
             status, text, thread_id, opened_ms, updated_ms)
         values ($1, $2, 1, $3, $3, 1, 'A1', 'high', 'open', 'Title', 'critical', '', '', 0, 0)",
    )
    .bind(&id)
    .bind(format!("{host}:{scenario}/{id}"))
    .bind(scenario)
    .execute(&mut *write)
    .await
    .expect("written");
    write.commit().await.expect("committed");
    id
}

async fn set_state(store: &Store, finding: &str, state: &str) {
    let mut write = store.state().write().await.expect("a turn");
    sqlx::query("update finding set state = $2 where id = $1")
        .bind(finding)
        .bind(state)
        .execute(&mut *write)
        .await
        .expect("written");
    write.commit().await.expect("committed");
}

fn channel(name: &str) -> Channel {
    Channel { name: name.to_owned(), recipient: String::new() }
}

fn message(finding: &str, what: What, channels: Vec<(Channel, Verdict)>, now: Timestamp) -> NewMessage {
    NewMessage {
        what,
        told: Told {
            fingerprint: format!("vm112:web/{finding}"),
            episode: 1,
            scenario: "web".to_owned(),
            persona: Persona::A1,
            host: "vm112".to_owned(),
            site: None,
            severity: Severity::High,
            title: "Title".to_owned(),
            since: now,
            at: now,
        },
        subject: "subject".to_owned(),
        body: format!("{what:?}"),
        message_id: "<a@farol>".to_owned(),
        in_reply_to: None,
        channels,
    }
}

async fn tell(store: &Store, finding: &str, what: What, channels: Vec<(Channel, Verdict)>, now: Timestamp) {
    let mut write = store.state().write().await.expect("a turn");
    insert(&mut write, finding, &message(finding, what, channels, now), now).await.expect("told");
    write.commit().await.expect("committed");
}

fn low() -> Verdict {
    Verdict::Not(Reason::Severity { severity: Severity::Low, at_least: Severity::High })
}

const AT_ONCE: Verdict = Verdict::Told(Duration::ZERO);
const LATER: Verdict = Verdict::Told(Duration::from_secs(60));

/// State, what and channel of everything about a finding.
async fn rows(store: &Store, finding: &str) -> Vec<(String, String, String)> {
    let rows = store.finding_messages(finding).await.expect("read");
    rows.into_iter().map(|row| (row.state, row.what, row.channel)).collect()
}

fn row(state: &str, what: &str, channel: &str) -> (String, String, String) {
    (state.to_owned(), what.to_owned(), channel.to_owned())
}

/// What the job would send now, in order; `outcome` says how each goes.
async fn deliver(store: &Store, now: Timestamp, mut outcome: impl FnMut(&Due) -> Delivery) -> Vec<(String, String)> {
    let mut sent = Vec::new();
    loop {
        let waiting = store.waiting_messages(100).await.expect("read");
        let first = plan(&waiting, &HashMap::new(), now);
        if first.settles() {
            store.settle_messages(&first.cancelled, &first.promoted).await.expect("settled");
        }
        let waiting = store.waiting_messages(100).await.expect("read");
        let queues = plan(&waiting, &HashMap::new(), now).queues;
        if queues.is_empty() {
            return sent;
        }
        for (_, ids) in queues {
            for id in ids {
                let Some(due) = store.due_message(&id).await.expect("read") else { continue };
                let delivery = outcome(&due);
                store.delivered(&id, &delivery, now).await.expect("written");
                match delivery {
                    Delivery::Sent { .. } => sent.push((due.channel, due.what)),
                    Delivery::Dead { .. } => {}
                    Delivery::Later { .. } => break,
                }
            }
        }
    }
}

fn taken(_: &Due) -> Delivery {
    Delivery::Sent { provider_id: Some("x".to_owned()) }
}

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    (folder, store)
}

#[tokio::test]
async fn who_is_not_told_is_written_down_with_the_reason_and_told_once_it_is_bad_enough() {
    let (_folder, store) = store().await;
    let (finding, now) = (finding(&store, "vm112", "web").await, Timestamp::from_ms(1_000));
    tell(&store, &finding, What::Problem, vec![(channel("a"), AT_ONCE), (channel("b"), low())], now).await;
    assert_eq!(rows(&store, &finding).await, [row("pending", "problem", "a"), row("skipped", "problem", "b")]);
    let skipped = &store.finding_messages(&finding).await.expect("read")[1];
    assert_eq!(skipped.reason().expect("a reason").code(), "severity");
    assert_eq!(deliver(&store, now, taken).await, [("a".to_owned(), "problem".to_owned())]);

    let now = now.plus_ms(1_000);
    tell(&store, &finding, What::Problem, vec![(channel("a"), AT_ONCE), (channel("b"), AT_ONCE)], now).await;
    assert_eq!(deliver(&store, now, taken).await, [("b".to_owned(), "problem".to_owned())]);
    // Less bad again: what was told stays told.
    tell(&store, &finding, What::Problem, vec![(channel("a"), low()), (channel("b"), low())], now).await;
    assert_eq!(rows(&store, &finding).await, [row("sent", "problem", "a"), row("sent", "problem", "b")]);
}

#[tokio::test]
async fn a_recovery_goes_where_the_problem_went_whatever_the_routes_say_by_then() {
    let (_folder, store) = store().await;
    let (finding, now) = (finding(&store, "vm112", "web").await, Timestamp::from_ms(1_000));
    tell(&store, &finding, What::Problem, vec![(channel("a"), AT_ONCE), (channel("b"), low())], now).await;
    // Its problem is not sent yet; it waits behind it.
    tell(&store, &finding, What::Recovery, Vec::new(), now.plus_ms(1)).await;
    let failing = |due: &Due| {
        assert_eq!(due.what, "problem");
        Delivery::Later { at: now.plus_ms(10), error: "busy".to_owned() }
    };
    assert_eq!(deliver(&store, now.plus_ms(2), failing).await, []);
    let all = deliver(&store, now.plus_ms(10), taken).await;
    assert_eq!(all, [("a".to_owned(), "problem".to_owned()), ("a".to_owned(), "recovery".to_owned())]);
    tell(&store, &finding, What::Recovery, Vec::new(), now.plus_ms(20)).await;
    assert_eq!(deliver(&store, now.plus_ms(20), taken).await, [], "said once");
}

#[tokio::test]
async fn an_escalation_is_told_when_nobody_acknowledged_and_else_cancelled_with_the_reason() {
    let (_folder, store) = store().await;
    let now = Timestamp::from_ms(1_000);
    for (state, code) in [("acknowledged", "acknowledged"), ("resolved", "resolved"), ("suppressed", "suppressed")] {
        let finding = finding(&store, "vm112", "web").await;
        tell(&store, &finding, What::Problem, vec![(channel(state), LATER)], now).await;
        assert_eq!(deliver(&store, now.plus_ms(59_999), taken).await, []);
        set_state(&store, &finding, state).await;
        assert_eq!(deliver(&store, now.plus_ms(60_000), taken).await, []);
        let cancelled = &store.finding_messages(&finding).await.expect("read")[0];
        assert_eq!((cancelled.state.as_str(), cancelled.reason().expect("why").code()), ("cancelled", code));
        tell(&store, &finding, What::Recovery, Vec::new(), now.plus_ms(70_000)).await;
        assert_eq!(deliver(&store, now.plus_ms(70_000), taken).await, [], "no recovery without its problem");
    }
    let open = finding(&store, "vm112", "web").await;
    tell(&store, &open, What::Problem, vec![(channel("open"), LATER)], now).await;
    let sent = deliver(&store, now.plus_ms(60_000), |due| {
        assert_eq!(due.after_ms, 60_000);
        taken(due)
    });
    assert_eq!(sent.await, [("open".to_owned(), "problem".to_owned())]);
}

#[tokio::test]
async fn the_end_of_a_finding_takes_its_escalations_back_in_the_same_transaction() {
    let (_folder, store) = store().await;
    let (finding, now) = (finding(&store, "vm112", "web").await, Timestamp::from_ms(1_000));
    tell(&store, &finding, What::Problem, vec![(channel("a"), AT_ONCE), (channel("b"), LATER)], now).await;
    tell(&store, &finding, What::Recovery, Vec::new(), now.plus_ms(60_000)).await;
    assert_eq!(
        rows(&store, &finding).await,
        [row("pending", "problem", "a"), row("cancelled", "problem", "b"), row("pending", "recovery", "a")]
    );
}

#[tokio::test]
async fn a_dead_message_is_sent_again_by_a_person_and_its_recovery_with_it() {
    let (_folder, store) = store().await;
    let (finding, now) = (finding(&store, "vm112", "web").await, Timestamp::from_ms(1_000));
    tell(&store, &finding, What::Problem, vec![(channel("a"), AT_ONCE)], now).await;
    tell(&store, &finding, What::Recovery, Vec::new(), now).await;
    let dead = |_: &Due| Delivery::Dead { error: "no such room".to_owned() };
    assert_eq!(deliver(&store, now, dead).await, []);
    assert_eq!(rows(&store, &finding).await, [row("dead", "problem", "a"), row("cancelled", "recovery", "a")]);
    store.disable_channel("a", "gone", now).await.expect("off");

    let by = Operator::local_administrator();
    let page = store.messages_page(Some("dead"), &Cursor::start(), 10).await.expect("a page");
    assert_eq!(page.items[0].last_error.as_deref(), Some("no such room"));
    let id = page.items[0].id.clone();
    assert_eq!(store.resend_message(&by, &id, now).await.expect("again").state, "pending");
    assert!(store.channel_states().await.expect("read").is_empty(), "the channel is on again");
    let refused = store.resend_message(&by, &id, now).await.expect_err("it waits already");
    assert!(refused.to_string().contains("pending"), "{refused}");
    assert!(store.resend_message(&by, "nothing", now).await.is_err());
    let sent = deliver(&store, now, taken).await;
    assert_eq!(sent, [("a".to_owned(), "problem".to_owned()), ("a".to_owned(), "recovery".to_owned())]);
}

#[tokio::test]
async fn a_channel_that_takes_nothing_hides_no_other() {
    let (_folder, store) = store().await;
    let now = Timestamp::from_ms(1_000);
    for _ in 0..5 {
        let finding = finding(&store, "vm112", "web").await;
        tell(&store, &finding, What::Problem, vec![(channel("a"), AT_ONCE), (channel("a2"), LATER)], now).await;
    }
    let finding = finding(&store, "vm112", "web").await;
    tell(&store, &finding, What::Problem, vec![(channel("b"), AT_ONCE)], now.plus_ms(1)).await;
    let waiting = store.waiting_messages(2).await.expect("read");
    let of = |name: &str| waiting.iter().filter(|row| row.channel == name).count();
    assert_eq!((of("a"), of("a2"), of("b")), (2, 2, 1), "{waiting:?}");
}

#[tokio::test]
async fn mails_of_before_get_their_finding_and_their_recovery() {
    let (_folder, store) = store().await;
    let (finding, now) = (finding(&store, "vm112", "web").await, Timestamp::from_ms(1_000));
    let told = message(&finding, What::Problem, Vec::new(), now).told;
    // As the migration leaves one that was sent by an earlier version.
    let mut write = store.state().write().await.expect("a turn");
    sqlx::query(
        "insert into outbox (id, effect_key, channel, recipient, subject, body, message_id, state, attempts, next_ms,
             created_ms, finding_id, episode) values ('old', $1, 'email', 'a@b', '', '', '<x@farol>', 'sent', 1, 0, 0, $2, 1)",
    )
    .bind(format!("email/a@b/{}/1/problem", told.fingerprint))
    .bind(&finding)
    .execute(&mut *write)
    .await
    .expect("written");
    write.commit().await.expect("committed");
    let to = Channel { name: "email".to_owned(), recipient: "a@b".to_owned() };
    tell(&store, &finding, What::Problem, vec![(to, AT_ONCE)], now).await;
    assert_eq!(deliver(&store, now, taken).await, [], "told before");
    tell(&store, &finding, What::Recovery, Vec::new(), now).await;
    assert_eq!(deliver(&store, now, taken).await, [("email".to_owned(), "recovery".to_owned())]);
}

/// Histories at random; the seed is in the message of a failure.
#[tokio::test]
async fn whatever_happens_a_channel_hears_of_one_problem_and_after_it_of_one_recovery() {
    let (_folder, store) = store().await;
    let channels = ["a", "b", "c"];
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let finding = finding(&store, "vm112", "web").await;
        let (mut now, mut heard) = (Timestamp::from_ms(1_000), Vec::new());
        let (mut grown, mut over) = (0, false);
        for _ in 0..random.usize(3..12) {
            now = now.plus_ms(random.i64(1..50_000));
            match random.u8(0..8) {
                0..=2 if !over => {
                    let verdicts = channels
                        .iter()
                        .map(|name| (channel(name), [AT_ONCE, LATER, low()][random.usize(0..3)].clone()))
                        .collect();
                    tell(&store, &finding, What::Problem, verdicts, now).await;
                }
                3 if !over => {
                    grown += 1;
                    tell(&store, &finding, What::Grew(grown), Vec::new(), now).await;
                }
                4 => set_state(&store, &finding, ["open", "acknowledged", "suppressed"][random.usize(0..3)]).await,
                5 if grown > 0 || random.bool() => {
                    over = true;
                    set_state(&store, &finding, "resolved").await;
                    tell(&store, &finding, What::Recovery, Vec::new(), now).await;
                }
                _ => {
                    let mut dice = random.clone();
                    random.u64(..);
                    heard.extend(
                        deliver(&store, now, |_| match dice.u8(0..6) {
                            0 => Delivery::Dead { error: "dead".to_owned() },
                            1 => Delivery::Later { at: now.plus_ms(20_000), error: "later".to_owned() },
                            _ => Delivery::Sent { provider_id: None },
                        })
                        .await,
                    );
                }
            }
        }
        heard.extend(deliver(&store, now.plus_ms(200_000), taken).await);
        for name in channels {
            let heard: Vec<&str> =
                heard.iter().filter(|(channel, _)| channel == name).map(|(_, what)| what.as_str()).collect();
            let count = |what: &str| heard.iter().filter(|known| **known == what).count();
            assert!(count("problem") <= 1 && count("recovery") <= 1, "seed {seed}: {name} heard {heard:?}");
            if let Some(first) = heard.first() {
                assert_eq!(*first, "problem", "seed {seed}: {name} heard {heard:?}");
            }
            if count("recovery") == 1 {
                assert_eq!(*heard.last().expect("some"), "recovery", "seed {seed}: {name} heard {heard:?}");
            }
            if over && count("problem") == 1 {
                assert_eq!(count("recovery"), 1, "seed {seed}: {name} heard {heard:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_became_of_messages_is_forgotten_with_findings_that_ended_long_ago_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    let now = Timestamp::now();
    let mut ids = Vec::new();
    for (name, state, ended_ms) in [("old", "resolved", 1_000), ("new", "resolved", 9_000), ("open", "open", 0)] {
        let id = finding(&store, "vm112", name).await;
        let mut write = store.state().write().await.expect("a turn");
        let told = message(&id, What::Problem, vec![(channel("a"), AT_ONCE)], now);
        insert(&mut write, &id, &told, now).await.expect("written");
        write.commit().await.expect("committed");
        set_state(&store, &id, state).await;
        let mut write = store.state().write().await.expect("a turn");
        sqlx::query("update finding set resolved_ms = $2 where id = $1")
            .bind(&id)
            .bind((state == "resolved").then_some(ended_ms))
            .execute(&mut *write)
            .await
            .expect("written");
        sqlx::query("update outbox set state = 'sent' where finding_id = $1")
            .bind(&id)
            .execute(&mut *write)
            .await
            .expect("written");
        write.commit().await.expect("committed");
        ids.push(id);
    }
    assert_eq!(store.prune_outbox(Timestamp::from_ms(5_000)).await.expect("pruned"), 1);
    let mut read = store.state().read().await.expect("a turn");
    let left: Vec<(String,)> =
        sqlx::query_as("select finding_id from outbox order by finding_id").fetch_all(&mut *read).await.expect("read");
    let mut kept = ids[1..].to_vec();
    kept.sort();
    assert_eq!(left.into_iter().map(|(id,)| id).collect::<Vec<_>>(), kept);
}
