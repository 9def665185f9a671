//! The certificate of a port that speaks TLS from its first byte on.

use std::sync::Arc;

pub(super) use farol_protocol::report::CertificateProbe;
use farol_protocol::{Status, Timestamp};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    Probing, Seen,
    text::{Text, cause_words},
    trust::{Judge, days_left, other_certificate},
};

pub(super) async fn run(probing: Probing, probe: &CertificateProbe, now: Timestamp) -> Seen {
    let target = probe.address.as_str();
    let bad = || probing.not_configured(Text::BadAddress, &[("address", target)]);
    let Some((host, _)) =
        target.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    else {
        return bad();
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(name) = ServerName::try_from(probe.server_name.as_deref().unwrap_or(host).to_owned()) else {
        return bad();
    };
    let judge = Judge::new(probe.pin.as_deref());
    let config = judge.and_then(|judge| Ok((judge.client_config()?, judge)));
    let (config, judge) = match config {
        Ok(config) => config,
        Err(error) => {
            let why = error.to_string();
            return probing.unknown(Text::Unreachable, &[("target", target), ("why", &why)]);
        }
    };
    let connecting = async {
        let stream = TcpStream::connect(target).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let handshake = match timeout(probing.limit, connecting).await {
        Ok(handshake) => handshake,
        Err(_) => {
            return probing.critical(Text::NoAnswer, &[("target", target), ("seconds", &probing.seconds())]);
        }
    };
    let days = judge.shown().and_then(|certificate| days_left(&certificate, now));
    match (handshake, days) {
        (Ok(_), Some(days)) => {
            let texts = [Text::CertificateOk, Text::CertificateOver];
            probing.judged(&probe.limits, days, "d", texts, &[("target", target)])
        }
        (Ok(_), None) => probing.unknown(Text::CertificateUnreadable, &[("target", target)]),
        (Err(error), days) => {
            if let Some(other) = other_certificate(&error) {
                let values = [("target", target), ("fingerprint", other.fingerprint.as_str())];
                return probing.critical(Text::CertificateChanged, &values);
            }
            let Some(days) = days else { return probing.unreachable(target, &error) };
            // It was shown and refused: the number is known all the same.
            let why = cause_words(probing.language, &error);
            let shown = probing.number(days);
            let text = probing.say(Text::CertificateRefused, &[("target", target), ("why", &why), ("value", &shown)]);
            Seen { status: Status::Critical, value: Some(days), unit: Some("d".to_owned()), text, cause: None }
        }
    }
}
