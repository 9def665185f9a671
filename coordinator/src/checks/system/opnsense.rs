//! OPNsense.

use farol_protocol::system::OpnsenseProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &OpnsenseProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("opnsense")
}
