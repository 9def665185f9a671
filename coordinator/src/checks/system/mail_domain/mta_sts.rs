//! MTA-STS (RFC 8461): the record and the policy that it announces.

use farol_protocol::Language;
use farol_protocol::system::MailDomainProbe;
use reqwest::header::LOCATION;

use super::{several, tag, tags};
use crate::{
    checks::{
        seen::Seen,
        system::{Asking, dns::Names, talk::some},
    },
    integrations::http::exchange,
    text::{plain, say},
};

pub(super) async fn look(asking: &Asking<'_>, probe: &MailDomainProbe, names: &Names<'_>) -> Result<Seen, Seen> {
    let language = asking.language;
    let domain = plain(&probe.domain, 80);
    let name = format!("_mta-sts.{}", probe.domain);
    let none = || {
        Seen::critical(say!(
            language,
            "{domain} não tem MTA-STS (falta o TXT em _mta-sts)",
            "{domain} has no MTA-STS (the TXT at _mta-sts is missing)"
        ))
    };
    let texts = match names.txt(&name).await {
        Ok(texts) => texts,
        Err(miss) if miss.is_absent() => return Err(none()),
        Err(miss) => return Err(names.unknown(&miss, &name)),
    };
    let announced: Vec<&String> = texts.iter().filter(|text| text.starts_with("v=STSv1")).collect();
    match announced.as_slice() {
        [] => return Err(none()),
        [one] if tag(&tags(one), "id").is_some_and(|id| !id.is_empty()) => {}
        [_] => {
            return Err(Seen::critical(say!(
                language,
                "o TXT de MTA-STS de {domain} não tem `id`",
                "the MTA-STS record of {domain} has no `id`"
            )));
        }
        several_of => return Err(several(language, "MTA-STS", &name, several_of.len())),
    }
    let client = asking.client_for(None).map_err(|failure| asking.failed(&domain, &failure))?;
    let host = format!("mta-sts.{}", probe.domain);
    let request = client.get(format!("https://{host}/.well-known/mta-sts.txt"));
    let answer = exchange(request, asking.limit).await.map_err(|failure| asking.failed(&host, &failure))?;
    let status = answer.status;
    if (300..=399).contains(&status) {
        let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("?");
        let to = plain(to, 120);
        return Err(Seen::critical(say!(
            language,
            "{host} manda para {to}, e MTA-STS não segue desvios",
            "{host} sends on to {to}, and MTA-STS follows no redirects"
        )));
    }
    if status != 200 {
        return Err(Seen::critical(say!(
            language,
            "{host} respondeu {status} em vez da política de MTA-STS",
            "{host} answered {status} instead of the MTA-STS policy"
        )));
    }
    let Some(policy) = Policy::read(&String::from_utf8_lossy(&answer.body)) else {
        return Err(Seen::critical(say!(
            language,
            "a política de MTA-STS de {domain} não pode ser lida",
            "the MTA-STS policy of {domain} cannot be read"
        )));
    };
    let exchangers = match names.mx(&probe.domain).await {
        Ok(found) => found.into_iter().map(|(_, name)| name).collect(),
        Err(miss) if miss.is_absent() => Vec::new(),
        Err(miss) => return Err(names.unknown(&miss, &probe.domain)),
    };
    Ok(policy.judge(language, probe, &exchangers))
}

#[derive(Debug, PartialEq, Eq)]
struct Policy {
    mode: String,
    mx: Vec<String>,
    max_age: u32,
}

impl Policy {
    fn read(text: &str) -> Option<Self> {
        let pairs: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let one = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        if one("version") != Some("STSv1") {
            return None;
        }
        let policy = Self {
            mode: one("mode").filter(|mode| ["enforce", "testing", "none"].contains(mode))?.to_owned(),
            mx: pairs.iter().filter(|(key, _)| *key == "mx").map(|(_, value)| value.to_ascii_lowercase()).collect(),
            max_age: one("max_age")?.parse().ok().filter(|age| *age <= 31_557_600)?,
        };
        (policy.mode == "none" || !policy.mx.is_empty()).then_some(policy)
    }

    fn names(&self, exchanger: &str) -> bool {
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => exchanger.split_once('.').is_some_and(|(_, rest)| rest == suffix),
            None => pattern == exchanger,
        })
    }

    fn judge(&self, language: Language, probe: &MailDomainProbe, exchangers: &[String]) -> Seen {
        let (domain, mode, age) = (plain(&probe.domain, 80), &self.mode, self.max_age);
        let value = f64::from(age);
        let left_out: Vec<String> = exchangers.iter().filter(|name| !self.names(name)).cloned().collect();
        if mode != "none" && !left_out.is_empty() {
            let list = some(&left_out);
            let text = say!(
                language,
                "a política de MTA-STS de {domain} não nomeia o MX {list}: o correio para ele será retido",
                "the MTA-STS policy of {domain} does not name the MX {list}: mail for it will be held back"
            );
            let seen = if mode == "enforce" { Seen::critical(text) } else { Seen::warning(text) };
            return seen.measured(value, "s");
        }
        if mode != "enforce" {
            return Seen::warning(say!(
                language,
                "a política de MTA-STS de {domain} está em `{mode}` e não protege",
                "the MTA-STS policy of {domain} is in `{mode}` and does not protect"
            ))
            .measured(value, "s");
        }
        let text = say!(
            language,
            "{domain} exige TLS por MTA-STS; a política vale {age} s",
            "{domain} demands TLS by MTA-STS; the policy lasts {age} s"
        );
        Seen::judged(language, &probe.limits, value, "s", &text)
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, report::Limits, system::MailLook};

    use super::*;

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn a_policy_is_read_and_held_against_the_exchangers() {
        let probe = MailDomainProbe {
            domain: "example.org".to_owned(),
            look: MailLook::MtaSts,
            selector: None,
            resolver: None,
            limits: Limits::default(),
        };
        let judged = |text: &str, exchanger: &str| {
            Policy::read(text).expect("a policy").judge(Language::En, &probe, &[exchanger.to_owned()]).status
        };
        assert_eq!(judged(GOOD, "mx1.example.org"), Status::Ok);
        assert_eq!(judged(GOOD, "a.example.net"), Status::Ok);
        assert_eq!(judged(GOOD, "a.b.example.net"), Status::Critical);
        assert_eq!(judged(&GOOD.replace("enforce", "testing"), "mx1.example.org"), Status::Warning);
        for wrong in [
            "",
            "<html>",
            "version: STSv2\nmode: none\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmax_age: 1",
            "version: STSv1\nmode: none\nmax_age: 99999999999",
        ] {
            assert_eq!(Policy::read(wrong), None, "{wrong}");
        }
    }
}
