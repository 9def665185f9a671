//! Hosts.

use axum::{Json, extract::State};
use farol_protocol::{Report, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Limit, List, Query, Segment},
    problem::Answer,
};
use crate::{
    app::{App, Shared},
    fleet::identity::Conflict,
    store::{
        hosts::{Enrolment, HostRow},
        streams::LastGap,
        trust::TrustRow,
    },
};

/// Where a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum HostState {
    /// Connected.
    Online,
    /// Enrolled and away.
    Silent,
    /// Its identity was taken back.
    Revoked,
    /// Known, never enrolled.
    Pending,
}

/// A machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostView {
    /// Identifier, the one in its certificate.
    id: String,
    /// For people.
    name: String,
    /// Where it is.
    state: HostState,
    /// When it was last heard.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// Of its agent.
    agent_version: Option<String>,
    /// Its site.
    site: Option<String>,
    /// Whether its findings are raised to critical.
    critical: bool,
    /// Protocol version of its agent; 0 for the older contract without one.
    protocol: Option<i64>,
    /// Highest class that it runs without a signature.
    max_unsigned_class: Option<&'static str>,
    /// End of its certificate.
    #[schema(value_type = Option<String>, format = DateTime)]
    cert_not_after: Option<Timestamp>,
    /// Its certificate; none before its first hello.
    certificate: Option<CertificateView>,
    /// Which machine it is, and what waits for a person.
    identity: IdentityView,
}

/// A host's certificate.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CertificateView {
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    not_after: Option<Timestamp>,
    /// Key identifier of the authority that issued it.
    issuer: Option<String>,
    /// Whether that is the present one.
    present: bool,
    /// SHA-256 of the roots that the host trusts; none where it does not say.
    roots: Option<Vec<String>>,
    /// Why it did not take the last one it was sent.
    refused: Option<String>,
}

/// Which machine a host is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IdentityView {
    /// Digest of its machine id.
    machine: Option<String>,
    /// The boot it said last.
    boot: Option<String>,
    /// What it calls itself.
    reported_name: Option<String>,
    /// What waits for a person: `machine`, another machine showed its key;
    /// `clones`, two copies take turns and no order leaves; `consent`, it asks
    /// for a certificate after a long absence.
    conflict: Option<&'static str>,
    /// The machine that was refused.
    other_machine: Option<String>,
    /// Since when it asks for consent.
    #[schema(value_type = Option<String>, format = DateTime)]
    consent_asked_at: Option<Timestamp>,
    /// Until when a person has consented.
    #[schema(value_type = Option<String>, format = DateTime)]
    consent_until: Option<Timestamp>,
}

/// A machine with what it says of itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostDetail {
    #[serde(flatten)]
    host: HostView,
    /// The connection it holds.
    session_id: Option<String>,
    /// Latest readings.
    #[schema(value_type = Option<Object>)]
    metrics: Option<Value>,
    /// When they were taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    metrics_at: Option<Timestamp>,
    /// As in `telemetry`.
    received: i64,
    /// As in `telemetry`.
    lost: i64,
    /// What arrived of what it observed.
    telemetry: TelemetryView,
    /// What is added to its times because its clock is off; null while this
    /// coordinator has not heard it.
    clock_skew_ms: Option<i64>,
    /// What its checks said last.
    checks: Vec<ReportView>,
}

/// Counts of batches, over the host's whole life.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TelemetryView {
    /// Committed here.
    received: i64,
    /// Those of them that were observed before the connection by which they came.
    backfilled: i64,
    /// Dropped by the host, for want of space or by a failing disk.
    lost: i64,
    /// The newest loss.
    last_gap: Option<LastGap>,
    /// Waiting in the host's backlog, as far as is known.
    backlog: i64,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReportView {
    /// The check.
    check: String,
    /// `ok`, `warning`, `critical`, `unknown`.
    status: &'static str,
    /// What was measured.
    value: Option<f64>,
    /// Its unit.
    unit: Option<String>,
    /// What was found.
    text: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    observed_at: Timestamp,
}

/// Which page of the hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HostsQuery {
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Hosts by name
#[utoipa::path(get, path = "/api/v1/hosts", tag = "hosts", operation_id = "hosts", params(HostsQuery),
    responses((status = 200, body = List<HostView>)))]
pub(super) async fn list(State(app): State<App>, Query(query): Query<HostsQuery>) -> Answer<List<HostView>> {
    let mut trust = app.store.trust().await?;
    let hosts = app.store.hosts().await?.into_iter().map(|row| {
        let known = trust.remove(&row.key);
        view(&app, row, known)
    });
    let hosts = hosts.collect();
    Ok(Json(List::cut(hosts, query.cursor.as_deref(), query.limit, |host: &HostView| host.name.as_str())))
}

/// A host, by id or name
#[utoipa::path(get, path = "/api/v1/hosts/{host}", tag = "hosts", operation_id = "host",
    params(("host" = String, Path, description = "Its id or name")),
    responses((status = 200, body = HostDetail)))]
pub(super) async fn one(State(app): State<App>, Segment(host): Segment<String>) -> Answer<HostDetail> {
    let row = app.store.host(&host).await?;
    let telemetry = app.store.telemetry_of(row.key).await?;
    let trust = app.store.trust_of(row.key).await?;
    Ok(Json(HostDetail {
        session_id: app.fleet.session(row.key).map(|session| session.to_string()),
        metrics: telemetry.metrics,
        metrics_at: telemetry.metrics_at,
        received: telemetry.received,
        lost: telemetry.lost,
        telemetry: TelemetryView {
            received: telemetry.received,
            backfilled: telemetry.backfilled,
            lost: telemetry.lost,
            last_gap: telemetry.last_gap,
            backlog: telemetry.backlog,
        },
        clock_skew_ms: app.fleet.clock_skew(row.key),
        checks: app.board.of(row.key).into_iter().map(report).collect(),
        host: view(&app, row, Some(trust)),
    }))
}

fn view(app: &Shared, row: HostRow, trust: Option<TrustRow>) -> HostView {
    let trust = trust.unwrap_or_default();
    HostView {
        id: row.id.to_string(),
        state: state(row.enrolment, app.present(&row, Timestamp::now())),
        last_seen: row.last_seen.max(app.fleet.last_seen(row.key)),
        agent_version: row.agent_version,
        site: row.site,
        critical: app.watched().registry.host(&row.name).is_some_and(|host| host.critical),
        protocol: row.protocol,
        max_unsigned_class: row.max_unsigned_class.map(farol_protocol::RiskClass::as_str),
        cert_not_after: row.cert_not_after,
        certificate: row.cert_not_after.map(|not_after| CertificateView {
            not_after: Some(not_after),
            present: trust.issuer.as_deref() == Some(app.trust.present().issuer.as_str()),
            issuer: trust.issuer.clone(),
            roots: trust.roots.clone(),
            refused: trust.refused.clone(),
        }),
        identity: identity(trust),
        name: row.name,
    }
}

fn identity(trust: TrustRow) -> IdentityView {
    let (conflict, other_machine) = match trust.known.conflict {
        Some(Conflict::Machine { machine, .. }) => (Some("machine"), Some(machine)),
        Some(Conflict::Clones { .. }) => (Some("clones"), None),
        None => (trust.asked_at.map(|_| "consent"), None),
    };
    IdentityView {
        machine: trust.known.machine,
        boot: trust.known.boots.last().cloned(),
        reported_name: trust.known.name,
        conflict,
        other_machine,
        consent_asked_at: trust.asked_at,
        consent_until: trust.consent_until,
    }
}

const fn state(enrolment: Enrolment, online: bool) -> HostState {
    match enrolment {
        Enrolment::Pending => HostState::Pending,
        Enrolment::Revoked => HostState::Revoked,
        Enrolment::Enrolled if online => HostState::Online,
        Enrolment::Enrolled => HostState::Silent,
    }
}

pub(super) fn report(report: Report) -> ReportView {
    ReportView {
        check: report.check.to_string(),
        status: report.status.as_str(),
        value: report.value,
        unit: report.unit,
        text: report.text,
        observed_at: report.observed_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_enrolled_host_is_online_or_silent() {
        assert_eq!(state(Enrolment::Enrolled, true), HostState::Online);
        assert_eq!(state(Enrolment::Enrolled, false), HostState::Silent);
        assert_eq!(state(Enrolment::Revoked, true), HostState::Revoked);
        assert_eq!(state(Enrolment::Pending, false), HostState::Pending);
    }
}
