//! What tests of looks share: a place to ask from, and integrations with
//! stand-ins.

use std::{collections::BTreeMap, time::Duration};

use farol_protocol::{Language, Timestamp};
use farol_tests::product::Product;
use serde_json::{Value, json};

use super::Asking;
use crate::integrations::{Connection, Kind, Secret, Tls, http::Clients};

/// 2026-11-21 12:00 UTC.
pub(super) const NOW: i64 = 1_795_262_400;

/// Asks in English, at [`NOW`], for at most 5 s.
pub(super) fn asking(clients: &Clients) -> Asking<'_> {
    Asking { language: Language::En, limit: Duration::from_secs(5), now: Timestamp::from_ms(NOW * 1000), clients }
}

/// An integration with a stand-in, whose certificate is pinned.
pub(super) fn connection(kind: Kind, product: &Product, user: Option<&str>, secret: &str) -> Connection {
    Connection {
        id: "i-1".to_owned(),
        name: "casa".to_owned(),
        kind,
        site: None,
        endpoints: vec![product.url()],
        tls: Tls::Pin(product.pin()),
        user: user.map(str::to_owned),
        secret: Some(Secret::new(secret.to_owned())),
        is_locked: false,
        tags: Vec::new(),
        options: BTreeMap::new(),
    }
}

/// Any JSON at all, with keys and words that the systems use among others.
pub(super) fn arbitrary(random: &mut fastrand::Rng, depth: u32) -> Value {
    const WORDS: [&str; 28] = [
        "type",
        "node",
        "cluster",
        "qemu",
        "storage",
        "online",
        "status",
        "running",
        "vmid",
        "1e999",
        "-1",
        "",
        "name",
        "items",
        "subsystems",
        "metadata",
        "used_pct",
        "∞\u{202e}",
        "none",
        "loss",
        "12 ms",
        "data",
        "connection",
        "total",
        "disconnected",
        "affected_items",
        "last_check",
        "Thu Nov 20 10:11:12 +9999 -2026",
    ];
    let word = |random: &mut fastrand::Rng| WORDS[random.usize(..WORDS.len())].to_owned();
    match random.u8(..if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.bool()),
        2 => json!(random.i64(..)),
        3 => json!(random.f64() * 1e300),
        4 => json!(u64::MAX),
        5 => json!(word(random)),
        6 => Value::Array((0..random.usize(..5)).map(|_| arbitrary(random, depth - 1)).collect()),
        _ => Value::Object((0..random.usize(..6)).map(|_| (word(random), arbitrary(random, depth - 1))).collect()),
    }
}

/// A list of good rows in which anything may be replaced by anything.
pub(super) fn disturbed(random: &mut fastrand::Rng, value: &Value) -> Value {
    if random.u8(..12) == 0 {
        return arbitrary(random, 2);
    }
    match value {
        Value::Array(rows) => Value::Array(rows.iter().map(|row| disturbed(random, row)).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), disturbed(random, value))).collect())
        }
        other => other.clone(),
    }
}
