//! The five guarantees of `design.md`, asked of what a seed left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use farol_agent::simulation::Effect;
use farol_coordinator::{action::State, store::actions::ActionRow};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::sleep;

use crate::site::{Site, UNKNOWN, name};

pub(crate) async fn all(site: &mut Site) -> Result<()> {
    let Some(rows) = site.look().await else {
        site.world.violated(1, "the coordinator does not answer when all is well");
        return Ok(());
    };
    actions(site, &rows);
    one_at_a_time(site);
    unknown_frames(site).await;
    site.stop_all();
    telemetry(site).await
}

/// Guarantees 1 and 5: at most one effect, a named end that is true, and
/// nothing that the host does not allow.
fn actions(site: &Site, rows: &[ActionRow]) {
    let effects = site.world.effects.all();
    for act in &site.script().acts {
        let of = |effect: &&Effect| effect.command.split(' ').nth(1) == Some(act.label.as_str());
        let own: Vec<&Effect> = effects.iter().filter(of).collect();
        let label = &act.label;
        if own.len() > 1 {
            site.world.violated(1, &format!("{label} had {} effects", own.len()));
        }
        if !act.kind.allowed() && !own.is_empty() {
            site.world.violated(5, &format!("{label} ran although the policy does not allow it"));
        }
        let Some(row) = rows.iter().find(|row| row.reason == *label && row.requested_by == "cli") else {
            if !own.is_empty() {
                site.world.violated(1, &format!("{label} ran and nobody knows of it"));
            }
            continue;
        };
        let wrong = match row.state {
            State::Done => own.len() != 1 || own[0].killed || act.exit != 0,
            State::Failed => own.len() != 1,
            State::Refused | State::Expired | State::Rejected => !own.is_empty(),
            _ => false,
        };
        if wrong {
            site.world.violated(1, &format!("{label} is called {}, and its effects were {own:?}", row.state));
        }
        if !act.kind.allowed() && matches!(row.state, State::Done | State::Failed) {
            site.world.violated(5, &format!("{label} is called {} and is not allowed", row.state));
        }
    }
}

/// Guarantee 3. An effect that no journal knows, because the agent died
/// between its start and that commit, is the one exception that the agent's
/// documentation names.
fn one_at_a_time(site: &Site) {
    let mut hosts: BTreeMap<String, Vec<Effect>> = BTreeMap::new();
    for effect in site.world.effects.all().into_iter().filter(|effect| effect.recorded) {
        hosts.entry(effect.host.clone()).or_default().push(effect);
    }
    for (host, mut effects) in hosts {
        effects.sort_by_key(|effect| effect.began);
        for pair in effects.windows(2) {
            if pair[1].began < pair[0].ends {
                site.world.violated(3, &format!("on {host} ran at once: {} and {}", pair[0].command, pair[1].command));
            }
        }
    }
}

/// Guarantee 4: a frame of tomorrow is answered with an error, both ways, and
/// the connection that brought it lives.
async fn unknown_frames(site: &Site) {
    let before = site.world.trace().len();
    for agent in 0..site.script().agents {
        for to_agent in [false, true] {
            if !site.world.network.inject(&name(agent), to_agent, UNKNOWN) {
                site.world.violated(4, &format!("{} is not connected when all is well", name(agent)));
            }
        }
    }
    sleep(Duration::from_secs(40)).await;
    let trace = site.world.trace();
    let since = &trace[before..];
    for agent in 0..site.script().agents {
        for way in ["->", "<-"] {
            let way = format!("{} {way}", name(agent));
            let said = |what: &str| since.iter().any(|line| line.contains(&way) && line.contains(what));
            if !said("unknown_method") {
                site.world.violated(4, &format!("{way}: an unknown frame was not answered"));
            }
            if said(r#""method":"hello""#) {
                site.world.violated(4, &format!("{way}: an unknown frame cost the connection"));
            }
        }
    }
}

/// Guarantee 2: each number of each stream is a stored batch or a counted
/// loss, once; no report is stored twice; what is not committed is still in
/// its spool.
async fn telemetry(site: &Site) -> Result<()> {
    let mut stored = open(&site.coordinator_folder().join("telemetry.db")).await?;
    let streams: Vec<(i64, i64, String, i64, i64, i64)> =
        sqlx::query_as("select id, host_key, stream, last_seq, received, lost from stream")
            .fetch_all(&mut stored)
            .await?;
    let mut last = BTreeMap::new();
    for (id, _, stream, last_seq, received, lost) in &streams {
        last.insert(stream.clone(), *last_seq);
        let batches: Vec<(i64,)> =
            sqlx::query_as("select seq from batch where stream_id = $1").bind(id).fetch_all(&mut stored).await?;
        let gaps: Vec<(i64, i64)> = sqlx::query_as("select first_seq, last_seq from gap where stream_id = $1")
            .bind(id)
            .fetch_all(&mut stored)
            .await?;
        let mut numbers: Vec<i64> = batches.iter().map(|(seq,)| *seq).collect();
        numbers.extend(gaps.iter().flat_map(|(first, last)| *first..=*last));
        numbers.sort_unstable();
        let told = gaps.iter().map(|(first, last)| last - first + 1).sum::<i64>();
        if !numbers.iter().copied().eq(1..=*last_seq) {
            site.world.violated(2, &format!("stream {stream} up to {last_seq} holds {numbers:?}"));
        }
        if told != *lost || i64::try_from(batches.len())? != *received {
            let counts = format!("{received} received and {lost} lost, but holds {} and {told}", batches.len());
            site.world.violated(2, &format!("stream {stream} counts {counts}"));
        }
    }
    let reports: Vec<(i64, f64, i64)> = sqlx::query_as(
        "select host_key, value, count(*) from report where check_id = 'memory.used' group by host_key, value having count(*) > 1",
    )
    .fetch_all(&mut stored)
    .await?;
    let mut state = open(&site.coordinator_folder().join("state.db")).await?;
    for agent in 0..site.script().agents {
        let (key,): (i64,) = sqlx::query_as("select host_key from host where name = $1")
            .bind(name(agent))
            .fetch_one(&mut state)
            .await
            .context("read the host")?;
        let restored = site.script().restored.contains(&agent);
        if let Some((_, value, times)) = reports.iter().find(|(host, _, _)| *host == key)
            && !restored
        {
            site.world.violated(2, &format!("report {value} of {} is stored {times} times", name(agent)));
        }
        let mut spool = open(&site.agent_folder(agent).join("spool.db")).await?;
        for lane in ["", "backlog_"] {
            nothing_is_nowhere(site, agent, &mut spool, lane, &last).await?;
        }
    }
    Ok(())
}

/// What the coordinator has not committed of a lane is still in its spool, as
/// a batch or as a gap, up to the last number. A spool that was set back may
/// hold what it has already sent.
async fn nothing_is_nowhere(
    site: &Site,
    agent: usize,
    spool: &mut SqliteConnection,
    lane: &str,
    last: &BTreeMap<String, i64>,
) -> Result<()> {
    let stream: Option<(String, i64)> = sqlx::query_as(AssertSqlSafe(format!("select id, floor from {lane}stream")))
        .fetch_optional(&mut *spool)
        .await?;
    let Some((stream, floor)) = stream else { return Ok(()) };
    let batches: Vec<(i64, i64)> =
        sqlx::query_as(AssertSqlSafe(format!("select seq, seq from {lane}batch"))).fetch_all(&mut *spool).await?;
    let gaps: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!("select first_seq, last_seq from {lane}gap")))
        .fetch_all(&mut *spool)
        .await?;
    let committed = last.get(&stream).copied().unwrap_or(0);
    let kept: BTreeSet<i64> = batches.iter().chain(&gaps).flat_map(|(first, last)| *first..=*last).collect();
    let highest = kept.last().copied().unwrap_or(0).max(floor);
    let missing: Vec<i64> = (committed + 1..=highest).filter(|seq| !kept.contains(seq)).collect();
    if !missing.is_empty() {
        let what = format!("of the {lane}stream {stream} of {}, of which {committed} are committed", name(agent));
        site.world.violated(2, &format!("{missing:?} are nowhere {what}"));
    }
    // The coordinator has been there long enough for all of a backlog.
    if lane == "backlog_" && highest > committed {
        site.world.violated(2, &format!("the backlog of {} stays: {committed} of {highest} arrived", name(agent)));
    }
    Ok(())
}

async fn open(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options).await.with_context(|| format!("open {}", path.display()))
}
