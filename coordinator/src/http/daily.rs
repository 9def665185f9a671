//! The summary of the day, as it would be written now.

use axum::{Json, extract::State};
use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Answer;
use crate::{
    app::App,
    daily::{self, DailyFacts, LogReview},
    error::Error,
    text,
};

/// The summary of the day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DailyView {
    /// By the calendar of this IANA time zone.
    timezone: String,
    /// When today's is due; null where none is written.
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Timestamp>,
    /// The thread of today's summary; null until it is written.
    thread_id: Option<String>,
    /// The summary as A0 would write it now.
    summary: String,
    /// The review of the last day's logs as A0 would write it now.
    log_review: String,
    /// What the summary is made of.
    facts: DailyFacts,
    /// What the review is made of.
    logs: LogReview,
}

/// What A0 would say of the last day now
///
/// Nothing is posted: A0 writes it once a day into a thread of its own, when `daily` in the registry says.
#[utoipa::path(get, path = "/api/v1/agents/daily", tag = "agents", operation_id = "daily",
    responses((status = 200, body = DailyView)))]
pub(super) async fn now(State(app): State<App>) -> Answer<DailyView> {
    let now = Timestamp::now();
    let (watched, language) = (app.watched(), app.language());
    let zone = daily::zone(&watched.registry);
    let day = daily::day(&watched.registry.daily, zone, now)
        .ok_or_else(|| Error::Refused(format!("daily.timezone: `{zone}` is no IANA time zone")))?;
    let (facts, logs) = (daily::gather(&app, &day, now).await?, daily::review(&app, now).await?);
    let is_written = app.store.was_said(&daily::key(&day)).await?;
    Ok(Json(DailyView {
        timezone: zone.to_owned(),
        due_at: day.due,
        thread_id: is_written.then(|| daily::thread(&day)),
        summary: text::summary(&facts, language),
        log_review: text::log_review(&logs, language),
        facts,
        logs,
    }))
}
