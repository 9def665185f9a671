//! Stand-ins for products that cannot be had here, each with the answers of the
//! real one: its own shape of errors, unknown paths and refusals included.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Method, Request, Response, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What it is, and how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Odoo 17 and later, in order.
    Odoo,
    /// Odoo 17 whose PostgreSQL is away.
    OdooWithoutDatabase,
    /// Odoo 14: no `/web/health`.
    Odoo14,
    /// Odoo 14 that fails, with 200 as JSON-RPC does.
    Odoo14Broken,
    /// FOSSBilling in order.
    Fossbilling,
    /// FOSSBilling whose database is away: 200 and `error`.
    FossbillingBroken,
    /// FOSSBilling that takes calls from other addresses only.
    FossbillingForOthers,
    /// FOSSBilling that was asked too often.
    FossbillingLimited,
    /// The bridge of OpenPanel in order.
    Bridge,
    /// The bridge, which says of a part that it is down.
    BridgePartDown,
    /// The bridge that is not ready: 503 and JSON.
    BridgeNotReady,
    /// The bridge behind a login.
    BridgeLocked,
    /// The error page of a proxy before any of them.
    BadGateway,
    /// Somebody else's page for browsers, with 200.
    Page,
}

/// A request as it came: method and path with query.
pub type Asked = (String, String);

/// The server.
#[derive(Debug, Clone)]
pub struct Fake {
    address: SocketAddr,
    product: Arc<Mutex<Product>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(product: Product) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let fake =
            Self { address: listener.local_addr()?, product: Arc::new(Mutex::new(product)), asked: Arc::default() };
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(fake)
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Becomes another one.
    pub fn set(&self, product: Product) {
        *self.product.lock().unwrap_or_else(PoisonError::into_inner) = product;
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn json_of(status: u16, body: &Value) -> Response<Body> {
    made(status, "application/json", body.to_string())
}

fn made(status: u16, kind: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

async fn answer(State(fake): State<Fake>, request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let whole = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    fake.asked.lock().unwrap_or_else(PoisonError::into_inner).push((method.to_string(), whole.clone()));
    let product = *fake.product.lock().unwrap_or_else(PoisonError::into_inner);
    match product {
        Product::BadGateway => {
            let page = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
            made(502, "text/html", page.to_owned())
        }
        Product::Page => made(200, "text/html; charset=utf-8", "<!doctype html><title>Bem-vindo</title>".to_owned()),
        Product::Odoo | Product::OdooWithoutDatabase => odoo(product, &method, &whole),
        Product::Odoo14 | Product::Odoo14Broken => odoo14(product, &method, &path),
        Product::Fossbilling
        | Product::FossbillingBroken
        | Product::FossbillingForOthers
        | Product::FossbillingLimited => fossbilling(product, &path),
        Product::Bridge | Product::BridgePartDown | Product::BridgeNotReady | Product::BridgeLocked => {
            bridge(product, &path)
        }
    }
}

fn odoo(product: Product, method: &Method, path: &str) -> Response<Body> {
    match (method, path, product) {
        (&Method::GET, "/web/health?db_server_status=1", Product::Odoo) => {
            json_of(200, &json!({"status": "pass", "db_server_status": true}))
        }
        (&Method::GET, "/web/health?db_server_status=1", _) => {
            json_of(500, &json!({"status": "fail", "db_server_status": false}))
        }
        (&Method::GET, "/web/health", _) => json_of(200, &json!({"status": "pass"})),
        _ => made(404, "text/html; charset=utf-8", "<!doctype html><title>404 Not Found</title>".to_owned()),
    }
}

fn odoo14(product: Product, method: &Method, path: &str) -> Response<Body> {
    match (method, path) {
        (&Method::POST, "/web/webclient/version_info") if product == Product::Odoo14 => json_of(
            200,
            &json!({"jsonrpc": "2.0", "id": null, "result": {
                "server_version": "14.0-20230101", "server_version_info": [14, 0, 0, "final", 0, ""],
                "server_serie": "14.0", "protocol_version": 1,
            }}),
        ),
        (&Method::POST, "/web/webclient/version_info") => json_of(
            200,
            &json!({"jsonrpc": "2.0", "id": null, "error": {
                "code": 200, "message": "Odoo Server Error", "data": {
                    "name": "psycopg2.OperationalError",
                    "message": "could not connect to server: Connection refused", "debug": "Traceback …", "arguments": [],
                },
            }}),
        ),
        _ => made(404, "text/html", "<!DOCTYPE HTML><title>404 Not Found</title>".to_owned()),
    }
}

fn fossbilling(product: Product, path: &str) -> Response<Body> {
    let failed =
        |code: i64, message: &str| json_of(200, &json!({"result": null, "error": {"message": message, "code": code}}));
    if product == Product::FossbillingLimited {
        let mut response = json_of(
            429,
            &json!({"result": null, "error": {"message": "Request limit reached. Request made: 101, limit: 100", "code": 1003}}),
        );
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("60"));
        return response;
    }
    match (path, product) {
        ("/api/guest/system/company", Product::Fossbilling) => json_of(
            200,
            &json!({"result": {"www": "https://example.org/", "name": "Exemplo", "email": "contato@example.org",
                "tel": null, "signature": "FOSSBilling.org", "logo_url": "/logo.png"}, "error": null}),
        ),
        ("/api/guest/system/company", Product::FossbillingForOthers) => failed(1002, "Unauthorized IP"),
        ("/api/guest/system/company", _) => failed(9999, "SQLSTATE[HY000] [2002] Connection refused"),
        _ => failed(879, "Calling invalid method"),
    }
}

fn bridge(product: Product, path: &str) -> Response<Body> {
    if product == Product::BridgeLocked {
        return json_of(401, &json!({"detail": "Not authenticated"}));
    }
    match (path, product) {
        ("/health", Product::Bridge) => json_of(
            200,
            &json!({"status": "ok", "service": "openpanel-bridge", "version": "1.4.0",
                "checks": {"openpanel": "ok", "database": {"status": "ok"}}}),
        ),
        ("/health", Product::BridgePartDown) => json_of(
            200,
            &json!({"status": "ok", "version": "1.4.0",
                "checks": {"openpanel": {"status": "down", "error": "connect ECONNREFUSED 127.0.0.1:2087"}, "database": "ok"}}),
        ),
        ("/health", _) => json_of(503, &json!({"status": "error", "message": "shutting down"})),
        _ => json_of(404, &json!({"detail": "Not Found"})),
    }
}
