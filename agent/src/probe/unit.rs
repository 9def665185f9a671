//! Units of the service manager.

use std::io;

use farol_protocol::Status;
pub(super) use farol_protocol::report::UnitProbe;
use tokio::{process::Command, time::timeout};

use super::{Probing, Seen, crossed, text::Text};
use crate::{
    effect::{Bus, Unit, unit_name},
    exec::{PATH, resolve},
    text::cut,
};

pub(super) async fn run(probing: Probing, probe: &UnitProbe) -> Seen {
    let name = unit_name(&probe.name);
    match timeout(probing.limit, look(&name)).await {
        Ok(Ok(unit)) => judge(probing, probe, &unit),
        Ok(Err(NoUnit::NoManager)) => probing.not_configured(Text::NoSystemd, &[("unit", &name)]),
        Ok(Err(NoUnit::Failed(why))) => {
            probing.unknown(Text::UnitUnknown, &[("unit", &name), ("why", &cut(why.trim(), 200))])
        }
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

enum NoUnit {
    /// No systemd runs here.
    NoManager,
    Failed(String),
}

async fn look(name: &str) -> Result<Unit, NoUnit> {
    if let Some(bus) = Bus::connect().await {
        return bus.unit(name).await.map_err(|error| NoUnit::Failed(error.to_string()));
    }
    let program = resolve("systemctl").ok_or(NoUnit::NoManager)?;
    let output = Command::new(program)
        .args(["show", "--property=LoadState,ActiveState,SubState,Result,NRestarts", "--", name])
        .env_clear()
        .env("PATH", PATH)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error: io::Error| NoUnit::Failed(error.to_string()))?;
    let unit = Unit::from_show(&String::from_utf8_lossy(&output.stdout));
    if output.status.success() && !unit.active.is_empty() {
        return Ok(unit);
    }
    // Installed, and yet not what started this system.
    if !std::path::Path::new("/run/systemd/system").exists() {
        return Err(NoUnit::NoManager);
    }
    Err(NoUnit::Failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn judge(probing: Probing, probe: &UnitProbe, unit: &Unit) -> Seen {
    let restarts = unit.restarts.map(f64::from);
    let by_restarts = restarts.map_or(Status::Ok, |count| probe.limits.judge(count));
    let (status, text) = match unit.active.as_str() {
        _ if unit.load == "not-found" => (Status::Critical, Text::UnitMissing),
        _ if unit.is_active() => match by_restarts {
            Status::Ok => (Status::Ok, Text::UnitOk),
            over => (over, Text::UnitRestarts),
        },
        "activating" | "deactivating" | "maintenance" => {
            let critical = by_restarts == Status::Critical;
            (if critical { Status::Critical } else { Status::Warning }, Text::UnitIs)
        }
        "inactive" | "failed" => (Status::Critical, Text::UnitIs),
        _ => (Status::Unknown, Text::UnitIs),
    };
    let count = restarts.map(|count| probing.number(count)).unwrap_or_default();
    let limit = restarts.and_then(|count| crossed(&probe.limits, count)).map(|limit| probing.number(limit));
    let result =
        if matches!(unit.result.as_str(), "" | "success") { String::new() } else { format!(", {}", unit.result) };
    let values = [
        ("unit", probe.name.as_str()),
        ("state", &unit.active),
        ("sub", &unit.sub),
        ("result", &result),
        ("value", &count),
        ("limit", limit.as_deref().unwrap_or_default()),
    ];
    Seen { status, value: restarts, unit: Some("count".to_owned()), text: probing.say(text, &values), cause: None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::{
        Language,
        report::{Limits, Worse},
    };

    use super::*;

    fn seen(active: &str, sub: &str, restarts: u32) -> Seen {
        let limits = Limits { warning: Some(3.0), critical: Some(10.0), worse: Worse::Above };
        let probing = Probing { language: Language::En, limit: Duration::from_secs(1) };
        let unit = Unit {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            result: "exit-code".to_owned(),
            restarts: Some(restarts),
        };
        judge(probing, &UnitProbe { name: "nginx.service".to_owned(), limits }, &unit)
    }

    #[test]
    fn a_unit_is_judged_by_its_state_and_by_how_often_it_was_restarted() {
        for (active, sub, restarts, status) in [
            ("active", "running", 0, Status::Ok),
            ("reloading", "reload", 2, Status::Ok),
            ("active", "running", 3, Status::Warning),
            ("active", "running", 10, Status::Critical),
            ("activating", "auto-restart", 0, Status::Warning),
            ("activating", "auto-restart", 10, Status::Critical),
            ("deactivating", "stop-sigterm", 0, Status::Warning),
            ("inactive", "dead", 0, Status::Critical),
            ("failed", "failed", 0, Status::Critical),
            ("dreaming", "", 0, Status::Unknown),
        ] {
            let seen = seen(active, sub, restarts);
            assert_eq!(seen.status, status, "{active} {restarts}");
            assert_eq!((seen.value, seen.cause), (Some(f64::from(restarts)), None));
        }
        assert_eq!(seen("failed", "failed", 0).text, "nginx.service is failed (failed, exit-code)");
    }
}
