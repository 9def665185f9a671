//! The record: an action runs, its evidence is kept, all of it verifies here and
//! elsewhere, and whatever is done to it behind Farol's back is named.

use std::path::Path;

use farol_tests::{Site, process, site::PATIENCE, smtp::Smtp, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{QUIET, SHELL_POLICY};

/// `farol` with its JSON, whatever it ends with.
async fn farol(site: &Site, arguments: &[&str]) -> (bool, Value, String) {
    let mut command = site.farol(arguments).unwrap();
    let ended = command.arg("--json").output().await.unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended.status.success(), serde_json::from_slice(&ended.stdout).unwrap_or_default(), errors)
}

async fn sql(site: &Site, statements: &[&'static str]) {
    let url = format!("sqlite://{}", site.data_dir().join("state.db").display());
    let mut state = SqliteConnection::connect(&url).await.unwrap();
    for statement in statements {
        let changed = sqlx::query(*statement).execute(&mut state).await.unwrap();
        assert!(changed.rows_affected() > 0, "{statement}");
    }
    state.close().await.unwrap();
}

/// An action that ran on a host and left `hello`.
async fn ran(site: &Site) -> String {
    let id = site.api().propose_command("vm112", "/bin/sh", &["-c", "echo hello; echo hm >&2"]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    site.wait_action(&id, &["done"]).await.unwrap();
    id
}

/// The head once everything that was written so far is sealed.
async fn sealed(site: &Site) -> String {
    wait_until("the record to be sealed", PATIENCE, async || {
        let head = site.api().get("/api/v1/audit/head").await?;
        Ok((head["unsealed"] == 0).then(|| head["head"].as_str().unwrap_or_default().to_owned()))
    })
    .await
    .unwrap()
}

fn codes(verdict: &Value) -> Vec<&str> {
    verdict["faults"].as_array().unwrap().iter().map(|fault| fault["code"].as_str().unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_action_left_is_kept_as_evidence_and_its_story_is_told() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let _agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    let id = ran(&site).await;
    let items = site.api().items(&format!("/api/v1/actions/{id}/evidence")).await.unwrap();
    let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["outcome.json", "stdout.txt", "stderr.txt"]);
    let artifact = items[1]["id"].as_str().unwrap();
    assert_eq!(site.api().get(&format!("/api/v1/evidence/{artifact}")).await.unwrap(), items[1]);
    let path = format!("/api/v1/evidence/{artifact}/content");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = site.token("ana", "technician", None).await.unwrap();
    let answer = client.get(format!("{}{path}", site.api().base())).bearer_auth(&token).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(header("content-disposition"), "attachment; filename=\"stdout.txt\"");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(answer.text().await.unwrap(), "hello\n");
    let (status, missing) = site.api().call(Method::GET, "/api/v1/evidence/none", None).await.unwrap();
    assert_eq!((status, &missing["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));

    let out = site.folder().join("out");
    let mut command = site.farol(&["actions", "evidence", &id, "--out", text(&out)]).unwrap();
    let base = site.api().base().to_owned();
    let printed = process::output(command.args(["--url", &base]).env("FAROL_TOKEN", &token)).await.unwrap();
    assert!(printed.contains("stdout.txt"), "{printed}");
    assert_eq!(std::fs::read_to_string(out.join("outcome-stderr.txt")).unwrap(), "hm\n");

    let story = site.api().items(&format!("/api/v1/agents/action-log?action={id}")).await.unwrap();
    let verbs: Vec<&str> = story.iter().rev().map(|entry| entry["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs[..3], ["action.proposed", "action.approval", "action.approved"]);
    assert!(verbs.contains(&"action.queued") && verbs.contains(&"action.sent"), "{verbs:?}");
    assert_eq!(verbs[verbs.len() - 4..], ["action.done", "evidence.stored", "evidence.stored", "evidence.stored"]);

    // What else has to be an entry.
    let all = site.api().items("/api/v1/audit?limit=200").await.unwrap();
    for verb in ["registry.in_use", "token.created", "host.token_created", "host.enrolled", "host.policy_changed"] {
        assert!(all.iter().any(|entry| entry["verb"] == verb), "{verb}");
    }
    let of_host = site.api().items("/api/v1/audit?object=host:vm112&verb=host.p&actor=vm112").await.unwrap();
    assert_eq!(of_host.len(), 1);
    assert!(of_host[0]["detail"].as_str().unwrap().contains("max_unsigned_class R2"), "{}", of_host[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_verifies_here_and_as_a_bundle_elsewhere_and_tampering_is_named() {
    let mut site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    let id = ran(&site).await;
    let head = sealed(&site).await;

    // While it runs, by both ways.
    let (fine, verdict, errors) = farol(&site, &["audit", "verify", "--against", &head]).await;
    assert!(fine && verdict["ok"] == true, "{verdict} {errors}");
    assert_eq!((&verdict["artifacts"], &verdict["actions"]), (&json!(3), &json!(1)));
    let verdict = site.api().get(&format!("/api/v1/audit/verify?against={head}")).await.unwrap();
    assert!(verdict["ok"] == true && verdict["anchors"][0]["ok"] == true, "{verdict}");
    let (status, _) = site.api().call(Method::GET, "/api/v1/audit/verify?against=1", None).await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);

    // A bundle, verified where there is no data folder, after the original is gone.
    let elsewhere = tempfile::tempdir().unwrap();
    let bundle = elsewhere.path().join("record.tar");
    let (fine, exported, errors) = farol(&site, &["audit", "export", "--to", text(&bundle)]).await;
    assert!(fine, "{errors}");
    let (again, _, errors) = farol(&site, &["audit", "export", "--to", text(&bundle)]).await;
    assert!(!again && errors.contains("record.tar"), "{errors}");
    let served = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = site.token("ana", "security_analyst", None).await.unwrap();
    let served =
        served.get(format!("{}/api/v1/audit/export", site.api().base())).bearer_auth(&token).send().await.unwrap();
    assert_eq!(served.headers()["content-type"], "application/x-tar");
    let other = elsewhere.path().join("served.tar");
    std::fs::write(&other, served.bytes().await.unwrap()).unwrap();
    for file in [&bundle, &other] {
        let key = exported["public_key"].as_str().unwrap();
        let mut command =
            site.farol(&["audit", "verify", "--bundle", text(file), "--against", &head, "--key", key]).unwrap();
        command.env("FAROL_DATA_DIR", elsewhere.path().join("none")).env_remove("FAROL_REGISTRY");
        let verdict = process::json(command.arg("--json")).await.unwrap();
        assert!(verdict["ok"] == true && verdict["artifacts"] == 3, "{verdict}");
    }
    assert!(!elsewhere.path().join("none").exists());

    // Somebody with the database.
    site.kill_coordinator().await.unwrap();
    drop(agent);
    sql(
        &site,
        &[
            "update audit set detail = 'nothing to see' where verb = 'action.approval'",
            "update evidence set content = 'bye' where name = 'stdout.txt'",
            "delete from audit where verb = 'host.enrolled'",
        ],
    )
    .await;
    let (fine, verdict, errors) = farol(&site, &["audit", "verify"]).await;
    assert!(!fine && errors.contains("not as it was written"), "{errors}");
    let found = codes(&verdict);
    for code in ["entry_changed", "entry_missing", "artifact_changed"] {
        assert!(found.contains(&code), "{code}: {verdict}");
    }
    let artifact =
        verdict["faults"].as_array().unwrap().iter().find(|fault| fault["code"] == "artifact_changed").unwrap();
    assert!(artifact["object"].as_str().unwrap().starts_with("artifact "), "{artifact}");
    site.start_coordinator().await.unwrap();
    let items = site.api().items(&format!("/api/v1/actions/{id}/evidence")).await.unwrap();
    let path = format!("/api/v1/evidence/{}/content", items[1]["id"].as_str().unwrap());
    let (status, problem) = site.api().call(Method::GET, &path, None).await.unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("refused")));

    // The end is cut off, with everything in the database that could tell.
    let head = sealed(&site).await;
    site.kill_coordinator().await.unwrap();
    sql(
        &site,
        &[
            "delete from audit where id in (select entry_id from audit_seal where seq > 5)",
            "delete from audit_seal where seq > 5",
        ],
    )
    .await;
    let (fine, verdict, _) = farol(&site, &["audit", "verify", "--against", &head]).await;
    assert!(!fine && codes(&verdict).contains(&"truncated"), "{verdict}");
    // Nothing is sealed over it until a person says so.
    site.start_coordinator().await.unwrap();
    wait_until("the coordinator to say that it does not seal", PATIENCE, async || {
        let health = site.api().get("/api/v1/agents/health").await?;
        Ok((health["checks"]["record"] != "ok").then_some(()))
    })
    .await
    .unwrap();
    let mut command = site.farol(&["audit", "resume", "--comment", "looked into it"]).unwrap();
    process::output(&mut command).await.unwrap();
    sealed(&site).await;
    let newest = site.api().items("/api/v1/audit?verb=record.resumed").await.unwrap();
    assert!(newest[0]["detail"].as_str().unwrap().starts_with("looked into it"), "{}", newest[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_unsealed_is_sealed_at_the_next_start_wherever_the_sealer_died() {
    let mut site = Site::start(QUIET, &[]).await.unwrap();
    sealed(&site).await;
    site.kill_coordinator().await.unwrap();
    site.token("ana", "devops", None).await.unwrap();
    let (fine, verdict, _) = farol(&site, &["audit", "verify"]).await;
    assert!(fine && verdict["unsealed"].as_u64().unwrap() >= 1, "{verdict}");
    for place in ["coordinator.seal.before", "coordinator.seal.after"] {
        site.token(place, "devops", None).await.unwrap();
        site.start_coordinator_with(&[("FAROL_FAULT", place)]).await.unwrap();
        site.coordinator_died().await.unwrap();
        let (fine, verdict, _) = farol(&site, &["audit", "verify"]).await;
        assert!(fine, "{place}: {verdict}");
    }
    site.start_coordinator().await.unwrap();
    sealed(&site).await;
    let (fine, verdict, _) = farol(&site, &["audit", "verify"]).await;
    assert!(fine && verdict["unsealed"] == 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_leaves_by_mail_once_a_day_and_proves_the_record() {
    let smtp = Smtp::start().await.unwrap();
    let url = smtp.url();
    let registry = format!(
        "{QUIET}language: en\ndaily: {{at: '00:00', timezone: UTC}}\nrecord: {{anchor: [email:root@example.org]}}\n"
    );
    let mut site = Site::start(&registry, &[("FAROL_SMTP_URL", &url)]).await.unwrap();
    sealed(&site).await;
    // As if it had been there yesterday.
    wait_until("the first look", PATIENCE, async || {
        let (_, verdict, _) = farol(&site, &["audit", "verify"]).await;
        Ok((verdict["ok"] == true).then_some(()))
    })
    .await
    .unwrap();
    site.stop_coordinator().await.unwrap();
    sql(&site, &["update setting set value = '0' where name = 'anchor_since'"]).await;
    site.start_coordinator().await.unwrap();
    let mail = wait_until("the mail with the head", PATIENCE, async || {
        let mails = smtp.received().into_iter().map(|mail| mail.data);
        Ok(mails.into_iter().find(|mail| mail.contains("audit verify --against")))
    })
    .await
    .unwrap();
    // Long lines may be broken by the transfer encoding.
    let mail = mail.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    let head = mail.split("--against ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let (fine, verdict, errors) = farol(&site, &["audit", "verify", "--against", &head]).await;
    assert!(fine && verdict["anchors"][0]["ok"] == true, "{head} {verdict} {errors}");
    let sent = site.api().items("/api/v1/audit?verb=record.anchored").await.unwrap();
    assert_eq!((sent.len(), &sent[0]["object_id"]), (1, &json!(head)));
}
