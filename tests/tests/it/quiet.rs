//! Silences, maintenance, and backups of a hypervisor.

use farol_tests::{Site, process, proxmox::FakeProxmox, site::PATIENCE, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const REGISTRY: &str = "version: 1
language: en
sites: [{id: lab, name: Lab}]
hosts: [{name: vm112, site: lab, vmid: 112}, {name: vm123, site: lab}]
scenarios:
  - {id: web.portal, title: Portal, persona: A1, severity: high, hosts: [vm112], every: 1s, attempts: 1,
     checks: [{name: tcp, probe: {tcp: {address: '127.0.0.1:1'}}}]}
";

fn rfc(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap()
}

async fn quiet(site: &Site) -> Vec<Value> {
    site.api().items("/api/v1/quiet").await.unwrap()
}

/// Waits until exactly this is in force.
async fn wait_quiet(site: &Site, ids: &[&str]) -> Vec<Value> {
    wait_until(&format!("{ids:?} to be in force"), PATIENCE, async || {
        let present = quiet(site).await;
        let same = present.len() == ids.len() && present.iter().zip(ids).all(|(one, id)| one["id"] == *id);
        Ok(same.then_some(present))
    })
    .await
    .unwrap()
}

async fn farol(site: &Site, arguments: &[&str]) -> anyhow::Result<String> {
    let token = site.api().base();
    let mut command = site.farol(&[arguments, &["--url", token]].concat())?;
    let secret = std::fs::read_to_string(site.folder().join("token"))?;
    process::output(command.env("FAROL_TOKEN", secret)).await
}

/// A token for the command line.
async fn login(site: &Site) {
    let token = site.token("ana", "ops_lead", None).await.unwrap();
    std::fs::write(site.folder().join("token"), token).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_in_force_from_now_until_its_time_or_its_early_end_and_stays_on_the_record() {
    let mut site = Site::start(REGISTRY, &[]).await.unwrap();
    let body = json!({"hosts": ["vm112"], "scenario": "web.*", "comment": "new disk", "for": "90m"});
    let made = site.api().post("/api/v1/silences", body).await.unwrap();
    let id = format!("silence/{}", made["id"].as_str().unwrap());
    assert_eq!((&made["in_force"], &made["next_change_at"]), (&json!(true), &made["until"]), "{made}");
    assert_eq!((&made["created_by"], &made["hosts"]), (&json!("tests"), &json!(["vm112"])));
    assert!(made["summary"].as_str().unwrap().contains("new disk"));
    let present = wait_quiet(&site, &[&id]).await;
    assert_eq!((&present[0]["kind"], &present[0]["hosts"]), (&json!("silence"), &json!(["vm112"])));
    assert_eq!((&present[0]["scenario"], &present[0]["until"]), (&json!("web.*"), &made["until"]));

    // It outlives the coordinator.
    site.stop_coordinator().await.unwrap();
    site.start_coordinator().await.unwrap();
    wait_quiet(&site, &[&id]).await;

    // Two hours unless said otherwise, and over by itself.
    let usual = site.api().post("/api/v1/silences", json!({"sites": ["lab"], "comment": "x"})).await.unwrap();
    let lasts = |silence: &Value| {
        let at = |field: &str| OffsetDateTime::parse(silence[field].as_str().unwrap(), &Rfc3339).unwrap();
        at("until") - at("created_at")
    };
    assert_eq!((lasts(&usual), lasts(&made)), (Duration::hours(2), Duration::minutes(90)));
    let until = rfc(OffsetDateTime::now_utc() + Duration::seconds(2));
    let short = site.api().post("/api/v1/silences", json!({"all": true, "comment": "blip", "until": until})).await;
    let short = format!("silence/{}", short.unwrap()["id"].as_str().unwrap());
    let usual_id = format!("silence/{}", usual["id"].as_str().unwrap());
    wait_quiet(&site, &[&id, &usual_id, &short]).await;
    wait_quiet(&site, &[&id, &usual_id]).await;

    let path = format!("/api/v1/silences/{}", usual["id"].as_str().unwrap());
    let (status, ended) = site.api().call(Method::DELETE, &path, None).await.unwrap();
    assert_eq!((status, &ended["in_force"]), (StatusCode::OK, &json!(false)), "{ended}");
    assert!(ended["next_change_at"].is_null() && ended["ended_by"] == "tests" && ended["ended_at"].is_string());
    wait_quiet(&site, &[&id]).await;
    let (status, problem) = site.api().call(Method::DELETE, &path, None).await.unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("refused")), "{problem}");

    assert_eq!(site.api().items("/api/v1/silences").await.unwrap().len(), 1);
    assert_eq!(site.api().items("/api/v1/silences?state=all").await.unwrap().len(), 3);
    let record = site.api().items("/api/v1/agents/action-log").await.unwrap();
    let verbs: Vec<(&str, &str)> = record
        .iter()
        .filter(|entry| entry["object"]["kind"] == "silence")
        .map(|entry| (entry["verb"].as_str().unwrap(), entry["actor"].as_str().unwrap()))
        .collect();
    let added = ("silence.added", "tests");
    assert_eq!(verbs, [("silence.ended", "tests"), added, added, added]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_on_a_finding_covers_its_check_and_watchers_are_told() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    let finding = site.wait_finding("the portal to be down", |one| one["check"] == "web.portal").await.unwrap();
    let token = site.token("watcher", "seo", None).await.unwrap();
    let address = site.api().base().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
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

    let body = json!({"finding_id": finding["id"], "comment": "known"});
    let made = site.api().post("/api/v1/silences", body).await.unwrap();
    assert_eq!((&made["finding_id"], &made["check"]), (&finding["id"], &json!("web.portal")));
    assert_eq!(made["hosts"], json!(["vm112"]));
    let id = format!("silence/{}", made["id"].as_str().unwrap());
    let present = wait_quiet(&site, &[&id]).await;
    assert_eq!((&present[0]["check"], &present[0]["hosts"]), (&json!("web.portal"), &json!(["vm112"])));
    until(&format!(r#"{{"noun":"quiet","id":"{id}","state":"added"}}"#)).await;
    until(&format!(r#"{{"noun":"quiet","id":"{id}","state":"in_force"}}"#)).await;
    let path = format!("/api/v1/silences/{}", made["id"].as_str().unwrap());
    site.api().call(Method::DELETE, &path, None).await.unwrap();
    until(&format!(r#"{{"noun":"quiet","id":"{id}","state":"over"}}"#)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_silence_or_maintenance_is_refused_with_the_reason() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    let far = rfc(OffsetDateTime::now_utc() + Duration::days(31));
    let past = rfc(OffsetDateTime::now_utc() - Duration::minutes(1));
    let silence = |change: Value| {
        let mut body = json!({"hosts": ["vm112"], "comment": "x"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("/api/v1/silences", body)
    };
    let maintenance = |change: Value| {
        let mut body =
            json!({"name": "n", "hosts": ["vm112"], "start": "2199-11-22T02:00", "zone": "UTC", "duration": "2h"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("/api/v1/maintenance", body)
    };
    for ((path, body), says) in [
        (silence(json!({"comment": " "})), "`comment` is empty"),
        (silence(json!({"comment": "x".repeat(1001)})), "at most 1000"),
        (silence(json!({"hosts": []})), "say what is meant"),
        (silence(json!({"hosts": ["vm113"]})), "no host is called `vm113`; did you mean `vm112`?"),
        (silence(json!({"sites": ["lib"]})), "no site is called `lib`; did you mean `lab`?"),
        (silence(json!({"scenario": "web.portl"})), "did you mean `web.portal`?"),
        (silence(json!({"scenario": "wab.*"})), "no scenario is called `wab.*`"),
        (silence(json!({"scenario": "*"})), "give `all`"),
        (silence(json!({"check": "a b"})), "check"),
        (silence(json!({"all": true})), "`all` means everything"),
        (silence(json!({"finding_id": "x"})), "leave the other fields out"),
        (silence(json!({"until": far})), "30 days at most"),
        (silence(json!({"until": past})), "is past"),
        (silence(json!({"until": "tomorrow"})), "RFC 3339"),
        (silence(json!({"for": "31d"})), "30 days at most"),
        (silence(json!({"for": "long"})), "such as 90m, 2h or 3d"),
        (silence(json!({"for": "2h", "until": rfc(OffsetDateTime::now_utc() + Duration::hours(1))})), "not both"),
        (silence(json!({"hots": []})), "unknown field `hots`"),
        (maintenance(json!({"name": ""})), "`name` is empty"),
        (maintenance(json!({"zone": "Brasilia"})), "no IANA time zone such as America/Sao_Paulo"),
        (maintenance(json!({"start": "2199-11-22T02:00Z"})), "such as 2026-11-22T02:00"),
        (maintenance(json!({"start": "2020-11-22T02:00"})), "over already"),
        (maintenance(json!({"duration": "soon"})), "such as 90m, 2h or 3d"),
        (maintenance(json!({"duration": "40d"})), "1m to 31d"),
        (maintenance(json!({"repeat": "every sunday"})), "FREQ=WEEKLY;BYDAY=SU"),
        (maintenance(json!({"repeat": "FREQ=DAILY", "duration": "1d"})), "run into one another"),
        (maintenance(json!({"hosts": null})), "null"),
        (maintenance(json!({"sites": ["away"]})), "no site is called `away`"),
    ] {
        let (status, problem) = site.api().call(Method::POST, path, Some(body.clone())).await.unwrap();
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_body")), "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{body}: {problem}");
    }
    let body = json!({"finding_id": "nothing", "comment": "x"});
    let (status, problem) = site.api().call(Method::POST, "/api/v1/silences", Some(body)).await.unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    for (method, path) in [
        (Method::DELETE, "/api/v1/silences/nothing"),
        (Method::DELETE, "/api/v1/maintenance/nothing"),
        (Method::PATCH, "/api/v1/maintenance/nothing"),
    ] {
        let body = (method == Method::PATCH).then(|| json!({"enabled": true}));
        assert_eq!(site.api().call(method, path, body).await.unwrap().0, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(quiet(&site).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_acknowledge_may_silence_but_not_everything_and_not_plan() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    let as_role = async |role: &str| {
        let token = site.token(role, role, None).await.unwrap();
        site.api().with_token(Some(&token))
    };
    let technician = as_role("technician").await;
    let devops = as_role("devops").await;
    let one = json!({"hosts": ["vm112"], "comment": "x"});
    let made = technician.post("/api/v1/silences", one).await.unwrap();
    assert_eq!(made["created_by"], "technician");
    let all = json!({"all": true, "comment": "x"});
    let (status, problem) = technician.call(Method::POST, "/api/v1/silences", Some(all.clone())).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(problem["detail"].as_str().unwrap().contains("ops_lead"), "{problem}");
    let made = devops.post("/api/v1/silences", all).await.unwrap();
    let path = format!("/api/v1/silences/{}", made["id"].as_str().unwrap());
    assert_eq!(technician.call(Method::DELETE, &path, None).await.unwrap().0, StatusCode::FORBIDDEN);

    let plan = json!({"name": "n", "hosts": ["vm112"], "start": "2199-11-22T02:00", "zone": "UTC", "duration": "2h"});
    let (status, problem) = technician.call(Method::POST, "/api/v1/maintenance", Some(plan.clone())).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(problem["detail"].as_str().unwrap().contains("planning maintenance"), "{problem}");
    let made = devops.post("/api/v1/maintenance", plan).await.unwrap();
    let path = format!("/api/v1/maintenance/{}", made["id"].as_str().unwrap());
    assert_eq!(technician.call(Method::DELETE, &path, None).await.unwrap().0, StatusCode::FORBIDDEN);
    assert_eq!(technician.items("/api/v1/maintenance").await.unwrap().len(), 1, "to look is for all");
    let (status, _) = site.api().with_token(None).call(Method::GET, "/api/v1/silences", None).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_is_in_force_in_its_window_and_says_when_it_comes_again() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    // Every day, from an hour ago for two hours.
    let start = OffsetDateTime::now_utc() - Duration::hours(1);
    let local = start.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]")).unwrap();
    let body = json!({"name": "nightly", "sites": ["lab"], "start": local, "zone": "UTC", "duration": "2h",
        "repeat": "freq=daily", "comment": "patches"});
    let made = site.api().post("/api/v1/maintenance", body.clone()).await.unwrap();
    let (id, path) = (made["id"].as_str().unwrap(), format!("/api/v1/maintenance/{}", made["id"].as_str().unwrap()));
    let next = made["next"].as_array().unwrap();
    assert_eq!((next.len(), &made["in_force"], &made["next_change_at"]), (3, &json!(true), &next[0]["to"]), "{made}");
    let at = |span: &Value, field: &str| OffsetDateTime::parse(span[field].as_str().unwrap(), &Rfc3339).unwrap();
    assert_eq!(at(&next[1], "from") - at(&next[0], "from"), Duration::days(1));
    assert_eq!(at(&next[2], "to") - at(&next[2], "from"), Duration::hours(2));
    assert_eq!((&made["repeat"], &made["duration"]), (&json!("FREQ=DAILY"), &json!("2h")));
    let summary = made["summary"].as_str().unwrap();
    assert!(summary.starts_with("every day, at ") && summary.ends_with("for 2 h (UTC)"), "{summary}");
    let quiet_id = format!("maintenance/{id}");
    let present = wait_quiet(&site, &[&quiet_id]).await;
    let hosts: Vec<&str> = present[0]["hosts"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(hosts.contains(&"vm112") && hosts.contains(&"vm123"), "{hosts:?}");

    // Off, on, moved away, and taken back.
    let off = site.api().call(Method::PATCH, &path, Some(json!({"enabled": false}))).await.unwrap().1;
    assert_eq!((&off["in_force"], &off["next"]), (&json!(false), &json!([])), "{off}");
    wait_quiet(&site, &[]).await;
    site.api().call(Method::PATCH, &path, Some(json!({"enabled": true}))).await.unwrap();
    wait_quiet(&site, &[&quiet_id]).await;
    let mut moved = body;
    moved["start"] = json!("2199-11-22T02:00");
    moved["repeat"] = Value::Null;
    let (status, row) = site.api().call(Method::PUT, &path, Some(moved)).await.unwrap();
    assert_eq!((status, &row["next_change_at"]), (StatusCode::OK, &json!("2199-11-22T02:00:00.000Z")), "{row}");
    wait_quiet(&site, &[]).await;
    let (status, ended) = site.api().call(Method::DELETE, &path, None).await.unwrap();
    assert_eq!((status, &ended["ended_by"], &ended["next_change_at"]), (StatusCode::OK, &json!("tests"), &Value::Null));
    let (status, _) = site.api().call(Method::PATCH, &path, Some(json!({"enabled": true}))).await.unwrap();
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(site.api().items("/api/v1/maintenance").await.unwrap().is_empty());
    assert_eq!(site.api().items("/api/v1/maintenance?state=all").await.unwrap().len(), 1);

    let record = site.api().items("/api/v1/agents/action-log").await.unwrap();
    let verbs: Vec<&str> =
        record.iter().filter(|e| e["object"]["id"] == id).filter_map(|e| e["verb"].as_str()).collect();
    let expected = ["ended", "changed", "enabled", "disabled", "added"].map(|verb| format!("maintenance.{verb}"));
    assert_eq!(verbs, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_silences_plans_previews_and_ends() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    login(&site).await;
    let said = farol(&site, &["silence", "add", "--host", "vm112", "--for", "2h", "--comment", "disk"]).await.unwrap();
    let id = said.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(said.starts_with("Nobody is told of hosts vm112 until 20"), "{said}");
    let list = farol(&site, &["silences"]).await.unwrap();
    assert!(list.contains("in force") && list.contains("disk") && list.contains(&id), "{list}");
    let ended = farol(&site, &["silence", "end", &id]).await.unwrap();
    assert!(ended.starts_with("Ended: hosts vm112"), "{ended}");
    assert!(!farol(&site, &["silences"]).await.unwrap().contains(&id));
    assert!(farol(&site, &["silences", "--all"]).await.unwrap().contains("over"));
    let refused = farol(&site, &["silence", "add", "--host", "vm113", "--comment", "x"]).await.unwrap_err();
    assert!(format!("{refused:#}").contains("did you mean `vm112`?"), "{refused:#}");

    // What is shown beforehand needs no coordinator, and is shown by the clock of the zone.
    let window = ["--start", "2198-11-03T01:30", "--zone", "America/Sao_Paulo", "--for", "1h 30m"];
    let weekly = ["--repeat", "FREQ=WEEKLY;BYDAY=SU", "--site", "lab"];
    let add = [&["maintenance", "add", "patches"][..], &window, &weekly].concat();
    let shown = farol(&site, &[&add[..], &["--dry-run"]].concat()).await.unwrap();
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(shown.starts_with("  Sun 2198-11-04 01:30 -03 to Sun 2198-11-04 03:00 -03  1 h 30 min"), "{shown}");
    assert!(site.api().items("/api/v1/maintenance").await.unwrap().is_empty());
    let planned = farol(&site, &add).await.unwrap();
    assert!(planned.starts_with("Planned. Nobody is told of sites lab:\n  Sun 2198-11-04 01:30"), "{planned}");
    let id = planned.trim().rsplit(' ').next().unwrap().to_owned();
    let list = farol(&site, &["maintenance"]).await.unwrap();
    assert!(list.contains("planned") && list.contains("every week: Sun, at 01:30 for 1 h 30 min"), "{list}");
    farol(&site, &["maintenance", "disable", &id]).await.unwrap();
    assert!(farol(&site, &["maintenance"]).await.unwrap().contains("disabled"));
    let row: Value =
        serde_json::from_str(&farol(&site, &["maintenance", "enable", &id, "--json"]).await.unwrap()).unwrap();
    assert_eq!((&row["enabled"], &row["next"][0]["from"]), (&json!(true), &json!("2198-11-04T04:30:00.000Z")));
    farol(&site, &["maintenance", "end", &id]).await.unwrap();
    let all: Value = serde_json::from_str(&farol(&site, &["maintenance", "--all", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&all["items"][0]["ended_by"], all["items"].as_array().unwrap().len()), (&json!("ana"), 1));
    let wrong = [&["maintenance", "add", "patches"][..], &window, &["--repeat", "FREQ=SOON", "--site", "lab"]].concat();
    let refused = farol(&site, &wrong).await.unwrap_err();
    assert!(format!("{refused:#}").contains("FREQ is DAILY, WEEKLY or MONTHLY"), "{refused:#}");
}

/// Looks at Proxmox, and at two of its guests.
const CLUSTER: &str = "version: 1
language: en
hosts: [{name: pve}, {name: vm112, vmid: 112}, {name: mail, vmid: 104}]
scenarios:
  - {id: cluster, title: Cluster, persona: A1, severity: high, hosts: [pve], every: 1s, timeout: 10s,
     checks: [{name: tasks, probe: {proxmox: {integration: casa, look: tasks}}}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_quiet_while_proxmox_saves_it_and_until_a_fresh_answer_or_none_at_all() {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let cluster = FakeProxmox::start(now).await.unwrap();
    let site = Site::start(CLUSTER, &[]).await.unwrap();
    let body = json!({"name": "casa", "kind": "proxmox", "endpoints": [cluster.product.url()],
        "tls": {"pin": cluster.product.pin()}, "user": farol_tests::proxmox::USER,
        "secret": farol_tests::proxmox::SECRET});
    site.api().post("/api/v1/integrations", body).await.unwrap();

    cluster.start_backup("a", "112", now - 60, None);
    let present = wait_quiet(&site, &["backup/casa/112"]).await;
    assert_eq!((&present[0]["hosts"], &present[0]["kind"]), (&json!(["vm112"]), &json!("backup")), "{present:?}");
    assert!(present[0]["until"].is_null() && present[0]["check"].is_null() && present[0]["scenario"].is_null());
    let since = OffsetDateTime::parse(present[0]["since"].as_str().unwrap(), &Rfc3339).unwrap();
    assert_eq!(since.unix_timestamp(), now - 60);
    assert!(present[0]["summary"].as_str().unwrap().starts_with("Backup of vm112 (VM 112) running on a"));

    // A job of several says whom it saves in its log; a guest that is no host concerns nobody.
    cluster.start_backup("b", "", now - 30, Some("104 123 --storage nas --mode snapshot"));
    wait_quiet(&site, &["backup/casa/104", "backup/casa/112"]).await;
    cluster.end_backups("a");
    wait_quiet(&site, &["backup/casa/104"]).await;

    // Nothing is heard any more: what was last known is good for three looks.
    cluster.take_rights();
    wait_quiet(&site, &[]).await;
}
