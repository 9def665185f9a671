//! Programs that only the simulation's record knows.

use std::{future::Future, io};

use farol_protocol::action::Outcome;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

use super::{End, Ended, Feed, GRACE, Group, Program, Stop, stopped};
use crate::{fault, simulation};

/// What the real one does, with an entry in the record for the process.
pub async fn run<F>(
    program: &Program,
    deadline: Instant,
    stop: &mut watch::Receiver<Option<Stop>>,
    _feed: Option<&Feed>,
    record: impl FnOnce(Option<Group>) -> F,
) -> Ended
where
    F: Future<Output = bool>,
{
    let Some(node) = simulation::current() else {
        return Ended { end: End::SpawnFailed(io::ErrorKind::NotFound.into()), outcome: None, survivors: None };
    };
    let (effects, began) = (&node.world.effects, Instant::now());
    let command = program.words();
    node.world.say(&node.name, &format!("starts {command}"));
    let number = effects.begin(&node.name, &command);
    fault::point("agent.exec.spawned");
    let group = group(number);
    let recorded = record(Some(group.clone())).await;
    if recorded {
        effects.recorded(number);
    }
    fault::point("agent.exec.recorded");
    let end = if recorded {
        tokio::select! {
            status = effects.ended(number) => End::Exited(status),
            () = sleep_until(deadline) => End::TimedOut,
            why = stopped(stop) => End::Stopped(why),
        }
    } else {
        End::Unrecorded
    };
    let (code, gone) = match &end {
        End::Exited(status) => (status.code(), true),
        End::Unrecorded => (None, group.terminate(Duration::ZERO).await),
        _ => (None, group.terminate(GRACE).await),
    };
    Ended {
        end,
        outcome: Some(Outcome {
            exit_code: code,
            stdout: String::new(),
            stderr: String::new(),
            truncated: false,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..Outcome::default()
        }),
        survivors: if gone { None } else { Some(group) },
    }
}

fn group(number: usize) -> Group {
    let pgid = i32::try_from(number).unwrap_or(i32::MAX);
    Group { pgid, start: i64::from(pgid), session: 1, boot_id: "simulated".to_owned() }
}
