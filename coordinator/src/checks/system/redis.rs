//! Redis and Valkey.

use farol_protocol::system::RedisProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &RedisProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("redis")
}
