//! What reaches people outside the Desk: to whom (`route`), in what order
//! (`plan`), by which protocol (`send` and the files of the channels), and when
//! a failed attempt is repeated. The outbox that keeps messages until they are
//! sent is a job of its own.
//!
//! **Invariant.** A message's id is made once, with its row, and goes with
//! every try, so that a channel that knows repetitions shows it once.

pub mod alertmanager;
mod heartbeat;
mod mail;
pub(crate) mod matrix;
mod ntfy;
mod outgoing;
mod plan;
mod reason;
pub mod route;
pub mod send;
mod telling;
pub mod webhook;

use std::time::Duration;

use farol_protocol::{Language, Timestamp};

pub use heartbeat::Heartbeat;
pub use mail::{Error, Mail, MailConfig, Mailer, check_address};
pub use outgoing::{Kind, Outgoing, SendError, Told};
pub use plan::{Plan, plan};
pub use reason::Reason;
pub use route::{Channel, Verdict};
pub use telling::{Telling, What};

use crate::{
    app::Shared,
    checks::seen::Seen,
    integrations::{Connection, http::Clients},
    store::outbox::NewMessage,
    text::{Message, Notice},
};

/// The message that says it, with what is decided of each channel.
#[must_use]
pub fn messages(app: &Shared, telling: &Telling<'_>) -> Vec<NewMessage> {
    let Telling { fingerprint, episode, .. } = *telling;
    // Addressed by what it is about, so that a repeated effect is the same mail.
    let id = |what: &str| format!("<{}.{episode}.{what}@farol>", fingerprint.replace([':', '/'], "-"));
    let (channels, in_reply_to) = match telling.what {
        What::Problem => {
            let subject = route::Subject {
                scenario: telling.scenario,
                site: telling.site,
                persona: telling.persona,
                severity: telling.severity,
            };
            let routes = route::in_force(app.watched().registry.notify.as_ref(), &app.config);
            (route::decide(&routes, &subject), None)
        }
        What::Grew(_) | What::Recovery => (Vec::new(), Some(id(&What::Problem.as_key()))),
    };
    if telling.what == What::Problem && channels.is_empty() {
        return Vec::new();
    }
    let subject = Message::MailSubject { host: telling.host, title: telling.title }.in_words(app.language());
    vec![NewMessage {
        what: telling.what,
        told: Told::of(telling),
        subject: if in_reply_to.is_some() { format!("Re: {subject}") } else { subject },
        body: telling.body.to_owned(),
        message_id: id(&telling.what.as_key()),
        in_reply_to,
        channels,
    }]
}

/// Sends a test message through an integration.
pub(crate) async fn test(clients: &Clients, language: Language, connection: &Connection, now: Timestamp) -> Seen {
    match send::through(clients, connection, "", &Outgoing::test(language, now), now).await {
        Ok(_) => Seen::ok(Notice::TestSent { name: &connection.name }.in_words(language)),
        Err(error) => Seen::unknown(error.to_string()),
    }
}

/// After this many failures a message is given up, about a day after the first.
pub const MAX_ATTEMPTS: u32 = 60;

const FIRST: f64 = 10.0;
/// With the longest jitter, half an hour.
const LONGEST: f64 = 1200.0;

/// How long to wait after the failure number `attempt`, counted from 1:
/// doubling from 10 s to 30 min. `random`, 0 to 1, spreads the attempts.
#[must_use]
pub fn retry_after(attempt: u32, random: f64) -> Duration {
    let doublings = i32::try_from(attempt.saturating_sub(1).min(16)).unwrap_or(16);
    let base = (FIRST * 2_f64.powi(doublings)).min(LONGEST);
    let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
    Duration::from_secs_f64(base * (1.0 + random / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_and_never_exceed_half_an_hour() {
        assert_eq!(retry_after(1, 0.0), Duration::from_secs(10));
        assert_eq!(retry_after(2, 0.0), Duration::from_secs(20));
        assert_eq!(retry_after(2, 1.0), Duration::from_secs(30));
        assert_eq!(retry_after(0, f64::NAN), Duration::from_secs(10));
        assert_eq!(retry_after(u32::MAX, 7.0), Duration::from_secs(1800));
        for attempt in 1..MAX_ATTEMPTS {
            assert!(retry_after(attempt, 0.0) <= retry_after(attempt + 1, 0.0));
        }
    }

    #[test]
    fn a_message_is_tried_for_the_better_part_of_a_day() {
        let whole: Duration = (1..MAX_ATTEMPTS).map(|attempt| retry_after(attempt, 0.5)).sum();
        assert!((18..30).contains(&(whole.as_secs() / 3600)), "{whole:?}");
    }
}
