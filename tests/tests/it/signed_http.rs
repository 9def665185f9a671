//! Signed HTTP as a client meets it that was written from the specification.

use std::time::{Duration, Instant};

use farol_tests::{Site, process, signed::Client, wait_until};
use serde_json::{Value, json};

use crate::support::QUIET;

const STREAM: &str = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4c";

fn hello() -> Value {
    json!({"method": "hello", "agent_id": "vm112", "name": "vm112", "version": "x", "capabilities": ["command.exec"],
        "timestamp": "2026-11-20T12:00:00Z", "protocol": {"min": 1, "max": 1},
        "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0}, "stream": STREAM,
        "max_unsigned_class": "R2", "effects_allowed": true})
}

fn push(seq: u64) -> Value {
    json!({"method": "telemetry.push", "stream": STREAM, "seq": seq, "ts": "2026-11-20T12:00:00Z",
        "payload": {"metrics": {"load": [0.5, 0.25, 0.1]}}})
}

/// Says hello and gives the session's id.
async fn begin(client: &Client) -> String {
    let answer = client.post("/southbound/v1/hello", &hello()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["session_id"].as_str().unwrap().to_owned()
}

/// Polls as an agent does until a frame with `method` comes. A peer of the
/// older contract knows no session, so it cannot say which frames it has.
async fn expect(client: &Client, session: Option<&str>, method: &str) -> Value {
    let mut after = 0;
    loop {
        let came = session.map(|session| format!("&after={after}&session={session}")).unwrap_or_default();
        let reply = client.call("GET", &format!("/southbound/v1/orders?wait=25{came}"), "").await.unwrap();
        if reply.status == 204 {
            continue;
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        if reply.body["method"] == method {
            return reply.body;
        }
        after = reply.header("farol-frame").unwrap().parse().unwrap();
    }
}

async fn host(site: &Site) -> Value {
    site.api().get("/api/v1/hosts/vm112").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_pushes_runs_an_order_and_is_seen_as_any_other() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let answer = client.post("/southbound/v1/hello", &hello()).await.unwrap();
    assert_eq!((answer.status, &answer.body["ok"], &answer.body["committed_seq"]), (200, &json!(true), &json!(0)));
    let session = answer.body["session_id"].as_str().unwrap().to_owned();
    let seen = site.wait_host("vm112", "online").await.unwrap();
    assert_eq!(seen["protocol"], 1);
    expect(&client, Some(&session), "checks.assign").await;

    for seq in [1, 2, 2] {
        let ack = client.post(&format!("/southbound/v1/telemetry?session={session}"), &push(seq)).await.unwrap();
        assert_eq!((ack.status, &ack.body["method"], &ack.body["seq"]), (200, &json!("telemetry.ack"), &json!(seq)));
    }
    let after = host(&site).await;
    assert_eq!((&after["received"], &after["metrics"]["load"][0]), (&json!(2), &json!(0.5)));

    let polling = tokio::spawn({
        let (client, session) = (client.clone(), session.clone());
        async move { expect(&client, Some(&session), "command.exec").await }
    });
    let action = site.api().propose_command("vm112", "/usr/bin/uptime", &[]).await.unwrap();
    site.api().approve(&action).await.unwrap();
    let order = polling.await.unwrap();
    assert_eq!(order["action_id"], action.as_str());

    let journal = |seq: u64| json!({"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": seq});
    let accepted = json!({"method": "action.accepted", "action_id": action, "journal": journal(1)});
    assert_eq!(client.post("/southbound/v1/action", &accepted).await.unwrap().status, 204);
    site.wait_action(&action, &["accepted"]).await.unwrap();
    let plan_hash = site.api().get(&format!("/api/v1/actions/{action}")).await.unwrap()["plan_hash"].clone();
    let result = json!({"method": "action.result", "action_id": action, "plan_hash": plan_hash, "state": "done",
        "outcome": {"exit_code": 0, "stdout": "up", "stderr": "", "truncated": false, "duration_ms": 5},
        "ended_at": "2026-11-20T12:00:01Z", "journal": journal(2)});
    for _ in 0..2 {
        let ack = client.post("/southbound/v1/action", &result).await.unwrap();
        assert_eq!(ack.body, json!({"method": "action.ack", "action_id": action}));
    }
    let done = site.wait_action(&action, &["done"]).await.unwrap();
    assert_eq!(done["outcome"]["stdout"], "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acceptable_is_refused_with_the_code_of_the_specification() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let target = "/southbound/v1/telemetry";
    let body = push(1).to_string();
    let early = client.call("POST", target, &body).await.unwrap();
    assert_eq!((early.status, &early.body["code"]), (409, &json!("no_session")));

    assert_eq!(client.post("/southbound/v1/hello", &hello()).await.unwrap().status, 200);
    let headers = client.headers("POST", target, &body);
    let refused = async |headers: &str, body: &str| {
        let reply = client.send("POST", target, headers, body).await.unwrap();
        assert!(reply.header("farol-time").unwrap().parse::<i64>().unwrap() > 0);
        (reply.status, reply.body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refused("", &body).await, (401, "signature_missing".to_owned()));
    assert_eq!(refused(&headers.replace("Farol-Nonce: ", "Farol-Nonce: x y"), &body).await.1, "signature_malformed");
    assert_eq!(refused(&headers, &push(2).to_string()).await.1, "bad_signature");
    let unknown = Client { key: "nobody".to_owned(), ..client.clone() };
    assert_eq!(refused(&unknown.headers("POST", target, &body), &body).await.1, "unknown_key");
    // What was refused used up nothing: the very request is good, once.
    assert_eq!(client.send("POST", target, &headers, &body).await.unwrap().status, 200);
    assert_eq!(refused(&headers, &body).await, (401, "replayed".to_owned()));

    // A clock far off is told the time, and with it the request is taken.
    let mut late = Client { clock_off_ms: -3_600_000, ..client.clone() };
    let told = late.post(target, &push(2)).await.unwrap();
    assert_eq!((told.status, &told.body["code"]), (401, &json!("clock_skew")));
    let theirs: i64 = told.header("farol-time").unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    late.clock_off_ms = theirs - i64::try_from(now).unwrap();
    assert_eq!(late.post(target, &push(2)).await.unwrap().status, 200);

    let hole = client.post(target, &push(9)).await.unwrap();
    assert_eq!((hole.status, &hole.body["code"]), (409, &json!("seq_gap")));
    let over = client.post(target, &push(3)).await.unwrap();
    assert_eq!(over.body["code"], "no_session", "the session went on after a hole");
    for (bad, status, code) in [(json!({"method": "heartbeat"}), 422, "unexpected"), (json!("text"), 422, "not_json")] {
        client.post("/southbound/v1/hello", &hello()).await.unwrap();
        let reply = client.post(target, &bad).await.unwrap();
        assert_eq!((reply.status, &reply.body["code"]), (status, &json!(code)), "{bad}");
    }
    let mut field = push(3);
    field["urgent"] = json!(true);
    let reply = client.post(target, &field).await.unwrap();
    assert_eq!((reply.status, &reply.body["code"]), (422, &json!("invalid_frame")));
    let other = json!({"method": "hello", "agent_id": "vm123"});
    let reply = client.post("/southbound/v1/hello", &other).await.unwrap();
    assert_eq!((reply.status, &reply.body["code"]), (403, &json!("wrong_identity")));
    let large = client.call("POST", target, &"x".repeat((1 << 20) + 1)).await;
    // The answer may be lost with the rest of the body that nobody reads.
    if let Ok(large) = large {
        assert_eq!(large.body["code"], "body_too_large");
    }
    assert_eq!(client.call("GET", target, "").await.unwrap().status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_taken_once_also_by_a_coordinator_that_began_anew() {
    let mut site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let body = hello().to_string();
    let headers = client.headers("POST", "/southbound/v1/hello", &body);
    assert_eq!(client.send("POST", "/southbound/v1/hello", &headers, &body).await.unwrap().status, 200);
    site.kill_coordinator().await.unwrap();
    site.start_coordinator().await.unwrap();
    let again = client.send("POST", "/southbound/v1/hello", &headers, &body).await.unwrap();
    assert_eq!((again.status, &again.body["code"]), (401, &json!("replayed")));
    assert_eq!(client.post("/southbound/v1/telemetry", &push(1)).await.unwrap().body["code"], "no_session");
    assert_eq!(client.post("/southbound/v1/hello", &hello()).await.unwrap().body["committed_seq"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_exchanged_without_a_pause_and_a_revoked_one_is_refused_at_once() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let old = Client::new(&site, "vm112").await.unwrap();
    let new = Client::new(&site, "vm112").await.unwrap();
    assert_eq!(old.post("/southbound/v1/hello", &hello()).await.unwrap().status, 200);
    assert_eq!(new.post("/southbound/v1/telemetry", &push(1)).await.unwrap().status, 200);

    let polling = tokio::spawn({
        let old = old.clone();
        async move {
            loop {
                let reply = old.call("GET", "/southbound/v1/orders?wait=25", "").await.unwrap();
                if reply.status >= 400 {
                    return reply;
                }
            }
        }
    });
    let began = Instant::now();
    process::output(&mut site.farol(&["host", "key", "revoke", &old.key]).unwrap()).await.unwrap();
    let cut = polling.await.unwrap();
    assert!(["no_session", "unknown_key"].contains(&cut.body["code"].as_str().unwrap()), "{cut:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "a session outlived its key by {:?}", began.elapsed());
    let refused = old.post("/southbound/v1/hello", &hello()).await.unwrap();
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!("unknown_key")));
    site.wait_host("vm112", "silent").await.unwrap();
    assert_eq!(new.post("/southbound/v1/hello", &hello()).await.unwrap().status, 200);

    process::output(&mut site.farol(&["host", "revoke", "vm112"]).unwrap()).await.unwrap();
    wait_until("the host's other key to be refused", Duration::from_secs(2), async || {
        let reply = new.post("/southbound/v1/telemetry", &push(2)).await?;
        Ok((reply.body["code"] == "unknown_key").then_some(()))
    })
    .await
    .unwrap();
    let listed = process::json(&mut site.farol(&["host", "key", "list", "vm112", "--json"]).unwrap()).await.unwrap();
    assert!(listed.as_array().unwrap().iter().all(|key| key["revoked_at"].is_string()), "{listed}");
    assert!(!listed.to_string().contains(&new.secret), "a list tells a secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_neither_posts_nor_polls_is_silent_and_a_poll_keeps_it_online() {
    let site = Site::start(QUIET, &[("FAROL_HEARTBEAT", "1s")]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let session = begin(&client).await;
    expect(&client, Some(&session), "checks.assign").await;
    let before = Instant::now();
    let target = format!("/southbound/v1/orders?wait=5&after=1&session={session}");
    let nothing = client.call("GET", &target, "").await.unwrap();
    assert_eq!(nothing.status, 204);
    assert!(before.elapsed() >= Duration::from_secs(5));
    assert_eq!(host(&site).await["state"], "online", "a poll longer than the patience did not count");
    site.wait_host("vm112", "silent").await.unwrap();
    assert_eq!(client.post("/southbound/v1/telemetry", &push(1)).await.unwrap().body["code"], "no_session");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_was_lost_comes_again_until_its_number_is_named() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let session = begin(&client).await;
    let poll =
        async |query: &str| client.call("GET", &format!("/southbound/v1/orders?wait=0&{query}"), "").await.unwrap();
    let first = poll("after=0").await;
    assert_eq!(first.header("farol-frame"), Some("1"));
    // A number alone may be of a session before, whose frames were others.
    let alone = poll("after=1").await;
    assert_eq!((alone.status, &alone.body["code"]), (400, &json!("invalid_query")));
    assert_eq!(poll(&format!("after=0&session={session}")).await.body, first.body);
    assert_eq!(poll(&format!("after=1&session={session}")).await.status, 204);
    let next = begin(&client).await;
    assert_eq!(poll(&format!("after=1&session={session}")).await.body["code"], "no_session");
    assert_eq!(poll(&format!("after=0&session={next}")).await.header("farol-frame"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_older_contract_speaks_it_over_signed_http_too() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let hello = json!({"method": "hello", "agent_id": "vm112", "capabilities": ["command.exec"], "version": "1.0"});
    let answer = client.post("/southbound/v1/hello", &hello).await.unwrap();
    assert_eq!(answer.body.as_object().unwrap().len(), 2, "more than the contract's fields: {answer:?}");
    let push = json!({"method": "telemetry.push", "action_id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a",
        "payload": {"load": [0.1, 0.2, 0.3]}, "ts": "2026-11-20T12:00:01Z"});
    for _ in 0..2 {
        let reply = client.post("/southbound/v1/telemetry", &push).await.unwrap();
        assert_eq!((reply.status, &reply.body["ok"]), (200, &json!(true)), "{reply:?}");
    }
    let action = site.api().propose_command("vm112", "/usr/bin/uptime", &["-p"]).await.unwrap();
    site.api().approve(&action).await.unwrap();
    let order = expect(&client, None, "command.exec").await;
    assert_eq!(order.as_object().unwrap().len(), 6, "more than the contract's fields: {order}");
    let outcome = json!({"ok": true, "exit_code": 0, "stdout": "up 1 day\n", "stderr": ""});
    assert_eq!(client.post("/southbound/v1/action", &outcome).await.unwrap().status, 204);
    let done = site.wait_action(&action, &["done"]).await.unwrap();
    assert_eq!(done["outcome"]["stdout"], "up 1 day\n");
}
