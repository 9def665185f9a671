//! Each frame of protocol v1 is frozen in a file. A file here never changes;
//! a change of the types that breaks one breaks agents that are installed.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be read fails the test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use farol_protocol::{FromAgent, Plan, ToAgent, frame, legacy};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

/// Reads `text` as what its file name says and writes it again.
fn round_trip(name: &str, text: &str) -> Value {
    let (direction, rest) = name.split_once('.').unwrap();
    match (direction, rest) {
        ("from-agent", _) => serde_json::to_value(FromAgent::parse(text).unwrap()).unwrap(),
        ("to-agent", "hello-answer.json" | "hello-answer-backlog.json") => {
            serde_json::to_value(serde_json::from_str::<frame::HelloAnswer>(text).unwrap()).unwrap()
        }
        ("to-agent", _) => serde_json::to_value(ToAgent::parse(text).unwrap()).unwrap(),
        ("enrol", "request.json") => {
            serde_json::to_value(serde_json::from_str::<frame::EnrolRequest>(text).unwrap()).unwrap()
        }
        ("enrol", "answer.json") => {
            serde_json::to_value(serde_json::from_str::<frame::EnrolAnswer>(text).unwrap()).unwrap()
        }
        ("renew", "request.json") => {
            serde_json::to_value(serde_json::from_str::<frame::RenewRequest>(text).unwrap()).unwrap()
        }
        ("renew", "answer.json") => {
            serde_json::to_value(serde_json::from_str::<frame::RenewAnswer>(text).unwrap()).unwrap()
        }
        ("plan", _) => {
            let (plan, _) = Plan::parse(text).unwrap();
            serde_json::to_value(plan).unwrap()
        }
        ("legacy", "hello.json") => serde_json::to_value(serde_json::from_str::<legacy::Hello>(text).unwrap()).unwrap(),
        ("legacy", "hello-answer.json") => {
            serde_json::to_value(serde_json::from_str::<legacy::HelloAnswer>(text).unwrap()).unwrap()
        }
        ("legacy", "command-exec.json") => {
            serde_json::to_value(serde_json::from_str::<legacy::Exec>(text).unwrap()).unwrap()
        }
        ("legacy", _) => match legacy::FromAgent::parse(text).unwrap() {
            legacy::FromAgent::TelemetryPush(push) => serde_json::to_value(push).unwrap(),
            legacy::FromAgent::ExecAnswer(answer) => serde_json::to_value(answer).unwrap(),
        },
        _ => panic!("no frame is called {name}"),
    }
}

#[test]
fn each_fixture_is_read_and_written_again_without_loss() {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let frozen: Value = serde_json::from_str(&text).unwrap();
        let written = round_trip(&name, &text);
        for (key, value) in frozen.as_object().unwrap() {
            assert_eq!(written.get(key), Some(value), "{name}: `{key}` changed");
        }
    }
}

#[test]
fn each_method_has_a_fixture() {
    let methods = |direction: &str| -> BTreeSet<String> {
        fs::read_dir(folder())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(direction))
            .filter_map(|path| {
                let frame: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
                frame.get("method").map(|method| method.as_str().unwrap().to_owned())
            })
            .collect()
    };
    let known = |message: String| -> BTreeSet<String> {
        let (_, list) = message.split_once("expected one of ").unwrap();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let from_agent = serde_json::from_str::<FromAgent>(r#"{"method":"?"}"#).unwrap_err().to_string();
    let to_agent = serde_json::from_str::<ToAgent>(r#"{"method":"?"}"#).unwrap_err().to_string();
    assert_eq!(methods("from-agent"), known(from_agent));
    assert_eq!(methods("to-agent"), known(to_agent));
}
