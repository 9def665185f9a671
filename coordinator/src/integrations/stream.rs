//! TCP and TLS towards systems that do not speak HTTP, with the same trust and
//! the same words for failures as [`http`](super::http).

use std::{
    error::Error as StdError,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use farol_agent::probe::{is_local, is_no_way, tls_error};
use farol_pki::{OtherCertificate, Pin, pinned_config, unverified_config};
use reqwest::Url;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Tls, http::Failure};

/// Where a stream leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name or address, an IPv6 one without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Place {
    /// Of an address such as `redis://host:6379/0`; none where it has no host.
    #[must_use]
    pub fn of(url: &Url, default_port: u16) -> Option<Self> {
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(Self { host: bare(host).to_owned(), port: url.port().unwrap_or(default_port) })
    }

    /// Of `host:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = bare(host);
        Some(Self { host: (!host.is_empty()).then(|| host.to_owned())?, port: port.parse().ok()? })
    }

    /// Whether it is this machine, so that nobody listens in between.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Connects.
    ///
    /// # Errors
    /// The target refuses, or there is no way to it.
    pub async fn connect(&self) -> Result<TcpStream, Failure> {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|error| Failure::NoWay(Box::new(error)))?.collect();
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| failure(Box::new(error)))?;
        stream.set_nodelay(true).map_err(|error| failure(Box::new(error)))?;
        Ok(stream)
    }

    /// Begins TLS on a stream to it.
    ///
    /// # Errors
    /// The certificate is not believed, or the target breaks off.
    pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<S>, Failure> {
        let name = ServerName::try_from(self.host.clone()).map_err(|error| Failure::Unusable(error.to_string()))?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| failure(Box::new(error)))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Configuration that believes `tls`.
///
/// # Errors
/// The pin or the authority cannot be used, or this machine has no authorities.
pub fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, Failure> {
    // The machine's authorities are a few hundred files to read.
    static VERIFYING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let unusable = |error: rustls::Error| Failure::Unusable(error.to_string());
    let builder = || {
        ClientConfig::builder_with_provider(farol_pki::provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)
    };
    Ok(match tls {
        Tls::Verify => match VERIFYING.get() {
            Some(config) => Arc::clone(config),
            None => {
                let made = Arc::new(builder()?.with_platform_verifier().map_err(unusable)?.with_no_client_auth());
                Arc::clone(VERIFYING.get_or_init(|| made))
            }
        },
        Tls::Ca(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| Failure::Unusable(error.to_string()))?;
                roots.add(certificate).map_err(unusable)?;
            }
            Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth())
        }
        Tls::Pin(pin) => {
            let pin = Pin::parse(pin)
                .ok_or_else(|| Failure::Unusable("the pin is not the SHA-256 of a certificate".to_owned()))?;
            Arc::new(pinned_config(pin))
        }
        Tls::Insecure => Arc::new(unverified_config()),
    })
}

/// What an error of a stream means.
#[must_use]
pub fn failure(error: Box<dyn StdError + Send + Sync>) -> Failure {
    let cause: &(dyn StdError + 'static) = error.as_ref();
    if let Some(tls) = tls_error(cause) {
        return match OtherCertificate::of(tls) {
            Some(other) => Failure::OtherCertificate(other.clone()),
            None => Failure::Tls(error),
        };
    }
    if is_local(cause) || is_no_way(cause) { Failure::NoWay(error) } else { Failure::Refused(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_with_and_without_a_port_and_in_both_families() {
        let of = |url: &str| Place::of(&Url::parse(url).expect("a URL"), 6379).map(|place| place.to_string());
        assert_eq!(of("redis://cache.example"), Some("cache.example:6379".to_owned()));
        assert_eq!(of("postgres://10.0.0.1:5433/app"), Some("10.0.0.1:5433".to_owned()));
        assert_eq!(of("redis://[::1]:7"), Some("[::1]:7".to_owned()));
        assert_eq!(Place::parse("[::1]:25"), Some(Place { host: "::1".to_owned(), port: 25 }));
        for wrong in ["", "mail", ":25", "mail:smtp"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_the_targets_and_a_name_that_is_not_there_is_no_way() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = Place { host: "127.0.0.1".to_owned(), port: listener.local_addr().expect("an address").port() };
        drop(listener);
        assert!(matches!(place.connect().await, Err(Failure::Refused(_))));
        let nowhere = Place { host: "nowhere.invalid".to_owned(), port: 1 };
        assert!(matches!(nowhere.connect().await, Err(Failure::NoWay(_))));
    }
}
