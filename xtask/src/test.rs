//! `cargo xtask test`: everything that must hold before a change lands.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::simulate;

/// Tools that Cargo installs, with the versions this workspace is tried with.
const CARGO_TOOLS: [(&str, &str); 2] = [("cargo-nextest", "0.9.143"), ("cargo-deny", "0.20.2")];
/// Debian packages, each with a program that shows it is there.
/// Without one of these its tests pass without having looked at anything.
const PACKAGES: [(&str, &str); 10] = [
    ("systemd-analyze", "systemd"),
    ("dbus-daemon", "dbus"),
    ("dash", "dash"),
    ("busybox", "busybox"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("visudo", "sudo"),
    ("nginx", "nginx-light"),
    ("sshd", "openssh-server"),
    ("postqueue", "postfix"),
];

/// Runs all of it.
///
/// # Errors
/// The first step that does not hold.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    tools()?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("lint", || cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    // The advisory database is not a package, so it cannot be had everywhere.
    step("deny", || cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    step("units", units)?;
    step("build", || cargo(&["build", "--workspace", "--bins", "--quiet"]))?;
    step("test", || cargo(&["nextest", "run", "--workspace", "--profile", "ci"]))?;
    step("simulate", || simulate::run(&simulate::Simulate { seeds: 500, from: 1, seed: None, log: false }))?;
    say(&format!("Everything holds, after {} s.", begun.elapsed().as_secs()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is a program for a terminal")]
fn say(line: &str) {
    println!("{line}");
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    say(&format!("==> {name}"));
    let begun = Instant::now();
    run().with_context(|| format!("step: {name}"))?;
    say(&format!("    {name}: {} s", begun.elapsed().as_secs()));
    Ok(())
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Runs Cargo in the workspace.
///
/// # Errors
/// It failed.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run_in_root(Command::new(cargo).args(arguments))
}

pub(crate) fn run_in_root(command: &mut Command) -> Result<()> {
    let status = command.current_dir(root()).stdin(Stdio::null()).status().context("start a program")?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Installs what is missing, or names it in one command.
fn tools() -> Result<()> {
    let there = |program: &str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        if !rustix::process::geteuid().is_root() {
            bail!("some tools are missing; install them with: sudo apt-get install --yes {}", missing.join(" "));
        }
        say(&format!("==> install {}", missing.join(" ")));
        run_in_root(Command::new("apt-get").args(["update", "--quiet=2"]))?;
        let install = ["install", "--yes", "--quiet=2", "--no-install-recommends"];
        run_in_root(Command::new("apt-get").args(install).args(&missing).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    for (tool, version) in CARGO_TOOLS {
        if !there(tool) {
            say(&format!("==> install {tool} {version}"));
            cargo(&["install", tool, "--locked", "--version", version])?;
        }
    }
    Ok(())
}

/// The systemd units are valid, checked against the programs just as they
/// will be installed.
fn units() -> Result<()> {
    let folder = root().join("systemd");
    let stage = tempfile::tempdir()?;
    let mut units = Vec::new();
    for entry in std::fs::read_dir(&folder).context("read systemd/")? {
        let path = entry?.path();
        let is_unit = path.extension().is_some_and(|kind| kind == "service" || kind == "timer");
        if !is_unit {
            continue;
        }
        // The verifier wants each program to exist; the workspace's own are
        // not installed here.
        let text = std::fs::read_to_string(&path)?
            .replace("/usr/local/bin/farol-agent", "/bin/true")
            .replace("/usr/local/bin/farol", "/bin/true")
            .replace("/usr/bin/farol-agent", "/bin/true")
            .replace("/usr/bin/farol", "/bin/true")
            .replace("/usr/bin/curl", "/bin/true");
        let staged = stage.path().join(path.file_name().context("a unit without a name")?);
        std::fs::write(&staged, text)?;
        units.push(staged);
    }
    if units.is_empty() {
        bail!("{} has no units", folder.display());
    }
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output()?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = complaints.lines().filter(|line| line.contains("farol")).collect();
    if !output.status.success() || !about_ours.is_empty() {
        bail!("systemd-analyze verify: {complaints}");
    }
    Ok(())
}
