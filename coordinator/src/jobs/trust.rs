//! Says about each host what a person must decide on its identity, in a report
//! of its own, and cuts connections that a decision went against.

use farol_protocol::{Report, Status, Timestamp};

use crate::{
    app::{App, Shared},
    error::Result,
    events::Noun,
    fleet::identity::Conflict,
    store::{
        bulk::Bulk,
        hosts::HostRow,
        trust::{Attention, TrustRow},
    },
    text::Message,
};

/// Reads the authority again when its folder changed.
pub(super) async fn authority(app: App) -> Result<()> {
    // Files are read and keys parsed: not on a thread that serves connections.
    let read = tokio::task::spawn_blocking(move || app.trust.refresh());
    if let Err(error) = read.await {
        tracing::error!("the authority's reader ended badly: {error}");
    }
    Ok(())
}

pub(super) async fn pass(app: App) -> Result<()> {
    let now = Timestamp::now();
    for (key, row, attention) in app.store.take_attention().await? {
        let host = app.store.host_by_key(key).await?;
        if attention == Attention::Cut {
            app.fleet.cut(key);
        }
        app.events.publish(Noun::Host, &host.name, "identity");
        let reports = vec![report(&app, &host, &row, now)];
        // Only the coordinator's stop makes the writer refuse.
        if app.bulk.send(Bulk::Own { host: key, reports, at: now }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn report(app: &Shared, host: &HostRow, row: &TrustRow, now: Timestamp) -> Report {
    let (status, message) = judge(host, row, now);
    Report {
        check: crate::correlate::identity(),
        status,
        value: None,
        unit: None,
        text: message.in_words(app.language()),
        observed_at: now,
        cause: None,
    }
}

/// The gravest thing that waits for a person, if anything does.
fn judge<'a>(host: &'a HostRow, row: &'a TrustRow, now: Timestamp) -> (Status, Message<'a>) {
    let name = host.name.as_str();
    match &row.known.conflict {
        Some(Conflict::Machine { machine, .. }) => {
            return (Status::Critical, Message::IdentityOtherMachine { host: name, machine });
        }
        Some(Conflict::Clones { .. }) => {
            return (Status::Critical, Message::IdentityClones { host: name, boots: &row.known.boots });
        }
        None => {}
    }
    if let Some(since) = row.asked_at
        && row.consent_until.is_none_or(|until| until <= now)
    {
        return (Status::Warning, Message::IdentityConsent { host: name, since });
    }
    if let Some(why) = &row.refused {
        return (Status::Warning, Message::IdentityRefused { host: name, why });
    }
    (
        Status::Ok,
        Message::IdentityFine {
            host: name,
            called: row.known.name.as_deref(),
            before: row.known.name_before.as_deref(),
        },
    )
}
