//! From a channel to the protocol it speaks. Errors of any are judged alike:
//! what lies in the configuration is tried again, since a person can mend it.

use std::time::Duration;

use farol_protocol::{Language, Timestamp};
use reqwest::RequestBuilder;

use super::{Outgoing, SendError, alertmanager, matrix, ntfy, webhook};
use crate::{
    integrations::{
        Connection, Kind,
        http::{Answer, Clients, Failure, exchange, hiding},
    },
    text::{Notice, plain},
};

/// For one request.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// What is waited for at most, whatever a server says.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);
/// Where a server says that it was asked too often, and not how long to wait.
const PAUSE: Duration = Duration::from_secs(60);

/// A request on its way, with what all channels need.
pub(super) struct Sending<'a> {
    pub(super) clients: &'a Clients,
    pub(super) connection: &'a Connection,
    pub(super) message: &'a Outgoing,
    /// Topic or room; empty for the one in the options.
    pub(super) place: &'a str,
    pub(super) now: Timestamp,
}

/// Sends a message through an integration; answers what the other side calls it.
///
/// # Errors
/// See [`SendError`]; its text holds no secret.
pub async fn through(
    clients: &Clients,
    connection: &Connection,
    place: &str,
    message: &Outgoing,
    now: Timestamp,
) -> Result<Option<String>, SendError> {
    if connection.is_locked {
        return Err(SendError::Transient(Notice::Locked { name: &connection.name }.in_words(message.language)));
    }
    let sending = Sending { clients, connection, message, place, now };
    hiding(Some(connection), async {
        match connection.kind {
            Kind::Ntfy => ntfy::send(&sending).await,
            Kind::Matrix => matrix::send(&sending).await,
            Kind::Webhook => webhook::send(&sending).await,
            Kind::Alertmanager => alertmanager::send(&sending).await,
            _ => Err(SendError::Transient(
                Notice::NoChannel { name: &connection.name, kind: connection.kind.as_str() }.in_words(message.language),
            )),
        }
    })
    .await
}

impl Sending<'_> {
    /// The topic or room: the route's, else the integration's.
    pub(super) fn place(&self, option: &'static str) -> Result<&str, SendError> {
        let own = self.connection.options.get(option).map(String::as_str).unwrap_or_default();
        let place = if self.place.is_empty() { own } else { self.place };
        if place.is_empty() {
            let name = &self.connection.name;
            return Err(SendError::Transient(Notice::NoPlace { name, option }.in_words(self.message.language)));
        }
        Ok(place)
    }

    /// Asks the first address that takes connections. A request whose answer
    /// was lost may have been taken, so it goes to no other.
    pub(super) async fn ask(
        &self,
        request: impl Fn(&reqwest::Client, &str) -> RequestBuilder,
    ) -> Result<Answer, SendError> {
        let client =
            self.clients.of(&self.connection.tls).map_err(|failure| failed(&failure, self.message.language))?;
        let mut last = None;
        for base in &self.connection.endpoints {
            match exchange(request(&client, base), LIMIT).await {
                Ok(answer) => return Ok(answer),
                Err(failure @ (Failure::Refused(_) | Failure::NoWay(_) | Failure::Tls(_))) => last = Some(failure),
                Err(failure) => return Err(failed(&failure, self.message.language)),
            }
        }
        let failure = last.unwrap_or_else(|| Failure::Unusable("it has no address".to_owned()));
        Err(failed(&failure, self.message.language))
    }

    /// What a refusal means that has no meaning of its own in the protocol.
    pub(super) fn refusal(&self, answer: &Answer, said: Option<String>) -> SendError {
        let secret = self.connection.secret();
        let said =
            said.map_or_else(|| answer.start(&[secret]), |said| plain(&crate::integrations::http::hidden(&said), 200));
        let text = Notice::Refused { status: answer.status, said: &said }.in_words(self.message.language);
        judge(answer, text, self.now)
    }
}

fn failed(failure: &Failure, language: Language) -> SendError {
    SendError::Transient(failure.words(language, LIMIT))
}

/// By status code alone.
fn judge(answer: &Answer, text: String, now: Timestamp) -> SendError {
    match answer.status {
        429 => SendError::Limited(text, retry_after(answer, now).unwrap_or(PAUSE)),
        503 => match retry_after(answer, now) {
            Some(wait) => SendError::Limited(text, wait),
            None => SendError::Transient(text),
        },
        // Who Farol is and what it may do is configuration, and so is a proxy's login.
        401 | 403 | 407 | 408 | 425 => SendError::Transient(text),
        400..=499 => SendError::Permanent(text),
        _ => SendError::Transient(text),
    }
}

/// What the server asks for: seconds, or a date.
fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let text = answer.headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let format = &time::format_description::well_known::Rfc2822;
            let at = Timestamp::from(time::OffsetDateTime::parse(text, format).ok()?);
            Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0))
        }
    };
    Some(wait.clamp(Duration::from_secs(1), LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::*;

    fn answer(status: u16, retry: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(retry));
        }
        Answer { status, reason: None, content_type: String::new(), headers, body: Vec::new(), ms: 1.0 }
    }

    #[test]
    fn what_a_person_can_mend_is_tried_again_and_what_the_message_causes_is_not() {
        let now = Timestamp::from_ms(784_111_770_000);
        let judged = |status, retry| judge(&answer(status, retry), String::new(), now);
        for status in [302, 401, 403, 408, 500, 502, 503, 599] {
            assert!(matches!(judged(status, None), SendError::Transient(_)), "{status}");
        }
        for status in [400, 404, 410, 413, 422] {
            assert!(matches!(judged(status, None), SendError::Permanent(_)), "{status}");
        }
        let wait = |retry| match judged(429, retry) {
            SendError::Limited(_, wait) => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(None), 60);
        assert_eq!(wait(Some("7")), 7);
        assert_eq!(wait(Some("0")), 1);
        assert_eq!(wait(Some("Sun, 06 Nov 1994 08:49:37 GMT")), 7);
        assert_eq!(wait(Some("99999999")), 86_400);
        assert_eq!(wait(Some("soon")), 60);
        assert!(matches!(judged(503, Some("5")), SendError::Limited(_, _)));
    }
}
