//! A client written from the older contract alone: JSON literals, no crate of
//! Farol's protocol.

use farol_tests::{Site, peer::Identity};
use serde_json::json;

use crate::support::QUIET;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_older_contract_says_hello_pushes_and_runs_a_command() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peer = identity.connect(site.southbound()).await.unwrap();

    peer.send(&json!({"method": "hello", "agent_id": "vm112", "name": "vm112", "version": "1.0",
        "capabilities": ["command.exec", "telemetry.push"], "timestamp": "2026-11-20T12:00:00Z"}))
        .await
        .unwrap();
    let answer = peer.receive().await.unwrap();
    assert_eq!(answer["ok"], true);
    assert!(answer["policy"]["timeouts"]["exec"].is_u64(), "{answer}");
    assert!(answer["policy"]["max_payload"].is_u64(), "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 2, "more than the contract's fields: {answer}");
    site.wait_host("vm112", "online").await.unwrap();

    let push = json!({"method": "telemetry.push", "action_id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a",
        "payload": {"load": [0.1, 0.2, 0.3], "anything": {"goes": true}}, "ts": "2026-11-20T12:00:01Z"});
    for _ in 0..2 {
        peer.send(&push).await.unwrap();
        assert_eq!(peer.receive().await.unwrap()["ok"], true);
    }
    peer.send(&json!({"method": "telemetry.push", "action_id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b",
        "payload": {}, "ts": "2026-11-20T12:00:01Z", "urgent": true}))
        .await
        .unwrap();
    let refused = peer.receive().await.unwrap();
    assert_eq!(refused["ok"], false, "a payload outside the contract was taken");
    assert!(refused["error"].as_str().unwrap().contains("urgent"), "{refused}");

    let action = site.api().propose_command("vm112", "/usr/bin/uptime", &["-p"]).await.unwrap();
    site.api().approve(&action).await.unwrap();
    let order = peer.receive().await.unwrap();
    assert_eq!(
        order,
        json!({"method": "command.exec", "action_id": action, "command": "/usr/bin/uptime", "args": ["-p"],
            "timeout": 30_000, "cwd": "/"})
    );
    peer.send(&json!({"ok": true, "exit_code": 0, "stdout": "up 1 day\n", "stderr": ""})).await.unwrap();
    let done = site.wait_action(&action, &["done"]).await.unwrap();
    assert_eq!(done["outcome"]["stdout"], "up 1 day\n");
    assert_eq!(done["outcome"]["exit_code"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_names_its_action_is_matched_by_it_and_a_repeat_changes_nothing() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let hello = json!({"method": "hello", "agent_id": "vm112", "capabilities": ["command.exec"]});
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    peer.send(&hello).await.unwrap();
    peer.receive().await.unwrap();

    let action = site.api().propose_command("vm112", "false", &[]).await.unwrap();
    site.api().approve(&action).await.unwrap();
    let first = peer.receive().await.unwrap();
    drop(peer);
    site.wait_host("vm112", "silent").await.unwrap();
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    peer.send(&hello).await.unwrap();
    peer.receive().await.unwrap();
    assert_eq!(peer.receive().await.unwrap(), first, "an order without an outcome goes out again under its id");

    peer.send(&json!({"ok": false, "action_id": action, "exit_code": 1, "stdout": "", "stderr": "no"})).await.unwrap();
    let failed = site.wait_action(&action, &["failed"]).await.unwrap();
    peer.send(&json!({"ok": true, "action_id": action, "exit_code": 0})).await.unwrap();
    peer.send(&json!({"method": "telemetry.push", "action_id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a",
        "payload": {}, "ts": "2026-11-20T12:00:01Z"}))
        .await
        .unwrap();
    assert_eq!(peer.receive().await.unwrap()["ok"], true);
    let after = site.api().get(&format!("/api/v1/actions/{action}")).await.unwrap();
    assert_eq!(after["outcome"], failed["outcome"], "the first outcome stands");
    assert_eq!(after["state"], "failed");
}
