//! Remediations: several steps that one approval covers and one host carries
//! out by itself, from the first look to the proof that it helped, or back.
//!
//! The steps are in the plan's bytes, so whoever signs the plan signs what is
//! run to undo it too, and the host needs nobody while it runs: a line that
//! breaks between a change and its verification changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ActionKind, RiskClass, Status,
    action::{FileOutcome, FinalState, Outcome, PreState},
    effect::{Effect, MAX_TIMEOUT_MS},
    report::Probe,
};

/// Most steps of a remediation.
pub const MAX_STEPS: usize = 16;
/// Most looks of a check at the same thing.
pub const MAX_ATTEMPTS: u32 = 60;

/// Several steps, carried out in the order of their phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Remediation {
    /// The entry of the catalogue that it was made from.
    pub entry: String,
    /// The steps; those of a phase one after the other.
    pub steps: Vec<Step>,
    /// Time limit in ms from the first step to the last verification. What
    /// undoes a change has the same time again.
    pub timeout: u64,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Identity within the remediation: lowercase letters, digits, `-`, `_`, at most 40.
    pub id: String,
    /// When it has its turn.
    pub phase: Phase,
    /// What it does.
    pub work: Work,
}

/// When a step has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Must hold, or nothing is changed.
    Validate,
    /// Keeps what was before, as evidence. Must succeed, or nothing is changed.
    Snapshot,
    /// Changes something.
    Modify,
    /// Says whether the change did what it was for.
    Verify,
    /// Undoes the change where it failed or was contradicted.
    Rollback,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 5] = [Self::Validate, Self::Snapshot, Self::Modify, Self::Verify, Self::Rollback];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Snapshot => "snapshot",
            Self::Modify => "modify",
            Self::Verify => "verify",
            Self::Rollback => "rollback",
        }
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// An effect of any kind but a remediation, under the host's policy.
    Effect(EffectWork),
    /// A probe, which only reads. Not to change or to undo anything.
    Check(CheckWork),
    /// Puts back what the remediation's `file.apply` replaced. To undo only.
    RestoreFile {},
}

/// An effect as a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EffectWork {
    /// Its kind.
    pub kind: ActionKind,
    /// The kind's parameters.
    pub params: Value,
    /// What must be true of what it leaves; that it succeeds where nothing is given.
    #[serde(default, skip_serializing_if = "Expect::is_default")]
    pub expect: Expect,
}

/// What must be true of what an effect leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The program's exit code, in the place of 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Standard output has this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Standard output does not have this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    /// A `file.diff` finds no difference.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same: bool,
}

impl Expect {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is so, given whether the effect succeeded by itself.
    #[must_use]
    pub fn holds(&self, succeeded: bool, left: &Outcome) -> bool {
        let ended = match self.exit_code {
            Some(wanted) => left.exit_code == Some(wanted),
            None => succeeded,
        };
        let is_same = |file: &FileOutcome| file.before_sha256 == file.after_sha256;
        ended
            && self.contains.as_ref().is_none_or(|text| left.stdout.contains(text))
            && !self.lacks.as_ref().is_some_and(|text| left.stdout.contains(text))
            && (!self.same || left.file.as_ref().is_some_and(is_same))
    }
}

/// A probe as a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckWork {
    /// What to look at.
    pub probe: Probe,
    /// Time limit of a look in ms.
    #[serde(default = "check_timeout")]
    pub timeout: u64,
    /// How often it is looked at until it is as wanted.
    #[serde(default = "one")]
    pub attempts: u32,
    /// Time between two looks in ms.
    #[serde(default = "check_every")]
    pub every: u64,
    /// The worst status that counts as wanted: `ok` or `warning`.
    #[serde(default = "ok")]
    pub worst: Status,
}

const fn check_timeout() -> u64 {
    10_000
}

const fn check_every() -> u64 {
    2_000
}

const fn one() -> u32 {
    1
}

const fn ok() -> Status {
    Status::Ok
}

/// What a verification said of a remediation, beside how it ended: executed
/// and verified are different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It did what it was for.
    Verified,
    /// It did not, and there is nothing to undo it with.
    Contradicted,
    /// It could not be told.
    Inconclusive,
    /// What was changed was undone.
    RolledBack,
    /// What was changed could not be undone.
    RollbackFailed,
}

impl Verdict {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Verified, Self::Contradicted, Self::Inconclusive, Self::RolledBack, Self::RollbackFailed];

    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Contradicted => "contradicted",
            Self::Inconclusive => "inconclusive",
            Self::RolledBack => "rolled_back",
            Self::RollbackFailed => "rollback_failed",
        }
    }
}

/// What a step left: its artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StepOutcome {
    /// The step.
    pub id: String,
    /// Its phase.
    pub phase: Phase,
    /// How it ended; of a check: `done` as wanted, `failed` otherwise, `interrupted` where it could not be told.
    pub state: FinalState,
    /// Exit code, where it was a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Standard output, or what the check said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// Standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// Whether output was cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// From its begin to its end, in ms.
    pub duration_ms: u64,
    /// What was seen of a file, or done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileOutcome>,
    /// Why it ended so, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Remediation {
    /// What its effects are, by step; steps without one are left out.
    ///
    /// # Errors
    /// A step's parameters do not fit.
    pub fn effects(&self) -> Result<Vec<(&Step, Effect)>, String> {
        self.steps
            .iter()
            .filter_map(|step| match &step.work {
                Work::Effect(work) => Some(
                    Effect::parse(work.kind, &work.params)
                        .map(|effect| (step, effect))
                        .map_err(|error| format!("step `{}`: {error}", step.id)),
                ),
                Work::Check(_) | Work::RestoreFile {} => None,
            })
            .collect()
    }

    /// The highest class of its steps. Checks only read.
    #[must_use]
    pub fn class(&self) -> RiskClass {
        let effects = self.effects().unwrap_or_default();
        let of_effects = effects.iter().map(|(_, effect)| effect.default_class());
        let restores =
            self.steps.iter().filter(|step| matches!(step.work, Work::RestoreFile {})).map(|_| RiskClass::R2);
        of_effects.chain(restores).max().unwrap_or(RiskClass::R0)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.steps.len() > MAX_STEPS {
            return Err(format!("{} steps are more than {MAX_STEPS}", self.steps.len()));
        }
        if self.entry.is_empty() || self.entry.len() > 100 {
            return Err("`entry` is empty or longer than 100 bytes".to_owned());
        }
        if !self.steps.is_sorted_by_key(|step| step.phase) {
            return Err("the steps are not in the order of their phases".to_owned());
        }
        let mut ids = BTreeSet::new();
        for step in &self.steps {
            step.check()?;
            if !ids.insert(step.id.as_str()) {
                return Err(format!("two steps are called `{}`", step.id));
            }
        }
        let count = |phase| self.steps.iter().filter(|step| step.phase == phase).count();
        if count(Phase::Modify) == 0 || count(Phase::Verify) == 0 {
            return Err("at least one step must modify and one must verify".to_owned());
        }
        let applies = self.effects()?.iter().filter(|(_, effect)| matches!(effect, Effect::FileApply(_))).count();
        let files = |effect: &Effect| matches!(effect, Effect::FileApply(_) | Effect::FileRollback(_));
        if self.effects()?.iter().filter(|(_, effect)| files(effect)).count() > 1 {
            return Err("at most one step may be a file.apply or file.rollback: one former content is kept".to_owned());
        }
        if self.steps.iter().filter(|step| matches!(step.work, Work::RestoreFile {})).count() > 1 {
            return Err("at most one step may be `restore_file`".to_owned());
        }
        if applies == 0 && self.steps.iter().any(|step| matches!(step.work, Work::RestoreFile {})) {
            return Err("there is no file.apply that `restore_file` could undo".to_owned());
        }
        Ok(())
    }
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if self.id.is_empty() || self.id.len() > 40 || !self.id.chars().all(plain) {
            return Err(format!("`{}` is no name of a step", self.id.chars().take(64).collect::<String>()));
        }
        let wrong = |why: &str| Err(format!("step `{}`: {why}", self.id));
        match &self.work {
            Work::Effect(work) if work.kind.is_remediation() => wrong("a remediation cannot hold another"),
            Work::Effect(work)
                if !matches!(self.phase, Phase::Modify | Phase::Rollback)
                    && !matches!(work.kind, ActionKind::CommandExec | ActionKind::FileDiff | ActionKind::LogsRead) =>
            {
                wrong("only a step that modifies or undoes may change something")
            }
            Work::Effect(_) => Ok(()),
            Work::Check(_) if matches!(self.phase, Phase::Modify | Phase::Rollback) => {
                wrong("a check only reads, so it can neither modify nor undo")
            }
            Work::Check(work) if !(1..=MAX_ATTEMPTS).contains(&work.attempts) => {
                wrong(&format!("{} attempts are outside 1 to {MAX_ATTEMPTS}", work.attempts))
            }
            Work::Check(work) if work.every > MAX_TIMEOUT_MS || !(10..=300_000).contains(&work.timeout) => {
                wrong("`every` or `timeout` is out of bounds")
            }
            Work::Check(work) if !matches!(work.worst, Status::Ok | Status::Warning) => {
                wrong("`worst` must be ok or warning")
            }
            Work::Check(_) => Ok(()),
            Work::RestoreFile {} if self.phase == Phase::Rollback => Ok(()),
            Work::RestoreFile {} => wrong("`restore_file` can only undo"),
        }
    }
}

/// What a host answers to `remediation.look`. The steps that only read and must
/// hold before anything is changed were carried out; of a step that would
/// replace a file its outcome has the difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// The class of the whole by the host's policy: what it is to be planned at.
    pub class: RiskClass,
    /// What is there, for the plan's `pre_state`.
    pub seen: SeenBySteps,
}

/// What the approver saw, by step.
pub type SeenBySteps = BTreeMap<String, PreState>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(id: &str, phase: &str, work: &Value) -> Value {
        json!({"id": id, "phase": phase, "work": work})
    }

    fn parse(steps: &[Value]) -> Result<Effect, String> {
        let params = json!({"entry": "service.restart", "steps": steps, "timeout": 60_000});
        Effect::parse(ActionKind::RemediationRun, &params).map_err(|error| error.to_string())
    }

    fn restart() -> Value {
        json!({"effect": {"kind": "service.control", "params": {"service": "portal", "verb": "restart"}}})
    }

    fn apply() -> Value {
        json!({"effect": {"kind": "file.apply", "params": {"path": "/etc/motd", "content": "x"}}})
    }

    fn check() -> Value {
        json!({"check": {"probe": {"tcp": {"address": "127.0.0.1:80"}}, "attempts": 3}})
    }

    #[test]
    fn a_remediation_modifies_and_verifies_in_the_order_of_the_phases() {
        let good = [step("go", "modify", &restart()), step("up", "verify", &check())];
        let effect = parse(&good).expect("valid");
        assert_eq!((effect.default_class(), effect.timeout_ms()), (RiskClass::R1, 60_000));
        assert!(parse(&good[..1]).expect_err("unverified").contains("one must verify"));
        let turned = [step("up", "verify", &check()), step("go", "modify", &restart())];
        assert!(parse(&turned).expect_err("order").contains("order of their phases"));
        let twice = [step("go", "modify", &restart()), step("go", "verify", &check())];
        assert!(parse(&twice).expect_err("names").contains("two steps"));
    }

    #[test]
    fn the_class_is_the_highest_of_all_steps_those_that_undo_included() {
        let stop = json!({"effect": {"kind": "service.control", "params": {"service": "portal", "verb": "stop"}}});
        let steps = [step("go", "modify", &restart()), step("up", "verify", &check()), step("back", "rollback", &stop)];
        assert_eq!(parse(&steps).expect("valid").default_class(), RiskClass::R2);
    }

    #[test]
    fn what_a_step_may_not_be_is_refused_by_its_name() {
        let with = |id: &str, phase: &str, work: Value| {
            let mut steps = vec![step("go", "modify", &restart()), step("up", "verify", &check())];
            steps.push(step(id, phase, &work));
            steps.sort_by_key(|step| Phase::ALL.iter().position(|phase| step["phase"] == phase.as_str()));
            parse(&steps).expect_err("refused")
        };
        assert!(with("look", "rollback", check()).contains("step `look`: a check only reads"));
        assert!(with("back", "modify", json!({"restore_file": {}})).contains("can only undo"));
        assert!(with("back", "rollback", json!({"restore_file": {}})).contains("no file.apply"));
        assert!(with("A", "verify", check()).contains("no name of a step"));
        let bad = json!({"effect": {"kind": "command.exec", "params": {"command": ""}}});
        assert!(with("bad", "verify", bad).contains("step `bad`: the command is empty"));
        let inner = json!({"effect": {"kind": "remediation.run", "params": {}}});
        assert!(with("inner", "verify", inner).contains("cannot hold another"));
        assert!(with("early", "validate", apply()).contains("step `early`: only a step that modifies"));
        assert!(with("early", "snapshot", restart()).contains("only a step that modifies"));
        let long = json!({"check": {"probe": {"load": {}}, "attempts": 61}});
        assert!(with("long", "verify", long).contains("attempts"));
        let files = [step("a", "modify", &apply()), step("b", "modify", &apply()), step("up", "verify", &check())];
        assert!(parse(&files).expect_err("one file").contains("at most one"));
        let many: Vec<Value> = (0..17).map(|n| step(&format!("s{n}"), "modify", &restart())).collect();
        assert!(parse(&many).expect_err("many").contains("more than 16"));
    }

    #[test]
    fn what_is_expected_of_an_output_replaces_the_exit_code_only_where_it_says_so() {
        let expect = |value| serde_json::from_value::<Expect>(value).expect("valid");
        let left =
            |code, stdout: &str| Outcome { exit_code: Some(code), stdout: stdout.to_owned(), ..Outcome::default() };
        assert!(Expect::default().holds(true, &left(0, "")));
        assert!(!Expect::default().holds(false, &left(1, "")));
        assert!(expect(json!({"exit_code": 3})).holds(false, &left(3, "")));
        assert!(!expect(json!({"contains": "ready"})).holds(true, &left(0, "not yet")));
        assert!(!expect(json!({"contains": "ready"})).holds(false, &left(1, "ready")));
        assert!(!expect(json!({"lacks": "error"})).holds(true, &left(0, "an error")));
        let file = |before: &str, after: &str| FileOutcome {
            before_sha256: Some(before.to_owned()),
            after_sha256: Some(after.to_owned()),
            ..FileOutcome::default()
        };
        let same = expect(json!({"same": true}));
        assert!(same.holds(true, &Outcome { file: Some(file("a", "a")), ..Outcome::default() }));
        assert!(!same.holds(true, &Outcome { file: Some(file("a", "b")), ..Outcome::default() }));
        assert!(!same.holds(true, &left(0, "")));
    }
}
