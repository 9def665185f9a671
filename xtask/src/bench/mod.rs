//! `cargo xtask bench`: each figure beside its limit, measured in the same run.
//!
//! Machines differ and are noisy: only the ratios mean anything.

mod agent;
mod checks;
mod correlate;
mod fanout;
mod fleet;
mod history;
mod idle;
mod latency;
mod orders;
mod raw;
mod record;
mod storm;
mod throughput;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

pub(crate) use self::raw::serve;
use crate::{
    dist,
    test::{cargo, root},
};

/// How long each part runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    saturated: Duration,
    orders: usize,
    findings: usize,
    agents: usize,
    rounds: usize,
    footprint: Duration,
    /// Hosts whose history is written; the figure is told for fifty.
    history: u32,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Saturated batches.
    Throughput,
    /// Order round trips.
    Orders,
    /// From report to thread.
    Latency,
    /// Orders to a thousand hosts at once.
    FanOut,
    /// Memory of idle connections.
    Idle,
    /// Ten thousand agents that reconnect.
    Storm,
    /// What agents and their coordinator use.
    Footprint,
    /// Checks that the coordinator runs.
    Checks,
    /// Bytes of two years of history, and the time of a week's series.
    History,
    /// The correlator alone, and a replay.
    Correlate,
    /// Entries of the record, and their verification.
    Record,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Orders => "orders",
            Self::Latency => "latency",
            Self::FanOut => "fan-out",
            Self::Idle => "idle",
            Self::Storm => "storm",
            Self::Footprint => "footprint",
            Self::Checks => "checks",
            Self::History => "history",
            Self::Correlate => "correlate",
            Self::Record => "record",
        }
    }
}

/// A row of the table.
pub(crate) struct Figure {
    what: String,
    value: String,
    limit: String,
    ratio: String,
    target: String,
    met: Option<bool>,
}

impl Figure {
    fn new(what: &str, value: String, target: &str, met: bool) -> Self {
        Self {
            what: what.to_owned(),
            value,
            limit: String::new(),
            ratio: String::new(),
            target: target.to_owned(),
            met: Some(met),
        }
    }

    /// Only told, without a target.
    fn told(what: &str, value: String) -> Self {
        Self { met: None, ..Self::new(what, value, "", true) }
    }

    const fn verdict(&self) -> &'static str {
        match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        }
    }

    fn beside(mut self, limit: String, ratio: f64) -> Self {
        self.limit = limit;
        self.ratio = format!("{ratio:.2}");
        self
    }
}

/// Builds what is measured and measures it in an optimised build of this program.
///
/// # Errors
/// A build or the measurement failed.
pub(crate) fn run(quick: bool, long: bool, only: Option<Part>) -> Result<()> {
    say("Building the coordinator and the agent …");
    cargo(&["build", "--quiet", "--release", "--package", "farol-coordinator", "--package", "xtask", "--bins"])?;
    let agent = dist::agent()?;
    let binaries = tempfile::tempdir()?;
    for (path, name) in [(root().join("target/release/farol"), "farol"), (agent, "farol-agent")] {
        std::os::unix::fs::symlink(path, binaries.path().join(name))?;
    }
    let own: PathBuf = root().join("target/release/xtask");
    let mut command = std::process::Command::new(own);
    command.arg("measure").env("FAROL_BIN_DIR", binaries.path());
    if quick {
        command.arg("--quick");
    }
    if long {
        command.arg("--long");
    }
    if let Some(part) = only {
        command.args(["--only", part.as_str()]);
    }
    let status = command.status().context("start the measurement")?;
    anyhow::ensure!(status.success(), "the measurement ended with {status}");
    Ok(())
}

/// Measures and prints the table.
///
/// # Errors
/// A part could not be measured.
pub(crate) async fn measure(quick: bool, long: bool, only: Option<Part>) -> Result<()> {
    open_files()?;
    let lengths = if quick {
        Lengths {
            saturated: Duration::from_secs(3),
            orders: 100,
            findings: 100,
            agents: 1000,
            rounds: 3,
            footprint: Duration::from_secs(60),
            history: 1,
        }
    } else {
        Lengths {
            saturated: Duration::from_secs(10),
            orders: 500,
            findings: 500,
            agents: 10_000,
            rounds: 5,
            footprint: if long { Duration::from_secs(3600) } else { Duration::from_secs(600) },
            history: 5,
        }
    };
    let mut figures = Vec::new();
    // As soon as it is known: a later part may fail, or take long.
    let mut tell = |new: Vec<Figure>| {
        for figure in &new {
            say(&format!("  {}: {} {}", figure.what, figure.value, figure.verdict()));
        }
        figures.extend(new);
    };
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted(Part::Correlate) {
        say("The correlator alone …");
        tell(correlate::measure().context("the correlator")?);
    }
    if wanted(Part::Record) {
        say("The record …");
        tell(record::measure(lengths).await.context("the record")?);
    }
    if wanted(Part::Throughput) {
        say("Saturated batches …");
        tell(throughput::measure(lengths).await.context("saturated batches")?);
    }
    if wanted(Part::Orders) {
        say("Orders …");
        tell(orders::measure(lengths).await.context("orders")?);
    }
    if wanted(Part::Latency) {
        say("From report to thread …");
        tell(latency::measure(lengths).await.context("from report to thread")?);
    }
    if wanted(Part::FanOut) {
        say("Fan-out …");
        tell(fanout::measure(lengths).await.context("fan-out")?);
    }
    if wanted(Part::Idle) {
        say("Idle agents …");
        tell(idle::measure(lengths).await.context("idle agents")?);
    }
    if wanted(Part::Storm) {
        say("A fleet reconnects …");
        tell(storm::measure(lengths).await.context("a fleet reconnects")?);
    }
    if wanted(Part::Checks) {
        say("Ten thousand checks a minute …");
        tell(checks::measure(lengths).await.context("checks")?);
    }
    if wanted(Part::Footprint) {
        say(&format!("Footprint of twenty-one agents over {:?} …", lengths.footprint));
        tell(agent::measure(lengths).await.context("footprint")?);
    }
    if wanted(Part::History) {
        say(&format!("Two years of {} hosts …", lengths.history));
        tell(history::measure(lengths).await.context("history")?);
    }
    print(&figures);
    Ok(())
}

/// Ten thousand connections need as many files, here and in the coordinator,
/// which inherits the limit.
fn open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 16_384;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|files| files < WANTED) {
        let maximum = now.maximum.map(|files| files.max(WANTED));
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(WANTED), maximum });
        raised.context("raise the limit of open files to 16384; run `ulimit -n 16384` first")?;
    }
    Ok(())
}

fn print(figures: &[Figure]) {
    let heads = ["figure", "measured", "limit, same run", "ratio", "target", ""];
    let rows: Vec<[String; 6]> = figures
        .iter()
        .map(|figure| {
            [
                figure.what.clone(),
                figure.value.clone(),
                figure.limit.clone(),
                figure.ratio.clone(),
                figure.target.clone(),
                figure.verdict().to_owned(),
            ]
        })
        .collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        say(&format!("| {} |", cells.join(" | ")));
    };
    line(&heads.map(str::to_owned));
    line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
    for row in &rows {
        line(row);
    }
}

#[expect(clippy::print_stdout, reason = "this is a program for a terminal")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The value below which `share` of the sorted samples lie.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// A field of `/proc/PID/NAME`, a number after `key`.
fn proc_number(pid: u32, name: &str, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).context("read /proc")?;
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {key} in /proc/{pid}/{name}"))
}
