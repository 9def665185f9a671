//! A stand-in for a pfSense with the REST API package 2.7, with the older 1.x,
//! or without one, as after an upgrade. It blocks an address after too many
//! refused logins, as pfSense does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// The API key.
pub const KEY: &str = "8a1f6f0c2f4b4c7d9b3b6a5e4d3c2b1a";
/// A local user.
pub const USER: &str = "farol";
/// Their password.
pub const PASSWORD: &str = "uma senha longa";
/// Refused logins that block the asking address.
pub const BLOCKS_AFTER: usize = 3;

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// The REST API, version 2.
    V2,
    /// The REST API, version 1.
    V1,
    /// None.
    Missing,
}

/// The firewall.
#[derive(Clone)]
pub struct FakePfsense {
    /// Its server.
    pub product: Product,
    state: Arc<Mutex<Firewall>>,
}

/// What it is like.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// What is installed.
    pub package: Package,
    /// Whether the API is turned on.
    pub enabled: bool,
    /// Whether the access list lets the coordinator in.
    pub allowed: bool,
    /// `data` by path after `/api/v2`.
    pub data: BTreeMap<String, Value>,
    /// Paths that the key has no privilege for.
    pub forbidden: BTreeSet<String>,
    /// Refused logins so far.
    pub refused: usize,
}

impl FakePfsense {
    /// A healthy firewall.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(Firewall::healthy()));
        let shared = Arc::clone(&state);
        let product =
            Product::start(move |asked| shared.lock().unwrap_or_else(PoisonError::into_inner).answer(asked)).await?;
        Ok(Self { product, state })
    }

    /// Changes what it is like.
    pub fn change(&self, change: impl FnOnce(&mut Firewall)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Refused logins so far.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}

impl Firewall {
    fn healthy() -> Self {
        let gateway = |name: &str, ip: &str, delay: f64| {
            json!({"name": name, "srcip": "192.0.2.10", "monitorip": ip, "delay": delay, "stddev": 0.4, "loss": 0,
                "status": "online", "substatus": "none"})
        };
        let service = |id: u32, name: &str, description: &str, enabled: bool, status: bool| json!({"id": id, "name": name, "action": null, "description": description, "enabled": enabled, "status": status});
        let data = [
            (
                "/status/system",
                json!({"platform": "Netgate 4200", "serial": "1234", "netgate_id": "ab12", "uptime": "12 Days 03 Hours",
                    "bios_vendor": "x", "cpu_model": "Intel", "cpu_count": 4, "cpu_load_avg": [0.21, 0.3, 0.28],
                    "cpu_usage": 5.25, "mem_usage": 21, "swap_usage": 0, "disk_usage": 12, "mbuf_usage": 3, "temp_c": 41.2}),
            ),
            ("/status/gateways", json!([gateway("WAN_DHCP", "192.0.2.1", 4.2), gateway("WAN2", "198.51.100.1", 9.8)])),
            (
                "/status/services",
                json!([
                    service(0, "unbound", "DNS Resolver", true, true),
                    service(1, "dpinger", "Gateway Monitoring Daemon", true, true),
                    service(2, "openvpn", "matriz", true, true),
                    service(3, "openvpn", "filial", true, true),
                    service(4, "ntpd", "NTP clock sync", true, true),
                    service(5, "snmpd", "SNMP Service", false, false)
                ]),
            ),
            (
                "/status/interfaces",
                json!([
                    {"name": "wan", "descr": "WAN", "hwif": "igb0", "macaddr": "00:08:a2:0c:00:01", "status": "up",
                        "ipaddr": "192.0.2.10", "subnet": "24", "ipaddrv6": null, "subnetv6": null, "gateway": "192.0.2.1"},
                    {"name": "lan", "descr": "LAN", "hwif": "igb1", "macaddr": "00:08:a2:0c:00:02", "status": "up",
                        "ipaddr": "10.10.10.1", "subnet": "24", "ipaddrv6": "fe80::1:1%igb1", "subnetv6": "64", "gateway": null},
                    {"name": "opt1", "descr": "OPT1", "hwif": "igb2", "status": "no carrier", "ipaddr": null}
                ]),
            ),
            ("/status/carp", json!({"enable": true, "maintenance_mode": false})),
        ];
        Self {
            package: Package::V2,
            enabled: true,
            allowed: true,
            data: data.into_iter().map(|(path, data)| (path.to_owned(), data)).collect(),
            forbidden: BTreeSet::new(),
            refused: 0,
        }
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        if self.refused >= BLOCKS_AFTER {
            // A blocked address gets nothing at all; the nearest a server can come to it.
            return Reply::new(444, "text/plain", String::new());
        }
        let login = "<html><head><title>pfSense - Login</title></head><body>pfSense</body></html>";
        if asked.path == "/" {
            return Reply::html(200, login);
        }
        match self.package {
            Package::V2 => asked.path.strip_prefix("/api/v2").map(|path| self.v2(asked, path)),
            Package::V1 => asked.path.strip_prefix("/api/v1").map(|_| self.v1()),
            Package::Missing => None,
        }
        .unwrap_or_else(|| Reply::html(404, "<html><head><title>404 Not Found</title></head><body>nginx</body></html>"))
    }

    fn v1(&mut self) -> Reply {
        self.refused += 1;
        Reply::json(
            401,
            &json!({"status": "unauthorized", "code": 401, "return": 3, "message": "Authentication failed", "data": []}),
        )
    }

    fn v2(&mut self, asked: &Asked, path: &str) -> Reply {
        let envelope = |code: u16, status: &str, id: &str, message: &str, data: Value| {
            Reply::json(
                code,
                &json!({"code": code, "status": status, "response_id": id, "message": message, "data": data, "_links": {}}),
            )
        };
        if !self.enabled {
            return envelope(
                503,
                "service unavailable",
                "ENDPOINT_REST_API_IS_NOT_ENABLED",
                "The REST API is not enabled.",
                json!([]),
            );
        }
        if !self.allowed {
            let message = "The requesting client is not allowed by ACL.";
            return envelope(403, "forbidden", "ENDPOINT_CLIENT_NOT_ALLOWED_BY_ACL", message, json!([]));
        }
        let by_key = asked.header("x-api-key") == Some(KEY);
        let by_user = asked.basic() == Some((USER.to_owned(), PASSWORD.to_owned()));
        if !by_key && !by_user {
            self.refused += 1;
            let message = "Authentication failed.";
            return envelope(401, "unauthorized", "AUTH_AUTHENTICATION_FAILED", message, json!([]));
        }
        let Some(data) = self.data.get(path) else {
            return Reply::html(404, "<html><head><title>404 Not Found</title></head><body>nginx</body></html>");
        };
        if asked.method != "GET" {
            let message = "The requested method is not allowed in read only mode.";
            return envelope(
                405,
                "method not allowed",
                "ENDPOINT_METHOD_NOT_ALLOWED_IN_READ_ONLY_MODE",
                message,
                json!([]),
            );
        }
        if self.forbidden.contains(path) {
            return envelope(403, "forbidden", "AUTH_AUTHORIZATION_FAILED", "Authorization failed.", json!([]));
        }
        envelope(200, "ok", "SUCCESS", "", data.clone())
    }
}
