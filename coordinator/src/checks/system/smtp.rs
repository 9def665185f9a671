//! The dialogue of a mail server.

use farol_protocol::system::SmtpProbe;

use super::{Asking, Seen};

pub(super) async fn ask(asking: &Asking<'_>, probe: &SmtpProbe) -> Seen {
    let _ = (asking, probe);
    Seen::unknown("smtp")
}
