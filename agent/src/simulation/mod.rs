//! What stands in for processes, sockets and clocks when thousands of seeds
//! run in one process. Present only where the compiler is given
//! `--cfg farol_simulation`; everything above these stand-ins is what gets
//! installed.
//!
//! A [`Node`] is one process: an agent or the coordinator. Its tasks are
//! [`scoped`]: while one of them is polled, the thread knows whose clock, whose
//! network and whose faults count. SQLite answers from threads of its own; a
//! scoped task waits for them inside its poll, so that no other task and no
//! passing of simulated time comes between a statement and its answer, and the
//! order of all events depends on the seed alone.

mod effect;
mod network;
mod node;
mod quiet;
mod world;

use farol_protocol::{Report, Timestamp, report::CheckSpec};

pub use effect::{Effect, Effects};
pub use network::{Dialled, Frames, LinkEnd, Mode, Network};
pub use node::{Crash, Host, Node, current, scoped, scoped_in};
pub use quiet::wait as quiet;
pub use world::World;

/// What a check finds: any status, numbered within its host so that a report
/// can be known again.
pub(crate) fn report(spec: &CheckSpec, now: Timestamp) -> Option<Report> {
    let node = current()?;
    let (number, status) = node.next_report();
    Some(Report {
        check: spec.id.clone(),
        status,
        value: Some(f64::from(number)),
        unit: Some("count".to_owned()),
        text: format!("report {number}"),
        observed_at: now,
        cause: None,
    })
}

/// A place where the node may die, if that is its fate.
pub fn passed(name: &str) {
    if let Some(node) = current() {
        node.passed(name);
    }
}

/// A place where the disk may refuse.
///
/// # Errors
/// It refuses.
pub fn check(name: &str) -> Result<(), std::io::Error> {
    match current() {
        Some(node) => node.check(name),
        None => Ok(()),
    }
}
