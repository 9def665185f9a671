//! Passkeys: WebAuthn with ES256 and no attestation, so that the key that signs
//! in is one that hosts can list and that approvals can be signed with.
//!
//! Challenges carry a tag of this process instead of being remembered, so that
//! strangers who ask for them fill nothing; only those that were used are kept
//! until they end. What a challenge is for and for whom is under its tag. See
//! ADR 15.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ciborium::Value;
use data_encoding::BASE64URL_NOPAD;
use farol_protocol::{
    Timestamp,
    signing::{PublicKey, Signature, SignatureAlgorithm, WebAuthn, verify_challenge},
};
use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    config::Config,
    error::{Error, Result},
};

/// How long a challenge can be answered, in ms.
pub const LASTS_MS: i64 = 5 * 60_000;
const RANDOM: usize = 16;
const FIXED: usize = 8 + RANDOM;
/// Longest binary field, in characters.
const MAX_FIELD: usize = 16_384;
/// Longest name of a credential, in bytes.
const MAX_ID: usize = 1023;

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signing in; nobody in particular.
    SignIn,
    /// Registering a passkey.
    Register,
}

/// Makes and takes challenges. Not `Debug`: it holds a key.
pub struct Challenges {
    key: hmac::Key,
    used: Mutex<HashMap<String, Timestamp>>,
}

impl Challenges {
    /// With a key of its own.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| no_random())?;
        Ok(Self { key, used: Mutex::default() })
    }

    fn tag(&self, purpose: Purpose, user: &str, fixed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(match purpose {
            Purpose::SignIn => b"sign-in\0",
            Purpose::Register => b"register\0",
        });
        context.update(user.as_bytes());
        context.update(b"\0");
        context.update(fixed);
        context.sign()
    }

    /// A new challenge, in base64url. `user` is the account's id, or empty.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn make(&self, purpose: Purpose, user: &str, now: Timestamp) -> Result<String> {
        let mut fixed = [0_u8; FIXED];
        fixed[..8].copy_from_slice(&now.as_ms().to_be_bytes());
        SystemRandom::new().fill(&mut fixed[8..]).map_err(|_| no_random())?;
        let tag = self.tag(purpose, user, &fixed);
        Ok(BASE64URL_NOPAD.encode(&[&fixed, tag.as_ref()].concat()))
    }

    /// Whether this is a challenge of ours for that, and can still be answered.
    fn check(&self, purpose: Purpose, user: &str, challenge: &str, now: Timestamp) -> Result<(), &'static str> {
        const OTHER: &str = "its challenge is not one that was given out here for this; begin again";
        let bytes = BASE64URL_NOPAD.decode(challenge.as_bytes()).map_err(|_| OTHER)?;
        let (fixed, tag) = bytes.split_at_checked(FIXED).ok_or(OTHER)?;
        let mut ms = [0_u8; 8];
        ms.copy_from_slice(&fixed[..8]);
        let known = self.tag(purpose, user, fixed);
        if !crate::access::same_secret(known.as_ref(), tag) {
            return Err(OTHER);
        }
        if !(0..LASTS_MS).contains(&now.since(Timestamp::from_ms(i64::from_be_bytes(ms)))) {
            return Err("its challenge is too old; begin again");
        }
        Ok(())
    }

    /// Uses a challenge up whose answer was good; whether it was there.
    fn consume(&self, challenge: &str, now: Timestamp) -> Result<(), &'static str> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, at| now.since(*at) < LASTS_MS);
        match used.insert(challenge.to_owned(), now) {
            None => Ok(()),
            Some(_) => Err("its challenge was used already; begin again"),
        }
    }
}

fn no_random() -> Error {
    Error::Refused("the system gives no random numbers; try again".to_owned())
}

/// Which passkeys count here: those of the public address.
///
/// # Errors
/// There are none, and why.
pub fn site(config: &Config) -> Result<WebAuthn, &'static str> {
    let Some(url) = &config.public_url else {
        return Err("FAROL_PUBLIC_URL is not set, so there is no name that passkeys could belong to");
    };
    let url = reqwest::Url::parse(url).map_err(|_| "FAROL_PUBLIC_URL is no address")?;
    if url.scheme() != "https" {
        return Err("the console is reached without TLS; browsers make passkeys for https only");
    }
    // A name, not an address.
    let Some(rp_id) = url.domain() else {
        return Err("FAROL_PUBLIC_URL has an IP address; browsers make passkeys for names only");
    };
    Ok(WebAuthn { rp_id: rp_id.to_owned(), origin: url.origin().ascii_serialization() })
}

/// What a browser's `PublicKeyCredential.toJSON()` gives after `create`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Registration {
    /// The credential's id, base64url.
    id: String,
    /// The same.
    #[serde(default)]
    raw_id: Option<String>,
    /// `public-key`.
    #[serde(rename = "type")]
    kind: String,
    /// What the authenticator said.
    response: RegistrationResponse,
    /// Whether it is part of the device.
    #[serde(default)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    authenticator_attachment: Option<String>,
    /// What extensions said; nothing is asked of them.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    client_extension_results: Option<serde_json::Value>,
}

/// What an authenticator says of a new passkey.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RegistrationResponse {
    /// Base64url.
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    /// Base64url of CBOR.
    attestation_object: String,
    /// How the authenticator is reached.
    #[serde(default)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    transports: Option<Vec<String>>,
    /// Not used: it stands in the attestation object.
    #[serde(default)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    authenticator_data: Option<String>,
    /// Not used.
    #[serde(default)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    public_key: Option<String>,
    /// Not used.
    #[serde(default)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    public_key_algorithm: Option<i64>,
}

/// What a browser's `PublicKeyCredential.toJSON()` gives after `get`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Assertion {
    /// The credential's id, base64url.
    id: String,
    /// The same.
    #[serde(default)]
    raw_id: Option<String>,
    /// `public-key`.
    #[serde(rename = "type")]
    kind: String,
    /// What the authenticator said.
    response: AssertionResponse,
    /// Whether it is part of the device.
    #[serde(default)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    authenticator_attachment: Option<String>,
    /// What extensions said; nothing is asked of them.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    #[expect(dead_code, reason = "browsers send it; it is not needed")]
    client_extension_results: Option<serde_json::Value>,
}

/// What an authenticator says of who is there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AssertionResponse {
    /// Base64url.
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    /// Base64url.
    authenticator_data: String,
    /// Base64url.
    signature: String,
    /// The account's id, base64url.
    #[serde(default)]
    user_handle: Option<String>,
}

/// A new passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPasskey {
    /// Base64url.
    pub credential_id: String,
    /// The key.
    pub public: PublicKey,
}

/// What a browser says it was asked for. Open: browsers add to it.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.len() > MAX_FIELD {
        return Err("a field is too long");
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "a field is not base64url without padding")
}

impl Registration {
    /// The new passkey of account `user`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(
        &self,
        challenges: &Challenges,
        site: &WebAuthn,
        user: &str,
        now: Timestamp,
    ) -> Result<NewPasskey, &'static str> {
        if self.kind != "public-key" || self.raw_id.as_ref().is_some_and(|raw| *raw != self.id) {
            return Err("it is not a passkey of type public-key");
        }
        let client = decode(&self.response.client_data)?;
        let client: ClientData = serde_json::from_slice(&client).map_err(|_| "the client data cannot be read")?;
        if client.kind != "webauthn.create" {
            return Err("it is no registration of type webauthn.create");
        }
        if client.origin != site.origin || client.cross_origin {
            return Err("it was made for another origin");
        }
        challenges.check(Purpose::Register, user, &client.challenge, now)?;
        let object = decode(&self.response.attestation_object)?;
        let data = authenticator_data(&object)?;
        let (credential_id, public) = attested(&data, site)?;
        if credential_id != self.id {
            return Err("the credential's id is not the one that the authenticator names");
        }
        challenges.consume(&client.challenge, now)?;
        Ok(NewPasskey { credential_id, public })
    }
}

/// One CBOR document at the start of `bytes`, and how long it is.
fn cbor(bytes: &[u8]) -> Result<(Value, usize), &'static str> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 16).map_err(|_| "the CBOR cannot be read")?;
    Ok((value, bytes.len() - rest.len()))
}

fn field<'a>(map: &'a Value, wanted: &Value) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
}

/// Attestation is not asked for, so whatever stands in for it is not looked at.
fn authenticator_data(object: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (object, length) = cbor(object)?;
    if length == 0 {
        return Err("the attestation object is empty");
    }
    let data = field(&object, &Value::from("authData")).and_then(Value::as_bytes);
    data.cloned().ok_or("the attestation object has no authData")
}

fn attested(data: &[u8], site: &WebAuthn) -> Result<(String, PublicKey), &'static str> {
    const SHORT: &str = "the authenticator data is cut short";
    const PRESENT_VERIFIED_AND_ATTESTED: u8 = 0x01 | 0x04 | 0x40;
    let fixed = data.get(..37).ok_or(SHORT)?;
    if fixed[..32] != *digest(&SHA256, site.rp_id.as_bytes()).as_ref() {
        return Err("it was made for another relying party");
    }
    if fixed[32] & PRESENT_VERIFIED_AND_ATTESTED != PRESENT_VERIFIED_AND_ATTESTED {
        return Err("the person was not present and verified, or there is no key");
    }
    let length = data.get(53..55).ok_or(SHORT)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if !(1..=MAX_ID).contains(&length) {
        return Err("the credential's id has a wrong length");
    }
    let id = data.get(55..55 + length).ok_or(SHORT)?;
    let (key, _) = cbor(data.get(55 + length..).ok_or(SHORT)?)?;
    Ok((BASE64URL_NOPAD.encode(id), es256(&key)?))
}

/// A COSE key on P-256 for ES256, the one algorithm that approvals know.
fn es256(key: &Value) -> Result<PublicKey, &'static str> {
    let number = |name: i64| field(key, &Value::from(name)).and_then(Value::as_integer).map(i128::from);
    let part = |name: i64| {
        let bytes = field(key, &Value::from(name)).and_then(Value::as_bytes);
        bytes.filter(|bytes| bytes.len() == 32).ok_or("the key is not a point on P-256")
    };
    if (number(1), number(3), number(-1)) != (Some(2), Some(-7), Some(1)) {
        return Err("the key is not one for ES256, the one algorithm that approvals are signed with");
    }
    let point = [&[4_u8], part(-2)?.as_slice(), part(-3)?.as_slice()].concat();
    let text = format!("{}:{}", SignatureAlgorithm::WebauthnEs256.as_str(), BASE64URL_NOPAD.encode(&point));
    text.parse().map_err(|_| "the key is not a point on P-256")
}

impl Assertion {
    /// Which credential signs in.
    #[must_use]
    pub fn credential_id(&self) -> &str {
        &self.id
    }

    /// Checks that `public`, of the account `user`, signs in now.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(
        &self,
        challenges: &Challenges,
        site: &WebAuthn,
        (user, public): (&str, &PublicKey),
        now: Timestamp,
    ) -> Result<(), &'static str> {
        if self.kind != "public-key" || self.raw_id.as_ref().is_some_and(|raw| *raw != self.id) {
            return Err("it is not a passkey of type public-key");
        }
        if let Some(handle) = &self.response.user_handle
            && decode(handle)? != user.as_bytes()
        {
            return Err("it is another person's");
        }
        let client = decode(&self.response.client_data)?;
        let client: ClientData = serde_json::from_slice(&client).map_err(|_| "the client data cannot be read")?;
        challenges.check(Purpose::SignIn, "", &client.challenge, now)?;
        let signature = Signature {
            operator: String::new(),
            key_id: public.id(),
            alg: SignatureAlgorithm::WebauthnEs256,
            signature: self.response.signature.clone(),
            authenticator_data: Some(self.response.authenticator_data.clone()),
            client_data: Some(self.response.client_data.clone()),
        };
        verify_challenge(public, &signature, &client.challenge, site)?;
        challenges.consume(&client.challenge, now)
    }
}

#[cfg(test)]
mod tests {
    use farol_tests::signer::{Ceremony, Passkey};

    use super::*;

    fn ours() -> WebAuthn {
        WebAuthn { rp_id: "farol.example.org".to_owned(), origin: "https://farol.example.org".to_owned() }
    }

    fn registration(document: serde_json::Value) -> Registration {
        serde_json::from_value(document).expect("a registration")
    }

    #[test]
    fn a_challenge_is_for_one_purpose_one_person_and_five_minutes() {
        let (challenges, now) = (Challenges::new().expect("random"), Timestamp::from_ms(1_000_000));
        let made = challenges.make(Purpose::Register, "ana", now).expect("random");
        assert_eq!(challenges.check(Purpose::Register, "ana", &made, now.plus_ms(LASTS_MS - 1)), Ok(()));
        for (purpose, user, at) in [
            (Purpose::SignIn, "ana", 0),
            (Purpose::Register, "bia", 0),
            (Purpose::Register, "ana", LASTS_MS),
            (Purpose::Register, "ana", -1),
        ] {
            assert!(challenges.check(purpose, user, &made, now.plus_ms(at)).is_err(), "{purpose:?} {user} {at}");
        }
        let other = Challenges::new().expect("random");
        assert!(other.check(Purpose::Register, "ana", &made, now).is_err(), "another process made it");
        for broken in ["", "AAAA", &made[1..], "ç"] {
            assert!(challenges.check(Purpose::Register, "ana", broken, now).is_err(), "{broken}");
        }
        assert_eq!(challenges.consume(&made, now), Ok(()));
        assert!(challenges.consume(&made, now).is_err(), "it was taken twice");
        // What can no longer be answered need not be remembered.
        assert_eq!(challenges.consume("another", now.plus_ms(LASTS_MS)), Ok(()));
        assert_eq!(challenges.used.lock().expect("locked").len(), 1);
    }

    /// Whatever a browser sends, it is the authenticator's key or an error.
    #[test]
    fn no_mutation_of_a_registration_panics_or_names_another_credential() {
        let (challenges, now) = (Challenges::new().expect("random"), Timestamp::from_ms(1_000_000));
        let passkey = Passkey::new("ana").expect("a passkey");
        let mut random = fastrand::Rng::with_seed(0xfa01);
        let fresh = || {
            let challenge = challenges.make(Purpose::Register, "ana", now).expect("random");
            passkey.create(&challenge, &Ceremony::default())
        };
        let good = registration(fresh()).check(&challenges, &ours(), "ana", now).expect("good");
        assert_eq!((good.credential_id, good.public.id()), (passkey.id(), passkey.key_id()));
        for _ in 0..3000 {
            let mut document = fresh();
            let field = &mut document["response"]["attestationObject"];
            let mut bytes = BASE64URL_NOPAD.decode(field.as_str().expect("text").as_bytes()).expect("base64url");
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len().max(1));
                match random.u8(..4) {
                    _ if bytes.is_empty() => break,
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, random.u8(..)),
                    2 => bytes[at] ^= 1 << random.u8(..8),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            *field = BASE64URL_NOPAD.encode(&bytes).into();
            if let Ok(taken) = registration(document).check(&challenges, &ours(), "ana", now) {
                assert_eq!(taken.credential_id, passkey.id());
            }
        }
    }

    #[test]
    fn passkeys_belong_to_the_public_name_and_need_https() {
        let site_of = |url: Option<&str>| {
            let flags = crate::config::Flags::default();
            let environment = |name: &str| url.filter(|_| name == "FAROL_PUBLIC_URL").map(str::to_owned);
            super::site(&Config::load(&flags, &environment).expect("valid"))
        };
        let good = site_of(Some("https://farol.example.org:8443/console")).expect("available");
        assert_eq!(
            (good.rp_id.as_str(), good.origin.as_str()),
            ("farol.example.org", "https://farol.example.org:8443")
        );
        for (url, why) in
            [(None, "FAROL_PUBLIC_URL"), (Some("http://farol.example.org"), "TLS"), (Some("https://10.0.0.1"), "IP")]
        {
            assert!(site_of(url).expect_err("none").contains(why), "{url:?}");
        }
    }
}
