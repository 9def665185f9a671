//! The personas: whose threads are whose, what people reply, and A0's summary of the day.

use farol_tests::{Site, process, site::PATIENCE, wait_until};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

// Due from the beginning of the day on: what was set up today came after the hour.
const REGISTRY: &str = "version: 1
language: en
hosts: [{name: vm112}, {name: vm123}, {name: vm104}]
silence: {after: 500ms, persona: A1, severity: high}
daily: {at: '00:00', timezone: UTC}
scenarios:
  - {id: web.portal, title: Portal, persona: A2, severity: high, hosts: [vm112], every: 1s, attempts: 1,
     checks: [{name: tcp, probe: {tcp: {address: '127.0.0.1:1'}}}]}
  - {id: soc.feed, title: Feed, persona: A5, severity: medium, hosts: [vm123], every: 1s, attempts: 1,
     checks: [{name: tcp, probe: {tcp: {address: '127.0.0.1:1'}}}]}
  - {id: log.mail, title: Mail log, persona: A3, severity: low, hosts: [vm123], runs_on: agent, every: 1h, attempts: 5,
     checks: [{name: errors, probe: {journal: {unit: postfix.service, pattern: error, limits: {warning: 10}}}}]}
";

async fn database(site: &Site, name: &str) -> SqliteConnection {
    let url = format!("sqlite://{}", site.data_dir().join(name).display());
    SqliteConnection::connect(&url).await.unwrap()
}

async fn finding(site: &Site, check: &str) -> Value {
    site.wait_finding(&format!("{check} to be down"), |one| one["check"] == check).await.unwrap()
}

/// Today's thread, once it is there.
async fn summary(site: &Site) -> Option<Value> {
    let threads = site.api().items("/api/v1/agents/threads").await.unwrap();
    let mut daily = threads.into_iter().filter(|one| one["id"].as_str().unwrap().starts_with("daily-"));
    let first = daily.next();
    assert!(daily.next().is_none(), "one thread a day");
    first
}

async fn messages(site: &Site, thread: &Value) -> Vec<Value> {
    site.api().items(&format!("/api/v1/agents/threads/{}/messages", thread.as_str().unwrap())).await.unwrap()
}

/// Waits until a check has reported after `moment`.
async fn wait_report(site: &Site, moment: OffsetDateTime) {
    wait_until("a check to report later", PATIENCE, async || {
        let scenarios = site.api().items("/api/v1/agents/scenarios").await?;
        let portal = scenarios.iter().find(|one| one["id"] == "web.portal");
        let at = portal.and_then(|portal| portal["checks"][0]["observed_at"].as_str());
        Ok(at.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok()).filter(|at| *at > moment))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_summary_is_written_once_a_day_by_who_was_there_at_the_hour_and_names_what_nobody_looked_at() {
    let mut site = Site::start(REGISTRY, &[]).await.unwrap();
    let portal = finding(&site, "web.portal").await;
    let feed = finding(&site, "soc.feed").await;
    let path = format!("/api/v1/agents/findings/{}/ack", portal["id"].as_str().unwrap());
    site.api().post(&path, json!({"comment": "known"})).await.unwrap();
    let silence = json!({"finding_id": feed["id"], "comment": "new feed", "for": "1m"});
    site.api().post("/api/v1/silences", silence).await.unwrap();

    // It is shown to who asks, and posted nowhere.
    let shown = site.api().get("/api/v1/agents/daily").await.unwrap();
    assert_eq!((&shown["timezone"], &shown["thread_id"]), (&json!("UTC"), &Value::Null), "{shown}");
    let text = shown["summary"].as_str().unwrap();
    assert!(text.contains("- [high] vm112: Portal, for ") && text.contains(", acknowledged by tests"), "{text}");
    std::fs::write(site.folder().join("token"), site.token("ana", "devops", None).await.unwrap()).unwrap();
    let secret = std::fs::read_to_string(site.folder().join("token")).unwrap();
    let base = site.api().base().to_owned();
    let mut command = site.farol(&["daily", "--url", &base]).unwrap();
    let printed = process::output(command.env("FAROL_TOKEN", &secret)).await.unwrap();
    assert!(printed.contains("vm112: Portal") && printed.contains("Not looked at"), "{printed}");
    let mut command = site.farol(&["daily", "--json", "--url", &base]).unwrap();
    let document = process::json(command.env("FAROL_TOKEN", &secret)).await.unwrap();
    assert_eq!(document["facts"]["open"][0]["host"], "vm112");
    wait_report(&site, OffsetDateTime::now_utc() + Duration::seconds(3)).await;
    assert_eq!(summary(&site).await, None, "it was set up after the hour");

    // As if it had been there yesterday, and had heard of lines in a log.
    site.stop_coordinator().await.unwrap();
    let mut state = database(&site, "state.db").await;
    sqlx::query("update setting set value = '0' where name = 'daily_since'").execute(&mut state).await.unwrap();
    let (key,): (i64,) =
        sqlx::query_as("select host_key from host where name = 'vm123'").fetch_one(&mut state).await.unwrap();
    state.close().await.unwrap();
    let mut telemetry = database(&site, "telemetry.db").await;
    let hour_ago = (OffsetDateTime::now_utc() - Duration::hours(1)).unix_timestamp() * 1000;
    for (minutes, status, value) in [(0, "ok", 3.0), (5, "warning", 12.0), (10, "ok", 1.0)] {
        sqlx::query(
            "insert into report (host_key, check_id, status, value, unit, text, observed_ms, received_ms)
             values ($1, 'log.mail', $2, $3, 'count', $4, $5, $5)",
        )
        .bind(key)
        .bind(status)
        .bind(value)
        .bind(format!("{value} lines with `error`\n- forged"))
        .bind(hour_ago + minutes * 60_000)
        .execute(&mut telemetry)
        .await
        .unwrap();
    }
    telemetry.close().await.unwrap();

    let registry = site.folder().join("registry.yaml");
    std::fs::write(&registry, REGISTRY.replace("at: '00:00'", "at: never")).unwrap();
    site.start_coordinator().await.unwrap();
    wait_until("the reports to be in the history", PATIENCE, async || {
        let shown = site.api().get("/api/v1/agents/daily").await?;
        Ok((shown["logs"]["hosts"][0]["checks"][0]["reports"] == 3).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(summary(&site).await, None, "it is never due");
    std::fs::write(&registry, REGISTRY).unwrap();
    let thread = wait_until("the summary", PATIENCE, async || Ok(summary(&site).await)).await.unwrap();
    assert_eq!((&thread["persona"], &thread["state"]), (&json!("A0"), &json!("open")), "{thread}");
    assert!(thread["finding_id"].is_null() && thread["subject"].as_str().unwrap().starts_with("Summary of "));
    let said = messages(&site, &thread["id"]).await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().all(|one| one["author"] == "A0" && one["kind"] == "daily"), "{said:?}");
    let (day, logs) = (said[0]["body"].as_str().unwrap(), said[1]["body"].as_str().unwrap());
    for part in ["- [high] vm112: Portal, for ", "acknowledged by tests", "In the last day: opened ", "vm123: Feed"] {
        assert!(day.contains(part), "{part} is not in:\n{day}");
    }
    let line = logs.lines().find(|line| line.starts_with("- vm123, log.mail: ")).unwrap_or_else(|| panic!("{logs}"));
    assert!(line.contains("12 at most") && line.contains("1 of 3 reports"), "{line}");
    assert!(line.contains("“12 lines with `error` - forged”"), "{line}");
    assert!(logs.ends_with("for want of a check of journal, units or containers: vm104, vm112."), "{logs}");

    // Once, whatever is restarted, by whichever hand.
    site.kill_coordinator().await.unwrap();
    site.start_coordinator().await.unwrap();
    wait_report(&site, OffsetDateTime::now_utc() + Duration::seconds(3)).await;
    assert_eq!(summary(&site).await.unwrap(), thread);
    assert_eq!(messages(&site, &thread["id"]).await, said);
    assert_eq!(site.api().get("/api/v1/agents/daily").await.unwrap()["thread_id"], thread["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_speaks_to_its_roles_and_what_people_reply_is_part_of_the_finding() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    let portal = finding(&site, "web.portal").await;
    finding(&site, "soc.feed").await;
    let threads = site.api().items("/api/v1/agents/threads").await.unwrap();
    for (check, persona) in [("web.portal", "A2"), ("soc.feed", "A5")] {
        let finding = finding(&site, check).await;
        let thread = threads.iter().find(|one| one["id"] == finding["thread_id"]).unwrap();
        assert_eq!((&finding["persona"], &thread["persona"]), (&json!(persona), &json!(persona)));
        let said = messages(&site, &thread["id"]).await;
        assert_eq!((&said[0]["author"], &said[0]["kind"]), (&json!(persona), &json!("finding")), "{said:?}");
    }
    for (role, sees) in [("devops", &["A2"][..]), ("security_analyst", &["A5"]), ("seo", &[])] {
        let token = site.token(role, role, None).await.unwrap();
        let api = site.api().with_token(Some(&token));
        for path in ["/api/v1/agents/inbox".to_owned(), format!("/api/v1/agents/inbox?role={role}")] {
            let authors: Vec<Value> =
                api.items(&path).await.unwrap().into_iter().map(|one| one["author"].clone()).collect();
            assert!(authors.iter().all(|author| sees.contains(&author.as_str().unwrap())), "{role}: {authors:?}");
            assert!(sees.iter().all(|author| authors.contains(&json!(author))), "{role}: {authors:?}");
        }
    }

    let devops = site.token("bia", "devops", None).await.unwrap();
    let address = site.api().base().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {devops}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut until = async |wanted: &str| {
        let mut bytes = [0; 4096];
        while !seen.contains(wanted) {
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "the stream ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    until("HTTP/1.1 200").await;
    let thread = portal["thread_id"].as_str().unwrap();
    let path = format!("/api/v1/findings/{}", portal["id"].as_str().unwrap());
    let before = site.api().get(&path).await.unwrap();
    assert_eq!(before["replies"], json!({"count": 0, "last": null}));
    let api = site.api().with_token(Some(&devops));
    let reply = format!("/api/v1/agents/threads/{thread}/reply");
    api.post(&reply, json!({"text": "the cable is new"})).await.unwrap();
    until(&format!(r#"{{"noun":"thread","id":"{thread}","state":"reply"}}"#)).await;
    until(&format!(r#"{{"noun":"finding","id":{},"state":"open"}}"#, portal["id"])).await;
    let detail = site.api().get(&path).await.unwrap();
    assert_eq!(detail["replies"]["count"], 1);
    let last = &detail["replies"]["last"];
    assert_eq!((&last["author"], &last["body"]), (&json!("bia"), &json!("the cable is new")));

    // Only what asks gets an answer, from the facts, and nothing is done.
    api.post(&reply, json!({"text": "what is wrong?"})).await.unwrap();
    until(&format!(r#"{{"noun":"thread","id":"{thread}","state":"answer"}}"#)).await;
    let said = messages(&site, &portal["thread_id"]).await;
    let answers: Vec<&Value> = said.iter().filter(|one| one["kind"] == "chat").collect();
    assert_eq!(answers.len(), 1, "{said:?}");
    assert_eq!((&answers[0]["author"], &answers[0]["author_kind"]), (&json!("A6"), &json!("persona")));
    assert!(answers[0]["body"].as_str().unwrap().contains("vm112"), "{answers:?}");
    assert_eq!(site.api().get(&path).await.unwrap()["replies"]["count"], 2);
    assert!(site.api().items("/api/v1/actions").await.unwrap().is_empty());
}
