//! What must hold for any bytes at all that reach Farol from outside.
//!
//! Each target is a function that panics when its invariant breaks. The tests
//! run every target over its seeds and thousands of seeded mutations of them;
//! `cargo xtask fuzz` runs the same functions under libFuzzer. An input that
//! once broke one is kept in `regressions/TARGET/` and runs with the tests.

pub mod frames;
pub mod legacy;
pub mod mutate;
#[cfg(feature = "agent")]
pub mod patch;
pub mod plan;
#[cfg(feature = "agent")]
pub mod policy;
pub mod registry;
pub mod seeds;
pub mod signed;

/// One entry point for bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name of the fuzz target.
    pub name: &'static str,
    /// Panics when an invariant does not hold for the bytes.
    pub check: fn(&[u8]),
    /// Mutations that the tests try; fewer where one takes longer.
    pub cases: u32,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", check: frames::check, cases: 20_000 },
    Target { name: "legacy", check: legacy::check, cases: 20_000 },
    #[cfg(feature = "agent")]
    Target { name: "patch", check: patch::check, cases: 20_000 },
    Target { name: "plan", check: plan::check, cases: 20_000 },
    #[cfg(feature = "agent")]
    Target { name: "policy", check: policy::check, cases: 5_000 },
    Target { name: "registry", check: registry::check, cases: 2_500 },
    Target { name: "signed", check: signed::check, cases: 20_000 },
];
