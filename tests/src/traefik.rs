//! A stand-in for the API of Traefik 3: its lists in pages, its refusals.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// The proxy.
#[derive(Clone)]
pub struct FakeTraefik {
    /// Its server.
    pub product: Product,
    state: Arc<Mutex<Proxy>>,
}

/// What it is like. Lists are the rows of the API itself.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// `/api/http/routers`.
    pub routers: Vec<Value>,
    /// `/api/http/services`.
    pub services: Vec<Value>,
}

/// A row of a router that is in use; `name` is of the form `NAME@PROVIDER`.
#[must_use]
pub fn router(name: &str, rule: &str, service: &str) -> Value {
    json!({"entryPoints": ["web"], "service": service, "rule": rule, "priority": rule.len(), "status": "enabled",
        "using": ["web"], "name": name, "provider": name.rsplit('@').next()})
}

/// A row of a service that is in use and shares its requests among `servers`.
#[must_use]
pub fn service(name: &str, servers: &[&str]) -> Value {
    let list: Vec<Value> = servers.iter().map(|url| json!({"url": url})).collect();
    let states: serde_json::Map<String, Value> = servers.iter().map(|url| ((*url).to_owned(), json!("UP"))).collect();
    json!({"loadBalancer": {"servers": list, "passHostHeader": true, "strategy": "wrr"}, "status": "enabled",
        "usedBy": [], "serverStatus": states, "name": name, "provider": name.rsplit('@').next(), "type": "loadbalancer"})
}

impl FakeTraefik {
    /// A healthy proxy with a container, two servers behind one name, and its
    /// own API.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(Proxy::healthy()));
        let shared = Arc::clone(&state);
        let product = Product::start_plain(move |asked| {
            let proxy = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            proxy.answer(asked)
        })
        .await?;
        Ok(Self { product, state })
    }

    /// Changes what it is like.
    pub fn change(&self, change: impl FnOnce(&mut Proxy)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Makes it healthy again.
    pub fn heal(&self) {
        self.change(|proxy| *proxy = Proxy::healthy());
    }
}

impl Proxy {
    fn healthy() -> Self {
        let two = "Host(`shop.example.org`) || Host(`www.shop.example.org`)";
        let weighted = json!({"weighted": {"services": [{"name": "shop-a", "weight": 3}, {"name": "shop-b", "weight": 1}]},
            "status": "enabled", "name": "shop@file", "provider": "file", "type": "weighted"});
        Self {
            routers: vec![
                router("app@docker", "Host(`app.example.org`) && PathPrefix(`/`)", "app"),
                router("shop@file", two, "shop"),
                router("api@internal", "PathPrefix(`/api`)", "api@internal"),
            ],
            services: vec![
                service("app@docker", &["http://172.18.0.5:3000"]),
                weighted,
                service("shop-a@file", &["http://10.10.10.112:8080"]),
                service("shop-b@file", &["http://user:word@10.10.10.122:8080/path"]),
            ],
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let list = match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/api/http/routers") => &self.routers,
            ("GET", "/api/http/services") => &self.services,
            ("GET", _) => return Reply::new(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
            _ => return Reply::new(405, "text/plain", String::new()),
        };
        let whole = |name: &str, default: usize| asked.parameter(name).map_or(Some(default), |text| text.parse().ok());
        let (Some(page), Some(per_page)) = (whole("page", 1), whole("per_page", 100)) else {
            return Reply::json(400, &json!({"message": "invalid request: page"}));
        };
        let from = page.saturating_sub(1) * per_page;
        if page == 0 || per_page == 0 || from != 0 && from >= list.len() {
            let message = format!("invalid request: page: {page}, per_page: {per_page}");
            return Reply::json(400, &json!({"message": message}));
        }
        let to = list.len().min(from + per_page);
        let next = if to < list.len() { page + 1 } else { 1 };
        Reply::json(200, &json!(list[from..to])).with("x-next-page", next.to_string())
    }
}
