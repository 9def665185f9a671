//! `POST /ingest` as an older program sends it: a request as text.

use farol_tests::{Site, process, signed::Client};
use serde_json::{Value, json};

use crate::support::QUIET;

fn body(hostname: &str, timestamp: &str) -> Value {
    json!({"hostname": hostname, "timestamp": timestamp, "processes": "1 init 0.0 0.1", "netstat": "Total: 12",
        "iostat": "", "os": {"hostname": hostname, "load": [0.5, 0.25, 0.1],
        "mem": {"total": 4_294_967_296_u64, "free": 1_073_741_824_u64}}})
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_stored_once_with_the_hosts_time_whichever_way_it_proves_itself() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let north = site.api().base().strip_prefix("http://").unwrap();
    let api_token = site.token("collector", "devops", None).await.unwrap();

    let times = ["09:00:00", "09:00:30", "09:01:00", "09:01:30", "09:02:00"].map(|at| format!("2026-11-20T{at}-03:00"));
    let [first, second, third, fourth, fifth] = times.map(|at| body("vm112", &at).to_string());
    for _ in 0..2 {
        let host = Client::plain(north, "POST", "/ingest", &bearer(&client.token), &first).await.unwrap();
        assert_eq!((host.status, &host.body["ok"]), (200, &json!(true)), "{host:?}");
    }
    let anyone = Client::plain(north, "POST", "/ingest", &bearer(&api_token), &second).await.unwrap();
    assert_eq!(anyone.status, 200, "{anyone:?}");
    let headers = client.headers("POST", "/ingest", &third);
    let signed = Client::plain(north, "POST", "/ingest", &headers, &third).await.unwrap();
    assert_eq!(signed.status, 200, "{signed:?}");
    let again = Client::plain(north, "POST", "/ingest", &headers, &third).await.unwrap();
    assert_eq!((again.status, &again.body["code"]), (401, &json!("replayed")));
    assert_eq!(client.call("POST", "/ingest", &fifth).await.unwrap().status, 200);
    assert_eq!(client.send("POST", "/ingest", &bearer(&client.token), &fourth).await.unwrap().status, 200);

    let host = site.wait_host("vm112", "online").await.unwrap();
    assert!(host["last_seen"].is_string());
    let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
    assert_eq!(host["received"], 5, "a repeat was counted, or a post was lost");
    assert_eq!(host["metrics"]["load"], json!([0.5, 0.25, 0.1]));
    assert_eq!(host["metrics"]["memory"], json!({"used": 3_221_225_472_u64, "total": 4_294_967_296_u64}));
    assert_eq!(host["metrics"]["texts"]["netstat"], "Total: 12");
    // The newest by the host's own time, although an older one came after it.
    assert_eq!(host["metrics_at"], "2026-11-20T12:02:00.000Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_cannot_be_taken_is_told_what_to_do() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let north = site.api().base().strip_prefix("http://").unwrap();
    let api_token = site.token("collector", "devops", None).await.unwrap();
    let weak = site.token("reader", "seo", None).await.unwrap();
    let at = "2026-11-20T12:00:00Z";
    let refused = async |headers: &str, body: &Value| {
        let reply = Client::plain(north, "POST", "/ingest", headers, &body.to_string()).await.unwrap();
        let detail = reply.body["detail"].as_str().unwrap_or_default().to_owned();
        (reply.status, reply.body["code"].as_str().unwrap_or_default().to_owned(), detail)
    };
    let (status, code, detail) = refused(&bearer(&api_token), &body("nobody", at)).await;
    assert_eq!((status, code.as_str()), (404, "unknown_host"));
    assert!(detail.contains("farol host add nobody"), "{detail}");
    assert_eq!(refused("", &body("vm112", at)).await.1, "unauthenticated");
    assert_eq!(refused(&bearer("farol_unknown"), &body("vm112", at)).await.0, 401);
    assert_eq!(refused(&bearer(&format!("{}x", client.token)), &body("vm112", at)).await.0, 401);
    assert_eq!(refused(&bearer(&weak), &body("vm112", at)).await.1, "forbidden");
    assert_eq!(refused(&bearer(&client.token), &body("vm123", at)).await.1, "wrong_host");
    let (status, code, detail) = refused(&bearer(&api_token), &body("vm112", "yesterday")).await;
    assert_eq!((status, code.as_str()), (422, "invalid_body"));
    assert!(detail.contains("`timestamp`"), "{detail}");
    let large = json!({"hostname": "vm112", "processes": "x".repeat(300_000)});
    assert_eq!(refused(&bearer(&api_token), &large).await.1, "body_too_large");

    // The host's own credentials are good for the name it gives itself.
    let full = body("vm112.lan", at).to_string();
    let taken = Client::plain(north, "POST", "/ingest", &bearer(&client.token), &full).await.unwrap();
    assert_eq!(taken.body["host"], "vm112");

    // A token of telemetry is no signature, and opens nothing else.
    let reply = Client::plain(north, "GET", "/api/v1/hosts", &bearer(&client.token), "").await.unwrap();
    assert_eq!(reply.status, 401);
    process::output(&mut site.farol(&["host", "key", "revoke", &client.key]).unwrap()).await.unwrap();
    farol_tests::wait_until("the token to be refused", std::time::Duration::from_secs(2), async || {
        Ok((refused(&bearer(&client.token), &body("vm112", at)).await.0 == 401).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_only_posts_falls_silent_and_comes_back() {
    let registry = "version: 1
hosts: [{name: vm112}]
silence: {after: 2s, persona: A1, severity: high}
";
    let site = Site::start(registry, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let post = async |at: &str| assert_eq!(client.post("/ingest", &body("vm112", at)).await.unwrap().status, 200);
    post("2026-11-20T12:00:00Z").await;
    site.wait_host("vm112", "online").await.unwrap();
    site.wait_host("vm112", "silent").await.unwrap();
    site.wait_finding("its silence", |finding| finding["state"] == "open").await.unwrap();
    farol_tests::wait_until("the finding to resolve", farol_tests::site::PATIENCE, async || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() % 60_000;
        post(&format!("2026-11-20T13:00:{:02}.{:03}Z", now / 1000, now % 1000)).await;
        let findings = site.api().items("/api/v1/findings?state=all").await?;
        Ok(findings.iter().all(|finding| finding["state"] == "resolved").then_some(()))
    })
    .await
    .unwrap();
}
