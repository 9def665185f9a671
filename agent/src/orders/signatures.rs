//! The last word on an order above the unsigned class: only people whom this
//! host's own file lists can have it, whatever the coordinator says.

use farol_protocol::{
    Language, Plan, PlanHash, RiskClass, Timestamp,
    action::ReasonCode,
    signing::{self, Signature, Why},
};

use super::judge::Refusal;
use crate::{policy::Policy, text::Detail};

/// Beyond this difference of the two clocks a signed order's expiry is not
/// what its signers meant.
const MAX_SKEW_MS: u64 = 5 * 60 * 1000;

/// The time as the two sides see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// This host's own.
    pub own: Timestamp,
    /// What the coordinator's was last measured to be ahead by, in ms.
    pub offset_ms: i64,
}

impl Clock {
    /// The coordinator's time.
    #[must_use]
    pub fn corrected(self) -> Timestamp {
        self.own.plus_ms(self.offset_ms)
    }

    /// The earlier of both: what has passed by neither clock alone is past.
    #[must_use]
    pub fn earlier(self) -> Timestamp {
        self.own.min(self.corrected())
    }
}

/// Who signed the order for `class`, which its host does not run unsigned.
///
/// # Errors
/// Why it is refused.
pub(super) fn check(
    plan: &Plan,
    plan_hash: &PlanHash,
    class: RiskClass,
    signatures: &[Signature],
    policy: &Policy,
    clock: Clock,
    language: Language,
) -> Result<Vec<String>, Refusal> {
    let refuse = |code, detail: Detail, values: &[(&str, &str)]| Refusal::new(code, detail.say(language, values));
    if signatures.is_empty() {
        let values = [("class", class.as_str()), ("limit", policy.max_unsigned_class.as_str())];
        return Err(refuse(ReasonCode::SignatureRequired, Detail::NeedsSignature, &values).at(class));
    }
    // Signed orders live by the host's own clock, which nobody on the wire can
    // turn; a coordinator that claims another time is not believed either.
    if clock.offset_ms.unsigned_abs() > MAX_SKEW_MS {
        let seconds = (clock.offset_ms / 1000).to_string();
        return Err(refuse(ReasonCode::ClockSkew, Detail::ClockSkew, &[("seconds", &seconds)]));
    }
    // Nor may a plan be laid by for later: what was signed is for now.
    if plan.issued_at.since(clock.own) > i64::try_from(MAX_SKEW_MS).unwrap_or(i64::MAX) {
        let at = plan.issued_at.to_string();
        return Err(refuse(ReasonCode::InvalidPlan, Detail::FromTheFuture, &[("at", &at)]));
    }
    if clock.own >= plan.expires_at {
        let at = plan.expires_at.to_string();
        return Err(refuse(ReasonCode::Expired, Detail::Expired, &[("at", &at)]));
    }
    let judged =
        signing::judge(class, &plan.requested_by, plan_hash, signatures, &policy.operators, policy.webauthn.as_ref());
    judged.map_err(|why| {
        let values = [("why", in_words(&why, language)), ("class", class.as_str().to_owned())];
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if why.is_missing() {
            refuse(ReasonCode::SignatureRequired, Detail::MoreSignatures, &values).at(class)
        } else {
            refuse(ReasonCode::BadSignature, Detail::BadSignature, &values)
        }
    })
}

fn in_words(why: &Why, language: Language) -> String {
    let say = |detail: Detail, values: &[(&str, &str)]| detail.say(language, values);
    match why {
        Why::TooFew { needed, given } => {
            say(Detail::SignaturesTooFew, &[("needed", &needed.to_string()), ("given", &given.to_string())])
        }
        Why::NoLead => say(Detail::SignaturesNoLead, &[]),
        Why::TooMany(given) => say(Detail::SignaturesTooMany, &[("given", &given.to_string())]),
        Why::Unknown(operator) => say(Detail::SignerUnknown, &[("operator", operator)]),
        Why::UnknownKey(operator) => say(Detail::SignerOtherKey, &[("operator", operator)]),
        Why::Role(operator) => say(Detail::SignerNoRole, &[("operator", operator)]),
        Why::Twice(operator) => say(Detail::SignerTwice, &[("operator", operator)]),
        Why::Requester(operator) => say(Detail::SignerAsked, &[("operator", operator)]),
        Why::Invalid { operator, what } => say(Detail::SignatureInvalid, &[("operator", operator), ("what", what)]),
    }
}
