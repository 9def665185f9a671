//! One thing, in full.

use serde_json::Value;

use super::{Connection, client::Client, lists, output};
use crate::error::Result;

/// A host.
pub(super) async fn host(to: &Connection, name: &str) -> Result<()> {
    let host: Value = Client::new(to)?.get(&["hosts", name], &[]).await?;
    if to.json {
        return output::json(&host);
    }
    output::table(&["HOST", &lists::text(&host, "name")], rows(&host))?;
    let checks = host["checks"].as_array().cloned().unwrap_or_default();
    if checks.is_empty() {
        return Ok(());
    }
    let row = |check: &Value| {
        ["status", "check", "text"].map(|field| lists::text(check, field)).into_iter().collect::<Vec<String>>()
    };
    output::line("")?;
    output::table(&["STATUS", "CHECK", "TEXT"], checks.iter().map(row).collect())
}

fn rows(host: &Value) -> Vec<Vec<String>> {
    let telemetry = &host["telemetry"];
    let count = |field: &str| telemetry[field].as_i64().unwrap_or(0).to_string();
    let gap = &telemetry["last_gap"];
    let lost = match gap["count"].as_i64() {
        Some(last) => {
            let (from, to) = (lists::time(gap, "from"), lists::time(gap, "to"));
            format!("{} batches, last {last} from {from} to {to}", count("lost"))
        }
        None => format!("{} batches", count("lost")),
    };
    let skew = match host["clock_skew_ms"].as_i64() {
        Some(0) => "right".to_owned(),
        Some(ms) if ms > 0 => format!("{ms} ms behind, corrected"),
        Some(ms) => format!("{} ms ahead, corrected", -ms),
        None => "-".to_owned(),
    };
    [
        ("id", lists::text(host, "id")),
        ("state", lists::text(host, "state")),
        ("last seen", lists::time(host, "last_seen")),
        ("agent", lists::text(host, "agent_version")),
        ("certificate", format!("until {}", lists::time(host, "cert_not_after"))),
        ("clock", skew),
        ("received", format!("{} batches", count("received"))),
        ("backfilled", format!("{} of them", count("backfilled"))),
        ("backlog", format!("{} batches wait on the host", count("backlog"))),
        ("lost", lost),
    ]
    .into_iter()
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_loss_and_a_clock_are_said_in_full() {
        let host = json!({
            "name": "vm112", "clock_skew_ms": -7_200_000,
            "telemetry": {"received": 40, "backfilled": 12, "lost": 7, "backlog": 3,
                "last_gap": {"from": "2026-11-20T12:00:00.000Z", "to": "2026-11-20T12:01:30.000Z", "count": 4}}});
        let text = rows(&host).into_iter().map(|row| row.join(" ")).collect::<Vec<_>>().join("\n");
        assert!(text.contains("lost 7 batches, last 4 from 2026-11-20 12:00:00Z to 2026-11-20 12:01:30Z"), "{text}");
        assert!(text.contains("clock 7200000 ms ahead"), "{text}");
        assert!(text.contains("backfilled 12 of them") && text.contains("backlog 3 batches"), "{text}");
    }
}
