//! Issues about findings, and what is shown of the integration behind them.

use super::*;
use crate::integrations::github::tests::{Fault, StandIn};

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_becomes_an_issue_once_and_the_integrations_secret_is_shown_nowhere() {
    let site = Site::start().await;
    let finding = site.store.some_finding("Portal", "no answer").await.id;
    let path = format!("/api/v1/findings/{finding}/issue");
    let devops = site.token("dora", Role::Devops).await;
    let seo = site.token("sara", Role::Seo).await;
    let (status, problem) = site.post_as(&devops, &path, json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("no_integration")));

    let (github, there) = StandIn::start().await;
    let integration = json!({"name": "github", "kind": "github", "endpoints": there.endpoints,
        "secret": "ghp_right_token", "site": "lab", "options": {"repository": "lab/portal, lab/other"}});
    assert_eq!(site.post("/api/v1/integrations", integration).await.0, 201);
    assert_eq!(site.post_as(&seo, &path, json!({})).await.0, 403);
    assert_eq!(site.post_as(&devops, "/api/v1/findings/none/issue", json!({})).await.0, 404);
    let (status, problem) = site.post_as(&devops, &path, json!({"repository": "../etc"})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_body")));
    let issues = "/repos/lab/portal/issues";
    github.fail(Method::POST, issues, Fault::Answer(410, vec![], json!({"message": "Issues are disabled"})));
    let (status, problem) = site.post_as(&devops, &path, json!({"repository": "lab/portal"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("issues_disabled")));

    let (status, opened) = site.post_as(&devops, &path, json!({"repository": "lab/portal"})).await;
    assert_eq!((status, &opened["created"], &opened["number"]), (201, &json!(true), &json!(1)), "{opened}");
    assert!(opened["html_url"].as_str().is_some_and(|url| url.starts_with("https://github.test/")), "{opened}");
    let (status, again) = site.post_as(&devops, &path, json!({"repository": "lab/portal"})).await;
    assert_eq!((status, &again["created"], &again["number"]), (200, &json!(false), &json!(1)));
    assert_eq!((github.issues(), github.asked(Method::POST).len()), (1, 2), "one refused, one made");
    let (_, log) = site.get("/api/v1/agents/action-log?limit=200").await;
    let entry = log["items"].as_array().expect("items").iter().find(|entry| entry["verb"] == "issue.create");
    assert_eq!(entry.expect("it is in the record")["actor"], "dora");

    let (_, list) = site.get("/api/integrations").await;
    assert_eq!((&list[0]["type"], &list[0]["endpoint"]), (&json!("github"), &json!(there.endpoints[0])), "{list}");
    for path in ["/api/integrations", "/api/sites", "/api/v1/integrations"] {
        let (status, body) = site.get(path).await;
        assert!(status == 200 && !body.to_string().contains("ghp_"), "{path}: {body}");
    }

    let other = json!({"repository": "lab/other"});
    github.fail(
        Method::GET,
        "/repos/lab/other/issues",
        Fault::Answer(429, vec![("retry-after", "40".to_owned())], json!({})),
    );
    let response = site.request(Method::POST, &path).bearer_auth(&devops).json(&other).send().await.expect("an answer");
    assert_eq!(response.status(), 503);
    let seconds: i64 = response.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((30..=41).contains(&seconds), "{seconds}");
    site.end().await;
}
