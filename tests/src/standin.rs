//! A stand-in for a coordinator on the southbound port, with the certificate
//! of a real one: it says whatever a test wants said to a real agent.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

const PATIENCE: Duration = Duration::from_secs(30);

/// A port that agents of one site accept.
pub struct StandIn {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// One agent's connection.
pub struct Line {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl StandIn {
    /// Listens on `address` with the authority in `pki`, the folder of that
    /// name in a coordinator's data.
    ///
    /// # Errors
    /// The address is taken or the authority cannot be read.
    pub async fn listen(address: SocketAddr, pki: &Path) -> Result<Self> {
        farol_pki::install_default_provider();
        let authority = farol_pki::Authority::open_or_create(pki, time::OffsetDateTime::now_utc())?;
        let acceptor = TlsAcceptor::from(Arc::clone(&farol_pki::server_config(&authority)?));
        Ok(Self { listener: TcpListener::bind(address).await?, acceptor })
    }

    /// The next agent that gets as far as a WebSocket.
    ///
    /// # Errors
    /// None comes in time, or its handshake fails.
    pub async fn accept(&self) -> Result<Line> {
        let accepted = async {
            let (stream, _) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            let tls = self.acceptor.accept(stream).await?;
            anyhow::Ok(Line { socket: tokio_tungstenite::accept_async(tls).await? })
        };
        timeout(PATIENCE, accepted).await.context("no agent came")?
    }
}

impl Line {
    /// Sends a text frame.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<()> {
        Ok(self.socket.send(Message::text(text.into())).await?)
    }

    /// The next text frame.
    ///
    /// # Errors
    /// The connection is over, or none came in time.
    pub async fn receive(&mut self) -> Result<String> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.context("no frame came")? {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => bail!("the agent closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the connection is over"),
            }
        }
    }
}
