//! Replication jobs: when each last succeeded, and what keeps failing.

use farol_protocol::{Language, Status, report::Limits, system::ProxmoxProbe};
use serde_json::{Map, Value};

use super::{
    api::{Cluster, Trouble, segment},
    ignored,
    rows::{Standing, word},
};
use crate::{
    checks::system::{
        Seen,
        phrase::{Said, listed},
    },
    integrations::lenient::{flag, integer, rows},
    text::{duration, say},
};

/// A job that has failed this often in a row is broken.
const BROKEN_AFTER: i64 = 3;
/// A run that is due may wait this long, in seconds.
const PATIENCE: i64 = 1800;

#[derive(Debug)]
struct Job {
    id: String,
    source: String,
    target: String,
    /// Of its last success, seconds since the epoch; none before the first.
    last: Option<i64>,
    /// When it is due.
    next: Option<i64>,
    failures: i64,
    error: Option<String>,
    runs: bool,
}

fn job(row: &Map<String, Value>, node: &str) -> Option<Option<Job>> {
    if row.get("disable").and_then(flag) == Some(true) || word(row, "remove_job").is_some() {
        return Some(None);
    }
    Some(Some(Job {
        id: word(row, "id")?,
        source: word(row, "source").unwrap_or_else(|| node.to_owned()),
        target: word(row, "target").unwrap_or_default(),
        last: row.get("last_sync").and_then(integer).filter(|at| *at > 0),
        next: row.get("next_sync").and_then(integer).filter(|at| *at > 0),
        failures: integer(row.get("fail_count")?)?,
        error: word(row, "error"),
        runs: row.contains_key("pid"),
    }))
}

pub(super) async fn look(cluster: &Cluster<'_>, probe: &ProxmoxProbe, standing: &Standing) -> Result<Seen, Trouble> {
    let language = cluster.language();
    let mut said = Said::new(language);
    let nodes = standing.names(true);
    let paths: Vec<String> = nodes.iter().map(|node| format!("/nodes/{}/replication", segment(node))).collect();
    let (mut jobs, mut bad) = (Vec::new(), 0);
    for (node, answer) in nodes.iter().zip(cluster.get_all(&paths).await) {
        let read = answer.and_then(|list| {
            rows(&list, |row| job(row, node)).ok_or_else(|| Trouble::Shape { path: "/replication".to_owned() })
        });
        match read {
            Ok(read) => {
                bad += read.bad;
                jobs.extend(read.good.into_iter().flatten());
            }
            Err(trouble) => said.say(Status::Unknown, format!("{node}: {}", trouble.words(cluster))),
        }
    }
    let away = standing.names(false);
    if !away.is_empty() {
        let names = listed(language, &away);
        said.say(
            Status::Unknown,
            say!(
                language,
                "nada se sabe das tarefas de {names}, fora do ar",
                "nothing is known of the jobs of {names}, away"
            ),
        );
    }
    jobs.retain(|job| !ignored(probe, &[job.id.as_str()]));
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    if jobs.is_empty() && bad > 0 {
        said.say(
            Status::Unknown,
            say!(
                language,
                "nenhuma das tarefas de replicação pôde ser lida",
                "none of the replication jobs could be read"
            ),
        );
    } else if jobs.is_empty() {
        // Jobs are seen by the same right as guests: who sees guests would see jobs.
        if cluster.resources().await?.guests.is_empty() {
            said.say(
                Status::Unknown,
                say!(
                    language,
                    "nem guests nem tarefas de replicação à vista: dê ao token o papel PVEAuditor em `/` (VM.Audit)",
                    "neither guests nor replication jobs in sight: give the token the role PVEAuditor on `/` (VM.Audit)"
                ),
            );
        } else {
            said.say(Status::Ok, say!(language, "não há tarefa de replicação", "there is no replication job"));
        }
    } else {
        tell(cluster, &probe.limits, &jobs, &mut said);
    }
    said.lost(bad);
    Ok(said.seen())
}

fn tell(cluster: &Cluster<'_>, limits: &Limits, jobs: &[Job], said: &mut Said) {
    let (language, now) = (cluster.language(), cluster.now());
    let label = |job: &Job| format!("{} {}→{}", job.id, job.source, job.target);
    let age = |at: i64| duration(now.saturating_sub(at).saturating_mul(1000));
    let oldest = jobs.iter().filter_map(|job| Some((job.last?, job))).min_by_key(|(last, _)| *last);
    if let Some((last, job)) = oldest {
        let (all, job, ago) = (jobs.len(), label(job), age(last));
        #[expect(clippy::cast_precision_loss, reason = "minutes since a recent day")]
        let minutes = (now.saturating_sub(last).max(0) / 60) as f64;
        said.judge(
            limits,
            minutes,
            "min",
            &say!(
                language,
                "{all} tarefas; a última sincronização mais antiga é de {job}, há {ago}",
                "{all} jobs; the oldest last sync is of {job}, {ago} ago"
            ),
        );
    }
    let failing = |bad: bool| -> Vec<String> {
        jobs.iter()
            .filter(|job| job.failures > 0 && (job.failures >= BROKEN_AFTER || job.last.is_none()) == bad)
            .map(|job| {
                let (label, times) = (label(job), job.failures);
                let why = job.error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                say!(language, "{label} falhou {times}×{why}", "{label} failed {times}×{why}")
            })
            .collect()
    };
    for (status, items) in [(Status::Critical, failing(true)), (Status::Warning, failing(false))] {
        if !items.is_empty() {
            said.say(status, listed(language, &items));
        }
    }
    let fine = |job: &&Job| job.failures == 0 && !job.runs;
    let late: Vec<String> = jobs
        .iter()
        .filter(fine)
        .filter_map(|job| {
            job.next.filter(|next| now.saturating_sub(*next) > PATIENCE).map(|next| (label(job), age(next)))
        })
        .map(|(job, ago)| say!(language, "{job} (há {ago})", "{job} ({ago} ago)"))
        .collect();
    if !late.is_empty() {
        let names = listed(language, &late);
        said.say(Status::Warning, say!(language, "deveria ter começado: {names}", "should have begun: {names}"));
    }
    let never: Vec<String> = jobs.iter().filter(fine).filter(|job| job.last.is_none()).map(label).collect();
    if !never.is_empty() {
        let names = listed(language, &never);
        said.say(Status::Unknown, say!(language, "ainda sem sincronização: {names}", "no sync yet: {names}"));
    }
}
