//! Configuration: flag, then environment, then YAML file, then default.
//!
//! Each setting has one name: the flag `--http-addr` is `FAROL_HTTP_ADDR` in
//! the environment and `http_addr` in the file. The names of the systems that
//! Farol replaces work as they are.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use farol_protocol::{registry::Environment, yaml};
use serde::Deserialize;

use crate::{
    access::{self, Access},
    error::{Error, Result},
    history::Keep,
    people::Limits,
};

/// Default folder of the coordinator's data.
pub const DATA_DIR: &str = "/var/lib/farol";

/// The configuration file. Unknown keys are refused with the nearest name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data_dir: Option<PathBuf>,
    http_addr: Option<String>,
    southbound_addr: Option<String>,
    southbound_url: Option<String>,
    approval_hold: Option<String>,
    registry: Option<PathBuf>,
    catalogue: Option<PathBuf>,
    heartbeat: Option<String>,
    retention: Option<String>,
    history_minutes: Option<String>,
    history_hours: Option<String>,
    smtp_url: Option<String>,
    mail_from: Option<String>,
    notify_email: Option<String>,
    public_url: Option<String>,
    ntfy_url: Option<String>,
    ntfy_topic: Option<String>,
    heartbeat_url: Option<String>,
    heartbeat_url_every: Option<String>,
    llm_enabled: Option<bool>,
    llm_url: Option<String>,
    llm_model: Option<String>,
    llm_timeout: Option<String>,
    allowed_origins: Option<Vec<String>>,
    ingest_networks: Option<Vec<String>>,
    signals_token_file: Option<PathBuf>,
    http_tls_cert: Option<PathBuf>,
    http_tls_key: Option<PathBuf>,
    session_idle: Option<String>,
    session_lifetime: Option<String>,
}

/// What the coordinator runs with.
#[derive(Clone)]
pub struct Config {
    /// Databases, authority, everything.
    pub data_dir: PathBuf,
    /// API.
    pub http_addr: SocketAddr,
    /// Agents.
    pub southbound_addr: SocketAddr,
    /// What agents are told to connect to; derived where absent.
    pub southbound_url: Option<String>,
    /// How long an approved action can still be cancelled before it goes to its host.
    pub approval_hold: Duration,
    /// The registry's file.
    pub registry: PathBuf,
    /// The site's own catalogue of remediation, which may be absent.
    pub catalogue: PathBuf,
    /// Interval of heartbeats on agents' connections.
    pub heartbeat: Duration,
    /// How long telemetry is kept.
    pub retention: Duration,
    /// How long the points are kept that it is rolled up to.
    pub history: Keep,
    /// How mail leaves.
    pub mail: Option<Mail>,
    /// The ntfy server of routes that name no integration.
    pub ntfy: Ntfy,
    /// Where people reach the API, without a slash at the end; links need it.
    pub public_url: Option<String>,
    /// Who is told that the coordinator is alive.
    pub heartbeat_url: Option<HeartbeatUrl>,
    /// The language model.
    pub llm: Option<Llm>,
    /// Token of `POST /api/v1/agents/internal/tick`.
    pub internal_token: Option<String>,
    /// Who may reach the API from where.
    pub access: Access,
    /// Files of the certificate and the key with which the API speaks TLS.
    pub http_tls: Option<(PathBuf, PathBuf)>,
    /// How long people stay signed in.
    pub sessions: Limits,
}

/// How mail leaves.
#[derive(Clone)]
pub struct Mail {
    /// `smtp://…` or `smtps://…`, may hold credentials.
    pub url: String,
    /// Sender.
    pub from: String,
    /// Recipient of high and critical findings where the registry has no routes.
    pub to: Option<String>,
}

/// The ntfy server of the environment.
#[derive(Clone)]
pub struct Ntfy {
    /// Base address.
    pub url: String,
    /// Topic of high and critical findings where the registry has no routes.
    pub topic: Option<String>,
    /// Access token.
    pub token: Option<String>,
}

/// Who is told that the coordinator is alive. The address is a secret.
#[derive(Clone)]
pub struct HeartbeatUrl {
    /// Asked with GET.
    pub url: String,
    /// How often.
    pub every: Duration,
}

/// Where the model is.
#[derive(Debug, Clone)]
pub struct Llm {
    /// Base address of Ollama.
    pub url: String,
    /// Model.
    pub model: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No field that may hold a secret.
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("http_addr", &self.http_addr)
            .field("southbound_addr", &self.southbound_addr)
            .field("registry", &self.registry)
            .field("catalogue", &self.catalogue)
            .field("llm", &self.llm)
            .field("mail_to", &self.mail.as_ref().and_then(|mail| mail.to.as_ref()))
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

/// What flags may set.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Flags {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of databases and authority [env: FAROL_DATA_DIR] [default: /var/lib/farol]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Address of the API [env: FAROL_HTTP_ADDR] [default: 127.0.0.1:8180]
    #[arg(long, value_name = "ADDR")]
    pub http_addr: Option<String>,
    /// Address for agents [env: FAROL_SOUTHBOUND_ADDR] [default: 0.0.0.0:8192]
    #[arg(long, value_name = "ADDR")]
    pub southbound_addr: Option<String>,
    /// Registry of hosts and scenarios [env: FAROL_REGISTRY] [default: /etc/farol/registry.yaml]
    #[arg(long, value_name = "FILE")]
    pub registry: Option<PathBuf>,
}

impl Config {
    /// Puts the sources together.
    ///
    /// # Errors
    /// A file cannot be read, or a value is not what its setting takes.
    pub fn load(flags: &Flags, environment: Environment<'_>) -> Result<Self> {
        let file = match &flags.config {
            None => File::default(),
            Some(path) => {
                let text = read(path)?;
                yaml::read(&text).map_err(|mistake| Error::Document { path: path.clone(), mistake })?
            }
        };
        let env = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let text = |flag: Option<&String>, name: &str, file: Option<String>, default: &str| {
            flag.cloned().or_else(|| env(name)).or(file).unwrap_or_else(|| default.to_owned())
        };
        let path = |flag: Option<&PathBuf>, name: &str, file: Option<PathBuf>, default: &str| {
            flag.cloned().or_else(|| env(name).map(PathBuf::from)).or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let from = |name: &str, file: Option<String>| env(name).or(file);

        let llm_enabled = match env("AGENTIC_LLM_ENABLED") {
            None => file.llm_enabled.unwrap_or(false),
            Some(value) => boolean("AGENTIC_LLM_ENABLED", &value)?,
        };
        let registry = path(flags.registry.as_ref(), "FAROL_REGISTRY", file.registry, "/etc/farol/registry.yaml");
        let smtp_url = from("FAROL_SMTP_URL", file.smtp_url);
        let mail_to = from("DESK_ROOT_NOTIFY_EMAIL", file.notify_email);
        Ok(Self {
            data_dir: path(flags.data_dir.as_ref(), "FAROL_DATA_DIR", file.data_dir, DATA_DIR),
            http_addr: address(
                "FAROL_HTTP_ADDR",
                &text(flags.http_addr.as_ref(), "FAROL_HTTP_ADDR", file.http_addr, "127.0.0.1:8180"),
            )?,
            southbound_addr: address(
                "FAROL_SOUTHBOUND_ADDR",
                &text(flags.southbound_addr.as_ref(), "FAROL_SOUTHBOUND_ADDR", file.southbound_addr, "0.0.0.0:8192"),
            )?,
            southbound_url: from("FAROL_SOUTHBOUND_URL", file.southbound_url).map(websocket_url).transpose()?,
            catalogue: env("FAROL_CATALOGUE")
                .map(PathBuf::from)
                .or(file.catalogue)
                .unwrap_or_else(|| registry.with_file_name("catalogue.yaml")),
            registry,
            heartbeat: duration("FAROL_HEARTBEAT", &text(None, "FAROL_HEARTBEAT", file.heartbeat, "15s"))?,
            approval_hold: hold(&text(None, "FAROL_APPROVAL_HOLD", file.approval_hold, "5s"))?,
            retention: duration("FAROL_RETENTION", &text(None, "FAROL_RETENTION", file.retention, "7d"))?,
            history: history(
                duration("FAROL_HISTORY_MINUTES", &text(None, "FAROL_HISTORY_MINUTES", file.history_minutes, "30d"))?,
                duration("FAROL_HISTORY_HOURS", &text(None, "FAROL_HISTORY_HOURS", file.history_hours, "730d"))?,
            )?,
            mail: match (smtp_url, mail_to) {
                (Some(url), to) => Some(Mail {
                    url,
                    from: from("FAROL_MAIL_FROM", file.mail_from).unwrap_or_else(|| "farol@localhost".to_owned()),
                    to,
                }),
                (None, Some(_)) => {
                    return Err(Error::Config(
                        "DESK_ROOT_NOTIFY_EMAIL is set but FAROL_SMTP_URL is not, so no mail could leave; set it, for \
                         example to smtp://127.0.0.1:25"
                            .to_owned(),
                    ));
                }
                (None, None) => None,
            },
            ntfy: ntfy(
                from("FAROL_NTFY_URL", file.ntfy_url),
                from("DESK_OPS_NTFY_TOPIC", file.ntfy_topic),
                env("FAROL_NTFY_TOKEN"),
            )?,
            public_url: from("FAROL_PUBLIC_URL", file.public_url)
                .map(|url| base("FAROL_PUBLIC_URL", &url))
                .transpose()?,
            heartbeat_url: match from("FAROL_HEARTBEAT_URL", file.heartbeat_url) {
                None => None,
                Some(url) if is_http(&url) => Some(HeartbeatUrl {
                    url: url.trim().to_owned(),
                    every: duration(
                        "FAROL_HEARTBEAT_URL_EVERY",
                        &text(None, "FAROL_HEARTBEAT_URL_EVERY", file.heartbeat_url_every, "1m"),
                    )?,
                }),
                Some(_) => {
                    return Err(Error::Config(
                        "FAROL_HEARTBEAT_URL is not an address that begins with https:// or http://".to_owned(),
                    ));
                }
            },
            llm: if llm_enabled {
                Some(Llm {
                    url: from("OLLAMA_BASE_URL", file.llm_url)
                        .unwrap_or_else(|| "http://10.10.10.123:11434".to_owned()),
                    model: from("AGENTIC_LLM_MODEL", file.llm_model)
                        .unwrap_or_else(|| "qwen2.5:7b-instruct".to_owned()),
                    timeout: duration("FAROL_LLM_TIMEOUT", &text(None, "FAROL_LLM_TIMEOUT", file.llm_timeout, "60s"))?,
                })
            } else {
                None
            },
            internal_token: env("OPS_INTERNAL_TOKEN"),
            access: Access::load(
                access::File {
                    allowed_origins: file.allowed_origins,
                    ingest_networks: file.ingest_networks,
                    signals_token_file: file.signals_token_file,
                },
                env,
            )?,
            http_tls: match (
                env("FAROL_HTTP_TLS_CERT").map(PathBuf::from).or(file.http_tls_cert),
                env("FAROL_HTTP_TLS_KEY").map(PathBuf::from).or(file.http_tls_key),
            ) {
                (Some(cert), Some(key)) => Some((cert, key)),
                (None, None) => None,
                _ => {
                    return Err(Error::Config(
                        "FAROL_HTTP_TLS_CERT and FAROL_HTTP_TLS_KEY go together; set both, or neither".to_owned(),
                    ));
                }
            },
            sessions: sessions(
                duration("FAROL_SESSION_IDLE", &text(None, "FAROL_SESSION_IDLE", file.session_idle, "12h"))?,
                duration("FAROL_SESSION_LIFETIME", &text(None, "FAROL_SESSION_LIFETIME", file.session_lifetime, "7d"))?,
            )?,
        })
    }

    /// Whether browsers reach the API by https: then cookies are for https only.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.http_tls.is_some() || self.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }
}

/// Reads a file of the configuration.
///
/// # Errors
/// It cannot be read; the message names it.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

fn ntfy(url: Option<String>, topic: Option<String>, token: Option<String>) -> Result<Ntfy> {
    let url = base("FAROL_NTFY_URL", url.as_deref().unwrap_or("https://ntfy.sh"))?;
    let topic = topic.map(|topic| topic.trim().to_owned());
    if let Some(topic) = topic.as_deref().filter(|topic| !farol_protocol::registry::notify::is_topic(topic)) {
        return Err(Error::Config(format!(
            "DESK_OPS_NTFY_TOPIC is `{topic}`, not a topic: 1 to 64 ASCII letters, digits, `-` and `_`"
        )));
    }
    Ok(Ntfy { url, topic, token })
}

fn is_http(url: &str) -> bool {
    reqwest::Url::parse(url.trim()).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// An address to which a path can be added.
fn base(name: &str, url: &str) -> Result<String> {
    let url = url.trim().trim_end_matches('/');
    if !is_http(url) || url.contains(['?', '#', '@']) {
        return Err(Error::Config(format!("{name} is not an address such as https://farol.example.org")));
    }
    Ok(url.to_owned())
}

fn websocket_url(value: String) -> Result<String> {
    if value.starts_with("wss://") && value.len() > "wss://".len() {
        return Ok(value);
    }
    Err(Error::Config(format!("FAROL_SOUTHBOUND_URL is `{value}`, not an address such as wss://farol.lan:8192")))
}

fn address(name: &str, value: &str) -> Result<SocketAddr> {
    value.parse().map_err(|_| Error::Config(format!("{name} is `{value}`, not an address such as 127.0.0.1:8180")))
}

fn duration(name: &str, value: &str) -> Result<Duration> {
    humantime::parse_duration(value)
        .ok()
        .filter(|duration| *duration >= Duration::from_millis(100))
        .ok_or_else(|| Error::Config(format!("{name} is `{value}`, not a duration of at least 100ms such as 15s")))
}

/// Long enough to think again; 0s for none.
fn hold(value: &str) -> Result<Duration> {
    let most = Duration::from_secs(600);
    humantime::parse_duration(value).ok().filter(|duration| *duration <= most).ok_or_else(|| {
        Error::Config(format!(
            "FAROL_APPROVAL_HOLD is `{value}`, not a duration of at most 10m such as 5s, or 0s for none"
        ))
    })
}

/// What is shorter would be gone before its chunk is whole.
fn history(minutes: Duration, hours: Duration) -> Result<Keep> {
    const DAY: Duration = Duration::from_secs(86_400);
    if minutes < DAY {
        return Err(Error::Config("FAROL_HISTORY_MINUTES is less than a day; set it to 1d or more".to_owned()));
    }
    if hours < minutes {
        return Err(Error::Config(
            "FAROL_HISTORY_HOURS is less than FAROL_HISTORY_MINUTES; hours are kept at least as long as minutes"
                .to_owned(),
        ));
    }
    Ok(Keep { minutes, hours })
}

fn sessions(idle: Duration, lifetime: Duration) -> Result<Limits> {
    if lifetime < idle {
        return Err(Error::Config(
            "FAROL_SESSION_LIFETIME is less than FAROL_SESSION_IDLE; a session ends with its lifetime at the latest"
                .to_owned(),
        ));
    }
    Ok(Limits { idle, lifetime })
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Error::Config(format!("{name} is `{value}`, neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &Flags, environment: &[(&str, &str)]) -> Result<Config> {
        Config::load(flags, &|name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("farol.yaml");
        std::fs::write(&path, "http_addr: 127.0.0.1:3\nheartbeat: 3s\nsouthbound_addr: 127.0.0.1:3\n")
            .expect("written");
        let flags = Flags { config: Some(path), http_addr: Some("127.0.0.1:1".to_owned()), ..Flags::default() };
        let config = load(&flags, &[("FAROL_HTTP_ADDR", "127.0.0.1:2"), ("FAROL_SOUTHBOUND_ADDR", "127.0.0.1:2")])
            .expect("valid");
        assert_eq!(config.http_addr.port(), 1);
        assert_eq!(config.southbound_addr.port(), 2);
        assert_eq!(config.heartbeat, Duration::from_secs(3));
        assert_eq!(config.retention, Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn a_mistake_is_refused_and_named() {
        let says =
            |environment: &[(&str, &str)]| load(&Flags::default(), environment).expect_err("refused").to_string();
        assert!(says(&[("FAROL_HTTP_ADDR", "here")]).contains("FAROL_HTTP_ADDR"));
        assert!(says(&[("FAROL_SOUTHBOUND_URL", "http://here")]).contains("wss://"));
        assert!(says(&[("FAROL_HEARTBEAT", "often")]).contains("FAROL_HEARTBEAT"));
        assert!(says(&[("AGENTIC_LLM_ENABLED", "perhaps")]).contains("AGENTIC_LLM_ENABLED"));
        assert!(says(&[("DESK_ROOT_NOTIFY_EMAIL", "root@example.org")]).contains("FAROL_SMTP_URL"));
        assert!(says(&[("FAROL_HTTP_TLS_CERT", "cert.pem")]).contains("FAROL_HTTP_TLS_KEY"));
        assert!(says(&[("FAROL_SESSION_LIFETIME", "1h")]).contains("FAROL_SESSION_IDLE"));
        assert!(says(&[("DESK_OPS_NTFY_TOPIC", "a b")]).contains("DESK_OPS_NTFY_TOPIC"));
        assert!(says(&[("FAROL_NTFY_URL", "ntfy.sh")]).contains("FAROL_NTFY_URL"));
        for url in ["farol.lan", "https://", "https://farol.lan/?a=b", "https://me:secret@farol.lan"] {
            let said = says(&[("FAROL_PUBLIC_URL", url)]);
            assert!(said.contains("FAROL_PUBLIC_URL") && !said.contains("secret"), "{said}");
        }
        let said = says(&[("FAROL_HEARTBEAT_URL", "hc-ping.com/secret-uuid")]);
        assert!(said.contains("FAROL_HEARTBEAT_URL") && !said.contains("secret"), "{said}");
        let never = [("FAROL_HEARTBEAT_URL", "https://hc/x"), ("FAROL_HEARTBEAT_URL_EVERY", "never")];
        assert!(says(&never).contains("FAROL_HEARTBEAT_URL_EVERY"));

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("farol.yaml");
        std::fs::write(&path, "retention: 7d\nhtp_addr: x\n").expect("written");
        let flags = Flags { config: Some(path), ..Flags::default() };
        let error = load(&flags, &[]).expect_err("refused");
        assert!(error.to_string().contains("line 2, column 1"), "{error}");
        assert!(error.to_string().contains("did you mean `http_addr`"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
