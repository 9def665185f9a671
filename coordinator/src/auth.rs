//! Who acts. These values come only from authentication: the store's writes
//! ask for one, so that no path to them forgets it.

use crate::{roster::Role, store::actions::ActionRow};

/// A person, a token or the local administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    name: String,
    role: Role,
}

impl Operator {
    /// Only for the store's own check of a token.
    pub(crate) const fn authenticated(name: String, role: Role) -> Self {
        Self { name, role }
    }

    /// Whoever can write the data folder on the coordinator's own machine.
    #[must_use]
    pub fn local_administrator() -> Self {
        Self { name: "cli".to_owned(), role: Role::SuperAdmin }
    }

    /// Whoever holds a link that was sent to a channel. No token can have such
    /// a name.
    pub(crate) fn holder_of_link(recipient: &str, channel: &str) -> Self {
        let name = if recipient.is_empty() { format!("via {channel}") } else { format!("{recipient} via {channel}") };
        Self { name, role: Role::Technician }
    }

    /// A persona, which may propose and speak but never decide.
    pub(crate) fn persona(persona: farol_protocol::registry::Persona) -> Requester {
        Requester(persona.as_str().to_owned())
    }

    /// The name in the record.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Asking for an action needs no more than this.
    #[must_use]
    pub fn requester(&self) -> Requester {
        Requester(self.name.clone())
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
