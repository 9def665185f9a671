//! One mail over SMTP. Each has its own connection: they are few, and a
//! connection that hung is then never used again.

use std::{fmt, time::Duration};

use lettre::{
    Address, Message,
    message::{
        Mailbox, SinglePart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        self,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        extension::ClientId,
    },
};

use super::SendError;
use crate::text::plain;

/// For one mail, from the connection to the server's word.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For the farewell, when the mail has been taken.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer of a server that is kept, in characters.
const ANSWER_CHARS: usize = 300;
const SUBJECT_CHARS: usize = 200;

/// Where mail goes out.
#[derive(Clone, PartialEq, Eq)]
pub struct MailConfig {
    /// `smtp://HOST:PORT` (plain), `smtp://…?tls=required` or
    /// `smtp+starttls://…`, `smtp://…?tls=opportunistic`, `smtps://…`; with
    /// `USER:PASSWORD@` where the server asks for it.
    pub url: String,
    /// Sender: `Farol <farol@example.org>`.
    pub from: String,
}

/// Without the address, which may hold a password.
impl fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailConfig").field("from", &self.from).finish_non_exhaustive()
    }
}

/// One mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Recipient.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// Identity, `unique@domain`, the same on every attempt so that a
    /// repetition is recognised.
    pub message_id: String,
    /// Identity of the mail that this one follows.
    pub in_reply_to: Option<String>,
}

/// Why mail cannot be configured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server's address; its text is not repeated, it may hold a password.
    #[error("the mail server's address cannot be used: {0}")]
    Url(&'static str),
    /// A mail address.
    #[error("`{0}` is not a mail address such as farol@example.org")]
    Address(String),
    /// TLS did not start.
    #[error("TLS towards the mail server cannot be set up: {0}")]
    Tls(String),
}

/// Sends mails through one server.
pub struct Mailer {
    host: String,
    port: u16,
    security: Security,
    hello: ClientId,
    login: Option<Login>,
    from: Mailbox,
    timeout: Duration,
}

enum Security {
    Plain,
    StartTlsIfOffered(TlsParameters),
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

struct Login {
    credentials: Credentials,
    password: String,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Whether a text is one mail address, with or without a name before it.
///
/// # Errors
/// It is not.
pub fn check_address(text: &str) -> Result<(), Error> {
    mailbox(text).map(|_| ())
}

impl Mailer {
    /// Reads the configuration; connects to nothing.
    ///
    /// # Errors
    /// The server's address or the sender's cannot be used.
    pub fn new(config: &MailConfig) -> Result<Self, Error> {
        let from = mailbox(&config.from)?;
        let url = reqwest::Url::parse(&config.url)
            .map_err(|_| Error::Url("write smtp://HOST:PORT, smtp://HOST?tls=required or smtps://HOST"))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(Error::Url("it names no host"));
        }
        let tls = || TlsParameters::new(host.clone()).map_err(|error| Error::Tls(error.to_string()));
        let mut option = None;
        for (key, value) in url.query_pairs() {
            if key != "tls" {
                return Err(Error::Url("the only option is `tls`"));
            }
            option = Some(value.into_owned());
        }
        let (security, port) = match (url.scheme(), option.as_deref()) {
            ("smtp", None) => (Security::Plain, 25),
            ("smtp", Some("opportunistic")) => (Security::StartTlsIfOffered(tls()?), 587),
            ("smtp", Some("required")) | ("smtp+starttls", None) => (Security::StartTls(tls()?), 587),
            ("smtps", None) => (Security::Tls(tls()?), 465),
            ("smtp", Some(_)) => return Err(Error::Url("`tls` is `required` or `opportunistic`")),
            ("smtps" | "smtp+starttls", Some(_)) => return Err(Error::Url("`tls` belongs to smtp:// only")),
            _ => return Err(Error::Url("it must begin with smtp://, smtp+starttls:// or smtps://")),
        };
        let login = login(&url)?;
        if login.is_some() && matches!(security, Security::Plain | Security::StartTlsIfOffered(_)) && !loopback(&host) {
            return Err(Error::Url("a password must not travel in the clear; use smtps:// or ?tls=required"));
        }
        let hello = match url.path().trim_matches('/') {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        Ok(Self { port: url.port().unwrap_or(port), host, security, hello, login, from, timeout: TIMEOUT })
    }

    /// Sends one mail. An error after the server took the text leaves open
    /// whether it was accepted; a repetition carries the same `message_id`.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = self.compose(mail)?;
        let delivery = tokio::time::timeout(self.timeout, self.deliver(&message)).await;
        let mut connection = delivery.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs();
            Err(SendError::Transient(format!("the mail server did not answer within {seconds} s")))
        })?;
        // The mail is out whatever the server answers now.
        let _farewell = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(())
    }

    async fn deliver(&self, message: &Message) -> Result<AsyncSmtpConnection, SendError> {
        let early = |error: smtp::Error| SendError::Transient(self.safe(&error));
        let wrapper = match &self.security {
            Security::Tls(tls) => Some(tls.clone()),
            Security::Plain | Security::StartTlsIfOffered(_) | Security::StartTls(_) => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(self.timeout),
            &self.hello,
            wrapper,
            None,
        )
        .await
        .map_err(early)?;
        match &self.security {
            // Fails when the server does not offer it.
            Security::StartTls(tls) => connection.starttls(tls.clone(), &self.hello).await.map_err(early)?,
            Security::StartTlsIfOffered(tls) if connection.can_starttls() => {
                connection.starttls(tls.clone(), &self.hello).await.map_err(early)?;
            }
            Security::Plain | Security::StartTlsIfOffered(_) | Security::Tls(_) => {}
        }
        if let Some(login) = &self.login {
            connection.auth(DEFAULT_MECHANISMS, &login.credentials).await.map_err(early)?;
        }
        match connection.send(message.envelope(), &message.formatted()).await {
            Ok(_) => Ok(connection),
            // A client error is one that the mail itself causes, such as an address the server cannot take.
            Err(error) if error.is_permanent() || error.is_client() => Err(SendError::Permanent(self.safe(&error))),
            Err(error) => Err(SendError::Transient(self.safe(&error))),
        }
    }

    fn compose(&self, mail: &Mail) -> Result<Message, SendError> {
        let permanent = |error: &dyn fmt::Display| SendError::Permanent(error.to_string());
        let to = mailbox(&mail.to).map_err(|error| permanent(&error))?;
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(plain(&mail.subject, SUBJECT_CHARS))
            .message_id(Some(identity(&mail.message_id)?))
            // Keeps absence notices and other robots from answering.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if let Some(before) = &mail.in_reply_to {
            let before = identity(before)?;
            builder = builder.in_reply_to(before.clone()).references(before);
        }
        builder.singlepart(SinglePart::plain(mail.body.clone())).map_err(|error| permanent(&error))
    }

    /// What went wrong, in one line and without the password.
    fn safe(&self, error: &smtp::Error) -> String {
        let mut text = error.to_string();
        if let Some(login) = self.login.as_ref().filter(|login| !login.password.is_empty()) {
            text = text.replace(&login.password, "***");
        }
        plain(&text, ANSWER_CHARS)
    }
}

fn mailbox(text: &str) -> Result<Mailbox, Error> {
    let wrong = || Error::Address(plain(text, 100));
    let mailbox: Mailbox = text.trim().parse().map_err(|_| wrong())?;
    let name = mailbox.name.as_deref().unwrap_or_default();
    if text.contains(char::is_control) || name.contains(char::is_control) || !has_domain(&mailbox.email) {
        return Err(wrong());
    }
    Ok(mailbox)
}

fn has_domain(address: &Address) -> bool {
    !address.domain().is_empty() && !address.user().is_empty()
}

/// A message id in angle brackets; anything that could end the header is refused.
fn identity(text: &str) -> Result<String, SendError> {
    let bare = text.trim().trim_start_matches('<').trim_end_matches('>');
    let fits = |c: char| c.is_ascii_graphic() && c != '<' && c != '>';
    let (left, right) = bare.split_once('@').unwrap_or_default();
    if left.is_empty() || right.is_empty() || right.contains('@') || !bare.chars().all(fits) || bare.len() > 250 {
        return Err(SendError::Permanent(format!("`{}` is not a message id such as a@b", plain(text, 100))));
    }
    Ok(format!("<{bare}>"))
}

fn login(url: &reqwest::Url) -> Result<Option<Login>, Error> {
    let Some(password) = url.password() else {
        return if url.username().is_empty() { Ok(None) } else { Err(Error::Url("it has a user but no password")) };
    };
    let decode = |text: &str| decoded(text).ok_or(Error::Url("a percent sign in user or password is written %25"));
    let (user, password) = (decode(url.username())?, decode(password)?);
    Ok(Some(Login { credentials: Credentials::new(user, password.clone()), password }))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
