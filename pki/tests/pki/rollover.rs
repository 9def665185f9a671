use std::fs;

use farol_pki::{Authority, Error, Update, client_config, enrol_config, new_host_key, root_ids, verify_update};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

use crate::support::{Site, ders, handshake};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn reopened(site: &Site) -> Authority {
    Authority::open_or_create(site.dir.path(), now()).unwrap()
}

#[test]
fn leaves_of_the_old_issuing_authority_stay_valid_and_new_ones_come_from_the_new() {
    let site = Site::new();
    let before = site.client();

    let rotated = Authority::rotate_issuing(site.dir.path(), now()).unwrap();

    assert_ne!(rotated.issuer_id(), site.authority.issuer_id());
    assert_eq!(rotated.root_fingerprint(), site.authority.root_fingerprint());
    let key = new_host_key().unwrap();
    let issued = rotated.issue_host(&key.csr_pem, "web-2", now()).unwrap();
    assert_eq!(issued.issuer, rotated.issuer_id());
    let after = client_config(&rotated.ca_pem(), &issued.cert_pem, &key.key_pem).unwrap();
    let server = farol_pki::server_config(&rotated).unwrap();
    handshake(&before, &server).assert_done();
    handshake(&after, &server).assert_done();
    handshake(&after, &site.server()).assert_done();
}

#[test]
fn while_two_roots_overlap_hosts_of_either_and_tokens_of_either_get_in() {
    let site = Site::new();
    let old_host = site.client();

    let announced = Authority::announce_root(site.dir.path(), now()).unwrap();

    let server = farol_pki::server_config(&announced).unwrap();
    assert_ne!(announced.root_fingerprint(), site.authority.root_fingerprint());
    handshake(&old_host, &server).assert_done();
    // A token printed before the rollover pins the old root.
    for fingerprint in [site.authority.root_fingerprint(), announced.root_fingerprint()] {
        let (enrolling, pinned) = enrol_config(&fingerprint).unwrap();
        handshake(&enrolling, &server).assert_done();
        pinned.confirm(&announced.ca_pem()).unwrap();
    }
    let key = new_host_key().unwrap();
    let issued = announced.issue_host(&key.csr_pem, "web-2", now()).unwrap();
    let newest_only = announced.ca_pem().split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    for ca in [announced.ca_pem(), newest_only, site.authority.ca_pem()] {
        handshake(&client_config(&ca, &issued.cert_pem, &key.key_pem).unwrap(), &server).assert_done();
    }
    assert!(matches!(Authority::announce_root(site.dir.path(), now()), Err(Error::RolloverOpen)));
}

#[test]
fn a_finished_rollover_refuses_hosts_of_the_old_root_who_can_still_verify_the_coordinator() {
    let site = Site::new();
    let old_host = site.client();
    Authority::announce_root(site.dir.path(), now()).unwrap();

    let finished = Authority::finish_root(site.dir.path(), now()).unwrap();

    assert_eq!(finished.root_ids().len(), 1);
    assert!(!site.dir.path().join("root.key").exists(), "the retired key can sign nothing more");
    let server = farol_pki::server_config(&finished).unwrap();
    assert!(handshake(&old_host, &server).server_refusal().contains("UnknownIssuer"));
    let renewing = farol_pki::renewal_config(&site.authority.ca_pem(), None).unwrap();
    handshake(&renewing, &server).assert_done();
    assert!(matches!(Authority::finish_root(site.dir.path(), now()), Err(Error::NoRollover)));
    assert_eq!(reopened(&site).root_fingerprint(), finished.root_fingerprint());
}

#[test]
fn a_rotation_that_crashed_before_its_end_changed_nothing_and_can_be_repeated() {
    let site = Site::new();
    let list = site.file("authority.json");
    Authority::announce_root(site.dir.path(), now()).unwrap();
    // The list is written last: without it, the rest is what a crash leaves.
    fs::write(site.dir.path().join("authority.json"), &list).unwrap();

    let after_crash = reopened(&site);
    assert_eq!(after_crash.root_fingerprint(), site.authority.root_fingerprint());
    handshake(&site.client(), &farol_pki::server_config(&after_crash).unwrap()).assert_done();

    let again = Authority::rotate_issuing(site.dir.path(), now()).unwrap();
    let again = Authority::rotate_issuing(site.dir.path(), now()).map(|next| (again, next)).unwrap().1;
    handshake(&site.client(), &farol_pki::server_config(&again).unwrap()).assert_done();
}

#[test]
fn a_list_lost_after_a_rotation_is_named_and_not_guessed() {
    let site = Site::new();
    Authority::rotate_issuing(site.dir.path(), now()).unwrap();
    fs::remove_file(site.dir.path().join("authority.json")).unwrap();

    let refusal = Authority::open_or_create(site.dir.path(), now()).unwrap_err();

    assert!(refusal.to_string().contains("authority.json is missing"), "{refusal}");
}

/// What a coordinator sends to the host `web-1` of `site`.
fn update(authority: &Authority, key_pem: &str, host: &str) -> (String, String, String) {
    let csr = farol_pki::csr_for(key_pem).unwrap();
    let issued = authority.issue_host(&csr, host, now()).unwrap();
    (issued.cert_pem, authority.ca_pem(), authority.cross_pem())
}

fn taken(trusted: &str, key_pem: &str, (cert, ca, cross): &(String, String, String)) -> Result<Vec<String>, String> {
    verify_update(key_pem, "web-1", trusted, &Update { cert, ca, cross }, now())
        .map(|accepted| accepted.roots)
        .map_err(|error| error.to_string())
}

#[test]
fn a_host_follows_one_rollover_after_another_even_if_it_missed_one() {
    let site = Site::new();
    let (key, _) = site.enrol("web-1");
    let trusted = site.authority.ca_pem();
    let announced = Authority::announce_root(site.dir.path(), now()).unwrap();
    let roots = taken(&trusted, &key.key_pem, &update(&announced, &key.key_pem, "web-1")).unwrap();
    assert_eq!(roots, root_ids(&announced.ca_pem()).unwrap());

    Authority::finish_root(site.dir.path(), now()).unwrap();
    Authority::announce_root(site.dir.path(), now()).unwrap();
    let third = Authority::finish_root(site.dir.path(), now()).unwrap();

    // It still trusts the first root alone.
    let server = farol_pki::server_config(&third).unwrap();
    handshake(&farol_pki::renewal_config(&trusted, None).unwrap(), &server).assert_done();
    let roots = taken(&trusted, &key.key_pem, &update(&third, &key.key_pem, "web-1")).unwrap();
    assert_eq!(roots, third.root_ids());
}

#[test]
fn a_captured_coordinator_cannot_plant_a_certificate_or_a_root() {
    let site = Site::new();
    let other = Site::new();
    let (key, _) = site.enrol("web-1");
    let (foreign_key, _) = site.enrol("web-1");
    let trusted = site.authority.ca_pem();
    let good = update(&site.authority, &key.key_pem, "web-1");
    assert!(taken(&trusted, &key.key_pem, &good).is_ok());

    let refused = |what: &str, update: &(String, String, String), says: &str| {
        let refusal = taken(&trusted, &key.key_pem, update).expect_err(what);
        assert!(refusal.contains(says), "{what}: {refusal}");
    };
    refused("another key", &update(&site.authority, &foreign_key.key_pem, "web-1"), "this host's key");
    refused("another host", &update(&site.authority, &key.key_pem, "web-2"), "`web-2` instead of `web-1`");
    refused("an unknown root", &update(&other.authority, &key.key_pem, "web-1"), "vouches for it");
    let with_more = (good.0.clone(), trusted.clone() + &other.authority.ca_pem(), String::new());
    refused("an unknown root beside a known one", &with_more, "vouches for it");
    let announced = Authority::announce_root(site.dir.path(), now()).unwrap();
    let (cert, ca, _) = update(&announced, &key.key_pem, "web-1");
    refused("a new root without its cross certificate", &(cert.clone(), ca.clone(), String::new()), "vouches for it");
    refused("a cross certificate of another authority", &(cert, ca, forged_cross(&site)), "vouches for it");
    let own = (good.0.clone(), root_of_issuing(&site), site.file("issuing.pem"));
    refused("a root made with the issuing authority's key", &own, "vouches for it");
    refused("no root at all", &(good.0.clone(), String::new(), String::new()), "not valid PEM");
    let (_, server_chain) = site.odd_leaf(&["spiffe://farol/host/web-1"], &[]);
    refused("a leaf for every purpose", &(server_chain, trusted.clone(), String::new()), "clients only");
    refused("garbage", &("garbage".to_owned(), trusted.clone(), String::new()), "not valid PEM");
    let old = site.authority.issue_host_with(
        &farol_pki::csr_for(&key.key_pem).unwrap(),
        "web-1",
        now() - Duration::days(40),
        now() - Duration::days(1),
    );
    refused("an ended one", &(old.unwrap().cert_pem, trusted.clone(), String::new()), "expired");
}

/// The issuing authority's key under its own name, as if it were a root.
fn root_of_issuing(site: &Site) -> String {
    let der = &ders(&site.file("issuing.pem"))[0];
    let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, parsed.subject().iter_common_name().next().unwrap().as_str().unwrap());
    params.self_signed(&KeyPair::from_pem(&site.file("issuing.key")).unwrap()).unwrap().pem()
}

/// Certifies the new root's key under the name of the old root, by a key that
/// is not the old root's.
fn forged_cross(site: &Site) -> String {
    let names = |file: &str| {
        let der = &ders(&site.file(file))[0];
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        let name = parsed.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let impostor = Issuer::new(names("root.pem"), KeyPair::generate().unwrap());
    let new_key = KeyPair::from_pem(&site.file("root-2.key")).unwrap();
    names("root-2.pem").signed_by(&new_key, &impostor).unwrap().pem()
}
