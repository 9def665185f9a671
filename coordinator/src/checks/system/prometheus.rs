//! Prometheus.

use farol_protocol::system::PrometheusProbe;

use super::{Asking, Seen};

pub(super) async fn ask(asking: &Asking<'_>, probe: &PrometheusProbe) -> Seen {
    let _ = (asking, probe);
    Seen::unknown("prometheus")
}
