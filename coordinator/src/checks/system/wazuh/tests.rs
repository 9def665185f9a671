use std::collections::BTreeSet;

use farol_protocol::{
    Timestamp,
    report::{Limits, UnknownCause},
};
use farol_tests::wazuh::{FakeWazuh, PASSWORD, USER};
use serde_json::json;

use super::*;
use crate::{
    checks::system::testing::{NOW, asking, connection, disturbed},
    integrations::{Kind, http::Clients},
};

const DAEMONS: &str = "/manager/status";
const AGENTS: &str = "/agents/summary/status";

fn probe(look: WazuhLook) -> WazuhProbe {
    WazuhProbe { integration: "casa".to_owned(), look, limits: Limits::default() }
}

async fn manager() -> (FakeWazuh, Connection) {
    let fake = FakeWazuh::start().await.expect("a stand-in");
    let connection = connection(Kind::Wazuh, &fake.product, Some(USER), PASSWORD);
    (fake, connection)
}

async fn seen(connection: &Connection, look: WazuhLook) -> (Status, Option<f64>, String) {
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &probe(look), connection).await;
    assert!(seen.text.chars().count() <= 400 && !seen.text.contains(PASSWORD), "{}", seen.text);
    (seen.status, seen.value, seen.text)
}

#[tokio::test]
async fn a_healthy_manager_is_ok_although_daemons_that_nobody_configured_are_stopped() {
    let (_fake, connection) = manager().await;
    let manager = seen(&connection, WazuhLook::Manager).await;
    assert_eq!(manager, (Status::Ok, Some(0.0), "10 daemons of the manager run".to_owned()));
    let agents = seen(&connection, WazuhLook::Agents).await;
    assert_eq!(agents, (Status::Ok, Some(0.0), "0 of 4 agents disconnected".to_owned()));
}

#[tokio::test]
async fn a_daemon_that_matters_is_critical_a_lesser_one_a_warning_an_unnamed_one_unknown() {
    let (fake, connection) = manager().await;
    let set = |name: &'static str, state: serde_json::Value| {
        fake.change(|manager| manager.data.get_mut(DAEMONS).expect("there")["affected_items"][0][name] = state);
    };
    set("wazuh-monitord", json!("stopped"));
    let (status, value, text) = seen(&connection, WazuhLook::Manager).await;
    assert_eq!((status, value), (Status::Warning, Some(1.0)));
    assert!(text.starts_with("not running in the manager: monitord (stopped)"), "{text}");
    set("wazuh-analysisd", json!("failed"));
    let (status, value, text) = seen(&connection, WazuhLook::Manager).await;
    assert_eq!((status, value), (Status::Critical, Some(2.0)));
    assert!(text.starts_with("not running in the manager: analysisd (failed)"), "{text}");
    set("wazuh-analysisd", json!("running"));
    set("wazuh-db", json!(null));
    let (status, _, text) = seen(&connection, WazuhLook::Manager).await;
    assert_eq!(status, Status::Unknown);
    assert!(text.starts_with("nothing is said of db"), "{text}");
}

#[tokio::test]
async fn disconnected_agents_are_counted_and_named_and_an_absent_count_is_no_zero() {
    let (fake, connection) = manager().await;
    fake.change(|manager| {
        let counts = &mut manager.data.get_mut(AGENTS).expect("there")["connection"];
        *counts = json!({"active": 3, "disconnected": "1", "never_connected": 1, "pending": 0, "total": 5});
    });
    let (status, value, text) = seen(&connection, WazuhLook::Agents).await;
    assert_eq!((status, value), (Status::Warning, Some(1.0)));
    assert_eq!(text, "1 of 5 agents disconnected (vm104); 1 never connected (limit 1)");
    fake.change(|manager| {
        manager.data.get_mut(AGENTS).expect("there")["connection"] = json!({"active": 3, "total": 5});
    });
    let (status, value, _) = seen(&connection, WazuhLook::Agents).await;
    assert_eq!((status, value), (Status::Unknown, None));
    fake.change(|manager| {
        manager.data.get_mut(AGENTS).expect("there")["connection"] = json!({"disconnected": 0, "total": 0});
    });
    let (status, _, text) = seen(&connection, WazuhLook::Agents).await;
    assert_eq!(status, Status::Unknown);
    assert!(text.contains("shows no agent, not even itself"), "{text}");
}

#[tokio::test]
async fn a_login_serves_many_looks_and_is_renewed_once_after_a_restart() {
    let (fake, connection) = manager().await;
    let clients = Clients::default();
    let at = |minutes: i64| Asking { now: Timestamp::from_ms((NOW + minutes * 60) * 1000), ..asking(&clients) };
    let probe = probe(WazuhLook::Manager);
    for minutes in [0, 5, 10] {
        assert_eq!(ask(&at(minutes), &probe, &connection).await.status, Status::Ok);
    }
    assert_eq!(fake.logins(), 1);
    fake.restart();
    assert_eq!(ask(&at(11), &probe, &connection).await.status, Status::Ok);
    assert_eq!(fake.logins(), 2);
    assert_eq!(ask(&at(26), &probe, &connection).await.status, Status::Ok);
    assert_eq!(fake.logins(), 3, "a login ends after 15 min");
    fake.change(|manager| (manager.forgets, manager.token) = (true, None));
    let seen = ask(&at(27), &probe, &connection).await;
    assert_eq!(seen.status, Status::Unknown);
    assert!(seen.text.contains("refused the token that it has just given"), "{}", seen.text);
    assert_eq!(fake.logins(), 4, "it does not try for ever");
}

#[tokio::test]
async fn every_way_of_not_answering_has_a_text_of_its_own() {
    let (fake, mut connection) = manager().await;
    let mut texts = BTreeSet::new();
    let mut tell = async |connection: &Connection, expected: Status, words: &str| {
        let (status, _, text) = seen(connection, WazuhLook::Agents).await;
        assert_eq!(status, expected, "{text}");
        assert!(text.contains(words), "`{words}` is missing in: {text}");
        assert!(texts.insert(text), "said before");
    };
    tell(&connection, Status::Ok, "0 of 4").await;
    fake.change(|manager| {
        manager.forbidden.insert(AGENTS.to_owned());
    });
    tell(&connection, Status::Unknown, "farol may not read /agents/summary/status (403 Permission denied").await;
    fake.change(|manager| manager.tired = true);
    tell(&connection, Status::Unknown, "too many questions a minute (429").await;
    fake.change(|manager| manager.tired = false);
    connection.secret = Some(Secret::new("wrong".to_owned()));
    fake.product.forget();
    tell(&connection, Status::Unknown, "refused the user farol (401 Invalid credentials)").await;
    assert_eq!(fake.product.asked().len(), 1, "one attempt a look");
    fake.product.change_certificate().expect("another");
    tell(&connection, Status::Unknown, "showed another certificate").await;
    fake.product.stop();
    tell(&connection, Status::Critical, "could not be reached").await;
    connection.user = None;
    tell(&connection, Status::Unknown, "needs a user and password").await;
    let clients = Clients::default();
    let bare = ask(&asking(&clients), &probe(WazuhLook::Agents), &connection).await;
    assert_eq!(bare.cause, Some(UnknownCause::NotConfigured));
}

#[tokio::test]
async fn no_answer_makes_a_look_panic() {
    let (fake, connection) = manager().await;
    let healthy = {
        let mut data = None;
        fake.change(|manager| data = Some(manager.data.clone()));
        data.expect("data")
    };
    let clients = Clients::default();
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        fake.change(|manager| {
            manager.data = healthy.iter().map(|(path, data)| (path.clone(), disturbed(&mut random, data))).collect();
        });
        for look in [WazuhLook::Manager, WazuhLook::Agents] {
            let seen = ask(&asking(&clients), &probe(look), &connection).await;
            assert!(seen.text.chars().count() <= 400);
            assert!(seen.value.is_none_or(f64::is_finite), "{seen:?}");
        }
    }
}
