//! What is not in the specification is refused, and says so, and the good
//! frames around it go on.

use farol_tests::{
    Site,
    peer::{Identity, Peer},
};
use serde_json::{Value, json};

use crate::support::QUIET;

const STREAM: &str = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4c";

fn hello(agent_id: &str) -> Value {
    json!({"method": "hello", "agent_id": agent_id, "name": "vm112", "version": "9.9.9", "capabilities": ["command.exec"],
        "timestamp": now(), "protocol": {"min": 1, "max": 1},
        "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0}, "stream": STREAM,
        "max_unsigned_class": "R2", "effects_allowed": true, "colour": "blue"})
}

fn now() -> String {
    time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap()
}

fn push(seq: u64, payload: &Value) -> Value {
    json!({"method": "telemetry.push", "stream": STREAM, "seq": seq, "ts": now(), "payload": payload})
}

async fn site() -> (Site, Identity) {
    let site = Site::start(QUIET, &[("FAROL_HEARTBEAT", "2s")]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    (site, identity)
}

async fn said_hello(site: &Site, identity: &Identity) -> (Peer, Value) {
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    peer.send(&hello("vm112")).await.unwrap();
    let answer = peer.receive().await.unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
    (peer, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_outside_the_specification_is_answered_and_the_connection_lives() {
    let (site, identity) = site().await;
    let (mut peer, _) = said_hello(&site, &identity).await;
    let id = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a";
    let bad = [
        ("{".to_owned(), "not_json"),
        (json!({"method": "reboot.now"}).to_string(), "unknown_method"),
        (json!({"method": "heartbeat", "timestamp": now(), "mood": "fine"}).to_string(), "invalid_frame"),
        (json!({"method": "action.accepted", "action_id": id}).to_string(), "invalid_frame"),
        (json!({"no": "method"}).to_string(), "invalid_frame"),
        (hello("vm112").to_string(), "unexpected"),
        (
            json!({"method": "telemetry.push", "stream": id, "seq": 1, "ts": now(), "payload": {}}).to_string(),
            "unexpected",
        ),
    ];
    for (text, code) in bad {
        peer.send_text(text.clone()).await.unwrap();
        let answer = peer.expect("error").await.unwrap();
        assert_eq!(answer["code"], code, "{text}: {answer}");
        assert!(answer["message"].as_str().unwrap().len() > 10, "{answer}");
    }
    peer.send(&push(1, &json!({}))).await.unwrap();
    assert_eq!(peer.expect("telemetry.ack").await.unwrap()["seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_for_another_host_or_another_version_is_refused() {
    let (site, identity) = site().await;
    let refused = async |frame: Value, code: &str| {
        let mut peer = identity.connect(site.southbound()).await.unwrap();
        peer.send(&frame).await.unwrap();
        let answer = peer.receive().await.unwrap();
        assert_eq!(answer["code"], code, "{answer}");
        assert_eq!(u16::from(peer.closed().await.unwrap().unwrap().code), 1008);
    };
    refused(hello("vm123"), "wrong_identity").await;
    refused(json!({"method": "hello", "agent_id": "pfsense"}), "wrong_identity").await;
    let mut future = hello("vm112");
    future["protocol"] = json!({"min": 7, "max": 9});
    refused(future, "unsupported_version").await;
    refused(json!({"method": "heartbeat", "timestamp": now()}), "unexpected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_too_large_or_binary_closes_the_connection_with_its_code() {
    let (site, identity) = site().await;
    let (mut peer, _) = said_hello(&site, &identity).await;
    // The coordinator may close before everything is written.
    let _cut_short = peer.send_text(format!("\"{}\"", "x".repeat(2 << 20))).await;
    if let Ok(Some(close)) = peer.closed().await {
        assert_eq!(u16::from(close.code), 1009);
    }
    let (mut peer, _) = said_hello(&site, &identity).await;
    peer.send_binary(vec![0, 159, 146, 150]).await.unwrap();
    assert_eq!(u16::from(peer.closed().await.unwrap().unwrap().code), 1003);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_stored_once_and_a_skipped_one_is_refused_unless_a_gap_says_so() {
    let (site, identity) = site().await;
    let (mut peer, answer) = said_hello(&site, &identity).await;
    assert_eq!(answer["committed_seq"], 0);
    let report = json!({"reports": [{"check": "x", "status": "ok", "text": "fine", "observed_at": now()}]});
    for _ in 0..3 {
        peer.send(&push(1, &report)).await.unwrap();
        assert_eq!(peer.expect("telemetry.ack").await.unwrap()["seq"], 1);
    }
    peer.send(&push(3, &json!({}))).await.unwrap();
    let refused = peer.expect("error").await.unwrap();
    assert_eq!(refused["code"], "seq_gap", "{refused}");
    assert_eq!(u16::from(peer.closed().await.unwrap().unwrap().code), 1008);

    let (mut peer, answer) = said_hello(&site, &identity).await;
    assert_eq!(answer["committed_seq"], 1);
    let gap = json!({"gaps": [{"first_seq": 2, "last_seq": 4, "from": now(), "to": now()}]});
    peer.send(&push(5, &gap)).await.unwrap();
    assert_eq!(peer.expect("telemetry.ack").await.unwrap()["seq"], 5);
    let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
    // The loss itself is a report, the coordinator's own.
    let foreign = |check: &&Value| check["check"] != "host.telemetry";
    let taken = host["checks"].as_array().unwrap().iter().find(foreign);
    assert_eq!(taken, None, "a report about a check that was never assigned was taken");
    assert_eq!((host["received"].as_u64(), host["lost"].as_u64()), (Some(2), Some(3)), "{host}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_nothing_is_cut_and_a_new_connection_replaces_the_old() {
    let (site, identity) = site().await;
    let (mut old, _) = said_hello(&site, &identity).await;
    let (mut new, _) = said_hello(&site, &identity).await;
    assert_eq!(u16::from(old.closed().await.unwrap().unwrap().code), 1008);
    new.expect("heartbeat").await.unwrap();
    let close = new.closed().await.unwrap().expect("a close frame after two silent intervals");
    assert_eq!(u16::from(close.code), 1001);
    site.wait_host("vm112", "silent").await.unwrap();
}

/// An agent of protocol v1 that a test speaks for, with an order sent to it.
async fn with_order(site: &Site, identity: &Identity) -> (Peer, String) {
    let (mut peer, _) = said_hello(site, identity).await;
    site.wait_host("vm112", "online").await.unwrap();
    let id = site.api().propose_command("vm112", "/bin/true", &[]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    assert_eq!(peer.expect("command.exec").await.unwrap()["action_id"], id.as_str());
    (peer, id)
}

async fn plan_hash(site: &Site, id: &str) -> Value {
    site.api().get(&format!("/api/v1/actions/{id}")).await.unwrap()["plan_hash"].clone()
}

fn result(id: &str, hash: &Value, state: &str, reason: Option<&str>) -> Value {
    let mut frame = json!({"method": "action.result", "action_id": id, "plan_hash": hash, "state": state, "ended_at": now(),
        "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 1}});
    if let Some(reason) = reason {
        frame["reason"] = json!(reason);
    }
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_the_host_cannot_take_now_comes_again_and_one_it_cannot_read_is_refused() {
    let (site, identity) = site().await;
    let (mut peer, id) = with_order(&site, &identity).await;
    let hash = plan_hash(&site, &id).await;
    peer.send(&result(&id, &hash, "refused", Some("busy"))).await.unwrap();
    peer.expect("action.ack").await.unwrap();
    let again = peer.expect("command.exec").await.unwrap();
    assert_eq!(again["action_id"], id.as_str());
    let complaint =
        json!({"method": "error", "code": "invalid_frame", "message": "no such field here", "action_id": id});
    peer.send(&complaint).await.unwrap();
    let refused = site.wait_action(&id, &["refused"]).await.unwrap();
    assert_eq!(refused["detail"], "no such field here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_went_backward_ends_what_was_sent_and_a_late_outcome_is_appended() {
    let (site, identity) = site().await;
    let (mut peer, id) = with_order(&site, &identity).await;
    let hash = plan_hash(&site, &id).await;
    let journal = json!({"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 7});
    peer.send(&json!({"method": "action.accepted", "action_id": id, "journal": journal})).await.unwrap();
    site.wait_action(&id, &["accepted"]).await.unwrap();
    drop(peer);

    let (mut peer, _) = said_hello(&site, &identity).await;
    let lost = site.wait_action(&id, &["interrupted"]).await.unwrap();
    assert_eq!(lost["reason_code"], "journal_changed");
    let mut late = result(&id, &hash, "done", None);
    late["outcome"] = json!({"exit_code": 0, "stdout": "late", "stderr": "", "truncated": false, "duration_ms": 5});
    peer.send(&late).await.unwrap();
    peer.expect("action.ack").await.unwrap();
    let action = site.api().get(&format!("/api/v1/actions/{id}")).await.unwrap();
    assert_eq!((&action["state"], &action["outcome"]["stdout"]), (&json!("interrupted"), &json!("late")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_for_a_host_that_is_away_goes_out_before_its_order() {
    let (site, identity) = site().await;
    let (peer, id) = with_order(&site, &identity).await;
    drop(peer);
    site.wait_host("vm112", "silent").await.unwrap();
    site.api().post(&format!("/api/v1/actions/{id}/cancel"), json!({"comment": "chega"})).await.unwrap();
    let (mut peer, _) = said_hello(&site, &identity).await;
    let mut methods = Vec::new();
    while methods.len() < 2 {
        let frame = peer.receive().await.unwrap();
        if frame["action_id"] == id.as_str() {
            methods.push(frame["method"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(methods, ["action.cancel", "command.exec"]);
    let hash = plan_hash(&site, &id).await;
    peer.send(&result(&id, &hash, "refused", Some("cancelled"))).await.unwrap();
    site.wait_action(&id, &["cancelled"]).await.unwrap();
}
