//! Scenarios: what they check and what it said last.

use std::collections::HashMap;

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::{
    Report, Status, Timestamp,
    registry::{Check, Scenario, Target},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, List, Nothing, Segment},
    problem::{Answer, ApiError},
};
use crate::{
    app::{App, Shared},
    store::hosts::{Enrolment, HostKey},
    text::Message,
};

/// A bundle of checks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScenarioView {
    /// Identifier.
    id: String,
    /// What people read.
    title: String,
    /// Who speaks of it.
    persona: &'static str,
    /// How bad its findings are.
    severity: &'static str,
    /// `coordinator` or `agent`.
    runs_on: &'static str,
    /// Hosts it is about.
    hosts: Vec<String>,
    /// The worst of its checks; `unknown` as long as one has not reported.
    status: &'static str,
    /// Its checks, one for each host.
    checks: Vec<CheckView>,
}

/// A check of a host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckView {
    /// Identifier.
    id: String,
    /// Name within the scenario.
    name: String,
    /// Its host; null as long as no host has enrolled.
    host: Option<String>,
    /// `ok`, `warning`, `critical`, `unknown`.
    status: &'static str,
    /// What was measured last.
    value: Option<f64>,
    /// Its unit.
    unit: Option<String>,
    /// What was found last, or why nothing was.
    text: String,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    observed_at: Option<Timestamp>,
    /// The variable that has no value, where that is why it cannot run.
    missing: Option<String>,
}

/// A run that waits its turn.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunView {
    /// Identifier.
    run_id: String,
}

/// Scenarios with what their checks said last
#[utoipa::path(get, path = "/api/v1/agents/scenarios", tag = "agents", operation_id = "scenarios",
    responses((status = 200, body = List<ScenarioView>)))]
pub(super) async fn list(State(app): State<App>) -> Answer<List<ScenarioView>> {
    let mut keys = HashMap::new();
    let mut enrolled = Vec::new();
    for host in app.store.hosts().await? {
        if host.enrolment == Enrolment::Enrolled {
            enrolled.push(host.name.clone());
        }
        keys.insert(host.name, host.key);
    }
    let watched = app.watched();
    let scenarios = watched.registry.scenarios.iter().map(|scenario| view(&app, scenario, &keys, &enrolled));
    Ok(Json(List::whole(scenarios.collect())))
}

/// Runs a scenario now
#[utoipa::path(post, path = "/api/v1/agents/runs/{scenario_id}", tag = "agents", operation_id = "run_scenario",
    params(("scenario_id" = String, Path, description = "The scenario")), request_body = Nothing,
    responses((status = 202, body = RunView)))]
pub(super) async fn run(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<(StatusCode, Json<RunView>), ApiError> {
    let run = app.run_scenario(&operator, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(RunView { run_id: run.id })))
}

fn view(app: &Shared, scenario: &Scenario, keys: &HashMap<String, HostKey>, enrolled: &[String]) -> ScenarioView {
    let hosts: Vec<String> = scenario.hosts.clone().unwrap_or_else(|| enrolled.to_vec());
    let mut checks = Vec::new();
    for check in &scenario.checks {
        if hosts.is_empty() {
            checks.push(one(app, scenario, check, None, None));
        }
        for host in &hosts {
            let report = keys.get(host).and_then(|key| app.board.get(&(*key, check.id.clone())));
            checks.push(one(app, scenario, check, Some(host), report));
        }
    }
    ScenarioView {
        id: scenario.id.clone(),
        title: scenario.title.clone(),
        persona: scenario.persona.as_str(),
        severity: scenario.severity.as_str(),
        runs_on: match scenario.runs_on {
            farol_protocol::registry::RunsOn::Coordinator => "coordinator",
            farol_protocol::registry::RunsOn::Agent => "agent",
        },
        hosts,
        status: checks.iter().map(|check| check.status).max_by_key(|status| badness(status)).unwrap_or("unknown"),
        checks,
    }
}

fn one(app: &Shared, scenario: &Scenario, check: &Check, host: Option<&String>, report: Option<Report>) -> CheckView {
    let mut view = CheckView {
        id: check.id.to_string(),
        name: check.name.clone(),
        host: host.cloned(),
        status: Status::Unknown.as_str(),
        value: None,
        unit: None,
        text: String::new(),
        observed_at: None,
        missing: None,
    };
    if let Some(report) = report {
        view.status = report.status.as_str();
        view.value = report.value;
        view.unit = report.unit;
        view.text = report.text;
        view.observed_at = Some(report.observed_at);
        if is_stale(check, report.observed_at, Timestamp::now()) {
            // Nothing is healthy because nobody looked.
            view.status = Status::Unknown.as_str();
            view.text = Message::NoDataSince { at: report.observed_at }.in_words(app.language());
        }
    }
    if let Target::Missing { variable, .. } = &check.target {
        // Whatever an older configuration measured, it is not measured now.
        view.status = Status::Unknown.as_str();
        view.value = None;
        view.unit = None;
        view.text = Message::NotConfigured { scenario: &scenario.id, variable }.in_words(app.language());
        view.missing = Some(variable.clone());
    }
    view
}

/// Whether a check has missed three of its times, with a minute for the way.
fn is_stale(check: &Check, observed_at: Timestamp, now: Timestamp) -> bool {
    let patience = i64::try_from(check.target.every_ms()).unwrap_or(i64::MAX).saturating_mul(3).saturating_add(60_000);
    now.since(observed_at) > patience
}

/// Not knowing is worse than a warning: partial coverage never looks calm.
fn badness(status: &str) -> u8 {
    match status {
        "ok" => 0,
        "warning" => 1,
        "unknown" => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ok_because_nobody_looked() {
        let worst = |list: &[Status]| list.iter().map(|status| status.as_str()).max_by_key(|status| badness(status));
        assert_eq!(worst(&[Status::Ok, Status::Ok]), Some("ok"));
        assert_eq!(worst(&[Status::Ok, Status::Unknown, Status::Warning]), Some("unknown"));
        assert_eq!(worst(&[Status::Unknown, Status::Critical, Status::Ok]), Some("critical"));
    }
}
