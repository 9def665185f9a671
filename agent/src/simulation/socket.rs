//! The agent's socket, on a simulated network.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    Error,
    endpoint::Endpoint,
    simulation::{LinkEnd, Network, current},
};

pub use crate::tls::Loss;

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

/// An open connection.
pub struct Socket(LinkEnd);

impl Socket {
    /// Connects this node's host.
    ///
    /// # Errors
    /// The network or the coordinator is away.
    pub async fn connect(_endpoint: &Endpoint, _config: Arc<ClientConfig>) -> Result<Self, Error> {
        let Some(node) = current() else {
            return Err(Error::Answer("only a node connects".to_owned()));
        };
        Network::connect(&node.world, &node.name).await.map(Self)
    }

    /// Queues a text frame.
    pub fn send(&self, text: String) {
        crate::fault::point("agent sends");
        let _ = self.0.outgoing.send(text);
    }

    /// The next thing that arrives. Can be dropped and called again.
    pub async fn receive(&mut self) -> Incoming {
        match self.0.incoming.recv().await {
            Some(text) => Incoming::Text(text.into()),
            None => Incoming::Closed { why: "the connection ended".to_owned(), loss: Loss::Network },
        }
    }

    /// Says goodbye.
    #[expect(clippy::unused_async, reason = "the signature of the real one")]
    pub async fn go_away(self) {}
}
