//! PostgreSQL.

use farol_protocol::system::PostgresProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &PostgresProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("postgres")
}
