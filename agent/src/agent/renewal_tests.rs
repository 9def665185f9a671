//! Certificates sent over a live connection, good and bad.

use farol_pki::{Authority, new_host_key};
use farol_protocol::{
    FromAgent, Timestamp, ToAgent,
    frame::{CertificateInstalled, CertificateUpdate},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    state::StateDir,
    testing::{Coordinator, Peer},
};

async fn answer(peer: &mut Peer, update: CertificateUpdate) -> CertificateInstalled {
    peer.send(&ToAgent::CertificateUpdate(update)).await;
    peer.expect(|frame| match frame {
        FromAgent::CertificateInstalled(installed) => Some(installed),
        _ => None,
    })
    .await
}

fn update(authority: &Authority, key_pem: &str, host: &str) -> CertificateUpdate {
    let csr = farol_pki::csr_for(key_pem).expect("a key");
    let issued = authority.issue_host(&csr, host, OffsetDateTime::now_utc()).expect("issued");
    CertificateUpdate { cert: issued.cert_pem, ca: authority.ca_pem(), cross: authority.cross_pem() }
}

#[tokio::test]
async fn a_certificate_is_taken_over_the_live_connection_and_a_bad_one_changes_nothing() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    coordinator.enrol(folder.path());
    let state = StateDir::new(folder.path());
    let mut config = Config::new(folder.path());
    config.policy = folder.path().join("policy.yaml");
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(crate::run(config, shutdown.clone()));
    let (mut peer, hello) = coordinator.session(0).await;
    assert_eq!(hello.roots, Some(coordinator.authority.root_ids()));
    assert!(hello.capabilities.iter().any(|method| method == "certificate.update"));
    let key = std::fs::read_to_string(state.key()).expect("a key");
    let files = || [state.cert(), state.ca(), state.key()].map(|path| std::fs::read_to_string(path).expect("there"));
    let before = files();

    let foreign = tempfile::tempdir().expect("a folder");
    let foreign = Authority::open_or_create(foreign.path(), OffsetDateTime::now_utc()).expect("an authority");
    let other_key = new_host_key().expect("a key").key_pem;
    let announced = coordinator.announce_root();
    let mut bad = [
        update(&coordinator.authority, &other_key, "vm112"),
        update(&coordinator.authority, &key, "vm113"),
        update(&foreign, &key, "vm112"),
        update(&announced, &key, "vm112"),
    ];
    bad[3].cross.clear();
    for update in bad {
        let installed = answer(&mut peer, update).await;
        assert!(installed.refused.is_some_and(|why| why.len() > 20));
        assert_eq!(installed.roots, coordinator.authority.root_ids());
        assert_eq!(files(), before);
    }

    let good = update(&announced, &key, "vm112");
    let installed = answer(&mut peer, good.clone()).await;
    assert_eq!((installed.refused, installed.roots), (None, announced.root_ids()));
    assert!(installed.not_after > Timestamp::now());
    assert_eq!(files(), [good.cert, good.ca, key]);
    shutdown.cancel();
    run.await.expect("no panic").expect("a good end");
}
