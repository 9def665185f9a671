//! Delivers the outbox.

use std::time::Duration;

use farol_protocol::Timestamp;

use crate::{
    app::App,
    error::Result,
    notify::{MAX_ATTEMPTS, Mail, SendError, retry_after},
    store::outbox::Delivery,
};

const AT_ONCE: i64 = 20;

pub(super) async fn pass(app: App) -> Result<()> {
    let Some(mailer) = &app.mailer else { return Ok(()) };
    loop {
        let due = app.store.due_mails(Timestamp::now(), AT_ONCE).await?;
        if due.is_empty() {
            return Ok(());
        }
        for row in due {
            if app.stop.is_cancelled() {
                return Ok(());
            }
            let mail = Mail {
                to: row.recipient,
                subject: row.subject,
                body: row.body,
                message_id: row.message_id,
                in_reply_to: row.in_reply_to,
            };
            let sent = tokio::select! {
                sent = mailer.send(&mail) => sent,
                // What may have arrived is sent again under the same message id.
                () = grace(&app) => return Ok(()),
            };
            let now = Timestamp::now();
            let attempt = u32::try_from(row.attempts).unwrap_or(u32::MAX).saturating_add(1);
            let delivery = match sent {
                Ok(()) => Delivery::Sent,
                Err(SendError::Permanent(error)) => Delivery::Dead { error },
                Err(SendError::Transient(error)) if attempt >= MAX_ATTEMPTS => Delivery::Dead { error },
                Err(SendError::Transient(error)) => {
                    Delivery::Later { at: now.plus(retry_after(attempt, fastrand::f64())), error }
                }
            };
            match &delivery {
                Delivery::Sent => tracing::info!(message_id = mail.message_id, "a mail was sent"),
                Delivery::Later { at, error } => {
                    tracing::warn!(message_id = mail.message_id, "a mail waits until {at}: {error}");
                }
                Delivery::Dead { error } => {
                    tracing::error!(message_id = mail.message_id, "a mail cannot be delivered: {error}");
                }
            }
            app.metrics.mail(&delivery);
            app.store.delivered(&row.id, &delivery, now).await?;
        }
    }
}

/// A delivery that has begun gets some seconds to end when everything stops.
async fn grace(app: &App) {
    app.stop.cancelled().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
}
