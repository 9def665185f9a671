//! Partitions: what waited arrives with its own times, what could not wait is
//! counted, and both sides notice a line that carries nothing.

use std::time::{Duration, Instant};

use farol_agent::spool::Spool;
use farol_protocol::{Report, Status, Timestamp, telemetry::Telemetry};
use farol_tests::{
    Proxy, Site,
    peer::{Identity, Peer},
    process, wait_until,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{QUIET, SHELL_POLICY, append, count};

/// A batch every 30 s for a day.
const DAY: i64 = 24 * 3600 * 1000 / 30_000;
/// Room for some 1,700 of them.
const SPOOL_BYTES: u64 = 1 << 20;

fn payload(n: i64, at: Timestamp) -> Telemetry {
    let report = Report {
        check: "load/c".parse().unwrap(),
        status: Status::Ok,
        value: None,
        unit: None,
        text: format!("{n}: {}", "x".repeat(400)),
        observed_at: at,
        cause: None,
    };
    Telemetry { reports: vec![report], ..Telemetry::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_partition_with_restarts_inside_arrives_with_its_own_times_and_the_gap_beyond_is_exact() {
    let mut site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    agent.configure(&format!("interval: 1s\nspool_max_bytes: {SPOOL_BYTES}\nbackfill_per_second: 200\n")).unwrap();
    agent.start().unwrap();
    wait_until("batches to come", Duration::from_secs(20), async || {
        let host = site.api().get("/api/v1/hosts/vm112").await?;
        Ok((host["telemetry"]["received"].as_i64() > Some(2)).then_some(()))
    })
    .await
    .unwrap();

    // The partition: the agent's own spool takes a day of batches, whose clock
    // alone is simulated. It is killed inside, and stopped inside.
    agent.stop().await.unwrap();
    let file = agent.state_dir().join("spool.db");
    let begin = Timestamp::now().plus_ms(-(DAY + 1) * 30_000);
    let closed_at = |n: i64| begin.plus_ms(n * 30_000);
    let mut spool = Spool::open(&file, SPOOL_BYTES).await.unwrap();
    let live = spool.stream().to_string();
    for n in 0..DAY {
        if n == DAY / 3 {
            drop(spool);
            spool = Spool::open(&file, SPOOL_BYTES).await.unwrap();
        }
        if n == DAY / 2 {
            spool.close().await;
            spool = Spool::open(&file, SPOOL_BYTES).await.unwrap();
        }
        spool.push(closed_at(n), payload(n, closed_at(n))).await.unwrap();
    }
    spool.close().await;

    agent.start().unwrap();
    let host = wait_until("the backlog to be through", Duration::from_secs(60), async || {
        let host = site.api().get("/api/v1/hosts/vm112").await?;
        let telemetry = &host["telemetry"];
        let through = telemetry["backlog"] == 0 && telemetry["backfilled"].as_i64() > Some(1000);
        Ok(through.then_some(host))
    })
    .await
    .unwrap();
    let finding =
        site.wait_finding("the loss as a finding", |finding| finding["scenario"] == "host.telemetry").await.unwrap();
    let shown = {
        let mut show = site.farol(&["hosts", "show", "vm112"]).unwrap();
        let token = site.token("reader", "ops_lead", None).await.unwrap();
        show.env("FAROL_URL", site.api().base()).env("FAROL_TOKEN", token);
        process::output(&mut show).await.unwrap()
    };
    agent.stop().await.unwrap();
    site.stop_coordinator().await.unwrap();

    let path = site.data_dir().join("telemetry.db");
    let mut telemetry = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let (backlog, received, lost): (i64, i64, i64) =
        sqlx::query_as("select id, received, lost from stream where stream <> $1")
            .bind(&live)
            .fetch_one(&mut telemetry)
            .await
            .unwrap();
    assert_eq!(received + lost, DAY, "a batch is nowhere");
    assert!(lost > DAY / 4 && received > DAY / 4, "the spool's bound shows nothing: {lost} lost, {received} kept");
    let observed: Vec<(i64,)> = sqlx::query_as("select observed_ms from batch where stream_id = $1 order by seq")
        .bind(backlog)
        .fetch_all(&mut telemetry)
        .await
        .unwrap();
    let observed: Vec<i64> = observed.into_iter().map(|(at,)| at).collect();
    let expected: Vec<i64> = (lost..DAY).map(|n| closed_at(n).as_ms()).collect();
    assert_eq!(observed, expected, "a batch has another time than its own");
    let gaps: Vec<(i64, i64, i64, i64)> =
        sqlx::query_as("select first_seq, last_seq, from_ms, to_ms from gap").fetch_all(&mut telemetry).await.unwrap();
    assert_eq!(gaps, [(1, lost, closed_at(0).as_ms(), closed_at(lost - 1).as_ms())]);

    let gap = json!({"from": closed_at(0).to_string(), "to": closed_at(lost - 1).to_string(), "count": lost});
    assert_eq!((&host["telemetry"]["last_gap"], &host["telemetry"]["lost"]), (&gap, &json!(lost)));
    assert_eq!((&finding["host"], &finding["severity"]), (&json!("vm112"), &json!("low")));
    assert!(shown.contains(&lost.to_string()) && shown.contains("backfilled"), "{shown}");

    // What was observed meanwhile did not wait for the day.
    let (first_live, last_of_day): (i64, i64) = sqlx::query_as(
        "select (select min(received_ms) from batch b join stream s on s.id = b.stream_id
                 where s.stream = $1 and b.received_ms >= d.first),
                d.last
         from (select min(received_ms) as first, max(received_ms) as last from batch where stream_id = $2) d",
    )
    .bind(&live)
    .bind(backlog)
    .fetch_one(&mut telemetry)
    .await
    .unwrap();
    assert!(first_live + 2_000 < last_of_day, "the live batch waited behind the backlog");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_notice_a_line_that_carries_nothing_within_two_heartbeats_and_nothing_is_lost() {
    const BEAT: Duration = Duration::from_secs(2);
    // What a busy machine may add.
    const LATE: Duration = Duration::from_millis(700);
    let site = Site::start(QUIET, &[("FAROL_HEARTBEAT", "2s")]).await.unwrap();
    let proxy = Proxy::start(site.southbound()).await.unwrap();
    let mut agent = site.enrol_at("vm112", None, Some(proxy.address())).await.unwrap();
    agent.configure("interval: 500ms\nreconnect_max: 200ms\n").unwrap();
    agent.start().unwrap();
    site.wait_host("vm112", "online").await.unwrap();

    proxy.freeze();
    let frozen = Instant::now();
    let coordinator = async {
        site.wait_host("vm112", "silent").await.unwrap();
        frozen.elapsed()
    };
    let agent_side = async {
        let process = agent.process_mut().unwrap();
        let noticed =
            |line: &Value| line["message"].as_str()?.contains("nothing came from the coordinator").then_some(());
        process.wait_log("that the line is dead", Duration::from_secs(20), noticed).await.unwrap();
        frozen.elapsed()
    };
    let (coordinator, agent_side) = tokio::join!(coordinator, agent_side);
    assert!(coordinator <= 2 * BEAT + LATE, "the coordinator needed {coordinator:?}");
    assert!(agent_side <= 2 * BEAT + LATE, "the agent needed {agent_side:?}");

    proxy.thaw();
    site.wait_host("vm112", "online").await.unwrap();
    let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
    assert_eq!((&host["telemetry"]["lost"], &host["clock_skew_ms"]), (&json!(0), &json!(0)));
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_restarts_gives_every_host_its_time_again_before_it_calls_it_silent() {
    let registry = "version: 1\nhosts: [{name: vm112}]\nsilence: {after: 4s, persona: A1, severity: high}\n";
    let mut site = Site::start(registry, &[]).await.unwrap();
    let mut agent = site.agent("vm112", None).await.unwrap();
    site.stop_coordinator().await.unwrap();
    agent.stop().await.unwrap();
    // Away for longer than the limit already when the coordinator begins.
    let begun = Instant::now();
    wait_until("the limit to pass", Duration::from_secs(10), async || {
        Ok((begun.elapsed() > Duration::from_secs(5)).then_some(()))
    })
    .await
    .unwrap();
    site.start_coordinator().await.unwrap();
    let started = Instant::now();
    let finding = site.wait_finding("the silence", |finding| finding["scenario"] == "agent.silence").await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(3), "no time of grace: {finding}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_the_host_has_forgotten_ends_as_interrupted_and_is_not_sent_again() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.agent("vm112", Some(SHELL_POLICY)).await.unwrap();
    let effects = site.folder().join("effects");
    let line = format!("{}; sleep 300", append("once", &effects));
    let id = site.api().propose_command("vm112", "/bin/sh", &["-c", &line]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    site.wait_action(&id, &["accepted"]).await.unwrap();
    wait_until("the effect", Duration::from_secs(20), async || Ok((count("once", &effects) == 1).then_some(())))
        .await
        .unwrap();
    agent.kill().await.unwrap();
    // The journal keeps its life and its position, and loses the entry.
    let journal = agent.state_dir().join("journal.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", journal.display())).await.unwrap();
    sqlx::query("delete from entry").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    agent.start().unwrap();
    let action = site.wait_action(&id, &["interrupted"]).await.unwrap();
    assert_eq!(action["reason_code"], "journal_changed");
    assert_eq!(count("once", &effects), 1, "it ran twice");
}

/// A snapshot from before the order: its journal is the one that the hello
/// before the order told of.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_sent_before_its_host_was_started_anew_is_not_sent_again() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = agent.state_dir().join("identity");
    let greeting = |boot: &str| {
        let mut greeting = hello(Timestamp::now(), Value::Null);
        greeting["capabilities"] = json!(["command.exec"]);
        greeting["effects_allowed"] = json!(true);
        greeting["machine"] = json!({"id": "0".repeat(64), "boot": boot});
        greeting
    };
    let (mut it, _) = peer(&site, &identity, &greeting("2f1c3a52-7f0e-4f0c-9a55-0f7d2e1b6c3d")).await;
    let id = site.api().propose_command("vm112", "/bin/true", &[]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    it.expect("command.exec").await.unwrap();
    drop(it);
    site.wait_host("vm112", "silent").await.unwrap();

    // Only the line broke: the order comes again.
    let (mut it, _) = peer(&site, &identity, &greeting("2f1c3a52-7f0e-4f0c-9a55-0f7d2e1b6c3d")).await;
    it.expect("command.exec").await.unwrap();
    drop(it);
    site.wait_host("vm112", "silent").await.unwrap();

    let (mut it, _) = peer(&site, &identity, &greeting("9d0b6a11-3c55-4c3e-8a0f-5e6f7a8b9c0d")).await;
    it.send(&push(LIVE, 1, Timestamp::now(), &json!({}))).await.unwrap();
    let frame = loop {
        let frame = it.receive().await.unwrap();
        if ["command.exec", "telemetry.ack"].contains(&frame["method"].as_str().unwrap()) {
            break frame;
        }
    };
    assert_eq!(frame["method"], "telemetry.ack", "it was sent again");
    let action = site.wait_action(&id, &["interrupted"]).await.unwrap();
    assert_eq!(action["reason_code"], "journal_changed");
}

const LIVE: &str = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4c";
const BACKLOG: &str = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4f";

fn hello(clock: Timestamp, backlog: Value) -> Value {
    let mut hello = json!({"method": "hello", "agent_id": "vm112", "name": "vm112", "version": "9.9.9",
        "capabilities": [], "timestamp": clock.to_string(), "protocol": {"min": 1, "max": 1},
        "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0}, "stream": LIVE});
    if !backlog.is_null() {
        hello["backlog"] = backlog;
    }
    hello
}

fn push(stream: &str, seq: u64, at: Timestamp, payload: &Value) -> Value {
    json!({"method": "telemetry.push", "stream": stream, "seq": seq, "ts": at.to_string(), "payload": payload})
}

async fn peer(site: &Site, folder: &std::path::Path, hello: &Value) -> (Peer, Value) {
    let mut peer = Identity::load(folder).unwrap().connect(site.southbound()).await.unwrap();
    peer.send(hello).await.unwrap();
    let answer = peer.receive().await.unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
    (peer, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_of_a_session_have_their_own_numbers_gaps_and_acknowledgements() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = agent.state_dir().join("identity");
    let now = Timestamp::now();
    let announced = json!({"stream": BACKLOG, "last_seq": 9});
    let (mut it, answer) = peer(&site, &identity, &hello(now, announced.clone())).await;
    assert_eq!((&answer["committed_seq"], &answer["backlog_committed_seq"]), (&json!(0), &json!(0)));
    let telemetry = async || site.api().get("/api/v1/hosts/vm112").await.unwrap()["telemetry"].clone();
    assert_eq!(telemetry().await["backlog"], 9);

    let past = |seconds: i64| now.plus_ms(-seconds * 1000);
    let gap = json!({"gaps": [{"first_seq": 1, "last_seq": 6,
        "from": past(900).to_string(), "to": past(400).to_string()}]});
    it.send(&push(BACKLOG, 7, past(300), &gap)).await.unwrap();
    it.send(&push(LIVE, 1, Timestamp::now(), &json!({}))).await.unwrap();
    let mut acks = Vec::new();
    for _ in 0..2 {
        let ack = it.expect("telemetry.ack").await.unwrap();
        acks.push((ack["stream"].as_str().unwrap().to_owned(), ack["seq"].as_u64().unwrap()));
    }
    acks.sort();
    assert_eq!(acks, [(LIVE.to_owned(), 1), (BACKLOG.to_owned(), 7)]);
    let counted = telemetry().await;
    let expected = json!({"received": 2, "backfilled": 1, "lost": 6, "backlog": 2,
        "last_gap": {"from": past(900).to_string(), "to": past(400).to_string(), "count": 6}});
    assert_eq!(counted, expected);

    // A hole in one stream ends the session, whatever the other does.
    it.send(&push(BACKLOG, 9, past(200), &json!({}))).await.unwrap();
    assert_eq!(it.expect("error").await.unwrap()["code"], "seq_gap");
    let (mut it, answer) = peer(&site, &identity, &hello(Timestamp::now(), announced)).await;
    assert_eq!((&answer["committed_seq"], &answer["backlog_committed_seq"]), (&json!(1), &json!(7)));
    it.send(&push(BACKLOG, 8, past(250), &json!({}))).await.unwrap();
    assert_eq!(it.expect("telemetry.ack").await.unwrap()["seq"], 8);

    // Without a backlog in hello its stream is unknown, and nothing of it is waited for.
    let (mut it, answer) = peer(&site, &identity, &hello(Timestamp::now(), Value::Null)).await;
    assert!(answer.get("backlog_committed_seq").is_none(), "{answer}");
    assert_eq!(telemetry().await["backlog"], 0);
    it.send(&push(BACKLOG, 9, past(200), &json!({}))).await.unwrap();
    assert_eq!(it.expect("error").await.unwrap()["code"], "unexpected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_hours_off_is_corrected_shown_and_a_finding_until_it_is_set() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let wrong = || Timestamp::now().plus_ms(2 * 3600 * 1000);
    let (mut it, _) = peer(&site, &agent.state_dir().join("identity"), &hello(wrong(), Value::Null)).await;
    let metrics = json!({"metrics": {"cpus": 2}});
    it.send(&push(LIVE, 1, wrong(), &metrics)).await.unwrap();
    it.expect("telemetry.ack").await.unwrap();
    let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
    let skew = host["clock_skew_ms"].as_i64().unwrap();
    assert!((skew + 7_200_000).abs() < 2_000, "{skew}");
    let at: Timestamp = host["metrics_at"].as_str().unwrap().parse().unwrap();
    assert!(Timestamp::now().since(at) < 20_000, "the reading is of {at}");
    assert_eq!((&host["telemetry"]["received"], &host["telemetry"]["backfilled"]), (&json!(1), &json!(0)));
    let finding =
        site.wait_finding("the clock as a finding", |finding| finding["scenario"] == "host.clock").await.unwrap();
    assert_eq!(finding["state"], "open");

    // Set while the connection lives: the next sign of life tells.
    it.send(&json!({"method": "heartbeat", "timestamp": Timestamp::now().to_string()})).await.unwrap();
    site.wait_finding("the clock to be right", |found| found["id"] == finding["id"] && found["state"] == "resolved")
        .await
        .unwrap();
    let skew = async || site.api().get("/api/v1/hosts/vm112").await.unwrap()["clock_skew_ms"].as_i64().unwrap();
    assert_eq!(skew().await, 0);

    // Set between two connections.
    let identity = agent.state_dir().join("identity");
    let (it, _) = peer(&site, &identity, &hello(wrong(), Value::Null)).await;
    assert!(skew().await < -7_000_000);
    drop(it);
    let (_it, _) = peer(&site, &identity, &hello(Timestamp::now(), Value::Null)).await;
    assert_eq!(skew().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_tell_systemd_that_they_are_ready_and_go_on_being_well() {
    let folder = tempfile::tempdir().unwrap();
    let listen = |name: &str| {
        let path = folder.path().join(name);
        (tokio::net::UnixDatagram::bind(&path).unwrap(), process::text(&path))
    };
    let hear = async |socket: &tokio::net::UnixDatagram| {
        let mut said = vec![0; 256];
        let read = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut said)).await.unwrap().unwrap();
        String::from_utf8_lossy(&said[..read]).trim().to_owned()
    };
    let (coordinator, path) = listen("coordinator");
    let site = Site::start(QUIET, &[("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "600000")]).await.unwrap();
    let (agent_socket, path) = listen("agent");
    let agent = site.enrol("vm112", None).await.unwrap();
    let mut command = agent.command(&["run"]).unwrap();
    command.args(["--policy", &process::text(agent.policy()), "--config", &process::text(agent.config())]);
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "600000");
    let mut running = process::Process::spawn("vm112", &mut command).unwrap();
    for socket in [&coordinator, &agent_socket] {
        assert_eq!(hear(socket).await, "READY=1");
        for _ in 0..3 {
            assert_eq!(hear(socket).await, "WATCHDOG=1");
        }
    }
    running.stop(Duration::from_secs(20)).await.unwrap();
    let mut last = hear(&agent_socket).await;
    while last == "WATCHDOG=1" {
        last = hear(&agent_socket).await;
    }
    assert_eq!(last, "STOPPING=1");
}
