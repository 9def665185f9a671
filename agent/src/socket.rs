//! The WebSocket, and nothing but the WebSocket: text in, text out.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::ClientConfig;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message, Utf8Bytes,
        client::IntoClientRequest as _,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use farol_protocol::MAX_FRAME_BYTES;

use crate::{
    Error,
    endpoint::Endpoint,
    fault,
    tls::{self, CONNECT_WAIT},
};

pub use crate::tls::Loss;

/// How long one frame may take to leave.
const WRITE_WAIT: Duration = Duration::from_secs(20);
/// How long the peer may take to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What arrives.
#[derive(Debug)]
pub enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A ping or pong.
    SignOfLife,
    /// The end, and why.
    Closed {
        /// One sentence.
        why: String,
        /// What it means for the next attempt.
        loss: Loss,
    },
}

/// An open connection, served by its own task.
pub struct Socket {
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    task: JoinHandle<()>,
}

enum Outgoing {
    Text(String),
    Close(CloseCode, &'static str),
}

impl Socket {
    /// Connects, verifies and upgrades.
    ///
    /// # Errors
    /// The coordinator is not reachable, not trusted, or does not upgrade.
    pub async fn connect(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Result<Self, Error> {
        let stream = tls::connect(endpoint, config).await?;
        let upgrading = upgrade(endpoint, stream);
        let socket = timeout(CONNECT_WAIT, upgrading).await.map_err(|_| Error::Slow {
            address: endpoint.authority(),
            operation: "the upgrade to a WebSocket",
            seconds: CONNECT_WAIT.as_secs(),
        })??;
        let (received, incoming) = mpsc::channel(16);
        let (outgoing, to_send) = mpsc::unbounded_channel();
        // A task of its own: the large future of the handshake ends with this one.
        let task = tokio::spawn(serve(socket, to_send, received));
        Ok(Self { incoming, outgoing, task })
    }

    /// Queues a text frame; a broken connection shows in [`Socket::receive`].
    pub fn send(&self, text: String) {
        // Fails only after the end, which `receive` tells.
        let _ = self.outgoing.send(Outgoing::Text(text));
    }

    /// The next thing that arrives. Can be dropped and called again.
    pub async fn receive(&mut self) -> Incoming {
        self.incoming
            .recv()
            .await
            .unwrap_or_else(|| Incoming::Closed { why: "the connection ended".to_owned(), loss: Loss::Network })
    }

    /// Says goodbye because the agent stops (1001).
    pub async fn go_away(mut self) {
        let _ = self.outgoing.send(Outgoing::Close(CloseCode::Away, "the agent stops"));
        self.incoming.close();
        // What is queued leaves first; the limit is for a peer that hangs.
        let _ = timeout(WRITE_WAIT.min(CLOSE_WAIT * 2), &mut self.task).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Stream = WebSocketStream<TlsStream<TcpStream>>;

async fn upgrade(endpoint: &Endpoint, stream: TlsStream<TcpStream>) -> Result<Stream, Error> {
    let failed = |error: WsError| match refused(&error) {
        Some(advice) => Error::Trust { advice, source: Box::new(error) },
        None => Error::Upgrade { address: endpoint.authority(), source: Box::new(error) },
    };
    let request = endpoint.socket_url().into_client_request().map_err(failed)?;
    // Small buffers: tungstenite zeroes the read buffer on each read.
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    client_async_with_config(request, stream, Some(config)).await.map(|(socket, _)| socket).map_err(failed)
}

/// What to do when the coordinator does not let this host in.
fn refused(error: &WsError) -> Option<String> {
    if let WsError::Http(response) = error
        && matches!(response.status().as_u16(), 401 | 403)
    {
        return Some(format!(
            "the coordinator does not let this host in (HTTP {}); it may be revoked: run `farol host add NAME` there and then `farol-agent enroll … --force` here",
            response.status().as_u16()
        ));
    }
    tls::advice(error)
}

async fn serve(socket: Stream, mut outgoing: mpsc::UnboundedReceiver<Outgoing>, incoming: mpsc::Sender<Incoming>) {
    let (mut sink, mut stream) = socket.split();
    let closed = |why: String| Incoming::Closed { why, loss: Loss::Network };
    let broken = |error: &WsError| {
        let advice = refused(error);
        let loss = tls::loss(error, advice.is_some());
        Incoming::Closed { loss, why: advice.unwrap_or_else(|| error.to_string()) }
    };
    let end = loop {
        tokio::select! {
            next = outgoing.recv() => match next {
                Some(Outgoing::Text(text)) => {
                    let sending = fault::Sending::new("agent", &text);
                    match timeout(WRITE_WAIT, sink.send(Message::text(text))).await {
                    Ok(Ok(())) => sending.sent(),
                    // The reason, such as a TLS alert, is often waiting to be read.
                    Ok(Err(error)) => match timeout(CLOSE_WAIT, stream.next()).await {
                        Ok(Some(Err(cause))) => break broken(&cause),
                        _ => break broken(&error),
                    },
                    Err(_) => break closed(format!("a frame did not leave within {} s", WRITE_WAIT.as_secs())),
                }
                }
                Some(Outgoing::Close(code, reason)) => {
                    let frame = CloseFrame { code, reason: reason.into() };
                    let farewell = async {
                        sink.send(Message::Close(Some(frame))).await?;
                        while let Some(Ok(_)) = stream.next().await {}
                        Ok::<(), WsError>(())
                    };
                    // The connection ends either way.
                    let _ = timeout(CLOSE_WAIT, farewell).await;
                    return;
                }
                None => return,
            },
            next = stream.next() => {
                let message = match next {
                    Some(Ok(Message::Text(text))) => Incoming::Text(text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Incoming::SignOfLife,
                    Some(Ok(Message::Close(frame))) => {
                        // Reading on says goodbye too: the coordinator learns
                        // that it cut a living agent.
                        let _over = timeout(CLOSE_WAIT, stream.next()).await;
                        break closed(goodbye(frame.as_ref()));
                    }
                    Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                        break closed("the coordinator sent something other than text".to_owned());
                    }
                    Some(Err(error)) => break broken(&error),
                    None => break closed("the coordinator closed the connection".to_owned()),
                };
                if incoming.send(message).await.is_err() && outgoing.is_closed() {
                    return;
                }
            }
        }
    };
    // Nobody may be left to hear it.
    let _ = incoming.send(end).await;
}

fn goodbye(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if frame.reason.is_empty() => format!("the coordinator closed the connection ({})", frame.code),
        Some(frame) => format!("the coordinator closed the connection ({}): {}", frame.code, frame.reason),
        None => "the coordinator closed the connection".to_owned(),
    }
}
