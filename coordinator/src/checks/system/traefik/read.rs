//! Rows of Traefik's lists, and the routes that they make.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Url;
use serde_json::{Map, Value};

use crate::{integrations::lenient::text, text::plain, topology::RouteFact};

/// Routes that are told at most.
const MOST_ROUTES: usize = 2000;
/// Services that stand behind each other.
const DEEPEST: usize = 4;

/// What Traefik says of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It is in use.
    Enabled,
    /// It is in use, and something about it is wrong.
    Warning,
    /// It is not in use.
    Disabled,
    /// A word that is not known, or none.
    Other(String),
}

impl State {
    fn read(row: &Map<String, Value>) -> Self {
        match row.get("status").and_then(text) {
            Some("enabled") => Self::Enabled,
            Some("warning") => Self::Warning,
            Some("disabled") => Self::Disabled,
            word => Self::Other(word.unwrap_or("?").to_owned()),
        }
    }
}

/// The first of its errors.
fn why(row: &Map<String, Value>) -> Option<String> {
    row.get("error")?.as_array()?.iter().find_map(text).map(str::to_owned)
}

#[derive(Debug)]
pub(super) struct Router {
    pub(super) state: State,
    pub(super) why: Option<String>,
    rule: String,
    service: Option<String>,
}

impl Router {
    pub(super) fn read(row: &Map<String, Value>) -> Option<(String, Self)> {
        let router = Self {
            state: State::read(row),
            why: why(row),
            rule: row.get("rule").and_then(text).unwrap_or_default().to_owned(),
            service: row.get("service").and_then(text).map(str::to_owned),
        };
        Some((text(row.get("name")?)?.to_owned(), router))
    }
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: State,
    pub(super) why: Option<String>,
    /// Servers that are up, as far as Traefik asks them.
    pub(super) up: usize,
    /// Servers that are not.
    pub(super) down: usize,
    servers: Vec<String>,
    /// Other services that it hands requests to.
    parts: Vec<String>,
}

impl Service {
    pub(super) fn read(row: &Map<String, Value>) -> Option<(String, Self)> {
        let list =
            |kind: &str, key: &str| row.get(kind).and_then(|kind| kind.get(key)?.as_array()).into_iter().flatten();
        let word = |kind: &str, key: &str| row.get(kind).and_then(|kind| kind.get(key)).and_then(text);
        let servers = list("loadBalancer", "servers").filter_map(|server| server.get("url").and_then(text));
        let named = list("weighted", "services")
            .chain(list("mirroring", "mirrors"))
            .chain(list("highestRandomWeight", "services"));
        let named = named.filter_map(|part| part.get("name").and_then(text));
        let others = [word("mirroring", "service"), word("failover", "service"), word("failover", "fallback")];
        let states = row.get("serverStatus").and_then(Value::as_object).into_iter().flat_map(Map::values);
        let states: Vec<&str> = states.filter_map(text).collect();
        let is = |wanted: &str| states.iter().filter(|state| state.eq_ignore_ascii_case(wanted)).count();
        let service = Self {
            state: State::read(row),
            why: why(row),
            up: is("UP"),
            down: is("DOWN"),
            servers: servers.filter_map(address).collect(),
            parts: named.chain(others.into_iter().flatten()).map(str::to_owned).collect(),
        };
        Some((text(row.get("name")?)?.to_owned(), service))
    }
}

/// Scheme, host and port: what else stands in an address may be a secret.
fn address(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let (scheme, host) = (url.scheme(), url.host_str()?);
    Some(url.port().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}")))
}

/// `name@provider`; a bare name is of the provider of whoever names it.
fn whole(name: &str, by: &str) -> String {
    match by.rsplit_once('@') {
        Some((_, provider)) if !name.contains('@') => format!("{name}@{provider}"),
        _ => name.to_owned(),
    }
}

/// Who answers behind which name. Traefik's own pages are left out.
pub(super) fn routes(routers: &BTreeMap<String, Router>, services: &BTreeMap<String, Service>) -> Vec<RouteFact> {
    let mut routes = Vec::new();
    for (name, router) in routers.iter().filter(|(_, router)| router.state != State::Disabled) {
        let Some(service) = router.service.as_ref().map(|service| whole(service, name)) else { continue };
        if name.ends_with("@internal") || service.ends_with("@internal") {
            continue;
        }
        let mut backends = BTreeSet::new();
        servers(&service, services, DEEPEST, &mut backends);
        if backends.is_empty() {
            // The name is there, and nobody behind it can be found.
            backends.insert(String::new());
        }
        let mut names = hosts(&router.rule);
        if names.is_empty() {
            names.push(plain(&router.rule, 120));
        }
        for host_rule in names {
            routes.extend(backends.iter().map(|backend| RouteFact {
                host_rule: host_rule.clone(),
                service: plain(&service, 120),
                backend: backend.clone(),
            }));
        }
    }
    routes.truncate(MOST_ROUTES);
    routes
}

fn servers(name: &str, services: &BTreeMap<String, Service>, deeper: usize, found: &mut BTreeSet<String>) {
    let Some(service) = services.get(name) else { return };
    found.extend(service.servers.iter().cloned());
    if deeper > 0 {
        for part in &service.parts {
            servers(&whole(part, name), services, deeper - 1, found);
        }
    }
}

/// The names under `Host(…)` of a rule, without those that it excludes.
pub(super) fn hosts(rule: &str) -> Vec<String> {
    const WORD: &str = "Host(";
    let mut found = BTreeSet::new();
    let mut rest = rule;
    let mut before = None;
    while let Some(at) = rest.find(WORD) {
        let last = rest[..at].trim_end().chars().next_back().or(before);
        let glued = rest[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        rest = &rest[at + WORD.len()..];
        before = Some('(');
        if glued || last == Some('!') {
            continue;
        }
        // Names stand in backticks or quotation marks, with commas between.
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            let Some(mark) = rest.chars().next().filter(|mark| matches!(mark, '`' | '"')) else { break };
            let Some((name, after)) = rest[1..].split_once(mark) else { break };
            let name = plain(name.trim(), 120).to_ascii_lowercase();
            if !name.is_empty() {
                found.insert(name);
            }
            rest = after;
        }
    }
    found.into_iter().collect()
}
