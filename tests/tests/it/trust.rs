//! The trust life-cycle over real processes: renewal, rollover, revocation,
//! absence, clones.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farol_pki::Authority;
use farol_tests::{
    Agent, Site,
    peer::{Identity, Peer},
    process, wait_until,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use time::OffsetDateTime;

use crate::support::QUIET;

const PATIENCE: Duration = Duration::from_secs(30);
const FAST: &[(&str, &str)] = &[("FAROL_HEARTBEAT", "300ms")];

async fn farol(site: &Site, arguments: &[&str]) -> Result<String, String> {
    let mut command = site.farol(arguments).unwrap();
    process::output(&mut command).await.map_err(|error| error.to_string())
}

fn authority(site: &Site) -> Authority {
    Authority::open_or_create(&site.data_dir().join("pki"), OffsetDateTime::now_utc()).unwrap()
}

/// Gives an agent's host a certificate that began and ends so many days from
/// now, as if it had been issued then.
async fn certificate(site: &Site, agent: &Agent, begins: i64, ends: i64) {
    let identity = agent.state_dir().join("identity");
    let key = std::fs::read_to_string(identity.join("key.pem")).unwrap();
    let enrolment: Value = serde_json::from_slice(&std::fs::read(identity.join("enrolment.json")).unwrap()).unwrap();
    let now = OffsetDateTime::now_utc();
    let (begins, ends) = (now + time::Duration::days(begins), now + time::Duration::days(ends));
    let csr = farol_pki::csr_for(&key).unwrap();
    let issued = authority(site).issue_host_with(&csr, enrolment["host_id"].as_str().unwrap(), begins, ends).unwrap();
    std::fs::write(identity.join("cert.pem"), issued.cert_pem).unwrap();
    let url = format!("sqlite://{}", site.data_dir().join("state.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("update host set cert_not_after_ms = $1 where id = $2")
        .bind(ends.unix_timestamp() * 1000)
        .bind(enrolment["host_id"].as_str().unwrap())
        .execute(&mut store)
        .await
        .unwrap();
}

fn file(agent: &Agent, name: &str) -> PathBuf {
    agent.state_dir().join("identity").join(name)
}

fn days_left(path: &Path) -> i64 {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let leaf = CertificateDer::from_pem_slice(&std::fs::read(path).unwrap()).unwrap();
    let identity = farol_pki::PeerIdentity::from_certificate(&leaf).unwrap();
    (identity.not_after - OffsetDateTime::now_utc()).whole_days()
}

async fn host(site: &Site, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until("the host to be so", PATIENCE, async || {
        let host = site.api().get("/api/v1/hosts/vm112").await?;
        Ok(wanted(&host).then_some(host))
    })
    .await
    .unwrap()
}

async fn identity_finding(site: &Site, state: &str) -> Value {
    site.wait_finding(&format!("a finding about the identity that is {state}"), |finding| {
        finding["scenario"] == "host.identity" && finding["state"] == state
    })
    .await
    .unwrap()
}

fn hello(machine: &str, boot: &str) -> Value {
    let now = OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap();
    json!({"method": "hello", "agent_id": "vm112", "name": "vm112", "version": "9.9.9", "capabilities": ["command.exec"],
        "timestamp": now, "protocol": {"min": 1, "max": 1},
        "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0},
        "stream": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4c", "max_unsigned_class": "R2", "effects_allowed": true,
        "machine": {"id": machine, "boot": boot}})
}

async fn said_hello(site: &Site, identity: &Identity, machine: &str, boot: &str) -> Result<Peer, Value> {
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    peer.send(&hello(machine, boot)).await.unwrap();
    let answer = peer.receive().await.unwrap();
    if answer["ok"] == true { Ok(peer) } else { Err(answer) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_certificate_is_renewed_over_the_connection_it_opened() {
    let site = Site::start(QUIET, FAST).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    certificate(&site, &agent, -21, 9).await;
    agent.start().unwrap();

    let renewed = host(&site, |host| {
        let end = host["certificate"]["not_after"].as_str().unwrap_or_default();
        host["state"] == "online" && end > (OffsetDateTime::now_utc() + time::Duration::days(20)).to_string().as_str()
    })
    .await;

    assert_eq!(days_left(&file(&agent, "cert.pem")), 29);
    assert_eq!(renewed["certificate"]["roots"], json!(authority(&site).root_ids()), "{renewed}");
    assert_eq!(renewed["certificate"]["present"], true);
    let session = renewed["session_id"].clone();
    agent.stop().await.unwrap();
    agent.start().unwrap();
    host(&site, |host| host["state"] == "online" && host["session_id"] != session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_host_recovers_by_itself_and_after_ninety_days_with_a_persons_consent() {
    let site = Site::start(QUIET, FAST).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    agent.configure("interval: 1s\nreconnect_max: 1s\n").unwrap();
    certificate(&site, &agent, -60, -30).await;
    agent.start().unwrap();
    site.wait_host("vm112", "online").await.unwrap();
    assert_eq!(days_left(&file(&agent, "cert.pem")), 29);

    agent.stop().await.unwrap();
    site.wait_host("vm112", "silent").await.unwrap();
    certificate(&site, &agent, -200, -170).await;
    agent.start().unwrap();
    let asks = host(&site, |host| host["identity"]["conflict"] == "consent").await;
    assert_eq!(asks["state"], "silent");
    identity_finding(&site, "open").await;
    wait_until("the agent to say what it waits for", PATIENCE, async || {
        let status = process::output(&mut agent.command(&["status"])?).await?;
        Ok(status.contains("farol host consent").then_some(()))
    })
    .await
    .unwrap();

    farol(&site, &["host", "consent", "vm112"]).await.unwrap();
    site.wait_host("vm112", "online").await.unwrap();
    assert_eq!(days_left(&file(&agent, "cert.pem")), 29);
    identity_finding(&site, "resolved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_gets_no_certificate_however_it_asks() {
    let site = Site::start(QUIET, FAST).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    agent.configure("interval: 1s\nreconnect_max: 1s\n").unwrap();
    certificate(&site, &agent, -60, -30).await;
    farol(&site, &["host", "revoke", "vm112"]).await.unwrap();
    let before = std::fs::read(file(&agent, "cert.pem")).unwrap();
    agent.start().unwrap();

    wait_until("the agent to be refused", PATIENCE, async || {
        let status = process::output(&mut agent.command(&["status"])?).await?;
        Ok(status.contains("key_not_live").then_some(()))
    })
    .await
    .unwrap();

    assert_eq!(std::fs::read(file(&agent, "cert.pem")).unwrap(), before);
    let refused = farol(&site, &["host", "consent", "vm112"]).await.unwrap_err();
    assert!(refused.contains("farol host add vm112"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_to_a_new_root_refuses_nobody_and_ends_when_every_host_has_followed() {
    let site = Site::start(QUIET, FAST).await.unwrap();
    let mut agent = site.agent("vm112", None).await.unwrap();
    let away = site.enrol("vm123", None).await.unwrap();
    let old_token = site.add_host("vm124").await.unwrap();
    let session = site.api().get("/api/v1/hosts/vm112").await.unwrap()["session_id"].clone();

    let said = farol(&site, &["ca", "rotate", "--root"]).await.unwrap();
    assert!(said.contains("is announced"), "{said}");
    let newest = authority(&site).root_ids()[0].clone();
    let followed =
        host(&site, |host| host["certificate"]["roots"].as_array().is_some_and(|roots| roots.len() == 2)).await;
    assert_eq!(followed["session_id"], session, "the connection went on");
    assert_eq!(followed["certificate"]["present"], true);
    let printed = site.add_host("vm125").await.unwrap()["ca_fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(printed, format!("sha256:{newest}"));

    let unaware = farol(&site, &["ca", "rotate", "--finish"]).await.unwrap_err();
    assert!(unaware.contains("vm123"), "names who does not know it: {unaware}");
    // It knows the old root alone, and a token that pins the old root is good too.
    let mut away = away;
    away.start().unwrap();
    site.wait_host("vm123", "online").await.unwrap();
    let late = Agent::new("vm124", &site.folder().join("vm124"), None).unwrap();
    let field = |key: &str| old_token[key].as_str().unwrap().to_owned();
    let arguments = ["--url", &field("url"), "--token", &field("token"), "--ca-fingerprint", &field("ca_fingerprint")];
    process::output(late.command(&["enroll"]).unwrap().args(arguments)).await.unwrap();
    let mut late = late;
    late.start().unwrap();
    site.wait_host("vm124", "online").await.unwrap();

    let status = wait_until("every host to know the new root", PATIENCE, async || {
        let status: Value = process::json(&mut site.farol(&["ca", "status", "--json"])?).await?;
        let all =
            status["hosts"].as_array().is_some_and(|hosts| hosts.iter().all(|host| host["knows_newest_root"] == true));
        Ok(all.then_some(status))
    })
    .await
    .unwrap();
    assert_eq!(status["roots"].as_array().unwrap().len(), 2);
    assert!(status["next"].as_str().unwrap().contains("--finish"), "{status}");
    farol(&site, &["ca", "rotate", "--finish"]).await.unwrap();
    host(&site, |host| host["certificate"]["roots"] == json!([newest])).await;
    agent.stop().await.unwrap();
    agent.start().unwrap();
    let back = host(&site, |host| host["state"] == "online" && host["session_id"] != session).await;
    assert_eq!(back["certificate"]["roots"], json!([newest]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_forgotten_by_a_forced_rollover_comes_back_by_itself() {
    let site = Site::start(QUIET, FAST).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    agent.configure("interval: 1s\nreconnect_max: 1s\n").unwrap();
    farol(&site, &["ca", "rotate", "--root"]).await.unwrap();
    farol(&site, &["ca", "rotate", "--finish", "--force"]).await.unwrap();
    let forgotten = Identity::load(&agent.state_dir().join("identity")).unwrap();
    wait_until("the coordinator to refuse the old root", PATIENCE, async || {
        Ok(forgotten.connect(site.southbound()).await.is_err().then_some(()))
    })
    .await
    .unwrap();

    agent.start().unwrap();

    let back = host(&site, |host| host["state"] == "online").await;
    assert_eq!(back["certificate"]["roots"], json!(authority(&site).root_ids()));
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_cuts_the_session_within_two_seconds_of_the_command() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peer = said_hello(&site, &identity, "0123456789abcdef", "boot-a-000000").await.unwrap();
    site.wait_host("vm112", "online").await.unwrap();

    let began = Instant::now();
    let (revoked, closed) = tokio::join!(farol(&site, &["host", "revoke", "vm112"]), async {
        let close = peer.closed().await.unwrap().expect("a close frame");
        (close, began.elapsed())
    });

    revoked.unwrap();
    let (close, took) = closed;
    eprintln!("from the command's start to the cut session: {} ms", took.as_millis());
    assert_eq!(u16::from(close.code), 1008);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let error = format!("{:#}", identity.connect(site.southbound()).await.err().unwrap());
    assert!(error.contains("403"), "{error}");
    site.wait_host("vm112", "revoked").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_with_the_key_is_refused_until_a_person_moves_the_identity_to_it() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let (first, other) = ("1111111111111111", "2222222222222222");
    let mut recorded = said_hello(&site, &identity, first, "boot-a-000000").await.unwrap();

    let refused = said_hello(&site, &identity, other, "boot-b-000000").await.err().expect("refused");

    assert_eq!(refused["code"], "identity_conflict", "{refused}");
    let command = format!("farol host accept vm112 --machine {}", &other[..12]);
    assert!(refused["message"].as_str().unwrap().contains(&command), "{refused}");
    let finding = identity_finding(&site, "open").await;
    let finding = site.api().get(&format!("/api/v1/findings/{}", finding["id"].as_str().unwrap())).await.unwrap();
    assert!(finding.to_string().contains(&command), "{finding}");
    let seen = host(&site, |host| host["identity"]["conflict"] == "machine").await;
    assert_eq!((&seen["state"], &seen["identity"]["other_machine"]), (&json!("online"), &json!(other)));

    farol(&site, &["host", "accept", "vm112", "--machine", &other[..12]]).await.unwrap();
    let close = recorded.closed().await.unwrap().expect("a close frame");
    assert_eq!(u16::from(close.code), 1008);
    said_hello(&site, &identity, other, "boot-b-000000").await.unwrap();
    let refused = said_hello(&site, &identity, first, "boot-a-000000").await.err().expect("refused");
    assert_eq!(refused["code"], "identity_conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_of_one_disk_get_no_order_until_a_person_chooses() {
    let site = Site::start(QUIET, &[("FAROL_HEARTBEAT", "1s")]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let machine = "1111111111111111";
    drop(said_hello(&site, &identity, machine, "boot-a-000000").await.unwrap());
    drop(said_hello(&site, &identity, machine, "boot-b-000000").await.unwrap());
    let mut peer = said_hello(&site, &identity, machine, "boot-a-000000").await.unwrap();
    host(&site, |host| host["identity"]["conflict"] == "clones").await;
    identity_finding(&site, "open").await;

    let id = site.api().propose_command("vm112", "/bin/true", &[]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    // The dispatcher takes a turn each second; three heartbeats are longer.
    let mut beats = 0;
    while beats < 3 {
        let frame = peer.receive().await.unwrap();
        assert_ne!(frame["method"], "command.exec", "an order left for one of two machines");
        if frame["method"] == "heartbeat" {
            beats += 1;
            peer.send(&json!({"method": "heartbeat", "timestamp": frame["timestamp"]})).await.unwrap();
        }
    }
    assert_eq!(site.wait_action(&id, &["queued"]).await.unwrap()["state"], "queued");

    farol(&site, &["host", "accept", "vm112", "--boot", "boot-b-000000"]).await.unwrap();
    peer.closed().await.unwrap();
    let refused = said_hello(&site, &identity, machine, "boot-a-000000").await.err().expect("refused");
    assert_eq!(refused["code"], "identity_conflict");
    let mut chosen = said_hello(&site, &identity, machine, "boot-b-000000").await.unwrap();
    assert_eq!(chosen.expect("command.exec").await.unwrap()["action_id"], id.as_str());
    identity_finding(&site, "resolved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_keep_replacing_each_other_are_two_machines() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(said_hello(&site, &identity, "1111111111111111", "boot-a-000000").await.unwrap());
        if let Some(before) = peers.len().checked_sub(2) {
            peers[before].closed().await.unwrap();
            // Reading on answers the close, as a living agent does.
            let _over = peers[before].closed().await;
        }
    }

    host(&site, |host| host["identity"]["conflict"] == "clones").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_renamed_and_a_token_is_listed_and_revoked() {
    let site = Site::start(QUIET, FAST).await.unwrap();
    let agent = site.agent("vm112", None).await.unwrap();
    farol(&site, &["host", "rename", "vm112", "portal"]).await.unwrap();
    site.wait_host("portal", "online").await.unwrap();
    let taken = farol(&site, &["host", "rename", "portal", "vm123"]).await.unwrap_err();
    assert!(taken.contains("exists already"), "{taken}");
    let list = farol(&site, &["host", "list"]).await.unwrap();
    assert!(list.contains("portal") && list.contains("enrolled"), "{list}");
    drop(agent);

    let token = site.token("ana", "seo", None).await.unwrap();
    let ana = site.api().with_token(Some(&token));
    ana.get("/api/v1/hosts").await.unwrap();
    farol(&site, &["token", "revoke", "ana"]).await.unwrap();
    assert!(ana.get("/api/v1/hosts").await.unwrap_err().to_string().contains("401"));
    let list = farol(&site, &["token", "list", "--json"]).await.unwrap();
    assert!(list.contains("\"ana\"") && !list.contains(&token), "{list}");
    assert!(farol(&site, &["token", "revoke", "ana"]).await.unwrap_err().contains("ana"));
}
