//! What reaches people outside the Desk, and when a failed attempt is repeated.
//! The outbox that keeps messages until they are sent is a job of its own.

mod mail;
mod telling;

use std::time::Duration;

pub use mail::{Error, Mail, MailConfig, Mailer, SendError, check_address};
pub use telling::{Telling, What};

use farol_protocol::registry::Severity;

use crate::{app::Shared, store::outbox::NewMail, text::Message};

/// The messages that say it, one a channel.
#[must_use]
pub fn messages(app: &Shared, telling: &Telling<'_>) -> Vec<NewMail> {
    let Some(config) = &app.config.mail else { return Vec::new() };
    let Telling { fingerprint, episode, .. } = *telling;
    // Addressed by what it is about, so that a repeated effect is the same mail.
    let id = |what: &str| format!("<{}.{episode}.{what}@farol>", fingerprint.replace([':', '/'], "-"));
    let (what, in_reply_to) = match telling.what {
        What::Problem if telling.severity >= Severity::High => ("problem".to_owned(), None),
        What::Problem => return Vec::new(),
        What::Grew(_) | What::Recovery => (telling.what.as_key(), Some(id("problem"))),
    };
    let language = app.language();
    let subject = Message::MailSubject { host: telling.host, title: telling.title }.in_words(language);
    vec![NewMail {
        effect_key: format!("mail/{fingerprint}/{episode}/{what}"),
        recipient: config.to.clone(),
        subject: if in_reply_to.is_some() { format!("Re: {subject}") } else { subject },
        body: Message::MailBody { message: telling.body, advice: None, finding: fingerprint, url: None }
            .in_words(language),
        message_id: id(&what),
        in_reply_to,
    }]
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
