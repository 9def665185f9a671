//! pfSense by its REST API package.

use farol_protocol::system::PfsenseProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &PfsenseProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("pfsense")
}
