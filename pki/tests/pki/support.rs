//! An authority in a folder of its own, and handshakes without sockets.

use std::io::{Read, Write};
use std::sync::Arc;

use farol_pki::{Authority, HostCertificate, HostKey, client_config, new_host_key, provider};
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::server::NoClientAuth;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::made_at(OffsetDateTime::now_utc())
    }

    pub(crate) fn made_at(now: OffsetDateTime) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), now).unwrap();
        Self { dir, authority }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        farol_pki::server_config(&self.authority).unwrap()
    }

    pub(crate) fn enrol(&self, host_id: &str) -> (HostKey, HostCertificate) {
        let key = new_host_key().unwrap();
        let certificate = self.authority.issue_host(&key.csr_pem, host_id, OffsetDateTime::now_utc()).unwrap();
        (key, certificate)
    }

    /// The configuration of a host that has just enrolled.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let (key, certificate) = self.enrol("web-1");
        client_config(&self.authority.ca_pem(), &certificate.cert_pem, &key.key_pem).unwrap()
    }

    /// A leaf this authority's key signed, but no code of ours would issue.
    pub(crate) fn odd_leaf(&self, uris: &[&str], usages: &[ExtendedKeyUsagePurpose]) -> (KeyPair, String) {
        let issuing_key = KeyPair::from_pem(&self.file("issuing.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&self.file("issuing.pem"), issuing_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::hours(1);
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = usages.to_vec();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        (key, leaf.pem() + &self.file("issuing.pem"))
    }
}

/// A TLS server that asks nothing and presents whatever it is given.
pub(crate) fn impostor(chain_pem: &str, key_pem: &str) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(NoClientAuth))
        .with_single_cert(ders(chain_pem), key)
        .unwrap();
    Arc::new(config)
}

pub(crate) fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// Both ends after a handshake, and the first refusal of each.
pub(crate) struct Handshake {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    client_refusal: Option<rustls::Error>,
    server_refusal: Option<rustls::Error>,
}

/// Connects, with `secret` queued by the client from the start.
pub(crate) fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Handshake {
    let name = ServerName::try_from("192.0.2.7").unwrap();
    let mut both = Handshake {
        client: ClientConnection::new(client.clone(), name).unwrap(),
        server: ServerConnection::new(server.clone()).unwrap(),
        client_refusal: None,
        server_refusal: None,
    };
    both.client.writer().write_all(b"secret").unwrap();
    while both.client.wants_write() || both.server.wants_write() {
        let mut wire = Vec::new();
        while both.client.wants_write() {
            both.client.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && both.server_refusal.is_none() {
            both.server.read_tls(&mut unread).unwrap();
            both.server_refusal = both.server.process_new_packets().err();
        }

        let mut wire = Vec::new();
        while both.server.wants_write() {
            both.server.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && both.client_refusal.is_none() {
            both.client.read_tls(&mut unread).unwrap();
            both.client_refusal = both.client.process_new_packets().err();
        }
    }
    both
}

impl Handshake {
    pub(crate) fn assert_done(&self) {
        assert_eq!(self.client_refusal, None);
        assert_eq!(self.server_refusal, None);
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
    }

    pub(crate) fn is_done(&self) -> bool {
        self.client_refusal.is_none() && self.server_refusal.is_none()
    }

    /// What the client refused, after checking that nothing got through.
    pub(crate) fn client_refusal(mut self) -> String {
        assert_eq!(self.received(), b"");
        self.client_refusal.unwrap().to_string()
    }

    pub(crate) fn server_refusal(mut self) -> String {
        assert_eq!(self.received(), b"");
        self.server_refusal.unwrap().to_string()
    }

    /// The application data the server can read.
    pub(crate) fn received(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        // Ends with WouldBlock, as the connection stays open.
        let _ = self.server.reader().read_to_end(&mut data);
        data
    }
}
