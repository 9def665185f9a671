//! A southbound client written by hand: rustls, a WebSocket and JSON, nothing
//! of Farol's own protocol crate. It says whatever a test wants said.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that holds an enrolled certificate.
pub struct Peer {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

/// Certificate, key and root of a host.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ClientConfig>,
}

/// The server's name is in its URI, which this client leaves to the product's
/// own tests: here only the chain counts.
#[derive(Debug)]
struct ChainOnly(Arc<rustls::client::WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::{CertificateError, Error};
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl Identity {
    /// Of the three PEM files in an agent's `identity` folder.
    ///
    /// # Errors
    /// One of them is missing or not PEM.
    pub fn load(folder: &Path) -> Result<Self> {
        let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| format!("read {name}"));
        Self::from_pem(&read("ca.pem")?, Some((&read("cert.pem")?, &read("key.pem")?)))
    }

    /// Of PEM texts; without a certificate and key, an anonymous client.
    ///
    /// # Errors
    /// One of them is not PEM.
    pub fn from_pem(ca: &[u8], leaf: Option<(&[u8], &[u8])>) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(ca) {
            roots.add(root?)?;
        }
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ChainOnly(verifier)));
        let config = match leaf {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?
            }
        };
        Ok(Self { config: Arc::new(config) })
    }

    /// A TLS connection to the southbound port.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn tls(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(timeout(PATIENCE, connector.connect(ServerName::try_from("coordinator.test")?, stream)).await??)
    }

    /// A WebSocket to the southbound port.
    ///
    /// # Errors
    /// The handshake failed, or the upgrade was refused.
    pub async fn connect(&self, address: SocketAddr) -> Result<Peer> {
        let tls = self.tls(address).await?;
        let url = format!("wss://{address}/southbound/v1");
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let (socket, _) =
            timeout(PATIENCE, tokio_tungstenite::client_async_with_config(url, tls, Some(config))).await??;
        Ok(Peer { socket })
    }
}

impl Peer {
    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(&mut self, frame: &Value) -> Result<()> {
        self.send_text(frame.to_string()).await
    }

    /// Sends any text.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send_text(&mut self, text: String) -> Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// Sends bytes that are no text frame.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<()> {
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }

    /// The next JSON frame.
    ///
    /// # Errors
    /// The connection is over, or none came in time.
    pub async fn receive(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.receive_text().await?)?)
    }

    /// The next text frame, as it was sent.
    ///
    /// # Errors
    /// The connection is over, or none came in time.
    pub async fn receive_text(&mut self) -> Result<String> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.context("no frame came")? {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => bail!("the coordinator closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the connection is over"),
            }
        }
    }

    /// The next frame with this method, heartbeats and others passed over.
    ///
    /// # Errors
    /// The connection is over, or none came in time.
    pub async fn expect(&mut self, method: &str) -> Result<Value> {
        loop {
            let frame = self.receive().await?;
            if frame["method"] == method {
                return Ok(frame);
            }
        }
    }

    /// Stays connected until `end`: answers heartbeats, passes other frames over.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn stay(&mut self, end: impl Future<Output = ()>) -> Result<()> {
        tokio::pin!(end);
        loop {
            let next = tokio::select! {
                () = &mut end => return Ok(()),
                next = self.socket.next() => next,
            };
            match next {
                Some(Ok(Message::Close(frame))) => bail!("the coordinator closed: {frame:?}"),
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text)?;
                    if frame["method"] == "heartbeat" {
                        // Its own time back: no clock is in question here.
                        self.send(&frame).await?;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the connection is over"),
            }
        }
    }

    /// Waits for the coordinator's close frame.
    ///
    /// # Errors
    /// The connection goes on.
    pub async fn closed(&mut self) -> Result<Option<CloseFrame>> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.context("the connection goes on")? {
                Some(Ok(Message::Close(frame))) => return Ok(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}
