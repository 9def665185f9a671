//! How the coordinator itself is, and what it counts. Both are public: they
//! name no host and no person.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, header},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::ApiError;
use crate::{
    app::{App, Shared},
    error::Result,
    metrics::Format,
};

const OK: &str = "ok";
const OFF: &str = "off";
/// A message that failed this often says that its channel does not work.
const FAILED_TRIES: i64 = 3;

/// How the coordinator is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthView {
    /// `ok` or `degraded`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Its parts.
    checks: Checks,
}

/// Each is `ok`, or says what is wrong; `off` for a part that is not configured.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checks {
    /// Database of decisions.
    #[schema(example = "ok")]
    store: String,
    /// Database of telemetry.
    telemetry: String,
    /// The registry.
    registry: String,
    /// Connections of agents.
    agents: String,
    /// Mail.
    mail: String,
    /// Channels of messages other than mail.
    notifications: String,
    /// Telling somebody outside that the coordinator is alive.
    heartbeat: String,
    /// The language model.
    llm: String,
    /// Sealing the record.
    record: String,
}

impl Checks {
    fn status(&self) -> &'static str {
        let all = [
            &self.store,
            &self.telemetry,
            &self.registry,
            &self.agents,
            &self.mail,
            &self.notifications,
            &self.heartbeat,
            &self.llm,
            &self.record,
        ];
        if all.into_iter().all(|part| part == OK || part == OFF) { OK } else { "degraded" }
    }
}

/// How the coordinator is
///
/// Always 200, so that the answer can be read; `status` says how it is.
#[utoipa::path(get, path = "/api/v1/agents/health", tag = "agents", operation_id = "health", security(()),
    responses((status = 200, body = HealthView)))]
pub(super) async fn health(State(app): State<App>) -> Json<HealthView> {
    let (state_fails, telemetry_fails) = app.store.failing();
    let (mail, notifications) = messages(&app).await;
    let checks = Checks {
        store: answers(app.store.finding_counts().await.map(drop), state_fails),
        telemetry: answers(app.store.recent_reports(None, 1).await.map(drop), telemetry_fails),
        registry: registry(&app),
        agents: agents(&app).await,
        mail,
        notifications,
        heartbeat: match (&app.config.heartbeat_url, app.heartbeat.error()) {
            (None, _) => OFF.to_owned(),
            (Some(_), None) => OK.to_owned(),
            (Some(_), Some(_)) => "the last heartbeat did not arrive; the log says why".to_owned(),
        },
        llm: if app.llm.is_some() { OK } else { OFF }.to_owned(),
        record: match app.sealing.error() {
            None => OK.to_owned(),
            Some(_) => "is not being sealed; the log says why".to_owned(),
        },
    };
    Json(HealthView { status: checks.status(), checks })
}

/// Counters and gauges as text for Prometheus; as OpenMetrics for who asks for it
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(
    State(app): State<App>,
    headers: HeaderMap,
) -> std::result::Result<([(HeaderName, &'static str); 1], String), ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let text = app.metrics.encode(&app, format).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text))
}

fn answers(read: Result<()>, writes_fail: bool) -> String {
    match read {
        Ok(()) if writes_fail => "cannot be written; look at the log and at the free space".to_owned(),
        Ok(()) => OK.to_owned(),
        Err(error) => {
            tracing::warn!("the health check cannot read the store: {error}");
            "cannot be read".to_owned()
        }
    }
}

/// A silent host is a finding; that all are silent says something of the coordinator.
async fn agents(app: &Shared) -> String {
    match app.store.enrolled().await {
        Ok(hosts) if !hosts.is_empty() && !hosts.iter().any(|host| app.fleet.online(*host)) => {
            format!("none of {} enrolled hosts is connected", hosts.len())
        }
        Ok(_) => OK.to_owned(),
        Err(_) => "cannot be read".to_owned(),
    }
}

/// Public, so it names the place of a mistake and nothing of what stands there.
fn registry(app: &Shared) -> String {
    if app.watching.mistake().is_some() {
        return "the file has a mistake, so the one before it counts; the log says where".to_owned();
    }
    if app.watched().registry.scenarios.is_empty() { "no scenario is configured" } else { OK }.to_owned()
}

/// Mail, and the other channels. Public, so it names no recipient.
async fn messages(app: &Shared) -> (String, String) {
    let read = async {
        let stuck = app.store.stuck_messages(FAILED_TRIES).await?;
        let off = app.store.channel_states().await?.iter().filter(|state| state.disabled_ms.is_some()).count();
        Ok::<_, crate::error::Error>((stuck, off))
    };
    let Ok((stuck, off)) = read.await else {
        return ("cannot be read".to_owned(), "cannot be read".to_owned());
    };
    let waiting = |is_mail: bool| {
        stuck.iter().filter(|(channel, _)| (channel == "email") == is_mail).map(|(_, count)| count).sum::<i64>()
    };
    let said = |count: i64| match count {
        0 => OK.to_owned(),
        count => format!("{count} messages wait after {FAILED_TRIES} failed tries or more"),
    };
    let mail = if app.config.mail.is_none() && waiting(true) == 0 { OFF.to_owned() } else { said(waiting(true)) };
    let others = if off > 0 { format!("{off} channels are off; see the dead messages") } else { said(waiting(false)) };
    (mail, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_is_not_well_degrades_the_whole_and_one_that_is_off_does_not() {
        let all = |mail: &str| Checks {
            store: OK.to_owned(),
            telemetry: OK.to_owned(),
            registry: OK.to_owned(),
            agents: OK.to_owned(),
            mail: mail.to_owned(),
            notifications: OK.to_owned(),
            heartbeat: OFF.to_owned(),
            llm: OFF.to_owned(),
            record: OK.to_owned(),
        };
        assert_eq!(all(OK).status(), "ok");
        assert_eq!(all(OFF).status(), "ok");
        assert_eq!(all("3 mails wait").status(), "degraded");
    }
}
