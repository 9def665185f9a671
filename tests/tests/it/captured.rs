//! Whoever owns the coordinator, its database, its authority and its keys runs
//! nothing above a host's unsigned class.

use std::path::PathBuf;

use farol_tests::{
    Agent, Site,
    captor::{Captor, Held, time_at},
    signer::{Ceremony, Passkey, Person},
};
use serde_json::{Value, json};
use time::Duration;

use crate::support::{QUIET, append, count};

/// A host whose coordinator was taken, and the people its policy lists.
struct Scene {
    _site: Site,
    agent: Agent,
    captor: Captor,
    held: Held,
    host: String,
    file: PathBuf,
    ana: Person,
    anas_other: Person,
    bia: Person,
    dora: Person,
    eva: Person,
    caio: Passkey,
}

impl Scene {
    async fn new() -> Self {
        let mut site = Site::start(QUIET, &[]).await.unwrap();
        let mut agent = site.enrol("vm112", None).await.unwrap();
        let hosts = site.api().items("/api/v1/hosts").await.unwrap();
        let host = hosts.iter().find(|host| host["name"] == "vm112").unwrap()["id"].as_str().unwrap().to_owned();
        let person = |name| Person::new(name).unwrap();
        let (ana, anas_other, bia, dora, eva) =
            (person("ana"), person("ana"), person("bia"), person("dora"), person("eva"));
        let caio = Passkey::new("caio").unwrap();
        let policy = format!(
            "version: 1
max_unsigned_class: R1
commands:
- {{command: /bin/sh, args: [-c, '*'], class: R2}}
- {{command: /usr/bin/env, args: [sh, -c, '*'], class: R3}}
services:
- {{name: portal, verbs: [restart], class: R1, run: {{restart: ['true']}}}}
operators:
- {{name: ana, roles: [agentic_operator], keys: ['{}', '{}']}}
- {{name: bia, roles: [ops_lead], keys: ['{}']}}
- {{name: caio, roles: [super_admin], keys: ['{}']}}
- {{name: dora, roles: [technician, agentic_operator], keys: ['{}']}}
- {{name: eva, roles: [technician], keys: ['{}']}}
webauthn: {{rp_id: farol.example.org, origin: 'https://farol.example.org'}}
",
            ana.public(),
            anas_other.public(),
            bia.public(),
            caio.public(),
            dora.public(),
            eva.public(),
        );
        std::fs::write(agent.policy(), policy).unwrap();
        agent.configure("interval: 1s\nreconnect_max: 100ms\nlanguage: en\n").unwrap();
        let file = site.folder().join("effects");
        let (data, address) = (site.data_dir(), site.southbound());
        site.stop_coordinator().await.unwrap();
        let captor = Captor::seize(&data, address).await.unwrap();
        agent.start().unwrap();
        let held = captor.hold(Duration::ZERO).await.unwrap();
        Self { _site: site, agent, captor, held, host, file, ana, anas_other, bia, dora, eva, caio }
    }

    /// A plan that writes `word` into the file. `class` R3 takes the command
    /// that the policy puts there.
    fn plan(&self, class: &str, word: &str) -> Value {
        let line = append(word, &self.file);
        let params = if class == "R3" {
            json!({"command": "/usr/bin/env", "args": ["sh", "-c", line]})
        } else {
            json!({"command": "/bin/sh", "args": ["-c", line]})
        };
        json!({"v": 1, "action_id": uuid::Uuid::now_v7(), "host_id": self.host, "kind": "command.exec",
            "params": params, "pre_state": null, "risk_class": class, "requested_by": "dora",
            "issued_at": time_at(Duration::ZERO).unwrap(), "expires_at": time_at(Duration::hours(1)).unwrap()})
    }

    /// Sends `plan` with `signatures` and answers the result.
    async fn order(&mut self, plan: &str, signatures: Value) -> Value {
        let action_id = serde_json::from_str::<Value>(plan).unwrap()["action_id"].clone();
        let frame = json!({"method": "command.exec", "action_id": action_id, "plan": plan, "signatures": signatures});
        self.held.order(&frame).await.unwrap()
    }

    /// Sends an order that must be refused for `reason`.
    async fn refused(&mut self, what: &str, plan: &str, signatures: Value, reason: &str) -> Value {
        let result = self.order(plan, signatures).await;
        assert_eq!((&result["state"], &result["reason"]), (&json!("refused"), &json!(reason)), "{what}: {result}");
        assert!(!self.file.exists(), "{what} had an effect");
        result
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_coordinator_runs_nothing_above_the_unsigned_class() {
    let mut scene = Scene::new().await;

    let plan = scene.plan("R2", "bad").to_string();
    let refused = scene.refused("an order without a signature", &plan, json!([]), "signature_required").await;
    assert_eq!(refused["required_class"], "R2");
    let mut modest = scene.plan("R2", "bad");
    modest["risk_class"] = json!("R1");
    let signed = scene.ana.sign(&modest.to_string());
    for (what, signatures) in [("unsigned", json!([])), ("signed by one who saw R1", json!([signed]))] {
        // A repeat would be answered from the journal.
        let mut plan = modest.clone();
        plan["action_id"] = json!(uuid::Uuid::now_v7());
        let refused = scene.refused(what, &plan.to_string(), signatures, "signature_required").await;
        assert_eq!(refused["required_class"], "R2", "a plan that claims R1 for what the policy makes R2, {what}");
    }

    let stranger = Person::new("mallory").unwrap();
    let impostor = Person::new("ana").unwrap();
    let plan = scene.plan("R2", "bad").to_string();
    scene
        .refused("an operator whom the policy does not list", &plan, json!([stranger.sign(&plan)]), "bad_signature")
        .await;
    let plan = scene.plan("R2", "bad").to_string();
    scene.refused("a listed operator with another key", &plan, json!([impostor.sign(&plan)]), "bad_signature").await;
    let plan = scene.plan("R2", "bad").to_string();
    let mut forged = impostor.sign(&plan);
    forged["key_id"] = json!(scene.ana.key_id());
    scene.refused("another key under a listed key's id", &plan, json!([forged]), "bad_signature").await;
    let plan = scene.plan("R2", "bad").to_string();
    let mut lent = scene.ana.sign(&plan);
    lent["operator"] = json!("bia");
    scene.refused("a signature under another's name", &plan, json!([lent]), "bad_signature").await;
    let plan = scene.plan("R2", "bad").to_string();
    scene.refused("an operator whose roles sign nothing", &plan, json!([scene.eva.sign(&plan)]), "bad_signature").await;
    let plan = scene.plan("R2", "bad").to_string();
    let beside = json!([scene.ana.sign(&plan), stranger.sign(&plan)]);
    scene.refused("a stranger beside a good signature", &plan, beside, "bad_signature").await;
    let plan = scene.plan("R2", "bad").to_string();
    let many: Vec<Value> = (0..200).map(|_| scene.ana.sign(&plan)).collect();
    scene.refused("a flood of signatures", &plan, json!(many), "bad_signature").await;

    // Good by itself, and sent once: it has its effect once.
    let good = scene.plan("R2", "good").to_string();
    let signature = scene.ana.sign(&good);
    let mut changed: Value = serde_json::from_str(&good).unwrap();
    changed["params"]["args"][1] = json!(append("bad", &scene.file));
    changed["action_id"] = json!(uuid::Uuid::now_v7());
    scene.refused("a signature under other bytes", &changed.to_string(), json!([signature]), "bad_signature").await;
    let mut other_id: Value = serde_json::from_str(&good).unwrap();
    other_id["action_id"] = json!(uuid::Uuid::now_v7());
    scene.refused("a signature under another id", &other_id.to_string(), json!([signature]), "bad_signature").await;
    let frame = json!({"method": "command.exec", "action_id": uuid::Uuid::now_v7(), "plan": good,
        "signatures": [signature]});
    let result = scene.held.order(&frame).await.unwrap();
    assert_eq!(result["reason"], "wrong_target", "a signed plan under another id: {result}");
    let frame = json!({"method": "service.control", "action_id": uuid::Uuid::now_v7(), "plan": good,
        "signatures": [signature]});
    assert_eq!(scene.held.order(&frame).await.unwrap()["reason"], "wrong_target");
    let mut elsewhere = scene.plan("R2", "bad");
    elsewhere["host_id"] = json!("vm123");
    let elsewhere = elsewhere.to_string();
    scene.refused("a plan for another host", &elsewhere, json!([scene.ana.sign(&elsewhere)]), "wrong_target").await;

    // Nothing on the wire changes the policy or says more than an order may.
    for frame in [
        json!({"method": "policy.update", "policy": {"max_unsigned_class": "R3"}}),
        json!({"method": "operators.set", "operators": [{"name": "mallory", "keys": [stranger.public()]}]}),
        json!({"method": "command.exec", "action_id": uuid::Uuid::now_v7(), "plan": scene.plan("R2", "bad").to_string(),
            "max_unsigned_class": "R3"}),
    ] {
        scene.held.send(&frame).await.unwrap();
        scene.held.expect(|frame| (frame["method"] == "error").then_some(())).await.unwrap();
    }
    let plan = scene.plan("R2", "bad").to_string();
    scene.refused("an order after those", &plan, json!([stranger.sign(&plan)]), "bad_signature").await;

    assert_eq!(scene.run(&good, json!([signature])).await["state"], "done");
    assert_eq!(scene.order(&good, json!([signature])).await["state"], "done", "the journal's answer");
    assert_eq!(count("good", &scene.file), 1);
    assert_eq!(count("bad", &scene.file), 0);
}

impl Scene {
    /// Sends an order and waits for its end.
    async fn run(&mut self, plan: &str, signatures: Value) -> Value {
        let result = self.order(plan, signatures).await;
        assert_ne!(result["state"], "refused", "{result}");
        result
    }
}

/// Who signs, how, and the reason for which the host refuses.
type Case<'a> = (&'a str, &'a dyn Fn(&Scene, &str) -> Value, &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_two_people_takes_two_whatever_the_coordinator_says() {
    let mut scene = Scene::new().await;
    let cases: [Case<'_>; 8] = [
        ("nobody", &|_, _| json!([]), "signature_required"),
        ("one alone", &|scene, plan| json!([scene.bia.sign(plan)]), "signature_required"),
        ("the same twice", &|scene, plan| json!([scene.bia.sign(plan), scene.bia.sign(plan)]), "bad_signature"),
        (
            "one person with two keys",
            &|scene, plan| json!([scene.ana.sign(plan), scene.anas_other.sign(plan)]),
            "bad_signature",
        ),
        ("the one who asked", &|scene, plan| json!([scene.bia.sign(plan), scene.dora.sign(plan)]), "bad_signature"),
        ("one without a role", &|scene, plan| json!([scene.bia.sign(plan), scene.eva.sign(plan)]), "bad_signature"),
        (
            "one invalid",
            &|scene, plan| json!([scene.bia.sign(plan), scene.ana.sign(&format!("{plan} "))]),
            "bad_signature",
        ),
        (
            "a third beside two",
            &|scene, plan| {
                let mallory = Person::new("mallory").unwrap();
                json!([scene.bia.sign(plan), scene.ana.sign(plan), mallory.sign(plan)])
            },
            "bad_signature",
        ),
    ];
    for (what, sign, reason) in cases {
        let plan = scene.plan("R3", "bad").to_string();
        let signatures = sign(&scene, &plan);
        scene.refused(what, &plan, signatures, reason).await;
    }
    // Two people of whom none leads: dora did not ask for this one.
    let mut plan = scene.plan("R3", "bad");
    plan["requested_by"] = json!("mallory");
    let plan = plan.to_string();
    let signatures = json!([scene.ana.sign(&plan), scene.dora.sign(&plan)]);
    scene.refused("two without a lead", &plan, signatures, "signature_required").await;

    let plan = scene.plan("R3", "good").to_string();
    let signatures = json!([scene.bia.sign(&plan), scene.ana.sign(&plan)]);
    assert_eq!(scene.run(&plan, signatures.clone()).await["state"], "done");
    assert_eq!(scene.order(&plan, signatures).await["state"], "done");
    assert_eq!((count("good", &scene.file), count("bad", &scene.file)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_signs_only_where_and_how_the_hosts_policy_says() {
    let mut scene = Scene::new().await;
    let right = Ceremony::default();
    let wrong = [
        ("another origin", Ceremony { origin: "https://farol.example.com".to_owned(), ..right.clone() }),
        ("another site", Ceremony { rp_id: "example.org".to_owned(), ..right.clone() }),
        ("another challenge", Ceremony { challenge: Some("AAAA".to_owned()), ..right.clone() }),
        ("a registration", Ceremony { kind: "webauthn.create".to_owned(), ..right.clone() }),
        ("nobody present", Ceremony { flags: 4, ..right.clone() }),
        ("nobody verified", Ceremony { flags: 1, ..right.clone() }),
    ];
    for (what, how) in wrong {
        let plan = scene.plan("R2", "bad").to_string();
        let signature = scene.caio.sign(&plan, &how).unwrap();
        scene.refused(what, &plan, json!([signature]), "bad_signature").await;
    }
    let plan = scene.plan("R2", "bad").to_string();
    let mut cut = scene.caio.sign(&plan, &right).unwrap();
    cut.as_object_mut().unwrap().remove("client_data");
    scene.refused("an assertion without its client data", &plan, json!([cut]), "bad_signature").await;
    let plan = scene.plan("R2", "bad").to_string();
    let other = scene.caio.sign(&scene.plan("R2", "good").to_string(), &right).unwrap();
    scene.refused("an assertion for another plan", &plan, json!([other]), "bad_signature").await;

    let plan = scene.plan("R3", "good").to_string();
    let signatures = json!([scene.caio.sign(&plan, &right).unwrap(), scene.ana.sign(&plan)]);
    assert_eq!(scene.run(&plan, signatures).await["state"], "done");
    assert_eq!((count("good", &scene.file), count("bad", &scene.file)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_order_lives_by_the_hosts_own_clock_and_is_never_run_again() {
    let mut scene = Scene::new().await;
    let expired = |scene: &Scene| {
        let mut plan = scene.plan("R2", "bad");
        plan["issued_at"] = json!(time_at(Duration::minutes(-60)).unwrap());
        plan["expires_at"] = json!(time_at(Duration::minutes(-2)).unwrap());
        plan.to_string()
    };
    let plan = expired(&scene);
    scene.refused("an order of an hour ago", &plan, json!([scene.ana.sign(&plan)]), "expired").await;
    // A coordinator that turns its clock back does not bring the hour back.
    scene.held.claim_time(Duration::minutes(-4)).await.unwrap();
    let plan = expired(&scene);
    scene.refused("with a clock 4 minutes slow", &plan, json!([scene.ana.sign(&plan)]), "expired").await;
    for offset in [Duration::minutes(-6), Duration::minutes(6), Duration::days(-400)] {
        scene.held.claim_time(offset).await.unwrap();
        let plan = scene.plan("R2", "bad").to_string();
        let sent = scene.order(&plan, json!([scene.ana.sign(&plan)])).await;
        assert_eq!((&sent["state"], &sent["reason"]), (&json!("refused"), &json!("clock_skew")), "{offset}: {sent}");
    }

    scene.held.claim_time(Duration::minutes(4)).await.unwrap();
    let good = scene.plan("R2", "good").to_string();
    let signatures = json!([scene.ana.sign(&good)]);
    assert_eq!(scene.run(&good, signatures.clone()).await["state"], "done");
    // The journal forgets what expired long ago, and looks for that when it
    // connects: not by a clock that the coordinator turned forward.
    scene.agent.stop().await.unwrap();
    scene.agent.start().unwrap();
    scene.held = scene.captor.hold(Duration::days(400)).await.unwrap();
    scene.held.expect(|frame| (frame["method"] == "telemetry.push").then_some(())).await.unwrap();
    scene.held.claim_time(Duration::ZERO).await.unwrap();
    let again = scene.order(&good, signatures).await;
    assert_eq!((&again["state"], count("good", &scene.file)), (&json!("done"), 1), "{again}");
    assert_eq!(count("bad", &scene.file), 0);
}
