//! Stand-in for a Matrix homeserver: rooms, events, transactions, limits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// A room that takes messages.
pub const ROOM: &str = "!ops:farol.test";
/// A room that is encrypted.
pub const ENCRYPTED: &str = "!secret:farol.test";

#[derive(Default)]
struct State {
    /// Events with the transaction that made each.
    events: Vec<(String, Value)>,
    limited: usize,
}

/// The server.
#[derive(Clone)]
pub struct FakeMatrix {
    /// The ground it stands on.
    pub product: Product,
    state: Arc<Mutex<State>>,
}

impl FakeMatrix {
    /// Listens; one user has `token`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(token: &str) -> Result<Self> {
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, token) = (Arc::clone(&state), format!("Bearer {token}"));
        let product = Product::start_plain(move |asked| {
            answer(asked, &token, &mut shared.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await?;
        Ok(Self { product, state })
    }

    /// What is in the room.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.events.iter().map(|(_, event)| event.clone()).collect()
    }

    /// Refuses the next events as too many.
    pub fn limit(&self, requests: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).limited = requests;
    }
}

fn error(status: u16, code: &str, text: &str) -> Reply {
    Reply::json(status, &json!({"errcode": code, "error": text}))
}

fn answer(asked: &Asked, token: &str, state: &mut State) -> Reply {
    match asked.header("authorization") {
        None => return error(401, "M_MISSING_TOKEN", "Missing access token"),
        Some(given) if given != token => return error(401, "M_UNKNOWN_TOKEN", "Unrecognised access token"),
        Some(_) => {}
    }
    let Some(path) = asked.path.strip_prefix("/_matrix/client/v3/rooms/") else {
        return error(404, "M_UNRECOGNIZED", "Unrecognized request");
    };
    let parts: Vec<&str> = path.split('/').collect();
    let encoded = |room: &str| room.replace('!', "%21").replace(':', "%3A");
    let rooms: HashMap<String, bool> = HashMap::from([(encoded(ROOM), false), (encoded(ENCRYPTED), true)]);
    let Some(is_encrypted) = parts.first().and_then(|room| rooms.get(*room)) else {
        return error(403, "M_FORBIDDEN", "User @farol:farol.test not in room");
    };
    match (asked.method.as_str(), &parts[1..]) {
        ("GET", ["state", "m.room.encryption", ""]) if *is_encrypted => {
            Reply::json(200, &json!({"algorithm": "m.megolm.v1.aes-sha2"}))
        }
        ("GET", ["state", "m.room.encryption", ""]) => error(404, "M_NOT_FOUND", "Event not found."),
        ("PUT", ["send", "m.room.message", transaction]) => {
            if state.limited > 0 {
                state.limited -= 1;
                return error(429, "M_LIMIT_EXCEEDED", "Too Many Requests").with("retry-after", "1");
            }
            let Ok(body) = serde_json::from_str::<Value>(&asked.body) else {
                return error(400, "M_NOT_JSON", "Content not JSON.");
            };
            if body["msgtype"].as_str().is_none() || body["body"].as_str().is_none() {
                return error(400, "M_BAD_JSON", "a message has a msgtype and a body");
            }
            let place = state.events.iter().position(|(known, _)| known == transaction).unwrap_or_else(|| {
                state.events.push(((*transaction).to_owned(), body));
                state.events.len() - 1
            });
            Reply::json(200, &json!({"event_id": format!("$event{place}")}))
        }
        _ => error(404, "M_UNRECOGNIZED", "Unrecognized request"),
    }
}
