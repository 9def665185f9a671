//! `remediation.run` and `remediation.look`: steps under one approval.
//!
//! Nothing is changed before every step that must hold does. From the first
//! change on, whatever goes wrong is undone, within a time of its own; only the
//! end of the agent leaves things as they are, and says so. What is left of
//! each step is told, in the order in which they ended.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use farol_protocol::{
    ActionId, Report, RiskClass, Status, Timestamp,
    action::{FinalState, Outcome, PreState, ReasonCode},
    remediation::{Expect, Look as Found, Phase, SeenBySteps, StepOutcome, Verdict},
    report::CheckSpec,
};
use tokio::{sync::watch, time::Instant};

use super::{Course, Halt, Kept, Over, Rollback, Work, done};
use crate::{exec::Stop, journal::Ending, probe::Prober, text::Detail};

/// Longest text of all steps together, in bytes: a result fits a frame, also where each byte takes six.
const MOST: usize = 128 * 1024;

/// `remediation.run`.
pub(crate) struct Remediation {
    pub(crate) steps: Vec<Step>,
    pub(crate) prober: Prober,
    /// Where what `file.apply` replaced is kept.
    pub(crate) files: PathBuf,
    /// Time from the first step to the last verification, and again to undo.
    pub(crate) limit: Duration,
}

/// `remediation.look`: what must hold before anything is changed is looked at,
/// and so is what would be changed.
pub(crate) struct Look {
    pub(crate) of: Remediation,
    /// The class of the whole by the policy.
    pub(crate) class: RiskClass,
}

/// A step that the policy allows.
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) phase: Phase,
    pub(crate) what: What,
}

/// What it does.
pub(crate) enum What {
    Effect {
        work: Box<Work>,
        limit: Duration,
        expect: Expect,
        /// Whether it changes nothing by the policy's word and its kind's.
        reads: bool,
    },
    Check {
        spec: Box<CheckSpec>,
        attempts: u32,
        every: Duration,
        worst: Status,
    },
    Restore,
}

/// Whether what was wanted is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
    Unclear,
}

/// A step that ended.
struct Ended {
    held: Held,
    over: Over,
}

/// What has happened so far.
struct Run {
    began: Instant,
    outcomes: Vec<StepOutcome>,
    /// Longest text of a stream of a step, in bytes.
    share: usize,
}

impl Run {
    fn new(steps: usize) -> Self {
        Self { began: Instant::now(), outcomes: Vec::new(), share: MOST / 2 / steps.max(1) }
    }

    /// How it ends, with all that its steps left.
    fn end(self, ending: Ending, result: Option<Verdict>) -> Ending {
        let duration_ms = millis(self.began);
        let exit_code = ending.outcome.as_ref().and_then(|outcome| outcome.exit_code);
        let outcome = Outcome { exit_code, duration_ms, result, steps: self.outcomes, ..Outcome::default() };
        Ending { outcome: Some(outcome), ..ending }
    }

    /// Keeps what a step left.
    fn keep(&mut self, step: &Step, held: Held, ending: &Ending, began: Instant) {
        let outcome = ending.outcome.clone().unwrap_or_default();
        let state = match (held, ending.state) {
            (Held::No, FinalState::Done) => FinalState::Failed,
            (Held::Yes, _) => FinalState::Done,
            (_, state) => state,
        };
        let (stdout, cut_out) = shortened(&outcome.stdout, self.share);
        let (stderr, cut_err) = shortened(&outcome.stderr, self.share);
        let file = outcome.file.map(|mut file| {
            file.patch = file.patch.filter(|patch| patch.len() <= self.share);
            file
        });
        self.outcomes.push(StepOutcome {
            id: step.id.clone(),
            phase: step.phase,
            state,
            exit_code: outcome.exit_code,
            stdout,
            stderr,
            truncated: outcome.truncated || cut_out || cut_err,
            duration_ms: millis(began),
            file,
            detail: ending.detail.clone(),
        });
    }
}

impl Remediation {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let mut run = Run::new(self.steps.len());
        for step in self.steps.iter().filter(|step| step.phase < Phase::Modify) {
            let ended = self.step(step, course, &mut run).await;
            if ended.held != Held::Yes {
                let ending = unchanged(course, step, ended.over.ending);
                return Over { ending: run.end(ending, None), remains: ended.over.remains };
            }
        }
        let mut changed = false;
        for step in self.of(Phase::Modify) {
            let ended = self.step(step, course, &mut run).await;
            // What was refused has changed nothing.
            changed |= ended.over.ending.state != FinalState::Refused;
            if ended.held == Held::Yes {
                continue;
            }
            if !changed {
                return Over { ending: run.end(ended.over.ending, None), remains: ended.over.remains };
            }
            let detail = trouble(course, Detail::ModifyFailed, step, &ended.over.ending);
            let state = match ended.over.ending.state {
                FinalState::Done | FinalState::Refused => FinalState::Failed,
                state => state,
            };
            let ending = Ending { state, detail: Some(detail), ..ended.over.ending };
            return self.undo(course, run, Over { ending, remains: ended.over.remains }, None).await;
        }
        self.verify(course, run).await
    }

    async fn verify(&self, course: &mut Course<'_>, mut run: Run) -> Over {
        let mut unclear = None;
        for step in self.of(Phase::Verify) {
            let ended = self.step(step, course, &mut run).await;
            let Over { ending, remains } = ended.over;
            match ended.held {
                Held::Yes => {}
                Held::No => {
                    let detail = trouble(course, Detail::VerifyContradicted, step, &ending);
                    let ending = Ending { state: FinalState::Failed, detail: Some(detail), ..ending };
                    return self.undo(course, run, Over { ending, remains }, Some(Verdict::Contradicted)).await;
                }
                // A person's word, and the agent's end, count more than what is not known.
                Held::Unclear if course.stop.borrow().is_some() => {
                    let stop = course.stop.borrow().unwrap_or(Stop::Shutdown);
                    let ending = course.halted(Halt::Stopped(stop));
                    return self.undo(course, run, Over { ending, remains }, None).await;
                }
                Held::Unclear => {
                    let detail = trouble(course, Detail::VerifyUnclear, step, &ending);
                    if remains.is_some() {
                        let ending = Ending { state: FinalState::Done, reason: None, detail: Some(detail), ..ending };
                        return Over { ending: run.end(ending, Some(Verdict::Inconclusive)), remains };
                    }
                    unclear = unclear.or(Some(detail));
                }
            }
        }
        let result = if unclear.is_some() { Verdict::Inconclusive } else { Verdict::Verified };
        let ending =
            Ending { state: FinalState::Done, reason: None, detail: unclear, required_class: None, outcome: None };
        run.end(ending, Some(result)).into()
    }

    /// Undoes what was changed, if there is a way and a moment to.
    async fn undo(&self, course: &mut Course<'_>, mut run: Run, why: Over, without: Option<Verdict>) -> Over {
        let Over { ending, remains } = why;
        let steps: Vec<&Step> = self.of(Phase::Rollback).collect();
        if steps.is_empty() {
            return Over { ending: run.end(ending, without), remains };
        }
        // What still runs would work against what undoes it.
        if remains.is_some() {
            return Over { ending: run.end(ending, Some(Verdict::RollbackFailed)), remains };
        }
        if *course.stop.borrow() == Some(Stop::Shutdown) {
            let halted = course.halted(Halt::Stopped(Stop::Shutdown));
            return run.end(halted, None).into();
        }
        tracing::warn!(action_id = %course.action_id, "a remediation is rolled back");
        // A cancel has done its work; only the agent's end reaches this.
        let (stop, stopping) = watch::channel(None);
        let mut outer = course.stop.clone();
        let mut own = Course {
            journal: course.journal,
            action_id: course.action_id,
            deadline: Instant::now() + self.limit,
            stop: stopping,
            language: course.language,
            feed: course.feed.clone(),
        };
        let undone = async {
            for step in steps {
                let ended = self.step(step, &mut own, &mut run).await;
                if ended.held != Held::Yes {
                    return Err((step, ended.over));
                }
            }
            Ok(())
        };
        let watch = async {
            // Its sender lives as long as the action.
            let _ = outer.wait_for(|stop| *stop == Some(Stop::Shutdown)).await;
            stop.send_replace(Some(Stop::Shutdown));
            std::future::pending::<()>().await;
        };
        let undone = tokio::select! {
            undone = undone => undone,
            () = watch => return run.end(ending, None).into(),
        };
        let before = ending.detail.clone().unwrap_or_default();
        match undone {
            Ok(()) => {
                let detail = course.say(Detail::RolledBack, &[("why", &before)]);
                run.end(Ending { detail: Some(detail), ..ending }, Some(Verdict::RolledBack)).into()
            }
            Err((step, over)) => {
                let failed = over.ending.detail.unwrap_or_default();
                let values = [("why", before.as_str()), ("step", step.id.as_str()), ("error", failed.as_str())];
                let detail = course.say(Detail::RollbackFailed, &values);
                let state = match over.ending.state {
                    FinalState::Interrupted => FinalState::Interrupted,
                    _ => ending.state,
                };
                let ending = Ending { state, detail: Some(detail), ..ending };
                Over { ending: run.end(ending, Some(Verdict::RollbackFailed)), remains: over.remains }
            }
        }
    }

    fn of(&self, phase: Phase) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.phase == phase)
    }

    /// Takes one step and keeps what it left.
    async fn step(&self, step: &Step, course: &mut Course<'_>, run: &mut Run) -> Ended {
        if let Some(feed) = &course.feed {
            feed.say(format!("» {} {}\n", step.phase.as_str(), step.id));
        }
        let began = Instant::now();
        let ended = match &step.what {
            What::Effect { work, limit, expect, .. } => {
                let mut own = Course {
                    journal: course.journal,
                    action_id: course.action_id,
                    deadline: course.deadline.min(began + *limit),
                    stop: course.stop.clone(),
                    language: course.language,
                    feed: course.feed.clone(),
                };
                let over = work.go(&mut own).await;
                Ended { held: held(&over.ending, expect), over }
            }
            What::Check { spec, attempts, every, worst } => self.look(course, spec, *attempts, *every, *worst).await,
            What::Restore => {
                let over = self.restore(course).await;
                Ended { held: held(&over.ending, &Expect::default()), over }
            }
        };
        run.keep(step, ended.held, &ended.over.ending, began);
        ended
    }

    /// Looks until it is as wanted, so often at most.
    async fn look(
        &self,
        course: &mut Course<'_>,
        spec: &CheckSpec,
        attempts: u32,
        every: Duration,
        worst: Status,
    ) -> Ended {
        let began = Instant::now();
        let mut last: Option<Report> = None;
        for attempt in 0..attempts {
            let look = async {
                if attempt > 0 {
                    tokio::time::sleep(every).await;
                }
                self.prober.run(spec, Timestamp::now()).await
            };
            match course.within(look).await {
                Ok(report) if report.status == Status::Ok || report.status == worst => {
                    return Ended { held: Held::Yes, over: done(report.text, None, began).into() };
                }
                Ok(report) => last = Some(report),
                Err(halt) => {
                    let mut ending = course.halted(halt);
                    ending.detail = ending.detail.or_else(|| last.as_ref().map(|report| report.text.clone()));
                    let seen_bad = ending.state == FinalState::TimedOut
                        && last.is_some_and(|report| report.status != Status::Unknown);
                    let held = if seen_bad { Held::No } else { Held::Unclear };
                    return Ended { held, over: ending.into() };
                }
            }
        }
        let (held, text) = match last {
            Some(report) if report.status != Status::Unknown => (Held::No, report.text),
            Some(report) => (Held::Unclear, report.text),
            None => (Held::Unclear, String::new()),
        };
        let state = if held == Held::No { FinalState::Failed } else { FinalState::Interrupted };
        let ending = done(text.clone(), None, began);
        Ended { held, over: Ending { state, detail: Some(text), ..ending }.into() }
    }

    /// Puts back what this remediation's `file.apply` replaced; where it
    /// replaced nothing there is nothing to do.
    async fn restore(&self, course: &mut Course<'_>) -> Over {
        let began = Instant::now();
        let of: ActionId = course.action_id;
        match Kept::new(&self.files).record(of) {
            Ok(Some(record)) => Rollback { of, record, action_id: of, files: self.files.clone() }.go(course).await,
            Ok(None) => done(String::new(), None, began).into(),
            Err(error) => {
                let detail = course.say(Detail::KeptDamaged, &[("error", &error.to_string())]);
                Ending { state: FinalState::Failed, detail: Some(detail), ..done(String::new(), None, began) }.into()
            }
        }
    }
}

impl Look {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let mut run = Run::new(self.of.steps.len());
        let mut seen = SeenBySteps::new();
        let mut things = HashSet::new();
        for step in &self.of.steps {
            let began = Instant::now();
            match (&step.what, step.phase) {
                (What::Check { .. }, Phase::Validate) | (What::Effect { reads: true, .. }, Phase::Validate) => {
                    let ended = self.of.step(step, course, &mut run).await;
                    if ended.over.remains.is_some() || course.stop.borrow().is_some() {
                        return Over { ending: run.end(ended.over.ending, None), remains: ended.over.remains };
                    }
                }
                (What::Effect { work, .. }, Phase::Modify) => {
                    // Of what an earlier step changes, what is there now is not what a later one will find.
                    let thing = match work.as_ref() {
                        Work::Service(service) => ("service", service.name.clone()),
                        Work::Container(container) => ("container", container.name.clone()),
                        Work::Apply(apply) => ("file", apply.path.clone()),
                        _ => continue,
                    };
                    if !things.insert(thing) {
                        continue;
                    }
                    let (state, over) = match work.as_ref() {
                        Work::Service(service) => service.look(course).await,
                        Work::Container(container) => container.look(course).await,
                        Work::Apply(apply) => apply.look(course).await,
                        _ => continue,
                    };
                    let held = if over.ending.state == FinalState::Done { Held::Yes } else { Held::Unclear };
                    run.keep(step, held, &over.ending, began);
                    seen.extend(state.map(|state: PreState| (step.id.clone(), state)));
                    if over.remains.is_some() {
                        return Over { ending: run.end(over.ending, None), remains: over.remains };
                    }
                }
                _ => {}
            }
        }
        let mut over = run.end(done(String::new(), None, Instant::now()), None);
        if let Some(outcome) = &mut over.outcome {
            outcome.look = Some(Found { class: self.class, seen });
        }
        over.into()
    }
}

/// What an effect's end says of what was wanted.
fn held(ending: &Ending, expect: &Expect) -> Held {
    let nothing = Outcome::default();
    match ending.state {
        FinalState::Done | FinalState::Failed if ending.reason.is_none() => {
            let left = ending.outcome.as_ref().unwrap_or(&nothing);
            if expect.holds(ending.state == FinalState::Done, left) {
                Held::Yes
            } else if ending.outcome.is_some() {
                Held::No
            } else {
                Held::Unclear
            }
        }
        // What could not be carried out says nothing about what it was to find.
        _ => Held::Unclear,
    }
}

/// The end of a remediation that has changed nothing.
fn unchanged(course: &Course<'_>, step: &Step, ending: Ending) -> Ending {
    match ending.state {
        FinalState::Refused | FinalState::Cancelled => ending,
        FinalState::Interrupted if *course.stop.borrow() == Some(Stop::Shutdown) => ending,
        _ => Ending {
            state: FinalState::Refused,
            reason: Some(ReasonCode::ValidationFailed),
            detail: Some(trouble(course, Detail::ValidationFailed, step, &ending)),
            ..ending
        },
    }
}

fn trouble(course: &Course<'_>, what: Detail, step: &Step, ending: &Ending) -> String {
    let outcome = ending.outcome.as_ref();
    let written = outcome.map(|outcome| if outcome.stderr.is_empty() { &outcome.stdout } else { &outcome.stderr });
    let why = ending
        .detail
        .clone()
        .or_else(|| written.and_then(|text| text.lines().last()).map(|line| crate::text::cut(line, 200)))
        .filter(|why| !why.is_empty())
        .or_else(|| outcome.and_then(|outcome| outcome.exit_code).map(|code| format!("exit {code}")))
        .unwrap_or_else(|| ending.state.as_str().to_owned());
    course.say(what, &[("step", &step.id), ("why", &why)])
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Begin and end of a text that is too long.
fn shortened(text: &str, most: usize) -> (String, bool) {
    if text.len() <= most {
        return (text.to_owned(), false);
    }
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - most / 2);
    (format!("{}\n…\n{}", &text[..head], &text[tail..]), true)
}
