//! The bridge in front of OpenPanel: what it says under `/health` about itself
//! and about the parts it names.
//!
//! The answer is a JSON object with a word for the whole (`status`, `state` or
//! `ok`) and, optionally, parts under `checks`, `components`, `dependencies` or
//! `services`, each a word, a truth, or an object of the same shape.

use farol_protocol::{Language, Status, system::ServiceProbe};
use serde_json::Value;

use super::{
    Asking, Seen,
    talk::{Talk, base, message, some},
};
use crate::{
    integrations::lenient::text,
    text::{plain, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &ServiceProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &ServiceProbe) -> Result<Seen, Seen> {
    let language = asking.language;
    let name = say!(language, "a ponte do OpenPanel", "the OpenPanel bridge");
    let talk = Talk::new(asking, &name, probe.pin.as_deref())?;
    let sent = talk.send(talk.client.get(format!("{}/health", base(&probe.url)))).await;
    let answer = sent.map_err(|failure| talk.failed(&failure))?;
    // A bridge that is not well may say so with 503 and still say more.
    if !(answer.is_success() || answer.status >= 500) {
        return Err(talk.turned_down(&answer));
    }
    let body = match answer.json() {
        Ok(body) => body,
        Err(_) if answer.is_success() && answer.content_type.starts_with("text/plain") => {
            Value::String(answer.start(&[]))
        }
        Err(failure) if answer.is_success() => return Err(talk.failed(&failure)),
        Err(_) => return Err(talk.turned_down(&answer)),
    };
    let health = Health::read(&body);
    let bad = some(&health.bad);
    let version = text(&body["version"]).map(|version| format!(" {}", plain(version, 40))).unwrap_or_default();
    let status = if answer.is_success() { health.status } else { Some(Status::Critical) };
    let why = message(&body).filter(|why| body.is_object() && !bad.contains(why.as_str()));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Ok(match (status, bad.is_empty()) {
        (None | Some(Status::Unknown), _) => Seen::unknown(say!(
            language,
            "a ponte do OpenPanel respondeu sem dizer como está (falta `status`)",
            "the OpenPanel bridge answered without saying how it is (`status` is missing)"
        )),
        (Some(Status::Ok), _) => {
            let parts = parts(language, health.parts);
            let text = say!(
                language,
                "a ponte do OpenPanel{version} diz que está bem{parts}",
                "the OpenPanel bridge{version} says that it is well{parts}"
            );
            Seen::judged(language, &probe.limits, answer.ms, "ms", &text)
        }
        (Some(status), true) => Seen::new(
            status,
            say!(
                language,
                "a ponte do OpenPanel{version} diz que não está bem{why}",
                "the OpenPanel bridge{version} says that it is not well{why}"
            ),
        )
        .measured(answer.ms, "ms"),
        (Some(status), false) => Seen::new(
            status,
            say!(
                language,
                "a ponte do OpenPanel{version} diz que falha em: {bad}{why}",
                "the OpenPanel bridge{version} says that it fails in: {bad}{why}"
            ),
        )
        .measured(answer.ms, "ms"),
    })
}

fn parts(language: Language, count: usize) -> String {
    match count {
        0 => String::new(),
        count => say!(language, " ({count} partes)", " ({count} parts)"),
    }
}

/// What an answer says, as a whole and of its parts.
#[derive(Debug, PartialEq)]
struct Health {
    /// None: it does not say, or in words that nobody knows.
    status: Option<Status>,
    /// Parts that are not well, with what they say.
    bad: Vec<String>,
    parts: usize,
}

impl Health {
    fn read(body: &Value) -> Self {
        let mut whole = own(body);
        let (mut bad, mut count) = (Vec::new(), 0);
        for key in ["checks", "components", "dependencies", "services"] {
            let Some(parts) = body.get(key).and_then(Value::as_object) else { continue };
            for (name, part) in parts {
                count += 1;
                // A part whose word nobody knows costs only itself.
                let Some(status @ (Status::Warning | Status::Critical)) = own(part) else { continue };
                let said = part.as_object().and_then(|_| message(part));
                bad.push(said.map_or_else(|| plain(name, 60), |said| format!("{} ({said})", plain(name, 60))));
                // What is broken is not made well by a word for the whole.
                whole = match (whole, status) {
                    (Some(Status::Critical), _) => whole,
                    (_, status) => Some(status),
                };
            }
        }
        Self { status: whole, bad, parts: count }
    }
}

fn own(value: &Value) -> Option<Status> {
    match value {
        Value::Bool(true) => Some(Status::Ok),
        Value::Bool(false) => Some(Status::Critical),
        Value::String(word) => match word.trim().to_ascii_lowercase().as_str() {
            "ok" | "healthy" | "pass" | "up" | "alive" | "online" | "running" | "connected" | "ready" => {
                Some(Status::Ok)
            }
            "degraded" | "warn" | "warning" => Some(Status::Warning),
            "error" | "fail" | "failed" | "unhealthy" | "down" | "offline" | "stopped" | "critical" | "unavailable"
            | "disconnected" => Some(Status::Critical),
            _ => None,
        },
        Value::Object(object) => {
            ["status", "state", "ok", "healthy"].iter().find_map(|key| object.get(*key)).and_then(own)
        }
        Value::Null | Value::Number(_) | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_broken_part_outweighs_the_word_for_the_whole_and_an_unknown_word_says_nothing() {
        let read = |body: Value| {
            let health = Health::read(&body);
            (health.status, health.bad.join("; "))
        };
        assert_eq!(read(json!({"status": "ok"})), (Some(Status::Ok), String::new()));
        assert_eq!(read(json!({"ok": true})).0, Some(Status::Ok));
        assert_eq!(read(json!("OK")).0, Some(Status::Ok));
        assert_eq!(
            read(
                json!({"status": "ok", "checks": {"api": {"status": "down", "error": "refused"}, "db": true, "x": 7}})
            ),
            (Some(Status::Critical), "api (refused)".to_owned())
        );
        assert_eq!(
            read(json!({"status": "ok", "services": {"queue": "degraded"}})),
            (Some(Status::Warning), "queue".to_owned())
        );
        for silent in [json!({}), json!({"status": "perhaps"}), json!([]), json!(null), json!({"status": 1})] {
            assert_eq!(read(silent.clone()).0, None, "{silent}");
        }
    }
}
