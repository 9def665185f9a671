//! Effects of the correlator become what personas say and what leaves the house.

use farol_protocol::{
    RiskClass, Timestamp,
    registry::{Persona, Proposal as Proposed},
};
use uuid::Uuid;

use crate::{
    app::Shared,
    auth::Operator,
    correlate::{Effect, Hidden, QuietKind, SILENCE, Tell, Transition},
    error::Result,
    notify::{self, Telling, What},
    remediation::{self, Proposal},
    store::{
        actions::NewAction,
        correlation::Change,
        findings::{Decision, FindingRow},
        hosts::{Enrolment, HostRow},
        inbox::Note,
        serde_word,
    },
    text::{self, Course, Measure, Message},
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

/// What a finding is called, and who speaks of it.
struct Named {
    scenario: String,
    title: String,
    persona: Persona,
}

/// As the registry says, or as it said when the finding opened.
async fn named(app: &Shared, effect: &Effect) -> Result<Option<Named>> {
    let (host, check) = &effect.key;
    if let Some(rule) = app.watched().rules.of(&effect.key) {
        let (scenario, title) = (rule.scenario.clone(), rule.title_of(check));
        return Ok(Some(Named { scenario, title, persona: rule.persona }));
    }
    let Some(row) = app.store.finding_of(*host, check, effect.episode).await? else { return Ok(None) };
    Ok(Some(Named { persona: serde_word("persona", &row.persona)?, scenario: row.scenario, title: row.title }))
}

/// Puts an effect into words. `None` for a check that the registry no longer
/// has and of which no finding is known.
///
/// # Errors
/// The store failed.
pub async fn change(app: &Shared, effect: Effect, by: Option<&ByPerson<'_>>, now: Timestamp) -> Result<Option<Change>> {
    let Some(Named { scenario, title, persona }) = named(app, &effect).await? else { return Ok(None) };
    let host = app.store.host_by_key(effect.key.0).await?;
    let fingerprint = fingerprint(&host.name, effect.key.1.as_str());
    let finding_id = Uuid::now_v7().to_string();
    let key = format!("{fingerprint}/{}", effect.episode);
    let about = About { host: &host.name, title: &title, persona };
    let body = words(app, &effect, about, by, now).await?;
    let kind = match effect.transition {
        Transition::Opened => "finding",
        Transition::Acknowledged => "acknowledged",
        Transition::Resolved | Transition::AllResolved => "resolved",
        _ => "update",
    };
    let author = by.map_or(persona.as_str(), |by| by.name).to_owned();
    let told = match effect.tell {
        Some(Tell::Problem) => Some(What::Problem),
        Some(Tell::Recovery) => Some(What::Recovery),
        Some(Tell::Grew) => match effect.transition {
            Transition::Grew(n) => Some(What::Grew(n)),
            _ => None,
        },
        None => None,
    };
    let messages = match told {
        None => Vec::new(),
        Some(what) => {
            // What waited is told as the problem that it is, not as the end of a wait.
            let body = if what == What::Problem { problem(app, &effect, about, now).await? } else { body.clone() };
            let telling = Telling {
                what,
                fingerprint: &fingerprint,
                episode: effect.episode,
                scenario: &scenario,
                persona,
                host: &host.name,
                site: host.site.as_deref(),
                severity: effect.severity,
                title: &title,
                body: &body,
                since: effect.since,
                now,
            };
            notify::messages(app, &telling)
        }
    };
    // What is a consequence has another remedy.
    let is_consequence = matches!(effect.hidden, Some(Hidden::Cause { .. }));
    let proposal = match (effect.transition, proposed(app, &scenario)) {
        (Transition::Opened, Some(entry)) if !is_consequence => {
            proposal(app, &entry, &host, &finding_id, &key, &body, now).await?
        }
        _ => None,
    };
    Ok(Some(Change {
        finding_id,
        fingerprint,
        scenario,
        persona,
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
        effect,
    }))
}

/// What is said when a person decides on a finding whose check is gone.
#[must_use]
pub fn decision(app: &Shared, finding: &FindingRow, decision: Decision, by: &ByPerson<'_>) -> Note {
    let language = app.language();
    let (kind, body) = match decision {
        Decision::Acknowledge => {
            ("acknowledged", Message::FindingAcknowledged { by: by.name, comment: by.comment }.in_words(language))
        }
        Decision::Close => ("resolved", Course::Closed { by: by.name, comment: by.comment }.in_words(language)),
    };
    Note {
        author: by.name.to_owned(),
        by_person: true,
        kind,
        body,
        effect_key: format!("{}/{}/{kind}", finding.fingerprint, finding.episode),
    }
}

#[derive(Clone, Copy)]
struct About<'a> {
    host: &'a str,
    title: &'a str,
    persona: Persona,
}

async fn words(
    app: &Shared,
    effect: &Effect,
    about: About<'_>,
    by: Option<&ByPerson<'_>>,
    now: Timestamp,
) -> Result<String> {
    let (language, report, About { host, title, persona }) = (app.language(), &effect.report, about);
    let value = report.value.map(|value| Measure { value, unit: report.unit.as_deref() });
    let is_silence = effect.key.1.as_str() == SILENCE;
    let lasted_ms = effect.ended_at(now).since(effect.since).max(0);
    Ok(match effect.transition {
        Transition::Opened => problem(app, effect, about, now).await?,
        Transition::Resolved if by.is_some() => {
            let by = by.map(|by| Course::Closed { by: by.name, comment: by.comment });
            by.map(|closed| closed.in_words(language)).unwrap_or_default()
        }
        Transition::Resolved if is_silence => Message::AgentBack { host, silent_ms: lasted_ms }.in_words(language),
        Transition::Resolved => {
            Message::FindingResolved { persona, host, title, lasted_ms, text: &report.text, value }.in_words(language)
        }
        Transition::Changed(_) => {
            let from = effect.before.unwrap_or(effect.status);
            if from == effect.status {
                Course::Risen { open_ms: now.since(effect.since).max(0) }.in_words(language)
            } else {
                let change = text::Change::Status { from, to: effect.status };
                Message::FindingUpdated { persona, host, title, change, text: &report.text, value }.in_words(language)
            }
        }
        Transition::Acknowledged => {
            Message::FindingAcknowledged { by: by.map_or("farol", |by| by.name), comment: by.and_then(|by| by.comment) }
                .in_words(language)
        }
        Transition::Hidden(_) => why_hidden(app, effect).await?.unwrap_or_default(),
        Transition::Shown(_) | Transition::Told => Course::Shown.in_words(language),
        Transition::Grew(_) => {
            let names = app.store.host_names().await?;
            let mut hosts: Vec<&str> =
                effect.members.iter().filter_map(|key| names.get(key)).map(String::as_str).collect();
            hosts.sort_unstable();
            Course::Grew { hosts: &hosts.join(", "), title }.in_words(language)
        }
        Transition::AllResolved => Course::AllResolved { title }.in_words(language),
    })
}

/// The problem as it is now.
async fn problem(app: &Shared, effect: &Effect, about: About<'_>, now: Timestamp) -> Result<String> {
    let (language, report, About { host, title, persona }) = (app.language(), &effect.report, about);
    let value = report.value.map(|value| Measure { value, unit: report.unit.as_deref() });
    let last_seen = app.fleet.last_seen(effect.key.0);
    let mut text = if effect.key.1.as_str() == SILENCE {
        let silent_ms = now.since(last_seen.unwrap_or(effect.since)).max(0);
        Message::AgentSilent { host, last_seen, silent_ms }.in_words(language)
    } else {
        let stale = effect.stale.then(|| Course::NoReports { since: report.observed_at }.in_words(language));
        let value = value.filter(|_| stale.is_none());
        let (severity, since) = (effect.severity, effect.since);
        let text = stale.as_deref().unwrap_or(&report.text);
        Message::FindingOpened { persona, severity, host, title, text, value, since }.in_words(language)
    };
    let more = [effect.flapping.then(|| Course::Flapping.in_words(language)), why_hidden(app, effect).await?];
    for more in more.into_iter().flatten() {
        text.push(' ');
        text.push_str(&more);
    }
    Ok(text)
}

/// Why it is not told.
async fn why_hidden(app: &Shared, effect: &Effect) -> Result<Option<String>> {
    let language = app.language();
    Ok(match &effect.hidden {
        Some(Hidden::Cause { host, check, .. }) => {
            let name = app.store.host_by_key(*host).await?.name;
            let title = app.watched().rules.of(&(*host, check.clone())).map(|rule| rule.title_of(check));
            let title = title.unwrap_or_else(|| check.to_string());
            Some(Course::Caused { title: &title, host: &name }.in_words(language))
        }
        Some(Hidden::Group { host, .. }) => {
            let host = app.store.host_by_key(*host).await?.name;
            Some(Course::Joined { host: &host }.in_words(language))
        }
        Some(Hidden::Quiet { kind, .. }) => Some(
            match kind {
                QuietKind::Silence => Course::Silenced,
                QuietKind::Maintenance => Course::InMaintenance,
                QuietKind::Backup => Course::InBackup,
            }
            .in_words(language),
        ),
        Some(Hidden::Waits { .. }) | None => None,
    })
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
        seen: None,
        look_id: None,
    };
    let (action, effect) = proposal.plan(now)?;
    let note = remediation::proposal_note(app, &action, &effect, &host.name);
    Ok(Some((action, note)))
}
