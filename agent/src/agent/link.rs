//! The way to the coordinator, whatever state it is in.

use farol_protocol::{FromAgent, frame::encode};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Error,
    session::Session,
    socket::{Incoming, Socket},
};

/// The way to the coordinator.
pub(super) enum Link {
    Waiting(Instant),
    Connecting(JoinHandle<Result<Socket, Error>>),
    Open(Box<Open>),
}

pub(super) struct Open {
    pub(super) socket: Socket,
    pub(super) session: Session,
}

pub(super) enum LinkEvent {
    Due,
    Connected(Result<Socket, Error>),
    Incoming(Incoming),
    Time,
}

impl Link {
    /// The next thing that happens. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> LinkEvent {
        match self {
            Self::Waiting(until) => {
                sleep_until(*until).await;
                LinkEvent::Due
            }
            Self::Connecting(connecting) => LinkEvent::Connected(
                connecting
                    .await
                    .unwrap_or_else(|error| Err(Error::Answer(format!("the connection attempt ended early: {error}")))),
            ),
            Self::Open(open) => {
                let deadline = open.session.deadline();
                tokio::select! {
                    incoming = open.socket.receive() => LinkEvent::Incoming(incoming),
                    () = sleep_until(deadline) => LinkEvent::Time,
                }
            }
        }
    }

    pub(super) fn send(&mut self, frame: &FromAgent) {
        if let Self::Open(open) = self {
            open.socket.send(encode(frame));
            open.session.on_sent(Instant::now());
        }
    }

    pub(super) fn ready(&mut self) -> Option<&mut Open> {
        match self {
            Self::Open(open) if open.session.is_ready() => Some(open),
            _ => None,
        }
    }
}
