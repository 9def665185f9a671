//! Getting an answer of a system that has several addresses, within the time
//! of one look.

use std::{sync::OnceLock, time::Duration};

use farol_protocol::{Language, Status};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::time::Instant;

use super::{Asking, Seen};
use crate::{
    integrations::{
        Connection,
        http::{Answer, Failure, exchange},
        memory::Known,
    },
    text::say,
};

/// One look's way to a system.
pub(crate) struct Reach<'a> {
    pub(super) asking: &'a Asking<'a>,
    pub(super) connection: &'a Connection,
    client: Client,
    began: Instant,
    /// The address that answered in this look.
    chosen: OnceLock<String>,
}

impl<'a> Reach<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// What is configured cannot be used.
    pub(super) fn new(asking: &'a Asking<'a>, connection: &'a Connection) -> Result<Self, Seen> {
        let client = asking.client(connection).map_err(|failure| asking.failed(&connection.name, &failure))?;
        Ok(Self { asking, connection, client, began: Instant::now(), chosen: OnceLock::new() })
    }

    /// Sends what `make` builds for an address. The first that can be reached
    /// counts, beginning with the one that answered last; within a look it
    /// stays the same one. Only who cannot be reached is passed over: a wrong
    /// certificate ends the look.
    pub(super) async fn send(&self, make: impl Fn(&Client, &str) -> RequestBuilder) -> Result<Answer, Unreached> {
        if let Some(base) = self.chosen.get() {
            let limit = self.left();
            let asked = exchange(make(&self.client, base), limit).await;
            return asked.map_err(|failure| Unreached(vec![Try { endpoint: base.clone(), failure, limit }]));
        }
        let mut tries = Vec::new();
        let order = self.order();
        for (at, base) in order.iter().enumerate() {
            let limit = share(self.left(), at, order.len());
            match exchange(make(&self.client, base), limit).await {
                Ok(answer) => {
                    self.known(|known| known.endpoint = Some(base.clone()));
                    // Two first questions at once may find two addresses; the first stays.
                    let _ = self.chosen.set(base.clone());
                    return Ok(answer);
                }
                Err(failure) if is_passed_over(&failure) => {
                    tries.push(Try { endpoint: base.clone(), failure, limit });
                }
                Err(failure) => return Err(Unreached(vec![Try { endpoint: base.clone(), failure, limit }])),
            }
        }
        Err(Unreached(tries))
    }

    /// Reads or changes what is known of the system.
    pub(super) fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        self.asking.clients.memory.with(self.connection, act)
    }

    /// The address that answered, as people know it.
    pub(super) fn place(&self) -> &str {
        self.chosen.get().or(self.connection.endpoints.first()).map_or("", String::as_str)
    }

    fn order(&self) -> Vec<String> {
        let mut order = self.connection.endpoints.clone();
        if let Some(last) = self.known(|known| known.endpoint.clone())
            && let Some(at) = order.iter().position(|endpoint| *endpoint == last)
        {
            order.rotate_left(at);
        }
        order
    }

    fn left(&self) -> Duration {
        self.asking.limit.saturating_sub(self.began.elapsed())
    }
}

/// The part of the remaining time that the address at `at` of `all` may take,
/// so that each one after it has its own.
pub(super) fn share(left: Duration, at: usize, all: usize) -> Duration {
    left / u32::try_from(all.saturating_sub(at)).unwrap_or(u32::MAX).max(1)
}

/// Whether the next address is asked: only who cannot be reached is passed
/// over, never one with another certificate or with an answer of its own.
pub(super) const fn is_passed_over(failure: &Failure) -> bool {
    matches!(failure, Failure::Timeout | Failure::Refused(_) | Failure::NoWay(_))
}

/// No address gave an answer.
#[derive(Debug)]
pub(crate) struct Unreached(Vec<Try>);

#[derive(Debug)]
struct Try {
    endpoint: String,
    failure: Failure,
    limit: Duration,
}

impl Unreached {
    /// Broken if every address refuses, else unknown.
    pub(super) fn seen(&self, asking: &Asking<'_>) -> Seen {
        let each = self.0.iter().map(|one| Seen::failed(asking.language, &one.endpoint, &one.failure, one.limit));
        let whole = each.reduce(|all, one| {
            let text = format!("{}; {}", all.text, one.text);
            // The one of which less is known tells what is known of all.
            let least = if all.status == Status::Critical { one } else { all };
            Seen { text, ..least }
        });
        whole.unwrap_or_else(|| {
            Seen::not_configured(say!(
                asking.language,
                "a integração não tem endereço",
                "the integration has no address"
            ))
        })
    }
}

/// The body as JSON; none where it is something else, as a proxy's error page.
pub(super) fn json(answer: &Answer) -> Option<Value> {
    answer.json().ok()
}
