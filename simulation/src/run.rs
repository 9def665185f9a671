//! Seeds side by side, a process per CPU: a simulation has one thread, and
//! waits for the SQLite threads of its own process only.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{seed, site::Template};

/// Runs the simulation.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one, with everything that happens
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Also what the programs log
    #[arg(long)]
    log: bool,
    /// Used by itself: one process of several
    #[arg(long, hide = true)]
    every: Option<u64>,
}

#[expect(clippy::print_stderr, reason = "this is a program for a terminal")]
pub(crate) fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is a program for a terminal")]
fn run(arguments: &Arguments) -> Result<()> {
    if arguments.log {
        log();
    }
    farol_pki::install_default_provider();
    quiet_crashes();
    // Not the process that only starts the others: they inherit what it may use.
    if arguments.every.is_some() || arguments.seed.is_some() {
        pin(arguments.every.map_or(0, |_| arguments.from))?;
    }
    if let Some(seed) = arguments.seed {
        let outcome = seed::run(&Template::make()?, seed)?;
        for line in &outcome.trace {
            println!("{line}");
        }
        println!("digest {:016x}; {}", outcome.digest(), outcome.summary);
        return broken(seed, &outcome.violations);
    }
    if let Some(every) = arguments.every {
        let template = Template::make()?;
        for seed in (arguments.from..arguments.from + arguments.seeds).step_by(usize::try_from(every)?) {
            let outcome = seed::run(&template, seed).with_context(|| format!("seed {seed}"))?;
            println!("{seed} {} {}", outcome.violations.len(), outcome.violations.join(" | "));
        }
        return Ok(());
    }
    side_by_side(arguments)
}

/// Keeps this process, and the threads it will start, on one CPU. A thread
/// that another CPU has woken still looks idle for a moment, and time would
/// pass before it answers; on one CPU it looks awake at once. It is also three
/// times as fast.
fn pin(which: u64) -> Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let may = sched_getaffinity(None).context("read on which CPUs this may run")?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu)).collect();
    let index = usize::try_from(which)? % cpus.len().max(1);
    let mut one = CpuSet::new();
    one.set(*cpus.get(index).context("no CPU to run on")?);
    sched_setaffinity(None, &one).context("stay on one CPU")
}

/// What the programs log stands in the trace.
fn log() {
    use tracing_subscriber::layer::SubscriberExt as _;
    struct Lines;
    struct Text(String);
    impl tracing::field::Visit for Text {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            let meta = event.metadata();
            if meta.target().starts_with("farol")
                && let Some(node) = farol_agent::simulation::current()
            {
                let mut text = Text(format!("log {} {}", meta.level(), meta.target()));
                event.record(&mut text);
                node.world.say(&node.name, &text.0);
            }
        }
    }
    // Set once, before anything runs.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines));
}

/// A node that dies is no news.
fn quiet_crashes() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<farol_agent::simulation::Crash>() {
            usual(panic);
        }
    }));
}

fn broken(seed: u64, violations: &[String]) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    bail!("seed {seed} breaks {}\nto see it again: cargo xtask simulate --seed {seed}", violations.join("\n      and "))
}

#[expect(clippy::print_stdout, reason = "this is a program for a terminal")]
fn side_by_side(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let processes = thread::available_parallelism().map_or(1, |count| count.get() as u64).min(arguments.seeds.max(1));
    let (sender, lines) = mpsc::channel();
    let mut children = Vec::new();
    for first in 0..processes {
        let mut child = start(arguments, first, processes)?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let sender = sender.clone();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody listens any more only after a failure.
                let _ = sender.send(line);
            }
        });
        children.push(child);
    }
    drop(sender);
    let (mut done, mut said) = (0, Instant::now());
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (seed, count) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if count != "0" {
            stop(&mut children);
            return broken(seed.parse()?, &[words.next().unwrap_or_default().to_owned()]);
        }
        done += 1;
        if said.elapsed() >= Duration::from_secs(5) {
            said = Instant::now();
            println!("{done} of {} seeds hold, {:.0} s", arguments.seeds, begun.elapsed().as_secs_f64());
        }
    }
    for child in &mut children {
        if !child.wait()?.success() {
            stop(&mut children);
            bail!("a process of the simulation failed; what it said stands above");
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("All {done} seeds from {} hold, after {seconds:.0} s.", arguments.from);
    Ok(())
}

fn start(arguments: &Arguments, first: u64, processes: u64) -> Result<Child> {
    let seeds = arguments.seeds - first;
    Command::new(std::env::current_exe()?)
        .args(["--from", &(arguments.from + first).to_string(), "--seeds", &seeds.to_string()])
        .args(["--every", &processes.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start a process of the simulation")
}

fn stop(children: &mut [Child]) {
    for child in children {
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}
