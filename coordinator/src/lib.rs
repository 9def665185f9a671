//! The coordinator: takes what agents report, turns it into findings that
//! people read, and hands approved actions to hosts.
//!
//! `docs/ARCHITECTURE.md` is the map of the modules and their invariants.

pub mod access;
pub mod action;
pub mod advice;
pub mod app;
pub mod auth;
pub mod catalogue;
pub mod cause;
pub mod checks;
pub mod cli;
pub mod config;
pub mod correlate;
pub mod daily;
pub mod error;
pub mod events;
pub mod fleet;
pub mod history;
pub mod http;
pub mod http_keys;
pub mod inbox;
pub mod ingest;
pub mod integrations;
pub mod jobs;
pub mod metrics;
pub mod notify;
pub mod output;
pub mod people;
pub mod quiet;
pub mod record;
pub mod remediation;
pub mod replay;
pub mod roster;
pub mod signals;
#[cfg(farol_simulation)]
pub mod simulation;
pub mod store;
pub mod text;
pub mod tickets;
pub mod topology;
pub mod watched;

use std::{fs::TryLockError, net::SocketAddr, path::Path, sync::Arc};

use farol_protocol::Timestamp;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    advice::{Ollama, OllamaConfig},
    app::{App, Board, Shared, Wake},
    checks::Schedule,
    config::Config,
    error::{Error, Result},
    fleet::Southbound,
    integrations::{Integrations, Vault},
    notify::{MailConfig, Mailer},
    store::Store,
    watched::{Watched, Watching},
};

/// Name of the setting that tells `farol host add` where agents connect.
pub const SOUTHBOUND_URL: &str = "southbound_url";
/// Telemetry that may wait for the writer.
const BULK_QUEUE: usize = 4096;
/// Commits that may wait for the correlator.
const COMMITTED_QUEUE: usize = 256;

/// Where a running coordinator listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// API.
    pub http: SocketAddr,
    /// Agents.
    pub southbound: SocketAddr,
}

/// Runs a coordinator until `stop`. `ready` is told where it listens.
///
/// # Errors
/// The configuration, the registry, the store or a port is not usable.
pub async fn run(config: Config, ready: Option<oneshot::Sender<Addresses>>, stop: CancellationToken) -> Result<()> {
    let text = config::read(&config.registry)?;
    let registry = jobs::registry::parse(&config.registry, &text)?;
    let own_catalogue = catalogue::read(&config.catalogue)?;
    let catalogue = catalogue::load(&config.catalogue, own_catalogue.as_deref())?;
    let _lock = lock(&config.data_dir)?;
    let store = Store::open(&config.data_dir).await?;
    let trust = fleet::Trust::open(&config.data_dir.join("pki"))?;

    let tls = config.http_tls.as_ref().map(|(cert, key)| http::tls(cert, key)).transpose()?;
    let http = listen(config.http_addr)?;
    let southbound = listen(config.southbound_addr)?;
    let addresses = Addresses { http: local(&http)?, southbound: local(&southbound)? };
    let url = config.southbound_url.clone().unwrap_or_else(|| southbound_url(addresses.southbound));
    store.set_setting(SOUTHBOUND_URL, &url).await?;

    let now = Timestamp::now();
    store.sync_hosts(&registry, now).await?;
    store.record_in_use("registry", &config.registry, &text, now).await?;
    if let Some(own) = &own_catalogue {
        store.record_in_use("catalogue", &config.catalogue, own, now).await?;
    }
    let hosts = jobs::registry::hosts(&store).await?;
    let (bulk, bulk_queue) = mpsc::channel(BULK_QUEUE);
    let (committed, committed_queue) = mpsc::channel(COMMITTED_QUEUE);
    let (acknowledge, acknowledged) = mpsc::channel(16);
    let writer = store.bulk_writer(committed).await?;
    let integrations = Integrations::new(Vault::open_or_create(&config.data_dir)?);
    integrations.refresh(&store).await?;
    let app: App = Arc::new(Shared {
        schedule: Schedule::new(&registry, now, fastrand::f64),
        llm: ollama(&config)?,
        mailer: mailer(&config)?,
        people: people::People::new(&config.data_dir)?,
        fleet: fleet::Fleet::default(),
        http_keys: http_keys::HttpKeys::open_or_create(&config.data_dir)?,
        trust,
        board: Board::default(),
        topology: topology::Live::default(),
        quiet: quiet::Live::default(),
        events: events::Events::default(),
        outputs: output::Outputs::default(),
        metrics: metrics::Metrics::default(),
        heartbeat: notify::Heartbeat::default(),
        sealing: record::Sealing::default(),
        wake: Wake::default(),
        bulk,
        room: fleet::limits::Room::shared(),
        correlator: acknowledge,
        started_at: now,
        stop: stop.clone(),
        watching: Watching::new(Watched::new(registry, hosts)),
        catalogue: catalogue::Live::new(catalogue),
        switch: remediation::Switch::load(&store).await?,
        integrations,
        store,
        config,
    });
    app.fleet.refresh(&app.store).await?;
    let correlator = jobs::correlator::Job::load(app.clone()).await?;

    tracing::info!(http = %addresses.http, southbound = %addresses.southbound,
        ca_fingerprint = app.trust.present().authority.root_fingerprint(), "the coordinator listens");
    invite(&app, addresses.http).await?;
    farol_agent::systemd::ready();
    if let Some(ready) = ready {
        // Whoever asked may not wait any more.
        let _gone = ready.send(addresses);
    }

    // What produces telemetry ends first, then the writer, then the correlator.
    let producers = TaskTracker::new();
    let drain = CancellationToken::new();
    let writer = tokio::spawn(writer.run(bulk_queue, drain.clone()));
    let correlator = tokio::spawn(correlator.run(committed_queue, acknowledged, drain.clone()));
    jobs::start(&app, text, &producers, &stop);
    producers.spawn(checks::run(app.clone(), stop.clone()));
    producers.spawn(fleet::serve(Southbound { app: app.clone() }, southbound, stop.clone()));
    http::serve(http, http::router(app.clone()), tls, stop.clone()).await;
    stop.cancel();
    farol_agent::systemd::stopping();
    producers.close();
    producers.wait().await;
    drain.cancel();
    for (name, task) in [("writer", writer), ("correlator", correlator)] {
        if let Err(error) = task.await {
            tracing::error!("the {name} ended badly: {error}");
        }
    }
    if let Err(error) = app.store.save_last_seen(&app.fleet.all_last_seen()).await {
        tracing::warn!("when hosts were last seen was not saved: {error}");
    }
    app.store.close().await;
    tracing::info!("the coordinator has stopped");
    Ok(())
}

/// Where nobody can get in yet, whoever reads the log can.
async fn invite(app: &App, http: SocketAddr) -> Result<()> {
    if app.store.anybody().await? != (false, false) {
        return Ok(());
    }
    let secret = app.people.first_run.open(Timestamp::now())?;
    let scheme = if app.config.http_tls.is_some() { "https" } else { "http" };
    let base = app.config.public_url.clone().unwrap_or_else(|| format!("{scheme}://{http}"));
    // What follows the `#` stays in the browser: it is in no log of a proxy.
    tracing::warn!(
        first_run.url = format!("{base}{}#{}", http::FIRST_RUN, secret.expose()),
        "there is no account yet: open this address within an hour to make the first one, or run `farol user add`"
    );
    Ok(())
}

/// One coordinator a folder: two would number the same reports.
fn lock(folder: &Path) -> Result<std::fs::File> {
    farol_pki::files::private_dir(folder)?;
    let path = folder.join("serve.lock");
    let failed = |source| Error::File { what: "create", path: path.clone(), source };
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Refused(format!(
            "another coordinator runs on {}; stop it first or use another FAROL_DATA_DIR",
            folder.display()
        ))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Connections that the system keeps until they are accepted. A fleet that
/// comes back at once must not meet a full queue: its retries take seconds.
const BACKLOG: u32 = 16_384;

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| Error::Listen { address: address.to_string(), source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|source| Error::Listen { address: "a port".to_owned(), source })
}

/// Where agents are told to connect when nothing else is configured: the
/// address itself, or this machine's name where it listens on all.
fn southbound_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let name = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned());
        format!("wss://{name}:{}", address.port())
    } else {
        format!("wss://{address}")
    }
}

fn ollama(config: &Config) -> Result<Option<Ollama>> {
    let Some(llm) = &config.llm else { return Ok(None) };
    let config = OllamaConfig { base_url: llm.url.clone(), model: llm.model.clone(), timeout: llm.timeout };
    Ollama::new(&config).map(Some).map_err(|error| Error::Config(format!("OLLAMA_BASE_URL: {error}")))
}

fn mailer(config: &Config) -> Result<Option<Mailer>> {
    let Some(mail) = &config.mail else { return Ok(None) };
    if let Some(to) = &mail.to {
        notify::check_address(to).map_err(|error| Error::Config(format!("DESK_ROOT_NOTIFY_EMAIL: {error}")))?;
    }
    let config = MailConfig { url: mail.url.clone(), from: mail.from.clone() };
    Mailer::new(&config).map(Some).map_err(|error| Error::Config(format!("FAROL_SMTP_URL or FAROL_MAIL_FROM: {error}")))
}
