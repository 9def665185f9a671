//! `farol execution` and `farol hosts resume`: what keeps orders from leaving.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Connection,
    client::Client,
    lists::{text, time},
    output,
};
use crate::{error::Result, text::plain};

/// Commands on execution.
#[derive(Debug, Subcommand)]
pub enum ExecutionCommand {
    /// Stop all execution at once: nothing begins, what runs is cancelled
    Stop {
        /// Why
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Let orders leave again
    Resume {
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

pub(super) async fn run(to: &Connection, command: Option<ExecutionCommand>) -> Result<()> {
    let (to, answer) = match &command {
        None => (to, Client::new(to)?.get(&["execution"], &[]).await?),
        Some(ExecutionCommand::Stop { comment, to }) => {
            (to, Client::new(to)?.post(&["execution", "stop"], &json!({"comment": comment})).await?.1)
        }
        Some(ExecutionCommand::Resume { comment, to }) => {
            (to, Client::new(to)?.post(&["execution", "resume"], &json!({"comment": comment})).await?.1)
        }
    };
    if to.json {
        return output::json(&answer);
    }
    let stopped = &answer["stopped"];
    if stopped.is_null() {
        return output::line("Approved orders leave.");
    }
    let words = [text(stopped, "by"), time(stopped, "at"), text(stopped, "comment")].map(|word| plain(&word, 1000));
    output::line(&format!(
        "All execution is stopped: by {}, at {} ({}). `farol execution resume` lets it go on.",
        words[0], words[1], words[2]
    ))
}

/// Lets the orders of a halted host go on.
pub(super) async fn resume_host(to: &Connection, host: &str, comment: &str) -> Result<()> {
    let (_, answer): (_, Value) =
        Client::new(to)?.post(&["hosts", host, "resume"], &json!({"comment": comment})).await?;
    if to.json {
        return output::json(&answer);
    }
    output::line(&format!("The orders of {} go on.", plain(&text(&answer, "host"), 128)))
}
