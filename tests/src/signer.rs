//! People's keys as a test makes them: ring and the specification, nothing of
//! Farol's own signing.

use anyhow::{Result, anyhow};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

/// What a person signs: the text, a NUL, and the plan hash's 32 bytes.
#[must_use]
pub fn message(plan: &str) -> Vec<u8> {
    [b"farol-approval-v1\0".as_slice(), digest(&SHA256, plan.as_bytes()).as_ref()].concat()
}

fn key_id(raw: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, raw).as_ref()).chars().take(16).collect()
}

/// Somebody with an Ed25519 key.
pub struct Person {
    name: String,
    key: Ed25519KeyPair,
}

impl Person {
    /// Makes a key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(name: &str) -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("no random numbers"))?;
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The name in the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key as a policy lists it.
    #[must_use]
    pub fn public(&self) -> String {
        format!("ed25519:{}", BASE64URL_NOPAD.encode(self.key.public_key().as_ref()))
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> String {
        key_id(self.key.public_key().as_ref())
    }

    /// Their signature under `plan`.
    #[must_use]
    pub fn sign(&self, plan: &str) -> Value {
        json!({"operator": self.name, "key_id": self.key_id(), "alg": "ed25519",
            "signature": BASE64URL_NOPAD.encode(self.key.sign(&message(plan)).as_ref())})
    }
}

/// Somebody with a passkey.
pub struct Passkey {
    name: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

/// What an authenticator and a browser put into an assertion.
#[derive(Clone)]
pub struct Ceremony {
    /// `type` in the client data.
    pub kind: String,
    /// The challenge; that of the plan when absent.
    pub challenge: Option<String>,
    /// Where the page was.
    pub origin: String,
    /// Whose passkey it is.
    pub rp_id: String,
    /// 1: present, 4: verified.
    pub flags: u8,
}

impl Default for Ceremony {
    fn default() -> Self {
        Self {
            kind: "webauthn.get".to_owned(),
            challenge: None,
            origin: "https://farol.example.org".to_owned(),
            rp_id: "farol.example.org".to_owned(),
            flags: 1 | 4,
        }
    }
}

impl Passkey {
    /// Makes a passkey.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(name: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| anyhow!("no random numbers"))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|error| anyhow!("{error}"))?;
        Ok(Self { name: name.to_owned(), key, random })
    }

    /// The key as a policy lists it.
    #[must_use]
    pub fn public(&self) -> String {
        format!("webauthn-es256:{}", BASE64URL_NOPAD.encode(self.key.public_key().as_ref()))
    }

    /// Their signature under `plan`.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign(&self, plan: &str, how: &Ceremony) -> Result<Value> {
        let challenge =
            how.challenge.clone().unwrap_or_else(|| BASE64URL_NOPAD.encode(digest(&SHA256, &message(plan)).as_ref()));
        let client_data =
            json!({"type": how.kind, "challenge": challenge, "origin": how.origin, "crossOrigin": false}).to_string();
        // The counter of a synced passkey is 0.
        let authenticator_data = [digest(&SHA256, how.rp_id.as_bytes()).as_ref(), &[how.flags], &[0, 0, 0, 0]].concat();
        let signed = [authenticator_data.as_slice(), digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
        let signature = self.key.sign(&self.random, &signed).map_err(|_| anyhow!("no random numbers"))?;
        Ok(json!({"operator": self.name, "key_id": key_id(self.key.public_key().as_ref()), "alg": "webauthn-es256",
            "signature": BASE64URL_NOPAD.encode(signature.as_ref()),
            "authenticator_data": BASE64URL_NOPAD.encode(&authenticator_data),
            "client_data": BASE64URL_NOPAD.encode(client_data.as_bytes())}))
    }
}

impl Passkey {
    /// The credential's id.
    #[must_use]
    pub fn id(&self) -> String {
        BASE64URL_NOPAD.encode(digest(&SHA256, self.key.public_key().as_ref()).as_ref())
    }

    /// The key's id, as a policy's export names it.
    #[must_use]
    pub fn key_id(&self) -> String {
        key_id(self.key.public_key().as_ref())
    }

    /// What `navigator.credentials.create` gives for a challenge: no attestation,
    /// and the COSE key of ES256 behind the authenticator data.
    #[must_use]
    pub fn create(&self, challenge: &str, how: &Ceremony) -> Value {
        let client_data =
            json!({"type": "webauthn.create", "challenge": challenge, "origin": how.origin, "crossOrigin": false})
                .to_string();
        let point = self.key.public_key().as_ref();
        let cose =
            [&[0xa5_u8, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 0x20], &point[1..33], &[0x22, 0x58, 0x20], &point[33..]]
                .concat();
        let credential = digest(&SHA256, point);
        let data = [
            digest(&SHA256, how.rp_id.as_bytes()).as_ref(),
            &[how.flags | 0x40],
            &[0, 0, 0, 0],
            &[0; 16],
            &[0, 32],
            credential.as_ref(),
            &cose,
        ]
        .concat();
        let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
        let object =
            [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".as_slice(), &[length], data.as_slice()].concat();
        json!({"id": self.id(), "rawId": self.id(), "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {"clientDataJSON": BASE64URL_NOPAD.encode(client_data.as_bytes()),
                "attestationObject": BASE64URL_NOPAD.encode(&object), "transports": ["internal"]}})
    }

    /// What `navigator.credentials.get` gives for a challenge.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn get(&self, challenge: &str, how: &Ceremony) -> Result<Value> {
        let how = Ceremony { challenge: Some(challenge.to_owned()), ..how.clone() };
        let signed = self.sign("", &how)?;
        Ok(json!({"id": self.id(), "rawId": self.id(), "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {"clientDataJSON": signed["client_data"], "authenticatorData": signed["authenticator_data"],
                "signature": signed["signature"]}}))
    }
}
