//! From an order to an effect, or to a refusal that says why.

mod judge;
mod signatures;
mod step;

pub use signatures::Clock;

use std::{path::PathBuf, sync::Arc, time::Duration};

use farol_protocol::{
    ActionId, ActionKind, FromAgent, HostId, Language, PlanHash, RiskClass, Timestamp,
    action::{FinalState, ReasonCode},
    frame::{ActionAccepted, ActionOutput, ActionResult, Order},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use self::{judge::Refusal, step::Step};
pub use crate::effect::Means;
use crate::{
    effect::{self, Course, Kept, Remains},
    exec::{Feed, GRACE, Group, Stop},
    journal::{Ending, Intent, Journal, Known, MAX_PLAN_LIFE, Unfinished},
    policy::Policy,
    task::scoped,
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
    means: Means,
    ended: mpsc::UnboundedSender<EffectEnded>,
    output: mpsc::Sender<ActionOutput>,
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
    /// Nothing runs yet. What ends is told through `ended`, what programs
    /// write meanwhile through `output`, as far as that has room.
    #[must_use]
    pub const fn new(
        host_id: HostId,
        policy: PathBuf,
        means: Means,
        journal: Arc<Journal>,
        ended: mpsc::UnboundedSender<EffectEnded>,
        output: mpsc::Sender<ActionOutput>,
    ) -> Self {
        let language = Language::PtBr;
        Self { host_id, policy, language, journal, running: None, stopping: false, means, ended, output }
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
        let files = self.means.files.clone();
        tokio::spawn(scoped(async move {
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
                effect::clean_up(&files, entry.action_id);
                let detail = Detail::AgentRestarted.say(language, &[]);
                tracing::warn!(action_id = %entry.action_id, "an action was interrupted by the end of the agent");
                let ending = Ending::because(FinalState::Interrupted, ReasonCode::AgentRestarted, detail);
                results.push(finish(&journal, entry.action_id, &entry.plan_hash, ending).await);
            }
            // The agent may have ended meanwhile; the journal has it all.
            let _ = ended.send(EffectEnded { results, idle: true });
        }));
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
    ///
    /// # Errors
    /// The journal cannot be read: whether the order ran is not known here.
    pub async fn take(&mut self, method: ActionKind, order: Order, clock: Clock) -> Result<FromAgent, crate::Error> {
        let intent = Intent {
            action_id: order.action_id,
            plan_hash: PlanHash::of(&order.plan),
            kind: method.as_str().to_owned(),
            expires_at: clock.own.max(clock.corrected()).plus(MAX_PLAN_LIFE),
            signed_by: Vec::new(),
        };
        let (plan, effect) = match self.target(method, &order) {
            Ok(parsed) => parsed,
            Err(refusal) => return Ok(self.refuse(&intent, refusal).await),
        };
        let intent = Intent { expires_at: plan.expires_at, ..intent };
        if let Some(known) = self.journal.find(order.action_id).await? {
            return Ok(self.repeat(&intent, known).await);
        }
        let (step, signed_by) = match self.judge(&plan, &intent.plan_hash, effect, &order.signatures, clock) {
            Ok(allowed) => allowed,
            Err(refusal) => return Ok(self.refuse(&intent, refusal).await),
        };
        let intent = Intent { signed_by, ..intent };
        // Not journalled: the same order may come again and run then.
        if let Some(why) = self.occupied() {
            return Ok(self.answer(&intent, Refusal::new(ReasonCode::Busy, self.say(why, &[]))).await);
        }
        Ok(match self.journal.begin(&intent).await {
            Ok(journal) => {
                tracing::info!(
                    action_id = %intent.action_id, kind = intent.kind, plan_hash = %intent.plan_hash,
                    requested_by = plan.requested_by, signed_by = intent.signed_by.join(","), "an action begins"
                );
                self.start(&intent, step);
                FromAgent::ActionAccepted(ActionAccepted { action_id: intent.action_id, journal })
            }
            Err(error) => self.journal_failed(&intent, &error).await,
        })
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
        let feed = Some(Feed::new(action_id, self.output.clone()));
        tokio::spawn(scoped(async move {
            let deadline = Instant::now() + step.timeout;
            let mut course = Course { journal: &journal, action_id, deadline, stop: stopped, language, feed };
            let over = step.run(&mut course).await;
            let result = finish(&journal, action_id, &plan_hash, over.ending).await;
            tracing::info!(%action_id, state = result.state.as_str(), "an action ended");
            // The agent may have ended meanwhile; the journal has it.
            let _ = ended.send(EffectEnded { results: vec![result], idle: over.remains.is_none() });
            match over.remains {
                None => return,
                Some(Remains::Group(group)) => outlast(action_id, &group).await,
                Some(Remains::Task(task)) => {
                    tracing::error!(%action_id, "a file operation hangs; until it ends no action begins");
                    // How it ends is too late to tell.
                    let _ = task.await;
                }
            }
            let _ = ended.send(EffectEnded { results: Vec::new(), idle: true });
        }));
    }

    /// Removes what is kept of actions that the journal no longer has.
    pub async fn forget_old(&self) {
        let kept = Kept::new(&self.means.files);
        for action_id in kept.actions() {
            // What cannot be asked is kept.
            if matches!(self.journal.find(action_id).await, Ok(None)) {
                kept.forget(action_id);
            }
        }
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

#[cfg(test)]
mod tests;
