//! What changes, live, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::IntoParams;

use super::extract::Query;
use crate::{
    app::App,
    events::{Changed, Noun},
};

const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where to go on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Id of the last event that was seen, where the header `Last-Event-ID` cannot be sent.
    last_event_id: Option<String>,
}

/// Changes, live
///
/// A stream of events: the name is the noun that changed, the data says which and what it is now. After `resync`, which
/// comes when the id in `Last-Event-ID` is not known or the reader was too slow, everything is to be read again. The
/// state `output` of an action says that it wrote something and runs on; it is told to those who listen then, and not
/// again.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", operation_id = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that was seen")),
    responses((status = 200, body = Changed, content_type = "text/event-stream")))]
pub(super) async fn stream(
    State(app): State<App>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("").to_owned());
    let watcher = Watcher::new(app, header.or(query.last_event_id).as_deref());
    let events = stream::unfold(watcher, |mut watcher| async {
        let next = watcher.next().await?;
        Some((Ok(watcher.event(next)), watcher))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat"))
}

struct Watcher {
    app: App,
    missed: VecDeque<Told>,
    live: Receiver<Changed>,
}

/// What a watcher is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// This changed.
    Changed(Changed),
    /// Something was missed.
    Resync,
}

impl Watcher {
    fn new(app: App, last: Option<&str>) -> Self {
        let watch = app.events.watch(last);
        let missed = match watch.missed {
            Some(missed) => missed.into_iter().map(Told::Changed).collect(),
            None => VecDeque::from([Told::Resync]),
        };
        Self { app, missed, live: watch.live }
    }

    async fn next(&mut self) -> Option<Told> {
        if let Some(missed) = self.missed.pop_front() {
            return Some(missed);
        }
        let received = tokio::select! {
            () = self.app.stop.cancelled() => return None,
            received = self.live.recv() => received,
        };
        Some(match received {
            Ok(changed) => Told::Changed(changed),
            Err(RecvError::Lagged(_)) => {
                // What is still queued is older than what it is about to read.
                self.live = self.live.resubscribe();
                Told::Resync
            }
            Err(RecvError::Closed) => return None,
        })
    }

    fn event(&self, told: Told) -> Event {
        match told {
            Told::Resync => Event::default().event("resync").data("{}"),
            Told::Changed(changed) => {
                let data = serde_json::to_string(&changed).unwrap_or_else(|_| "{}".to_owned());
                Event::default().event(name(changed.noun)).id(self.app.events.id(changed.position)).data(data)
            }
        }
    }
}

const fn name(noun: Noun) -> &'static str {
    match noun {
        Noun::Host => "host",
        Noun::Finding => "finding",
        Noun::Thread => "thread",
        Noun::Action => "action",
        Noun::Scenario => "scenario",
        Noun::Topology => "topology",
        Noun::Quiet => "quiet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_name_of_its_noun() {
        for noun in [Noun::Host, Noun::Finding, Noun::Thread, Noun::Action, Noun::Scenario, Noun::Topology, Noun::Quiet]
        {
            assert_eq!(serde_json::to_value(noun).expect("serializable"), name(noun));
        }
    }
}
