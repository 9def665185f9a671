//! Whoever has taken the coordinator's machine: it holds the real authority's
//! keys, listens where the agents connect, and says whatever it likes. JSON by
//! hand, nothing of Farol's own protocol crate.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use farol_pki::{Authority, server_config};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

const PATIENCE: Duration = Duration::from_secs(20);

/// A false coordinator that every agent of the true one trusts.
pub struct Captor {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// Its connection with an agent.
pub struct Held {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// What the agent said first.
    pub hello: Value,
}

/// A time, `offset` from now, as frames and plans write it.
///
/// # Errors
/// It cannot be written.
pub fn time_at(offset: time::Duration) -> Result<String> {
    Ok((OffsetDateTime::now_utc() + offset).format(&Rfc3339)?)
}

impl Captor {
    /// Takes the keys out of a coordinator's data folder and its address.
    ///
    /// # Errors
    /// There is no authority, or the address is taken.
    pub async fn seize(data_dir: &Path, address: SocketAddr) -> Result<Self> {
        let authority = Authority::open_or_create(&data_dir.join("pki"), OffsetDateTime::now_utc())?;
        let acceptor = TlsAcceptor::from(server_config(&authority)?);
        let listener = TcpListener::bind(address).await.context("take the coordinator's address")?;
        Ok(Self { listener, acceptor })
    }

    /// The next agent that connects, its hello answered with a clock that is
    /// `offset` from the true one.
    ///
    /// # Errors
    /// None came in time.
    pub async fn hold(&self, offset: time::Duration) -> Result<Held> {
        timeout(PATIENCE, async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                stream.set_nodelay(true)?;
                // One whose connection ended with the true coordinator comes again.
                let Ok(tls) = self.acceptor.accept(stream).await else { continue };
                let mut held = Held { socket: accept_async(tls).await?, hello: Value::Null };
                held.hello = held.receive().await?;
                held.send(&json!({"ok": true, "policy": {"timeouts": {"exec": 60_000}, "max_payload": 1_048_576},
                    "protocol": 1, "session_id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4d", "committed_seq": 0,
                    "heartbeat_ms": 15_000, "timestamp": time_at(offset)?}))
                    .await?;
                return Ok(held);
            }
        })
        .await
        .context("no agent came")?
    }
}

impl Held {
    /// Says anything.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(&mut self, frame: &Value) -> Result<()> {
        Ok(self.socket.send(Message::text(frame.to_string())).await?)
    }

    async fn receive(&mut self) -> Result<Value> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.context("no frame came")? {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(text.as_str())?),
                Some(Ok(Message::Close(frame))) => bail!("the agent closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the connection is over"),
            }
        }
    }

    /// The next frame that `wanted` takes.
    ///
    /// # Errors
    /// The connection is over, or none came in time.
    pub async fn expect<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = wanted(&self.receive().await?) {
                return Ok(found);
            }
        }
    }

    /// Claims that it is now `offset` from the true time.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn claim_time(&mut self, offset: time::Duration) -> Result<()> {
        self.send(&json!({"method": "heartbeat", "timestamp": time_at(offset)?})).await
    }

    /// Sends an order and waits for its result.
    ///
    /// # Errors
    /// None came in time.
    pub async fn order(&mut self, frame: &Value) -> Result<Value> {
        self.send(frame).await?;
        let id = frame["action_id"].clone();
        self.expect(|frame| (frame["method"] == "action.result" && frame["action_id"] == id).then(|| frame.clone()))
            .await
    }
}
