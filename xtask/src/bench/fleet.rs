//! Simulated hosts: enrolled through the store, spoken for by hand.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use farol_coordinator::{auth::Operator, store::Store};
use farol_protocol::Timestamp;
use farol_tests::{
    Site,
    peer::{Identity, Peer},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

/// An enrolled host that this program speaks for.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) identity: Identity,
    stream: String,
}

/// Enrols hosts `sim-0` … without their command lines.
pub(super) async fn enrol(site: &Site, count: usize) -> Result<Vec<Host>> {
    let store = Store::open(&site.data_dir()).await?;
    let authority =
        farol_pki::Authority::open_or_create(&site.data_dir().join("pki"), time::OffsetDateTime::now_utc())?;
    let mut hosts = Vec::with_capacity(count);
    for n in 0..count {
        let name = format!("sim-{n}");
        let now = Timestamp::now();
        let by = Operator::local_administrator();
        let enrolment = store.add_host(&by, &name, Duration::from_secs(600), now).await?;
        let key = farol_pki::new_host_key()?;
        let sign = |id: &farol_protocol::HostId| {
            authority
                .issue_host(&key.csr_pem, id.as_str(), time::OffsetDateTime::now_utc())
                .map_err(farol_coordinator::error::Error::from)
        };
        let (_, certificate) = store.enrol(&enrolment.token, now, sign).await?;
        let leaf = (certificate.cert_pem.as_bytes(), key.key_pem.as_bytes());
        let identity = Identity::from_pem(authority.ca_pem().as_bytes(), Some(leaf))?;
        hosts.push(Host { name, identity, stream: uuid::Uuid::now_v7().to_string() });
    }
    store.close().await;
    // The coordinator reads its live set twice a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(hosts)
}

impl Host {
    /// Connects and says hello.
    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Peer> {
        Ok(self.hello(address).await?.0)
    }

    /// Connects and says hello; the answer as well.
    pub(super) async fn hello(&self, address: SocketAddr) -> Result<(Peer, Value)> {
        let mut peer = self.identity.connect(address).await?;
        peer.send(&json!({
            "method": "hello", "agent_id": self.name, "name": self.name, "version": "bench",
            "capabilities": ["command.exec"], "timestamp": Timestamp::now(), "protocol": {"min": 1, "max": 1},
            "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0}, "stream": self.stream,
            "max_unsigned_class": "R2", "effects_allowed": true,
        }))
        .await?;
        let answer = peer.receive().await?;
        anyhow::ensure!(answer["ok"] == true, "the hello was refused: {answer}");
        Ok((peer, answer))
    }

    /// A batch of about 570 bytes with one report.
    pub(super) fn batch(&self, seq: u64, check: &str, status: &str) -> String {
        batch(&self.stream, seq, check, status)
    }
}

/// Connections that answer the coordinator's pings until they are asked back.
pub(super) struct Parked {
    end: watch::Sender<bool>,
    tasks: JoinSet<Result<(usize, Peer)>>,
}

impl Parked {
    pub(super) fn new() -> Self {
        Self { end: watch::channel(false).0, tasks: JoinSet::new() }
    }

    /// Takes the connection of the host at `index`.
    pub(super) fn park(&mut self, index: usize, mut peer: Peer) {
        let mut end = self.end.subscribe();
        self.tasks.spawn(async move {
            peer.stay(async move {
                // Fails when nobody is left to ask for it.
                let _ended = end.wait_for(|ended| *ended).await;
            })
            .await?;
            Ok((index, peer))
        });
    }

    /// All of them, in the order of their hosts.
    ///
    /// # Errors
    /// One of them did not last.
    pub(super) async fn back(self) -> Result<Vec<Peer>> {
        self.end.send_replace(true);
        let mut peers = self.tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
        peers.sort_by_key(|(index, _)| *index);
        Ok(peers.into_iter().map(|(_, peer)| peer).collect())
    }
}

/// See [`Host::batch`].
pub(super) fn batch(stream: &str, seq: u64, check: &str, status: &str) -> String {
    let now = Timestamp::now();
    json!({
        "method": "telemetry.push", "stream": stream, "seq": seq, "ts": now,
        "payload": {
            "metrics": {
                "cpu_percent": 12.5, "cpus": 4, "load": [0.5, 0.25, 0.1],
                "memory": {"used": 1_073_741_824_u64, "total": 4_294_967_296_u64},
                "disks": [{"mount": "/", "used": 10_737_418_240_u64, "total": 42_949_672_960_u64}],
                "networks": [{"interface": "eth0", "received": 123_456, "sent": 654_321}],
                "uptime_seconds": 86_400
            },
            "reports": [{"check": check, "status": status, "value": 12.0, "unit": "ms", "text": "medido", "observed_at": now}]
        }
    })
    .to_string()
}

/// Events of `GET /api/v1/events`, one JSON document each with its arrival.
pub(super) struct Events {
    answer: reqwest::Response,
    rest: String,
}

impl Events {
    pub(super) async fn open(base: &str, token: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.get(format!("{base}/api/v1/events")).bearer_auth(token).send().await?;
        Ok(Self { answer: answer.error_for_status()?, rest: String::new() })
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data:")).map(str::trim);
                let value = data.and_then(|data| serde_json::from_str(data).ok());
                self.rest = rest.to_owned();
                match value {
                    Some(value) => return Ok(value),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.answer.chunk()).await??;
            let chunk = chunk.context("the events ended")?;
            self.rest.push_str(std::str::from_utf8(&chunk)?);
        }
    }

    /// The next event that `wanted` takes.
    pub(super) async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let event = self.next().await?;
            if wanted(&event) {
                return Ok(event);
            }
        }
    }
}
