//! What is told of a finding, before anybody has decided to whom.

use farol_protocol::{
    Timestamp,
    registry::{Persona, Severity},
};

/// Which of the few things that are told of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// There is a problem, or it has become worse than what was told. Said
    /// once an episode and channel, when its severity reaches the channel's.
    Problem,
    /// Alike problems have joined one that was told. Counts those messages.
    Grew(u32),
    /// What was told is over.
    Recovery,
}

impl What {
    /// Part of a message's unique key.
    #[must_use]
    pub fn as_key(self) -> String {
        match self {
            Self::Problem => "problem".to_owned(),
            Self::Grew(n) => format!("grew.{n}"),
            Self::Recovery => "recovery".to_owned(),
        }
    }
}

/// Something to tell. The correlator has decided that it is to be told: it is
/// neither hidden by its cause nor kept quiet.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Which of an episode's messages.
    pub what: What,
    /// What it is about, the same in each episode.
    pub fingerprint: &'a str,
    /// Counts the episodes.
    pub episode: u64,
    /// Its scenario.
    pub scenario: &'a str,
    /// Who speaks.
    pub persona: Persona,
    /// Name of its host.
    pub host: &'a str,
    /// Site of its host.
    pub site: Option<&'a str>,
    /// How bad it is; for a recovery, how bad it was.
    pub severity: Severity,
    /// What people read first.
    pub title: &'a str,
    /// What the persona says in the thread.
    pub body: &'a str,
    /// When it began.
    pub since: Timestamp,
    /// When this is told.
    pub now: Timestamp,
}
