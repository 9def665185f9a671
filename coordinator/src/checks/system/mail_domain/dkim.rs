//! DKIM (RFC 6376): the key of a selector.

use data_encoding::BASE64;
use farol_protocol::{Language, system::MailDomainProbe};
use x509_parser::{
    prelude::FromDer as _,
    public_key::{PublicKey, RSAPublicKey},
    x509::SubjectPublicKeyInfo,
};

use super::{several, tag, tags};
use crate::{
    checks::{
        seen::Seen,
        system::{Asking, dns::Names},
    },
    text::{plain, say},
};

/// RFC 8301: verifiers take no key below this,
const LEAST_BITS: usize = 1024;
/// and signers use no key below that.
const GOOD_BITS: usize = 2048;

pub(super) async fn look(asking: &Asking<'_>, probe: &MailDomainProbe, names: &Names<'_>) -> Result<Seen, Seen> {
    let language = asking.language;
    let name = format!("{}._domainkey.{}", probe.selector.as_deref().unwrap_or_default(), probe.domain);
    let records = names.txt(&name).await.map_err(|miss| {
        if miss.is_absent() {
            let name = plain(&name, 120);
            Seen::critical(say!(
                language,
                "não há chave DKIM em {name}: assinaturas com esse seletor não valem",
                "there is no DKIM key at {name}: signatures with this selector do not count"
            ))
        } else {
            names.unknown(&miss, &name)
        }
    })?;
    match records.as_slice() {
        [record] => Ok(judge(language, probe, &name, &Key::read(record))),
        records => Err(several(language, "DKIM", &name, records.len())),
    }
}

/// What a record says of its key.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// A key of this many bits, by this algorithm.
    Bits { bits: usize, algorithm: &'static str, is_test: bool },
    /// An empty key: it counts no more.
    Revoked,
    /// It cannot be read.
    Broken,
}

impl Key {
    fn read(record: &str) -> Self {
        let tags = tags(record);
        // Where the version stands, it stands first.
        if tags.iter().position(|(tag, _)| tag == "v").is_some_and(|at| at > 0)
            || tag(&tags, "v").is_some_and(|version| version != "DKIM1")
        {
            return Self::Broken;
        }
        let Some(key) = tag(&tags, "p") else { return Self::Broken };
        let key: String = key.chars().filter(|c| !c.is_whitespace()).collect();
        if key.is_empty() {
            return Self::Revoked;
        }
        let is_test = tag(&tags, "t").is_some_and(|flags| flags.split(':').any(|flag| flag.trim() == "y"));
        let Ok(der) = BASE64.decode(key.as_bytes()) else { return Self::Broken };
        let (bits, algorithm) = match tag(&tags, "k").unwrap_or("rsa") {
            "rsa" => (rsa_bits(&der), "RSA"),
            "ed25519" => ((der.len() == 32).then_some(256), "Ed25519"),
            _ => (None, ""),
        };
        bits.map_or(Self::Broken, |bits| Self::Bits { bits, algorithm, is_test })
    }
}

/// Both the form of the standard and the one that everybody publishes.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    if let Ok((_, info)) = SubjectPublicKeyInfo::from_der(der)
        && let Ok(PublicKey::RSA(key)) = info.parsed()
    {
        return Some(key.key_size());
    }
    RSAPublicKey::from_der(der).ok().map(|(_, key)| key.key_size())
}

fn judge(language: Language, probe: &MailDomainProbe, name: &str, key: &Key) -> Seen {
    let name = plain(name, 120);
    match key {
        Key::Revoked => Seen::critical(say!(
            language,
            "a chave DKIM em {name} está revogada (`p=` vazio)",
            "the DKIM key at {name} is revoked (`p=` is empty)"
        )),
        Key::Broken => Seen::critical(say!(
            language,
            "o registro DKIM em {name} não pode ser lido: nenhuma assinatura vale",
            "the DKIM record at {name} cannot be read: no signature counts"
        )),
        Key::Bits { bits, algorithm, is_test } => {
            #[expect(clippy::cast_precision_loss, reason = "keys are short")]
            let value = *bits as f64;
            let text = say!(
                language,
                "a chave DKIM em {name} é {algorithm} de {bits} bits",
                "the DKIM key at {name} is {algorithm} with {bits} bits"
            );
            let seen = Seen::judged(language, &probe.limits, value, "bit", &text);
            let seen = match *bits {
                bits if *algorithm == "RSA" && bits < LEAST_BITS => Seen::critical(say!(
                    language,
                    "{text}, e abaixo de {LEAST_BITS} ninguém a aceita",
                    "{text}, and below {LEAST_BITS} nobody takes it"
                ))
                .measured(value, "bit"),
                bits if *algorithm == "RSA" && bits < GOOD_BITS => seen.worse(
                    Seen::warning(say!(
                        language,
                        "{text}; troque-a por uma de {GOOD_BITS}",
                        "{text}; replace it by one of {GOOD_BITS}"
                    ))
                    .measured(value, "bit"),
                ),
                _ => seen,
            };
            if !is_test {
                return seen;
            }
            seen.worse(
                Seen::warning(say!(
                    language,
                    "{text}, mas em teste (`t=y`): as assinaturas não contam",
                    "{text}, but under test (`t=y`): its signatures do not count"
                ))
                .measured(value, "bit"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1024 bits, made for this test.
    const RSA: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQ";

    #[test]
    fn a_key_is_read_revoked_or_broken() {
        assert_eq!(Key::read("v=DKIM1; k=rsa; p="), Key::Revoked);
        assert_eq!(Key::read(&format!("v=DKIM1; p={RSA}")), Key::Broken, "it is cut");
        assert_eq!(Key::read("v=DKIM1; k=rsa"), Key::Broken);
        assert_eq!(Key::read("k=rsa; v=DKIM1; p=AAAA"), Key::Broken);
        assert_eq!(Key::read("v=DKIM2; p=AAAA"), Key::Broken);
        let ed = format!("v=DKIM1; k=ed25519; t=s:y; p={}", BASE64.encode(&[7; 32]));
        assert_eq!(Key::read(&ed), Key::Bits { bits: 256, algorithm: "Ed25519", is_test: true });
    }
}
