//! What entries speak of: plans, decisions with their signatures, keys and
//! artifacts. Each is compared with what its entry says of it. Pure.

use std::collections::{BTreeSet, HashMap};

use farol_protocol::{
    PlanHash,
    signing::{self, PublicKey, Signature, WebAuthn},
};
use serde_json::Value;

use super::{
    Fault,
    docs::{ActionDoc, ApprovalDoc, ArtifactDoc, EntryDoc, KeyDoc},
    verdict::Faults,
};
use crate::{
    action::State,
    store::evidence::{OUTCOME, parts},
};

/// What the entries say, and what was found of it.
#[derive(Debug, Default)]
pub struct Matter {
    actions: HashMap<String, Act>,
    artifacts: HashMap<String, Artifact>,
    keys: HashMap<String, Key>,
    public: HashMap<String, (String, PublicKey)>,
    /// Whether the entries are all there are: what none of them speaks of was
    /// then put in from outside.
    is_whole: bool,
    /// Outcomes of before evidence was kept.
    pub uncovered: u64,
    /// Actions that were compared.
    pub compared: u64,
    /// Decisions that were compared.
    pub decided: u64,
    /// Signatures that were checked.
    pub signatures: u64,
    /// Artifacts that were compared.
    pub stored: u64,
}

#[derive(Debug, Default)]
struct Act {
    /// Entry and plan hash of `action.proposed`.
    plan: Option<(String, String)>,
    /// Entry and state that was entered last.
    state: Option<(String, State)>,
    decisions: Vec<Decision>,
    /// Names and hashes of the parts of its outcome.
    outcome: BTreeSet<(String, String)>,
    seen: bool,
}

#[derive(Debug)]
struct Decision {
    entry: String,
    actor: String,
    decision: &'static str,
    detail: String,
    seen: bool,
}

#[derive(Debug)]
struct Artifact {
    entry: String,
    object: (String, String),
    detail: String,
    seen: bool,
}

#[derive(Debug)]
struct Key {
    entry: String,
    detail: String,
    revoked: bool,
    seen: bool,
}

impl Matter {
    /// `is_whole` says that all entries there are will be taken in.
    #[must_use]
    pub fn new(is_whole: bool) -> Self {
        Self { is_whole, ..Self::default() }
    }

    /// Takes in what an entry says, before anything is compared.
    pub fn entry(&mut self, entry: &EntryDoc) {
        let EntryDoc { id, verb, object_kind, object_id, detail, .. } = entry;
        match (object_kind.as_str(), verb.as_str()) {
            (_, "evidence.stored") => {
                let artifact = detail.split(' ').next().unwrap_or_default().to_owned();
                if object_kind == "action"
                    && let Some(part) = outcome_part(detail)
                {
                    self.actions.entry(object_id.clone()).or_default().outcome.insert(part);
                }
                let object = (object_kind.clone(), object_id.clone());
                let known = Artifact { entry: id.clone(), object, detail: detail.clone(), seen: false };
                self.artifacts.insert(artifact, known);
            }
            ("action", _) => self.of_action(entry),
            ("key", "key.added") => {
                let key = Key { entry: id.clone(), detail: detail.clone(), revoked: false, seen: false };
                self.keys.insert(object_id.clone(), key);
            }
            ("key", "key.revoked") => {
                if let Some(key) = self.keys.get_mut(object_id) {
                    key.revoked = true;
                }
            }
            _ => {}
        }
    }

    fn of_action(&mut self, entry: &EntryDoc) {
        let EntryDoc { id, actor, verb, object_id, detail, .. } = entry;
        let Some(step) = verb.strip_prefix("action.") else { return };
        let act = self.actions.entry(object_id.clone()).or_default();
        if step == "proposed" {
            let hash = detail.strip_prefix("plan ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            act.plan = Some((id.clone(), hash.to_owned()));
        }
        if let Ok(state) = step.parse::<State>() {
            // Ids sort by time; the seals of two batches may not.
            if act.state.as_ref().is_none_or(|(known, _)| known < id) {
                act.state = Some((id.clone(), state));
            }
        }
        let decision = match step {
            "approval" => "approved",
            "rejection" => "rejected",
            _ => return,
        };
        let (entry, actor, detail) = (id.clone(), actor.clone(), detail.clone());
        act.decisions.push(Decision { entry, actor, decision, detail, seen: false });
    }

    /// Whether an entry speaks of this action.
    #[must_use]
    pub fn has_action(&self, id: &str) -> bool {
        self.actions.contains_key(id)
    }

    /// Whether an entry speaks of this decision.
    #[must_use]
    pub fn has_decision(&self, doc: &ApprovalDoc) -> bool {
        self.actions.get(&doc.action_id).is_some_and(|act| {
            act.decisions.iter().any(|one| person(&one.actor) == doc.approver && one.decision == doc.decision)
        })
    }

    /// Whether an entry speaks of this artifact.
    #[must_use]
    pub fn has_artifact(&self, id: &str) -> bool {
        self.artifacts.contains_key(id)
    }

    /// A person's key. All of them come before the decisions.
    pub fn key(&mut self, doc: &KeyDoc, faults: &mut Faults) {
        let object = || format!("key {}", doc.key_id);
        match self.keys.get_mut(&doc.key_id) {
            Some(key) => {
                key.seen = true;
                let says = ["key", "passkey"].map(|what| format!("{what} {} of {}", doc.public, doc.operator));
                let revoked = key.revoked == doc.revoked_ms.is_some();
                if !says.contains(&key.detail) || (self.is_whole && !revoked) {
                    let entry = key.entry.clone();
                    let text = format!("key {} is not what entry {entry} says of it: it was changed", doc.key_id);
                    faults.push(Fault { entry: Some(entry), ..Fault::object("key_changed", object(), text) });
                }
            }
            None if self.is_whole => {
                let text = format!("no entry speaks of key {}: it was put in from outside", doc.key_id);
                faults.push(Fault::object("key_unrecorded", object(), text));
            }
            None => {}
        }
        match doc.public.parse::<PublicKey>() {
            Ok(public) if public.id() == doc.key_id => {
                self.public.insert(doc.key_id.clone(), (doc.operator.clone(), public));
            }
            _ => {
                faults.push(Fault::object("key_changed", object(), format!("key {} is no key of this id", doc.key_id)))
            }
        }
    }

    /// An action.
    pub fn action(&mut self, doc: &ActionDoc, faults: &mut Faults) {
        self.compared += 1;
        let object = || format!("action {}", doc.id);
        let id = &doc.id;
        let computed = PlanHash::of(&doc.plan);
        if computed.as_str() != doc.plan_hash {
            let text = format!("the plan of action {id} was changed: its bytes give {computed}, not {}", doc.plan_hash);
            faults.push(Fault::object("plan_changed", object(), text));
        }
        let is_whole = self.is_whole;
        let Some(act) = self.actions.get_mut(id) else {
            if is_whole {
                let text = format!("no entry speaks of action {id}: it was put in from outside");
                faults.push(Fault::object("action_unrecorded", object(), text));
            }
            return;
        };
        act.seen = true;
        match &act.plan {
            Some((entry, hash)) if *hash != doc.plan_hash => {
                let text =
                    format!("action {id} has another plan than entry {entry} says: {}, not {hash}", doc.plan_hash);
                faults.push(Fault { entry: Some(entry.clone()), ..Fault::object("plan_changed", object(), text) });
            }
            None if is_whole => {
                let text = format!("no entry says that action {id} was proposed: it was put in from outside");
                faults.push(Fault::object("action_unrecorded", object(), text));
            }
            _ => {}
        }
        if let Some((entry, state)) = &act.state
            && is_whole
            && state.as_str() != doc.state
        {
            let text = format!("action {id} is {}, and the last entry about it ({entry}) says {state}", doc.state);
            faults.push(Fault { entry: Some(entry.clone()), ..Fault::object("state_changed", object(), text) });
        }
        let Some(outcome) = &doc.outcome else {
            if is_whole && !act.outcome.is_empty() {
                let text = format!("the outcome of action {id} was removed");
                faults.push(Fault::object("outcome_changed", object(), text));
            }
            return;
        };
        if act.outcome.is_empty() {
            self.uncovered += u64::from(is_whole);
            return;
        }
        let value: Value = serde_json::from_str(outcome).unwrap_or_default();
        let is: BTreeSet<(String, String)> = parts(value)
            .into_iter()
            .map(|part| {
                let hash = super::Hash::of(part.content.as_bytes()).to_string();
                (format!("{}/{}", part.step, part.name), hash)
            })
            .collect();
        let differs: Vec<&str> = is
            .symmetric_difference(&act.outcome)
            .map(|(name, _)| name.as_str())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !differs.is_empty() {
            let text =
                format!("the outcome of action {id} is not the one that was stored: {} differ", differs.join(", "));
            faults.push(Fault::object("outcome_changed", object(), text));
        }
    }

    /// A person's decision.
    pub fn approval(&mut self, doc: &ApprovalDoc, faults: &mut Faults) {
        self.decided += 1;
        let object = || format!("action {}", doc.action_id);
        let who = format!("{}'s decision on action {}", doc.approver, doc.action_id);
        let signature = match doc.signature.as_deref().map(serde_json::from_str::<Signature>) {
            None => None,
            Some(Ok(signature)) => Some(signature),
            Some(Err(_)) => {
                let text = format!("the signature of {who} cannot be read: it was changed");
                faults.push(Fault::object("signature_bad", object(), text));
                None
            }
        };
        let mut of_them = self
            .actions
            .get_mut(&doc.action_id)
            .into_iter()
            .flat_map(|act| &mut act.decisions)
            .filter(|one| person(&one.actor) == doc.approver && !one.seen);
        match of_them.next() {
            Some(one) => {
                one.seen = true;
                let signed = signature.as_ref().map(|signature| format!(" with key {}", signature.key_id));
                let fits = one.decision == doc.decision
                    && one.detail.contains(&doc.plan_hash)
                    && one.detail.ends_with(&doc.comment)
                    && signed.as_ref().map_or(!one.detail.contains(", signed with key "), |by| one.detail.contains(by));
                if !fits {
                    let text = format!("{who} is not what entry {} says: it was changed", one.entry);
                    let entry = Some(one.entry.clone());
                    faults.push(Fault { entry, ..Fault::object("approval_changed", object(), text) });
                }
            }
            None if self.is_whole => {
                let text = format!("no entry speaks of {who}: it was put in from outside");
                faults.push(Fault::object("approval_unrecorded", object(), text));
            }
            None => {}
        }
        if let Some(signature) = signature {
            self.signatures += 1;
            if let Err(why) = self.signed(doc, &signature) {
                let text = format!("the signature of {who} does not count: {why}");
                faults.push(Fault::object("signature_bad", object(), text));
            }
        }
    }

    fn signed(&self, doc: &ApprovalDoc, signature: &Signature) -> Result<(), String> {
        let plan_hash = PlanHash::try_from(doc.plan_hash.clone()).map_err(|error| error.to_string())?;
        let (operator, key) = self.public.get(&signature.key_id).ok_or("its key is not there")?;
        if *operator != doc.approver || signature.operator != doc.approver {
            return Err("it is somebody else's".to_owned());
        }
        let parties = relying_parties(signature);
        if parties.is_empty() {
            return signing::verify(key, signature, &plan_hash, None).map_err(str::to_owned);
        }
        let mut last = Ok(());
        for party in parties {
            last = signing::verify(key, signature, &plan_hash, Some(&party)).map_err(str::to_owned);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// An artifact, and the SHA-256 and length of its content as it is.
    pub fn artifact(&mut self, doc: &ArtifactDoc, sha256: &str, bytes: u64, faults: &mut Faults) {
        self.stored += 1;
        let object = || format!("artifact {}", doc.id);
        let (id, name) = (&doc.id, &doc.name);
        let about = match (&doc.action_id, &doc.finding_id) {
            (Some(id), None) => Some(("action", id)),
            (None, Some(id)) => Some(("finding", id)),
            _ => None,
        };
        match self.artifacts.get_mut(id) {
            Some(known) => {
                known.seen = true;
                let ArtifactDoc { step, media_type, sha256, bytes, .. } = doc;
                let says = format!("{id} {step}/{name}, {media_type}, {bytes} bytes, sha256:{sha256}");
                let is_about = about.is_some_and(|(kind, id)| known.object.0 == kind && known.object.1 == *id);
                if known.detail != says || !is_about {
                    let text =
                        format!("artifact {id} ({name}) is not what entry {} says of it: it was changed", known.entry);
                    let entry = Some(known.entry.clone());
                    faults.push(Fault { entry, ..Fault::object("artifact_changed", object(), text) });
                }
            }
            None if self.is_whole => {
                let text = format!("no entry speaks of artifact {id} ({name}): it was put in from outside");
                faults.push(Fault::object("artifact_unrecorded", object(), text));
            }
            None => {}
        }
        if sha256 != doc.sha256 || i64::try_from(bytes).ok() != Some(doc.bytes) {
            let was = &doc.sha256;
            let text = format!("the content of artifact {id} ({name}) was changed: it was {was} and is {sha256}");
            faults.push(Fault::object("artifact_changed", object(), text));
        }
    }

    /// What entries speak of and nothing was found of.
    pub fn end(&self, faults: &mut Faults) {
        let mut missing = Vec::new();
        for (id, act) in &self.actions {
            if let Some((entry, _)) = act.plan.as_ref().filter(|_| !act.seen) {
                let text = format!("action {id}, of which entry {entry} speaks, is not there: deleted");
                missing.push(Fault {
                    entry: Some(entry.clone()),
                    ..Fault::object("action_missing", format!("action {id}"), text)
                });
            }
            for one in act.decisions.iter().filter(|one| !one.seen) {
                let (actor, entry) = (&one.actor, &one.entry);
                let text =
                    format!("{actor}'s decision on action {id}, of which entry {entry} speaks, is not there: deleted");
                missing.push(Fault {
                    entry: Some(entry.clone()),
                    ..Fault::object("approval_missing", format!("action {id}"), text)
                });
            }
        }
        for (id, artifact) in self.artifacts.iter().filter(|(_, artifact)| !artifact.seen) {
            let entry = &artifact.entry;
            let text = format!("artifact {id}, of which entry {entry} speaks, is not there: deleted");
            missing.push(Fault {
                entry: Some(entry.clone()),
                ..Fault::object("artifact_missing", format!("artifact {id}"), text)
            });
        }
        for (id, key) in self.keys.iter().filter(|(_, key)| !key.seen) {
            let entry = &key.entry;
            let text = format!("key {id}, of which entry {entry} speaks, is not there: deleted");
            missing
                .push(Fault { entry: Some(entry.clone()), ..Fault::object("key_missing", format!("key {id}"), text) });
        }
        missing.sort_by(|one, other| one.entry.cmp(&other.entry));
        for fault in missing {
            faults.push(fault);
        }
    }
}

/// Of `ID outcome/NAME, TYPE, N bytes, sha256:HASH`, or `outcome.STEP/NAME`: where it belongs and the hash.
fn outcome_part(detail: &str) -> Option<(String, String)> {
    let (place, rest) = detail.split_once(' ')?.1.split_once(',')?;
    if !place.strip_prefix(OUTCOME)?.starts_with(['/', '.']) {
        return None;
    }
    let (_, hash) = rest.rsplit_once("sha256:")?;
    Some((place.to_owned(), hash.to_owned()))
}

/// Where a passkey's assertion says it was made, and the domains that may stand
/// for it. Which of them a host takes is in the host's policy; here it counts
/// that the passkey signed exactly this plan.
fn relying_parties(signature: &Signature) -> Vec<WebAuthn> {
    let Some(data) = &signature.client_data else { return Vec::new() };
    let decoded = data_encoding::BASE64URL_NOPAD.decode(data.as_bytes()).unwrap_or_default();
    let client: Value = serde_json::from_slice(&decoded).unwrap_or_default();
    let origin = client["origin"].as_str().unwrap_or_default();
    let domain = origin.split("://").nth(1).unwrap_or_default().split([':', '/']).next().unwrap_or_default();
    let starts = std::iter::once(0).chain(domain.match_indices('.').map(|(at, _)| at + 1));
    starts.map(|at| WebAuthn { rp_id: domain[at..].to_owned(), origin: origin.to_owned() }).collect()
}

/// Who decided: a token acts for the person it belongs to, as `PERSON/TOKEN`.
fn person(actor: &str) -> &str {
    actor.split_once('/').map_or(actor, |(person, _)| person)
}

#[cfg(test)]
mod tests;
