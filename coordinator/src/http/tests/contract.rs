//! `docs/contracts/agent-platform-api.md` says what the API does.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::Value;

use crate::{
    http::{
        document,
        permissions::{self, Found, Permission},
    },
    roster::Role,
};

const PAGE: &str = include_str!("../../../../docs/contracts/agent-platform-api.md");
const CODES: &str = include_str!("../problem.rs");

/// Sections of the page by their heading, such as `GET /api/v1/agents/roster`.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let sections = PAGE.split("\n### ").skip(1);
    sections.map(|section| section.split_once('\n').expect("a heading and its text")).collect()
}

/// The line of a section that begins with `name`.
fn line<'a>(section: &'a str, name: &str) -> &'a str {
    let mut lines = section.lines();
    lines.find_map(|line| line.strip_prefix(&format!("- {name}: "))).unwrap_or_else(|| panic!("no {name}: {section}"))
}

/// Words in back-ticks.
fn quoted(line: &str) -> BTreeSet<String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn who(permission: Permission) -> String {
    match permission {
        Permission::Public => "anyone, without a token".to_owned(),
        Permission::Internal => "whoever holds the internal token".to_owned(),
        other if other.roles() == Role::ALL => "any role".to_owned(),
        other => other.roles().iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", "),
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).expect("a schema"),
        None => schema,
    }
}

/// Wants each field of the schema in the example and each of the example in the schema.
fn compare(document: &Value, schema: &Value, example: &Value, at: &str) {
    let schema = resolved(document, schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let other = alternatives.iter().find(|one| one["type"] != "null").expect("something but null");
        if !example.is_null() {
            compare(document, other, example, at);
        }
    } else if let Some(properties) = schema["properties"].as_object() {
        let known: BTreeSet<&String> = properties.keys().collect();
        let shown: BTreeSet<&String> =
            example.as_object().unwrap_or_else(|| panic!("{at} is no object")).keys().collect();
        assert_eq!(shown, known, "{at}: the example against the schema");
        for (name, property) in properties {
            compare(document, property, &example[name], &format!("{at}.{name}"));
        }
    } else if schema["items"].is_object() {
        for item in example.as_array().unwrap_or_else(|| panic!("{at} is no list")) {
            compare(document, &schema["items"], item, &format!("{at}[]"));
        }
    }
}

#[test]
fn the_contract_of_the_agent_platform_is_what_the_api_does() {
    let document = serde_json::to_value(document()).expect("serializable");
    let sections = sections();
    let mut routes = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            if path.starts_with("/api/v1/agents/") {
                routes.insert(format!("{} {path}", method.to_uppercase()));
                let method: Method = method.to_uppercase().parse().expect("a method");
                one(&document, &sections, &method, path, operation);
            }
        }
    }
    assert_eq!(sections.keys().map(|heading| (*heading).to_owned()).collect::<BTreeSet<_>>(), routes);
}

fn one(document: &Value, sections: &BTreeMap<&str, &str>, method: &Method, path: &str, operation: &Value) {
    let route = format!("{method} {path}");
    let section = sections.get(route.as_str()).unwrap_or_else(|| panic!("{route} is not on the page"));
    let Found::Row(row) = permissions::find(method, path) else { panic!("{route} has no row") };
    assert_eq!(line(section, "Who"), who(row.permission), "{route}");

    let mut takes: BTreeSet<String> = row.query.iter().map(|name| (*name).to_owned()).collect();
    let body = resolved(document, &operation["requestBody"]["content"]["application/json"]["schema"]);
    takes.extend(body["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()));
    assert_eq!(quoted(line(section, "Takes")), takes, "{route} takes");

    let answers = operation["responses"].as_object().expect("answers");
    let (status, answer) = answers.iter().find(|(status, _)| *status != "default").expect("an answer");
    assert!(line(section, "Answers").starts_with(&format!("{status}, ")), "{route} answers {status}");
    let example = section.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = serde_json::from_str(example.unwrap_or_else(|| panic!("{route} has no example")));
    let example: Value = example.unwrap_or_else(|error| panic!("{route}: the example is no JSON: {error}"));
    compare(document, &answer["content"]["application/json"]["schema"], &example, &route);

    let errors = quoted(line(section, "Errors"));
    for code in &errors {
        assert!(CODES.contains(&format!("\"{code}\"")), "{route}: no error has the code {code}");
    }
    let narrow = !row.permission.roles().is_empty() && row.permission.roles() != Role::ALL;
    assert_eq!(errors.contains("forbidden"), narrow, "{route}: who is forbidden");
    assert_eq!(errors.contains("invalid_body"), operation["requestBody"].is_object(), "{route}: bodies");
}

#[test]
fn the_table_of_errors_in_the_contract_has_known_codes_with_their_status() {
    let table = PAGE.split("\n\n").find(|part| part.starts_with("| code |")).expect("a table");
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let codes = quoted(cells[1]);
        assert!(!codes.is_empty(), "{row}");
        for code in codes {
            assert!(CODES.contains(&format!("\"{code}\"")), "no error has the code {code}");
        }
    }
}
