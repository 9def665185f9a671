//! A person's signature under a plan, which the host checks for itself.

use serde::{Deserialize, Serialize};

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
