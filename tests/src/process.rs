//! Programs of this workspace as child processes that end with their owner.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// The folder of the binaries under test: that of the running program, or
/// `FAROL_BIN_DIR`.
///
/// # Errors
/// A binary is not there; the message says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("FAROL_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().context("find this program")?;
            let folder = own.parent().context("this program has no folder")?;
            // A test binary lives in `deps/` below the others.
            if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() }
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!("{} is not built; run `cargo build --bins` or `cargo xtask test`", path.display());
    }
    Ok(path)
}

/// Keeps this much of what a process says.
const LINES: usize = 2000;

/// A running program and what it has logged.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
    lines: watch::Receiver<usize>,
}

impl Process {
    /// Starts `command`; its standard error is its log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let stderr = child.stderr.take().context("no standard error")?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (count, lines) = watch::channel(0);
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() == LINES {
                    log.pop_front();
                }
                log.push_back(line);
                drop(log);
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { name: name.to_owned(), child, log, lines })
    }

    /// Its process id; none after its end.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has logged, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Waits for a JSON log line that `wanted` takes.
    ///
    /// # Errors
    /// It did not come in time, or the process ended first; its log is told.
    pub async fn wait_log<T>(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let found = timeout(limit, async {
            loop {
                for line in self.log() {
                    if let Some(found) = serde_json::from_str(&line).ok().as_ref().and_then(&wanted) {
                        return Some(found);
                    }
                }
                if self.lines.changed().await.is_err() {
                    return None;
                }
            }
        })
        .await;
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("{} ended before: {what}\n{}", self.name, self.log().join("\n")),
            Err(_) => bail!("{} did not say within {limit:?}: {what}\n{}", self.name, self.log().join("\n")),
        }
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not end within `limit`, or not well.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        let Some(id) = self.child.id() else { return Ok(()) };
        let pid = Pid::from_raw(i32::try_from(id)?).context("no process id")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("stop {}", self.name))?;
        match timeout(limit, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    bail!("{} ended with {status}\n{}", self.name, self.log().join("\n"));
                }
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                bail!("{} did not stop within {limit:?}\n{}", self.name, self.log().join("\n"))
            }
        }
    }

    /// Waits until SIGKILL ends it, which nobody here sent.
    ///
    /// # Errors
    /// It lives on after `limit`, or ended in another way; its log is told.
    pub async fn died(&mut self, limit: Duration) -> Result<()> {
        use std::os::unix::process::ExitStatusExt as _;

        let status = match self.wait(limit).await {
            Ok(status) => status,
            Err(error) => bail!("{error:#}\n{}", self.log().join("\n")),
        };
        if status.signal() != Some(Signal::KILL.as_raw()) {
            bail!("{} ended with {status}, not by SIGKILL\n{}", self.name, self.log().join("\n"));
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It did not within `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        timeout(limit, self.child.wait()).await.with_context(|| format!("{} did not end", self.name))?.context("wait")
    }
}

/// Runs a program to its end and answers what it printed.
///
/// # Errors
/// It failed; the message holds its standard error.
pub async fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().await.context("run a program")?;
    if !output.status.success() {
        bail!("{:?} ended with {}: {}", command.as_std(), output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}

/// Runs a program that prints one JSON document.
///
/// # Errors
/// It failed, or printed something else.
pub async fn json(command: &mut Command) -> Result<Value> {
    let text = output(command).await?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

/// A path as text.
#[must_use]
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a program that reads `input` from standard input to its end and prints
/// one JSON document.
///
/// # Errors
/// It failed, or printed something else; the message holds its standard error.
pub async fn json_with_input(command: &mut Command, input: &str) -> Result<Value> {
    use tokio::io::AsyncWriteExt as _;

    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("run a program")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes()).await.context("write to it")?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{:?} ended with {}: {}", command.as_std(), output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("not JSON")
}
