//! The demonstration's portal: a small HTTP service in a process of its own,
//! and its keeper, which starts it again when the host's policy says so.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};

/// Verb under which this program is the portal itself.
pub(crate) const SERVE: &str = "serve";

/// Keeps a portal running, as a service manager would.
pub(crate) struct Keeper {
    /// Where it takes orders.
    pub(crate) control: SocketAddr,
    child: Arc<Mutex<Option<Child>>>,
}

impl Keeper {
    /// Starts the portal and listens for orders.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn start(portal: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let keeper = Self { control: listener.local_addr()?, child: Arc::default() };
        restart(&keeper.child, portal).await?;
        let child = Arc::clone(&keeper.child);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever asks and breaks off gets no answer.
                let _broken_off = obey(&child, portal, stream).await;
            }
        });
        Ok(keeper)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) async fn kill(&self) -> Result<()> {
        let mut child = self.child.lock().await;
        child.take().context("the portal does not run")?.kill().await.context("kill the portal")
    }
}

async fn obey(child: &Mutex<Option<Child>>, portal: SocketAddr, stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let answer = match line.trim() {
        "restart" => match restart(child, portal).await {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => format!("{error:#}\n"),
        },
        "status" if answers(portal).await => "ok\n".to_owned(),
        "status" => "down\n".to_owned(),
        other => format!("no order is called `{other}`\n"),
    };
    stream.get_mut().write_all(answer.as_bytes()).await?;
    Ok(())
}

async fn restart(child: &Mutex<Option<Child>>, portal: SocketAddr) -> Result<()> {
    let mut child = child.lock().await;
    if let Some(mut old) = child.take() {
        old.kill().await?;
    }
    let own = std::env::current_exe()?;
    let new = Command::new(own).args(["portal", SERVE, &portal.to_string()]).kill_on_drop(true).spawn()?;
    *child = Some(new);
    for _ in 0..200 {
        if answers(portal).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    bail!("the portal does not answer at {portal}")
}

async fn answers(portal: SocketAddr) -> bool {
    timeout(Duration::from_secs(1), TcpStream::connect(portal)).await.is_ok_and(|connected| connected.is_ok())
}

/// What the policy's commands run: `serve` is the portal, anything else is an
/// order to the keeper.
///
/// # Errors
/// The keeper is not there or could not obey.
pub(crate) async fn ask(verb: &str, address: &str) -> Result<()> {
    if verb == SERVE {
        return serve(address).await;
    }
    let mut stream = TcpStream::connect(address).await.context("the portal's keeper is not there")?;
    stream.write_all(format!("{verb}\n").as_bytes()).await?;
    let mut answer = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.context("the keeper is slow")??;
    if answer.trim() != "ok" {
        bail!("{}", answer.trim());
    }
    Ok(())
}

async fn serve(address: &str) -> Result<()> {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"status\":\"ok\"}";
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = [0; 2048];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                // A client that goes away early is its own affair.
                let _gone = stream.write_all(ANSWER.as_bytes()).await;
            }
        });
    }
}
