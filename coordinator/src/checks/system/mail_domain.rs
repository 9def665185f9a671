//! What the name system says about a mail domain: one look at a time.
//!
//! A record that is certainly not there is broken; one that could not be asked
//! for is unknown. Tags and terms that nobody knows are left alone where the
//! standards say so.

mod dkim;
mod dmarc;
mod mta_sts;
mod spf;

use farol_protocol::{
    Language,
    system::{MailDomainProbe, MailLook},
};
use tokio::time::timeout;

use super::{
    Asking, Seen,
    dns::{Names, gave_up},
    talk::some,
};
use crate::text::{plain, say};

pub(super) async fn ask(asking: &Asking<'_>, probe: &MailDomainProbe) -> Seen {
    match timeout(asking.limit, look(asking, probe)).await {
        Ok(seen) => seen.unwrap_or_else(|seen| seen),
        Err(_) => gave_up(asking, &probe.domain),
    }
}

async fn look(asking: &Asking<'_>, probe: &MailDomainProbe) -> Result<Seen, Seen> {
    let names = Names::new(asking, probe.resolver.as_deref()).await?;
    match probe.look {
        MailLook::Mx => mx(asking, probe, &names).await,
        MailLook::Spf => spf::look(asking, probe, &names).await,
        MailLook::Dkim => dkim::look(asking, probe, &names).await,
        MailLook::Dmarc => dmarc::look(asking, probe, &names).await,
        MailLook::Ptr => ptr(asking, probe, &names).await,
        MailLook::MtaSts => mta_sts::look(asking, probe, &names).await,
    }
}

/// `tag=value` pairs between semicolons, tags in small letters.
fn tags(record: &str) -> Vec<(String, String)> {
    let pairs = record.split(';').filter_map(|pair| pair.split_once('='));
    pairs.map(|(tag, value)| (tag.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn tag<'a>(tags: &'a [(String, String)], name: &str) -> Option<&'a str> {
    tags.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.as_str())
}

#[expect(clippy::cast_precision_loss, reason = "a list holds far fewer than 2^52 rows")]
const fn count_of(count: usize) -> f64 {
    count as f64
}

async fn mx(asking: &Asking<'_>, probe: &MailDomainProbe, names: &Names<'_>) -> Result<Seen, Seen> {
    let language = asking.language;
    let domain = plain(&probe.domain, 80);
    let exchangers = names.mx(&probe.domain).await.map_err(|miss| {
        if miss.is_absent() {
            Seen::critical(say!(
                language,
                "{domain} não tem MX: o correio não chega por caminho certo",
                "{domain} has no MX: mail has no certain way to it"
            ))
        } else {
            names.unknown(&miss, &probe.domain)
        }
    })?;
    if exchangers.iter().any(|(_, name)| name.is_empty()) {
        return Err(Seen::critical(say!(
            language,
            "{domain} diz com um MX vazio que não recebe correio",
            "{domain} says with an empty MX that it takes no mail"
        )));
    }
    let mut lost = Vec::new();
    for (_, exchanger) in &exchangers {
        match names.addresses(exchanger).await {
            Ok(_) => {}
            Err(miss) if miss.is_absent() => lost.push(exchanger.clone()),
            Err(miss) => return Err(names.unknown(&miss, exchanger)),
        }
    }
    let total = exchangers.len();
    if !lost.is_empty() {
        let (count, list) = (lost.len(), some(&lost));
        let text = say!(
            language,
            "{count} de {total} MX de {domain} não têm endereço: {list}",
            "{count} of {total} MX of {domain} have no address: {list}"
        );
        let seen = if count == total { Seen::critical(text) } else { Seen::warning(text) };
        return Ok(seen.measured(count_of(total), "count"));
    }
    let list = some(&exchangers.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
    let text = say!(
        language,
        "{domain} tem {total} MX, todos com endereço: {list}",
        "{domain} has {total} MX, each with an address: {list}"
    );
    Ok(Seen::judged(language, &probe.limits, count_of(total), "count", &text))
}

async fn ptr(asking: &Asking<'_>, probe: &MailDomainProbe, names: &Names<'_>) -> Result<Seen, Seen> {
    let language = asking.language;
    let Ok(address) = probe.domain.parse() else {
        return Err(Seen::not_configured(say!(
            language,
            "`domain` deve ser o endereço IP do servidor de correio",
            "`domain` must be the IP address of the mail server"
        )));
    };
    let found = names.ptr(address).await.map_err(|miss| {
        if miss.is_absent() {
            Seen::critical(say!(
                language,
                "{address} não tem nome reverso (PTR); muitos servidores recusam o seu correio",
                "{address} has no reverse name (PTR); many servers refuse its mail"
            ))
        } else {
            names.unknown(&miss, &probe.domain)
        }
    })?;
    let mut doubt = None;
    for name in &found {
        match names.addresses_like(address, name).await {
            Ok(addresses) if addresses.contains(&address) => {
                let name = plain(name, 80);
                return Ok(Seen::ok(say!(
                    language,
                    "{address} chama-se {name}, e esse nome leva de volta a ele",
                    "{address} is called {name}, and that name leads back to it"
                )));
            }
            Ok(_) => {}
            Err(miss) if miss.is_absent() => {}
            Err(miss) => doubt = Some(names.unknown(&miss, name)),
        }
    }
    let list = some(&found);
    Err(doubt.unwrap_or_else(|| {
        Seen::critical(say!(
            language,
            "o nome reverso de {address} é {list}, mas esse nome não leva de volta a ele",
            "the reverse name of {address} is {list}, but that name does not lead back to it"
        ))
    }))
}

/// There is more than one record where there must be one.
fn several(language: Language, what: &str, name: &str, count: usize) -> Seen {
    let name = plain(name, 80);
    Seen::critical(say!(
        language,
        "{name} tem {count} registros {what} em vez de um: nenhum vale",
        "{name} has {count} {what} records instead of one: none counts"
    ))
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, report::Limits};
    use farol_tests::dns::Dns;
    use hickory_resolver::proto::rr::RecordType;

    use super::*;
    use crate::{checks::system::testing::asking, integrations::http::Clients};

    #[tokio::test]
    async fn a_reverse_name_is_asked_for_addresses_of_the_same_family_only() {
        let dns = Dns::start().await.expect("a name server");
        let address = "192.0.2.10".parse().expect("an address");
        dns.ptr(address, "mx1.good.test");
        dns.address_of("mx1.good.test", address);
        let probe = MailDomainProbe {
            domain: address.to_string(),
            look: MailLook::Ptr,
            selector: None,
            resolver: Some(dns.address()),
            limits: Limits::default(),
        };
        let clients = Clients::default();
        let seen = ask(&asking(&clients), &probe).await;
        assert_eq!(seen.status, Status::Ok, "{}", seen.text);
        let kinds: Vec<String> = dns.asked().iter().map(|(_, kind)| kind.to_string()).collect();
        assert!(kinds.contains(&RecordType::A.to_string()), "{kinds:?}");
        assert!(!kinds.contains(&RecordType::AAAA.to_string()), "{kinds:?}");
    }
}
