//! Messages that left the house, or did not, and why.

use axum::{Json, extract::State};
use farol_protocol::{
    Language, Timestamp,
    registry::{Persona, Severity, notify::Route},
    yaml::nearest,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Body, Caller, Limit, List, Nothing, Query, Segment, Start},
    problem::{Answer, ApiError},
};
use crate::{
    app::{App, Shared},
    error::Error,
    notify::{
        Channel, Reason, Verdict,
        route::{self, Subject},
    },
    store::outbox::{ChannelState, Row},
    text::Notice,
};

/// Why somebody was not told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Why {
    /// Stable: `severity`, `other_scenario`, `other_site`, `other_persona`, `other_role`, `acknowledged`, `resolved`,
    /// `suppressed`, `problem_not_told`.
    #[schema(example = "severity")]
    code: &'static str,
    /// The same for people.
    text: String,
}

impl Why {
    fn of(reason: &Reason, language: Language) -> Self {
        Self { code: reason.code(), text: Notice::Not(reason).in_words(language) }
    }
}

/// One message on one channel.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotificationView {
    /// Identifier, which the other side sees too.
    id: String,
    /// The finding; null for a mail of an earlier version.
    finding_id: Option<String>,
    /// Counts the finding's problems.
    episode: i64,
    /// `problem`, `grew.N`, `recovery`.
    what: String,
    /// `email`, `ntfy`, or `integration:NAME`.
    channel: String,
    /// Address, topic or room; empty for the integration's own.
    recipient: String,
    /// `pending`, `sent`, `dead` (given up), `skipped` (not told), `cancelled` (taken back).
    state: String,
    /// Why it was skipped or cancelled.
    reason: Option<Why>,
    /// Why the last try failed.
    last_error: Option<String>,
    /// Tries so far.
    tries: i64,
    /// When it is tried next, while it is pending.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// Whether it waits for somebody to acknowledge, and is told only if nobody does.
    escalates: bool,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the other side took it.
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Timestamp>,
    /// What the other side calls it.
    provider_id: Option<String>,
    /// Its subject.
    subject: String,
    /// What it says, without what the channel adds.
    text: String,
}

fn view(row: Row, language: Language) -> NotificationView {
    NotificationView {
        reason: row.reason().map(|reason| Why::of(&reason, language)),
        next_at: (row.state == "pending").then(|| row.next_at()),
        created_at: row.created_at(),
        sent_at: row.sent_at(),
        escalates: row.escalates == 1,
        id: row.id,
        finding_id: row.finding_id,
        episode: row.episode,
        what: row.what,
        channel: row.channel,
        recipient: row.recipient,
        state: row.state,
        last_error: row.last_error,
        tries: row.attempts,
        provider_id: row.provider_id,
        subject: row.subject,
        text: row.body,
    }
}

/// Which messages.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Shown {
    /// Those that wait.
    Pending,
    /// Those that were taken.
    Sent,
    /// Those that were given up.
    Dead,
    /// Those that nobody was to get.
    Skipped,
    /// Those that were taken back.
    Cancelled,
}

impl Shown {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct NotificationsQuery {
    /// Only those in this state.
    #[serde(default)]
    #[param(value_type = Option<Shown>, inline)]
    state: Option<Shown>,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

/// Messages, the newest first
#[utoipa::path(get, path = "/api/v1/notifications", tag = "notifications", operation_id = "notifications",
    params(NotificationsQuery), responses((status = 200, body = List<NotificationView>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<NotificationsQuery>,
) -> Answer<List<NotificationView>> {
    let language = app.language();
    let page = app.store.messages_page(query.state.map(Shown::as_str), &query.cursor.0, query.limit.0).await?;
    Ok(Json(List::of(page, |row| view(row, language))))
}

/// Who was told of a finding, who was not, and why
#[utoipa::path(get, path = "/api/v1/findings/{id}/notifications", tag = "notifications",
    operation_id = "finding_notifications", params(("id" = String, Path, description = "The finding")),
    responses((status = 200, body = List<NotificationView>)))]
pub(super) async fn of_finding(State(app): State<App>, Segment(id): Segment<String>) -> Answer<List<NotificationView>> {
    let finding = app.store.finding(&id).await?;
    let language = app.language();
    let rows = app.store.finding_messages(&finding.id).await?;
    Ok(Json(List::whole(rows.into_iter().map(|row| view(row, language)).collect())))
}

/// Sends a message again that was given up
///
/// Where its channel is off, that turns it on.
#[utoipa::path(post, path = "/api/v1/notifications/{id}/resend", tag = "notifications",
    operation_id = "resend_notification", params(("id" = String, Path, description = "The message")),
    request_body = Nothing, responses((status = 200, body = NotificationView)))]
pub(super) async fn resend(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(Nothing {}): Body<Nothing>,
) -> Answer<NotificationView> {
    let row = app.store.resend_message(&operator, &id, Timestamp::now()).await?;
    app.wake.mail.notify_one();
    Ok(Json(view(row, app.language())))
}

/// A finding that might be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewBody {
    /// How bad it would be.
    #[schema(value_type = String, example = "high")]
    severity: Severity,
    /// Its scenario, such as `proxmox.cluster`.
    scenario: String,
    /// Its host.
    host: String,
}

/// What would become of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewLine {
    /// `email`, `ntfy`, or `integration:NAME`.
    channel: String,
    /// Address, topic or room; empty for the integration's own.
    recipient: String,
    /// Whether it would be told.
    told: bool,
    /// After how many seconds, if nobody has acknowledged by then.
    after_seconds: Option<u64>,
    /// Why not.
    reason: Option<Why>,
    /// The same in a sentence.
    text: String,
    /// What is wrong with the channel itself.
    warning: Option<String>,
}

/// Who would be told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Preview {
    /// Persona that would speak.
    persona: String,
    /// Whether the registry has routes; without, those of the environment count.
    from_registry: bool,
    /// Each route by itself, in their order.
    routes: Vec<PreviewLine>,
    /// Each channel: of several routes to one the soonest counts.
    channels: Vec<PreviewLine>,
}

/// Says who would be told of a finding, and who not, and why
#[utoipa::path(post, path = "/api/v1/notifications/preview", tag = "notifications",
    operation_id = "preview_notifications", request_body = PreviewBody, responses((status = 200, body = Preview)))]
pub(super) async fn preview(State(app): State<App>, Body(body): Body<PreviewBody>) -> Answer<Preview> {
    let host = app.store.host(&body.host).await?;
    let persona = persona(&app, &body.scenario)?;
    let watched = app.watched();
    let routes = route::in_force(watched.registry.notify.as_ref(), &app.config);
    let subject = Subject { scenario: &body.scenario, site: host.site.as_deref(), persona, severity: body.severity };
    let states = app.store.channel_states().await?;
    let line = |channel: Channel, verdict: Verdict| line(&app, &states, channel, verdict);
    let one = |route: &Route| line(Channel::of(&route.to), route::judge(route, &subject));
    Ok(Json(Preview {
        persona: persona.as_str().to_owned(),
        from_registry: watched.registry.notify.is_some(),
        routes: routes.iter().map(one).collect(),
        channels: route::decide(&routes, &subject)
            .into_iter()
            .map(|(channel, verdict)| line(channel, verdict))
            .collect(),
    }))
}

fn line(app: &Shared, states: &[ChannelState], channel: Channel, verdict: Verdict) -> PreviewLine {
    let language = app.language();
    let (told, after, reason, text) = match verdict {
        Verdict::Told(after) if after.is_zero() => (true, None, None, Notice::Told.in_words(language)),
        Verdict::Told(after) => (true, Some(after.as_secs()), None, Notice::ToldAfter { after }.in_words(language)),
        Verdict::Not(reason) => {
            let why = Why::of(&reason, language);
            let text = why.text.clone();
            (false, None, Some(why), text)
        }
    };
    PreviewLine {
        warning: warning(app, states, &channel),
        channel: channel.name,
        recipient: channel.recipient,
        told,
        after_seconds: after,
        reason,
        text,
    }
}

/// What would keep any message from leaving by this channel.
fn warning(app: &Shared, states: &[ChannelState], channel: &Channel) -> Option<String> {
    let language = app.language();
    if let Some(state) = states.iter().find(|state| state.channel == channel.name)
        && let Some(since) = state.disabled_ms.map(Timestamp::from_ms)
    {
        let why = state.reason.as_deref().unwrap_or_default();
        return Some(Notice::Disabled { since, why }.in_words(language));
    }
    let Some(name) = channel.integration() else {
        let no_mail = channel.name == "email" && app.mailer.is_none();
        return no_mail.then(|| Notice::NoMailServer.in_words(language));
    };
    match app.integrations.get(name) {
        None => Some(Notice::NoIntegration { name }.in_words(language)),
        Some(there) if !there.kind.takes_messages() => {
            Some(Notice::NoChannel { name, kind: there.kind.as_str() }.in_words(language))
        }
        Some(there) if there.is_locked => Some(Notice::Locked { name }.in_words(language)),
        Some(_) => None,
    }
}

/// Who speaks of a scenario: the registry's, or one of the coordinator's own.
fn persona(app: &Shared, scenario: &str) -> Result<Persona, ApiError> {
    let watched = app.watched();
    let registry = &watched.registry;
    if let Some(known) = registry.scenarios.iter().find(|known| known.id == scenario) {
        return Ok(known.persona);
    }
    let own =
        [crate::correlate::SILENCE, crate::correlate::TELEMETRY, crate::correlate::CLOCK, crate::correlate::IDENTITY];
    if own.contains(&scenario) {
        return Ok(registry.silence.persona);
    }
    if ["signal", "alert"].iter().any(|sent| scenario == *sent || scenario.starts_with(&format!("{sent}."))) {
        return Ok(Persona::A1);
    }
    let near = nearest(scenario, registry.scenarios.iter().map(|known| known.id.as_str()).chain(own));
    match near {
        Some(near) => Err(ApiError::invalid_body(format!(
            "there is no scenario `{}`; did you mean `{near}`?",
            crate::text::plain(scenario, 100)
        ))),
        None => Err(Error::NotFound { what: "scenario", id: crate::text::plain(scenario, 100) }.into()),
    }
}
