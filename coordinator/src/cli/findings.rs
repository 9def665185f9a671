//! `farol findings`: what people do with one finding.

use clap::Subcommand;
use serde_json::json;

use super::{Connection, client::Client, lists::text, notifications, output};
use crate::error::Result;

/// Commands on findings.
#[derive(Debug, Subcommand)]
pub enum FindingsCommand {
    /// Who was told of a finding, who was not, and why
    Notifications {
        /// The finding
        #[arg(value_name = "ID")]
        id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Say that you know of a finding; it stays acknowledged until it is over
    Ack {
        /// The finding
        #[arg(value_name = "ID")]
        id: String,
        /// What you say about it
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// End a finding that no report will end: its check is gone, or nobody sends its end
    Close {
        /// The finding
        #[arg(value_name = "ID")]
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

pub(super) async fn run(command: FindingsCommand) -> Result<()> {
    match command {
        FindingsCommand::Notifications { id, to } => notifications::of_finding(&to, &id).await,
        FindingsCommand::Ack { id, comment, to } => decide(&to, &["agents", "findings", &id, "ack"], &comment).await,
        FindingsCommand::Close { id, comment, to } => decide(&to, &["findings", &id, "close"], &comment).await,
    }
}

async fn decide(to: &Connection, path: &[&str], comment: &str) -> Result<()> {
    let (_, finding) = Client::new(to)?.post(path, &json!({"comment": comment})).await?;
    if to.json {
        return output::json(&finding);
    }
    let of = |field| text(&finding, field);
    output::line(&format!("{} on {} is {}", of("title"), of("host"), of("state")))
}
