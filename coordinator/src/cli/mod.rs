//! The command line: administration on the data folder, and clients of the API.

mod actions;
mod admin;
mod audit;
mod authority;
mod catalogue;
mod check;
mod client;
mod daily;
mod decide;
mod execution;
mod findings;
mod history;
mod integrations;
mod inventory;
mod keys;
mod lists;
mod notifications;
mod output;
mod quiet;
mod replay;
mod schema;
mod show;
mod signing_keys;
mod topology;
mod users;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use farol_protocol::{ActionId, ActionKind, CheckId, HostId};

use crate::{
    action::State, auth::Scope, config::Flags, error::Result, http::permissions::Permission, integrations::Kind,
    roster::Role,
};

/// Farol watches a small fleet of servers and mends it when a person agrees.
#[derive(Debug, Parser)]
#[command(name = "farol", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the coordinator
    Serve(Flags),
    /// Everything that ends by itself.
    #[command(flatten)]
    Once(Once),
}

/// A command that ends by itself.
#[derive(Debug, Subcommand)]
pub enum Once {
    /// Let hosts in and out
    #[command(subcommand)]
    Host(HostCommand),
    /// Accounts of people
    #[command(subcommand)]
    User(users::UserCommand),
    /// API tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys that people sign approvals with
    #[command(subcommand)]
    Key(SigningKeyCommand),
    /// People who sign approvals
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// The authority that hosts trust
    #[command(subcommand)]
    Ca(CaCommand),
    /// List hosts, or show one
    #[command(args_conflicts_with_subcommands = true)]
    Hosts {
        /// One of them.
        #[command(subcommand)]
        show: Option<HostsCommand>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List findings that are not resolved, or say who was told of one
    #[command(args_conflicts_with_subcommands = true)]
    Findings {
        /// What else to do with findings.
        #[command(subcommand)]
        command: Option<findings::FindingsCommand>,
        /// Resolved ones too
        #[arg(long)]
        all: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List messages that left, wait or were given up, the newest first
    #[command(args_conflicts_with_subcommands = true)]
    Notifications {
        /// What else to do with messages.
        #[command(subcommand)]
        command: Option<notifications::NotificationsCommand>,
        /// Only those in this state: pending, sent, dead, skipped or cancelled
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List what others reported, the newest first
    Signals {
        /// Only of this site
        #[arg(long, value_name = "SITE")]
        site: Option<String>,
        /// Only of this severity, as its sender wrote it
        #[arg(long, value_name = "WORD")]
        severity: Option<String>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List what personas said and nobody archived yet
    Inbox {
        /// Only what is meant for this role
        #[arg(long, value_name = "ROLE")]
        role: Option<Role>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List actions, look at one, ask for one
    #[command(args_conflicts_with_subcommands = true)]
    Actions {
        /// What else to do with actions.
        #[command(subcommand)]
        command: Option<ActionsCommand>,
        /// Only those in this state, such as proposed
        #[arg(long, value_name = "STATE")]
        state: Option<State>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List what may be done to hosts
    Catalogue {
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Say whether orders leave; stop all execution, or let it go on
    #[command(args_conflicts_with_subcommands = true)]
    Execution {
        /// What to do.
        #[command(subcommand)]
        command: Option<execution::ExecutionCommand>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Plan a remediation from the catalogue, after a look at its host
    Plan(catalogue::PlanFlags),
    /// Read an action and agree to exactly its plan
    Approve {
        /// The action
        #[arg(value_name = "ACTION")]
        id: ActionId,
        /// What you say about it
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        /// Sign with the private key in this file, as the host may ask
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Do not ask again
        #[arg(long)]
        yes: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Decline an action
    Reject {
        /// The action
        #[arg(value_name = "ACTION")]
        id: ActionId,
        /// Why
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Run a scenario now
    Run {
        /// The scenario, such as proxmox.cluster
        scenario: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Run a check or a scenario of the registry here and now; without a name, list them
    Check {
        /// The check or the scenario, such as proxmox.cluster
        name: Option<String>,
        /// Another registry than the configured one
        #[arg(long, value_name = "FILE")]
        registry: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Put recorded reports through the correlator again and say what another registry would have found
    Replay {
        /// What to replay.
        #[command(flatten)]
        flags: replay::ReplayFlags,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// The registry of hosts and scenarios
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Systems that checks ask with credentials
    #[command(subcommand)]
    Integration(IntegrationCommand),
    /// Show what stands on what, or what fails with one host
    Topology {
        /// The host's name or id, or a node such as node:proxmox/pve1
        host: Option<String>,
        /// Print it for Graphviz
        #[arg(long, conflicts_with = "json")]
        dot: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Show what the summary of the day would say now, without posting it
    Daily {
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List silences that are in force
    Silences {
        /// Past ones too
        #[arg(long)]
        all: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Set or end a silence
    #[command(subcommand)]
    Silence(quiet::SilenceCommand),
    /// List maintenance, plan it, take it back
    #[command(args_conflicts_with_subcommands = true)]
    Maintenance {
        /// What else to do with maintenance.
        #[command(subcommand)]
        command: Option<quiet::MaintenanceCommand>,
        /// What was taken back too
        #[arg(long)]
        all: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// The record of who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print the OpenAPI document
    Openapi,
    /// Print the southbound protocol and the registry as JSON Schema
    Schema {
        /// Write one file per document into this folder instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Commands on the registry.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Say whether a registry can be used, or where its mistake is
    Check {
        /// The file [default: the configured one]
        file: Option<PathBuf>,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// Commands on integrations.
#[derive(Debug, Subcommand)]
pub enum IntegrationCommand {
    /// Make an integration; its secret is sealed and never shown
    Add {
        /// Its name, by which checks mean it
        name: String,
        /// proxmox, pfsense, opnsense, wazuh, docker, postgres, redis, github, ntfy, matrix, webhook or alertmanager
        #[arg(long)]
        kind: Kind,
        /// What it is.
        #[command(flatten)]
        flags: IntegrationFlags,
    },
    /// Change what is given of an integration and keep the rest
    Set {
        /// Its name
        name: String,
        /// What to change.
        #[command(flatten)]
        flags: IntegrationFlags,
    },
    /// List integrations, with when they answered last
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Ask an integration now
    Test {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Remove an integration with its secret
    Remove {
        /// Its name
        name: String,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// What an integration is.
#[derive(Debug, Args)]
pub struct IntegrationFlags {
    /// Base address; several times for the nodes of a cluster
    #[arg(long = "url", value_name = "URL")]
    pub urls: Vec<String>,
    /// Who Farol is to it: a user, a key's id, or `USER@REALM!TOKENID` of Proxmox
    #[arg(long)]
    pub user: Option<String>,
    /// File that holds the secret, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Trust exactly the certificate with this SHA-256
    #[arg(long, value_name = "sha256:…", group = "tls")]
    pub pin: Option<String>,
    /// Trust whoever the authority in this PEM file vouches for
    #[arg(long, value_name = "FILE", group = "tls")]
    pub ca: Option<PathBuf>,
    /// Trust anybody: whoever is in between can read the secret
    #[arg(long, group = "tls")]
    pub insecure: bool,
    /// Trust whoever this machine's authorities vouch for, as by default
    #[arg(long, group = "tls")]
    pub verify: bool,
    /// Site that it belongs to
    #[arg(long)]
    pub site: Option<String>,
    /// A word of yours; several times for several
    #[arg(long = "tag", value_name = "WORD")]
    pub tags: Vec<String>,
    /// What else its kind wants to know
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = option)]
    pub options: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the data is.
    #[command(flatten)]
    pub data: Data,
}

/// Commands on the list of hosts.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Show a host: its connection, what arrived of it, its checks
    Show {
        /// The host's name or id
        name: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Let the orders of a host go on, after a change on it could not be undone
    Resume {
        /// The host's name or id
        name: String,
        /// What you found there
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// What it showed over time.
    #[command(flatten)]
    History(HistoryCommand),
}

/// What a host or one of its checks showed over time.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// List the metrics of a host
    Metrics {
        /// The host's name or id
        name: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Show a metric of a host over time
    Series {
        /// The host's name or id
        name: String,
        /// The metric, such as cpu, disk.used_percent:/var or check:disk.root
        metric: String,
        /// From so long ago until now
        #[arg(long, value_name = "TIME", default_value = "1d", value_parser = span)]
        since: Duration,
        /// Time that a point covers: 1m, 5m, 1h, 1d or auto
        #[arg(long, default_value = "auto")]
        step: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List the reports of a check, newest first
    Reports {
        /// The host's name or id
        name: String,
        /// The check, such as disk.root or portal/answers
        check: CheckId,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
        limit: u16,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Show what a check said from when to when
    History {
        /// The host's name or id
        name: String,
        /// The check, such as disk.root or portal/answers
        check: CheckId,
        /// From so long ago until now
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = span)]
        since: Duration,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

/// Commands on hosts.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Make a token that enrols a host once, and the command that uses it
    Add {
        /// The host's name
        name: HostId,
        /// How long the token can be used
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Keys with which a host that holds no certificate signs its requests
    #[command(subcommand)]
    Key(KeyCommand),
    /// List hosts with their certificates, machines, and what waits for a decision
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Let a host that was away for too long renew its certificate, within a day
    Consent {
        /// The host's name
        name: String,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Decide which of two machines a host is
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Accept {
        /// The host's name
        name: String,
        /// The machine with this id, or its first 8 characters or more
        #[arg(long, value_name = "ID", group = "which")]
        machine: Option<String>,
        /// The copy that runs since this boot, or its first 8 characters or more
        #[arg(long, value_name = "ID", group = "which")]
        boot: Option<String>,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Give a host another name
    Rename {
        /// Its name
        old: String,
        /// Its name from now on
        new: HostId,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Take a host's identity back and cut its connection
    Revoke {
        /// The host's name
        name: String,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// Commands on hosts' signing keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; its secret is shown once. Others of the host stay good
    Add {
        /// The host's name
        name: HostId,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// List keys, revoked ones too
    List {
        /// Only those of this host
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Refuse a key from now on
    Revoke {
        /// The key's id
        id: String,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// Commands on actions.
#[derive(Debug, Subcommand)]
pub enum ActionsCommand {
    /// Show an action, its outcome, and what it writes while it runs
    Show {
        /// The action
        #[arg(value_name = "ACTION")]
        id: ActionId,
        /// Stay until it ends and print what it writes as it comes
        #[arg(long)]
        follow: bool,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List what an action left, or keep it
    Evidence {
        /// The action
        #[arg(value_name = "ACTION")]
        id: ActionId,
        /// Write each artifact into this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Ask for an action; it waits for a person's decision
    Propose {
        /// Id or name of the host
        host: String,
        /// command.exec, service.control, container.control, file.diff, file.apply, file.rollback or logs.read
        #[arg(value_parser = action_kind)]
        kind: ActionKind,
        /// Parameters as JSON, `@FILE` to read them from a file, `-` from standard input
        #[arg(value_name = "PARAMS")]
        params: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

/// Commands on the authority.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Show the authority, which hosts follow it, and what to do next
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// Put a new authority in place of the present one, while hosts stay connected
    Rotate {
        /// Announce a new root, beside the present one
        #[arg(long, conflicts_with = "finish")]
        root: bool,
        /// Retire the old root
        #[arg(long)]
        finish: bool,
        /// Although hosts do not know the new root yet: they will ask for it by themselves
        #[arg(long, requires = "finish")]
        force: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// Commands on tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an API token; it is shown once
    Create {
        /// Who uses it: the name in the record
        #[arg(long, value_parser = token_name)]
        name: String,
        /// What it may do
        #[arg(long)]
        role: Role,
        /// How long it can be used, or `never`
        #[arg(long, default_value = "30d", value_parser = lifetime)]
        ttl: Lifetime,
        /// The person whose token it is: what it does counts as done by them
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// It may only read
        #[arg(long)]
        read_only: bool,
        /// Only this of its role, such as propose; several times for several
        #[arg(long = "permission", value_name = "PERMISSION", value_parser = permission)]
        permissions: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// List API tokens, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
    /// End an API token
    Revoke {
        /// Its name
        name: String,
        /// Where the data is.
        #[command(flatten)]
        data: Data,
    },
}

/// Commands on the keys that people sign with.
#[derive(Debug, Subcommand)]
pub enum SigningKeyCommand {
    /// Make an Ed25519 key on this machine and register its public half
    Add {
        /// Name of the key's file; of the operator too, unless --operator says it
        #[arg(value_parser = token_name, required_unless_present = "operator")]
        name: Option<String>,
        /// Whose key it is: the person's name, or that of a token of nobody
        #[arg(long, value_name = "NAME", value_parser = token_name)]
        operator: Option<String>,
        /// Where the private key is, or is to be [default: ~/.config/farol/NAME.pem]
        #[arg(long)]
        file: Option<PathBuf>,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Register a public key that was made elsewhere
    Register {
        /// The key, as `farol key add` and `farol key list --json` print it
        #[arg(value_name = "ed25519:…")]
        public: farol_protocol::signing::PublicKey,
        /// Whose key it is: the person's name, or that of a token of nobody
        #[arg(long, value_name = "NAME", value_parser = token_name)]
        operator: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// List keys
    List {
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
    /// Take a key back
    Revoke {
        /// The key's id, 16 hexadecimal digits
        #[arg(value_name = "KEY")]
        key_id: String,
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

/// Commands on operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Print the operators with their keys, to paste into a host's policy
    Export {
        /// How to reach the coordinator.
        #[command(flatten)]
        to: Connection,
    },
}

/// How long a token can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// This long.
    For(Duration),
    /// Until it is revoked.
    Forever,
}

/// Where an administrative command works.
#[derive(Debug, Args)]
pub struct Data {
    /// Configuration file of the coordinator (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of databases and authority [env: FAROL_DATA_DIR] [default: /var/lib/farol]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// How to reach a coordinator.
#[derive(Debug, Args)]
pub struct Connection {
    /// Address of the API
    #[arg(long, value_name = "URL", env = "FAROL_URL", default_value = "http://127.0.0.1:8180")]
    pub url: String,
    /// File that holds the API token [default: the token in FAROL_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Does what a command says.
///
/// # Errors
/// It could not be done.
pub async fn run(command: Once) -> Result<()> {
    match command {
        Once::Host(HostCommand::Add { name, ttl, json, data }) => admin::add_host(&data, &name, ttl, json).await,
        Once::Host(HostCommand::Key(command)) => keys::run(command).await,
        Once::Host(HostCommand::Revoke { name, data }) => admin::revoke_host(&data, &name).await,
        Once::Host(HostCommand::List { json, data }) => inventory::hosts(&data, json).await,
        Once::Host(HostCommand::Consent { name, data }) => inventory::consent(&data, &name).await,
        Once::Host(HostCommand::Accept { name, machine, boot, data }) => {
            inventory::accept(&data, &name, machine.as_deref(), boot.as_deref()).await
        }
        Once::Host(HostCommand::Rename { old, new, data }) => inventory::rename(&data, &old, &new).await,
        Once::User(command) => users::run(command).await,
        Once::Token(TokenCommand::Create { name, role, ttl, owner, read_only, permissions, json, data }) => {
            let permissions = Some(permissions).filter(|list| !list.is_empty());
            let scope = Scope { read_only, permissions, sites: None };
            admin::create_token(&data, (&name, owner.as_deref()), role, scope, ttl, json).await
        }
        Once::Key(SigningKeyCommand::Add { name, operator, file, to }) => {
            let operator = operator.or_else(|| name.clone()).unwrap_or_default();
            let name = name.unwrap_or_else(|| operator.clone());
            signing_keys::add(&to, &operator, &name, file.as_deref()).await
        }
        Once::Key(SigningKeyCommand::Register { public, operator, to }) => {
            signing_keys::register(&to, &operator, &public).await
        }
        Once::Key(SigningKeyCommand::List { to }) => signing_keys::list(&to).await,
        Once::Key(SigningKeyCommand::Revoke { key_id, to }) => signing_keys::revoke(&to, &key_id).await,
        Once::Operator(OperatorCommand::Export { to }) => signing_keys::export(&to).await,
        Once::Token(TokenCommand::List { json, data }) => inventory::tokens(&data, json).await,
        Once::Token(TokenCommand::Revoke { name, data }) => inventory::revoke_token(&data, &name).await,
        Once::Ca(CaCommand::Status { json, data }) => authority::status(&data, json).await,
        Once::Ca(CaCommand::Rotate { root, finish, force, data }) => {
            let what = match (root, finish) {
                (true, _) => authority::Rotation::Root,
                (_, true) => authority::Rotation::Finish { force },
                _ => authority::Rotation::Issuing,
            };
            authority::rotate(&data, what).await
        }
        Once::Hosts { show: Some(HostsCommand::Show { name, to }), .. } => show::host(&to, &name).await,
        Once::Hosts { show: Some(HostsCommand::Resume { name, comment, to }), .. } => {
            execution::resume_host(&to, &name, &comment).await
        }
        Once::Hosts { show: Some(HostsCommand::History(command)), .. } => history::run(command).await,
        Once::Hosts { show: None, to } => lists::hosts(&to).await,
        Once::Findings { command: None, all, to } => lists::findings(&to, all).await,
        Once::Findings { command: Some(command), .. } => findings::run(command).await,
        Once::Notifications { command: None, state, to } => notifications::list(&to, state.as_deref()).await,
        Once::Notifications { command: Some(command), .. } => notifications::run(command).await,
        Once::Signals { site, severity, to } => lists::signals(&to, site.as_deref(), severity.as_deref()).await,
        Once::Inbox { role, to } => lists::inbox(&to, role).await,
        Once::Actions { command: None, state, to } => lists::actions(&to, state).await,
        Once::Actions { command: Some(ActionsCommand::Show { id, follow, to }), .. } => {
            actions::show(&to, id, follow).await
        }
        Once::Actions { command: Some(ActionsCommand::Evidence { id, out, to }), .. } => {
            actions::evidence(&to, id, out.as_deref()).await
        }
        Once::Actions { command: Some(ActionsCommand::Propose { host, kind, params, reason, to }), .. } => {
            actions::propose(&to, &host, kind, &params, &reason).await
        }
        Once::Catalogue { to } => catalogue::list(&to).await,
        Once::Execution { command, to } => execution::run(&to, command).await,
        Once::Plan(flags) => catalogue::plan(&flags).await,
        Once::Approve { id, comment, key, yes, to } => decide::approve(&to, id, &comment, key.as_deref(), yes).await,
        Once::Reject { id, comment, to } => decide::reject(&to, id, &comment).await,
        Once::Run { scenario, to } => decide::run(&to, &scenario).await,
        Once::Check { name, registry, json, data } => {
            check::run(&data, registry.as_deref(), name.as_deref(), json).await
        }
        Once::Replay { flags, data } => replay::run(&data, &flags).await,
        Once::Registry(RegistryCommand::Check { file, data }) => check::registry(&data, file.as_deref()),
        Once::Integration(command) => integrations::run(command).await,
        Once::Topology { host, dot, to } => topology::show(&to, host.as_deref(), dot).await,
        Once::Daily { to } => daily::show(&to).await,
        Once::Silences { all, to } => quiet::silences(&to, all).await,
        Once::Silence(command) => quiet::silence(command).await,
        Once::Maintenance { command: None, all, to } => quiet::maintenances(&to, all).await,
        Once::Maintenance { command: Some(command), .. } => quiet::maintenance(command).await,
        Once::Audit(command) => audit::run(command).await,
        Once::Openapi => output::json(&crate::http::document()),
        Once::Schema { out } => schema::export(out.as_deref()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| (Duration::from_millis(1)..=YEAR).contains(duration))
        .ok_or_else(|| "a duration of up to a year is expected, such as 1h or 30d".to_owned())
}

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "write NAME=VALUE".to_owned())?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// How far back to look.
fn span(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(20 * 366 * 86_400);
    humantime::parse_duration(text)
        .ok()
        .filter(|span| (Duration::from_secs(60)..=LONGEST).contains(span))
        .ok_or_else(|| "a time of a minute or more is expected, such as 1h, 7d or 2y".to_owned())
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" { Ok(Lifetime::Forever) } else { duration(text).map(Lifetime::For) }
}

fn action_kind(text: &str) -> Result<ActionKind, String> {
    let names = || ActionKind::ALL.map(ActionKind::as_str).join(", ");
    ActionKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("use one of {}", names()))
}

/// What a token can be limited to.
fn permission(text: &str) -> Result<String, String> {
    let known = Permission::OF_TOKENS.map(Permission::as_str);
    known
        .into_iter()
        .find(|known| *known == text)
        .map(str::to_owned)
        .ok_or_else(|| format!("use one of {}", known.join(", ")))
}

fn token_name(text: &str) -> Result<String, String> {
    crate::auth::check_name(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_contract_are_understood() {
        for line in [
            "farol serve",
            "farol serve --config farol.yaml --data-dir d --http-addr 127.0.0.1:0 --registry r",
            "farol host add vm112 --ttl 1h --json",
            "farol host revoke vm112 --data-dir d",
            "farol host key add pfsense --json",
            "farol host key list pfsense --data-dir d",
            "farol host key revoke 0190f5d2-7b7c-7000-8000-000000000000",
            "farol host list --json",
            "farol host consent vm112",
            "farol host accept vm112 --machine 0123456789ab",
            "farol host accept vm112 --boot 0123456789ab",
            "farol host rename vm112 web-1",
            "farol user add ana --role ops_lead --json",
            "farol user list --json",
            "farol user disable ana",
            "farol user passwd ana --reset-second-factor --data-dir d",
            "farol token create --name ci --role devops --owner ana --read-only --permission ops_view",
            "farol token list --json",
            "farol token revoke ana",
            "farol ca status --json",
            "farol ca rotate",
            "farol ca rotate --root",
            "farol ca rotate --finish --force",
            "farol token create --name ana --role ops_lead",
            "farol token create --name ana@example.org --role seo --ttl never --json",
            "farol hosts --json",
            "farol hosts show vm112 --json",
            "farol hosts metrics vm112 --json",
            "farol hosts series vm112 disk.used_percent:/var --since 7d --step 5m --json",
            "farol hosts reports vm112 portal/answers --limit 20",
            "farol hosts history vm112 portal/answers --since 30d",
            "farol findings --all --url http://127.0.0.1:1",
            "farol findings notifications 0190f5d2-7b7c-7000-8000-000000000000 --json",
            "farol notifications",
            "farol notifications --state dead --json",
            "farol notifications resend 0190f5d2-7b7c-7000-8000-000000000000",
            "farol notifications preview --scenario proxmox.cluster --host vm112 --severity critical",
            "farol inbox --role devops",
            "farol signals --site lab --severity critical --json",
            "farol actions --state timed_out",
            "farol actions show 0190f5d2-7b7c-7000-8000-000000000000 --follow --url http://127.0.0.1:1",
            "farol actions evidence 0190f5d2-7b7c-7000-8000-000000000000 --out evidence",
            "farol actions propose vm112 logs.read {} --reason look --json",
            "farol approve 0190f5d2-7b7c-7000-8000-000000000000 --yes",
            "farol approve 0190f5d2-7b7c-7000-8000-000000000000 --key ana.pem",
            "farol key add ana",
            "farol key add laptop --operator ana --file ana.pem --json",
            "farol key list --json",
            "farol key revoke 21fe31dfa154a261",
            "farol operator export --json",
            "farol reject 0190f5d2-7b7c-7000-8000-000000000000 --comment no",
            "farol run proxmox.cluster",
            "farol check",
            "farol check proxmox.cluster/quorum --registry r.yaml --json",
            "farol registry check r.yaml",
            "farol integration add pve --kind proxmox --url https://10.0.0.1:8006 --url https://10.0.0.2:8006 --user f@pve!w --secret-file - --pin sha256:00",
            "farol integration set pve --insecure --option a=b",
            "farol integration list --json",
            "farol integration test pve",
            "farol integration remove pve",
            "farol topology",
            "farol topology vm112 --dot",
            "farol topology --json --url http://127.0.0.1:1",
            "farol silences --all --json",
            "farol silence add --host vm112 --for 2h --comment disk",
            "farol silence add --finding 0190f5d2 --comment known --json",
            "farol silence end 0190f5d2-7b7c-7000-8000-000000000000",
            "farol maintenance --all",
            "farol maintenance add patches --start 2026-11-22T02:00 --zone UTC --for 2h --repeat FREQ=WEEKLY --site lab",
            "farol maintenance add power --start 2026-11-22T02:00 --zone UTC --for 2h --all --dry-run",
            "farol maintenance disable 0190f5d2 --json",
            "farol maintenance end 0190f5d2",
            "farol audit list --actor ana --verb action. --object host:vm112 --limit 10 --json",
            "farol audit head",
            "farol audit verify --json",
            "farol audit verify --bundle b.tar --against 1:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "farol audit export --to b.tar --from 2026-11-21 --until 2026-11-22T12:00:00Z",
            "farol audit resume --comment restored",
            "farol openapi",
            "farol schema --out docs/schema/v1",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_exit_code_2() {
        for line in [
            "farol",
            "farol host add ../etc",
            "farol host key add ../etc",
            "farol host key revoke",
            "farol host add vm112 --ttl 0s",
            "farol host accept vm112",
            "farol host accept vm112 --machine 0123456789ab --boot 0123456789ab",
            "farol host rename vm112 ../etc",
            "farol hosts series vm112 cpu --since soon",
            "farol hosts reports vm112 ../etc!",
            "farol hosts reports vm112 portal/answers --limit 0",
            "farol ca rotate --root --finish",
            "farol ca rotate --force",
            "farol host add vm112 --ttl soon",
            "farol user add ana",
            "farol user add A7 --role seo",
            "farol user add ana --role seo --password secret",
            "farol token create --name ci --role devops --permission everything",
            "farol token create --name ana",
            "farol token create --name ana --role root",
            "farol token create --name A7 --role seo",
            "farol token create --name cli --role seo",
            "farol token create --name a/b --role seo",
            "farol actions --state asleep",
            "farol actions show a-118",
            "farol actions propose vm112 files.burn {} --reason x",
            "farol actions propose vm112 logs.read {}",
            "farol audit verify --against 1",
            "farol audit verify --key ed25519:x",
            "farol audit export",
            "farol audit export --to b.tar --from soon",
            "farol audit resume",
            "farol approve a-118",
            "farol reject 0190f5d2-7b7c-7000-8000-000000000000",
            "farol key add",
            "farol key add ../ana",
            "farol key register ed25519:AAAA --operator ana",
            "farol integration add pve --kind nonsense --url x",
            "farol integration set pve --insecure --verify",
            "farol silence add --host vm112",
            "farol silence add --host vm112 --for 0s --comment x",
            "farol silence add --all --host vm112 --comment x",
            "farol silence add --finding 1 --host vm112 --comment x",
            "farol maintenance add patches --zone UTC --for 2h --all",
            "farol sail",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(parse("farol --help").expect_err("help").kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn a_host_token_lasts_an_hour_and_an_api_token_a_month() {
        let Ok(Command::Once(Once::Host(HostCommand::Add { ttl, .. }))) = parse("farol host add vm112") else {
            panic!("a host command")
        };
        assert_eq!(ttl, Duration::from_secs(3600));
        let Ok(Command::Once(Once::Token(TokenCommand::Create { ttl, .. }))) =
            parse("farol token create --name ana --role seo")
        else {
            panic!("a token command")
        };
        assert_eq!(ttl, Lifetime::For(Duration::from_secs(30 * 86_400)));
    }
}
