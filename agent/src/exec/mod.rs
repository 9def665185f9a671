//! Runs one program: an argument vector without a shell, a clean environment,
//! its own process group, bounded output, and an end that always comes.

mod feed;
mod group;
mod output;
#[cfg(farol_simulation)]
mod simulated;
mod spawn;

use std::{future::Future, io, process::ExitStatus, time::Duration};

use farol_protocol::{action::Outcome, frame::OutputStream};
use tokio::{
    process::Child,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

pub use feed::Feed;
pub use group::Group;
pub use output::Bounds;
#[cfg(farol_simulation)]
pub use simulated::run;
pub use spawn::{PATH, Program, resolve};

/// How long a group has between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// How long pipes may stay open after the program itself ended.
const PIPE_GRACE: Duration = Duration::from_secs(1);

/// Why a running program is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A person cancelled the action.
    Cancel,
    /// The agent ends.
    Shutdown,
}

/// How a program ended.
#[derive(Debug)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// Killed at its time limit.
    TimedOut,
    /// Killed from outside.
    Stopped(Stop),
    /// It never began.
    SpawnFailed(io::Error),
    /// Killed at once because its group could not be recorded.
    Unrecorded,
}

/// What a program left.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// Its output; none when it never began.
    pub outcome: Option<Outcome>,
    /// The group, if some of it outlived SIGKILL.
    pub survivors: Option<Group>,
}

/// Runs `program` until it ends, `deadline` passes or `stop` says so.
///
/// `record` is called with the new process group before anything else happens
/// and says whether it could be recorded. Between the spawn and the end of
/// `record` the program already runs: a crash of the agent in that window
/// leaves a process that the journal does not know. The window is one commit
/// long; closing it would need a process that waits before its exec.
///
/// Who watches gets what it writes through `feed`.
#[cfg(not(farol_simulation))]
pub async fn run<F>(
    program: &Program,
    deadline: Instant,
    stop: &mut watch::Receiver<Option<Stop>>,
    feed: Option<&Feed>,
    record: impl FnOnce(Option<Group>) -> F,
) -> Ended
where
    F: Future<Output = bool>,
{
    let began = Instant::now();
    let mut child = match program.spawn() {
        Ok(child) => child,
        Err(error) => return Ended { end: End::SpawnFailed(error), outcome: None, survivors: None },
    };
    let group = child.id().and_then(Group::of);
    crate::fault::point("agent.exec.spawned");
    let chunks = |stream| feed.map(|feed| feed::Chunks::new(feed.clone(), stream));
    let stdout = output::capture(child.stdout.take(), program.bounds, chunks(OutputStream::Stdout));
    let stderr = output::capture(child.stderr.take(), program.bounds, chunks(OutputStream::Stderr));

    let recorded = record(group.clone()).await;
    crate::fault::point("agent.exec.recorded");
    let end = if recorded {
        tokio::select! {
            status = child.wait() => match status {
                Ok(status) => End::Exited(status),
                Err(error) => End::SpawnFailed(error),
            },
            () = sleep_until(deadline) => End::TimedOut,
            why = stopped(stop) => End::Stopped(why),
        }
    } else {
        End::Unrecorded
    };

    let grace = if matches!(end, End::Unrecorded) { Duration::ZERO } else { GRACE };
    let mut gone = true;
    let code = match &end {
        End::Exited(status) => status.code(),
        _ => {
            gone = terminate(&mut child, group.as_ref(), grace).await;
            None
        }
    };
    let pipes = async { tokio::join!(stdout.ended(), stderr.ended()) };
    if timeout(PIPE_GRACE, pipes).await.is_err()
        && let Some(group) = &group
    {
        // A descendant holds the pipes: what stayed in the group dies, what
        // left it as a daemon is let go.
        gone = group.terminate(Duration::ZERO).await;
    }
    let (stdout, cut_out) = stdout.take();
    let (stderr, cut_err) = stderr.take();
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ended {
        end,
        outcome: Some(Outcome {
            exit_code: code,
            stdout,
            stderr,
            truncated: cut_out || cut_err,
            duration_ms,
            ..Outcome::default()
        }),
        survivors: if gone { None } else { group },
    }
}

/// Waits until somebody stops it.
pub(crate) async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    let why = stop.wait_for(Option::is_some).await.map(|why| *why);
    match why {
        Ok(why) => why.unwrap_or(Stop::Shutdown),
        // Nobody is left who could stop it.
        Err(_) => std::future::pending().await,
    }
}

/// Ends the whole group and reaps the leader; whether all of it is gone.
async fn terminate(child: &mut Child, group: Option<&Group>, grace: Duration) -> bool {
    let Some(group) = group else {
        return child.kill().await.is_ok();
    };
    let leader = async {
        // Reaping must not wait for the group: a zombie leader is part of it.
        let _ = child.wait().await;
    };
    let (gone, ()) = tokio::join!(group.terminate(grace), async {
        // A leader that cannot be killed must not hold the agent.
        let _ = timeout(grace + group::KILL_WAIT, leader).await;
    });
    gone
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn program(command: &str, args: &[&str]) -> Program {
        Program::new(command, args.iter().map(|&arg| arg.to_owned()).collect(), None)
    }

    async fn sh(script: &str, limit: Duration) -> Ended {
        let (_keep, mut stop) = watch::channel(None);
        run(&program("sh", &["-c", script]), Instant::now() + limit, &mut stop, None, |_| async { true }).await
    }

    const LONG: Duration = Duration::from_secs(30);

    fn outcome(ended: &Ended) -> &Outcome {
        ended.outcome.as_ref().expect("it ran")
    }

    #[tokio::test]
    async fn exit_code_and_both_outputs_are_kept_apart() {
        let ended = sh("echo out; echo err >&2; exit 3", LONG).await;
        assert!(matches!(ended.end, End::Exited(_)));
        let outcome = outcome(&ended);
        assert_eq!((outcome.exit_code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(3), "out\n", "err\n"));
        assert!(!outcome.truncated);
    }

    #[tokio::test]
    async fn a_signal_leaves_no_exit_code() {
        let ended = sh("kill -9 $$", LONG).await;
        assert!(matches!(ended.end, End::Exited(_)));
        assert_eq!(outcome(&ended).exit_code, None);
    }

    #[tokio::test]
    async fn the_environment_holds_nothing_of_the_agent() {
        let ended = sh("env | sort; pwd; cat", LONG).await;
        // What sh itself adds.
        let own = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
        let lines: Vec<&str> =
            outcome(&ended).stdout.lines().filter(|line| !own.iter().any(|name| line.starts_with(name))).collect();
        assert_eq!(lines, ["HOME=/", "LANG=C.UTF-8", &format!("PATH={PATH}"), "/"]);
    }

    #[tokio::test]
    async fn long_output_keeps_head_and_tail_and_never_blocks_the_program() {
        let ended = sh("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last", LONG).await;
        let outcome = outcome(&ended);
        assert_eq!(outcome.exit_code, Some(0));
        assert!(outcome.truncated);
        assert!(outcome.stdout.starts_with("first\n") && outcome.stdout.ends_with("\nlast\n"));
        assert!(outcome.stdout.len() < 70_000, "{}", outcome.stdout.len());
    }

    #[tokio::test]
    async fn the_time_limit_kills_grandchildren_that_ignore_sigterm() {
        let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 300' & echo $$; wait; sleep 300";
        let ended = sh(script, Duration::from_millis(400)).await;
        assert!(matches!(ended.end, End::TimedOut));
        assert_eq!(ended.survivors, None);
        let pids: Vec<i32> = outcome(&ended).stdout.lines().map(|pid| pid.parse().expect("a pid")).collect();
        assert_eq!(pids.len(), 2);
        for pid in pids {
            assert!(!group::runs(pid), "{pid} still runs");
        }
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipes_does_not_hold_the_agent() {
        let began = Instant::now();
        let ended = sh("sleep 300 & echo $!", LONG).await;
        assert!(matches!(ended.end, End::Exited(_)));
        assert!(began.elapsed() < Duration::from_secs(10));
        let pid: i32 = outcome(&ended).stdout.trim().parse().expect("a pid");
        assert!(!group::runs(pid), "{pid} still runs");
    }

    #[tokio::test]
    async fn a_cancel_ends_it_and_a_program_that_obeys_sigterm_needs_no_grace() {
        let (send, mut stop) = watch::channel(None);
        let program = program("sleep", &["300"]);
        let (spawned, when_spawned) = tokio::sync::oneshot::channel();
        let running =
            run(&program, Instant::now() + LONG, &mut stop, None, |group| async { spawned.send(group).is_ok() });
        let (ended, group) = tokio::join!(running, async {
            let group = when_spawned.await.expect("spawned").expect("a group");
            send.send(Some(Stop::Cancel)).expect("it listens");
            group
        });
        assert!(matches!(ended.end, End::Stopped(Stop::Cancel)));
        assert!(!group::runs(group.pgid));
    }

    #[tokio::test]
    async fn a_program_whose_group_cannot_be_recorded_is_killed_at_once() {
        let (_keep, mut stop) = watch::channel(None);
        let program = program("sleep", &["300"]);
        let ended = run(&program, Instant::now() + LONG, &mut stop, None, |_| async { false }).await;
        assert!(matches!(ended.end, End::Unrecorded));
        assert_eq!(ended.survivors, None);
    }

    #[tokio::test]
    async fn a_missing_program_is_a_failed_spawn() {
        let (_keep, mut stop) = watch::channel(None);
        let missing = program("no-such-program-here", &[]);
        let ended = run(&missing, Instant::now() + LONG, &mut stop, None, |_| async { true }).await;
        assert!(matches!(ended.end, End::SpawnFailed(_)));
    }
}
