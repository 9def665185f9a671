//! A coordinator for tests: real TLS, real WebSocket, scripted by hand.

use std::{net::SocketAddr, path::Path, time::Duration};

use farol_pki::{Authority, new_host_key, server_config};
use farol_protocol::{
    FromAgent, SessionId, Timestamp, ToAgent,
    frame::{Hello, HelloAnswer, HelloPolicy, TelemetryAck, TelemetryPush, Timeouts, encode},
};
use futures_util::{SinkExt as _, StreamExt as _};
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use crate::{
    endpoint::Endpoint,
    state::{Enrolment, StateDir, write_json},
};

pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Coordinator {
    pub(crate) authority: Authority,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    folder: tempfile::TempDir,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority =
            Authority::open_or_create(&folder.path().join("pki"), OffsetDateTime::now_utc()).expect("an authority");
        let acceptor = TlsAcceptor::from(server_config(&authority).expect("valid"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { authority, listener, acceptor, folder }
    }

    /// The authority with a new root beside the old; this coordinator goes on
    /// with the old one.
    pub(crate) fn announce_root(&self) -> Authority {
        Authority::announce_root(&self.folder.path().join("pki"), OffsetDateTime::now_utc()).expect("announced")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("wss://{}", self.address()).parse().expect("valid")
    }

    /// Gives the host of `state` an identity without the enrolment.
    pub(crate) fn enrol(&self, state: &Path) {
        let state = StateDir::new(state);
        state.prepare().expect("folders");
        let key = new_host_key().expect("a key");
        let cert = self.authority.issue_host(&key.csr_pem, "vm112", OffsetDateTime::now_utc()).expect("issued");
        for (path, text) in
            [(state.key(), &key.key_pem), (state.cert(), &cert.cert_pem), (state.ca(), &self.authority.ca_pem())]
        {
            farol_pki::files::write_private(&path, text.as_bytes()).expect("written");
        }
        let enrolment = Enrolment {
            url: self.endpoint().to_string(),
            host_id: "vm112".parse().expect("valid"),
            name: "portal".to_owned(),
        };
        write_json(&state.enrolment_file(), &enrolment).expect("written");
    }

    /// Whether the next connection gets through its handshake.
    pub(crate) async fn try_tls(&self) -> bool {
        let (stream, _) = self.listener.accept().await.expect("accepted");
        self.acceptor.accept(stream).await.is_ok()
    }

    pub(crate) async fn tls(&self) -> TlsStream<TcpStream> {
        let (stream, _) = timeout(WAIT, self.listener.accept()).await.expect("in time").expect("accepted");
        self.acceptor.accept(stream).await.expect("TLS")
    }

    /// Accepts the next connection and reads its hello.
    pub(crate) async fn hello(&self) -> (Peer, Hello) {
        let socket = accept_async(self.tls().await).await.expect("a WebSocket");
        let mut peer = Peer { socket };
        let FromAgent::Hello(hello) = peer.frame().await else { panic!("hello comes first") };
        (peer, *hello)
    }

    /// Accepts the next connection and answers its hello.
    pub(crate) async fn session(&self, committed_seq: u64) -> (Peer, Hello) {
        let (mut peer, hello) = self.hello().await;
        peer.answer(committed_seq, 15_000).await;
        (peer, hello)
    }
}

pub(crate) struct Peer {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Peer {
    pub(crate) async fn answer(&mut self, committed_seq: u64, heartbeat_ms: u64) {
        let answer = HelloAnswer {
            ok: true,
            policy: HelloPolicy { timeouts: Timeouts { exec: 60_000 }, max_payload: 1 << 20 },
            protocol: 1,
            session_id: SessionId::new(),
            committed_seq,
            backlog_committed_seq: None,
            heartbeat_ms,
            timestamp: Timestamp::now(),
        };
        self.text(encode(&answer)).await;
    }

    pub(crate) async fn send(&mut self, frame: &ToAgent) {
        self.text(encode(frame)).await;
    }

    async fn text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    async fn message(&mut self) -> Message {
        timeout(WAIT, self.socket.next()).await.expect("in time").expect("open").expect("sound")
    }

    pub(crate) async fn frame(&mut self) -> FromAgent {
        match self.message().await {
            Message::Text(text) => FromAgent::parse(&text).expect("a valid frame"),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The next frame that `wanted` takes; others are passed over.
    pub(crate) async fn expect<T>(&mut self, wanted: impl Fn(FromAgent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.frame().await) {
                return found;
            }
        }
    }

    pub(crate) async fn batch(&mut self) -> TelemetryPush {
        self.expect(|frame| match frame {
            FromAgent::TelemetryPush(push) => Some(push),
            _ => None,
        })
        .await
    }

    /// The next batch, or none when the agent says goodbye first.
    pub(crate) async fn batch_or_goodbye(&mut self) -> Option<TelemetryPush> {
        loop {
            match self.message().await {
                Message::Close(_) => return None,
                Message::Text(text) => {
                    if let Ok(FromAgent::TelemetryPush(push)) = FromAgent::parse(&text) {
                        return Some(push);
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn ack(&mut self, push: &TelemetryPush) {
        self.send(&ToAgent::TelemetryAck(TelemetryAck { stream: push.stream, seq: push.seq })).await;
    }

    /// The code of the close frame that comes next.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.expect("a reason").code.into();
            }
        }
    }
}
