use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use farol_pki::{Authority, Error};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::support::{Site, ders, handshake};

const FILES: [&str; 7] =
    ["root.key", "root.pem", "issuing.key", "issuing.pem", "server.key", "server.pem", "authority.json"];

#[test]
fn a_first_start_makes_root_issuing_and_coordinator() {
    let site = Site::new();

    for name in FILES.iter().filter(|name| name.ends_with("key")) {
        let key = PrivateKeyDer::from_pem_slice(site.file(name).as_bytes()).unwrap();
        assert!(matches!(key, PrivateKeyDer::Pkcs8(_)), "{name}");
    }
    let root = ders(&site.file("root.pem")).remove(0);
    let issuing = ders(&site.file("issuing.pem")).remove(0);
    let server = ders(&site.file("server.pem")).remove(0);
    assert_eq!(path_length(&root), Some(None));
    assert_eq!(path_length(&issuing), Some(Some(0)));
    assert_eq!(path_length(&server), None);
    assert_eq!(days(&root), 7306);
    assert_eq!(days(&issuing), 1097);
    assert_eq!(days(&server), 366);
    assert_eq!(site.authority.ca_pem(), site.file("root.pem"));
    let fingerprint = site.authority.root_fingerprint();
    let digits = fingerprint.strip_prefix("sha256:").unwrap();
    assert_eq!(digits.len(), 64);
}

#[test]
fn opening_again_changes_no_file_and_keeps_the_fingerprint() {
    let site = Site::new();
    let before = contents(site.dir.path());

    let again = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc()).unwrap();

    assert_eq!(again.root_fingerprint(), site.authority.root_fingerprint());
    assert_eq!(contents(site.dir.path()), before);
}

#[test]
fn starts_at_the_same_moment_make_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let open = || Authority::open_or_create(dir.path(), now).unwrap().root_fingerprint();

    let found: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });

    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
}

#[test]
fn a_first_start_that_crashed_anywhere_is_completed() {
    for survivors in 0..FILES.len() {
        let site = Site::new();
        let before = contents(site.dir.path());
        for lost in &FILES[survivors..] {
            fs::remove_file(site.dir.path().join(lost)).unwrap();
        }
        fs::write(site.dir.path().join(".root.key.0123.tmp"), "half").unwrap();

        let authority = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc()).unwrap();

        let after = contents(site.dir.path());
        for kept in &FILES[..survivors] {
            assert_eq!(after[*kept], before[*kept], "{kept} of {survivors}");
        }
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        let client = farol_pki::enrol_config(&authority.root_fingerprint()).unwrap().0;
        handshake(&client, &farol_pki::server_config(&authority).unwrap()).assert_done();
    }
}

#[test]
fn a_file_lost_later_is_named_and_nothing_is_made_in_its_place() {
    for lost in &FILES[..5] {
        let site = Site::new();
        fs::remove_file(site.dir.path().join(lost)).unwrap();
        let before = contents(site.dir.path());

        let refusal = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc()).unwrap_err();

        let is_key = matches!(refusal, Error::MissingKey { .. });
        assert_eq!(is_key, lost.ends_with("key"), "{lost}: {refusal:?}");
        let path = site.dir.path().join(lost).display().to_string();
        assert!(refusal.to_string().starts_with(&path), "{refusal}");
        assert_eq!(contents(site.dir.path()), before);
    }
}

#[test]
fn a_root_lost_with_its_key_is_not_replaced() {
    let site = Site::new();
    for lost in ["root.key", "root.pem"] {
        fs::remove_file(site.dir.path().join(lost)).unwrap();
    }

    let refusal = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc());

    assert!(matches!(refusal, Err(Error::MissingFile { .. })));
    assert!(!site.dir.path().join("root.key").exists());
}

#[test]
fn a_damaged_or_foreign_file_is_refused() {
    let other = Site::new();
    let open = |name: &str, text: &str| {
        let site = Site::new();
        farol_pki::files::write_private(&site.dir.path().join(name), text.as_bytes()).unwrap();
        let refusal = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc()).unwrap_err();
        assert!(refusal.to_string().contains(site.dir.path().to_str().unwrap()));
        refusal
    };

    for name in FILES {
        assert!(matches!(open(name, "garbage"), Error::BadFile { .. }), "{name}");
        if name == "authority.json" {
            continue;
        }
        let foreign = open(name, &other.file(name));
        assert!(matches!(foreign, Error::KeyMismatch { .. }), "{name}");
    }
}

#[test]
fn an_issuing_authority_of_another_root_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    for name in ["issuing.key", "issuing.pem"] {
        let path = site.dir.path().join(name);
        farol_pki::files::write_private(&path, other.file(name).as_bytes()).unwrap();
    }

    let refusal = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc());

    assert!(matches!(refusal, Err(Error::BrokenChain { .. })));
}

#[test]
fn the_coordinators_leaf_is_renewed_only_late_in_its_life() {
    let now = OffsetDateTime::now_utc();
    let site = Site::made_at(now);
    let before = contents(site.dir.path());

    Authority::open_or_create(site.dir.path(), now + Duration::days(242)).unwrap();
    assert_eq!(contents(site.dir.path()), before);

    Authority::open_or_create(site.dir.path(), now + Duration::days(244)).unwrap();
    let after = contents(site.dir.path());
    for name in FILES {
        assert_eq!(after[name] == before[name], name != "server.pem", "{name}");
    }
}

#[test]
fn a_leaf_made_by_a_clock_that_ran_ahead_is_replaced() {
    let now = OffsetDateTime::now_utc();
    let site = Site::made_at(now);
    Authority::open_or_create(site.dir.path(), now + Duration::days(300)).unwrap();

    let authority = Authority::open_or_create(site.dir.path(), now).unwrap();

    let server = farol_pki::server_config(&authority).unwrap();
    handshake(&site.client(), &server).assert_done();
}

#[test]
fn hosts_keep_connecting_after_the_issuing_authority_was_followed_by_itself() {
    let now = OffsetDateTime::now_utc();
    let site = Site::made_at(now - Duration::days(740));
    let early = site.client();
    let issuing = site.file("issuing.pem");

    let renewed = Authority::open_or_create(site.dir.path(), now).unwrap();

    assert_eq!(site.file("issuing.pem"), issuing, "the old one is kept");
    assert_ne!(renewed.issuer_id(), site.authority.issuer_id());
    assert_eq!(renewed.root_fingerprint(), site.authority.root_fingerprint());
    let server = farol_pki::server_config(&renewed).unwrap();
    handshake(&early, &server).assert_done();
    handshake(&site.client(), &server).assert_done();
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_file_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");

        Authority::open_or_create(&folder, OffsetDateTime::now_utc()).unwrap();

        assert_eq!(mode(&folder), 0o700);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_closes_it() {
        for (name, open) in [("root.key", 0o640), ("issuing.key", 0o604), ("server.key", 0o660)] {
            let site = Site::new();
            let path = site.dir.path().join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();

            let refusal = Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc()).unwrap_err();

            let command = format!("chmod 600 {}", path.display());
            assert!(refusal.to_string().ends_with(&command), "{refusal}");
        }
    }

    #[test]
    fn a_certificate_that_others_can_read_is_no_matter() {
        let site = Site::new();
        let path = site.dir.path().join("root.pem");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        assert!(Authority::open_or_create(site.dir.path(), OffsetDateTime::now_utc()).is_ok());
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn path_length(der: &CertificateDer<'_>) -> Option<Option<u32>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    constraints.ca.then_some(constraints.path_len_constraint)
}

fn days(der: &CertificateDer<'_>) -> i64 {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
    let validity = parsed.validity();
    (validity.not_after.to_datetime() - validity.not_before.to_datetime()).whole_days()
}
