use std::fs;

use farol_protocol::Plan;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use super::*;
use crate::{exec::Group, state::StateDir};

mod remediation;

const POLICY: &str = "\
version: 1
max_unsigned_class: R2
commands:
- {command: 'true', class: R1}
- {command: sleep, args: ['*'], class: R1}
- {command: echo, args: ['**'], class: R1}
- {command: /no/such/program, class: R1}
- {command: cat, class: R2}
- {command: reboot, class: R3}
services:
- {name: fine, verbs: [restart, stop], class: R1, run: {restart: ['true'], stop: ['true'], status: ['true']}}
- {name: down, verbs: [start], class: R1, run: {start: [echo, started], status: ['false']}}
";

struct Host {
    folder: tempfile::TempDir,
    orders: Orders,
    ended: mpsc::UnboundedReceiver<EffectEnded>,
    output: mpsc::Receiver<ActionOutput>,
}

fn clock() -> Clock {
    Clock { own: now(), offset_ms: 0 }
}

fn now() -> Timestamp {
    Timestamp::now()
}

impl Host {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("policy.yaml"), POLICY).expect("writable");
        Self::over(folder).await
    }

    async fn over(folder: tempfile::TempDir) -> Self {
        let state = StateDir::new(folder.path());
        let journal = Arc::new(Journal::open(&state.journal()).await.expect("opens"));
        let (sender, ended) = mpsc::unbounded_channel();
        let (chunks, output) = mpsc::channel(64);
        let host_id = "vm112".parse().expect("valid");
        // The agent's own folder, apart from the files of the host.
        let own = folder.path().join("own");
        fs::create_dir_all(&own).expect("made");
        let means = Means { files: own.join("files"), docker_socket: folder.path().join("docker.sock") };
        let policy = folder.path().join("policy.yaml");
        let mut orders = Orders::new(host_id, policy, means, Arc::clone(&journal), sender, chunks);
        orders.set_language(Language::En);
        orders.recover(journal.unfinished().await.expect("read"));
        Self { folder, orders, ended, output }
    }

    /// As after a crash: the journal stays, nothing else does.
    async fn restart(self) -> Self {
        Self::over(self.folder).await
    }

    async fn take(&mut self, plan: &Plan) -> FromAgent {
        self.take_text(plan, plan.to_text().expect("JSON")).await
    }

    async fn take_text(&mut self, plan: &Plan, text: String) -> FromAgent {
        self.orders
            .take(plan.kind, Order { action_id: plan.action_id, plan: text, signatures: Vec::new() }, clock())
            .await
            .expect("a journal that can be read")
    }

    async fn ended(&mut self) -> ActionResult {
        let ended = timeout(Duration::from_secs(20), self.ended.recv()).await.expect("in time").expect("open");
        assert!(ended.idle);
        self.orders.on_idle();
        ended.results.into_iter().next().expect("a result")
    }

    async fn run(&mut self, plan: &Plan) -> ActionResult {
        assert!(matches!(self.take(plan).await, FromAgent::ActionAccepted(_)));
        self.ended().await
    }

    async fn refused(&mut self, plan: &Plan) -> ReasonCode {
        refusal(self.take(plan).await)
    }

    async fn sql(&self, sql: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("journal.db"));
        let mut other = SqliteConnection::connect_with(&options).await.expect("opens");
        sqlx::raw_sql(sql).execute(&mut other).await.expect("runs");
    }

    async fn known(&self, plan: &Plan) -> Option<Known> {
        self.orders.journal.find(plan.action_id).await.expect("read")
    }
}

fn refusal(frame: FromAgent) -> ReasonCode {
    let FromAgent::ActionResult(result) = frame else { panic!("not refused: {frame:?}") };
    assert_eq!(result.state, FinalState::Refused);
    assert!(result.detail.is_some_and(|detail| !detail.is_empty()));
    result.reason.expect("a refusal has a reason")
}

fn plan(kind: ActionKind, params: Value) -> Plan {
    Plan {
        v: 1,
        action_id: ActionId::new(),
        host_id: "vm112".parse().expect("valid"),
        kind,
        params,
        pre_state: Value::Null,
        risk_class: RiskClass::R2,
        requested_by: "ann".to_owned(),
        issued_at: now(),
        expires_at: now().plus(Duration::from_secs(600)),
    }
}

fn exec(command: &str, args: &[&str]) -> Plan {
    plan(ActionKind::CommandExec, json!({"command": command, "args": args, "timeout": 20_000}))
}

fn control(service: &str, verb: &str) -> Plan {
    plan(ActionKind::ServiceControl, json!({"service": service, "verb": verb}))
}

#[tokio::test]
async fn an_allowed_command_is_accepted_run_and_its_result_is_in_the_journal() {
    let mut host = Host::new().await;
    let plan = exec("echo", &["hello"]);
    let result = host.run(&plan).await;
    assert_eq!(result.state, FinalState::Done);
    assert_eq!(result.plan_hash, PlanHash::of(&plan.to_text().expect("JSON")));
    assert_eq!(result.outcome.as_ref().expect("it ran").stdout, "hello\n");
    assert!(matches!(host.known(&plan).await, Some(Known::Ended(known)) if known.state == FinalState::Done));
}

#[tokio::test]
async fn a_repeat_never_runs_again_and_gets_the_first_answer() {
    let mut host = Host::new().await;
    let file = host.folder.path().join("ran");
    fs::write(
        host.folder.path().join("policy.yaml"),
        "version: 1\ncommands: [{command: sh, args: ['**'], class: R1}]\n",
    )
    .expect("writable");
    let script = format!("echo x >> {}", file.display());
    let plan = Plan { risk_class: RiskClass::R1, ..exec("sh", &["-c", &script]) };
    let first = host.run(&plan).await;

    let FromAgent::ActionResult(again) = host.take(&plan).await else { panic!("the result again") };
    assert_eq!(*again, first);
    let mut host = host.restart().await;
    let FromAgent::ActionResult(again) = host.take(&plan).await else { panic!("the result again") };
    assert_eq!(again.outcome, first.outcome);
    assert_eq!(fs::read_to_string(file).expect("it ran"), "x\n");
}

#[tokio::test]
async fn a_repeat_of_a_running_action_is_accepted_again_and_another_order_is_busy() {
    let mut host = Host::new().await;
    let plan = exec("sleep", &["300"]);
    assert!(matches!(host.take(&plan).await, FromAgent::ActionAccepted(_)));
    assert!(matches!(host.take(&plan).await, FromAgent::ActionAccepted(_)));

    let other = exec("true", &[]);
    assert_eq!(host.refused(&other).await, ReasonCode::Busy);
    assert_eq!(host.known(&other).await, None);

    host.orders.cancel(plan.action_id).await;
    assert_eq!(host.ended().await.state, FinalState::Cancelled);
    assert_eq!(host.run(&other).await.state, FinalState::Done);
}

#[tokio::test]
async fn the_same_id_with_another_plan_is_refused_and_the_first_entry_stands() {
    let mut host = Host::new().await;
    let first = exec("true", &[]);
    host.run(&first).await;
    let second = Plan { action_id: first.action_id, ..exec("echo", &["other"]) };
    assert_eq!(host.refused(&second).await, ReasonCode::PlanMismatch);
    let FromAgent::ActionResult(again) = host.take(&first).await else { panic!("the result again") };
    assert_eq!(again.state, FinalState::Done);
}

#[tokio::test]
async fn a_cancel_that_comes_first_refuses_the_later_order_for_good() {
    let host = Host::new().await;
    let plan = exec("true", &[]);
    host.orders.cancel(plan.action_id).await;
    let mut host = host.restart().await;
    assert_eq!(host.refused(&plan).await, ReasonCode::Cancelled);
    assert_eq!(host.refused(&plan).await, ReasonCode::Cancelled);
}

#[tokio::test]
async fn a_cancel_of_a_finished_action_changes_nothing() {
    let mut host = Host::new().await;
    let plan = exec("true", &[]);
    host.run(&plan).await;
    host.orders.cancel(plan.action_id).await;
    assert!(matches!(host.known(&plan).await, Some(Known::Ended(known)) if known.state == FinalState::Done));
}

#[tokio::test]
async fn an_order_that_the_journal_may_know_and_cannot_tell_is_not_answered() {
    let mut host = Host::new().await;
    let plan = exec("true", &[]);
    host.run(&plan).await;
    let path = host.folder.path().join("journal.db");
    let mut other = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("opens");
    sqlx::query("alter table entry rename to moved").execute(&mut other).await.expect("renamed");
    let order = Order { action_id: plan.action_id, plan: plan.to_text().expect("JSON"), signatures: Vec::new() };
    let answer = host.orders.take(plan.kind, order, clock()).await;
    assert!(answer.is_err(), "{answer:?} says that it had no effect");
}

#[tokio::test]
async fn the_agents_own_folder_and_its_policy_are_out_of_reach_whatever_the_paths_are() {
    let mut host = Host::new().await;
    let state = host.folder.path().display().to_string();
    let policy = format!("version: 1\nmax_unsigned_class: R2\npaths: {{read: [{state}], write: [{state}]}}\n");
    fs::write(host.folder.path().join("policy.yaml"), policy).expect("writable");
    for path in ["own/identity/key.pem", "own/files/x", "policy.yaml"] {
        let params = json!({"path": format!("{state}/{path}"), "want": ""});
        let plan = Plan { kind: ActionKind::FileDiff, params, risk_class: RiskClass::R0, ..exec("true", &[]) };
        assert_eq!(host.refused(&plan).await, ReasonCode::NotAllowed, "{path}");
    }
}

#[tokio::test]
async fn every_refusal_has_its_reason_and_is_remembered() {
    let long = now().plus(Duration::from_secs(8 * 24 * 3600));
    let cases = [
        (Plan { host_id: "vm122".parse().expect("valid"), ..exec("true", &[]) }, ReasonCode::WrongTarget),
        (Plan { expires_at: long, ..exec("true", &[]) }, ReasonCode::InvalidPlan),
        (exec("", &[]), ReasonCode::InvalidPlan),
        (
            Plan { issued_at: now().plus_ms(-9000), expires_at: now().plus_ms(-1000), ..exec("true", &[]) },
            ReasonCode::Expired,
        ),
        (exec("rm", &["-rf", "/"]), ReasonCode::NotAllowed),
        (exec("true", &["extra"]), ReasonCode::NotAllowed),
        (control("mysql", "restart"), ReasonCode::NotAllowed),
        (control("fine", "start"), ReasonCode::NotAllowed),
        (Plan { risk_class: RiskClass::R3, ..exec("true", &[]) }, ReasonCode::SignatureRequired),
        (exec("reboot", &[]), ReasonCode::SignatureRequired),
        (Plan { risk_class: RiskClass::R1, ..exec("cat", &[]) }, ReasonCode::SignatureRequired),
        (Plan { pre_state: json!({"active": true}), ..exec("true", &[]) }, ReasonCode::InvalidPlan),
        (Plan { pre_state: json!({"service_active": true}), ..exec("true", &[]) }, ReasonCode::InvalidPlan),
    ];
    let mut host = Host::new().await;
    for (plan, reason) in cases {
        assert_eq!(host.refused(&plan).await, reason, "{:?}", plan.params);
        assert!(matches!(host.known(&plan).await, Some(Known::Ended(_))), "{reason:?} was not journalled");
        assert_eq!(host.refused(&plan).await, reason, "a repeat got another answer");
    }
    assert!(!host.orders.is_busy());
}

#[tokio::test]
async fn an_unsigned_order_lives_by_the_coordinators_time() {
    const HOUR_MS: i64 = 3_600_000;
    let mut host = Host::new().await;
    let mut take = async |plan: &Plan, own: Timestamp, offset_ms: i64| {
        let order = Order { action_id: plan.action_id, plan: plan.to_text().expect("JSON"), signatures: Vec::new() };
        let answer = host.orders.take(plan.kind, order, Clock { own, offset_ms }).await.expect("readable");
        if matches!(answer, FromAgent::ActionAccepted(_)) {
            host.ended().await;
            return None;
        }
        Some(refusal(answer))
    };
    // A host whose clock is an hour fast, then one whose clock is an hour slow.
    assert_eq!(take(&exec("true", &[]), now().plus_ms(HOUR_MS), -HOUR_MS).await, None);
    assert_eq!(take(&exec("true", &[]), now().plus_ms(-HOUR_MS), HOUR_MS).await, None);
    let old = Plan { issued_at: now().plus_ms(-9000), expires_at: now().plus_ms(-1000), ..exec("true", &[]) };
    assert_eq!(take(&old, now().plus_ms(-HOUR_MS), HOUR_MS).await, Some(ReasonCode::Expired));
}

#[tokio::test]
async fn the_class_needed_is_told_with_signature_required() {
    let mut host = Host::new().await;
    for (plan, class) in
        [(exec("reboot", &[]), RiskClass::R3), (Plan { risk_class: RiskClass::R1, ..exec("cat", &[]) }, RiskClass::R2)]
    {
        let FromAgent::ActionResult(result) = host.take(&plan).await else { panic!("refused") };
        assert_eq!(result.required_class, Some(class));
    }
}

#[tokio::test]
async fn an_order_whose_frame_disagrees_with_its_plan_is_refused() {
    let mut host = Host::new().await;
    let plan = exec("true", &[]);
    let text = plan.to_text().expect("JSON");
    let other = Plan { action_id: ActionId::new(), ..plan.clone() };
    assert_eq!(refusal(host.take_text(&other, text.clone()).await), ReasonCode::WrongTarget);
    let order = Order { action_id: plan.action_id, plan: text, signatures: Vec::new() };
    assert_eq!(
        refusal(host.orders.take(ActionKind::ServiceControl, order, clock()).await.expect("readable")),
        ReasonCode::WrongTarget
    );
    let broken = exec("true", &[]);
    assert_eq!(refusal(host.take_text(&broken, "{}".to_owned()).await), ReasonCode::InvalidPlan);
}

#[tokio::test]
async fn an_edit_of_the_policy_takes_effect_with_the_next_order() {
    let mut host = Host::new().await;
    let policy = host.folder.path().join("policy.yaml");
    assert!(host.orders.readiness().effects_allowed);

    fs::write(&policy, POLICY.replace("version: 1", "version: 1\nread_only: true")).expect("writable");
    assert_eq!(host.refused(&exec("true", &[])).await, ReasonCode::ReadOnly);
    fs::write(&policy, "version: 1\nrules: []\n").expect("writable");
    let FromAgent::ActionResult(broken) = host.take(&exec("true", &[])).await else { panic!("refused") };
    assert_eq!(broken.reason, Some(ReasonCode::NotAllowed));
    assert!(broken.detail.is_some_and(|detail| detail.contains("policy.yaml:2:1")));
    fs::remove_file(&policy).expect("removed");
    assert_eq!(host.refused(&exec("true", &[])).await, ReasonCode::NoPolicy);
    let nothing = Readiness { effects_allowed: false, max_unsigned_class: None };
    assert_eq!(host.orders.readiness(), nothing);
}

#[tokio::test]
async fn a_service_is_judged_by_its_status_after_the_verb() {
    let mut host = Host::new().await;
    assert_eq!(host.run(&control("fine", "restart")).await.state, FinalState::Done);

    let down = host.run(&control("down", "start")).await;
    assert_eq!(down.state, FinalState::Failed);
    assert_eq!(down.detail.as_deref(), Some("the service `down` is not running after `start`"));
    assert_eq!(down.outcome.expect("the verb ran").stdout, "started\n");

    let stopped = host.run(&control("fine", "stop")).await;
    assert_eq!(stopped.state, FinalState::Failed);
    assert!(stopped.detail.is_some_and(|detail| detail.contains("still running")));
}

#[tokio::test]
async fn a_program_that_cannot_start_is_a_failure_with_its_reason() {
    let mut host = Host::new().await;
    let result = host.run(&exec("/no/such/program", &[])).await;
    assert_eq!((result.state, result.reason), (FinalState::Failed, Some(ReasonCode::SpawnFailed)));
}

#[tokio::test]
async fn a_time_limit_ends_the_action_as_timed_out() {
    let mut host = Host::new().await;
    let plan = plan(ActionKind::CommandExec, json!({"command": "sleep", "args": ["300"], "timeout": 100}));
    let result = host.run(&plan).await;
    assert_eq!(result.state, FinalState::TimedOut);
    assert_eq!(result.outcome.expect("it ran").exit_code, None);
}

#[tokio::test]
async fn nothing_runs_while_the_journal_cannot_be_written() {
    let mut host = Host::new().await;
    host.sql("create trigger full before insert on entry begin select raise(abort, 'disk full'); end").await;
    let plan = exec("true", &[]);
    assert_eq!(host.refused(&plan).await, ReasonCode::JournalFailed);
    assert!(!host.orders.is_busy());
    host.sql("drop trigger full").await;
    assert_eq!(host.run(&plan).await.state, FinalState::Done);
}

#[tokio::test]
async fn a_process_whose_group_cannot_be_journalled_is_killed() {
    let mut host = Host::new().await;
    host.sql("create trigger full before update of pgid on entry begin select raise(abort, 'disk full'); end").await;
    let result = host.run(&exec("sleep", &["300"])).await;
    assert_eq!((result.state, result.reason), (FinalState::Interrupted, Some(ReasonCode::JournalFailed)));
}

#[tokio::test]
async fn a_survivor_is_killed_before_its_action_is_interrupted_and_another_begins() {
    let host = Host::new().await;
    let plan = exec("sleep", &["300"]);
    let intent = Intent {
        action_id: plan.action_id,
        plan_hash: PlanHash::of(&plan.to_text().expect("JSON")),
        kind: plan.kind.to_string(),
        expires_at: plan.expires_at,
        signed_by: Vec::new(),
    };
    host.orders.journal.begin(&intent).await.expect("written");
    let mut survivor = tokio::process::Command::new("sleep").arg("300").process_group(0).spawn().expect("starts");
    let group = Group::of(survivor.id().expect("runs")).expect("a group");
    host.orders.journal.record_group(plan.action_id, &group).await.expect("written");

    let mut host = host.restart().await;
    let other = exec("true", &[]);
    assert_eq!(host.refused(&other).await, ReasonCode::Busy);
    let result = host.ended().await;
    assert_eq!((result.state, result.reason), (FinalState::Interrupted, Some(ReasonCode::AgentRestarted)));
    assert!(!group.is_alive());
    assert!(!survivor.wait().await.expect("reaped").success());
    assert_eq!(host.run(&other).await.state, FinalState::Done);
    let FromAgent::ActionResult(again) = host.take(&plan).await else { panic!("never run again") };
    assert_eq!(again.state, FinalState::Interrupted);
}

#[tokio::test]
async fn a_stranger_with_the_number_of_an_old_group_is_left_alone() {
    let host = Host::new().await;
    let plan = exec("sleep", &["300"]);
    let intent = Intent {
        action_id: plan.action_id,
        plan_hash: PlanHash::of("x"),
        kind: plan.kind.to_string(),
        expires_at: plan.expires_at,
        signed_by: Vec::new(),
    };
    host.orders.journal.begin(&intent).await.expect("written");
    let mut stranger =
        tokio::process::Command::new("sleep").arg("300").process_group(0).kill_on_drop(true).spawn().expect("starts");
    let group = Group::of(stranger.id().expect("runs")).expect("a group");
    let old = Group { start: group.start - 1, ..group };
    host.orders.journal.record_group(plan.action_id, &old).await.expect("written");

    let mut host = host.restart().await;
    assert_eq!(host.ended().await.state, FinalState::Interrupted);
    assert!(stranger.try_wait().expect("asked").is_none(), "the stranger was killed");
}

#[tokio::test]
async fn a_stop_of_the_agent_interrupts_the_effect_and_takes_no_other() {
    let mut host = Host::new().await;
    let plan = exec("sleep", &["300"]);
    assert!(matches!(host.take(&plan).await, FromAgent::ActionAccepted(_)));
    host.orders.stop_taking();
    host.orders.abort();
    let result = host.ended().await;
    assert_eq!((result.state, result.reason), (FinalState::Interrupted, Some(ReasonCode::AgentRestarted)));
    assert_eq!(host.refused(&exec("true", &[])).await, ReasonCode::Busy);
}

mod kinds {
    //! Every other kind of order, through the same door.

    use farol_protocol::frame::OutputStream;

    use super::*;
    use crate::effect::docker::Docker;

    impl Host {
        async fn with_policy(policy: &str) -> Self {
            let host = Self::new().await;
            fs::write(host.folder.path().join("policy.yaml"), policy).expect("writable");
            host
        }

        /// A file of this host, by a path without links.
        fn path(&self, name: &str) -> String {
            let folder = fs::canonicalize(self.folder.path()).expect("there").join("etc");
            fs::create_dir_all(&folder).expect("made");
            folder.join(name).to_str().expect("UTF-8").to_owned()
        }

        fn allow_paths(&self) {
            let root = self.path("");
            let root = root.trim_end_matches('/');
            let policy = format!("version: 1\nmax_unsigned_class: R2\npaths: {{read: [{root}], write: [{root}]}}\n");
            fs::write(self.folder.path().join("policy.yaml"), policy).expect("writable");
        }
    }

    fn apply(path: &str, expected: Option<&str>, content: &str) -> Plan {
        let expected = expected.map(|content| PlanHash::of(content).to_string());
        plan(ActionKind::FileApply, json!({"path": path, "content": content, "expected_sha256": expected}))
    }

    fn rollback(of: &Plan) -> Plan {
        plan(ActionKind::FileRollback, json!({"action_id": of.action_id}))
    }

    fn container(name: &str, verb: &str) -> Plan {
        plan(ActionKind::ContainerControl, json!({"container": name, "verb": verb, "timeout": 20_000}))
    }

    fn detail(result: &ActionResult) -> &str {
        result.detail.as_deref().unwrap_or_default()
    }

    #[tokio::test]
    async fn a_file_is_changed_and_put_back_over_a_restart_of_the_agent() {
        let mut host = Host::new().await;
        host.allow_paths();
        let path = host.path("motd");
        fs::write(&path, "old\n").expect("writable");
        let change = apply(&path, Some("old\n"), "new\n");
        let result = host.run(&change).await;
        assert_eq!(result.state, FinalState::Done, "{}", detail(&result));
        let file = result.outcome.and_then(|outcome| outcome.file).expect("a file");
        assert!(file.applied && file.path == path);
        assert_eq!(fs::read_to_string(&path).expect("there"), "new\n");

        let mut host = host.restart().await;
        assert_eq!(host.run(&rollback(&change)).await.state, FinalState::Done);
        assert_eq!(fs::read_to_string(&path).expect("there"), "old\n");
    }

    #[tokio::test]
    async fn paths_that_the_policy_does_not_cover_are_refused_before_anything_begins() {
        let mut host = Host::new().await;
        host.allow_paths();
        for plan in [
            apply("/etc/farol-no-such-file", None, "x"),
            plan(ActionKind::FileDiff, json!({"path": "/etc/passwd", "want": ""})),
            plan(ActionKind::LogsRead, json!({"source": {"path": "/etc/passwd"}})),
            plan(ActionKind::LogsRead, json!({"source": {"unit": "sshd"}})),
            container("db", "restart"),
        ] {
            assert_eq!(host.refused(&plan).await, ReasonCode::NotAllowed, "{:?}", plan.params);
        }
        let nothing = rollback(&exec("true", &[]));
        assert_eq!(host.refused(&nothing).await, ReasonCode::Unavailable);
    }

    #[tokio::test]
    async fn a_rollback_needs_the_path_still_in_the_policy() {
        let mut host = Host::new().await;
        host.allow_paths();
        let change = apply(&host.path("motd"), None, "new\n");
        assert_eq!(host.run(&change).await.state, FinalState::Done);
        fs::write(host.folder.path().join("policy.yaml"), "version: 1\nmax_unsigned_class: R2\n").expect("writable");
        assert_eq!(host.refused(&rollback(&change)).await, ReasonCode::NotAllowed);
    }

    #[tokio::test]
    async fn a_file_order_after_a_crash_is_interrupted_and_what_it_left_is_removed() {
        let host = Host::new().await;
        host.allow_paths();
        let path = host.path("motd");
        let change = apply(&path, None, "new\n");
        let intent = Intent {
            action_id: change.action_id,
            plan_hash: PlanHash::of(&change.to_text().expect("JSON")),
            kind: change.kind.to_string(),
            expires_at: change.expires_at,
            signed_by: Vec::new(),
        };
        host.orders.journal.begin(&intent).await.expect("written");
        let kept = Kept::new(&host.orders.means.files);
        let record = crate::effect::Record {
            path: path.clone(),
            before_sha256: None,
            after_sha256: Some(PlanHash::of("new\n").to_string()),
            rollback: false,
        };
        kept.keep(change.action_id, &record, None).expect("kept");
        let temp = host.path(&format!(".farol-{}", change.action_id));
        fs::write(&temp, "ne").expect("writable");

        let mut host = host.restart().await;
        let result = host.ended().await;
        assert_eq!((result.state, result.reason), (FinalState::Interrupted, Some(ReasonCode::AgentRestarted)));
        assert!(!fs::exists(&temp).expect("known") && !fs::exists(&path).expect("known"));
        // And had it got its name, it could be undone.
        fs::write(&path, "new\n").expect("writable");
        assert_eq!(host.run(&rollback(&change)).await.state, FinalState::Done);
        assert!(!fs::exists(&path).expect("known"));
    }

    #[tokio::test]
    async fn what_is_kept_goes_with_its_journal_entry() {
        let mut host = Host::new().await;
        host.allow_paths();
        let change = apply(&host.path("motd"), None, "new\n");
        host.run(&change).await;
        let kept = Kept::new(&host.orders.means.files);
        host.orders.forget_old().await;
        assert_eq!(kept.actions(), [change.action_id]);
        host.orders.journal.prune(now().plus(Duration::from_secs(9 * 24 * 3600))).await.expect("pruned");
        host.orders.forget_old().await;
        assert!(kept.actions().is_empty());
    }

    #[tokio::test]
    async fn the_approver_s_view_of_a_file_is_compared_too() {
        let mut host = Host::new().await;
        host.allow_paths();
        let path = host.path("motd");
        let seen =
            Plan { pre_state: json!({"file_sha256": PlanHash::of("x").as_str()}), ..apply(&path, None, "new\n") };
        let result = host.run(&seen).await;
        assert_eq!((result.state, result.reason), (FinalState::Refused, Some(ReasonCode::PreStateChanged)));
        let seen = Plan { pre_state: json!({"file_sha256": null}), ..apply(&path, None, "new\n") };
        assert_eq!(host.run(&seen).await.state, FinalState::Done);
    }

    #[tokio::test]
    async fn a_service_that_is_not_as_the_approver_saw_it_is_left_alone() {
        let mut host = Host::new().await;
        let seen = |active: bool, plan: Plan| Plan { pre_state: json!({"service_active": active}), ..plan };
        let result = host.run(&seen(false, control("fine", "restart"))).await;
        assert_eq!((result.state, result.reason), (FinalState::Refused, Some(ReasonCode::PreStateChanged)));
        assert_eq!(host.run(&seen(true, control("fine", "restart"))).await.state, FinalState::Done);
    }

    #[tokio::test]
    async fn without_a_bus_systemctl_is_asked() {
        let policy = "version: 1\nservices: [{name: farol-no-such-unit, verbs: [restart], class: R1}]\n";
        let mut host = Host::with_policy(policy).await;
        let plan = Plan { risk_class: RiskClass::R1, ..control("farol-no-such-unit", "restart") };
        let result = host.run(&plan).await;
        // By whichever way: the unit is not there, and nobody says it was restarted.
        assert_eq!(result.state, FinalState::Failed);
        if crate::effect::Bus::connect().await.is_none() && crate::exec::resolve("systemctl").is_some() {
            let outcome = result.outcome.expect("systemctl ran");
            assert!(outcome.exit_code.is_some_and(|code| code != 0) && !outcome.stderr.is_empty(), "{outcome:?}");
        }
    }

    const CONTAINERS: &str = "version: 1\nmax_unsigned_class: R2\ncontainers:\n\
        - {name: db, verbs: [start, stop, restart], class: R1}\n- {name: slow, verbs: [restart], class: R1}\n\
        - {name: broken, verbs: [restart], class: R1}\n- {name: gone, verbs: [start], class: R1}\n";

    #[tokio::test]
    async fn a_container_is_controlled_through_the_engine_and_judged_by_its_state() {
        let mut host = Host::with_policy(CONTAINERS).await;
        let docker = Docker::start(host.folder.path(), &[("db", true), ("broken", true)]);
        let stopped = host.run(&container("db", "stop")).await;
        assert_eq!(stopped.state, FinalState::Done, "{}", detail(&stopped));
        assert_eq!(stopped.outcome.expect("it ran").stdout, "exited\n");
        assert!(!docker.runs("db"));
        assert_eq!(host.run(&container("db", "stop")).await.state, FinalState::Done, "it is so already");
        assert_eq!(host.run(&container("db", "start")).await.state, FinalState::Done);
        assert!(docker.runs("db"));

        let broken = host.run(&container("broken", "restart")).await;
        assert_eq!(broken.state, FinalState::Failed);
        assert!(detail(&broken).contains("driver failed"), "{}", detail(&broken));
        let gone = host.run(&container("gone", "start")).await;
        assert!(gone.state == FinalState::Failed && detail(&gone).contains("knows no container `gone`"));
    }

    #[tokio::test]
    async fn a_container_that_is_not_as_the_approver_saw_it_is_left_alone() {
        let mut host = Host::with_policy(CONTAINERS).await;
        let docker = Docker::start(host.folder.path(), &[("db", true)]);
        let seen = Plan { pre_state: json!({"container_running": false}), ..container("db", "start") };
        let result = host.run(&seen).await;
        assert_eq!((result.state, result.reason), (FinalState::Refused, Some(ReasonCode::PreStateChanged)));
        assert!(docker.changes().is_empty());
    }

    #[tokio::test]
    async fn without_an_engine_the_order_is_refused_with_what_to_do() {
        let mut host = Host::with_policy(CONTAINERS).await;
        let result = host.run(&container("db", "restart")).await;
        assert_eq!((result.state, result.reason), (FinalState::Refused, Some(ReasonCode::Unavailable)));
        assert!(detail(&result).contains("docker_socket"), "{}", detail(&result));
        // A socket that nobody listens on.
        drop(std::os::unix::net::UnixListener::bind(host.folder.path().join("docker.sock")).expect("bound"));
        let result = host.run(&container("db", "restart")).await;
        assert_eq!(result.reason, Some(ReasonCode::Unavailable), "{}", detail(&result));
    }

    #[tokio::test]
    async fn a_cancel_and_a_time_limit_reach_an_engine_that_does_not_answer() {
        let mut host = Host::with_policy(CONTAINERS).await;
        let docker = Docker::start(host.folder.path(), &[("slow", true)]);
        let plan = container("slow", "restart");
        assert!(matches!(host.take(&plan).await, FromAgent::ActionAccepted(_)));
        timeout(Duration::from_secs(20), async {
            while docker.changes().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("asked");
        host.orders.cancel(plan.action_id).await;
        let result = host.ended().await;
        assert_eq!(result.state, FinalState::Cancelled);
        assert!(detail(&result).contains("may still"), "{}", detail(&result));

        let mut short = container("slow", "restart");
        short.params["timeout"] = json!(200);
        assert_eq!(host.run(&short).await.state, FinalState::TimedOut);
    }

    #[tokio::test]
    async fn a_log_is_read_from_its_file_and_a_missing_one_is_a_failure() {
        let mut host = Host::new().await;
        host.allow_paths();
        let path = host.path("app.log");
        fs::write(&path, "2026-01-01T00:00:00Z one\n2026-01-02T00:00:00Z two\n\ttrace\n").expect("writable");
        let read = |params: Value| Plan { risk_class: RiskClass::R0, ..plan(ActionKind::LogsRead, params) };
        let result = host.run(&read(json!({"source": {"path": path}, "since": "2026-01-01T12:00:00Z"}))).await;
        assert_eq!(result.state, FinalState::Done, "{}", detail(&result));
        assert_eq!(result.outcome.expect("read").stdout, "2026-01-02T00:00:00Z two\n\ttrace\n");
        let last = host.run(&read(json!({"source": {"path": path}, "lines": 1}))).await;
        assert_eq!(last.outcome.expect("read").stdout, "\ttrace\n");
        let missing = host.run(&read(json!({"source": {"path": host.path("none.log")}}))).await;
        assert_eq!(missing.state, FinalState::Failed);
    }

    #[tokio::test]
    async fn what_a_program_writes_is_told_while_it_runs() {
        let mut host =
            Host::with_policy("version: 1\nmax_unsigned_class: R2\ncommands: [{command: sh, args: ['**']}]\n").await;
        let plan = exec("sh", &["-c", "echo begun; sleep 300"]);
        assert!(matches!(host.take(&plan).await, FromAgent::ActionAccepted(_)));
        let chunk = timeout(Duration::from_secs(20), host.output.recv()).await.expect("in time").expect("open");
        assert_eq!((chunk.action_id, chunk.n, chunk.stream), (plan.action_id, 1, OutputStream::Stdout));
        assert_eq!(chunk.text, "begun\n");
        host.orders.cancel(plan.action_id).await;
        let result = host.ended().await;
        assert_eq!(
            (result.state, result.outcome.expect("it ran").stdout),
            (FinalState::Cancelled, "begun\n".to_owned())
        );
    }

    #[tokio::test]
    async fn nobody_reading_the_output_does_not_hold_the_program() {
        let mut host =
            Host::with_policy("version: 1\nmax_unsigned_class: R2\ncommands: [{command: sh, args: ['**']}]\n").await;
        host.output.close();
        let result = host.run(&exec("sh", &["-c", "head -c 3000000 /dev/zero | tr '\\0' x"])).await;
        assert_eq!(result.state, FinalState::Done);
    }
}
