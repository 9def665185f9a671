//! From a command to a process.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use super::output::Bounds;

/// Where bare names are looked up, whatever the agent's own environment says.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    command: String,
    args: Vec<String>,
    cwd: PathBuf,
    pub(super) bounds: Bounds,
}

impl Program {
    /// `command` is an absolute path or a bare name; `cwd` is `/` when absent.
    #[must_use]
    pub fn new(command: impl Into<String>, args: Vec<String>, cwd: Option<&str>) -> Self {
        Self { command: command.into(), args, cwd: cwd.unwrap_or("/").into(), bounds: Bounds::default() }
    }

    /// The same, with other bounds on what is kept of its output.
    #[must_use]
    pub fn keeping(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// What runs: the file its command stands for.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Command and arguments, joined by blanks.
    #[cfg(farol_simulation)]
    pub(super) fn words(&self) -> String {
        [&[self.command.clone()], self.args.as_slice()].concat().join(" ")
    }

    pub(super) fn spawn(&self) -> io::Result<Child> {
        let path = resolve(&self.command)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{}` is not in {PATH}", self.command)))?;
        let mut command = Command::new(path);
        command
            .args(&self.args)
            .current_dir(&self.cwd)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("HOME", "/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        command.process_group(0);
        command.spawn()
    }
}

/// The file a command stands for: an absolute path as written, a bare name by
/// the fixed [`PATH`].
#[must_use]
pub fn resolve(command: &str) -> Option<PathBuf> {
    if command.starts_with('/') {
        return Some(command.into());
    }
    if command.is_empty() || command.contains('/') {
        return None;
    }
    PATH.split(':').map(|folder| Path::new(folder).join(command)).find(|path| is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}
