//! Adds advice to findings that have none: deterministic, or worded by the
//! model where one is configured and stands up to its evidence.

use farol_protocol::{Plan, Timestamp, registry::Persona};

use crate::{
    action::State,
    advice::{self, Context, FindingFacts, ProposalFact, ReportFact},
    app::{App, Shared},
    cause,
    error::{Error, Result},
    events::Noun,
    store::{
        findings::{AdviceRow, FindingRow},
        inbox::Note,
        serde_word,
    },
    text::{self, Course},
};

/// Reports that the context may draw from.
const REPORTS: i64 = 40;
const AT_ONCE: i64 = 20;

pub(super) async fn pass(app: App) -> Result<()> {
    for row in app.store.findings_without_advice(AT_ONCE).await? {
        let advised = tokio::select! {
            advised = advise(&app, &row) => advised,
            () = app.stop.cancelled() => return Ok(()),
        };
        if let Err(error) = advised {
            tracing::warn!(finding = row.id, "a finding got no advice, the next pass tries again: {error}");
        }
    }
    Ok(())
}

async fn advise(app: &App, row: &FindingRow) -> Result<()> {
    let verdict = cause::of(app, row).await?;
    if let (true, Some(first)) = (verdict.determined, verdict.ranking.first()) {
        let likely = Course::Likely { text: &first.text, host: &first.host, before_ms: first.before_ms };
        let note = Note {
            author: Persona::A0.as_str().to_owned(),
            by_person: false,
            kind: "cause",
            body: likely.in_words(app.language()),
            effect_key: format!("cause/{}", row.id),
        };
        app.store.say(&row.thread_id, &note, Timestamp::now()).await?;
    }
    let context = context(app, row).await?;
    let advice = advice::advise(app.llm.as_ref(), &context).await;
    if let Some(reason) = &advice.fallback_reason {
        tracing::info!(finding = row.id, "the deterministic advice stands: {reason}");
    }
    let document =
        serde_json::to_string(&advice).map_err(|error| Error::Corrupt { what: "advice", value: error.to_string() })?;
    let note = Note {
        author: Persona::A6.as_str().to_owned(),
        by_person: false,
        kind: "advice",
        body: advice.body(),
        effect_key: format!("advice/{}", row.id),
    };
    let stored = AdviceRow { source: advice.source.as_str().to_owned(), document };
    app.metrics.advice(advice.source);
    if app.store.add_advice(&row.id, &stored, &note, Timestamp::now()).await? {
        app.events.publish(Noun::Thread, &row.thread_id, "advice");
        app.events.publish(Noun::Finding, &row.id, &row.state);
    }
    Ok(())
}

/// Everything that advice on a finding may rest on.
///
/// # Errors
/// The store failed.
pub async fn context(app: &Shared, row: &FindingRow) -> Result<Context> {
    let host = app.store.host_by_key(row.host()).await?;
    let reports = app
        .store
        .recent_reports(Some(row.host()), REPORTS)
        .await?
        .into_iter()
        .map(|committed| ReportFact {
            check: committed.report.check.to_string(),
            status: committed.report.status,
            value: committed.report.value,
            unit: committed.report.unit,
            text: committed.report.text,
            observed_at: committed.report.observed_at,
        })
        .collect();
    let proposals = app
        .store
        .open_actions()
        .await?
        .into_iter()
        .filter(|action| action.state == State::Proposed && action.finding_id.as_deref() == Some(&row.id))
        .filter_map(|action| {
            let (_, effect) = Plan::parse(&action.plan).ok()?;
            Some(ProposalFact { id: action.id.to_string(), summary: text::effect(&effect, app.language()) })
        })
        .collect();
    let metrics = app.store.telemetry_of(row.host()).await?.metrics;
    Ok(Context {
        language: app.language(),
        now: Timestamp::now(),
        finding: FindingFacts {
            id: row.id.clone(),
            title: row.title.clone(),
            host: host.name,
            scenario: row.scenario.clone(),
            check: row.check_id.clone(),
            severity: serde_word("severity", &row.severity)?,
            status: serde_word("status", &row.status)?,
            value: row.value,
            unit: row.unit.clone(),
            text: row.text.clone(),
            opened_at: row.opened_at(),
            thresholds: thresholds(app, row),
        },
        reports,
        metrics: metrics.and_then(|metrics| serde_json::from_value(metrics).ok()),
        proposals,
    })
}

fn thresholds(app: &Shared, row: &FindingRow) -> Option<farol_protocol::report::Limits> {
    let watched = app.watched();
    let scenario = watched.registry.scenarios.iter().find(|scenario| scenario.id == row.scenario)?;
    let check = scenario.checks.iter().find(|check| check.id.as_str() == row.check_id)?;
    check.target.limits().copied().filter(|limits| limits.warning.is_some() || limits.critical.is_some())
}
