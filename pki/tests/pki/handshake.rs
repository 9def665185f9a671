use std::sync::Arc;

use farol_pki::{
    Error, KnownClock, PeerIdentity, client_config, client_config_since, enrol_config, new_host_key, provider,
};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::KeyPair;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use time::{Duration, OffsetDateTime};

use crate::support::{Site, ders, handshake, impostor};

#[test]
fn an_enrolled_host_connects_and_is_known_by_its_certificate() {
    let site = Site::new();
    let (key, issued) = site.enrol("web-1");
    let ca_pem = &site.authority.ca_pem();
    let client = client_config(ca_pem, &issued.cert_pem, &key.key_pem).unwrap();

    let mut connection = handshake(&client, &site.server());

    connection.assert_done();
    assert_eq!(connection.received(), b"secret");
    assert_eq!(connection.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(connection.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    let leaf = &connection.server.peer_certificates().unwrap()[0];
    assert_eq!(
        PeerIdentity::from_certificate(leaf).unwrap(),
        PeerIdentity {
            host_id: "web-1".to_owned(),
            key_sha256: issued.key_sha256,
            serial: issued.serial,
            not_before: issued.not_after - Duration::days(31),
            not_after: issued.not_after,
            issuer: site.authority.issuer_id(),
            public_key: x509_parser::parse_x509_certificate(leaf).unwrap().1.public_key().raw.to_vec(),
        }
    );
}

#[test]
fn an_enrolling_host_finds_the_root_it_pins() {
    let site = Site::new();
    let other = Site::new();
    let (client, pinned) = enrol_config(&site.authority.root_fingerprint()).unwrap();
    assert!(pinned.pem().is_none());

    let connection = handshake(&client, &site.server());

    connection.assert_done();
    assert!(connection.server.peer_certificates().is_none());
    assert_eq!(pinned.pem().as_deref(), Some(site.authority.ca_pem().as_str()));
    pinned.confirm(&site.authority.ca_pem()).unwrap();
    let foreign = pinned.confirm(&other.authority.ca_pem()).unwrap_err();
    assert!(matches!(foreign, Error::ForeignRoot { .. }));
}

#[test]
fn a_wrong_fingerprint_is_refused_with_both_names_before_any_data() {
    let site = Site::new();
    let expected = Site::new().authority.root_fingerprint();
    let (client, pinned) = enrol_config(&expected).unwrap();

    let refusal = handshake(&client, &site.server()).client_refusal();

    assert!(refusal.contains(&expected), "{refusal}");
    let presented = site.authority.root_fingerprint();
    assert!(refusal.contains(&presented), "{refusal}");
    assert!(matches!(pinned.confirm(&site.authority.ca_pem()), Err(Error::NoRootYet)));
}

#[test]
fn the_pinned_root_beside_a_chain_of_another_authority_is_refused() {
    let site = Site::new();
    let other = Site::new();
    let chain = other.file("server.pem") + &other.file("issuing.pem") + &site.authority.ca_pem();
    let server = impostor(&chain, &other.file("server.key"));
    let (client, pinned) = enrol_config(&site.authority.root_fingerprint()).unwrap();

    let refusal = handshake(&client, &server).client_refusal();

    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
    assert!(pinned.pem().is_none());
}

#[test]
fn a_coordinator_without_the_key_of_its_certificate_is_refused() {
    let site = Site::new();
    let server = with_foreign_key(ders(&(site.file("server.pem") + &site.file("issuing.pem"))));

    let refusal = handshake(&site.client(), &server).client_refusal();

    assert!(refusal.contains("BadSignature"), "{refusal}");
}

#[test]
fn a_coordinator_of_another_authority_is_refused() {
    let refusal = handshake(&Site::new().client(), &Site::new().server()).client_refusal();

    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
}

#[test]
fn a_host_of_another_authority_is_refused() {
    let site = Site::new();
    let (key, foreign) = Site::new().enrol("web-1");
    let ca_pem = &site.authority.ca_pem();
    let client = client_config(ca_pem, &foreign.cert_pem, &key.key_pem).unwrap();

    let refusal = handshake(&client, &site.server()).server_refusal();

    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
}

#[test]
fn a_host_trusts_two_authorities_while_one_replaces_the_other() {
    let old = Site::new();
    let new = Site::new();
    let (key, issued) = old.enrol("web-1");
    let both = old.authority.ca_pem() + &new.authority.ca_pem();
    let client = client_config(&both, &issued.cert_pem, &key.key_pem).unwrap();

    handshake(&client, &old.server()).assert_done();
    let refusal = handshake(&client, &new.server()).server_refusal();

    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
}

#[test]
fn an_expired_host_is_refused() {
    let site = Site::new();
    let key = new_host_key().unwrap();
    let now = OffsetDateTime::now_utc();
    let (start, end) = (now - Duration::days(31), now - Duration::minutes(1));
    let expired = site.authority.issue_host_with(&key.csr_pem, "web-1", start, end).unwrap();
    let ca_pem = &site.authority.ca_pem();
    let client = client_config(ca_pem, &expired.cert_pem, &key.key_pem).unwrap();

    let refusal = handshake(&client, &site.server()).server_refusal();

    assert!(refusal.contains("expired"), "{refusal}");
}

#[test]
fn an_expired_coordinator_is_refused() {
    let site = Site::made_at(OffsetDateTime::now_utc() - Duration::days(366));

    let refusal = handshake(&site.client(), &site.server()).client_refusal();

    assert!(refusal.contains("expired"), "{refusal}");
}

/// A host whose clock is so many days beside ours.
fn with_clock(client: &ClientConfig, days: i64) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct Clock(i64);
    impl rustls::time_provider::TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            let seconds = OffsetDateTime::now_utc().unix_timestamp() + self.0 * 86_400;
            Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
        }
    }
    let mut client = client.clone();
    client.time_provider = Arc::new(Clock(days));
    Arc::new(client)
}

#[test]
fn a_host_whose_clock_is_wrong_connects_unless_it_is_a_year_ahead_and_never_knew_better() {
    let site = Site::new();
    let (key, issued) = site.enrol("web-1");
    let plain = site.client();
    for days in [-20_000, -400, -3, 3, 120] {
        handshake(&with_clock(&plain, days), &site.server()).assert_done();
    }
    let refusal = handshake(&with_clock(&plain, 400), &site.server()).client_refusal();
    assert!(refusal.contains("expired"), "{refusal}");

    let now = OffsetDateTime::now_utc().unix_timestamp();
    let known = |offset_days: i64, passed: i64| {
        let clock = KnownClock { offset_seconds: offset_days * 86_400, passed };
        client_config_since(&site.authority.ca_pem(), &issued.cert_pem, &key.key_pem, Some(clock)).unwrap()
    };
    handshake(&with_clock(&known(-400, now), 400), &site.server()).assert_done();
    // A clock that was set back brings no ended certificate back to life.
    let later = known(0, now + 400 * 86_400);
    let refusal = handshake(&with_clock(&later, -400), &site.server()).client_refusal();
    assert!(refusal.contains("expired"), "{refusal}");
}

#[test]
fn a_host_that_poses_as_the_coordinator_is_refused() {
    let site = Site::new();
    let (key, issued) = site.enrol("web-1");
    let server = impostor(&issued.cert_pem, &key.key_pem);

    let refusal = handshake(&site.client(), &server).client_refusal();

    assert!(refusal.contains("server authentication"), "{refusal}");
}

#[test]
fn a_server_leaf_must_carry_exactly_the_coordinators_name_and_usage() {
    let site = Site::new();
    let coordinator = farol_pki::COORDINATOR_URI;
    let host = "spiffe://farol/host/web-1";
    let near = "spiffe://farol/coordinator/";
    for (uris, usages) in [
        (vec![host], vec![ServerAuth]),
        (vec![near], vec![ServerAuth]),
        (vec![coordinator, host], vec![ServerAuth]),
        (vec![], vec![ServerAuth]),
        (vec![coordinator], vec![]),
    ] {
        let (key, chain) = site.odd_leaf(&uris, &usages);
        let server = impostor(&chain, &key.serialize_pem());

        let refusal = handshake(&site.client(), &server).client_refusal();

        assert!(refusal.contains(coordinator), "{uris:?}: {refusal}");
    }
    let (key, chain) = site.odd_leaf(&[coordinator], &[ServerAuth]);
    handshake(&site.client(), &impostor(&chain, &key.serialize_pem())).assert_done();
}

#[test]
fn a_coordinator_that_poses_as_a_host_is_refused() {
    let site = Site::new();
    let chain = site.file("server.pem") + &site.file("issuing.pem");
    let ca_pem = &site.authority.ca_pem();
    let client = client_config(ca_pem, &chain, &site.file("server.key")).unwrap();

    let refusal = handshake(&client, &site.server()).server_refusal();

    assert!(refusal.contains("client authentication"), "{refusal}");
}

#[test]
fn a_leaf_with_other_names_than_one_host_names_nobody() {
    let site = Site::new();
    let host = "spiffe://farol/host/web-1";
    for uris in [
        vec![],
        vec![host, "spiffe://farol/host/web-2"],
        vec![farol_pki::COORDINATOR_URI],
        vec!["spiffe://farol/host/"],
        vec!["spiffe://farol/host/.."],
        vec!["spiffe://farol/host/web-1/root"],
        vec!["spiffe://elsewhere/host/web-1"],
    ] {
        let (_, chain) = site.odd_leaf(&uris, &[ClientAuth]);

        let identity = PeerIdentity::from_certificate(&ders(&chain)[0]);

        assert!(matches!(identity, Err(Error::WrongName { .. })), "{uris:?} gave {identity:?}");
    }
}

#[test]
fn a_second_connection_is_never_a_resumed_one() {
    let site = Site::new();
    let (client, server) = (site.client(), site.server());
    handshake(&client, &server).assert_done();

    let second = handshake(&client, &server);

    second.assert_done();
    assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(server.send_tls13_tickets, 0);
}

#[test]
fn an_older_tls_is_refused() {
    let site = Site::new();
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();

    let refusal = handshake(&old.into(), &site.server()).server_refusal();

    assert!(refusal.contains("Tls12NotOffered"), "{refusal}");
}

#[test]
fn a_key_of_another_certificate_makes_no_configuration() {
    let site = Site::new();
    let (_, issued) = site.enrol("web-1");
    let (other, _) = site.enrol("web-2");

    let config = client_config(&site.authority.ca_pem(), &issued.cert_pem, &other.key_pem);

    assert!(matches!(config, Err(Error::Tls { .. })));
}

/// rustls compares key and certificate unless they come ready-made.
fn with_foreign_key(chain: Vec<CertificateDer<'static>>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let signing = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(chain, signing);
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        .into()
}
