//! A webhook as the specification Standard Webhooks says, version 1.

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::hmac;
use serde_json::{Value, json};

use super::{Outgoing, SendError, outgoing::Kind, send::Sending};
use crate::text::{Notice, plain};

/// How a secret begins.
const PREFIX: &str = "whsec_";
/// Longest text within the body, in characters: all of it stays far below 20 kB.
const TEXT: usize = 4000;

/// The receiver gives no name to what it got.
pub(super) async fn send(sending: &Sending<'_>) -> Result<Option<String>, SendError> {
    let message = sending.message;
    let keys = keys(sending.connection.secret())
        .ok_or_else(|| SendError::Transient(Notice::BadWebhookSecret.in_words(message.language)))?;
    let body = document(message).to_string();
    let timestamp = sending.now.as_ms().div_euclid(1000);
    let signatures = signatures(&keys, &message.id, timestamp, &body);
    let answer = sending
        .ask(|client, base| {
            client
                .post(base)
                .header("content-type", "application/json")
                .header("webhook-id", &message.id)
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", &signatures)
                .body(body.clone())
        })
        .await?;
    match answer.status {
        200..=299 => Ok(None),
        410 => Err(SendError::Gone(Notice::Gone.in_words(message.language))),
        // The receiver may be in the middle of a change.
        404 => Err(SendError::Transient(
            Notice::Refused { status: 404, said: &answer.start(&[sending.connection.secret()]) }
                .in_words(message.language),
        )),
        _ => Err(sending.refusal(&answer, None)),
    }
}

fn document(message: &Outgoing) -> Value {
    let told = &message.told;
    let data = match message.kind {
        Kind::Test | Kind::Anchor => json!({"text": message.text()}),
        _ => json!({
            "finding_id": message.finding_id,
            "fingerprint": told.fingerprint,
            "episode": told.episode,
            "scenario": told.scenario,
            "persona": told.persona,
            "host": told.host,
            "site": told.site,
            "severity": told.severity,
            "title": plain(&told.title, 300),
            "text": plain(&message.text(), TEXT),
            "since": told.since,
            "ack_url": message.ack_url,
        }),
    };
    json!({"type": message.kind.event(), "timestamp": told.at, "data": data})
}

/// Whether Standard Webhooks take this as a secret: one, or several with
/// spaces between them while they are being changed.
#[must_use]
pub fn is_secret(text: &str) -> bool {
    keys(text).is_some()
}

fn keys(secret: &str) -> Option<Vec<hmac::Key>> {
    let one = |text: &str| {
        let text = text.strip_prefix(PREFIX)?;
        let bytes = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes())).ok()?;
        (24..=64).contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    };
    let keys: Vec<hmac::Key> = secret.split_whitespace().map(one).collect::<Option<_>>()?;
    (!keys.is_empty()).then_some(keys)
}

fn signatures(keys: &[hmac::Key], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let one = |key: &hmac::Key| format!("v1,{}", BASE64.encode(hmac::sign(key, signed.as_bytes()).as_ref()));
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Language, Timestamp};

    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn the_signature_of_the_specifications_example_is_made() {
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signed = signatures(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_prefix_and_24_to_64_bytes_and_two_make_two_signatures() {
        let secret = |bytes: usize| format!("whsec_{}", BASE64.encode(&vec![7; bytes]));
        assert!(is_secret(&secret(24)) && is_secret(&secret(64)));
        assert!(is_secret(&format!("{} {}", secret(32), secret(24))));
        for bad in ["", "whsec_", "secret", "whsec_???", &secret(23), &secret(65), &format!("{} x", secret(32))] {
            assert!(!is_secret(bad), "{bad}");
        }
        let both = keys(&format!("{} {}", secret(32), secret(24))).expect("two");
        assert_eq!(signatures(&both, "a", 1, "b").split(' ').count(), 2);
    }

    #[test]
    fn a_body_stays_below_20_kilobytes() {
        let mut message = Outgoing::test(Language::En, Timestamp::from_ms(0));
        message.kind = Kind::Problem;
        message.body = "\u{1f4a5}".repeat(50_000);
        message.told.title = "\"".repeat(10_000);
        assert!(document(&message).to_string().len() < 20_000);
    }
}
