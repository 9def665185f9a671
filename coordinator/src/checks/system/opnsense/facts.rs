//! What the registry of OPNsense firewalls tells of one: how it is, its
//! interfaces, its figures. A key with few rights reaches only some commands,
//! so each fact says which command gave it, and what the others answered.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    api::{Firewall, Trouble},
    gateways::figure,
};
use crate::{
    checks::system::phrase::quoted,
    integrations::lenient::{flag, integer, number, rows, text},
};

/// How a firewall is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Whether it answered.
    pub(crate) ok: bool,
    /// The command that told; null where none did.
    pub(crate) endpoint: Option<&'static str>,
    /// Release, where the command tells it.
    pub(crate) version: Option<String>,
    /// The firewall's own word for how it is, where the command tells it.
    pub(crate) status: Option<String>,
    /// Why it did not answer.
    pub(crate) error: Option<String>,
    /// Commands that were asked before, and what kept them from telling.
    pub(crate) tried: Vec<Tried>,
}

/// A command that told nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tried {
    /// The command.
    pub(crate) endpoint: &'static str,
    /// What happened.
    pub(crate) error: String,
}

/// A network interface.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Interface {
    /// Name of the device, such as `igb0`.
    device: String,
    /// Name in the configuration, such as `wan`.
    identifier: Option<String>,
    /// For people.
    description: Option<String>,
    /// `up`, `down`, `no carrier`.
    status: Option<String>,
    /// Whether it is in use.
    enabled: Option<bool>,
    /// Addresses with their prefix.
    pub(super) addresses: Vec<String>,
    /// Hardware address.
    mac: Option<String>,
    /// Kind of link.
    media: Option<String>,
    /// Gateways behind it.
    gateways: Vec<String>,
    /// Number of its VLAN.
    vlan: Option<i64>,
}

/// Interfaces and which command told them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Interfaces {
    /// The command.
    endpoint: &'static str,
    /// The interfaces.
    pub(super) items: Vec<Interface>,
    /// Rows that could not be read.
    unread: usize,
}

/// Figures; what could not be had is null or empty, and under `tried`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Metrics {
    /// As the firewall words it.
    uptime: Option<String>,
    /// Load over 1, 5 and 15 minutes.
    load: Vec<f64>,
    /// Memory in bytes.
    memory: Option<Memory>,
    /// File systems.
    disks: Vec<Disk>,
    /// Gateways.
    gateways: Vec<Gateway>,
    /// Counters of interfaces since the start.
    interfaces: Vec<Counters>,
    /// Commands that told nothing.
    tried: Vec<Tried>,
}

/// Memory in bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Memory {
    /// All of it.
    total: f64,
    /// In use.
    used: f64,
}

/// A file system.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Disk {
    /// Where it is mounted.
    mountpoint: String,
    /// Per cent in use.
    used_pct: f64,
}

/// A gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gateway {
    /// Its name.
    name: String,
    /// OPNsense's word: `none` is online.
    status: String,
    /// Packet loss in per cent; null where it is not watched.
    loss_pct: Option<f64>,
    /// Delay in ms; null where it is not watched.
    delay_ms: Option<f64>,
}

/// Counters of an interface.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Counters {
    /// Device.
    name: String,
    /// Bytes in.
    received_bytes: Option<f64>,
    /// Bytes out.
    sent_bytes: Option<f64>,
    /// Errors on the way in.
    received_errors: Option<f64>,
    /// Errors on the way out.
    send_errors: Option<f64>,
}

const HEALTH: [&str; 4] = [
    "core/firmware/status",
    "core/system/status",
    "diagnostics/system/system_information",
    "diagnostics/system/system_time",
];

/// Asks one command after the other until one tells.
pub(crate) async fn health(firewall: &Firewall<'_>) -> Health {
    let mut tried = Vec::new();
    for endpoint in HEALTH {
        match firewall.get(endpoint).await {
            Ok(body) => {
                let (version, status) = (version(&body), status(&body));
                // Any web server may answer with some JSON.
                let uptime = body.get("uptime").and_then(text);
                if version.is_some() || status.is_some() || uptime.is_some() {
                    return Health { ok: true, endpoint: Some(endpoint), version, status, error: None, tried };
                }
                let error = Trouble::Shape { command: endpoint }.seen(firewall).text;
                tried.push(Tried { endpoint, error });
            }
            Err(trouble) => {
                let (error, last) = (trouble.seen(firewall).text, is_last(&trouble));
                tried.push(Tried { endpoint, error });
                if last {
                    break;
                }
            }
        }
    }
    let error = tried.last().map(|one| one.error.clone());
    Health { ok: false, endpoint: None, version: None, status: None, error, tried }
}

/// Whether another command would fare no better.
const fn is_last(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Unreached(_) | Trouble::Login)
}

fn version(body: &Value) -> Option<String> {
    let product = body.get("product").and_then(|product| product.get("product_version"));
    let found = product.or_else(|| body.get("product_version")).or_else(|| body.get("versions")?.get(0));
    let word = quoted(found.and_then(text)?);
    Some(word.strip_prefix("OPNsense ").map(str::to_owned).unwrap_or(word))
}

fn status(body: &Value) -> Option<String> {
    let system = body.get("metadata").and_then(|metadata| metadata.get("system")).or_else(|| body.get("System"));
    let found = system.and_then(|system| system.get("status")).or_else(|| body.get("status"));
    found.and_then(text).map(|word| quoted(word).to_ascii_lowercase())
}

/// Its interfaces: by the command of 24.1 and later, else by its export.
///
/// # Errors
/// Neither tells.
pub(crate) async fn interfaces(firewall: &Firewall<'_>) -> Result<Interfaces, Trouble> {
    const GRID: &str = "interfaces/overview/interfaces_info";
    const EXPORT: &str = "interfaces/overview/export";
    let (endpoint, body) = match firewall.get(GRID).await {
        Ok(body) => (GRID, body),
        Err(trouble) if is_last(&trouble) => return Err(trouble),
        // What the first one lacked is what a person is told.
        Err(trouble) => (EXPORT, firewall.get(EXPORT).await.map_err(|_| trouble)?),
    };
    let read = rows(body.get("rows").unwrap_or(&body), |row| {
        let word = |key: &str| row.get(key).and_then(text).map(quoted);
        Some(Interface {
            device: word("device")?,
            identifier: word("identifier"),
            description: word("description"),
            status: word("status"),
            enabled: row.get("enabled").and_then(flag),
            addresses: addresses(row),
            mac: word("macaddr"),
            media: word("media"),
            gateways: words(row.get("gateways")),
            vlan: row.get("vlan_tag").and_then(integer),
        })
    })
    .ok_or(Trouble::Shape { command: endpoint })?;
    Ok(Interfaces { endpoint, items: read.good, unread: read.bad })
}

fn addresses(row: &Map<String, Value>) -> Vec<String> {
    let mut all: Vec<String> =
        ["addr4", "addr6"].iter().filter_map(|key| row.get(*key).and_then(text)).map(quoted).collect();
    for key in ["ipv4", "ipv6"] {
        let list = row.get(key).and_then(Value::as_array).into_iter().flatten();
        all.extend(list.filter_map(|one| one.get("ipaddr").and_then(text)).map(quoted));
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn words(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(text).map(quoted).collect()
}

/// Takes figures out of an answer.
type Take = fn(&mut Metrics, &Value);

/// Its figures, as many as the key may read.
///
/// # Errors
/// None could be read.
pub(crate) async fn metrics(firewall: &Firewall<'_>) -> Result<Metrics, Trouble> {
    let mut metrics = Metrics::default();
    let mut worst = None;
    let takes: [(&'static str, Take); 5] = [
        ("diagnostics/system/system_time", time),
        ("diagnostics/system/system_resources", memory),
        ("diagnostics/system/system_disk", disks),
        ("routes/gateway/status", gateways),
        ("diagnostics/interface/get_interface_statistics", counters),
    ];
    let all = takes.len();
    for (endpoint, take) in takes {
        match firewall.get(endpoint).await {
            Ok(body) => take(&mut metrics, &body),
            Err(trouble) if is_last(&trouble) => return Err(trouble),
            Err(trouble) => {
                metrics.tried.push(Tried { endpoint, error: trouble.seen(firewall).text });
                worst.get_or_insert(trouble);
            }
        }
    }
    match worst {
        Some(trouble) if metrics.tried.len() == all => Err(trouble),
        _ => Ok(metrics),
    }
}

fn time(metrics: &mut Metrics, body: &Value) {
    metrics.uptime = body.get("uptime").and_then(text).map(quoted);
    let load = body.get("loadavg").and_then(text).unwrap_or_default();
    metrics.load = load.split(',').filter_map(|word| number(&word.into())).collect();
}

fn memory(metrics: &mut Metrics, body: &Value) {
    let figure = |key: &str| body.get("memory").and_then(|memory| memory.get(key)).and_then(number);
    metrics.memory = figure("total").zip(figure("used")).map(|(total, used)| Memory { total, used });
}

fn disks(metrics: &mut Metrics, body: &Value) {
    let read = body.get("devices").and_then(|devices| {
        rows(devices, |row| {
            let share = row.get("used_pct")?;
            let used_pct = number(share).or_else(|| number(&share.as_str()?.trim_end_matches('%').into()))?;
            Some(Disk { mountpoint: quoted(row.get("mountpoint").and_then(text)?), used_pct })
        })
    });
    metrics.disks = read.map(|read| read.good).unwrap_or_default();
}

fn gateways(metrics: &mut Metrics, body: &Value) {
    let read = body.get("items").and_then(|items| {
        rows(items, |row| {
            Some(Gateway {
                name: quoted(row.get("name").and_then(text)?),
                status: quoted(row.get("status").and_then(text)?),
                loss_pct: row.get("loss").and_then(figure),
                delay_ms: row.get("delay").and_then(figure),
            })
        })
    });
    metrics.gateways = read.map(|read| read.good).unwrap_or_default();
}

/// A device has a row for each of its addresses; the counters are those of the
/// link itself.
fn counters(metrics: &mut Metrics, body: &Value) {
    let rows = body.get("statistics").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let links = rows
        .filter(|row| row.get("network").and_then(Value::as_str).is_none_or(|network| network.starts_with("<Link")));
    metrics.interfaces = links
        .filter_map(|row| {
            let figure = |key: &str| row.get(key).and_then(number);
            Some(Counters {
                name: quoted(row.get("name").and_then(text)?),
                received_bytes: figure("received-bytes"),
                sent_bytes: figure("sent-bytes"),
                received_errors: figure("received-errors"),
                send_errors: figure("send-errors"),
            })
        })
        .collect();
}
