//! The key a host makes for itself. It never leaves the host.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::Error;

/// A host's new private key and the request to certify it.
pub struct HostKey {
    /// The private key, PKCS#8 in PEM.
    pub key_pem: String,
    /// The signing request, PKCS#10 in PEM.
    pub csr_pem: String,
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey").field("csr_pem", &self.csr_pem).finish_non_exhaustive()
    }
}

/// Makes a P-256 key and a request for it.
pub fn new_host_key() -> Result<HostKey, Error> {
    let key = KeyPair::generate().map_err(|source| Error::Make { what: "a host key", source })?;
    Ok(HostKey { key_pem: key.serialize_pem(), csr_pem: request(&key)? })
}

/// Makes a request for a key that exists, so that a retry keeps it.
pub fn csr_for(key_pem: &str) -> Result<String, Error> {
    let key = KeyPair::from_pem(key_pem).map_err(|source| Error::HostKey { source })?;
    request(&key)
}

/// Without names: the coordinator gives the host its name.
fn request(key: &KeyPair) -> Result<String, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .serialize_request(key)
        .and_then(|request| request.pem())
        .map_err(|source| Error::Make { what: "a signing request", source })
}
