//! A verified stream to the coordinator, and what to do when there is none.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Error, endpoint::Endpoint};

/// For TCP, TLS and the upgrade together.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// Connects and verifies.
pub(crate) async fn connect(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, Error> {
    let address = endpoint.authority();
    let name = ServerName::try_from(endpoint.host().to_owned())
        .map_err(|_| Error::Usage(format!("`{}` is not a host name or address", endpoint.host())))?;
    let connecting = async {
        let unreachable = |source| Error::Connect { address: address.clone(), source };
        let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| failed(&address, error))
    };
    match timeout(CONNECT_WAIT, connecting).await {
        Ok(result) => result,
        Err(_) => Err(Error::Slow {
            address: address.clone(),
            operation: "the TLS handshake",
            seconds: CONNECT_WAIT.as_secs(),
        }),
    }
}

fn failed(address: &str, error: io::Error) -> Error {
    match advice(&error) {
        Some(advice) => Error::Trust { advice, source: Box::new(error) },
        None => Error::Connect { address: address.to_owned(), source: error },
    }
}

const ENROL_AGAIN: &str = "run `farol host add NAME` on the coordinator and then `farol-agent enroll … --force` here";

/// What an operator must do when one side does not trust the other; none when
/// the failure has another nature. In TLS 1.3 the coordinator's verdict on this
/// host's certificate comes only with the first read.
pub(crate) fn advice(error: &(dyn StdError + 'static)) -> Option<String> {
    let tls = tls_error(error)?;
    Some(match tls {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                "the coordinator says that this host's certificate has expired; the agent asks for a new one".to_owned()
            }
            AlertDescription::CertificateRevoked | AlertDescription::AccessDenied => {
                format!("the coordinator has revoked this host; if that was a mistake, {ENROL_AGAIN}")
            }
            AlertDescription::UnknownCA => {
                format!("the coordinator does not know the authority of this host's certificate; {ENROL_AGAIN}")
            }
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRequired => {
                format!("the coordinator refuses this host's certificate; {ENROL_AGAIN}")
            }
            other => format!("the coordinator ended the TLS handshake ({other:?}); check that the port is its southbound one"),
        },
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => format!(
            "the coordinator shows a certificate of another authority; check the address, and if the coordinator was set up anew, {ENROL_AGAIN}"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "the coordinator's certificate is not valid at this time; check the clocks of both machines".to_owned(),
        rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) => {
            "the other side does not speak TLS 1.3; check that the address and port are the coordinator's southbound ones".to_owned()
        }
        rustls::Error::General(said) => format!("the coordinator is not the expected one: {said}"),
        _ => "the coordinator's certificate cannot be trusted; check the address and the authority".to_owned(),
    })
}

/// Why a connection failed, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The network, or the other side's end.
    Network,
    /// One side does not trust the other: a person has to act.
    Trust,
    /// The coordinator does not accept this host's certificate: a new one may
    /// be had for the same key.
    Certificate,
}

/// What `error` means for the next attempt.
pub(crate) fn loss(error: &(dyn StdError + 'static), untrusted: bool) -> Loss {
    use AlertDescription as Alert;
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(
            Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::DecryptError,
        )) => Loss::Certificate,
        _ if untrusted => Loss::Trust,
        _ => Loss::Network,
    }
}

/// `error` and what lies below it. The standard library's I/O error skips its
/// own payload in `source`, so that is looked at here.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause: &&'a (dyn StdError + 'static)| {
        let payload: Option<&'a (dyn StdError + 'static)> =
            cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|payload| payload as _);
        payload.or_else(|| cause.source())
    })
}

/// The TLS error among what lies below `error`.
#[must_use]
pub fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: rustls::Error) -> String {
        advice(&io::Error::new(io::ErrorKind::InvalidData, error)).expect("advice")
    }

    #[test]
    fn each_loss_of_trust_says_what_to_do() {
        let alert = |alert| said(rustls::Error::AlertReceived(alert));
        assert!(alert(AlertDescription::CertificateExpired).contains("has expired; the agent asks"));
        assert!(alert(AlertDescription::CertificateRevoked).contains("has revoked this host"));
        assert!(alert(AlertDescription::UnknownCA).contains("authority"));
        let other = said(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(other.contains("another authority"), "{other}");
        assert!(said(rustls::Error::InvalidCertificate(CertificateError::Expired)).contains("clocks"));
    }

    #[test]
    fn only_a_refused_certificate_is_renewed() {
        let of = |error| loss(&io::Error::new(io::ErrorKind::InvalidData, error), true);
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)), Loss::Certificate);
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::UnknownCA)), Loss::Certificate);
        assert_eq!(of(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), Loss::Trust);
        assert_eq!(loss(&io::Error::from(io::ErrorKind::ConnectionReset), false), Loss::Network);
    }

    #[test]
    fn a_broken_network_is_no_loss_of_trust() {
        assert_eq!(advice(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
