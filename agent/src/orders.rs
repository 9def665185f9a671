//! From an order to an effect, or to a refusal that says why.

mod signatures;

pub use signatures::Clock;

use std::{path::PathBuf, sync::Arc, time::Duration};

use farol_protocol::{
    ActionId, ActionKind, Effect, FromAgent, HostId, Language, Plan, PlanHash, RiskClass, Timestamp,
    action::{FinalState, ReasonCode},
    effect::{CommandExec, ServiceControl, ServiceVerb},
    frame::{ActionAccepted, ActionResult, Order},
    signing::Signature,
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use crate::{
    exec::{self, End, Ended, GRACE, Group, Program, Stop},
    journal::{Ending, Intent, Journal, Known, MAX_PLAN_LIFE, Unfinished},
    policy::{Policy, Verdict},
    text::Detail,
};

/// How long to wait before the journal is tried again.
const JOURNAL_RETRY: Duration = Duration::from_secs(5);

/// Takes orders and runs at most one effect at a time.
pub struct Orders {
    host_id: HostId,
    policy: PathBuf,
    language: Language,
    journal: Arc<Journal>,
    running: Option<Running>,
    stopping: bool,
    ended: mpsc::UnboundedSender<EffectEnded>,
}

struct Running {
    /// None while processes of an earlier life are ended.
    action_id: Option<ActionId>,
    stop: watch::Sender<Option<Stop>>,
}

/// An effect ended, or what an earlier life left is settled.
#[derive(Debug)]
pub struct EffectEnded {
    /// What to send, committed already.
    pub results: Vec<ActionResult>,
    /// Whether all its processes are gone, so that another effect may begin.
    pub idle: bool,
}

/// Whether this host takes effects, for hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whether a usable policy allows any.
    pub effects_allowed: bool,
    /// Up to which class without signatures.
    pub max_unsigned_class: Option<RiskClass>,
}

impl Orders {
    /// Nothing runs yet. What ends is told through `ended`.
    #[must_use]
    pub const fn new(
        host_id: HostId,
        policy: PathBuf,
        journal: Arc<Journal>,
        ended: mpsc::UnboundedSender<EffectEnded>,
    ) -> Self {
        Self { host_id, policy, language: Language::PtBr, journal, running: None, stopping: false, ended }
    }

    /// Language of the details.
    pub const fn set_language(&mut self, language: Language) {
        self.language = language;
    }

    /// What hello announces.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match Policy::load(&self.policy) {
            Ok(Some(policy)) => Readiness {
                effects_allowed: !policy.read_only && !self.stopping,
                max_unsigned_class: Some(policy.max_unsigned_class),
            },
            Ok(None) | Err(_) => Readiness { effects_allowed: false, max_unsigned_class: None },
        }
    }

    /// Ends what survived an earlier life of the agent, then reports those
    /// actions as interrupted. Until then no new effect begins.
    pub fn recover(&mut self, unfinished: Vec<Unfinished>) {
        if unfinished.is_empty() {
            return;
        }
        let (stop, _) = watch::channel(None);
        self.running = Some(Running { action_id: None, stop });
        let (journal, ended, language) = (Arc::clone(&self.journal), self.ended.clone(), self.language);
        tokio::spawn(async move {
            let mut results = Vec::with_capacity(unfinished.len());
            for entry in unfinished {
                if let Some(group) = &entry.group
                    && group.is_alive()
                {
                    tracing::warn!(
                        action_id = %entry.action_id, pgid = group.pgid,
                        "a process of an action outlived the agent and is ended"
                    );
                    outlast(entry.action_id, group).await;
                }
                let detail = Detail::AgentRestarted.say(language, &[]);
                tracing::warn!(action_id = %entry.action_id, "an action was interrupted by the end of the agent");
                let ending = Ending::because(FinalState::Interrupted, ReasonCode::AgentRestarted, detail);
                results.push(finish(&journal, entry.action_id, &entry.plan_hash, ending).await);
            }
            // The agent may have ended meanwhile; the journal has it all.
            let _ = ended.send(EffectEnded { results, idle: true });
        });
    }

    /// Must be called when `ended` told so.
    pub fn on_idle(&mut self) {
        self.running = None;
    }

    /// Whether an effect runs.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// From now on every order is refused.
    pub const fn stop_taking(&mut self) {
        self.stopping = true;
    }

    /// Ends the running effect because the agent ends.
    pub fn abort(&self) {
        if let Some(running) = &self.running {
            running.stop.send_replace(Some(Stop::Shutdown));
        }
    }

    /// Stops the action, or makes sure that it never begins.
    pub async fn cancel(&self, action_id: ActionId) {
        if let Some(running) = &self.running
            && running.action_id == Some(action_id)
        {
            tracing::info!(%action_id, "the running action is cancelled");
            running.stop.send_replace(Some(Stop::Cancel));
            return;
        }
        if let Err(error) = self.journal.bury(action_id, Timestamp::now()).await {
            tracing::error!(%action_id, "a cancel could not be journalled: {}", error.sentence());
        }
    }

    /// Takes one order.
    pub async fn take(&mut self, method: ActionKind, order: Order, clock: Clock) -> FromAgent {
        let intent = Intent {
            action_id: order.action_id,
            plan_hash: PlanHash::of(&order.plan),
            kind: method.as_str().to_owned(),
            expires_at: clock.own.max(clock.corrected()).plus(MAX_PLAN_LIFE),
            signed_by: Vec::new(),
        };
        let (plan, effect) = match self.target(method, &order) {
            Ok(parsed) => parsed,
            Err(refusal) => return self.refuse(&intent, refusal).await,
        };
        let intent = Intent { expires_at: plan.expires_at, ..intent };
        match self.journal.find(order.action_id).await {
            Ok(None) => {}
            Ok(Some(known)) => return self.repeat(&intent, known).await,
            Err(error) => return self.journal_failed(&intent, &error).await,
        }
        let (step, signed_by) = match self.judge(&plan, &intent.plan_hash, effect, &order.signatures, clock) {
            Ok(allowed) => allowed,
            Err(refusal) => return self.refuse(&intent, refusal).await,
        };
        let intent = Intent { signed_by, ..intent };
        // Not journalled: the same order may come again and run then.
        if let Some(why) = self.occupied() {
            return self.answer(&intent, Refusal::new(ReasonCode::Busy, self.say(why, &[]))).await;
        }
        match self.journal.begin(&intent).await {
            Ok(journal) => {
                tracing::info!(
                    action_id = %intent.action_id, kind = intent.kind, plan_hash = %intent.plan_hash,
                    requested_by = plan.requested_by, signed_by = intent.signed_by.join(","), "an action begins"
                );
                self.start(&intent, step);
                FromAgent::ActionAccepted(ActionAccepted { action_id: intent.action_id, journal })
            }
            Err(error) => self.journal_failed(&intent, &error).await,
        }
    }

    /// The plan, if it is a plan for this action on this host.
    fn target(&self, method: ActionKind, order: &Order) -> Result<(Plan, Effect), Refusal> {
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

    async fn repeat(&self, intent: &Intent, known: Known) -> FromAgent {
        match known {
            Known::Running(hash) if hash == intent.plan_hash => FromAgent::ActionAccepted(ActionAccepted {
                action_id: intent.action_id,
                journal: self.journal.head().await,
            }),
            Known::Ended(result) if result.plan_hash == intent.plan_hash => FromAgent::ActionResult(result),
            Known::Running(_) | Known::Ended(_) => {
                let detail = self.say(Detail::KnownOtherPlan, &[]);
                self.answer(intent, Refusal::new(ReasonCode::PlanMismatch, detail)).await
            }
            Known::Tombstone => {
                let detail = self.say(Detail::CancelledBefore, &[]);
                self.refuse(intent, Refusal::new(ReasonCode::Cancelled, detail)).await
            }
        }
    }

    /// What to run, if time, policy and class allow it.
    fn judge(
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
        let (step, own_class) = self.allowed(&policy, effect)?;
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
        if plan.pre_state != Value::Null {
            return refuse(ReasonCode::PreStateChanged, Detail::PreState, &[]);
        }
        Ok((step, signers))
    }

    fn allowed(&self, policy: &Policy, effect: Effect) -> Result<(Step, RiskClass), Refusal> {
        let not = |detail, values: &[(&str, &str)]| Err(Refusal::new(ReasonCode::NotAllowed, self.say(detail, values)));
        match effect {
            Effect::CommandExec(wanted) => match policy.command(&wanted) {
                Verdict::Allowed(class) => Ok((Step::command(wanted), class)),
                Verdict::NotListed | Verdict::VerbNotListed => {
                    not(Detail::CommandNotListed, &[("command", &crate::text::cut(&wanted.command, 200))])
                }
            },
            // No effect of this agent yet.
            Effect::ContainerControl(_)
            | Effect::FileDiff(_)
            | Effect::FileApply(_)
            | Effect::FileRollback(_)
            | Effect::LogsRead(_) => not(Detail::PolicyBroken, &[("error", "not implemented")]),
            Effect::ServiceControl(wanted) => match policy.service(&wanted) {
                Verdict::Allowed(control) => {
                    let class = control.class;
                    Ok((Step::service(wanted, control.run, control.status), class))
                }
                Verdict::NotListed => not(Detail::ServiceNotListed, &[("service", &wanted.service)]),
                Verdict::VerbNotListed => {
                    let values = [("service", wanted.service.as_str()), ("verb", wanted.verb.as_str())];
                    not(Detail::VerbNotListed, &values)
                }
            },
        }
    }

    fn occupied(&self) -> Option<Detail> {
        match &self.running {
            _ if self.stopping => Some(Detail::Stopping),
            Some(Running { action_id: None, .. }) => Some(Detail::Recovering),
            Some(_) => Some(Detail::Busy),
            None => None,
        }
    }

    /// Refuses for good.
    async fn refuse(&self, intent: &Intent, refusal: Refusal) -> FromAgent {
        tracing::warn!(
            action_id = %intent.action_id, reason = refusal.code.as_str(), "an order is refused: {}", refusal.detail
        );
        match self.journal.refuse(intent, refusal.ending()).await {
            Ok(result) => FromAgent::ActionResult(Box::new(result)),
            Err(error) => self.journal_failed(intent, &error).await,
        }
    }

    async fn journal_failed(&self, intent: &Intent, error: &crate::Error) -> FromAgent {
        tracing::error!(action_id = %intent.action_id, "an order is refused: {}", error.sentence());
        let detail = self.say(Detail::JournalFailed, &[]);
        self.answer(intent, Refusal::new(ReasonCode::JournalFailed, detail)).await
    }

    /// Refuses without remembering it.
    async fn answer(&self, intent: &Intent, refusal: Refusal) -> FromAgent {
        let head = self.journal.head().await;
        let ending = refusal.ending();
        FromAgent::ActionResult(Box::new(ending.into_result(
            intent.action_id,
            intent.plan_hash.clone(),
            Timestamp::now(),
            head,
        )))
    }

    /// The effect runs in a task of its own, for it must outlive its socket.
    fn start(&mut self, intent: &Intent, step: Step) {
        let (stop, stopped) = watch::channel(None);
        self.running = Some(Running { action_id: Some(intent.action_id), stop });
        let (journal, ended, language) = (Arc::clone(&self.journal), self.ended.clone(), self.language);
        let (action_id, plan_hash) = (intent.action_id, intent.plan_hash.clone());
        tokio::spawn(async move {
            let (ending, survivors) = step.run(&journal, action_id, stopped, language).await;
            let result = finish(&journal, action_id, &plan_hash, ending).await;
            tracing::info!(%action_id, state = result.state.as_str(), "an action ended");
            // The agent may have ended meanwhile; the journal has it.
            let _ = ended.send(EffectEnded { results: vec![result], idle: survivors.is_none() });
            if let Some(group) = survivors {
                outlast(action_id, &group).await;
                let _ = ended.send(EffectEnded { results: Vec::new(), idle: true });
            }
        });
    }

    fn say(&self, detail: Detail, values: &[(&str, &str)]) -> String {
        detail.say(self.language, values)
    }
}

/// Commits the result, however long the journal refuses: nothing may be sent
/// before, and no other effect begins meanwhile.
async fn finish(journal: &Journal, action_id: ActionId, plan_hash: &PlanHash, ending: Ending) -> ActionResult {
    let mut told = false;
    loop {
        match journal.finish(action_id, plan_hash, ending.clone()).await {
            Ok(result) => return result,
            Err(error) => {
                if !told {
                    tracing::error!(%action_id, "a result cannot be committed yet: {}", error.sentence());
                    told = true;
                }
                sleep(JOURNAL_RETRY).await;
            }
        }
    }
}

/// Ends a group, however long it takes: while it lives its effect goes on, and
/// no other may begin.
async fn outlast(action_id: ActionId, group: &Group) {
    let mut told = false;
    while !group.terminate(GRACE).await {
        if !told {
            tracing::error!(
                %action_id, pgid = group.pgid,
                "processes of an action do not end after SIGKILL; end them by hand, until then no action begins"
            );
            told = true;
        }
    }
}

struct Refusal {
    code: ReasonCode,
    detail: String,
    required_class: Option<RiskClass>,
}

impl Refusal {
    const fn new(code: ReasonCode, detail: String) -> Self {
        Self { code, detail, required_class: None }
    }

    fn at(self, class: RiskClass) -> Self {
        Self { required_class: Some(class), ..self }
    }

    fn ending(self) -> Ending {
        Ending { required_class: self.required_class, ..Ending::because(FinalState::Refused, self.code, self.detail) }
    }
}

/// What to run on this host.
struct Step {
    program: Program,
    timeout: Duration,
    service: Option<Service>,
}

struct Service {
    name: String,
    verb: ServiceVerb,
    status: Option<Program>,
}

impl Step {
    fn command(wanted: CommandExec) -> Self {
        Self {
            program: Program::new(wanted.command, wanted.args, wanted.cwd.as_deref()),
            timeout: Duration::from_millis(wanted.timeout),
            service: None,
        }
    }

    fn service(wanted: ServiceControl, run: Vec<String>, status: Option<Vec<String>>) -> Self {
        Self {
            program: argv(run),
            timeout: Duration::from_millis(wanted.timeout),
            service: Some(Service { name: wanted.service, verb: wanted.verb, status: status.map(argv) }),
        }
    }

    async fn run(
        &self,
        journal: &Journal,
        action_id: ActionId,
        mut stop: watch::Receiver<Option<Stop>>,
        language: Language,
    ) -> (Ending, Option<Group>) {
        let deadline = Instant::now() + self.timeout;
        let ended = spawn(&self.program, journal, action_id, deadline, &mut stop).await;
        let (ending, survivors) = conclude(ended, language);
        let Some(service) = self.service.as_ref().filter(|_| ending.state == FinalState::Done) else {
            return (ending, survivors);
        };
        let Some(status) = &service.status else {
            return (ending, survivors);
        };
        let checked = spawn(status, journal, action_id, deadline, &mut stop).await;
        service.compare(ending, checked, language)
    }
}

impl Service {
    /// What the service says of itself counts more than the exit of its verb.
    fn compare(&self, ending: Ending, checked: Ended, language: Language) -> (Ending, Option<Group>) {
        let End::Exited(status) = checked.end else {
            // Whatever kept the status from being known is how it ended.
            let (verdict, survivors) = conclude(checked, language);
            return (Ending { outcome: ending.outcome, ..verdict }, survivors);
        };
        let detail = match (self.verb, status.success()) {
            (ServiceVerb::Start | ServiceVerb::Restart, false) => Detail::NotRunning,
            (ServiceVerb::Stop, true) => Detail::StillRunning,
            _ => return (ending, checked.survivors),
        };
        let detail = detail.say(language, &[("service", &self.name), ("verb", self.verb.as_str())]);
        (Ending { state: FinalState::Failed, detail: Some(detail), ..ending }, checked.survivors)
    }
}

fn argv(mut argv: Vec<String>) -> Program {
    // A policy never holds an empty one.
    let command = if argv.is_empty() { String::new() } else { argv.remove(0) };
    Program::new(command, argv, None)
}

async fn spawn(
    program: &Program,
    journal: &Journal,
    action_id: ActionId,
    deadline: Instant,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Ended {
    let stopped = *stop.borrow();
    if let Some(why) = stopped {
        return Ended { end: End::Stopped(why), outcome: None, survivors: None };
    }
    exec::run(program, deadline, stop, |group| async move {
        let Some(group) = group else {
            return true;
        };
        match journal.record_group(action_id, &group).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%action_id, "a process is killed again: {}", error.sentence());
                false
            }
        }
    })
    .await
}

fn conclude(ended: Ended, language: Language) -> (Ending, Option<Group>) {
    let say = |detail: Detail, values: &[(&str, &str)]| Some(detail.say(language, values));
    let (state, reason, detail) = match &ended.end {
        End::Exited(status) if status.success() => (FinalState::Done, None, None),
        End::Exited(_) => (FinalState::Failed, None, None),
        End::TimedOut => (FinalState::TimedOut, None, None),
        End::Stopped(Stop::Cancel) => (FinalState::Cancelled, None, None),
        End::Stopped(Stop::Shutdown) => {
            (FinalState::Interrupted, Some(ReasonCode::AgentRestarted), say(Detail::AgentRestarted, &[]))
        }
        End::SpawnFailed(error) => (
            FinalState::Failed,
            Some(ReasonCode::SpawnFailed),
            say(Detail::SpawnFailed, &[("error", &error.to_string())]),
        ),
        End::Unrecorded => {
            (FinalState::Interrupted, Some(ReasonCode::JournalFailed), say(Detail::GroupUnrecorded, &[]))
        }
    };
    let outlived = |group: &Group| Detail::Survivors.say(language, &[("pgid", &group.pgid.to_string())]);
    let detail = ended.survivors.as_ref().map(outlived).or(detail);
    (Ending { state, reason, detail, required_class: None, outcome: ended.outcome }, ended.survivors)
}

#[cfg(test)]
mod tests;
