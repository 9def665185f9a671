//! Docker and Podman over TCP.

use farol_protocol::system::DockerProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &DockerProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("docker")
}
