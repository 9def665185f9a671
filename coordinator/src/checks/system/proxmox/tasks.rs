//! Tasks that failed in the last 24 hours.

use farol_protocol::{Language, Status, system::ProxmoxProbe};
use serde_json::{Map, Value};

use super::{
    api::{Cluster, Trouble, segment},
    ignored,
    rows::{Standing, word},
};
use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, count, limits_or, listed},
    },
    integrations::lenient::{integer, rows},
    text::say,
};

/// How far back, in seconds.
const DAY: i64 = 86_400;
/// Tasks of a node that are read.
const LIMIT: usize = 500;
/// A person who closes a console leaves a failed task: these never count.
const CONSOLES: [&str; 5] = ["vncproxy", "vncshell", "termproxy", "spiceproxy", "spiceshell"];

/// A task that is over.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) node: String,
    pub(super) kind: String,
    /// What it was about, such as a guest's number; empty for several.
    pub(super) id: String,
    /// When it ended, seconds since the epoch.
    pub(super) ended: i64,
    /// What went wrong; none where it succeeded, with warnings or without.
    pub(super) error: Option<String>,
}

/// Reads a row; the inner value is none for a task that still runs.
pub(super) fn task(row: &Map<String, Value>, node: &str) -> Option<Option<Task>> {
    let kind = word(row, "type")?;
    let (Some(status), ended) = (word(row, "status"), row.get("endtime").and_then(integer)) else {
        return Some(None);
    };
    if status == "running" {
        return Some(None);
    }
    let good = status == "OK" || status.starts_with("WARNINGS:");
    Some(Some(Task {
        node: word(row, "node").unwrap_or_else(|| node.to_owned()),
        kind,
        id: row.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).unwrap_or_default(),
        ended: ended.or_else(|| row.get("starttime").and_then(integer))?,
        error: (!good).then_some(status),
    }))
}

pub(super) async fn look(cluster: &Cluster<'_>, probe: &ProxmoxProbe, standing: &Standing) -> Result<Seen, Trouble> {
    let (language, since) = (cluster.language(), cluster.now() - DAY);
    let mut said = Said::new(language);
    let nodes: Vec<String> =
        standing.names(true).into_iter().filter(|name| !ignored(probe, &[name.as_str()])).collect();
    let paths: Vec<String> = nodes
        .iter()
        .map(|node| format!("/nodes/{}/tasks?errors=1&since={since}&limit={LIMIT}", segment(node)))
        .collect();
    let (mut failed, mut bad, mut read, mut unread) = (Vec::new(), 0, false, false);
    for (node, answer) in nodes.iter().zip(cluster.get_all(&paths).await) {
        let list = answer.and_then(|list| {
            rows(&list, |row| task(row, node)).ok_or_else(|| Trouble::Shape { path: "/tasks".to_owned() })
        });
        match list {
            Ok(list) => {
                bad += list.bad;
                read |= !list.good.is_empty() || list.bad == 0;
                failed.extend(list.good.into_iter().flatten().filter(|task| {
                    task.error.is_some()
                        && task.ended >= since
                        && !CONSOLES.contains(&task.kind.as_str())
                        && !ignored(probe, &[task.kind.as_str(), task.id.as_str()])
                }));
            }
            Err(trouble) => {
                unread = true;
                said.say(Status::Unknown, format!("{node}: {}", trouble.words(cluster)));
            }
        }
    }
    failed.sort_by_key(|task| std::cmp::Reverse(task.ended));
    let names: Vec<String> = failed
        .iter()
        .map(|Task { node, kind, id, error, .. }| {
            let id = if id.is_empty() { String::new() } else { format!(" {id}") };
            let why = error.as_deref().unwrap_or_default();
            say!(language, "{kind}{id} em {node} ({why})", "{kind}{id} on {node} ({why})")
        })
        .collect();
    let (times, names) = (names.len(), listed(language, &names));
    let text = if times == 0 && unread {
        say!(language, "nos outros nós nenhuma tarefa falhou em 24 h", "on the other nodes no task failed within 24 h")
    } else if times == 0 {
        say!(language, "nenhuma tarefa falhou em 24 h", "no task failed within 24 h")
    } else {
        say!(
            language,
            "tarefas que falharam em 24 h: {times}: {names}",
            "tasks that failed within 24 h: {times}: {names}"
        )
    };
    if read {
        said.judge(&limits_or(&probe.limits, above(Some(1.0), None)), count(times), "count", &text);
    }
    if !read && bad > 0 {
        said.say(Status::Unknown, say!(language, "nenhuma tarefa pôde ser lida", "no task could be read"));
    }
    let away = standing.names(false);
    if !away.is_empty() {
        let names = listed(language, &away);
        said.say(
            Status::Unknown,
            say!(
                language,
                "nada se sabe das tarefas de {names}, fora do ar",
                "nothing is known of the tasks of {names}, away"
            ),
        );
    }
    said.lost(bad);
    Ok(said.seen())
}
