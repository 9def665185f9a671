//! `farol-agent`: see `farol-agent --help`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use farol_agent::cli::Cli;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // Clap ends with 2 for wrong usage by itself.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("could not start: {error}"), 1),
    };
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let signals = tokio::spawn(cancel_on_signal(shutdown.clone()));
        let result = cli.execute(shutdown).await;
        signals.abort();
        result
    });
    // A probe that hangs in the kernel must not hold the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.sentence(), error.exit_code()),
    }
}

fn fail(sentence: &str, code: u8) -> ExitCode {
    // There is no other place to complain.
    let _ = writeln!(io::stderr(), "farol-agent: {sentence}");
    ExitCode::from(code)
}

#[cfg(unix)]
async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
}

#[cfg(not(unix))]
async fn cancel_on_signal(shutdown: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        shutdown.cancel();
    }
}
