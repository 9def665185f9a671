//! Tasks of a process.

#[cfg(farol_simulation)]
pub use crate::simulation::scoped;

/// Says that a task is this process's, which only a simulation has to be told.
#[cfg(not(farol_simulation))]
#[must_use]
pub const fn scoped<F: Future>(future: F) -> F {
    future
}
