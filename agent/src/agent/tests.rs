use std::{fs, path::PathBuf};

use farol_protocol::{
    ActionId, ActionKind, FromAgent, Plan, RiskClass, Timestamp, ToAgent,
    action::FinalState,
    frame::{ActionRef, ActionResult, Order, encode},
    report::{CheckSpec, Limits, Probe},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use super::{connection::fitted, *};
use crate::{
    socket::Socket,
    testing::{Coordinator, Peer, WAIT},
};

/// An agent that can be stopped and started on the same folder.
struct Host {
    folder: tempfile::TempDir,
    interval: Duration,
    inventory_interval: Option<Duration>,
}

struct Run {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Host {
    fn new(coordinator: &Coordinator) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        coordinator.enrol(folder.path());
        Self { folder, interval: Duration::from_secs(1), inventory_interval: None }
    }

    fn config(&self) -> Config {
        let mut config = Config::new(self.folder.path());
        config.policy = self.policy();
        config.interval = self.interval;
        config.inventory_interval = self.inventory_interval;
        config
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }

    fn allow(&self, commands: &str) {
        fs::write(self.policy(), format!("version: 1\ncommands: [{commands}]\n")).expect("writable");
    }

    fn start(&self) -> Run {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(crate::run(self.config(), shutdown.clone()));
        Run { shutdown, task }
    }

    async fn sql(&self, file: &str, sql: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join(file));
        let mut other = SqliteConnection::connect_with(&options).await.expect("opens");
        sqlx::raw_sql(sql).execute(&mut other).await.expect("runs");
    }
}

impl Run {
    async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        timeout(WAIT, self.task).await.expect("in time").expect("no panic")
    }
}

fn order(command: &str, args: &[&str]) -> (ActionId, ToAgent) {
    let plan = Plan {
        v: 1,
        action_id: ActionId::new(),
        host_id: "vm112".parse().expect("valid"),
        kind: ActionKind::CommandExec,
        params: json!({"command": command, "args": args}),
        pre_state: Value::Null,
        risk_class: RiskClass::R1,
        requested_by: "ann".to_owned(),
        issued_at: Timestamp::now(),
        expires_at: Timestamp::now().plus(Duration::from_secs(60)),
    };
    let order = Order { action_id: plan.action_id, plan: plan.to_text().expect("JSON"), signatures: Vec::new() };
    (plan.action_id, ToAgent::CommandExec(order))
}

fn assignment(version: &str, checks: &[&str]) -> ToAgent {
    let spec = |id: &&str| CheckSpec {
        id: id.parse().expect("valid"),
        every_ms: 1_000,
        timeout_ms: 1_000,
        probe: Probe::Memory(Limits::default()),
    };
    ToAgent::ChecksAssign(ChecksAssign {
        version: version.to_owned(),
        language: farol_protocol::Language::En,
        checks: checks.iter().map(spec).collect(),
    })
}

async fn accepted(peer: &mut Peer) -> ActionId {
    peer.expect(|frame| match frame {
        FromAgent::ActionAccepted(accepted) => Some(accepted.action_id),
        _ => None,
    })
    .await
}

async fn result(peer: &mut Peer) -> ActionResult {
    peer.expect(|frame| match frame {
        FromAgent::ActionResult(result) => Some(*result),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn batches_arrive_in_order_and_again_after_a_reconnect_until_acknowledged() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    let run = host.start();
    let (mut peer, hello) = coordinator.session(0).await;
    assert_eq!(hello.agent_id, "vm112");
    assert!(!hello.effects_allowed && hello.max_unsigned_class.is_none());

    let first = peer.batch().await;
    assert_eq!((first.seq, first.stream), (1, hello.stream));
    assert!(first.payload.metrics.as_ref().is_some_and(|metrics| metrics.cpu_percent.is_some()));
    let second = peer.batch().await;
    assert_eq!(second.seq, 2);
    peer.ack(&first).await;
    drop(peer);

    let (mut peer, again) = coordinator.session(1).await;
    assert_eq!(again.stream, hello.stream);
    let repeated = peer.batch().await;
    assert_eq!(repeated, second);
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn a_batch_lost_to_a_full_disk_is_told_as_an_exact_gap() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    Spool::open(&host.folder.path().join("spool.db"), 1 << 20).await.expect("opens").close().await;
    let full = "create trigger full before insert on batch when new.seq in (2, 3)
                begin select raise(abort, 'disk full'); end";
    host.sql("spool.db", full).await;
    let run = host.start();
    let (mut peer, _) = coordinator.session(0).await;
    assert_eq!(peer.batch().await.seq, 1);
    let next = peer.batch().await;
    assert_eq!(next.seq, 4);
    let [gap] = next.payload.gaps[..] else { panic!("one gap") };
    assert_eq!((gap.first_seq, gap.last_seq), (2, 3));
    assert!(gap.from < gap.to && gap.to < next.ts);
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn an_order_is_accepted_run_and_its_result_repeated_until_acknowledged() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    host.allow("{command: echo, args: ['*'], class: R1}");
    let run = host.start();
    let (mut peer, hello) = coordinator.session(0).await;
    assert!(hello.effects_allowed);
    assert_eq!(hello.max_unsigned_class, Some(RiskClass::R1));

    let (id, order) = order("echo", &["hi"]);
    peer.send(&order).await;
    assert_eq!(accepted(&mut peer).await, id);
    let first = result(&mut peer).await;
    assert_eq!((first.state, first.outcome.as_ref().map(|o| o.stdout.as_str())), (FinalState::Done, Some("hi\n")));
    drop(peer);

    let (mut peer, hello) = coordinator.session(0).await;
    assert_eq!(hello.journal.seq, 1);
    assert_eq!(result(&mut peer).await, first);
    peer.send(&ToAgent::ActionAck(ActionRef { action_id: id })).await;
    // Answered after the acknowledgement was taken.
    peer.send(&order).await;
    assert_eq!(result(&mut peer).await, first);
    drop(peer);

    let (mut peer, _) = coordinator.session(0).await;
    let next = peer.frame().await;
    assert!(matches!(next, FromAgent::TelemetryPush(_)), "{next:?}");
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn an_effect_outlives_its_connection() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    let go = host.folder.path().join("go");
    host.allow("{command: sh, args: ['**'], class: R1}");
    let run = host.start();
    let (mut peer, _) = coordinator.session(0).await;
    let script = format!("while ! test -e {}; do sleep 0.02; done; echo finished", go.display());
    let (id, order) = order("sh", &["-c", &script]);
    peer.send(&order).await;
    accepted(&mut peer).await;
    drop(peer);

    let (mut peer, hello) = coordinator.session(0).await;
    assert_eq!(hello.unfinished, [id]);
    fs::write(go, "").expect("writable");
    let result = result(&mut peer).await;
    assert_eq!((result.action_id, result.state), (id, FinalState::Done));
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn the_first_report_of_a_check_comes_at_once_and_the_assignment_survives_a_restart() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    let run = host.start();
    let (mut peer, _) = coordinator.session(0).await;
    peer.send(&assignment("a", &["memory.main"])).await;
    let report = loop {
        let batch = peer.batch().await;
        if let Some(report) = batch.payload.reports.first() {
            assert!(batch.payload.metrics.is_none(), "it waited for a reading");
            break report.clone();
        }
    };
    assert_eq!((report.check.as_str(), report.status), ("memory.main", Status::Ok));
    assert!(report.text.starts_with("memory has "), "{}", report.text);
    run.stop().await.expect("a clean end");
    drop(peer);

    let run = host.start();
    let (peer, hello) = coordinator.session(u64::from(u32::MAX)).await;
    drop(peer);
    // More is committed than this spool ever numbered: it went backward.
    let (mut peer, again) = coordinator.session(0).await;
    assert_ne!(again.stream, hello.stream, "the old numbers went on");
    let batch = loop {
        let batch = peer.batch().await;
        if !batch.payload.reports.is_empty() {
            break batch;
        }
    };
    assert_eq!(batch.payload.reports[0].check.as_str(), "memory.main");
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn heartbeats_go_both_ways_and_a_silent_coordinator_is_left() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::new(&coordinator);
    host.interval = Duration::from_secs(3600);
    let run = host.start();
    let (mut peer, _) = coordinator.hello().await;
    peer.answer(0, 200).await;
    let beat = |frame| matches!(frame, FromAgent::Heartbeat(_)).then_some(());
    peer.expect(beat).await;
    // Nothing is said to the agent, so it comes back by itself.
    let (_peer, _) = coordinator.session(0).await;
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn a_stop_interrupts_what_does_not_end_and_says_goodbye() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    host.allow("{command: sleep, args: ['*'], class: R1}");
    let run = host.start();
    let (mut peer, _) = coordinator.session(0).await;
    let (id, order) = order("sleep", &["300"]);
    peer.send(&order).await;
    accepted(&mut peer).await;

    run.shutdown.cancel();
    let result = result(&mut peer).await;
    assert_eq!((result.action_id, result.state), (id, FinalState::Interrupted));
    assert_eq!(peer.close_code().await, 1001);
    run.stop().await.expect("a clean end");
}

#[tokio::test]
async fn once_delivers_a_reading_and_the_assigned_checks_and_ends() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    let config = Config { once: true, ..host.config() };
    let task = tokio::spawn(crate::run(config, CancellationToken::new()));
    let (mut peer, hello) = coordinator.session(0).await;
    assert!(!hello.effects_allowed);
    peer.send(&assignment("a", &["one", "two"])).await;
    let (mut metrics, mut reports) = (0, 0);
    while let Some(batch) = peer.batch_or_goodbye().await {
        metrics += usize::from(batch.payload.metrics.is_some());
        reports += batch.payload.reports.len();
        peer.ack(&batch).await;
    }
    assert!(metrics == 1 && reports >= 2, "{metrics} readings, {reports} reports");
    task.await.expect("no panic").expect("delivered");
}

#[tokio::test]
async fn a_coordinator_of_another_authority_gets_no_hello() {
    let (coordinator, stranger) = (Coordinator::start().await, Coordinator::start().await);
    let host = Host::new(&coordinator);
    // The identity of one, the address of the other.
    let state = StateDir::new(host.folder.path());
    let mut enrolment = state.enrolment().expect("enrolled");
    enrolment.url = stranger.endpoint().to_string();
    crate::state::write_json(&state.enrolment_file(), &enrolment).expect("written");

    let identity = state.identity().expect("complete");
    let tls = farol_pki::client_config(&identity.ca, &identity.cert, &identity.key).expect("valid");
    let connecting = Socket::connect(&identity.endpoint, tls);
    let (connected, _) = tokio::join!(connecting, async { timeout(Duration::from_secs(2), stranger.try_tls()).await });
    let Err(error) = connected else { panic!("it must not connect") };
    assert!(matches!(error, Error::Trust { .. }), "{error:?}");
    assert!(error.to_string().contains("another authority"), "{error}");
}

#[tokio::test]
async fn a_broken_policy_and_a_missing_identity_end_the_start_with_2() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    fs::write(host.policy(), "version: 1\nreadonly: true\n").expect("writable");
    let error = crate::run(host.config(), CancellationToken::new()).await.expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("policy.yaml:2:1: `readonly` is not a known key; did you mean `read_only`?"));

    let empty = tempfile::tempdir().expect("a folder");
    let error = crate::run(Config::new(empty.path()), CancellationToken::new()).await.expect_err("refused");
    assert_eq!(error.exit_code(), 2);
}

#[tokio::test]
async fn two_agents_do_not_share_a_folder() {
    let coordinator = Coordinator::start().await;
    let host = Host::new(&coordinator);
    let run = host.start();
    let (_peer, _) = coordinator.session(0).await;
    let error = crate::run(host.config(), CancellationToken::new()).await.expect_err("locked");
    assert!(matches!(error, Error::Locked { .. }));
    run.stop().await.expect("a clean end");
}

#[test]
fn a_result_too_large_for_the_coordinator_is_shortened() {
    let outcome = farol_protocol::action::Outcome {
        stdout: "é".repeat(30_000),
        stderr: "x".repeat(60_000),
        ..Default::default()
    };
    let result = ActionResult {
        action_id: ActionId::new(),
        plan_hash: farol_protocol::PlanHash::of(""),
        state: FinalState::Done,
        reason: None,
        detail: None,
        required_class: None,
        outcome: Some(outcome),
        ended_at: Timestamp::now(),
        journal: farol_protocol::frame::JournalHead { id: farol_protocol::JournalId::new(), seq: 1 },
    };
    assert_eq!(fitted(result.clone(), 1 << 20), result);
    let short = fitted(result, 32 * 1024);
    assert!(encode(&short).len() <= 32 * 1024);
    assert!(short.outcome.is_some_and(|outcome| outcome.truncated));
}

#[tokio::test]
async fn an_inventory_leaves_when_a_session_begins_and_again_only_when_it_changed() {
    use farol_protocol::inventory::Section;

    let coordinator = Coordinator::start().await;
    let mut host = Host::new(&coordinator);
    host.inventory_interval = Some(Duration::from_millis(100));
    host.interval = Duration::from_secs(3600);
    let run = host.start();
    let (mut peer, _) = coordinator.session(0).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let number = port.local_addr().expect("an address").port();
    let mut seen = 0;
    // Other tests of this process open ports too, so more than one may come.
    let mut port = Some(port);
    loop {
        let push = peer.batch().await;
        peer.ack(&push).await;
        let Some(Section::Read(inventory)) = push.payload.inventory.as_deref() else { continue };
        seen += 1;
        let listed = inventory.ports.iter().any(|port| port.port == number);
        match (&port, listed) {
            (Some(_), true) => port = None,
            (None, false) => break,
            _ => assert!(seen < 100, "the port does not come and go: {inventory:?}"),
        }
    }
    run.stop().await.expect("stopped");
}
