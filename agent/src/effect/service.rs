//! `service.control`: by the policy's own commands, by systemd on the bus, or
//! by the commands of the host's service manager.

use std::time::Duration;

use farol_protocol::{
    action::{FinalState, PreState, ReasonCode},
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

    /// Whether it runs, for whoever plans to change that.
    pub(crate) async fn look(&self, course: &mut Course<'_>) -> (Option<PreState>, Over) {
        let began = Instant::now();
        if self.how == How::Manager {
            let unit = unit_name(&self.name);
            let look = async {
                let bus = Bus::connect().await?;
                Some(bus.unit(&unit).await)
            };
            match course.within(look).await {
                Ok(Some(Ok(unit))) => {
                    let state = PreState::ServiceActive(unit.is_active());
                    return (Some(state), done(unit.show(), None, began).into());
                }
                Ok(Some(Err(error))) => return (None, course.because(&self.bus_failed(&error)).into()),
                Ok(None) => {}
                Err(halt) => return (None, course.halted(halt).into()),
            }
        }
        let Some(status) = &self.status else {
            let values = vec![("service", self.name.clone())];
            return (None, course.because(&Why::refused(ReasonCode::Unavailable, Detail::NoStatus, values)).into());
        };
        match course.spawn(status).await {
            Ended { end: End::Exited(status), survivors: None, .. } => {
                let active = status.success();
                let shown = format!("ActiveState={}\n", if active { "active" } else { "inactive" });
                (Some(PreState::ServiceActive(active)), done(shown, None, began).into())
            }
            ended => (None, course.conclude(ended)),
        }
    }

    /// As a systemd without polkit, or with a rule that does not cover it, says it. By its words: the library has the
    /// same error in several shapes.
    fn bus_failed(&self, error: &zbus::Error) -> Why {
        let text = error.to_string();
        let denied = ["AccessDenied", "InteractiveAuthorizationRequired"]
            .iter()
            .any(|name| text.starts_with(&format!("org.freedesktop.DBus.Error.{name}")));
        let detail = if denied { Detail::BusDenied } else { Detail::BusFailed };
        Why::failed(detail, vec![("service", self.name.clone()), ("error", text)])
    }

    async fn by_bus(&self, course: &mut Course<'_>, bus: &Bus) -> Over {
        let began = Instant::now();
        let unit = unit_name(&self.name);
        if let Some(seen) = self.seen_active {
            match course.within(bus.unit(&unit)).await {
                Ok(Ok(now)) if now.is_active() != seen => return course.because(&self.changed()).into(),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return course.because(&self.bus_failed(&error)).into(),
                Err(halt) => return course.halted(halt).into(),
            }
        }
        let mut job = match course.within(bus.control(&unit, self.verb)).await {
            Ok(Ok(job)) => job,
            // systemd took no job, so nothing was changed and nothing has to be undone.
            Ok(Err(error)) => {
                let why = self.bus_failed(&error);
                return match why.detail {
                    Detail::BusDenied => course.because(&Why::refused(ReasonCode::NotAllowed, why.detail, why.values)),
                    _ => course.because(&why),
                }
                .into();
            }
            Err(halt) => return course.halted(halt).into(),
        };
        let result = match course.within(job.ended()).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => return course.because(&self.bus_failed(&error)).into(),
            Err(halt) => {
                if !matches!(timeout(CANCEL_WAIT, job.cancel()).await, Ok(Ok(()))) {
                    tracing::warn!(action_id = %course.action_id, "systemd did not give up the job on {unit}");
                }
                return course.halted(halt).into();
            }
        };
        let state = match course.within(bus.unit(&unit)).await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => return course.because(&self.bus_failed(&error)).into(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::{ActionId, Language};
    use tokio::sync::watch;

    use super::*;
    use crate::{effect::systemd::fake::Systemd, exec::Stop, journal::Journal};

    const UNITS: &[(&str, bool)] =
        &[("fine.service", true), ("weak.service", true), ("stuck.service", true), ("denied.service", true)];

    fn service(name: &str, verb: ServiceVerb, seen_active: Option<bool>) -> Service {
        let run = Program::new("false", Vec::new(), None);
        Service { name: name.to_owned(), verb, run, status: None, how: How::Manager, seen_active }
    }

    /// Runs it on the bus of `systemd`, stopped as soon as `cancel_after` is
    /// among its calls.
    async fn go(systemd: &Systemd, service: &Service, limit: Duration, cancel_after: Option<&str>) -> Ending {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("journal.db")).await.expect("opens");
        let (stop, stopped) = watch::channel(None);
        let mut course = Course {
            journal: &journal,
            action_id: ActionId::new(),
            deadline: Instant::now() + limit,
            stop: stopped,
            language: Language::En,
            feed: None,
        };
        let bus = systemd.bus().await;
        let cancel = async {
            let Some(call) = cancel_after else { return };
            while !systemd.calls().iter().any(|known| known.starts_with(call)) {
                tokio::task::yield_now().await;
            }
            stop.send_replace(Some(Stop::Cancel));
        };
        let (over, ()) = tokio::join!(service.by_bus(&mut course, &bus), cancel);
        assert!(over.remains.is_none());
        over.ending
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn systemd_is_asked_for_a_job_and_the_units_state_is_the_outcome() {
        let Some(systemd) = Systemd::start(UNITS).await else { return };
        let stopped = go(&systemd, &service("fine", ServiceVerb::Stop, Some(true)), LONG, None).await;
        assert_eq!(stopped.state, FinalState::Done, "{:?}", stopped.detail);
        assert!(stopped.outcome.expect("its state").stdout.starts_with("ActiveState=inactive\n"));
        let restarted = go(&systemd, &service("fine", ServiceVerb::Restart, None), LONG, None).await;
        assert_eq!(restarted.state, FinalState::Done, "{:?}", restarted.detail);
        assert_eq!(systemd.calls(), ["StopUnit fine.service replace", "RestartUnit fine.service replace"]);
    }

    #[tokio::test]
    async fn a_job_that_fails_is_a_failure_and_one_that_is_denied_has_no_effect() {
        let Some(systemd) = Systemd::start(UNITS).await else { return };
        let weak = go(&systemd, &service("weak", ServiceVerb::Restart, None), LONG, None).await;
        assert_eq!(weak.state, FinalState::Failed);
        assert!(weak.detail.is_some_and(|detail| detail.contains("`failed`")));
        let denied = go(&systemd, &service("denied", ServiceVerb::Start, None), LONG, None).await;
        assert_eq!((denied.state, denied.reason), (FinalState::Refused, Some(ReasonCode::NotAllowed)));
        let detail = denied.detail.expect("why");
        assert!(detail.contains("not for you") && detail.contains("polkit"), "{detail}");
    }

    #[tokio::test]
    async fn a_unit_that_is_not_as_the_approver_saw_it_gets_no_job() {
        let Some(systemd) = Systemd::start(UNITS).await else { return };
        let changed = go(&systemd, &service("fine", ServiceVerb::Restart, Some(false)), LONG, None).await;
        assert_eq!((changed.state, changed.reason), (FinalState::Refused, Some(ReasonCode::PreStateChanged)));
        assert!(systemd.calls().is_empty());
    }

    #[tokio::test]
    async fn a_cancel_and_the_time_limit_take_the_job_back() {
        let Some(systemd) = Systemd::start(UNITS).await else { return };
        let stuck = service("stuck", ServiceVerb::Restart, None);
        let late = go(&systemd, &stuck, Duration::from_millis(300), None).await;
        assert_eq!(late.state, FinalState::TimedOut);
        assert_eq!(systemd.calls().len(), 2, "asked and taken back");

        let Some(systemd) = Systemd::start(UNITS).await else { return };
        let cancelled = go(&systemd, &stuck, LONG, Some("RestartUnit")).await;
        assert_eq!(cancelled.state, FinalState::Cancelled);
    }
}
