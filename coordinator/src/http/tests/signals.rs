//! Who may say what about which host.

use tokio::task::JoinSet;

use super::*;
use crate::store::signals::{Filter, SignalRow};

/// The token that senders share.
pub(super) const SHARED: &str = "shared-by-all-who-send-signals-0123456789";

async fn post(site: &Site, site_id: &str, hostname: &str) -> SignalRow {
    let body = json!({"site_id": site_id, "kind": "agent_facts", "summary": "s", "severity": "high",
        "detail": {"hostname": hostname}});
    assert_eq!(site.post("/api/signals", body).await.0, 201);
    site.store.signals(&Filter::default(), 1).await.expect("read").remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_that_are_no_host_here_do_not_answer_for_each_other() {
    let site = Site::start().await;
    let a = post(&site, "lab", "agent-a").await;
    let b = post(&site, "lab", "agent-b").await;
    assert_eq!(a.host, b.host, "both are told of their site");
    assert_ne!(a.check, b.check);
    assert_eq!(post(&site, "lab", "Agent-A").await.check, a.check);
    let from = |source: &str| json!({"site_id": "lab", "kind": "agent_facts", "summary": "s", "source": source});
    let mut checks = vec![a.check, b.check];
    for source in ["one", "two"] {
        assert_eq!(site.post("/api/signals", from(source)).await.0, 201);
        checks.push(site.store.signals(&Filter::default(), 1).await.expect("read").remove(0).check);
    }
    checks.sort();
    checks.dedup();
    assert_eq!(checks.len(), 4, "{checks:?}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_site_is_not_named_by_its_short_name_and_no_site_by_its_own() {
    let site = Site::start().await;
    site.enrol("vm112").await;
    let vm112 = site.store.host("vm112").await.expect("there").key;
    assert_eq!(post(&site, "lab", "vm112.lan").await.host, vm112);
    let other = post(&site, "b", "vm112.customer-b.example").await.host;
    assert_eq!(other, site.store.host("site:b").await.expect("made").key);
    post(&site, "lab", "unknown").await;
    assert_eq!(post(&site, "b", "site:lab").await.host, other);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_token_is_slowed_down_as_a_hosts_is() {
    let site = Site::start().await;
    let mut posts = JoinSet::new();
    for _ in 0..300 {
        let request = site.request(Method::POST, "/api/signals").bearer_auth(SHARED).json(&json!({}));
        posts.spawn(async move { request.send().await.expect("an answer").status().as_u16() });
    }
    let statuses = posts.join_all().await;
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status != 429).count() >= 60, "{statuses:?}");
    site.end().await;
}
