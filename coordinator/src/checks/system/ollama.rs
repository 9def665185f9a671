//! Ollama.

use farol_protocol::system::OllamaProbe;

use super::{Asking, Seen};

pub(super) async fn ask(asking: &Asking<'_>, probe: &OllamaProbe) -> Seen {
    let _ = (asking, probe);
    Seen::unknown("ollama")
}
