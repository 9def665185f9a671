//! TLS for the PostgreSQL client, over the same trust as everything else.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::integrations::{http::Failure, stream::Place};

/// Begins TLS where the server agrees to it.
pub(super) struct Rustls {
    pub(super) place: Place,
    pub(super) config: Arc<ClientConfig>,
}

impl TlsConnect<TcpStream> for Rustls {
    type Stream = Stream;
    type Error = Unbelieved;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Unbelieved>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move { self.place.secure(stream, self.config).await.map(Stream).map_err(Unbelieved) })
    }
}

/// A failed handshake, in the words of all others.
#[derive(Debug, thiserror::Error)]
#[error("TLS could not begin")]
pub(super) struct Unbelieved(pub(super) Failure);

/// An encrypted connection. Without channel binding: what a pin or an authority
/// proves is proven already.
pub(super) struct Stream(tokio_rustls::client::TlsStream<TcpStream>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
