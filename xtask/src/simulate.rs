//! `cargo xtask simulate`: thousands of seeds of agents and a coordinator in
//! simulated time.

use std::process::Command;

use anyhow::Result;

use crate::test::{root, run_in_root};

/// Turns the stand-ins on, and the part of Tokio that lets the seed decide
/// every choice of its scheduler.
const FLAGS: &str = "--cfg farol_simulation --cfg tokio_unstable";

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    /// How many seeds
    #[arg(long, default_value_t = 500)]
    pub(crate) seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    pub(crate) from: u64,
    /// Only this one, with everything that happens
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    pub(crate) seed: Option<u64>,
    /// With `--seed`, also what the programs log
    #[arg(long, requires = "seed")]
    pub(crate) log: bool,
}

/// Builds the simulation, in a folder of its own, and runs it.
///
/// # Errors
/// It does not build, or a seed breaks a guarantee.
pub(crate) fn run(what: &Simulate) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--profile", "simulation", "--package", "farol-simulation"])
        .arg("--target-dir")
        .arg(root().join("target/simulation"))
        .arg("--")
        .env("RUSTFLAGS", FLAGS);
    match what.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => command.args(["--seeds", &what.seeds.to_string(), "--from", &what.from.to_string()]),
    };
    if what.log {
        command.arg("--log");
    }
    run_in_root(&mut command)
}
