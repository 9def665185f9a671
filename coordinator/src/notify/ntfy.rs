//! ntfy: JSON to the server's root.
//!
//! ntfy has no way to say that a message is a repetition: one whose answer was
//! lost comes twice.

use farol_protocol::registry::Severity;
use serde_json::{Value, json};

use super::{Outgoing, SendError, outgoing::Kind, send::Sending};
use crate::text::Notice;

/// Longest message, in bytes; a longer one is refused in JSON.
const MAX_MESSAGE: usize = 4096;
/// Longest title that telephones show, in bytes.
const MAX_TITLE: usize = 250;

/// Answers the message's id.
pub(super) async fn send(sending: &Sending<'_>) -> Result<Option<String>, SendError> {
    let topic = sending.place("topic")?;
    let body = document(sending.message, topic);
    let connection = sending.connection;
    let answer = sending
        .ask(|client, base| {
            let request = client.post(format!("{base}/")).json(&body);
            match (connection.user(), connection.secret()) {
                ("", "") => request,
                ("", token) => request.bearer_auth(token),
                (user, password) => request.basic_auth(user, Some(password)),
            }
        })
        .await?;
    let said = answer.json().unwrap_or_default();
    if answer.is_success() {
        // A proxy's page is no ntfy.
        return match said["id"].as_str() {
            Some(id) => Ok(Some(crate::text::plain(id, 64))),
            None => Err(SendError::Transient(Notice::NotThis { what: "ntfy" }.in_words(sending.message.language))),
        };
    }
    let code = said["code"].as_u64();
    let words = said["error"].as_str().map(|error| match code {
        Some(code) => format!("{error} ({code})"),
        None => error.to_owned(),
    });
    Err(sending.refusal(&answer, words))
}

fn document(message: &Outgoing, topic: &str) -> Value {
    let (priority, tag) = match (message.kind, message.told.severity) {
        (Kind::Recovery, _) => (3, "white_check_mark"),
        (Kind::Test, _) => (3, "lighthouse"),
        (Kind::Anchor, _) => (2, "anchor"),
        (_, Severity::Critical) => (5, "rotating_light"),
        (_, Severity::High) => (4, "warning"),
        (_, Severity::Medium) => (3, "warning"),
        (_, Severity::Low) => (2, "information_source"),
        (_, Severity::Info) => (1, "information_source"),
    };
    let mut body = json!({
        "topic": topic,
        "title": cut(&message.title(), MAX_TITLE),
        "message": cut(&message.text(), MAX_MESSAGE),
        "priority": priority,
        "tags": [tag],
    });
    if let Some(url) = &message.ack_url {
        body["click"] = json!(url);
        let label = Notice::AcknowledgeButton.in_words(message.language);
        body["actions"] = json!([{"action": "http", "label": label, "url": url, "method": "POST", "clear": true}]);
    }
    body
}

/// At most so many bytes, whole characters.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Language, Timestamp};

    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_whole_character_and_fits() {
        assert_eq!(cut("olá", 4), "olá");
        assert_eq!(cut("olá!", 4), "o…");
        let long = cut(&"ç".repeat(5000), MAX_MESSAGE);
        assert!(long.len() <= MAX_MESSAGE && long.ends_with("ç…"));
    }

    #[test]
    fn worse_findings_ring_louder_and_a_link_becomes_a_button() {
        let mut message = Outgoing::test(Language::PtBr, Timestamp::from_ms(0));
        message.kind = Kind::Problem;
        let mut last = 0;
        for severity in [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical] {
            message.told.severity = severity;
            let priority = document(&message, "ops")["priority"].as_i64().expect("a number");
            assert!(priority > last);
            last = priority;
        }
        assert!(document(&message, "ops").get("actions").is_none());
        message.ack_url = Some("https://farol.example.org/n/x".to_owned());
        let body = document(&message, "ops");
        assert_eq!(body["actions"][0]["method"], "POST");
        assert_eq!((&body["click"], &body["topic"]), (&json!("https://farol.example.org/n/x"), &json!("ops")));
    }
}
