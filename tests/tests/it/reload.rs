//! A registry that changes while findings are open.

use std::time::Duration;

use farol_tests::{Site, process, smtp::Smtp, wait::wait_until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_outlives_its_check_until_a_person_closes_it_and_its_end_is_told() {
    const WITHOUT: &str = "version: 1\nhosts: [{name: vm112}]\n";
    // Nobody listens there.
    let with = format!(
        "{WITHOUT}scenarios:\n  - {{id: web, title: Site, persona: A1, severity: high, hosts: [vm112], every: 300ms, \
         timeout: 1s, checks: [{{name: tcp, probe: {{tcp: {{address: '127.0.0.1:9'}}}}}}]}}\n"
    );
    let smtp = Smtp::start().await.unwrap();
    let mail = [("FAROL_SMTP_URL", smtp.url()), ("DESK_ROOT_NOTIFY_EMAIL", "root@example.org".to_owned())];
    let mail = mail.each_ref().map(|(name, value)| (*name, value.as_str()));
    let site = Site::start(&with, &mail).await.unwrap();
    let finding = site.wait_finding("the site's problem", |finding| finding["check"] == "web").await.unwrap();
    let id = finding["id"].as_str().unwrap();
    let mails = |count: usize| {
        let smtp = &smtp;
        wait_until("the mail", Duration::from_secs(20), move || async move {
            let mails = smtp.received();
            Ok((mails.len() >= count).then_some(mails))
        })
    };
    mails(1).await.unwrap();
    let command = ["findings", "close", id, "--comment", "retired", "--json"];
    let token = site.token("closer", "ops_lead", None).await.unwrap();
    let close = || {
        let mut farol = site.farol(&command).unwrap();
        farol.env("FAROL_TOKEN", &token).env("FAROL_URL", site.api().base());
        farol
    };
    let refused = close().output().await.unwrap();
    assert!(!refused.status.success(), "its check still fails: {refused:?}");

    std::fs::write(site.folder().join("registry.yaml"), WITHOUT).unwrap();
    wait_until("the scenario is gone", Duration::from_secs(20), || async {
        let scenarios = site.api().get("/api/v1/agents/scenarios").await?;
        Ok(scenarios["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await
    .unwrap();
    let path = format!("/api/v1/findings/{id}");
    assert_eq!(site.api().get(&path).await.unwrap()["state"], "open", "absence resolves nothing");
    assert_eq!(process::json(&mut close()).await.unwrap()["state"], json!("resolved"));
    let mails = mails(2).await.unwrap();
    assert_eq!(mails.len(), 2);
    assert!(mails[1].data.contains("In-Reply-To:") && mails[1].data.contains("retired"), "{}", mails[1].data);
}
