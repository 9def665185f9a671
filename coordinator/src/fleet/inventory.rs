//! What a host says that it is made of, on its way to the disk.

use farol_protocol::{
    Timestamp,
    inventory::{Inventory, Section},
};

use super::session::Connection;
use crate::{
    events::Noun,
    store::{bulk::StreamKey, topology::InventoryWrite},
};

/// The last inventory that this connection handed to the writer.
pub(super) struct Inventories {
    stream: StreamKey,
    seq: u64,
    observed_at: Timestamp,
    digest: String,
}

/// What is stored of the section. One that is not understood costs nothing else.
pub(super) fn read(connection: &Connection, section: Section<Inventory>) -> Option<InventoryWrite> {
    match section {
        Section::Read(inventory) => Some(InventoryWrite::new(inventory)),
        Section::Malformed(why) => {
            connection.app.metrics.malformed_inventory();
            tracing::warn!("an inventory was not understood: {}", crate::text::plain(&why, 300));
            None
        }
    }
}

/// Remembers an inventory until it is committed.
pub(super) fn note(
    connection: &mut Connection,
    (stream, seq): (StreamKey, u64),
    observed_at: Timestamp,
    inventory: &InventoryWrite,
) {
    let digest = inventory.digest.clone();
    connection.inventory = Some(Box::new(Inventories { stream, seq, observed_at, digest }));
}

/// Batches of a stream are on disk up to `seq`; news among them is told.
pub(super) fn committed(connection: &mut Connection, stream: StreamKey, seq: u64) {
    let there = |waiting: &mut Box<Inventories>| waiting.stream == stream && waiting.seq <= seq;
    let Some(waiting) = connection.inventory.take_if(there) else { return };
    let Connection { app, host, .. } = connection;
    if app.topology.note(host.key, waiting.observed_at, waiting.digest) {
        app.events.publish(Noun::Topology, &host.name, "inventory");
    }
}
