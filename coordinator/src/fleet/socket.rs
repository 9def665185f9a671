//! One WebSocket to an agent: text frames in and out, bounded, timed. Or what
//! stands for one where the agent speaks signed HTTP.

use std::time::Duration;

use farol_agent::fault;
use farol_protocol::MAX_FRAME_BYTES;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::http::Line;

/// A peer that takes longer to read a frame is cut.
const SEND_LIMIT: Duration = Duration::from_secs(20);

/// What lies below: taken out of its HTTP wrapping, which costs memory.
pub(super) type Stream = TlsStream<TcpStream>;

pub(super) struct Socket {
    wire: Wire,
}

/// What carries the frames. A session does not know which.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every host has a WebSocket; boxed, each would cost one allocation more"
)]
enum Wire {
    WebSocket(WebSocketStream<Stream>),
    Http(Box<Line>),
}

impl From<Line> for Socket {
    fn from(line: Line) -> Self {
        Self { wire: Wire::Http(Box::new(line)) }
    }
}

/// What came in.
pub(super) enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A ping or pong: the peer lives.
    Sign,
    /// The connection is over.
    Closed,
    /// The peer broke a rule; say why and close.
    Violation(CloseCode, String),
}

impl Socket {
    /// `None` when the connection is not one that the listener accepted.
    pub(super) async fn new(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
        // The whole read buffer is zero-filled on each read and stays resident.
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * MAX_FRAME_BYTES)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let stream = WebSocketStream::from_partially_read(
            parts.io.into_inner(),
            parts.read_buf.to_vec(),
            Role::Server,
            Some(config),
        );
        Some(Self { wire: Wire::WebSocket(stream.await) })
    }

    /// Cancel-safe.
    pub(super) async fn receive(&mut self) -> Incoming {
        let stream = match &mut self.wire {
            Wire::WebSocket(stream) => stream,
            Wire::Http(line) => return line.receive().await,
        };
        match stream.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => {
                Incoming::Violation(CloseCode::Unsupported, "frames are JSON text, not binary".to_owned())
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Sign,
            Some(Ok(Message::Close(_))) | None => Incoming::Closed,
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
                Incoming::Violation(CloseCode::Size, format!("a frame has at most {MAX_FRAME_BYTES} bytes"))
            }
            Some(Err(Error::Utf8(_))) => {
                Incoming::Violation(CloseCode::Invalid, "a text frame is not UTF-8".to_owned())
            }
            Some(Err(error)) => {
                tracing::debug!("an agent's connection broke: {error}");
                Incoming::Closed
            }
        }
    }

    /// False when the connection is over or the peer does not read.
    pub(super) async fn send(&mut self, text: String) -> bool {
        let stream = match &mut self.wire {
            Wire::WebSocket(stream) => stream,
            Wire::Http(line) => return line.send(text),
        };
        let sending = fault::Sending::new("coordinator", &text);
        match timeout(SEND_LIMIT, stream.send(Message::text(text))).await {
            Ok(Ok(())) => {
                sending.sent();
                true
            }
            Ok(Err(error)) => {
                tracing::debug!("an agent's connection broke: {error}");
                false
            }
            Err(_) => {
                tracing::warn!("an agent does not read what it is sent, cutting it");
                false
            }
        }
    }

    /// Whether the peer said goodbye too: then it was alive.
    pub(super) async fn close(self, code: CloseCode, reason: &str) -> bool {
        let mut stream = match self.wire {
            Wire::WebSocket(stream) => stream,
            Wire::Http(line) => {
                line.close(reason);
                return false;
            }
        };
        // A close reason has at most 123 bytes.
        let reason: String = reason.chars().take(100).filter(char::is_ascii).collect();
        let farewell = async {
            let sent = stream.close(Some(CloseFrame { code, reason: reason.into() })).await;
            sent.is_ok() && matches!(stream.next().await, Some(Ok(_)))
        };
        // Whatever the peer does with it, the connection is over.
        timeout(Duration::from_secs(2), farewell).await.unwrap_or(false)
    }
}
