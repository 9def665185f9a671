//! Why somebody was not told.

use farol_protocol::registry::{Persona, Severity};
use serde::{Deserialize, Serialize};

/// Why a message was not sent to a channel, or was taken back before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    // In the order in which routes are judged: what comes later was nearer to being told.
    /// The routes of the channel are for other scenarios.
    OtherScenario {
        /// The finding's.
        scenario: String,
    },
    /// They are for other sites.
    OtherSite {
        /// The host's.
        site: Option<String>,
    },
    /// They are for other personas.
    OtherPersona {
        /// Who speaks.
        persona: Persona,
    },
    /// They are for other roles.
    OtherRole {
        /// Who speaks.
        persona: Persona,
    },
    /// They are for what is worse.
    Severity {
        /// How bad it is.
        severity: Severity,
        /// How bad it must be.
        at_least: Severity,
    },
    /// Somebody acknowledged before it was this channel's turn.
    Acknowledged,
    /// It was over before it was this channel's turn.
    Resolved,
    /// Its cause was found, or it is kept quiet, before it was this channel's turn.
    Suppressed,
    /// The problem itself did not reach the channel.
    ProblemNotTold,
    /// Reasons of a later version.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The stable word in the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OtherScenario { .. } => "other_scenario",
            Self::OtherSite { .. } => "other_site",
            Self::OtherPersona { .. } => "other_persona",
            Self::OtherRole { .. } => "other_role",
            Self::Severity { .. } => "severity",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Suppressed => "suppressed",
            Self::ProblemNotTold => "problem_not_told",
            Self::Unknown => "unknown",
        }
    }
}
