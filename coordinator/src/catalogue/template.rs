//! Filling parameters into the texts of steps.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether a parameter can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The parts of a text: what stands there, and names in braces. Braces around
/// anything that is no name are text.
fn parts(text: &str) -> impl Iterator<Item = Result<&str, &str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(name) = rest.strip_prefix('{').and_then(|after| after.split_once('}')).map(|(name, _)| name)
            && is_name(name)
        {
            rest = &rest[name.len() + 2..];
            return Some(Err(name));
        }
        let end = rest.char_indices().skip(1).find(|(_, c)| *c == '{').map_or(rest.len(), |(at, _)| at);
        let (before, after) = rest.split_at(end);
        rest = after;
        Some(Ok(before))
    })
}

/// Every name that the texts of a document want.
pub(super) fn names(document: &Value) -> impl Iterator<Item = &str> {
    let mut found = Vec::new();
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => found.extend(parts(text).filter_map(Result::err)),
            Value::Array(list) => open.extend(list),
            Value::Object(map) => open.extend(map.values()),
            _ => {}
        }
    }
    found.into_iter()
}

/// The document with its names replaced. A value that was filled in is not
/// looked at again, so one with braces stays what it is; keys are never
/// touched. Numbers are texts within a text.
pub(super) fn fill(document: &Value, values: &BTreeMap<&str, Value>) -> Value {
    match document {
        Value::String(text) => Value::String(
            parts(text)
                .map(|part| match part {
                    Ok(text) => text.to_owned(),
                    Err(name) => match values.get(name) {
                        Some(Value::String(value)) => value.clone(),
                        Some(value) => value.to_string(),
                        None => format!("{{{name}}}"),
                    },
                })
                .collect(),
        ),
        Value::Array(list) => list.iter().map(|value| fill(value, values)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), fill(value, values))).collect(),
        other => other.clone(),
    }
}
