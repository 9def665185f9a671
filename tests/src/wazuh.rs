//! A stand-in for the API of a Wazuh 4.14 manager.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// A user.
pub const USER: &str = "farol";
/// Their password.
pub const PASSWORD: &str = "Uma-Senha-Longa-1";

/// The manager.
#[derive(Clone)]
pub struct FakeWazuh {
    /// Its server.
    pub product: Product,
    state: Arc<Mutex<Manager>>,
}

/// What it is like.
#[derive(Debug, Clone)]
pub struct Manager {
    /// `data` by path.
    pub data: BTreeMap<String, Value>,
    /// Paths that the user may not read.
    pub forbidden: BTreeSet<String>,
    /// Whether it has had too many questions.
    pub tired: bool,
    /// Logins that it gave.
    pub logins: usize,
    /// Whether it forgets each login at once.
    pub forgets: bool,
    /// The login that is good.
    pub token: Option<String>,
}

impl FakeWazuh {
    /// A healthy manager with three agents.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(Manager::healthy()));
        let shared = Arc::clone(&state);
        let product =
            Product::start(move |asked| shared.lock().unwrap_or_else(PoisonError::into_inner).answer(asked)).await?;
        Ok(Self { product, state })
    }

    /// Changes what it is like.
    pub fn change(&self, change: impl FnOnce(&mut Manager)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Logins that it gave.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).logins
    }

    /// Restarts it: every login is void.
    pub fn restart(&self) {
        self.change(|manager| manager.token = None);
    }
}

fn one(item: Value) -> Value {
    json!({"affected_items": [item], "total_affected_items": 1, "failed_items": [], "total_failed_items": 0})
}

impl Manager {
    fn healthy() -> Self {
        let daemons = json!({
            "wazuh-agentlessd": "stopped", "wazuh-analysisd": "running", "wazuh-authd": "running",
            "wazuh-csyslogd": "stopped", "wazuh-dbd": "stopped", "wazuh-monitord": "running", "wazuh-execd": "running",
            "wazuh-integratord": "stopped", "wazuh-logcollector": "running", "wazuh-maild": "stopped",
            "wazuh-remoted": "running", "wazuh-reportd": "stopped", "wazuh-syscheckd": "running",
            "wazuh-clusterd": "stopped", "wazuh-modulesd": "running", "wazuh-db": "running", "wazuh-apid": "running"
        });
        let data = [
            ("/manager/status", one(daemons)),
            (
                "/agents/summary/status",
                json!({"connection": {"active": 4, "disconnected": 0, "never_connected": 0, "pending": 0, "total": 4},
                    "configuration": {"synced": 4, "not_synced": 0, "total": 4}}),
            ),
            ("/agents", one(json!({"id": "003", "name": "vm104"}))),
        ];
        Self {
            data: data.into_iter().map(|(path, data)| (path.to_owned(), data)).collect(),
            forbidden: BTreeSet::new(),
            tired: false,
            logins: 0,
            forgets: false,
            token: None,
        }
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let refused = |status: u16, title: &str, detail: &str, error: Option<u32>| {
            Reply::new(
                status,
                "application/problem+json; charset=utf-8",
                json!({"title": title, "detail": detail, "error": error}).to_string(),
            )
        };
        if self.tired {
            return refused(429, "Too Many Requests", "Maximum number of requests per minute reached", Some(6001));
        }
        if asked.path == "/security/user/authenticate" {
            if asked.method != "POST" {
                return refused(405, "Method Not Allowed", "Method Not Allowed", None);
            }
            if asked.basic() != Some((USER.to_owned(), PASSWORD.to_owned())) {
                return refused(401, "Unauthorized", "Invalid credentials", None);
            }
            self.logins += 1;
            let token = format!("eyJhbGciOiJFUzUxMiJ9.{}", self.logins);
            self.token = (!self.forgets).then(|| token.clone());
            return Reply::json(200, &json!({"data": {"token": token}, "error": 0}));
        }
        let shown = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if shown.is_none() || shown != self.token.as_deref() {
            return refused(401, "Unauthorized", "Invalid token", None);
        }
        if self.forbidden.contains(&asked.path) {
            return refused(403, "Permission Denied", "Permission denied: Resource type: *:*", Some(4000));
        }
        match self.data.get(&asked.path) {
            Some(data) => Reply::json(200, &json!({"data": data, "message": "ok", "error": 0})),
            None => refused(404, "Not Found", "The requested URL was not found on the server", None),
        }
    }
}
