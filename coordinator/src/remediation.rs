//! Proposing, deciding and cancelling actions: the part of the line between
//! a person and the host's queue.

mod brakes;
mod planning;
pub(crate) mod signatures;

pub use self::{
    brakes::Switch,
    planning::{Wanted, entry_of, look_of},
};

use std::{sync::Arc, time::Duration};

use farol_agent::task::scoped;
use farol_protocol::{
    ActionId, ActionKind, Effect, HostId, Plan, PlanHash, RiskClass, Timestamp, action::PreState, registry::Persona,
    signing::Signature,
};
use serde_json::Value;

use crate::{
    action::{Event, State},
    app::Shared,
    auth::{Operator, Requester},
    error::{Error, Result},
    events::Noun,
    store::{
        actions::{ActionRow, Approval, Decided, NewAction},
        hosts::{Enrolment, HostKey, HostRow},
        inbox::Note,
        steps::{Request, Step},
    },
    text::{self, Message},
};

/// How long a proposal waits for its decision and its host.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// What is needed to write a plan.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// Who asks.
    pub by: &'a Requester,
    /// Where.
    pub host: (HostKey, &'a HostId),
    /// Kind.
    pub kind: ActionKind,
    /// Its parameters.
    pub params: Value,
    /// Why.
    pub reason: &'a str,
    /// A class above the kind's default, where the host's policy asked for one.
    pub at_least: RiskClass,
    /// The finding it is to mend.
    pub finding_id: Option<String>,
    /// Under which it is proposed once.
    pub effect_key: Option<String>,
    /// What was seen of what it changes.
    pub seen: Option<PreState>,
    /// The look that saw it.
    pub look_id: Option<ActionId>,
}

impl Proposal<'_> {
    /// Writes the plan's bytes, once.
    ///
    /// # Errors
    /// The parameters do not fit the kind.
    pub fn plan(self, now: Timestamp) -> Result<(NewAction, Effect)> {
        let effect = Effect::parse(self.kind, &self.params)?;
        let plan = Plan {
            v: 1,
            action_id: ActionId::new(),
            host_id: self.host.1.clone(),
            kind: self.kind,
            params: self.params,
            pre_state: pre_state(self.seen, &effect),
            risk_class: effect.default_class().max(self.at_least),
            requested_by: self.by.name().to_owned(),
            issued_at: now,
            expires_at: now.plus(LIFETIME),
        };
        let bytes = plan.to_text()?;
        let action = NewAction {
            id: plan.action_id,
            host: self.host.0,
            kind: plan.kind,
            plan_hash: PlanHash::of(&bytes),
            plan: bytes,
            class: plan.risk_class,
            requested_by: plan.requested_by,
            reason: text::plain(self.reason, 1000),
            finding_id: self.finding_id,
            effect_key: self.effect_key,
            look_id: self.look_id,
            issued_at: now,
            expires_at: plan.expires_at,
            // What undoes it has the same time again.
            timeout_ms: match effect {
                Effect::RemediationRun(_) => effect.timeout_ms().saturating_mul(2),
                _ => effect.timeout_ms(),
            },
        };
        Ok((action, effect))
    }
}

/// What whoever asked has seen of what the action changes, as far as its
/// parameters say so: the host compares it again before it acts.
fn pre_state(seen: Option<PreState>, effect: &Effect) -> Value {
    let by_params = || match effect {
        Effect::FileApply(apply) => Some(PreState::FileSha256(apply.expected_sha256.clone())),
        _ => None,
    };
    seen.or_else(by_params).and_then(|seen| serde_json::to_value(seen).ok()).unwrap_or(Value::Null)
}

/// What a persona or person says about an action, once per step.
#[must_use]
pub fn note(id: ActionId, step: &str, author: &str, by_person: bool, kind: &'static str, body: String) -> Note {
    Note { author: author.to_owned(), by_person, kind, body, effect_key: format!("action/{id}/{step}") }
}

/// What an action does, in the operator's words.
#[must_use]
pub fn in_words(app: &Shared, row: &ActionRow) -> String {
    Plan::parse(&row.plan)
        .map_or_else(|_| row.kind.as_str().to_owned(), |(_, effect)| text::effect(&effect, app.language()))
}

/// A7 says that an action is proposed and how to approve it.
#[must_use]
pub fn proposal_note(app: &Shared, action: &NewAction, effect: &Effect, host: &str) -> Note {
    let id = action.id.to_string();
    let what = text::effect(effect, app.language());
    let body =
        Message::ActionProposed { id: &id, what: &what, host, class: action.class, expires_at: action.expires_at }
            .in_words(app.language());
    note(action.id, "proposed", Persona::A7.as_str(), false, "proposal", body)
}

fn decision(app: &Shared, row: &ActionRow, host: &str, by: &Operator, comment: &str, approved: bool) -> Note {
    let (id, what) = (row.id.to_string(), in_words(app, row));
    let comment = Some(comment).filter(|comment| !comment.is_empty());
    let (step, message) = if approved {
        ("approved", Message::ActionApproved { id: &id, what: &what, host, by: by.name(), comment })
    } else {
        ("rejected", Message::ActionRejected { id: &id, what: &what, host, by: by.name(), comment })
    };
    note(row.id, step, by.name(), true, "decision", message.in_words(app.language()))
}

impl Shared {
    /// A person asks for an action.
    ///
    /// # Errors
    /// No such host, it has no agent, the parameters do not fit, or the store
    /// failed.
    pub async fn propose(
        &self,
        by: &Operator,
        host: &str,
        kind: ActionKind,
        params: Value,
        reason: &str,
    ) -> Result<ActionRow> {
        if kind.is_remediation() {
            return Err(Error::Refused(
                "a remediation is planned from the catalogue: POST /api/v1/catalogue/{id}/plan, or `farol plan`"
                    .to_owned(),
            ));
        }
        let host = self.store.host(host).await?;
        ready(&host)?;
        let proposal = Proposal {
            by: &by.requester(),
            host: (host.key, &host.id),
            kind,
            params,
            reason,
            at_least: RiskClass::R0,
            finding_id: None,
            effect_key: None,
            seen: None,
            look_id: None,
        };
        let (action, _) = proposal.plan(Timestamp::now())?;
        if host.protocol == Some(0) && action.kind != ActionKind::CommandExec {
            return Err(Error::Refused(format!(
                "the agent of `{}` speaks the older contract, which has only command.exec",
                host.name
            )));
        }
        takes(&host, action.kind)?;
        self.store.propose(&action, None).await?;
        self.events.publish(Noun::Action, action.id.to_string(), State::Proposed.as_str());
        self.store.action(action.id).await
    }

    /// A person agrees to a plan.
    ///
    /// # Errors
    /// See [`crate::store::Store::approve`]; the host is gone or wants a signature.
    pub async fn approve(
        self: &Arc<Self>,
        by: &Operator,
        id: ActionId,
        plan_hash: &PlanHash,
        comment: &str,
        signatures: &[Signature],
    ) -> Result<Decided> {
        let row = self.store.action(id).await?;
        let host = self.store.host_by_key(row.host).await?;
        ready(&host)?;
        takes(&host, row.kind)?;
        if row.plan_hash != *plan_hash {
            return Err(Error::PlanMismatch);
        }
        self.switch.may_begin(&row, &host)?;
        let signature = match row.state {
            State::Proposed => {
                let webauthn = crate::people::passkey::site(&self.config).ok();
                signatures::of_approval(&self.store, by, &row, &host, signatures, webauthn.as_ref()).await?
            }
            _ => None,
        };
        let hold = self.config.approval_hold;
        let said = Approval { comment, signature: signature.as_ref(), hold: !hold.is_zero() };
        let note = decision(self, &row, &host.name, by, comment, true);
        let decided = self.store.approve(by, id, plan_hash, said, note, Timestamp::now()).await?;
        if let Decided::Queued(row) = &decided {
            self.events.publish(Noun::Action, row.id.to_string(), row.state.as_str());
            self.wake.dispatch.look_at(row.host);
            if row.state == State::Held {
                let (app, host) = (Arc::clone(self), row.host);
                tokio::spawn(scoped(async move {
                    tokio::time::sleep(hold).await;
                    app.wake.dispatch.look_at(host);
                }));
            }
        }
        Ok(decided)
    }

    /// A person declines a plan.
    ///
    /// # Errors
    /// See [`crate::store::Store::reject`].
    pub async fn reject(&self, by: &Operator, id: ActionId, plan_hash: &PlanHash, comment: &str) -> Result<ActionRow> {
        let row = self.store.action(id).await?;
        let host = self.store.host_by_key(row.host).await?;
        let note = decision(self, &row, &host.name, by, comment, false);
        let row = self.store.reject(by, id, plan_hash, comment, note, Timestamp::now()).await?;
        self.events.publish(Noun::Action, row.id.to_string(), row.state.as_str());
        Ok(row)
    }

    /// A person cancels an action. One that has not left is cancelled here; one
    /// that has left is asked back from its host, at once or when it returns,
    /// and the host's answer decides.
    ///
    /// # Errors
    /// No such action, it has ended, its host cannot take a cancel, or the
    /// store failed.
    pub async fn cancel(&self, by: &Operator, id: ActionId, comment: &str) -> Result<ActionRow> {
        let comment = text::plain(comment, 1000);
        let step = Step { detail: Some(comment.clone()), ..Step::new(Event::Cancel, by.name()) };
        let stepped = self.store.step(Request::of(id, step, Timestamp::now())).await?;
        let row = stepped.row().clone();
        if stepped.moved() {
            self.events.publish(Noun::Action, id.to_string(), row.state.as_str());
            return Ok(row);
        }
        if row.state.is_final() {
            return Err(Error::Stale { action: id, state: row.state, step: "cancelled" });
        }
        if self.store.host_by_key(row.host).await?.protocol == Some(0) {
            return Err(Error::Refused(
                "the action has left for a host whose agent is too old to take a cancel; its time limit ends it"
                    .to_owned(),
            ));
        }
        self.store.request_cancel(by, id, &comment, Timestamp::now()).await?;
        if !self.fleet.cancel(row.host, id) {
            tracing::info!(action_id = %id, "the host is away, it is asked for the action when it is back");
        }
        self.store.action(id).await
    }
}

/// The signatures with which an approved action may leave for its host now.
///
/// # Errors
/// Why it may not.
pub(crate) async fn may_leave(app: &Shared, row: &ActionRow, host: &HostRow) -> Result<Vec<Signature>> {
    app.switch.may_begin(row, host)?;
    if host.held {
        return Err(Error::Refused(format!(
            "two machines answer as `{0}`; decide with `farol host accept {0}` first",
            host.name
        )));
    }
    ready(host)?;
    takes(host, row.kind)?;
    signatures::to_send(&app.store, row, host).await
}

/// Whether the host's agent has said that it takes such an order. One of the
/// older contract has one kind, whatever it says.
fn takes(host: &HostRow, kind: ActionKind) -> Result<()> {
    let known = host.capabilities.as_ref().filter(|_| host.protocol != Some(0));
    if known.is_none_or(|known| known.iter().any(|method| method == kind.as_str())) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the agent of `{}` (version {}) does not take {kind}; update it there, or use another kind of action",
        host.name,
        host.agent_version.as_deref().unwrap_or("unknown")
    )))
}

fn ready(host: &HostRow) -> Result<()> {
    match host.enrolment {
        Enrolment::Enrolled if host.effects_allowed == Some(false) => Err(Error::Refused(format!(
            "the host `{}` has no policy file, so its agent refuses every effect; write /etc/farol-agent/policy.yaml there",
            host.name
        ))),
        Enrolment::Enrolled => Ok(()),
        Enrolment::Pending => Err(Error::Refused(format!(
            "the host `{}` has no agent yet; enrol it with `farol host add {}`",
            host.name, host.name
        ))),
        Enrolment::Revoked => Err(Error::Refused(format!("the host `{}` is revoked", host.name))),
    }
}
