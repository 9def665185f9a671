//! Lists.

use serde_json::{Value, json};

use super::{Connection, client::Client, output};
use crate::{action::State, error::Result, roster::Role};

/// A head and the field under it.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// Hosts.
pub(super) async fn hosts(to: &Connection) -> Result<()> {
    let items = Client::new(to)?.all(&["hosts"], &[]).await?;
    show(
        to,
        items,
        &[
            ("HOST", |host| text(host, "name")),
            ("STATE", |host| text(host, "state")),
            ("LAST SEEN", |host| time(host, "last_seen")),
            ("AGENT", |host| text(host, "agent_version")),
            ("SITE", |host| text(host, "site")),
            ("CRITICAL", |host| if host["critical"] == true { "yes" } else { "no" }.to_owned()),
        ],
    )
}

/// Findings.
pub(super) async fn findings(to: &Connection, all: bool) -> Result<()> {
    let query = [("state", if all { "all" } else { "unresolved" })];
    let items = Client::new(to)?.all(&["findings"], &query).await?;
    show(
        to,
        items,
        &[
            ("SEVERITY", |finding| text(finding, "severity")),
            ("STATE", |finding| text(finding, "state")),
            ("HOST", |finding| text(finding, "host")),
            ("TITLE", |finding| text(finding, "title")),
            ("OPENED", |finding| time(finding, "opened_at")),
            ("ID", |finding| text(finding, "id")),
        ],
    )
}

/// What others reported.
pub(super) async fn signals(to: &Connection, site: Option<&str>, severity: Option<&str>) -> Result<()> {
    let query: Vec<(&str, &str)> = [("site_id", site), ("severity", severity)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let items = Client::new(to)?.get_at(&["api", "signals"], &query).await?;
    show(
        to,
        items,
        &[
            ("ID", |signal| signal["id"].to_string()),
            ("OBSERVED", |signal| time(signal, "observed_at")),
            ("SITE", |signal| text(signal, "site_id")),
            ("SEVERITY", |signal| text(signal, "severity")),
            ("KIND", |signal| text(signal, "kind")),
            ("SUMMARY", |signal| text(signal, "summary")),
        ],
    )
}

/// What waits for an answer.
pub(super) async fn inbox(to: &Connection, role: Option<Role>) -> Result<()> {
    let query: Vec<(&str, &str)> = role.iter().map(|role| ("role", role.as_str())).collect();
    let items = Client::new(to)?.all(&["agents", "inbox"], &query).await?;
    show(
        to,
        items,
        &[
            ("AT", |message| time(message, "created_at")),
            ("FROM", |message| text(message, "author")),
            ("KIND", |message| text(message, "kind")),
            ("MESSAGE", |message| text(message, "body")),
            ("ID", |message| text(message, "id")),
        ],
    )
}

/// Actions.
pub(super) async fn actions(to: &Connection, state: Option<State>) -> Result<()> {
    let query: Vec<(&str, &str)> = state.iter().map(|state| ("state", state.as_str())).collect();
    let items = Client::new(to)?.all(&["actions"], &query).await?;
    show(
        to,
        items,
        &[
            ("STATE", |action| text(action, "state")),
            ("CLASS", |action| text(action, "risk_class")),
            ("HOST", |action| text(action, "host")),
            ("WHAT", |action| text(action, "what")),
            ("ASKED BY", |action| text(action, "requested_by")),
            ("EXPIRES", |action| time(action, "expires_at")),
            ("ID", |action| text(action, "action_id")),
        ],
    )
}

pub(super) fn show(to: &Connection, items: Vec<Value>, columns: &[Column]) -> Result<()> {
    if to.json {
        return output::json(&json!({"items": items, "next_cursor": null}));
    }
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let rows = items.iter().map(|item| columns.iter().map(|(_, cell)| cell(item)).collect()).collect();
    output::table(&heads, rows)
}

/// A field as text; a dash where there is none.
pub(super) fn text(item: &Value, field: &str) -> String {
    item[field].as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// A time to the second.
pub(super) fn time(item: &Value, field: &str) -> String {
    let text = text(item, field);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replace('T', " ")),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_absent_is_a_dash() {
        let item = json!({"name": "vm112", "site": null, "at": "2026-11-20T12:00:00.250Z"});
        assert_eq!(text(&item, "name"), "vm112");
        assert_eq!(text(&item, "site"), "-");
        assert_eq!(text(&item, "missing"), "-");
        assert_eq!(time(&item, "at"), "2026-11-20 12:00:00Z");
        assert_eq!(time(&item, "missing"), "-");
    }
}
