//! Checks that the coordinator runs: a registry that changes while they run,
//! targets that hang, integrations and their secrets.

use std::time::Duration;

use farol_tests::{Site, process, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that answers `{"status":"ok"}`, or nothing at all.
async fn server(answers: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if !answers {
                kept.push(stream);
                continue;
            }
            tokio::spawn(async move {
                let mut request = [0_u8; 1024];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"status\":\"ok\"}";
                    // A client that went away is its own affair.
                    let _gone = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    format!("http://{address}/health")
}

fn scenario(id: &str, urls: &[&str]) -> String {
    let checks: Vec<String> =
        urls.iter().enumerate().map(|(n, url)| format!("{{name: c{n}, probe: {{http: {{url: '{url}'}}}}}}")).collect();
    format!(
        "  - {{id: {id}, title: S, persona: A1, severity: low, hosts: [vm112], every: 500ms, timeout: 20s, checks: [{}]}}\n",
        checks.join(", ")
    )
}

fn registry(scenarios: &[String]) -> String {
    format!("version: 1\nlanguage: en\nhosts: [{{name: vm112}}]\nscenarios:\n{}", scenarios.concat())
}

async fn check(site: &Site, id: &str) -> anyhow::Result<Option<Value>> {
    let scenarios = site.api().items("/api/v1/agents/scenarios").await?;
    let checks = scenarios.iter().flat_map(|scenario| scenario["checks"].as_array().into_iter().flatten());
    Ok(checks.into_iter().find(|check| check["id"] == id).cloned())
}

async fn wait_check(site: &Site, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until(&format!("the check {id}"), PATIENCE, async || Ok(check(site, id).await?.filter(|check| wanted(check))))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_delays_its_own_checks_and_no_other() {
    let (hangs, answers) = (server(false).await, server(true).await);
    // More of them than the target takes at a time, in one scenario with one that works.
    let urls: Vec<&str> = std::iter::repeat_n(hangs.as_str(), 8).chain([answers.as_str()]).collect();
    let site = Site::start(&registry(&[scenario("mixed", &urls)]), &[]).await.unwrap();
    let first = wait_check(&site, "mixed/c8", |check| check["status"] == "ok").await;
    let later = wait_check(&site, "mixed/c8", |check| check["observed_at"] != first["observed_at"]).await;
    assert_eq!(later["status"], "ok");
    let hanging = check(&site, "mixed/c0").await.unwrap().unwrap();
    assert_eq!(hanging["observed_at"], Value::Null, "its time limit of 20 s has passed already: {hanging}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_registry_counts_at_once_and_one_with_a_mistake_changes_nothing() {
    let answers = server(true).await;
    let path_of = |site: &Site| site.folder().join("registry.yaml");
    let mut site = Site::start(&registry(&[scenario("first", &[&answers])]), &[]).await.unwrap();
    wait_check(&site, "first", |check| check["status"] == "ok").await;

    let both = registry(&[scenario("first", &[&answers]), scenario("second", &[&answers])]);
    std::fs::write(path_of(&site), both).unwrap();
    wait_check(&site, "second", |check| check["status"] == "ok").await;

    std::fs::write(path_of(&site), registry(&[scenario("third", &["ftp://nowhere"])])).unwrap();
    let health = wait_until("the mistake to be said", PATIENCE, async || {
        let health = site.api().get("/api/v1/agents/health").await?;
        Ok((health["status"] == "degraded").then_some(health))
    })
    .await
    .unwrap();
    assert!(health["checks"]["registry"].as_str().unwrap().contains("mistake"), "{health}");
    let log = site.coordinator().unwrap().log().join("\n");
    assert!(log.contains("the registry stays as it was") && log.contains("line 5"), "{log}");
    let before = check(&site, "second").await.unwrap().unwrap();
    wait_check(&site, "second", |check| check["observed_at"] != before["observed_at"]).await;
    assert!(check(&site, "third").await.unwrap().is_none());

    std::fs::write(path_of(&site), registry(&[scenario("second", &[&answers])])).unwrap();
    wait_until("the old scenario to be gone", PATIENCE, async || {
        Ok(check(&site, "first").await?.is_none().then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(site.api().get("/api/v1/agents/health").await.unwrap()["status"], "ok");
    site.stop_coordinator().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_given_other_checks_when_the_registry_changes() {
    let load = |name: &str| {
        format!(
            "version: 1\nhosts: [{{name: vm112}}]\nscenarios:\n  - {{id: {name}, title: S, persona: A1, severity: low, \
             runs_on: agent, every: 500ms, checks: [{{name: c, probe: {{load: {{critical: 9999}}}}}}]}}\n"
        )
    };
    let site = Site::start(&load("old"), &[]).await.unwrap();
    let _agent = site.agent("vm112", None).await.unwrap();
    wait_check(&site, "old", |check| check["status"] == "ok").await;
    std::fs::write(site.folder().join("registry.yaml"), load("new")).unwrap();
    wait_check(&site, "new", |check| check["status"] == "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_keeps_its_secret_to_itself() {
    let site = Site::start(&registry(&[]), &[]).await.unwrap();
    let secret = "ver-y-secr-et-value";
    let body = json!({"name": "pve", "kind": "proxmox", "endpoints": ["https://127.0.0.1:1/"],
        "tls": {"pin": format!("sha256:{}", "ab".repeat(32))}, "user": "farol@pve!watch", "secret": secret});
    let (status, made) = site.api().call(Method::POST, "/api/v1/integrations", Some(body.clone())).await.unwrap();
    assert_eq!((status.as_u16(), &made["has_secret"]), (201, &json!(true)), "{made}");
    assert_eq!(made["endpoints"], json!(["https://127.0.0.1:1"]));
    let (status, problem) = site.api().call(Method::POST, "/api/v1/integrations", Some(body)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("conflict")));

    let (status, tested) = site.api().call(Method::POST, "/api/v1/integrations/pve/test", None).await.unwrap();
    assert_eq!((status.as_u16(), &tested["status"]), (200, &json!("critical")), "{tested}");
    let known = site.api().get("/api/v1/integrations/pve").await.unwrap();
    assert_eq!(known["last_error"], tested["text"], "{known}");

    let changed = json!({"endpoints": ["https://127.0.0.1:2"], "user": "farol@pve!watch"});
    let (status, changed) = site.api().call(Method::PUT, "/api/v1/integrations/pve", Some(changed)).await.unwrap();
    assert_eq!((status.as_u16(), &changed["has_secret"]), (200, &json!(true)), "{changed}");

    let weak = site.token("weak", "technician", None).await.unwrap();
    let weak = site.api().with_token(Some(&weak));
    let (status, _) = weak.call(Method::PUT, "/api/v1/integrations/pve", Some(json!({}))).await.unwrap();
    assert_eq!(status.as_u16(), 403);

    let listed = process::json(&mut site.farol(&["integration", "list", "--json"]).unwrap()).await.unwrap();
    let answers = [made, tested, known, changed, listed].map(|answer| answer.to_string()).concat();
    let log = site.coordinator().unwrap().log().join("\n");
    assert!(!answers.contains(secret) && !log.contains(secret));
    for file in std::fs::read_dir(site.data_dir()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the secret is on the disk");
    }

    let (status, _) = site.api().raw(Method::DELETE, "/api/v1/integrations/pve", None).await.unwrap();
    assert_eq!(status.as_u16(), 204);
    assert_eq!(site.api().items("/api/v1/integrations").await.unwrap(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_runs_by_hand_and_a_wrong_name_is_answered_with_the_nearest() {
    let answers = server(true).await;
    let site = Site::start(&registry(&[scenario("desk", &[&answers, "http://127.0.0.1:1/"])]), &[]).await.unwrap();
    let one = process::json(&mut site.farol(&["check", "desk/c0", "--json"]).unwrap()).await.unwrap();
    assert_eq!((one.as_array().map(Vec::len), &one[0]["status"]), (Some(1), &json!("ok")), "{one}");
    let whole = process::json(&mut site.farol(&["check", "desk", "--json"]).unwrap()).await.unwrap();
    assert_eq!((&whole[0]["status"], &whole[1]["status"]), (&json!("ok"), &json!("critical")), "{whole}");
    let wrong = site.farol(&["check", "dsek"]).unwrap().output().await.unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `desk`"), "{wrong:?}");
    let good = site.farol(&["registry", "check"]).unwrap().output().await.unwrap();
    assert!(good.status.success() && String::from_utf8_lossy(&good.stdout).contains("2 checks"), "{good:?}");
}
