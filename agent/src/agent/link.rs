//! The way to the coordinator, whatever state it is in.

use std::time::Duration;

use farol_protocol::{
    FromAgent,
    frame::{RenewAnswer, encode},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Error,
    session::Session,
    socket::{Incoming, Socket},
    tls::CONNECT_WAIT,
};

/// After its time, what has not happened is not merely late.
const OVERDUE: Duration = Duration::from_secs(30);

/// The way to the coordinator.
pub(super) enum Link {
    Waiting(Instant),
    /// An attempt and when it began.
    Connecting(JoinHandle<Result<Socket, Error>>, Instant),
    /// A certificate is asked for, since when.
    Renewing(JoinHandle<Result<RenewAnswer, Error>>, Instant),
    Open(Box<Open>),
}

pub(super) struct Open {
    pub(super) socket: Socket,
    pub(super) session: Session,
}

pub(super) enum LinkEvent {
    Due,
    Connected(Result<Socket, Error>),
    Renewed(Result<RenewAnswer, Error>),
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
            Self::Connecting(connecting, _) => LinkEvent::Connected(
                connecting
                    .await
                    .unwrap_or_else(|error| Err(Error::Answer(format!("the connection attempt ended early: {error}")))),
            ),
            Self::Renewing(renewing, _) => LinkEvent::Renewed(
                renewing.await.unwrap_or_else(|error| Err(Error::Answer(format!("the renewal ended early: {error}")))),
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

    /// Whether something is long overdue, so that the loop only seems to live.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let due = match self {
            Self::Waiting(until) => *until,
            Self::Connecting(_, began) | Self::Renewing(_, began) => *began + 2 * CONNECT_WAIT,
            Self::Open(open) => open.session.deadline(),
        };
        now > due + OVERDUE
    }

    pub(super) fn send(&mut self, frame: &FromAgent) {
        if let Self::Open(open) = self {
            open.socket.send(encode(frame));
            open.session.on_sent(Instant::now());
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Open(open) if open.session.is_ready())
    }

    pub(super) fn ready(&mut self) -> Option<&mut Open> {
        match self {
            Self::Open(open) if open.session.is_ready() => Some(open),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_is_stuck_when_what_was_due_has_not_happened_for_long() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let waiting = Link::Waiting(later(60));
        assert!(!waiting.is_stuck(later(89)) && waiting.is_stuck(later(91)));
        let connecting = Link::Connecting(tokio::spawn(std::future::pending()), now);
        assert!(!connecting.is_stuck(later(59)) && connecting.is_stuck(later(61)));
    }
}
