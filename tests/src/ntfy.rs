//! Stand-in for an ntfy server: its answers, its errors, its limits.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// Longest message that ntfy takes as JSON.
const MAX_MESSAGE: usize = 4096;

#[derive(Default)]
struct State {
    published: Vec<Value>,
    /// So many requests are refused for being too many.
    limited: usize,
}

/// The server.
#[derive(Clone)]
pub struct FakeNtfy {
    /// The ground it stands on.
    pub product: Product,
    state: Arc<Mutex<State>>,
}

impl FakeNtfy {
    /// Listens, and takes messages from whoever shows `token`.
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

    /// What was published.
    #[must_use]
    pub fn published(&self) -> Vec<Value> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).published.clone()
    }

    /// Refuses the next requests as too many.
    pub fn limit(&self, requests: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).limited = requests;
    }
}

fn error(code: u64, http: u16, text: &str) -> Reply {
    Reply::json(
        http,
        &json!({"code": code, "http": http, "error": text, "link": "https://ntfy.sh/docs/publish/#limitations"}),
    )
}

fn answer(asked: &Asked, token: &str, state: &mut State) -> Reply {
    if asked.path != "/" || !matches!(asked.method.as_str(), "POST" | "PUT") {
        return error(40401, 404, "page not found");
    }
    match asked.header("authorization") {
        None => return error(40301, 403, "forbidden"),
        Some(given) if given != token => return error(40101, 401, "unauthorized"),
        Some(_) => {}
    }
    if state.limited > 0 {
        state.limited -= 1;
        return error(42901, 429, "limit reached: too many requests").with("retry-after", "1");
    }
    let Ok(body) = serde_json::from_str::<Value>(&asked.body) else {
        return error(40024, 400, "invalid request: request body must be message JSON");
    };
    let topic = body["topic"].as_str().unwrap_or_default();
    if !(1..=64).contains(&topic.len()) || !topic.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return error(40009, 400, "invalid request: topic invalid");
    }
    if body["message"].as_str().is_none_or(|message| message.len() > MAX_MESSAGE) {
        return error(41301, 413, "request entity too large");
    }
    if body["actions"].as_array().is_some_and(|actions| actions.len() > 3) {
        return error(40018, 400, "invalid request: actions invalid");
    }
    let id = format!("id{}", state.published.len());
    let reply = json!({"id": id, "time": 1_700_000_000, "expires": 1_700_043_200, "event": "message", "topic": topic});
    state.published.push(body);
    Reply::json(200, &reply)
}
