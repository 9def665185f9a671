//! A real Alertmanager that sends its alerts to Farol.

use std::process::Stdio;

use farol_tests::{
    Site,
    site::{PATIENCE, free_address},
    wait_until,
};
use serde_json::json;
use tokio::process::Command;

const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_alertmanager_sends_opens_a_finding_and_resolves_it() {
    if !std::path::Path::new(PROGRAM).exists() {
        eprintln!("SKIPPED: {PROGRAM} is missing; install the package prometheus-alertmanager");
        return;
    }
    let shared = "a-token-that-senders-share";
    let registry = "version: 1\nsites: [{id: lab, name: Lab}]\nhosts: [{name: vm112, site: lab}]\n";
    let site = Site::start(registry, &[("FAROL_SIGNALS_TOKEN", shared)]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), shared).unwrap();
    let config = format!(
        "route: {{receiver: farol, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: farol
    webhook_configs:
      - url: {}/api/v1/alertmanager
        send_resolved: true
        http_config: {{authorization: {{credentials_file: {}}}}}
",
        site.api().base(),
        folder.path().join("token").display()
    );
    std::fs::write(folder.path().join("config.yml"), config).unwrap();
    let address = free_address().await.unwrap();
    let mut alertmanager = Command::new(PROGRAM)
        .arg(format!("--config.file={}", folder.path().join("config.yml").display()))
        .arg(format!("--storage.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    wait_until("Alertmanager to be ready", PATIENCE, async || {
        let ready = client.get(format!("http://{address}/-/ready")).send().await;
        Ok(ready.is_ok_and(|answer| answer.status().is_success()).then_some(()))
    })
    .await
    .unwrap();

    let began = time::OffsetDateTime::now_utc() - time::Duration::minutes(5);
    let rfc = |at: time::OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let alert = |ends: Option<time::OffsetDateTime>| {
        json!([{
            "labels": {"alertname": "InstanceDown", "instance": "vm112:9100", "severity": "critical"},
            "annotations": {"summary": "vm112 não responde"}, "startsAt": rfc(began), "endsAt": ends.map(rfc),
        }])
    };
    let post = async |body: serde_json::Value| {
        let answer = client.post(format!("http://{address}/api/v2/alerts")).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    };
    post(alert(None)).await;
    let finding = site.wait_finding("the alert's finding", |finding| finding["state"] == "open").await.unwrap();
    assert_eq!((&finding["host"], &finding["title"]), (&json!("vm112"), &json!("Alerta: InstanceDown")), "{finding}");
    let opened: farol_protocol::Timestamp = finding["opened_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(opened, farol_protocol::Timestamp::from(began), "its own time, not that of receipt");
    let suggestions = site.api().get("/api/suggestions").await.unwrap();
    assert_eq!(suggestions[0]["related_runbook_ids"], json!(["rb-host-unreachable"]), "{suggestions}");

    post(alert(Some(began + time::Duration::minutes(4)))).await;
    site.wait_finding("its end", |finding| finding["state"] == "resolved").await.unwrap();
    alertmanager.kill().await.unwrap();
}
