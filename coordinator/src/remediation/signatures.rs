//! Which actions need signatures, and which signatures the coordinator keeps.
//! The host has the last word: this only spares people a refusal there.

use farol_protocol::{
    RiskClass,
    signing::{self, Signature, WebAuthn},
};

use crate::{
    auth::Operator,
    error::{Error, Result},
    roster::Role,
    store::{Store, actions::ActionRow, hosts::HostRow, keys::Signed},
};

/// A peer that says nothing of a policy is trusted up to R2, and never with R3.
fn unsigned_class(host: &HostRow) -> RiskClass {
    host.max_unsigned_class.unwrap_or(RiskClass::R2)
}

/// The signature that comes with an approval, checked; none where none came
/// and none is needed.
///
/// # Errors
/// One is needed and missing, it is not valid, or the host cannot check it.
pub(super) async fn of_approval(
    store: &Store,
    by: &Operator,
    row: &ActionRow,
    host: &HostRow,
    given: &[Signature],
    webauthn: Option<&WebAuthn>,
) -> Result<Option<Signature>> {
    let unsigned = unsigned_class(host);
    if row.class > unsigned && host.protocol == Some(0) {
        return Err(Error::SignatureRequired(format!(
            "the action is {}, and the agent of `{}` speaks the older contract, which knows no signatures; update it",
            row.class, host.name
        )));
    }
    let signature = match given {
        [] if row.class <= unsigned => return Ok(None),
        [] => {
            return Err(Error::SignatureRequired(format!(
                "the action is {}, and the host `{}` runs nothing above {unsigned} without its approvers' signatures; \
                 sign it with `farol approve {} --key FILE`",
                row.class, host.name, row.id
            )));
        }
        [one] => one,
        _ => return Err(Error::BadSignature("an approval carries the signature of its approver alone".to_owned())),
    };
    if signature.operator != by.person() {
        return Err(Error::BadSignature(format!("the signature is not that of `{}`, who approves", by.person())));
    }
    let keys = store.keys_of(by.person()).await?;
    let key = keys.iter().find(|key| key.id() == signature.key_id).ok_or_else(|| {
        Error::BadSignature(format!(
            "`{}` has no key in use with this id; `farol key list` shows the keys, `farol key add` makes one",
            by.person()
        ))
    })?;
    signing::verify(key, signature, &row.plan_hash, webauthn)
        .map_err(|what| Error::BadSignature(format!("the signature is not valid: {what}")))?;
    Ok(Some(signature.clone()))
}

/// The signatures to send with an order; none where its host asks for none.
///
/// # Errors
/// There are not enough, or the store failed.
pub(crate) async fn to_send(store: &Store, row: &ActionRow, host: &HostRow) -> Result<Vec<Signature>> {
    let unsigned = unsigned_class(host);
    if row.class <= unsigned {
        return Ok(Vec::new());
    }
    let signed = store.signatures(row.id).await?;
    if host.protocol == Some(0) || !enough(row.class, &signed) {
        return Err(Error::SignatureRequired(format!(
            "the action is {}, and the host `{}` runs nothing above {unsigned} without its approvers' signatures; \
             propose it again and sign it",
            row.class, host.name
        )));
    }
    Ok(signed.into_iter().map(|signed| signed.signature).collect())
}

/// One for R2 and below; two for R3, one of whom leads.
fn enough(class: RiskClass, signed: &[Signed]) -> bool {
    let leads = |signed: &Signed| matches!(signed.role, Role::SuperAdmin | Role::OpsLead);
    match class {
        RiskClass::R3 => signed.len() >= 2 && signed.iter().any(leads),
        _ => !signed.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::signing::SignatureAlgorithm;

    use super::*;

    #[test]
    fn r3_leaves_with_two_signatures_one_of_a_lead_and_the_rest_with_one() {
        let signed = |role| Signed {
            role,
            signature: Signature {
                operator: role.to_string(),
                key_id: String::new(),
                alg: SignatureAlgorithm::Ed25519,
                signature: String::new(),
                authenticator_data: None,
                client_data: None,
            },
        };
        let (lead, other) = (signed(Role::OpsLead), signed(Role::AgenticOperator));
        assert!(!enough(RiskClass::R2, &[]));
        assert!(enough(RiskClass::R2, std::slice::from_ref(&other)));
        assert!(!enough(RiskClass::R3, std::slice::from_ref(&lead)));
        assert!(!enough(RiskClass::R3, &[other.clone(), other.clone()]));
        assert!(enough(RiskClass::R3, &[other, lead]));
    }

    /// The host's words for roles are the coordinator's.
    #[test]
    fn both_sides_have_the_same_roles() {
        assert_eq!(signing::Role::ALL.map(signing::Role::as_str), Role::ALL.map(Role::as_str));
    }
}
