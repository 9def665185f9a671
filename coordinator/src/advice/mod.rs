//! Advice on a finding: T1 text from a local model when every sentence stands
//! on evidence, the deterministic T0 text otherwise.
//!
//! Advice never acts. What hosts and people wrote reaches the model as data
//! inside one JSON document; what the model answers is believed only as far as
//! [`citations`] resolves it.

mod citations;
mod context;
mod deterministic;
mod ollama;

use farol_protocol::Language;
use serde::{Deserialize, Serialize};

pub use context::{Context, Evidence, FindingFacts, ProposalFact, ReportFact};
pub use deterministic::advise as deterministic;
pub(crate) use ollama::NUM_CTX;
pub use ollama::{BadAddress, DEFAULT_TIMEOUT, Error, Ollama, OllamaConfig};

use crate::text::Message;

/// Who wrote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Code, from the facts alone.
    T0,
    /// A model, checked against the facts.
    T1,
}

impl Source {
    /// The word in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::T0 => "t0",
            Self::T1 => "t1",
        }
    }
}

/// A fact that a sentence rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Citation {
    /// Its number within the advice: `F1`, `R2`, `M1`, `P1`.
    pub id: String,
    /// The fact in words.
    pub what: String,
}

/// One sentence of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Sentence {
    /// What it says.
    pub text: String,
    /// What it rests on.
    pub cites: Vec<Citation>,
}

/// Text on a finding. It runs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Advice {
    /// Who wrote it.
    pub source: Source,
    /// What it says.
    pub sentences: Vec<Sentence>,
    /// The model, for T1.
    pub model: Option<String>,
    /// Why T0 speaks in place of T1: a short stable word, see [`Error::reason`].
    pub fallback_reason: Option<String>,
    /// Proposals of the context that the text suggests.
    pub suggested: Vec<String>,
    /// Sentences of the model that were dropped for want of evidence.
    pub dropped: usize,
}

impl Advice {
    /// The text for a thread or a mail: a sentence a line with its citations,
    /// then each cited fact once.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = String::new();
        let mut facts: Vec<&Citation> = Vec::new();
        for sentence in &self.sentences {
            if !body.is_empty() {
                body.push('\n');
            }
            body.push_str(&sentence.text);
            for (position, cite) in sentence.cites.iter().enumerate() {
                if position == 0 {
                    body.push(' ');
                }
                body.push_str(&format!("[{}]", cite.id));
                if !facts.iter().any(|known| known.id == cite.id) {
                    facts.push(cite);
                }
            }
        }
        if !facts.is_empty() {
            body.push('\n');
        }
        for fact in facts {
            body.push_str(&format!("\n{}: {}", fact.id, fact.what));
        }
        body
    }
}

/// Advice on a finding. Never fails: T1 when it stands, otherwise the T0 text
/// with the reason.
pub async fn advise(llm: Option<&Ollama>, context: &Context) -> Advice {
    answer(llm, context, context.language, None).await
}

/// The copilot's answer to a person. `message` is untrusted text; without a
/// context there is nothing to ground an answer on, so no model is asked.
pub async fn chat(llm: Option<&Ollama>, context: Option<&Context>, language: Language, message: &str) -> Advice {
    match context {
        Some(context) => answer(llm, context, language, Some(message)).await,
        None => Advice {
            source: Source::T0,
            sentences: vec![Sentence { text: Message::CopilotHelp.in_words(language), cites: Vec::new() }],
            model: None,
            fallback_reason: Some("no_context".to_owned()),
            suggested: Vec::new(),
            dropped: 0,
        },
    }
}

async fn answer(llm: Option<&Ollama>, context: &Context, language: Language, question: Option<&str>) -> Advice {
    let asked = match llm {
        Some(llm) => llm.ask(context, language, question).await,
        None => Err(Error::Disabled),
    };
    match asked {
        Ok(advice) => advice,
        Err(error) => {
            tracing::debug!(finding.id = %context.finding.id, "no T1 advice: {error}");
            Advice { fallback_reason: Some(error.reason()), ..deterministic(context, language) }
        }
    }
}

#[cfg(test)]
mod tests;
