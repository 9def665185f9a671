//! What a cluster's lists hold.

use serde_json::{Map, Value};

use crate::integrations::lenient::{Rows, flag, integer, number, rows, text};

/// Who belongs to a cluster.
#[derive(Debug)]
pub(super) struct Standing {
    /// None: a node by itself.
    pub(super) cluster: Option<Named>,
    pub(super) members: Rows<Member>,
}

/// The cluster itself.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) quorate: Option<bool>,
    /// How many nodes it should have.
    pub(super) nodes: Option<i64>,
}

/// A node of the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) online: bool,
}

impl Standing {
    pub(super) fn read(data: &Value) -> Option<Self> {
        let is = |row: &Map<String, Value>, kind: &str| row.get("type").and_then(Value::as_str) == Some(kind);
        let cluster =
            data.as_array()?.iter().filter_map(Value::as_object).find(|row| is(row, "cluster")).map(|row| Named {
                name: word(row, "name").unwrap_or_default(),
                quorate: row.get("quorate").and_then(flag),
                nodes: row.get("nodes").and_then(integer),
            });
        let read = rows(data, |row| {
            if !is(row, "node") {
                return row.get("type").and_then(text).map(|_| None);
            }
            Some(Some(Member { name: word(row, "name")?, online: row.get("online").and_then(flag)? }))
        })?;
        Some(Self { cluster, members: present(read) })
    }

    /// Names of the nodes that are there, or that are not.
    pub(super) fn names(&self, online: bool) -> Vec<String> {
        self.members.good.iter().filter(|node| node.online == online).map(|node| node.name.clone()).collect()
    }

    pub(super) fn is_away(&self, node: &str) -> bool {
        self.members.good.iter().any(|member| member.name == node && !member.online)
    }
}

/// What a cluster holds.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) guests: Vec<Guest>,
    pub(super) stores: Vec<Store>,
    /// Node and its status: online, offline or unknown.
    pub(super) nodes: Vec<(String, String)>,
    /// Rows that could not be read.
    pub(super) bad: usize,
}

/// A virtual machine or a container.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) vmid: u32,
    pub(super) is_container: bool,
    pub(super) name: Option<String>,
    pub(super) node: String,
    /// running, stopped or unknown.
    pub(super) status: String,
    pub(super) template: bool,
    /// What goes on with it that keeps others away, such as `backup`.
    pub(super) lock: Option<String>,
    /// What high availability says of it.
    pub(super) ha: Option<String>,
}

impl Guest {
    /// `112 web`.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.vmid),
            None => self.vmid.to_string(),
        }
    }

    /// Its part of a path.
    pub(super) fn path(&self) -> String {
        let kind = if self.is_container { "lxc" } else { "qemu" };
        format!("/nodes/{}/{kind}/{}", super::api::segment(&self.node), self.vmid)
    }
}

/// A storage as one node sees it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) shared: bool,
    pub(super) available: bool,
    /// Bytes.
    pub(super) used: Option<f64>,
    /// Bytes.
    pub(super) size: Option<f64>,
    /// Whether backups may lie there.
    pub(super) backups: bool,
}

enum Row {
    Guest(Guest),
    Store(Store),
    Node(String, String),
    Other,
}

impl Resources {
    pub(super) fn read(data: &Value) -> Option<Self> {
        let read = rows(data, |row| {
            Some(match row.get("type").and_then(text)? {
                "qemu" => Row::Guest(guest(row, false)?),
                "lxc" => Row::Guest(guest(row, true)?),
                "storage" => Row::Store(store(row)?),
                "node" => Row::Node(word(row, "node")?, word(row, "status")?),
                // Pools, networks, and what newer releases add.
                _ => Row::Other,
            })
        })?;
        let mut all = Self { guests: Vec::new(), stores: Vec::new(), nodes: Vec::new(), bad: read.bad };
        for row in read.good {
            match row {
                Row::Guest(guest) => all.guests.push(guest),
                Row::Store(store) => all.stores.push(store),
                Row::Node(node, status) => all.nodes.push((node, status)),
                Row::Other => {}
            }
        }
        all.guests.sort_by_key(|guest| guest.vmid);
        Some(all)
    }
}

fn guest(row: &Map<String, Value>, is_container: bool) -> Option<Guest> {
    Some(Guest {
        vmid: u32::try_from(integer(row.get("vmid")?)?).ok()?,
        is_container,
        name: word(row, "name"),
        node: word(row, "node")?,
        status: word(row, "status")?,
        template: row.get("template").and_then(flag).unwrap_or(false),
        lock: word(row, "lock"),
        ha: word(row, "hastate"),
    })
}

fn store(row: &Map<String, Value>) -> Option<Store> {
    Some(Store {
        name: word(row, "storage")?,
        node: word(row, "node")?,
        shared: row.get("shared").and_then(flag).unwrap_or(false),
        available: word(row, "status")? == "available",
        used: row.get("disk").and_then(number),
        size: row.get("maxdisk").and_then(number),
        backups: row
            .get("content")
            .and_then(Value::as_str)
            .is_some_and(|content| content.split(',').any(|kind| kind.trim() == "backup")),
    })
}

/// A word that the system gave, short enough for a text.
pub(super) fn word(row: &Map<String, Value>, key: &str) -> Option<String> {
    row.get(key).and_then(text).map(crate::checks::system::phrase::quoted).filter(|text| !text.is_empty())
}

/// The rows that are meant, without those that are something else.
fn present<T>(rows: Rows<Option<T>>) -> Rows<T> {
    Rows { good: rows.good.into_iter().flatten().collect(), bad: rows.bad }
}
