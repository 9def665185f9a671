//! `cargo xtask dist`: the two programs as they are installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    bench::say,
    test::{cargo, root, run_in_root},
};

/// Builds both and puts them side by side in `target/dist`.
///
/// # Errors
/// One of them does not build.
pub(crate) fn run() -> Result<()> {
    say("Building the coordinator …");
    cargo(&["build", "--quiet", "--release", "--package", "farol-coordinator", "--bins"])?;
    say("Building the agent …");
    let agent = agent()?;
    let folder = root().join("target/dist");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for from in [root().join("target/release/farol"), agent] {
        let to = folder.join(from.file_name().context("a program without a name")?);
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        // Line tables are for profiles; a back-trace names functions without them.
        run_in_root(Command::new("strip").arg("--strip-debug").arg(&to)).context("strip comes with binutils")?;
        let bytes = fs::metadata(&to)?.len();
        #[expect(clippy::cast_precision_loss, reason = "a size in megabytes")]
        let megabytes = bytes as f64 / 1e6;
        say(&format!("{} ({megabytes:.2} MB)", to.display()));
    }
    Ok(())
}

/// Builds the agent for hosts: small rather than fast, and without the tables
/// for unwinding, since it aborts on a panic. In a folder of its own, so that
/// its flags build nothing else anew.
///
/// # Errors
/// It does not build.
pub(crate) fn agent() -> Result<PathBuf> {
    let folder = root().join("target/agent");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--profile", "dist", "--package", "farol-agent", "--bins"])
        .arg("--target-dir")
        .arg(&folder);
    // Options of lld, which is this target's linker unless somebody chose another.
    if cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))
        && ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].iter().all(|name| std::env::var_os(name).is_none())
    {
        command.env("CARGO_ENCODED_RUSTFLAGS", link_flags(&root()));
    }
    run_in_root(&mut command)?;
    Ok(folder.join("dist/farol-agent"))
}

/// In Cargo's encoding, since the folder's name may hold a space.
fn link_flags(root: &Path) -> String {
    let script = format!("-Clink-arg=-Wl,-T,{}", root.join("agent/link/no-unwind-tables.ld").display());
    ["-Clink-arg=-Wl,--icf=all", "-Clink-arg=-Wl,--no-eh-frame-hdr", &script].join("\u{1f}")
}
