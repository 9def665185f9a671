//! A TCP connection.

use std::time::Instant;

use farol_protocol::Status;
pub(super) use farol_protocol::report::TcpProbe;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Probing, Seen, crossed, milliseconds, text::Text};

pub(super) async fn run(probing: Probing, probe: &TcpProbe) -> Seen {
    let target = probe.address.as_str();
    let valid = target
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !valid {
        return probing.not_configured(Text::BadAddress, &[("address", target)]);
    }
    match timeout(probing.limit, connect(target)).await {
        Ok(Ok(ms)) => {
            let text = match probe.limits.judge(ms) {
                Status::Ok => Text::TcpOk,
                _ => Text::TcpSlow,
            };
            let limit = crossed(&probe.limits, ms).map(|limit| probing.number(limit)).unwrap_or_default();
            Seen {
                status: probe.limits.judge(ms),
                value: Some(ms),
                unit: Some("ms".to_owned()),
                text: probing.say(text, &[("target", target), ("ms", &probing.number(ms)), ("limit", &limit)]),
                cause: None,
            }
        }
        Ok(Err(Failure::Name)) => {
            let why = probing.say(Text::NoName, &[]);
            probing.critical(Text::Unreachable, &[("target", target), ("why", &why)])
        }
        Ok(Err(Failure::Connect(error))) => probing.unreachable(target, &error),
        Err(_) => probing.critical(Text::NoAnswer, &[("target", target), ("seconds", &probing.seconds())]),
    }
}

enum Failure {
    Name,
    Connect(std::io::Error),
}

/// The time to look up the name does not count: it is another service's.
async fn connect(target: &str) -> Result<f64, Failure> {
    let addresses: Vec<_> = lookup_host(target).await.map_err(|_| Failure::Name)?.collect();
    let began = Instant::now();
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(milliseconds(began.elapsed())),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(Failure::Name, Failure::Connect))
}
