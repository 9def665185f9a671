//! A person's signature under a plan, which the host checks for itself.
//!
//! What is signed is [`message`]: a fixed text and the plan hash, so that a
//! signature binds the action, its host, its parameters and its expiry, and is
//! of no use anywhere else. [`judge`] decides, for both sides, whether the
//! signatures of an order are those its class asks for.

mod judge;
mod key;
mod verify;

pub use judge::{Operator, Role, Why, judge};
pub use key::{KeyError, PublicKey, sign_ed25519};
use serde::{Deserialize, Serialize};
pub use verify::{WebAuthn, verify, verify_challenge};

use crate::PlanHash;

/// Most signatures that one order may carry.
pub const MAX_SIGNATURES: usize = 8;

/// Begins every message, so that no other use of a key can be mistaken for an
/// approval.
const CONTEXT: &[u8] = b"farol-approval-v1\0";

/// The bytes to sign: [`CONTEXT`] and the 32 bytes of the plan hash. A
/// passkey's challenge is their SHA-256.
#[must_use]
pub fn message(plan_hash: &PlanHash) -> Vec<u8> {
    [CONTEXT, &plan_hash.to_bytes()].concat()
}

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SignatureAlgorithm {
    /// Ed25519 over `"farol-approval-v1\0"` and the plan hash.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// A passkey's ES256 assertion whose challenge is the SHA-256 of the same.
    #[serde(rename = "webauthn-es256")]
    WebauthnEs256,
}

impl SignatureAlgorithm {
    /// The word on the wire, and before the colon of a public key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::WebauthnEs256 => "webauthn-es256",
        }
    }
}

/// One person's signature. Binary fields are base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Name in the policy's `operators`.
    pub operator: String,
    /// Which of their keys.
    pub key_id: String,
    /// How it was made.
    pub alg: SignatureAlgorithm,
    /// The signature.
    pub signature: String,
    /// A passkey's authenticator data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticator_data: Option<String>,
    /// A passkey's client data, exact bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_data: Option<String>,
}

#[cfg(test)]
mod tests;
