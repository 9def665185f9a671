//! The one catalogue of what operators read on the coordinator's side: every
//! message in Brazilian Portuguese and in English, side by side.
//!
//! Texts that come from hosts or people pass through [`plain`] on their way in.

use farol_protocol::{
    Language, RiskClass, Status, Timestamp,
    action::{FinalState, ReasonCode},
    registry::{Persona, Severity},
    remediation::Verdict,
};

use crate::roster::member;

/// Picks a language's format; the names inside the braces are the caller's.
macro_rules! say {
    ($language:expr, $pt:literal, $en:literal $(,)?) => {
        match $language {
            Language::PtBr => format!($pt),
            Language::En => format!($en),
        }
    };
}

pub(crate) use say;

mod advice;
mod course;
mod daily;
mod line;
mod notify;
mod quiet;
mod record;
mod signal;
mod words;

use words::{commented, elapsed, measured, quote, sentence, stated};

pub use advice::{Fact, Piece, Reading};
pub use course::Course;
pub use daily::{daily_subject, log_review, summary};
pub use line::Line;
pub use notify::Notice;
pub use quiet::{QuietReason, window};
pub use record::{Anchor, anchor_title};
pub use signal::SignalTitle;
pub use words::{
    Measure, beginning, class_words, clock, duration, effect, final_words, number, plain, reason_words, severity_word,
    status_word, verdict_words,
};

/// How a finding changed while it stays open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Its severity.
    Severity {
        /// Before.
        from: Severity,
        /// Now.
        to: Severity,
    },
    /// What its check says.
    Status {
        /// Before.
        from: Status,
        /// Now.
        to: Status,
    },
}

/// Everything the coordinator says outside advice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Message<'a> {
    /// Subject of a finding's thread.
    ThreadSubject {
        /// Host.
        host: &'a str,
        /// The finding's title.
        title: &'a str,
    },
    /// A finding opened.
    FindingOpened {
        /// Who speaks.
        persona: Persona,
        /// How bad it is.
        severity: Severity,
        /// Host.
        host: &'a str,
        /// The finding's title.
        title: &'a str,
        /// What the check said.
        text: &'a str,
        /// What the check measured.
        value: Option<Measure<'a>>,
        /// When it began.
        since: Timestamp,
    },
    /// A finding's severity or status changed.
    FindingUpdated {
        /// Who speaks.
        persona: Persona,
        /// Host.
        host: &'a str,
        /// The finding's title.
        title: &'a str,
        /// What changed.
        change: Change,
        /// What the check said.
        text: &'a str,
        /// What the check measured.
        value: Option<Measure<'a>>,
    },
    /// Somebody took note.
    FindingAcknowledged {
        /// Who.
        by: &'a str,
        /// What they added.
        comment: Option<&'a str>,
    },
    /// A finding resolved.
    FindingResolved {
        /// Who speaks.
        persona: Persona,
        /// Host.
        host: &'a str,
        /// The finding's title.
        title: &'a str,
        /// How long it was open.
        lasted_ms: i64,
        /// What the check says now.
        text: &'a str,
        /// What the check measures now.
        value: Option<Measure<'a>>,
    },
    /// Title of the finding about a silent agent.
    AgentSilentTitle,
    /// An agent fell silent.
    AgentSilent {
        /// Host.
        host: &'a str,
        /// Its last sign of life; none since the coordinator knows it.
        last_seen: Option<Timestamp>,
        /// For how long.
        silent_ms: i64,
    },
    /// An agent speaks again.
    AgentBack {
        /// Host.
        host: &'a str,
        /// For how long it did not.
        silent_ms: i64,
    },
    /// Title of the finding about a host's identity.
    IdentityTitle,
    /// Another machine showed a host's key.
    IdentityOtherMachine {
        /// Host.
        host: &'a str,
        /// The other machine's id.
        machine: &'a str,
    },
    /// Two copies of a disk take turns.
    IdentityClones {
        /// Host.
        host: &'a str,
        /// Boots seen last, newest last.
        boots: &'a [String],
    },
    /// A host that was away for too long asks for a certificate.
    IdentityConsent {
        /// Host.
        host: &'a str,
        /// When it asked.
        since: Timestamp,
    },
    /// A host did not take its new certificate.
    IdentityRefused {
        /// Host.
        host: &'a str,
        /// What it said.
        why: &'a str,
    },
    /// Nothing waits for a person.
    IdentityFine {
        /// Host.
        host: &'a str,
        /// What it calls itself.
        called: Option<&'a str>,
        /// What it called itself before.
        before: Option<&'a str>,
    },
    /// A7 or a person proposes an action.
    ActionProposed {
        /// The action.
        id: &'a str,
        /// What it does, see [`effect`].
        what: &'a str,
        /// Host.
        host: &'a str,
        /// Its class.
        class: RiskClass,
        /// When the proposal ends.
        expires_at: Timestamp,
    },
    /// Somebody approved.
    ActionApproved {
        /// The action.
        id: &'a str,
        /// What it does.
        what: &'a str,
        /// Host.
        host: &'a str,
        /// Who.
        by: &'a str,
        /// What they added.
        comment: Option<&'a str>,
    },
    /// Somebody rejected.
    ActionRejected {
        /// The action.
        id: &'a str,
        /// What it does.
        what: &'a str,
        /// Host.
        host: &'a str,
        /// Who.
        by: &'a str,
        /// Why.
        comment: Option<&'a str>,
    },
    /// The action ended.
    ActionFinished {
        /// The action.
        id: &'a str,
        /// What it does.
        what: &'a str,
        /// Host.
        host: &'a str,
        /// How.
        state: FinalState,
        /// Why, where the host says so.
        reason: Option<ReasonCode>,
        /// Exit code of the program.
        exit_code: Option<i32>,
        /// How long it ran.
        duration_ms: Option<u64>,
        /// Of a remediation: what its verification said.
        result: Option<Verdict>,
        /// What the host says of it.
        detail: Option<&'a str>,
    },
    /// Nobody decided in time.
    ActionExpired {
        /// The action.
        id: &'a str,
        /// What it would have done.
        what: &'a str,
        /// Host.
        host: &'a str,
        /// When.
        at: Timestamp,
    },
    /// A scenario wants a variable.
    NotConfigured {
        /// The scenario.
        scenario: &'a str,
        /// The variable.
        variable: &'a str,
    },
    /// A check has said nothing for too long.
    NoDataSince {
        /// Its last word.
        at: Timestamp,
    },
    /// Subject of a mail about a finding; without the severity, which changes, so that mails stay one conversation.
    MailSubject {
        /// Host.
        host: &'a str,
        /// The finding's title.
        title: &'a str,
    },
    /// Body of a mail about a finding.
    MailBody {
        /// What happened: another message, written out.
        message: &'a str,
        /// Advice, written out.
        advice: Option<&'a str>,
        /// The finding.
        finding: &'a str,
        /// Where the Desk shows it.
        url: Option<&'a str>,
    },
    /// What the copilot answers without a finding.
    CopilotHelp,
}

impl Message<'_> {
    /// The message in words.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        match *self {
            Self::ThreadSubject { host, title } => {
                let (host, title) = (quote(host), quote(title));
                say!(language, "{title} em {host}", "{title} on {host}")
            }
            Self::FindingOpened { persona, severity, host, title, text, value, since } => {
                let (name, host, title) = (member(persona).name, quote(host), quote(title));
                let (severity, since) = (severity_word(severity, language), clock(since, language));
                let value = measured(value, language);
                let text = stated(text);
                say!(
                    language,
                    "{name}: achado {severity} em {host}: {title}.{text}{value} Desde {since}.",
                    "{name}: {severity} finding on {host}: {title}.{text}{value} Since {since}.",
                )
            }
            Self::FindingUpdated { persona, host, title, change, text, value } => {
                let (name, host, title) = (member(persona).name, quote(host), quote(title));
                let (text, value) = (stated(text), measured(value, language));
                let (from, to) = match change {
                    Change::Severity { from, to } => (severity_word(from, language), severity_word(to, language)),
                    Change::Status { from, to } => (status_word(from, language), status_word(to, language)),
                };
                say!(
                    language,
                    "{name}: {title} em {host} passou de {from} para {to}.{text}{value}",
                    "{name}: {title} on {host} went from {from} to {to}.{text}{value}",
                )
            }
            Self::FindingAcknowledged { by, comment } => {
                let (by, comment) = (quote(by), commented(comment));
                say!(language, "Reconhecido por {by}{comment}", "Acknowledged by {by}{comment}")
            }
            Self::FindingResolved { persona, host, title, lasted_ms, text, value } => {
                let (name, host, title) = (member(persona).name, quote(host), quote(title));
                let (lasted, text, value) = (duration(lasted_ms), stated(text), measured(value, language));
                say!(
                    language,
                    "{name}: resolvido em {host}: {title}. Durou {lasted}.{text}{value}",
                    "{name}: resolved on {host}: {title}. It lasted {lasted}.{text}{value}",
                )
            }
            Self::AgentSilentTitle => say!(language, "Agente sem contato", "Agent silent"),
            Self::AgentSilent { host, last_seen, silent_ms } => {
                let (host, silent) = (quote(host), duration(silent_ms));
                match last_seen.map(|at| clock(at, language)) {
                    Some(last) => say!(
                        language,
                        "O agente de {host} não fala há {silent}. Último contato: {last}. Sem dados não significa OK.",
                        "The agent on {host} has been silent for {silent}. Last contact: {last}. No data does not mean OK.",
                    ),
                    None => say!(
                        language,
                        "O agente de {host} não fala há {silent} e ainda não fez contato. Sem dados não significa OK.",
                        "The agent on {host} has been silent for {silent} and has not made contact yet. No data does not mean OK.",
                    ),
                }
            }
            Self::AgentBack { host, silent_ms } => {
                let (host, silent) = (quote(host), duration(silent_ms));
                say!(
                    language,
                    "O agente de {host} voltou depois de {silent} sem contato.",
                    "The agent on {host} is back after {silent} of silence.",
                )
            }
            Self::IdentityTitle => say!(language, "Identidade do host", "Identity of the host"),
            Self::IdentityOtherMachine { host, machine } => {
                let (host, machine) = (quote(host), beginning(machine));
                say!(
                    language,
                    "Outra máquina ({machine}) apresentou a identidade de {host} e foi recusada; a registrada continua. Se ela agora é {host}: `farol host accept {host} --machine {machine}`. Se é uma cópia, dê a ela um nome próprio: `farol host add NOME`, e lá `farol-agent enroll … --force`.",
                    "Another machine ({machine}) showed the identity of {host} and was refused; the recorded one goes on. If it is {host} now: `farol host accept {host} --machine {machine}`. If it is a copy, give it a name of its own: `farol host add NAME`, and there `farol-agent enroll … --force`.",
                )
            }
            Self::IdentityClones { host, boots } => {
                let host = quote(host);
                let boots = boots.iter().rev().take(3).map(|boot| beginning(boot)).collect::<Vec<_>>().join(", ");
                say!(
                    language,
                    "Duas máquinas se revezam como {host} (boots: {boots}). Nenhuma ordem sai até uma pessoa decidir. A certa: `farol host accept {host} --boot ID` (na máquina: /proc/sys/kernel/random/boot_id). A cópia: `farol host add NOME`, e lá `farol-agent enroll … --force`.",
                    "Two machines take turns as {host} (boots: {boots}). No order leaves until a person decides. The right one: `farol host accept {host} --boot ID` (on the machine: /proc/sys/kernel/random/boot_id). The copy: `farol host add NAME`, and there `farol-agent enroll … --force`.",
                )
            }
            Self::IdentityConsent { host, since } => {
                let (host, since) = (quote(host), clock(since, language));
                say!(
                    language,
                    "{host} voltou depois de mais de 90 dias com o certificado vencido e pede outro desde {since}. Se é mesmo ele: `farol host consent {host}`. Se não: `farol host revoke {host}`.",
                    "{host} is back more than 90 days after its certificate ended and asks for another since {since}. If it is the one: `farol host consent {host}`. If not: `farol host revoke {host}`.",
                )
            }
            Self::IdentityRefused { host, why } => {
                let (host, why) = (quote(host), quote(why));
                say!(
                    language,
                    "{host} não aceitou o novo certificado e fica com o anterior: {why}. Veja `farol ca status`.",
                    "{host} did not take its new certificate and keeps the one before: {why}. See `farol ca status`.",
                )
            }
            Self::IdentityFine { host, called, before } => {
                let host = quote(host);
                match (called.map(quote), before.map(quote)) {
                    (Some(called), Some(before)) => say!(
                        language,
                        "A identidade de {host} está em ordem. Ele se chama {called}, antes {before}.",
                        "The identity of {host} is in order. It calls itself {called}, before that {before}.",
                    ),
                    _ => say!(language, "A identidade de {host} está em ordem.", "The identity of {host} is in order."),
                }
            }
            Self::ActionProposed { id, what, host, class, expires_at } => {
                let (what, host) = (quote(what), quote(host));
                let (risk, expires) = (class_words(class, language), clock(expires_at, language));
                say!(
                    language,
                    "Proposta: {what} em {host}. Classe {class}: {risk}. Vale até {expires}. Para aprovar: `farol approve {id}`.",
                    "Proposal: {what} on {host}. Class {class}: {risk}. Valid until {expires}. To approve: `farol approve {id}`.",
                )
            }
            Self::ActionApproved { id, what, host, by, comment } => {
                let (what, host, by, comment) = (quote(what), quote(host), quote(by), commented(comment));
                say!(
                    language,
                    "Aprovado por {by}: {what} em {host} (ação {id}){comment}",
                    "Approved by {by}: {what} on {host} (action {id}){comment}",
                )
            }
            Self::ActionRejected { id, what, host, by, comment } => {
                let (what, host, by, comment) = (quote(what), quote(host), quote(by), commented(comment));
                say!(
                    language,
                    "Recusado por {by}: {what} em {host} (ação {id}). Nada foi executado{comment}",
                    "Rejected by {by}: {what} on {host} (action {id}). Nothing ran{comment}",
                )
            }
            Self::ActionFinished { id, what, host, state, reason, exit_code, duration_ms, result, detail } => {
                let (what, host) = (quote(what), quote(host));
                let end = final_words(state, language);
                let reason =
                    reason.map_or_else(String::new, |reason| format!(" {}", sentence(reason_words(reason, language))));
                let code = exit_code
                    .map_or_else(String::new, |code| say!(language, " Código de saída {code}.", " Exit code {code}."));
                let took = duration_ms.map_or_else(String::new, |ms| {
                    let took = elapsed(ms);
                    say!(language, " Levou {took}.", " It took {took}.")
                });
                let result =
                    result.map_or_else(String::new, |result| format!(" {}", sentence(verdict_words(result, language))));
                let detail = detail.map_or_else(String::new, |detail| format!(" {}", sentence(&quote(detail))));
                say!(
                    language,
                    "Ação {id} em {host} ({what}): {end}.{result}{reason}{detail}{code}{took}",
                    "Action {id} on {host} ({what}): {end}.{result}{reason}{detail}{code}{took}",
                )
            }
            Self::ActionExpired { id, what, host, at } => {
                let (what, host, at) = (quote(what), quote(host), clock(at, language));
                say!(
                    language,
                    "Expirou em {at} sem decisão: {what} em {host} (ação {id}). Nada foi executado.",
                    "Expired at {at} without a decision: {what} on {host} (action {id}). Nothing ran.",
                )
            }
            Self::NoDataSince { at } => {
                let at = clock(at, language);
                say!(language, "sem dados desde {at}", "no data since {at}")
            }
            Self::NotConfigured { scenario, variable } => say!(
                language,
                "O cenário {scenario} não está configurado: variável {variable} não definida.",
                "The scenario {scenario} is not configured: variable {variable} is not set.",
            ),
            Self::MailSubject { host, title } => {
                let (host, title) = (quote(host), quote(title));
                say!(language, "[Farol] {title} em {host}", "[Farol] {title} on {host}")
            }
            Self::MailBody { message, advice, finding, url } => {
                let advice = advice.map_or_else(String::new, |advice| {
                    say!(
                        language,
                        "\n\nConselho. Não executa nada.\n{advice}",
                        "\n\nAdvice. It runs nothing.\n{advice}",
                    )
                });
                let place = url.map_or_else(String::new, |url| {
                    say!(language, "\nAbrir no Desk: {url}", "\nOpen in the Desk: {url}")
                });
                say!(
                    language,
                    "{message}{advice}\n\nAchado {finding}{place}\n\nResponda no Desk; respostas a este e-mail não são lidas.\n",
                    "{message}{advice}\n\nFinding {finding}{place}\n\nAnswer in the Desk; replies to this mail are not read.\n",
                )
            }
            Self::CopilotHelp => say!(
                language,
                "Respondo sobre um achado de cada vez, com base no que o Farol registrou: o que está errado, desde quando, \
                 o que as outras verificações do host dizem e o que o Remediador pode propor. Abra um achado e pergunte \
                 de novo. Não executo nada.",
                "I answer about one finding at a time, from what Farol has recorded: what is wrong, since when, what the \
                 host's other checks say and what Remediador may propose. Open a finding and ask again. I run nothing.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_763_618_400_000;

    /// Each message with the values that must show in both languages.
    fn messages() -> Vec<(Message<'static>, Vec<&'static str>)> {
        let (host, title, what, id) = ("vm112", "Fila parada", "uptime", "a-118");
        let at = Timestamp::from_ms(AT);
        let value = Some(Measure { value: 312.0, unit: Some("count") });
        let mut all = vec![
            (Message::ThreadSubject { host, title }, vec![host, title]),
            (
                Message::FindingOpened {
                    persona: Persona::A2,
                    severity: Severity::High,
                    host,
                    title,
                    text: "fila cheia",
                    value,
                    since: at,
                },
                vec!["Trilho", host, title, "Fila cheia.", "312"],
            ),
            (
                Message::FindingUpdated {
                    persona: Persona::A2,
                    host,
                    title,
                    change: Change::Severity { from: Severity::Low, to: Severity::High },
                    text: "fila cheia",
                    value,
                },
                vec!["Trilho", host, title, "Fila cheia.", "312"],
            ),
            (
                Message::FindingUpdated {
                    persona: Persona::A2,
                    host,
                    title,
                    change: Change::Status { from: Status::Warning, to: Status::Critical },
                    text: "fila cheia",
                    value,
                },
                vec!["Trilho", host, title, "Fila cheia.", "312"],
            ),
            (Message::FindingAcknowledged { by: "ana", comment: Some("no relay") }, vec!["ana", "no relay"]),
            (
                Message::FindingResolved {
                    persona: Persona::A2,
                    host,
                    title,
                    lasted_ms: 200_000,
                    text: "fila vazia",
                    value,
                },
                vec!["Trilho", host, title, "3 min 20 s", "Fila vazia.", "312"],
            ),
            (Message::AgentSilentTitle, vec![]),
            (Message::AgentSilent { host, last_seen: Some(at), silent_ms: 95_000 }, vec![host, "1 min 35 s"]),
            (Message::AgentSilent { host, last_seen: None, silent_ms: 95_000 }, vec![host, "1 min 35 s"]),
            (Message::AgentBack { host, silent_ms: 95_000 }, vec![host, "1 min 35 s"]),
            (Message::IdentityTitle, vec![]),
            (
                Message::IdentityOtherMachine { host, machine: "0123456789abcdef" },
                vec![host, "0123456789ab", "farol host accept", "farol host add"],
            ),
            (Message::IdentityClones { host, boots: &[] }, vec![host, "farol host accept", "farol host add"]),
            (Message::IdentityConsent { host, since: at }, vec![host, "farol host consent", "farol host revoke"]),
            (Message::IdentityRefused { host, why: "raiz estranha" }, vec![host, "raiz estranha"]),
            (
                Message::IdentityFine { host, called: Some("web-2"), before: Some("web-1") },
                vec![host, "web-2", "web-1"],
            ),
            (Message::IdentityFine { host, called: None, before: None }, vec![host]),
            (
                Message::ActionProposed { id, what, host, class: RiskClass::R2, expires_at: at },
                vec![what, host, "R2", "farol approve a-118"],
            ),
            (
                Message::ActionApproved { id, what, host, by: "ana", comment: Some("pode ir") },
                vec![id, what, host, "ana", "pode ir"],
            ),
            (
                Message::ActionRejected { id, what, host, by: "ana", comment: Some("agora não") },
                vec![id, what, host, "ana", "agora não"],
            ),
            (Message::ActionExpired { id, what, host, at }, vec![id, what, host]),
            (Message::NoDataSince { at }, vec!["20"]),
            (Message::NotConfigured { scenario: "funnel", variable: "TICKETS_DB" }, vec!["funnel", "TICKETS_DB"]),
            (Message::MailSubject { host, title }, vec!["[Farol]", host, title]),
            (
                Message::MailBody {
                    message: "abriu",
                    advice: Some("veja o relay"),
                    finding: "f-1",
                    url: Some("https://desk/f-1"),
                },
                vec!["abriu", "veja o relay", "f-1", "https://desk/f-1"],
            ),
            (Message::CopilotHelp, vec![]),
        ];
        for state in FINAL {
            all.push((
                Message::ActionFinished {
                    id,
                    what,
                    host,
                    state,
                    reason: Some(ReasonCode::AgentRestarted),
                    exit_code: Some(17),
                    duration_ms: Some(850),
                    result: Some(Verdict::RolledBack),
                    detail: Some("a prova falhou"),
                },
                vec![id, what, host, "17", "850 ms", "prova falhou"],
            ));
        }
        all
    }

    const FINAL: [FinalState; 6] = [
        FinalState::Done,
        FinalState::Failed,
        FinalState::TimedOut,
        FinalState::Cancelled,
        FinalState::Refused,
        FinalState::Interrupted,
    ];

    /// Fails to compile when a message is new, so that `messages` gets it too.
    fn number_of(message: &Message<'_>) -> usize {
        match message {
            Message::ThreadSubject { .. } => 0,
            Message::FindingOpened { .. } => 1,
            Message::FindingUpdated { .. } => 2,
            Message::FindingAcknowledged { .. } => 3,
            Message::FindingResolved { .. } => 4,
            Message::AgentSilentTitle => 5,
            Message::AgentSilent { .. } => 6,
            Message::AgentBack { .. } => 7,
            Message::ActionProposed { .. } => 8,
            Message::ActionApproved { .. } => 9,
            Message::ActionRejected { .. } => 10,
            Message::ActionFinished { .. } => 11,
            Message::ActionExpired { .. } => 12,
            Message::NotConfigured { .. } => 13,
            Message::MailSubject { .. } => 14,
            Message::MailBody { .. } => 15,
            Message::CopilotHelp => 16,
            Message::NoDataSince { .. } => 17,
            Message::IdentityTitle => 18,
            Message::IdentityOtherMachine { .. } => 19,
            Message::IdentityClones { .. } => 20,
            Message::IdentityConsent { .. } => 21,
            Message::IdentityRefused { .. } => 22,
            Message::IdentityFine { .. } => 23,
        }
    }

    #[test]
    fn every_message_says_all_its_values_in_both_languages() {
        let mut seen = [false; 24];
        for (message, values) in messages() {
            seen[number_of(&message)] = true;
            let (pt, en) = (message.in_words(Language::PtBr), message.in_words(Language::En));
            assert_ne!(pt, en);
            for text in [&pt, &en] {
                assert!(!text.trim().is_empty(), "{message:?}");
                assert!(!text.contains("  ") && !text.contains(".."), "{text}");
                for value in &values {
                    assert!(text.contains(value), "`{value}` is missing in: {text}");
                }
            }
        }
        assert_eq!(seen, [true; 24]);
    }

    #[test]
    fn an_interrupted_action_is_shown_as_unknown() {
        let message = Message::ActionFinished {
            id: "a-1",
            what: "reiniciar o serviço portal",
            host: "vm112",
            state: FinalState::Interrupted,
            reason: Some(ReasonCode::HostLost),
            exit_code: None,
            duration_ms: None,
            result: None,
            detail: None,
        };
        assert_eq!(
            message.in_words(Language::PtBr),
            "Ação a-1 em vm112 (reiniciar o serviço portal): resultado desconhecido; não repetimos sozinhos. \
             O host sumiu ou foi revogado."
        );
    }
}
