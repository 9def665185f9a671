//! A TCP connection.

use std::time::Instant;

use farol_protocol::Status;
pub(super) use farol_protocol::report::TcpProbe;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Probing, Seen, crossed, milliseconds, text::Text};
use crate::text::cut;

/// How much of a first line is read, in bytes.
const MOST_LINE: u64 = 1024;

pub(super) async fn run(probing: Probing, probe: &TcpProbe) -> Seen {
    let target = probe.address.as_str();
    let valid = target
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !valid {
        return probing.not_configured(Text::BadAddress, &[("address", target)]);
    }
    match timeout(probing.limit, exchange(target, probe.banner.is_some())).await {
        Ok(Ok((ms, line))) => {
            if let Some(banner) = probe.banner.as_deref().filter(|banner| !line.starts_with(banner)) {
                let (line, banner) = (cut(&line, 80), cut(banner, 80));
                let values = [("target", target), ("line", &line), ("expected", &banner)];
                let text = probing.say(Text::TcpBanner, &values);
                let unit = Some("ms".to_owned());
                return Seen { status: Status::Critical, value: Some(ms), unit, text, cause: None };
            }
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

/// Connects and, where the other side speaks first, reads its first line.
async fn exchange(target: &str, read: bool) -> Result<(f64, String), Failure> {
    let (ms, stream) = connect(target).await?;
    let line = if read { first_line(stream).await.map_err(Failure::Connect)? } else { String::new() };
    Ok((ms, line))
}

/// Without its end. What is no printable text is shown as a question mark.
async fn first_line(stream: TcpStream) -> std::io::Result<String> {
    let mut stream = stream.take(MOST_LINE);
    let (mut line, mut buffer) = (Vec::new(), [0; 256]);
    loop {
        let length = stream.read(&mut buffer).await?;
        let end = buffer[..length].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&buffer[..end.unwrap_or(length)]);
        if length == 0 || end.is_some() {
            let text = String::from_utf8_lossy(&line);
            return Ok(text.trim_end_matches('\r').replace(char::is_control, "?"));
        }
    }
}

/// The time to look up the name does not count: it is another service's.
async fn connect(target: &str) -> Result<(f64, TcpStream), Failure> {
    let addresses: Vec<_> = lookup_host(target).await.map_err(|_| Failure::Name)?.collect();
    let began = Instant::now();
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((milliseconds(began.elapsed()), stream)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(Failure::Name, Failure::Connect))
}
