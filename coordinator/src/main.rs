//! The `farol` program.

use std::process::ExitCode;

use clap::Parser as _;
use farol_coordinator::{
    cli::{self, Cli, Command},
    config::{Config, Flags},
    error::{Error, Result},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Libraries that speak only when something is wrong, unless FAROL_LOG names them.
const QUIET: &str = "hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,sqlx=warn,lettre=warn";

fn main() -> ExitCode {
    let cli = Cli::parse();
    farol_pki::install_default_provider();
    let done = match cli.command {
        Command::Serve(flags) => serve(&flags),
        Command::Once(command) => {
            runtime(&mut Builder::new_current_thread()).and_then(|runtime| runtime.block_on(cli::run(command)))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("farol: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(flags: &Flags) -> Result<()> {
    let config = Config::load(flags, &|name| std::env::var(name).ok())?;
    start_logging()?;
    runtime(&mut Builder::new_multi_thread())?.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        farol_coordinator::run(config, None, stop).await
    })
}

fn runtime(builder: &mut Builder) -> Result<Runtime> {
    builder.enable_all().build().map_err(|error| Error::Refused(format!("cannot start: {error}")))
}

/// JSON, one object a line, on standard error.
fn start_logging() -> Result<()> {
    let wanted = std::env::var("FAROL_LOG").ok().filter(|text| !text.trim().is_empty());
    let wanted = wanted.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}")).map_err(|error| {
        Error::Config(format!("FAROL_LOG is `{wanted}`, not a filter such as info or farol_coordinator=debug: {error}"))
    })?;
    // The fields of a span stand beside those of its events, so that every line
    // of a connection has its agent_id and session_id at the top.
    let lines = json_subscriber::layer()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .flatten_current_span_on_top_level(true)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(())
}

/// The first signal asks for an orderly stop.
fn stop_on_signals(stop: CancellationToken) -> Result<()> {
    let failed = |error: std::io::Error| Error::Refused(format!("cannot watch for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}
