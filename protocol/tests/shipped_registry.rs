//! The registries that are shipped are valid, and the nine scenarios are there.

use farol_protocol::registry::{Registry, Target};

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
fn the_demonstrations_registry_is_valid() {
    assert!(shipped("xtask/demo.registry.yaml").scenarios.len() >= 3);
}
