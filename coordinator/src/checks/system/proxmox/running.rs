//! Backups that run now, and which guests they save.
//!
//! A `vzdump` task of one guest carries its number. One of several carries
//! none: the first lines of its log repeat the command with the numbers. Where
//! these name no guest (`--all`, `--pool`), those count whose configuration is
//! locked for a backup on the task's node.

use std::collections::{BTreeMap, BTreeSet};

use farol_protocol::Timestamp;
use serde_json::{Map, Value};

use super::{
    api::{Cluster, Trouble, segment},
    rows::word,
};
use crate::{
    integrations::lenient::{integer, rows},
    quiet::RunningBackup,
};

/// Tasks of a node that are read.
const LIMIT: usize = 100;
/// Lines of a log in which the command is looked for.
const LINES: usize = 10;
/// How the command begins there.
const COMMAND: &str = "starting new backup job: vzdump ";

struct Task {
    upid: String,
    started: Timestamp,
    vmids: Vec<u32>,
}

/// The backups that run, by node; a node that does not tell is left out.
///
/// # Errors
/// No node tells.
pub(super) async fn read(cluster: &Cluster<'_>) -> Result<BTreeMap<String, Vec<RunningBackup>>, Trouble> {
    let nodes = cluster.standing().await?.names(true);
    let path = |node: &String| format!("/nodes/{}/tasks?source=active&typefilter=vzdump&limit={LIMIT}", segment(node));
    let paths: Vec<String> = nodes.iter().map(path).collect();
    let mut found: BTreeMap<String, Vec<Task>> = BTreeMap::new();
    let mut trouble = None;
    for (node, answer) in nodes.into_iter().zip(cluster.get_all(&paths).await) {
        let list =
            answer.and_then(|list| rows(&list, task).ok_or_else(|| Trouble::Shape { path: "/tasks".to_owned() }));
        match list {
            Ok(list) => {
                found.insert(node, list.good.into_iter().flatten().collect());
            }
            Err(why) => trouble = Some(why),
        }
    }
    if let (true, Some(trouble)) = (found.is_empty(), trouble) {
        return Err(trouble);
    }
    name_guests(cluster, &mut found).await;
    let running = |Task { upid, started, vmids }| RunningBackup { task: upid, started, vmids };
    Ok(found.into_iter().map(|(node, tasks)| (node, tasks.into_iter().map(running).collect())).collect())
}

/// Reads a row; the inner value is none for whatever else runs, or has ended.
fn task(row: &Map<String, Value>) -> Option<Option<Task>> {
    let kind = word(row, "type")?;
    if kind != "vzdump" || word(row, "status").is_some_and(|status| status != "running" && status != "RUNNING") {
        return Some(None);
    }
    // As it is: it is a part of a path.
    let upid = row.get("upid")?.as_str().filter(|upid| upid.len() <= 300)?.to_owned();
    let started = Timestamp::from_ms(row.get("starttime").and_then(integer)?.saturating_mul(1000));
    let id = row.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).unwrap_or_default();
    Some(Some(Task { upid, started, vmids: numbers(id.split([',', ';', ' '])) }))
}

fn numbers<'a>(words: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let found: BTreeSet<u32> = words.filter_map(|word| word.trim().parse().ok()).collect();
    found.into_iter().collect()
}

/// Finds out whom tasks of several guests save.
async fn name_guests(cluster: &Cluster<'_>, found: &mut BTreeMap<String, Vec<Task>>) {
    let of_several: Vec<(String, String)> = found
        .iter()
        .flat_map(|(node, tasks)| tasks.iter().map(move |task| (node, task)))
        .filter(|(_, task)| task.vmids.is_empty())
        .map(|(node, task)| (node.clone(), task.upid.clone()))
        .collect();
    if of_several.is_empty() {
        return;
    }
    let path =
        |(node, upid): &(String, String)| format!("/nodes/{}/tasks/{}/log?limit={LINES}", segment(node), segment(upid));
    let paths: Vec<String> = of_several.iter().map(path).collect();
    let logs = cluster.get_all(&paths).await;
    let mut locked = None;
    for ((node, upid), log) in of_several.into_iter().zip(logs) {
        let mut vmids = log.ok().map(|log| in_command(&log)).unwrap_or_default();
        if vmids.is_empty() {
            if locked.is_none() {
                locked = cluster.resources().await.ok().map(|resources| resources.guests);
            }
            let saved = locked.iter().flatten().filter(|guest| guest.node == node);
            vmids = saved.filter(|guest| guest.lock.as_deref() == Some("backup")).map(|guest| guest.vmid).collect();
        }
        let tasks = found.get_mut(&node).into_iter().flatten();
        tasks.filter(|task| task.upid == upid).for_each(|task| task.vmids.clone_from(&vmids));
    }
}

/// The guests that the command in the first lines of a log names.
fn in_command(log: &Value) -> Vec<u32> {
    let lines = log.as_array().into_iter().flatten().filter_map(|line| line.get("t").and_then(Value::as_str));
    let command = lines.filter_map(|line| line.split_once(COMMAND)).map(|(_, command)| command).next();
    // Options come behind the guests, and take numbers too.
    numbers(command.unwrap_or_default().split(' ').take_while(|word| !word.starts_with('-')))
}

#[cfg(test)]
mod tests {
    use farol_tests::proxmox::FakeProxmox;
    use serde_json::json;

    use super::*;
    use crate::{
        checks::system::testing::{NOW, asking, connection},
        integrations::{Kind, http::Clients},
    };

    async fn running(fake: &FakeProxmox) -> Result<BTreeMap<String, Vec<Vec<u32>>>, String> {
        let connection =
            connection(Kind::Proxmox, &fake.product, Some(farol_tests::proxmox::USER), farol_tests::proxmox::SECRET);
        let clients = Clients::default();
        let answers = super::super::backups(&asking(&clients), &connection).await?;
        let vmids = |tasks: Vec<RunningBackup>| tasks.into_iter().map(|task| task.vmids).collect();
        Ok(answers.into_iter().map(|(node, tasks)| (node, vmids(tasks))).collect())
    }

    fn nodes(a: &[&[u32]], b: &[&[u32]]) -> BTreeMap<String, Vec<Vec<u32>>> {
        let lists = |lists: &[&[u32]]| lists.iter().map(|list| list.to_vec()).collect();
        [("a".to_owned(), lists(a)), ("b".to_owned(), lists(b))].into()
    }

    #[tokio::test]
    async fn a_task_names_its_guest_and_one_of_several_in_its_log() {
        let fake = FakeProxmox::start(NOW).await.expect("a stand-in");
        assert_eq!(running(&fake).await, Ok(nodes(&[], &[])), "those in the list have ended");
        fake.start_backup("a", "112", NOW - 60, None);
        fake.start_backup("b", "", NOW - 60, Some("123 104 --storage nas --mode snapshot --bwlimit 200"));
        assert_eq!(running(&fake).await, Ok(nodes(&[&[112]], &[&[104, 123]])));
        fake.end_backups("a");
        assert_eq!(running(&fake).await, Ok(nodes(&[], &[&[104, 123]])));
    }

    #[tokio::test]
    async fn where_no_guest_is_named_those_count_that_are_locked_for_it_on_the_node() {
        let fake = FakeProxmox::start(NOW).await.expect("a stand-in");
        fake.start_backup("b", "", NOW - 60, Some("--all 1 --storage nas --maxfiles 200"));
        assert_eq!(running(&fake).await, Ok(nodes(&[], &[&[]])));
        fake.change(|cluster| {
            cluster.row("/cluster/resources", "id", "lxc/104")["lock"] = json!("backup");
            cluster.row("/cluster/resources", "id", "qemu/123")["lock"] = json!("migrate");
            cluster.row("/cluster/resources", "id", "qemu/112")["lock"] = json!("backup");
        });
        assert_eq!(running(&fake).await, Ok(nodes(&[], &[&[104]])));
    }

    #[tokio::test]
    async fn a_node_that_does_not_tell_is_left_out_and_a_cluster_says_why() {
        let fake = FakeProxmox::start(NOW).await.expect("a stand-in");
        fake.change(|cluster| {
            cluster.away.insert("b".to_owned());
        });
        assert_eq!(running(&fake).await.expect("one tells").into_keys().collect::<Vec<_>>(), ["a"]);
        fake.change(|cluster| {
            cluster.forbidden.insert("/nodes/a/tasks".to_owned());
        });
        assert!(running(&fake).await.is_err());
        fake.take_rights();
        assert!(running(&fake).await.expect_err("refused").contains("PVEAuditor"));
    }

    #[test]
    fn rows_that_are_something_else_are_no_backups() {
        let read = |row: Value| task(row.as_object().expect("a row"));
        let row = |change: Value| {
            let mut row = json!({"upid": "UPID:a:1:2:3:vzdump:112:root@pam:", "type": "vzdump", "id": "112",
                "starttime": 1_700_000_000, "status": "RUNNING"});
            row.as_object_mut().expect("a row").extend(change.as_object().expect("fields").clone());
            row
        };
        let found = read(row(json!({}))).flatten().expect("a backup");
        assert_eq!((found.vmids, found.started.as_ms()), (vec![112], 1_700_000_000_000));
        assert_eq!(read(row(json!({"id": "112,104;7 x"}))).flatten().expect("a backup").vmids, [7, 104, 112]);
        for other in [json!({"status": "OK"}), json!({"status": "job errors"}), json!({"type": "qmstart"})] {
            assert!(read(row(other.clone())).expect("a row").is_none(), "{other}");
        }
        for bad in [json!({"starttime": "soon"}), json!({"upid": null}), json!({"type": null})] {
            assert!(read(row(bad.clone())).is_none(), "{bad}");
        }
    }
}
