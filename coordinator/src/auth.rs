//! Who acts. These values come only from authentication: the store's writes
//! ask for one, so that no path to them forgets it.
//!
//! **Invariant.** Approvals count people. Whatever somebody acts with, their
//! session or a token of theirs, [`Operator::person`] is the same, and that is
//! what plans, approvals and signatures carry. [`Operator::name`] says in the
//! record which token it was.

use crate::{roster::Role, store::actions::ActionRow};

/// A person, a token or the local administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    name: String,
    person: String,
    role: Role,
    scope: Scope,
    credential: Credential,
}

/// What a token or an account may do of what its role may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only what changes nothing.
    pub read_only: bool,
    /// Only these permissions; none for all.
    pub permissions: Option<Vec<String>>,
    /// Only these sites; none for all.
    pub sites: Option<Vec<String>>,
}

/// With what somebody came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The coordinator's own machine, or a link that acts once.
    Local,
    /// A token.
    Token {
        /// Its id.
        id: String,
        /// Whether it stands for a person who has an account.
        owned: bool,
    },
    /// A session.
    Session(SessionRef),
}

/// The session in which somebody acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRef {
    /// The session.
    pub id: String,
    /// Whose: the account's id.
    pub user_id: String,
    /// When the person last proved who they are, in ms.
    pub proved_ms: i64,
}

impl Operator {
    /// Only for the store's own check of a token that stands for itself.
    pub(crate) fn authenticated(name: String, role: Role) -> Self {
        Self { person: name.clone(), name, role, scope: Scope::default(), credential: Credential::Local }
    }

    /// Only for the store's own check of a token. One that a person owns acts
    /// as that person; no name has a slash, so the record's name is its own.
    /// `id`: with whether its owner has an account.
    pub(crate) fn token(id: (String, bool), name: String, owner: Option<String>, role: Role, scope: Scope) -> Self {
        let credential = Credential::Token { id: id.0, owned: id.1 };
        match owner {
            Some(person) => Self { name: format!("{person}/{name}"), person, role, scope, credential },
            None => Self { person: name.clone(), name, role, scope, credential },
        }
    }

    /// Only for the store's own check of a session.
    pub(crate) fn signed_in(name: String, role: Role, sites: Option<Vec<String>>, session: SessionRef) -> Self {
        let scope = Scope { sites, ..Scope::default() };
        Self { person: name.clone(), name, role, scope, credential: Credential::Session(session) }
    }

    /// Whoever can write the data folder on the coordinator's own machine.
    #[must_use]
    pub fn local_administrator() -> Self {
        Self::authenticated("cli".to_owned(), Role::SuperAdmin)
    }

    /// Whoever holds the link that was printed at the first start.
    pub(crate) fn first_run() -> Self {
        Self::authenticated("first-run".to_owned(), Role::SuperAdmin)
    }

    /// Whoever holds a link that was sent to a channel. No token can have such
    /// a name.
    pub(crate) fn holder_of_link(recipient: &str, channel: &str) -> Self {
        let name = if recipient.is_empty() { format!("via {channel}") } else { format!("{recipient} via {channel}") };
        Self::authenticated(name, Role::Technician)
    }

    /// A persona, which may propose and speak but never decide.
    pub(crate) fn persona(persona: farol_protocol::registry::Persona) -> Requester {
        Requester(persona.as_str().to_owned())
    }

    /// The name in the record: a person's, or `PERSON/TOKEN`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who it is that acts, whatever they act with.
    #[must_use]
    pub fn person(&self) -> &str {
        &self.person
    }

    /// What it may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What it may do of that.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// With what they came.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Their session, where they came with one.
    #[must_use]
    pub const fn session(&self) -> Option<&SessionRef> {
        match &self.credential {
            Credential::Session(session) => Some(session),
            _ => None,
        }
    }

    /// Whether it is known which person acts: not so of a token without owner.
    #[must_use]
    pub const fn is_a_person(&self) -> bool {
        !matches!(self.credential, Credential::Token { owned: false, .. })
    }

    /// Asking for an action needs no more than this. The plan names the person,
    /// since whoever asks is excluded by the host too.
    #[must_use]
    pub fn requester(&self) -> Requester {
        Requester(self.person.clone())
    }
}

/// Who asks for an action: an operator or a persona.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester(String);

impl Requester {
    /// Whoever asked for this action asks for what replaces it.
    pub(crate) fn of(action: &ActionRow) -> Self {
        Self(action.requested_by.clone())
    }

    /// The name in the plan.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Whether a person or a token may have this name. The record shows who did
/// what: nobody passes for a persona, the coordinator or its administrator.
///
/// # Errors
/// What a name is, in words.
pub fn check_name(text: &str) -> Result<(), String> {
    const RESERVED: [&str; 4] = ["farol", "cli", "first-run", "unknown"];
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if !(1..=64).contains(&text.len()) || !text.chars().all(allowed) {
        return Err("a name has 1 to 64 ASCII letters, digits and `._-@`".to_owned());
    }
    let persona = crate::roster::ROSTER.iter().any(|member| member.id.as_str().eq_ignore_ascii_case(text));
    if persona || RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(text)) {
        return Err(format!("`{text}` is reserved; choose the name of a person or a program"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_acts_as_its_owner_and_under_a_name_of_its_own() {
        let token = |name: &str, owner: Option<&str>| {
            let id = ("1".to_owned(), owner == Some("ana"));
            Operator::token(id, name.to_owned(), owner.map(str::to_owned), Role::OpsLead, Scope::default())
        };
        let owned = token("ci", Some("ana"));
        assert_eq!((owned.name(), owned.person(), owned.requester().name()), ("ana/ci", "ana", "ana"));
        assert!(owned.is_a_person() && check_name(owned.name()).is_err(), "a person could be called like a token");
        let own = token("bot", None);
        assert_eq!((own.name(), own.person(), own.is_a_person()), ("bot", "bot", false));
        let of_a_token = token("ci", Some("bot"));
        assert_eq!((of_a_token.person(), of_a_token.is_a_person()), ("bot", false));
    }

    #[test]
    fn nobody_is_called_like_a_persona_or_the_coordinator() {
        for name in ["ana", "ana@example.org", "ci-bot_2"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "A7", "vigia", "Farol", "cli", "unknown", "first-run", "a/b", "ana via ntfy", "é"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
