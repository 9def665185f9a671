//! Block lists by DNS, after RFC 5782.
//!
//! Whoever asks a list holds to its terms: no zone is built in, the registry
//! refuses an interval under an hour, and a zone is believed only once it has
//! told its own test entries apart. Answers in 127.255.255.0/24 say that the
//! question was refused, never that something is listed.

use std::net::{IpAddr, Ipv4Addr};

use farol_protocol::{Language, system::BlockListProbe};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Asking, Seen,
    dns::{Miss, Names, gave_up},
    talk::some,
};
use crate::text::{plain, say};

pub(super) async fn ask(asking: &Asking<'_>, probe: &BlockListProbe) -> Seen {
    match timeout(asking.limit, look(asking, probe)).await {
        Ok(seen) => seen.unwrap_or_else(|seen| seen),
        Err(_) => gave_up(asking, &probe.subject),
    }
}

async fn look(asking: &Asking<'_>, probe: &BlockListProbe) -> Result<Seen, Seen> {
    let language = asking.language;
    let names = Names::new(asking, probe.resolver.as_deref()).await?;
    let subject = Subject::of(&probe.subject);
    let zones = join_all(probe.zones.iter().map(|zone| asked(&names, &subject, zone.trim_matches('.')))).await;
    let (mut listed, mut silent) = (Vec::new(), Vec::new());
    for (zone, verdict) in probe.zones.iter().zip(zones) {
        let zone = plain(zone, 60);
        match verdict {
            Verdict::Listed(reason) if reason.is_empty() => listed.push(zone),
            Verdict::Listed(reason) => listed.push(format!("{zone} ({reason})")),
            Verdict::NotListed => {}
            Verdict::Silent(why) => silent.push(format!("{zone} ({})", why.words(asking))),
        }
    }
    let (count, total) = (listed.len(), probe.zones.len());
    let (subject, lists, doubts) = (plain(&probe.subject, 80), some(&listed), some(&silent));
    let text = if listed.is_empty() {
        let answered = total - silent.len();
        say!(
            language,
            "{subject} não está em nenhuma das {answered} listas que responderam",
            "{subject} is on none of the {answered} lists that answered"
        )
    } else {
        say!(
            language,
            "{subject} está em {count} de {total} listas: {lists}",
            "{subject} is on {count} of {total} lists: {lists}"
        )
    };
    #[expect(clippy::cast_precision_loss, reason = "zones are few")]
    let value = count as f64;
    let seen = Seen::judged(language, &probe.limits, value, "count", &text);
    if silent.is_empty() {
        return Ok(seen);
    }
    let doubt = Seen::unknown(say!(
        language,
        "não se sabe de {subject} em: {doubts}",
        "it is not known whether {subject} is on: {doubts}"
    ));
    Ok(seen.worse(doubt))
}

/// What is looked up: an address in its reversed form, or a domain.
enum Subject {
    V4(String),
    V6(String),
    Domain(String),
}

impl Subject {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(IpAddr::V4(ip)) => Self::V4(reversed(IpAddr::V4(ip))),
            Ok(IpAddr::V6(ip)) => Self::V6(reversed(IpAddr::V6(ip))),
            Err(_) => Self::Domain(text.trim_matches('.').to_ascii_lowercase()),
        }
    }

    fn label(&self) -> &str {
        match self {
            Self::V4(label) | Self::V6(label) | Self::Domain(label) => label,
        }
    }

    /// What every working list has, and what none may have.
    fn tests(&self) -> (String, String) {
        match self {
            Self::V4(_) => ("2.0.0.127".to_owned(), "1.0.0.127".to_owned()),
            Self::V6(_) => {
                let mapped = |last| IpAddr::V6(Ipv4Addr::new(127, 0, 0, last).to_ipv6_mapped());
                (reversed(mapped(2)), reversed(mapped(1)))
            }
            Self::Domain(_) => ("test".to_owned(), "invalid".to_owned()),
        }
    }
}

/// Octets or nibbles, the last one first.
fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            let nibbles: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            nibbles.into_iter().rev().collect::<Vec<_>>().join(".")
        }
    }
}

enum Verdict {
    Listed(String),
    NotListed,
    Silent(Why),
}

/// Why a list is not believed.
enum Why {
    /// It does not list what every list has, or lists what none may have.
    Test,
    /// It refuses the question, with this code.
    Refused(Ipv4Addr),
    /// It answers with an address that is no code.
    Strange(IpAddr),
    Miss(Miss, String),
}

impl Why {
    fn words(&self, asking: &Asking<'_>) -> String {
        let language = asking.language;
        match self {
            Self::Test => say!(
                language,
                "não passou no seu próprio teste; a lista acabou, ou recusa este servidor de nomes",
                "failed its own test; the list has ended, or refuses this name server"
            ),
            Self::Refused(code) => refusal(language, *code),
            Self::Strange(address) => {
                say!(language, "respondeu {address}, que não é um código", "answered {address}, which is no code")
            }
            Self::Miss(miss, name) => miss.words(language, name, asking.limit),
        }
    }
}

fn refusal(language: Language, code: Ipv4Addr) -> String {
    match code.octets()[3] {
        252 => say!(language, "o nome da zona está errado ({code})", "the zone's name is wrong ({code})"),
        254 => say!(
            language,
            "recusa servidores de nomes públicos ({code}); use um próprio",
            "refuses public name servers ({code}); use one of your own"
        ),
        255 => say!(language, "recusa por excesso de perguntas ({code})", "refuses too many questions ({code})"),
        _ => say!(language, "recusou a pergunta ({code})", "refused the question ({code})"),
    }
}

async fn asked(names: &Names<'_>, subject: &Subject, zone: &str) -> Verdict {
    let (there, absent) = subject.tests();
    match entry(names, &there, zone).await {
        Ok(true) => {}
        Ok(false) => return Verdict::Silent(Why::Test),
        Err(why) => return Verdict::Silent(why),
    }
    match entry(names, &absent, zone).await {
        Ok(false) => {}
        Ok(true) => return Verdict::Silent(Why::Test),
        Err(why) => return Verdict::Silent(why),
    }
    match entry(names, subject.label(), zone).await {
        Ok(false) => Verdict::NotListed,
        Ok(true) => {
            let reason = names.txt(&format!("{}.{zone}", subject.label())).await;
            Verdict::Listed(reason.ok().and_then(|texts| texts.first().map(|text| plain(text, 80))).unwrap_or_default())
        }
        Err(why) => Verdict::Silent(why),
    }
}

/// Whether a zone has an entry.
async fn entry(names: &Names<'_>, label: &str, zone: &str) -> Result<bool, Why> {
    let name = format!("{label}.{zone}");
    match names.a(&name).await {
        Ok(codes) => meaning(&codes),
        Err(miss) if miss.is_absent() => Ok(false),
        Err(miss) => Err(Why::Miss(miss, name)),
    }
}

fn meaning(codes: &[IpAddr]) -> Result<bool, Why> {
    for code in codes {
        match code {
            IpAddr::V4(v4) if v4.octets()[..3] == [127, 255, 255] => return Err(Why::Refused(*v4)),
            IpAddr::V4(v4) if v4.is_loopback() => {}
            other => return Err(Why::Strange(*other)),
        }
    }
    Ok(!codes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_turned_around_by_octets_and_by_nibbles() {
        assert_eq!(Subject::of("192.0.2.99").label(), "99.2.0.192");
        assert_eq!(
            Subject::of("2001:db8::1").label(),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
        );
        assert_eq!(Subject::of("Example.ORG.").label(), "example.org");
        let (there, absent) = Subject::of("::1").tests();
        assert!(there.starts_with("2.0.0.0.0.0.f.7.f.f.f.f.0."), "{there}");
        assert!(absent.starts_with("1.0.0.0.0.0.f.7.f.f.f.f.0."), "{absent}");
    }

    #[test]
    fn a_refusal_is_no_listing() {
        let codes = |text: &str| meaning(&[text.parse().expect("an address")]);
        assert!(matches!(codes("127.0.0.4"), Ok(true)));
        assert!(matches!(codes("127.255.255.254"), Err(Why::Refused(_))));
        assert!(matches!(codes("203.0.113.7"), Err(Why::Strange(_))));
        assert!(matches!(codes("::1"), Err(Why::Strange(_))));
    }
}
