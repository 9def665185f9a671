//! Matrix: one event a message, under a transaction id that is the message's
//! own, so that a repetition is the same event.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Outgoing, SendError, outgoing::Kind, send::Sending};
use crate::{
    integrations::http::Answer,
    text::{Notice, plain},
};

/// Answers the event's id.
pub(super) async fn send(sending: &Sending<'_>) -> Result<Option<String>, SendError> {
    let language = sending.message.language;
    let room = sending.place("room")?;
    if let Err(why) = farol_protocol::registry::notify::check_room(room) {
        return Err(SendError::Permanent(why));
    }
    let base_path = format!("/_matrix/client/v3/rooms/{}", escaped(room));
    let token = sending.connection.secret();
    // What Farol writes is not encrypted: in a room that is, everybody would think it was.
    let encryption = sending
        .ask(|client, base| client.get(format!("{base}{base_path}/state/m.room.encryption/")).bearer_auth(token))
        .await?;
    match encryption.status {
        404 if errcode(&encryption).as_deref() == Some("M_NOT_FOUND") => {}
        200 => return Err(SendError::Permanent(Notice::EncryptedRoom { room }.in_words(language))),
        _ => return Err(refusal(sending, &encryption)),
    }
    let body = document(sending.message);
    let path = format!("{base_path}/send/m.room.message/{}", escaped(&sending.message.id));
    let answer = sending.ask(|client, base| client.put(format!("{base}{path}")).bearer_auth(token).json(&body)).await?;
    if !answer.is_success() {
        return Err(refusal(sending, &answer));
    }
    match answer.json().unwrap_or_default()["event_id"].as_str() {
        Some(id) => Ok(Some(plain(id, 255))),
        None => Err(SendError::Transient(Notice::NotThis { what: "Matrix" }.in_words(language))),
    }
}

fn errcode(answer: &Answer) -> Option<String> {
    Some(answer.json().ok()?["errcode"].as_str()?.to_owned())
}

fn refusal(sending: &Sending<'_>, answer: &Answer) -> SendError {
    let body = answer.json().unwrap_or_default();
    let word = |name: &str| body[name].as_str().map(str::to_owned);
    let said = match (word("errcode"), word("error")) {
        (Some(code), Some(error)) => Some(format!("{error} ({code})")),
        (code, error) => code.or(error),
    };
    match (sending.refusal(answer, said), body["retry_after_ms"].as_u64()) {
        // How servers said it before they sent `Retry-After`.
        (SendError::Limited(text, _), Some(ms)) if !answer.headers.contains_key(reqwest::header::RETRY_AFTER) => {
            let wait = std::time::Duration::from_millis(ms.clamp(1_000, 86_400_000));
            SendError::Limited(text, wait)
        }
        (error, _) => error,
    }
}

fn document(message: &Outgoing) -> Value {
    let (title, text) = (message.title(), message.text());
    let mut body = format!("{title}\n{text}");
    let mut html = format!("<strong>{}</strong><br>{}", html(&title), html(&text));
    if let Some(url) = &message.ack_url {
        let label = Notice::AcknowledgeButton.in_words(message.language);
        body.push_str(&format!("\n{label}: {url}"));
        html.push_str(&format!("<br><a href=\"{}\">{label}</a>", self::html(url)));
    }
    let msgtype = if matches!(message.kind, Kind::Problem | Kind::Grew) { "m.text" } else { "m.notice" };
    let mut document = json!({
        "msgtype": msgtype,
        "body": body,
        "format": "org.matrix.custom.html",
        "formatted_body": html,
    });
    if let Some(problem) = &message.problem_provider_id {
        document["m.relates_to"] = json!({"m.in_reply_to": {"event_id": problem}});
    }
    document
}

/// Text within HTML.
pub(crate) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push_str("<br>"),
            c => safe.push(c),
        }
    }
    safe
}

/// A part of a path.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _written = write!(safe, "%{byte:02X}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Language, Timestamp};

    use super::*;

    #[test]
    fn what_hosts_say_is_text_in_html_too() {
        let mut message = Outgoing::test(Language::En, Timestamp::from_ms(0));
        message.body = "<img src=x onerror=\"a()\"> & b".to_owned();
        let body = document(&message);
        assert_eq!(body["msgtype"], "m.notice");
        let html = body["formatted_body"].as_str().expect("text");
        assert!(html.contains("&lt;img src=x onerror=&quot;a()&quot;&gt; &amp; b"), "{html}");
        assert!(body["body"].as_str().expect("text").contains("<img"), "plain text stays as it is");
    }

    #[test]
    fn a_room_is_one_part_of_the_path() {
        assert_eq!(escaped("!a/b:example.org"), "%21a%2Fb%3Aexample.org");
    }
}
