//! What is said of a finding's course beside its problem and its end.

use farol_protocol::{Language, Timestamp};

use super::words::{clock, commented, duration, quote};

/// Everything that happens to a finding between its problem and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course<'a> {
    /// Something that it depends on is down.
    Caused {
        /// Title of that problem.
        title: &'a str,
        /// Host of that problem.
        host: &'a str,
    },
    /// A person keeps it quiet.
    Silenced,
    /// Its host is being worked on.
    InMaintenance,
    /// Its host is being backed up.
    InBackup,
    /// Nothing hides it any more.
    Shown,
    /// It has joined an alike problem of another host.
    Joined {
        /// The other host.
        host: &'a str,
    },
    /// Alike problems have joined it.
    Grew {
        /// Their hosts.
        hosts: &'a str,
        /// Title that they share.
        title: &'a str,
    },
    /// All that had joined it are healthy again.
    AllResolved {
        /// Title that they share.
        title: &'a str,
    },
    /// It changes too often to be told each time.
    Flapping,
    /// It was not acknowledged for long, so it weighs more.
    Risen {
        /// How long it has been open.
        open_ms: i64,
    },
    /// Nothing was heard of a check for too long.
    NoReports {
        /// Its last report.
        since: Timestamp,
    },
    /// What probably caused it.
    Likely {
        /// What happened there.
        text: &'a str,
        /// Where.
        host: &'a str,
        /// How long before.
        before_ms: i64,
    },
    /// A person closed it.
    Closed {
        /// Who.
        by: &'a str,
        /// What they added.
        comment: Option<&'a str>,
    },
}

impl Course<'_> {
    /// In the words of a language.
    #[must_use]
    pub fn in_words(self, language: Language) -> String {
        match self {
            Self::Caused { title, host } => {
                let (title, host) = (quote(title), quote(host));
                say!(
                    language,
                    "Consequência provável de outro problema: {title} em {host}. Ninguém é avisado deste enquanto aquele durar.",
                    "Probably a consequence of another problem: {title} on {host}. Nobody is told of this one while that one lasts.",
                )
            }
            Self::Silenced => say!(
                language,
                "Silenciado: ninguém é avisado enquanto o silêncio durar.",
                "Silenced: nobody is told while the silence lasts."
            ),
            Self::InMaintenance => say!(
                language,
                "O host está em manutenção: ninguém é avisado enquanto a janela durar.",
                "The host is in maintenance: nobody is told while the window lasts."
            ),
            Self::InBackup => say!(
                language,
                "O backup do host está em andamento: ninguém é avisado até que termine.",
                "The host is being backed up: nobody is told until that ends."
            ),
            Self::Shown => say!(
                language,
                "Nada mais esconde este problema, e ele continua.",
                "Nothing hides this problem any more, and it is still there."
            ),
            Self::Joined { host } => {
                let host = quote(host);
                say!(
                    language,
                    "O mesmo problema já foi avisado para {host}; este se junta a ele.",
                    "The same problem was told of {host} already; this one joins it.",
                )
            }
            Self::Grew { hosts, title } => {
                let title = quote(title);
                say!(language, "Agora também em: {hosts} ({title}).", "Now also on: {hosts} ({title}).")
            }
            Self::AllResolved { title } => {
                let title = quote(title);
                say!(
                    language,
                    "Resolvido em todos os hosts afetados: {title}.",
                    "Resolved on all affected hosts: {title}."
                )
            }
            Self::Flapping => say!(
                language,
                "O resultado muda com frequência; cada mudança não será avisada.",
                "The outcome keeps changing; not each change will be told."
            ),
            Self::Risen { open_ms } => {
                let open = duration(open_ms);
                say!(
                    language,
                    "Aberto há {open} sem reconhecimento: a gravidade aumentou.",
                    "Open for {open} without acknowledgement: its severity rose.",
                )
            }
            Self::NoReports { since } => {
                let since = clock(since, language);
                say!(
                    language,
                    "Nenhum resultado desta verificação desde {since}: ninguém sabe como está.",
                    "No outcome of this check since {since}: nobody knows how it is.",
                )
            }
            Self::Likely { text, host, before_ms } => {
                let (text, host, before) = (quote(text), quote(host), duration(before_ms.max(0)));
                say!(
                    language,
                    "Causa provável: {text} em {host}, {before} antes.",
                    "Probable cause: {text} on {host}, {before} before.",
                )
            }
            Self::Closed { by, comment } => {
                let (by, comment) = (quote(by), commented(comment));
                say!(language, "Encerrado por {by}{comment}", "Closed by {by}{comment}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_in_both_languages_with_what_it_is_about() {
        let since = Timestamp::from_ms(1_700_000_000_000);
        let all = [
            (Course::Caused { title: "Sem contato", host: "pve1" }, vec!["Sem contato", "pve1"]),
            (Course::Silenced, vec![]),
            (Course::InMaintenance, vec![]),
            (Course::InBackup, vec![]),
            (Course::Shown, vec![]),
            (Course::Joined { host: "vm1" }, vec!["vm1"]),
            (Course::Grew { hosts: "vm1, vm2", title: "Disco" }, vec!["vm1, vm2", "Disco"]),
            (Course::AllResolved { title: "Disco" }, vec!["Disco"]),
            (Course::Flapping, vec![]),
            (Course::Risen { open_ms: 3_600_000 }, vec!["1"]),
            (Course::NoReports { since }, vec!["2023"]),
            (Course::Likely { text: "Reinício", host: "vm9", before_ms: 120_000 }, vec!["Reinício", "vm9", "2"]),
            (Course::Closed { by: "ana", comment: Some("retirado") }, vec!["ana", "retirado"]),
        ];
        for (course, values) in all {
            let (pt, en) = (course.in_words(Language::PtBr), course.in_words(Language::En));
            assert_ne!(pt, en);
            for text in [&pt, &en] {
                assert!(!text.contains("  ") && !text.contains(".."), "{text}");
                for value in &values {
                    assert!(text.contains(value), "`{value}` is missing in: {text}");
                }
            }
        }
    }
}
