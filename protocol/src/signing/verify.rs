//! Whether one signature is that of one key under one plan.

use data_encoding::BASE64URL_NOPAD;
use ring::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey},
};
use serde::Deserialize;

use super::{PublicKey, Signature, SignatureAlgorithm, message};
use crate::PlanHash;

/// Longest binary field of a signature, in characters of base64url.
const MAX_FIELD: usize = 8192;
/// Bits of the authenticator data's flags: a person was there, and was
/// recognised.
const PRESENT_AND_VERIFIED: u8 = 0x01 | 0x04;

/// Which passkeys count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebAuthn {
    /// The relying party, a domain name.
    pub rp_id: String,
    /// The page that asks, such as `https://farol.example.org`.
    pub origin: String,
}

/// What a browser says an assertion was made for. Open: browsers add to it.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

/// Checks one signature with one key.
///
/// # Errors
/// What is wrong with it, in words.
pub fn verify(
    key: &PublicKey,
    signature: &Signature,
    plan_hash: &PlanHash,
    webauthn: Option<&WebAuthn>,
) -> Result<(), &'static str> {
    if signature.alg != key.alg() {
        return Err("the algorithm is not that of the key");
    }
    if signature.key_id != key.id() {
        return Err("it names another key");
    }
    let bytes = decode(&signature.signature)?;
    match signature.alg {
        SignatureAlgorithm::Ed25519 => {
            if signature.authenticator_data.is_some() || signature.client_data.is_some() {
                return Err("an Ed25519 signature carries no passkey's data");
            }
            UnparsedPublicKey::new(&ED25519, key.raw())
                .verify(&message(plan_hash), &bytes)
                .map_err(|_| "it is not the key's signature under this plan")
        }
        SignatureAlgorithm::WebauthnEs256 => {
            let webauthn = webauthn.ok_or("no passkeys are configured here")?;
            let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, &message(plan_hash)).as_ref());
            assertion(key, signature, &bytes, &challenge, webauthn)
        }
    }
}

/// Checks a passkey's assertion for another purpose than an approval, such as
/// signing in. `challenge` is base64url without padding and must not be one
/// that whoever asks can choose: it would be a plan's.
///
/// # Errors
/// What is wrong with it, in words.
pub fn verify_challenge(
    key: &PublicKey,
    signature: &Signature,
    challenge: &str,
    webauthn: &WebAuthn,
) -> Result<(), &'static str> {
    if (signature.alg, key.alg()) != (SignatureAlgorithm::WebauthnEs256, SignatureAlgorithm::WebauthnEs256) {
        return Err("the algorithm is not that of a passkey");
    }
    assertion(key, signature, &decode(&signature.signature)?, challenge, webauthn)
}

fn assertion(
    key: &PublicKey,
    signature: &Signature,
    bytes: &[u8],
    challenge: &str,
    webauthn: &WebAuthn,
) -> Result<(), &'static str> {
    let client_data = decode(signature.client_data.as_deref().ok_or("the client data is missing")?)?;
    let authenticator = decode(signature.authenticator_data.as_deref().ok_or("the authenticator data is missing")?)?;
    let client: ClientData = serde_json::from_slice(&client_data).map_err(|_| "the client data cannot be read")?;
    if client.kind != "webauthn.get" {
        return Err("it is no assertion of type webauthn.get");
    }
    if client.challenge != challenge {
        return Err("its challenge is not the one that was asked for");
    }
    if client.origin != webauthn.origin || client.cross_origin {
        return Err("it was made for another origin");
    }
    // RP-ID hash, flags, counter. The counter does not count: synced passkeys
    // send 0, and the action's id stops replays.
    let (rp_id_hash, flags) = match authenticator.get(..37) {
        Some(fixed) => (&fixed[..32], fixed[32]),
        None => return Err("the authenticator data is cut short"),
    };
    if rp_id_hash != digest(&SHA256, webauthn.rp_id.as_bytes()).as_ref() {
        return Err("it was made for another relying party");
    }
    if flags & PRESENT_AND_VERIFIED != PRESENT_AND_VERIFIED {
        return Err("the person was not present and verified");
    }
    let signed = [authenticator.as_slice(), digest(&SHA256, &client_data).as_ref()].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.raw())
        .verify(&signed, bytes)
        .map_err(|_| "it is not the passkey's signature")
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.len() > MAX_FIELD {
        return Err("a field is too long");
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "a field is not base64url without padding")
}
