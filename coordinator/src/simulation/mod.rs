//! A coordinator on a simulated network: what [`crate::run`] puts together,
//! without its ports, and with people who decide. Present only where the
//! compiler is given `--cfg farol_simulation`.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use farol_agent::simulation::{Dialled, World, current, scoped};
use farol_protocol::{ActionKind, Timestamp, ToAgent, registry::Registry};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BULK_QUEUE, COMMITTED_QUEUE,
    action::State,
    app::{App, Board, Shared, Wake},
    auth::Operator,
    checks::Schedule,
    config::{Config, Flags},
    error::{Result, StoreContext as _},
    fleet,
    integrations::{Integrations, Vault},
    jobs,
    store::{Cursor, Store, actions::ActionRow, hosts::HostKey},
    watched::{Watched, Watching},
};

/// What a person asks for.
#[derive(Debug)]
pub enum Wish {
    /// An action, approved at once. Its reason is its label.
    Act {
        /// Where.
        host: String,
        /// Kind.
        kind: ActionKind,
        /// Parameters.
        params: Value,
        /// Label.
        label: String,
    },
    /// An action back.
    Cancel(String),
    /// Every proposal of a person decided, since some requests were cut off.
    Settle {
        /// Whether what cannot be approved without a signature is rejected; it expires otherwise.
        reject: bool,
    },
    /// All actions.
    Look(oneshot::Sender<Vec<ActionRow>>),
}

/// Writes down what is acknowledged.
pub(crate) fn note_sent(text: &str) {
    if let (Some(node), Ok(ToAgent::TelemetryAck(ack))) = (current(), ToAgent::parse(text)) {
        node.world.acknowledged(&ack.stream.to_string(), ack.seq);
    }
}

/// Runs until `stop`; must be polled as a task of its node.
///
/// # Errors
/// The store failed at the start.
pub async fn serve(
    world: Arc<World>,
    folder: &Path,
    registry: &str,
    heartbeat: Duration,
    mut dialled: mpsc::UnboundedReceiver<Dialled>,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    stop: CancellationToken,
) -> Result<()> {
    let flags = Flags { data_dir: Some(folder.to_owned()), ..Flags::default() };
    let config = Config { heartbeat, approval_hold: Duration::ZERO, ..Config::load(&flags, &|_| None)? };
    let registry = Registry::parse(registry, &|_| None)
        .map_err(|mistake| crate::error::Error::Document { path: "registry".into(), mistake })?;
    let store = Store::open(&config.data_dir).await?;
    nothing_acknowledged_is_missing(&world, &store).await?;
    let now = Timestamp::now();
    store.sync_hosts(&registry, now).await?;
    let hosts: HashMap<String, HostKey> = store.hosts().await?.into_iter().map(|host| (host.name, host.key)).collect();
    let (bulk, bulk_queue) = mpsc::channel(BULK_QUEUE);
    let (committed, committed_queue) = mpsc::channel(COMMITTED_QUEUE);
    let (acknowledge, acknowledged) = mpsc::channel(16);
    let writer = store.bulk_writer(committed).await?;
    let integrations = Integrations::new(Vault::open_or_create(&config.data_dir)?);
    let app: App = Arc::new(Shared {
        schedule: Schedule::new(&registry, now, fastrand::f64),
        llm: None,
        mailer: None,
        people: crate::people::People::new(&config.data_dir)?,
        fleet: fleet::Fleet::default(),
        board: Board::default(),
        topology: crate::topology::Live::default(),
        quiet: crate::quiet::Live::default(),
        events: crate::events::Events::default(),
        metrics: crate::metrics::Metrics::default(),
        heartbeat: crate::notify::Heartbeat::default(),
        sealing: crate::record::Sealing::default(),
        wake: Wake::default(),
        http_keys: crate::http_keys::HttpKeys::open_or_create(&config.data_dir)?,
        outputs: crate::output::Outputs::default(),
        bulk,
        correlator: acknowledge,
        started_at: now,
        stop: stop.clone(),
        room: fleet::limits::Room::shared(),
        trust: fleet::Trust::open(&config.data_dir.join("pki"))?,
        watching: Watching::new(Watched::new(registry, hosts)),
        catalogue: crate::catalogue::Live::default(),
        switch: crate::remediation::Switch::default(),
        integrations,
        store,
        config,
    });
    app.fleet.refresh(&app.store).await?;
    let correlator = jobs::correlator::Job::load(app.clone()).await?;
    let producers = TaskTracker::new();
    let drain = CancellationToken::new();
    let writer = tokio::spawn(scoped(writer.run(bulk_queue, drain.clone())));
    let correlator = tokio::spawn(scoped(correlator.run(committed_queue, acknowledged, drain.clone())));
    for job in jobs::simulated(&app, &stop) {
        producers.spawn(scoped(job));
    }
    world.say("coordinator", "listens");
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(dialled) = dialled.recv() => {
                producers.spawn(scoped(fleet::simulated(app.clone(), dialled, stop.clone())));
            }
            Some(wish) = wishes.recv() => {
                let (app, world) = (app.clone(), Arc::clone(&world));
                producers.spawn(scoped(async move {
                    if let Err(error) = grant(&app, wish).await {
                        world.say("a person", &format!("is told: {error}"));
                    }
                }));
            }
        }
    }
    producers.close();
    producers.wait().await;
    drain.cancel();
    // Neither panics without its node dying.
    let _ended = tokio::join!(writer, correlator);
    app.store.close().await;
    Ok(())
}

async fn grant(app: &App, wish: Wish) -> Result<()> {
    let person = Operator::local_administrator();
    let world = current().map(|node| Arc::clone(&node.world));
    let say = |what: String| {
        if let Some(world) = &world {
            world.say("a person", &what);
        }
    };
    match wish {
        Wish::Act { host, kind, params, label } => {
            let row = app.propose(&person, &host, kind, params, &label).await?;
            say(format!("proposes {label} on {host}: {}", row.id));
            app.approve(&person, row.id, &row.plan_hash, "", &[]).await?;
            say(format!("has approved {label}"));
        }
        Wish::Cancel(label) => {
            if let Some(row) = all(app).await?.into_iter().find(|row| row.reason == label) {
                say(format!("cancels {label}, which is {}", row.state));
                app.cancel(&person, row.id, "").await?;
            }
        }
        Wish::Settle { reject } => {
            for row in all(app).await?.into_iter().filter(|row| row.state == State::Proposed) {
                if row.requested_by != person.name() {
                    continue;
                }
                // It may have changed meanwhile, or its host may ask for signatures.
                if let Err(error) = app.approve(&person, row.id, &row.plan_hash, "", &[]).await {
                    say(format!("cannot approve {}: {error}", row.reason));
                    if reject {
                        app.reject(&person, row.id, &row.plan_hash, "").await?;
                    }
                }
            }
        }
        Wish::Look(answer) => {
            // Whoever asked may be gone.
            let _ = answer.send(all(app).await?);
        }
    }
    Ok(())
}

async fn all(app: &App) -> Result<Vec<ActionRow>> {
    let from = Cursor { ms: i64::MAX, id: String::new() };
    Ok(app.store.actions(None, &from, 1000).await?.items)
}

/// The second guarantee at a start: what an agent was told is committed is in
/// the file.
async fn nothing_acknowledged_is_missing(world: &World, store: &Store) -> Result<()> {
    let mut read = store.telemetry().read().await?;
    let rows: Vec<(String, i64)> = sqlx::query_as("select stream, last_seq from stream")
        .fetch_all(&mut *read)
        .await
        .context("read the streams")?;
    let committed: HashMap<String, u64> =
        rows.into_iter().map(|(stream, seq)| (stream, u64::try_from(seq).unwrap_or(0))).collect();
    for (stream, seq) in world.all_acknowledged() {
        let there = committed.get(&stream).copied().unwrap_or(0);
        if there < seq {
            world.violated(2, &format!("batch {seq} of stream {stream} was acknowledged, {there} is committed"));
        }
    }
    Ok(())
}
