//! Who may call what: one table of routes and one rule of roles.
//!
//! **Invariant.** A route without a row is refused. A test walks the OpenAPI
//! document and the table and wants each in the other.

use axum::http::Method;

use crate::roster::Role;

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
}

impl Permission {
    /// The roles that hold it.
    pub(crate) const fn roles(self) -> &'static [Role] {
        match self {
            Self::Public | Self::Internal => &[],
            Self::OpsView => &Role::ALL,
            Self::RunScenario | Self::Decide | Self::Correct | Self::Resend => {
                &[Role::SuperAdmin, Role::OpsLead, Role::AgenticOperator]
            }
            Self::Ingest | Self::Signals => crate::ingest::ROLES,
            Self::Trust => &[Role::SuperAdmin],
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
        }
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
    Correct, Decide, Ingest, Internal, Maintain, OpsView, Propose, Public, Resend, RunScenario, Signals, Trust,
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

    /// The browser's pages are no part of the document.
    fn documented(row: &Row) -> bool {
        !row.path.starts_with("/api/docs")
    }

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
        let rows: BTreeSet<_> = TABLE
            .iter()
            .filter(|row| documented(row))
            .map(|row| {
                let query = row.query.iter().map(|name| (*name).to_owned()).collect();
                (row.method.to_string(), row.path.to_owned(), query, row.permission == Permission::Public)
            })
            .collect();
        assert_eq!(routes, rows);
        assert_eq!(rows.len(), TABLE.iter().filter(|row| documented(row)).count(), "a row is there twice");
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
    fn only_health_documents_metrics_and_links_are_public() {
        let public: Vec<&str> =
            TABLE.iter().filter(|row| row.permission == Permission::Public).map(|row| row.path).collect();
        assert_eq!(
            public,
            [
                "/api/v1/agents/health",
                "/n/{token}",
                "/n/{token}",
                "/api/health",
                "/metrics",
                "/api/openapi.json",
                "/api/docs",
                "/api/docs/",
                "/api/docs/{*rest}"
            ]
        );
    }
}
