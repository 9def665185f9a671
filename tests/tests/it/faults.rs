//! Killed at any moment: no effect twice, nothing acknowledged missing.

use std::time::Duration;

use farol_tests::{Agent, Site, wait_until};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{QUIET, SHELL_POLICY, append, count};

const FINAL: &[&str] = &["done", "failed", "timed_out", "refused", "interrupted"];
const RUNS: u64 = 100;

/// Who is killed, how long after the approval, and how long the effect takes
/// before and after it is made.
struct Fault {
    agent: bool,
    coordinator: bool,
    after: Duration,
    before_ms: u64,
    behind_ms: u64,
}

impl Fault {
    /// The seed alone decides.
    fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let victim = random.u8(0..3);
        Self {
            agent: victim != 1,
            coordinator: victim != 0,
            after: Duration::from_micros(random.u64(0..150_000)),
            before_ms: random.u64(0..50),
            behind_ms: random.u64(0..50),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_runs_with_sigkill_leave_no_effect_twice_and_no_acknowledged_batch_missing() {
    let mut site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.enrol("vm112", Some(SHELL_POLICY)).await.unwrap();
    agent.configure("interval: 100ms\nreconnect_max: 100ms\n").unwrap();
    agent.start().unwrap();
    site.wait_host("vm112", "online").await.unwrap();
    let effects = site.folder().join("effects");
    let (mut done, mut interrupted) = (0, 0);
    for seed in 0..RUNS {
        let word = format!("run-{seed}");
        let fault = Fault::of(seed);
        let effect = append(&word, &effects);
        let line = format!("sleep 0.{:03}; {effect}; sleep 0.{:03}", fault.before_ms, fault.behind_ms);
        let id = site.api().propose_command("vm112", "/bin/sh", &["-c", &line]).await.unwrap();
        site.api().approve(&id).await.unwrap();
        // Not a wait for anything: the moment of the fault is the test's input.
        tokio::time::sleep(fault.after).await;
        if fault.coordinator {
            site.kill_coordinator().await.unwrap();
        }
        if fault.agent {
            agent.kill().await.unwrap();
            agent.start().unwrap();
        }
        if fault.coordinator {
            site.start_coordinator().await.unwrap();
        }
        let action = site.wait_action(&id, FINAL).await.unwrap();
        let times = count(&word, &effects);
        assert!(times <= 1, "seed {seed}: the effect happened {times} times: {action}");
        match action["state"].as_str().unwrap() {
            "done" => {
                assert_eq!(times, 1, "seed {seed}: done without its effect");
                done += 1;
            }
            "interrupted" => interrupted += 1,
            other => panic!("seed {seed}: {other}: {action}"),
        }
    }
    assert!(done > 10 && interrupted > 10, "the schedule hits only one side: {done} done, {interrupted} interrupted");
    nothing_acknowledged_is_missing(&mut site, &mut agent).await;
}

/// Every sequence number up to the last committed one is a stored batch or a
/// counted loss, and the agent let go of nothing beyond it.
async fn nothing_acknowledged_is_missing(site: &mut Site, agent: &mut Agent) {
    agent.stop().await.unwrap();
    site.stop_coordinator().await.unwrap();
    let telemetry = site.data_dir().join("telemetry.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", telemetry.display())).await.unwrap();
    let (stream, last, received, lost): (i64, i64, i64, i64) =
        sqlx::query_as("select id, last_seq, received, lost from stream").fetch_one(&mut connection).await.unwrap();
    let (rows, distinct, highest): (i64, i64, i64) =
        sqlx::query_as("select count(*), count(distinct seq), max(seq) from batch where stream_id = $1")
            .bind(stream)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert!(last > 30, "too few batches to mean anything: {last}");
    assert_eq!((rows, distinct, highest, lost), (last, last, last, 0), "a hole or a repeat among {last} batches");
    assert_eq!(received, last);

    let spool = agent.state_dir().join("spool.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", spool.display())).await.unwrap();
    let (first,): (Option<i64>,) =
        sqlx::query_as("select min(seq) from batch").fetch_one(&mut connection).await.unwrap();
    assert!(first.is_none_or(|first| first <= last + 1), "batches {} to {first:?} are nowhere", last + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_during_an_execution_reports_it_as_interrupted_and_leaves_no_survivor() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let (begun, ended) = (files.path().join("begun"), files.path().join("ended"));
    let line = format!("echo $$ > {}; sleep 300; echo x > {}", begun.display(), ended.display());
    let id = site.api().propose_command("vm112", "/bin/sh", &["-c", &line]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    let pid = wait_until("the effect to begin", Duration::from_secs(20), async || {
        Ok(std::fs::read_to_string(&begun).ok().filter(|text| text.ends_with('\n')))
    })
    .await
    .unwrap();
    // Before the journal knows the group, a survivor is beyond its reach.
    let journal = agent.state_dir().join("journal.db");
    wait_until("the journal to know the group", Duration::from_secs(20), async || {
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", journal.display())).await?;
        let known: (i64,) =
            sqlx::query_as("select count(*) from entry where pgid is not null").fetch_one(&mut connection).await?;
        Ok((known.0 == 1).then_some(()))
    })
    .await
    .unwrap();
    let alive = || runs(&pid);
    agent.kill().await.unwrap();
    assert!(alive(), "the effect does not outlive its agent, so the test shows nothing");
    agent.start().unwrap();
    let action = site.wait_action(&id, &["interrupted"]).await.unwrap();
    assert_eq!(action["reason_code"], "agent_restarted");
    assert!(!alive(), "a survivor runs on after its action was called interrupted");
    assert!(!ended.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_before_it_acknowledges_takes_the_batches_again_and_stores_them_once() {
    let mut site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    agent.configure("interval: 100ms\nreconnect_max: 100ms\n").unwrap();
    agent.start().unwrap();
    for _ in 0..5 {
        site.wait_host("vm112", "online").await.unwrap();
        let before = received(&site).await;
        wait_until("batches to come", Duration::from_secs(20), async || {
            Ok((received(&site).await > before + 3).then_some(()))
        })
        .await
        .unwrap();
        site.kill_coordinator().await.unwrap();
        site.start_coordinator().await.unwrap();
    }
    nothing_acknowledged_is_missing_after(&mut site, &mut agent).await;
}

async fn received(site: &Site) -> i64 {
    site.api().get("/api/v1/hosts/vm112").await.unwrap()["received"].as_i64().unwrap()
}

async fn nothing_acknowledged_is_missing_after(site: &mut Site, agent: &mut Agent) {
    wait_until("fifty batches", Duration::from_secs(60), async || Ok((received(site).await > 50).then_some(())))
        .await
        .unwrap();
    nothing_acknowledged_is_missing(site, agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_a_host_that_is_away_waits_and_can_be_cancelled() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    agent.stop().await.unwrap();
    site.wait_host("vm112", "silent").await.unwrap();
    let effects = site.folder().join("effects");
    let propose = async |word: &str| {
        let id = site.api().propose_command("vm112", "/bin/sh", &["-c", &append(word, &effects)]).await.unwrap();
        site.api().approve(&id).await.unwrap();
        id
    };
    let (kept, cancelled) = (propose("kept").await, propose("cancelled").await);
    site.wait_action(&kept, &["queued"]).await.unwrap();
    site.api().post(&format!("/api/v1/actions/{cancelled}/cancel"), serde_json::json!({})).await.unwrap();
    site.wait_action(&cancelled, &["cancelled"]).await.unwrap();
    agent.start().unwrap();
    site.wait_action(&kept, &["done"]).await.unwrap();
    assert_eq!((count("kept", &effects), count("cancelled", &effects)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_action_can_be_cancelled_and_its_whole_group_ends() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let _agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    let begun = site.folder().join("begun");
    let line = format!("sleep 300 & echo $! > {}; wait", begun.display());
    let id = site.api().propose_command("vm112", "/bin/sh", &["-c", &line]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    let pid = wait_until("the effect to begin", Duration::from_secs(20), async || {
        Ok(std::fs::read_to_string(&begun).ok().filter(|text| text.ends_with('\n')))
    })
    .await
    .unwrap();
    site.wait_action(&id, &["accepted"]).await.unwrap();
    site.api().post(&format!("/api/v1/actions/{id}/cancel"), serde_json::json!({"comment": "chega"})).await.unwrap();
    site.wait_action(&id, &["cancelled"]).await.unwrap();
    assert!(!runs(&pid), "a grandchild lives on");
}

/// Whether a process runs; one that waits to be reaped does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
