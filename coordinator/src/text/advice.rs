//! Sentences of the deterministic advice, and the facts that advice cites.

use farol_protocol::{Language, Status, Timestamp, registry::Severity, report::Worse};

use super::words::{Measure, clock, duration, number, quote, severity_word, stated, status_word};

/// Pieces of the deterministic advice, each a sentence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Piece<'a> {
    /// What is wrong, and for how long.
    What {
        /// Host.
        host: &'a str,
        /// Check.
        check: &'a str,
        /// What it says.
        status: Status,
        /// What it measures.
        value: Option<Measure<'a>>,
        /// How long the finding has been open.
        open_ms: i64,
    },
    /// What the check said.
    Said {
        /// Check.
        check: &'a str,
        /// Its words.
        text: &'a str,
    },
    /// The value lies beyond a threshold.
    Beyond {
        /// The value.
        value: Measure<'a>,
        /// Which threshold.
        level: Status,
        /// The threshold, in the value's unit.
        limit: f64,
        /// Which side is bad.
        worse: Worse,
    },
    /// The value lies within its thresholds.
    Within {
        /// The value.
        value: Measure<'a>,
    },
    /// The reading before.
    Before {
        /// Check.
        check: &'a str,
        /// What it said.
        status: Status,
        /// What it measured.
        value: Option<Measure<'a>>,
        /// How long ago.
        ago_ms: i64,
    },
    /// Another check of the host is bad too.
    Also {
        /// Check.
        check: &'a str,
        /// What it says.
        status: Status,
        /// What it measures.
        value: Option<Measure<'a>>,
    },
    /// The host's other checks are healthy.
    OthersFine {
        /// How many.
        count: usize,
        /// Their names.
        checks: &'a str,
    },
    /// Nothing is known of the host's other checks.
    NoOthers {
        /// Host.
        host: &'a str,
    },
    /// What the host measures.
    Host {
        /// Host.
        host: &'a str,
        /// Readings, see [`Reading`].
        readings: &'a str,
    },
    /// What A7 may propose.
    CanPropose {
        /// The proposal.
        summary: &'a str,
    },
    /// A7 has nothing.
    NothingToPropose,
}

impl Piece<'_> {
    /// The piece in words.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        match *self {
            Self::What { host, check, status, value, open_ms } => {
                let (status, open) = (status_word(status, language), duration(open_ms));
                let value = value.map_or_else(String::new, |value| format!(", {}", value.in_words(language)));
                say!(
                    language,
                    "Em {host}, {check}: {status}{value}. O achado está aberto há {open}.",
                    "On {host}, {check}: {status}{value}. The finding has been open for {open}.",
                )
            }
            Self::Said { check, text } => {
                let text = quote(text);
                say!(language, "{check} informou: “{text}”.", "{check} reported: “{text}”.")
            }
            Self::Beyond { value, level, limit, worse } => {
                let (level, limit) =
                    (status_word(level, language), Measure { value: limit, unit: value.unit }.in_words(language));
                let value = value.in_words(language);
                match worse {
                    Worse::Above => say!(
                        language,
                        "{value} atinge o nível “{level}”, que começa em {limit}.",
                        "{value} reaches the “{level}” level, which starts at {limit}.",
                    ),
                    Worse::Below => say!(
                        language,
                        "{value} atinge o nível “{level}”, que vale de {limit} para baixo.",
                        "{value} reaches the “{level}” level, which holds from {limit} down.",
                    ),
                }
            }
            Self::Within { value } => {
                let value = value.in_words(language);
                say!(
                    language,
                    "{value} está dentro dos limites; o problema não é esse valor.",
                    "{value} is within its thresholds; the trouble is not this value.",
                )
            }
            Self::Before { check, status, value, ago_ms } => {
                let (status, ago) = (status_word(status, language), duration(ago_ms));
                let value = value.map_or_else(String::new, |value| format!(", {}", value.in_words(language)));
                say!(
                    language,
                    "Leitura anterior de {check}, há {ago}: {status}{value}.",
                    "Reading of {check} before that, {ago} ago: {status}{value}.",
                )
            }
            Self::Also { check, status, value } => {
                let status = status_word(status, language);
                let value = value.map_or_else(String::new, |value| format!(", {}", value.in_words(language)));
                say!(
                    language,
                    "No mesmo host, também fora do normal: {check}, {status}{value}.",
                    "Also out of order on the same host: {check}, {status}{value}.",
                )
            }
            Self::OthersFine { count, checks } => say!(
                language,
                "Sem problema nas outras verificações recentes do host ({count}): {checks}.",
                "No trouble in the host's other recent checks ({count}): {checks}.",
            ),
            Self::NoOthers { host } => say!(
                language,
                "Não há relato recente de outras verificações de {host}.",
                "There is no recent report from other checks on {host}.",
            ),
            Self::Host { host, readings } => {
                say!(language, "Leituras de {host}: {readings}.", "Readings of {host}: {readings}.")
            }
            Self::CanPropose { summary } => {
                let summary = quote(summary);
                say!(language, "O Remediador pode propor: {summary}.", "Remediador may propose: {summary}.")
            }
            Self::NothingToPropose => say!(
                language,
                "Não há ação cadastrada para este achado; a causa precisa de uma pessoa.",
                "No action is registered for this finding; the cause needs a person.",
            ),
        }
    }
}

/// Facts that advice cites, as the model and the operator read them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fact<'a> {
    /// The finding.
    Finding {
        /// Title.
        title: &'a str,
        /// Host.
        host: &'a str,
        /// Scenario.
        scenario: &'a str,
        /// Check.
        check: &'a str,
        /// How bad.
        severity: Severity,
        /// What the check says.
        status: Status,
        /// What it measures.
        value: Option<Measure<'a>>,
        /// What it said.
        text: &'a str,
        /// When it opened.
        opened_at: Timestamp,
        /// How long ago that is.
        open_ms: i64,
    },
    /// Thresholds of its value.
    Thresholds {
        /// Check.
        check: &'a str,
        /// Warning.
        warning: Option<Measure<'a>>,
        /// Critical.
        critical: Option<Measure<'a>>,
        /// Which side is bad.
        worse: Worse,
    },
    /// A report.
    Report {
        /// Check.
        check: &'a str,
        /// What it says.
        status: Status,
        /// What it measures.
        value: Option<Measure<'a>>,
        /// What it said.
        text: &'a str,
        /// How long ago.
        ago_ms: i64,
    },
    /// An action that may be proposed.
    Proposal {
        /// What it does.
        summary: &'a str,
    },
}

impl Fact<'_> {
    /// The fact in words.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        match *self {
            Self::Finding { title, host, scenario, check, severity, status, value, text, opened_at, open_ms } => {
                let (title, text) = (quote(title), stated(text));
                let (severity, status) = (severity_word(severity, language), status_word(status, language));
                let (opened, open) = (clock(opened_at, language), duration(open_ms));
                let value = value.map_or_else(String::new, |value| format!(", {}", value.in_words(language)));
                say!(
                    language,
                    "achado {severity} em {host} (cenário {scenario}): {title}; {check}: {status}{value}; \
                     aberto há {open}, desde {opened}.{text}",
                    "{severity} finding on {host} (scenario {scenario}): {title}; {check}: {status}{value}; \
                     open for {open}, since {opened}.{text}",
                )
            }
            Self::Thresholds { check, warning, critical, worse } => {
                let side = match (worse, language) {
                    (Worse::Above, Language::PtBr) => "ou mais",
                    (Worse::Above, Language::En) => "or more",
                    (Worse::Below, Language::PtBr) => "ou menos",
                    (Worse::Below, Language::En) => "or less",
                };
                let levels: Vec<String> = [(Status::Warning, warning), (Status::Critical, critical)]
                    .into_iter()
                    .filter_map(|(level, limit)| {
                        let (level, limit) = (status_word(level, language), limit?.in_words(language));
                        Some(format!("{level}: {limit} {side}"))
                    })
                    .collect();
                let levels = levels.join("; ");
                say!(language, "limites de {check}: {levels}", "thresholds of {check}: {levels}")
            }
            Self::Report { check, status, value, text, ago_ms } => {
                let (status, ago, text) = (status_word(status, language), duration(ago_ms), stated(text));
                let value = value.map_or_else(String::new, |value| format!(", {}", value.in_words(language)));
                say!(
                    language,
                    "relato de {check}, há {ago}: {status}{value}.{text}",
                    "report of {check}, {ago} ago: {status}{value}.{text}",
                )
            }
            Self::Proposal { summary } => {
                let summary = quote(summary);
                say!(language, "ação que pode ser proposta: {summary}", "action that may be proposed: {summary}")
            }
        }
    }
}

/// One reading of a host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading<'a> {
    /// CPU in use, per cent.
    Cpu(f64),
    /// Load averages of 1, 5 and 15 minutes.
    Load([f64; 3]),
    /// Memory in use, per cent.
    Memory(f64),
    /// Swap in use, per cent.
    Swap(f64),
    /// A file system in use, per cent.
    Disk(&'a str, f64),
    /// Seconds since boot.
    Uptime(u64),
}

impl Reading<'_> {
    /// The reading in words.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        let percent = |value| Measure { value, unit: Some("%") }.in_words(language);
        match *self {
            Self::Cpu(value) => {
                let value = percent(value);
                say!(language, "CPU em {value}", "CPU at {value}")
            }
            Self::Load(values) => {
                let values = values.map(|value| number(value, language)).join(" / ");
                say!(language, "carga de 1, 5 e 15 min: {values}", "load over 1, 5 and 15 min: {values}")
            }
            Self::Memory(value) => {
                let value = percent(value);
                say!(language, "memória em {value}", "memory at {value}")
            }
            Self::Swap(value) => {
                let value = percent(value);
                say!(language, "swap em {value}", "swap at {value}")
            }
            Self::Disk(mount, value) => {
                let (mount, value) = (quote(mount), percent(value));
                say!(language, "disco {mount} em {value}", "disk {mount} at {value}")
            }
            Self::Uptime(seconds) => {
                let up = duration(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000));
                say!(language, "ligado há {up}", "up for {up}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_763_618_400_000;

    #[test]
    fn every_piece_fact_and_reading_differs_between_the_languages_and_keeps_its_values() {
        let (host, check, text) = ("vm112", "disk.root", "quase cheio");
        let measure = Measure { value: 91.5, unit: Some("load/core") };
        let value = Some(measure);
        let status = Status::Critical;
        let opened_at = Timestamp::from_ms(AT);
        let both = |words: &dyn Fn(Language) -> String, values: &[&str]| {
            let (pt, en) = (words(Language::PtBr), words(Language::En));
            assert_ne!(pt, en);
            for (text, decimal) in [(&pt, ","), (&en, ".")] {
                for value in values {
                    assert!(text.contains(&value.replace('.', decimal)) || text.contains(value), "{value}: {text}");
                }
            }
        };
        let pieces: [(Piece<'_>, &[&str]); 12] = [
            (Piece::What { host, check, status, value, open_ms: 60_000 }, &[host, check, "91.5", "1 min"]),
            (Piece::Said { check, text }, &[check, text]),
            (Piece::Beyond { value: measure, level: status, limit: 90.0, worse: Worse::Above }, &["91.5", "90"]),
            (Piece::Beyond { value: measure, level: status, limit: 95.0, worse: Worse::Below }, &["91.5", "95"]),
            (Piece::Within { value: measure }, &["91.5"]),
            (Piece::Before { check, status, value, ago_ms: 300_000 }, &[check, "91.5", "5 min"]),
            (Piece::Also { check, status, value }, &[check, "91.5"]),
            (Piece::OthersFine { count: 2, checks: "a, b" }, &["2", "a, b"]),
            (Piece::NoOthers { host }, &[host]),
            (Piece::Host { host, readings: "x" }, &[host, "x"]),
            (Piece::CanPropose { summary: "y" }, &["y"]),
            (Piece::NothingToPropose, &[]),
        ];
        for (piece, values) in pieces {
            both(&|language| piece.in_words(language), values);
        }
        let facts: [(Fact<'_>, &[&str]); 4] = [
            (
                Fact::Finding {
                    title: "Disco",
                    host,
                    scenario: "base",
                    check,
                    severity: Severity::Low,
                    status,
                    value,
                    text,
                    opened_at,
                    open_ms: 60_000,
                },
                &["Disco", host, "base", check, "91.5", "Quase cheio", "1 min"],
            ),
            (Fact::Thresholds { check, warning: value, critical: None, worse: Worse::Below }, &[check, "91.5"]),
            (Fact::Report { check, status, value, text, ago_ms: 5_000 }, &[check, "91.5", "Quase cheio", "5 s"]),
            (Fact::Proposal { summary: "z" }, &["z"]),
        ];
        for (fact, values) in facts {
            both(&|language| fact.in_words(language), values);
        }
        let readings: [(Reading<'_>, &[&str]); 5] = [
            (Reading::Cpu(34.5), &["34.5%"]),
            (Reading::Load([0.5, 1.0, 2.0]), &["0.5 / 1 / 2"]),
            (Reading::Memory(71.0), &["71%"]),
            (Reading::Disk("/srv", 88.0), &["/srv", "88%"]),
            (Reading::Uptime(90_061), &["1 d 1 h"]),
        ];
        for (reading, values) in readings {
            both(
                &|language| reading.in_words(language),
                if matches!(reading, Reading::Load(_)) { &[] } else { values },
            );
        }
        assert_eq!(Reading::Load([0.5, 1.0, 2.0]).in_words(Language::PtBr), "carga de 1, 5 e 15 min: 0,5 / 1 / 2");
    }
}
