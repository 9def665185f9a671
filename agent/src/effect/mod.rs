//! How each kind of order takes its effect.
//!
//! Programs, files, the service manager and the container engine share one
//! set of rules, which [`Course`] holds: nothing before the journal has it, an
//! end that always comes, and a cancel that reaches it.

mod container;
#[cfg(test)]
pub(crate) mod docker;
mod file;
mod logs;
mod program;
mod remediation;
mod service;
mod systemd;
mod work;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use farol_protocol::{
    ActionId, Language,
    action::{FileOutcome, FinalState, Outcome, ReasonCode},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};

pub(crate) use self::{
    container::{
        Container, Seen as ContainerSeen, State as ContainerState, is_name as is_container_name,
        list as list_containers, look as look_at_container,
    },
    file::{Apply, Diff, Kept, Rollback, clean_up},
    logs::{Logs, Source as LogsSource, epoch},
    program::Run,
    remediation::{Look, Remediation, Step as RemediationStep, What as RemediationWhat},
    service::{How, Service},
    systemd::{Bus, Unit, unit_name},
    work::Work,
};
#[cfg(test)]
pub(crate) use self::{file::Record, systemd::fake as systemd_for_tests};
use crate::{
    exec::{Feed, Group, Stop, stopped},
    journal::{Ending, Journal},
    text::Detail,
};

/// How long an effect in this process may take to notice that it is over.
const NOTICE: Duration = Duration::from_secs(2);

/// The means of this host that effects use.
#[derive(Debug, Clone)]
pub struct Means {
    /// Where content that was replaced is kept.
    pub files: PathBuf,
    /// The container engine's socket.
    pub docker_socket: PathBuf,
}

/// What one effect runs under.
pub(crate) struct Course<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) action_id: ActionId,
    pub(crate) deadline: Instant,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
    pub(crate) language: Language,
    pub(crate) feed: Option<Feed>,
}

/// What of an effect outlives its end. Until it is gone no other begins.
pub(crate) enum Remains {
    /// Processes that SIGKILL did not end.
    Group(Group),
    /// A file operation that hangs in the kernel.
    Task(JoinHandle<()>),
}

/// How an effect ended.
pub(crate) struct Over {
    pub(crate) ending: Ending,
    pub(crate) remains: Option<Remains>,
}

impl From<Ending> for Over {
    fn from(ending: Ending) -> Self {
        Self { ending, remains: None }
    }
}

/// Why an effect ends before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    TimedOut,
    Stopped(Stop),
}

/// A reason in words, before the language is known.
#[derive(Debug, Clone)]
pub(crate) struct Why {
    pub(crate) state: FinalState,
    pub(crate) reason: Option<ReasonCode>,
    pub(crate) detail: Detail,
    pub(crate) values: Vec<(&'static str, String)>,
}

impl Why {
    pub(crate) const fn failed(detail: Detail, values: Vec<(&'static str, String)>) -> Self {
        Self { state: FinalState::Failed, reason: None, detail, values }
    }

    pub(crate) const fn refused(reason: ReasonCode, detail: Detail, values: Vec<(&'static str, String)>) -> Self {
        Self { state: FinalState::Refused, reason: Some(reason), detail, values }
    }

    pub(crate) fn say(&self, language: Language) -> String {
        let values: Vec<(&str, &str)> = self.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.detail.say(language, &values)
    }
}

impl Course<'_> {
    pub(crate) fn say(&self, detail: Detail, values: &[(&str, &str)]) -> String {
        detail.say(self.language, values)
    }

    /// An end with its reason.
    pub(crate) fn because(&self, why: &Why) -> Ending {
        Ending {
            state: why.state,
            reason: why.reason,
            detail: Some(why.say(self.language)),
            required_class: None,
            outcome: None,
        }
    }

    /// The end of an effect that was halted.
    pub(crate) fn halted(&self, halt: Halt) -> Ending {
        let (state, reason, detail) = match halt {
            Halt::TimedOut => (FinalState::TimedOut, None, None),
            Halt::Stopped(Stop::Cancel) => (FinalState::Cancelled, None, None),
            Halt::Stopped(Stop::Shutdown) => {
                (FinalState::Interrupted, Some(ReasonCode::AgentRestarted), Some(self.say(Detail::AgentRestarted, &[])))
            }
        };
        Ending { state, reason, detail, required_class: None, outcome: None }
    }

    /// Waits for `work` until its time is over. Dropping it must be harmless.
    pub(crate) async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            why = stopped(&mut self.stop) => Err(Halt::Stopped(why)),
            done = work => Ok(done),
            () = sleep_until(self.deadline) => Err(Halt::TimedOut),
        }
    }

    /// Runs what may block in the kernel aside. It asks its [`Gate`] before
    /// the step that cannot be undone, and what was halted before that has had
    /// no effect.
    pub(crate) async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Gate) -> Result<T, Stuck> + Send + 'static,
    ) -> Result<T, Box<Over>> {
        let gate = Arc::new(Gate::default());
        let own = Arc::clone(&gate);
        let mut task = spawn_blocking(move || work(&own));
        let halt = match self.within(&mut task).await {
            Ok(done) => return self.settle(done, None),
            Err(halt) => halt,
        };
        let passed = !gate.shut();
        if let Ok(done) = timeout(NOTICE, &mut task).await {
            return self.settle(done, Some(halt));
        }
        let ending = if passed {
            let detail = self.say(Detail::FileHangs, &[]);
            Ending { state: FinalState::Interrupted, detail: Some(detail), ..self.halted(halt) }
        } else {
            self.halted(halt)
        };
        let rest = tokio::spawn(async move {
            // Its result came too late to matter.
            let _ = task.await;
        });
        Err(Box::new(Over { ending, remains: Some(Remains::Task(rest)) }))
    }

    fn settle<T>(
        &self,
        done: Result<Result<T, Stuck>, tokio::task::JoinError>,
        halt: Option<Halt>,
    ) -> Result<T, Box<Over>> {
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Stuck::Halted)) => Err(Box::new(self.halted(halt.unwrap_or(Halt::TimedOut)).into())),
            Ok(Err(Stuck::Because(why))) => Err(Box::new(self.because(&why).into())),
            Err(error) => {
                tracing::error!(action_id = %self.action_id, "an effect ended early: {error}");
                let values = vec![("error", error.to_string())];
                let why = Why { state: FinalState::Interrupted, ..Why::failed(Detail::EffectBroke, values) };
                Err(Box::new(self.because(&why).into()))
            }
        }
    }
}

/// Why work aside did not come to its end.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// It was asked to stop and had no effect.
    Halted,
    /// For this reason.
    Because(Why),
}

impl From<Why> for Stuck {
    fn from(why: Why) -> Self {
        Self::Because(why)
    }
}

/// Decides between an effect that takes its last step and somebody who stops
/// it: only one of them gets through.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU8);

const PASSED: u8 = 1;
const SHUT: u8 = 2;

impl Gate {
    /// Goes through, once for all; an error when it was shut before.
    pub(crate) fn pass(&self) -> Result<(), Stuck> {
        match self.0.compare_exchange(0, PASSED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) | Err(PASSED) => Ok(()),
            Err(_) => Err(Stuck::Halted),
        }
    }

    /// Lets nobody through any more; false when somebody went.
    fn shut(&self) -> bool {
        self.0.compare_exchange(0, SHUT, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// An effect that succeeded without a process.
pub(crate) fn done(stdout: String, file: Option<FileOutcome>, began: Instant) -> Ending {
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ending {
        state: FinalState::Done,
        reason: None,
        detail: None,
        required_class: None,
        outcome: Some(Outcome { stdout, duration_ms, file, ..Outcome::default() }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Work that passes its gate or not, says so, and then hangs until it is
    /// let go.
    async fn hang(pass: bool, halt: Option<Stop>) -> (Over, mpsc::Sender<()>) {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("journal.db")).await.expect("opens");
        let (stop, stopped) = watch::channel(None);
        let limit = if halt.is_some() { 60_000 } else { 100 };
        let mut course = Course {
            journal: &journal,
            action_id: ActionId::new(),
            deadline: Instant::now() + Duration::from_millis(limit),
            stop: stopped,
            language: Language::En,
            feed: None,
        };
        let (go, going) = mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let work = course.blocking(move |gate| {
            if pass {
                gate.pass()?;
            }
            let _ = begun.send(());
            let _ = going.recv();
            gate.pass()
        });
        let (done, ()) = tokio::join!(work, async {
            begins.await.expect("it begins");
            stop.send_replace(halt);
        });
        (*done.expect_err("halted"), go)
    }

    #[tokio::test]
    async fn work_that_hangs_before_its_last_step_is_halted_and_nothing_begins_until_it_ends() {
        for (halt, state) in [(Some(Stop::Cancel), FinalState::Cancelled), (None, FinalState::TimedOut)] {
            let (over, go) = hang(false, halt).await;
            assert_eq!(over.ending.state, state);
            let Some(Remains::Task(task)) = over.remains else { panic!("it still runs") };
            assert!(!task.is_finished());
            drop(go);
            task.await.expect("it ends");
        }
    }

    #[tokio::test]
    async fn work_that_hangs_in_its_last_step_is_interrupted_for_nobody_knows() {
        let (over, _go) = hang(true, Some(Stop::Cancel)).await;
        assert_eq!(over.ending.state, FinalState::Interrupted);
        assert!(over.ending.detail.is_some_and(|detail| detail.contains("wholly old or wholly new")));
        assert!(matches!(over.remains, Some(Remains::Task(_))));
    }
}
