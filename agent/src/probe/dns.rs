//! A question to a name server.
//!
//! Asked directly, not through the system's library: that one cannot tell "no
//! such name" from "no such record", "the server failed" and "no answer". It
//! also means that `/etc/hosts` and search domains play no part.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use farol_protocol::Status;
pub(super) use farol_protocol::report::{DnsProbe, DnsType};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{Probing, Seen, crossed, milliseconds, text::Text};
use crate::text::cut;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Servers of the system that are asked, as its library does.
const MOST_SERVERS: usize = 3;
/// Values that are named in a text.
const MOST_NAMED: usize = 4;

pub(super) async fn run(probing: Probing, probe: &DnsProbe) -> Seen {
    let servers = match &probe.server {
        Some(server) => address(server).into_iter().collect(),
        None => fs::read_to_string(RESOLV_CONF).map(|text| name_servers(&text)).unwrap_or_default(),
    };
    if servers.is_empty() {
        let server = probe.server.as_deref().unwrap_or(RESOLV_CONF);
        return probing.not_configured(Text::DnsNoServer, &[("server", server)]);
    }
    if question(probe, 0).is_none() {
        return probing.not_configured(Text::DnsBadName, &[("name", &cut(&probe.name, 100))]);
    }
    let began = Instant::now();
    // Each server gets its share of the time, so that one that is silent does
    // not take it all.
    let share = probing.limit / u32::try_from(servers.len()).unwrap_or(1).max(1);
    let mut last = Outcome::Silent;
    for server in &servers {
        last = match timeout(share, ask(*server, probe)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Broke(error),
            Err(_) => Outcome::Silent,
        };
        if matches!(last, Outcome::Values(_) | Outcome::NoName | Outcome::NoRecord) {
            break;
        }
    }
    judge(probing, probe, servers[0], &last, milliseconds(began.elapsed()))
}

/// What asking came to. "No such name" and "no such record" say that it is not
/// there; the others say nothing about it.
#[derive(Debug)]
enum Outcome {
    Values(Vec<String>),
    NoName,
    NoRecord,
    Failed(String),
    Silent,
    Broke(io::Error),
}

async fn ask(server: SocketAddr, probe: &DnsProbe) -> io::Result<Outcome> {
    let id = fastrand::u16(..);
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let query = question(probe, id).ok_or_else(|| malformed("the question cannot be written"))?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything may arrive here; only the answer to this question counts.
        match read(&buffer[..length], probe, id) {
            Some(Answer::Whole(outcome)) => return Ok(outcome),
            Some(Answer::Cut) => break,
            None => {}
        }
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| malformed("the question is too long"))?;
    stream.write_all(&[&length.to_be_bytes()[..], &query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match read(&answer, probe, id) {
        Some(Answer::Whole(outcome)) => Ok(outcome),
        Some(Answer::Cut) | None => Err(malformed("the answer over TCP cannot be read")),
    }
}

const fn kind(record: DnsType) -> TYPE {
    match record {
        DnsType::A => TYPE::A,
        DnsType::Aaaa => TYPE::AAAA,
        DnsType::Cname => TYPE::CNAME,
        DnsType::Mx => TYPE::MX,
        DnsType::Ns => TYPE::NS,
        DnsType::Ptr => TYPE::PTR,
        DnsType::Txt => TYPE::TXT,
    }
}

fn question(probe: &DnsProbe, id: u16) -> Option<Vec<u8>> {
    let name = Name::new(probe.name.trim_end_matches('.')).ok()?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind(probe.record)), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().ok()
}

enum Answer {
    Whole(Outcome),
    /// It did not fit; the whole is to be had over TCP.
    Cut,
}

/// None where it is no answer to this question.
fn read(bytes: &[u8], probe: &DnsProbe, id: u16) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let asked = packet.questions.first().map(|question| question.qname.to_string());
    if asked.is_some_and(|asked| !asked.eq_ignore_ascii_case(probe.name.trim_end_matches('.'))) {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Answer::Cut);
    }
    let outcome = match packet.rcode() {
        RCODE::NameError => Outcome::NoName,
        RCODE::NoError => {
            let values: Vec<String> =
                packet.answers.iter().filter_map(|answer| value(probe.record, &answer.rdata)).collect();
            if values.is_empty() { Outcome::NoRecord } else { Outcome::Values(values) }
        }
        RCODE::ServerFailure => Outcome::Failed("SERVFAIL".to_owned()),
        RCODE::Refused => Outcome::Failed("REFUSED".to_owned()),
        other => Outcome::Failed(format!("{other:?}")),
    };
    Some(Answer::Whole(outcome))
}

/// As `dig +short` writes it, without the dot at the end of names.
fn value(record: DnsType, data: &RData<'_>) -> Option<String> {
    Some(match (record, data) {
        (DnsType::A, RData::A(a)) => Ipv4Addr::from(a.address).to_string(),
        (DnsType::Aaaa, RData::AAAA(aaaa)) => Ipv6Addr::from(aaaa.address).to_string(),
        (DnsType::Cname, RData::CNAME(name)) => name.0.to_string(),
        (DnsType::Ns, RData::NS(name)) => name.0.to_string(),
        (DnsType::Ptr, RData::PTR(name)) => name.0.to_string(),
        (DnsType::Mx, RData::MX(mx)) => format!("{} {}", mx.preference, mx.exchange),
        (DnsType::Txt, RData::TXT(text)) => String::try_from(text.clone()).ok()?,
        _ => return None,
    })
}

/// The servers of `/etc/resolv.conf`.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| address(rest.split_whitespace().next()?))
        .take(MOST_SERVERS)
        .collect()
}

fn address(text: &str) -> Option<SocketAddr> {
    let ip = |text: &str| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
    text.parse().ok().or_else(|| ip(text))
}

fn judge(probing: Probing, probe: &DnsProbe, server: SocketAddr, outcome: &Outcome, ms: f64) -> Seen {
    let (name, record, server) = (cut(&probe.name, 100), probe.record.as_str(), server.to_string());
    let base = [("name", name.as_str()), ("type", record), ("server", server.as_str())];
    let seen = |status, text, more: &[(&str, &str)]| Seen {
        status,
        value: Some(ms),
        unit: Some("ms".to_owned()),
        text: probing.say(text, &[&base, more].concat()),
        cause: None,
    };
    let values = match outcome {
        Outcome::Values(values) => values,
        Outcome::NoName => return seen(Status::Critical, Text::DnsNoName, &[]),
        Outcome::NoRecord => return seen(Status::Critical, Text::DnsNoRecord, &[]),
        // The server is what failed; whether the record is there is not known,
        // and whoever needs the name goes without all the same.
        Outcome::Failed(why) => return probing.critical(Text::DnsFailed, &[&base[..], &[("why", why)]].concat()),
        Outcome::Silent => {
            return probing.critical(Text::DnsSilent, &[&base[..], &[("seconds", &probing.seconds())]].concat());
        }
        Outcome::Broke(error) => return probing.unreachable(&server, error),
    };
    let same = |a: &str, b: &str| a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.'));
    let shown = cut(&values.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", "), 200);
    if let Some(missing) = probe.expect.iter().find(|wanted| !values.iter().any(|value| same(value, wanted))) {
        let missing = cut(missing, 80);
        return seen(Status::Critical, Text::DnsOther, &[("values", &shown), ("expected", &missing)]);
    }
    let limit = crossed(&probe.limits, ms).map(|limit| probing.number(limit)).unwrap_or_default();
    let taken = probing.number(ms);
    match probe.limits.judge(ms) {
        Status::Ok => seen(Status::Ok, Text::DnsOk, &[("values", &shown), ("ms", &taken)]),
        status => seen(status, Text::DnsSlow, &[("values", &shown), ("ms", &taken), ("limit", &limit)]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::{Language, report::Limits};
    use simple_dns::{ResourceRecord, rdata};

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    /// A name server on a loopback port, over UDP and TCP. The first label of
    /// a name says how it behaves.
    async fn server() -> SocketAddr {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let address = socket.local_addr().expect("bound");
            if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let stray = Packet::new_reply(0).build_bytes_vec().expect("built");
                socket.send_to(&stray, from).await.expect("sent");
                socket.send_to(b"\x00", from).await.expect("sent");
                if let Some(answer) = answer(&buffer[..length], false) {
                    socket.send_to(&answer, from).await.expect("sent");
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let length = stream.read_u16().await.expect("a length");
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.expect("a query");
                let answer = answer(&query, true).expect("an answer");
                stream.write_u16(u16::try_from(answer.len()).expect("short")).await.expect("sent");
                stream.write_all(&answer).await.expect("sent");
            }
        });
        address
    }

    fn answer(query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Packet::parse(query).expect("a query");
        assert!(query.has_flags(PacketFlag::RECURSION_DESIRED));
        let question = query.questions[0].clone();
        let name = question.qname.to_string();
        let mut reply = Packet::new_reply(query.id());
        let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, data);
        let address = |last| record(RData::A(rdata::A { address: u32::from(Ipv4Addr::new(192, 0, 2, last)) }));
        match name.split('.').next().expect("a label") {
            "gone" => *reply.rcode_mut() = RCODE::NameError,
            "broken" => *reply.rcode_mut() = RCODE::ServerFailure,
            "silent" => return None,
            "long" if !tcp => reply.set_flags(PacketFlag::TRUNCATION),
            _ => match question.qtype {
                QTYPE::TYPE(TYPE::A) => reply.answers.extend([address(1), address(2)]),
                QTYPE::TYPE(TYPE::MX) => {
                    let exchange = Name::new_unchecked("mail.example.org");
                    reply.answers.push(record(RData::MX(rdata::MX { preference: 10, exchange })));
                }
                QTYPE::TYPE(TYPE::TXT) => {
                    let text = rdata::TXT::new().with_string("v=spf1 -all").expect("short");
                    reply.answers.push(record(RData::TXT(text)));
                }
                _ => {}
            },
        }
        reply.questions.push(question.clone());
        Some(reply.build_bytes_vec().expect("built"))
    }

    fn probe(server: SocketAddr, name: &str, record: DnsType, expect: &[&str]) -> DnsProbe {
        DnsProbe {
            name: name.to_owned(),
            record,
            expect: expect.iter().map(|value| (*value).to_owned()).collect(),
            server: Some(server.to_string()),
            limits: Limits::default(),
        }
    }

    async fn ask_it(probe: &DnsProbe) -> Seen {
        let limit = if probe.name.starts_with("silent") { SHORT } else { Duration::from_secs(20) };
        run(Probing { language: Language::En, limit }, probe).await
    }

    #[tokio::test]
    async fn records_of_each_kind_are_compared_with_what_is_expected() {
        let server = server().await;
        for (name, record, expect, status) in [
            ("www.example.org", DnsType::A, &["192.0.2.2"][..], Status::Ok),
            ("www.example.org", DnsType::A, &["192.0.2.9"], Status::Critical),
            ("example.org.", DnsType::Mx, &["10 MAIL.example.org."], Status::Ok),
            ("example.org", DnsType::Txt, &["v=spf1 -all"], Status::Ok),
            ("long.example.org", DnsType::A, &["192.0.2.1"], Status::Ok),
        ] {
            let seen = ask_it(&probe(server, name, record, expect)).await;
            assert_eq!((seen.status, seen.unit.as_deref()), (status, Some("ms")), "{name}: {}", seen.text);
        }
    }

    #[tokio::test]
    async fn no_name_no_record_a_failure_and_silence_are_four_results() {
        let server = server().await;
        let mut texts = Vec::new();
        for (name, record) in [
            ("gone.example.org", DnsType::A),
            ("www.example.org", DnsType::Aaaa),
            ("broken.example.org", DnsType::A),
            ("silent.example.org", DnsType::A),
        ] {
            let seen = ask_it(&probe(server, name, record, &[])).await;
            assert_eq!(seen.status, Status::Critical, "{}", seen.text);
            let text = seen.text.replace(name, "").replace("AAAA", "A");
            assert!(!texts.contains(&text), "{text}");
            texts.push(text);
        }
        assert!(texts[2].contains("SERVFAIL"), "{}", texts[2]);
    }

    #[tokio::test]
    async fn a_server_that_is_gone_and_a_name_that_cannot_be_are_told_apart() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let closed = socket.local_addr().expect("bound");
        drop(socket);
        let seen = ask_it(&probe(closed, "example.org", DnsType::A, &[])).await;
        assert_eq!(seen.status, Status::Critical, "{}", seen.text);
        let label = "x".repeat(64);
        let seen = ask_it(&probe(closed, &format!("{label}.org"), DnsType::A, &[])).await;
        assert!(seen.cause.is_some(), "{}", seen.text);
        let bad = DnsProbe { server: Some("no address".to_owned()), ..probe(closed, "a", DnsType::A, &[]) };
        assert!(ask_it(&bad).await.cause.is_some());
    }

    #[test]
    fn name_servers_are_read_as_the_system_reads_them() {
        let text = "# comment\nsearch x\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver bad\nnameserver\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let found: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }
}
