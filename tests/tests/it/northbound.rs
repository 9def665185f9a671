//! The API: who may, what is refused, and in which words.

use std::time::Duration;

use farol_tests::{Site, process, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{QUIET, SHELL_POLICY, registry_with_portal};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_enough_token_nothing_but_health_and_the_documents_answers() {
    let site = Site::start(&registry_with_portal("http://127.0.0.1:1/"), &[]).await.unwrap();
    let anonymous = site.api().with_token(None);
    let (status, health) = anonymous.call(Method::GET, "/api/v1/agents/health", None).await.unwrap();
    assert_eq!((status.as_u16(), &health["status"]), (200, &json!("ok")), "{health}");
    let (status, problem) = anonymous.call(Method::GET, "/api/v1/hosts", None).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("unauthenticated")));
    let wrong = site.api().with_token(Some("farol_0000"));
    let (status, problem) = wrong.call(Method::GET, "/api/v1/hosts", None).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("unauthenticated")));

    let short = site.token("short", "devops", Some("100ms")).await.unwrap();
    let short = site.api().with_token(Some(&short));
    wait_until("the token to expire", Duration::from_secs(10), async || {
        let (status, problem) = short.call(Method::GET, "/api/v1/hosts", None).await?;
        Ok((status == 401 && problem["code"] == "token_expired").then_some(()))
    })
    .await
    .unwrap();

    let weak = site.token("weak", "technician", None).await.unwrap();
    let weak = site.api().with_token(Some(&weak));
    assert!(weak.get("/api/v1/hosts").await.is_ok());
    let run = weak.call(Method::POST, "/api/v1/agents/runs/agent.silence", Some(json!({}))).await.unwrap();
    assert_eq!((run.0.as_u16(), &run.1["code"]), (403, &json!("forbidden")));
    // A token is looked at before the body is.
    let (status, _) = anonymous.call(Method::POST, "/api/v1/actions", Some(json!("nonsense"))).await.unwrap();
    assert_eq!(status.as_u16(), 401);
    let (status, _) = weak.call(Method::POST, "/api/v1/actions/x/approve", Some(json!("nonsense"))).await.unwrap();
    assert_eq!(status.as_u16(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_framework_rejects_is_a_problem_with_a_code_too() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let call = async |method: Method, path: &str, body: Option<Value>| {
        let (status, problem) = site.api().call(method, path, body).await.unwrap();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{path}: {problem}");
        (status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    };
    let not_found = (404, "not_found".to_owned());
    assert_eq!(call(Method::GET, "/nothing/here", None).await, not_found);
    assert_eq!(call(Method::GET, "/api/v1/findings/unheard-of", None).await, not_found);
    assert_eq!(call(Method::DELETE, "/api/v1/hosts", None).await, (405, "method_not_allowed".to_owned()));
    assert_eq!(call(Method::GET, "/api/v1/hosts?colour=blue", None).await.1, "invalid_query");
    assert_eq!(call(Method::GET, "/api/v1/findings?limit=0", None).await.1, "invalid_query");
    assert_eq!(call(Method::GET, "/api/v1/actions/not-a-uuid", None).await.1, "invalid_path");
    let body = json!({"host": "vm112", "kind": "command.exec", "params": {}, "reason": "x", "sudo": true});
    assert_eq!(call(Method::POST, "/api/v1/actions", Some(body)).await.1, "invalid_body");
    let huge = json!({"host": "vm112", "reason": "x".repeat(1 << 20)});
    assert_eq!(call(Method::POST, "/api/v1/actions", Some(huge)).await, (413, "body_too_large".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_bound_to_the_plan_and_decided_once() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    agent.stop().await.unwrap();
    let id = site.api().propose_command("vm112", "/bin/sh", &["-c", "true"]).await.unwrap();
    let path = format!("/api/v1/actions/{id}");
    let action = site.api().get(&path).await.unwrap();
    let decide = async |verb: &str, hash: &Value| {
        let body = json!({"plan_hash": hash, "comment": "ok"});
        let (status, answer) = site.api().call(Method::POST, &format!("{path}/{verb}"), Some(body)).await.unwrap();
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(decide("approve", &json!("0".repeat(64))).await, (409, "plan_mismatch".to_owned()));
    assert_eq!(decide("approve", &action["plan_hash"]).await.0, 200);
    assert_eq!(decide("approve", &action["plan_hash"]).await.0, 409);
    assert_eq!(decide("reject", &action["plan_hash"]).await.0, 409);

    let refused = site.api().propose_command("vm123", "/bin/true", &[]).await.unwrap_err().to_string();
    assert!(refused.contains("farol host add vm123"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_hosts_unsigned_class_an_approval_without_signature_is_refused() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let policy = "version: 1\ncommands: [{command: /bin/true, args: [], class: R2}]\n";
    let _agent = site.agent("vm112", Some(policy)).await.unwrap();
    let id = site.api().propose_command("vm112", "/bin/true", &[]).await.unwrap();
    let action = site.api().get(&format!("/api/v1/actions/{id}")).await.unwrap();
    let body = json!({"plan_hash": action["plan_hash"], "comment": "ok"});
    let (status, problem) =
        site.api().call(Method::POST, &format!("/api/v1/actions/{id}/approve"), Some(body)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("signature_required")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fourteen_endpoints_answer_in_their_fixed_shapes() {
    let site = Site::start(QUIET, &[("OPS_INTERNAL_TOKEN", "cron-secret")]).await.unwrap();
    let agents = |path: &str| format!("/api/v1/agents/{path}");
    let roster = site.api().items(&agents("roster")).await.unwrap();
    let ids: Vec<&str> = roster.iter().map(|member| member["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["A0", "A1", "A2", "A3", "A4", "A5", "A6", "A7", "vigia", "curador"]);
    assert_eq!(
        (&roster[3]["codename"], &roster[3]["inbox_roles"]),
        (&json!("deliverability"), &json!(["seo", "technician"]))
    );
    assert_eq!(roster[9]["inbox_roles"], json!([]));
    for list in ["inbox", "threads", "scenarios", "findings", "action-log"] {
        let answer = site.api().get(&agents(list)).await.unwrap();
        assert!(answer["items"].is_array() && answer.get("next_cursor").is_some(), "{list}: {answer}");
    }

    let tick = async |token: Option<&str>| {
        let header = token.map(|token| ("X-Ops-Internal-Token", token));
        site.api().with_token(None).raw(Method::POST, &agents("internal/tick"), header).await.unwrap().0.as_u16()
    };
    assert_eq!((tick(None).await, tick(Some("guess")).await, tick(Some("cron-secret")).await), (401, 401, 202));
    let chat = site.api().post(&agents("chat"), json!({"message": "olá"})).await.unwrap();
    assert_eq!(chat["source"], "t0");
    assert!(chat["reply"].as_str().unwrap().len() > 10);
    let (status, _) = site.api().call(Method::POST, &agents("runs/unheard.of"), Some(json!({}))).await.unwrap();
    assert_eq!(status.as_u16(), 404);

    let document = site.api().with_token(None).get("/api/openapi.json").await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/roster",
        "/inbox",
        "/threads",
        "/threads/{id}/messages",
        "/threads/{id}/reply",
        "/messages/{id}/ack",
        "/health",
        "/scenarios",
        "/findings",
        "/findings/{id}/ack",
        "/action-log",
        "/runs/{scenario_id}",
        "/chat",
        "/internal/tick",
    ] {
        assert!(document["paths"].get(format!("/api/v1/agents{path}")).is_some(), "{path} is not documented");
    }
    let (_, metrics) = site.api().raw(Method::GET, "/metrics", None).await.unwrap();
    assert!(metrics.contains("farol_hosts") && metrics.contains("farol_batches_total"), "{metrics}");
    let (status, _) = site.api().raw(Method::GET, "/api/docs/", None).await.unwrap();
    assert_eq!(status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_runs_a_scenario_and_the_thread_of_its_finding_takes_an_answer() {
    let registry = "version: 1
hosts: [{name: vm122}]
scenarios:
  - {id: s1, title: Porta, persona: A2, severity: low, hosts: [vm122], every: 1h, attempts: 1,
     checks: [{name: c, probe: {tcp: {address: '127.0.0.1:1'}}}]}
";
    let site = Site::start(registry, &[]).await.unwrap();
    let run = site.api().post("/api/v1/agents/runs/s1", json!({})).await.unwrap();
    assert!(run["run_id"].is_string(), "{run}");
    let finding = site.wait_finding("a finding", |finding| finding["scenario"] == "s1").await.unwrap();
    let thread = finding["thread_id"].as_str().unwrap();
    let reply = json!({"text": "estou olhando"});
    site.api().post(&format!("/api/v1/agents/threads/{thread}/reply"), reply).await.unwrap();
    let messages = site.api().items(&format!("/api/v1/agents/threads/{thread}/messages")).await.unwrap();
    let answer = messages.iter().find(|message| message["kind"] == "reply").unwrap();
    assert_eq!((&answer["author_kind"], &answer["body"]), (&json!("person"), &json!("estou olhando")));

    let devops = site.token("devops", "devops", None).await.unwrap();
    let devops = site.api().with_token(Some(&devops));
    let inbox = devops.items("/api/v1/agents/inbox").await.unwrap();
    let opened = inbox.iter().find(|message| message["kind"] == "finding").expect("A2 speaks to devops");
    let ack = format!("/api/v1/agents/messages/{}/ack", opened["id"].as_str().unwrap());
    devops.post(&ack, json!({})).await.unwrap();
    let after = devops.items("/api/v1/agents/inbox").await.unwrap();
    assert!(after.iter().all(|message| message["id"] != opened["id"]), "an archived message is still in the inbox");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_changes_are_streamed_and_a_watcher_resumes() {
    let registry = "version: 1
hosts: [{name: vm122}]
scenarios:
  - {id: s1, title: Porta, persona: A2, severity: low, hosts: [vm122], every: 1h, attempts: 1,
     checks: [{name: c, probe: {tcp: {address: '127.0.0.1:1'}}}]}
";
    let site = Site::start(registry, &[]).await.unwrap();
    let token = site.token("watcher", "technician", None).await.unwrap();
    let watch = async |last: Option<&str>, until: &str| {
        let address = site.api().base().trim_start_matches("http://").to_owned();
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let request =
            format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut text, mut bytes, mut asked) = (String::new(), [0; 4096], !last.is_empty());
        while !text.contains(until) {
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            // Once, whatever else is told meanwhile.
            if text.contains("HTTP/1.1 200") && !std::mem::replace(&mut asked, true) {
                site.api().post("/api/v1/agents/runs/s1", json!({})).await.unwrap();
            }
        }
        text
    };
    let text = watch(None, "event: finding").await;
    assert!(text.contains("text/event-stream"), "{text}");
    let id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().trim().to_owned();
    // Something happens while nobody watches.
    let findings = site.api().items("/api/v1/findings").await.unwrap();
    let finding = findings[0]["id"].as_str().unwrap();
    site.api().post(&format!("/api/v1/agents/findings/{finding}/ack"), json!({})).await.unwrap();
    watch(Some(&id), "event: finding").await;
    watch(Some("another-life-7"), "event: resync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_registry_policy_or_configuration_stops_the_start_with_its_place() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let registry = site.folder().join("bad.yaml");
    std::fs::write(&registry, "version: 1\nhosts:\n  - {name: vm112, sit: lab}\n").unwrap();
    let mut serve = site.farol(&["serve"]).unwrap();
    serve.env("FAROL_REGISTRY", &registry).env("FAROL_DATA_DIR", site.folder().join("other"));
    let output = serve.output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("line 3") && error.contains("column") && error.contains("did you mean `site`"), "{error}");

    let agent = site.enrol("vm112", Some("version: 1\ncommands:\n  - {command: /bin/true, clas: R2}\n")).await.unwrap();
    let mut run = agent.command(&["run"]).unwrap();
    run.arg("--policy").arg(agent.policy());
    let output = run.output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("line 3") || error.contains(":3:"), "{error}");

    let mut bad = site.farol(&["serve"]).unwrap();
    bad.env("FAROL_HTTP_ADDR", "nowhere");
    let error = process::output(&mut bad).await.unwrap_err().to_string();
    assert!(error.contains("FAROL_HTTP_ADDR"), "{error}");
}
