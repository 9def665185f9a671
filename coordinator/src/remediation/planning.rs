//! From an entry of the catalogue to a plan that a person can agree to.
//!
//! The plan is made from a fresh look at its host: what must hold before
//! anything is changed was just looked at, what is there is in the plan, and so
//! is the class that the host's own policy gives it. A host that cannot be
//! looked at gets no plan.

use std::time::Duration;

use farol_protocol::{
    ActionId, ActionKind, Plan, RiskClass, Timestamp,
    action::{FinalState, Outcome, PreState},
    remediation::{Look, Phase},
};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::{Proposal, proposal_note, ready, takes};
use crate::{
    action::State,
    app::Shared,
    auth::Operator,
    error::{Error, Result},
    events::Noun,
    store::{actions::ActionRow, hosts::HostRow},
};

/// How long a host has for a look.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// How often its end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Id of the entry.
    pub entry: &'a str,
    /// Id or name of the host.
    pub host: &'a str,
    /// The entry's parameters.
    pub params: &'a Map<String, Value>,
    /// Why.
    pub reason: &'a str,
    /// The finding it is to mend.
    pub finding_id: Option<&'a str>,
}

impl Shared {
    /// Plans a remediation and proposes it.
    ///
    /// # Errors
    /// No such entry, host or finding, the parameters do not fit, the host is
    /// away, its policy does not allow a step, something that must hold does
    /// not, or the store failed.
    pub async fn plan(&self, by: &Operator, wanted: Wanted<'_>) -> Result<ActionRow> {
        let catalogue = self.catalogue.get();
        let entry = catalogue.entry(wanted.entry)?;
        let (mut params, _) = entry.fill(wanted.params)?;
        let host = self.store.host(wanted.host).await?;
        ready(&host)?;
        for kind in [ActionKind::RemediationLook, ActionKind::RemediationRun] {
            takes(&host, kind)?;
        }
        if host.protocol == Some(0) {
            return Err(Error::Refused(format!("the agent of `{}` speaks the older contract; update it", host.name)));
        }
        if let Some(finding) = wanted.finding_id {
            self.store.finding(finding).await?;
        }
        let looked = self.look(by, &host, &params, wanted).await?;
        let Some(Outcome { look: Some(Look { class, seen }), steps, .. }) = looked.outcome.clone() else {
            return Err(Error::NotReady {
                code: "look_failed",
                detail: format!("the agent of `{}` did not say what it saw; update it", host.name),
            });
        };
        if let Some(step) = steps.iter().find(|step| step.state != FinalState::Done) {
            let why = step.detail.clone().unwrap_or_else(|| step.stdout.clone());
            return Err(if step.phase == Phase::Validate {
                Error::NotReady {
                    code: "validation_failed",
                    detail: format!("what must hold first does not on `{}` (`{}`): {why}", host.name, step.id),
                }
            } else {
                Error::NotReady {
                    code: "look_failed",
                    detail: format!("what `{}` would change on `{}` could not be seen: {why}", step.id, host.name),
                }
            });
        }
        expect(&mut params, &seen);
        let proposal = Proposal {
            by: &by.requester(),
            host: (host.key, &host.id),
            kind: ActionKind::RemediationRun,
            params,
            reason: wanted.reason,
            at_least: entry.class.max(class),
            finding_id: wanted.finding_id.map(str::to_owned),
            effect_key: None,
            seen: Some(PreState::Steps(seen)),
            look_id: Some(looked.id),
        };
        let (action, effect) = proposal.plan(Timestamp::now())?;
        let note = wanted.finding_id.map(|_| proposal_note(self, &action, &effect, &host.name));
        self.store.propose(&action, note.as_ref()).await?;
        self.events.publish(Noun::Action, action.id.to_string(), State::Proposed.as_str());
        self.store.action(action.id).await
    }

    /// Looks at the host now. A look only reads, so nobody has to agree.
    async fn look(&self, by: &Operator, host: &HostRow, params: &Value, wanted: Wanted<'_>) -> Result<ActionRow> {
        if !self.fleet.online(host.key) {
            return Err(Error::NotReady {
                code: "host_offline",
                detail: format!(
                    "`{}` is not connected, and a plan is made from what is there now; plan again when it is back",
                    host.name
                ),
            });
        }
        let proposal = Proposal {
            by: &by.requester(),
            host: (host.key, &host.id),
            kind: ActionKind::RemediationLook,
            params: params.clone(),
            reason: wanted.reason,
            at_least: RiskClass::R0,
            finding_id: None,
            effect_key: None,
            seen: None,
            look_id: None,
        };
        let (action, _) = proposal.plan(Timestamp::now())?;
        self.store.propose(&action, None).await?;
        self.store.let_run(action.id, Timestamp::now()).await?;
        self.wake.dispatch.look_at(host.key);
        let row = self.ended(by, action.id, host).await?;
        if row.state == State::Done {
            return Ok(row);
        }
        let why = row.detail.or(row.reason_code).unwrap_or_else(|| row.state.to_string());
        let code = if row.state == State::Refused { "look_refused" } else { "look_failed" };
        Err(Error::NotReady { code, detail: format!("`{}` could not be looked at: {why}", host.name) })
    }

    async fn ended(&self, by: &Operator, id: ActionId, host: &HostRow) -> Result<ActionRow> {
        let deadline = Instant::now() + LOOK_LIMIT;
        loop {
            let row = self.store.action(id).await?;
            if row.state.is_final() {
                return Ok(row);
            }
            if Instant::now() >= deadline {
                // It must not take the host's turn when nobody waits for it any more.
                if let Err(error) = self.cancel(by, id, "the plan is not waited for any more").await {
                    tracing::warn!(action_id = %id, "a look could not be cancelled: {error}");
                }
                let detail = format!("`{}` has not answered within a minute; plan again", host.name);
                return Err(Error::NotReady { code: "look_timeout", detail });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Binds each change of a file to the content that was seen.
fn expect(params: &mut Value, seen: &farol_protocol::remediation::SeenBySteps) {
    let steps = params["steps"].as_array_mut().into_iter().flatten();
    for step in steps {
        let Some(PreState::FileSha256(sha256)) = step["id"].as_str().and_then(|id| seen.get(id)) else { continue };
        if let Some(params) = step["work"]["effect"]["params"].as_object_mut() {
            params.insert("expected_sha256".to_owned(), Value::from(sha256.clone()));
        }
    }
}

/// The look that a plan was made from, as far as it is known.
///
/// # Errors
/// The store failed.
pub async fn look_of(app: &Shared, action: &ActionRow) -> Result<Option<Outcome>> {
    match action.look_id {
        Some(id) => Ok(app.store.action(id).await?.outcome),
        None => Ok(None),
    }
}

/// The entry of the catalogue that a plan was made from.
#[must_use]
pub fn entry_of(action: &ActionRow) -> Option<String> {
    match Plan::parse(&action.plan) {
        Ok((_, farol_protocol::Effect::RemediationRun(remediation))) => Some(remediation.entry),
        _ => None,
    }
}
