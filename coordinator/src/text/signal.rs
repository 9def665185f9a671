//! Titles of findings about what others report.

use farol_protocol::Language;

use crate::correlate::{ALERT_PREFIX, SIGNAL_PREFIX};

/// What a finding about a signal is called. What it is about is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalTitle {
    /// A container that is down.
    ContainerDown,
    /// A container that restarts too often.
    ContainerRestarts,
    /// Facts of an agent, such as a slow gateway.
    AgentFacts,
    /// Anything else.
    Signal,
    /// An alert of Alertmanager.
    Alert,
}

impl SignalTitle {
    /// Each with the beginning of its checks, the longer beginning first.
    pub const ALL: [(&'static str, Self); 5] = [
        ("signal.container_down/", Self::ContainerDown),
        ("signal.container_restart_count_high/", Self::ContainerRestarts),
        ("signal.agent_facts", Self::AgentFacts),
        (SIGNAL_PREFIX, Self::Signal),
        (ALERT_PREFIX, Self::Alert),
    ];

    /// In the words of a language.
    #[must_use]
    pub fn in_words(self, language: Language) -> String {
        match self {
            Self::ContainerDown => say!(language, "Contêiner parado", "Container down"),
            Self::ContainerRestarts => say!(language, "Contêiner reiniciando", "Container restarting"),
            Self::AgentFacts => say!(language, "Rede vista pelo agente", "Network as the agent sees it"),
            Self::Signal => say!(language, "Sinal", "Signal"),
            Self::Alert => say!(language, "Alerta", "Alert"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_beginning_comes_before_the_one_it_begins_with() {
        for (n, (prefix, title)) in SignalTitle::ALL.into_iter().enumerate() {
            assert!(SignalTitle::ALL[..n].iter().all(|(earlier, _)| !prefix.starts_with(earlier)), "{prefix}");
            assert_ne!(title.in_words(Language::PtBr), title.in_words(Language::En));
        }
    }
}
