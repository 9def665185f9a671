//! What an order comes down to on this host.

use std::time::Duration;

use crate::effect::{Apply, Container, Course, Diff, Logs, Over, Rollback, Run, Service};

/// An allowed effect with its time limit.
pub(super) struct Step {
    pub(super) timeout: Duration,
    work: Work,
}

/// The effect itself.
pub(super) enum Work {
    Run(Run),
    Service(Service),
    Container(Container),
    Diff(Diff),
    Apply(Apply),
    Rollback(Rollback),
    Logs(Logs),
}

impl Step {
    pub(super) const fn new(timeout_ms: u64, work: Work) -> Self {
        Self { timeout: Duration::from_millis(timeout_ms), work }
    }

    /// Takes its effect, whatever kind it is.
    pub(super) async fn run(&self, course: &mut Course<'_>) -> Over {
        match &self.work {
            Work::Run(run) => run.go(course).await,
            Work::Service(service) => service.go(course).await,
            Work::Container(container) => container.go(course).await,
            Work::Diff(diff) => diff.go(course).await,
            Work::Apply(apply) => apply.go(course).await,
            Work::Rollback(rollback) => rollback.go(course).await,
            Work::Logs(logs) => logs.go(course).await,
        }
    }
}
