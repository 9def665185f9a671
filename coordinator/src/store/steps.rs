//! The steps of actions: each is a conditional update that writes its record
//! and what is said about it in one transaction.
//!
//! Steps that come while another change is being committed gather, and the
//! next commit takes them all: a fan-out to many hosts costs a few commits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

use farol_agent::{fault, task::scoped};
use farol_protocol::{
    ActionId, JournalId, Timestamp,
    action::{Outcome, ReasonCode},
    frame::JournalHead,
};
use sqlx::{Any, AnyConnection, QueryBuilder};
use tokio::sync::oneshot;

use super::{
    Store,
    actions::{self, ActionRow},
    audit, brakes, evidence,
    hosts::{self, HostKey},
    inbox::Note,
};
use crate::{
    action::{Event, State},
    error::{Error, Result, StoreContext as _},
};

/// Most steps of one commit.
const STEPS_PER_COMMIT: usize = 500;
/// Rows of one statement.
const ROWS: usize = 50;
/// How long a step that nobody waits for looks for company.
const SOON: Duration = Duration::from_millis(25);

/// One step of an action's life.
#[derive(Debug, Clone)]
pub struct Step {
    /// What happens.
    pub event: Event,
    /// Operator, host or `farol`.
    pub actor: String,
    /// Why, as a stable code.
    pub reason: Option<ReasonCode>,
    /// Why, in words.
    pub detail: Option<String>,
    /// What it left.
    pub outcome: Option<Outcome>,
    /// The host's journal after it.
    pub journal: Option<JournalHead>,
    /// What is said in the finding's thread.
    pub note: Option<Note>,
}

impl Step {
    /// A step without more to say.
    #[must_use]
    pub fn new(event: Event, actor: &str) -> Self {
        Self { event, actor: actor.to_owned(), reason: None, detail: None, outcome: None, journal: None, note: None }
    }

    /// The same, said in the finding's thread.
    #[must_use]
    pub fn saying(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }
}

/// What a step did.
#[derive(Debug, Clone)]
pub enum Stepped {
    /// The action moved.
    Moved(ActionRow),
    /// The event does not fit where the action is, or a later step of the same
    /// commit moved it further.
    Stayed(ActionRow),
}

impl Stepped {
    /// The action afterwards.
    #[must_use]
    pub const fn row(&self) -> &ActionRow {
        match self {
            Self::Moved(row) | Self::Stayed(row) => row,
        }
    }

    /// The same.
    #[must_use]
    pub fn into_row(self) -> ActionRow {
        match self {
            Self::Moved(row) | Self::Stayed(row) => row,
        }
    }

    /// Whether it moved.
    #[must_use]
    pub const fn moved(&self) -> bool {
        matches!(self, Self::Moved(_))
    }
}

/// Says which step to take once the action is read.
type Choose = Arc<dyn Fn(&ActionRow) -> Step + Send + Sync>;

/// A step that is to be taken.
#[derive(Clone)]
pub struct Request {
    id: ActionId,
    of: Option<HostKey>,
    at: Timestamp,
    choose: Choose,
}

impl Request {
    /// A step that is known already.
    #[must_use]
    pub fn of(id: ActionId, step: Step, at: Timestamp) -> Self {
        Self::choosing(id, at, move |_| step.clone())
    }

    /// A step that depends on the action, which is read in its transaction.
    pub fn choosing(id: ActionId, at: Timestamp, choose: impl Fn(&ActionRow) -> Step + Send + Sync + 'static) -> Self {
        Self { id, of: None, at, choose: Arc::new(choose) }
    }

    /// The same, said by a host: of another's action it knows nothing.
    #[must_use]
    pub const fn by_host(mut self, host: HostKey) -> Self {
        self.of = Some(host);
        self
    }
}

/// A step in the queue.
pub(super) struct Waiting {
    request: Request,
    reply: oneshot::Sender<Result<Stepped>>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("id", &self.request.id).finish_non_exhaustive()
    }
}

/// The end of a step that was asked for.
pub struct Pending(oneshot::Receiver<Result<Stepped>>);

impl Pending {
    /// Waits until it is committed.
    ///
    /// # Errors
    /// No such action, or the store failed.
    pub async fn committed(self) -> Result<Stepped> {
        self.0.await.unwrap_or_else(|_| Err(Error::Refused("the coordinator is stopping".to_owned())))
    }
}

impl Store {
    /// Takes a step, if it fits. Once asked for, it is taken whether or not
    /// somebody still waits.
    ///
    /// # Errors
    /// No such action, or the store failed.
    pub async fn step(&self, request: Request) -> Result<Stepped> {
        let pending = self.ask(request);
        tokio::spawn(scoped(self.clone().lead()));
        pending.committed().await
    }

    /// Takes a step with the next commit, which comes soon: for what nobody
    /// waits for and the next step makes old.
    pub fn step_soon(&self, request: Request) -> Pending {
        let pending = self.ask(request);
        let store = self.clone();
        tokio::spawn(scoped(async move {
            tokio::time::sleep(SOON).await;
            store.lead().await;
        }));
        pending
    }

    fn ask(&self, request: Request) -> Pending {
        let (reply, answer) = oneshot::channel();
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push_back(Waiting { request, reply });
        Pending(answer)
    }

    /// Commits what waits, up to a bound, in the order in which it came.
    async fn lead(self) {
        loop {
            let turn = self.state().turn().await;
            let waiting: Vec<Waiting> = {
                let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                let count = steps.len().min(STEPS_PER_COMMIT);
                steps.drain(..count).collect()
            };
            // Somebody else's commit took them along.
            if waiting.is_empty() {
                return;
            }
            let requests: Vec<Request> = waiting.iter().map(|waiting| waiting.request.clone()).collect();
            let committed = async {
                let mut write = self.state().begin(turn).await?;
                let stepped = take(&mut write, &requests).await?;
                passing(&stepped, "before");
                write.commit().await?;
                passing(&stepped, "after");
                Ok(stepped)
            };
            match committed.await {
                Ok(stepped) => {
                    for (waiting, stepped) in waiting.into_iter().zip(stepped) {
                        // Whoever asked may not wait any more.
                        let _gone = waiting.reply.send(stepped);
                    }
                }
                Err(error) => match <[Waiting; 1]>::try_from(waiting) {
                    Ok([only]) => {
                        let _gone = only.reply.send(Err(error));
                    }
                    // One that cannot be stored must not take the others with it.
                    Err(waiting) => {
                        for waiting in waiting {
                            let _gone = waiting.reply.send(self.alone(&waiting.request).await);
                        }
                    }
                },
            }
        }
    }

    async fn alone(&self, request: &Request) -> Result<Stepped> {
        let mut write = self.state().write().await?;
        let stepped = take(&mut write, std::slice::from_ref(request)).await?.pop();
        write.commit().await?;
        stepped.unwrap_or_else(|| Err(missing(request.id)))
    }
}

fn passing(stepped: &[Result<Stepped>], when: &str) {
    for stepped in stepped.iter().flatten().filter(|stepped| stepped.moved()) {
        fault::step("coordinator.step", stepped.row().state, when);
    }
}

fn missing(id: ActionId) -> Error {
    Error::NotFound { what: "action", id: id.to_string() }
}

/// An action on its way through one commit.
struct Moving {
    row: ActionRow,
    /// Where it was before the commit.
    from: State,
    changed: bool,
}

/// Takes steps inside a transaction, in order; one answer for each.
pub(super) async fn take(connection: &mut AnyConnection, requests: &[Request]) -> Result<Vec<Result<Stepped>>> {
    let mut ids: Vec<ActionId> = requests.iter().map(|request| request.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut moving: HashMap<ActionId, Moving> = actions::select_all(connection, &ids)
        .await?
        .into_iter()
        .map(|row| (row.id, Moving { from: row.state, changed: false, row }))
        .collect();
    let mut entered: Vec<Option<State>> = Vec::with_capacity(requests.len());
    let mut known = Vec::with_capacity(requests.len());
    let mut record = Vec::new();
    let mut artifacts = Vec::new();
    let mut journals: BTreeMap<(HostKey, JournalId), u64> = BTreeMap::new();
    let mut notes = Vec::new();
    for request in requests {
        let action = moving.get_mut(&request.id).filter(|action| request.of.is_none_or(|host| host == action.row.host));
        known.push(action.is_some());
        let Some(action) = action else {
            entered.push(None);
            continue;
        };
        let step = (request.choose)(&action.row);
        if let Some(head) = step.journal {
            let seq = journals.entry((action.row.host, head.id)).or_default();
            *seq = head.seq.max(*seq);
        }
        let outcome = step.outcome.clone();
        let (by, had_none) = (step.actor.clone(), action.row.outcome.is_none());
        entered.push(move_on(action, step, request.at, &mut record, &mut notes));
        // What was committed of it, so that the chain covers it.
        if let Some(outcome) = outcome.filter(|outcome| had_none && action.row.outcome.as_ref() == Some(outcome)) {
            artifacts.extend(evidence::of_outcome(request.id, &by, &outcome, request.at)?);
        }
    }
    let changed: Vec<&Moving> = moving.values().filter(|action| action.changed).collect();
    update(connection, &changed).await?;
    for action in &changed {
        brakes::halt(connection, &action.row, action.row.updated_at).await?;
    }
    audit::insert_all(connection, &record).await?;
    evidence::insert_all(connection, &artifacts).await?;
    let heads: Vec<_> = journals.into_iter().map(|((host, id), seq)| (host, JournalHead { id, seq })).collect();
    hosts::advance_journals(connection, &heads).await?;
    for (finding, note, at) in notes {
        actions::say(connection, finding.as_deref(), &note, at).await?;
    }
    Ok(requests
        .iter()
        .zip(entered)
        .zip(known)
        .map(|((request, entered), known)| match moving.get(&request.id) {
            Some(action) if known => {
                let row = action.row.clone();
                // What a later step made old is not news.
                Ok(if entered == Some(row.state) { Stepped::Moved(row) } else { Stepped::Stayed(row) })
            }
            _ if request.of.is_some() => {
                Err(Error::NotFound { what: "action of this host", id: request.id.to_string() })
            }
            _ => Err(missing(request.id)),
        })
        .collect())
}

/// The state it enters, if the step fits.
fn move_on(
    action: &mut Moving,
    step: Step,
    at: Timestamp,
    record: &mut Vec<audit::Draft>,
    notes: &mut Vec<(Option<String>, Note, Timestamp)>,
) -> Option<State> {
    let row = &mut action.row;
    let next = row.state.after(step.event).filter(|next| *next != row.state);
    let object = row.id.to_string();
    let Some(next) = next else {
        // A host that was given up came back with an outcome: it is kept and
        // said, and the state stays, since people have acted on it.
        if row.state == State::Interrupted && row.outcome.is_none() && matches!(step.event, Event::Finish(_)) {
            row.outcome = step.outcome;
            row.updated_at = at;
            action.changed = true;
            let detail = step.detail.unwrap_or_else(|| "the host told the outcome after it was given up".to_owned());
            record.push(audit::Draft { at, actor: step.actor, verb: "action.late_result".to_owned(), object, detail });
            if let Some(note) = step.note {
                let note = Note { effect_key: format!("{}/late", note.effect_key), ..note };
                notes.push((row.finding_id.clone(), note, at));
            }
        }
        return None;
    };
    let reason = step.reason.map(ReasonCode::as_str);
    record.push(audit::Draft {
        at,
        actor: step.actor,
        verb: format!("action.{next}"),
        object,
        detail: step.detail.clone().or(reason.map(str::to_owned)).unwrap_or_default(),
    });
    if let Some(note) = step.note {
        notes.push((row.finding_id.clone(), note, at));
    }
    row.state = next;
    row.updated_at = at;
    row.reason_code = reason.map(str::to_owned).or(row.reason_code.take());
    row.detail = step.detail.or(row.detail.take());
    row.outcome = step.outcome.or(row.outcome.take());
    action.changed = true;
    Some(next)
}

/// The `where` clause is the lock: whoever comes second matches no row.
async fn update(connection: &mut AnyConnection, changed: &[&Moving]) -> Result<()> {
    for chunk in changed.chunks(ROWS) {
        let mut values = Vec::with_capacity(chunk.len());
        for action in chunk {
            let outcome = action.row.outcome.as_ref().map(serde_json::to_string).transpose();
            values
                .push((action, outcome.map_err(|error| Error::Corrupt { what: "outcome", value: error.to_string() })?));
        }
        let mut update = QueryBuilder::<Any>::new(
            "update action set state = v.column3, updated_ms = v.column4, reason_code = v.column5,
                 detail = v.column6, outcome = v.column7 from (",
        );
        update.push_values(&values, |mut row, (action, outcome)| {
            row.push_bind(action.row.id.to_string())
                .push_bind(action.from.as_str())
                .push_bind(action.row.state.as_str())
                .push_bind(action.row.updated_at.as_ms())
                .push_bind(action.row.reason_code.clone())
                .push_bind(action.row.detail.clone())
                .push_bind(outcome.clone());
        });
        update.push(") as v where action.id = v.column1 and action.state = v.column2");
        let moved = update.build().execute(&mut *connection).await.context("move actions")?;
        if moved.rows_affected() != chunk.len() as u64 {
            return Err(Error::Refused("an action was moved by somebody else meanwhile; try again".to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use farol_protocol::{ActionKind, action::FinalState, registry::Persona};
    use serde_json::json;

    use super::*;
    use crate::{
        auth::Operator,
        remediation::Proposal,
        store::{actions::Decided, hosts::HostRow},
    };

    async fn store() -> (tempfile::TempDir, Store, HostRow) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let by = Operator::local_administrator();
        store.add_host(&by, "h", Duration::from_secs(60), Timestamp::now()).await.expect("a host");
        let host = store.host("h").await.expect("the host");
        (folder, store, host)
    }

    async fn queued(store: &Store, host: &HostRow) -> ActionId {
        let proposal = Proposal {
            by: &Operator::persona(Persona::A7),
            host: (host.key, &host.id),
            kind: ActionKind::CommandExec,
            params: json!({"command": "true"}),
            reason: "",
            at_least: farol_protocol::RiskClass::R0,
            finding_id: None,
            effect_key: None,
            seen: None,
            look_id: None,
        };
        let (action, _) = proposal.plan(Timestamp::now()).expect("a plan");
        store.propose(&action, None).await.expect("proposed");
        let note = Note {
            author: "cli".to_owned(),
            by_person: true,
            kind: "decision",
            body: String::new(),
            effect_key: action.id.to_string(),
        };
        let by = Operator::local_administrator();
        let said = crate::store::actions::Approval { comment: "", signature: None, hold: false };
        let decided = store.approve(&by, action.id, &action.plan_hash, said, note, Timestamp::now()).await;
        assert!(matches!(decided.expect("approved"), Decided::Queued(row) if row.state == State::Queued));
        action.id
    }

    fn request(id: ActionId, event: Event) -> Request {
        Request::of(id, Step::new(event, "test"), Timestamp::now())
    }

    #[tokio::test]
    async fn steps_that_come_together_share_commits_and_one_that_fits_nothing_fails_alone() {
        let (_folder, store, host) = store().await;
        let mut ids = Vec::new();
        for _ in 0..60 {
            ids.push(queued(&store, &host).await);
        }
        let before = store.state().commits.load(std::sync::atomic::Ordering::Relaxed);
        let unknown = store.step(request(ActionId::new(), Event::Send));
        let strange = store.step(request(ids[0], Event::Send).by_host(HostKey(-1)));
        let sent = futures_util::future::join_all(ids.iter().map(|id| store.step(request(*id, Event::Send))));
        let (unknown, strange, sent) = tokio::join!(unknown, strange, sent);
        assert!(matches!(unknown, Err(Error::NotFound { .. })));
        assert!(matches!(strange, Err(Error::NotFound { .. })));
        assert!(sent.iter().all(|stepped| stepped.as_ref().is_ok_and(Stepped::moved)));
        let commits = store.state().commits.load(std::sync::atomic::Ordering::Relaxed) - before;
        assert!(commits < 10, "{commits} commits");
        for id in ids {
            let states: Vec<State> =
                store.transitions(id).await.expect("its life").into_iter().map(|row| row.state).collect();
            assert_eq!(states, [State::Proposed, State::Approved, State::Queued, State::Sent]);
        }
    }

    #[tokio::test]
    async fn an_end_that_comes_right_after_the_beginning_is_the_only_news_and_both_are_in_the_record() {
        let (_folder, store, host) = store().await;
        let id = queued(&store, &host).await;
        assert!(store.step(request(id, Event::Send)).await.expect("sent").moved());
        let accepted = store.step_soon(request(id, Event::Accept));
        let done = store.step(request(id, Event::Finish(FinalState::Done))).await.expect("done");
        assert!(done.moved());
        let accepted = accepted.committed().await.expect("accepted");
        assert!(!accepted.moved());
        assert_eq!(accepted.row().state, State::Done);
        let states: Vec<State> =
            store.transitions(id).await.expect("its life").into_iter().map(|row| row.state).collect();
        assert_eq!(states[3..], [State::Sent, State::Accepted, State::Done]);
    }

    #[tokio::test]
    async fn a_step_is_taken_although_whoever_asked_has_gone() {
        let (_folder, store, host) = store().await;
        let id = queued(&store, &host).await;
        drop(store.step_soon(request(id, Event::Send)));
        let sent = async {
            while store.action(id).await.expect("it").state != State::Sent {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), sent).await.expect("it was sent");
    }
}
