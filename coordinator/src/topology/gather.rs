//! What the graph is drawn from, out of the store, the registry and the board.

use farol_protocol::{Timestamp, inventory::Inventory};

use super::{Input, KnownHost, Said};
use crate::{
    app::Shared,
    error::Result,
    store::{
        hosts::{Enrolment, HostKey},
        topology::InventoryRow,
    },
};

/// It, with the inventories still to be read.
pub(crate) struct Gathered {
    hosts: Vec<(HostKey, KnownHost)>,
    inventories: Vec<InventoryRow>,
    /// What integrations said.
    pub(crate) said: Vec<Said>,
}

impl Gathered {
    /// Everything that is known now. Hosts whose identity was taken back are no
    /// part of it.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn read(app: &Shared, now: Timestamp) -> Result<Self> {
        let hosts = app.store.hosts().await?;
        let inventories = app.store.inventories().await?;
        let watched = app.watched();
        let known = |host: crate::store::hosts::HostRow| {
            let entry = watched.registry.host(&host.name);
            let known = KnownHost {
                site: host.site.or_else(|| entry.and_then(|entry| entry.site.clone())),
                vmid: entry.and_then(|entry| entry.vmid),
                parent: entry.and_then(|entry| entry.parent.clone()),
                depends_on: entry.map(|entry| entry.depends_on.clone()).unwrap_or_default(),
                inventory: None,
                name: host.name,
            };
            (host.key, known)
        };
        let hosts = hosts.into_iter().filter(|host| host.enrolment != Enrolment::Revoked).map(known).collect();
        Ok(Self { hosts, inventories, said: app.topology.facts.all(now) })
    }

    /// What a graph without corrections is drawn from. A large fleet's takes a
    /// while.
    pub(crate) fn input(mut self) -> Input {
        for row in self.inventories {
            let Some((_, host)) = self.hosts.iter_mut().find(|(key, _)| *key == row.host) else { continue };
            match serde_json::from_str::<Inventory>(&row.body) {
                Ok(inventory) => host.inventory = Some((inventory, row.observed_at)),
                Err(error) => tracing::error!(host = host.name, "a stored inventory cannot be read: {error}"),
            }
        }
        let hosts = self.hosts.into_iter().map(|(_, host)| host).collect();
        Input { hosts, said: self.said, corrections: Vec::new() }
    }
}
