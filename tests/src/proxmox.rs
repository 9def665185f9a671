//! A stand-in for a Proxmox VE cluster (9.x): its answers, its refusals, and
//! what it leaves out where a right is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::product::{Asked, Product, Reply};

/// The token's id.
pub const USER: &str = "farol@pve!watch";
/// The token's secret.
pub const SECRET: &str = "2f6c1a3e-0b7d-4d0e-9a51-5c1de8f0aa77";

/// The cluster.
#[derive(Clone)]
pub struct FakeProxmox {
    /// Its server.
    pub product: Product,
    state: Arc<Mutex<Cluster>>,
}

/// What it is like. Lists are the rows of the API itself.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `data` by path after `/api2/json`.
    pub data: BTreeMap<String, Value>,
    /// Paths that the token may not read.
    pub forbidden: BTreeSet<String>,
    /// Nodes that do not answer the others.
    pub away: BTreeSet<String>,
    /// Tasks that run, by node. They are no part of the list of those that have ended.
    pub active: BTreeMap<String, Vec<Value>>,
}

impl FakeProxmox {
    /// A healthy cluster `casa` of the nodes `a` and `b`, at the time `now` in
    /// seconds.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(now: i64) -> Result<Self> {
        let state = Arc::new(Mutex::new(Cluster::healthy(now)));
        let shared = Arc::clone(&state);
        let product = Product::start(move |asked| {
            let cluster = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            cluster.answer(asked)
        })
        .await?;
        Ok(Self { product, state })
    }

    /// Changes what it is like.
    pub fn change(&self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes a node away, as the others then tell it.
    pub fn lose_node(&self, node: &str) {
        self.change(|cluster| {
            cluster.away.insert(node.to_owned());
            cluster.row("/cluster/status", "name", node)["online"] = json!(0);
            cluster.each("/cluster/resources", |row| {
                if row["node"] == node {
                    row["status"] = json!(if row["type"] == "node" { "offline" } else { "unknown" });
                }
            });
        });
    }

    /// Starts a backup on a node: of the guest `id`, or of those that the rest
    /// of its `command` line says where `id` is empty. `started` in seconds.
    pub fn start_backup(&self, node: &str, id: &str, started: i64, command: Option<&str>) {
        let upid = format!("UPID:{node}:000A:000B:{started:X}:vzdump:{id}:root@pam:");
        let command = command.map_or_else(|| id.to_owned(), str::to_owned);
        self.change(|cluster| {
            let log = json!([{"n": 1, "t": format!("INFO: starting new backup job: vzdump {command}")}]);
            cluster.data.insert(format!("/nodes/{node}/tasks/{upid}/log"), log);
            let row = json!({"upid": upid, "node": node, "pid": 7, "pstart": 8, "starttime": started, "type": "vzdump",
                "id": id, "user": "root@pam", "status": "RUNNING"});
            cluster.active.entry(node.to_owned()).or_default().push(row);
        });
    }

    /// The backups of a node end well.
    pub fn end_backups(&self, node: &str) {
        self.change(|cluster| {
            cluster.active.remove(node);
        });
    }

    /// Takes every right from the token, so that lists are short and nothing says so.
    pub fn take_rights(&self) {
        self.change(|cluster| {
            for list in cluster.data.values_mut().filter_map(Value::as_array_mut) {
                list.clear();
            }
            for path in ["/cluster/status", "/cluster/backup-info/not-backed-up"] {
                cluster.forbidden.insert(path.to_owned());
            }
        });
    }
}

impl Cluster {
    fn healthy(now: i64) -> Self {
        let guest = |kind: &str, vmid: u32, name: &str, node: &str, status: &str| {
            json!({
                "id": format!("{kind}/{vmid}"), "type": kind, "vmid": vmid, "name": name, "node": node, "status": status,
                "cpu": 0.02, "maxcpu": 4, "mem": 2_147_483_648_u64, "maxmem": 4_294_967_296_u64, "disk": 0,
                "maxdisk": 34_359_738_368_u64, "uptime": 86_400, "template": 0
            })
        };
        let store = |name: &str, node: &str, shared: u8, content: &str, used: u64| {
            json!({
                "id": format!("storage/{node}/{name}"), "type": "storage", "storage": name, "node": node,
                "status": "available", "shared": shared, "plugintype": "dir", "content": content,
                "disk": used, "maxdisk": 1_000_000_000_000_u64
            })
        };
        let node = |name: &str| {
            json!({"id": format!("node/{name}"), "type": "node", "node": name, "status": "online",
            "cpu": 0.1, "maxcpu": 16, "level": "", "uptime": 864_000})
        };
        let backup = |vmid: u32, hours: i64| {
            let at = now - hours * 3600;
            json!({"volid": format!("nas:backup/vzdump-qemu-{vmid}-{at}.vma.zst"), "ctime": at, "size": 12_345,
                "vmid": vmid, "format": "vma.zst", "content": "backup"})
        };
        let task = |node: &str, kind: &str, id: &str, ago: i64, status: &str| {
            json!({"upid": format!("UPID:{node}:0001:0002:0003:{kind}:{id}:root@pam:"), "node": node, "pid": 1,
                "pstart": 2, "starttime": now - ago - 60, "endtime": now - ago, "type": kind, "id": id,
                "user": "root@pam", "status": status})
        };
        let data = [
            ("/version", json!({"version": "9.2.1", "release": "9.2", "repoid": "a1b2c3d4"})),
            (
                "/cluster/status",
                json!([
                    {"type": "cluster", "id": "cluster", "name": "casa", "nodes": 2, "version": 4, "quorate": 1},
                    {"type": "node", "id": "node/a", "name": "a", "nodeid": 1, "ip": "10.0.0.1", "local": 1, "online": 1, "level": ""},
                    {"type": "node", "id": "node/b", "name": "b", "nodeid": 2, "ip": "10.0.0.2", "local": 0, "online": 1, "level": ""}
                ]),
            ),
            (
                "/cluster/resources",
                json!([
                    guest("qemu", 112, "wizard", "a", "running"),
                    guest("qemu", 122, "desk", "a", "running"),
                    guest("qemu", 123, "finance", "b", "running"),
                    guest("lxc", 104, "mail", "b", "running"),
                    guest("qemu", 200, "lab", "b", "stopped"),
                    {"id": "qemu/900", "type": "qemu", "vmid": 900, "name": "debian", "node": "a", "status": "stopped", "template": 1},
                    node("a"),
                    node("b"),
                    store("local", "a", 0, "iso,vztmpl", 400_000_000_000),
                    store("local", "b", 0, "iso,vztmpl", 300_000_000_000),
                    store("nas", "a", 1, "backup,images", 500_000_000_000),
                    store("nas", "b", 1, "backup,images", 500_000_000_000),
                    {"id": "sdn/a/localnetwork", "type": "sdn", "sdn": "localnetwork", "node": "a", "status": "ok"}
                ]),
            ),
            ("/cluster/backup-info/not-backed-up", json!([{"vmid": 200, "type": "qemu", "name": "lab"}])),
            (
                "/nodes/a/qemu",
                json!([{"vmid": 112, "status": "running", "qmpstatus": "running"},
                {"vmid": 122, "status": "running", "qmpstatus": "running"}, {"vmid": 900, "status": "stopped", "template": 1}]),
            ),
            (
                "/nodes/b/qemu",
                json!([{"vmid": 123, "status": "running", "qmpstatus": "running"},
                {"vmid": 200, "status": "stopped", "qmpstatus": "stopped"}]),
            ),
            ("/nodes/b/qemu/200/config", json!({"name": "lab", "memory": "2048", "cores": 2})),
            ("/nodes/a/qemu/112/status/current", json!({"status": "running", "qmpstatus": "running", "vmid": 112})),
            ("/nodes/a/qemu/122/status/current", json!({"status": "running", "qmpstatus": "running", "vmid": 122})),
            ("/nodes/b/qemu/123/status/current", json!({"status": "running", "qmpstatus": "running", "vmid": 123})),
            (
                "/nodes/a/qemu/112/config",
                json!({"name": "wizard", "onboot": 1, "net0": "virtio=BC:24:11:0A:0B:0C,bridge=vmbr0",
                "smbios1": "uuid=1d4f1a6e-6e8f-4c53-9a0e-0f6b2d7f0112"}),
            ),
            (
                "/nodes/a/qemu/122/config",
                json!({"name": "desk", "onboot": 1, "net0": "virtio=BC:24:11:0A:0B:22,bridge=vmbr0",
                "smbios1": "uuid=1d4f1a6e-6e8f-4c53-9a0e-0f6b2d7f0122"}),
            ),
            (
                "/nodes/b/qemu/123/config",
                json!({"name": "finance", "onboot": 1, "net0": "virtio=BC:24:11:0A:0B:23,bridge=vmbr0",
                "smbios1": "uuid=1d4f1a6e-6e8f-4c53-9a0e-0f6b2d7f0123"}),
            ),
            (
                "/nodes/b/lxc/104/config",
                json!({"hostname": "mail", "onboot": 1,
                "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:0A:0B:04,ip=dhcp,type=veth"}),
            ),
            (
                "/nodes/a/storage/nas/content",
                json!([backup(112, 6), backup(112, 30), backup(122, 5), backup(123, 7), backup(104, 8)]),
            ),
            (
                "/nodes/a/replication",
                json!([{"id": "112-0", "guest": 112, "source": "a", "target": "b", "schedule": "*/15",
                "last_sync": now - 600, "last_try": now - 600, "next_sync": now + 300, "fail_count": 0, "duration": 4.2}]),
            ),
            ("/nodes/b/replication", json!([])),
            (
                "/nodes/a/tasks",
                json!([
                    task("a", "vncproxy", "112", 3000, "connection timed out"),
                    task("a", "vzdump", "", 20_000, "OK"),
                    task("a", "aptupdate", "", 40_000, "WARNINGS: 1")
                ]),
            ),
            ("/nodes/b/tasks", json!([])),
        ];
        Self {
            data: data.into_iter().map(|(path, data)| (path.to_owned(), data)).collect(),
            forbidden: BTreeSet::new(),
            away: BTreeSet::new(),
            active: BTreeMap::new(),
        }
    }

    /// The row of a list whose `key` is `value`.
    ///
    /// # Panics
    /// There is none.
    pub fn row(&mut self, path: &str, key: &str, value: &str) -> &mut Value {
        let rows = self.data.get_mut(path).and_then(Value::as_array_mut).expect("a list");
        rows.iter_mut().find(|row| row[key] == value).expect("a row")
    }

    /// Each row of a list.
    pub fn each(&mut self, path: &str, change: impl FnMut(&mut Value)) {
        self.data.get_mut(path).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    }

    /// Adds a row to a list.
    pub fn add(&mut self, path: &str, row: Value) {
        if let Some(list) = self.data.get_mut(path).and_then(Value::as_array_mut) {
            list.push(row);
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let refused = |status: u16, why: &str| {
            Reply::json(status, &json!({"data": null, "message": format!("{why}\n")})).because(why)
        };
        let Some(path) = asked.path.strip_prefix("/api2/json") else {
            return Reply::html(404, "<html><body>not found</body></html>").because("no such file");
        };
        if path == "/access/domains" {
            return Reply::json(
                200,
                &json!({"data": [{"realm": "pam", "type": "pam"}, {"realm": "pve", "type": "pve"}]}),
            );
        }
        if asked.header("authorization") != Some(&format!("PVEAPIToken={USER}={SECRET}")) {
            return refused(401, "No ticket").because("authentication failure");
        }
        if asked.method != "GET" || !asked.body.is_empty() {
            return refused(501, &format!("Method '{} {path}' not implemented", asked.method));
        }
        if self.away.iter().any(|node| path.starts_with(&format!("/nodes/{node}/"))) {
            return Reply::new(595, "text/plain", String::new()).because("No route to host");
        }
        if self.forbidden.contains(path) {
            return refused(403, "Permission check failed (/, Sys.Audit)");
        }
        let node = path.strip_prefix("/nodes/").and_then(|rest| rest.strip_suffix("/tasks"));
        let active = node.filter(|_| asked.parameter("source") == Some("active"));
        let active = active.map(|node| json!(self.active.get(node).cloned().unwrap_or_default()));
        let unescaped = path.replace("%3A", ":").replace("%40", "@");
        let Some(data) = active.as_ref().or_else(|| self.data.get(&unescaped)) else {
            return refused(501, &format!("Method 'GET {path}' not implemented"));
        };
        let data = match (data.as_array(), asked.parameter("typefilter"), asked.parameter("errors")) {
            (Some(rows), Some(kind), _) => rows.iter().filter(|row| row["type"] == kind).cloned().collect(),
            (Some(rows), None, Some("1")) => rows.iter().filter(|row| row["status"] != "OK").cloned().collect(),
            _ => data.clone(),
        };
        Reply::json(200, &json!({"data": data}))
    }
}
