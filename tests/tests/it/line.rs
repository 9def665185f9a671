//! The main job, end to end.

use std::{net::SocketAddr, path::Path, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use farol_tests::{
    Api, Site, ollama,
    ollama::FakeOllama,
    process,
    site::PATIENCE,
    smtp::{self, Smtp},
    wait_until,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{QUIET, registry_with_portal};

/// A portal that is healthy exactly while a file is there, which a policy's
/// command can make.
async fn portal(switch: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let switch = switch.to_owned();
    let health =
        get(async move || if switch.exists() { (StatusCode::OK, "up") } else { (StatusCode::BAD_GATEWAY, "down") });
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/health", health)).await });
    address
}

fn policy(switch: &Path, count: &Path) -> String {
    let restart = format!("touch {} && echo restarted >> {}", switch.display(), count.display());
    format!(
        "version: 1
services:
  - name: portal
    verbs: [restart]
    class: R1
    run:
      restart: [/bin/sh, -c, '{restart}']
      status: [/usr/bin/test, -e, {}]
",
        switch.display()
    )
}

async fn messages(api: &Api, finding: &Value) -> Vec<Value> {
    let thread = finding["thread_id"].as_str().unwrap();
    api.items(&format!("/api/v1/agents/threads/{thread}/messages")).await.unwrap()
}

async fn wait_message(api: &Api, finding: &Value, kind: &str) -> Value {
    wait_until(&format!("a message of kind {kind}"), PATIENCE, async || {
        Ok(messages(api, finding).await.into_iter().find(|message| message["kind"] == kind))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_service_becomes_a_finding_advice_a_mail_a_proposal_and_after_approval_it_heals() {
    let files = tempfile::tempdir().unwrap();
    let (switch, count) = (files.path().join("up"), files.path().join("count"));
    std::fs::write(&switch, "").unwrap();
    let url = format!("http://{}/health", portal(&switch).await);
    let mail = Smtp::start().await.unwrap();
    let smtp_url = mail.url();
    let site = Site::start(
        &registry_with_portal(&url),
        &[("FAROL_SMTP_URL", &smtp_url), ("DESK_ROOT_NOTIFY_EMAIL", "ops@farol.test")],
    )
    .await
    .unwrap();
    let _agent = site.agent("vm112", Some(&policy(&switch, &count))).await.unwrap();
    wait_until("the portal to be healthy", PATIENCE, async || {
        let host = site.api().get("/api/v1/hosts/vm112").await?;
        let checks = host["checks"].as_array().cloned().unwrap_or_default();
        Ok(checks.iter().any(|check| check["check"] == "wizard.portal" && check["status"] == "ok").then_some(()))
    })
    .await
    .unwrap();

    std::fs::remove_file(&switch).unwrap();
    let finding = site.wait_finding("the portal's finding", |f| f["scenario"] == "wizard.portal").await.unwrap();
    assert_eq!(finding["state"], "open");
    assert_eq!(finding["severity"], "high");
    assert_eq!(finding["host"], "vm112");
    let opened = wait_message(site.api(), &finding, "finding").await;
    assert_eq!(opened["author"], "A1");
    assert!(opened["body"].as_str().unwrap().contains("502"), "{opened}");
    let advice = wait_message(site.api(), &finding, "advice").await;
    assert!(advice["body"].as_str().unwrap().contains("vm112"), "{advice}");
    let proposal = wait_message(site.api(), &finding, "proposal").await;
    assert_eq!(proposal["author"], "A7");
    let sent = wait_until("the mail", PATIENCE, async || Ok(mail.received().first().cloned())).await.unwrap();
    assert_eq!(sent.to, "ops@farol.test");

    let inbox = site.api().items("/api/v1/agents/inbox").await.unwrap();
    assert!(inbox.iter().any(|message| message["id"] == opened["id"]), "{inbox:?}");

    let actions = site.api().items("/api/v1/actions?state=proposed").await.unwrap();
    assert_eq!(actions.len(), 1, "{actions:?}");
    let id = actions[0]["action_id"].as_str().unwrap();
    assert_eq!(actions[0]["risk_class"], "R1");
    assert_eq!(crate::support::count("restarted", &count), 0, "it ran before anybody approved");
    assert!(proposal["body"].as_str().unwrap().contains(id), "{proposal}");

    let mut approve = site.farol(&["approve", id, "--yes"]).unwrap();
    let token = site.token("lead", "ops_lead", None).await.unwrap();
    approve.env("FAROL_URL", site.api().base()).env("FAROL_TOKEN", token);
    process::output(&mut approve).await.unwrap();
    let done = site.wait_action(id, &["done"]).await.unwrap();
    let states: Vec<&str> =
        done["transitions"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["proposed", "approved", "queued", "sent", "accepted", "done"]);

    let resolved = site.wait_finding("the finding to resolve", |f| f["state"] == "resolved").await.unwrap();
    assert_eq!(resolved["id"], finding["id"]);
    wait_message(site.api(), &finding, "resolved").await;
    assert_eq!(crate::support::count("restarted", &count), 1);
    let mails = wait_until("the recovery mail", PATIENCE, async || {
        let mails = mail.received();
        Ok((mails.len() >= 2).then_some(mails))
    })
    .await
    .unwrap();
    assert_eq!(mails.len(), 2, "one problem, one recovery");
    assert!(mails[1].data.contains("In-Reply-To:"), "{}", mails[1].data);

    let log = site.api().items("/api/v1/agents/action-log?limit=200").await.unwrap();
    for verb in ["finding.opened", "action.proposed", "action.approved", "action.done", "finding.resolved"] {
        assert!(log.iter().any(|entry| entry["verb"] == verb), "{verb} is not in the record");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_findings_get_two_texts_and_each_cites_its_own_values() {
    let files = tempfile::tempdir().unwrap();
    let database = files.path().join("tickets.db");
    tickets(&database, &[("a", 1700.0), ("b", 42.0)]).await;
    let registry = format!(
        "version: 1
hosts: [{{name: vm122}}]
scenarios:
  - {{id: s1, title: Fila A, persona: A2, severity: medium, hosts: [vm122], every: 200ms, attempts: 1,
     checks: [{{name: c, probe: {{sqlite: {{path: {0}, query: \"select n from t where name = 'a'\", limits: {{critical: 10}}}}}}}}]}}
  - {{id: s2, title: Fila B, persona: A2, severity: medium, hosts: [vm122], every: 200ms, attempts: 1,
     checks: [{{name: c, probe: {{sqlite: {{path: {0}, query: \"select n from t where name = 'b'\", limits: {{critical: 10}}}}}}}}]}}
",
        database.display()
    );
    let llm = FakeOllama::start(ollama::Mood::Nonsense).await.unwrap();
    let url = llm.url();
    let site = Site::start(&registry, &[("AGENTIC_LLM_ENABLED", "true"), ("OLLAMA_BASE_URL", &url)]).await.unwrap();
    let advice = async |scenario: &str| {
        let finding = site.wait_finding(scenario, |finding| finding["scenario"] == scenario).await.unwrap();
        wait_message(site.api(), &finding, "advice").await["body"].as_str().unwrap().to_owned()
    };
    let (first, second) = (advice("s1").await, advice("s2").await);
    assert!(first.contains("1700") || first.contains("1.700"), "{first}");
    assert!(second.contains("42"), "{second}");
    assert_ne!(first, second);
    assert!(!first.contains("42 vezes"), "the model's invention got through: {first}");
    assert!(!llm.prompts().is_empty(), "the model was not asked");
}

async fn tickets(path: &Path, rows: &[(&str, f64)]) {
    use sqlx::{Connection as _, SqliteConnection};
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    sqlx::query("create table t (name text, n real)").execute(&mut connection).await.unwrap();
    for (name, n) in rows {
        sqlx::query("insert into t values ($1, $2)").bind(name).bind(n).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_stands_up_to_its_evidence_words_the_advice_and_one_that_fails_does_not_stop_it() {
    let registry = "version: 1
hosts: [{name: vm122}]
scenarios:
  - {id: s1, title: Porta, persona: A1, severity: high, hosts: [vm122], every: 200ms, attempts: 1,
     checks: [{name: c, probe: {tcp: {address: '127.0.0.1:1'}}}]}
";
    for (mood, source) in [
        (ollama::Mood::Fine, "t1"),
        (ollama::Mood::Broken, "t0"),
        (ollama::Mood::Silent, "t0"),
        (ollama::Mood::Nonsense, "t0"),
    ] {
        let llm = FakeOllama::start(mood).await.unwrap();
        let url = llm.url();
        let environment =
            [("AGENTIC_LLM_ENABLED", "true"), ("OLLAMA_BASE_URL", url.as_str()), ("FAROL_LLM_TIMEOUT", "1s")];
        let site = Site::start(registry, &environment).await.unwrap();
        let finding = site.wait_finding("a finding", |finding| finding["scenario"] == "s1").await.unwrap();
        wait_message(site.api(), &finding, "advice").await;
        let id = finding["id"].as_str().unwrap();
        let finding = site.api().get(&format!("/api/v1/findings/{id}")).await.unwrap();
        assert_eq!(finding["advice"]["source"], source, "{mood:?}: {finding}");

        let chat = json!({"message": "o que houve?", "finding_id": id});
        let reply = site.api().post("/api/v1/agents/chat", chat).await.unwrap();
        assert_eq!(reply["source"], source, "{mood:?}: {reply}");
        assert!(!reply["citations"].as_array().unwrap().is_empty(), "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_down_slow_or_talks_nonsense_delays_the_mail_and_nothing_else() {
    let registry = "version: 1
hosts: [{name: vm122}]
scenarios:
  - {id: s1, title: Porta, persona: A1, severity: high, hosts: [vm122], every: 200ms, attempts: 1,
     checks: [{name: c, probe: {tcp: {address: '127.0.0.1:1'}}}]}
";
    for mood in [smtp::Mood::Busy, smtp::Mood::Nonsense, smtp::Mood::Silent] {
        let mail = Smtp::start().await.unwrap();
        mail.set_mood(mood);
        let url = mail.url();
        let environment = [("FAROL_SMTP_URL", url.as_str()), ("DESK_ROOT_NOTIFY_EMAIL", "ops@farol.test")];
        let mut site = Site::start(registry, &environment).await.unwrap();
        let finding = site.wait_finding("a finding", |finding| finding["scenario"] == "s1").await.unwrap();
        wait_message(site.api(), &finding, "advice").await;
        mail.set_mood(smtp::Mood::Fine);
        if mood == smtp::Mood::Silent {
            // The delivery hangs; whoever takes over sends the mail.
            site.kill_coordinator().await.unwrap();
            site.start_coordinator().await.unwrap();
        }
        wait_until("the mail", Duration::from_secs(60), async || Ok((!mail.received().is_empty()).then_some(())))
            .await
            .unwrap();
        assert_eq!(mail.received().len(), 1, "{mood:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_without_its_variable_is_unknown_by_name_and_opens_no_finding() {
    let registry = "version: 1
hosts: [{name: vm112}]
variables: {WIZARD_URL: }
scenarios:
  - {id: wizard, title: Assistente, persona: A1, severity: high, hosts: [vm112], every: 200ms, attempts: 1,
     checks: [{name: c, probe: {http: {url: '${WIZARD_URL}/health'}}}]}
";
    let site = Site::start(registry, &[]).await.unwrap();
    let scenario = wait_until("the scenario to report", PATIENCE, async || {
        let scenarios = site.api().items("/api/v1/agents/scenarios").await?;
        Ok(scenarios.into_iter().find(|s| s["id"] == "wizard" && s.to_string().contains("observed_at\":\"")))
    })
    .await
    .unwrap();
    assert_eq!(scenario["status"], "unknown", "{scenario}");
    assert!(scenario.to_string().contains("WIZARD_URL"), "{scenario}");
    assert!(site.api().items("/api/v1/findings?state=all").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_agent_is_a_finding_that_a_returning_one_resolves_and_a_restart_of_the_coordinator_is_not() {
    let registry = "version: 1\nhosts: [{name: vm112}]\nsilence: {after: 2s, persona: A1, severity: high}\n";
    let mut site = Site::start(registry, &[]).await.unwrap();
    let mut agent = site.agent("vm112", None).await.unwrap();
    site.kill_coordinator().await.unwrap();
    site.start_coordinator().await.unwrap();
    site.wait_host("vm112", "online").await.unwrap();
    assert!(site.api().items("/api/v1/findings?state=all").await.unwrap().is_empty());

    agent.kill().await.unwrap();
    let finding = site.wait_finding("the silence", |finding| finding["scenario"] == "agent.silence").await.unwrap();
    assert_eq!((&finding["state"], &finding["host"]), (&json!("open"), &json!("vm112")));
    let id = finding["id"].as_str().unwrap();
    let ack = json!({"comment": "vou ver"});
    let acked = site.api().post(&format!("/api/v1/agents/findings/{id}/ack"), ack).await.unwrap();
    assert_eq!(acked["state"], "acknowledged");
    agent.start().unwrap();
    site.wait_finding("the end of the silence", |finding| finding["id"] == id && finding["state"] == "resolved")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hosts_policy_does_not_allow_is_refused_by_the_host_itself() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let policy = "version: 1\nmax_unsigned_class: R2\ncommands: [{command: /bin/echo, args: [ok], class: R2}]\n";
    let agent = site.agent("vm112", Some(policy)).await.unwrap();
    let run = async |command: &str, args: &[&str]| {
        let id = site.api().propose_command("vm112", command, args).await.unwrap();
        site.api().approve(&id).await.unwrap();
        site.wait_action(&id, &["done", "failed", "refused"]).await.unwrap()
    };
    let done = run("/bin/echo", &["ok"]).await;
    assert_eq!((&done["state"], &done["outcome"]["stdout"]), (&json!("done"), &json!("ok\n")));
    let other = run("/bin/echo", &["other"]).await;
    assert_eq!((&other["state"], &other["reason_code"]), (&json!("refused"), &json!("not_allowed")));

    std::fs::write(agent.policy(), policy.replace("class: R2}", "class: R3}")).unwrap();
    let raised = run("/bin/echo", &["ok"]).await;
    assert_eq!((&raised["state"], &raised["reason_code"]), (&json!("refused"), &json!("signature_required")));
    let again = site.api().items("/api/v1/actions?state=proposed").await.unwrap();
    assert_eq!(again[0]["risk_class"], "R3", "it is planned again at the host's class: {again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_line_of_a_connection_is_json_with_its_ids_and_no_output() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let policy = "version: 1\nmax_unsigned_class: R2\ncommands: [{command: /bin/echo, args: ['*'], class: R2}]\n";
    let agent = site.agent("vm112", Some(policy)).await.unwrap();
    let id = site.api().propose_command("vm112", "/bin/echo", &["canary-output"]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    site.wait_action(&id, &["done"]).await.unwrap();
    for log in [site.coordinator().unwrap().log(), agent.process().unwrap().log()] {
        let text = log.join("\n");
        let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.iter().all(|line| line["timestamp"].is_string()), "{text}");
        let of_action: Vec<&Value> = lines.iter().filter(|line| line["action_id"] == id.as_str()).collect();
        assert!(!of_action.is_empty(), "{text}");
        for line in of_action {
            assert!(line["agent_id"].is_string() && line["session_id"].is_string(), "{line}");
        }
        assert!(!text.contains("canary-output"), "an output is in a log: {text}");
        assert!(!text.contains("farol_") || !text.contains("farol-enrol_"), "a token is in a log: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_is_withdrawn_when_its_finding_resolves_without_it() {
    let files = tempfile::tempdir().unwrap();
    let (switch, count) = (files.path().join("up"), files.path().join("count"));
    let url = format!("http://{}/health", portal(&switch).await);
    let site = Site::start(&registry_with_portal(&url), &[]).await.unwrap();
    let _agent = site.agent("vm112", Some(&policy(&switch, &count))).await.unwrap();
    let finding = site.wait_finding("a finding", |f| f["scenario"] == "wizard.portal").await.unwrap();
    wait_message(site.api(), &finding, "proposal").await;
    let proposed = site.api().items("/api/v1/actions?state=proposed").await.unwrap();
    let id = proposed[0]["action_id"].as_str().unwrap();
    std::fs::write(&switch, "").unwrap();
    site.wait_finding("the finding to resolve", |f| f["state"] == "resolved").await.unwrap();
    site.wait_action(id, &["cancelled"]).await.unwrap();
    assert_eq!(crate::support::count("restarted", &count), 0);
}
