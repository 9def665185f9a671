//! What changes, live, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use farol_protocol::Timestamp;
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Interval, MissedTickBehavior},
};
use utoipa::IntoParams;

use super::extract::{Caller, Query};
use crate::{
    app::App,
    auth::Credential,
    events::{Changed, Noun},
};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is asked whether whoever listens still may, beside at once
/// when this process ends a session: others can too.
const STILL_GOOD: Duration = Duration::from_secs(5);

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
    Caller(operator): Caller,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("").to_owned());
    let watcher = Watcher::new(app, operator.credential().clone(), header.or(query.last_event_id).as_deref());
    let events = stream::unfold(watcher, |mut watcher| async {
        let next = watcher.next().await?;
        Some((Ok(watcher.event(next)), watcher))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat"))
}

struct Watcher {
    app: App,
    credential: Credential,
    ends: watch::Receiver<()>,
    ask: Interval,
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
    fn new(app: App, credential: Credential, last: Option<&str>) -> Self {
        let mut ask = tokio::time::interval(STILL_GOOD);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ends = app.people.watch_ends();
        let watch = app.events.watch(last);
        let missed = match watch.missed {
            Some(missed) => missed.into_iter().map(Told::Changed).collect(),
            None => VecDeque::from([Told::Resync]),
        };
        Self { app, credential, ends, ask, missed, live: watch.live }
    }

    async fn next(&mut self) -> Option<Told> {
        if let Some(missed) = self.missed.pop_front() {
            return Some(missed);
        }
        let received = loop {
            tokio::select! {
                () = self.app.stop.cancelled() => return None,
                received = self.live.recv() => break received,
                _ = self.ends.changed() => {}
                _ = self.ask.tick() => {}
            }
            if !self.may_listen().await {
                return None;
            }
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

    /// A store that fails ends nothing: it is asked again.
    async fn may_listen(&self) -> bool {
        let good = self.app.store.still_good(&self.credential, self.app.config.sessions, Timestamp::now()).await;
        good.unwrap_or_else(|error| {
            tracing::warn!("whether a listener still may listen is not known: {error}");
            true
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
