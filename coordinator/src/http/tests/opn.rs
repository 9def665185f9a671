//! The registry of OPNsense firewalls, with stand-ins for firewalls.

use farol_tests::opnsense::{FakeOpnsense, KEY, SECRET};

use super::*;

fn firewall(name: &str, base_url: &str, secret: &str) -> Value {
    json!({"name": name, "base_url": base_url, "api_key": KEY, "api_secret": secret, "verify_tls": false, "tags": ["edge"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_is_added_tested_listed_and_asked_and_its_secret_is_in_no_answer() {
    let site = Site::start().await;
    let fake = FakeOpnsense::start().await.expect("a stand-in");
    let seo = site.token("sara", Role::Seo).await;
    let body = firewall("edge", &fake.product.url(), SECRET);
    assert_eq!(site.post_as(&seo, "/opn/add", body.clone()).await.0, 403);
    let (status, added) = site.post("/opn/add", body.clone()).await;
    assert_eq!((status, &added["tested"]), (200, &json!(true)), "{added}");
    assert_eq!(added["info"]["endpoint"], "core/firmware/status");
    assert_eq!(added["info"]["version"], "26.7.1");
    assert_eq!(site.post("/opn/add", body).await.0, 409);
    let id = added["id"].as_str().expect("an id");

    let (_, listed) = site.get("/opn/list").await;
    let known = &listed[0];
    assert_eq!((&known["id"], &known["name"], &known["verify_tls"]), (&added["id"], &json!("edge"), &json!(false)));
    assert_eq!((&known["base_url"], &known["tags"]), (&json!(fake.product.url()), &json!(["edge"])));
    assert_eq!((&known["version"], &known["last_error"]), (&json!("26.7.1"), &Value::Null));
    assert!(known["last_seen"].is_string() && known["created_at"].is_string() && known["updated_at"].is_string());

    let (_, interfaces) = site.get(&format!("/opn/{id}/interfaces")).await;
    assert_eq!(interfaces["endpoint"], "interfaces/overview/interfaces_info");
    assert_eq!(interfaces["items"][0]["device"], "igb0");
    assert_eq!(interfaces["items"][0]["addresses"], json!(["192.0.2.10/24"]));
    let (_, metrics) = site.get(&format!("/opn/{id}/metrics")).await;
    assert_eq!((&metrics["uptime"], &metrics["load"]), (&json!("3 days, 04:05:06"), &json!([0.2, 0.3, 0.3])));
    assert_eq!(metrics["memory"]["total"], 8_478_531_584.0);
    assert_eq!(metrics["gateways"][1], json!({"name": "LTE", "status": "none", "loss_pct": null, "delay_ms": null}));
    assert_eq!(metrics["interfaces"][0]["received_bytes"], 123_456.0);
    let all = [added, listed, interfaces, metrics].map(|answer| answer.to_string()).concat();
    assert!(!all.contains(SECRET) && !all.contains(KEY), "{all}");
    assert!(fake.product.asked().iter().all(|one| one.method == "GET"), "it only reads");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_falls_back_over_the_commands_that_a_limited_key_reaches_and_says_which_told() {
    let site = Site::start().await;
    let fake = FakeOpnsense::start().await.expect("a stand-in");
    fake.change(|firewall| {
        firewall.forbidden = ["core/firmware/status", "core/system/status"].map(str::to_owned).into();
    });
    let (_, added) = site.post("/opn/add", firewall("edge", &fake.product.url(), SECRET)).await;
    assert_eq!(added["info"]["endpoint"], "diagnostics/system/system_information", "{added}");
    let (_, health) = site.get("/opn/edge/health").await;
    assert_eq!((&health["ok"], &health["version"]), (&json!(true), &json!("26.7.1-amd64")));
    assert_eq!(health["tried"][0]["endpoint"], "core/firmware/status");
    assert!(health["tried"][0]["error"].as_str().expect("text").contains("403"), "{health}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_that_refuses_or_is_gone_stays_known_with_its_error() {
    let site = Site::start().await;
    let fake = FakeOpnsense::start().await.expect("a stand-in");
    let (status, added) = site.post("/opn/add", firewall("edge", &fake.product.url(), "another-secret")).await;
    assert_eq!((status, &added["tested"]), (200, &json!(false)), "{added}");
    assert!(added["info"]["error"].as_str().expect("text").contains("401"), "{added}");
    assert_eq!(fake.product.asked().len(), 1, "a refused key is not tried on other commands");
    let (_, listed) = site.get("/opn/list").await;
    assert_eq!(listed[0]["last_error"], added["info"]["error"]);
    fake.product.stop();
    let (status, problem) = site.get("/opn/edge/metrics").await;
    assert_eq!((status, &problem["code"]), (502, &json!("firewall_no_answer")), "{problem}");
    assert_eq!(site.get("/opn/nobody/health").await.0, 404);
    let (status, problem) = site.post("/opn/add", firewall("edge 2", "ftp://x", SECRET)).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_body")), "{problem}");
    site.end().await;
}
