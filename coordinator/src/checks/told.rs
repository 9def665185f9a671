//! What looks and the systems behind them tell the topology.

use std::time::Duration;

use farol_protocol::{
    Timestamp,
    registry::{Scenario, Target},
    system::{SystemProbe, SystemSpec},
};

use super::{
    Runner,
    seen::Seen,
    system::{self, Asking, facts},
};
use crate::{app::Shared, events::Noun, topology::IntegrationFacts, watched::Watched};

/// How many times what was told may fail to come again before it counts no more.
const MISSES: i64 = 3;
/// Shortest time in ms for which it counts.
const LEAST_FRESH_MS: i64 = 15 * 60_000;

impl Runner {
    /// Puts up what a system tells the topology: what the look has anyway, or
    /// what is asked for now and then once the look was answered.
    pub(super) async fn tell(&self, watched: &Watched, scenario: &Scenario, spec: &SystemSpec, seen: Seen) {
        let host = match scenario.hosts.as_deref() {
            Some([host]) => Some(host.clone()),
            _ => None,
        };
        let every = i64::try_from(spec.every_ms).unwrap_or(i64::MAX);
        if let Some(facts) = seen.facts {
            self.put(&own_name(spec), IntegrationFacts { host, ..*facts }, every);
            return;
        }
        let (Some(least), true) = (facts::least_every_ms(&spec.probe, host.as_deref()), seen.answered) else { return };
        let integrations = &self.app.integrations;
        let Some(connection) = integrations.for_probe(&spec.probe) else { return };
        let (clients, now) = (integrations.clients(), Timestamp::now());
        let is_due = clients.memory.with(&connection, |known| {
            let is_due = known.told_at.is_none_or(|at| now.since(at) >= least);
            if is_due {
                known.told_at = Some(now);
            }
            is_due
        });
        if !is_due {
            return;
        }
        let _turn = integrations.turn(spec.probe.target(), system::at_once(&spec.probe)).await;
        let Ok(_slot) = self.slots.acquire().await else { return };
        let limit = Duration::from_millis(spec.timeout_ms);
        let asking = Asking { language: watched.registry.language, limit, now, clients };
        match facts::ask(&asking, &spec.probe, &connection, host.as_deref()).await {
            Ok(facts) => self.put(&connection.name, facts, every.max(least)),
            Err(why) => tracing::info!(integration = connection.name, "the topology is told nothing: {why}"),
        }
    }

    fn put(&self, name: &str, facts: IntegrationFacts, every_ms: i64) {
        let fresh_for = every_ms.saturating_mul(MISSES).max(LEAST_FRESH_MS);
        let fresh_for = Duration::from_millis(u64::try_from(fresh_for).unwrap_or(0));
        if self.app.topology.facts.set(name, facts, Timestamp::now(), fresh_for) {
            self.app.events.publish(Noun::Topology, name, "integration");
        }
    }
}

/// The name of what a check without an integration tells; no integration has a
/// slash in its name.
fn own_name(spec: &SystemSpec) -> String {
    format!("{}/{}", spec.probe.kind(), spec.id)
}

/// Forgets what integrations told that are gone, and checks that are.
pub(crate) fn forget(app: &Shared) {
    let watched = app.watched();
    let is_checked = |name: &str| {
        let mut checks = watched.registry.scenarios.iter().flat_map(|scenario| &scenario.checks);
        checks.any(|check| match &check.target {
            Target::System(spec) => matches!(spec.probe, SystemProbe::Traefik(_)) && own_name(spec) == name,
            _ => false,
        })
    };
    for name in app.topology.facts.names() {
        let is_there = if name.contains('/') { is_checked(&name) } else { app.integrations.get(&name).is_some() };
        if !is_there {
            app.topology.facts.forget(&name);
            app.events.publish(Noun::Topology, &name, "forgotten");
        }
    }
}
