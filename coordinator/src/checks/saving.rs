//! Which guests a hypervisor saves now, for whom nobody is to be told meanwhile.

use std::time::Duration;

use farol_protocol::{
    Timestamp,
    registry::{Scenario, Target},
    system::{ProxmoxLook, SystemProbe, SystemSpec},
};

use super::{
    Runner,
    seen::Seen,
    system::{self, Asking},
};
use crate::{app::Shared, watched::Watched};

/// How many answers may fail to come before nothing is known of a backup.
const MISSES: u64 = 3;

impl Runner {
    /// Puts up the backups that a hypervisor makes, once a look at its guests
    /// or tasks was answered.
    pub(super) async fn note_backups(&self, watched: &Watched, scenario: &Scenario, spec: &SystemSpec, seen: &Seen) {
        let asks = |probe: &SystemProbe| match probe {
            SystemProbe::Proxmox(probe) => matches!(probe.look, ProxmoxLook::Guests | ProxmoxLook::Tasks),
            _ => false,
        };
        if !seen.answered || !asks(&spec.probe) {
            return;
        }
        let integrations = &self.app.integrations;
        let Some(connection) = integrations.for_probe(&spec.probe) else { return };
        let (clients, now) = (integrations.clients(), Timestamp::now());
        let _turn = integrations.turn(spec.probe.target(), system::at_once(&spec.probe)).await;
        let Ok(_slot) = self.slots.acquire().await else { return };
        let limit = Duration::from_millis(spec.timeout_ms);
        let asking = Asking { language: watched.registry.language, limit, now, clients };
        let answers = match system::backups(&asking, &connection).await {
            Ok(answers) => answers,
            Err(why) => {
                tracing::info!(integration = connection.name, "which guests are being saved is not known: {why}");
                return;
            }
        };
        let of = match scenario.hosts.as_deref() {
            Some([host]) => Some(host.as_str()),
            _ => None,
        };
        let fresh_for = Duration::from_millis(spec.every_ms.saturating_mul(MISSES));
        let board = &self.app.quiet.backups;
        if board.set(&connection.name, of, answers, Timestamp::now(), fresh_for) {
            self.app.quiet.wake.notify_one();
            if let Err(error) = self.app.store.save_backups(&board.save()).await {
                tracing::warn!("the backups that run were not saved, a restart would not know of them: {error}");
            }
        }
    }
}

/// Forgets backups of integrations that are gone, or that no look asks any more.
pub(crate) fn forget(app: &Shared) {
    let watched = app.watched();
    let asked = |name: &str| {
        let mut checks = watched.registry.scenarios.iter().flat_map(|scenario| &scenario.checks);
        checks.any(|check| match &check.target {
            Target::System(spec) => spec.probe.integration() == Some(name),
            _ => false,
        })
    };
    app.quiet.backups.retain(|name| app.integrations.get(name).is_some() && asked(name));
}
