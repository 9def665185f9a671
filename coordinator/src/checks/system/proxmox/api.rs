//! Calls of the Proxmox API, and what its refusals mean.

use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;

use super::rows::{Resources, Standing};
use crate::{
    checks::system::{
        Asking, Seen,
        phrase::quoted,
        reach::{Reach, Unreached, json},
    },
    integrations::{Connection, http::Answer},
    text::say,
};
use farol_protocol::Language;

/// Calls at a time in one look.
const AT_ONCE: usize = 4;

/// One look's way to a cluster.
pub(super) struct Cluster<'a> {
    pub(super) reach: Reach<'a>,
    token: HeaderValue,
}

impl<'a> Cluster<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The integration lacks something.
    pub(super) fn of(asking: &'a Asking<'a>, connection: &'a Connection) -> Result<Self, Seen> {
        let name = &connection.name;
        let id = connection.user();
        if !id.split_once('!').is_some_and(|(user, token)| user.contains('@') && !token.is_empty()) {
            return Err(Seen::not_configured(say!(
                asking.language,
                "a integração `{name}` precisa do id de um token como `user`: USUÁRIO@REALM!TOKEN",
                "the integration `{name}` needs the id of a token as its `user`: USER@REALM!TOKEN"
            )));
        }
        if connection.secret().is_empty() {
            return Err(Seen::not_configured(say!(
                asking.language,
                "a integração `{name}` não tem o segredo do token {id}",
                "the integration `{name}` lacks the secret of the token {id}"
            )));
        }
        let text = format!("PVEAPIToken={}={}", escaped(id), escaped(connection.secret()));
        let mut token = HeaderValue::from_str(&text).map_err(|_| {
            Seen::not_configured(say!(
                asking.language,
                "o token da integração `{name}` não cabe num cabeçalho HTTP",
                "the token of the integration `{name}` does not fit into an HTTP header"
            ))
        })?;
        token.set_sensitive(true);
        Ok(Self { reach: Reach::new(asking, connection)?, token })
    }

    pub(super) const fn language(&self) -> Language {
        self.reach.asking.language
    }

    /// Seconds since the epoch.
    pub(super) const fn now(&self) -> i64 {
        self.reach.asking.now.as_ms() / 1000
    }

    /// The `data` of a reading call; `path` begins after `/api2/json`.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        let make = |client: &reqwest::Client, base: &str| {
            client.get(format!("{base}/api2/json{path}")).header(AUTHORIZATION, self.token.clone())
        };
        data(path, &self.reach.send(make).await.map_err(Trouble::Unreached)?)
    }

    /// Several calls, a few at a time, answers in order.
    pub(super) async fn get_all(&self, paths: &[String]) -> Vec<Result<Value, Trouble>> {
        let mut answers = Vec::with_capacity(paths.len());
        for some in paths.chunks(AT_ONCE) {
            answers.extend(join_all(some.iter().map(|path| self.get(path))).await);
        }
        answers
    }

    /// Who belongs to the cluster.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn standing(&self) -> Result<Standing, Trouble> {
        let path = "/cluster/status";
        Standing::read(&self.get(path).await?).ok_or_else(|| Trouble::Shape { path: path.to_owned() })
    }

    /// What it holds, about 10 s old.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn resources(&self) -> Result<Resources, Trouble> {
        let path = "/cluster/resources";
        Resources::read(&self.get(path).await?).ok_or_else(|| Trouble::Shape { path: path.to_owned() })
    }
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No address answered.
    Unreached(Unreached),
    /// The node that was meant does not answer the one that was asked.
    NodeAway,
    /// The token is refused.
    Login { why: String },
    /// The token may not do this.
    Forbidden { path: String, why: String },
    /// Something else than success.
    Refused { path: String, status: u16, why: String },
    /// The answer is not what this call gives.
    Shape { path: String },
}

impl Trouble {
    /// As the outcome of a whole look.
    pub(super) fn seen(&self, cluster: &Cluster<'_>) -> Seen {
        match self {
            Self::Unreached(unreached) => unreached.seen(cluster.reach.asking),
            other => {
                let (place, why) = (cluster.reach.place(), other.words(cluster));
                Seen::unknown(format!("{place}: {why}"))
            }
        }
    }

    /// As a part of a text.
    pub(super) fn words(&self, cluster: &Cluster<'_>) -> String {
        let language = cluster.language();
        match self {
            Self::Unreached(unreached) => unreached.seen(cluster.reach.asking).text,
            Self::NodeAway => say!(
                language,
                "o nó não responde ao resto do cluster",
                "the node does not answer the rest of the cluster"
            ),
            Self::Login { why } => {
                let user = cluster.reach.connection.user();
                say!(
                    language,
                    "o token {user} foi recusado (401 {why}): confira o id e o segredo, e se ele não expirou",
                    "the token {user} was refused (401 {why}): see to its id and secret, and that it has not expired"
                )
            }
            Self::Forbidden { path, why } => say!(
                language,
                "falta permissão para {path} (403 {why}): dê o papel PVEAuditor em `/` ao usuário e ao token",
                "no permission for {path} (403 {why}): give the role PVEAuditor on `/` to the user and to the token"
            ),
            Self::Refused { path, status: 501, why } => say!(
                language,
                "não conhece {path} (501 {why}): a versão do Proxmox VE é antiga demais?",
                "does not know {path} (501 {why}): is this Proxmox VE too old?"
            ),
            Self::Refused { path, status, why } => {
                say!(language, "{path} respondeu {status} {why}", "{path} answered {status} {why}")
            }
            Self::Shape { path } => say!(
                language,
                "a resposta de {path} não é a de um Proxmox VE",
                "the answer of {path} is not one of a Proxmox VE"
            ),
        }
    }
}

fn data(path: &str, answer: &Answer) -> Result<Value, Trouble> {
    let why = || reason(answer);
    // The parameters of a call say nothing to people.
    let path = path.split('?').next().unwrap_or_default().to_owned();
    match answer.status {
        200..=299 => json(answer)
            .and_then(|body| body.get("data").filter(|data| !data.is_null()).cloned())
            .ok_or(Trouble::Shape { path }),
        401 => Err(Trouble::Login { why: why() }),
        403 => Err(Trouble::Forbidden { path, why: why() }),
        595 | 596 | 599 => Err(Trouble::NodeAway),
        status => Err(Trouble::Refused { path, status, why: why() }),
    }
}

/// Older releases say what is wrong in the reason phrase alone.
fn reason(answer: &Answer) -> String {
    let body = json(answer).unwrap_or_default();
    let message = body.get("message").and_then(Value::as_str).map(str::to_owned);
    let parameters = body.get("errors").and_then(Value::as_object).map(|errors| {
        errors
            .iter()
            .map(|(name, why)| format!("{name}: {}", why.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", ")
    });
    quoted(&parameters.or(message).or_else(|| answer.reason.clone()).unwrap_or_default())
}

/// Proxmox unescapes the value and cuts it at a semicolon.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@!.-_+".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A name that the cluster gave, as a part of a path.
pub(super) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let escaped: String = name
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    // Dots alone would leave the folder.
    if escaped.bytes().all(|byte| byte == b'.') { "%2E".repeat(escaped.len()) } else { escaped }
}
