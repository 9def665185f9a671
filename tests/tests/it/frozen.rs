//! A frozen peer of protocol v1: one side of a recorded session, frame by
//! frame, against the real program on the other side. Values that differ from
//! run to run are compared by their type; fields that a newer version adds are
//! ignored where the protocol is open, and refused where installed peers would.

use std::time::Duration;

use farol_tests::{
    Site,
    peer::{Identity, Peer},
    standin::{Line, StandIn},
};
use serde_json::{Value, json};

const SESSION: &str = include_str!("../../fixtures/session-v1.jsonl");

/// As it was when the session was recorded.
const REGISTRY: &str = "version: 1
hosts: [{name: vm112}]
scenarios:
  - {id: memory, title: Memória, persona: A1, severity: medium, hosts: [vm112], runs_on: agent, every: 1s, attempts: 1,
     checks: [{name: used, probe: {memory: {warning: 99.5}}}]}
";
const POLICY: &str = "version: 1
max_unsigned_class: R2
commands: [{command: /bin/echo, args: ['*'], class: R2}, {command: /bin/sleep, args: ['*'], class: R2}]
";

/// What happened next.
enum Step {
    Connect,
    Cut,
    /// The agent sent this text.
    Agent(&'static str, Value),
    /// The coordinator sent this text.
    Coordinator(&'static str, Value),
}

fn session() -> Vec<Step> {
    let frame = |line: &'static str, from: &str| {
        let text = line.strip_prefix(&format!(r#"{{"from":"{from}","frame":"#))?.strip_suffix('}')?;
        Some((text, serde_json::from_str(text).unwrap()))
    };
    let step = |line: &'static str| match line {
        r#"{"event":"connect"}"# => Step::Connect,
        r#"{"event":"cut"}"# => Step::Cut,
        line => match (frame(line, "agent"), frame(line, "coordinator")) {
            (Some((text, value)), _) => Step::Agent(text, value),
            (_, Some((text, value))) => Step::Coordinator(text, value),
            _ => panic!("not a line of a session: {line}"),
        },
    };
    SESSION.lines().map(step).collect()
}

/// Recorded identities and what stands for them now.
#[derive(Default)]
struct Names(Vec<(String, String)>);

impl Names {
    fn add(&mut self, recorded: &Value, now: &Value) {
        self.0.push((recorded.as_str().unwrap().to_owned(), now.as_str().unwrap().to_owned()));
    }

    fn translate(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (recorded, now)| text.replace(recorded, now))
    }

    fn knows(&self, recorded: &Value) -> bool {
        self.0.iter().any(|(name, _)| recorded == name.as_str())
    }
}

fn text<'a>(frame: &'a Value, field: &str) -> &'a str {
    frame[field].as_str().unwrap_or_default()
}

/// Fields whose values mean the same in every run.
const EXACT: [&str; 15] = [
    "method",
    "ok",
    "protocol",
    "state",
    "kind",
    "risk_class",
    "v",
    "checks",
    "language",
    "params",
    "exit_code",
    "stdout",
    "stderr",
    "truncated",
    "effects_allowed",
];
/// Objects that may gain fields: a peer of version 1 ignores those.
const OPEN: [&str; 8] = [
    "hello",
    "hello/policy",
    "hello/policy/timeouts",
    "telemetry.push/payload",
    "telemetry.push/payload/metrics",
    "telemetry.push/payload/metrics/memory",
    "telemetry.push/payload/metrics/disks/*",
    "telemetry.push/payload/metrics/networks/*",
];

/// Holds `now` against what was recorded for the same occasion.
fn assert_alike(recorded: &Value, now: &Value, at: &str) {
    match (recorded, now) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let Some(present) = after.get(key) else { panic!("{at}: `{key}` is missing in {now}") };
                if EXACT.contains(&key.as_str()) {
                    assert_eq!(present, value, "{at}/{key}");
                } else if key == "plan" {
                    let read = |plan: &Value| serde_json::from_str(plan.as_str().unwrap()).unwrap();
                    assert_alike(&read(value), &read(present), &format!("{at}/plan"));
                } else {
                    assert_alike(value, present, &format!("{at}/{key}"));
                }
            }
            let added: Vec<_> = after.keys().filter(|key| !before.contains_key(*key)).collect();
            assert!(
                added.is_empty() || OPEN.contains(&at),
                "{at}: a peer of version 1 refuses the fields {added:?} of {now}"
            );
        }
        (Value::Array(before), Value::Array(after)) => {
            for (index, item) in after.iter().enumerate() {
                if let Some(example) = before.get(index).or_else(|| before.first()) {
                    assert_alike(example, item, &format!("{at}/*"));
                }
            }
        }
        _ => assert_eq!(
            std::mem::discriminant(recorded),
            std::mem::discriminant(now),
            "{at}: {now} is of another type than {recorded}"
        ),
    }
}

/// The first recorded frame of a method from one side; the answer to hello has none.
fn example(of_agent: bool, method: &str) -> Value {
    let found = session().into_iter().find_map(|step| match step {
        Step::Agent(_, frame) if of_agent && text(&frame, "method") == method => Some(frame),
        Step::Coordinator(_, frame) if !of_agent && text(&frame, "method") == method => Some(frame),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no {method} was recorded"))
}

/// The recorded agent's end of the line.
struct Listener {
    peer: Peer,
    acked: u64,
    waiting: Vec<Value>,
}

impl Listener {
    /// The next frame of the coordinator that is neither a heartbeat nor an acknowledgement of batches.
    async fn next(&mut self, method: &str) -> Value {
        loop {
            if let Some(index) = self.waiting.iter().position(|frame| text(frame, "method") == method) {
                return self.waiting.remove(index);
            }
            self.take_one().await;
        }
    }

    async fn take_one(&mut self) {
        let frame = self.peer.receive().await.unwrap();
        match text(&frame, "method") {
            "heartbeat" => assert_alike(&example(false, "heartbeat"), &frame, "heartbeat"),
            "telemetry.ack" => {
                assert_alike(&example(false, "telemetry.ack"), &frame, "telemetry.ack");
                self.acked = frame["seq"].as_u64().unwrap();
            }
            _ => self.waiting.push(frame),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_answers_an_agent_of_version_1_as_it_did_when_that_was_recorded() {
    // Longer than an order takes: the recorded agent says nothing meanwhile.
    let site = Site::start(REGISTRY, &[("FAROL_HEARTBEAT", "5s")]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut names = Names::default();
    names.add(&example(true, "hello")["agent_id"], &host_id(&agent));
    let mut line: Option<Listener> = None;
    let mut actions = Vec::new();
    for step in session() {
        match step {
            Step::Connect => {
                let peer = identity.connect(site.southbound()).await.unwrap();
                line = Some(Listener { peer, acked: 0, waiting: Vec::new() });
            }
            Step::Cut => {
                let left = line.take().unwrap().waiting;
                assert!(left.is_empty(), "the coordinator says what an agent of version 1 does not expect: {left:?}");
            }
            Step::Agent(text, _) => line.as_mut().unwrap().peer.send_text(names.translate(text)).await.unwrap(),
            Step::Coordinator(_, recorded) => {
                let line = line.as_mut().unwrap();
                match text(&recorded, "method") {
                    "heartbeat" => {}
                    "telemetry.ack" => {
                        while line.acked < recorded["seq"].as_u64().unwrap() {
                            line.take_one().await;
                        }
                    }
                    method => {
                        let id = &recorded["action_id"];
                        if method == "command.exec" && !names.knows(id) {
                            let action = order(&site, &recorded).await;
                            names.add(id, &action["action_id"]);
                            names.add(&recorded_hash(id), &action["plan_hash"]);
                            actions.push(action["action_id"].as_str().unwrap().to_owned());
                        }
                        let frame = line.next(method).await;
                        let at = if method.is_empty() { "hello" } else { method };
                        assert_alike(&recorded, &frame, at);
                        if !id.is_null() {
                            assert_eq!(names.translate(id.as_str().unwrap()), text(&frame, "action_id"), "{frame}");
                        }
                    }
                }
            }
        }
    }
    assert_eq!(actions.len(), 2);
    for (id, output) in actions.iter().zip(["ola\n", ""]) {
        let action = site.wait_action(id, &["done"]).await.unwrap();
        assert_eq!(action["outcome"]["stdout"], output, "{action}");
    }
    let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
    assert_eq!((host["received"].as_u64(), host["lost"].as_u64()), (Some(6), Some(2)), "{host}");
}

/// Proposes and approves the command that a recorded order holds.
async fn order(site: &Site, recorded: &Value) -> Value {
    let plan: Value = serde_json::from_str(text(recorded, "plan")).unwrap();
    let body = json!({"host": "vm112", "kind": plan["kind"], "params": plan["params"], "reason": "test"});
    let action = site.api().post("/api/v1/actions", body).await.unwrap();
    site.api().approve(text(&action, "action_id")).await.unwrap();
    action
}

/// Hash of the plan that an action had when it was recorded.
fn recorded_hash(action_id: &Value) -> Value {
    let hash = session().into_iter().find_map(|step| match step {
        Step::Agent(_, frame) if frame["action_id"] == *action_id => frame.get("plan_hash").cloned(),
        _ => None,
    });
    hash.expect("each recorded order has a result")
}

fn host_id(agent: &farol_tests::Agent) -> Value {
    let enrolment = std::fs::read_to_string(agent.state_dir().join("identity/enrolment.json")).unwrap();
    serde_json::from_str::<Value>(&enrolment).unwrap()["host_id"].clone()
}

/// The recorded coordinator's end of the line.
struct Speaker {
    line: Line,
    /// The one that hello named.
    stream: Value,
    acked: u64,
    pushes: usize,
}

impl Speaker {
    /// The agent's next frame of this method. Batches on the way are
    /// acknowledged, and the line is kept alive.
    async fn next(&mut self, method: &str) -> Value {
        let mut beat = tokio::time::interval(Duration::from_millis(500));
        loop {
            let frame: Value = tokio::select! {
                frame = self.line.receive() => serde_json::from_str(&frame.unwrap()).unwrap(),
                _ = beat.tick(), if method != "hello" => {
                    self.line.send(example(false, "heartbeat").to_string()).await.unwrap();
                    continue;
                }
            };
            let said = text(&frame, "method").to_owned();
            match said.as_str() {
                "heartbeat" => assert_alike(&example(true, "heartbeat"), &frame, "heartbeat"),
                "telemetry.push" => self.acknowledge(&frame).await,
                "error" => panic!("the agent does not understand a coordinator of version 1: {frame}"),
                "hello" => self.stream = frame["stream"].clone(),
                "action.accepted" | "action.result" => {}
                // What a coordinator of version 1 does not know it answers, and goes on.
                _ => {
                    let answer =
                        json!({"method": "error", "code": "unknown_method", "message": "not known in version 1"});
                    self.line.send(answer.to_string()).await.unwrap();
                }
            }
            if said == method {
                return frame;
            }
        }
    }

    async fn acknowledge(&mut self, push: &Value) {
        let with = if push["payload"].get("metrics").is_some() { "metrics" } else { "reports" };
        let recorded = session().into_iter().find_map(|step| match step {
            Step::Agent(_, frame) if frame["payload"].get(with).is_some() => Some(frame),
            _ => None,
        });
        let mut recorded = recorded.expect("batches with both were recorded");
        // A batch may hold readings, reports and gaps together.
        for section in ["reports", "gaps"] {
            if push["payload"].get(section).is_none() {
                recorded["payload"].as_object_mut().unwrap().remove(section);
            }
        }
        assert_alike(&recorded, push, "telemetry.push");
        assert_eq!(push["stream"], self.stream, "a coordinator of version 1 knows no other stream than the hello's");
        self.acked = push["seq"].as_u64().unwrap();
        self.pushes += 1;
        let mut ack = example(false, "telemetry.ack");
        ack["stream"] = push["stream"].clone();
        ack["seq"] = push["seq"].clone();
        self.line.send(ack.to_string()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_obeys_a_coordinator_of_version_1_as_it_did_when_that_was_recorded() {
    let mut site = Site::start(REGISTRY, &[]).await.unwrap();
    let mut agent = site.enrol("vm112", Some(POLICY)).await.unwrap();
    agent.configure("interval: 1s\nreconnect_max: 200ms\n").unwrap();
    site.stop_coordinator().await.unwrap();
    let stand_in = StandIn::listen(site.southbound(), &site.data_dir().join("pki")).await.unwrap();
    let mut names = Names::default();
    names.add(&example(true, "hello")["agent_id"], &host_id(&agent));
    agent.start().unwrap();

    let mut speaker: Option<Speaker> = None;
    let (mut acked, mut pushes) = (0, 0);
    for step in session() {
        match step {
            Step::Connect => {
                let line = stand_in.accept().await.unwrap();
                speaker = Some(Speaker { line, stream: Value::Null, acked, pushes: 0 });
            }
            Step::Cut => {
                let ended = speaker.take().unwrap();
                (acked, pushes) = (ended.acked, pushes + ended.pushes);
            }
            Step::Coordinator(said, recorded) => {
                let speaker = speaker.as_mut().unwrap();
                match text(&recorded, "method") {
                    // Said as the batches come.
                    "telemetry.ack" => {}
                    "" => {
                        let mut answer = recorded.clone();
                        answer["committed_seq"] = json!(speaker.acked);
                        speaker.line.send(answer.to_string()).await.unwrap();
                    }
                    _ => speaker.line.send(names.translate(said)).await.unwrap(),
                }
            }
            Step::Agent(_, recorded) => {
                let method = text(&recorded, "method");
                if matches!(method, "heartbeat" | "telemetry.push") {
                    continue;
                }
                let frame = speaker.as_mut().unwrap().next(method).await;
                assert_alike(&recorded, &frame, method);
                if method == "hello" {
                    assert_eq!(frame["unfinished"], recorded["unfinished"]);
                    let capabilities = frame["capabilities"].as_array().unwrap();
                    let lost =
                        recorded["capabilities"].as_array().unwrap().iter().find(|name| !capabilities.contains(name));
                    assert_eq!(lost, None, "the agent no longer takes it");
                } else {
                    assert_eq!(frame["action_id"], recorded["action_id"]);
                }
            }
        }
    }
    assert!(pushes >= 2, "only {pushes} batches came");
}
