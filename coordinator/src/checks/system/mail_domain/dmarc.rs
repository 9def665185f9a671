//! DMARC (RFC 9989): the policy, found by walking up the name tree.

use farol_protocol::{Language, system::MailDomainProbe};

use super::{several, tag, tags};
use crate::{
    checks::{
        seen::Seen,
        system::{Asking, dns::Names},
    },
    text::{plain, say},
};

pub(super) async fn look(asking: &Asking<'_>, probe: &MailDomainProbe, names: &Names<'_>) -> Result<Seen, Seen> {
    let language = asking.language;
    let domain = probe.domain.trim_end_matches('.').to_ascii_lowercase();
    let mut found: Vec<(String, Record)> = Vec::new();
    for name in walk(&domain) {
        let records = match names.txt(&format!("_dmarc.{name}")).await {
            Ok(texts) => texts.iter().filter_map(|text| Record::read(text)).collect(),
            Err(miss) if miss.is_absent() => Vec::new(),
            Err(miss) => return Err(names.unknown(&miss, &format!("_dmarc.{name}"))),
        };
        match <[Record; 1]>::try_from(records) {
            Ok([record]) => {
                let is_end = record.psd.is_some();
                let is_own = name == domain;
                found.push((name, record));
                // The domain's own record counts, whatever stands above it.
                if is_end || is_own {
                    break;
                }
            }
            Err(records) if records.is_empty() => {}
            Err(records) if name == domain => {
                return Err(several(language, "DMARC", &format!("_dmarc.{name}"), records.len()));
            }
            Err(_) => {}
        }
    }
    match applies(&domain, &found) {
        Some((name, record)) => Ok(record.judge(language, &domain, name)),
        None => {
            let domain = plain(&domain, 80);
            Err(Seen::critical(say!(
                language,
                "{domain} não tem política DMARC, nem os domínios acima dele",
                "{domain} has no DMARC policy, nor have the domains above it"
            )))
        }
    }
}

/// The names to ask, from the domain itself up to its top: at most eight.
fn walk(domain: &str) -> Vec<String> {
    const LONGEST: usize = 8;
    let labels: Vec<&str> = domain.split('.').filter(|label| !label.is_empty()).collect();
    let mut names = vec![labels.join(".")];
    let mut from = if labels.len() < LONGEST { 1 } else { labels.len() - (LONGEST - 1) };
    while from < labels.len() {
        names.push(labels[from..].join("."));
        from += 1;
    }
    names
}

/// Which of the records on the way up is the domain's policy: its own, else
/// that of its organisation, which is the highest one that is not a public
/// suffix's, else a public suffix's.
fn applies<'a>(domain: &str, found: &'a [(String, Record)]) -> Option<(&'a str, &'a Record)> {
    let own = found.iter().find(|(name, _)| name == domain);
    let organisation = || found.iter().rev().find(|(_, record)| record.psd != Some(true));
    own.or_else(organisation).or_else(|| found.last()).map(|(name, record)| (name.as_str(), record))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    policy: Option<String>,
    of_subdomains: Option<String>,
    /// Whether it says that it is a public suffix's (`y`) or is not (`n`).
    psd: Option<bool>,
    is_test: bool,
    has_reports: bool,
}

impl Record {
    /// None where it is something else: the version comes first, as written.
    fn read(text: &str) -> Option<Self> {
        let (version, rest) = text.split_once(';').unwrap_or((text, ""));
        let (key, value) = version.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case("v") || value.trim() != "DMARC1" {
            return None;
        }
        let tags = tags(rest);
        let word = |name: &str| tag(&tags, name).map(str::to_ascii_lowercase);
        Some(Self {
            policy: word("p"),
            of_subdomains: word("sp"),
            psd: match word("psd").as_deref() {
                Some("y") => Some(true),
                Some("n") => Some(false),
                _ => None,
            },
            is_test: word("t").as_deref() == Some("y"),
            has_reports: tag(&tags, "rua").is_some_and(|rua| !rua.is_empty()),
        })
    }

    fn judge(&self, language: Language, domain: &str, at: &str) -> Seen {
        let is_own = domain == at;
        let policy = if is_own { &self.policy } else { &self.of_subdomains };
        let policy = policy.as_ref().or(self.policy.as_ref());
        let (domain, at) = (plain(domain, 80), plain(at, 80));
        let place = if is_own { String::new() } else { say!(language, " (de {at})", " (of {at})") };
        match policy.map(String::as_str) {
            Some(policy @ ("reject" | "quarantine")) if !self.is_test => {
                Seen::ok(say!(language, "{domain} tem DMARC `{policy}`{place}", "{domain} has DMARC `{policy}`{place}"))
            }
            Some(policy @ ("reject" | "quarantine")) => Seen::warning(say!(
                language,
                "{domain} tem DMARC `{policy}`{place}, mas em teste (`t=y`): vale um grau a menos",
                "{domain} has DMARC `{policy}`{place}, but under test (`t=y`): it counts one step less"
            )),
            Some("none") => Seen::warning(say!(
                language,
                "{domain} tem DMARC `none`{place}: o que falha passa mesmo assim",
                "{domain} has DMARC `none`{place}: what fails passes nevertheless"
            )),
            // A record that asks for reports counts as `none`, else not at all.
            other if self.has_reports => {
                let other = plain(other.unwrap_or("–"), 20);
                Seen::warning(say!(
                    language,
                    "{domain} tem DMARC com `p={other}`{place}, que conta como `none`",
                    "{domain} has DMARC with `p={other}`{place}, which counts as `none`"
                ))
            }
            other => {
                let other = plain(other.unwrap_or("–"), 20);
                Seen::critical(say!(
                    language,
                    "{domain} tem DMARC com `p={other}`{place}, que não conta",
                    "{domain} has DMARC with `p={other}`{place}, which does not count"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Status;

    use super::*;

    fn record(text: &str) -> Record {
        Record::read(text).expect("a record")
    }

    #[test]
    fn the_walk_goes_up_to_the_top_and_skips_the_middle_of_long_names() {
        assert_eq!(walk("a.mail.example.com"), ["a.mail.example.com", "mail.example.com", "example.com", "com"]);
        let long = walk("a.b.c.d.e.f.g.h.i.j.mail.example.com");
        assert_eq!(long.len(), 8);
        assert_eq!(long[1], "g.h.i.j.mail.example.com");
        assert_eq!(walk("com"), ["com"]);
    }

    #[test]
    fn the_organisations_record_counts_for_its_subdomains() {
        let named = |name: &str, text: &str| (name.to_owned(), record(text));
        let found = [named("example.com", "v=DMARC1; p=reject; sp=none"), named("com", "v=DMARC1; p=none; psd=y")];
        let (at, found) = applies("a.example.com", &found).expect("a policy");
        assert_eq!(at, "example.com");
        assert_eq!(found.judge(Language::En, "a.example.com", at).status, Status::Warning, "sp=none");
        assert_eq!(found.judge(Language::En, "example.com", at).status, Status::Ok);
    }

    #[test]
    fn a_record_is_judged_by_what_it_asks_for_and_old_tags_do_no_harm() {
        let judged = |text: &str| record(text).judge(Language::En, "d", "d").status;
        assert_eq!(judged("v=DMARC1; p=reject; pct=100; ri=3600; x=y"), Status::Ok);
        assert_eq!(judged("v=DMARC1;p=quarantine;t=y"), Status::Warning);
        assert_eq!(judged("v=DMARC1; p=none"), Status::Warning);
        assert_eq!(judged("v=DMARC1; p=rejct; rua=mailto:a@b"), Status::Warning);
        assert_eq!(judged("v=DMARC1; rua="), Status::Critical);
        assert_eq!(Record::read("v=spf1 -all"), None);
        assert_eq!(Record::read("p=none; v=DMARC1"), None);
    }
}
