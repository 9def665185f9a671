//! Questions to the name system, with its four kinds of "nothing" kept apart.

use std::{net::IpAddr, time::Duration};

use farol_protocol::Language;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};

use super::{Asking, Seen};
use crate::{
    integrations::{http::Failure, stream::Place},
    text::{number, plain, say},
};

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// The name does not exist.
    NoName,
    /// It has no record of this type.
    NoRecord,
    /// The server could not tell.
    Failed(String),
    /// It did not answer in time.
    Timeout,
    /// The name is none that can be asked for.
    BadName,
}

impl Miss {
    /// Whether it is certain that the record is not there.
    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::NoName | Self::NoRecord)
    }

    /// In the operator's words, about `name`.
    pub(super) fn words(&self, language: Language, name: &str, limit: Duration) -> String {
        let name = plain(name, 120);
        match self {
            Self::NoName => say!(language, "o nome {name} não existe", "the name {name} does not exist"),
            Self::NoRecord => say!(language, "{name} não tem esse registro", "{name} has no such record"),
            Self::Failed(why) => {
                say!(
                    language,
                    "o servidor de nomes falhou para {name}: {why}",
                    "the name server failed for {name}: {why}"
                )
            }
            Self::Timeout => {
                let seconds = number(limit.as_secs_f64(), language);
                say!(
                    language,
                    "o servidor de nomes não respondeu sobre {name} em {seconds} s",
                    "the name server did not answer about {name} within {seconds} s"
                )
            }
            Self::BadName => say!(language, "`{name}` não é um nome de domínio", "`{name}` is no domain name"),
        }
    }
}

/// Found records, or why there are none. A list that was found is not empty.
pub(super) type Found<T> = Result<Vec<T>, Miss>;

/// Asks one name server, or those of the system.
pub(super) struct Names<'a> {
    resolver: TokioResolver,
    asking: &'a Asking<'a>,
}

impl<'a> Names<'a> {
    /// With the name server at `host:port`, else with those of the system.
    pub(super) async fn new(asking: &'a Asking<'a>, server: Option<&str>) -> Result<Self, Seen> {
        let language = asking.language;
        let unusable = |why: String| {
            Seen::unknown(say!(
                language,
                "o servidor de nomes não pode ser usado: {why}",
                "the name server cannot be used: {why}"
            ))
        };
        let mut builder = match server {
            None => TokioResolver::builder_tokio().map_err(|error| unusable(plain(&error.to_string(), 120)))?,
            Some(server) => {
                let place = Place::parse(server).ok_or_else(|| unusable(format!("`{}`", plain(server, 80))))?;
                let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
                let ip = found.ok().and_then(|mut found| found.next()).ok_or_else(|| unusable(place.to_string()))?.ip();
                let at = |mut connection: ConnectionConfig| {
                    connection.port = place.port;
                    connection
                };
                let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
                let config =
                    ResolverConfig::from_parts(None, Vec::new(), vec![NameServerConfig::new(ip, true, connections)]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        // Two tries within the limit of the look.
        options.timeout = (asking.limit / 3).max(Duration::from_millis(100));
        options.attempts = 2;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(|error| unusable(plain(&error.to_string(), 120)))?;
        Ok(Self { resolver, asking })
    }

    /// A look that could not be taken.
    pub(super) fn unknown(&self, miss: &Miss, name: &str) -> Seen {
        Seen::unknown(miss.words(self.asking.language, name, self.asking.limit))
    }

    /// Texts of a name, each put together from its pieces.
    pub(super) async fn txt(&self, name: &str) -> Found<String> {
        self.records(name, RecordType::TXT, |data| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        })
        .await
    }

    /// Mail exchangers with their preference, the first one first.
    pub(super) async fn mx(&self, name: &str) -> Found<(u16, String)> {
        let mut found = self
            .records(name, RecordType::MX, |data| match data {
                RData::MX(mx) => Some((mx.preference, bare(&mx.exchange))),
                _ => None,
            })
            .await?;
        found.sort();
        Ok(found)
    }

    /// Addresses of both families.
    pub(super) async fn addresses(&self, name: &str) -> Found<IpAddr> {
        let (four, six) = tokio::join!(self.of_family(name, RecordType::A), self.of_family(name, RecordType::AAAA));
        match (four, six) {
            (Ok(mut four), Ok(six)) => {
                four.extend(six);
                Ok(four)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            // Not knowing of one is not knowing.
            (Err(miss), Err(other)) => Err(if miss.is_absent() { other } else { miss }),
        }
    }

    /// Addresses of the family of `address`: the other one cannot hold it.
    pub(super) async fn addresses_like(&self, address: IpAddr, name: &str) -> Found<IpAddr> {
        self.of_family(name, if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }).await
    }

    /// IPv4 addresses.
    pub(super) async fn a(&self, name: &str) -> Found<IpAddr> {
        self.of_family(name, RecordType::A).await
    }

    async fn of_family(&self, name: &str, family: RecordType) -> Found<IpAddr> {
        self.records(name, family, |data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .await
    }

    /// Names of an address.
    pub(super) async fn ptr(&self, address: IpAddr) -> Found<String> {
        let name = bare(&Name::from(address));
        self.records(&name, RecordType::PTR, |data| match data {
            RData::PTR(ptr) => Some(bare(&ptr.0)),
            _ => None,
        })
        .await
    }

    async fn records<T>(&self, name: &str, kind: RecordType, read: impl Fn(&RData) -> Option<T>) -> Found<T> {
        let trimmed = name.trim_end_matches('.');
        let parsed = if trimmed.is_ascii() { Name::from_ascii(trimmed) } else { Name::from_utf8(trimmed) };
        let mut fqdn = parsed.map_err(|_| Miss::BadName)?;
        fqdn.set_fqdn(true);
        let answer = self.resolver.lookup(fqdn, kind).await.map_err(|error| miss(&error))?;
        let found: Vec<T> = answer.answers().iter().filter_map(|record| read(&record.data)).collect();
        if found.is_empty() { Err(Miss::NoRecord) } else { Ok(found) }
    }
}

/// Without the dot at its end.
fn bare(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn miss(error: &NetError) -> Miss {
    if error.is_nx_domain() {
        return Miss::NoName;
    }
    if error.is_no_records_found() {
        return Miss::NoRecord;
    }
    match error {
        NetError::Timeout => Miss::Timeout,
        NetError::Dns(DnsError::ResponseCode(code)) => Miss::Failed(plain(&code.to_string(), 60)),
        other => Miss::Failed(plain(&other.to_string(), 120)),
    }
}

/// The name system was given up as a whole.
pub(super) fn gave_up(asking: &Asking<'_>, target: &str) -> Seen {
    asking.failed(target, &Failure::Timeout)
}
