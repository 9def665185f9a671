//! What the name system says about a mail domain.

use farol_protocol::system::MailDomainProbe;

use super::{Asking, Seen};

pub(super) async fn ask(asking: &Asking<'_>, probe: &MailDomainProbe) -> Seen {
    let _ = (asking, probe);
    Seen::unknown("mail_domain")
}
