//! Every kind of work an order can come down to.

use std::pin::Pin;

use super::{
    Apply, Container, Course, Diff, Logs, Over, Rollback, Run, Service,
    remediation::{Look, Remediation},
};

/// The work itself.
pub(crate) enum Work {
    Run(Run),
    Service(Service),
    Container(Container),
    Diff(Diff),
    Apply(Apply),
    Rollback(Rollback),
    Logs(Logs),
    Look(Look),
    Remediation(Remediation),
}

impl Work {
    /// Takes its effect, whatever kind it is. Boxed, for a remediation is made
    /// of others.
    pub(crate) fn go<'a>(&'a self, course: &'a mut Course<'_>) -> Pin<Box<dyn Future<Output = Over> + Send + 'a>> {
        Box::pin(async move {
            match self {
                Self::Run(run) => run.go(course).await,
                Self::Service(service) => service.go(course).await,
                Self::Container(container) => container.go(course).await,
                Self::Diff(diff) => diff.go(course).await,
                Self::Apply(apply) => apply.go(course).await,
                Self::Rollback(rollback) => rollback.go(course).await,
                Self::Logs(logs) => logs.go(course).await,
                Self::Look(look) => look.go(course).await,
                Self::Remediation(remediation) => remediation.go(course).await,
            }
        })
    }
}
