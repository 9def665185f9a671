//! Containers of the local engine.

use std::path::Path;

use farol_protocol::Status;
pub(super) use farol_protocol::report::ContainerProbe;
use tokio::time::timeout;

use super::{Probing, Seen, text::Text};
use crate::{
    effect::{ContainerSeen, ContainerState, is_container_name, look_at_container},
    text::cut,
};

pub(super) async fn run(probing: Probing, socket: &Path, probe: &ContainerProbe) -> Seen {
    let name = probe.name.as_str();
    if !is_container_name(name) {
        return probing.not_configured(Text::ContainerName, &[("name", name)]);
    }
    match timeout(probing.limit, look_at_container(socket, name)).await {
        Ok(ContainerSeen::State(state)) => judge(probing, probe, &state),
        Ok(ContainerSeen::Missing) => probing.critical(Text::ContainerMissing, &[("name", name)]),
        Ok(ContainerSeen::NoEngine(why)) => {
            let socket = socket.display().to_string();
            probing.not_configured(Text::NoEngine, &[("socket", &socket), ("why", &cut(&why, 200))])
        }
        Ok(ContainerSeen::Failed(why)) => {
            probing.unknown(Text::EngineFailed, &[("name", name), ("why", &cut(&why, 200))])
        }
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

fn judge(probing: Probing, probe: &ContainerProbe, state: &ContainerState) -> Seen {
    let health = state.health.as_deref();
    let (status, text) = if !state.running || state.paused {
        (Status::Critical, Text::ContainerIs)
    } else if health == Some("unhealthy") {
        (Status::Critical, Text::ContainerHealth)
    } else if state.restarting {
        (Status::Warning, Text::ContainerIs)
    } else if probe.restarts.is_some_and(|limit| state.restarts >= limit) {
        (Status::Warning, Text::ContainerRestarts)
    } else if health == Some("starting") {
        (Status::Warning, Text::ContainerHealth)
    } else {
        (Status::Ok, Text::ContainerOk)
    };
    let [count, limit] = [state.restarts, probe.restarts.unwrap_or_default()].map(|number| number.to_string());
    let values = [
        ("name", probe.name.as_str()),
        ("state", &state.status),
        ("health", health.unwrap_or_default()),
        ("count", &count),
        ("limit", &limit),
    ];
    Seen {
        status,
        value: Some(f64::from(state.restarts)),
        unit: Some("count".to_owned()),
        text: probing.say(text, &values),
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::Language;

    use super::*;

    #[test]
    fn a_container_is_judged_by_whether_it_runs_its_health_and_its_restarts() {
        let running = ContainerState { status: "running".to_owned(), running: true, ..ContainerState::default() };
        let health = |text: &str| ContainerState { health: Some(text.to_owned()), ..running.clone() };
        let probing = Probing { language: Language::En, limit: Duration::from_secs(1) };
        let probe = ContainerProbe { name: "db".to_owned(), restarts: Some(5) };
        for (state, status) in [
            (running.clone(), Status::Ok),
            (health("healthy"), Status::Ok),
            (health("starting"), Status::Warning),
            (health("unhealthy"), Status::Critical),
            (ContainerState { restarts: 4, ..running.clone() }, Status::Ok),
            (ContainerState { restarts: 5, ..running.clone() }, Status::Warning),
            (ContainerState { restarting: true, ..running.clone() }, Status::Warning),
            (ContainerState { paused: true, ..running.clone() }, Status::Critical),
            (ContainerState { running: false, status: "exited".to_owned(), ..running.clone() }, Status::Critical),
        ] {
            let seen = judge(probing, &probe, &state);
            assert_eq!((seen.status, seen.cause), (status, None), "{state:?}: {}", seen.text);
        }
    }
}
