//! Every kind of order through real processes, and what is seen of it.

use farol_tests::{Site, process, site::PATIENCE, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::QUIET;

const FINAL: &[&str] = &["done", "failed", "timed_out", "cancelled", "refused", "interrupted"];
const OLD: &str = "listen 80\nname old\n";
const NEW: &str = "listen 80\nname new\n";
/// SHA-256 of [`OLD`], by another program than the one under test.
const OLD_SHA256: &str = "a824aa8edb39b15bc361a8675ce0576e9f6412e1288a4a685aaf42f62f3df51c";

async fn propose(site: &Site, kind: &str, params: Value) -> String {
    let body = json!({"host": "vm112", "kind": kind, "params": params, "reason": "test"});
    let action = site.api().post("/api/v1/actions", body).await.unwrap();
    action["action_id"].as_str().unwrap().to_owned()
}

/// Proposes, approves and waits for the end.
async fn run(site: &Site, kind: &str, params: Value) -> Value {
    let id = propose(site, kind, params).await;
    site.api().approve(&id).await.unwrap();
    site.wait_action(&id, FINAL).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_compared_changed_and_put_back_and_a_log_is_read() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let folder = std::fs::canonicalize(site.folder()).unwrap().join("etc");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("app.conf");
    std::fs::write(&path, OLD).unwrap();
    std::fs::write(folder.join("app.log"), "2026-01-01T00:00:00Z one\n2026-01-02T00:00:00Z two\n").unwrap();
    let shown = folder.display();
    let policy = format!("version: 1\nmax_unsigned_class: R2\npaths: {{read: [{shown}], write: [{shown}]}}\n");
    let _agent = site.agent("vm112", Some(&policy)).await.unwrap();
    let content = || std::fs::read_to_string(&path).unwrap();

    let diff = run(&site, "file.diff", json!({"path": path, "want": NEW})).await;
    assert_eq!((&diff["state"], &diff["risk_class"]), (&json!("done"), &json!("R0")), "{diff}");
    let file = &diff["outcome"]["file"];
    assert_eq!((&file["before_sha256"], &file["applied"]), (&json!(OLD_SHA256), &json!(false)), "{file}");
    let patch = file["patch"].as_str().unwrap();
    assert!(patch.contains("-name old\n+name new\n"), "{patch}");

    let apply = json!({"path": path, "patch": patch, "expected_sha256": OLD_SHA256});
    let applied = run(&site, "file.apply", apply.clone()).await;
    assert_eq!((&applied["state"], &applied["risk_class"]), (&json!("done"), &json!("R2")), "{applied}");
    assert_eq!(content(), NEW);
    let plan: Value = serde_json::from_str(applied["plan"].as_str().unwrap()).unwrap();
    assert_eq!(plan["pre_state"], json!({"file_sha256": OLD_SHA256}));

    let again = run(&site, "file.apply", apply).await;
    assert_eq!((&again["state"], &again["reason_code"]), (&json!("refused"), &json!("pre_state_changed")), "{again}");

    let rollback = run(&site, "file.rollback", json!({"action_id": applied["action_id"]})).await;
    assert_eq!((&rollback["state"], &rollback["outcome"]["file"]["applied"]), (&json!("done"), &json!(true)));
    assert_eq!(content(), OLD);

    let since = json!({"source": {"path": folder.join("app.log")}, "since": "2026-01-01T12:00:00Z"});
    let log = run(&site, "logs.read", since).await;
    assert_eq!((&log["state"], &log["outcome"]["stdout"]), (&json!("done"), &json!("2026-01-02T00:00:00Z two\n")));
    let outside = run(&site, "logs.read", json!({"source": {"path": "/etc/passwd"}})).await;
    assert_eq!((&outside["state"], &outside["reason_code"]), (&json!("refused"), &json!("not_allowed")), "{outside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_writes_is_seen_while_it_runs_and_its_outcome_afterwards() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let go = site.folder().join("go");
    let policy = "version: 1\nmax_unsigned_class: R2\ncommands: [{command: /bin/sh, args: [-c, '*']}]\n";
    let _agent = site.agent("vm112", Some(policy)).await.unwrap();
    let script = format!("echo begun; while ! test -e {}; do sleep 0.05; done; echo ended", go.display());
    let id = propose(&site, "command.exec", json!({"command": "/bin/sh", "args": ["-c", script]})).await;
    let token = site.token("watcher", "devops", None).await.unwrap();
    let mut follow = site.farol(&["actions", "show", &id, "--follow"]).unwrap();
    follow.env("FAROL_URL", site.api().base()).env("FAROL_TOKEN", token);
    let following = tokio::spawn(async move { process::output(&mut follow).await.unwrap() });
    site.api().approve(&id).await.unwrap();

    let running = wait_until("the first output", PATIENCE, async || {
        let action = site.api().get(&format!("/api/v1/actions/{id}")).await?;
        Ok((action["output"].is_array() && action["state"] == "accepted").then_some(action))
    })
    .await
    .unwrap();
    assert_eq!(running["output"], json!([{"n": 1, "stream": "stdout", "text": "begun\n"}]));
    assert_eq!(running["outcome"], Value::Null);

    std::fs::write(&go, "").unwrap();
    let done = site.wait_action(&id, FINAL).await.unwrap();
    assert_eq!((&done["output"], &done["outcome"]["stdout"]), (&Value::Null, &json!("begun\nended\n")), "{done}");
    let printed = following.await.unwrap();
    assert!(printed.contains("begun\nended\n") && printed.contains("State     done"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_not_asked_for_what_it_does_not_take() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let _agent = site.agent("vm112", Some("version: 1\n")).await.unwrap();
    let hosts = site.data_dir().join("state.db");
    let mut state = {
        use sqlx::Connection as _;
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", hosts.display())).await.unwrap()
    };
    sqlx::query("update host set capabilities = 'command.exec,action.cancel' where name = 'vm112'")
        .execute(&mut state)
        .await
        .unwrap();
    let body = json!({"host": "vm112", "kind": "logs.read", "params": {"source": {"unit": "x"}}, "reason": "test"});
    let (status, problem) = site.api().call(Method::POST, "/api/v1/actions", Some(body)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("refused")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("does not take logs.read"), "{problem}");
}
