//! Workflow runs of GitHub.

use farol_protocol::system::GithubRunsProbe;

use super::{Asking, Seen};
use crate::integrations::Connection;

pub(super) async fn ask(asking: &Asking<'_>, probe: &GithubRunsProbe, connection: &Connection) -> Seen {
    let _ = (asking, probe, connection);
    Seen::unknown("github_runs")
}
