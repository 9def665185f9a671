//! Seeded changes of an input: the same seed makes the same change.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Words and characters that mean something to what reads them.
const TOKENS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "1.5",
    "18446744073709551616",
    "9007199254740993",
    "\n",
    "\r",
    "\t",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "é",
    "'",
    "- ",
    "  ",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|\n",
    "${",
    "}",
    "**",
    "..",
    "/",
    "version",
];

/// The input with one to four changes.
#[must_use]
pub fn mutate(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let Some(seed) = rng.choice(seeds) else { return Vec::new() };
    let mut bytes = seed.clone();
    // Half of the JSON inputs keep their syntax, so that the rules behind it are reached.
    if let Ok(mut value) = serde_json::from_slice::<Value>(&bytes)
        && rng.bool()
    {
        for _ in 0..rng.u8(1..=2) {
            change_value(&mut value, seeds, rng);
        }
        return value.to_string().into_bytes();
    }
    for _ in 0..rng.u8(1..=4) {
        change_bytes(&mut bytes, seeds, rng);
    }
    bytes
}

fn change_bytes(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(0..=bytes.len());
    let end = (at + rng.usize(0..=16)).min(bytes.len());
    match rng.u8(0..8) {
        0 => bytes.insert(at, rng.u8(..)),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.truncate(at),
        3 => {
            let token = rng.choice(TOKENS).unwrap_or_default();
            bytes.splice(at..at, token.bytes());
        }
        4 => {
            let token = rng.choice(TOKENS).unwrap_or_default();
            bytes.splice(at..end, token.bytes());
        }
        5 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => {
            // A line goes, comes twice or moves.
            let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let (from, to) = (rng.usize(0..lines.len()), rng.usize(0..lines.len()));
            match rng.u8(0..3) {
                0 => drop(lines.remove(from)),
                1 => lines.insert(to, lines[from].clone()),
                _ => lines.swap(from, to),
            }
            *bytes = lines.join(&b'\n');
        }
        _ => {
            if let Some(other) = rng.choice(seeds) {
                let from = rng.usize(0..=other.len());
                let to = (from + rng.usize(0..=64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
}

fn change_value(value: &mut Value, seeds: &[Vec<u8>], rng: &mut Rng) {
    let descend = rng.u8(0..4) > 0;
    match value {
        Value::Object(fields) if !fields.is_empty() && descend => {
            let index = rng.usize(0..fields.len());
            if let Some(inner) = fields.values_mut().nth(index) {
                change_value(inner, seeds, rng);
            }
        }
        Value::Array(items) if !items.is_empty() && descend => {
            let index = rng.usize(0..items.len());
            change_value(&mut items[index], seeds, rng);
        }
        Value::Object(fields) if rng.bool() => change_fields(fields, rng),
        _ => *value = other_value(seeds, rng),
    }
}

fn change_fields(fields: &mut Map<String, Value>, rng: &mut Rng) {
    let index = rng.usize(0..=fields.len());
    match fields.keys().nth(index).cloned() {
        Some(key) => drop(fields.remove(&key)),
        None => drop(fields.insert("unheard_of".to_owned(), json!(rng.u8(..)))),
    }
}

fn other_value(seeds: &[Vec<u8>], rng: &mut Rng) -> Value {
    match rng.u8(0..10) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.u64(..)),
        3 => json!(rng.i64(..)),
        4 => json!(f64::from_bits(rng.u64(..))),
        5 => json!(""),
        6 => json!("x".repeat(rng.usize(0..20_000))),
        7 => json!(rng.choice(TOKENS)),
        8 => json!([]),
        _ => {
            // A part of another document.
            let other =
                rng.choice(seeds).and_then(|seed| serde_json::from_slice(seed).ok()).unwrap_or_else(|| json!({}));
            match other {
                Value::Object(fields) if !fields.is_empty() => {
                    let index = rng.usize(0..fields.len());
                    fields.into_iter().nth(index).map_or(Value::Null, |(_, value)| value)
                }
                other => other,
            }
        }
    }
}
