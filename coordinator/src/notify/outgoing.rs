//! One message on its way to one channel, and how that can end.

use std::time::Duration;

use farol_protocol::{
    Language, Timestamp,
    registry::{Persona, Severity},
};
use serde::{Deserialize, Serialize};

use super::Telling;
use crate::text::{Message, Notice};

/// What a message tells, for channels that take more than text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What it is about, the same in each episode.
    pub fingerprint: String,
    /// Counts the episodes.
    pub episode: u64,
    /// Scenario.
    pub scenario: String,
    /// Who speaks.
    pub persona: Persona,
    /// Name of the host.
    pub host: String,
    /// Its site.
    pub site: Option<String>,
    /// How bad it is; for a recovery, how bad it was.
    pub severity: Severity,
    /// What people read first.
    pub title: String,
    /// When it began.
    pub since: Timestamp,
    /// When this was told.
    pub at: Timestamp,
}

impl Told {
    /// What is to be kept of it.
    #[must_use]
    pub fn of(telling: &Telling<'_>) -> Self {
        Self {
            fingerprint: telling.fingerprint.to_owned(),
            episode: telling.episode,
            scenario: telling.scenario.to_owned(),
            persona: telling.persona,
            host: telling.host.to_owned(),
            site: telling.site.map(str::to_owned),
            severity: telling.severity,
            title: telling.title.to_owned(),
            since: telling.since,
            at: telling.now,
        }
    }
}

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is a problem.
    Problem,
    /// It has grown.
    Grew,
    /// It is over.
    Recovery,
    /// Somebody tries the channel.
    Test,
    /// The head of the record, once a day.
    Anchor,
}

impl Kind {
    /// Of the word in the store.
    #[must_use]
    pub fn of(what: &str) -> Self {
        match what {
            "recovery" => Self::Recovery,
            "anchor" => Self::Anchor,
            what if what.starts_with("grew") => Self::Grew,
            _ => Self::Problem,
        }
    }

    /// The type of event in a webhook.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Problem => "finding.problem",
            Self::Grew => "finding.grew",
            Self::Recovery => "finding.recovery",
            Self::Test => "farol.test",
            Self::Anchor => "farol.anchor",
        }
    }
}

/// A message for one channel.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The same at every try.
    pub id: String,
    /// Which message.
    pub kind: Kind,
    /// What it tells.
    pub told: Told,
    /// The same of the message of the problem, where this follows one.
    pub problem: Option<Told>,
    /// What the other side called that one.
    pub problem_provider_id: Option<String>,
    /// The finding; empty for a test.
    pub finding_id: String,
    /// What the persona says.
    pub body: String,
    /// Where whoever reads it acknowledges.
    pub ack_url: Option<String>,
    /// How long nobody acknowledged before it was this channel's turn.
    pub escalated: Option<Duration>,
    /// Language of its words.
    pub language: Language,
}

impl Outgoing {
    /// A message that somebody tries a channel with.
    #[must_use]
    pub fn test(language: Language, now: Timestamp) -> Self {
        let told = Told {
            fingerprint: "farol:test".to_owned(),
            episode: 1,
            scenario: "farol.test".to_owned(),
            persona: Persona::A0,
            host: "farol".to_owned(),
            site: None,
            severity: Severity::Info,
            title: Notice::TestTitle.in_words(language),
            since: now,
            at: now,
        };
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            kind: Kind::Test,
            told,
            problem: None,
            problem_provider_id: None,
            finding_id: String::new(),
            body: Notice::TestBody.in_words(language),
            ack_url: None,
            escalated: None,
            language,
        }
    }

    /// What people read first.
    #[must_use]
    pub fn title(&self) -> String {
        let Told { host, title, .. } = &self.told;
        match self.kind {
            Kind::Test | Kind::Anchor => title.clone(),
            _ => Message::ThreadSubject { host, title }.in_words(self.language),
        }
    }

    /// What it says, with what the channel adds: that nobody acknowledged.
    #[must_use]
    pub fn text(&self) -> String {
        match self.escalated {
            None => self.body.clone(),
            Some(after) => {
                let line = Notice::Escalated { after }.in_words(self.language);
                format!("{line} {}", self.body)
            }
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Worth another attempt. Also everything before the other side looked at
    /// this message: a wrong password is no fault of the message.
    #[error("{0}")]
    Transient(String),
    /// The channel wants nothing for this long.
    #[error("{0}")]
    Limited(String, Duration),
    /// Another attempt would end alike.
    #[error("{0}")]
    Permanent(String),
    /// The channel wants nothing ever.
    #[error("{0}")]
    Gone(String),
}

impl SendError {
    /// The same for people to read.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Transient(text) | Self::Limited(text, _) | Self::Permanent(text) | Self::Gone(text) => text,
        }
    }
}
