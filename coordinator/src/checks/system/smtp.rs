//! The dialogue of a mail server, up to the point where a mail would begin. None
//! is ever sent.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use farol_protocol::{
    Language, Timestamp,
    report::Limits,
    system::{SmtpProbe, SmtpTls},
};
use rustls::{CertificateError, ClientConfig};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Asking, Seen};
use crate::{
    integrations::{
        Tls,
        http::Failure,
        stream::{self, Place},
    },
    text::{number, plain, say},
};

/// Longest line of an answer, far more than the 512 bytes of RFC 5321.
const MAX_LINE: u64 = 4096;
/// Most lines of an answer.
const MAX_LINES: usize = 100;

pub(super) async fn ask(asking: &Asking<'_>, probe: &SmtpProbe) -> Seen {
    let trouble = match timeout(asking.limit, look(asking, probe)).await {
        Ok(Ok(seen)) => return seen,
        Ok(Err(trouble)) => trouble,
        Err(_) => Trouble::Failure(Failure::Timeout),
    };
    trouble.seen(asking, probe)
}

/// Why the dialogue ended early.
enum Trouble {
    Failure(Failure),
    /// What is said is not SMTP.
    NotSmtp(String),
    /// The server said no.
    Said {
        step: &'static str,
        reply: Reply,
    },
    /// TLS is wanted and not offered.
    NoStartTls,
    /// Something came in the clear where TLS was to begin.
    Injected,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Failure(stream::failure(Box::new(error)))
    }
}

impl Trouble {
    fn seen(self, asking: &Asking<'_>, probe: &SmtpProbe) -> Seen {
        let (language, address) = (asking.language, &probe.address);
        match self {
            Self::Failure(Failure::Tls(error)) if is_outdated(error.as_ref()) => Seen::critical(say!(
                language,
                "o certificado de {address} está fora da validade; renove-o",
                "the certificate of {address} is outside its validity; renew it"
            )),
            Self::Failure(failure) => asking.failed(address, &failure),
            Self::NotSmtp(line) => Seen::unknown(say!(
                language,
                "o que responde em {address} não fala SMTP: {line}",
                "what answers at {address} does not speak SMTP: {line}"
            )),
            Self::Said { step, reply } => {
                let (code, text) = (reply.code, reply.text());
                let is_for_now = (400..=499).contains(&code);
                let text = if is_for_now {
                    say!(
                        language,
                        "{address} não atende por ora ({code} a {step}): {text}",
                        "{address} does not serve for now ({code} to {step}): {text}"
                    )
                } else {
                    say!(
                        language,
                        "{address} recusa o diálogo ({code} a {step}): {text}",
                        "{address} refuses the dialogue ({code} to {step}): {text}"
                    )
                };
                Seen::critical(text)
            }
            Self::NoStartTls => Seen::critical(say!(
                language,
                "{address} responde mas não oferece STARTTLS: o correio passaria sem cifra",
                "{address} answers but does not offer STARTTLS: mail would pass unencrypted"
            )),
            Self::Injected => Seen::unknown(say!(
                language,
                "{address} falou às claras onde o TLS devia começar: alguém pode estar no meio",
                "{address} spoke in the clear where TLS was to begin: somebody may be in between"
            )),
        }
    }
}

fn is_outdated(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(rustls::Error::InvalidCertificate(certificate)) = farol_agent::probe::tls_error(error) else {
        return false;
    };
    matches!(
        certificate,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

async fn look(asking: &Asking<'_>, probe: &SmtpProbe) -> Result<Seen, Trouble> {
    let place = Place::parse(&probe.address)
        .ok_or_else(|| Failure::Unusable(format!("`{}` is not of the form host:port", probe.address)))?;
    let began = Instant::now();
    let tcp = place.connect().await?;
    let hello = hello(tcp.local_addr()?);
    let config = || stream::client_config(&Tls::pinned(probe.pin.as_deref()));
    match probe.tls {
        SmtpTls::None => {
            let mut talk = Dialogue(BufReader::new(tcp));
            talk.greeting().await?;
            talk.command(&hello, "EHLO").await?;
            Ok(talk.end(asking, probe, began, None).await)
        }
        SmtpTls::Implicit => {
            let tls = place.secure(tcp, config()?).await?;
            let certificate = Certificate::of(&tls);
            let mut talk = Dialogue(BufReader::new(tls));
            talk.greeting().await?;
            talk.command(&hello, "EHLO").await?;
            Ok(talk.end(asking, probe, began, certificate).await)
        }
        SmtpTls::Starttls => {
            let mut talk = Dialogue(BufReader::new(tcp));
            talk.greeting().await?;
            if !talk.command(&hello, "EHLO").await?.offers("STARTTLS") {
                talk.quit().await;
                return Err(Trouble::NoStartTls);
            }
            talk.command("STARTTLS", "STARTTLS").await?;
            let (tls, certificate) = secured(&place, talk, config()?).await?;
            let mut talk = Dialogue(BufReader::new(tls));
            talk.command(&hello, "EHLO").await?;
            Ok(talk.end(asking, probe, began, certificate).await)
        }
    }
}

async fn secured(
    place: &Place,
    talk: Dialogue<tokio::net::TcpStream>,
    config: Arc<ClientConfig>,
) -> Result<(TlsStream<tokio::net::TcpStream>, Option<Certificate>), Trouble> {
    if !talk.0.buffer().is_empty() {
        return Err(Trouble::Injected);
    }
    let tls = place.secure(talk.0.into_inner(), config).await?;
    let certificate = Certificate::of(&tls);
    Ok((tls, certificate))
}

/// Names this machine by its address, which RFC 5321 allows for those without
/// a name of their own.
fn hello(local: SocketAddr) -> String {
    match local.ip() {
        std::net::IpAddr::V4(ip) => format!("EHLO [{ip}]"),
        std::net::IpAddr::V6(ip) => format!("EHLO [IPv6:{ip}]"),
    }
}

/// What was agreed on and shown in TLS.
struct Certificate {
    version: String,
    /// Last moment of its validity, ms since 1970.
    not_after: i64,
}

impl Certificate {
    fn of<S>(tls: &TlsStream<S>) -> Option<Self> {
        let (_, session) = tls.get_ref();
        let shown = session.peer_certificates()?.first()?;
        let (_, certificate) = X509Certificate::from_der(shown).ok()?;
        let version = session.protocol_version().map(|version| format!("{version:?}").replace("TLSv1_", "TLS 1."));
        Some(Self {
            version: version.unwrap_or_default(),
            not_after: certificate.validity().not_after.timestamp().saturating_mul(1000),
        })
    }

    /// Whole days that remain; negative once it is over.
    fn days(&self, now: Timestamp) -> i64 {
        (self.not_after - now.as_ms()).div_euclid(86_400_000)
    }
}

struct Dialogue<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    async fn greeting(&mut self) -> Result<Reply, Trouble> {
        let reply = self.reply().await?;
        if reply.code == 220 { Ok(reply) } else { Err(Trouble::Said { step: "greeting", reply }) }
    }

    async fn command(&mut self, line: &str, step: &'static str) -> Result<Reply, Trouble> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.0.flush().await?;
        let reply = self.reply().await?;
        if (200..=299).contains(&reply.code) { Ok(reply) } else { Err(Trouble::Said { step, reply }) }
    }

    async fn reply(&mut self) -> Result<Reply, Trouble> {
        let mut reply = Reply { code: 0, lines: Vec::new() };
        while reply.lines.len() < MAX_LINES {
            let mut line = Vec::new();
            (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line).await?;
            if line.is_empty() {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some((code, is_last, text)) = parse(&line) else {
                return Err(Trouble::NotSmtp(plain(&line, 80)));
            };
            reply.code = code;
            reply.lines.push(text.to_owned());
            if is_last {
                return Ok(reply);
            }
        }
        Err(Trouble::NotSmtp(plain(&reply.text(), 80)))
    }

    /// The farewell changes nothing any more.
    async fn quit(&mut self) {
        let _said_or_not = timeout(std::time::Duration::from_secs(2), self.command("QUIT", "QUIT")).await;
    }

    async fn end(
        mut self,
        asking: &Asking<'_>,
        probe: &SmtpProbe,
        began: Instant,
        certificate: Option<Certificate>,
    ) -> Seen {
        let ms = (began.elapsed().as_secs_f64() * 1000.0).round();
        self.quit().await;
        judge(asking, probe, ms, certificate.as_ref())
    }
}

fn judge(asking: &Asking<'_>, probe: &SmtpProbe, ms: f64, certificate: Option<&Certificate>) -> Seen {
    let (language, address) = (asking.language, &probe.address);
    let shown = number(ms, language);
    let Some(certificate) = certificate else {
        let text =
            say!(language, "{address} responde em {shown} ms, sem TLS", "{address} answers in {shown} ms, without TLS");
        return Seen::judged(language, &probe.limits, ms, "ms", &text);
    };
    let (days, version) = (certificate.days(asking.now), &certificate.version);
    let text = say!(
        language,
        "{address} responde em {shown} ms; {version}, certificado válido por mais {days} dias",
        "{address} answers in {shown} ms; {version}, certificate valid for {days} more days"
    );
    let answered = Seen::judged(language, &probe.limits, ms, "ms", &text);
    let limits: &Limits = &probe.certificate_days;
    #[expect(clippy::cast_precision_loss, reason = "days are few")]
    let status = limits.judge(days as f64);
    if status == farol_protocol::Status::Ok {
        return answered;
    }
    let text = say!(
        language,
        "{address} responde, mas o certificado vale por só mais {days} dias; renove-o",
        "{address} answers, but its certificate is valid for only {days} more days; renew it"
    );
    Seen::new(status, text).measured(ms, "ms").worse(answered)
}

/// One line of a reply: its code, whether it is the last, and its text.
fn parse(line: &str) -> Option<(u16, bool, &str)> {
    let line = line.strip_suffix('\n')?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let code = line.get(..3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let code = code.parse().ok().filter(|code| (200..=599).contains(code))?;
    match line.get(3..)? {
        "" => Some((code, true, "")),
        rest if rest.starts_with(' ') => Some((code, true, &rest[1..])),
        rest if rest.starts_with('-') => Some((code, false, &rest[1..])),
        _ => None,
    }
}

struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    fn text(&self) -> String {
        plain(&self.lines.join(" "), 160)
    }

    fn offers(&self, extension: &str) -> bool {
        self.lines
            .iter()
            .skip(1)
            .any(|line| line.split(' ').next().is_some_and(|word| word.eq_ignore_ascii_case(extension)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_reply_is_read_strictly() {
        assert_eq!(parse("220 mail.example ESMTP\r\n"), Some((220, true, "mail.example ESMTP")));
        assert_eq!(parse("250-SIZE\r\n"), Some((250, false, "SIZE")));
        assert_eq!(parse("250\n"), Some((250, true, "")));
        for wrong in ["", "220", "HTTP/1.1 400\r\n", "22 x\r\n", "999 x\r\n", "220_x\r\n", "2á0 x\r\n", "+1 x\r\n"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_extension_is_found_by_its_first_word_and_not_in_the_servers_name() {
        let reply = |lines: &[&str]| Reply { code: 250, lines: lines.iter().map(|line| (*line).to_owned()).collect() };
        assert!(reply(&["mail.example", "starttls"]).offers("STARTTLS"));
        assert!(!reply(&["STARTTLS", "SIZE"]).offers("STARTTLS"));
        assert!(!reply(&["mail.example", "X-STARTTLS"]).offers("STARTTLS"));
    }
}
