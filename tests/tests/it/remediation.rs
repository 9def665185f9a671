//! From an entry of the catalogue to a host that was mended, or put back.

use std::path::{Path, PathBuf};

use farol_tests::{Agent, Site, process};
use reqwest::Method;
use serde_json::{Value, json};

const REGISTRY: &str = "version: 1\nhosts: [{name: vm112}]\n";

/// Writes a file, and believes or not that it helped.
const CATALOGUE: &str = "\
version: 1
entries:
  - id: config.set
    title: {pt-BR: Trocar a configuração, en: Set the configuration}
    params:
      path: {type: path, title: {pt-BR: Arquivo, en: File}}
      content: {type: text, title: {pt-BR: Conteúdo, en: Content}}
      proof: {type: choice, of: ['true', 'false', spoil], default: 'true', title: {pt-BR: Prova, en: Proof}}
    timeout: 30s
    steps:
      - {id: write, phase: modify, work: {effect: {kind: file.apply, params: {path: '{path}', content: '{content}'}}}}
      - {id: prove, phase: verify, work: {effect: {kind: command.exec, params: {command: '/bin/sh', args: [proof.sh, '{proof}', '{path}'], cwd: CWD}}}}
      - {id: restore, phase: rollback, work: {restore_file: {}}}
  - id: nap
    title: {pt-BR: Dormir, en: Nap}
    timeout: 2m
    steps:
      - {id: sleep, phase: modify, work: {effect: {kind: command.exec, params: {command: sleep, args: ['60'], timeout: 100000}}}}
      - {id: awake, phase: verify, work: {check: {probe: {load: {}}}}}
";

struct Town {
    site: Site,
    agent: Agent,
    file: PathBuf,
    token: String,
}

impl Town {
    async fn new(environment: &[(&str, &str)]) -> Self {
        let mut site = Site::start(REGISTRY, environment).await.unwrap();
        let etc = site.folder().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let script =
            "case $1 in true) exit 0;; spoil) echo spoiled >> $2; exit 1;; *) echo unhappy >&2; exit 1;; esac\n";
        std::fs::write(etc.join("proof.sh"), script).unwrap();
        let own = CATALOGUE.replace("CWD", etc.to_str().unwrap());
        std::fs::write(site.folder().join("catalogue.yaml"), own).unwrap();
        site.stop_coordinator().await.unwrap();
        site.start_coordinator().await.unwrap();
        let policy = format!(
            "version: 1\nmax_unsigned_class: R2\ncommands:\n- {{command: /bin/sh, args: [proof.sh, '**'], class: R1}}\n\
             - {{command: sleep, args: ['*'], class: R1}}\npaths: {{read: ['{0}'], write: ['{0}']}}\n",
            etc.display()
        );
        let agent = site.agent("vm112", Some(&policy)).await.unwrap();
        let file = etc.join("app.conf");
        std::fs::write(&file, "old\n").unwrap();
        let token = site.token("ann", "ops_lead", None).await.unwrap();
        Self { site, agent, file, token }
    }

    fn content(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    async fn farol(&self, arguments: &[&str]) -> std::process::Output {
        let mut farol = self.site.farol(arguments).unwrap();
        farol.env("FAROL_TOKEN", &self.token).env("FAROL_URL", self.site.api().base());
        farol.output().await.unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.farol(&[arguments, &["--json"]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn plan(&self, proof: &str) -> String {
        let path = format!("path={}", self.file.display());
        let proof = format!("proof={proof}");
        let words = ["plan", "config.set", "--host", "vm112", "--param", &path, "--param", "content=new\n", "--param"];
        let plan = self.json(&[&words[..], &[&proof, "--reason", "asked for"]].concat()).await;
        assert_eq!((&plan["kind"], &plan["state"]), (&json!("remediation.run"), &json!("proposed")));
        plan["action_id"].as_str().unwrap().to_owned()
    }

    async fn run(&self, proof: &str) -> Value {
        let id = self.plan(proof).await;
        self.json(&["approve", &id, "--yes"]).await;
        self.site.wait_action(&id, &["done", "failed", "refused", "timed_out"]).await.unwrap()
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_from_what_is_there_and_carried_out_as_it_was_agreed_to() {
    let town = Town::new(&[]).await;
    let id = town.plan("true").await;
    let path = format!("/api/v1/actions/{id}");
    let planned = town.site.api().get(&path).await.unwrap();
    assert_eq!((&planned["entry"], &planned["risk_class"]), (&json!("config.set"), &json!("R2")));
    let plan: Value = serde_json::from_str(planned["plan"].as_str().unwrap()).unwrap();
    let sha256 = plan["pre_state"]["steps"]["write"]["file_sha256"].clone();
    assert!(sha256.is_string() && plan["params"]["steps"][0]["work"]["effect"]["params"]["expected_sha256"] == sha256);
    let patch = planned["look"]["steps"][0]["file"]["patch"].as_str().unwrap();
    assert!(patch.contains("-old\n+new\n"), "{patch}");
    assert_eq!(town.content(), "old\n", "a plan changes nothing");

    // The host has moved on since: what was agreed to is not what would happen.
    std::fs::write(&town.file, "other\n").unwrap();
    town.json(&["approve", &id, "--yes"]).await;
    let refused = town.site.wait_action(&id, &["refused"]).await.unwrap();
    assert_eq!(refused["reason_code"], "pre_state_changed");
    assert_eq!(town.content(), "other\n");

    let done = town.run("true").await;
    assert_eq!((&done["state"], &done["outcome"]["result"]), (&json!("done"), &json!("verified")), "{done}");
    assert_eq!(town.content(), "new\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_help_is_put_back_and_what_cannot_be_put_back_halts_the_host_until_a_person_says_so() {
    let town = Town::new(&[]).await;
    let before = read(&town.file);
    let back = town.run("false").await;
    assert_eq!((&back["state"], &back["outcome"]["result"]), (&json!("failed"), &json!("rolled_back")), "{back}");
    assert_eq!(read(&town.file), before);
    let steps: Vec<&str> =
        back["outcome"]["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(steps, ["write", "prove", "restore"]);
    assert_eq!(back["outcome"]["steps"][1]["stderr"], "unhappy\n");

    let waiting = town.plan("true").await;
    let left = town.run("spoil").await;
    assert_eq!(left["outcome"]["result"], "rollback_failed", "{left}");
    let refused = town.farol(&["approve", &waiting, "--yes"]).await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("farol hosts resume vm112"), "{words}");
    // What only reads goes on: people have to see what is so.
    town.plan("true").await;
    town.json(&["hosts", "resume", "vm112", "--comment", "looked"]).await;
    std::fs::write(&town.file, &before).unwrap();
    assert_eq!(town.run("true").await["outcome"]["result"], "verified");
    let again = town.farol(&["hosts", "resume", "vm112", "--comment", "again"]).await;
    assert!(!again.status.success(), "it is not halted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_made_says_why_and_a_remediation_comes_only_from_the_catalogue() {
    let mut town = Town::new(&[]).await;
    let api = town.site.api().with_token(Some(&town.token));
    let wanted = |params: Value| json!({"host": "vm112", "params": params, "reason": ""});
    let outside = wanted(json!({"path": "/etc/passwd", "content": "x"}));
    let (status, problem) = api.call(Method::POST, "/api/v1/catalogue/config.set/plan", Some(outside)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("look_refused")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("/etc/passwd"), "{problem}");
    let strange = wanted(json!({"path": "/etc/../x", "content": "x"}));
    let (status, problem) = api.call(Method::POST, "/api/v1/catalogue/config.set/plan", Some(strange)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("invalid_params")), "{problem}");
    let (status, _) = api.call(Method::POST, "/api/v1/catalogue/no.such/plan", Some(wanted(json!({})))).await.unwrap();
    assert_eq!(status.as_u16(), 404);
    let steps = json!([
        {"id": "go", "phase": "modify", "work": {"effect": {"kind": "command.exec", "params": {"command": "sleep", "args": ["1"]}}}},
        {"id": "up", "phase": "verify", "work": {"check": {"probe": {"load": {}}}}},
    ]);
    let own = json!({"host": "vm112", "kind": "remediation.run", "reason": "",
        "params": {"entry": "own", "steps": steps, "timeout": 1000}});
    let (status, problem) = api.call(Method::POST, "/api/v1/actions", Some(own)).await.unwrap();
    assert_eq!(status.as_u16(), 409, "{problem}");
    town.agent.stop().await.unwrap();
    town.site.wait_host("vm112", "silent").await.unwrap();
    let good = wanted(json!({"path": town.file, "content": "x"}));
    let (status, problem) = api.call(Method::POST, "/api/v1/catalogue/config.set/plan", Some(good)).await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("host_offline")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_switch_stops_what_runs_and_what_waits_until_a_person_lets_it_go_on() {
    let town = Town::new(&[]).await;
    let nap = town.json(&["plan", "nap", "--host", "vm112", "--reason", "tired"]).await;
    let nap = nap["action_id"].as_str().unwrap();
    let next = town.plan("true").await;
    town.json(&["approve", nap, "--yes"]).await;
    town.site.wait_action(nap, &["accepted"]).await.unwrap();
    town.json(&["approve", &next, "--yes"]).await;
    let stopped = town.json(&["execution", "stop", "--comment", "what is this"]).await;
    assert_eq!(stopped["stopped"]["by"], "ann");
    let ended = town.site.wait_action(nap, &["cancelled", "failed"]).await.unwrap();
    assert_eq!(ended["state"], "cancelled");
    let third = town.plan("true").await;
    let refused = town.farol(&["approve", &third, "--yes"]).await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("ann stopped all execution"), "{words}");
    let mut status = town.site.farol(&["execution", "--json"]).unwrap();
    status.env("FAROL_TOKEN", &town.token).env("FAROL_URL", town.site.api().base());
    assert_eq!(process::json(&mut status).await.unwrap()["stopped"]["comment"], "what is this");
    let waiting = town.site.api().get(&format!("/api/v1/actions/{next}")).await.unwrap();
    assert_eq!((&waiting["state"], town.content().as_str()), (&json!("queued"), "old\n"));
    town.json(&["execution", "resume"]).await;
    let done = town.site.wait_action(&next, &["done", "failed", "refused"]).await.unwrap();
    assert_eq!(done["outcome"]["result"], "verified", "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_action_is_held_for_a_moment_in_which_it_can_be_taken_back() {
    let town = Town::new(&[("FAROL_APPROVAL_HOLD", "10m")]).await;
    let id = town.plan("true").await;
    let held = town.json(&["approve", &id, "--yes"]).await;
    assert_eq!(held["state"], "held");
    let (status, _) =
        town.site.api().call(Method::POST, &format!("/api/v1/actions/{id}/cancel"), Some(json!({}))).await.unwrap();
    assert!(status.is_success());
    assert_eq!(town.site.wait_action(&id, &["cancelled"]).await.unwrap()["state"], "cancelled");
    assert_eq!(town.content(), "old\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_nobody_took_back_leaves_when_its_hold_is_over() {
    let town = Town::new(&[("FAROL_APPROVAL_HOLD", "500ms")]).await;
    let done = town.run("true").await;
    let states: Vec<&str> =
        done["transitions"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states[..5], ["proposed", "approved", "held", "queued", "sent"], "{done}");
}
