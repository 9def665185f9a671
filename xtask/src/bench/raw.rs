//! The limits: the same TLS stack, frame and disk with nothing of Farol
//! around them.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use farol_protocol::FromAgent;
use farol_tests::peer::Identity;
use futures_util::{SinkExt as _, StreamExt as _};
use sqlx::{Any, AnyConnection, Connection as _, Executor as _, QueryBuilder};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

/// A bare server: receives, parses, commits in groups with fsync, acknowledges.
pub(crate) async fn serve(folder: &Path) -> Result<()> {
    let authority = farol_pki::Authority::open_or_create(&folder.join("pki"), time::OffsetDateTime::now_utc())?;
    let tls = farol_pki::server_config(&authority)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    std::fs::write(folder.join("address.tmp"), listener.local_addr()?.to_string())?;
    std::fs::rename(folder.join("address.tmp"), folder.join("address"))?;
    let (sender, queue) = mpsc::channel(4096);
    let mut connection = synced(&folder.join("raw.db")).await?;
    connection.execute("create table batch (id integer primary key, payload text not null)").await?;
    tokio::spawn(write(connection, queue));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, sender) = (TlsAcceptor::from(Arc::clone(&tls)), sender.clone());
        tokio::spawn(async move {
            // A client that breaks off is the end of its connection.
            let _broken_off = connection_of(acceptor, stream, sender).await;
        });
    }
}

type Item = (String, u64, mpsc::UnboundedSender<u64>);

async fn connection_of(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, sender: mpsc::Sender<Item>) -> Result<()> {
    let tls = acceptor.accept(stream).await?;
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let mut socket = tokio_tungstenite::accept_async_with_config(tls, Some(config)).await?;
    let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => match FromAgent::parse(text.as_str()) {
                    Ok(FromAgent::TelemetryPush(push)) => {
                        sender.send((text.as_str().to_owned(), push.seq, acknowledge.clone())).await?;
                    }
                    // The echo: any other frame goes back as it came.
                    _ => socket.send(Message::Text(text)).await?,
                },
                _ => return Ok(()),
            },
            Some(mut seq) = acknowledged.recv() => {
                while let Ok(more) = acknowledged.try_recv() {
                    seq = seq.max(more);
                }
                socket.send(Message::text(format!("{{\"method\":\"telemetry.ack\",\"seq\":{seq}}}"))).await?;
            }
        }
    }
}

async fn write(mut connection: AnyConnection, mut queue: mpsc::Receiver<Item>) -> Result<()> {
    let mut items = Vec::with_capacity(500);
    let mut id = 0_i64;
    while queue.recv_many(&mut items, 500).await > 0 {
        let mut transaction = connection.begin_with("begin immediate").await?;
        for chunk in items.chunks(50) {
            let mut insert = QueryBuilder::<Any>::new("insert into batch (id, payload) ");
            insert.push_values(chunk, |mut row, (payload, ..)| {
                id += 1;
                row.push_bind(id).push_bind(payload.clone());
            });
            insert.build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        for (_, seq, acknowledge) in items.drain(..) {
            // The connection may be over.
            let _over = acknowledge.send(seq);
        }
    }
    Ok(())
}

async fn synced(path: &Path) -> Result<AnyConnection> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await?;
    connection.execute("pragma journal_mode = wal; pragma synchronous = full").await?;
    Ok(connection)
}

/// A bare server in a process of its own.
pub(super) struct Bare {
    folder: tempfile::TempDir,
    process: farol_tests::process::Process,
    pub(super) address: SocketAddr,
    pub(super) identity: Identity,
}

impl Bare {
    pub(super) async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("farol-raw-").tempdir()?;
        let authority =
            farol_pki::Authority::open_or_create(&folder.path().join("pki"), time::OffsetDateTime::now_utc())?;
        let key = farol_pki::new_host_key()?;
        let certificate = authority.issue_host(&key.csr_pem, "raw", time::OffsetDateTime::now_utc())?;
        let leaf = (certificate.cert_pem.as_bytes(), key.key_pem.as_bytes());
        let identity = Identity::from_pem(authority.ca_pem().as_bytes(), Some(leaf))?;
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("bare-server").arg(folder.path());
        let process = farol_tests::process::Process::spawn("bare server", &mut command)?;
        let file = folder.path().join("address");
        let address = farol_tests::wait_until("the bare server", Duration::from_secs(10), async || {
            Ok(std::fs::read_to_string(&file).ok())
        })
        .await?;
        Ok(Self { address: address.parse().context("an address")?, folder, process, identity })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        self.process.kill().await?;
        self.folder.close().context("remove the bare server's folder")
    }
}

/// One-row transactions, each synced: sorted times.
pub(super) async fn commits(count: usize) -> Result<Vec<Duration>> {
    let folder = tempfile::tempdir()?;
    let mut connection = synced(&folder.path().join("commits.db")).await?;
    connection.execute("create table t (id integer primary key, v text not null)").await?;
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let begun = Instant::now();
        let mut transaction = connection.begin_with("begin immediate").await?;
        sqlx::query("insert into t (id, v) values ($1, $2)")
            .bind(i64::try_from(n)?)
            .bind("x".repeat(400))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// One synced transaction of many rows, 50 a statement: the median of five.
pub(super) async fn group_commit(rows: usize) -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let mut connection = synced(&folder.path().join("commits.db")).await?;
    connection.execute("create table t (id integer primary key, v text not null)").await?;
    let mut times = Vec::new();
    let mut id = 0_i64;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut transaction = connection.begin_with("begin immediate").await?;
        let mut left = rows;
        while left > 0 {
            let mut insert = QueryBuilder::<Any>::new("insert into t (id, v) ");
            insert.push_values(0..left.min(50), |mut row, _| {
                id += 1;
                row.push_bind(id).push_bind("x".repeat(400));
            });
            insert.build().execute(&mut *transaction).await?;
            left = left.saturating_sub(50);
        }
        transaction.commit().await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(super::percentile(&times, 0.5))
}

/// Starts of `/bin/true`, to its end: sorted times.
pub(super) async fn spawns(count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        tokio::process::Command::new("/bin/true").status().await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}
