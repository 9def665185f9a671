//! Says the summary once a day, whatever is restarted when.

use farol_protocol::{Timestamp, registry::Persona};

use super::{Day, day, gather, review, zone};
use crate::{
    app::App,
    error::Result,
    events::Noun,
    store::{daily::NewThread, inbox::Note},
    text::{daily_subject, log_review, summary},
};

/// Since when this coordinator sums up days. One that was not there at the
/// hour has nothing to catch up on.
const SINCE: &str = "daily_since";

/// Writes today's summary if it is due and was not written.
pub(crate) async fn pass(app: App) -> Result<()> {
    let now = Timestamp::now();
    let since = match app.store.setting(SINCE).await?.and_then(|text| text.parse().ok()) {
        Some(ms) => Timestamp::from_ms(ms),
        None => {
            app.store.set_setting(SINCE, &now.as_ms().to_string()).await?;
            now
        }
    };
    let watched = app.watched();
    let Some(day) = day(&watched.registry.daily, zone(&watched.registry), now) else { return Ok(()) };
    // Agents need a moment to come back before any is called silent.
    let silence = i64::try_from(watched.registry.silence.after.as_millis()).unwrap_or(i64::MAX);
    let is_settled = now.since(app.started_at) >= silence;
    if !is_settled || !is_due(&day, since, now) {
        return Ok(());
    }
    let key = key(&day);
    if app.store.was_said(&key).await? {
        return Ok(());
    }
    let language = app.language();
    let (facts, logs) = (gather(&app, &day, now).await?, review(&app, now).await?);
    let note = |body: String, effect_key: String| Note {
        author: Persona::A0.as_str().to_owned(),
        by_person: false,
        kind: "daily",
        body,
        effect_key,
    };
    let notes =
        [note(summary(&facts, language), key.clone()), note(log_review(&logs, language), format!("{key}/logs"))];
    let thread = NewThread { id: thread(&day), persona: Persona::A0, subject: daily_subject(day.date, language) };
    if app.store.open_daily(&thread, &notes, now).await? {
        tracing::info!(thread.id, "the summary of the day is written");
        app.events.publish(Noun::Thread, &thread.id, "daily");
    }
    Ok(())
}

/// Whether the summary of the day is to be written now.
fn is_due(day: &Day, since: Timestamp, now: Timestamp) -> bool {
    day.due.is_some_and(|due| due <= now && since <= due)
}

/// Under which the summary of a day is said once.
pub(crate) fn key(day: &Day) -> String {
    format!("daily/{}", day.date)
}

/// The thread of a day.
pub(crate) fn thread(day: &Day) -> String {
    format!("daily-{}", day.date)
}

#[cfg(test)]
mod tests {
    use farol_protocol::registry::Daily;

    use super::*;

    #[test]
    fn a_summary_is_due_from_its_hour_to_the_days_end_for_who_was_there_at_the_hour() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let of = |now: &str| day(&Daily::default(), "UTC", at(now)).expect("a day");
        let due = |since: &str, now: &str| is_due(&of(now), at(since), at(now));
        let long_ago = "2026-01-01T00:00:00Z";
        assert!(!due(long_ago, "2026-11-21T06:59:59Z"));
        assert!(due(long_ago, "2026-11-21T07:00:00Z"));
        assert!(due(long_ago, "2026-11-21T23:59:59Z"), "it was off at the hour");
        assert!(!due(long_ago, "2026-11-22T00:00:00Z"), "the day is over");
        assert!(!due("2026-11-21T07:00:01Z", "2026-11-21T09:00:00Z"), "it came after the hour");
        assert_eq!(key(&of("2026-11-21T09:00:00Z")), "daily/2026-11-21");
        let never = day(&Daily { minute: None, timezone: None }, "UTC", at("2026-11-21T09:00:00Z")).expect("a day");
        assert!(!is_due(&never, at(long_ago), at("2026-11-21T09:00:00Z")));
    }
}
