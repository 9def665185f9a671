//! `service.control`: by the policy's own commands, by systemd on the bus, or
//! by the commands of the host's service manager.

use std::time::Duration;

use farol_protocol::{
    action::{FinalState, ReasonCode},
    effect::ServiceVerb,
};
use tokio::time::{Instant, timeout};

use super::{Bus, Course, Over, Why, done, unit_name};
use crate::{
    exec::{End, Ended, Program},
    journal::Ending,
    text::Detail,
};

/// How long systemd may take to give a job up.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// Starts, stops or restarts a service that the policy lists.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) verb: ServiceVerb,
    pub(crate) run: Program,
    /// Exits with 0 while the service runs.
    pub(crate) status: Option<Program>,
    pub(crate) how: How,
    /// Whether it ran when the plan was approved, where the plan says so.
    pub(crate) seen_active: Option<bool>,
}

/// What says how a service is controlled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The policy, with commands of its own.
    Own,
    /// The service manager: over the bus where there is one.
    Manager,
}

impl Service {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        if self.how == How::Manager {
            match course.within(Bus::connect()).await {
                Ok(Some(bus)) => return self.by_bus(course, &bus).await,
                Ok(None) => {}
                Err(halt) => return course.halted(halt).into(),
            }
        }
        self.by_programs(course).await
    }

    async fn by_bus(&self, course: &mut Course<'_>, bus: &Bus) -> Over {
        let began = Instant::now();
        let unit = unit_name(&self.name);
        let failed = |error: &zbus::Error| {
            Why::failed(Detail::BusFailed, vec![("service", self.name.clone()), ("error", error.to_string())])
        };
        if let Some(seen) = self.seen_active {
            match course.within(bus.unit(&unit)).await {
                Ok(Ok(now)) if now.is_active() != seen => return course.because(&self.changed()).into(),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return course.because(&failed(&error)).into(),
                Err(halt) => return course.halted(halt).into(),
            }
        }
        let mut job = match course.within(bus.control(&unit, self.verb)).await {
            Ok(Ok(job)) => job,
            Ok(Err(error)) => return course.because(&failed(&error)).into(),
            Err(halt) => return course.halted(halt).into(),
        };
        let result = match course.within(job.ended()).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => return course.because(&failed(&error)).into(),
            Err(halt) => {
                if !matches!(timeout(CANCEL_WAIT, job.cancel()).await, Ok(Ok(()))) {
                    tracing::warn!(action_id = %course.action_id, "systemd did not give up the job on {unit}");
                }
                return course.halted(halt).into();
            }
        };
        let state = match course.within(bus.unit(&unit)).await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => return course.because(&failed(&error)).into(),
            Err(halt) => return course.halted(halt).into(),
        };
        let ending = done(state.show(), None, began);
        if result != "done" {
            let values = [("service", self.name.as_str()), ("verb", self.verb.as_str()), ("result", result.as_str())];
            let detail = Some(course.say(Detail::JobEnded, &values));
            return Ending { state: FinalState::Failed, detail, ..ending }.into();
        }
        self.judged(course, ending, state.is_active()).into()
    }

    async fn by_programs(&self, course: &mut Course<'_>) -> Over {
        if let Some(seen) = self.seen_active {
            let Some(status) = &self.status else {
                let values = vec![("service", self.name.clone())];
                return course.because(&Why::refused(ReasonCode::Unavailable, Detail::NoStatus, values)).into();
            };
            match course.spawn(status).await {
                Ended { end: End::Exited(status), survivors: None, .. } if status.success() == seen => {}
                Ended { end: End::Exited(_), survivors: None, .. } => return course.because(&self.changed()).into(),
                ended => return course.conclude(ended),
            }
        }
        let ended = course.spawn(&self.run).await;
        let over = course.conclude(ended);
        let Some(status) = self.status.as_ref().filter(|_| over.ending.state == FinalState::Done) else {
            return over;
        };
        let checked = course.spawn(status).await;
        match checked {
            Ended { end: End::Exited(status), survivors: None, .. } => {
                self.judged(course, over.ending, status.success()).into()
            }
            // Whatever kept the status from being known is how it ended.
            checked => {
                let verdict = course.conclude(checked);
                Over { ending: Ending { outcome: over.ending.outcome, ..verdict.ending }, ..verdict }
            }
        }
    }

    /// What the service says of itself counts more than the exit of its verb.
    fn judged(&self, course: &Course<'_>, ending: Ending, active: bool) -> Ending {
        let detail = match (self.verb, active) {
            (ServiceVerb::Start | ServiceVerb::Restart, false) => Detail::NotRunning,
            (ServiceVerb::Stop, true) => Detail::StillRunning,
            _ => return ending,
        };
        let detail = course.say(detail, &[("service", &self.name), ("verb", self.verb.as_str())]);
        Ending { state: FinalState::Failed, detail: Some(detail), ..ending }
    }

    fn changed(&self) -> Why {
        Why::refused(ReasonCode::PreStateChanged, Detail::ServiceChanged, vec![("service", self.name.clone())])
    }
}
