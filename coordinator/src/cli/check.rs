//! `farol check` and `farol registry check`: the registry's checks by hand.

use std::path::Path;

use farol_protocol::registry::{Registry, RunsOn, Target};
use serde_json::json;

use super::{Data, admin::open, output};
use crate::{
    checks::ByHand,
    config,
    error::Result,
    integrations::{Integrations, Vault},
    jobs::registry::parse,
};

/// Runs a check, or every check of a scenario, here and now; without a name it
/// lists them.
pub(super) async fn run(data: &Data, file: Option<&Path>, name: Option<&str>, as_json: bool) -> Result<()> {
    let (config, store) = open(data).await?;
    let path = file.unwrap_or(&config.registry);
    let registry = parse(path, &config::read(path)?)?;
    let Some(name) = name else {
        store.close().await;
        return list(&registry, as_json);
    };
    let integrations = Integrations::new(Vault::open_or_create(&config.data_dir)?);
    integrations.refresh(&store).await?;
    let reports = ByHand::new(&registry, &integrations).run(name).await;
    store.close().await;
    let reports = reports?;
    if as_json {
        return output::json(&reports);
    }
    for report in reports {
        output::line(&format!("{:<8} {}  {}", report.status.as_str(), report.check, report.text))?;
    }
    Ok(())
}

fn list(registry: &Registry, as_json: bool) -> Result<()> {
    let rows = registry.scenarios.iter().flat_map(|scenario| {
        scenario.checks.iter().map(move |check| {
            let (kind, needs) = match &check.target {
                Target::Ready(spec) => (spec.probe.kind(), String::new()),
                Target::System(spec) => (
                    spec.probe.kind(),
                    spec.probe.integration().map(|name| format!("integration {name}")).unwrap_or_default(),
                ),
                Target::Missing { variable, .. } => ("", format!("variable {variable}")),
            };
            let runs_on = match scenario.runs_on {
                RunsOn::Coordinator => "coordinator",
                RunsOn::Agent => "agent",
            };
            (check.id.to_string(), kind, runs_on, check.target.every_ms() / 1000, needs)
        })
    });
    if as_json {
        let rows: Vec<_> = rows
            .map(|(id, kind, runs_on, every, needs)| {
                json!({"check": id, "probe": kind, "runs_on": runs_on, "every_seconds": every, "needs": needs})
            })
            .collect();
        return output::json(&rows);
    }
    let rows = rows
        .map(|(id, kind, runs_on, every, needs)| {
            vec![id, kind.to_owned(), runs_on.to_owned(), format!("{every}s"), needs]
        })
        .collect();
    output::table(&["CHECK", "PROBE", "RUNS ON", "EVERY", "NEEDS"], rows)
}

/// Says whether a registry can be used, before it is.
pub(super) fn registry(data: &Data, file: Option<&Path>) -> Result<()> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => super::admin::configuration(data)?.registry,
    };
    let registry = parse(&path, &config::read(&path)?)?;
    let checks: usize = registry.scenarios.iter().map(|scenario| scenario.checks.len()).sum();
    output::line(&format!(
        "{} can be used: {} hosts, {} scenarios, {checks} checks",
        path.display(),
        registry.hosts.len(),
        registry.scenarios.len()
    ))
}
