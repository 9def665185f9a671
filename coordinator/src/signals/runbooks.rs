//! The runbooks that are shown beside signals: data in `runbooks.yaml`.

use std::{collections::HashSet, sync::LazyLock};

use farol_protocol::{Status, yaml};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::store::signals::SignalRow;

/// How to deal with a kind of problem.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// Identifier.
    pub id: String,
    /// What people read.
    pub title: String,
    /// What it is good for.
    pub summary: String,
    /// Words that make it belong to a signal.
    pub tags: Vec<String>,
    /// What to do, in order: `title`, `kind` (validate or modify), perhaps `command` and `note`.
    #[schema(value_type = Vec<Object>)]
    pub steps: Vec<Map<String, Value>>,
    /// What a language model is asked, before the facts.
    pub prompt_template: String,
}

/// What to do about a recent signal.
#[derive(Debug, Serialize, ToSchema)]
pub struct Suggestion {
    /// What the signal said.
    pub summary: String,
    /// Why these runbooks.
    pub reason: String,
    /// The runbooks.
    pub related_runbook_ids: Vec<&'static str>,
    /// The signal's.
    pub severity: String,
    /// The signal.
    pub signal_id: i64,
}

static CATALOGUE: LazyLock<Vec<Runbook>> = LazyLock::new(|| {
    yaml::read(include_str!("runbooks.yaml")).unwrap_or_else(|mistake| unreachable!("runbooks.yaml: {mistake}"))
});

/// All of them.
#[must_use]
pub fn all() -> &'static [Runbook] {
    &CATALOGUE
}

/// Those that belong to a signal, each with the tag that says so: it occurs in
/// the summary, the kind, or a name in the detail.
#[must_use]
pub fn matching(kind: &str, summary: &str, detail: &Map<String, Value>) -> Vec<(&'static Runbook, &'static str)> {
    let said: Vec<String> =
        [summary, kind].into_iter().chain(detail.keys().map(String::as_str)).map(str::to_lowercase).collect();
    let tag = |runbook: &'static Runbook| {
        runbook.tags.iter().find(|tag| said.iter().any(|text| text.contains(&tag.to_lowercase())))
    };
    all().iter().filter_map(|runbook| Some((runbook, tag(runbook)?.as_str()))).collect()
}

/// What to do about the problems that `newest_first` tells: one suggestion for
/// each check whose newest signal is bad and has a runbook.
#[must_use]
pub fn suggestions(newest_first: &[SignalRow]) -> Vec<Suggestion> {
    let mut seen = HashSet::new();
    newest_first
        .iter()
        .filter(|row| seen.insert((row.host, &row.check)) && row.status != Status::Ok)
        .filter_map(|row| {
            let matching = matching(&row.kind, &row.summary, &row.detail);
            let titles: Vec<String> =
                matching.iter().map(|(runbook, tag)| format!("{} ({tag})", runbook.title)).collect();
            (!matching.is_empty()).then(|| Suggestion {
                summary: row.summary.clone(),
                reason: format!("O sinal {} combina com: {}.", row.kind, titles.join("; ")),
                related_runbook_ids: matching.iter().map(|(runbook, _)| runbook.id.as_str()).collect(),
                severity: row.severity.clone(),
                signal_id: row.id,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ids(kind: &str, summary: &str, detail: Value) -> Vec<&'static str> {
        let detail = detail.as_object().cloned().unwrap_or_default();
        matching(kind, summary, &detail).into_iter().map(|(runbook, _)| runbook.id.as_str()).collect()
    }

    #[test]
    fn the_catalogue_is_sound() {
        let mut ids = HashSet::new();
        for runbook in all() {
            assert!(ids.insert(&runbook.id), "{} is there twice", runbook.id);
            assert!(!runbook.tags.is_empty() && !runbook.prompt_template.trim().is_empty(), "{}", runbook.id);
            for step in &runbook.steps {
                assert!(step["title"].is_string(), "{}", runbook.id);
                assert!(["validate", "modify"].contains(&step["kind"].as_str().unwrap_or_default()), "{}", runbook.id);
            }
            assert!(runbook.steps.iter().any(|step| step["kind"] == "validate"), "{}", runbook.id);
        }
        for wanted in ["rb-docker-container-down", "rb-docker-restart-count", "rb-gateway-latency", "rb-disk-full"] {
            assert!(ids.contains(&wanted.to_owned()), "{wanted}");
        }
    }

    #[test]
    fn a_tag_counts_in_the_summary_the_kind_and_the_names_of_the_detail() {
        assert_eq!(ids("container_down", "web", json!({})), ["rb-docker-container-down"]);
        assert_eq!(ids("x", "Container DOWN: web", json!({})), ["rb-docker-container-down"]);
        assert_eq!(ids("x", "y", json!({"restart_count": 7})), ["rb-docker-restart-count"]);
        assert_eq!(ids("agent_facts", "y", json!({"gateway_latency_ms": 140})), ["rb-gateway-latency"]);
        assert_eq!(ids("x", "y", json!({"note": "container_down"})), Vec::<&str>::new(), "a value is no name");
    }
}
