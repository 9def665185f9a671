use farol_protocol::HostId;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::testing::Coordinator;

fn request(coordinator: &Coordinator) -> Enrol {
    Enrol {
        endpoint: coordinator.endpoint(),
        token: "t0ken".to_owned(),
        ca_fingerprint: coordinator.authority.root_fingerprint(),
        force: false,
    }
}

/// Reads one request and answers it by hand.
async fn serve(coordinator: &Coordinator, answer: impl FnOnce(&EnrolRequest) -> (u16, String)) -> EnrolRequest {
    let mut stream = coordinator.tls().await;
    let mut received = Vec::new();
    let request: EnrolRequest = loop {
        assert!(stream.read_buf(&mut received).await.expect("read") > 0, "the request broke off");
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(request) = serde_json::from_str(body)
        {
            assert!(head.starts_with("POST /southbound/v1/enroll HTTP/1.1\r\n"), "{head}");
            break request;
        }
    };
    let (status, body) = answer(&request);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    stream.flush().await.expect("flushed");
    request
}

fn certify(coordinator: &Coordinator, csr: &str, named: &str, said: &str) -> String {
    let cert = coordinator.authority.issue_host(csr, named, OffsetDateTime::now_utc()).expect("issued");
    encode(&EnrolAnswer {
        host_id: said.parse::<HostId>().expect("valid"),
        name: "portal".to_owned(),
        cert: cert.cert_pem,
        ca: coordinator.authority.ca_pem(),
    })
}

fn refuse() -> (u16, String) {
    let body = r#"{"title":"Forbidden","status":403,"code":"token_used","detail":"the token was used already"}"#;
    (403, body.to_owned())
}

#[tokio::test]
async fn a_host_gets_its_identity_in_private_files() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = StateDir::new(folder.path());
    let request = request(&coordinator);
    let (enrolled, sent) = tokio::join!(
        enrol(&state, &request),
        serve(&coordinator, |request| (200, certify(&coordinator, &request.csr, "vm112", "vm112"))),
    );
    assert_eq!(enrolled.expect("enrolled").host_id.as_str(), "vm112");
    assert_eq!(sent.token, "t0ken");
    assert_eq!(state.enrolment().expect("written").url, coordinator.endpoint().to_string());
    assert!(state.identity().is_ok());
    #[cfg(unix)]
    for file in [state.key(), state.cert(), state.ca(), state.enrolment_file()] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(file).expect("exists").permissions().mode() & 0o777, 0o600);
    }

    let again = enrol(&state, &request).await.expect_err("it has one");
    assert!(matches!(&again, Error::AlreadyEnrolled { host, .. } if host == "vm112"), "{again:?}");
}

#[tokio::test]
async fn a_refusal_is_told_and_the_next_attempt_keeps_the_key() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = StateDir::new(folder.path());
    let request = request(&coordinator);
    let (refused, _) = tokio::join!(enrol(&state, &request), serve(&coordinator, |_| refuse()));
    let sentence = refused.expect_err("refused").to_string();
    assert!(sentence.contains("token_used") && sentence.contains("the token was used already"), "{sentence}");
    let key = std::fs::read(state.key()).expect("kept");

    let (enrolled, _) = tokio::join!(
        enrol(&state, &request),
        serve(&coordinator, |request| (201, certify(&coordinator, &request.csr, "vm112", "vm112"))),
    );
    enrolled.expect("enrolled");
    assert_eq!(std::fs::read(state.key()).expect("kept"), key);
}

#[tokio::test]
async fn a_failed_replacement_leaves_the_old_identity_usable() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    coordinator.enrol(folder.path());
    let state = StateDir::new(folder.path());
    let old = std::fs::read(state.key()).expect("enrolled");
    let request = Enrol { force: true, ..request(&coordinator) };
    let (refused, _) = tokio::join!(enrol(&state, &request), serve(&coordinator, |_| refuse()));
    refused.expect_err("refused");
    assert_eq!(std::fs::read(state.key()).expect("kept"), old);

    let (enrolled, _) = tokio::join!(
        enrol(&state, &request),
        serve(&coordinator, |request| (200, certify(&coordinator, &request.csr, "vm113", "vm113"))),
    );
    assert_eq!(enrolled.expect("enrolled").host_id.as_str(), "vm113");
    assert_ne!(std::fs::read(state.key()).expect("new"), old);
    assert!(!state.next_key().exists());
}

#[tokio::test]
async fn another_authority_never_sees_the_token() {
    let (coordinator, stranger) = (Coordinator::start().await, Coordinator::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let request = Enrol { endpoint: stranger.endpoint(), ..request(&coordinator) };
    let state = StateDir::new(folder.path());
    let (enrolled, shaken) = tokio::join!(enrol(&state, &request), stranger.try_tls());
    let error = enrolled.expect_err("not the expected one");
    assert!(matches!(error, Error::Trust { .. }), "{error:?}");
    assert!(error.to_string().contains("did not present the authority"), "{error}");
    assert!(!shaken, "the handshake was finished");
}

#[tokio::test]
async fn a_certificate_for_another_key_or_host_is_not_taken() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = StateDir::new(folder.path());
    let request = request(&coordinator);
    let (enrolled, _) = tokio::join!(
        enrol(&state, &request),
        serve(&coordinator, |request| (200, certify(&coordinator, &request.csr, "vm113", "vm112"))),
    );
    assert!(enrolled.expect_err("another host").to_string().contains("vm113"));

    let foreign = new_host_key().expect("a key").csr_pem;
    let (enrolled, _) = tokio::join!(
        enrol(&state, &request),
        serve(&coordinator, |_| (200, certify(&coordinator, &foreign, "vm112", "vm112"))),
    );
    enrolled.expect_err("another key");
    assert!(!state.cert().exists());
}
