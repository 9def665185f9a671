//! Block lists.

use farol_protocol::system::BlockListProbe;

use super::{Asking, Seen};

pub(super) async fn ask(asking: &Asking<'_>, probe: &BlockListProbe) -> Seen {
    let _ = (asking, probe);
    Seen::unknown("block_list")
}
