//! A dialogue over HTTP with one time limit for all of it, and what answers
//! mean that are not the one that was asked for.

use std::time::{Duration, Instant};

use farol_protocol::Language;
use reqwest::{Client, RequestBuilder, header};
use serde_json::Value;

use super::{Asking, Seen};
use crate::{
    integrations::http::{Answer, Failure, exchange, hidden},
    text::{plain, say},
};

/// Longest word of a system that is repeated, in characters.
pub(super) const WORD: usize = 160;

pub(super) struct Talk<'a> {
    pub(super) asking: &'a Asking<'a>,
    pub(super) client: Client,
    /// Who is asked, by the name that texts use.
    pub(super) target: String,
    began: Instant,
}

impl<'a> Talk<'a> {
    /// With the system at an address of the registry.
    pub(super) fn new(asking: &'a Asking<'a>, target: &str, pin: Option<&str>) -> Result<Self, Seen> {
        let client = asking.client_for(pin).map_err(|failure| asking.failed(target, &failure))?;
        Ok(Self::with(asking, target, client))
    }

    /// With a client that is there already.
    pub(super) fn with(asking: &'a Asking<'a>, target: &str, client: Client) -> Self {
        Self { asking, client, target: target.to_owned(), began: Instant::now() }
    }

    pub(super) fn language(&self) -> Language {
        self.asking.language
    }

    /// What remains of the limit.
    pub(super) fn left(&self) -> Duration {
        self.asking.limit.saturating_sub(self.began.elapsed())
    }

    pub(super) fn failed(&self, failure: &Failure) -> Seen {
        self.asking.failed(&self.target, failure)
    }

    /// An answer, whatever its status.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        exchange(request, self.left()).await
    }

    /// An answer of success to a GET.
    pub(super) async fn get(&self, url: &str) -> Result<Answer, Seen> {
        let answer = self.send(self.client.get(url)).await.map_err(|failure| self.failed(&failure))?;
        if answer.is_success() { Ok(answer) } else { Err(self.turned_down(&answer)) }
    }

    /// The JSON in an answer.
    pub(super) fn json(&self, answer: &Answer) -> Result<Value, Seen> {
        answer.json().map_err(|failure| self.failed(&failure))
    }

    /// What a status means that is not one of success. The system's own trouble
    /// is critical; of one that lets nobody look, nothing is known.
    pub(super) fn turned_down(&self, answer: &Answer) -> Seen {
        let (language, target, status) = (self.language(), &self.target, answer.status);
        let said = said(answer);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        match status {
            401 | 403 | 407 => Seen::unknown(say!(
                language,
                "{target} recusou o acesso ({status}{said}); verifique as credenciais e de onde o Farol pergunta",
                "{target} refused access ({status}{said}); check the credentials and from where Farol asks"
            )),
            429 => {
                let wait = answer.headers.get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok());
                let wait = plain(wait.unwrap_or("?"), 40);
                Seen::unknown(say!(
                    language,
                    "{target} pediu menos perguntas (429, esperar {wait} s); aumente o intervalo",
                    "{target} asked for fewer questions (429, wait {wait} s); make the interval longer"
                ))
            }
            300..=399 => {
                let to = answer.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
                let to = plain(&hidden(to.unwrap_or("?").split('?').next().unwrap_or_default()), WORD);
                Seen::unknown(say!(
                    language,
                    "{target} respondeu {status} e manda para {to}; configure o endereço final",
                    "{target} answered {status} and sends on to {to}; configure the final address"
                ))
            }
            404 => Seen::unknown(say!(
                language,
                "o endereço respondeu 404{said}: é mesmo o de {target}?",
                "the address answered 404{said}: is it really that of {target}?"
            )),
            500..=599 => Seen::critical(say!(
                language,
                "{target} respondeu com erro {status}{said}",
                "{target} answered with error {status}{said}"
            )),
            _ => Seen::unknown(say!(
                language,
                "{target} deu uma resposta inesperada ({status}{said})",
                "{target} gave an unexpected answer ({status}{said})"
            )),
        }
    }
}

/// What the body of an error says, where it is not a page for a browser.
pub(super) fn said(answer: &Answer) -> String {
    match answer.json() {
        Ok(body) => message(&body).unwrap_or_default(),
        Err(_) if answer.content_type.contains("html") => String::new(),
        Err(_) => plain(&answer.start(&[]), WORD),
    }
}

/// The text of an error in the shapes that are common.
pub(super) fn message(body: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(|text| plain(&hidden(text), WORD)).filter(|text| !text.is_empty());
    let found = ["error", "message", "detail", "reason"].iter().find_map(|key| {
        let value = body.get(key)?;
        text(value).or_else(|| text(value.get("message")?))
    });
    found.or_else(|| text(body))
}

/// Without the slashes at its end.
pub(super) fn base(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// Names, at most three of them, for a text.
pub(super) fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let list = names.iter().take(SHOWN).map(|name| plain(name, 80)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{list} (+{})", names.len() - SHOWN) } else { list }
}
