//! Who may call what: one table of routes and one rule of roles.
//!
//! **Invariant.** A route without a row is refused. A test walks the OpenAPI
//! document and the table and wants each in the other.

use axum::http::Method;

use crate::{auth::Operator, roster::Role};

/// What a caller must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Nothing.
    Public,
    /// The token of the coordinator's own workers.
    Internal,
    /// Any role.
    OpsView,
    /// A role that runs scenarios.
    RunScenario,
    /// A role that asks for actions.
    Propose,
    /// A role that decides on actions.
    Decide,
    /// A role that corrects the graph of dependencies.
    Correct,
    /// A role that plans maintenance.
    Maintain,
    /// A role that sends messages again.
    Resend,
    /// A role that posts telemetry for hosts, or a host for itself.
    Ingest,
    /// The same, or the token that senders of signals share.
    Signals,
    /// A role that manages whom to trust, and with what.
    Trust,
    /// A role that manages accounts and tokens.
    People,
    /// Any role, for one's own account: tokens cannot.
    Account,
}

impl Permission {
    /// The roles that hold it.
    pub(crate) const fn roles(self) -> &'static [Role] {
        match self {
            Self::Public | Self::Internal => &[],
            Self::OpsView | Self::Account => &Role::ALL,
            Self::RunScenario | Self::Decide | Self::Correct | Self::Resend => {
                &[Role::SuperAdmin, Role::OpsLead, Role::AgenticOperator]
            }
            Self::Ingest | Self::Signals => crate::ingest::ROLES,
            Self::Trust | Self::People => &[Role::SuperAdmin],
            Self::Propose | Self::Maintain => &[Role::SuperAdmin, Role::OpsLead, Role::AgenticOperator, Role::Devops],
        }
    }

    /// The same in words, for whoever lacks it.
    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::Public | Self::Internal | Self::OpsView => "this",
            Self::RunScenario => "running scenarios",
            Self::Propose => "asking for actions",
            Self::Decide => "deciding on actions",
            Self::Correct => "correcting the topology",
            Self::Maintain => "planning maintenance",
            Self::Resend => "sending messages again",
            Self::Ingest => "posting telemetry",
            Self::Signals => "posting signals",
            Self::Trust => "managing keys and integrations",
            Self::People => "managing accounts and tokens",
            Self::Account => "managing one's own account",
        }
    }

    /// The word by which a token is limited to it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::OpsView => "ops_view",
            Self::RunScenario => "run_scenario",
            Self::Propose => "propose",
            Self::Decide => "decide",
            Self::Correct => "correct",
            Self::Maintain => "maintain",
            Self::Resend => "resend",
            Self::Ingest => "ingest",
            Self::Signals => "signals",
            Self::Trust => "trust",
            Self::People => "people",
            Self::Account => "account",
        }
    }

    /// Those that a token can be limited to; signals are posted with `ingest`.
    pub(crate) const OF_TOKENS: [Self; 10] = [
        Self::OpsView,
        Self::RunScenario,
        Self::Propose,
        Self::Decide,
        Self::Correct,
        Self::Maintain,
        Self::Resend,
        Self::Ingest,
        Self::Trust,
        Self::People,
    ];

    /// Why `operator` may not do something that needs this; none where they
    /// may. `writes`: whether it changes something.
    pub(crate) fn refusal(self, operator: &Operator, writes: bool) -> Option<String> {
        let (role, scope) = (operator.role(), operator.scope());
        match self {
            Self::Public => return None,
            Self::Internal => {
                return Some("only the coordinator's own workers may, with OPS_INTERNAL_TOKEN".to_owned());
            }
            Self::Account if operator.session().is_none() => {
                return Some("one's own account is managed after signing in, not with a token".to_owned());
            }
            _ => {}
        }
        let roles = self.roles();
        if !roles.contains(&role) {
            let may = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
            return Some(format!("{} needs one of the roles {may}; you are {role}", self.purpose()));
        }
        if writes && scope.read_only {
            return Some(format!(
                "{} changes something, and the token `{}` only reads",
                self.purpose(),
                operator.name()
            ));
        }
        let limited = scope.permissions.as_ref().filter(|list| !list.iter().any(|known| known == self.as_str()));
        limited.map(|list| {
            format!(
                "{} needs `{}`; the token `{}` has {}",
                self.purpose(),
                self.as_str(),
                operator.name(),
                list.join(", ")
            )
        })
    }
}

/// One route.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) permission: Permission,
    /// Query parameters it takes.
    pub(crate) query: &'static [&'static str],
    /// Whether it changes something, so that it runs to its end although its
    /// caller hangs up.
    pub(crate) writes: bool,
}

const fn get(path: &'static str, permission: Permission) -> Row {
    Row { method: Method::GET, path, permission, query: &[], writes: false }
}

const fn list(path: &'static str, query: &'static [&'static str]) -> Row {
    Row { method: Method::GET, path, permission: Permission::OpsView, query, writes: false }
}

const fn write(path: &'static str, permission: Permission) -> Row {
    change(Method::POST, path, permission)
}

const fn change(method: Method, path: &'static str, permission: Permission) -> Row {
    Row { method, path, permission, query: &[], writes: true }
}

const PAGE: &[&str] = &["limit", "cursor"];

use Permission::{
    Account, Correct, Decide, Ingest, Internal, Maintain, OpsView, People, Propose, Public, Resend, RunScenario,
    Signals, Trust,
};

static TABLE: &[Row] = &[
    // The operations agents' own API.
    get("/api/v1/agents/roster", OpsView),
    list("/api/v1/agents/inbox", &["role", "limit", "cursor"]),
    list("/api/v1/agents/threads", PAGE),
    get("/api/v1/agents/threads/{id}/messages", OpsView),
    write("/api/v1/agents/threads/{id}/reply", OpsView),
    write("/api/v1/agents/messages/{id}/ack", OpsView),
    get("/api/v1/agents/daily", OpsView),
    get("/api/v1/agents/health", Public),
    get("/api/v1/agents/scenarios", OpsView),
    list("/api/v1/agents/findings", &["state", "limit", "cursor"]),
    write("/api/v1/agents/findings/{id}/ack", OpsView),
    write("/api/v1/findings/{id}/close", OpsView),
    list("/api/v1/agents/action-log", &["action", "limit", "cursor"]),
    write("/api/v1/agents/runs/{scenario_id}", RunScenario),
    // A question changes nothing: whoever hangs up stops asking.
    Row { method: Method::POST, path: "/api/v1/agents/chat", permission: OpsView, query: &[], writes: false },
    write("/api/v1/agents/internal/tick", Internal),
    // Farol's own nouns.
    list("/api/v1/hosts", PAGE),
    get("/api/v1/hosts/{host}", OpsView),
    list("/api/v1/hosts/{host}/metrics", PAGE),
    list("/api/v1/hosts/{host}/series", &["metric", "from", "to", "step"]),
    list("/api/v1/hosts/{host}/reports", &["check", "limit", "cursor"]),
    list("/api/v1/hosts/{host}/history", &["check", "from", "to"]),
    get("/api/v1/hosts/{host}/inventory", OpsView),
    get("/api/v1/topology", OpsView),
    get("/api/v1/topology/{host}", OpsView),
    get("/api/v1/topology/edges", OpsView),
    write("/api/v1/topology/edges", Correct),
    write("/api/v1/topology/edges/{id}/revoke", Correct),
    write(crate::ingest::PATH, Ingest),
    list("/api/v1/findings", &["state", "limit", "cursor"]),
    get("/api/v1/findings/{id}", OpsView),
    get("/api/v1/findings/{id}/notifications", OpsView),
    list("/api/v1/notifications", &["state", "limit", "cursor"]),
    write("/api/v1/notifications/{id}/resend", Resend),
    Row { method: Method::POST, path: "/api/v1/notifications/preview", permission: OpsView, query: &[], writes: false },
    // Whoever holds the link acknowledges; opening it changes nothing.
    get("/n/{token}", Public),
    write("/n/{token}", Public),
    list("/api/v1/actions", &["state", "limit", "cursor"]),
    write("/api/v1/actions", Propose),
    get("/api/v1/actions/{id}", OpsView),
    write("/api/v1/actions/{id}/approve", Decide),
    write("/api/v1/actions/{id}/reject", Decide),
    write("/api/v1/actions/{id}/cancel", Decide),
    get("/api/v1/execution", OpsView),
    // Whoever sees something go wrong may stop it; going on is a decision.
    write("/api/v1/execution/stop", Propose),
    write("/api/v1/execution/resume", Decide),
    write("/api/v1/hosts/{host}/resume", Decide),
    get("/api/v1/catalogue", OpsView),
    write("/api/v1/catalogue/{id}/plan", Propose),
    get("/api/v1/actions/{id}/evidence", OpsView),
    get("/api/v1/evidence/{id}", OpsView),
    get("/api/v1/evidence/{id}/content", OpsView),
    list("/api/v1/audit", &["actor", "verb", "object", "limit", "cursor"]),
    get("/api/v1/audit/head", OpsView),
    list("/api/v1/audit/verify", &["against"]),
    list("/api/v1/audit/export", &["from", "until"]),
    get("/api/v1/operators/keys", OpsView),
    write("/api/v1/operators/keys", Trust),
    write("/api/v1/operators/keys/{key_id}/revoke", Trust),
    // Signing in, and one's own account.
    get("/api/v1/session", Public),
    write("/api/v1/session", Public),
    change(Method::DELETE, "/api/v1/session", Account),
    get("/api/v1/session/permissions", OpsView),
    write("/api/v1/session/passkey/challenge", Public),
    write("/api/v1/session/passkey", Public),
    Row { method: Method::GET, path: "/api/v1/sessions", permission: Account, query: &["user"], writes: false },
    change(Method::DELETE, "/api/v1/sessions/{id}", Account),
    get("/api/v1/account", Account),
    write("/api/v1/account/prove", Account),
    write("/api/v1/account/password", Account),
    write("/api/v1/account/totp", Account),
    change(Method::DELETE, "/api/v1/account/totp", Account),
    write("/api/v1/account/totp/confirm", Account),
    write("/api/v1/account/recovery-codes", Account),
    write("/api/v1/account/passkeys/challenge", Account),
    write("/api/v1/account/passkeys", Account),
    change(Method::DELETE, "/api/v1/account/passkeys/{id}", Account),
    get("/api/v1/users", People),
    write("/api/v1/users", People),
    get("/api/v1/users/{name}", People),
    change(Method::PATCH, "/api/v1/users/{name}", People),
    change(Method::DELETE, "/api/v1/users/{name}/sessions", People),
    get("/api/v1/tokens", People),
    write("/api/v1/tokens", People),
    change(Method::DELETE, "/api/v1/tokens/{id}", People),
    // Whoever reads the log of the first start makes the first account.
    get(super::FIRST_RUN, Public),
    write(super::FIRST_RUN, Public),
    get("/api/v1/integrations", OpsView),
    write("/api/v1/integrations", Trust),
    get("/api/v1/integrations/{name}", OpsView),
    change(Method::PUT, "/api/v1/integrations/{name}", Trust),
    change(Method::DELETE, "/api/v1/integrations/{name}", Trust),
    write("/api/v1/integrations/{name}/test", RunScenario),
    write("/opn/add", Trust),
    get("/opn/list", OpsView),
    get("/opn/{id}/health", OpsView),
    get("/opn/{id}/interfaces", OpsView),
    get("/opn/{id}/metrics", OpsView),
    get("/api/v1/quiet", OpsView),
    list("/api/v1/silences", &["state", "limit", "cursor"]),
    // Whoever may acknowledge may silence.
    write("/api/v1/silences", OpsView),
    change(Method::DELETE, "/api/v1/silences/{id}", OpsView),
    list("/api/v1/maintenance", &["state", "limit", "cursor"]),
    write("/api/v1/maintenance", Maintain),
    change(Method::PUT, "/api/v1/maintenance/{id}", Maintain),
    change(Method::PATCH, "/api/v1/maintenance/{id}", Maintain),
    change(Method::DELETE, "/api/v1/maintenance/{id}", Maintain),
    list("/api/v1/events", &["last_event_id"]),
    write("/api/v1/findings/{id}/issue", Propose),
    write("/api/v1/alertmanager", Signals),
    // The signals API of Atlas Ops.
    write("/api/signals", Signals),
    list("/api/signals", &["site_id", "severity", "since"]),
    get("/api/health", Public),
    get("/api/sites", OpsView),
    get("/api/integrations", OpsView),
    get("/api/runbooks", OpsView),
    get("/api/runbooks/{id}", OpsView),
    get("/api/suggestions", OpsView),
    get("/api/llm/context_for_signal/{id}", OpsView),
    // Counts and names of checks, no text from hosts: a scraper needs no token.
    get("/metrics", Public),
    get("/api/openapi.json", Public),
    get("/api/docs", Public),
    get("/api/docs/", Public),
    get("/api/docs/{*rest}", Public),
];

/// All rows, but for the browser's pages of the document.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| !row.path.starts_with("/api/docs"))
}

/// What the table says of a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its row.
    Row(&'static Row),
    /// The route has only these methods.
    Methods(String),
    /// The route has no row.
    Nothing,
}

/// The row of a matched route.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    // Whatever answers GET answers HEAD, without the body.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let rows: Vec<&'static Row> = TABLE.iter().filter(|row| row.path == path).collect();
    match rows.iter().find(|row| row.method == *method) {
        Some(row) => Found::Row(row),
        None if rows.is_empty() => Found::Nothing,
        None => {
            let methods: Vec<&str> = rows
                .iter()
                .flat_map(|row| match row.method {
                    Method::GET => vec!["GET", "HEAD"],
                    _ => vec![row.method.as_str()],
                })
                .collect();
            Found::Methods(methods.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::auth::{Scope, SessionRef};

    #[test]
    fn every_route_has_a_row_and_every_row_a_route() {
        let document = serde_json::to_value(super::super::document()).expect("serializable");
        let mut routes = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                let query: BTreeSet<String> = operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|parameter| parameter["in"] == "query")
                    .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
                    .collect();
                let open = operation["security"]
                    .as_array()
                    .is_some_and(|list| list == &[Value::Object(serde_json::Map::new())]);
                routes.insert((method.to_uppercase(), path.clone(), query, open));
            }
        }
        let documented = rows;
        let rows: BTreeSet<_> = rows()
            .map(|row| {
                let query = row.query.iter().map(|name| (*name).to_owned()).collect();
                (row.method.to_string(), row.path.to_owned(), query, row.permission == Permission::Public)
            })
            .collect();
        assert_eq!(routes, rows);
        assert_eq!(rows.len(), documented().count(), "a row is there twice");
    }

    #[test]
    fn the_rule_of_roles_is_the_one_that_was_agreed() {
        let holds = |role: Role, permission: Permission| permission.roles().contains(&role);
        for role in Role::ALL {
            let first_three = [Role::SuperAdmin, Role::OpsLead, Role::AgenticOperator].contains(&role);
            assert!(holds(role, Permission::OpsView));
            assert_eq!(holds(role, Permission::RunScenario), first_three);
            assert_eq!(holds(role, Permission::Decide), first_three);
            assert_eq!(holds(role, Permission::Correct), first_three);
            assert_eq!(holds(role, Permission::Trust), role == Role::SuperAdmin);
            assert_eq!(holds(role, Permission::People), role == Role::SuperAdmin);
            assert_eq!(holds(role, Permission::Propose), first_three || role == Role::Devops);
            assert_eq!(holds(role, Permission::Maintain), first_three || role == Role::Devops);
        }
    }

    #[test]
    fn the_table_answers_for_other_methods_and_for_strangers() {
        assert!(matches!(find(&Method::HEAD, "/api/v1/hosts"), Found::Row(row) if row.method == Method::GET));
        assert!(matches!(find(&Method::DELETE, "/api/v1/actions"), Found::Methods(list) if list == "GET, HEAD, POST"));
        assert!(matches!(find(&Method::GET, "/api/v1/secrets"), Found::Nothing));
    }

    #[test]
    fn only_health_documents_metrics_links_and_the_door_are_public() {
        let public: Vec<&str> =
            TABLE.iter().filter(|row| row.permission == Permission::Public).map(|row| row.path).collect();
        assert_eq!(
            public,
            [
                "/api/v1/agents/health",
                "/n/{token}",
                "/n/{token}",
                "/api/v1/session",
                "/api/v1/session",
                "/api/v1/session/passkey/challenge",
                "/api/v1/session/passkey",
                "/first-run",
                "/first-run",
                "/api/health",
                "/metrics",
                "/api/openapi.json",
                "/api/docs",
                "/api/docs/",
                "/api/docs/{*rest}"
            ]
        );
    }
    fn token(role: Role, scope: Scope) -> Operator {
        Operator::token(("1".to_owned(), false), "ci".to_owned(), None, role, scope)
    }

    #[test]
    fn a_weak_role_hears_which_roles_may() {
        assert_eq!(Permission::Propose.refusal(&token(Role::Devops, Scope::default()), true), None);
        let said = Permission::Decide.refusal(&token(Role::Seo, Scope::default()), true).expect("refused");
        for words in ["deciding on actions", "super_admin, ops_lead, agentic_operator", "you are seo"] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_limited_token_does_no_more_than_it_is_limited_to() {
        let reads = token(Role::SuperAdmin, Scope { read_only: true, ..Scope::default() });
        assert_eq!(Permission::OpsView.refusal(&reads, false), None);
        assert!(Permission::OpsView.refusal(&reads, true).expect("refused").contains("only reads"));
        let limited = Scope { permissions: Some(vec!["propose".to_owned()]), ..Scope::default() };
        let proposes = token(Role::SuperAdmin, limited);
        assert_eq!(Permission::Propose.refusal(&proposes, true), None);
        for other in [Permission::OpsView, Permission::Decide, Permission::People] {
            assert!(other.refusal(&proposes, false).expect("refused").contains("has propose"), "{other:?}");
        }
        for permission in Permission::OF_TOKENS {
            assert!(Permission::Internal.refusal(&reads, false).is_some());
            assert_eq!(permission.refusal(&token(Role::SuperAdmin, Scope::default()), true), None, "{permission:?}");
        }
    }

    #[test]
    fn an_account_is_its_owners_after_signing_in() {
        assert!(Permission::Account.refusal(&token(Role::SuperAdmin, Scope::default()), false).is_some());
        let session = SessionRef { id: "1".to_owned(), user_id: "2".to_owned(), proved_ms: 0 };
        let ana = Operator::signed_in("ana".to_owned(), Role::Seo, None, session);
        assert_eq!(Permission::Account.refusal(&ana, true), None);
    }

    /// The budget is 20 µs in a release build; this is not one.
    #[test]
    fn finding_a_row_and_judging_by_it_is_quick() {
        let limited = Scope { permissions: Some(vec!["ops_view".to_owned()]), ..Scope::default() };
        let (operator, rounds) = (token(Role::SuperAdmin, limited), 2_000_u32);
        let began = std::time::Instant::now();
        for _ in 0..rounds {
            let Found::Row(row) = find(&Method::GET, "/api/v1/agents/daily") else { panic!("a row") };
            assert_eq!(row.permission.refusal(&operator, row.writes), None);
        }
        let each = began.elapsed() / rounds;
        eprintln!("permission check: {each:?}");
        assert!(each < std::time::Duration::from_micros(200), "{each:?}");
    }
}
