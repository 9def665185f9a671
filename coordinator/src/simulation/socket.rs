//! A connection to an agent, on a simulated network.

use farol_agent::{fault, simulation::LinkEnd};
use hyper::upgrade::Upgraded;
use tokio_tungstenite::tungstenite::{Utf8Bytes, protocol::frame::coding::CloseCode};

use super::http::Line;

pub(super) struct Socket(Wire);

enum Wire {
    Link(LinkEnd),
    Http(Box<Line>),
}

impl From<Line> for Socket {
    fn from(line: Line) -> Self {
        Self(Wire::Http(Box::new(line)))
    }
}

/// What came in.
#[expect(dead_code, reason = "simulated peers break no rule of WebSockets")]
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
    /// No real connection comes in here.
    #[expect(clippy::unused_async, reason = "the signature of the real one")]
    pub(super) async fn new(_upgraded: Upgraded) -> Option<Self> {
        None
    }

    pub(super) const fn simulated(end: LinkEnd) -> Self {
        Self(Wire::Link(end))
    }

    /// Cancel-safe.
    pub(super) async fn receive(&mut self) -> Incoming {
        match &mut self.0 {
            Wire::Link(end) => end.incoming.recv().await.map_or(Incoming::Closed, |text| Incoming::Text(text.into())),
            Wire::Http(line) => line.receive().await,
        }
    }

    /// False when the connection is over.
    #[expect(clippy::unused_async, reason = "the signature of the real one")]
    pub(super) async fn send(&mut self, text: String) -> bool {
        fault::point("coordinator sends");
        super::super::simulation::note_sent(&text);
        match &mut self.0 {
            Wire::Link(end) => end.outgoing.send(text),
            Wire::Http(line) => line.send(text),
        }
    }

    /// Nobody says goodbye here.
    #[expect(clippy::unused_async, reason = "the signature of the real one")]
    pub(super) async fn close(self, _code: CloseCode, reason: &str) -> bool {
        if let Wire::Http(line) = self.0 {
            line.close(reason);
        }
        false
    }
}
