//! A name server for tests: real DNS over UDP and TCP on one port of loopback,
//! with the records, failures and silence that a test puts in.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, MX, PTR, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Longest answer in one datagram; what is longer is asked for again over TCP.
const DATAGRAM: usize = 1232;

#[derive(Debug, Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    failing: Vec<String>,
    silent: Vec<String>,
    asked: Vec<(String, RecordType)>,
}

/// The server.
#[derive(Debug, Clone)]
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    /// Listens on a free port.
    ///
    /// # Errors
    /// No port is free in both protocols.
    pub async fn start() -> Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address).await.context("the port is taken in UDP")?;
        let dns = Self { address, zone: Arc::default() };
        let server = dns.clone();
        tokio::spawn(async move {
            let mut bytes = [0_u8; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut bytes).await {
                if let Some(answer) = server.answer(&bytes[..length], DATAGRAM) {
                    // Whoever asked may be gone.
                    let _sent = udp.send_to(&answer, from).await;
                }
            }
        });
        let server = dns.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let _broken_off = server.over_tcp(stream).await;
                });
            }
        });
        Ok(dns)
    }

    /// `host:port`, as a check names a resolver.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// A text.
    pub fn txt(&self, name: &str, text: &str) {
        let pieces = text.as_bytes().chunks(255).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        self.add(name, RData::TXT(TXT::new(pieces)));
    }

    /// An address.
    pub fn address_of(&self, name: &str, address: IpAddr) {
        self.add(
            name,
            match address {
                IpAddr::V4(ip) => RData::A(A(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
            },
        );
    }

    /// A mail exchanger.
    ///
    /// # Panics
    /// `exchange` is no name.
    pub fn mx(&self, name: &str, preference: u16, exchange: &str) {
        self.add(name, RData::MX(MX::new(preference, fqdn(exchange))));
    }

    /// A reverse name.
    ///
    /// # Panics
    /// `name` is no name.
    pub fn ptr(&self, address: IpAddr, name: &str) {
        self.add(&Name::from(address).to_ascii(), RData::PTR(PTR(fqdn(name))));
    }

    /// Forgets every record of a name.
    pub fn clear(&self, name: &str) {
        self.zone().records.remove(&key(name));
    }

    /// Answers SERVFAIL about a name.
    pub fn fail(&self, name: &str) {
        self.zone().failing.push(key(name));
    }

    /// Says nothing about a name.
    pub fn silence(&self, name: &str) {
        self.zone().silent.push(key(name));
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, RecordType)> {
        self.zone().asked.clone()
    }

    fn add(&self, name: &str, data: RData) {
        self.zone().records.entry(key(name)).or_default().push(data);
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, question: &[u8], most: usize) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let name = key(&query.name().to_ascii());
        let mut zone = self.zone();
        zone.asked.push((name.clone(), query.query_type()));
        if zone.silent.contains(&name) {
            return None;
        }
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        if zone.failing.contains(&name) {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer.to_vec().ok();
        }
        let known = zone.records.get(&name).cloned().unwrap_or_default();
        // A name exists as well when there is something below it.
        let suffix = format!(".{name}");
        let exists = !known.is_empty() || zone.records.keys().any(|other| other.ends_with(&suffix));
        drop(zone);
        if !exists {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        for data in known.into_iter().filter(|data| data.record_type() == query.query_type()) {
            answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
        }
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= most { Some(bytes) } else { answer.truncate().to_vec().ok() }
    }

    async fn over_tcp(&self, mut stream: TcpStream) -> Result<()> {
        loop {
            let length = stream.read_u16().await?;
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await?;
            let Some(answer) = self.answer(&question, usize::from(u16::MAX)) else { continue };
            stream.write_u16(u16::try_from(answer.len())?).await?;
            stream.write_all(&answer).await?;
        }
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn fqdn(name: &str) -> Name {
    let mut name = match name {
        "." | "" => Name::root(),
        name => Name::from_ascii(name).unwrap_or_else(|error| panic!("`{name}`: {error}")),
    };
    name.set_fqdn(true);
    name
}
