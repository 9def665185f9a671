//! Every route with every role and with none, against a coordinator that runs,
//! compared with what was agreed: `permissions.txt`. `FAROL_WRITE_SNAPSHOT=1`
//! writes it anew.

use std::fmt::Write as _;

use farol_protocol::Timestamp;
use reqwest::Method;

use super::Site;
use crate::{
    auth::Operator,
    http::permissions,
    people::{Limits, Typed, password},
    roster::Role,
    store::{people::NewUser, sessions::NewSession},
};

const AGREED: &str = include_str!("permissions.txt");

/// With what somebody comes.
enum Caller {
    Nobody,
    Token(String),
    /// The name of an account.
    Session(&'static str),
}

impl Site {
    async fn account(&self, name: &str, role: Role) {
        let hash = password::hash(&Typed::new("correct horse battery".to_owned())).expect("hashed");
        let new = NewUser { name, role, sites: None, password: &hash };
        self.store.create_user(&Operator::local_administrator(), new, false, Timestamp::now()).await.expect("made");
    }

    async fn session(&self, name: &str) -> String {
        let user = self.store.user(name).await.expect("an account");
        let new =
            NewSession { user: (&user.id, name), method: "password", address: "test", browser: "test", replaces: None };
        let limits =
            Limits { idle: std::time::Duration::from_secs(600), lifetime: std::time::Duration::from_secs(600) };
        let (secret, _) = self.store.begin_session(new, limits, Timestamp::now()).await.expect("begun");
        secret.expose().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_exactly_whom_the_snapshot_names() {
    let site = Site::start().await;
    let mut callers = vec![("none", Caller::Nobody)];
    for role in Role::ALL {
        callers.push((role.as_str(), Caller::Token(site.token(&format!("t-{role}"), role).await)));
    }
    site.account("rita", Role::SuperAdmin).await;
    site.account("tito", Role::Technician).await;
    callers.push(("signed-in super_admin", Caller::Session("rita")));
    callers.push(("signed-in technician", Caller::Session("tito")));
    let mut text = String::from("# route: who is let in; * for everybody\n");
    for row in permissions::rows() {
        let path = path(row.path);
        let mut let_in = Vec::new();
        for (name, caller) in &callers {
            let mut request = site.request(row.method.clone(), &path);
            request = match caller {
                Caller::Nobody => request,
                Caller::Token(token) => request.bearer_auth(token),
                // Of its own: some routes end it.
                Caller::Session(name) => {
                    request.header("cookie", format!("farol={}", site.session(name).await)).header("origin", &site.base)
                }
            };
            if row.method != Method::GET {
                request = request.header("content-type", "application/json").body("{}");
            }
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            assert!(status < 500, "{} {path} answered {status} to {name}", row.method);
            if !matches!(status, 401 | 403) || row.permission == permissions::Permission::Public {
                let_in.push(*name);
            }
        }
        let who = match let_in.len() {
            0 => "nobody".to_owned(),
            all if all == callers.len() => "*".to_owned(),
            _ => let_in.join(", "),
        };
        writeln!(text, "{} {}: {who}", row.method, row.path).expect("text");
    }
    site.end().await;
    if std::env::var_os("FAROL_WRITE_SNAPSHOT").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/permissions.txt"), &text).expect("written");
        return;
    }
    for (line, agreed) in text.lines().zip(AGREED.lines()) {
        assert_eq!(line, agreed);
    }
    assert_eq!(text, AGREED, "a route came or went");
}

/// A path with something in its variable parts that nothing is called.
fn path(template: &str) -> String {
    template
        .split('/')
        .map(|part| if part.starts_with('{') { "00000000-0000-7000-8000-000000000000" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_for_each_operation_whether_the_caller_may_and_why_not() {
    let site = Site::start().await;
    let seo = site.token("sara", Role::Seo).await;
    let response = site.request(Method::GET, "/api/v1/session/permissions").bearer_auth(&seo);
    let (status, list) = super::answer(response).await;
    assert_eq!(status, 200);
    let items = list["items"].as_array().expect("items");
    assert_eq!(items.len(), permissions::rows().count());
    let of = |method: &str, path: &str| {
        items.iter().find(|item| item["method"] == method && item["path"] == path).expect("an operation")
    };
    assert_eq!(of("GET", "/api/v1/hosts")["allowed"], true);
    let approve = of("POST", "/api/v1/actions/{id}/approve");
    assert_eq!((&approve["allowed"], approve["permission"].as_str()), (&serde_json::json!(false), Some("decide")));
    assert!(approve["why"].as_str().expect("why").contains("you are seo"), "{approve}");
    site.end().await;
}
