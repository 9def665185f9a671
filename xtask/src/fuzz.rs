//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, for a bounded time.
//!
//! The test suite runs the same targets over seeded inputs; this finds what
//! those do not reach.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use farol_fuzz::{TARGETS, seeds};

use crate::test::root;

/// Runs one target, or each in turn, for so many seconds.
///
/// # Errors
/// `cargo fuzz` is not installed, there is no such target, or one of them
/// found an input: the message says which and where it is.
pub(crate) fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    let names: Vec<&str> =
        TARGETS.iter().map(|known| known.name).filter(|name| target.is_none_or(|wanted| wanted == *name)).collect();
    if names.is_empty() {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!("there is no such fuzz target; use one of {}", known.join(", "));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let there = Command::new(&cargo).args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success());
    if !there {
        bail!("cargo-fuzz is not installed; install it with: cargo install cargo-fuzz --locked");
    }
    let folder = root().join("fuzz");
    for name in names {
        sow(&folder.join("corpus").join(name), name)?;
        let needs_agent: &[&str] = if ["patch", "policy"].contains(&name) { &[] } else { &["--no-default-features"] };
        let status = Command::new(&cargo)
            .args(["fuzz", "run", "--features", "fuzzer"])
            .args(needs_agent)
            .args([name, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .arg("-max_len=65536")
            // The instrumentation needs flags that a stable compiler keeps to itself.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(root())
            .status()
            .context("start cargo fuzz")?;
        if !status.success() {
            bail!(
                "the target {name} does not hold; its input is in fuzz/artifacts/{name}: move it to \
                 fuzz/regressions/{name}/ under a name that says what it shows, and mend what it shows"
            );
        }
    }
    Ok(())
}

/// Puts the seeds where the fuzzer begins.
fn sow(folder: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for (index, seed) in seeds::of(name).into_iter().chain(seeds::regressions(name)).enumerate() {
        fs::write(folder.join(format!("seed-{index:03}")), seed).context("write a seed")?;
    }
    Ok(())
}
