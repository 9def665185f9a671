//! `farol-agent policy`: what the host's own file means, before it counts.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{PolicyArg, print, print_json};
use crate::{
    Error,
    policy::{Policy, sudoers},
};

/// Commands on the policy.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what the policy allows at which class, and who may sign
    Check(CheckArgs),
    /// Print the sudoers lines that the policy's root commands need
    Sudoers(SudoersArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    policy: PolicyArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SudoersArgs {
    #[command(flatten)]
    policy: PolicyArg,
    /// The user that the agent runs as.
    #[arg(long, value_name = "NAME", default_value = "farol-agent")]
    user: String,
}

pub(super) fn run(command: &PolicyCommand) -> Result<(), Error> {
    match command {
        PolicyCommand::Check(args) => check(&args.policy.policy, args.json),
        PolicyCommand::Sudoers(args) => print_sudoers(&args.policy.policy, &args.user),
    }
}

fn load(path: &Path) -> Result<Policy, Error> {
    Policy::load(path)?.ok_or_else(|| {
        Error::Usage(format!(
            "{} does not exist, so this host is watched and every effect is refused; write it to allow some",
            path.display()
        ))
    })
}

fn check(path: &Path, as_json: bool) -> Result<(), Error> {
    let mut summary = load(path)?.summary();
    summary.warnings.extend(exposed(path));
    if as_json {
        return print_json(&json!({"policy": path, "summary": summary}));
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}: valid; {}",
        path.display(),
        if summary.read_only {
            "read-only, every effect is refused".to_owned()
        } else {
            format!("up to {} runs without signatures", summary.max_unsigned_class)
        }
    );
    for entry in &summary.allowed {
        let signatures = match entry.signatures {
            0 => "unsigned".to_owned(),
            1 => "1 signature".to_owned(),
            more => format!("{more} signatures"),
        };
        let _ = writeln!(text, "  {}  {signatures:<12}  {}: {}", entry.class, entry.what, entry.runs);
    }
    if summary.allowed.is_empty() {
        let _ = writeln!(text, "  nothing is listed, so every effect is refused");
    }
    for signer in &summary.operators {
        let signs = if signer.signs.is_some() { "may sign" } else { "may not sign" };
        let _ =
            writeln!(text, "  {} ({}) {signs} with {}", signer.name, signer.roles.join(", "), signer.keys.join(", "));
    }
    for warning in &summary.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    print(&text)
}

fn print_sudoers(path: &Path, user: &str) -> Result<(), Error> {
    let lines = sudoers::fragment(&load(path)?, user).map_err(|wrong| {
        Error::Usage(format!("nothing is written, for sudoers cannot say this exactly: {}", wrong.join("; ")))
    })?;
    if lines.is_empty() {
        return print("# The policy runs nothing through sudo.\n");
    }
    print(&format!(
        "# Written by `farol-agent policy sudoers`. Check it with `visudo -cf FILE`, then:\n\
         # install -m 0440 -o root -g root FILE /etc/sudoers.d/farol-agent\n{lines}"
    ))
}

/// Who else could change the file: the one that owns it, or whoever may write
/// its folder.
#[cfg(unix)]
fn exposed(path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;

    let mut warnings = Vec::new();
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    for (what, place) in [("file", path), ("folder", folder.as_path())] {
        let Ok(found) = fs::metadata(place) else { continue };
        if found.uid() != 0 {
            warnings.push(format!(
                "the {what} {} belongs to user {}, who can change the policy; run: chown root {}",
                place.display(),
                found.uid(),
                place.display()
            ));
        }
        // In a sticky folder nobody replaces what is another's.
        if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
            warnings.push(format!(
                "the {what} {} can be written by others than its owner (mode {:04o}); run: chmod go-w {}",
                place.display(),
                found.mode() & 0o7777,
                place.display()
            ));
        }
    }
    warnings
}

#[cfg(not(unix))]
fn exposed(_path: &Path) -> Vec<String> {
    Vec::new()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_policy_in_a_folder_of_everybody_is_warned_about_and_a_missing_one_is_wrong_usage() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.yaml");
        let missing = check(&path, false).expect_err("missing");
        assert_eq!(missing.exit_code(), 2);
        fs::write(&path, "version: 1\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(exposed(&path).iter().any(|warning| warning.contains("chmod go-w")), "{:?}", exposed(&path));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(!exposed(&path).iter().any(|warning| warning.contains("chmod")));

        fs::write(&path, "version: 1\ncommands: [{command: sudo, args: [-n, /bin/x, '**']}]\n").expect("written");
        let wide = print_sudoers(&path, "farol-agent").expect_err("too wide");
        assert_eq!(wide.exit_code(), 2);
        assert!(wide.sentence().contains("list each command"), "{}", wide.sentence());
        assert!(check(&path, true).is_ok());
    }
}
