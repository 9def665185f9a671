//! Public keys as people paste them, and the one key that Farol signs with.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use ring::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};

use super::{Signature, SignatureAlgorithm, message};
use crate::{PlanHash, action::hex};

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No known algorithm before the colon.
    #[error("a key begins with `ed25519:` or `webauthn-es256:`")]
    Algorithm,
    /// Not base64url.
    #[error("what follows the colon is not base64url without padding")]
    Encoding,
    /// Not as long as such a key is.
    #[error("an ed25519 key has 32 bytes, that is 43 characters of base64url")]
    Ed25519Length,
    /// Not an uncompressed point.
    #[error("a webauthn-es256 key is the 65 bytes of an uncompressed point, that is 87 characters of base64url")]
    Point,
    /// The private key cannot be used.
    #[error("the private key is not an Ed25519 key in PKCS#8")]
    Private,
}

/// A person's public key. As text: the algorithm, a colon, and base64url
/// without padding of 32 bytes (Ed25519) or of the 65 bytes of an uncompressed
/// point (P-256).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    alg: SignatureAlgorithm,
    raw: Vec<u8>,
}

impl PublicKey {
    /// How it signs.
    #[must_use]
    pub const fn alg(&self) -> SignatureAlgorithm {
        self.alg
    }

    /// The first 16 hexadecimal digits of the SHA-256 of its bytes.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&digest(&SHA256, &self.raw).as_ref()[..8])
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (alg, encoded) = text.split_once(':').ok_or(KeyError::Algorithm)?;
        let alg = [SignatureAlgorithm::Ed25519, SignatureAlgorithm::WebauthnEs256]
            .into_iter()
            .find(|known| known.as_str() == alg)
            .ok_or(KeyError::Algorithm)?;
        let raw = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| KeyError::Encoding)?;
        match alg {
            SignatureAlgorithm::Ed25519 if raw.len() != 32 => Err(KeyError::Ed25519Length),
            SignatureAlgorithm::WebauthnEs256 if raw.len() != 65 || raw[0] != 4 => Err(KeyError::Point),
            _ => Ok(Self { alg, raw }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.alg.as_str(), BASE64URL_NOPAD.encode(&self.raw))
    }
}

/// The public half of `pkcs8`, and the signature of `operator` with it.
/// `pkcs8` is DER, version 1 (as openssl writes it) or 2.
///
/// # Errors
/// It is no such key.
pub fn sign_ed25519(pkcs8: &[u8], operator: &str, plan_hash: &PlanHash) -> Result<(PublicKey, Signature), KeyError> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| KeyError::Private)?;
    let key = PublicKey { alg: SignatureAlgorithm::Ed25519, raw: pair.public_key().as_ref().to_vec() };
    let signature = Signature {
        operator: operator.to_owned(),
        key_id: key.id(),
        alg: key.alg,
        signature: BASE64URL_NOPAD.encode(pair.sign(&message(plan_hash)).as_ref()),
        authenticator_data: None,
        client_data: None,
    };
    Ok((key, signature))
}
