//! The newest backup of each guest, by what lies on the storages that take
//! backups. That a `vzdump` task ended well proves none: what it made may be
//! deleted or damaged since. It is only told beside storages that were not read.
//!
//! `not-backed-up` only tells which guests have no backup job; it says nothing
//! of age or success. Whom the check lists must have a backup, else whoever a
//! job covers; a guest without a job is a warning, and `ignore` ends it.
//! What could not be read may hold the backup that seems to be missing, so it
//! makes a missing or old one unknown.

use std::collections::{BTreeMap, BTreeSet};

use farol_protocol::{Language, Status, system::ProxmoxProbe};
use serde_json::{Map, Value};

use super::{
    api::{Cluster, Trouble, segment},
    ignored,
    rows::{Guest, Resources, Standing},
    storage::label,
    tasks::task,
};
use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, limits_or, listed},
    },
    integrations::lenient::{Rows, integer, rows},
    text::{duration, say},
};

/// How far back tasks are read, in seconds.
const TASKS_SINCE: i64 = 7 * 86_400;

/// One backup on a storage.
struct Backup {
    vmid: u32,
    /// Seconds since the epoch.
    at: i64,
    /// Whether the backup server found it damaged.
    damaged: bool,
}

fn backup(row: &Map<String, Value>) -> Option<Option<Backup>> {
    // What belongs to no guest, such as a host's backup.
    let Some(vmid) = row.get("vmid").filter(|vmid| !vmid.is_null()) else { return row.get("volid").map(|_| None) };
    let state = row.get("verification").and_then(|verification| verification.get("state")).and_then(Value::as_str);
    Some(Some(Backup {
        vmid: u32::try_from(integer(vmid)?).ok()?,
        at: integer(row.get("ctime")?)?,
        damaged: state == Some("failed"),
    }))
}

/// What was found.
#[derive(Default)]
struct Found {
    /// By guest, when its newest good backup was made.
    newest: BTreeMap<u32, i64>,
    /// By guest, when its newest damaged one was made.
    damaged: BTreeMap<u32, i64>,
    /// By guest, when its newest task ended well; only where a storage was not read.
    dumped: BTreeMap<u32, i64>,
    /// What could not be read, and why.
    unread: Vec<String>,
    /// Places that were read.
    read: usize,
    bad: usize,
}

pub(super) async fn look(cluster: &Cluster<'_>, probe: &ProxmoxProbe, standing: &Standing) -> Result<Seen, Trouble> {
    let language = cluster.language();
    let resources = cluster.resources().await?;
    let uncovered: BTreeSet<u32> = {
        let path = "/cluster/backup-info/not-backed-up";
        let list = rows(&cluster.get(path).await?, |row| u32::try_from(integer(row.get("vmid")?)?).ok())
            .ok_or_else(|| Trouble::Shape { path: path.to_owned() })?;
        list.good.into_iter().collect()
    };
    let mut said = Said::new(language);
    let guests: Vec<&Guest> = resources
        .guests
        .iter()
        .filter(|guest| {
            !guest.template && !ignored(probe, &[&guest.vmid.to_string(), guest.name.as_deref().unwrap_or_default()])
        })
        .collect();
    if guests.is_empty() && probe.guests.is_empty() {
        said.say(
            Status::Unknown,
            say!(
                language,
                "o token não vê nenhum guest: dê-lhe o papel PVEAuditor em `/` (VM.Audit)",
                "the token sees no guest: give it the role PVEAuditor on `/` (VM.Audit)"
            ),
        );
        said.lost(resources.bad);
        return Ok(said.seen());
    }
    let named =
        |vmid: u32| guests.iter().find(|guest| guest.vmid == vmid).map_or_else(|| vmid.to_string(), |g| g.label());
    let scope: Vec<u32> = if probe.guests.is_empty() {
        guests.iter().map(|guest| guest.vmid).filter(|vmid| !uncovered.contains(vmid)).collect()
    } else {
        probe.guests.clone()
    };
    let mut found = Found { bad: resources.bad, ..Found::default() };
    stores(cluster, probe, &resources, standing, &mut found).await;
    if !found.unread.is_empty() {
        dumps(cluster, standing, &mut found).await;
    }
    tell(cluster, probe, &scope, &named, &found, &mut said);
    let without: Vec<String> = if probe.guests.is_empty() {
        guests.iter().filter(|guest| uncovered.contains(&guest.vmid)).map(|guest| guest.label()).collect()
    } else {
        Vec::new()
    };
    if !without.is_empty() {
        let names = listed(language, &without);
        said.say(Status::Warning, say!(language, "sem tarefa de backup: {names}", "in no backup job: {names}"));
    }
    said.lost(found.bad);
    Ok(said.seen())
}

/// Reads the storages: a shared one once, others on each node.
async fn stores(
    cluster: &Cluster<'_>,
    probe: &ProxmoxProbe,
    resources: &Resources,
    standing: &Standing,
    found: &mut Found,
) {
    let language = cluster.language();
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    let counted = resources.stores.iter().filter(|store| store.backups && !ignored(probe, &[store.name.as_str()]));
    let (usable, not): (Vec<_>, Vec<_>) = counted.partition(|store| store.available && !standing.is_away(&store.node));
    for store in usable {
        let node = if store.shared { "" } else { store.node.as_str() };
        if seen.insert((store.name.as_str(), node)) {
            places.push(store);
        }
    }
    for store in not {
        let node = if store.shared { "" } else { store.node.as_str() };
        if seen.insert((store.name.as_str(), node)) {
            let what = label(store, language);
            found.unread.push(say!(language, "{what} (indisponível)", "{what} (not available)"));
        }
    }
    let paths: Vec<String> = places
        .iter()
        .map(|store| format!("/nodes/{}/storage/{}/content?content=backup", segment(&store.node), segment(&store.name)))
        .collect();
    for (store, answer) in places.iter().zip(cluster.get_all(&paths).await) {
        let list = answer
            .and_then(|list| rows(&list, backup).ok_or_else(|| Trouble::Shape { path: "/storage/content".to_owned() }));
        match list {
            Ok(Rows { good, bad }) => {
                found.bad += bad;
                found.read += 1;
                for backup in good.into_iter().flatten() {
                    let kept = if backup.damaged { &mut found.damaged } else { &mut found.newest };
                    let newest = kept.entry(backup.vmid).or_insert(backup.at);
                    *newest = backup.at.max(*newest);
                }
            }
            Err(trouble) => found.unread.push(format!("{} ({})", label(store, language), trouble.words(cluster))),
        }
    }
}

/// Reads `vzdump` tasks of one guest that ended well: what they made may lie
/// where the token cannot look.
async fn dumps(cluster: &Cluster<'_>, standing: &Standing, found: &mut Found) {
    let since = cluster.now() - TASKS_SINCE;
    let nodes = standing.names(true);
    let paths: Vec<String> = nodes
        .iter()
        .map(|node| format!("/nodes/{}/tasks?typefilter=vzdump&since={since}&limit=500", segment(node)))
        .collect();
    for (node, answer) in nodes.iter().zip(cluster.get_all(&paths).await) {
        // Only the storages decide what is missing; a node whose tasks are not read adds nothing.
        let Some(list) = answer.ok().and_then(|list| rows(&list, |row| task(row, node))) else { continue };
        for task in list.good.into_iter().flatten().filter(|task| task.kind == "vzdump" && task.error.is_none()) {
            if let Ok(vmid) = task.id.parse::<u32>() {
                let newest = found.dumped.entry(vmid).or_insert(task.ended);
                *newest = task.ended.max(*newest);
            }
        }
    }
}

fn tell(
    cluster: &Cluster<'_>,
    probe: &ProxmoxProbe,
    scope: &[u32],
    named: &dyn Fn(u32) -> String,
    found: &Found,
    said: &mut Said,
) {
    let (language, now) = (cluster.language(), cluster.now());
    let limits = limits_or(&probe.limits, above(Some(26.0), Some(50.0)));
    let hours = |at: i64| {
        #[expect(clippy::cast_precision_loss, reason = "seconds since a recent year")]
        let hours = now.saturating_sub(at).max(0) as f64 / 3600.0;
        (hours * 10.0).round() / 10.0
    };
    let whole = found.unread.is_empty();
    if !whole {
        let names = listed(language, &found.unread);
        said.say(Status::Unknown, say!(language, "backups não lidos: {names}", "backups not read: {names}"));
    } else if found.read == 0 {
        said.say(
            Status::Unknown,
            say!(
                language,
                "nenhum storage de backup à vista: não há, ou falta Datastore.Audit ao token",
                "no backup storage in sight: there is none, or the token lacks Datastore.Audit"
            ),
        );
    }
    let certain = whole && found.read > 0;
    let missing: Vec<String> =
        scope.iter().filter(|vmid| !found.newest.contains_key(vmid)).map(|vmid| named(*vmid)).collect();
    if !missing.is_empty() {
        let names = listed(language, &missing);
        let status = if certain { Status::Critical } else { Status::Unknown };
        said.say(status, say!(language, "sem nenhum backup: {names}", "without any backup: {names}"));
    }
    let dumped: Vec<String> = scope
        .iter()
        .filter_map(|vmid| {
            let at = *found.dumped.get(vmid)?;
            let (name, ago) = (named(*vmid), duration(now.saturating_sub(at).saturating_mul(1000)));
            // Told where it is newer than what was read.
            found
                .newest
                .get(vmid)
                .is_none_or(|read| at > *read)
                .then(|| say!(language, "{name} há {ago}", "{name} {ago} ago"))
        })
        .collect();
    if !dumped.is_empty() {
        let names = listed(language, &dumped);
        said.say(
            Status::Unknown,
            say!(
                language,
                "tarefas de backup que terminaram bem, sem que se veja o que fizeram: {names}",
                "backup tasks that ended well, though what they made is not seen: {names}"
            ),
        );
    }
    let mut aged: Vec<(f64, i64, u32)> =
        scope.iter().filter_map(|vmid| found.newest.get(vmid).map(|at| (hours(*at), *at, *vmid))).collect();
    aged.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
    if let Some((oldest, at, vmid)) = aged.first() {
        let ago = duration(now.saturating_sub(*at).saturating_mul(1000));
        let old: Vec<String> = aged
            .iter()
            .filter(|(hours, ..)| limits.judge(*hours) != Status::Ok)
            .map(|(.., vmid)| named(*vmid))
            .collect();
        let text = if old.is_empty() {
            let (all, name) = (aged.len(), named(*vmid));
            say!(
                language,
                "{all} guests com backup; o mais antigo é de {name}, há {ago}",
                "{all} guests with a backup; the oldest is of {name}, {ago} ago"
            )
        } else {
            let names = listed(language, &old);
            say!(
                language,
                "backup velho: {names}; o mais antigo há {ago}",
                "old backups: {names}; the oldest {ago} ago"
            )
        };
        if certain || old.is_empty() {
            said.judge(&limits, *oldest, "h", &text);
        } else {
            said.measure(*oldest, "h");
            said.say(Status::Unknown, text);
        }
    } else if scope.is_empty() {
        said.say(
            Status::Unknown,
            say!(language, "nenhum guest está numa tarefa de backup", "no guest is in a backup job"),
        );
    }
    let damaged: Vec<String> = scope
        .iter()
        .filter(|vmid| found.damaged.get(vmid).is_some_and(|at| found.newest.get(vmid).is_none_or(|good| at > good)))
        .map(|vmid| named(*vmid))
        .collect();
    if !damaged.is_empty() {
        let names = listed(language, &damaged);
        said.say(
            Status::Warning,
            say!(language, "backup reprovado na verificação: {names}", "backup failed its verification: {names}"),
        );
    }
}
