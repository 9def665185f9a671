//! Proxmox VE.

use farol_protocol::system::ProxmoxProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &ProxmoxProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("proxmox")
}
