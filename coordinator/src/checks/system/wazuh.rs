//! Wazuh.

use farol_protocol::system::WazuhProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &WazuhProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("wazuh")
}
