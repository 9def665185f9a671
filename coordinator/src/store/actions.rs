//! Actions: each step is a conditional update that writes its transition, its
//! record and what is said about it in one transaction.

use farol_protocol::{
    ActionId, ActionKind, PlanHash, RiskClass, Timestamp,
    action::{Outcome, ReasonCode},
    frame::JournalHead,
};
use serde::Serialize;
use sqlx::{AnyConnection, FromRow};

use super::{
    Cursor, Page, Store, audit,
    hosts::{self, HostKey},
    inbox::{self, Note},
    serde_word, word,
};
use crate::{
    action::{Event, State},
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    roster::Role,
};

/// A plan to store.
#[derive(Debug, Clone)]
pub struct NewAction {
    /// Identifier, the one in the plan.
    pub id: ActionId,
    /// Where it runs.
    pub host: HostKey,
    /// Kind.
    pub kind: ActionKind,
    /// Exact bytes.
    pub plan: String,
    /// Their hash.
    pub plan_hash: PlanHash,
    /// Class in the plan.
    pub class: RiskClass,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// The finding it is to mend.
    pub finding_id: Option<String>,
    /// Under which it is proposed once, for a proposal by a persona.
    pub effect_key: Option<String>,
    /// When it was written.
    pub issued_at: Timestamp,
    /// When it can no longer begin.
    pub expires_at: Timestamp,
    /// Its time limit in ms.
    pub timeout_ms: u64,
}

/// A stored action.
#[derive(Debug, Clone)]
pub struct ActionRow {
    /// Identifier.
    pub id: ActionId,
    /// Where it runs.
    pub host: HostKey,
    /// Kind.
    pub kind: ActionKind,
    /// Exact bytes.
    pub plan: String,
    /// Their hash.
    pub plan_hash: PlanHash,
    /// Class in the plan.
    pub class: RiskClass,
    /// Where it is.
    pub state: State,
    /// Why it ended so.
    pub reason_code: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// The finding it is to mend.
    pub finding_id: Option<String>,
    /// When it was written.
    pub issued_at: Timestamp,
    /// When it can no longer begin.
    pub expires_at: Timestamp,
    /// Its time limit in ms.
    pub timeout_ms: i64,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// What it left.
    pub outcome: Option<Outcome>,
    /// Whether a person wants it back although its host was away.
    pub cancel_requested: bool,
}

/// One step of an action's life.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct TransitionRow {
    /// The state it entered.
    pub state: State,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who or what moved it.
    pub actor: String,
}

/// A person's decision.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ApprovalRow {
    /// Who.
    pub approver: String,
    /// `approved` or `rejected`.
    pub decision: String,
    /// The plan it is bound to.
    pub plan_hash: String,
    /// What they said.
    pub comment: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    host_key: i64,
    kind: String,
    plan: String,
    plan_hash: String,
    risk_class: String,
    state: String,
    reason_code: Option<String>,
    detail: Option<String>,
    requested_by: String,
    reason: String,
    finding_id: Option<String>,
    issued_ms: i64,
    expires_ms: i64,
    timeout_ms: i64,
    updated_ms: i64,
    outcome: Option<String>,
    cancel_requested: i64,
}

const COLUMNS: &str = "id, host_key, kind, plan, plan_hash, risk_class, state, reason_code, detail, requested_by, \
     reason, finding_id, issued_ms, expires_ms, timeout_ms, updated_ms, outcome, cancel_requested";

impl TryFrom<Raw> for ActionRow {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        Ok(Self {
            id: word("action id", &raw.id)?,
            host: HostKey(raw.host_key),
            kind: serde_word("action kind", &raw.kind)?,
            plan_hash: serde_word("plan hash", &raw.plan_hash)?,
            class: word("risk class", &raw.risk_class)?,
            state: word("action state", &raw.state)?,
            outcome: match raw.outcome {
                None => None,
                Some(text) => Some(
                    serde_json::from_str(&text).map_err(|_| Error::Corrupt { what: "outcome", value: text.clone() })?,
                ),
            },
            cancel_requested: raw.cancel_requested != 0,
            plan: raw.plan,
            reason_code: raw.reason_code,
            detail: raw.detail,
            requested_by: raw.requested_by,
            reason: raw.reason,
            finding_id: raw.finding_id,
            issued_at: Timestamp::from_ms(raw.issued_ms),
            expires_at: Timestamp::from_ms(raw.expires_ms),
            timeout_ms: raw.timeout_ms,
            updated_at: Timestamp::from_ms(raw.updated_ms),
        })
    }
}

/// A step to take.
#[derive(Debug)]
pub struct Step<'a> {
    /// What happens.
    pub event: Event,
    /// Operator, host or `farol`.
    pub actor: &'a str,
    /// Why, as a stable code.
    pub reason: Option<ReasonCode>,
    /// Why, in words.
    pub detail: Option<&'a str>,
    /// What the process left.
    pub outcome: Option<&'a Outcome>,
    /// The host's journal after it.
    pub journal: Option<JournalHead>,
    /// What is said in the finding's thread.
    pub note: Option<Note>,
    /// The host that says so; of another's action it knows nothing.
    pub of: Option<HostKey>,
}

impl<'a> Step<'a> {
    /// A step without more to say.
    #[must_use]
    pub const fn new(event: Event, actor: &'a str) -> Self {
        Self { event, actor, reason: None, detail: None, outcome: None, journal: None, note: None, of: None }
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
    /// The event does not fit where the action is; nothing changed.
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

    /// Whether it moved.
    #[must_use]
    pub const fn moved(&self) -> bool {
        matches!(self, Self::Moved(_))
    }
}

/// What an approval led to.
#[derive(Debug, Clone)]
pub enum Decided {
    /// The action is approved and in its host's queue.
    Queued(ActionRow),
    /// Another person must approve too.
    WaitsForSecond(ActionRow),
}

impl Store {
    /// Stores a plan as proposed. Answers false where its effect key is known.
    ///
    /// # Errors
    /// The store failed.
    pub async fn propose(&self, new: &NewAction, note: Option<&Note>) -> Result<bool> {
        let mut write = self.state().write().await?;
        let inserted = insert(&mut write, new, note).await?;
        write.commit().await?;
        Ok(inserted)
    }

    /// One action.
    ///
    /// # Errors
    /// No such action, or the store failed.
    pub async fn action(&self, id: ActionId) -> Result<ActionRow> {
        let mut connection = self.state().read().acquire().await.context("read the action")?;
        select(&mut connection, id).await
    }

    /// Actions, newest first, in one state where one is given.
    ///
    /// # Errors
    /// The store failed.
    pub async fn actions(&self, state: Option<State>, from: &Cursor, limit: i64) -> Result<Page<ActionRow>> {
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from action where ($1 = '' or state = $1)
             and (issued_ms < $2 or (issued_ms = $2 and id < $3)) order by issued_ms desc, id desc limit $4"
        )))
        .bind(state.map_or("", State::as_str))
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(self.state().read())
        .await
        .context("read the actions")?;
        let rows = rows.into_iter().map(ActionRow::try_from).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit, |row: &ActionRow| (row.issued_at, row.id.to_string())))
    }

    /// Actions that have not ended, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn open_actions(&self) -> Result<Vec<ActionRow>> {
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from action where state in ('proposed', 'approved', 'queued', 'sent', 'accepted')
             order by issued_ms, id"
        )))
        .fetch_all(self.state().read())
        .await
        .context("read the actions")?;
        // One row that cannot be read must not keep the others from their hosts.
        Ok(rows
            .into_iter()
            .filter_map(|raw| {
                let id = raw.id.clone();
                ActionRow::try_from(raw)
                    .inspect_err(|error| tracing::error!(action_id = id, "an action cannot be read: {error}"))
                    .ok()
            })
            .collect())
    }

    /// The order a host is to get now: the one that was sent and not
    /// answered, or else the oldest in its queue. One at a time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next_order(&self, host: HostKey) -> Result<Option<ActionRow>> {
        let row: Option<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from action where host_key = $1 and state in ('queued', 'sent', 'accepted')
             order by case state when 'accepted' then 0 when 'sent' then 1 else 2 end, issued_ms, id limit 1"
        )))
        .bind(host.0)
        .fetch_optional(self.state().read())
        .await
        .context("read the queue")?;
        row.map(ActionRow::try_from).transpose()
    }

    /// The life of an action.
    ///
    /// # Errors
    /// The store failed.
    pub async fn transitions(&self, id: ActionId) -> Result<Vec<TransitionRow>> {
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as("select state, at_ms, actor from action_transition where action_id = $1 order by n")
                .bind(id.to_string())
                .fetch_all(self.state().read())
                .await
                .context("read the transitions")?;
        rows.into_iter()
            .map(|(state, at, actor)| {
                Ok(TransitionRow { state: word("action state", &state)?, at: Timestamp::from_ms(at), actor })
            })
            .collect()
    }

    /// The decisions on an action.
    ///
    /// # Errors
    /// The store failed.
    pub async fn approvals(&self, id: ActionId) -> Result<Vec<ApprovalRow>> {
        let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
            "select approver, decision, plan_hash, comment, at_ms from approval where action_id = $1 order by at_ms",
        )
        .bind(id.to_string())
        .fetch_all(self.state().read())
        .await
        .context("read the approvals")?;
        Ok(rows
            .into_iter()
            .map(|(approver, decision, plan_hash, comment, at)| ApprovalRow {
                approver,
                decision,
                plan_hash,
                comment,
                at: Timestamp::from_ms(at),
            })
            .collect())
    }

    /// Takes a step, if it fits.
    ///
    /// # Errors
    /// No such action, or the store failed.
    pub async fn step(&self, id: ActionId, step: &Step<'_>, now: Timestamp) -> Result<Stepped> {
        let mut write = self.state().write().await?;
        let stepped = advance(&mut write, id, step, now).await?;
        write.commit().await?;
        Ok(stepped)
    }

    /// A person agrees to exactly this plan. R3 takes two people, neither of
    /// them the requester, one of them a lead; other classes take one.
    ///
    /// # Errors
    /// Another plan, a signature is needed, the action is not waiting, the
    /// person may not, or the store failed.
    pub async fn approve(
        &self,
        by: &Operator,
        id: ActionId,
        plan_hash: &PlanHash,
        comment: &str,
        note: Note,
        now: Timestamp,
    ) -> Result<Decided> {
        let mut write = self.state().write().await?;
        let row = select(&mut write, id).await?;
        check_decision(&row, plan_hash, "approved")?;
        if row.expires_at <= now {
            return Err(Error::Refused("the action has expired; propose it again".to_owned()));
        }
        if row.class == RiskClass::R3 && row.requested_by == by.name() {
            return Err(Error::Forbidden("whoever asked for an R3 action cannot approve it".to_owned()));
        }
        record_decision(&mut write, by, &row, "approved", comment, now).await?;
        if row.class == RiskClass::R3 && !two_people(&mut write, id).await? {
            write.commit().await?;
            return Ok(Decided::WaitsForSecond(row));
        }
        advance(&mut write, id, &Step::new(Event::Approve, by.name()).saying(note), now).await?;
        let stepped = advance(&mut write, id, &Step::new(Event::Queue, "farol"), now).await?;
        write.commit().await?;
        Ok(Decided::Queued(stepped.row().clone()))
    }

    /// Notes that a person wants an action back whose host is away.
    ///
    /// # Errors
    /// The store failed.
    pub async fn request_cancel(&self, by: &Operator, id: ActionId, comment: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("update action set cancel_requested = 1 where id = $1")
            .bind(id.to_string())
            .execute(&mut *write)
            .await
            .context("note the cancel")?;
        let id = id.to_string();
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "action.cancel_requested",
            object: ("action", &id),
            detail: comment,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// A person declines.
    ///
    /// # Errors
    /// Another plan, the action is not waiting, or the store failed.
    pub async fn reject(
        &self,
        by: &Operator,
        id: ActionId,
        plan_hash: &PlanHash,
        comment: &str,
        note: Note,
        now: Timestamp,
    ) -> Result<ActionRow> {
        let mut write = self.state().write().await?;
        let row = select(&mut write, id).await?;
        check_decision(&row, plan_hash, "rejected")?;
        record_decision(&mut write, by, &row, "rejected", comment, now).await?;
        let stepped = advance(&mut write, id, &Step::new(Event::Reject, by.name()).saying(note), now).await?;
        write.commit().await?;
        Ok(stepped.row().clone())
    }
}

fn check_decision(row: &ActionRow, plan_hash: &PlanHash, step: &'static str) -> Result<()> {
    if row.plan_hash != *plan_hash {
        return Err(Error::PlanMismatch);
    }
    if row.state != State::Proposed {
        return Err(Error::Stale { action: row.id, state: row.state, step });
    }
    Ok(())
}

async fn record_decision(
    connection: &mut AnyConnection,
    by: &Operator,
    row: &ActionRow,
    decision: &'static str,
    comment: &str,
    now: Timestamp,
) -> Result<()> {
    let inserted = sqlx::query(
        "insert into approval (action_id, approver, role, decision, plan_hash, comment, at_ms)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (action_id, approver) do nothing",
    )
    .bind(row.id.to_string())
    .bind(by.name())
    .bind(by.role().as_str())
    .bind(decision)
    .bind(row.plan_hash.as_str())
    .bind(comment)
    .bind(now.as_ms())
    .execute(&mut *connection)
    .await
    .context("store the decision")?;
    if inserted.rows_affected() == 0 {
        return Err(Error::Refused("you have decided on this action already; another person must".to_owned()));
    }
    let detail = format!("{decision} plan {}: {comment}", row.plan_hash);
    let id = row.id.to_string();
    let entry = audit::NewEntry {
        at: now,
        actor: by.name(),
        verb: if decision == "approved" { "action.approval" } else { "action.rejection" },
        object: ("action", &id),
        detail: &detail,
    };
    audit::insert(connection, entry).await
}

async fn two_people(connection: &mut AnyConnection, id: ActionId) -> Result<bool> {
    let roles: Vec<(String,)> =
        sqlx::query_as("select role from approval where action_id = $1 and decision = 'approved'")
            .bind(id.to_string())
            .fetch_all(connection)
            .await
            .context("read the approvals")?;
    let lead = |role: &str| [Role::SuperAdmin, Role::OpsLead].iter().any(|lead| lead.as_str() == role);
    Ok(roles.len() >= 2 && roles.iter().any(|(role,)| lead(role)))
}

async fn select(connection: &mut AnyConnection, id: ActionId) -> Result<ActionRow> {
    let row: Option<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from action where id = $1")))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .context("read the action")?;
    row.ok_or_else(|| Error::NotFound { what: "action", id: id.to_string() })?.try_into()
}

/// Stores a plan as proposed, with its first transition, record and note.
pub(super) async fn insert(connection: &mut AnyConnection, new: &NewAction, note: Option<&Note>) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into action (id, host_key, kind, plan, plan_hash, risk_class, state, requested_by, reason, finding_id,
             effect_key, issued_ms, expires_ms, timeout_ms, updated_ms)
         values ($1, $2, $3, $4, $5, $6, 'proposed', $7, $8, $9, $10, $11, $12, $13, $11)
         on conflict (effect_key) do nothing",
    )
    .bind(new.id.to_string())
    .bind(new.host.0)
    .bind(new.kind.as_str())
    .bind(&new.plan)
    .bind(new.plan_hash.as_str())
    .bind(new.class.as_str())
    .bind(&new.requested_by)
    .bind(&new.reason)
    .bind(&new.finding_id)
    .bind(&new.effect_key)
    .bind(new.issued_at.as_ms())
    .bind(new.expires_at.as_ms())
    .bind(i64::try_from(new.timeout_ms).unwrap_or(i64::MAX))
    .execute(&mut *connection)
    .await
    .context("store the action")?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    let plan = format!("plan {}", new.plan_hash);
    transition(connection, new.id, State::Proposed, &new.requested_by, &plan, new.issued_at).await?;
    if let Some(note) = note {
        say(connection, new.finding_id.as_deref(), note, new.issued_at).await?;
    }
    Ok(true)
}

async fn say(connection: &mut AnyConnection, finding: Option<&str>, note: &Note, now: Timestamp) -> Result<()> {
    let Some(finding) = finding else { return Ok(()) };
    let thread: Option<(String,)> = sqlx::query_as("select thread_id from finding where id = $1")
        .bind(finding)
        .fetch_optional(&mut *connection)
        .await
        .context("read the finding")?;
    if let Some((thread,)) = thread {
        inbox::say(connection, &thread, note, now).await?;
    }
    Ok(())
}

async fn transition(
    connection: &mut AnyConnection,
    id: ActionId,
    state: State,
    actor: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let id = id.to_string();
    sqlx::query(
        "insert into action_transition (action_id, n, state, at_ms, actor)
         select $1, coalesce(max(n), 0) + 1, $2, $3, $4 from action_transition where action_id = $1",
    )
    .bind(&id)
    .bind(state.as_str())
    .bind(now.as_ms())
    .bind(actor)
    .execute(&mut *connection)
    .await
    .context("store the transition")?;
    let verb = format!("action.{state}");
    audit::insert(connection, audit::NewEntry { at: now, actor, verb: &verb, object: ("action", &id), detail }).await
}

/// One step inside a transaction. The `where` clause is the lock: whoever
/// comes second matches no row.
async fn advance(connection: &mut AnyConnection, id: ActionId, step: &Step<'_>, now: Timestamp) -> Result<Stepped> {
    let row = select(connection, id).await?;
    if step.of.is_some_and(|host| host != row.host) {
        return Err(Error::NotFound { what: "action of this host", id: id.to_string() });
    }
    if let Some(head) = step.journal {
        hosts::advance_journal(connection, row.host, head).await?;
    }
    let Some(next) = row.state.after(step.event) else {
        if row.state == State::Interrupted && row.outcome.is_none() && matches!(step.event, Event::Finish(_)) {
            append_late(connection, &row, step, now).await?;
        }
        return Ok(Stepped::Stayed(row));
    };
    if next == row.state {
        return Ok(Stepped::Stayed(row));
    }
    let outcome = outcome_text(step)?;
    let changed = sqlx::query(
        "update action set state = $3, updated_ms = $4, reason_code = coalesce($5, reason_code),
             detail = coalesce($6, detail), outcome = coalesce($7, outcome)
         where id = $1 and state = $2",
    )
    .bind(id.to_string())
    .bind(row.state.as_str())
    .bind(next.as_str())
    .bind(now.as_ms())
    .bind(step.reason.map(ReasonCode::as_str))
    .bind(step.detail)
    .bind(outcome)
    .execute(&mut *connection)
    .await
    .context("move the action")?;
    if changed.rows_affected() == 0 {
        return Ok(Stepped::Stayed(row));
    }
    let detail = step.detail.or(step.reason.map(ReasonCode::as_str)).unwrap_or("");
    transition(connection, id, next, step.actor, detail, now).await?;
    if let Some(note) = &step.note {
        say(connection, row.finding_id.as_deref(), note, now).await?;
    }
    // What the update wrote, without reading it again: this is on the way of
    // every order.
    Ok(Stepped::Moved(ActionRow {
        state: next,
        updated_at: now,
        reason_code: step.reason.map(|reason| reason.as_str().to_owned()).or(row.reason_code),
        detail: step.detail.map(str::to_owned).or(row.detail),
        outcome: step.outcome.cloned().or(row.outcome),
        ..row
    }))
}

fn outcome_text(step: &Step<'_>) -> Result<Option<String>> {
    step.outcome
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| Error::Corrupt { what: "outcome", value: error.to_string() })
}

/// A host that was given up came back with an outcome: it is kept and said,
/// and the state stays, since people have acted on it.
async fn append_late(connection: &mut AnyConnection, row: &ActionRow, step: &Step<'_>, now: Timestamp) -> Result<()> {
    let id = row.id.to_string();
    sqlx::query("update action set outcome = $2, updated_ms = $3 where id = $1 and outcome is null")
        .bind(&id)
        .bind(outcome_text(step)?)
        .bind(now.as_ms())
        .execute(&mut *connection)
        .await
        .context("append a late outcome")?;
    let entry = audit::NewEntry {
        at: now,
        actor: step.actor,
        verb: "action.late_result",
        object: ("action", &id),
        detail: step.detail.unwrap_or("the host told the outcome after it was given up"),
    };
    audit::insert(connection, entry).await?;
    if let Some(note) = &step.note {
        let note = Note { effect_key: format!("{}/late", note.effect_key), ..note.clone() };
        say(connection, row.finding_id.as_deref(), &note, now).await?;
    }
    Ok(())
}

/// A finding that has resolved needs no repair: what waits for a decision on
/// it waits no more.
pub(super) async fn withdraw_proposals(connection: &mut AnyConnection, finding: &str, now: Timestamp) -> Result<()> {
    let waiting: Vec<(String,)> = sqlx::query_as("select id from action where finding_id = $1 and state = 'proposed'")
        .bind(finding)
        .fetch_all(&mut *connection)
        .await
        .context("read the proposals")?;
    for (id,) in waiting {
        let step = Step { detail: Some("the finding has resolved"), ..Step::new(Event::Cancel, "farol") };
        advance(connection, word("action id", &id)?, &step, now).await?;
    }
    Ok(())
}
