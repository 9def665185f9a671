//! Whether an order's signatures are those its class asks for.

use serde::Deserialize;

use super::{MAX_SIGNATURES, PublicKey, Signature, WebAuthn, verify};
use crate::{PlanHash, RiskClass};

/// What a person may do. The first three sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    SuperAdmin,
    /// Leads operations.
    OpsLead,
    /// Approves actions.
    AgenticOperator,
    /// Infrastructure.
    Devops,
    /// Deliverability and reputation.
    Seo,
    /// Support.
    Technician,
    /// Security.
    SecurityAnalyst,
}

impl Role {
    /// All seven.
    pub const ALL: [Self; 7] = [
        Self::SuperAdmin,
        Self::OpsLead,
        Self::AgenticOperator,
        Self::Devops,
        Self::Seo,
        Self::Technician,
        Self::SecurityAnalyst,
    ];

    /// The word in the policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super_admin",
            Self::OpsLead => "ops_lead",
            Self::AgenticOperator => "agentic_operator",
            Self::Devops => "devops",
            Self::Seo => "seo",
            Self::Technician => "technician",
            Self::SecurityAnalyst => "security_analyst",
        }
    }

    /// Whether it may sign R1 and R2, and be one of the two of R3.
    #[must_use]
    pub const fn signs(self) -> bool {
        matches!(self, Self::SuperAdmin | Self::OpsLead | Self::AgenticOperator)
    }

    /// Whether it is one that R3 cannot do without.
    #[must_use]
    pub const fn leads(self) -> bool {
        matches!(self, Self::SuperAdmin | Self::OpsLead)
    }
}

/// Somebody who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name, as in [`Signature::operator`] and in a plan's `requested_by`.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Their keys.
    pub keys: Vec<PublicKey>,
}

/// Why an order's signatures do not do. Names are cut, for a peer wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Too few people signed.
    #[error("{needed} must sign, {given} did")]
    TooFew {
        /// How many the class needs.
        needed: usize,
        /// How many signed.
        given: usize,
    },
    /// None of them leads.
    #[error("one of those who sign must be super_admin or ops_lead")]
    NoLead,
    /// More than any order needs.
    #[error("{0} signatures are more than {MAX_SIGNATURES}")]
    TooMany(usize),
    /// Not listed.
    #[error("`{0}` is not a listed operator")]
    Unknown(String),
    /// Listed, but not this key.
    #[error("`{0}` has no such key")]
    UnknownKey(String),
    /// No role that signs.
    #[error("the roles of `{0}` sign nothing")]
    Role(String),
    /// One person counts once.
    #[error("`{0}` signed more than once")]
    Twice(String),
    /// Whoever asks for R3 does not approve it.
    #[error("`{0}` asked for the action and cannot sign it")]
    Requester(String),
    /// It does not verify.
    #[error("the signature of `{operator}` is not valid: {what}")]
    Invalid {
        /// Whose.
        operator: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Why {
    /// Whether the signatures are good as far as they go and more are needed;
    /// otherwise one of them is bad.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::TooFew { .. } | Self::NoLead)
    }
}

/// Who signed, if that suffices for `class`: one person whose role signs for
/// R2 and below, two for R3, of whom one leads and none asked for it. One bad
/// signature spoils all: whoever adds one is up to something.
///
/// # Errors
/// The first thing that is wrong.
pub fn judge(
    class: RiskClass,
    requested_by: &str,
    plan_hash: &PlanHash,
    signatures: &[Signature],
    operators: &[Operator],
    webauthn: Option<&WebAuthn>,
) -> Result<Vec<String>, Why> {
    if signatures.len() > MAX_SIGNATURES {
        return Err(Why::TooMany(signatures.len()));
    }
    let mut signed: Vec<&Operator> = Vec::with_capacity(signatures.len());
    for signature in signatures {
        let name = || signature.operator.chars().take(64).collect::<String>();
        let operator = operators
            .iter()
            .find(|operator| operator.name == signature.operator)
            .ok_or_else(|| Why::Unknown(name()))?;
        if !operator.roles.iter().any(|role| role.signs()) {
            return Err(Why::Role(name()));
        }
        if class == RiskClass::R3 && operator.name.eq_ignore_ascii_case(requested_by) {
            return Err(Why::Requester(name()));
        }
        if signed.iter().any(|other| other.name == operator.name) {
            return Err(Why::Twice(name()));
        }
        let key =
            operator.keys.iter().find(|key| key.id() == signature.key_id).ok_or_else(|| Why::UnknownKey(name()))?;
        verify(key, signature, plan_hash, webauthn).map_err(|what| Why::Invalid { operator: name(), what })?;
        signed.push(operator);
    }
    let needed = if class == RiskClass::R3 { 2 } else { 1 };
    if signed.len() < needed {
        return Err(Why::TooFew { needed, given: signed.len() });
    }
    if class == RiskClass::R3 && !signed.iter().any(|operator| operator.roles.iter().any(|role| role.leads())) {
        return Err(Why::NoLead);
    }
    Ok(signed.into_iter().map(|operator| operator.name.clone()).collect())
}
