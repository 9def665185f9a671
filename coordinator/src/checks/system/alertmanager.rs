//! Alertmanager.

use farol_protocol::system::ServiceProbe;

use super::{Asking, Seen};

pub(super) async fn ask(asking: &Asking<'_>, probe: &ServiceProbe) -> Seen {
    let _ = (asking, probe);
    Seen::unknown("alertmanager")
}
