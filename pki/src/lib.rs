//! Farol's private trust: the authority, the identities it issues, and the TLS
//! configurations of both ends of the southbound connection.
//!
//! Root, issuing authority, leaves. A leaf says who it belongs to with exactly
//! one URI name, and what it may do with exactly one extended key usage.
//! Addresses never count. There is no revocation here: whether a host's key is
//! still welcome is asked of the coordinator's live set after each handshake.

mod authority;
mod client;
mod csr;
mod encoding;
mod error;
pub mod files;
mod identity;
mod issue;
mod key;
mod manifest;
mod pinned;
mod renewal;
mod rollover;
mod server;
mod update;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use authority::{Authority, CertificateInfo, Overview};
pub use client::{KnownClock, PinnedRoot, client_config, client_config_since, enrol_config, renewal_config};
pub use encoding::sha256_hex;
pub use error::Error;
pub use identity::{COORDINATOR_URI, PeerIdentity, validity};
pub use issue::HostCertificate;
pub use key::{HostKey, csr_for, new_host_key};
pub use pinned::{OtherCertificate, Pin, pinned_config};
pub use renewal::{Asked, CONSENT, Due, GRACE, Held, Present, admit, due};
pub use server::server_config;
pub use update::{Accepted, Update, proven_key_sha256, root_ids, verify_update};

/// The one cryptographic provider Farol uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes [`provider`] the process default, for libraries that take no explicit
/// provider. Calling it again changes nothing.
pub fn install_default_provider() {
    // An error only says that a default is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
