//! The exported schemas and the Rust types take and refuse the same documents.
#![expect(clippy::unwrap_used, reason = "a document that cannot be read fails the test")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use farol_protocol::{FromAgent, Plan, ToAgent, frame, legacy, registry::Registry, schema};
use jsonschema::Validator;
use serde_json::{Value, json};

fn folder(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn validators() -> BTreeMap<&'static str, Validator> {
    let build = |(name, document): (&'static str, Value)| {
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&document);
        (name, validator.unwrap_or_else(|error| panic!("{name} is no schema: {error}")))
    };
    schema::documents().into_iter().map(build).collect()
}

/// Each fixture with the name of its schema.
fn fixtures() -> Vec<(String, &'static str, Value)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder("fixtures/v1")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut frame: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let schema = match file.split_once('.').unwrap() {
            ("from-agent", _) => "from-agent",
            ("to-agent", rest) if rest.starts_with("hello-answer") => "hello-answer",
            ("to-agent", _) => "to-agent",
            ("enrol", "request.json") => "enrol-request",
            ("enrol", _) => "enrol-answer",
            ("renew", "request.json") => "renew-request",
            ("renew", _) => "renew-answer",
            ("plan", _) => "plan",
            ("legacy", "hello.json") => {
                // The type is read once the method is known, so its fixture has none.
                frame["method"] = json!("hello");
                "legacy-from-agent"
            }
            ("legacy", "hello-answer.json" | "command-exec.json") => "legacy-to-agent",
            ("legacy", _) => "legacy-from-agent",
            _ => panic!("no schema is known for {file}"),
        };
        all.push((file, schema, frame));
    }
    all
}

/// What the Rust types say to a document; none where they do not read it.
fn types_take(schema: &str, document: &Value) -> Option<bool> {
    fn reads<T: serde::de::DeserializeOwned>(text: &str) -> bool {
        serde_json::from_str::<T>(text).is_ok()
    }
    let text = document.to_string();
    Some(match schema {
        "from-agent" => FromAgent::parse(&text).is_ok(),
        "to-agent" => ToAgent::parse(&text).is_ok(),
        "hello-answer" => reads::<frame::HelloAnswer>(&text),
        "enrol-request" => reads::<frame::EnrolRequest>(&text),
        "enrol-answer" => reads::<frame::EnrolAnswer>(&text),
        "renew-request" => reads::<frame::RenewRequest>(&text),
        "renew-answer" => reads::<frame::RenewAnswer>(&text),
        "plan" => Plan::parse(&text).is_ok(),
        "legacy-from-agent" if document["method"] == "hello" => reads::<legacy::Hello>(&text),
        "legacy-from-agent" => legacy::FromAgent::parse(&text).is_ok(),
        _ => return None,
    })
}

/// Places of a document, as pointers, the root first.
fn places(document: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match document {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// The document with one thing changed: each object gets an unknown field and
/// loses each of its fields, each value becomes something else.
fn mutations(document: &Value) -> Vec<(String, Value)> {
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1_u64 << 40),
        json!(""),
        json!("x"),
        json!("a\u{0}b"),
        json!([]),
        json!({}),
        json!([1]),
        json!(["x"]),
    ];
    let mut found = Vec::new();
    places(document, "", &mut found);
    let mut all = Vec::new();
    for place in found {
        if document.pointer(&place).unwrap().is_object() {
            let mut more = document.clone();
            more.pointer_mut(&place).unwrap()["unheard_of"] = json!(1);
            all.push((format!("`unheard_of` at `{place}`"), more));
        }
        if let Some((parent, key)) = place.rsplit_once('/') {
            let mut less = document.clone();
            match less.pointer_mut(parent).unwrap() {
                Value::Object(fields) => drop(fields.remove(key)),
                Value::Array(items) => drop(items.remove(key.parse().unwrap())),
                _ => unreachable!("only objects and lists have places below them"),
            }
            all.push((format!("nothing at `{place}`"), less));
        }
        for other in &others {
            let mut changed = document.clone();
            *changed.pointer_mut(&place).unwrap() = other.clone();
            all.push((format!("{other} at `{place}`"), changed));
        }
    }
    all
}

#[test]
fn each_fixture_is_valid_by_its_schema_and_the_plan_in_an_order_by_that_of_plans() {
    let validators = validators();
    for (file, schema, frame) in fixtures() {
        if let Err(error) = validators[schema].validate(&frame) {
            panic!("{file} is not valid by {schema}: {error} at {}", error.instance_path());
        }
        if let Some(plan) = frame["plan"].as_str() {
            let plan = serde_json::from_str(plan).unwrap();
            assert!(validators["plan"].is_valid(&plan), "{file}: the plan is not valid");
        }
    }
}

/// Where a schema refuses more than the types: serde reads a list as an object
/// whose fields come in order, and the hash in a `pre_state` is only compared.
fn stricter(what: &str, changed: &Value, original: &Value) -> bool {
    let Some((_, place)) = what.split_once(" at `") else { return false };
    let place = place.trim_end_matches('`');
    let at = |document: &Value| document.pointer(place).cloned().unwrap_or_default();
    at(changed).is_array() && at(original).is_object()
        || place.starts_with("/pre_state/") && place.ends_with("/file_sha256")
}

#[test]
fn a_changed_fixture_is_taken_by_the_schema_exactly_when_the_types_take_it() {
    let validators = validators();
    let (mut refused, mut taken) = (0, 0);
    let mut differ = Vec::new();
    for (file, schema, frame) in fixtures() {
        for (what, changed) in mutations(&frame) {
            let Some(types) = types_take(schema, &changed) else { continue };
            if types == validators[schema].is_valid(&changed) {
                *(if types { &mut taken } else { &mut refused }) += 1;
            } else if types && stricter(&what, &changed, &frame) {
                refused += 1;
            } else {
                let who = if types { "only the types take" } else { "only the schema takes" };
                differ.push(format!("{file}: {who} {what}"));
            }
        }
    }
    assert!(differ.is_empty(), "{} differences:\n{}", differ.len(), differ.join("\n"));
    assert!(refused > 1000 && taken > 100, "{refused} refused, {taken} taken: the fixtures are not changed enough");
}

#[test]
fn what_is_closed_refuses_a_field_that_nobody_knows_and_what_is_open_ignores_it() {
    let validators = validators();
    let open = ["hello.json", "hello-full.json", "hello-answer.json", "hello-answer-backlog.json", "answer.json"];
    for (file, schema, mut frame) in fixtures() {
        frame["unheard_of"] = json!(1);
        let is_open = open.iter().any(|name| file.ends_with(&format!(".{name}")));
        let own_answer = schema == "legacy-to-agent";
        if !own_answer {
            assert_eq!(validators[schema].is_valid(&frame), is_open, "{file}");
        }
    }
}

#[test]
fn documents_that_the_types_refuse_are_refused_by_the_schema_too() {
    let id = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a";
    let at = "2026-11-20T12:00:00Z";
    let plan = |kind: &str, params: Value| {
        json!({"v": 1, "action_id": id, "host_id": "vm112", "kind": kind, "params": params, "pre_state": null,
            "risk_class": "R1", "requested_by": "A7", "issued_at": at, "expires_at": at})
    };
    let push =
        |payload: Value| json!({"method": "telemetry.push", "stream": id, "seq": 1, "ts": at, "payload": payload});
    let sha = "0".repeat(64);
    let cases = [
        ("from-agent", json!({})),
        ("from-agent", json!([])),
        ("from-agent", json!({"method": "reboot.now"})),
        ("from-agent", json!({"method": "heartbeat", "timestamp": "yesterday"})),
        ("from-agent", json!({"method": "heartbeat", "timestamp": "2026-11-20 12:00"})),
        ("from-agent", json!({"method": "action.accepted", "action_id": "12", "journal": {"id": id, "seq": 1}})),
        ("from-agent", json!({"method": "action.accepted", "action_id": id, "journal": {"id": id, "seq": -1}})),
        ("from-agent", push(json!({"reports": [{"check": "a b", "status": "ok", "text": "", "observed_at": at}]}))),
        ("from-agent", push(json!({"reports": [{"check": "a", "status": "fine", "text": "", "observed_at": at}]}))),
        ("from-agent", push(json!({"metrics": {"load": [1, 2]}}))),
        ("from-agent", push(json!({"gaps": [{"first_seq": 1, "last_seq": 2, "from": at, "to": at, "why": "x"}]}))),
        ("to-agent", json!({"method": "command.exec", "action_id": id})),
        ("to-agent", json!({"method": "command.exec", "action_id": id, "plan": {}})),
        ("to-agent", json!({"method": "action.cancel", "action_id": id, "reason": "x"})),
        (
            "to-agent",
            json!({"method": "command.exec", "action_id": id, "plan": "", "signatures": [
                {"operator": "ana", "key_id": "k", "alg": "rsa", "signature": ""}]}),
        ),
        (
            "to-agent",
            json!({"method": "checks.assign", "version": "1", "checks": [
                {"id": "a", "every_ms": 1, "timeout_ms": 1, "probe": {"icmp": {"host": "x"}}}]}),
        ),
        (
            "to-agent",
            json!({"method": "checks.assign", "version": "1", "checks": [
                {"id": "..", "every_ms": 1, "timeout_ms": 1, "probe": {"memory": {}}}]}),
        ),
        ("enrol-request", json!({"token": "t", "csr": "c", "host": "vm112"})),
        ("plan", plan("guest.delete", json!({}))),
        ("plan", plan("command.exec", json!({"command": ""}))),
        ("plan", plan("command.exec", json!({"command": "id", "shell": true}))),
        ("plan", plan("command.exec", json!({"command": "id", "timeout": 0}))),
        ("plan", plan("command.exec", json!({"command": "id", "timeout": 3_600_001}))),
        ("plan", plan("command.exec", json!({"command": "id", "cwd": "tmp"}))),
        ("plan", plan("command.exec", json!({"command": "id", "args": ["a\u{0}"]}))),
        ("plan", plan("command.exec", json!({"service": "portal", "verb": "restart"}))),
        ("plan", plan("service.control", json!({"service": "portal", "verb": "purge"}))),
        ("plan", plan("service.control", json!({"service": "", "verb": "stop"}))),
        ("plan", plan("file.diff", json!({"path": "/etc/../shadow", "want": ""}))),
        ("plan", plan("file.diff", json!({"path": "etc/motd", "want": ""}))),
        ("plan", plan("file.diff", json!({"path": "/etc//motd", "want": ""}))),
        ("plan", plan("file.diff", json!({"path": "/etc/", "want": ""}))),
        ("plan", plan("file.apply", json!({"path": "/a"}))),
        ("plan", plan("file.apply", json!({"path": "/a", "patch": "", "content": ""}))),
        ("plan", plan("file.apply", json!({"path": "/a", "patch": ""}))),
        ("plan", plan("file.apply", json!({"path": "/a", "content": "", "expected_sha256": "A"}))),
        ("plan", plan("file.apply", json!({"path": "/a", "content": "", "mode": 0o1777}))),
        ("plan", plan("logs.read", json!({"source": {"unit": "a", "path": "/b"}}))),
        ("plan", plan("logs.read", json!({"source": {"unit": "a"}, "lines": 10_001}))),
        ("plan", plan("logs.read", json!({"source": {"path": "var/log"}}))),
        ("legacy-from-agent", json!({"ok": true, "extra": 1})),
        ("legacy-from-agent", json!({"method": 7})),
        ("legacy-from-agent", json!({"method": "telemetry.push", "action_id": id, "payload": [], "ts": at})),
    ];
    let validators = validators();
    for (schema, document) in cases {
        assert_eq!(types_take(schema, &document), Some(false), "the types take {document}");
        assert!(!validators[schema].is_valid(&document), "{schema} takes {document}");
    }
    // The same plan with good params, so that the refusals above are about them.
    for (kind, params) in [
        ("command.exec", json!({"command": "id", "args": ["-u"], "cwd": "/", "timeout": 3_600_000})),
        ("file.apply", json!({"path": "/a/..b/c", "patch": "", "expected_sha256": sha})),
        ("file.apply", json!({"path": "/a", "content": "", "expected_sha256": null, "patch": null})),
        ("logs.read", json!({"source": {"path": "/var/log/syslog"}, "since": at, "lines": 1})),
    ] {
        let good = plan(kind, params);
        assert_eq!(types_take("plan", &good), Some(true), "{good}");
        assert!(validators["plan"].is_valid(&good), "{good}");
    }
}

#[test]
fn a_frame_to_an_older_peer_has_no_field_that_it_does_not_know() {
    let frame = json!({"method": "command.exec", "action_id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4a",
        "command": "/usr/bin/uptime", "args": [], "timeout": 5000, "cwd": "/"});
    let validator = &validators()["legacy-to-agent"];
    assert!(validator.is_valid(&frame));
    for field in ["method", "action_id", "command", "args", "timeout", "cwd"] {
        let mut less = frame.clone();
        less.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&less), "`{field}` may be missing");
    }
}

#[test]
fn the_reading_of_a_shell_agent_is_valid_with_and_without_its_optional_parts() {
    let full = json!({"hostname": "pfsense", "timestamp": "2026-11-20T09:00:00-03:00", "processes": "1 init 0.0 0.1",
        "netstat": "Total: 10", "iostat": "", "os": {"hostname": "pfsense", "load": [0.1, 0.2, 0.3],
        "mem": {"total": 1024, "free": 512}}});
    let validator = &validators()["ingest"];
    assert!(validator.is_valid(&full));
    for (place, bad) in [
        ("/hostname", json!("")),
        ("/timestamp", json!("now")),
        ("/processes", json!([])),
        ("/os/load", json!([1, 2])),
        ("/os/mem/free", json!("512")),
    ] {
        let mut changed = full.clone();
        *changed.pointer_mut(place).unwrap() = bad;
        assert!(!validator.is_valid(&changed), "{place}");
    }
}

#[test]
fn the_shipped_registries_are_valid_and_a_misspelt_key_is_not() {
    let validator = &validators()["registry"];
    for path in ["../registry.yaml", "../xtask/demo.registry.yaml"] {
        let text = fs::read_to_string(folder(path)).unwrap();
        let document: Value = farol_protocol::yaml::read(&text).unwrap();
        if let Err(error) = validator.validate(&document) {
            panic!("{path}: {error} at {}", error.instance_path());
        }
        let wrong = text.replacen("severity:", "severty:", 1);
        assert!(Registry::parse(&wrong, &|_| None).is_err());
        assert!(!validator.is_valid(&farol_protocol::yaml::read(&wrong).unwrap()), "{path}");
    }
}

#[test]
fn the_schemas_in_docs_are_those_of_the_types() {
    let shelf = folder("../docs/schema/v1");
    let documents = schema::documents();
    let how = "run `cargo run --bin farol -- schema --out docs/schema/v1` and commit what it writes";
    for (name, document) in &documents {
        let written = fs::read_to_string(shelf.join(format!("{name}.json"))).unwrap_or_default();
        let same = serde_json::from_str::<Value>(&written).is_ok_and(|written| written == *document);
        assert!(same, "docs/schema/v1/{name}.json is out of date; {how}");
    }
    for entry in fs::read_dir(&shelf).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(documents.contains_key(name), "docs/schema/v1/{name}.json is of no document; remove it");
    }
}
