//! Accounts of people, in the data folder, while the coordinator runs or not.
//! Passwords come from the terminal, unseen, or from standard input: never from
//! an argument or the environment, which others on the machine can read.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::Subcommand;
use farol_protocol::Timestamp;
use serde_json::json;

use super::{Data, admin, output, token_name};
use crate::{
    auth::Operator,
    error::{Error, Result},
    people::{Typed, password},
    roster::Role,
    store::people::{Change, NewUser, UserRow},
};

/// Longest line that is read as a password.
const LINE: u64 = 4096;

/// Commands on accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account; the password is asked for, or read from standard input
    Add {
        /// The name in the record
        #[arg(value_parser = token_name)]
        name: String,
        /// What the person may do
        #[arg(long)]
        role: Role,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// List accounts
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Disable an account: its sessions and tokens end at once
    Disable {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Enable an account again
    Enable {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Set another password, asked for or read from standard input; sessions end
    Passwd {
        /// The account's name
        name: String,
        /// Forget the app that shows codes and the recovery codes too
        #[arg(long)]
        reset_second_factor: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// Does what the command says.
pub(super) async fn run(command: UserCommand) -> Result<()> {
    let by = Operator::local_administrator();
    match command {
        UserCommand::Add { name, role, json, data } => {
            let hash = new_hash(&name)?;
            let (_, store) = admin::open(&data).await?;
            let new = NewUser { name: &name, role, sites: None, password: &hash };
            let row = store.create_user(&by, new, false, Timestamp::now()).await?;
            store.close().await;
            said(&row, json, &format!("{name} may sign in as {role}"))
        }
        UserCommand::List { json, data } => {
            let (_, store) = admin::open(&data).await?;
            let users = store.users().await?;
            store.close().await;
            if json {
                return output::json(&json!({"items": users, "next_cursor": null}));
            }
            let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
            let rows = users.into_iter().map(|user| {
                let second = match (user.totp, user.passkeys) {
                    (true, 0) => "codes".to_owned(),
                    (true, n) => format!("codes, {n} passkeys"),
                    (false, 0) => "none".to_owned(),
                    (false, n) => format!("{n} passkeys"),
                };
                let role = user.role.to_string();
                vec![user.name, role, second, time(user.signed_in_at), time(user.disabled_at)]
            });
            output::table(&["USER", "ROLE", "SECOND FACTOR", "SIGNED IN", "DISABLED"], rows.collect())
        }
        UserCommand::Disable { name, json, data } => {
            let change = Change { disabled: Some(true), ..Change::default() };
            let row = changed(&by, &data, &name, change).await?;
            said(&row, json, &format!("{} is disabled; their sessions and tokens have ended", row.name))
        }
        UserCommand::Enable { name, json, data } => {
            let change = Change { disabled: Some(false), ..Change::default() };
            let row = changed(&by, &data, &name, change).await?;
            said(&row, json, &format!("{} may sign in again", row.name))
        }
        UserCommand::Passwd { name, reset_second_factor, json, data } => {
            let hash = new_hash(&name)?;
            let change = Change { password: Some(&hash), reset_second_factor, ..Change::default() };
            let row = changed(&by, &data, &name, change).await?;
            said(&row, json, &format!("{} has another password; their sessions have ended", row.name))
        }
    }
}

async fn changed(by: &Operator, data: &Data, name: &str, change: Change<'_>) -> Result<UserRow> {
    let (_, store) = admin::open(data).await?;
    let row = store.change_user(by, name, change, Timestamp::now()).await?;
    store.close().await;
    Ok(row)
}

fn said(row: &UserRow, json: bool, text: &str) -> Result<()> {
    if json { output::json(row) } else { output::line(text) }
}

fn new_hash(name: &str) -> Result<String> {
    let typed = typed()?;
    password::check_new(name, &typed)?;
    password::hash(&typed)
}

fn typed() -> Result<Typed> {
    let unreadable = |error: io::Error| Error::Refused(format!("the password cannot be read: {error}"));
    if io::stdin().is_terminal() {
        let ask = |prompt| rpassword::prompt_password(prompt).map(Typed::new).map_err(unreadable);
        let first = ask("Password: ")?;
        if first != ask("The same again: ")? {
            return Err(Error::Refused("the two passwords differ; try again".to_owned()));
        }
        return Ok(first);
    }
    let mut line = String::new();
    io::stdin().lock().take(LINE).read_line(&mut line).map_err(unreadable)?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Error::Config("no password came on standard input; write it there on one line".to_owned()));
    }
    Ok(Typed::new(line.to_owned()))
}
