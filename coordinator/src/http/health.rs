//! How the coordinator itself is, and what it counts. Both are public: they
//! name no host and no person.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::ApiError;
use crate::{
    app::{App, Shared},
    error::Result,
};

const OK: &str = "ok";
const OFF: &str = "off";
/// A mail that failed this often says that mail does not work.
const FAILED_TRIES: i64 = 3;

/// How the coordinator is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
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
    /// The language model.
    llm: String,
}

impl Checks {
    fn status(&self) -> &'static str {
        let all = [&self.store, &self.telemetry, &self.registry, &self.agents, &self.mail, &self.llm];
        if all.into_iter().all(|part| part == OK || part == OFF) { OK } else { "degraded" }
    }
}

/// How the coordinator is
///
/// Always 200, so that the answer can be read; `status` says how it is.
#[utoipa::path(get, path = "/api/v1/agents/health", tag = "agents", operation_id = "health", security(()),
    responses((status = 200, body = Health)))]
pub(super) async fn health(State(app): State<App>) -> Json<Health> {
    let (state_fails, telemetry_fails) = app.store.failing();
    let checks = Checks {
        store: answers(app.store.finding_counts().await.map(drop), state_fails),
        telemetry: answers(app.store.recent_reports(None, 1).await.map(drop), telemetry_fails),
        registry: registry(&app),
        agents: agents(&app).await,
        mail: mail(&app).await,
        llm: if app.llm.is_some() { OK } else { OFF }.to_owned(),
    };
    Json(Health { status: checks.status(), checks })
}

/// Counters and gauges in the OpenMetrics text format, which Prometheus reads
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics", security(()),
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(
    State(app): State<App>,
) -> std::result::Result<([(HeaderName, &'static str); 1], String), ApiError> {
    let text = app.metrics.encode(&app).await?;
    Ok(([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text))
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

async fn mail(app: &Shared) -> String {
    if app.config.mail.is_none() {
        return OFF.to_owned();
    }
    // Those that wait for their next try are due within a day.
    match app.store.due_mails(Timestamp::now().plus_ms(86_400_000), 200).await {
        Ok(waiting) => match waiting.iter().filter(|mail| mail.attempts >= FAILED_TRIES).count() {
            0 => OK.to_owned(),
            count => format!("{count} mails wait after {FAILED_TRIES} failed tries or more"),
        },
        Err(_) => "cannot be read".to_owned(),
    }
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
            llm: OFF.to_owned(),
        };
        assert_eq!(all(OK).status(), "ok");
        assert_eq!(all(OFF).status(), "ok");
        assert_eq!(all("3 mails wait").status(), "degraded");
    }
}
