//! `farol notifications`: messages that left the house, or did not, and why.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Connection,
    client::Client,
    lists::{Column, show, text, time},
    output,
};
use crate::error::{Error, Result};

/// What else to do with messages.
#[derive(Debug, Subcommand)]
pub enum NotificationsCommand {
    /// Send a message again that was given up
    Resend {
        /// The message
        #[arg(value_name = "ID")]
        id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Say who would be told of a finding, who not, and why
    Preview {
        /// Its scenario, such as proxmox.cluster
        #[arg(long, value_name = "SCENARIO")]
        scenario: String,
        /// Its host
        #[arg(long, value_name = "HOST")]
        host: String,
        /// info, low, medium, high or critical
        #[arg(long, value_name = "SEVERITY", default_value = "high")]
        severity: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

const COLUMNS: &[Column] = &[
    ("STATE", |item| text(item, "state")),
    ("WHAT", |item| text(item, "what")),
    ("CHANNEL", |item| text(item, "channel")),
    ("TO", |item| text(item, "recipient")),
    ("AT", |item| {
        let field = if item["sent_at"].is_string() { "sent_at" } else { "created_at" };
        time(item, field)
    }),
    ("TRIES", |item| item["tries"].to_string()),
    ("WHY", why),
    ("ID", |item| text(item, "id")),
];

fn why(item: &Value) -> String {
    let reason = item["reason"]["text"].as_str().or_else(|| item["last_error"].as_str());
    match reason {
        Some(reason) => reason.to_owned(),
        None if item["escalates"] == true => {
            format!("waits for somebody to acknowledge until {}", time(item, "next_at"))
        }
        None => "-".to_owned(),
    }
}

/// Messages, the newest first.
pub(super) async fn list(to: &Connection, state: Option<&str>) -> Result<()> {
    let query: Vec<(&str, &str)> = state.iter().map(|state| ("state", *state)).collect();
    show(to, Client::new(to)?.all(&["notifications"], &query).await?, COLUMNS)
}

/// Those of a finding.
pub(super) async fn of_finding(to: &Connection, id: &str) -> Result<()> {
    let mut answer: Value = Client::new(to)?.get(&["findings", id, "notifications"], &[]).await?;
    let items = answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    show(to, items, COLUMNS)
}

pub(super) async fn run(command: NotificationsCommand) -> Result<()> {
    match command {
        NotificationsCommand::Resend { id, to } => {
            let (_, row) = Client::new(&to)?.post(&["notifications", &id, "resend"], &json!({})).await?;
            if to.json {
                return output::json(&row);
            }
            output::line(&format!("the message to {} {} is sent again", text(&row, "channel"), text(&row, "recipient")))
        }
        NotificationsCommand::Preview { scenario, host, severity, to } => {
            let body = json!({"scenario": scenario, "host": host, "severity": severity});
            let (_, answer) = Client::new(&to)?.post(&["notifications", "preview"], &body).await?;
            if to.json {
                return output::json(&answer);
            }
            let Some(lines) = answer["routes"].as_array() else {
                return Err(Error::Refused("the coordinator is of another version".to_owned()));
            };
            let columns: &[Column] = &[
                ("CHANNEL", |item| text(item, "channel")),
                ("TO", |item| text(item, "recipient")),
                ("TOLD", |item| if item["told"] == true { "yes" } else { "no" }.to_owned()),
                ("WHY", |item| match item["warning"].as_str() {
                    Some(warning) => format!("{}; {warning}", text(item, "text")),
                    None => text(item, "text"),
                }),
            ];
            show(&to, lines.clone(), columns)
        }
    }
}
