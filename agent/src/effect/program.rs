//! Effects that are programs.

use farol_protocol::action::{FinalState, ReasonCode};

use super::{Course, Halt, Over, Remains};
use crate::{
    exec::{self, End, Ended, Program, Stop},
    journal::Ending,
    text::Detail,
};

/// `command.exec`.
pub(crate) struct Run(pub(crate) Program);

impl Run {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let ended = course.spawn(&self.0).await;
        course.conclude(ended)
    }
}

impl Course<'_> {
    /// Runs a program to its end. Its group is journalled as soon as there is
    /// one.
    pub(crate) async fn spawn(&mut self, program: &Program) -> Ended {
        let stopped = *self.stop.borrow();
        if let Some(why) = stopped {
            return Ended { end: End::Stopped(why), outcome: None, survivors: None };
        }
        let (journal, action_id) = (self.journal, self.action_id);
        exec::run(program, self.deadline, &mut self.stop, self.feed.as_ref(), |group| async move {
            let Some(group) = group else {
                return true;
            };
            match journal.record_group(action_id, &group).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%action_id, "a process is killed again: {}", error.sentence());
                    false
                }
            }
        })
        .await
    }

    /// What a program's end means for its action.
    pub(crate) fn conclude(&self, ended: Ended) -> Over {
        let say = |detail: Detail, values: &[(&str, &str)]| Some(self.say(detail, values));
        let (state, reason, detail) = match &ended.end {
            End::Exited(status) if status.success() => (FinalState::Done, None, None),
            End::Exited(_) => (FinalState::Failed, None, None),
            End::TimedOut => halt(self.halted(Halt::TimedOut)),
            End::Stopped(why @ (Stop::Cancel | Stop::Shutdown)) => halt(self.halted(Halt::Stopped(*why))),
            End::SpawnFailed(error) => (
                FinalState::Failed,
                Some(ReasonCode::SpawnFailed),
                say(Detail::SpawnFailed, &[("error", &error.to_string())]),
            ),
            End::Unrecorded => {
                (FinalState::Interrupted, Some(ReasonCode::JournalFailed), say(Detail::GroupUnrecorded, &[]))
            }
        };
        let outlived = |group: &exec::Group| self.say(Detail::Survivors, &[("pgid", &group.pgid.to_string())]);
        let detail = ended.survivors.as_ref().map(outlived).or(detail);
        Over {
            ending: Ending { state, reason, detail, required_class: None, outcome: ended.outcome },
            remains: ended.survivors.map(Remains::Group),
        }
    }
}

fn halt(ending: Ending) -> (FinalState, Option<ReasonCode>, Option<String>) {
    (ending.state, ending.reason, ending.detail)
}
