//! Stand-in for a receiver of Standard Webhooks, which believes no signature
//! that it has not verified.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use data_encoding::BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// What came, and under which id.
#[derive(Debug, Clone)]
pub struct Hook {
    /// `webhook-id`.
    pub id: String,
    /// The body.
    pub body: Value,
}

#[derive(Default)]
struct State {
    hooks: Vec<Hook>,
    /// Answered instead of 204.
    status: Option<u16>,
}

/// The receiver.
#[derive(Clone)]
pub struct Receiver {
    /// The ground it stands on.
    pub product: Product,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// Listens; `secret` is `whsec_…`.
    ///
    /// # Errors
    /// No port is free, or the secret is none.
    pub async fn start(secret: &str) -> Result<Self> {
        let key = BASE64.decode(secret.strip_prefix("whsec_").context("no prefix")?.as_bytes())?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let product = Product::start_plain(move |asked| {
            answer(asked, &key, &mut shared.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await?;
        Ok(Self { product, state })
    }

    /// What was believed, repetitions included.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).hooks.clone()
    }

    /// Answers this status from now on, and takes nothing.
    pub fn refuse(&self, status: Option<u16>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).status = status;
    }
}

fn answer(asked: &Asked, key: &hmac::Key, state: &mut State) -> Reply {
    if let Some(status) = state.status {
        return Reply::json(status, &json!({"error": "refused"}));
    }
    let header = |name: &str| asked.header(name).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let is_fresh = timestamp.parse::<i64>().is_ok_and(|at| (now - at).abs() <= 300);
    let signed = format!("{id}.{timestamp}.{}", asked.body);
    let is_signed = header("webhook-signature").split(' ').any(|signature| {
        let tag = signature.strip_prefix("v1,").and_then(|tag| BASE64.decode(tag.as_bytes()).ok());
        tag.is_some_and(|tag| hmac::verify(key, signed.as_bytes(), &tag).is_ok())
    });
    if asked.method != "POST" || id.is_empty() || !is_fresh || !is_signed || asked.body.len() > 20_000 {
        return Reply::json(401, &json!({"error": "not believed"}));
    }
    match serde_json::from_str(&asked.body) {
        Ok(body) => {
            state.hooks.push(Hook { id: id.to_owned(), body });
            Reply::json(200, &json!({}))
        }
        Err(_) => Reply::json(400, &json!({"error": "not JSON"})),
    }
}
