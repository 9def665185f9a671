//! The registries that are shipped are valid, and the nine scenarios are there.

use farol_protocol::{
    registry::{Registry, RunsOn, Target},
    report::Probe,
};

const SCENARIOS: [&str; 9] = [
    "desk.api.health",
    "wizard.vm112.bundle",
    "pfsense.api.system",
    "funnel.stuck.onboarding",
    "integration.webhook.gap",
    "proxmox.cluster",
    "ollama.vm123.health",
    "vm123.finance.stack",
    "vm123.openpanel.bridge",
];

fn shipped(path: &str) -> Registry {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let text = std::fs::read_to_string(&path).expect("readable");
    Registry::parse(&text, &|_| None).unwrap_or_else(|mistake| panic!("{}: {mistake}", path.display()))
}

#[test]
fn the_nine_scenarios_are_configured_or_name_the_variable_they_miss() {
    let registry = shipped("registry.yaml");
    for id in SCENARIOS {
        let scenario = registry.scenarios.iter().find(|scenario| scenario.id == id);
        let scenario = scenario.unwrap_or_else(|| panic!("{id} is missing"));
        for check in &scenario.checks {
            if let Target::Missing { variable, .. } = &check.target {
                assert!(!variable.is_empty(), "{id}/{}", check.name);
            }
        }
    }
}

#[test]
fn every_agent_is_given_the_bundles_and_none_of_them_is_quick_to_complain() {
    let registry = shipped("registry.yaml");
    let mut kinds = Vec::new();
    for scenario in registry.scenarios.iter().filter(|scenario| scenario.runs_on == RunsOn::Agent) {
        assert!(scenario.hosts.is_none(), "{} is for some hosts only", scenario.id);
        for check in &scenario.checks {
            let Target::Ready(spec) = &check.target else { panic!("{} is not ready", check.id) };
            kinds.push(spec.probe.kind());
            match &spec.probe {
                Probe::DiskForecast(probe) => {
                    // The half hour without a forecast after each start must not open a finding.
                    assert!(
                        u64::from(scenario.attempts) * spec.every_ms > 35 * 60_000 && probe.limits.critical.is_none()
                    );
                }
                Probe::Updates(probe) => {
                    assert!(probe.limits.warning.is_none() && probe.limits.critical.is_none(), "security alone");
                    assert!(probe.security.warning.is_some() && spec.timeout_ms >= 60_000);
                }
                _ => {}
            }
        }
    }
    for kind in [
        "disk",
        "inodes",
        "disk_forecast",
        "memory",
        "swap",
        "load",
        "units",
        "time_skew",
        "reboot_required",
        "updates",
        "containers",
    ] {
        assert!(kinds.contains(&kind), "no agent is given `{kind}`");
    }
}

#[test]
fn the_demonstrations_registry_is_valid() {
    assert!(shipped("xtask/demo.registry.yaml").scenarios.len() >= 3);
}
