//! Systems that Farol talks to with credentials: where they are, how TLS is
//! verified, who Farol is to them.
//!
//! **Invariant.** A secret leaves the store sealed and is opened only for the
//! request that needs it; nothing here prints one, and no answer of the API
//! holds one.

pub mod github;
pub mod http;
pub mod lenient;
mod live;
pub(crate) mod memory;
mod secret;
pub mod stream;

use std::collections::BTreeMap;

use farol_pki::Pin;
use serde::{Deserialize, Serialize};

pub use live::Integrations;
pub use secret::{Secret, Vault};

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A Proxmox VE cluster. User: `USER@REALM!TOKENID`; secret: the token's.
    Proxmox,
    /// A pfSense firewall with the REST API package. Secret: the API key; with
    /// a user, that user's password.
    Pfsense,
    /// An OPNsense firewall. User: the API key; secret: its secret.
    Opnsense,
    /// A Wazuh manager's API. User and password.
    Wazuh,
    /// A Docker or Podman engine over TCP. No secret.
    Docker,
    /// A PostgreSQL server. User and password.
    Postgres,
    /// A Redis or Valkey server. Password, and a user where it has several.
    Redis,
    /// GitHub, or a server with its API. Secret: a token.
    Github,
    /// An ntfy server. Secret: an access token; with a user, that user's password.
    Ntfy,
    /// A Matrix homeserver. Secret: an access token.
    Matrix,
    /// A receiver of Standard Webhooks. Secret: `whsec_…`.
    Webhook,
    /// An Alertmanager that findings are sent to. Secret: a token; with a user,
    /// that user's password.
    Alertmanager,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Proxmox,
        Self::Pfsense,
        Self::Opnsense,
        Self::Wazuh,
        Self::Docker,
        Self::Postgres,
        Self::Redis,
        Self::Github,
        Self::Ntfy,
        Self::Matrix,
        Self::Webhook,
        Self::Alertmanager,
    ];

    /// The word in the API, the store and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxmox => "proxmox",
            Self::Pfsense => "pfsense",
            Self::Opnsense => "opnsense",
            Self::Wazuh => "wazuh",
            Self::Docker => "docker",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Github => "github",
            Self::Ntfy => "ntfy",
            Self::Matrix => "matrix",
            Self::Webhook => "webhook",
            Self::Alertmanager => "alertmanager",
        }
    }

    /// Whether it takes messages, rather than questions.
    #[must_use]
    pub const fn takes_messages(self) -> bool {
        matches!(self, Self::Ntfy | Self::Matrix | Self::Webhook | Self::Alertmanager)
    }

    /// Whether some of its kind want no secret.
    #[must_use]
    pub const fn may_be_open(self) -> bool {
        matches!(self, Self::Docker | Self::Ntfy | Self::Alertmanager)
    }

    /// How its addresses begin.
    #[must_use]
    pub const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Proxmox
            | Self::Pfsense
            | Self::Opnsense
            | Self::Wazuh
            | Self::Github
            | Self::Ntfy
            | Self::Matrix
            | Self::Webhook
            | Self::Alertmanager => &["https://", "http://"],
            Self::Docker => &["https://", "http://", "tcp://"],
            Self::Postgres => &["postgres://", "postgresql://"],
            Self::Redis => &["redis://", "rediss://"],
        }
    }

    /// Questions that such a system takes at a time.
    #[must_use]
    pub const fn at_once(self) -> usize {
        match self {
            // Its configuration is not safe against two calls at a time.
            Self::Pfsense | Self::Opnsense => 1,
            _ => 4,
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("`{text}` is not a kind of integration; use one of {}", all.join(", "))
        })
    }
}

/// Whom to believe to be the system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Whoever an authority of this machine vouches for.
    #[default]
    Verify,
    /// Whoever this authority vouches for: PEM, one or more certificates.
    Ca(String),
    /// Whoever shows the certificate with this digest: `sha256:` and 64
    /// hexadecimal digits.
    Pin(String),
    /// Anybody. Shown wherever the integration is.
    Insecure,
}

impl Tls {
    /// The pin of a probe that names one, else verification.
    #[must_use]
    pub fn pinned(pin: Option<&str>) -> Self {
        pin.map_or(Self::Verify, |pin| Self::Pin(pin.to_owned()))
    }

    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        match self {
            Self::Verify | Self::Insecure => None,
            Self::Ca(pem) => match http::authorities(pem) {
                Ok(_) => None,
                Err(why) => Some(format!("the authority's certificate cannot be used: {why}")),
            },
            Self::Pin(pin) => Pin::parse(pin).is_none().then(|| {
                format!("`{pin}` is not the SHA-256 of a certificate: write `sha256:` and 64 hexadecimal digits")
            }),
        }
    }
}

/// An integration, ready to be used.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Identifier.
    pub id: String,
    /// Name, by which checks mean it.
    pub name: String,
    /// What is there.
    pub kind: Kind,
    /// Site that it belongs to.
    pub site: Option<String>,
    /// Base addresses without a slash at the end, the first that answers counts.
    pub endpoints: Vec<String>,
    /// Whom to believe.
    pub tls: Tls,
    /// Who Farol is.
    pub user: Option<String>,
    /// How it proves that.
    pub secret: Option<Secret>,
    /// It has a secret that does not open here.
    pub is_locked: bool,
    /// Words of the operator's, such as `edge`.
    pub tags: Vec<String>,
    /// What else its kind wants to know, such as the database's name.
    pub options: BTreeMap<String, String>,
}

impl Connection {
    /// Its secret; empty where it has none.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.as_ref().map_or("", Secret::expose)
    }

    /// Its user; empty where it has none.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}
