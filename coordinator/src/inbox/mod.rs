//! Effects of the correlator become what personas say and what leaves the house.

use farol_protocol::{
    RiskClass, Timestamp,
    registry::{Persona, Proposal as Proposed},
};
use uuid::Uuid;

use crate::{
    app::Shared,
    auth::Operator,
    correlate::{CheckState, Effect, SILENCE, Transition},
    error::Result,
    notify::{self, Telling, What},
    remediation::{self, Proposal},
    store::{
        actions::NewAction,
        correlation::Change,
        findings::FindingRow,
        hosts::{Enrolment, HostRow},
        inbox::Note,
    },
    text::{self, Measure, Message},
};

/// Identity of a finding, the same in each of its episodes.
#[must_use]
pub fn fingerprint(host: &str, check: &str) -> String {
    format!("{host}:{check}")
}

/// Who acknowledged, and what they said.
#[derive(Debug)]
pub struct ByPerson<'a> {
    /// Name.
    pub name: &'a str,
    /// Comment.
    pub comment: Option<&'a str>,
}

/// Puts an effect into words. `None` for a check that the registry no longer has.
///
/// # Errors
/// The store failed.
pub async fn change(
    app: &Shared,
    effect: Effect,
    state: CheckState,
    by: Option<ByPerson<'_>>,
    now: Timestamp,
) -> Result<Option<Change>> {
    let watched = app.watched();
    let Some(rule) = watched.rules.of(&effect.key) else { return Ok(None) };
    let title = rule.title_of(&effect.key.1);
    let host = app.store.host_by_key(effect.key.0).await?;
    let fingerprint = fingerprint(&host.name, effect.key.1.as_str());
    let finding_id = Uuid::now_v7().to_string();
    let key = format!("{fingerprint}/{}", effect.episode);
    let body = words(app, &effect, &host.name, &title, rule.persona, by.as_ref(), now);
    let kind = match effect.transition {
        Transition::Opened => "finding",
        Transition::Changed(_) => "update",
        Transition::Acknowledged => "acknowledged",
        Transition::Resolved => "resolved",
    };
    let author = by.as_ref().map_or(rule.persona.as_str(), |by| by.name).to_owned();
    let messages = told(effect.transition).map_or_else(Vec::new, |what| {
        let telling = Telling {
            what,
            fingerprint: &fingerprint,
            episode: effect.episode,
            scenario: &rule.scenario,
            persona: rule.persona,
            host: &host.name,
            site: host.site.as_deref(),
            severity: effect.severity,
            title: &title,
            body: &body,
            since: effect.since,
            now,
        };
        notify::messages(app, &telling)
    });
    let proposal = match (effect.transition, proposed(app, &rule.scenario)) {
        (Transition::Opened, Some(entry)) => proposal(app, &entry, &host, &finding_id, &key, &body, now).await?,
        _ => None,
    };
    Ok(Some(Change {
        finding_id,
        fingerprint,
        scenario: rule.scenario.clone(),
        persona: rule.persona,
        subject: Message::ThreadSubject { host: &host.name, title: &title }.in_words(app.language()),
        title,
        actor: author.clone(),
        note: Note {
            author,
            by_person: by.is_some(),
            kind,
            body,
            effect_key: format!("{key}/{}", effect.transition.as_key()),
        },
        messages,
        proposal,
        state,
        effect,
    }))
}

/// What is said when a person acknowledges a finding whose check is gone.
#[must_use]
pub fn acknowledgement(app: &Shared, finding: &FindingRow, by: &ByPerson<'_>) -> Note {
    Note {
        author: by.name.to_owned(),
        by_person: true,
        kind: "acknowledged",
        body: Message::FindingAcknowledged { by: by.name, comment: by.comment }.in_words(app.language()),
        effect_key: format!("{}/{}/acknowledged", finding.fingerprint, finding.episode),
    }
}

fn words(
    app: &Shared,
    effect: &Effect,
    host: &str,
    title: &str,
    persona: Persona,
    by: Option<&ByPerson<'_>>,
    now: Timestamp,
) -> String {
    let (language, report) = (app.language(), &effect.report);
    let value = report.value.map(|value| Measure { value, unit: report.unit.as_deref() });
    let silence = effect.key.1.as_str() == SILENCE;
    let lasted_ms = report.observed_at.since(effect.since).max(0);
    match effect.transition {
        Transition::Opened if silence => Message::AgentSilent {
            host,
            last_seen: app.fleet.last_seen(effect.key.0),
            silent_ms: app.fleet.last_seen(effect.key.0).map_or(lasted_ms, |seen| now.since(seen)),
        },
        Transition::Resolved if silence => Message::AgentBack { host, silent_ms: lasted_ms },
        Transition::Opened => Message::FindingOpened {
            persona,
            severity: effect.severity,
            host,
            title,
            text: &report.text,
            value,
            since: effect.since,
        },
        Transition::Changed(_) => Message::FindingUpdated {
            persona,
            host,
            title,
            change: text::Change::Status { from: effect.before.unwrap_or(report.status), to: report.status },
            text: &report.text,
            value,
        },
        Transition::Acknowledged => {
            Message::FindingAcknowledged { by: by.map_or("farol", |by| by.name), comment: by.and_then(|by| by.comment) }
        }
        Transition::Resolved => Message::FindingResolved { persona, host, title, lasted_ms, text: &report.text, value },
    }
    .in_words(language)
}

/// What is told of an effect beside the thread.
const fn told(transition: Transition) -> Option<What> {
    match transition {
        Transition::Opened | Transition::Changed(_) => Some(What::Problem),
        Transition::Resolved => Some(What::Recovery),
        Transition::Acknowledged => None,
    }
}

fn proposed(app: &Shared, scenario: &str) -> Option<Proposed> {
    app.watched().registry.scenarios.iter().find(|known| known.id == scenario)?.propose.clone()
}

/// A7 proposes what the registry allows for the scenario, if its host has an
/// agent that could do it.
async fn proposal(
    app: &Shared,
    entry: &Proposed,
    finding_host: &HostRow,
    finding_id: &str,
    key: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Option<(NewAction, Note)>> {
    let other;
    let host = match &entry.host {
        Some(name) if *name != finding_host.name => {
            other = app.store.host(name).await?;
            &other
        }
        _ => finding_host,
    };
    if host.enrolment != Enrolment::Enrolled || host.effects_allowed == Some(false) || host.protocol == Some(0) {
        tracing::info!(agent_id = host.id.as_str(), "no action is proposed: the host's agent could not run it");
        return Ok(None);
    }
    let proposal = Proposal {
        by: &Operator::persona(Persona::A7),
        host: (host.key, &host.id),
        kind: entry.kind,
        params: entry.params.clone(),
        reason,
        at_least: RiskClass::R0,
        finding_id: Some(finding_id.to_owned()),
        effect_key: Some(format!("{key}/proposal")),
    };
    let (action, effect) = proposal.plan(now)?;
    let note = remediation::proposal_note(app, &action, &effect, &host.name);
    Ok(Some((action, note)))
}
