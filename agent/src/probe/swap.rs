//! Used swap space.

use farol_protocol::{report::Limits, telemetry::Usage};
use sysinfo::{MemoryRefreshKind, System};

use super::{Probing, Seen, text::Text};

pub(super) async fn run(probing: Probing, limits: &Limits) -> Seen {
    let usage = probing.blocking(Text::WhatMemory, || {
        let mut system = System::new()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_swap());
        Ok::<_, sysinfo::Error>(Usage { used: system.used_swap(), total: system.total_swap() })
    });
    match usage.await {
        Ok(usage) => judge(probing, limits, usage),
        Err(seen) => seen,
    }
}

fn judge(probing: Probing, limits: &Limits, usage: Usage) -> Seen {
    match usage.percent() {
        Some(percent) if usage.total > 0 => probing.judged(limits, percent, "%", [Text::SwapOk, Text::SwapOver], &[]),
        _ => probing.not_configured(Text::SwapNone, &[]),
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, report::UnknownCause};

    use super::{super::tests::probing, *};

    #[test]
    fn a_host_without_swap_is_not_at_zero_per_cent() {
        let limits = Limits { warning: Some(50.0), ..Limits::default() };
        let none = judge(probing(), &limits, Usage { used: 0, total: 0 });
        assert_eq!((none.status, none.cause, none.value), (Status::Unknown, Some(UnknownCause::NotConfigured), None));
        let half = judge(probing(), &limits, Usage { used: 1 << 30, total: 2 << 30 });
        assert_eq!((half.status, half.value), (Status::Warning, Some(50.0)), "{}", half.text);
    }
}
