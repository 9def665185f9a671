//! What is said about the line to a host.

use farol_protocol::{Language, Timestamp};

use super::words::{clock, duration, quote};

/// Everything the coordinator says about its line to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Title of the finding about lost batches.
    LostTitle,
    /// Batches were lost.
    Lost {
        /// Host.
        host: &'a str,
        /// How many.
        batches: u64,
        /// When the first was observed.
        from: Timestamp,
        /// When the last was.
        to: Timestamp,
    },
    /// No more were lost for a while.
    NothingLost {
        /// Host.
        host: &'a str,
    },
    /// Title of the finding about a wrong clock.
    ClockTitle,
    /// A clock is wrong.
    ClockWrong {
        /// Host.
        host: &'a str,
        /// What is to be added to its times.
        skew_ms: i64,
    },
    /// It is right again.
    ClockRight {
        /// Host.
        host: &'a str,
    },
}

impl Line<'_> {
    /// In the words of a language.
    #[must_use]
    pub fn in_words(self, language: Language) -> String {
        match self {
            Self::LostTitle => say!(language, "Telemetria perdida", "Telemetry lost"),
            Self::Lost { host, batches, from, to } => {
                let (host, from, to) = (quote(host), clock(from, language), clock(to, language));
                say!(
                    language,
                    "O agente de {host} teve de descartar lotes: {batches}, observados de {from} a {to}. Aumente spool_max_bytes ou verifique o disco.",
                    "The agent on {host} had to drop {batches} batches, observed from {from} to {to}. Raise spool_max_bytes or look at the disk.",
                )
            }
            Self::NothingLost { host } => {
                let host = quote(host);
                say!(
                    language,
                    "O agente de {host} não perdeu mais nada na última hora.",
                    "The agent on {host} has lost nothing more in the last hour.",
                )
            }
            Self::ClockTitle => say!(language, "Relógio errado", "Wrong clock"),
            Self::ClockWrong { host, skew_ms } => {
                let (host, off) = (quote(host), duration(skew_ms.saturating_abs()));
                if skew_ms > 0 {
                    say!(
                        language,
                        "O relógio de {host} está {off} atrasado. Os horários são corrigidos; ordens assinadas são recusadas. Acerte o NTP.",
                        "The clock of {host} is {off} behind. Times are corrected; signed orders are refused. Repair its NTP.",
                    )
                } else {
                    say!(
                        language,
                        "O relógio de {host} está {off} adiantado. Os horários são corrigidos; ordens assinadas são recusadas. Acerte o NTP.",
                        "The clock of {host} is {off} ahead. Times are corrected; signed orders are refused. Repair its NTP.",
                    )
                }
            }
            Self::ClockRight { host } => {
                let host = quote(host);
                say!(language, "O relógio de {host} está certo de novo.", "The clock of {host} is right again.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_its_values_in_both_languages() {
        let at = Timestamp::from_ms(1_800_000_000_000);
        for (line, values) in [
            (Line::LostTitle, vec![]),
            (Line::Lost { host: "vm112", batches: 17, from: at, to: at }, vec!["vm112", "17"]),
            (Line::NothingLost { host: "vm112" }, vec!["vm112"]),
            (Line::ClockTitle, vec![]),
            (Line::ClockWrong { host: "vm112", skew_ms: 7_200_000 }, vec!["vm112", "2 h"]),
            (Line::ClockWrong { host: "vm112", skew_ms: -7_200_000 }, vec!["vm112", "2 h"]),
            (Line::ClockRight { host: "vm112" }, vec!["vm112"]),
        ] {
            let (pt, en) = (line.in_words(Language::PtBr), line.in_words(Language::En));
            assert_ne!(pt, en);
            for value in values {
                assert!(pt.contains(value) && en.contains(value), "`{value}` is missing in: {pt} {en}");
            }
        }
    }
}
