//! Enrolment and identity: every wrong credential gets its own precise refusal.

use std::time::Duration;

use farol_tests::{Agent, Site, peer::Identity, process, wait_until};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::QUIET;

async fn enroll(agent: &Agent, enrolment: &Value, token: &str, fingerprint: &str) -> Result<String, String> {
    let mut command = agent.command(&["enroll"]).unwrap();
    command.args(["--url", enrolment["url"].as_str().unwrap(), "--token", token, "--ca-fingerprint", fingerprint]);
    process::output(&mut command).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_one_host_once_and_every_misuse_is_named() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(agent.state_dir().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("identity"), 0o700);
    assert_eq!(mode("identity/key.pem"), 0o600);

    let other = site.enrol("vm123", None).await.unwrap();
    let enrolment = site.add_host("vm123").await.unwrap();
    let (token, fingerprint) = (enrolment["token"].as_str().unwrap(), enrolment["ca_fingerprint"].as_str().unwrap());

    let again = enroll(&other, &enrolment, token, fingerprint).await.unwrap_err();
    assert!(again.contains("--force"), "an identity was overwritten: {again}");
    std::fs::remove_dir_all(other.state_dir()).unwrap();

    let wrong = enroll(&other, &enrolment, "farol-enrol_0000", fingerprint).await.unwrap_err();
    assert!(wrong.contains("not known here"), "{wrong}");

    let zeros = format!("sha256:{}", "0".repeat(64));
    let pinned = enroll(&other, &enrolment, token, &zeros).await.unwrap_err();
    assert!(pinned.contains(&zeros) && pinned.contains(fingerprint), "names both fingerprints: {pinned}");

    enroll(&other, &enrolment, token, fingerprint).await.unwrap();
    std::fs::remove_dir_all(other.state_dir()).unwrap();
    let reused = enroll(&other, &enrolment, token, fingerprint).await.unwrap_err();
    assert!(reused.contains("used already"), "{reused}");

    let mut command = site.farol(&["host", "add", "vm123", "--ttl", "100ms", "--json"]).unwrap();
    let short = process::json(&mut command).await.unwrap();
    let expires: String = short["expires_at"].as_str().unwrap().to_owned();
    wait_until("the token to expire", Duration::from_secs(5), async || {
        let expires = OffsetDateTime::parse(&expires, &time::format_description::well_known::Rfc3339)?;
        Ok((OffsetDateTime::now_utc() > expires).then_some(()))
    })
    .await
    .unwrap();
    let expired = enroll(&other, &short, short["token"].as_str().unwrap(), fingerprint).await.unwrap_err();
    assert!(expired.contains("expired"), "{expired}");

    let elsewhere = Site::start(QUIET, &[]).await.unwrap();
    let foreign = elsewhere.add_host("vm123").await.unwrap();
    let foreign = enroll(&other, &enrolment, foreign["token"].as_str().unwrap(), fingerprint).await.unwrap_err();
    assert!(foreign.contains("not known here"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_live_key_of_this_authority_gets_in() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let elsewhere = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let ours = agent.state_dir().join("identity");
    let ca = std::fs::read(ours.join("ca.pem")).unwrap();

    let foreign = elsewhere.enrol("vm112", None).await.unwrap();
    let theirs = foreign.state_dir().join("identity");
    let (cert, key) = (std::fs::read(theirs.join("cert.pem")).unwrap(), std::fs::read(theirs.join("key.pem")).unwrap());
    let identity = Identity::from_pem(&ca, Some((&cert, &key))).unwrap();
    assert!(identity.connect(site.southbound()).await.is_err(), "another authority's certificate got in");

    let authority =
        farol_pki::Authority::open_or_create(&site.data_dir().join("pki"), OffsetDateTime::now_utc()).unwrap();
    let host: Value = serde_json::from_slice(&std::fs::read(ours.join("enrolment.json")).unwrap()).unwrap();
    let key = std::fs::read_to_string(ours.join("key.pem")).unwrap();
    let (past, yesterday) =
        (OffsetDateTime::now_utc() - time::Duration::days(40), OffsetDateTime::now_utc() - time::Duration::days(1));
    let csr = farol_pki::csr_for(&key).unwrap();
    let expired = authority.issue_host_with(&csr, host["host_id"].as_str().unwrap(), past, yesterday).unwrap();
    let identity = Identity::from_pem(&ca, Some((expired.cert_pem.as_bytes(), key.as_bytes()))).unwrap();
    let error = format!("{:#}", identity.connect(site.southbound()).await.err().unwrap());
    assert!(error.to_lowercase().contains("expired"), "{error}");

    let anonymous = Identity::from_pem(&ca, None).unwrap();
    let error = format!("{:#}", anonymous.connect(site.southbound()).await.err().unwrap());
    assert!(error.contains("401"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_host_cuts_its_live_session_and_keeps_it_out() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.agent("vm112", None).await.unwrap();
    agent.stop().await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    peer.send(&json!({"method": "hello", "agent_id": "vm112"})).await.unwrap();
    peer.receive().await.unwrap();
    site.wait_host("vm112", "online").await.unwrap();

    process::output(&mut site.farol(&["host", "revoke", "vm112"]).unwrap()).await.unwrap();
    let close = peer.closed().await.unwrap().expect("a close frame");
    assert_eq!(u16::from(close.code), 1008);
    let error = format!("{:#}", identity.connect(site.southbound()).await.err().unwrap());
    assert!(error.contains("403"), "{error}");
    site.wait_host("vm112", "revoked").await.unwrap();

    let mut command = site.farol(&["host", "revoke", "vm112"]).unwrap();
    let twice = process::output(&mut command).await.unwrap_err().to_string();
    assert!(twice.contains("revoked already"), "{twice}");
}
