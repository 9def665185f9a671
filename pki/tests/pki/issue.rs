use farol_pki::{Error, PeerIdentity, csr_for, new_host_key};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;

use crate::support::{Site, ders};

#[test]
fn a_host_leaf_says_only_what_a_host_needs() {
    let site = Site::new();
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let key = new_host_key().unwrap();

    let issued = site.authority.issue_host(&key.csr_pem, "web-1", now).unwrap();

    let chain = ders(&issued.cert_pem);
    assert_eq!(chain[1..], ders(&site.file("issuing.pem")));
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://farol/host/web-1")]);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    // Bit 0 alone is digitalSignature.
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(leaf.raw_serial().len(), 16);
    assert!(leaf.raw_serial()[0] < 0x80);
    assert_eq!(leaf.validity().not_before.to_datetime(), now - Duration::hours(24));
    assert_eq!(issued.not_after, now + Duration::days(30));
}

#[test]
fn names_and_powers_asked_for_in_a_request_are_ignored() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let mut wishes = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    wishes.subject_alt_names.push(SanType::URI(farol_pki::COORDINATOR_URI.try_into().unwrap()));
    wishes.distinguished_name.push(DnType::CommonName, "coordinator");
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wishes.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0])];
    let csr = wishes.serialize_request(&key).unwrap().pem().unwrap();

    let issued = site.authority.issue_host(&csr, "web-1", OffsetDateTime::now_utc()).unwrap();

    let der = &ders(&issued.cert_pem)[0];
    assert_eq!(PeerIdentity::from_certificate(der).unwrap().host_id, "web-1");
    let (_, leaf) = x509_parser::parse_x509_certificate(der).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !leaf.is_ca());
    assert_eq!(leaf.subject().iter().count(), 0);
    let asked = |oid: &x509_parser::der_parser::Oid<'_>| oid.to_id_string() == "1.3.6.1.4.1.99999.1";
    assert!(!leaf.extensions().iter().any(|extension| asked(&extension.oid)));
}

#[test]
fn a_request_that_is_not_one_is_refused() {
    let site = Site::new();
    let now = OffsetDateTime::now_utc();
    let good = new_host_key().unwrap().csr_pem;
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let longer = request_pem(&[request.der(), &[0][..]].concat());
    for garbage in ["", "hello", &good[..good.len() / 2], &site.authority.ca_pem(), &longer] {
        let refusal = site.authority.issue_host(garbage, "web-1", now);

        assert!(matches!(refusal, Err(Error::CsrUnreadable { .. })), "{garbage:?} gave {refusal:?}");
    }
}

#[test]
fn a_request_not_signed_by_its_own_key_is_refused() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let mut der = request.der().to_vec();
    let at = find(&der, b"rcgen");
    der[at] ^= 1;

    let refusal = site.authority.issue_host(&request_pem(&der), "web-1", OffsetDateTime::now_utc());

    assert!(matches!(refusal, Err(Error::CsrSignature)), "{refusal:?}");
}

#[test]
fn only_p256_and_ed25519_keys_are_certified() {
    let site = Site::new();
    let now = OffsetDateTime::now_utc();
    let ask = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = csr_for(&key.serialize_pem()).unwrap();
        site.authority.issue_host(&csr, "web-1", now)
    };

    assert!(ask(&rcgen::PKCS_ECDSA_P256_SHA256).is_ok());
    assert!(ask(&rcgen::PKCS_ED25519).is_ok());
    assert!(matches!(ask(&rcgen::PKCS_ECDSA_P384_SHA384), Err(Error::CsrKey)));
}

#[test]
fn a_host_id_is_one_plain_path_segment() {
    let site = Site::new();
    let now = OffsetDateTime::now_utc();
    let csr = new_host_key().unwrap().csr_pem;
    let longest = "a".repeat(128);
    for good in ["web-1", "VM112", "a.b_c-d", "...", &longest] {
        assert!(site.authority.issue_host(&csr, good, now).is_ok(), "{good}");
    }
    let too_long = "a".repeat(129);
    for bad in ["", ".", "..", "a/b", "a b", "é", "a%2f", "a\0", &too_long] {
        let refusal = site.authority.issue_host(&csr, bad, now);
        assert!(matches!(refusal, Err(Error::HostId { .. })), "{bad:?}");
    }
}

#[test]
fn a_retry_with_the_same_key_keeps_the_pinned_key_and_takes_a_new_serial() {
    let site = Site::new();
    let (key, first) = site.enrol("web-1");

    let csr = csr_for(&key.key_pem).unwrap();
    let second = site.authority.issue_host(&csr, "web-1", OffsetDateTime::now_utc()).unwrap();

    assert_eq!(second.key_sha256, first.key_sha256);
    assert_ne!(second.serial, first.serial);
    assert!(matches!(csr_for("no key"), Err(Error::HostKey { .. })));
}

#[test]
fn a_host_key_never_shows_in_debug_output() {
    let key = new_host_key().unwrap();

    let shown = format!("{key:?}");

    assert!(!shown.contains("PRIVATE") && !shown.contains(key.key_pem.lines().nth(1).unwrap()));
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// The encoder for requests is rcgen's, which only encodes its own.
fn request_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut pem = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for group in der.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 0x3f;
            pem.push(if at > group.len() { '=' } else { char::from(ALPHABET[six as usize]) });
        }
    }
    pem + "\n-----END CERTIFICATE REQUEST-----\n"
}
