//! The host's inventory on its way into the spool.

use farol_protocol::inventory::Inventory;
use tokio::{task::JoinError, time::Instant};

use super::Agent;
use crate::{
    inventory::{Looker, watch::Digest},
    task::scoped,
};

/// What a look gives.
pub(super) type Looked = Result<(Looker, Inventory), JoinError>;

/// An inventory that waits for the next batch.
pub(super) struct Found {
    pub(super) inventory: Inventory,
    pub(super) digest: Digest,
}

impl Agent {
    /// When the host is to be looked at; never while that is being done, or
    /// while nothing could leave.
    pub(super) fn look_due(&self) -> Option<Instant> {
        let idle = self.looking.is_none() && self.link.is_ready();
        self.watch.due().filter(|_| idle)
    }

    pub(super) fn start_look(&mut self) {
        if self.look_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let (looker, socket) = (std::mem::take(&mut self.looker), self.config.docker_socket.clone());
        self.looking = Some(tokio::spawn(scoped(looker.look(socket))));
    }

    /// News leaves at once, with whatever reports are ready.
    pub(super) async fn on_look(&mut self, looked: Result<Looked, JoinError>) {
        self.looking = None;
        let now = Instant::now();
        self.watch.on_looked(now, fastrand::f64());
        let (looker, inventory) = match looked.flatten() {
            Ok(looked) => looked,
            Err(error) => return tracing::error!("the inventory could not be taken: {error}"),
        };
        self.looker = looker;
        let hash = ring::digest::digest(&ring::digest::SHA256, inventory.json().as_bytes());
        let mut digest = Digest::default();
        digest.copy_from_slice(hash.as_ref());
        if self.watch.is_news(&digest, now) {
            self.found = Some(Found { inventory, digest });
            self.push(None).await;
        }
    }
}
