use data_encoding::BASE64URL_NOPAD;
use farol_protocol::signing::SignatureAlgorithm;

use super::*;

fn assertion(origin: &str) -> Signature {
    let client = serde_json::json!({"type": "webauthn.get", "origin": origin, "challenge": "x"}).to_string();
    Signature {
        operator: "ana".to_owned(),
        key_id: "k".to_owned(),
        alg: SignatureAlgorithm::WebauthnEs256,
        signature: String::new(),
        authenticator_data: None,
        client_data: Some(BASE64URL_NOPAD.encode(client.as_bytes())),
    }
}

#[test]
fn a_passkey_may_stand_for_its_domain_or_one_above() {
    let parties = |origin: &str| -> Vec<String> {
        relying_parties(&assertion(origin)).into_iter().map(|party| party.rp_id).collect()
    };
    assert_eq!(parties("https://farol.example.org:8443"), ["farol.example.org", "example.org", "org"]);
    assert_eq!(parties("nonsense"), [""]);
    let unsigned = Signature { client_data: None, ..assertion("https://x") };
    assert!(relying_parties(&unsigned).is_empty());
}

#[test]
fn the_part_of_an_outcome_is_read_from_its_entry() {
    let part = outcome_part("0190 outcome/stdout.txt, text/plain, 6 bytes, sha256:ab");
    assert_eq!(part, Some(("outcome/stdout.txt".to_owned(), "ab".to_owned())));
    for other in ["", "0190", "0190 verify/stdout.txt, text/plain, 6 bytes, sha256:ab", "0190 outcome/x"] {
        assert_eq!(outcome_part(other), None, "{other}");
    }
}
