//! What A0 says of a day.

use farol_protocol::{Language, Timestamp, registry::Severity};
use jiff::civil::Date;

use super::words::{Measure, clock, duration, number, plain, quote, sentence, severity_word};
use crate::daily::{DailyFacts, DailyProblem, LogCheck, LogReview};

/// Items of a list that are named; the rest is counted.
const NAMED: usize = 10;

/// Subject of the thread of a day.
#[must_use]
pub fn daily_subject(date: Date, language: Language) -> String {
    let date = day(date, language);
    say!(language, "Resumo do dia {date}", "Summary of {date}")
}

fn day(date: Date, language: Language) -> String {
    match language {
        Language::PtBr => date.strftime("%d/%m/%Y").to_string(),
        Language::En => date.to_string(),
    }
}

/// The summary of a day: a heading, then a line a fact. A calm day is one line.
#[must_use]
pub fn summary(facts: &DailyFacts, language: Language) -> String {
    let date = facts.date.parse().map_or_else(|_| plain(&facts.date, 20), |date| day(date, language));
    if facts.is_calm() {
        return say!(
            language,
            "Resumo de {date}: dia calmo. Nada está aberto, nada aconteceu no último dia e nada espera decisão.",
            "Summary of {date}: a calm day. Nothing is open, nothing happened in the last day and nothing waits for a decision.",
        );
    }
    let mut lines = vec![say!(language, "Resumo de {date}.", "Summary of {date}.")];
    open(facts, language, &mut lines);
    course(facts, language, &mut lines);
    let count = facts.suppressed.len();
    let head = say!(language, "Sem aviso por ora: {count}.", "Kept quiet for now: {count}.");
    list(&mut lines, language, head, &facts.suppressed, |one| {
        let why = one.why.as_deref().map(|why| format!(". {}", sentence(&quote(why)))).unwrap_or_default();
        format!("{}{why}", named(one, language))
    });
    let count = facts.waiting.len();
    let head = say!(language, "Esperam aprovação: {count}.", "Waiting for approval: {count}.");
    list(&mut lines, language, head, &facts.waiting, |one| {
        let (what, host, class) = (quote(&one.what), quote(&one.host), one.risk_class);
        let until = clock(one.expires_at, language);
        say!(language, "{host}: {what} ({class}), até {until}", "{host}: {what} ({class}), until {until}")
    });
    let head = say!(language, "Terminam hoje:", "Ending today:");
    list(&mut lines, language, head, &facts.ending, |one| plain(&one.summary, 400));
    let head = say!(language, "Hosts em silêncio:", "Silent hosts:");
    list(&mut lines, language, head, &facts.silent, |one| {
        let host = quote(&one.host);
        match one.last_seen.map(|at| ago(facts.now, at)) {
            Some(ago) => say!(language, "{host}, há {ago}", "{host}, for {ago}"),
            None => say!(language, "{host}, nunca ouvido", "{host}, never heard"),
        }
    });
    let head = say!(language, "Certificados perto do fim:", "Certificates near their end:");
    list(&mut lines, language, head, &facts.certificates, |one| {
        let (host, check, days) = (quote(&one.host), quote(&one.check), number(one.days.floor(), language));
        say!(language, "{host}, {check}: {days} dias", "{host}, {check}: {days} days")
    });
    if facts.unknown_checks > 0 {
        let count = facts.unknown_checks;
        lines.push(if count == 1 {
            say!(
                language,
                "Sem resposta agora: {count} verificação; dela nada se sabe.",
                "Without an answer now: {count} check; nothing is known of it.",
            )
        } else {
            say!(
                language,
                "Sem resposta agora: {count} verificações; delas nada se sabe.",
                "Without an answer now: {count} checks; nothing is known of them.",
            )
        });
    }
    lines.join("\n")
}

/// What is open, by severity.
fn open(facts: &DailyFacts, language: Language, lines: &mut Vec<String>) {
    if facts.open.is_empty() {
        lines.push(say!(language, "Nada aberto.", "Nothing open."));
        return;
    }
    let all = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Info];
    let counts: Vec<String> = all
        .into_iter()
        .map(|severity| (severity, facts.open.iter().filter(|one| one.severity == severity).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(severity, count)| format!("{count} {}", severity_word(severity, language)))
        .collect();
    let (count, counts) = (facts.open.len(), counts.join(", "));
    let head = say!(language, "Abertos: {count} ({counts}).", "Open: {count} ({counts}).");
    list(lines, language, head, &facts.open, |one| {
        let (what, ago) = (named(one, language), ago(facts.now, one.opened_at));
        let by = match one.acknowledged_by.as_deref().map(quote) {
            Some(by) => say!(language, "reconhecido por {by}", "acknowledged by {by}"),
            None => say!(language, "sem reconhecimento", "not acknowledged"),
        };
        say!(language, "{what}, há {ago}, {by}", "{what}, for {ago}, {by}")
    });
}

/// What opened and what ended in the last day.
fn course(facts: &DailyFacts, language: Language, lines: &mut Vec<String>) {
    let (opened, resolved) = (facts.opened(), facts.resolved.len());
    if opened + resolved == 0 {
        lines.push(say!(
            language,
            "No último dia nada abriu nem se resolveu.",
            "In the last day nothing opened or resolved."
        ));
        return;
    }
    let head = say!(
        language,
        "No último dia: abertos {opened}, resolvidos {resolved}.",
        "In the last day: opened {opened}, resolved {resolved}."
    );
    if facts.resolved.is_empty() {
        lines.push(head);
        return;
    }
    list(lines, language, head, &facts.resolved, |one| {
        let (what, lasted) = (named(one, language), ago(one.resolved_at.unwrap_or(facts.now), one.opened_at));
        say!(language, "{what}, resolvido após {lasted}", "{what}, resolved after {lasted}")
    });
}

fn named(one: &DailyProblem, language: Language) -> String {
    format!("[{}] {}: {}", severity_word(one.severity, language), quote(&one.host), quote(&one.title))
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    duration(now.since(at))
}

/// A heading and its items, where there are some.
fn list<T>(lines: &mut Vec<String>, language: Language, head: String, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    lines.push(head);
    lines.extend(items.iter().take(NAMED).map(|item| format!("- {}", line(item))));
    if let Some(more) = items.len().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(say!(language, "- e mais {more}", "- and {more} more"));
    }
}

/// The review of the last day's logs. What nobody looked at is named: its
/// silence is not calm.
#[must_use]
pub fn log_review(review: &LogReview, language: Language) -> String {
    let until = clock(review.until, language);
    let mut lines =
        vec![say!(language, "Erros nos registros no dia até {until}.", "Errors in the logs in the day until {until}.")];
    let all = || review.hosts.iter().flat_map(|host| host.checks.iter().map(move |check| (host.host.as_str(), check)));
    let found: Vec<(&str, &LogCheck)> = all().filter(|(_, check)| check.found()).collect();
    let head = say!(language, "Com erros:", "With errors:");
    list(&mut lines, language, head, &found, |(host, check)| with_errors(host, check, language));
    let blind: Vec<(&str, &LogCheck)> = all().filter(|(_, check)| check.is_blind() && !check.found()).collect();
    let head = say!(language, "Não olharam o dia inteiro:", "Did not look at the whole day:");
    list(&mut lines, language, head, &blind, |(host, check)| partly(host, check, language));
    let is_fine = |check: &LogCheck| !check.found() && !check.is_blind();
    let fine = review.hosts.iter().filter(|host| host.checks.iter().all(is_fine)).map(|host| host.host.as_str());
    if let Some(names) = names(fine, language) {
        lines.push(say!(language, "Sem erros: {names}.", "Without errors: {names}."));
    }
    if let Some(names) = names(review.not_looked_at.iter().map(String::as_str), language) {
        lines.push(say!(
            language,
            "Não olhados, por falta de verificação de diário, unidades ou contêineres: {names}.",
            "Not looked at, for want of a check of journal, units or containers: {names}.",
        ));
    }
    if lines.len() == 1 {
        lines.push(say!(language, "Nenhum host é conhecido.", "No host is known."));
    }
    lines.join("\n")
}

fn with_errors(host: &str, check: &LogCheck, language: Language) -> String {
    let (host, name) = (quote(host), quote(&check.check));
    let when = check.at.map(|at| clock(at, language));
    let mut line = if check.kind == "journal" {
        let value = check.most.map(|value| Measure { value, unit: check.unit.as_deref() }.in_words(language));
        match (value, when) {
            (Some(value), Some(at)) => {
                say!(language, "{host}, {name}: no máximo {value}, em {at}", "{host}, {name}: {value} at most, at {at}")
            }
            _ => format!("{host}, {name}"),
        }
    } else {
        match when {
            Some(at) => say!(language, "{host}, {name}: por último em {at}", "{host}, {name}: last at {at}"),
            None => format!("{host}, {name}"),
        }
    };
    let (bad, reports) = (check.bad, check.reports);
    line.push_str(&say!(
        language,
        "; fora do limite em {bad} de {reports} relatos",
        "; beyond its limit in {bad} of {reports} reports"
    ));
    if let Some(sample) = check.sample.as_deref().map(quote) {
        line.push_str(&format!(": “{sample}”"));
    }
    line
}

/// A check that found nothing, and why that does not say that nothing was there.
fn partly(host: &str, check: &LogCheck, language: Language) -> String {
    let (host, name) = (quote(host), quote(&check.check));
    let LogCheck { expected, reports, unknown, .. } = check;
    let mut line = if *reports == 0 {
        say!(language, "{host}, {name}: nenhum relato", "{host}, {name}: no report")
    } else if *unknown > 0 {
        say!(
            language,
            "{host}, {name}: não pôde olhar em {unknown} de {reports} relatos",
            "{host}, {name}: could not look in {unknown} of {reports} reports"
        )
    } else {
        say!(
            language,
            "{host}, {name}: só {reports} de {expected} relatos esperados",
            "{host}, {name}: only {reports} of {expected} expected reports"
        )
    };
    if let Some(sample) = check.sample.as_deref().map(quote) {
        line.push_str(&format!(": “{sample}”"));
    }
    line
}

/// Names in a row; none where there are none. Hundreds are too many to read.
fn names<'a>(names: impl Iterator<Item = &'a str>, language: Language) -> Option<String> {
    const MOST: usize = 40;
    let all: Vec<String> = names.map(quote).collect();
    let mut text = all.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(more) = all.len().checked_sub(MOST).filter(|more| *more > 0) {
        text.push_str(&say!(language, " e mais {more}", " and {more} more"));
    }
    (!all.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
