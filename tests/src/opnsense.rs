//! A stand-in for an OPNsense: 25.7 and later with commands in snake_case, or
//! an earlier release whose limited keys know camelCase alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// The API key.
pub const KEY: &str = "w86XNZob/8Oq8aC5r0kbNarNtdpoQU781fyoeaOBQsBwkXUt";
/// Its secret.
pub const SECRET: &str = "puOyw0Ega3xZXeD26XVrJ5WYFepOseySWLM53pJASeTA3";

/// The firewall.
#[derive(Clone)]
pub struct FakeOpnsense {
    /// Its server.
    pub product: Product,
    state: Arc<Mutex<Firewall>>,
}

/// What it is like.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// Bodies by command after `/api/`, in the spelling that this release's rights list.
    pub bodies: BTreeMap<String, Value>,
    /// Commands in the other spelling: the router knows them, a limited key may not use them.
    pub other_spelling: BTreeSet<String>,
    /// Commands that the key may not use.
    pub forbidden: BTreeSet<String>,
}

impl FakeOpnsense {
    /// A healthy firewall of the release 26.7, which looked for updates on
    /// 2026-11-20.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        Self::with(Firewall::release_26()).await
    }

    /// A healthy firewall of the release 24.1.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_24() -> Result<Self> {
        Self::with(Firewall::release_24()).await
    }

    async fn with(firewall: Firewall) -> Result<Self> {
        let state = Arc::new(Mutex::new(firewall));
        let shared = Arc::clone(&state);
        let product =
            Product::start(move |asked| shared.lock().unwrap_or_else(PoisonError::into_inner).answer(asked)).await?;
        Ok(Self { product, state })
    }

    /// Changes what it is like.
    pub fn change(&self, change: impl FnOnce(&mut Firewall)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Firewall {
    fn release_26() -> Self {
        let mut firewall = Self {
            bodies: shared_bodies(),
            other_spelling: [
                "diagnostics/system/systemDisk",
                "diagnostics/system/systemResources",
                "diagnostics/system/systemTime",
                "diagnostics/interface/getInterfaceStatistics",
                "interfaces/overview/interfacesInfo",
                "diagnostics/system/systemInformation",
            ]
            .map(str::to_owned)
            .into(),
            forbidden: BTreeSet::new(),
        };
        firewall.bodies.insert(
            "core/system/status".to_owned(),
            json!({
                "metadata": {"system": {"status": "OK", "message": "No pending messages", "title": "System"},
                    "translations": {"dialogTitle": "System Status"}, "subsystems": []},
                "subsystems": {"crashreporter": {"status": "OK", "statusCode": 2, "message": "No problems were detected.",
                    "title": "Crash Reporter", "timestamp": "0", "age": ""}}
            }),
        );
        firewall
    }

    fn release_24() -> Self {
        let mut bodies: BTreeMap<String, Value> =
            shared_bodies().into_iter().map(|(command, body)| (camel(&command), body)).collect();
        bodies.insert(
            "core/system/status".to_owned(),
            json!({
                "CrashReporter": {"statusCode": 2, "message": "No problems were detected.", "status": "OK"},
                "Firewall": {"statusCode": 2, "message": "No problems were detected.", "status": "Ok"},
                "System": {"status": "ok"}
            }),
        );
        let other_spelling = shared_bodies().into_keys().filter(|command| camel(command) != *command).collect();
        Self { bodies, other_spelling, forbidden: BTreeSet::new() }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let said = |status: u16, message: &str| Reply::json(status, &json!({"status": status, "message": message}));
        let Some(command) = asked.path.strip_prefix("/api/") else {
            return Reply::html(200, "<html><title>Login | OPNsense</title></html>");
        };
        if asked.basic() != Some((KEY.to_owned(), SECRET.to_owned())) {
            return said(401, "Authentication Failed");
        }
        if self.forbidden.contains(command) || self.other_spelling.contains(command) {
            return said(403, "Forbidden");
        }
        let Some(body) = self.bodies.get(command) else {
            return Reply::json(404, &json!({"errorMessage": "Endpoint not found"}));
        };
        if asked.method != "GET" {
            return Reply::json(200, &json!({"status": "failure"}));
        }
        Reply::json(200, body)
    }
}

fn camel(command: &str) -> String {
    let mut upper = false;
    let mut word = String::new();
    for c in command.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            word.push(c.to_ascii_uppercase());
        } else {
            word.push(c);
        }
    }
    word
}

fn shared_bodies() -> BTreeMap<String, Value> {
    let gateway = |name: &str, loss: &str, delay: &str| {
        json!({"name": name, "address": "192.0.2.1", "status": "none", "status_translated": "Online", "loss": loss,
            "delay": delay, "stddev": "0.3 ms", "monitor": "192.0.2.1"})
    };
    let interface = |device: &str, identifier: &str, description: &str| {
        json!({"device": device, "identifier": identifier, "description": description, "status": "up", "enabled": true,
            "link_type": "static", "addr4": "192.0.2.10/24", "addr6": "", "macaddr": "00:11:22:33:44:55",
            "gateways": ["192.0.2.1"], "media": "1000baseT", "vlan_tag": null})
    };
    [
        (
            "core/firmware/status",
            json!({
                "status": "none", "status_msg": "There are no updates available.",
                "last_check": "Fri Nov 20 03:00:01 UTC 2026", "connection": "ok", "repository": "ok",
                "needs_reboot": "0", "upgrade_needs_reboot": "0", "all_packages": [],
                "product": {"product_name": "OPNsense", "product_version": "26.7.1", "product_latest": "26.7.1"}
            }),
        ),
        (
            "routes/gateway/status",
            json!({"items": [gateway("WAN_GW", "0.0 %", "12.3 ms"), gateway("LTE", "~", "~")], "status": "ok"}),
        ),
        (
            "diagnostics/system/system_disk",
            json!({"devices": [
                {"device": "zroot/ROOT/default", "type": "zfs", "blocks": "30G", "used": "6G", "available": "24G", "used_pct": 20, "mountpoint": "/"},
                {"device": "devfs", "type": "devfs", "blocks": "1.0K", "used": "0B", "available": "1.0K", "used_pct": 100, "mountpoint": "/dev"}
            ]}),
        ),
        (
            "diagnostics/system/system_resources",
            json!({"memory": {"total": "8478531584", "total_frmt": "8085", "used": 2_119_632_896_u64, "used_frmt": "2021"}}),
        ),
        (
            "diagnostics/system/system_time",
            json!({"uptime": "3 days, 04:05:06", "datetime": "Fri Nov 20 10:00:00 UTC 2026", "boottime": "Tue Nov 17 05:54:54 UTC 2026",
                "config": "Mon Nov 16 10:00:00 UTC 2026", "loadavg": "0.2, 0.3, 0.3"}),
        ),
        ("diagnostics/system/system_information", json!({"name": "fw.example.org", "versions": ["OPNsense 26.7.1-amd64", "FreeBSD 14.3"], "updates": "OK"})),
        (
            "diagnostics/interface/get_interface_statistics",
            json!({"statistics": {"[WAN] (igb0) / 00:11:22:33:44:55": {"name": "igb0", "address": "00:11:22:33:44:55", "network": "<Link#1>",
                "mtu": "1500", "received-packets": "100", "received-errors": 0, "received-bytes": "123456", "sent-packets": 90,
                "send-errors": 0, "sent-bytes": 65432, "collisions": 0}}}),
        ),
        (
            "interfaces/overview/interfaces_info",
            json!({"total": 2, "rowCount": 2, "current": 1, "rows": [interface("igb0", "wan", "WAN"), interface("igb1", "lan", "LAN")]}),
        ),
    ]
    .into_iter()
    .map(|(command, body)| (command.to_owned(), body))
    .collect()
}
