//! From a key on somebody's desk to an effect on a host that asks for it.

use std::path::{Path, PathBuf};

use farol_tests::{Agent, Site, process, signer::Person};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{QUIET, append, count};

const POLICY: &str = "version: 1
max_unsigned_class: R1
commands:
- {command: /bin/sh, args: [-c, '*'], class: R2}
- {command: /usr/bin/env, args: [sh, -c, '*'], class: R3}
";

/// Somebody with a token and a key of their own.
struct Somebody {
    token: String,
    key: PathBuf,
    key_id: String,
}

/// The command line as somebody types it.
async fn farol(site: &Site, token: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = site.farol(arguments)?;
    command.args(["--json", "--url", site.api().base()]).env("FAROL_TOKEN", token);
    process::json(&mut command).await
}

async fn somebody(site: &Site, root: &str, name: &str, role: &str) -> Somebody {
    let token = site.token(name, role, None).await.unwrap();
    let key = site.folder().join(format!("keys/{name}.pem"));
    let added = farol(site, root, &["key", "add", name, "--file", key.to_str().unwrap()]).await.unwrap();
    assert_eq!(added["operator"], name);
    Somebody { token, key, key_id: added["key_id"].as_str().unwrap().to_owned() }
}

async fn approve(site: &Site, who: &Somebody, action: &str) -> anyhow::Result<Value> {
    farol(site, &who.token, &["approve", action, "--key", who.key.to_str().unwrap(), "--yes"]).await
}

/// A host whose policy lists everybody that the coordinator exports.
async fn host(site: &Site, root: &str) -> Agent {
    let mut command = site.farol(&["operator", "export"]).unwrap();
    let export = process::output(command.args(["--url", site.api().base()]).env("FAROL_TOKEN", root)).await.unwrap();
    site.agent("vm112", Some(&format!("{POLICY}{export}"))).await.unwrap()
}

async fn propose(site: &Site, token: &str, command: &str, args: &[&str]) -> String {
    site.api().with_token(Some(token)).propose_command("vm112", command, args).await.unwrap()
}

fn write(file: &Path) -> String {
    append("ran", file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_approval_runs_what_an_unsigned_one_does_not() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let root = site.token("root", "super_admin", None).await.unwrap();
    let ana = somebody(&site, &root, "ana", "agentic_operator").await;
    let bia = somebody(&site, &root, "bia", "ops_lead").await;
    let _agent = host(&site, &root).await;
    let file = site.folder().join("file");
    let line = write(&file);

    let action = propose(&site, &ana.token, "/bin/sh", &["-c", &line]).await;
    let path = format!("/api/v1/actions/{action}");
    let view = site.api().get(&path).await.unwrap();
    let as_ana = site.api().with_token(Some(&ana.token));
    let try_with = async |signatures: Value| {
        let body = json!({"plan_hash": view["plan_hash"], "comment": "", "signatures": signatures});
        let (status, answer) = as_ana.call(Method::POST, &format!("{path}/approve"), Some(body)).await.unwrap();
        (status.as_u16(), answer["code"].clone())
    };
    let plan = view["plan"].as_str().unwrap();
    let stranger = Person::new("ana").unwrap();
    let mut under_anas_id = stranger.sign(plan);
    under_anas_id["key_id"] = json!(ana.key_id);
    assert_eq!(try_with(json!([])).await, (409, json!("signature_required")));
    assert_eq!(try_with(json!([stranger.sign(plan)])).await, (422, json!("bad_signature")));
    assert_eq!(try_with(json!([under_anas_id])).await, (422, json!("bad_signature")));
    assert_eq!(try_with(json!([Person::new("bia").unwrap().sign(plan)])).await, (422, json!("bad_signature")));
    assert_eq!(try_with(json!([{"operator": "ana"}])).await, (400, json!("invalid_body")));
    // A token and the key of somebody else are not one person.
    let borrowed = farol(&site, &ana.token, &["approve", &action, "--key", bia.key.to_str().unwrap(), "--yes"]).await;
    assert!(borrowed.unwrap_err().to_string().contains("bad_signature"));

    approve(&site, &ana, &action).await.unwrap();
    let done = site.wait_action(&action, &["done", "refused", "failed"]).await.unwrap();
    assert_eq!((&done["state"], count("ran", &file)), (&json!("done"), 1), "{done}");
    assert_eq!(done["approvals"][0]["approver"], "ana");
    assert_eq!(done["approvals"][0]["key_id"], ana.key_id.as_str());

    farol(&site, &root, &["key", "revoke", &ana.key_id]).await.unwrap();
    let again = propose(&site, &root, "/bin/sh", &["-c", &line]).await;
    let refused = approve(&site, &ana, &again).await.unwrap_err().to_string();
    assert!(refused.contains("revoked"), "{refused}");
    let keys = farol(&site, &ana.token, &["key", "list"]).await.unwrap();
    assert!(keys["items"][0]["revoked_at"].is_string() && keys["items"][1]["revoked_at"].is_null(), "{keys}");
    let own = farol(&site, &ana.token, &["key", "add", "ana", "--file", ana.key.to_str().unwrap()]).await.unwrap_err();
    assert!(own.to_string().contains("super_admin"), "{own}");
    assert_eq!(count("ran", &file), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_puts_at_r3_is_planned_again_and_takes_two_signatures() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let root = site.token("root", "super_admin", None).await.unwrap();
    let ana = somebody(&site, &root, "ana", "agentic_operator").await;
    let bia = somebody(&site, &root, "bia", "ops_lead").await;
    let rui = somebody(&site, &root, "rui", "agentic_operator").await;
    let mut agent = host(&site, &root).await;
    let file = site.folder().join("file");

    let first = propose(&site, &rui.token, "/usr/bin/env", &["sh", "-c", &write(&file)]).await;
    approve(&site, &rui, &first).await.unwrap();
    let refused = site.wait_action(&first, &["refused", "done"]).await.unwrap();
    assert_eq!(refused["reason_code"], "signature_required", "{refused}");
    let again = farol_tests::wait_until("a plan at R3", std::time::Duration::from_secs(20), async || {
        let waiting = site.api().items("/api/v1/actions?state=proposed").await?;
        Ok(waiting.into_iter().find(|action| action["risk_class"] == "R3"))
    })
    .await
    .unwrap();
    assert_eq!(again["requested_by"], "rui", "whoever asked stays excluded");
    let id = again["action_id"].as_str().unwrap();
    let own = approve(&site, &rui, id).await.unwrap_err().to_string();
    assert!(own.contains("forbidden"), "{own}");

    // The second signature comes while the host is away; both wait for it.
    agent.stop().await.unwrap();
    site.wait_host("vm112", "silent").await.unwrap();
    approve(&site, &ana, id).await.unwrap();
    let twice = approve(&site, &ana, id).await.unwrap_err().to_string();
    assert!(twice.contains("already"), "{twice}");
    let waiting = site.api().get(&format!("/api/v1/actions/{id}")).await.unwrap();
    assert_eq!(waiting["state"], "proposed");
    approve(&site, &bia, id).await.unwrap();
    agent.start().unwrap();
    let done = site.wait_action(id, &["done", "refused", "failed"]).await.unwrap();
    assert_eq!((&done["state"], count("ran", &file)), (&json!("done"), 1), "{done}");
    let signers: Vec<&Value> =
        done["approvals"].as_array().unwrap().iter().map(|approval| &approval["key_id"]).collect();
    assert_eq!(signers, [&json!(ana.key_id), &json!(bia.key_id)]);
    let journal = process::json(&mut agent.command(&["journal", "--json"]).unwrap()).await.unwrap();
    assert_eq!(journal[0]["signed_by"], "ana, bia", "{journal}");
}
