//! `farol-agent doctor` beside a real coordinator.

use std::{path::Path, time::Duration};

use farol_agent::spool::Spool;
use farol_protocol::{Timestamp, telemetry::Telemetry};
use farol_tests::{Agent, Site, process::text, site::free_address, wait_until};
use serde_json::Value;

use crate::support::{QUIET, SHELL_POLICY};

/// The exit code and the document of a doctor's visit.
async fn visit(agent: &Agent) -> (Option<i32>, Value) {
    let mut command = agent.command(&["doctor", "--json", "--language", "en"]).unwrap();
    command.args(["--policy", &text(agent.policy()), "--config", &text(agent.config())]);
    let output = command.output().await.unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), document)
}

fn line<'a>(document: &'a Value, name: &str) -> &'a Value {
    let lines = document["checks"].as_array().unwrap();
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no line {name}: {document}"))
}

#[track_caller]
fn problem(visit: &(Option<i32>, Value), name: &str, words: &str) {
    let (code, document) = visit;
    let line = line(document, name);
    assert_eq!(line["level"], "problem", "{line}");
    assert!(line["text"].as_str().unwrap().contains(words), "{line}");
    assert!(!line["advice"].as_str().unwrap().is_empty(), "{line}");
    assert_eq!((*code, &document["ok"]), (Some(1), &Value::Bool(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_well_is_told_so_while_its_agent_runs_on() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    let connected = async || {
        let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
        host["session_id"].as_str().map(str::to_owned)
    };
    let session = connected().await;
    wait_until("the agent to note that it is connected", Duration::from_secs(20), async || {
        Ok(std::fs::read_to_string(agent.state_dir().join("connection.json"))
            .is_ok_and(|text| text.contains("\"connected\""))
            .then_some(()))
    })
    .await
    .unwrap();
    let (code, document) = visit(&agent).await;
    assert_eq!((code, &document["ok"]), (Some(0), &Value::Bool(true)), "{document}");
    let good = ["identity", "key", "certificate", "state", "space", "spool", "journal", "policy"];
    for name in good.into_iter().chain(["agent", "name", "port", "tls", "accepted", "clock"]) {
        assert_eq!(line(&document, name)["level"], "ok", "{document}");
    }
    assert_eq!(connected().await, session, "the visit replaced the agent's session");

    let mut command = agent.command(&["doctor"]).unwrap();
    command.args(["--policy", &text(agent.policy()), "--config", &text(agent.config())]);
    let output = command.output().await.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("o coordenador aceita este servidor"), "{shown}");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_why_a_host_is_not_let_in_is_named_with_its_remedy() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", Some(SHELL_POLICY)).await.unwrap();
    let (code, document) = visit(&agent).await;
    assert_eq!(code, Some(0), "an agent that is only stopped is no problem: {document}");
    assert_eq!(line(&document, "agent")["level"], "warning");

    // A policy that nobody can follow.
    std::fs::write(agent.policy(), "version: 1\nreadonly: true\n").unwrap();
    problem(&visit(&agent).await, "policy", "did you mean `read_only`");
    std::fs::write(agent.policy(), SHELL_POLICY).unwrap();

    // Another address, where nothing listens; then another coordinator.
    let enrolment = agent.state_dir().join("identity/enrolment.json");
    let own = std::fs::read_to_string(&enrolment).unwrap();
    let moved = |to: std::net::SocketAddr| own.replace(&site.southbound().to_string(), &to.to_string());
    std::fs::write(&enrolment, moved(free_address().await.unwrap())).unwrap();
    problem(&visit(&agent).await, "port", "takes no connection");
    let stranger = Site::start(QUIET, &[]).await.unwrap();
    std::fs::write(&enrolment, moved(stranger.southbound())).unwrap();
    problem(&visit(&agent).await, "tls", "another authority");
    std::fs::write(&enrolment, own).unwrap();

    // A key that others can read.
    mode(&agent.state_dir().join("identity/key.pem"), 0o644);
    problem(&visit(&agent).await, "key", "0644");
    mode(&agent.state_dir().join("identity/key.pem"), 0o600);

    // Revoked.
    farol_tests::process::output(&mut site.farol(&["host", "revoke", "vm112"]).unwrap()).await.unwrap();
    wait_until("the revocation to be seen", Duration::from_secs(10), async || {
        let (_, document) = visit(&agent).await;
        Ok((line(&document, "accepted")["level"] == "problem").then_some(()))
    })
    .await
    .unwrap();
    problem(&visit(&agent).await, "accepted", "key_not_live");
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_seen_with_what_it_lost() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", Some(SHELL_POLICY)).await.unwrap();
    agent.configure("spool_max_bytes: 1048576\n").unwrap();
    let mut spool = Spool::open(&agent.state_dir().join("spool.db"), 1_000).await.unwrap();
    for _ in 0..100 {
        spool.push(Timestamp::now(), Telemetry::default()).await.unwrap();
    }
    spool.close().await;
    let (code, document) = visit(&agent).await;
    let spool = line(&document, "spool");
    assert_eq!((code, &spool["level"]), (Some(0), &Value::from("warning")));
    let said = spool["text"].as_str().unwrap();
    assert!(said.contains("batches were dropped and are not yet told"), "{spool}");
    assert!(spool["advice"].as_str().unwrap().contains("spool_max_bytes"), "{spool}");
}
