//! The fixed read-only programs that some probes ask.
//!
//! Nothing of what a program is given comes from an assignment, except where
//! the probe has made sure of its form.

use std::{io, path::Path, process::Stdio, sync::Arc};

use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    time::{Instant, timeout_at},
};

use super::{Probing, Seen, aside::Held, text::Text};
use crate::{
    exec::{PATH, resolve},
    text::cut,
};

/// How much of a program's output is read, in bytes.
const MOST_OUTPUT: u64 = 4 << 20;
/// How much of its complaints is kept, in bytes.
const MOST_ERRORS: u64 = 4 * 1024;

/// What a program wrote, and how it ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    /// None when a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Whether it wrote more than was read.
    pub(super) cut: bool,
}

impl Output {
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The first line of its complaints, or of what it wrote.
    pub(super) fn complaint(&self) -> String {
        let first = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(|line| cut(line, 200));
        first(&self.stderr).or_else(|| first(&self.stdout)).unwrap_or_else(|| {
            format!("exit {}", self.code.map_or_else(|| "by a signal".to_owned(), |c| c.to_string()))
        })
    }
}

/// Runs a program of this host and waits for its end, within the check's limit.
pub(super) async fn run(probing: Probing, name: &str, args: &[&str]) -> Result<Output, Box<Seen>> {
    run_until(probing, Instant::now() + probing.limit, None, name, args).await
}

/// The same until `deadline`; `held` is let go when the program has ended.
pub(super) async fn run_until(
    probing: Probing,
    deadline: Instant,
    held: Option<Arc<Held>>,
    name: &str,
    args: &[&str],
) -> Result<Output, Box<Seen>> {
    let Some(program) = resolve(name) else {
        return Err(Box::new(probing.not_configured(Text::NoProgram, &[("program", name)])));
    };
    match capture(&program, args, deadline, held).await {
        Ok(Some(output)) => Ok(output),
        Ok(None) => Err(Box::new(probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]))),
        Err(error) => {
            let why = error.to_string();
            Err(Box::new(probing.unknown(Text::ProgramFailed, &[("program", name), ("why", &why)])))
        }
    }
}

/// None when the deadline passed first; the program is killed then.
async fn capture(
    program: &Path,
    args: &[&str],
    deadline: Instant,
    held: Option<Arc<Held>>,
) -> io::Result<Option<Output>> {
    let mut child = Command::new(program)
        .args(args)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("no pipes"));
    };
    let whole = async {
        let said = async {
            let mut bytes = Vec::new();
            (&mut stdout).take(MOST_OUTPUT).read_to_end(&mut bytes).await?;
            let rest = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await?;
            Ok::<_, io::Error>((bytes, rest > 0))
        };
        let complained = async {
            let mut bytes = Vec::new();
            (&mut stderr).take(MOST_ERRORS).read_to_end(&mut bytes).await?;
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            Ok::<_, io::Error>(bytes)
        };
        let (said, complained) = tokio::join!(said, complained);
        let ((stdout, cut), stderr) = (said?, complained?);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = child.wait().await?.code();
        Ok(Output { code, stdout: text(&stdout), stderr: text(&stderr), cut })
    };
    let ended = timeout_at(deadline, whole).await;
    if let Ok(output) = ended {
        return output.map(Some);
    }
    // Neither what hangs in the kernel nor what runs as root can be killed.
    let _ = child.start_kill();
    tokio::spawn(async move {
        let _ = child.wait().await;
        drop(held);
    });
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn sh(script: &str, limit: Duration) -> Option<Output> {
        capture(Path::new("/bin/sh"), &["-c", script], Instant::now() + limit, None).await.expect("starts")
    }

    #[tokio::test]
    async fn both_streams_are_read_and_the_end_is_told() {
        let output = sh("echo said; echo no >&2; exit 3", Duration::from_secs(20)).await.expect("in time");
        assert_eq!((output.code, output.stdout.as_str(), output.complaint().as_str()), (Some(3), "said\n", "no"));
        assert_eq!(sh("exit 4", Duration::from_secs(20)).await.expect("in time").complaint(), "exit 4");
    }

    #[tokio::test]
    async fn what_is_too_long_is_cut_and_said_to_be() {
        let output = sh("head -c 5000000 /dev/zero", Duration::from_secs(60)).await.expect("in time");
        assert!(output.cut && output.succeeded());
    }

    #[tokio::test]
    async fn the_right_to_look_goes_with_a_program_that_does_not_end() {
        use super::super::aside::hold;

        let held = Arc::new(hold("program.rs").await);
        let deadline = Instant::now() + Duration::from_millis(50);
        let ended = capture(Path::new("/bin/sh"), &["-c", "exec sleep 300"], deadline, Some(held)).await;
        assert!(ended.expect("starts").is_none());
        // Nobody else ran on this thread since, so it is not known to have ended.
        let mut next = std::pin::pin!(hold("program.rs"));
        assert!(futures_now(next.as_mut()).is_none(), "another may start while it lives");
        next.await;
    }

    /// What a future says when it is asked once.
    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_given_up() {
        assert!(sh("exec sleep 300", Duration::from_millis(50)).await.is_none());
    }
}
