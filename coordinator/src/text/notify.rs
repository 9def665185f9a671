//! What messages outside of threads say, and why somebody was not told.

use std::time::Duration;

use farol_protocol::{Language, Timestamp};

use super::words::{clock, duration, quote, severity_word};
use crate::{notify::Reason, roster::member};

/// A few words about a message.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// Title of a message that somebody tries a channel with.
    TestTitle,
    /// Its text.
    TestBody,
    /// Nobody acknowledged, so it is another's turn.
    Escalated {
        /// Within this time.
        after: Duration,
    },
    /// On a button.
    AcknowledgeButton,
    /// Before a link in a mail.
    AcknowledgeLink {
        /// The link.
        url: &'a str,
    },
    /// Its secret does not open.
    Locked {
        /// The integration.
        name: &'a str,
    },
    /// It is of a kind that takes no messages.
    NoChannel {
        /// The integration.
        name: &'a str,
        /// Its kind.
        kind: &'a str,
    },
    /// A route names an integration that is not there.
    NoIntegration {
        /// Its name.
        name: &'a str,
    },
    /// There is no mail server.
    NoMailServer,
    /// Neither route nor integration say where.
    NoPlace {
        /// The integration.
        name: &'a str,
        /// `topic` or `room`.
        option: &'static str,
    },
    /// The server refused.
    Refused {
        /// Status code.
        status: u16,
        /// What it said.
        said: &'a str,
    },
    /// Something else answered.
    NotThis {
        /// What was meant.
        what: &'static str,
    },
    /// The room is encrypted.
    EncryptedRoom {
        /// The room.
        room: &'a str,
    },
    /// The secret is none of Standard Webhooks.
    BadWebhookSecret,
    /// The receiver wants none any more.
    Gone,
    /// The same, some time ago.
    Disabled {
        /// When.
        since: Timestamp,
        /// What was said.
        why: &'a str,
    },
    /// A test message was taken.
    TestSent {
        /// The integration.
        name: &'a str,
    },
    /// A route tells at once.
    Told,
    /// A route tells later.
    ToldAfter {
        /// After this long without anybody.
        after: Duration,
    },
    /// Why a channel was not told.
    Not(&'a Reason),
}

fn span(after: Duration) -> String {
    duration(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}

impl Notice<'_> {
    /// In the words of a language.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        match *self {
            Self::TestTitle => say!(language, "Teste do Farol", "Test from Farol"),
            Self::TestBody => say!(
                language,
                "Se você lê isto, as mensagens do Farol chegam aqui. Nada precisa ser feito.",
                "If you read this, messages from Farol arrive here. Nothing needs to be done."
            ),
            Self::Escalated { after } => {
                let after = span(after);
                say!(language, "Ninguém reconheceu em {after}.", "Nobody acknowledged within {after}.")
            }
            Self::AcknowledgeButton => say!(language, "Reconhecer", "Acknowledge"),
            Self::AcknowledgeLink { url } => {
                say!(language, "Reconhecer sem login (24 h): {url}", "Acknowledge without a login (24 h): {url}")
            }
            Self::Locked { name } => say!(
                language,
                "o segredo da integração {name} não abre aqui; informe-o de novo com `farol integration set {name}`",
                "the secret of the integration {name} does not open here; enter it again with `farol integration set {name}`"
            ),
            Self::NoChannel { name, kind } => say!(
                language,
                "a integração {name} é do tipo {kind}, que não recebe mensagens",
                "the integration {name} is of the kind {kind}, which takes no messages"
            ),
            Self::NoIntegration { name } => say!(
                language,
                "não há integração {name}; crie com `farol integration add {name}` ou mude a rota",
                "there is no integration {name}; make it with `farol integration add {name}` or change the route"
            ),
            Self::NoMailServer => say!(
                language,
                "nenhum servidor de e-mail está configurado; defina FAROL_SMTP_URL",
                "no mail server is configured; set FAROL_SMTP_URL"
            ),
            Self::NoPlace { name, option } => say!(
                language,
                "falta o destino: defina `{option}` na rota, ou `--option {option}=…` na integração {name}",
                "the destination is missing: set `{option}` on the route, or `--option {option}=…` on the integration {name}"
            ),
            Self::Refused { status, said } => {
                let said = quote(said);
                say!(language, "o servidor respondeu {status}: {said}", "the server answered {status}: {said}")
            }
            Self::NotThis { what } => say!(
                language,
                "o endereço responde, mas não como {what}; confira-o",
                "the address answers, but not like {what}; look at it"
            ),
            Self::EncryptedRoom { room } => say!(
                language,
                "a sala {room} é criptografada e o Farol escreve em claro; use uma sala sem criptografia",
                "the room {room} is encrypted and Farol writes in the clear; use a room without encryption"
            ),
            Self::BadWebhookSecret => say!(
                language,
                "o segredo do webhook deve ser `whsec_` e base64 de 24 a 64 bytes",
                "the webhook's secret must be `whsec_` and base64 of 24 to 64 bytes"
            ),
            Self::Gone => say!(
                language,
                "o receptor respondeu 410 e não quer mais mensagens; o canal está desligado até alguém reenviar ou testar",
                "the receiver answered 410 and wants no more messages; the channel is off until somebody resends or tests"
            ),
            Self::Disabled { since, why } => {
                let since = clock(since, language);
                say!(language, "canal desligado desde {since}: {why}", "channel off since {since}: {why}")
            }
            Self::TestSent { name } => say!(
                language,
                "{name} aceitou uma mensagem de teste; confira se ela chegou",
                "{name} took a test message; look whether it arrived"
            ),
            Self::Told => say!(language, "avisado na hora", "told at once"),
            Self::ToldAfter { after } => {
                let after = span(after);
                say!(
                    language,
                    "avisado depois de {after} se ninguém reconhecer",
                    "told after {after} if nobody acknowledges"
                )
            }
            Self::Not(reason) => why(reason, language),
        }
    }
}

fn why(reason: &Reason, language: Language) -> String {
    match reason {
        Reason::OtherScenario { scenario } => {
            let scenario = quote(scenario);
            say!(language, "a rota não inclui o cenário {scenario}", "the route does not have the scenario {scenario}")
        }
        Reason::OtherSite { site: Some(site) } => {
            let site = quote(site);
            say!(language, "a rota não inclui o site {site}", "the route does not have the site {site}")
        }
        Reason::OtherSite { site: None } => {
            say!(
                language,
                "a rota é de sites, e o host não tem nenhum",
                "the route is for sites, and the host has none"
            )
        }
        Reason::OtherPersona { persona } => {
            let name = member(*persona).name;
            say!(language, "a rota não inclui quem fala, {name}", "the route does not have who speaks, {name}")
        }
        Reason::OtherRole { persona } => {
            let name = member(*persona).name;
            say!(language, "{name} não fala aos papéis da rota", "{name} does not speak to the roles of the route")
        }
        Reason::Severity { severity, at_least } => {
            let (severity, least) = (severity_word(*severity, language), severity_word(*at_least, language));
            say!(
                language,
                "o achado é {severity} e a rota avisa a partir de {least}",
                "the finding is {severity} and the route tells from {least} on"
            )
        }
        Reason::Acknowledged => say!(
            language,
            "alguém reconheceu antes da vez deste canal",
            "somebody acknowledged before it was this channel's turn"
        ),
        Reason::Resolved => {
            say!(language, "acabou antes da vez deste canal", "it was over before it was this channel's turn")
        }
        Reason::Suppressed => say!(
            language,
            "foi silenciado, ou a causa foi achada, antes da vez deste canal",
            "it was kept quiet, or its cause was found, before it was this channel's turn"
        ),
        Reason::ProblemNotTold => say!(
            language,
            "o aviso do problema não chegou a este canal",
            "the message of the problem did not reach this channel"
        ),
        Reason::Unknown => say!(language, "motivo de uma versão mais nova", "a reason of a newer version"),
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::registry::{Persona, Severity};

    use super::*;

    #[test]
    fn every_notice_has_its_own_words_in_both_languages() {
        let after = Duration::from_secs(900);
        let reasons = [
            Reason::OtherScenario { scenario: "web".to_owned() },
            Reason::OtherSite { site: Some("lab".to_owned()) },
            Reason::OtherSite { site: None },
            Reason::OtherPersona { persona: Persona::A2 },
            Reason::OtherRole { persona: Persona::A2 },
            Reason::Severity { severity: Severity::Low, at_least: Severity::High },
            Reason::Acknowledged,
            Reason::Resolved,
            Reason::Suppressed,
            Reason::ProblemNotTold,
            Reason::Unknown,
        ];
        let others = [
            Notice::TestTitle,
            Notice::TestBody,
            Notice::Escalated { after },
            Notice::AcknowledgeButton,
            Notice::AcknowledgeLink { url: "https://x" },
            Notice::Locked { name: "team" },
            Notice::NoChannel { name: "team", kind: "redis" },
            Notice::NoIntegration { name: "team" },
            Notice::NoMailServer,
            Notice::NoPlace { name: "team", option: "topic" },
            Notice::Refused { status: 400, said: "no" },
            Notice::NotThis { what: "ntfy" },
            Notice::EncryptedRoom { room: "!a:b" },
            Notice::BadWebhookSecret,
            Notice::Gone,
            Notice::Disabled { since: Timestamp::from_ms(0), why: "410" },
            Notice::TestSent { name: "team" },
            Notice::Told,
            Notice::ToldAfter { after },
        ];
        let mut seen = std::collections::BTreeSet::new();
        for notice in others.into_iter().chain(reasons.iter().map(Notice::Not)) {
            for language in [Language::PtBr, Language::En] {
                let words = notice.in_words(language);
                assert!(!words.trim().is_empty() && !words.contains("  "), "{words}");
                assert!(seen.insert(words.clone()), "said twice: {words}");
            }
        }
    }
}
