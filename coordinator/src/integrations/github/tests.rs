//! Against a stand-in on a real socket that speaks GitHub's answers and keeps
//! what it was asked.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use farol_protocol::Status;
use tokio::net::TcpListener;

use super::*;
use crate::integrations::{Kind, Secret, Tls};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// What the stand-in does with the next question about a path.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answers this.
    Answer(u16, Vec<(&'static str, String)>, Value),
    /// Does it and never answers.
    Silent,
}

#[derive(Default)]
struct Inner {
    asked: Vec<Asked>,
    runs: Vec<Value>,
    issues: Vec<Value>,
    faults: HashMap<(Method, String), Vec<Fault>>,
}

/// GitHub with the repository `lab/portal` and the token `ghp_right_token`.
#[derive(Clone, Default)]
pub(crate) struct StandIn {
    inner: Arc<Mutex<Inner>>,
}

impl StandIn {
    pub(crate) async fn start() -> (Self, Connection) {
        let stand_in = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(stand_in.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (stand_in, connection(address, "ghp_right_token"))
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fail(&self, method: Method, path: &str, fault: Fault) {
        self.inner().faults.entry((method, path.to_owned())).or_default().push(fault);
    }

    pub(crate) fn asked(&self, method: Method) -> Vec<Asked> {
        self.inner().asked.iter().filter(|asked| asked.method == method).cloned().collect()
    }

    pub(crate) fn issues(&self) -> usize {
        self.inner().issues.len()
    }

    fn runs(&self, runs: Vec<Value>) {
        self.inner().runs = runs;
    }
}

pub(crate) fn connection(address: SocketAddr, token: &str) -> Connection {
    Connection {
        id: address.to_string(),
        name: "github".to_owned(),
        kind: Kind::Github,
        site: None,
        endpoints: vec![format!("http://{address}")],
        tls: Tls::Verify,
        user: None,
        secret: Some(Secret::new(token.to_owned())),
        is_locked: false,
        tags: Vec::new(),
        options: BTreeMap::new(),
    }
}

async fn answer(
    State(stand_in): State<StandIn>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let said =
        |status: u16, body: Value| (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response();
    let target = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let text = String::from_utf8_lossy(&body).into_owned();
    let fault = {
        let mut inner = stand_in.inner();
        inner.asked.push(Asked { method: method.clone(), target, headers: headers.clone(), body: text.clone() });
        inner
            .faults
            .get_mut(&(method.clone(), uri.path().to_owned()))
            .and_then(|list| (!list.is_empty()).then(|| list.remove(0)))
    };
    if let Some(Fault::Answer(status, headers, body)) = fault {
        let mut response = said(status, body);
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().expect("a header"));
        }
        return response;
    }
    if headers.get("authorization").is_none_or(|value| value != "Bearer ghp_right_token") {
        return said(401, json!({"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}));
    }
    let response = match (method.as_str(), uri.path()) {
        ("GET", "/repos/lab/portal") => said(200, json!({"full_name": "lab/portal", "default_branch": "main"})),
        ("GET", "/repos/lab/portal/actions/runs") => {
            let runs = stand_in.inner().runs.clone();
            said(200, json!({"total_count": runs.len(), "workflow_runs": runs}))
        }
        ("GET", "/repos/lab/portal/issues") => {
            let issues: Vec<Value> = stand_in.inner().issues.iter().rev().take(100).cloned().collect();
            said(200, Value::Array(issues))
        }
        ("GET", "/search/issues") => {
            let issues = stand_in.inner().issues.clone();
            said(200, json!({"total_count": issues.len(), "incomplete_results": false, "items": issues}))
        }
        ("POST", "/repos/lab/portal/issues") => {
            let asked: Value = serde_json::from_str(&text).expect("JSON");
            let mut inner = stand_in.inner();
            let number = inner.issues.len() + 1;
            let issue = json!({"number": number, "html_url": format!("https://github.test/lab/portal/issues/{number}"),
                "title": asked["title"], "body": asked["body"], "state": "open"});
            inner.issues.push(issue.clone());
            drop(inner);
            said(201, issue)
        }
        _ => said(404, json!({"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})),
    };
    match fault {
        Some(Fault::Silent) => std::future::pending().await,
        _ => response,
    }
}

fn now() -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000)
}

fn row(workflow: i64, name: &str, status: &str, conclusion: Value) -> Value {
    json!({"id": 1, "workflow_id": workflow, "name": name, "head_branch": "main", "status": status,
        "conclusion": conclusion, "html_url": format!("https://github.test/runs/{workflow}"), "run_attempt": 1})
}

async fn look(connection: &Connection, branch: Option<&str>) -> crate::checks::seen::Seen {
    use crate::checks::system::{Asking, ask};
    let clients = Clients::default();
    let asking = Asking { language: Language::En, limit: Duration::from_secs(5), now: now(), clients: &clients };
    let probe = farol_protocol::system::GithubRunsProbe {
        integration: "github".to_owned(),
        repository: "lab/portal".to_owned(),
        branch: branch.map(str::to_owned),
        limits: farol_protocol::report::Limits { critical: Some(1.0), ..Default::default() },
    };
    ask(&asking, &farol_protocol::system::SystemProbe::GithubRuns(probe), Some(connection)).await
}

#[tokio::test]
async fn of_each_workflow_the_newest_run_that_ended_counts() {
    let (github, connection) = StandIn::start().await;
    github.runs(vec![
        row(1, "CI", "in_progress", Value::Null),
        row(1, "CI", "completed", json!("success")),
        row(1, "CI", "completed", json!("failure")),
        row(2, "Deploy", "completed", json!("cancelled")),
        row(2, "Deploy", "completed", json!("success")),
    ]);
    let seen = look(&connection, None).await;
    assert_eq!((seen.status, seen.value), (Status::Ok, Some(0.0)), "{}", seen.text);

    github.runs(vec![
        row(1, "CI", "completed", json!("success")),
        json!({"id": "?"}),
        row(2, "Deploy", "completed", json!("timed_out")),
        row(3, "Newer", "completed", json!("a_word_of_tomorrow")),
    ]);
    let seen = look(&connection, Some("main")).await;
    assert_eq!((seen.status, seen.value), (Status::Critical, Some(1.0)), "{}", seen.text);
    for words in ["Deploy (main) https://github.test/runs/2", "1 of 2", "1 runs could not be read"] {
        assert!(seen.text.contains(words), "{words}: {}", seen.text);
    }
    let asked = github.asked(Method::GET);
    assert_eq!(asked.iter().filter(|asked| asked.target == "/repos/lab/portal").count(), 1, "a branch was given once");
    let runs = asked.last().expect("asked");
    assert!(runs.target.contains("branch=main") && runs.target.contains("per_page=100"), "{}", runs.target);
    assert_eq!(runs.headers["authorization"], "Bearer ghp_right_token");
    assert_eq!(runs.headers["accept"], "application/vnd.github+json");
    assert_eq!(runs.headers["x-github-api-version"], "2022-11-28");
    assert!(runs.headers["user-agent"].to_str().is_ok_and(|agent| agent.starts_with("farol/")));
}

#[tokio::test]
async fn what_keeps_it_from_looking_leaves_it_unknown_with_the_reason() {
    let (github, connection) = StandIn::start().await;
    let nothing = look(&connection, Some("main")).await;
    assert_eq!(nothing.status, Status::Unknown, "no run is no success: {}", nothing.text);

    let address = connection.endpoints[0].strip_prefix("http://").expect("http").parse().expect("an address");
    let stranger = Connection { id: "stranger".to_owned(), ..self::connection(address, "ghp_wrong_token") };
    let seen = look(&stranger, Some("main")).await;
    assert_eq!(seen.status, Status::Unknown);
    assert!(seen.text.contains("refused the token") && !seen.text.contains("ghp_"), "{}", seen.text);

    let runs = "/repos/lab/portal/actions/runs";
    github.fail(Method::GET, runs, Fault::Answer(403, vec![], json!({"message": "Resource not accessible"})));
    let seen = look(&connection, Some("main")).await;
    assert!(seen.status == Status::Unknown && seen.text.contains("Resource not accessible"), "{}", seen.text);
    github.fail(Method::GET, runs, Fault::Answer(200, vec![], json!({"workflow_runs": {}})));
    assert_eq!(look(&connection, Some("main")).await.status, Status::Unknown);
}

#[tokio::test]
async fn a_limit_is_respected_until_the_time_it_names() {
    let (github, connection) = StandIn::start().await;
    let reset = (now().as_ms() / 1000 + 600).to_string();
    let limited = vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset)];
    github.fail(
        Method::GET,
        "/repos/lab/portal/actions/runs",
        Fault::Answer(403, limited, json!({"message": "API rate limit exceeded"})),
    );
    let seen = look(&connection, Some("main")).await;
    assert!(seen.status == Status::Unknown && seen.text.contains("limits requests until"), "{}", seen.text);
    let before = github.asked(Method::GET).len();
    let seen = look(&connection, Some("main")).await;
    assert_eq!(seen.status, Status::Unknown);
    assert_eq!(github.asked(Method::GET).len(), before, "it was asked although it said not to");
    let clients = Clients::default();
    let later = Github::new(&clients, &connection, Duration::from_secs(5), now().plus_ms(601_000)).expect("a client");
    let repository = "lab/portal".parse().expect("a repository");
    assert!(later.newest_runs(&repository, Some("main")).await.is_ok(), "its time has come");
}

#[test]
fn a_repository_is_an_owner_and_a_name() {
    assert!("lab/portal.js".parse::<Repository>().is_ok());
    for bad in ["portal", "a/b/c", "../portal", "a/..", "a/", "a b/c", "a/b?x=1"] {
        assert!(bad.parse::<Repository>().is_err(), "{bad}");
    }
}
