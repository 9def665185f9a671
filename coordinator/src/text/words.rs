//! Words, numbers and times in both languages.

use farol_protocol::{
    Effect, Language, RiskClass, Status, Timestamp,
    action::{FinalState, ReasonCode},
    effect::{LogSource, ServiceVerb},
    registry::Severity,
    remediation::{Phase, Remediation, Verdict},
};
use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// Longest text of a host or a person within a message, in characters.
const QUOTE_CHARS: usize = 300;

/// A number with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure<'a> {
    /// The number.
    pub value: f64,
    /// `ms`, `%`, `count`, `load/core` or anything a check names.
    pub unit: Option<&'a str>,
}

impl Measure<'_> {
    /// `88,4%`, `412 ms`, `312`.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        let value = number(self.value, language);
        match self.unit.map(quote).as_deref() {
            None | Some("" | "count") => value,
            Some("%") => format!("{value}%"),
            Some("load/core") => say!(language, "{value} por núcleo", "{value} per core"),
            Some(unit) => format!("{value} {unit}"),
        }
    }
}

/// What an action does: `reiniciar o serviço portal`.
#[must_use]
pub fn effect(effect: &Effect, language: Language) -> String {
    match effect {
        Effect::CommandExec(exec) => {
            let line = plain(
                &std::iter::once(&exec.command).chain(&exec.args).fold(String::new(), |line, word| {
                    // Words with spaces are quoted: an operator must see where one ends.
                    let gap = if line.is_empty() { "" } else { " " };
                    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '"') {
                        format!("{line}{gap}{word:?}")
                    } else {
                        format!("{line}{gap}{word}")
                    }
                }),
                QUOTE_CHARS,
            );
            say!(language, "executar `{line}`", "run `{line}`")
        }
        Effect::ServiceControl(control) => {
            let service = quote(&control.service);
            match control.verb {
                ServiceVerb::Start => say!(language, "iniciar o serviço {service}", "start the service {service}"),
                ServiceVerb::Stop => say!(language, "parar o serviço {service}", "stop the service {service}"),
                ServiceVerb::Restart => {
                    say!(language, "reiniciar o serviço {service}", "restart the service {service}")
                }
            }
        }
        Effect::ContainerControl(control) => {
            let container = quote(&control.container);
            match control.verb {
                ServiceVerb::Start => {
                    say!(language, "iniciar o contêiner {container}", "start the container {container}")
                }
                ServiceVerb::Stop => say!(language, "parar o contêiner {container}", "stop the container {container}"),
                ServiceVerb::Restart => {
                    say!(language, "reiniciar o contêiner {container}", "restart the container {container}")
                }
            }
        }
        Effect::FileDiff(diff) => {
            let path = quote(&diff.path);
            say!(
                language,
                "comparar o arquivo {path} com o conteúdo desejado",
                "compare the file {path} with what is wanted"
            )
        }
        Effect::FileApply(apply) => {
            let path = quote(&apply.path);
            say!(language, "alterar o arquivo {path}", "change the file {path}")
        }
        Effect::FileRollback(rollback) => {
            let id = rollback.action_id;
            say!(language, "desfazer a alteração de arquivo da ação {id}", "undo the file change of action {id}")
        }
        Effect::LogsRead(read) => {
            let (LogSource::Unit(source) | LogSource::Path(source)) = &read.source;
            let source = quote(source);
            say!(language, "ler os registros de {source}", "read the log of {source}")
        }
        Effect::RemediationLook(remediation) => {
            let what = changes(remediation, language);
            say!(language, "olhar antes de {what}", "look before: {what}")
        }
        Effect::RemediationRun(remediation) => {
            let what = changes(remediation, language);
            let undone = remediation.steps.iter().any(|step| step.phase == Phase::Rollback);
            if undone {
                say!(
                    language,
                    "{what}, verificar e desfazer se não resolver",
                    "{what}, verify, and undo it if it does not help"
                )
            } else {
                say!(language, "{what} e verificar", "{what}, and verify")
            }
        }
    }
}

/// What a remediation changes.
fn changes(remediation: &Remediation, language: Language) -> String {
    let effects = remediation.effects().unwrap_or_default();
    let changes =
        effects.iter().filter(|(step, _)| step.phase == Phase::Modify).map(|(_, step)| effect(step, language));
    changes.collect::<Vec<_>>().join(", ")
}

/// Word for a severity, agreeing with *achado*.
#[must_use]
pub const fn severity_word(severity: Severity, language: Language) -> &'static str {
    match (severity, language) {
        (Severity::Info, Language::PtBr) => "informativo",
        (Severity::Info, Language::En) => "informational",
        (Severity::Low, Language::PtBr) => "baixo",
        (Severity::Low, Language::En) => "low",
        (Severity::Medium, Language::PtBr) => "médio",
        (Severity::Medium, Language::En) => "medium",
        (Severity::High, Language::PtBr) => "alto",
        (Severity::High, Language::En) => "high",
        (Severity::Critical, Language::PtBr) => "crítico",
        (Severity::Critical, Language::En) => "critical",
    }
}

/// Word for a status.
#[must_use]
pub const fn status_word(status: Status, language: Language) -> &'static str {
    match (status, language) {
        (Status::Ok, _) => "OK",
        (Status::Warning, Language::PtBr) => "alerta",
        (Status::Warning, Language::En) => "warning",
        (Status::Critical, Language::PtBr) => "crítico",
        (Status::Critical, Language::En) => "critical",
        (Status::Unknown, Language::PtBr) => "desconhecido",
        (Status::Unknown, Language::En) => "unknown",
    }
}

/// What the verification of a remediation said.
#[must_use]
pub const fn verdict_words(verdict: Verdict, language: Language) -> &'static str {
    match (verdict, language) {
        (Verdict::Verified, Language::PtBr) => "verificado: resolveu",
        (Verdict::Verified, Language::En) => "verified: it helped",
        (Verdict::Contradicted, Language::PtBr) => "a verificação mostra que não resolveu, e não há como desfazer",
        (Verdict::Contradicted, Language::En) => "the verification shows that it did not help, and nothing undoes it",
        (Verdict::Inconclusive, Language::PtBr) => "a verificação não pôde dizer se resolveu; veja o servidor",
        (Verdict::Inconclusive, Language::En) => "the verification could not tell whether it helped; look at the host",
        (Verdict::RolledBack, Language::PtBr) => "a alteração foi desfeita",
        (Verdict::RolledBack, Language::En) => "the change was undone",
        (Verdict::RollbackFailed, Language::PtBr) => {
            "ATENÇÃO: a alteração não pôde ser desfeita; veja o servidor agora. Nada mais começa nele até que alguém \
             libere com `farol hosts resume`"
        }
        (Verdict::RollbackFailed, Language::En) => {
            "ATTENTION: the change could not be undone; look at the host now. Nothing more begins on it until somebody \
             says `farol hosts resume`"
        }
    }
}

/// What a risk class means.
#[must_use]
pub const fn class_words(class: RiskClass, language: Language) -> &'static str {
    match (class, language) {
        (RiskClass::R0, Language::PtBr) => "só observa",
        (RiskClass::R0, Language::En) => "only observes",
        (RiskClass::R1, Language::PtBr) => "reversível e pequena",
        (RiskClass::R1, Language::En) => "reversible and small",
        (RiskClass::R2, Language::PtBr) => "muda estado ou configuração",
        (RiskClass::R2, Language::En) => "changes state or configuration",
        (RiskClass::R3, Language::PtBr) => "destrutiva ou sensível; exige duas pessoas",
        (RiskClass::R3, Language::En) => "destructive or sensitive; needs two people",
    }
}

/// How an action ended, agreeing with *ação*.
#[must_use]
pub const fn final_words(state: FinalState, language: Language) -> &'static str {
    match (state, language) {
        (FinalState::Done, Language::PtBr) => "concluída",
        (FinalState::Done, Language::En) => "done",
        (FinalState::Failed, Language::PtBr) => "falhou",
        (FinalState::Failed, Language::En) => "failed",
        (FinalState::TimedOut, Language::PtBr) => "passou do tempo limite e foi encerrada",
        (FinalState::TimedOut, Language::En) => "ran past its time limit and was ended",
        (FinalState::Cancelled, Language::PtBr) => "cancelada",
        (FinalState::Cancelled, Language::En) => "cancelled",
        (FinalState::Refused, Language::PtBr) => "recusada pelo host, sem efeito",
        (FinalState::Refused, Language::En) => "refused by the host, without effect",
        (FinalState::Interrupted, Language::PtBr) => "resultado desconhecido; não repetimos sozinhos",
        (FinalState::Interrupted, Language::En) => "outcome unknown; we never retry alone",
    }
}

/// Why a host refused or ended an order.
#[must_use]
pub const fn reason_words(reason: ReasonCode, language: Language) -> &'static str {
    let (pt, en) = match reason {
        ReasonCode::NoPolicy => ("o host não tem política", "the host has no policy"),
        ReasonCode::ReadOnly => ("a política do host só permite leitura", "the host's policy is read-only"),
        ReasonCode::NotAllowed => ("a política do host não permite isto", "the host's policy does not allow this"),
        ReasonCode::SignatureRequired => {
            ("a política do host exige aprovação assinada", "the host's policy requires a signed approval")
        }
        ReasonCode::Expired => ("a ordem já tinha expirado", "the order had already expired"),
        ReasonCode::WrongTarget => {
            ("o plano é de outro host ou de outra ação", "the plan is for another host or action")
        }
        ReasonCode::PlanMismatch => {
            ("a ação já existia com outro plano", "the action already existed with another plan")
        }
        ReasonCode::PreStateChanged => ("o estado mudou depois da aprovação", "the state changed after the approval"),
        ReasonCode::InvalidPlan => ("o plano é inválido", "the plan is not valid"),
        ReasonCode::Cancelled => ("o cancelamento chegou antes", "the cancellation came first"),
        ReasonCode::AgentRestarted => ("o agente reiniciou durante a execução", "the agent restarted while it ran"),
        ReasonCode::SpawnFailed => ("o programa não pôde ser iniciado", "the program could not be started"),
        ReasonCode::Busy => ("o host está executando outra ação", "the host is running another action"),
        ReasonCode::JournalFailed => {
            ("o agente não conseguiu gravar o diário", "the agent could not write its journal")
        }
        ReasonCode::JournalChanged => {
            ("o diário do agente mudou ou voltou no tempo", "the agent's journal changed or went back in time")
        }
        ReasonCode::HostLost => ("o host sumiu ou foi revogado", "the host was gone for too long or revoked"),
        ReasonCode::ClockSkew => {
            ("o relógio do host difere demais do coordenador", "the clocks of host and coordinator differ too much")
        }
        ReasonCode::BadSignature => ("uma assinatura não é válida", "a signature is not valid"),
        ReasonCode::Unavailable => ("falta ao host o que a ação exige", "the host lacks what the action needs"),
        ReasonCode::ValidationFailed => (
            "o que precisava valer antes não valia, e nada foi alterado",
            "what had to hold first did not, and nothing was changed",
        ),
    };
    match language {
        Language::PtBr => pt,
        Language::En => en,
    }
}

/// A span in words, two units at most: `3 min 20 s`. Negative spans count as none.
#[must_use]
pub fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let pair = |big: i64, unit: &str, small: i64, below: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {below}") }
    };
    if days > 0 {
        pair(days, "d", hours, "h")
    } else if hours > 0 {
        pair(hours, "h", minutes, "min")
    } else if minutes > 0 {
        pair(minutes, "min", rest, "s")
    } else {
        format!("{rest} s")
    }
}

/// How long an action ran; keeps milliseconds below one second.
pub(super) fn elapsed(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { duration(i64::try_from(ms).unwrap_or(i64::MAX)) }
}

/// A number with two decimals at most and the language's decimal sign.
#[must_use]
pub fn number(value: f64, language: Language) -> String {
    // Small values keep their first digits instead of becoming 0.
    let decimals = if value != 0.0 && value.abs() < 0.01 { 6 } else { 2 };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let text = if text == "-0" { "0" } else { text };
    match language {
        Language::PtBr => text.replace('.', ","),
        Language::En => text.to_owned(),
    }
}

/// A point in time: in Portuguese by Brasília's clock, in English in UTC.
#[must_use]
pub fn clock(at: Timestamp, language: Language) -> String {
    let utc = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(at.as_ms());
    let text = match language {
        Language::PtBr => UtcOffset::from_hms(-3, 0, 0).ok().and_then(|brt| {
            let local = utc.checked_to_offset(brt)?;
            local.format(format_description!("[day]/[month]/[year] [hour]:[minute] BRT")).ok()
        }),
        Language::En => utc.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC")).ok(),
    };
    text.unwrap_or_else(|| at.to_string())
}

/// One line of at most `max` characters: control, direction and invisible
/// characters go, white space becomes single spaces, and a cut falls between
/// words so that no number loses its end.
#[must_use]
pub fn plain(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut line = String::new();
    let mut gap = false;
    for c in text.chars().filter(|c| !hidden(*c)).take(max.saturating_mul(4)) {
        if c.is_whitespace() || c.is_control() {
            gap = !line.is_empty();
        } else {
            if std::mem::take(&mut gap) {
                line.push(' ');
            }
            line.push(c);
        }
    }
    let Some((end, _)) = line.char_indices().nth(max) else { return line };
    let kept = line[..end].char_indices().nth_back(0).map_or(0, |(last, _)| last);
    let word = line[..kept].rfind(' ').filter(|space| *space > kept / 2).unwrap_or(kept);
    format!("{}…", line[..word].trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ','))
}

/// As much of an identifier as names it; the commands take that.
#[must_use]
pub fn beginning(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(12).collect()
}

pub(super) fn quote(text: &str) -> String {
    plain(text, QUOTE_CHARS)
}

/// A check's words as a sentence after another one.
pub(super) fn stated(text: &str) -> String {
    let text = quote(text);
    if text.is_empty() { text } else { format!(" {}", sentence(&text)) }
}

pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    // An address or a name with a dot or slash in it is written as it is.
    let name = text.split_whitespace().next().is_some_and(|word| word.contains(['/', '.', '_', ':']));
    let mut line: String = if name {
        text.to_owned()
    } else {
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
    };
    if !line.ends_with(['.', '!', '?', '…']) {
        line.push('.');
    }
    line
}

/// A comment after a sentence that has no full stop yet.
pub(super) fn commented(comment: Option<&str>) -> String {
    match comment.map(quote).filter(|comment| !comment.is_empty()) {
        None => ".".to_owned(),
        Some(comment) => format!(": “{comment}”"),
    }
}

pub(super) fn measured(value: Option<Measure<'_>>, language: Language) -> String {
    value.map_or_else(String::new, |value| {
        let value = value.in_words(language);
        say!(language, " Valor: {value}.", " Value: {value}.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_763_618_400_000;

    #[test]
    fn spans_are_short_and_exact() {
        let cases = [
            (-5, "0 s"),
            (999, "0 s"),
            (59_000, "59 s"),
            (200_000, "3 min 20 s"),
            (7_200_000, "2 h"),
            (7_505_000, "2 h 5 min"),
            (97_200_000, "1 d 3 h"),
        ];
        for (ms, words) in cases {
            assert_eq!(duration(ms), words);
        }
    }

    #[test]
    fn numbers_carry_the_sign_of_the_language() {
        let words = |value, unit| Measure { value, unit }.in_words(Language::PtBr);
        assert_eq!(words(88.4, Some("%")), "88,4%");
        assert_eq!(words(312.0, Some("count")), "312");
        assert_eq!(words(100.0, None), "100");
        assert_eq!(words(412.5, Some("ms")), "412,5 ms");
        assert_eq!(words(-0.000_000_1, None), "0");
        assert_eq!(words(0.004, None), "0,004");
        assert_eq!(Measure { value: 1.25, unit: Some("load/core") }.in_words(Language::En), "1.25 per core");
    }

    #[test]
    fn times_are_those_of_the_reader() {
        assert_eq!(clock(Timestamp::from_ms(AT), Language::PtBr), "20/11/2025 03:00 BRT");
        assert_eq!(clock(Timestamp::from_ms(AT), Language::En), "2025-11-20 06:00 UTC");
        let _no_panic = clock(Timestamp::from_ms(i64::MIN), Language::PtBr);
    }

    #[test]
    fn foreign_text_becomes_one_short_line_without_tricks() {
        assert_eq!(plain(" a\r\n\tb\u{202e}c\u{0}d\u{200b} ", 100), "a bc d");
        assert_eq!(plain("disco em 12345", 12), "disco em…");
        assert_eq!(plain("1234567", 3), "…");
        assert_eq!(plain("áéíóú", 3), "áé…");
    }

    #[test]
    fn an_operator_sees_where_each_argument_ends() {
        let exec = Effect::parse(
            farol_protocol::ActionKind::CommandExec,
            &serde_json::json!({"command": "rm", "args": ["a b", "", "c"]}),
        )
        .expect("valid");
        assert_eq!(effect(&exec, Language::PtBr), "executar `rm \"a b\" \"\" c`");
    }
}
