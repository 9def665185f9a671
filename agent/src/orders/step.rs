//! What an order comes down to on this host.

use std::time::Duration;

use crate::effect::{Course, Over, Work};

/// An allowed effect with its time limit.
pub(super) struct Step {
    pub(super) timeout: Duration,
    work: Work,
}

impl Step {
    pub(super) const fn new(timeout_ms: u64, work: Work) -> Self {
        Self { timeout: Duration::from_millis(timeout_ms), work }
    }

    /// Takes its effect.
    pub(super) async fn run(&self, course: &mut Course<'_>) -> Over {
        self.work.go(course).await
    }
}
