//! Calls of the REST API, and what answers where it is missing.

use farol_protocol::Language;
use reqwest::{Client, RequestBuilder, header::HeaderValue};
use serde_json::Value;

use crate::{
    checks::system::{
        Asking, Seen,
        phrase::quoted,
        reach::{Reach, Unreached, json},
    },
    integrations::{Connection, http::Answer},
    text::{clock, say},
};

/// For how long a firewall that refused the credentials is left alone, in ms.
const HOLD_MS: i64 = 30 * 60_000;
/// For how long version 1 is taken to be there, in ms: asking it anew counts as
/// a failed login.
const OLDER_MS: i64 = 6 * 3_600_000;

/// One look's way to a firewall.
pub(super) struct Firewall<'a> {
    pub(super) reach: Reach<'a>,
    /// Without a user.
    key: Option<HeaderValue>,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No address answered.
    Unreached(Unreached),
    /// It refused the credentials a while ago.
    Held,
    /// The API answered, and not with success.
    Api { path: String, status: u16, id: String, message: String },
    /// Something else than the API answered.
    Other(Box<Answer>),
}

impl<'a> Firewall<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The integration lacks something.
    pub(super) fn of(asking: &'a Asking<'a>, connection: &'a Connection) -> Result<Self, Seen> {
        let (language, name) = (asking.language, &connection.name);
        if connection.secret().is_empty() {
            return Err(Seen::not_configured(say!(
                language,
                "a integração `{name}` não tem chave de API (nem senha de um usuário)",
                "the integration `{name}` has no API key (and no password of a user)"
            )));
        }
        let key = if connection.user.is_some() {
            None
        } else {
            let mut key = HeaderValue::from_str(connection.secret()).map_err(|_| {
                Seen::not_configured(say!(
                    language,
                    "a chave de API da integração `{name}` não cabe num cabeçalho HTTP",
                    "the API key of the integration `{name}` does not fit into an HTTP header"
                ))
            })?;
            key.set_sensitive(true);
            Some(key)
        };
        Ok(Self { reach: Reach::new(asking, connection)?, key })
    }

    pub(super) const fn language(&self) -> Language {
        self.reach.asking.language
    }

    /// The `data` of a reading call; `path` begins after `/api/v2`.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        let now = self.reach.asking.now;
        if self.reach.known(|known| known.hold.is_some_and(|until| now < until)) {
            return Err(Trouble::Held);
        }
        let make = |client: &Client, base: &str| self.signed(client.get(format!("{base}/api/v2{path}")));
        let answer = self.reach.send(make).await.map_err(Trouble::Unreached)?;
        let envelope = json(&answer).filter(|body| body.get("response_id").is_some_and(Value::is_string));
        let Some(envelope) = envelope else {
            if answer.status == 401 {
                self.hold();
            }
            return Err(Trouble::Other(Box::new(answer)));
        };
        if answer.is_success() {
            return Ok(envelope.get("data").cloned().unwrap_or_default());
        }
        if answer.status == 401 {
            self.hold();
        }
        let word = |key: &str| quoted(envelope.get(key).and_then(Value::as_str).unwrap_or_default());
        Err(Trouble::Api {
            path: path.split('?').next().unwrap_or_default().to_owned(),
            status: answer.status,
            id: word("response_id"),
            message: word("message"),
        })
    }

    fn hold(&self) {
        let until = self.reach.asking.now.plus_ms(HOLD_MS);
        self.reach.known(|known| known.hold = Some(until));
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.key {
            Some(key) => request.header("X-API-Key", key.clone()),
            None => request.basic_auth(self.reach.connection.user(), Some(self.reach.connection.secret())),
        }
    }

    /// What a trouble means. Where the API itself is what is looked at, its
    /// absence is a fault; for everything else it leaves the thing unknown.
    pub(super) async fn explain(&self, trouble: Trouble, api_is_meant: bool) -> Seen {
        let (language, place) = (self.language(), self.reach.place().to_owned());
        let absent = |text: String| if api_is_meant { Seen::critical(text) } else { Seen::unknown(text) };
        match trouble {
            Trouble::Unreached(unreached) => unreached.seen(self.reach.asking),
            Trouble::Held => {
                let until = self.reach.known(|known| known.hold).unwrap_or(self.reach.asking.now);
                let until = clock(until, language);
                Seen::unknown(say!(
                    language,
                    "{place} recusou as credenciais; para não ser bloqueado, o Farol só pergunta de novo depois de {until}, ou quando elas mudarem",
                    "{place} refused the credentials; so as not to be blocked, Farol asks again only after {until}, or once they have changed"
                ))
            }
            Trouble::Api { path, status, id, message } => self.refusal(&place, &path, status, &id, &message, absent),
            Trouble::Other(answer) => self.instead(&place, &answer, absent).await,
        }
    }

    fn refusal(
        &self,
        place: &str,
        path: &str,
        status: u16,
        id: &str,
        message: &str,
        absent: impl Fn(String) -> Seen,
    ) -> Seen {
        let language = self.language();
        match (status, id) {
            (401, _) => {
                let who = self.who();
                Seen::unknown(say!(
                    language,
                    "{place} recusou {who} (401 {id}): confira o segredo e se este modo de login está habilitado em System > REST API; o Farol espera 30 min para não ser bloqueado",
                    "{place} refused {who} (401 {id}): see to the secret, and that this way of login is enabled in System > REST API; Farol waits for 30 min so as not to be blocked"
                ))
            }
            (403, "ENDPOINT_CLIENT_NOT_ALLOWED_BY_ACL") => Seen::unknown(say!(
                language,
                "{place}: a lista de acesso da API REST não permite o endereço do coordenador (403 {id})",
                "{place}: the access list of the REST API does not allow the coordinator's address (403 {id})"
            )),
            (403, "ENDPOINT_INTERFACE_NOT_ALLOWED") => Seen::unknown(say!(
                language,
                "{place}: a API REST não está permitida na interface por onde o coordenador chega (403 {id})",
                "{place}: the REST API is not allowed on the interface where the coordinator arrives (403 {id})"
            )),
            (403, _) => {
                let who = self.who();
                Seen::unknown(say!(
                    language,
                    "{place}: {who} não tem o privilégio de GET em /api/v2{path} (403 {id})",
                    "{place}: {who} lacks the privilege to GET /api/v2{path} (403 {id})"
                ))
            }
            (503, "ENDPOINT_REST_API_IS_NOT_ENABLED") => absent(say!(
                language,
                "{place}: a API REST está instalada e desligada: ligue-a em System > REST API (503)",
                "{place}: the REST API is installed and turned off: enable it in System > REST API (503)"
            )),
            (404 | 405, _) => Seen::unknown(say!(
                language,
                "{place}: esta versão do pacote não serve GET em /api/v2{path} ({status} {id}); atualize o pacote da API REST",
                "{place}: this version of the package does not serve GET on /api/v2{path} ({status} {id}); update the REST API package"
            )),
            _ => Seen::unknown(say!(
                language,
                "{place}: /api/v2{path} respondeu {status} {id}: {message}",
                "{place}: /api/v2{path} answered {status} {id}: {message}"
            )),
        }
    }

    /// No envelope: an older package, a pfSense without it, or somebody else.
    async fn instead(&self, place: &str, answer: &Answer, absent: impl Fn(String) -> Seen) -> Seen {
        let (language, status) = (self.language(), answer.status);
        if status == 401 {
            return Seen::unknown(say!(
                language,
                "{place} pediu login com 401 fora da API REST: há um proxy com senha na frente? O Farol espera 30 min",
                "{place} asked for a login with a 401 that is not the REST API's: is there a proxy with a password in front? Farol waits for 30 min"
            ));
        }
        if matches!(status, 500..=599) {
            let start = quoted(&answer.start(&[self.reach.connection.secret()]));
            return Seen::unknown(say!(
                language,
                "{place} respondeu {status} sem a API REST: {start}",
                "{place} answered {status} without the REST API: {start}"
            ));
        }
        if self.is_version_1().await {
            return Seen::unknown(say!(
                language,
                "{place}: responde a API REST v1; atualize o pacote para a v2 (pfSense-pkg-RESTAPI)",
                "{place}: the REST API v1 answers; upgrade the package to v2 (pfSense-pkg-RESTAPI)"
            ));
        }
        if self.is_pfsense().await {
            return absent(say!(
                language,
                "{place}: o pfSense responde, mas o pacote da API REST não está lá ({status}), como após uma atualização do pfSense: instale pfSense-pkg-RESTAPI de novo",
                "{place}: pfSense answers, but its REST API package is missing ({status}), as after an upgrade of pfSense: install pfSense-pkg-RESTAPI again"
            ));
        }
        let start = quoted(&answer.start(&[self.reach.connection.secret()]));
        Seen::unknown(say!(
            language,
            "{place}: quem responde não parece um pfSense ({status}): {start}",
            "{place}: what answers does not look like a pfSense ({status}): {start}"
        ))
    }

    /// Asked without credentials, and not again for a while once it is known:
    /// its refusal counts as a failed login.
    async fn is_version_1(&self) -> bool {
        let now = self.reach.asking.now;
        if self.reach.known(|known| known.older.is_some_and(|until| now < until)) {
            return true;
        }
        let make = |client: &Client, base: &str| client.get(format!("{base}/api/v1/system/api/version"));
        let found = self.reach.send(make).await.ok().as_ref().and_then(json);
        let is = found.is_some_and(|body| body.get("return").is_some() && body.get("response_id").is_none());
        if is {
            self.reach.known(|known| known.older = Some(now.plus_ms(OLDER_MS)));
        }
        is
    }

    /// Whether its web pages are there.
    async fn is_pfsense(&self) -> bool {
        let make = |client: &Client, base: &str| client.get(format!("{base}/"));
        let page = self.reach.send(make).await;
        page.is_ok_and(|page| String::from_utf8_lossy(&page.body).to_ascii_lowercase().contains("pfsense"))
    }

    fn who(&self) -> String {
        let language = self.language();
        match &self.reach.connection.user {
            Some(user) => say!(language, "o usuário {user}", "the user {user}"),
            None => say!(language, "a chave de API", "the API key"),
        }
    }
}
