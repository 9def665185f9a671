//! Alertmanager: an alert fires while its finding is not resolved, and is sent
//! again before Alertmanager would take it for resolved.

use std::time::Duration;

use farol_protocol::Timestamp;
use serde_json::{Value, json};

use super::{
    Outgoing, SendError,
    outgoing::{Kind, Told},
    send::Sending,
};
use crate::{
    integrations::{Connection, http::Clients},
    text::{Notice, plain},
};

/// How often an alert is sent again; the option `resend` says otherwise.
const RESEND: Duration = Duration::from_secs(120);
/// Longest annotation, in characters.
const TEXT: usize = 4000;

/// How often the alerts of a connection are sent again.
#[must_use]
pub fn resend(connection: &Connection) -> Duration {
    let given = connection.options.get("resend").and_then(|text| humantime::parse_duration(text).ok());
    given.unwrap_or(RESEND).clamp(Duration::from_secs(1), Duration::from_secs(3600))
}

/// Alertmanager gives no name to what it got.
pub(super) async fn send(sending: &Sending<'_>) -> Result<Option<String>, SendError> {
    let message = sending.message;
    let ends = match message.kind {
        Kind::Recovery => Some(message.told.at),
        // Nobody resolves these, so they end by themselves.
        Kind::Test | Kind::Anchor => Some(sending.now.plus_ms(60_000)),
        Kind::Problem | Kind::Grew => None,
    };
    // Labels are the alert's identity: those of the problem, although it may have become worse since.
    let told = message.problem.as_ref().unwrap_or(&message.told);
    post(sending, json!([alert(told, &message.text(), ends)])).await
}

/// Sends alerts again that still fire.
///
/// # Errors
/// See [`SendError`].
pub async fn again(
    clients: &Clients,
    connection: &Connection,
    firing: &[(Told, String)],
    message: &Outgoing,
    now: Timestamp,
) -> Result<(), SendError> {
    let sending = Sending { clients, connection, message, place: "", now };
    let alerts: Vec<Value> = firing.iter().map(|(told, text)| alert(told, text, None)).collect();
    crate::integrations::http::hiding(Some(connection), post(&sending, json!(alerts))).await.map(drop)
}

async fn post(sending: &Sending<'_>, alerts: Value) -> Result<Option<String>, SendError> {
    let connection = sending.connection;
    let answer = sending
        .ask(|client, base| {
            let request = client.post(format!("{base}/api/v2/alerts")).json(&alerts);
            match (connection.user(), connection.secret()) {
                ("", "") => request,
                ("", token) => request.bearer_auth(token),
                (user, password) => request.basic_auth(user, Some(password)),
            }
        })
        .await?;
    if !answer.is_success() {
        return Err(sending.refusal(&answer, answer.json().ok().and_then(|said| said.as_str().map(str::to_owned))));
    }
    // Alertmanager answers nothing; a proxy's page is no Alertmanager.
    if answer.content_type.contains("html") {
        let text = Notice::NotThis { what: "Alertmanager" }.in_words(sending.message.language);
        return Err(SendError::Transient(text));
    }
    Ok(None)
}

fn alert(told: &Told, text: &str, ends: Option<Timestamp>) -> Value {
    let check = told.fingerprint.split_once(':').map_or(told.fingerprint.as_str(), |(_, check)| check);
    let mut alert = json!({
        "labels": {
            "alertname": told.scenario,
            "check": check,
            "host": told.host,
            "severity": told.severity,
            "persona": told.persona,
            "source": "farol",
        },
        "annotations": {"summary": plain(&told.title, 300), "description": plain(text, TEXT)},
        "startsAt": told.since,
    });
    if let Some(site) = &told.site {
        alert["labels"]["site"] = json!(site);
    }
    if let Some(ends) = ends {
        alert["endsAt"] = json!(ends.max(told.since.plus_ms(1)));
    }
    alert
}

#[cfg(test)]
mod tests {
    use farol_protocol::Language;

    use super::*;

    #[test]
    fn an_alert_keeps_its_labels_and_ends_after_it_began() {
        let told = Outgoing::test(Language::En, Timestamp::from_ms(60_000)).told;
        let (fires, ends) = (alert(&told, "down", None), alert(&told, "over", Some(Timestamp::from_ms(0))));
        assert_eq!(fires["labels"], ends["labels"]);
        assert_eq!(fires["startsAt"], ends["startsAt"]);
        assert!(fires.get("endsAt").is_none());
        assert_eq!(ends["endsAt"], "1970-01-01T00:01:00.001Z");
    }
}
