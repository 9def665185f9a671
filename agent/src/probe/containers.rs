//! All containers of the local engine: what is down, unhealthy or restarting.
//!
//! The engine's answers are read as plain JSON: one container in a state that
//! a typed client does not know must cost its own row and not the whole list.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

pub(super) use farol_protocol::report::ContainersProbe;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

use super::{Probing, Seen, counters::Counters, path::matches, text::Text};
use crate::text::cut;

/// Containers that are looked at.
const MOST: usize = 500;
/// Longest answer of the engine, in bytes.
const MOST_BODY: usize = 8 << 20;
/// Containers that are named in a text.
const MOST_NAMED: usize = 6;

pub(super) async fn run(
    probing: Probing,
    socket: &Path,
    counters: &Counters,
    check: &str,
    probe: &ContainersProbe,
) -> Seen {
    match timeout(probing.limit, look(socket)).await {
        Ok(Ok(found)) => judge(probing, counters, check, probe, &found),
        Ok(Err(NoAnswer::NoEngine(why))) => {
            let values = [("socket", &*socket.display().to_string()), ("why", &*cut(&why, 200))];
            probing.not_configured(Text::NoEngine, &values)
        }
        Ok(Err(NoAnswer::Failed(why))) => probing.unknown(Text::EngineBroke, &[("why", &cut(&why, 200))]),
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

enum NoAnswer {
    /// There is no engine that this agent may use.
    NoEngine(String),
    Failed(String),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound | Kind::PermissionDenied | Kind::ConnectionRefused => Self::NoEngine(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// One container, as far as the engine told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    name: String,
    /// `running`, `exited` and so on, or a word that is new.
    state: Option<String>,
    health: Option<String>,
    /// Whether its restart policy wants it up at all times.
    stays: bool,
    restarts: Option<u32>,
    exit_code: Option<i64>,
}

/// The containers, and how many of them could not be read.
#[derive(Debug, Default)]
struct Found {
    rows: Vec<Row>,
    unread: usize,
}

async fn look(socket: &Path) -> Result<Found, NoAnswer> {
    let list = match get(socket, "/containers/json?all=true").await? {
        (_, Value::Array(list)) => list,
        (status, other) => return Err(NoAnswer::Failed(format!("{status} {}", said(&other)))),
    };
    let mut found = Found { unread: list.len().saturating_sub(MOST), ..Found::default() };
    for entry in list.into_iter().take(MOST) {
        let Some(id) = entry.get("Id").and_then(Value::as_str).filter(|id| is_id(id)) else {
            found.unread += 1;
            continue;
        };
        match get(socket, &format!("/containers/{id}/json")).await? {
            (StatusCode::OK, inspected) => match row(&entry, &inspected) {
                Some(row) => found.rows.push(row),
                None => found.unread += 1,
            },
            // It was removed since the list was made.
            (StatusCode::NOT_FOUND, _) => {}
            _ => found.unread += 1,
        }
    }
    Ok(found)
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn said(answer: &Value) -> String {
    answer.get("message").and_then(Value::as_str).unwrap_or("no list of containers").to_owned()
}

async fn get(socket: &Path, path: &str) -> Result<(StatusCode, Value), NoAnswer> {
    let failed = |error: &dyn std::error::Error| NoAnswer::Failed(error.to_string());
    let socket: PathBuf = socket.to_owned();
    let stream = UnixStream::connect(&socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request =
        Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BODY).collect().await;
        let body = body.map_err(|error| NoAnswer::Failed(error.to_string()))?.to_bytes();
        // A row that is no JSON is that row's matter.
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // The engine may close at once; what it sent is still to be read.
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(&error)),
        },
    }
}

/// None where it was not told, or not even its name.
fn row(entry: &Value, inspected: &Value) -> Option<Row> {
    inspected.as_object()?;
    let text = |pointer: &str| inspected.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let name = text("/Name").or_else(|| Some(entry.pointer("/Names/0")?.as_str()?.to_owned()))?;
    let policy = text("/HostConfig/RestartPolicy/Name").unwrap_or_default();
    let restarts = inspected.get("RestartCount").and_then(Value::as_u64);
    Some(Row {
        name: name.trim_start_matches('/').to_owned(),
        state: text("/State/Status").or_else(|| Some(entry.get("State")?.as_str()?.to_owned())),
        health: text("/State/Health/Status").filter(|health| !matches!(health.as_str(), "" | "none")),
        stays: matches!(policy.as_str(), "always" | "unless-stopped"),
        restarts: restarts.and_then(|count| u32::try_from(count).ok()),
        exit_code: inspected.pointer("/State/ExitCode").and_then(Value::as_i64),
    })
}

/// The states that Docker and Podman are known to tell.
const STATES: [&str; 11] = [
    "created",
    "configured",
    "initialized",
    "running",
    "paused",
    "restarting",
    "removing",
    "stopping",
    "stopped",
    "exited",
    "dead",
];

/// What is wrong with one, in the engine's own words.
fn trouble(row: &Row) -> Option<String> {
    match row.state.as_deref()? {
        "running" if row.health.as_deref() == Some("unhealthy") => Some("unhealthy".to_owned()),
        "restarting" | "dead" | "stopping" | "paused" => row.state.clone(),
        "exited" | "stopped" if row.stays => {
            let code = row.exit_code.map(|code| format!(" {code}")).unwrap_or_default();
            Some(format!("{}{code}", row.state.as_deref().unwrap_or_default()))
        }
        _ => None,
    }
}

fn judge(probing: Probing, counters: &Counters, check: &str, probe: &ContainersProbe, found: &Found) -> Seen {
    let counts = |name: &str| !probe.ignore.iter().any(|pattern| matches(pattern, name));
    let restarts: HashMap<String, u32> =
        found.rows.iter().filter_map(|row| Some((row.name.clone(), row.restarts?))).collect();
    let grown = counters.grown(check, restarts);
    let rows = || found.rows.iter().filter(|row| counts(&row.name));
    let unread =
        found.unread + rows().filter(|row| !row.state.as_deref().is_some_and(|state| STATES.contains(&state))).count();
    let mut bad: Vec<String> = rows()
        .filter_map(|row| {
            let restarted = grown.get(&row.name).copied().filter(|by| *by >= probe.restarts.max(1));
            let what = trouble(row).or_else(|| restarted.map(|by| format!("+{by}")))?;
            Some(format!("{} ({what})", row.name))
        })
        .collect();
    bad.sort_unstable();
    let (number, total) = (u32::try_from(bad.len()).unwrap_or(u32::MAX), rows().count().to_string());
    let unread = unread.to_string();
    if bad.is_empty() && unread != "0" {
        return probing.unknown(Text::ContainersUnread, &[("unread", &unread)]);
    }
    let more = bad.len().saturating_sub(MOST_NAMED);
    bad.truncate(MOST_NAMED);
    let mut names = bad.join(", ");
    if more > 0 {
        names.push_str(&format!(" … (+{more})"));
    }
    let fine = if names.is_empty() { Text::ContainersOk } else { Text::ContainersBad };
    let values = [("names", names.as_str()), ("total", &total)];
    probing.judged(&probe.limits, f64::from(number), "count", [fine, Text::ContainersBad], &values)
}

#[cfg(test)]
mod tests {
    use farol_protocol::{
        Status,
        report::{Limits, UnknownCause},
    };
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::{super::tests::probing, *};

    fn probe(ignore: &[&str]) -> ContainersProbe {
        let limits = Limits { critical: Some(1.0), ..Limits::default() };
        ContainersProbe { ignore: ignore.iter().map(|name| (*name).to_owned()).collect(), restarts: 1, limits }
    }

    fn inspected(name: &str, state: &Value, policy: &str, restarts: u32) -> Value {
        let host = json!({"RestartPolicy": {"Name": policy}});
        json!({"Id": "0a1b", "Name": format!("/{name}"), "RestartCount": restarts, "State": state, "HostConfig": host})
    }

    /// An engine whose answers are given: the list, then one by one.
    fn engine(folder: &Path, rows: Vec<(&'static str, Value)>) {
        let listener = UnixListener::bind(folder.join("docker.sock")).expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.expect("a request");
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).expect("a path").to_owned();
                assert!(request.starts_with("GET "), "{request}");
                let (status, body) = if path.starts_with("/containers/json") {
                    let list: Vec<Value> = rows.iter().map(|(id, _)| json!({"Id": id, "Names": ["/listed"]})).collect();
                    ("200 OK", json!(list).to_string())
                } else {
                    let id = path.split('/').nth(2).expect("an id");
                    match rows.iter().find(|(known, _)| *known == id) {
                        Some((_, Value::String(raw))) => ("200 OK", raw.clone()),
                        Some((_, Value::Null)) => {
                            ("404 Not Found", json!({"message": "No such container"}).to_string())
                        }
                        Some((_, row)) => ("200 OK", row.to_string()),
                        None => ("500 Internal Server Error", String::new()),
                    }
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.expect("sent");
            }
        });
    }

    async fn seen(rows: Vec<(&'static str, Value)>, probe: &ContainersProbe) -> Seen {
        let folder = tempfile::tempdir().expect("a folder");
        engine(folder.path(), rows);
        run(probing(), &folder.path().join("docker.sock"), &Counters::default(), "c", probe).await
    }

    #[tokio::test]
    async fn what_should_run_and_does_not_is_named() {
        let running = json!({"Status": "running", "Running": true, "Health": {"Status": ""}});
        let exited = json!({"Status": "exited", "ExitCode": 137});
        let unhealthy = json!({"Status": "running", "Health": {"Status": "unhealthy"}});
        let rows = vec![
            ("aa", inspected("web", &running, "always", 0)),
            ("bb", inspected("db", &exited, "unless-stopped", 0)),
            ("cc", inspected("once", &exited, "no", 0)),
            ("dd", inspected("api", &unhealthy, "always", 0)),
            ("ee", Value::Null),
        ];
        let report = seen(rows.clone(), &probe(&[])).await;
        assert_eq!((report.status, report.value), (Status::Critical, Some(2.0)), "{}", report.text);
        assert!(report.text.contains("api (unhealthy), db (exited 137)"), "{}", report.text);
        let report = seen(rows, &probe(&["db", "ap?"])).await;
        assert_eq!((report.status, report.value), (Status::Ok, Some(0.0)), "{}", report.text);
        assert_eq!(seen(Vec::new(), &probe(&[])).await.status, Status::Ok);
    }

    #[tokio::test]
    async fn a_malformed_container_costs_its_row_and_is_never_called_fine() {
        let running = json!({"Status": "running"});
        let fine = vec![("aa", inspected("web", &running, "always", 0))];
        let odd = inspected("new", &json!({"Status": "hibernating", "Health": 7}), "x", 0);
        let report = seen([fine.clone(), vec![("bb", odd)]].concat(), &probe(&[])).await;
        assert_eq!(report.status, Status::Unknown, "a word that nobody knows: {}", report.text);
        let broken = [fine.clone(), vec![("cc", json!("{\"Name\": "))]].concat();
        let report = seen(broken.clone(), &probe(&[])).await;
        assert_eq!(report.status, Status::Unknown, "named, and yet not seen: {}", report.text);
        let nameless = [fine, vec![("../x", running.clone())]].concat();
        let report = seen(nameless, &probe(&[])).await;
        assert_eq!((report.status, report.cause), (Status::Unknown, None), "{}", report.text);
        let down = json!({"Status": "dead"});
        let report = seen([broken, vec![("dd", inspected("db", &down, "", 0))]].concat(), &probe(&[])).await;
        assert_eq!(report.status, Status::Critical, "{}", report.text);
    }

    #[test]
    fn restarts_count_from_look_to_look() {
        let counters = Counters::default();
        let look = |restarts| {
            let row = Row { name: "web".to_owned(), state: Some("running".to_owned()), restarts, ..Row::default() };
            judge(probing(), &counters, "c", &probe(&[]), &Found { rows: vec![row], unread: 0 })
        };
        assert_eq!(look(Some(90)).status, Status::Ok);
        let seen = look(Some(92));
        assert_eq!((seen.status, seen.value), (Status::Critical, Some(1.0)));
        assert!(seen.text.contains("web (+2)"), "{}", seen.text);
        assert_eq!(look(Some(92)).status, Status::Ok);
        assert_eq!(look(None).status, Status::Ok);
    }

    #[tokio::test]
    async fn no_engine_is_not_configured() {
        let folder = tempfile::tempdir().expect("a folder");
        let seen = run(probing(), &folder.path().join("none.sock"), &Counters::default(), "c", &probe(&[])).await;
        assert_eq!((seen.status, seen.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)), "{}", seen.text);
    }
}
