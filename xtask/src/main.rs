//! The workspace's own tasks; see `cargo xtask --help`.

mod bench;
mod demo;
mod dist;
mod fuzz;
mod portal;
mod simulate;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Farol workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and show the main job: a failing portal, from report to approved repair
    Demo {
        /// Approve through the API, wait until the finding resolves, stop everything
        #[arg(long)]
        exit_after_check: bool,
    },
    /// Build both programs as they are installed, into target/dist
    Dist,
    /// Format, lint, deny, and run every test
    Test,
    /// Run the fuzz targets under libFuzzer; `cargo xtask test` runs them over seeds
    Fuzz {
        /// Only this one: frames, legacy, patch, plan, policy, registry or signed
        target: Option<String>,
        /// For so long each
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
    },
    /// Run seeds of the simulation: every kind of fault, simulated time, the five guarantees
    Simulate(simulate::Simulate),
    /// Measure each figure beside its limit in the same run
    Bench {
        /// A few minutes instead of half an hour; the figures are rougher
        #[arg(long)]
        quick: bool,
        /// An hour of agents instead of ten minutes: does what they hold grow?
        #[arg(long, conflicts_with = "quick")]
        long: bool,
        /// One part: throughput, orders, latency, fan-out, idle, storm, footprint, history or record
        #[arg(long, value_name = "PART")]
        only: Option<bench::Part>,
    },
    /// Used by the benchmark: the measurement itself, in an optimised build
    #[command(hide = true)]
    Measure {
        /// See `bench`
        #[arg(long)]
        quick: bool,
        /// See `bench`
        #[arg(long)]
        long: bool,
        /// See `bench`
        #[arg(long)]
        only: Option<bench::Part>,
    },
    /// Used by the benchmark: the bare server
    #[command(hide = true)]
    BareServer {
        /// Its folder
        folder: std::path::PathBuf,
    },
    /// Used by the demonstration: asks its portal's keeper for something
    #[command(hide = true)]
    Portal {
        /// `restart` or `status`
        verb: String,
        /// Address of the keeper
        keeper: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = match cli.task {
        Task::Demo { exit_after_check } => runtime.block_on(demo::run(exit_after_check)),
        Task::Dist => dist::run(),
        Task::Test => test::run(),
        Task::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Task::Simulate(what) => simulate::run(&what),
        Task::Bench { quick, long, only } => bench::run(quick, long, only),
        Task::Measure { quick, long, only } => runtime.block_on(bench::measure(quick, long, only)),
        Task::BareServer { folder } => runtime.block_on(bench::serve(&folder)),
        Task::Portal { verb, keeper } => runtime.block_on(portal::ask(&verb, &keeper)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "this is a program for a terminal")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
