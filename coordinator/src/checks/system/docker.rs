//! Docker and Podman over TCP: containers that are down, not healthy, or
//! restart again and again. Reads the list as it comes, row by row: a state
//! that nobody has heard of costs that row.

use farol_protocol::{Language, system::DockerProbe};
use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value};

use super::{
    Asking, Seen,
    reach::{is_passed_over, share},
    talk::{Talk, some},
};
use crate::{
    integrations::{
        Connection, Tls,
        http::{Failure, exchange},
        lenient::{integer, rows, text},
    },
    text::{plain, say},
};

/// Containers that are asked about themselves at a time.
const AT_ONCE: usize = 4;
/// Containers that are asked about themselves at all.
const MOST: usize = 500;

pub(super) async fn ask(asking: &Asking<'_>, probe: &DockerProbe, connection: &Connection) -> Seen {
    let mut last = Failure::Unusable("no address".to_owned());
    let client = match asking.client(connection) {
        Ok(client) => client,
        Err(failure) => return asking.failed(&connection.name, &failure),
    };
    // The limit is for all addresses together: each has its share of what remains.
    let talk = Talk::with(asking, &connection.name, client);
    for (at, endpoint) in connection.endpoints.iter().enumerate() {
        let url = http_url(endpoint, &connection.tls);
        let request = talk.client.get(format!("{url}/containers/json?all=true"));
        match exchange(request, share(talk.left(), at, connection.endpoints.len())).await {
            Ok(answer) => {
                return look(&talk, &url, answer, probe).await.unwrap_or_else(|seen| seen);
            }
            Err(failure) if is_passed_over(&failure) => last = failure,
            Err(failure) => return talk.failed(&failure),
        }
    }
    talk.failed(&last)
}

/// `tcp://` says nothing of TLS: the port that engines use for it does, and so
/// does a choice of whom to believe.
fn http_url(endpoint: &str, tls: &Tls) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.strip_prefix("tcp://") {
        Some(rest) if *tls != Tls::Verify || rest.ends_with(":2376") => format!("https://{rest}"),
        Some(rest) => format!("http://{rest}"),
        None => endpoint.to_owned(),
    }
}

async fn look(
    talk: &Talk<'_>,
    url: &str,
    answer: crate::integrations::http::Answer,
    probe: &DockerProbe,
) -> Result<Seen, Seen> {
    let (language, name) = (talk.language(), &talk.target);
    if !answer.is_success() {
        return Err(talk.turned_down(&answer));
    }
    let Some(listed) = rows(&talk.json(&answer)?, Container::read) else {
        return Err(Seen::unknown(say!(
            language,
            "{name} respondeu sem a lista de containers: é mesmo a API de um motor?",
            "{name} answered without its list of containers: is it really an engine's API?"
        )));
    };
    let bad = listed.bad;
    if listed.good.is_empty() && bad > 0 {
        return Err(Seen::unknown(say!(
            language,
            "nenhum dos {bad} containers em {name} pôde ser lido",
            "none of the {bad} containers on {name} could be read"
        )));
    }
    let wanted = |container: &Container| {
        probe.containers.is_empty() || probe.containers.iter().any(|name| container.names.contains(name))
    };
    let missing: Vec<String> = probe
        .containers
        .iter()
        .filter(|name| !listed.good.iter().any(|container| container.names.contains(*name)))
        .cloned()
        .collect();
    let mut chosen: Vec<Container> = listed.good.into_iter().filter(|container| wanted(container)).collect();
    let over = chosen.len().saturating_sub(MOST);
    chosen.truncate(MOST);
    let total = chosen.len();
    let asked = stream::iter(chosen.into_iter().map(|container| inspected(talk, url, container)));
    let asked: Vec<Result<Option<Container>, Seen>> = asked.buffer_unordered(AT_ONCE).collect().await;
    let mut found = Findings { unread: bad, over, total, ..Findings::default() };
    for container in asked {
        match container {
            Ok(Some(container)) => found.add(language, &container, !probe.containers.is_empty()),
            // It went away in between.
            Ok(None) => found.total -= 1,
            Err(seen) => return Err(seen),
        }
    }
    if bad == 0 {
        found.down.extend(missing.iter().map(|name| say!(language, "{name} (não existe)", "{name} (does not exist)")));
    } else {
        // It may stand in a row that could not be read.
        found.unseen.extend(missing.iter().map(|name| plain(name, 80)));
    }
    Ok(found.judge(language, name, probe))
}

/// What only a look at the container itself tells.
async fn inspected(talk: &Talk<'_>, url: &str, container: Container) -> Result<Option<Container>, Seen> {
    // The identifier comes from outside and goes into a path.
    if !container.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(Some(container));
    }
    let request = talk.client.get(format!("{url}/containers/{}/json", container.id));
    let answer = talk.send(request).await.map_err(|failure| talk.failed(&failure))?;
    if answer.status == 404 {
        return Ok(None);
    }
    if !answer.is_success() {
        return Err(talk.turned_down(&answer));
    }
    Ok(Some(container.with(&talk.json(&answer)?)))
}

#[derive(Debug, Default)]
struct Container {
    id: String,
    names: Vec<String>,
    state: String,
    /// `healthy`, `unhealthy`, `starting`; none where it has no check.
    health: Option<String>,
    exit_code: Option<i64>,
    restarts: Option<i64>,
    policy: Option<String>,
}

impl Container {
    fn read(row: &Map<String, Value>) -> Option<Self> {
        let names = row.get("Names")?.as_array()?.iter().filter_map(text);
        Some(Self {
            id: text(row.get("Id")?)?.to_owned(),
            names: names.map(|name| name.trim_start_matches('/').to_owned()).collect(),
            state: text(row.get("State")?)?.to_ascii_lowercase(),
            ..Self::default()
        })
        .filter(|container| !container.names.is_empty())
    }

    fn with(self, inspect: &Value) -> Self {
        let state = &inspect["State"];
        // Podman sends the object always, with an empty word for no check.
        let health = text(&state["Health"]["Status"]).map(str::to_ascii_lowercase);
        Self {
            state: text(&state["Status"]).map_or(self.state, str::to_ascii_lowercase),
            health: health.filter(|health| health != "none"),
            exit_code: integer(&state["ExitCode"]),
            restarts: integer(&inspect["RestartCount"]),
            policy: text(&inspect["HostConfig"]["RestartPolicy"]["Name"]).map(str::to_ascii_lowercase),
            ..self
        }
    }

    fn name(&self) -> String {
        plain(self.names.first().map_or("", String::as_str), 80)
    }

    /// Whether its restart policy wants it up although nobody named it.
    fn is_wanted(&self) -> bool {
        match self.policy.as_deref() {
            Some("always" | "unless-stopped") => true,
            Some("on-failure") => self.exit_code.is_none_or(|code| code != 0),
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
struct Findings {
    down: Vec<String>,
    unhealthy: Vec<String>,
    paused: Vec<String>,
    strange: Vec<String>,
    /// The container that restarted most, and how often.
    restarts: Option<(i64, String)>,
    /// Named ones that are in no row that could be read.
    unseen: Vec<String>,
    total: usize,
    unread: usize,
    /// How many were not asked about themselves: there are too many.
    over: usize,
}

impl Findings {
    fn add(&mut self, language: Language, container: &Container, is_named: bool) {
        let name = container.name();
        if let Some(count) = container.restarts
            && self.restarts.as_ref().is_none_or(|(most, _)| count > *most)
        {
            self.restarts = Some((count, name.clone()));
        }
        match (container.state.as_str(), container.health.as_deref()) {
            ("running", Some("unhealthy")) => self.unhealthy.push(name),
            ("running", _) => {}
            ("restarting", _) => {
                self.down.push(say!(language, "{name} (reinicia sem parar)", "{name} (keeps restarting)"))
            }
            (state, _) if !(is_named || container.is_wanted()) => {
                // Nobody wants it up; only a state that nobody knows is told.
                if !KNOWN.contains(&state) {
                    self.strange.push(format!("{name} ({})", plain(state, 40)));
                }
            }
            ("paused", _) => self.paused.push(name),
            ("exited" | "dead" | "stopped", _) => self.down.push(match container.exit_code {
                Some(code) => say!(language, "{name} (saiu com {code})", "{name} (exited with {code})"),
                None => name,
            }),
            ("created" | "configured" | "initialized" | "removing" | "stopping", _) => {
                let state = plain(&container.state, 40);
                self.down.push(format!("{name} ({state})"));
            }
            (state, _) => self.strange.push(format!("{name} ({})", plain(state, 40))),
        }
    }

    fn judge(self, language: Language, engine: &str, probe: &DockerProbe) -> Seen {
        let total = self.total;
        let unread = match self.unread {
            0 => String::new(),
            bad => say!(language, "; {bad} linhas ilegíveis na lista", "; {bad} unreadable rows in the list"),
        };
        let unread = match self.over {
            0 => unread,
            over => say!(
                language,
                "{unread}; outros {over} não foram vistos: o Farol olha {MOST}, nomeie os que importam",
                "{unread}; {over} more were not looked at: Farol looks at {MOST}, name those that matter"
            ),
        };
        let restarts = match self.restarts {
            None => Seen::ok(""),
            Some((count, name)) => {
                let text = say!(
                    language,
                    "{total} containers em {engine} estão como devem; mais reinícios: {count} ({name}){unread}",
                    "{total} containers on {engine} are as they should be; most restarts: {count} ({name}){unread}"
                );
                #[expect(clippy::cast_precision_loss, reason = "nothing restarts 2^52 times")]
                let count = count as f64;
                Seen::judged(language, &probe.limits, count, "count", &text)
            }
        };
        let (value, unit) = (restarts.value, restarts.unit.clone());
        let list = |names: &[String]| some(names);
        let mut seen = if restarts.text.is_empty() {
            Seen::ok(say!(
                language,
                "{total} containers em {engine} estão como devem{unread}",
                "{total} containers on {engine} are as they should be{unread}"
            ))
        } else {
            restarts
        };
        if !self.strange.is_empty() {
            let names = list(&self.strange);
            seen = Seen::unknown(say!(
                language,
                "containers em {engine} num estado que o Farol não conhece: {names}{unread}",
                "containers on {engine} in a state that Farol does not know: {names}{unread}"
            ))
            .worse(seen);
        }
        if !self.unseen.is_empty() {
            let names = list(&self.unseen);
            seen = Seen::unknown(say!(
                language,
                "não se sabe se existem em {engine}: {names}{unread}",
                "whether these exist on {engine} is not known: {names}{unread}"
            ))
            .worse(seen);
        }
        if !self.paused.is_empty() {
            let names = list(&self.paused);
            seen = seen.worse(Seen::warning(say!(
                language,
                "containers pausados em {engine}: {names}{unread}",
                "paused containers on {engine}: {names}{unread}"
            )));
        }
        if !(self.down.is_empty() && self.unhealthy.is_empty()) {
            let mut parts = Vec::new();
            if !self.down.is_empty() {
                let (count, names) = (self.down.len(), list(&self.down));
                parts.push(say!(language, "{count} parados: {names}", "{count} down: {names}"));
            }
            if !self.unhealthy.is_empty() {
                let (count, names) = (self.unhealthy.len(), list(&self.unhealthy));
                parts.push(say!(language, "{count} doentes: {names}", "{count} unhealthy: {names}"));
            }
            let parts = parts.join("; ");
            seen = Seen::critical(say!(
                language,
                "containers em {engine}: {parts}{unread}",
                "containers on {engine}: {parts}{unread}"
            ))
            .worse(seen);
        }
        Seen { value, unit, ..seen }
    }
}

const KNOWN: [&str; 10] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
    "configured",
    "initialized",
    "stopped",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::Status;
    use farol_tests::product::{Product, Reply};
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        checks::system::testing::{asking, connection},
        integrations::{Kind, http::Clients},
    };

    async fn engine(list: Value) -> Product {
        let product = Product::start(move |asked| {
            if asked.path == "/containers/json" {
                return Reply::json(200, &list);
            }
            Reply::json(200, &json!({"RestartCount": 0, "State": {"Status": "running", "ExitCode": 0}}))
        });
        product.await.expect("an engine")
    }

    async fn asked(connection: &Connection, containers: &[&str]) -> Seen {
        let clients = Clients::default();
        let containers = containers.iter().map(|name| (*name).to_owned()).collect();
        let probe = DockerProbe { integration: "casa".to_owned(), containers, limits: Default::default() };
        let asking = Asking { limit: Duration::from_secs(4), ..asking(&clients) };
        ask(&asking, &probe, connection).await
    }

    #[tokio::test]
    async fn rows_that_cannot_be_read_make_nothing_healthy_and_nobody_missing() {
        let web = json!({"Id": "0a", "Names": ["/web"], "State": "running"});
        let product = engine(json!([web, {"Id": 7}])).await;
        let of = connection(Kind::Docker, &product, None, "");
        let seen = asked(&of, &["web", "db"]).await;
        assert_eq!(seen.status, Status::Unknown, "{}", seen.text);
        assert!(seen.text.contains("whether these exist on casa is not known: db"), "{}", seen.text);
        let product = engine(json!([{"Id": 7}, 7])).await;
        let seen = asked(&connection(Kind::Docker, &product, None, ""), &[]).await;
        assert_eq!(seen.status, Status::Unknown);
        assert!(seen.text.contains("none of the 2 containers"), "{}", seen.text);
        let product = engine(json!([web])).await;
        let seen = asked(&connection(Kind::Docker, &product, None, ""), &["db"]).await;
        assert_eq!((seen.status, seen.text.contains("db (does not exist)")), (Status::Critical, true));
    }

    #[test]
    fn containers_beyond_the_most_that_are_looked_at_are_said() {
        let found = Findings { total: MOST, over: 3, ..Findings::default() };
        let probe = DockerProbe { integration: "e".to_owned(), containers: Vec::new(), limits: Default::default() };
        let seen = found.judge(Language::En, "engine", &probe);
        assert!(seen.text.contains("3 more were not looked at"), "{}", seen.text);
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next_and_another_certificate_ends_the_look() {
        let product = engine(json!([{"Id": "0a", "Names": ["/web"], "State": "running"}])).await;
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut of = connection(Kind::Docker, &product, None, "");
        of.endpoints.insert(0, format!("https://{}", silent.local_addr().expect("an address")));
        let seen = asked(&of, &[]).await;
        assert_eq!(seen.status, Status::Ok, "{}", seen.text);
        let other = engine(json!([])).await;
        of.endpoints[0] = other.url();
        let seen = asked(&of, &[]).await;
        assert_eq!(seen.status, Status::Unknown);
        assert!(seen.text.contains("another certificate"), "{}", seen.text);
    }

    fn container(state: &str, health: &str, policy: &str, code: i64) -> Container {
        let row = json!({"Id": "0a", "Names": ["/web"], "State": state});
        Container::read(row.as_object().expect("an object")).expect("a container").with(&json!({
            "RestartCount": 2,
            "State": {"Status": state, "ExitCode": code, "Health": {"Status": health}},
            "HostConfig": {"RestartPolicy": {"Name": policy}},
        }))
    }

    fn judged(container: &Container, is_named: bool) -> Seen {
        let mut found = Findings { total: 1, ..Findings::default() };
        found.add(Language::En, container, is_named);
        let probe = DockerProbe { integration: "e".to_owned(), containers: Vec::new(), limits: Default::default() };
        found.judge(Language::En, "engine", &probe)
    }

    #[test]
    fn states_mean_what_the_restart_policy_makes_of_them() {
        for (state, health, policy, code, is_named, expected) in [
            ("running", "", "no", 0, false, Status::Ok),
            ("running", "starting", "no", 0, false, Status::Ok),
            ("running", "unhealthy", "no", 0, false, Status::Critical),
            ("exited", "", "no", 1, false, Status::Ok),
            ("exited", "", "no", 1, true, Status::Critical),
            ("exited", "", "always", 137, false, Status::Critical),
            ("exited", "", "on-failure", 0, false, Status::Ok),
            ("exited", "", "on-failure", 1, false, Status::Critical),
            ("restarting", "", "always", 1, false, Status::Critical),
            ("paused", "", "always", 0, false, Status::Warning),
            ("hibernating", "", "no", 0, false, Status::Unknown),
        ] {
            let seen = judged(&container(state, health, policy, code), is_named);
            assert_eq!(seen.status, expected, "{state} {health} {policy}: {}", seen.text);
            assert_eq!(seen.value, Some(2.0));
        }
        assert!(judged(&container("exited", "", "always", 137), false).text.contains("web (exited with 137)"));
    }

    #[test]
    fn an_address_of_tcp_becomes_one_of_http() {
        let url = |endpoint, tls: &Tls| http_url(endpoint, tls);
        assert_eq!(url("tcp://h:2375/", &Tls::Verify), "http://h:2375");
        assert_eq!(url("tcp://h:2376", &Tls::Verify), "https://h:2376");
        assert_eq!(url("tcp://h:99", &Tls::Insecure), "https://h:99");
        assert_eq!(url("http://h:2375", &Tls::Verify), "http://h:2375");
    }
}
