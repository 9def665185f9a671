//! The API as its callers meet it: over a socket, on a coordinator that runs.

mod contract;
mod opn;
mod permissions;
mod signals;
mod tickets;

use std::time::{Duration, Instant};

use farol_protocol::{HostId, Timestamp};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Operator,
    config::{Config, Flags},
    roster::Role,
    store::Store,
};

const REGISTRY: &str = r#"
version: 1
language: en
variables:
  FAROL_TEST_NOWHERE:
sites: [{id: lab, name: Lab}, {id: b, name: B}]
hosts:
  - {name: vm112, site: lab}
  - {name: vm122}
scenarios:
  - id: portal
    title: Portal of vm112
    persona: A2
    severity: high
    hosts: [vm112]
    every: 1h
    attempts: 1
    checks:
      - name: answers
        probe: {tcp: {address: "127.0.0.1:1"}}
  - id: unset
    title: Not configured
    persona: A1
    severity: low
    hosts: [vm122]
    checks:
      - name: api
        probe: {http: {url: "${FAROL_TEST_NOWHERE}/health"}}
"#;

/// A coordinator, its data folder and somebody who may do everything.
struct Site {
    folder: tempfile::TempDir,
    base: String,
    store: Store,
    http: reqwest::Client,
    root: String,
    stop: CancellationToken,
    running: JoinHandle<crate::error::Result<()>>,
}

impl Site {
    async fn start() -> Self {
        farol_pki::install_default_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("registry.yaml");
        std::fs::write(&registry, REGISTRY).expect("written");
        let flags = Flags {
            data_dir: Some(folder.path().join("data")),
            http_addr: Some("127.0.0.1:0".to_owned()),
            southbound_addr: Some("127.0.0.1:0".to_owned()),
            registry: Some(registry),
            config: None,
        };
        let environment = |name: &str| match name {
            "OPS_INTERNAL_TOKEN" => Some("tick-tock".to_owned()),
            "FAROL_SIGNALS_TOKEN" => Some(signals::SHARED.to_owned()),
            _ => None,
        };
        let config = Config::load(&flags, &environment).expect("valid");
        let data = config.data_dir.clone();
        let (ready, listens) = oneshot::channel();
        let stop = CancellationToken::new();
        let running = tokio::spawn(crate::run(config, Some(ready), stop.clone()));
        let addresses = listens.await.expect("it starts");
        let store = Store::open(&data).await.expect("the store opens beside the coordinator");
        let mut site = Self {
            folder,
            base: format!("http://{}", addresses.http),
            store,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            root: String::new(),
            stop,
            running,
        };
        site.root = site.token("root", Role::SuperAdmin).await;
        site
    }

    async fn token(&self, name: &str, role: Role) -> String {
        self.token_until(name, role, None).await
    }

    async fn token_until(&self, name: &str, role: Role, until: Option<Timestamp>) -> String {
        let by = Operator::local_administrator();
        self.store.create_token(&by, name, role, until, Timestamp::now()).await.expect("made").token
    }

    /// Enrols a host as its agent would.
    async fn enrol(&self, name: &str) {
        let by = Operator::local_administrator();
        let new = self.store.add_host(&by, name, Duration::from_secs(60), Timestamp::now()).await.expect("added");
        let now = time::OffsetDateTime::now_utc();
        let authority =
            farol_pki::Authority::open_or_create(&self.folder.path().join("data/pki"), now).expect("the authority");
        let key = farol_pki::new_host_key().expect("a key");
        let certify = |id: &HostId| Ok(authority.issue_host(&key.csr_pem, id.as_str(), now)?);
        self.store.enrol(&new.token, Timestamp::now(), certify).await.expect("enrolled");
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).bearer_auth(&self.root)).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.post_as(&self.root, path, body).await
    }

    async fn post_as(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).bearer_auth(token).json(&body)).await
    }

    /// Asks until the answer is what is waited for.
    async fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (_, body) = self.get(path).await;
            if wanted(&body) {
                return body;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{path} stayed {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn propose(&self, command: &str) -> Value {
        let body = json!({"host": "vm112", "kind": "command.exec", "params": {"command": command}, "reason": "a test"});
        let (status, action) = self.post("/api/v1/actions", body).await;
        assert_eq!(status, 201, "{action}");
        action
    }

    async fn end(self) {
        self.stop.cancel();
        self.store.close().await;
        let ended = tokio::time::timeout(Duration::from_secs(10), self.running).await.expect("it stops in time");
        ended.expect("no panic").expect("no error");
    }
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    read(response).await
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
    let bytes = response.bytes().await.expect("a body");
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status >= 400 && !bytes.is_empty() {
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status} {body}");
        assert_eq!(body["status"], status);
        for field in ["type", "title", "detail", "code"] {
            assert!(body[field].is_string(), "{field} of {body}");
        }
    }
    (status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_known_and_allowed_before_anything_else_is_looked_at() {
    let site = Site::start().await;
    let past = Some(Timestamp::now().plus_ms(-1));
    let expired = site.token_until("expired", Role::SuperAdmin, past).await;
    let seo = site.token("sara", Role::Seo).await;
    let path = "/api/v1/actions";
    let post = || site.request(Method::POST, path).header("content-type", "application/json").body("{not json");

    let response = post().send().await.expect("an answer");
    assert!(response.headers()["www-authenticate"].to_str().expect("text").starts_with("Bearer"));
    assert_eq!(read(response).await.1["code"], "unauthenticated");
    let (status, body) = answer(post().bearer_auth("farol_0")).await;
    assert_eq!((status, &body["code"]), (401, &json!("unauthenticated")));
    let (status, body) = answer(post().bearer_auth(&expired)).await;
    assert_eq!((status, &body["code"]), (401, &json!("token_expired")));
    let (status, body) = answer(post().bearer_auth(&seo)).await;
    assert_eq!((status, &body["code"]), (403, &json!("forbidden")));
    let detail = body["detail"].as_str().expect("text");
    assert!(detail.contains("super_admin, ops_lead, agentic_operator, devops") && detail.contains("seo"), "{detail}");
    let (status, body) = answer(post().bearer_auth(&site.root)).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_body")));
    assert_eq!(answer(site.request(Method::GET, path).bearer_auth(&seo)).await.0, 200, "all have the ops view");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_framework_is_a_problem_with_a_stable_code() {
    let site = Site::start().await;
    let get = |path: &str| site.request(Method::GET, path).bearer_auth(&site.root);
    let post = |path: &str| site.request(Method::POST, path).bearer_auth(&site.root);
    let json = |path: &str, body: String| post(path).header("content-type", "application/json").body(body);
    let actions = "/api/v1/actions";
    let cases = [
        (get("/api/v1/secrets"), 404, "not_found"),
        (get("/"), 404, "not_found"),
        (get("/api/v1/hosts/nobody"), 404, "not_found"),
        (get("/api/v1/findings/nothing"), 404, "not_found"),
        (get("/api/v1/agents/threads/none/messages"), 404, "not_found"),
        (post("/api/v1/agents/runs/none"), 404, "not_found"),
        (post("/api/v1/agents/messages/none/ack"), 404, "not_found"),
        (post("/api/v1/agents/findings/none/ack"), 404, "not_found"),
        (post("/api/v1/hosts"), 405, "method_not_allowed"),
        (site.request(Method::DELETE, actions), 405, "method_not_allowed"),
        (get("/api/v1/actions/12"), 400, "invalid_path"),
        (get("/api/v1/hosts/%ff"), 400, "invalid_path"),
        (get("/api/v1/hosts/a%00b"), 400, "invalid_path"),
        (get("/api/v1/hosts?limit=0"), 400, "invalid_query"),
        (get("/api/v1/hosts?lmit=5"), 400, "invalid_query"),
        (get("/api/v1/agents/roster?limit=5"), 400, "invalid_query"),
        (get("/api/v1/findings?state=some"), 400, "invalid_query"),
        (get("/api/v1/findings?cursor=nonsense"), 400, "invalid_query"),
        (get("/api/v1/actions?state=asleep"), 400, "invalid_query"),
        (get("/api/v1/agents/inbox?role=king"), 400, "invalid_query"),
        (post("/api/v1/agents/chat?x=1"), 400, "invalid_query"),
        (json(actions, "{".to_owned()), 400, "invalid_body"),
        (json(actions, "[]".to_owned()), 400, "invalid_body"),
        (json(actions, "{}".to_owned()), 400, "invalid_body"),
        (json("/api/v1/agents/chat", r#"{"message":" "}"#.to_owned()), 400, "invalid_body"),
        (json("/api/v1/agents/runs/portal", r#"{"now":true}"#.to_owned()), 400, "invalid_body"),
        (post(actions).header("content-type", "text/plain").body("{}"), 415, "unsupported_media_type"),
        (json(actions, " ".repeat(300 * 1024)), 413, "body_too_large"),
        (json(actions, " ".repeat(3 << 20)), 413, "body_too_large"),
    ];
    for (request, status, code) in cases {
        let what = format!("{request:?}");
        let (got, body) = answer(request).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{what} {body}");
    }
    let response = site.request(Method::PUT, actions).send().await.expect("an answer");
    assert_eq!(response.headers()["allow"], "GET, HEAD, POST");
    let head = site.request(Method::HEAD, "/api/v1/hosts").bearer_auth(&site.root).send().await.expect("an answer");
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["cache-control"], "no-store");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_public_needs_no_token_and_says_how_the_coordinator_is() {
    let site = Site::start().await;
    let public = |path: &'static str| site.request(Method::GET, path).send();
    let (status, health) = read(public("/api/v1/agents/health").await.expect("an answer")).await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")), "{health}");
    assert_eq!(health["checks"]["llm"], "off");
    let metrics = public("/metrics").await.expect("an answer");
    assert_eq!(metrics.status(), 200);
    assert!(metrics.text().await.expect("text").contains("farol_"));
    let (_, document) = read(public("/api/openapi.json").await.expect("an answer")).await;
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"), "{}", document["openapi"]);
    for path in ["/api/docs", "/api/docs/", "/api/docs/swagger-ui.css"] {
        assert_eq!(public(path).await.expect("an answer").status(), 200, "{path}");
    }
    site.enrol("vm112").await;
    let (_, health) = read(public("/api/v1/agents/health").await.expect("an answer")).await;
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["checks"]["agents"], "none of 1 enrolled hosts is connected");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_ticks_with_its_own_token_and_no_other() {
    let site = Site::start().await;
    let tick = || site.request(Method::POST, "/api/v1/agents/internal/tick");
    assert_eq!(answer(tick().bearer_auth(&site.root)).await.0, 401, "a person's token is none of a worker");
    assert_eq!(answer(tick().header("X-Ops-Internal-Token", "wrong")).await.0, 401);
    let (status, body) = answer(tick().header("X-Ops-Internal-Token", "tick-tock")).await;
    assert_eq!(status, 202);
    assert!(body["queued"].is_u64(), "{body}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_is_found_talked_about_and_acknowledged() {
    let site = Site::start().await;
    let ana = site.token("ana", Role::Devops).await;
    let (status, body) = site.post_as(&ana, "/api/v1/agents/runs/portal", json!({})).await;
    assert_eq!((status, &body["code"]), (403, &json!("forbidden")));
    let (status, run) = site.post("/api/v1/agents/runs/portal", json!({})).await;
    assert_eq!(status, 202);
    assert!(run["run_id"].is_string());

    let list = site.wait_for("/api/v1/agents/findings", |list| list["items"][0]["id"].is_string()).await;
    let finding = &list["items"][0];
    assert_eq!(
        (&finding["scenario"], &finding["host"], &finding["state"]),
        (&json!("portal"), &json!("vm112"), &json!("open"))
    );
    let (id, thread) = (finding["id"].as_str().expect("an id"), finding["thread_id"].as_str().expect("a thread"));
    let detail = site.wait_for(&format!("/api/v1/findings/{id}"), |finding| finding["advice"].is_object()).await;
    assert_eq!(detail["advice"]["source"], "t0");
    let (_, scenarios) = site.get("/api/v1/agents/scenarios").await;
    assert_eq!(scenarios["items"][0]["status"], "critical");
    assert_eq!(scenarios["items"][1]["status"], "unknown");
    assert_eq!(scenarios["items"][1]["checks"][0]["missing"], "FAROL_TEST_NOWHERE");
    assert!(scenarios["items"][1]["checks"][0]["text"].as_str().expect("text").contains("FAROL_TEST_NOWHERE"));

    let inbox = answer(site.request(Method::GET, "/api/v1/agents/inbox").bearer_auth(&ana)).await.1;
    let message = inbox["items"].as_array().expect("items").last().expect("a message").clone();
    assert_eq!(message["thread_id"], thread);
    let (status, said) =
        site.post_as(&ana, &format!("/api/v1/agents/threads/{thread}/reply"), json!({"text": "On my way"})).await;
    assert_eq!(status, 201);
    let last = said["items"].as_array().expect("items").last().expect("a message").clone();
    assert_eq!((&last["author"], &last["body"]), (&json!("ana"), &json!("On my way")));
    let (_, threads) = site.get("/api/v1/agents/threads").await;
    assert_eq!(threads["items"][0]["id"], thread);

    let ack = format!("/api/v1/agents/messages/{}/ack", message["id"].as_str().expect("an id"));
    let (status, archived) = site.post_as(&ana, &ack, json!({})).await;
    assert_eq!((status, &archived["archived_by"]), (200, &json!("ana")));
    let (status, seen) =
        site.post_as(&ana, &format!("/api/v1/agents/findings/{id}/ack"), json!({"comment": "no relay"})).await;
    assert_eq!((status, &seen["state"], &seen["acknowledged_by"]), (200, &json!("acknowledged"), &json!("ana")));

    let question = json!({"message": "why?", "finding_id": id});
    let (status, reply) = site.post_as(&ana, "/api/v1/agents/chat", question).await;
    assert_eq!((status, &reply["source"]), (200, &json!("t0")));
    assert!(!reply["citations"].as_array().expect("citations").is_empty(), "{reply}");
    let (_, log) = site.get("/api/v1/agents/action-log?limit=1").await;
    assert_eq!(log["items"].as_array().expect("items").len(), 1);
    assert!(log["items"][0]["object"]["kind"].is_string() && log["next_cursor"].is_string(), "{log}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_decided_on_as_it_was_read() {
    let site = Site::start().await;
    let new = json!({"host": "vm112", "kind": "command.exec", "params": {"command": "uptime"}, "reason": "a test"});
    let (status, body) = site.post("/api/v1/actions", new.clone()).await;
    assert_eq!((status, &body["code"]), (409, &json!("refused")), "no agent yet: {body}");
    site.enrol("vm112").await;
    for (field, wrong, status) in [
        ("host", json!("nobody"), 404),
        ("kind", json!("guest.burn"), 400),
        ("params", json!({"command": ""}), 400),
        ("params", json!({"command": "id", "shell": true}), 400),
        ("reason", json!("x".repeat(1001)), 400),
        ("colour", json!("red"), 400),
    ] {
        let mut body = new.clone();
        body[field] = wrong;
        assert_eq!(site.post("/api/v1/actions", body).await.0, status, "{field}");
    }
    let action = site.propose("uptime").await;
    assert_eq!(
        (&action["state"], &action["risk_class"], &action["host"]),
        (&json!("proposed"), &json!("R2"), &json!("vm112"))
    );
    let path = format!("/api/v1/actions/{}", action["action_id"].as_str().expect("an id"));
    let decide = |what: &str, body: Value| {
        let path = format!("{path}/{what}");
        let site = &site;
        async move { site.post(&path, body).await }
    };
    let good = json!({"plan_hash": action["plan_hash"], "comment": "go"});

    let (status, body) = decide("approve", json!({"plan_hash": "0".repeat(64), "comment": ""})).await;
    assert_eq!((status, &body["code"]), (409, &json!("plan_mismatch")));
    let (status, body) = decide("approve", json!({"plan_hash": "abc"})).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_body")));
    let (status, body) = decide("approve", json!({"plan_hash": action["plan_hash"], "signature": []})).await;
    assert!(status == 400 && body["detail"].as_str().expect("text").contains("unknown field `signature`"), "{body}");
    let (status, body) = decide("approve", good.clone()).await;
    assert_eq!((status, &body["state"]), (200, &json!("held")), "{body}");
    let (status, body) = decide("reject", good).await;
    assert_eq!((status, &body["code"]), (409, &json!("stale")));
    let (status, body) = decide("cancel", json!({"comment": "never mind"})).await;
    assert_eq!((status, &body["state"]), (200, &json!("cancelled")));

    let (_, life) = site.get(&path).await;
    let states: Vec<&str> =
        life["transitions"].as_array().expect("a list").iter().filter_map(|step| step["state"].as_str()).collect();
    assert_eq!(states, ["proposed", "approved", "held", "cancelled"]);
    assert_eq!((&life["approvals"][0]["approver"], &life["outcome"]), (&json!("root"), &Value::Null));
    let other = site.propose("date").await;
    let hash = json!({"plan_hash": other["plan_hash"], "comment": "no"});
    let reject = format!("/api/v1/actions/{}/reject", other["action_id"].as_str().expect("an id"));
    assert_eq!(site.post(&reject, hash).await.1["state"], "rejected");
    let (_, list) = site.get("/api/v1/actions?state=rejected").await;
    assert_eq!(list["items"].as_array().expect("items").len(), 1);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_on_where_the_page_before_ended() {
    let site = Site::start().await;
    let (_, first) = site.get("/api/v1/hosts?limit=1").await;
    assert_eq!((&first["items"][0]["name"], &first["items"][0]["state"]), (&json!("vm112"), &json!("pending")));
    let next = format!("/api/v1/hosts?limit=1&cursor={}", first["next_cursor"].as_str().expect("a cursor"));
    let (_, second) = site.get(&next).await;
    assert_eq!((&second["items"][0]["name"], &second["next_cursor"]), (&json!("vm122"), &Value::Null));
    site.enrol("vm112").await;
    let (_, host) = site.get("/api/v1/hosts/vm112").await;
    assert_eq!((&host["state"], &host["received"], &host["checks"]), (&json!("silent"), &json!(0), &json!([])));
    let (_, by_id) = site.get(&format!("/api/v1/hosts/{}", host["id"].as_str().expect("an id"))).await;
    assert_eq!(by_id["name"], "vm112");
    let (_, roster) = site.get("/api/v1/agents/roster").await;
    let members = roster["items"].as_array().expect("items");
    assert_eq!(members.len(), 10);
    assert_eq!((&members[9]["id"], &members[9]["inbox_roles"]), (&json!("curador"), &json!([])));
    site.end().await;
}

/// Reads events until one has the wanted name; answers it whole.
async fn event(stream: &mut Response, name: &str) -> String {
    let mut text = String::new();
    let reading = async {
        loop {
            let chunk = stream.chunk().await.expect("a stream").expect("more to come");
            text.push_str(&String::from_utf8_lossy(&chunk));
            if let Some(at) = text.find(&format!("event: {name}\n"))
                && let Some(length) = text[at..].find("\n\n")
            {
                let start = text[..at].rfind("\n\n").map_or(0, |end| end + 2);
                return text[start..at + length].to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("an event in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_live_can_be_resumed_and_end_with_the_coordinator() {
    let site = Site::start().await;
    site.enrol("vm112").await;
    let watch = |last: Option<String>| {
        let mut request = site.request(Method::GET, "/api/v1/events").bearer_auth(&site.root);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        request.send()
    };
    let mut live = watch(None).await.expect("a stream");
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let first = site.propose("uptime").await;
    let told = event(&mut live, "action").await;
    assert!(
        told.contains(first["action_id"].as_str().expect("an id")) && told.contains(r#""state":"proposed""#),
        "{told}"
    );
    let id = told.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();

    let second = site.propose("date").await;
    let mut resumed = watch(Some(id)).await.expect("a stream");
    let told = event(&mut resumed, "action").await;
    assert!(told.contains(second["action_id"].as_str().expect("an id")), "{told}");
    let mut lost = watch(Some("another-1".to_owned())).await.expect("a stream");
    assert!(event(&mut lost, "resync").await.contains("data: {}"));
    site.end().await;
    drop((live, resumed, lost));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_decides_and_shows_what_the_api_refuses() {
    use clap::Parser as _;

    use crate::cli::{self, Cli, Command};

    let site = Site::start().await;
    site.enrol("vm112").await;
    let file = site.folder.path().join("token");
    std::fs::write(&file, &site.root).expect("written");
    let run = |line: &str| {
        let rest = format!("--url {} --token-file {}", site.base, file.display());
        let line = format!("farol {line} {rest}");
        let cli = Cli::try_parse_from(line.split(' ')).expect("understood");
        let Command::Once(command) = cli.command else { panic!("a client command") };
        cli::run(command)
    };
    let id = |action: &Value| action["action_id"].as_str().expect("an id").to_owned();
    for list in ["hosts", "findings --all", "inbox --role devops", "actions --state proposed --json"] {
        run(list).await.expect(list);
    }
    let action = id(&site.propose("uptime").await);
    run(&format!("approve {action} --yes")).await.expect("approved");
    let again = run(&format!("approve {action} --yes")).await.expect_err("refused");
    assert!(again.to_string().ends_with("(stale)"), "{again}");
    assert_eq!(again.exit_code(), 1);
    let other = id(&site.propose("date").await);
    run(&format!("reject {other} --comment no --json")).await.expect("rejected");
    run("run portal").await.expect("queued");
    let error = run("run nothing").await.expect_err("refused");
    assert_eq!(error.to_string(), "no scenario is called `nothing` (not_found)");
    std::fs::write(&file, "farol_0").expect("written");
    let error = run("hosts").await.expect_err("refused");
    assert!(error.to_string().ends_with("(unauthenticated)"), "{error}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_goes_on_although_its_caller_hangs_up() {
    use tokio::io::AsyncWriteExt as _;

    let site = Site::start().await;
    site.enrol("vm112").await;
    let address = site.base.strip_prefix("http://").expect("an address");
    let body =
        json!({"host": "vm112", "kind": "command.exec", "params": {"command": "uptime"}, "reason": "gone"}).to_string();
    let request = format!(
        "POST /api/v1/actions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        site.root,
        body.len()
    );
    // How long the gate takes is not known, so the patience grows until the
    // caller hung up behind it. A handler that ended with its caller would
    // never get through: the store is locked until the caller is gone.
    for patience_ms in [50, 200, 800, 3200] {
        let lock = site.store.state().write().await.expect("locked");
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("connected");
        socket.write_all(request.as_bytes()).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(patience_ms)).await;
        drop(socket);
        tokio::time::sleep(Duration::from_millis(patience_ms)).await;
        drop(lock);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            if site.get("/api/v1/actions").await.1["items"][0]["reason"] == "gone" {
                return site.end().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("the write ended with its caller");
}

mod history;
