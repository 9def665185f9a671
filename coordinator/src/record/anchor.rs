//! Once a day the head of the record goes out, to where nobody who can change
//! the record can change it too.

use farol_protocol::{
    Timestamp,
    registry::{Daily, Persona, Severity, notify::To, record::Record},
};

use crate::{
    app::{App, Shared},
    config::Config,
    daily,
    error::Result,
    notify::{Channel, Told},
    store::anchor::NewAnchor,
    text::{self, Anchor},
};

/// Since when heads are sent: one who was not there at the hour catches nothing up.
const SINCE: &str = "anchor_since";
/// Minute of the day where A0 sums up none.
const MINUTE: u16 = 7 * 60;

/// Sends today's head if it is due and was not sent.
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
    let hour = Daily { minute: watched.registry.daily.minute.or(Some(MINUTE)), timezone: None };
    let Some(day) = daily::day(&hour, daily::zone(&watched.registry), now) else { return Ok(()) };
    if !day.due.is_some_and(|due| due <= now && since <= due) {
        return Ok(());
    }
    let date = day.date.to_string();
    if app.store.anchored_on().await?.as_deref() == Some(date.as_str()) {
        return Ok(());
    }
    let channels = channels(&watched.registry.record, &app.config);
    let Some(head) = app.store.head().await?.filter(|_| !channels.is_empty()) else { return Ok(()) };
    let language = app.language();
    let words = Anchor {
        head: &head.place.to_string(),
        links: head.place.seq,
        sealed_at: head.sealed_at,
        public_key: &head.public_key,
        trouble: app.sealing.error().is_some(),
    };
    let (title, body) = (text::anchor_title(language), words.in_words(language));
    let anchor = NewAnchor { date, head: head.place, channels, told: told(&app, &title, now), subject: title, body };
    if app.store.anchor(&anchor, now).await? {
        tracing::info!(head = %head.place, "the head of the record is on its way out");
        app.wake.mail.notify_one();
    }
    Ok(())
}

/// Where the head goes: where the registry says, else to the environment's mail
/// address and topic.
fn channels(record: &Record, config: &Config) -> Vec<Channel> {
    let of_environment = || {
        let mail = config.mail.as_ref().and_then(|mail| mail.to.clone()).map(To::Email);
        mail.into_iter().chain(config.ntfy.topic.clone().map(To::Ntfy)).collect()
    };
    let mut all: Vec<Channel> = record.anchor.clone().unwrap_or_else(of_environment).iter().map(Channel::of).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// For channels that take more than text.
fn told(app: &Shared, title: &str, now: Timestamp) -> Told {
    Told {
        fingerprint: "farol:record".to_owned(),
        episode: 1,
        scenario: "farol.record".to_owned(),
        persona: Persona::A0,
        host: "farol".to_owned(),
        site: None,
        severity: Severity::Info,
        title: title.to_owned(),
        since: app.started_at,
        at: now,
    }
}
