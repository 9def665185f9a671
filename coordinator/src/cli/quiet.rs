//! `farol silence` and `farol maintenance`: when nobody is to be told.

use std::time::Duration;

use clap::{Args, Subcommand};
use farol_protocol::{CheckId, Timestamp};
use serde_json::{Value, json};

use super::{
    Connection,
    client::Client,
    lists::{show, text, time},
    output,
};
use crate::{
    error::{Error, Result},
    quiet::{Span, Window},
    text::{duration, plain},
};

/// Occurrences that are shown.
const SHOWN: usize = 3;
/// Longest line.
const WIDEST: usize = 300;

/// Commands on silences.
#[derive(Debug, Subcommand)]
pub enum SilenceCommand {
    /// Be told nothing of some checks for a while
    Add {
        /// What is meant.
        #[command(flatten)]
        scope: Box<ScopeFlags>,
        /// Only the check of this finding
        #[arg(long, value_name = "FINDING", conflicts_with_all = ["hosts", "sites", "scenario", "check", "all"])]
        finding: Option<String>,
        /// For how long, 30d at most
        #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = super::duration)]
        lasts: Duration,
        /// Why
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// End a silence before its time
    End {
        /// The silence's id
        #[arg(value_name = "SILENCE")]
        id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

/// Commands on maintenance.
#[derive(Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Plan maintenance, once or again and again
    Add {
        /// What people call it
        name: String,
        /// When.
        #[command(flatten)]
        window: Box<WindowFlags>,
        /// What is meant.
        #[command(flatten)]
        scope: Box<ScopeFlags>,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        /// Only show when it would be in force
        #[arg(long)]
        dry_run: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Let maintenance count again
    Enable {
        /// The maintenance's id
        #[arg(value_name = "MAINTENANCE")]
        id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Let maintenance count for nothing until it is enabled again
    Disable {
        /// The maintenance's id
        #[arg(value_name = "MAINTENANCE")]
        id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Take maintenance back, an occurrence that is in force with it
    End {
        /// The maintenance's id
        #[arg(value_name = "MAINTENANCE")]
        id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

/// What is meant.
#[derive(Debug, Args)]
#[group(id = "scope", multiple = true)]
pub struct ScopeFlags {
    /// A host by name or id; several times for several
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// All hosts of a site; several times for several
    #[arg(long = "site", value_name = "SITE")]
    pub sites: Vec<String>,
    /// A scenario, or several by their beginning and a `*`
    #[arg(long, value_name = "SCENARIO")]
    pub scenario: Option<String>,
    /// One check, such as disk.root or portal/answers
    #[arg(long, value_name = "CHECK")]
    pub check: Option<CheckId>,
    /// Everything
    #[arg(long, conflicts_with_all = ["hosts", "sites", "scenario", "check"])]
    pub all: bool,
}

/// When maintenance is in force.
#[derive(Debug, Args)]
pub struct WindowFlags {
    /// When it first begins, by the clock of --zone, such as 2026-11-22T02:00
    #[arg(long, value_name = "TIME")]
    pub start: String,
    /// IANA time zone, such as America/Sao_Paulo
    #[arg(long, value_name = "ZONE")]
    pub zone: String,
    /// How long it lasts: 31d at most, 7d where it comes again
    #[arg(long = "for", value_name = "TIME", value_parser = super::duration)]
    pub lasts: Duration,
    /// How it comes again, such as FREQ=WEEKLY;BYDAY=SU or FREQ=MONTHLY;BYDAY=2TU
    #[arg(long, value_name = "RULE")]
    pub repeat: Option<String>,
}

impl ScopeFlags {
    fn document(&self) -> Value {
        json!({"hosts": self.hosts, "sites": self.sites, "scenario": self.scenario, "check": self.check, "all": self.all})
    }
}

/// Silences, the newest first.
pub(super) async fn silences(to: &Connection, all: bool) -> Result<()> {
    let query = [("state", if all { "all" } else { "current" })];
    let items = Client::new(to)?.all(&["silences"], &query).await?;
    show(
        to,
        items,
        &[
            ("STATE", |silence| if silence["in_force"] == true { "in force" } else { "over" }.to_owned()),
            ("UNTIL", |silence| time(silence, if silence["ended_at"].is_null() { "until" } else { "ended_at" })),
            ("COVERS", covers),
            ("BY", |silence| text(silence, "created_by")),
            ("COMMENT", |silence| text(silence, "comment")),
            ("ID", |silence| text(silence, "id")),
        ],
    )
}

/// Sets or ends a silence.
pub(super) async fn silence(command: SilenceCommand) -> Result<()> {
    match command {
        SilenceCommand::Add { scope, finding, lasts, comment, to } => {
            let mut body = if finding.is_some() { json!({}) } else { scope.document() };
            body["finding_id"] = json!(finding);
            body["comment"] = json!(comment);
            body["for"] = json!(humantime::format_duration(lasts).to_string());
            let (_, made) = Client::new(&to)?.post(&["silences"], &body).await?;
            said(&to, &made, |made| {
                let (what, until, id) = (covers(made), time(made, "until"), text(made, "id"));
                format!("Nobody is told of {what} until {until}. End it earlier with: farol silence end {id}")
            })
        }
        SilenceCommand::End { id, to } => {
            let ended = Client::new(&to)?.delete(&["silences", &id]).await?;
            said(&to, &ended, |ended| format!("Ended: {} is told of again.", covers(ended)))
        }
    }
}

/// Maintenance, the newest first.
pub(super) async fn maintenances(to: &Connection, all: bool) -> Result<()> {
    let query = [("state", if all { "all" } else { "current" })];
    let items = Client::new(to)?.all(&["maintenance"], &query).await?;
    show(
        to,
        items,
        &[
            ("STATE", state),
            ("NAME", |maintenance| text(maintenance, "name")),
            ("COVERS", covers),
            ("WHEN", |maintenance| text(maintenance, "summary")),
            ("NEXT CHANGE", |maintenance| time(maintenance, "next_change_at")),
            ("ID", |maintenance| text(maintenance, "id")),
        ],
    )
}

/// Plans, turns or takes back maintenance.
pub(super) async fn maintenance(command: MaintenanceCommand) -> Result<()> {
    match command {
        MaintenanceCommand::Add { name, window, scope, comment, dry_run, to } => {
            let planned = Window::parse(&window.start, &window.zone, window.lasts, window.repeat.as_deref())
                .map_err(Error::Config)?;
            if dry_run {
                return preview_only(&to, &planned);
            }
            let mut body = scope.document();
            body["name"] = json!(name);
            body["comment"] = json!(comment);
            body["start"] = json!(window.start);
            body["zone"] = json!(window.zone);
            body["duration"] = json!(humantime::format_duration(window.lasts).to_string());
            body["repeat"] = json!(window.repeat);
            let (_, made) = Client::new(&to)?.post(&["maintenance"], &body).await?;
            said(&to, &made, |made| {
                let (what, id) = (covers(made), text(made, "id"));
                let shown = preview(&planned, Timestamp::now());
                format!("Planned. Nobody is told of {what}:\n{shown}\nTake it back with: farol maintenance end {id}")
            })
        }
        MaintenanceCommand::Enable { id, to } => turn(&to, &id, true).await,
        MaintenanceCommand::Disable { id, to } => turn(&to, &id, false).await,
        MaintenanceCommand::End { id, to } => {
            let ended = Client::new(&to)?.delete(&["maintenance", &id]).await?;
            said(&to, &ended, |ended| format!("Taken back: {}.", text(ended, "name")))
        }
    }
}

async fn turn(to: &Connection, id: &str, enabled: bool) -> Result<()> {
    let row = Client::new(to)?.patch(&["maintenance", id], &json!({"enabled": enabled})).await?;
    said(to, &row, |row| match (enabled, row["next_change_at"].as_str()) {
        (true, Some(_)) => {
            format!("Enabled: {}; it changes next at {}.", text(row, "name"), time(row, "next_change_at"))
        }
        (true, None) => format!("Enabled: {}; it is over for good.", text(row, "name")),
        (false, _) => format!("Disabled: {}.", text(row, "name")),
    })
}

fn said(to: &Connection, document: &Value, words: impl Fn(&Value) -> String) -> Result<()> {
    if to.json {
        return output::json(document);
    }
    let lines: Vec<String> = words(document).lines().map(plain_keeping_indent).collect();
    output::line(&lines.join("\n"))
}

fn plain_keeping_indent(line: &str) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    format!("{}{}", " ".repeat(indent), plain(line, WIDEST))
}

fn preview_only(to: &Connection, window: &Window) -> Result<()> {
    let now = Timestamp::now();
    if to.json {
        let spans = window.spans(now).take(SHOWN);
        let spans: Vec<Value> = spans.map(|span| json!({"from": span.from, "to": span.to})).collect();
        return output::json(&json!({"next": spans}));
    }
    output::line(&preview(window, now))
}

/// The next occurrences by the clock of the window's zone.
fn preview(window: &Window, now: Timestamp) -> String {
    let line = |span: Span| {
        let lasts = duration(span.to.since(span.from));
        let now = if span.from <= now { "  (now)" } else { "" };
        format!("  {} to {}  {lasts}{now}", window.shown(span.from), window.shown(span.to))
    };
    let mut lines: Vec<String> = window.spans(now).take(SHOWN + 1).map(line).collect();
    if lines.is_empty() {
        return "  never again: it is over".to_owned();
    }
    if lines.len() > SHOWN {
        lines[SHOWN] = "  and so on".to_owned();
    }
    lines.join("\n")
}

fn state(maintenance: &Value) -> String {
    let is = |field: &str| maintenance[field] == true;
    match () {
        () if !maintenance["ended_at"].is_null() => "taken back",
        () if !is("enabled") => "disabled",
        () if is("in_force") => "in force",
        () if maintenance["next_change_at"].is_null() => "over",
        () => "planned",
    }
    .to_owned()
}

/// What is meant, in one line.
fn covers(item: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for field in ["hosts", "sites"] {
        let names: Vec<&str> = item[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            parts.push(format!("{field} {}", names.join(", ")));
        }
    }
    for field in ["scenario", "check"] {
        if let Some(name) = item[field].as_str() {
            parts.push(format!("{field} {name}"));
        }
    }
    if parts.is_empty() { "everything".to_owned() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_shows_the_next_occurrences_by_the_clock_of_the_zone() {
        let now: Timestamp = "2026-10-31T12:00:00Z".parse().expect("a time");
        let window = |rule: Option<&str>| {
            Window::parse("2026-10-31T01:30", "America/New_York", Duration::from_secs(7200), rule).expect("a window")
        };
        assert_eq!(
            preview(&window(Some("FREQ=DAILY")), now),
            "  Sun 2026-11-01 01:30 EDT to Sun 2026-11-01 02:30 EST  2 h\n  \
               Mon 2026-11-02 01:30 EST to Mon 2026-11-02 03:30 EST  2 h\n  \
               Tue 2026-11-03 01:30 EST to Tue 2026-11-03 03:30 EST  2 h\n  \
               and so on"
        );
        assert_eq!(preview(&window(None), now), "  never again: it is over");
        let during = "2026-10-31T06:00:00Z".parse().expect("a time");
        assert!(preview(&window(None), during).ends_with("2 h  (now)"));
    }

    #[test]
    fn what_is_covered_is_one_line() {
        let item = json!({"hosts": ["vm112", "vm122"], "sites": [], "scenario": "web.*", "check": null});
        assert_eq!(covers(&item), "hosts vm112, vm122; scenario web.*");
        assert_eq!(covers(&json!({"all": true})), "everything");
        let maintenance = |fields: Value| state(&fields);
        assert_eq!(maintenance(json!({"enabled": false, "ended_at": null})), "disabled");
        assert_eq!(maintenance(json!({"enabled": true, "in_force": true})), "in force");
        assert_eq!(maintenance(json!({"enabled": true, "in_force": false, "next_change_at": "x"})), "planned");
    }
}
