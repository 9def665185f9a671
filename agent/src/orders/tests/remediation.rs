//! Remediations on a host: what is changed, proven and undone.

use std::os::unix::fs::PermissionsExt as _;

use farol_protocol::remediation::{Look, Phase, StepOutcome, Verdict};

use super::*;

struct Site {
    host: Host,
    file: String,
}

impl Site {
    async fn new(content: Option<&str>) -> Self {
        let host = Host::new().await;
        let folder = host.folder.path().join("etc");
        fs::create_dir(&folder).expect("made");
        let policy = format!(
            "{POLICY}- {{name: flaky, verbs: [restart], class: R1, run: {{restart: [sh, -c, 'exit 1'], status: ['true']}}}}\n\
             paths: {{read: ['{0}'], write: ['{0}']}}\n",
            folder.display()
        )
        .replace("commands:\n", "commands:\n- {command: sh, args: ['**'], class: R1}\n");
        fs::write(host.folder.path().join("policy.yaml"), policy).expect("writable");
        let file = folder.join("app.conf");
        if let Some(content) = content {
            fs::write(&file, content).expect("writable");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        }
        Self { host, file: file.to_str().expect("UTF-8").to_owned() }
    }

    fn content(&self) -> Option<String> {
        fs::read_to_string(&self.file).ok()
    }

    fn apply(&self, before: Option<&str>) -> Value {
        let sha256 = before.map(sha256);
        effect("file.apply", json!({"path": self.file, "content": "new\n", "expected_sha256": sha256}))
    }

    fn says(&self, text: &str) -> Value {
        json!({"effect": {"kind": "command.exec", "params": {"command": "sh", "args": ["-c", format!("cat {}", self.file)]},
            "expect": {"contains": text}}})
    }
}

fn sha256(text: &str) -> String {
    farol_protocol::action::hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

fn effect(kind: &str, params: Value) -> Value {
    json!({"effect": {"kind": kind, "params": params}})
}

fn sh(script: &str) -> Value {
    effect("command.exec", json!({"command": "sh", "args": ["-c", script], "timeout": 20_000}))
}

fn restore() -> Value {
    json!({"restore_file": {}})
}

fn remediation(kind: ActionKind, steps: &[(&str, &str, Value)]) -> Plan {
    let steps: Vec<Value> =
        steps.iter().map(|(id, phase, work)| json!({"id": id, "phase": phase, "work": work})).collect();
    plan(kind, json!({"entry": "test", "steps": steps, "timeout": 20_000}))
}

fn run_of(steps: &[(&str, &str, Value)]) -> Plan {
    remediation(ActionKind::RemediationRun, steps)
}

fn verdict(result: &ActionResult) -> Option<Verdict> {
    result.outcome.as_ref().and_then(|outcome| outcome.result)
}

fn steps(result: &ActionResult) -> &[StepOutcome] {
    result.outcome.as_ref().map_or(&[], |outcome| &outcome.steps)
}

fn names(result: &ActionResult) -> Vec<(&str, FinalState)> {
    steps(result).iter().map(|step| (step.id.as_str(), step.state)).collect()
}

#[tokio::test]
async fn what_was_changed_and_proven_is_verified_and_each_step_leaves_its_artifact() {
    let mut site = Site::new(Some("old\n")).await;
    let plan = run_of(&[
        ("before", "validate", site.says("old")),
        ("kept", "snapshot", site.says("")),
        ("write", "modify", site.apply(Some("old\n"))),
        ("after", "verify", site.says("new")),
        ("back", "rollback", restore()),
    ]);
    let result = site.host.run(&plan).await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Done, Some(Verdict::Verified)), "{result:?}");
    let done = FinalState::Done;
    assert_eq!(names(&result), [("before", done), ("kept", done), ("write", done), ("after", done)]);
    assert_eq!(steps(&result)[1].stdout, "old\n");
    let file = steps(&result)[2].file.as_ref().expect("a file");
    assert_eq!((file.before_sha256.clone(), file.after_sha256.clone()), (Some(sha256("old\n")), Some(sha256("new\n"))));
    assert_eq!(site.content().as_deref(), Some("new\n"));
    assert!(matches!(site.host.known(&plan).await, Some(Known::Ended(known)) if *known == result));
}

#[tokio::test]
async fn twenty_failures_of_changes_and_of_their_proof_are_undone_to_the_last_byte() {
    let slow = effect("command.exec", json!({"command": "sh", "args": ["-c", "sleep 60"], "timeout": 100}));
    let bad_port = json!({"check": {"probe": {"tcp": {"address": "127.0.0.1:9"}}, "attempts": 2, "every": 10}});
    let unready = json!({"effect": {"kind": "command.exec", "params": {"command": "sh", "args": ["-c", "echo up"]},
        "expect": {"contains": "ready"}}});
    let noisy = json!({"effect": {"kind": "command.exec", "params": {"command": "sh", "args": ["-c", "echo panic"]},
        "expect": {"lacks": "panic"}}});
    let modify = [
        sh("exit 1"),
        sh("kill -9 $$"),
        slow,
        effect("command.exec", json!({"command": "/no/such/program"})),
        effect("service.control", json!({"service": "down", "verb": "start"})),
    ];
    let verify = [sh("exit 3"), sh("kill -9 $$"), bad_port, unready, noisy];
    let mut rolled_back = 0;
    for before in [Some("old\n"), None] {
        for (phase, works) in [("modify", &modify), ("verify", &verify)] {
            for work in works {
                let mut site = Site::new(before).await;
                let mut steps = vec![("write", "modify", site.apply(before)), ("fails", phase, work.clone())];
                if phase == "modify" {
                    steps.push(("after", "verify", site.says("new")));
                }
                steps.push(("back", "rollback", restore()));
                let result = site.host.run(&run_of(&steps)).await;
                assert_eq!(verdict(&result), Some(Verdict::RolledBack), "{phase} {work}: {result:?}");
                assert!(matches!(result.state, FinalState::Failed | FinalState::TimedOut), "{work}: {result:?}");
                assert!(result.detail.as_ref().is_some_and(|why| why.contains("`fails`")), "{result:?}");
                assert_eq!(site.content().as_deref(), before);
                if before.is_some() {
                    let mode = fs::metadata(&site.file).expect("there").permissions().mode() & 0o777;
                    assert_eq!(mode, 0o640);
                }
                // The bundle is enough to see it again: what was there, what came, what went back.
                let told = super::remediation::steps(&result);
                assert_eq!(told.last().map(|step| (step.phase, step.state)), Some((Phase::Rollback, FinalState::Done)));
                let back = told.last().and_then(|step| step.file.as_ref()).expect("a file");
                assert_eq!(back.after_sha256, before.map(sha256));
                rolled_back += 1;
            }
        }
    }
    assert_eq!(rolled_back, 20);
}

#[tokio::test]
async fn a_change_that_cannot_be_undone_ends_loudly() {
    let mut site = Site::new(Some("old\n")).await;
    let tampered = format!("echo other >> {}; exit 1", site.file);
    let plan = run_of(&[
        ("write", "modify", site.apply(Some("old\n"))),
        ("after", "verify", sh(&tampered)),
        ("back", "rollback", restore()),
    ]);
    let result = site.host.run(&plan).await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Failed, Some(Verdict::RollbackFailed)));
    let detail = result.detail.expect("why");
    assert!(detail.contains("could NOT be undone") && detail.contains("`back`"), "{detail}");
    assert_eq!(site.content().as_deref(), Some("new\nother\n"), "what nobody knows is not overwritten");
}

#[tokio::test]
async fn nothing_is_changed_before_everything_that_must_hold_does() {
    let mut site = Site::new(Some("old\n")).await;
    for phase in ["validate", "snapshot"] {
        let plan = run_of(&[
            ("first", phase, site.says("something else")),
            ("write", "modify", site.apply(Some("old\n"))),
            ("after", "verify", site.says("new")),
        ]);
        let result = site.host.run(&plan).await;
        assert_eq!(result.state, FinalState::Refused);
        assert_eq!(result.reason, Some(ReasonCode::ValidationFailed));
        assert_eq!(names(&result), [("first", FinalState::Failed)]);
        assert_eq!(site.content().as_deref(), Some("old\n"));
    }
    let other = run_of(&[("write", "modify", site.apply(Some("older\n"))), ("after", "verify", site.says("new"))]);
    let result = site.host.run(&other).await;
    assert_eq!((result.state, result.reason), (FinalState::Refused, Some(ReasonCode::PreStateChanged)));
    assert_eq!(site.content().as_deref(), Some("old\n"));
}

#[tokio::test]
async fn executed_and_verified_are_different_things() {
    let mut site = Site::new(None).await;
    let no_policy_for_it =
        json!({"check": {"probe": {"file_age": {"path": "/root/secret", "limits": {"warning": 1}}}}});
    let unclear = run_of(&[("go", "modify", sh("true")), ("after", "verify", no_policy_for_it)]);
    let result = site.host.run(&unclear).await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Done, Some(Verdict::Inconclusive)), "{result:?}");
    let contradicted = run_of(&[("go", "modify", sh("true")), ("after", "verify", sh("exit 1"))]);
    let result = site.host.run(&contradicted).await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Failed, Some(Verdict::Contradicted)));
    let failed = run_of(&[("go", "modify", sh("exit 1")), ("after", "verify", sh("true"))]);
    let result = site.host.run(&failed).await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Failed, None));
    assert_eq!(names(&result), [("go", FinalState::Failed)], "what was not carried out proves nothing");
}

#[tokio::test]
async fn a_verification_is_tried_until_it_holds() {
    let mut site = Site::new(None).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let counted = format!("echo x >> {0}; test $(wc -l < {0}) -ge 1", site.file);
    let check = json!({"check": {"probe": {"tcp": {"address": address}}, "attempts": 50, "every": 20}});
    let plan = run_of(&[("go", "modify", sh(&counted)), ("up", "verify", check)]);
    drop(listener);
    assert!(matches!(site.host.take(&plan).await, FromAgent::ActionAccepted(_)));
    // The service comes up while it is looked at.
    while !fs::exists(&site.file).expect("asked") {
        tokio::task::yield_now().await;
    }
    let _listener = std::net::TcpListener::bind(&address).expect("binds again");
    let result = site.host.ended().await;
    assert_eq!(verdict(&result), Some(Verdict::Verified), "{result:?}");
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_a_change_undoes_it() {
    let mut site = Site::new(Some("old\n")).await;
    let plan = run_of(&[
        ("write", "modify", site.apply(Some("old\n"))),
        ("hangs", "modify", sh("sleep 60")),
        ("after", "verify", sh("true")),
        ("back", "rollback", restore()),
    ]);
    assert!(matches!(site.host.take(&plan).await, FromAgent::ActionAccepted(_)));
    while site.content().as_deref() != Some("new\n") {
        tokio::task::yield_now().await;
    }
    site.host.orders.cancel(plan.action_id).await;
    let result = site.host.ended().await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Cancelled, Some(Verdict::RolledBack)), "{result:?}");
    assert_eq!(site.content().as_deref(), Some("old\n"));
}

#[tokio::test]
async fn the_end_of_the_agent_undoes_nothing_and_says_that_nobody_knows() {
    let mut site = Site::new(Some("old\n")).await;
    let plan = run_of(&[
        ("write", "modify", site.apply(Some("old\n"))),
        ("hangs", "modify", sh("sleep 60")),
        ("after", "verify", sh("true")),
        ("back", "rollback", restore()),
    ]);
    assert!(matches!(site.host.take(&plan).await, FromAgent::ActionAccepted(_)));
    while site.content().as_deref() != Some("new\n") {
        tokio::task::yield_now().await;
    }
    site.host.orders.abort();
    let result = site.host.ended().await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Interrupted, None), "{result:?}");
    assert_eq!(result.reason, Some(ReasonCode::AgentRestarted));
    assert_eq!(site.content().as_deref(), Some("new\n"));
}

#[tokio::test]
async fn a_look_tells_what_is_there_and_what_would_change_and_changes_nothing() {
    let mut site = Site::new(Some("old\n")).await;
    let steps = [
        ("before", "validate", json!({"check": {"probe": {"load": {"critical": 100_000}}}})),
        ("write", "modify", site.apply(None)),
        ("go", "modify", effect("service.control", json!({"service": "fine", "verb": "restart"}))),
        // What it will find is what the step before leaves.
        ("again", "modify", effect("service.control", json!({"service": "fine", "verb": "stop"}))),
        ("ran", "modify", sh(&format!("touch {}.ran", site.file))),
        ("after", "verify", site.says("new")),
        ("back", "rollback", restore()),
    ];
    let look = Plan { risk_class: RiskClass::R0, ..remediation(ActionKind::RemediationLook, &steps) };
    let result = site.host.run(&look).await;
    assert_eq!(result.state, FinalState::Done, "{result:?}");
    let outcome = result.outcome.expect("an outcome");
    let Look { class, seen } = outcome.look.expect("a look");
    assert_eq!(class, RiskClass::R2);
    let seen = serde_json::to_value(&seen).expect("JSON");
    assert_eq!(seen, json!({"write": {"file_sha256": sha256("old\n")}, "go": {"service_active": true}}));
    let file = outcome.steps.iter().find(|step| step.id == "write").and_then(|step| step.file.as_ref());
    assert!(file.and_then(|file| file.patch.as_deref()).is_some_and(|patch| patch.contains("-old\n+new\n")));
    assert_eq!(site.content().as_deref(), Some("old\n"));
    assert!(!fs::exists(format!("{}.ran", site.file)).expect("asked"));

    // What was seen goes into the plan, and a host that has changed since refuses it.
    let steps = [("write", "modify", site.apply(Some("old\n"))), ("after", "verify", site.says("new"))];
    let plan = Plan { pre_state: json!({"steps": {"write": {"file_sha256": sha256("older\n")}}}), ..run_of(&steps) };
    let result = site.host.run(&plan).await;
    assert_eq!(result.reason, Some(ReasonCode::PreStateChanged));
    let stray = Plan { pre_state: json!({"steps": {"gone": {"service_active": true}}}), ..run_of(&steps) };
    assert_eq!(site.host.refused(&stray).await, ReasonCode::InvalidPlan);
}

#[tokio::test]
async fn a_look_tells_nothing_of_a_file_that_the_policy_does_not_let_be_read() {
    let mut site = Site::new(Some("secret\n")).await;
    let policy = site.host.folder.path().join("policy.yaml");
    let text = fs::read_to_string(&policy).expect("there");
    let (before, paths) = text.split_once("paths: {read: ").expect("paths");
    let write = paths.split_once(", write").expect("write").1;
    fs::write(&policy, format!("{before}paths: {{write{write}")).expect("written");
    let steps = [("write", "modify", site.apply(None)), ("up", "verify", sh("true"))];
    let look = Plan { risk_class: RiskClass::R0, ..remediation(ActionKind::RemediationLook, &steps) };
    let result = site.host.run(&look).await;
    let told = serde_json::to_string(&result).expect("JSON");
    assert!(told.contains(&sha256("secret\n")) && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn what_could_not_be_asked_contradicts_nothing() {
    let mut site = Site::new(Some("old\n")).await;
    let missing = effect("command.exec", json!({"command": "/no/such/program"}));
    let plan = run_of(&[
        ("write", "modify", site.apply(Some("old\n"))),
        ("after", "verify", missing),
        ("back", "rollback", restore()),
    ]);
    let result = site.host.run(&plan).await;
    assert_eq!((result.state, verdict(&result)), (FinalState::Done, Some(Verdict::Inconclusive)), "{result:?}");
    assert_eq!(site.content().as_deref(), Some("new\n"));
}

#[tokio::test]
async fn a_remediation_has_the_class_of_its_riskiest_step_and_only_steps_that_the_policy_lists() {
    let mut site = Site::new(None).await;
    let reboot = effect("command.exec", json!({"command": "reboot"}));
    let riskiest = run_of(&[("go", "modify", sh("true")), ("up", "verify", sh("true")), ("again", "rollback", reboot)]);
    let FromAgent::ActionResult(result) = site.host.take(&riskiest).await else { panic!("taken") };
    assert_eq!(result.reason, Some(ReasonCode::SignatureRequired));
    assert_eq!(result.required_class, Some(RiskClass::R3));
    let unlisted = effect("command.exec", json!({"command": "rm", "args": ["-rf", "/"]}));
    let plan = run_of(&[("go", "modify", sh("true")), ("up", "verify", sh("true")), ("no", "rollback", unlisted)]);
    assert_eq!(site.host.refused(&plan).await, ReasonCode::NotAllowed);
    let outside = effect("file.apply", json!({"path": "/etc/passwd", "content": ""}));
    let plan = run_of(&[("go", "modify", outside), ("up", "verify", sh("true"))]);
    assert_eq!(site.host.refused(&plan).await, ReasonCode::NotAllowed);
}

#[tokio::test]
async fn what_many_steps_write_fits_one_frame() {
    let mut site = Site::new(None).await;
    let loud = || sh("head -c 200000 /dev/zero | tr '\\0' '\\1'; head -c 200000 /dev/zero | tr '\\0' '\\1' >&2");
    let ids: Vec<String> = (0..15).map(|n| format!("s{n}")).collect();
    let mut steps: Vec<(&str, &str, Value)> = ids.iter().map(|id| (id.as_str(), "modify", loud())).collect();
    steps.push(("after", "verify", sh("true")));
    let result = site.host.run(&run_of(&steps)).await;
    assert_eq!(verdict(&result), Some(Verdict::Verified), "{:?}", result.detail);
    assert!(super::remediation::steps(&result)[0].truncated);
    let frame = farol_protocol::frame::encode(&FromAgent::ActionResult(Box::new(result)));
    assert!(frame.len() < farol_protocol::MAX_FRAME_BYTES, "{}", frame.len());
}
