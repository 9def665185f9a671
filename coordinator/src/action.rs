//! The life of an action: one list of states, one table of steps, no I/O.

use std::{fmt, str::FromStr};

use farol_protocol::action::FinalState;
use serde::{Deserialize, Serialize};

/// Where an action is. The store, the API and the Desk use the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a decision.
    Proposed,
    /// A person agreed.
    Approved,
    /// A person declined.
    Rejected,
    /// Agreed to, and held for a moment in which it can still be cancelled.
    Held,
    /// Waits for its host.
    Queued,
    /// Handed to the host's connection.
    Sent,
    /// The host wrote it into its journal and runs it.
    Accepted,
    /// It ran and succeeded.
    Done,
    /// It ran and failed.
    Failed,
    /// Its time limit passed and it was killed.
    TimedOut,
    /// A person cancelled it.
    Cancelled,
    /// Its time passed before it began.
    Expired,
    /// The host would not run it.
    Refused,
    /// It may have begun and nobody knows how it ended.
    Interrupted,
}

/// What happens to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The policy has its approvals.
    Approve,
    /// A person declines.
    Reject,
    /// It is held before it goes to the host's queue.
    Hold,
    /// It goes to the host's queue.
    Queue,
    /// It is handed to a connection; again after a reconnect.
    Send,
    /// The host could not take it now and did not begin.
    Return,
    /// The host journalled it.
    Accept,
    /// The host reports its end.
    Finish(FinalState),
    /// A person cancels it.
    Cancel,
    /// Its time passed.
    Expire,
    /// Its end cannot be known any more.
    Lose,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Proposed,
        Self::Approved,
        Self::Rejected,
        Self::Held,
        Self::Queued,
        Self::Sent,
        Self::Accepted,
        Self::Done,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Expired,
        Self::Refused,
        Self::Interrupted,
    ];

    /// The word everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Held => "held",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Proposed | Self::Approved | Self::Held | Self::Queued | Self::Sent | Self::Accepted)
    }

    /// The state after `event`; `None` when the event does not fit.
    ///
    /// A host repeats itself after a reconnect: what it says again of an
    /// action that ended changes nothing, the first outcome stands.
    #[must_use]
    pub const fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            (Self::Proposed, Event::Approve) => Self::Approved,
            (Self::Proposed, Event::Reject) => Self::Rejected,
            (Self::Approved, Event::Hold) => Self::Held,
            (Self::Approved | Self::Held, Event::Queue) => Self::Queued,
            (Self::Queued | Self::Sent, Event::Send) => Self::Sent,
            (Self::Sent, Event::Return) => Self::Queued,
            (Self::Sent | Self::Accepted, Event::Accept) => Self::Accepted,
            (Self::Sent | Self::Accepted, Event::Finish(end)) => match end {
                FinalState::Done => Self::Done,
                FinalState::Failed => Self::Failed,
                FinalState::TimedOut => Self::TimedOut,
                FinalState::Cancelled => Self::Cancelled,
                FinalState::Refused => Self::Refused,
                FinalState::Interrupted => Self::Interrupted,
            },
            // Once sent, only the host can say that it was cancelled in time.
            (Self::Proposed | Self::Approved | Self::Held | Self::Queued, Event::Cancel) => Self::Cancelled,
            (Self::Proposed | Self::Approved | Self::Held | Self::Queued, Event::Expire) => Self::Expired,
            (Self::Sent | Self::Accepted, Event::Lose) => Self::Interrupted,
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("`{}` is not a state of an action", text.chars().take(64).collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 16] = [
        Event::Approve,
        Event::Reject,
        Event::Hold,
        Event::Queue,
        Event::Send,
        Event::Return,
        Event::Accept,
        Event::Finish(FinalState::Done),
        Event::Finish(FinalState::Failed),
        Event::Finish(FinalState::TimedOut),
        Event::Finish(FinalState::Cancelled),
        Event::Finish(FinalState::Refused),
        Event::Finish(FinalState::Interrupted),
        Event::Cancel,
        Event::Expire,
        Event::Lose,
    ];

    #[test]
    fn nothing_leaves_a_final_state() {
        for state in State::ALL.into_iter().filter(|state| state.is_final()) {
            for event in EVENTS {
                assert_eq!(state.after(event), None, "{state} after {event:?}");
            }
        }
    }

    #[test]
    fn only_an_approved_action_reaches_a_host() {
        for state in State::ALL {
            let sent = state.after(Event::Send);
            assert_eq!(sent.is_some(), matches!(state, State::Queued | State::Sent), "{state}");
            let queued = state.after(Event::Queue);
            assert_eq!(queued.is_some(), matches!(state, State::Approved | State::Held), "{state}");
            assert_eq!(state.after(Event::Hold).is_some(), state == State::Approved, "{state}");
        }
    }

    #[test]
    fn every_state_can_be_read_back_and_every_open_state_can_end() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            let ends = EVENTS.into_iter().filter_map(|event| state.after(event)).any(State::is_final);
            assert_eq!(ends, !state.is_final(), "{state}");
        }
        assert!("asleep".parse::<State>().is_err());
    }
}
