//! SPF (RFC 7208): exactly one policy, and one that can be evaluated: at most
//! ten terms that cost a lookup, followed through, and at most two lookups
//! that find nothing.

use std::{future::Future, pin::Pin};

use farol_protocol::{Language, system::MailDomainProbe};

use super::{count_of, several};
use crate::{
    checks::{
        seen::Seen,
        system::{
            Asking,
            dns::{Miss, Names},
        },
    },
    text::{plain, say},
};

const MOST_LOOKUPS: usize = 10;
const MOST_VOID: usize = 2;
/// Here the count stops: what is beyond is as broken as what is just over.
const GIVE_UP: usize = 20;

pub(super) async fn look(asking: &Asking<'_>, probe: &MailDomainProbe, names: &Names<'_>) -> Result<Seen, Seen> {
    let language = asking.language;
    let domain = probe.domain.trim_end_matches('.').to_ascii_lowercase();
    let record = match policy(names, &domain).await {
        Ok(record) => record,
        Err(problem) => return Err(problem.seen(language, names)),
    };
    let mut cost = Cost::default();
    let seen = follow(names, &domain, &record, &mut cost).await;
    if let Err(problem) = seen {
        return Err(problem.seen(language, names).measured(count_of(cost.lookups), "count"));
    }
    Ok(judge(language, probe, &domain, &record, &cost))
}

/// Why a policy cannot be evaluated.
enum Problem {
    /// There is none at the name.
    None(String),
    Several(String, usize),
    /// A term that no evaluator takes.
    Term(String, String),
    Unknown(Miss, String),
}

impl Problem {
    fn seen(&self, language: Language, names: &Names<'_>) -> Seen {
        match self {
            Self::None(name) => {
                let name = plain(name, 80);
                Seen::critical(say!(language, "{name} não tem SPF", "{name} has no SPF"))
            }
            Self::Several(name, count) => several(language, "SPF", name, *count),
            Self::Term(name, term) => {
                let (name, term) = (plain(name, 80), plain(term, 60));
                Seen::critical(say!(
                    language,
                    "o SPF de {name} tem o termo inválido `{term}`: a política inteira não vale",
                    "the SPF of {name} has the invalid term `{term}`: the whole policy does not count"
                ))
            }
            Self::Unknown(miss, name) => names.unknown(miss, name),
        }
    }
}

async fn policy(names: &Names<'_>, name: &str) -> Result<Vec<Term>, Problem> {
    let texts = match names.txt(name).await {
        Ok(texts) => texts,
        Err(miss) if miss.is_absent() => Vec::new(),
        Err(miss) => return Err(Problem::Unknown(miss, name.to_owned())),
    };
    let is_spf = |text: &&String| {
        text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("v=spf1"))
            && text.get(6..).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let found: Vec<&String> = texts.iter().filter(is_spf).collect();
    match found.as_slice() {
        [] => Err(Problem::None(name.to_owned())),
        [one] => parse(one).map_err(|term| Problem::Term(name.to_owned(), term)),
        several => Err(Problem::Several(name.to_owned(), several.len())),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    lookups: usize,
    void: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    All(char),
    Include(String),
    A(Option<String>),
    Mx(Option<String>),
    Ptr,
    Exists(String),
    Redirect(String),
    /// Addresses and explanations: they cost nothing.
    Free,
}

/// The terms of a record; an error is the one that no evaluator takes.
fn parse(record: &str) -> Result<Vec<Term>, String> {
    record.split_ascii_whitespace().skip(1).map(|term| read(term).ok_or_else(|| term.to_owned())).collect()
}

fn read(term: &str) -> Option<Term> {
    let lower = term.to_ascii_lowercase();
    // A modifier has `=` before any `:` or `/`.
    if let Some((name, value)) = lower.split_once('=')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        return match name {
            "redirect" => (!value.is_empty()).then(|| Term::Redirect(value.to_owned())),
            _ => starts_well.then_some(Term::Free),
        };
    }
    let qualifier = lower.chars().next().filter(|c| "+-~?".contains(*c));
    let rest = &lower[qualifier.map_or(0, char::len_utf8)..];
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    let argument = tail.strip_prefix(':');
    let domain = || argument.map(|argument| argument.split('/').next().unwrap_or_default().to_owned());
    let given = |domain: &String| !domain.is_empty();
    match name {
        "all" => tail.is_empty().then_some(Term::All(qualifier.unwrap_or('+'))),
        "include" => domain().filter(given).map(Term::Include),
        "exists" => argument.map(str::to_owned).filter(given).map(Term::Exists),
        "a" => domain().as_ref().is_none_or(given).then(|| Term::A(domain())),
        "mx" => domain().as_ref().is_none_or(given).then(|| Term::Mx(domain())),
        "ptr" => Some(Term::Ptr),
        "ip4" | "ip6" => {
            let (address, bits) = match argument?.split_once('/') {
                Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
                None => (argument?, None),
            };
            let most = if name == "ip4" {
                address.parse::<std::net::Ipv4Addr>().ok()?;
                32
            } else {
                address.parse::<std::net::Ipv6Addr>().ok()?;
                128
            };
            bits.is_none_or(|bits| bits <= most).then_some(Term::Free)
        }
        _ => None,
    }
}

/// Counts what an evaluation costs at most, through everything it includes.
fn follow<'a>(
    names: &'a Names<'_>,
    domain: &'a str,
    terms: &'a [Term],
    cost: &'a mut Cost,
) -> Pin<Box<dyn Future<Output = Result<(), Problem>> + Send + 'a>> {
    Box::pin(async move {
        // With `all` a redirection never comes to be.
        let has_all = terms.iter().any(|term| matches!(term, Term::All(_)));
        for term in terms {
            if cost.lookups > GIVE_UP {
                break;
            }
            match term {
                Term::All(_) | Term::Free => {}
                Term::Redirect(_) if has_all => {}
                Term::Ptr => cost.lookups += 1,
                Term::Exists(_) => cost.lookups += 1,
                Term::A(of) => {
                    cost.lookups += 1;
                    let name = of.as_deref().unwrap_or(domain);
                    if !name.contains('%') {
                        void(names.addresses(name).await.err(), name, cost)?;
                    }
                }
                Term::Mx(of) => {
                    cost.lookups += 1;
                    let name = of.as_deref().unwrap_or(domain);
                    if !name.contains('%') {
                        void(names.mx(name).await.err(), name, cost)?;
                    }
                }
                Term::Include(name) | Term::Redirect(name) => {
                    cost.lookups += 1;
                    if !name.contains('%') {
                        let terms = policy(names, name).await?;
                        follow(names, name, &terms, cost).await?;
                    }
                }
            }
        }
        Ok(())
    })
}

fn void(miss: Option<Miss>, name: &str, cost: &mut Cost) -> Result<(), Problem> {
    match miss {
        None => Ok(()),
        Some(miss) if miss.is_absent() => {
            cost.void += 1;
            Ok(())
        }
        Some(miss) => Err(Problem::Unknown(miss, name.to_owned())),
    }
}

fn judge(language: Language, probe: &MailDomainProbe, domain: &str, terms: &[Term], cost: &Cost) -> Seen {
    let domain = plain(domain, 80);
    let (lookups, void) = (cost.lookups, cost.void);
    let value = count_of(lookups);
    if lookups > MOST_LOOKUPS {
        let about = if lookups > GIVE_UP {
            say!(language, "mais de {GIVE_UP}", "more than {GIVE_UP}")
        } else {
            lookups.to_string()
        };
        return Seen::critical(say!(
            language,
            "o SPF de {domain} custa {about} consultas, e com mais de {MOST_LOOKUPS} não vale (permerror)",
            "the SPF of {domain} costs {about} lookups, and beyond {MOST_LOOKUPS} it does not count (permerror)"
        ))
        .measured(value, "count");
    }
    if void > MOST_VOID {
        return Seen::critical(say!(
            language,
            "o SPF de {domain} nomeia {void} nomes que não existem, e com mais de {MOST_VOID} não vale (permerror)",
            "the SPF of {domain} names {void} names that do not exist, and beyond {MOST_VOID} it does not count (permerror)"
        ))
        .measured(value, "count");
    }
    let all = terms.iter().find_map(|term| match term {
        Term::All(qualifier) => Some(*qualifier),
        _ => None,
    });
    let is_open = match all {
        Some('+') => {
            return Seen::critical(say!(
                language,
                "o SPF de {domain} termina em `+all` e permite a todos",
                "the SPF of {domain} ends in `+all` and permits everybody"
            ))
            .measured(value, "count");
        }
        Some('?') => true,
        Some(_) => false,
        None => !terms.iter().any(|term| matches!(term, Term::Redirect(_))),
    };
    let text = say!(
        language,
        "o SPF de {domain} vale e custa {lookups} de {MOST_LOOKUPS} consultas",
        "the SPF of {domain} is valid and costs {lookups} of {MOST_LOOKUPS} lookups"
    );
    let seen = Seen::judged(language, &probe.limits, value, "count", &text);
    if !is_open {
        return seen;
    }
    seen.worse(
        Seen::warning(say!(
            language,
            "o SPF de {domain} não proíbe ninguém (falta `-all` ou `~all`)",
            "the SPF of {domain} forbids nobody (`-all` or `~all` is missing)"
        ))
        .measured(value, "count"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_and_what_no_evaluator_takes_is_named() {
        assert_eq!(
            parse(
                "v=spf1 a mx/24 a:b.example/28 include:_spf.example.net ip4:192.0.2.0/24 ip6:2001:db8::/32 exists:%{i}.x -all"
            ),
            Ok(vec![
                Term::A(None),
                Term::Mx(None),
                Term::A(Some("b.example".to_owned())),
                Term::Include("_spf.example.net".to_owned()),
                Term::Free,
                Term::Free,
                Term::Exists("%{i}.x".to_owned()),
                Term::All('-'),
            ])
        );
        assert_eq!(
            parse("v=SPF1 redirect=x.example exp=y.example foo=bar"),
            Ok(vec![Term::Redirect("x.example".to_owned()), Term::Free, Term::Free])
        );
        for (record, term) in [
            ("v=spf1 ip4:192.0.2.256 -all", "ip4:192.0.2.256"),
            ("v=spf1 ipv4:192.0.2.1", "ipv4:192.0.2.1"),
            ("v=spf1 include: -all", "include:"),
            ("v=spf1 -all.", "-all."),
            ("v=spf1 ip4:192.0.2.0/33", "ip4:192.0.2.0/33"),
        ] {
            assert_eq!(parse(record), Err(term.to_owned()), "{record}");
        }
    }
}
