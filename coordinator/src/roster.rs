//! The ten personas who speak in threads, and the roles of the people they
//! speak to. What each persona watches is data of `registry.yaml`.

use std::{fmt, str::FromStr};

use farol_protocol::{Language, registry::Persona};
use serde::{Deserialize, Serialize};

/// What a person may see and decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, users, tokens and trust included.
    SuperAdmin,
    /// Leads operations.
    OpsLead,
    /// Runs scenarios and approves actions.
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

    /// The word in the API, the store and on the command line.
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
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; use one of {list}", list = Role::ALL.map(Role::as_str).join(", "))]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(64).collect()))
    }
}

/// One persona.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: Persona,
    /// Name that people read.
    pub name: &'static str,
    /// Name of its work.
    pub codename: &'static str,
    /// Roles whose inbox shows its threads.
    pub inbox_roles: &'static [Role],
    /// What it does, in Brazilian Portuguese and in English.
    pub duty: (&'static str, &'static str),
}

impl Member {
    /// What it does.
    #[must_use]
    pub const fn duty(&self, language: Language) -> &'static str {
        match language {
            Language::PtBr => self.duty.0,
            Language::En => self.duty.1,
        }
    }
}

/// All ten, in the order of [`Persona::ALL`].
pub const ROSTER: [Member; 10] = [
    Member {
        id: Persona::A0,
        name: "Maestro",
        codename: "orchestrator",
        inbox_roles: &[Role::AgenticOperator],
        duty: (
            "Coordena as personas e resume o que espera decisão.",
            "Coordinates the personas and sums up what waits for a decision.",
        ),
    },
    Member {
        id: Persona::A1,
        name: "Pulso",
        codename: "node_health",
        inbox_roles: &[Role::OpsLead],
        duty: ("Vigia a saúde dos hosts e dos serviços.", "Watches the health of hosts and services."),
    },
    Member {
        id: Persona::A2,
        name: "Trilho",
        codename: "infra_mail",
        inbox_roles: &[Role::Devops],
        duty: ("Cuida da infraestrutura de e-mail.", "Looks after the mail infrastructure."),
    },
    Member {
        id: Persona::A3,
        name: "Carta",
        codename: "deliverability",
        inbox_roles: &[Role::Seo, Role::Technician],
        duty: ("Acompanha se os e-mails chegam ao destino.", "Follows whether mail reaches its recipients."),
    },
    Member {
        id: Persona::A4,
        name: "Escudo Mail",
        codename: "security_mail",
        inbox_roles: &[Role::SecurityAnalyst],
        duty: ("Protege o e-mail contra abuso.", "Protects mail against abuse."),
    },
    Member {
        id: Persona::A5,
        name: "Sentinela SOC",
        codename: "wazuh_soc",
        inbox_roles: &[Role::SecurityAnalyst],
        duty: ("Lê os alertas de segurança.", "Reads the security alerts."),
    },
    Member {
        id: Persona::A6,
        name: "Copiloto",
        codename: "support_copilot",
        inbox_roles: &[Role::Technician],
        duty: ("Responde perguntas sobre achados, com evidências.", "Answers questions about findings, with evidence."),
    },
    Member {
        id: Persona::A7,
        name: "Remediador",
        codename: "remediation",
        inbox_roles: &[Role::AgenticOperator],
        duty: ("Propõe correções; só pessoas aprovam.", "Proposes remedies; only people approve."),
    },
    Member {
        id: Persona::Vigia,
        name: "Vigia",
        codename: "sentinel",
        inbox_roles: &Role::ALL,
        duty: ("Avisa todos sobre o que as verificações encontram.", "Tells everyone what the checks find."),
    },
    Member {
        id: Persona::Curador,
        name: "Curador",
        codename: "curator",
        inbox_roles: &[],
        duty: (
            "Guarda o conhecimento interno; não escreve a ninguém.",
            "Keeps the internal knowledge; writes to nobody.",
        ),
    },
];

/// The member of the roster that a persona is.
#[must_use]
pub const fn member(persona: Persona) -> &'static Member {
    // Indexed by the declaration order, which a test compares with `ROSTER`.
    const MEMBERS: &[Member; 10] = &ROSTER;
    &MEMBERS[persona as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_persona_finds_its_own_member_in_the_order_of_the_protocol() {
        for (persona, row) in Persona::ALL.into_iter().zip(&ROSTER) {
            assert_eq!(row.id, persona);
            assert_eq!(member(persona), row);
            assert_ne!(row.duty(Language::PtBr), row.duty(Language::En));
        }
    }

    #[test]
    fn the_sentinel_reaches_every_role_and_the_curator_none() {
        assert_eq!(member(Persona::Vigia).inbox_roles, Role::ALL);
        assert!(member(Persona::Curador).inbox_roles.is_empty());
        assert_eq!(member(Persona::A3).inbox_roles, [Role::Seo, Role::Technician]);
    }

    #[test]
    fn the_roster_in_the_documentation_is_this_one_with_the_scenarios_of_the_shipped_registry() {
        const DOCUMENT: &str = include_str!("../../docs/agents-roster.md");
        const SHIPPED: &str = include_str!("../../registry.yaml");
        let registry = farol_protocol::registry::Registry::parse(SHIPPED, &|_| None).expect("valid");
        let table = DOCUMENT.split("\n\n").find(|part| part.starts_with("| id | name |")).expect("a table");
        let written: Vec<&str> = table.lines().skip(2).collect();
        let rows: Vec<String> = ROSTER
            .iter()
            .map(|row| {
                let roles = match row.inbox_roles {
                    [] => "none".to_owned(),
                    roles if roles == Role::ALL => "all roles".to_owned(),
                    roles => roles.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", "),
                };
                let scenarios = registry.scenarios.iter().filter(|scenario| scenario.persona == row.id);
                let scenarios: Vec<String> = scenarios.map(|scenario| format!("`{}`", scenario.id)).collect();
                let scenarios = if scenarios.is_empty() { "—".to_owned() } else { scenarios.join(", ") };
                format!("| {} | {} | `{}` | {roles} | {scenarios} |", row.id.as_str(), row.name, row.codename)
            })
            .collect();
        assert_eq!(written, rows);
        let duties = DOCUMENT.split("\n\n").find(|part| part.starts_with("| id | watches |")).expect("a table");
        for (row, line) in ROSTER.iter().zip(duties.lines().skip(2)) {
            assert!(line.starts_with(&format!("| {} |", row.id.as_str())), "{line}");
        }
        for role in Role::ALL {
            assert!(DOCUMENT.contains(&format!("`{role}`")), "{role}");
        }
    }

    #[test]
    fn a_role_is_read_as_it_is_written_and_a_wrong_one_lists_them_all() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).expect("serializable"), role.as_str());
        }
        let error = "root".parse::<Role>().expect_err("must be refused").to_string();
        assert!(error.contains("`root`"));
        for role in Role::ALL {
            assert!(error.contains(role.as_str()), "{error}");
        }
    }
}
