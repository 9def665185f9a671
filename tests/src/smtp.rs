//! A mail server that keeps what it receives, or misbehaves as told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes every mail.
    Fine,
    /// Refuses for now.
    Busy,
    /// Accepts the connection and says nothing.
    Silent,
    /// Says what is not SMTP.
    Nonsense,
}

/// A mail as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Envelope recipient.
    pub to: String,
    /// Headers and body.
    pub data: String,
}

/// The server.
#[derive(Debug, Clone)]
pub struct Smtp {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Smtp {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let smtp =
            Self { address: listener.local_addr()?, received: Arc::default(), mood: Arc::new(Mutex::new(Mood::Fine)) };
        let server = smtp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    // A client that breaks off is its own affair.
                    let _broken_off = server.serve(stream).await;
                });
            }
        });
        Ok(smtp)
    }

    /// For `FAROL_SMTP_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// What came so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes how it answers.
    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        match mood {
            Mood::Fine | Mood::Busy => writer.write_all(b"220 farol.test ESMTP\r\n").await?,
            Mood::Nonsense => {
                writer.write_all(b"\x00\xffI am no mail server\r\n").await?;
                return Ok(());
            }
            Mood::Silent => {
                while lines.next_line().await?.is_some() {}
                return Ok(());
            }
        }
        let mut to = String::new();
        while let Some(line) = lines.next_line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let answer: &[u8] = match verb.as_str() {
                "EHLO" => b"250-farol.test\r\n250 8BITMIME\r\n",
                "MAIL" if mood == Mood::Busy => b"451 try again later\r\n",
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    b"250 ok\r\n"
                }
                "DATA" => {
                    writer.write_all(b"354 go on\r\n").await?;
                    let mut data = String::new();
                    while let Some(line) = lines.next_line().await? {
                        if line == "." {
                            break;
                        }
                        data.push_str(line.strip_prefix('.').unwrap_or(&line));
                        data.push('\n');
                    }
                    let mail = Received { to: to.clone(), data };
                    self.received.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
                    b"250 kept\r\n"
                }
                "QUIT" => {
                    writer.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => b"250 ok\r\n",
            };
            writer.write_all(answer).await?;
        }
        Ok(())
    }
}
