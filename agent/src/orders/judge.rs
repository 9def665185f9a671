//! Whether an order may run: its target, its time, the host's policy and its
//! class.

use std::{path::Path, time::Duration};

use farol_protocol::{
    ActionKind, CheckId, Effect, Plan, PlanHash, RiskClass,
    action::{FinalState, PreState, ReasonCode},
    effect::{FileRollback, LogSource, LogsRead, MAX_TIMEOUT_MS},
    frame::Order,
    remediation,
    report::CheckSpec,
    signing::Signature,
};

use super::{Clock, Orders, signatures, step::Step};
use crate::{
    effect::{
        Apply, Container, Diff, How, Kept, Logs, LogsSource, Look, Remediation, RemediationStep, RemediationWhat,
        Rollback, Run, Service, Work,
    },
    exec::Program,
    journal::{Ending, MAX_PLAN_LIFE},
    policy::{Policy, Verdict},
    probe::{Access, Prober},
    text::{Detail, cut},
};

impl Orders {
    /// The plan, if it is a plan for this action on this host.
    pub(super) fn target(&self, method: ActionKind, order: &Order) -> Result<(Plan, Effect), Refusal> {
        let (plan, effect) = Plan::parse(&order.plan).map_err(|error| {
            Refusal::new(ReasonCode::InvalidPlan, self.say(Detail::BadPlan, &[("error", &error.to_string())]))
        })?;
        let wrong = |detail, values: &[(&str, &str)]| Refusal::new(ReasonCode::WrongTarget, self.say(detail, values));
        if plan.action_id != order.action_id {
            return Err(wrong(Detail::OtherAction, &[("other", &plan.action_id.to_string())]));
        }
        if plan.kind != method {
            return Err(wrong(Detail::OtherKind, &[("other", plan.kind.as_str())]));
        }
        if plan.host_id != self.host_id {
            let values = [("other", plan.host_id.as_str()), ("own", self.host_id.as_str())];
            return Err(wrong(Detail::OtherHost, &values));
        }
        Ok((plan, effect))
    }

    /// What to run, if time, policy and class allow it.
    /// Also says who signed, where signatures were needed.
    pub(super) fn judge(
        &self,
        plan: &Plan,
        plan_hash: &PlanHash,
        effect: Effect,
        signed: &[Signature],
        clock: Clock,
    ) -> Result<(Step, Vec<String>), Refusal> {
        let refuse = |code, detail, values: &[(&str, &str)]| Err(Refusal::new(code, self.say(detail, values)));
        let life = plan.expires_at.since(plan.issued_at);
        if life <= 0 || u128::from(life.unsigned_abs()) > MAX_PLAN_LIFE.as_millis() {
            let days = (MAX_PLAN_LIFE.as_secs() / 86_400).to_string();
            return refuse(ReasonCode::InvalidPlan, Detail::LivesTooLong, &[("days", &days)]);
        }
        if clock.earlier() >= plan.expires_at {
            return refuse(ReasonCode::Expired, Detail::Expired, &[("at", &plan.expires_at.to_string())]);
        }
        let policy = match Policy::load(&self.policy) {
            Ok(Some(policy)) => policy,
            Ok(None) => {
                let path = self.policy.display().to_string();
                return refuse(ReasonCode::NoPolicy, Detail::NoPolicy, &[("path", &path)]);
            }
            Err(error) => {
                tracing::error!("the policy cannot be used: {}", error.sentence());
                return refuse(ReasonCode::NotAllowed, Detail::PolicyBroken, &[("error", &error.sentence())]);
            }
        };
        if policy.read_only {
            return refuse(ReasonCode::ReadOnly, Detail::ReadOnly, &[]);
        }
        let (step, own_class) = self.allowed(&policy, effect, plan)?;
        let class = plan.risk_class.max(own_class);
        if class > plan.risk_class {
            let values = [("class", class.as_str()), ("plan", plan.risk_class.as_str())];
            return Err(
                Refusal::new(ReasonCode::SignatureRequired, self.say(Detail::ClassAbovePlan, &values)).at(class)
            );
        }
        let signers = if class > policy.max_unsigned_class {
            signatures::check(plan, plan_hash, class, signed, &policy, clock, self.language)?
        } else if clock.corrected() >= plan.expires_at {
            return refuse(ReasonCode::Expired, Detail::Expired, &[("at", &plan.expires_at.to_string())]);
        } else {
            Vec::new()
        };
        Ok((step, signers))
    }

    /// The step and its class by the policy, or its kind's where the policy has
    /// none for it.
    fn allowed(&self, policy: &Policy, effect: Effect, plan: &Plan) -> Result<(Step, RiskClass), Refusal> {
        let timeout_ms = effect.timeout_ms().min(MAX_TIMEOUT_MS);
        let seen = PreState::read(&plan.pre_state).map_err(|error| self.bad_plan(&error.to_string()))?;
        let (work, class) = match effect {
            Effect::RemediationRun(wanted) => {
                let (remediation, class) = self.remediation(policy, wanted, plan, seen)?;
                (Work::Remediation(remediation), class)
            }
            Effect::RemediationLook(wanted) => {
                let (of, class) = self.remediation(policy, wanted, plan, seen)?;
                (Work::Look(Look { of, class }), RiskClass::R0)
            }
            effect => self.work(policy, effect, plan, seen)?,
        };
        Ok((Step::new(timeout_ms, work), class))
    }

    /// Every step of a remediation, each judged as if it came alone, and the
    /// highest class among them.
    fn remediation(
        &self,
        policy: &Policy,
        wanted: remediation::Remediation,
        plan: &Plan,
        seen: Option<PreState>,
    ) -> Result<(Remediation, RiskClass), Refusal> {
        let mut seen = match seen {
            None => remediation::SeenBySteps::new(),
            Some(PreState::Steps(seen)) => seen,
            Some(_) => return Err(self.bad_plan("the pre_state is none of a remediation's")),
        };
        let mut class = Effect::RemediationRun(wanted.clone()).default_class();
        let mut steps = Vec::with_capacity(wanted.steps.len());
        for step in wanted.steps {
            let what = match step.work {
                remediation::Work::Effect(work) => {
                    let effect =
                        Effect::parse(work.kind, &work.params).map_err(|error| self.bad_plan(&error.to_string()))?;
                    let limit = Duration::from_millis(effect.timeout_ms().min(MAX_TIMEOUT_MS));
                    let default = effect.default_class();
                    let (work_of_step, own) = self.work(policy, effect, plan, seen.remove(&step.id))?;
                    class = class.max(own);
                    let reads = default.max(own) == RiskClass::R0;
                    RemediationWhat::Effect { work: Box::new(work_of_step), limit, expect: work.expect, reads }
                }
                remediation::Work::Check(work) => RemediationWhat::Check {
                    spec: Box::new(CheckSpec {
                        id: step_check(),
                        every_ms: work.every,
                        timeout_ms: work.timeout,
                        probe: work.probe,
                    }),
                    attempts: work.attempts,
                    every: Duration::from_millis(work.every),
                    worst: work.worst,
                },
                remediation::Work::RestoreFile {} => RemediationWhat::Restore,
            };
            steps.push(RemediationStep { id: step.id, phase: step.phase, what });
        }
        if let Some((step, _)) = seen.first_key_value() {
            let detail = self.say(Detail::StepNoSuch, &[("step", step)]);
            return Err(Refusal::new(ReasonCode::InvalidPlan, detail));
        }
        let prober = Prober::new(self.language, Access::from(Some(policy.clone())))
            .with_docker_socket(self.means.docker_socket.clone());
        let limit = Duration::from_millis(wanted.timeout.min(MAX_TIMEOUT_MS));
        Ok((Remediation { steps, prober, files: self.means.files.clone(), limit }, class))
    }

    fn bad_plan(&self, error: &str) -> Refusal {
        Refusal::new(ReasonCode::InvalidPlan, self.say(Detail::BadPlan, &[("error", error)]))
    }

    /// One effect and its class.
    fn work(
        &self,
        policy: &Policy,
        effect: Effect,
        plan: &Plan,
        seen: Option<PreState>,
    ) -> Result<(Work, RiskClass), Refusal> {
        let not = |detail, values: &[(&str, &str)]| Err(Refusal::new(ReasonCode::NotAllowed, self.say(detail, values)));
        self.fits(seen.as_ref(), &effect)?;
        let default = effect.default_class();
        let (work, class) = match effect {
            Effect::CommandExec(wanted) => match policy.command(&wanted) {
                Verdict::Allowed(class) => {
                    (Work::Run(Run(Program::new(wanted.command, wanted.args, wanted.cwd.as_deref()))), class)
                }
                Verdict::NotListed | Verdict::VerbNotListed => {
                    return not(Detail::CommandNotListed, &[("command", &cut(&wanted.command, 200))]);
                }
            },
            Effect::ServiceControl(wanted) => match policy.service(&wanted) {
                Verdict::Allowed(control) => {
                    let service = Service {
                        name: wanted.service,
                        verb: wanted.verb,
                        run: argv(control.run),
                        status: control.status.map(argv),
                        how: if control.own { How::Own } else { How::Manager },
                        seen_active: match seen {
                            Some(PreState::ServiceActive(active)) => Some(active),
                            _ => None,
                        },
                    };
                    (Work::Service(service), control.class)
                }
                Verdict::NotListed => return not(Detail::ServiceNotListed, &[("service", &wanted.service)]),
                Verdict::VerbNotListed => {
                    let values = [("service", wanted.service.as_str()), ("verb", wanted.verb.as_str())];
                    return not(Detail::VerbNotListed, &values);
                }
            },
            Effect::ContainerControl(wanted) => match policy.container(&wanted) {
                Verdict::Allowed(class) => {
                    let container = Container {
                        name: wanted.container,
                        verb: wanted.verb,
                        socket: self.means.docker_socket.clone(),
                        seen_running: match seen {
                            Some(PreState::ContainerRunning(running)) => Some(running),
                            _ => None,
                        },
                    };
                    (Work::Container(container), class)
                }
                Verdict::NotListed => return not(Detail::ContainerNotListed, &[("container", &wanted.container)]),
                Verdict::VerbNotListed => {
                    let values = [("container", wanted.container.as_str()), ("verb", wanted.verb.as_str())];
                    return not(Detail::ContainerVerbNotListed, &values);
                }
            },
            Effect::FileDiff(wanted) => {
                self.covered(&wanted.path, "paths.read", policy.may_read(Path::new(&wanted.path)))?;
                (Work::Diff(Diff { path: wanted.path, want: wanted.want }), default)
            }
            Effect::FileApply(wanted) => {
                self.covered(&wanted.path, "paths.write", policy.may_write(Path::new(&wanted.path)))?;
                let apply = Apply {
                    readable: policy.may_read(Path::new(&wanted.path)),
                    path: wanted.path,
                    patch: wanted.patch,
                    content: wanted.content,
                    expected_sha256: wanted.expected_sha256,
                    seen_sha256: match seen {
                        Some(PreState::FileSha256(sha256)) => Some(sha256),
                        _ => None,
                    },
                    mode: wanted.mode,
                    action_id: plan.action_id,
                    files: self.means.files.clone(),
                };
                (Work::Apply(apply), default)
            }
            Effect::FileRollback(wanted) => (Work::Rollback(self.rollback(policy, &wanted, plan, seen)?), default),
            Effect::LogsRead(wanted) => (Work::Logs(self.logs(policy, wanted)?), default),
            Effect::RemediationLook(_) | Effect::RemediationRun(_) => {
                return Err(self.bad_plan("a remediation cannot hold another"));
            }
        };
        Ok((work, class))
    }

    /// The agent's own folder and its policy are out of reach, whatever the
    /// paths are: they hold its key and its rules.
    fn covered(&self, path: &str, key: &str, covered: bool) -> Result<(), Refusal> {
        let own = [self.means.files.parent(), Some(self.policy.as_path())];
        let is_own = own.into_iter().flatten().any(|own| {
            let real = own.canonicalize().unwrap_or_else(|_| own.to_owned());
            Path::new(path).starts_with(own) || Path::new(path).starts_with(real)
        });
        if covered && !is_own {
            return Ok(());
        }
        let values = [("path", cut(path, 200)), ("key", key.to_owned())];
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Err(Refusal::new(ReasonCode::NotAllowed, self.say(Detail::PathNotCovered, &values)))
    }

    fn rollback(
        &self,
        policy: &Policy,
        wanted: &FileRollback,
        plan: &Plan,
        seen: Option<PreState>,
    ) -> Result<Rollback, Refusal> {
        let action = wanted.action_id.to_string();
        let kept = Kept::new(&self.means.files).record(wanted.action_id).map_err(|error| {
            let values = [("error", error.to_string())];
            let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Refusal::new(ReasonCode::Unavailable, self.say(Detail::KeptDamaged, &values))
        })?;
        let Some(record) = kept.filter(|record| !record.rollback) else {
            let detail = self.say(Detail::NothingKept, &[("action", &action)]);
            return Err(Refusal::new(ReasonCode::Unavailable, detail));
        };
        self.covered(&record.path, "paths.write", policy.may_write(Path::new(&record.path)))?;
        if let Some(PreState::FileSha256(sha256)) = seen
            && sha256 != record.after_sha256
        {
            let detail = self.say(Detail::FileChanged, &[("path", &record.path)]);
            return Err(Refusal::new(ReasonCode::PreStateChanged, detail));
        }
        let files = self.means.files.clone();
        Ok(Rollback { of: wanted.action_id, record, action_id: plan.action_id, files })
    }

    fn logs(&self, policy: &Policy, wanted: LogsRead) -> Result<Logs, Refusal> {
        let source = match wanted.source {
            LogSource::Unit(unit) if policy.may_read_log(&unit) => LogsSource::Unit(unit),
            LogSource::Unit(unit) => {
                let detail = self.say(Detail::LogNotListed, &[("unit", &cut(&unit, 200))]);
                return Err(Refusal::new(ReasonCode::NotAllowed, detail));
            }
            LogSource::Path(path) => {
                self.covered(&path, "paths.read", policy.may_read(Path::new(&path)))?;
                LogsSource::Path(path)
            }
        };
        Ok(Logs { source, since: wanted.since, until: wanted.until, lines: wanted.lines })
    }

    /// Whether what the approver saw is something of what the effect changes.
    /// The comparison itself belongs to the effect: only there is it of the
    /// moment.
    fn fits(&self, seen: Option<&PreState>, effect: &Effect) -> Result<(), Refusal> {
        match (seen, effect) {
            (None, _)
            | (Some(PreState::ServiceActive(_)), Effect::ServiceControl(_))
            | (Some(PreState::ContainerRunning(_)), Effect::ContainerControl(_))
            | (Some(PreState::FileSha256(_)), Effect::FileApply(_) | Effect::FileRollback(_)) => Ok(()),
            (Some(_), _) => Err(self.bad_plan("the pre_state is none of what the action changes")),
        }
    }
}

/// The name of a look that belongs to no assigned check.
fn step_check() -> CheckId {
    const NAME: &str = "remediation";
    NAME.parse().unwrap_or_else(|error| unreachable!("`{NAME}` is a name: {error}"))
}

fn argv(mut argv: Vec<String>) -> Program {
    // A policy never holds an empty one.
    let command = if argv.is_empty() { String::new() } else { argv.remove(0) };
    Program::new(command, argv, None)
}

/// Why an order does not run.
pub(super) struct Refusal {
    pub(super) code: ReasonCode,
    pub(super) detail: String,
    required_class: Option<RiskClass>,
}

impl Refusal {
    pub(super) const fn new(code: ReasonCode, detail: String) -> Self {
        Self { code, detail, required_class: None }
    }

    pub(super) fn at(self, class: RiskClass) -> Self {
        Self { required_class: Some(class), ..self }
    }

    pub(super) fn ending(self) -> Ending {
        Ending { required_class: self.required_class, ..Ending::because(FinalState::Refused, self.code, self.detail) }
    }
}
