//! `registry.yaml`.

use std::collections::BTreeSet;

use farol_protocol::{
    Effect,
    registry::{Registry, RunsOn},
};

const WEEK_MS: u64 = 7 * 86_400_000;

/// A registry that is read names each thing once, keeps its intervals within
/// bounds and proposes only what can be ordered.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let registry = match Registry::parse(text, &|_| None) {
        Ok(registry) => registry,
        Err(mistake) => {
            assert!(!mistake.message.is_empty());
            assert_eq!(mistake.line == 0, mistake.column == 0, "{mistake}");
            return;
        }
    };
    let mut ids = BTreeSet::new();
    for scenario in &registry.scenarios {
        assert!(!scenario.checks.is_empty() && scenario.attempts > 0 && scenario.recover > 0);
        assert!(scenario.hosts.iter().flatten().all(|name| registry.host(name).is_some()));
        if scenario.runs_on == RunsOn::Coordinator {
            assert_eq!(scenario.hosts.as_ref().map(Vec::len), Some(1));
        }
        for check in &scenario.checks {
            assert!(ids.insert(&check.id), "two checks are called {}", check.id);
            let every_ms = check.target.every_ms();
            assert!((100..=WEEK_MS).contains(&every_ms), "{every_ms}");
        }
        if let Some(proposal) = &scenario.propose {
            Effect::parse(proposal.kind, &proposal.params).expect("a proposal can be ordered");
        }
    }
    for host in &registry.hosts {
        let mut assigned = BTreeSet::new();
        assert!(registry.assigned_to(&host.name).iter().all(|spec| assigned.insert(spec.id.clone())));
    }
    assert_eq!(Registry::parse(text, &|_| None), Ok(registry));
}
