//! The commands of `farol-agent`.

mod inventory;
mod policy;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use farol_protocol::{Language, Timestamp, report::CheckSpec, yaml::nearest};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    config::{Config, DEFAULT_POLICY, DEFAULT_STATE_DIR, Settings},
    doctor::{self, Level},
    enrol::{Enrol, enrol},
    journal, log,
    policy::Policy,
    probe::{Access, Prober},
    spool,
    state::{StateDir, certificate_end},
};

/// Watches a host for Farol and carries out what its policy and a person allow.
#[derive(Debug, Parser)]
#[command(name = "farol-agent", version)]
pub struct Cli {
    /// Folder of the identity, the journal and the spool.
    #[arg(long, global = true, value_name = "DIR", env = "FAROL_AGENT_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give this host its identity.
    Enroll(EnrollArgs),
    /// Watch the host until told to stop.
    Run(RunArgs),
    /// Show identity, connection, spool, policy and checks.
    Status(StatusArgs),
    /// Look at everything the agent needs and say what to do about it.
    Doctor(DoctorArgs),
    /// Run one assigned check now.
    Check(CheckArgs),
    /// Show the action journal, newest first.
    Journal(JournalArgs),
    /// Show what this host is made of, as the coordinator is told.
    Inventory(InventoryArgs),
    /// Look at the host's policy before it counts.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
}

#[derive(Args)]
struct EnrollArgs {
    /// Address of the coordinator, as `farol host add` prints it.
    #[arg(long, value_name = "wss://HOST:8192")]
    url: String,
    /// Single-use token; better given by the environment, where other users cannot see it.
    #[arg(long, value_name = "T", env = "FAROL_ENROL_TOKEN", hide_env_values = true)]
    token: String,
    /// SHA-256 of the coordinator's root certificate.
    #[arg(long, value_name = "sha256:…")]
    ca_fingerprint: String,
    /// Replace the identity this host has.
    #[arg(long)]
    force: bool,
}

impl std::fmt::Debug for EnrollArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollArgs").field("url", &self.url).field("force", &self.force).finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
struct PolicyArg {
    /// The host's policy.
    #[arg(long, value_name = "FILE", env = "FAROL_AGENT_POLICY", default_value = DEFAULT_POLICY)]
    policy: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Settings; /etc/farol-agent/agent.yaml is read when it exists.
    #[arg(long, value_name = "PATH", env = "FAROL_AGENT_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArg,
    /// Read the host and run its checks once, deliver, and end.
    #[arg(long)]
    once: bool,
    /// From one batch to the next, such as 30s.
    #[arg(long, value_name = "DURATION", env = "FAROL_AGENT_INTERVAL")]
    interval: Option<String>,
    /// From one look at what the host is made of to the next, such as 5m, or off.
    #[arg(long, value_name = "DURATION", env = "FAROL_AGENT_INVENTORY_INTERVAL")]
    inventory_interval: Option<String>,
    /// Longest pause between two attempts to connect, such as 60s.
    #[arg(long, value_name = "DURATION", env = "FAROL_AGENT_RECONNECT_MAX")]
    reconnect_max: Option<String>,
    /// Bound of the spool.
    #[arg(long, value_name = "BYTES", env = "FAROL_AGENT_SPOOL_MAX_BYTES")]
    spool_max_bytes: Option<u64>,
    /// Batches of a backlog that leave in a second, beside the live ones.
    #[arg(long, value_name = "N", env = "FAROL_AGENT_BACKFILL_PER_SECOND")]
    backfill_per_second: Option<u32>,
    /// Language of reports, pt-BR or en; the coordinator's when absent.
    #[arg(long, value_name = "LANGUAGE", env = "FAROL_AGENT_LANGUAGE", value_parser = language)]
    language: Option<Language>,
    /// Socket of the container engine [default: /var/run/docker.sock].
    #[arg(long, value_name = "PATH", env = "FAROL_AGENT_DOCKER_SOCKET")]
    docker_socket: Option<String>,
    /// off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", env = "FAROL_AGENT_LOG_LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    policy: PolicyArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Settings; /etc/farol-agent/agent.yaml is read when it exists.
    #[arg(long, value_name = "PATH", env = "FAROL_AGENT_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArg,
    /// Language of the lines; that of the assigned checks when absent.
    #[arg(long, value_name = "LANGUAGE", env = "FAROL_AGENT_LANGUAGE", value_parser = language)]
    language: Option<Language>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Id of the check; without it the assigned checks are listed.
    name: Option<String>,
    #[command(flatten)]
    policy: PolicyArg,
    /// Language of the report; the coordinator's when absent.
    #[arg(long, value_name = "LANGUAGE", env = "FAROL_AGENT_LANGUAGE", value_parser = language)]
    language: Option<Language>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct JournalArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct InventoryArgs {
    /// Settings; /etc/farol-agent/agent.yaml is read when it exists.
    #[arg(long, value_name = "PATH", env = "FAROL_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn language(text: &str) -> Result<Language, String> {
    match text {
        "pt-BR" => Ok(Language::PtBr),
        "en" => Ok(Language::En),
        _ => Err("use pt-BR or en".to_owned()),
    }
}

impl Cli {
    /// Carries out the command.
    ///
    /// # Errors
    /// What went wrong, with the exit code in [`Error::exit_code`].
    pub async fn execute(self, shutdown: CancellationToken) -> Result<(), Error> {
        let state = StateDir::new(&self.state_dir);
        match self.command {
            Command::Enroll(args) => enroll(&state, args).await,
            Command::Run(args) => {
                let given = Settings {
                    interval: args.interval,
                    inventory_interval: args.inventory_interval,
                    reconnect_max: args.reconnect_max,
                    spool_max_bytes: args.spool_max_bytes,
                    backfill_per_second: args.backfill_per_second,
                    language: args.language,
                    docker_socket: args.docker_socket,
                    log_level: args.log_level,
                };
                let mut config = Config::load(state.root(), args.config.as_deref(), given)?;
                config.policy = args.policy.policy;
                config.once = args.once;
                log::init(config.log_level);
                crate::run(config, shutdown).await
            }
            Command::Status(args) => status(&state, &args).await,
            Command::Doctor(args) => examine(&state, args).await,
            Command::Check(args) => check(&state, &args).await,
            Command::Journal(args) => show_journal(&state, args.json).await,
            Command::Inventory(args) => inventory::show(&state, args).await,
            Command::Policy(command) => policy::run(&command),
        }
    }
}

async fn enroll(state: &StateDir, args: EnrollArgs) -> Result<(), Error> {
    // Said before anything is written or sent.
    farol_pki::enrol_config(&args.ca_fingerprint).map_err(|error| Error::Usage(error.to_string()))?;
    let request = Enrol {
        endpoint: args.url.parse()?,
        token: args.token,
        ca_fingerprint: args.ca_fingerprint,
        force: args.force,
    };
    let enrolment = enrol(state, &request).await?;
    print(&format!(
        "This host is enrolled as `{}` (id {}). Start the agent now: systemctl enable --now farol-agent\n",
        enrolment.name, enrolment.host_id
    ))
}

async fn status(state: &StateDir, args: &StatusArgs) -> Result<(), Error> {
    let enrolment = state.enrolment()?;
    let running = state.is_in_use();
    let connection = state.connection()?;
    let connected = running && connection.as_ref().is_some_and(|connection| connection.state == "connected");
    let certificate_ends = std::fs::read_to_string(state.cert()).ok().and_then(|pem| certificate_end(&pem));
    let policy = match Policy::load(&args.policy.policy) {
        Ok(Some(policy)) if policy.read_only => "read-only: every effect is refused".to_owned(),
        Ok(Some(policy)) => format!("in force, up to {} without signatures", policy.max_unsigned_class),
        Ok(None) => "missing: every effect is refused".to_owned(),
        Err(error) => error.sentence(),
    };
    let assignment = state.assignment()?;
    let spool = if state.spool().exists() { Some(spool::summary(&state.spool()).await?) } else { None };
    let lines = if state.journal().exists() { journal::lines(&state.journal()).await? } else { Vec::new() };
    let unfinished: Vec<&str> =
        lines.iter().filter(|line| line.state == "started").map(|line| line.action_id.as_str()).collect();
    let unacknowledged = lines.iter().filter(|line| line.result.is_some() && !line.acked).count();

    if args.json {
        return print_json(&json!({
            "host_id": enrolment.host_id,
            "name": enrolment.name,
            "url": enrolment.url,
            "version": env!("CARGO_PKG_VERSION"),
            "running": running,
            "connected": connected,
            "connection": connection,
            "certificate_ends": certificate_ends,
            "policy": policy,
            "checks": assignment.as_ref().map(|assignment| json!({
                "version": assignment.version,
                "names": assignment.checks.iter().map(|spec| spec.id.as_str()).collect::<Vec<_>>(),
            })),
            "spool": spool,
            "journal": {"entries": lines.len(), "unfinished": unfinished, "unacknowledged": unacknowledged},
        }));
    }
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    row("host", &format!("{} ({})", enrolment.name, enrolment.host_id));
    row("coordinator", &enrolment.url);
    row("agent", if running { "running" } else { "not running; start it with: systemctl start farol-agent" });
    if running && let Some(connection) = &connection {
        let reason = connection.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        row("connection", &format!("{} since {}{reason}", connection.state, connection.since));
    }
    if let Some(end) = certificate_ends {
        row("certificate", &format!("valid until {end}"));
    }
    row("policy", &policy);
    if let Some(assignment) = &assignment {
        row("checks", &assignment.checks.len().to_string());
    }
    if let Some(spool) = &spool {
        let oldest = spool.oldest.map(|at| format!(", oldest {at}")).unwrap_or_default();
        let backlog = if spool.backlog > 0 { format!(", {} of them backlog", spool.backlog) } else { String::new() };
        let lost = if spool.lost > 0 { format!(", {} lost and not yet told", spool.lost) } else { String::new() };
        row("spool", &format!("{} batches, {} bytes{oldest}{backlog}{lost}", spool.batches, spool.bytes));
    }
    row(
        "journal",
        &format!("{} entries, {} running, {unacknowledged} not acknowledged", lines.len(), unfinished.len()),
    );
    print(&text)
}

async fn examine(state: &StateDir, args: DoctorArgs) -> Result<(), Error> {
    let mut config = Config::load(state.root(), args.config.as_deref(), Settings::default())?;
    config.policy = args.policy.policy;
    let assigned = || state.assignment().ok().flatten().map(|assignment| assignment.language);
    let language = args.language.or(config.language).or_else(assigned).unwrap_or_default();
    let lines = doctor::examine(state, &config, language).await;
    let problems = lines.iter().filter(|line| line.level == Level::Problem).count();
    if args.json {
        print_json(&json!({"ok": problems == 0, "checks": lines}))?;
    } else {
        let mut text = String::new();
        for line in &lines {
            let _ = writeln!(text, "{:<8} {:<12} {}", line.level.as_str(), line.name, line.text);
            if let Some(advice) = &line.advice {
                let _ = writeln!(text, "{:<21} {advice}", "");
            }
        }
        print(&text)?;
    }
    if problems > 0 { Err(Error::Unwell { problems }) } else { Ok(()) }
}

async fn check(state: &StateDir, args: &CheckArgs) -> Result<(), Error> {
    let Some(assignment) = state.assignment()? else {
        return Err(Error::Usage(
            "no checks are assigned to this host yet; start the agent and let it connect".to_owned(),
        ));
    };
    let Some(name) = args.name.as_deref() else {
        return list_checks(&assignment.checks, args.json);
    };
    let names = || assignment.checks.iter().map(|spec| spec.id.as_str());
    let Some(spec) = assignment.checks.iter().find(|spec| spec.id.as_str() == name) else {
        let near = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("assigned are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(Error::Usage(format!("`{name}` is not assigned to this host; {near}")));
    };
    let access = Access::from(Policy::load(&args.policy.policy)?);
    let config = Config::load(state.root(), None, Settings::default())?;
    let prober =
        Prober::new(args.language.unwrap_or(assignment.language), access).with_docker_socket(config.docker_socket);
    let report = prober.run(spec, Timestamp::now()).await;
    if args.json {
        return print_json(&report);
    }
    print(&format!("{:<8} {}\n", report.status.as_str(), report.text))
}

fn list_checks(checks: &[CheckSpec], as_json: bool) -> Result<(), Error> {
    if as_json {
        return print_json(&checks);
    }
    if checks.is_empty() {
        return print("No checks are assigned to this host.\n");
    }
    print(&listed(checks))
}

/// One line for each check: what it is called, what it looks at, how often.
fn listed(checks: &[CheckSpec]) -> String {
    let width = checks.iter().map(|spec| spec.id.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    for spec in checks {
        let every = humantime::format_duration(std::time::Duration::from_millis(spec.every_ms));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<width$}  {:<16}  every {every}", spec.id.as_str(), spec.probe.kind());
    }
    text
}

async fn show_journal(state: &StateDir, as_json: bool) -> Result<(), Error> {
    let lines = if state.journal().exists() { journal::lines(&state.journal()).await? } else { Vec::new() };
    if as_json {
        return print_json(&lines);
    }
    if lines.is_empty() {
        return print("The journal is empty: no action was ever ordered.\n");
    }
    let mut text = String::new();
    if io::stdout().is_terminal() {
        let _ = writeln!(text, "{:<24}  {:<36}  {:<15}  {:<11}  ACKNOWLEDGED", "JOURNALLED", "ACTION", "KIND", "STATE");
    }
    for line in lines {
        let acked = if line.acked { "yes" } else { "no" };
        let _ =
            writeln!(text, "{}  {}  {:<15}  {:<11}  {acked}", line.started_at, line.action_id, line.kind, line.state);
    }
    print(&text)
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Answer(error.to_string()))?;
    print(&format!("{text}\n"))
}

/// A reader that went away, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Io { operation: "write to", path: "standard output".into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_assigned_checks_are_listed_with_their_kind() {
        let check = |id: &str, probe: &str| CheckSpec {
            id: id.parse().expect("valid"),
            every_ms: 300_000,
            timeout_ms: 10_000,
            probe: serde_json::from_str(probe).expect("valid"),
        };
        let checks = [check("host/disk", r#"{"disk": {"mount": "/"}}"#), check("host/r", r#"{"raid": {}}"#)];
        assert_eq!(listed(&checks), "host/disk  disk              every 5m\nhost/r     raid              every 5m\n");
        let cli = Cli::try_parse_from(["farol-agent", "check", "--json"]);
        assert!(cli.is_ok(), "the name may be left out");
    }

    #[test]
    fn the_token_is_not_in_debug_output() {
        let cli = Cli::try_parse_from([
            "farol-agent",
            "enroll",
            "--url",
            "wss://a",
            "--token",
            "s3cret",
            "--ca-fingerprint",
            "sha256:00",
        ])
        .expect("valid");
        assert!(!format!("{cli:?}").contains("s3cret"));
    }
}
