//! Plans: what an approval is bound to and what a host executes.

use farol_protocol::{
    Effect, Plan, PlanHash,
    effect::{LogSource, MAX_FILE_TEXT, MAX_LOG_LINES, MAX_TIMEOUT_MS},
    remediation::MAX_STEPS,
};

/// A plan that is read is within its bounds, is the same when it is written
/// and read again, and its hash is that of its bytes and of no others.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let hash = PlanHash::of(text);
    assert_eq!(PlanHash::try_from(hash.as_str().to_owned()).ok().as_ref(), Some(&hash));
    assert_ne!(PlanHash::of(&format!("{text} ")), hash);
    let (plan, effect) = match Plan::parse(text) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!((plan.v, plan.kind), (1, effect.kind()));
    effect_is_bounded(&effect);
    let written = plan.to_text().expect("what was read can be written");
    let (again, same) = Plan::parse(&written).expect("what was written can be read");
    assert_eq!((&again, &same), (&plan, &effect));
    assert_eq!(again.to_text().expect("as before"), written);
    assert_eq!(PlanHash::of(&written) == hash, written == text);
}

pub(crate) fn effect_is_bounded(effect: &Effect) {
    assert!((1..=MAX_TIMEOUT_MS).contains(&effect.timeout_ms()));
    let no_nul = |text: &str| assert!(!text.contains('\0'), "{text:?}");
    let plain = |path: &str| {
        no_nul(path);
        let parts: Vec<&str> = path.split('/').collect();
        assert!(parts.len() > 1 && parts[0].is_empty(), "{path:?}");
        assert!(parts[1..].iter().all(|part| !matches!(*part, "" | "." | "..")), "{path:?}");
    };
    match effect {
        Effect::CommandExec(exec) => {
            assert!(!exec.command.is_empty());
            std::iter::once(&exec.command).chain(&exec.args).for_each(|text| no_nul(text));
            assert!(exec.cwd.as_deref().is_none_or(|cwd| cwd.starts_with('/')));
        }
        Effect::ServiceControl(control) => assert!(!control.service.is_empty()),
        Effect::ContainerControl(control) => assert!(!control.container.is_empty()),
        Effect::FileDiff(diff) => {
            plain(&diff.path);
            assert!(diff.want.len() <= MAX_FILE_TEXT);
        }
        Effect::FileApply(apply) => {
            plain(&apply.path);
            assert!(apply.patch.is_some() != apply.content.is_some());
            assert!(apply.patch.is_none() || apply.expected_sha256.is_some());
            assert!(apply.mode.is_none_or(|mode| mode <= 0o777));
        }
        Effect::FileRollback(_) => {}
        Effect::LogsRead(read) => {
            assert!((1..=MAX_LOG_LINES).contains(&read.lines));
            match &read.source {
                LogSource::Unit(unit) => {
                    assert!(!unit.is_empty());
                    no_nul(unit);
                }
                LogSource::Path(path) => plain(path),
            }
        }
        Effect::RemediationLook(remediation) | Effect::RemediationRun(remediation) => {
            assert!(remediation.steps.len() <= MAX_STEPS && remediation.steps.is_sorted_by_key(|step| step.phase));
            assert!(remediation.effects().is_ok());
        }
    }
}
