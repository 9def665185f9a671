use data_encoding::BASE64URL_NOPAD;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

use super::*;
use crate::RiskClass;

fn hash() -> PlanHash {
    PlanHash::of("a plan")
}

fn site() -> WebAuthn {
    WebAuthn { rp_id: "farol.example.org".to_owned(), origin: "https://farol.example.org".to_owned() }
}

struct Person {
    operator: Operator,
    pkcs8: Vec<u8>,
}

impl Person {
    fn new(name: &str, roles: &[Role]) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random").as_ref().to_vec();
        let (key, _) = sign_ed25519(&pkcs8, name, &hash()).expect("a key");
        Self { operator: Operator { name: name.to_owned(), roles: roles.to_vec(), keys: vec![key] }, pkcs8 }
    }

    fn sign(&self) -> Signature {
        self.sign_plan(&hash())
    }

    fn sign_plan(&self, plan: &PlanHash) -> Signature {
        sign_ed25519(&self.pkcs8, &self.operator.name, plan).expect("a key").1
    }
}

/// An assertion as a browser makes it; `client` and `authenticator` are changed
/// before they are signed.
fn assertion(
    name: &str,
    client: impl FnOnce(&mut serde_json::Value),
    authenticator: impl FnOnce(&mut Vec<u8>),
) -> (PublicKey, Signature) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("random");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("just made");
    let text = format!("webauthn-es256:{}", BASE64URL_NOPAD.encode(pair.public_key().as_ref()));
    let key: PublicKey = text.parse().expect("a point");
    let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, &message(&hash())).as_ref());
    let mut client_data =
        json!({"type": "webauthn.get", "challenge": challenge, "origin": "https://farol.example.org", "extra": 1});
    client(&mut client_data);
    let client_data = client_data.to_string();
    let mut data = [digest(&SHA256, b"farol.example.org").as_ref(), &[5, 0, 0, 0, 9]].concat();
    authenticator(&mut data);
    let signed = [data.as_slice(), digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
    let signature = Signature {
        operator: name.to_owned(),
        key_id: key.id(),
        alg: SignatureAlgorithm::WebauthnEs256,
        signature: BASE64URL_NOPAD.encode(pair.sign(&random, &signed).expect("random").as_ref()),
        authenticator_data: Some(BASE64URL_NOPAD.encode(&data)),
        client_data: Some(BASE64URL_NOPAD.encode(client_data.as_bytes())),
    };
    (key, signature)
}

#[test]
fn the_message_is_a_fixed_text_and_the_hash_in_bytes() {
    let message = message(&hash());
    assert_eq!(message.len(), 18 + 32);
    assert_eq!(&message[..18], b"farol-approval-v1\0");
    assert_eq!(&message[18..], digest(&SHA256, b"a plan").as_ref());
}

/// RFC 8032, section 7.1, test 1: the key pair is what another program makes of it.
#[test]
fn a_key_made_elsewhere_signs_and_keeps_its_text_and_id() {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let bytes = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal");
    // As `openssl genpkey -algorithm ed25519` writes it: version 1.
    let pkcs8 = [bytes("302e020100300506032b657004220420"), bytes(seed)].concat();

    let (key, signature) = sign_ed25519(&pkcs8, "ana", &hash()).expect("a key");

    assert_eq!(key.to_string(), format!("ed25519:{}", BASE64URL_NOPAD.encode(&bytes(public))));
    assert_eq!(key.to_string().parse(), Ok(key.clone()));
    assert_eq!(key.id(), &crate::action::hex(digest(&SHA256, &bytes(public)).as_ref())[..16]);
    assert_eq!(verify(&key, &signature, &hash(), None), Ok(()));
    // The example of docs/SPEC.md, signed by openssl.
    let plan = PlanHash::try_from("103d19a3c79675e9f577c9112e8d24f67c07d7211e3b8997e53be92ad4cdcf8a".to_owned());
    let (_, signature) = sign_ed25519(&pkcs8, "ana", &plan.expect("a hash")).expect("a key");
    assert_eq!(
        (signature.key_id.as_str(), signature.signature.as_str()),
        ("21fe31dfa154a261", "vcyqDlw2G3Qr9zVbIHFwMtA-HS8lOfodIN6mJNBFYLoLVwyKlX4r5fDGmSgyOjXT2B0_f2nYg_rRrfnrFlxSAg")
    );
    assert_eq!(sign_ed25519(&pkcs8[1..], "ana", &hash()).err(), Some(KeyError::Private));
}

#[test]
fn a_malformed_key_is_refused_with_what_is_wrong() {
    let point = |first: u8, length: usize| {
        format!("webauthn-es256:{}", BASE64URL_NOPAD.encode(&[vec![first], vec![7; length - 1]].concat()))
    };
    for (text, error) in [
        ("", KeyError::Algorithm),
        ("rsa:AAAA", KeyError::Algorithm),
        ("ed25519 AAAA", KeyError::Algorithm),
        ("ed25519:A=", KeyError::Encoding),
        ("ed25519:++++", KeyError::Encoding),
        ("ed25519:AAAA", KeyError::Ed25519Length),
        (point(2, 33).as_str(), KeyError::Point),
        (point(2, 65).as_str(), KeyError::Point),
        (point(4, 64).as_str(), KeyError::Point),
    ] {
        assert_eq!(text.parse::<PublicKey>().err(), Some(error), "{text}");
    }
    assert!(point(4, 65).parse::<PublicKey>().is_ok());
}

#[test]
fn a_passkey_counts_only_for_its_plan_its_page_its_party_and_a_person() {
    let (key, good) = assertion("caio", |_| {}, |_| {});
    assert_eq!(verify(&key, &good, &hash(), Some(&site())), Ok(()));
    assert!(verify(&key, &good, &hash(), None).is_err(), "no passkeys are configured");
    assert!(verify(&key, &good, &PlanHash::of("another"), Some(&site())).is_err());
    let (_, without_counter) = assertion("caio", |_| {}, |data| data.truncate(36));
    assert!(verify(&key, &without_counter, &hash(), Some(&site())).is_err());

    type Client = fn(&mut serde_json::Value);
    let clients: [(&str, Client); 6] = [
        ("type", |data| data["type"] = json!("webauthn.create")),
        ("challenge", |data| data["challenge"] = json!("AAAA")),
        ("challenge with padding", |data| {
            data["challenge"] = json!(format!("{}=", data["challenge"].as_str().unwrap_or("")))
        }),
        ("origin", |data| data["origin"] = json!("https://farol.example.org.evil.example")),
        ("another page's frame", |data| data["crossOrigin"] = json!(true)),
        ("no origin", |data| drop(data.as_object_mut().map(|fields| fields.remove("origin")))),
    ];
    for (what, change) in clients {
        let (key, signature) = assertion("caio", change, |_| {});
        assert!(verify(&key, &signature, &hash(), Some(&site())).is_err(), "{what}");
    }
    for flags in (0..=255_u8).filter(|flags| flags & 5 != 5) {
        let (key, signature) = assertion("caio", |_| {}, |data| data[32] = flags);
        assert!(verify(&key, &signature, &hash(), Some(&site())).is_err(), "flags {flags}");
    }
    let (key, signature) = assertion("caio", |_| {}, |data| data[0] ^= 1);
    assert!(verify(&key, &signature, &hash(), Some(&site())).is_err(), "relying party");
}

#[test]
fn one_signs_up_to_r2_and_two_sign_r3() {
    let ana = Person::new("ana", &[Role::AgenticOperator]);
    let rui = Person::new("rui", &[Role::AgenticOperator]);
    let bia = Person::new("bia", &[Role::Seo, Role::OpsLead]);
    let eva = Person::new("eva", &[Role::Devops, Role::Technician]);
    let operators: Vec<Operator> = [&ana, &rui, &bia, &eva].map(|person| person.operator.clone()).to_vec();
    let says = |class, asked: &str, people: &[&Person]| {
        let signatures: Vec<Signature> = people.iter().map(|person| person.sign()).collect();
        judge(class, asked, &hash(), &signatures, &operators, None)
    };
    let names = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());

    for class in [RiskClass::R1, RiskClass::R2] {
        assert_eq!(says(class, "ana", &[&ana]), names(&["ana"]), "whoever asked may sign {class}");
        assert_eq!(says(class, "x", &[&ana, &bia]), names(&["ana", "bia"]));
        assert_eq!(says(class, "x", &[]), Err(Why::TooFew { needed: 1, given: 0 }));
        assert_eq!(says(class, "x", &[&eva]), Err(Why::Role("eva".to_owned())));
    }
    let r3 = RiskClass::R3;
    assert_eq!(says(r3, "x", &[&ana, &bia]), names(&["ana", "bia"]));
    assert_eq!(says(r3, "x", &[&bia]), Err(Why::TooFew { needed: 2, given: 1 }));
    assert_eq!(says(r3, "x", &[&ana, &rui]), Err(Why::NoLead));
    assert_eq!(says(r3, "x", &[&bia, &bia]), Err(Why::Twice("bia".to_owned())));
    assert_eq!(says(r3, "ANA", &[&ana, &bia]), Err(Why::Requester("ana".to_owned())));
    assert_eq!(says(r3, "bia", &[&ana, &rui, &bia]), Err(Why::Requester("bia".to_owned())));
    assert_eq!(says(r3, "x", &[&ana, &bia, &eva]), Err(Why::Role("eva".to_owned())));
    assert_eq!(says(r3, "x", &[&ana; 9]), Err(Why::TooMany(9)));
}

#[test]
fn a_bad_signature_beside_good_ones_spoils_them() {
    let ana = Person::new("ana", &[Role::SuperAdmin]);
    let bia = Person::new("bia", &[Role::OpsLead]);
    let stranger = Person::new("mallory", &[Role::SuperAdmin]);
    let operators = [ana.operator.clone(), bia.operator.clone()];
    let bad = [
        stranger.sign(),
        bia.sign_plan(&PlanHash::of("another")),
        Signature { key_id: ana.sign().key_id, ..bia.sign() },
        Signature { operator: "bia".to_owned(), ..stranger.sign() },
        Signature { alg: SignatureAlgorithm::WebauthnEs256, ..bia.sign() },
        Signature { client_data: Some(String::new()), ..bia.sign() },
        Signature { signature: ana.sign().signature, ..bia.sign() },
    ];
    for second in bad {
        let signatures = [ana.sign(), second];
        for class in [RiskClass::R2, RiskClass::R3] {
            let why = judge(class, "x", &hash(), &signatures, &operators, Some(&site())).expect_err("refused");
            assert!(!why.is_missing(), "{why}");
        }
    }
}

/// Whatever is changed in a good signature, it is no longer good, and nothing
/// panics. Base64url without padding is strict, so that no two texts are the
/// same signature either.
#[test]
fn no_mutation_of_a_good_signature_is_good() {
    let mut random = fastrand::Rng::with_seed(0x_fa01);
    let ana = Person::new("ana", &[Role::SuperAdmin]);
    let (key, passkey) = assertion("caio", |_| {}, |_| {});
    let caio = Operator { name: "caio".to_owned(), roles: vec![Role::OpsLead], keys: vec![key] };
    let operators = [ana.operator.clone(), caio];
    let accepted = |signature: &Signature| {
        judge(RiskClass::R2, "x", &hash(), std::slice::from_ref(signature), &operators, Some(&site())).is_ok()
    };
    for good in [ana.sign(), passkey] {
        assert!(accepted(&good));
        let text = serde_json::to_string(&good).expect("JSON");
        for round in 0..3000 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..random.usize(1..3) {
                let at = random.usize(..bytes.len());
                match random.u8(..4) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, random.u8(32..127)),
                    2 => bytes[at] ^= 1 << random.u8(..7),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let Ok(changed) = serde_json::from_slice::<Signature>(&bytes) else { continue };
            assert!(changed == good || !accepted(&changed), "round {round}: {changed:?}");
        }
    }
}

#[test]
fn fields_of_any_content_and_length_are_refused_without_a_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let (key, good) = assertion("caio", |_| {}, |_| {});
    for length in (0..200).chain([8192, 100_000]) {
        let field: String = std::iter::repeat_with(|| random.alphanumeric()).take(length).collect();
        for signature in [
            Signature { signature: field.clone(), ..good.clone() },
            Signature { authenticator_data: Some(field.clone()), ..good.clone() },
            Signature { client_data: Some(field.clone()), ..good.clone() },
        ] {
            assert!(verify(&key, &signature, &hash(), Some(&site())).is_err());
        }
    }
}
