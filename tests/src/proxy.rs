//! A TCP proxy that can stop forwarding while both its connections stay open,
//! as a network does that loses every packet.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// See the module.
pub struct Proxy {
    address: SocketAddr,
    flowing: watch::Sender<bool>,
}

impl Proxy {
    /// Listens and forwards to `to`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (flowing, flow) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let Ok(target) = TcpStream::connect(to).await else { continue };
                let (from, target) = (from.into_split(), target.into_split());
                tokio::spawn(pump(from.0, target.1, flow.clone()));
                tokio::spawn(pump(target.0, from.1, flow.clone()));
            }
        });
        Ok(Self { address, flowing })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards nothing any more, and closes nothing.
    pub fn freeze(&self) {
        self.flowing.send_replace(false);
    }

    /// Forwards again, what waited first.
    pub fn thaw(&self) {
        self.flowing.send_replace(true);
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if flow.wait_for(|flows| *flows).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
