//! The T0 text: what the facts say by themselves, without a model.

use std::collections::BTreeSet;

use farol_protocol::{Language, Status};

use super::{
    Advice, Sentence, Source,
    citations::Sources,
    context::{Context, ReportFact},
};
use crate::text::{Measure, Piece};

/// Other bad checks of the host that get a sentence each.
const ALSO: usize = 3;
/// Healthy checks that are named.
const NAMED: usize = 5;

/// Advice from the facts alone.
#[must_use]
pub fn advise(context: &Context, language: Language) -> Advice {
    let mut text = Text { language, sources: Sources::new(context.evidence(language)), sentences: Vec::new() };
    about_the_finding(context, &mut text);
    about_the_host(context, &mut text);
    let ids: Vec<String> = (1..=context.proposals.len()).map(|n| format!("P{n}")).collect();
    for (proposal, id) in context.proposals.iter().zip(&ids) {
        text.say(Piece::CanPropose { summary: &proposal.summary }, &[id]);
    }
    if ids.is_empty() {
        text.say(Piece::NothingToPropose, &["F1"]);
    }
    Advice {
        source: Source::T0,
        sentences: text.sentences,
        model: None,
        fallback_reason: None,
        suggested: context.proposals.iter().map(|proposal| proposal.id.clone()).collect(),
        dropped: 0,
    }
}

struct Text {
    language: Language,
    sources: Sources,
    sentences: Vec<Sentence>,
}

impl Text {
    fn say(&mut self, piece: Piece<'_>, cites: &[impl AsRef<str>]) {
        let cites = cites.iter().filter_map(|id| self.sources.resolve(id.as_ref())).collect();
        self.sentences.push(Sentence { text: piece.in_words(self.language), cites });
    }
}

fn about_the_finding(context: &Context, text: &mut Text) {
    let finding = &context.finding;
    let value = finding.measure();
    text.say(
        Piece::What {
            host: &finding.host,
            check: &finding.check,
            status: finding.status,
            value,
            open_ms: context.open_ms(),
        },
        &["F1"],
    );
    if !finding.text.trim().is_empty() {
        text.say(Piece::Said { check: &finding.check, text: &finding.text }, &["F1"]);
    }
    if let (Some(value), Some(limits)) = (value, finding.thresholds) {
        let level = limits.judge(value.value);
        let limit = match level {
            Status::Critical => limits.critical,
            Status::Warning => limits.warning,
            Status::Ok | Status::Unknown => None,
        };
        match limit {
            Some(limit) => text.say(Piece::Beyond { value, level, limit, worse: limits.worse }, &["F1", "F2"]),
            None if level == Status::Ok && (limits.warning.is_some() || limits.critical.is_some()) => {
                text.say(Piece::Within { value }, &["F1", "F2"]);
            }
            None => {}
        }
    }
    if let Some((id, before)) = reading_before(context) {
        text.say(
            Piece::Before {
                check: &before.check,
                status: before.status,
                value: before.measure(),
                ago_ms: context.now.since(before.observed_at),
            },
            &[id],
        );
    }
}

/// The newest report of the finding's check that tells something else than the
/// finding itself.
fn reading_before(context: &Context) -> Option<(String, &ReportFact)> {
    let finding = &context.finding;
    context
        .ranked()
        .into_iter()
        .enumerate()
        .filter(|(_, report)| report.check == finding.check)
        .find(|(_, report)| report.value != finding.value || report.status != finding.status)
        .map(|(position, report)| (format!("R{}", position + 1), report))
}

fn about_the_host(context: &Context, text: &mut Text) {
    let mut seen = BTreeSet::new();
    // `ranked` puts the newest of each check first, so the first one seen counts.
    let others: Vec<(String, &ReportFact)> = context
        .ranked()
        .into_iter()
        .enumerate()
        .filter(|(_, report)| report.check != context.finding.check && seen.insert(report.check.as_str()))
        .map(|(position, report)| (format!("R{}", position + 1), report))
        .collect();
    let (fine, bad): (Vec<_>, Vec<_>) = others.iter().partition(|(_, report)| report.status == Status::Ok);
    for (id, report) in bad.iter().take(ALSO) {
        let value: Option<Measure<'_>> = report.measure();
        text.say(Piece::Also { check: &report.check, status: report.status, value }, &[id]);
    }
    if others.is_empty() {
        text.say(Piece::NoOthers { host: &context.finding.host }, &["F1"]);
    } else if bad.is_empty() {
        let named: Vec<&str> = fine.iter().take(NAMED).map(|(_, report)| report.check.as_str()).collect();
        let mut checks = named.join(", ");
        if fine.len() > NAMED {
            checks.push_str(", …");
        }
        let ids: Vec<&String> = fine.iter().take(NAMED).map(|(id, _)| id).collect();
        text.say(Piece::OthersFine { count: fine.len(), checks: &checks }, &ids);
    }
    let readings = context.readings(text.language);
    if !readings.is_empty() {
        let ids: Vec<String> = (1..=readings.len()).map(|n| format!("M{n}")).collect();
        text.say(Piece::Host { host: &context.finding.host, readings: &readings.join("; ") }, &ids);
    }
}
