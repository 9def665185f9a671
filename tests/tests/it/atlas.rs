//! The published agent of Atlas Ops against Farol: its requests as they are
//! sent, byte for byte, on one connection that it keeps open.

use std::time::Duration;

use anyhow::{Context as _, Result};
use farol_tests::{Site, process, signed::Client, site::PATIENCE, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const REGISTRY: &str = "version: 1
sites:
  - id: lab
    name: Laboratório
    description: Rack da sala
    networks: {lan: {cidr: 10.10.10.0/24, gateway: 10.10.10.1}}
hosts: [{name: vm112, site: lab}, {name: vm123, site: lab}]
";

const SLOW: &[u8] = include_bytes!("../../fixtures/atlas/agent_facts_slow.http");
const CALM: &[u8] = include_bytes!("../../fixtures/atlas/agent_facts_calm.http");
const DOWN: &[u8] = include_bytes!("../../fixtures/atlas/container_down.http");
const RESTARTS: &[u8] = include_bytes!("../../fixtures/atlas/container_restart_count_high.http");

/// One connection of the agent.
struct Agent {
    stream: TcpStream,
    host: String,
    token: String,
}

impl Agent {
    async fn connect(site: &Site, token: &str) -> Result<Self> {
        let host = site.api().base().strip_prefix("http://").context("an address")?.to_owned();
        Ok(Self { stream: TcpStream::connect(&host).await?, host, token: token.to_owned() })
    }

    /// Sends a request as it was captured but for the address and the token,
    /// and reads its answer.
    async fn replay(&mut self, captured: &[u8]) -> Result<(u16, Value)> {
        let split = captured.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("a head")?;
        let head = std::str::from_utf8(&captured[..split])?.replace("HOST", &self.host).replace("TOKEN", &self.token);
        self.stream.write_all(&[head.as_bytes(), &captured[split..]].concat()).await?;
        timeout(PATIENCE, self.answer()).await?
    }

    async fn answer(&mut self) -> Result<(u16, Value)> {
        let mut bytes = Vec::new();
        loop {
            let mut part = [0; 4096];
            let read = self.stream.read(&mut part).await?;
            anyhow::ensure!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&part[..read]);
            let text = String::from_utf8(bytes.clone())?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length: usize = head
                .lines()
                .find_map(|line| {
                    line.to_lowercase().strip_prefix("content-length:").map(|length| length.trim().to_owned())
                })
                .context("no length")?
                .parse()?;
            if body.len() >= length {
                let status = head.split(' ').nth(1).context("no status")?.parse()?;
                return Ok((status, serde_json::from_str(body)?));
            }
        }
    }
}

/// The body of a captured request.
fn body_of(captured: &[u8]) -> Value {
    let text = std::str::from_utf8(captured).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_agents_requests_are_accepted_correlated_and_listed() {
    let site = Site::start(REGISTRY, &[("FAROL_SIGNALS_TOKEN", "a-token-that-agents-share")]).await.unwrap();
    let mut agent = Agent::connect(&site, "a-token-that-agents-share").await.unwrap();

    // Accepted: 201 with the same fields and a number.
    let mut ids = Vec::new();
    for captured in [SLOW, DOWN, RESTARTS] {
        let sent = body_of(captured);
        let (status, stored) = agent.replay(captured).await.unwrap();
        assert_eq!(status, 201, "{stored}");
        ids.push(stored["id"].as_i64().unwrap());
        for field in ["site_id", "kind", "summary", "detail", "severity"] {
            assert_eq!(stored[field], sent[field], "{field}");
        }
        assert_eq!(stored["source"], "agent");
        assert!(stored["observed_at"].is_string());
    }
    assert_eq!(ids, [1, 2, 3]);

    // Listed: bare arrays, the newest first.
    let api = site.api();
    let listed = api.get("/api/signals").await.unwrap();
    let order: Vec<_> = listed.as_array().unwrap().iter().map(|signal| signal["id"].as_i64().unwrap()).collect();
    assert_eq!(order, [3, 2, 1]);
    assert_eq!(listed[2]["observed_at"], "2026-11-20T12:00:00.250Z", "the agent's time, not that of receipt");
    assert_eq!(api.get("/api/signals?severity=critical").await.unwrap().as_array().unwrap().len(), 1);
    assert_eq!(api.get("/api/signals?site_id=moon").await.unwrap(), json!([]));
    let reader = site.token("reader", "seo", None).await.unwrap();
    let mut command = site.farol(&["signals", "--json", "--url", api.base()]).unwrap();
    let printed = process::json(command.env("FAROL_TOKEN", reader)).await.unwrap();
    assert_eq!(printed["items"].as_array().unwrap().len(), 3);

    // Correlated: a finding and its thread for each, on the host that the
    // facts name, else on the site.
    for (captured, host, title, severity) in [
        (SLOW, "vm112", "Rede vista pelo agente", "medium"),
        (DOWN, "site:lab", "Contêiner parado: postgres", "high"),
        (RESTARTS, "site:lab", "Contêiner reiniciando: web", "medium"),
    ] {
        let kind = body_of(captured)["kind"].as_str().unwrap().to_owned();
        let finding = site
            .wait_finding(&format!("the finding of {kind}"), |finding| {
                finding["check"].as_str().is_some_and(|check| check.starts_with(&format!("signal.{kind}")))
            })
            .await
            .unwrap();
        assert_eq!((&finding["host"], &finding["title"]), (&json!(host), &json!(title)), "{finding}");
        assert_eq!((&finding["severity"], &finding["persona"]), (&json!(severity), &json!("A1")), "{finding}");
        assert_eq!(finding["text"], body_of(captured)["summary"]);
        let path = format!("/api/v1/agents/threads/{}/messages", finding["thread_id"].as_str().unwrap());
        assert!(!api.items(&path).await.unwrap().is_empty(), "{kind} has no thread");
    }
    let hosts = api.items("/api/v1/hosts").await.unwrap();
    assert_eq!(hosts.len(), 2, "what stands for a site is no machine: {hosts:?}");

    // Suggested, with what a model needs.
    let suggestions = api.get("/api/suggestions").await.unwrap();
    let of = |id: i64| suggestions.as_array().unwrap().iter().find(|item| item["signal_id"] == id).unwrap().clone();
    assert_eq!(of(2)["related_runbook_ids"], json!(["rb-docker-container-down"]));
    assert_eq!(of(3)["related_runbook_ids"], json!(["rb-docker-restart-count"]));
    assert_eq!(of(1)["related_runbook_ids"], json!(["rb-gateway-latency"]));
    assert!(of(2)["summary"].is_string() && of(2)["reason"].is_string() && of(2)["severity"] == "critical");
    let context = api.get("/api/llm/context_for_signal/2").await.unwrap();
    assert_eq!((&context["signal"]["id"], &context["site"]["id"]), (&json!(2), &json!("lab")));
    assert_eq!(context["runbooks"][0]["id"], "rb-docker-container-down");
    assert!(context["runbooks"][0]["prompt_template"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(context["integrations"].is_array());
    for missing in ["/api/llm/context_for_signal/99", "/api/llm/context_for_signal/x", "/api/runbooks/rb-none"] {
        assert_eq!(api.call(Method::GET, missing, None).await.unwrap().0, StatusCode::NOT_FOUND, "{missing}");
    }
    let runbooks = api.get("/api/runbooks").await.unwrap();
    assert!(runbooks.as_array().is_some_and(|list| list.iter().any(|runbook| runbook["id"] == "rb-disk-full")));
    let runbook = api.get("/api/runbooks/rb-docker-container-down").await.unwrap();
    assert!(runbook["steps"][0].is_object() && runbook["tags"].is_array() && runbook["title"].is_string());
    let sites = api.get("/api/sites").await.unwrap();
    assert_eq!(sites[0]["networks"]["lan"], json!({"cidr": "10.10.10.0/24", "gateway": "10.10.10.1"}));
    assert_eq!((&sites[0]["description"], &sites[0]["integrations"]), (&json!("Rack da sala"), &json!([])));
    assert!(api.get("/api/integrations").await.unwrap().is_array());

    // The next round of facts is calm: that is evidence, and resolves.
    assert_eq!(agent.replay(CALM).await.unwrap().0, 201);
    site.wait_finding("the latency to be history", |finding| {
        finding["check"] == "signal.agent_facts" && finding["state"] == "resolved"
    })
    .await
    .unwrap();
    wait_until("its suggestion to go", PATIENCE, async || {
        let left = api.get("/api/suggestions").await?;
        Ok(left.as_array().is_some_and(|list| list.len() == 2).then_some(()))
    })
    .await
    .unwrap();

    // What is sent again is listed again, and opens nothing.
    assert_eq!(agent.replay(DOWN).await.unwrap().1["id"], 5);
    let findings = api.items("/api/v1/findings?state=all").await.unwrap();
    assert_eq!(findings.len(), 3, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_and_the_right_ones_open_no_more_than_they_should() {
    let mut site = Site::start(REGISTRY, &[("FAROL_SIGNALS_TOKEN", "a-token-that-agents-share")]).await.unwrap();
    let shared = site.api().with_token(Some("a-token-that-agents-share"));
    let open = site.api().with_token(None);
    assert_eq!(open.get("/api/health").await.unwrap(), json!({"status": "ok"}));
    let mut stranger = Agent::connect(&site, "not-the-token-at-all").await.unwrap();
    let (status, problem) = stranger.replay(DOWN).await.unwrap();
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    for path in ["/api/signals", "/api/sites", "/api/integrations", "/api/runbooks", "/api/suggestions"] {
        for api in [&open, &shared] {
            assert_eq!(api.call(Method::GET, path, None).await.unwrap().0, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    let (status, _) = shared.call(Method::POST, "/ingest", Some(json!({}))).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the token of signals is none of telemetry");
    let reader = site.api().with_token(Some(&site.token("reader", "seo", None).await.unwrap()));
    assert_eq!(reader.get("/api/signals").await.unwrap(), json!([]), "a refused signal left something");
    let (status, _) = reader.call(Method::POST, "/api/signals", Some(body_of(DOWN))).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);

    // A host's own token speaks for that host, whatever the facts say.
    let host = Client::new(&site, "vm123").await.unwrap();
    let mut own = Agent::connect(&site, &host.token).await.unwrap();
    assert_eq!(own.replay(SLOW).await.unwrap().0, 201);
    let finding = site.wait_finding("the host's finding", |_| true).await.unwrap();
    assert_eq!(finding["host"], "vm123");

    let bad = json!({"site_id": "lab", "kind": "k", "summary": "s", "observed_at": "soon"});
    let (status, problem) = site.api().call(Method::POST, "/api/signals", Some(bad)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("invalid_body")));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`observed_at`")), "{problem}");

    // Only from listed networks, where there is a list.
    site.stop_coordinator().await.unwrap();
    site.start_coordinator_with(&[("FAROL_INGEST_NETWORKS", "10.10.10.0/24")]).await.unwrap();
    let mut far = Agent::connect(&site, &host.token).await.unwrap();
    let (status, problem) = far.replay(DOWN).await.unwrap();
    assert_eq!((status, &problem["code"]), (403, &json!("network_not_allowed")));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("FAROL_INGEST_NETWORKS")), "{problem}");
    for address in ["/ingest", "/api/v1/alertmanager"] {
        let (status, problem) = site.api().call(Method::POST, address, Some(json!({}))).await.unwrap();
        assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("network_not_allowed")), "{address}");
    }
    let south = host.post("/ingest", &json!({})).await.unwrap();
    assert_eq!((south.status, &south.body["code"]), (403, &json!("network_not_allowed")));
    assert_eq!(site.api().get("/api/signals").await.unwrap().as_array().unwrap().len(), 1, "reading is not restricted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_alertmanager_becomes_findings_and_resolves_them() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    let token = site.token("alertmanager", "devops", None).await.unwrap();
    let api = site.api().with_token(Some(&token));
    let alert = |status: &str, ends: &str| {
        json!({
            "status": status,
            "labels": {"alertname": "HostOutOfDiskSpace", "instance": "vm112:9100", "severity": "critical"},
            "annotations": {"summary": "/ está 97 % cheio"},
            "startsAt": "2026-11-20T12:00:00.123456789Z", "endsAt": ends,
            "generatorURL": "http://prometheus:9090/graph?g0.expr=x", "fingerprint": "9a3f5b2c1d4e6f70"
        })
    };
    let group = |alerts: Value| {
        json!({
            "receiver": "farol", "status": "firing", "alerts": alerts, "groupLabels": {}, "commonLabels": {},
            "commonAnnotations": {}, "externalURL": "http://alertmanager:9093", "version": "4",
            "groupKey": "{}:{}", "truncatedAlerts": 0
        })
    };
    let firing = alert("firing", "0001-01-01T00:00:00Z");
    let mut broken = firing.clone();
    broken["startsAt"] = json!("noon");
    let body = group(json!([broken, firing]));
    let taken = api.post("/api/v1/alertmanager", body.clone()).await.unwrap();
    assert_eq!((&taken["stored"], &taken["repeated"]), (&json!(1), &json!(0)), "{taken}");
    assert_eq!((&taken["refused"][0]["index"], taken["refused"].as_array().unwrap().len()), (&json!(0), 1), "{taken}");
    let finding = site.wait_finding("the alert's finding", |finding| finding["state"] == "open").await.unwrap();
    assert_eq!((&finding["host"], &finding["severity"]), (&json!("vm112"), &json!("high")), "{finding}");
    assert_eq!(finding["check"], "alert.HostOutOfDiskSpace/9a3f5b2c1d4e6f70");
    assert_eq!(finding["opened_at"], "2026-11-20T12:00:00.123Z");

    // Alertmanager repeats what still burns.
    let again = api.post("/api/v1/alertmanager", body).await.unwrap();
    assert_eq!((&again["stored"], &again["repeated"]), (&json!(0), &json!(1)), "{again}");
    api.post("/api/v1/alertmanager", group(json!([alert("resolved", "2026-11-20T12:30:00Z")]))).await.unwrap();
    let resolved = site.wait_finding("its end", |finding| finding["state"] == "resolved").await.unwrap();
    assert_eq!(resolved["id"], finding["id"]);
    // It burns again, and still began when it began.
    api.post("/api/v1/alertmanager", group(json!([alert("firing", "0001-01-01T00:00:00Z")]))).await.unwrap();
    let reopened = site.wait_finding("it to burn again", |finding| finding["state"] == "open").await.unwrap();
    assert_eq!(reopened["episode"], 2);
    assert_eq!(site.api().get("/api/signals").await.unwrap().as_array().unwrap().len(), 3);

    for (body, says) in [
        (json!({"version": "3", "alerts": []}), "`version`"),
        (group(json!([{"status": "firing"}])), "no alert of the group is right"),
    ] {
        let (status, problem) = api.call(Method::POST, "/api/v1/alertmanager", Some(body)).await.unwrap();
        assert_eq!(status.as_u16(), 400, "Alertmanager would repeat a 5xx: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_whose_report_a_crash_took_is_reported_after_the_start() {
    let mut site = Site::start(REGISTRY, &[]).await.unwrap();
    let token = site.token("agent", "devops", None).await.unwrap();
    // The coordinator dies between the signal's commit and its report's.
    site.stop_coordinator().await.unwrap();
    site.start_coordinator_with(&[("FAROL_FAULT", "coordinator.bulk.before")]).await.unwrap();
    let mut agent = Agent::connect(&site, &token).await.unwrap();
    agent.replay(DOWN).await.expect_err("it dies before it answers");
    site.coordinator_died().await.unwrap();
    site.start_coordinator().await.unwrap();
    let finding = site.wait_finding("the finding of before", |finding| finding["state"] == "open").await.unwrap();
    assert_eq!(finding["episode"], 1);
    assert_eq!(site.api().get("/api/signals").await.unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_listed_origins_may_call_and_no_others() {
    let site = Site::start(REGISTRY, &[("ATLAS_OPS_ALLOWED_ORIGINS", "https://ops.example.org")]).await.unwrap();
    let address = site.api().base().strip_prefix("http://").unwrap().to_owned();
    let preflight = async |origin: &str, headers: &str| {
        let headers = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n{headers}");
        Client::plain(&address, "OPTIONS", "/api/signals", &headers, "").await.unwrap()
    };
    let listed =
        preflight("https://ops.example.org", "Access-Control-Request-Headers: authorization,content-type\r\n").await;
    assert_eq!(listed.status, 200, "a preflight carries no token: {listed:?}");
    assert_eq!(listed.header("access-control-allow-origin"), Some("https://ops.example.org"));
    let allowed = listed.header("access-control-allow-headers").unwrap().to_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{allowed}");
    assert_eq!(listed.header("access-control-allow-credentials"), None);
    for origin in ["https://evil.example", "http://localhost", "null"] {
        assert_eq!(preflight(origin, "").await.header("access-control-allow-origin"), None, "{origin}");
    }
    // The answer itself is marked too, an error as well.
    let refused =
        Client::plain(&address, "GET", "/api/signals", "Origin: https://ops.example.org\r\n", "").await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://ops.example.org"));

    let mut bad = site.farol(&["serve"]).unwrap();
    let ended =
        timeout(Duration::from_secs(30), bad.env("ATLAS_OPS_ALLOWED_ORIGINS", "*").output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(2), "a bad origin is a mistake in the configuration");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("ATLAS_OPS_ALLOWED_ORIGINS"));
}
