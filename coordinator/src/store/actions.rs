//! Actions: plans, decisions, and what is read of them. How they move is in
//! [`super::steps`].

use farol_agent::fault;
use farol_protocol::{ActionId, ActionKind, PlanHash, RiskClass, Timestamp, action::Outcome, signing::Signature};
use serde::Serialize;
use sqlx::{Any, AnyConnection, FromRow, QueryBuilder};

use super::{
    Cursor, Page, Store, audit,
    hosts::HostKey,
    inbox::{self, Note},
    keys, people, serde_word,
    steps::{self, Request, Step, Stepped},
    word,
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
    /// The look at its host that it was planned from.
    pub look_id: Option<ActionId>,
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
    /// The look at its host that it was planned from.
    pub look_id: Option<ActionId>,
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
    /// The key they signed with; null where no signature was given.
    pub key_id: Option<String>,
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
    look_id: Option<String>,
}

const COLUMNS: &str = "id, host_key, kind, plan, plan_hash, risk_class, state, reason_code, detail, requested_by, \
     reason, finding_id, issued_ms, expires_ms, timeout_ms, updated_ms, outcome, cancel_requested, look_id";

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
            look_id: raw.look_id.map(|id| word("action id", &id)).transpose()?,
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

/// What somebody says with their decision.
#[derive(Debug, Clone, Copy)]
pub struct Approval<'a> {
    /// In words.
    pub comment: &'a str,
    /// With their key.
    pub signature: Option<&'a Signature>,
    /// Whether the action is held before it goes to its host.
    pub hold: bool,
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
        fault::point("coordinator.propose.before");
        write.commit().await?;
        fault::point("coordinator.propose.after");
        Ok(inserted)
    }

    /// One action.
    ///
    /// # Errors
    /// No such action, or the store failed.
    pub async fn action(&self, id: ActionId) -> Result<ActionRow> {
        let mut connection = self.state().read().await?;
        select(&mut connection, id).await
    }

    /// Actions, newest first, in one state where one is given.
    ///
    /// # Errors
    /// The store failed.
    pub async fn actions(&self, state: Option<State>, from: &Cursor, limit: i64) -> Result<Page<ActionRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from action where ($1 = '' or state = $1)
             and (issued_ms < $2 or (issued_ms = $2 and id < $3)) order by issued_ms desc, id desc limit $4"
        )))
        .bind(state.map_or("", State::as_str))
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(&mut *read)
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
        self.all_open(None).await
    }

    /// The same, of these hosts.
    ///
    /// # Errors
    /// The store failed.
    pub async fn open_actions_of(&self, hosts: &[HostKey]) -> Result<Vec<ActionRow>> {
        let mut rows = Vec::new();
        for chunk in hosts.chunks(500) {
            rows.extend(self.all_open(Some(chunk)).await?);
        }
        Ok(rows)
    }

    async fn all_open(&self, hosts: Option<&[HostKey]>) -> Result<Vec<ActionRow>> {
        let mut select = QueryBuilder::<Any>::new(format!(
            "select {COLUMNS} from action where state in ('proposed', 'approved', 'held', 'queued', 'sent', 'accepted')"
        ));
        if let Some(hosts) = hosts {
            select.push(" and host_key in (");
            let mut list = select.separated(", ");
            for host in hosts {
                list.push_bind(host.0);
            }
            select.push(")");
        }
        select.push(" order by issued_ms, id");
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = select.build_query_as().fetch_all(&mut *read).await.context("read the actions")?;
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

    /// The order that a host was sent and has not ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn under_way(&self, host: HostKey) -> Result<Option<ActionRow>> {
        let mut read = self.state().read().await?;
        let row: Option<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from action where state in ('sent', 'accepted') and host_key = $1
             order by issued_ms, id limit 1"
        )))
        .bind(host.0)
        .fetch_optional(&mut *read)
        .await
        .context("read the order under way")?;
        row.map(ActionRow::try_from).transpose()
    }

    /// The life of an action.
    ///
    /// # Errors
    /// The store failed.
    pub async fn transitions(&self, id: ActionId) -> Result<Vec<TransitionRow>> {
        // The record has one entry for each state that was entered, beside others.
        let mut read = self.state().read().await?;
        let rows: Vec<(String, i64, String)> = sqlx::query_as(
            "select verb, at_ms, actor from audit where object_kind = 'action' and object_id = $1 order by id",
        )
        .bind(id.to_string())
        .fetch_all(&mut *read)
        .await
        .context("read the transitions")?;
        Ok(rows
            .into_iter()
            .filter_map(|(verb, at, actor)| {
                let state = verb.strip_prefix("action.")?.parse().ok()?;
                Some(TransitionRow { state, at: Timestamp::from_ms(at), actor })
            })
            .collect())
    }

    /// The decisions on an action.
    ///
    /// # Errors
    /// The store failed.
    pub async fn approvals(&self, id: ActionId) -> Result<Vec<ApprovalRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<(String, String, String, String, i64, Option<String>)> = sqlx::query_as(
            "select approver, decision, plan_hash, comment, at_ms, signature from approval where action_id = $1 order by at_ms",
        )
        .bind(id.to_string())
        .fetch_all(&mut *read)
        .await
        .context("read the approvals")?;
        rows.into_iter()
            .map(|(approver, decision, plan_hash, comment, at, signature)| {
                Ok(ApprovalRow {
                    approver,
                    decision,
                    plan_hash,
                    comment,
                    at: Timestamp::from_ms(at),
                    key_id: signature.map(|text| keys::stored(&text)).transpose()?.map(|signature| signature.key_id),
                })
            })
            .collect()
    }

    /// A person agrees to exactly this plan. R3 takes two people, neither of
    /// them the requester, one of them a lead; other classes take one. The
    /// signature was checked before.
    ///
    /// # Errors
    /// Another plan, a signature is needed, the action is not waiting, the
    /// person may not, or the store failed.
    pub async fn approve(
        &self,
        by: &Operator,
        id: ActionId,
        plan_hash: &PlanHash,
        decision: Approval<'_>,
        note: Note,
        now: Timestamp,
    ) -> Result<Decided> {
        let mut write = self.state().write().await?;
        let row = select(&mut write, id).await?;
        check_decision(&row, plan_hash, "approved")?;
        if row.expires_at <= now {
            return Err(Error::Refused("the action has expired; propose it again".to_owned()));
        }
        if row.class == RiskClass::R3 {
            if row.requested_by.eq_ignore_ascii_case(by.person()) {
                return Err(Error::Forbidden("whoever asked for an R3 action cannot approve it".to_owned()));
            }
            // Once people have accounts, two of their tokens are not two people.
            if !by.is_a_person() && people::users_exist(&mut write).await? {
                return Err(Error::Forbidden(format!(
                    "R3 takes two people, and the token `{}` belongs to nobody; sign in, or use a token of your own",
                    by.name()
                )));
            }
        }
        record_decision(&mut write, by, &row, "approved", decision, now).await?;
        if row.class == RiskClass::R3 && !two_people(&mut write, id).await? {
            write.commit().await?;
            return Ok(Decided::WaitsForSecond(row));
        }
        let approve = Request::of(id, Step::new(Event::Approve, by.name()).saying(note), now);
        let next = if decision.hold { Event::Hold } else { Event::Queue };
        let queue = Request::of(id, Step::new(next, "farol"), now);
        let stepped = steps::take(&mut write, &[approve, queue]).await?.pop();
        fault::point("coordinator.approve.before");
        write.commit().await?;
        fault::point("coordinator.approve.after");
        Ok(Decided::Queued(stepped.map_or(Ok(row), |stepped| stepped.map(Stepped::into_row))?))
    }

    /// Lets an action run that nobody has to agree to.
    ///
    /// # Errors
    /// No such action, it is not waiting, or the store failed.
    pub async fn let_run(&self, id: ActionId, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let approve = Request::of(id, Step::new(Event::Approve, "policy"), now);
        let queue = Request::of(id, Step::new(Event::Queue, "farol"), now);
        steps::take(&mut write, &[approve, queue]).await?.into_iter().collect::<Result<Vec<_>>>()?;
        write.commit().await
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
        fault::point("coordinator.cancel.before");
        write.commit().await?;
        fault::point("coordinator.cancel.after");
        Ok(())
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
        record_decision(&mut write, by, &row, "rejected", Approval { comment, signature: None, hold: false }, now)
            .await?;
        let reject = Request::of(id, Step::new(Event::Reject, by.name()).saying(note), now);
        let stepped = steps::take(&mut write, &[reject]).await?.pop();
        write.commit().await?;
        stepped.map_or(Ok(row), |stepped| stepped.map(Stepped::into_row))
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
    said: Approval<'_>,
    now: Timestamp,
) -> Result<()> {
    let Approval { comment, signature, .. } = said;
    let text = signature
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| Error::Corrupt { what: "signature", value: error.to_string() })?;
    let inserted = sqlx::query(
        "insert into approval (action_id, approver, role, decision, plan_hash, comment, at_ms, signature)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (action_id, approver) do nothing",
    )
    .bind(row.id.to_string())
    .bind(by.person())
    .bind(by.role().as_str())
    .bind(decision)
    .bind(row.plan_hash.as_str())
    .bind(comment)
    .bind(now.as_ms())
    .bind(text)
    .execute(&mut *connection)
    .await
    .context("store the decision")?;
    if inserted.rows_affected() == 0 {
        return Err(Error::Refused("you have decided on this action already; another person must".to_owned()));
    }
    let signed = signature.map(|signature| format!(", signed with key {}", signature.key_id)).unwrap_or_default();
    let detail = format!("{decision} plan {}{signed}: {comment}", row.plan_hash);
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

/// The actions of these ids, as far as there are any.
pub(super) async fn select_all(connection: &mut AnyConnection, ids: &[ActionId]) -> Result<Vec<ActionRow>> {
    let mut rows = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(50) {
        let mut select = QueryBuilder::<Any>::new(format!("select {COLUMNS} from action where id in ("));
        let mut list = select.separated(", ");
        for id in chunk {
            list.push_bind(id.to_string());
        }
        select.push(")");
        let found: Vec<Raw> = select.build_query_as().fetch_all(&mut *connection).await.context("read the actions")?;
        for raw in found {
            rows.push(raw.try_into()?);
        }
    }
    Ok(rows)
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
             effect_key, issued_ms, expires_ms, timeout_ms, updated_ms, look_id)
         values ($1, $2, $3, $4, $5, $6, 'proposed', $7, $8, $9, $10, $11, $12, $13, $11, $14)
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
    .bind(new.look_id.map(|id| id.to_string()))
    .execute(&mut *connection)
    .await
    .context("store the action")?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    let (plan, id) = (format!("plan {}", new.plan_hash), new.id.to_string());
    let entry = audit::NewEntry {
        at: new.issued_at,
        actor: &new.requested_by,
        verb: "action.proposed",
        object: ("action", &id),
        detail: &plan,
    };
    audit::insert(connection, entry).await?;
    if let Some(note) = note {
        say(connection, new.finding_id.as_deref(), note, new.issued_at).await?;
    }
    Ok(true)
}

pub(super) async fn say(
    connection: &mut AnyConnection,
    finding: Option<&str>,
    note: &Note,
    now: Timestamp,
) -> Result<()> {
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

/// A finding that has resolved needs no repair: what waits for a decision on
/// it waits no more.
pub(super) async fn withdraw_proposals(connection: &mut AnyConnection, finding: &str, now: Timestamp) -> Result<()> {
    let waiting: Vec<(String,)> = sqlx::query_as("select id from action where finding_id = $1 and state = 'proposed'")
        .bind(finding)
        .fetch_all(&mut *connection)
        .await
        .context("read the proposals")?;
    let mut requests = Vec::with_capacity(waiting.len());
    for (id,) in waiting {
        let step = Step { detail: Some("the finding has resolved".to_owned()), ..Step::new(Event::Cancel, "farol") };
        requests.push(Request::of(word("action id", &id)?, step, now));
    }
    steps::take(connection, &requests).await?;
    Ok(())
}
