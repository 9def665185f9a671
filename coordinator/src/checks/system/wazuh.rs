//! A Wazuh manager by its API.
//!
//! Which daemons must run: those that Wazuh starts in every manager. The
//! others (agentlessd, csyslogd, dbd, integratord, maild, reportd, clusterd)
//! run only where they are configured, and their absence says nothing.

use std::collections::BTreeMap;

use farol_protocol::{
    Language, Status,
    system::{WazuhLook, WazuhProbe},
};
use reqwest::Client;
use serde_json::Value;

use super::{
    Asking, Seen,
    phrase::{Said, above, count, limits_or, listed, quoted, shown},
    reach::{Reach, Unreached, json},
};
use crate::{
    integrations::{
        Connection, Secret,
        http::Answer,
        lenient::{integer, text},
    },
    text::say,
};

/// Without one of these nothing is analysed, received, stored or answered.
const CRITICAL: [&str; 7] = ["analysisd", "remoted", "db", "modulesd", "apid", "execd", "syscheckd"];
/// These run in every manager as well; without one it works in part.
const USUAL: [&str; 3] = ["authd", "monitord", "logcollector"];
/// A login is good for 900 s; it is used for a little less.
const TOKEN_MS: i64 = 840_000;

pub(super) async fn ask(asking: &Asking<'_>, probe: &WazuhProbe, connection: &Connection) -> Seen {
    let name = &connection.name;
    if connection.user().is_empty() || connection.secret().is_empty() {
        return Seen::not_configured(say!(
            asking.language,
            "a integração `{name}` precisa de usuário e senha da API do Wazuh",
            "the integration `{name}` needs a user and password of the Wazuh API"
        ));
    }
    let seen = match Reach::new(asking, connection) {
        Ok(reach) => {
            let manager = Manager { reach };
            let looked = match probe.look {
                WazuhLook::Manager => daemons(&manager, probe).await,
                WazuhLook::Agents => agents(&manager, probe).await,
            };
            looked.unwrap_or_else(|trouble| trouble.seen(&manager))
        }
        Err(seen) => seen,
    };
    shown(connection, seen)
}

struct Manager<'a> {
    reach: Reach<'a>,
}

#[derive(Debug)]
enum Trouble {
    Unreached(Unreached),
    /// It refused user and password.
    Login(String),
    /// It refuses a login that it has just given.
    Token(String),
    Refused {
        path: &'static str,
        status: u16,
        why: String,
    },
    Shape(&'static str),
}

impl Manager<'_> {
    const fn language(&self) -> Language {
        self.reach.asking.language
    }

    /// The `data` of a reading call. A login that is not good any more, as
    /// after a restart of the manager, is renewed once.
    async fn get(&self, path: &'static str) -> Result<Value, Trouble> {
        let now = self.reach.asking.now;
        let kept =
            self.reach.known(|known| known.token.clone()).filter(|(_, until)| now < *until).map(|(token, _)| token);
        let (token, fresh) = match kept {
            Some(token) => (token, false),
            None => (self.login().await?, true),
        };
        let mut answer = self.call(path, &token).await?;
        if answer.status == 401 && !fresh {
            let token = self.login().await?;
            answer = self.call(path, &token).await?;
        }
        match answer.status {
            200..=299 => {
                let body = json(&answer).ok_or(Trouble::Shape(path))?;
                let error = body.get("error").and_then(integer).unwrap_or(0);
                if error == 1 {
                    return Err(Trouble::Refused { path, status: answer.status, why: reason(&answer) });
                }
                body.get("data").cloned().ok_or(Trouble::Shape(path))
            }
            401 => {
                self.reach.known(|known| known.token = None);
                Err(Trouble::Token(reason(&answer)))
            }
            status => Err(Trouble::Refused { path, status, why: reason(&answer) }),
        }
    }

    async fn call(&self, path: &str, token: &Secret) -> Result<Answer, Trouble> {
        let make = |client: &Client, base: &str| client.get(format!("{base}{path}")).bearer_auth(token.expose());
        self.reach.send(make).await.map_err(Trouble::Unreached)
    }

    async fn login(&self) -> Result<Secret, Trouble> {
        const PATH: &str = "/security/user/authenticate";
        let connection = self.reach.connection;
        self.reach.known(|known| known.token = None);
        let make = |client: &Client, base: &str| {
            client.post(format!("{base}{PATH}")).basic_auth(connection.user(), Some(connection.secret()))
        };
        let answer = self.reach.send(make).await.map_err(Trouble::Unreached)?;
        match answer.status {
            200..=299 => {
                let body = json(&answer).ok_or(Trouble::Shape(PATH))?;
                let token = body.get("data").and_then(|data| data.get("token")).and_then(text);
                // What cannot stand in a header is no token.
                let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
                let token = Secret::new(token.ok_or(Trouble::Shape(PATH))?.to_owned());
                let until = self.reach.asking.now.plus_ms(TOKEN_MS);
                self.reach.known(|known| known.token = Some((token.clone(), until)));
                Ok(token)
            }
            401 => Err(Trouble::Login(reason(&answer))),
            status => Err(Trouble::Refused { path: PATH, status, why: reason(&answer) }),
        }
    }
}

fn reason(answer: &Answer) -> String {
    let body = json(answer).unwrap_or_default();
    let word = |key: &str| body.get(key).and_then(Value::as_str);
    quoted(word("detail").or_else(|| word("message")).or_else(|| word("title")).unwrap_or_default())
}

impl Trouble {
    fn seen(&self, manager: &Manager<'_>) -> Seen {
        let (language, place) = (manager.language(), manager.reach.place());
        let user = manager.reach.connection.user();
        Seen::unknown(match self {
            Self::Unreached(unreached) => return unreached.seen(manager.reach.asking),
            Self::Login(why) => say!(
                language,
                "{place} recusou o usuário {user} (401 {why}): confira a senha; 50 tentativas erradas bloqueiam por 5 min",
                "{place} refused the user {user} (401 {why}): see to the password; 50 wrong attempts block for 5 min"
            ),
            Self::Token(why) => say!(
                language,
                "{place} recusou o token que acabou de dar (401 {why}): veja o relógio do servidor e o wazuh-apid",
                "{place} refused the token that it has just given (401 {why}): see the server's clock and wazuh-apid"
            ),
            Self::Refused { path, status: 403, why } => say!(
                language,
                "{place}: {user} não pode ler {path} (403 {why}): dê-lhe agent:read e manager:read",
                "{place}: {user} may not read {path} (403 {why}): give it agent:read and manager:read"
            ),
            Self::Refused { status: 429, why, .. } => say!(
                language,
                "{place} recebe perguntas demais por minuto (429 {why})",
                "{place} gets too many questions a minute (429 {why})"
            ),
            Self::Refused { path, status, why } => {
                say!(language, "{place}: {path} respondeu {status} {why}", "{place}: {path} answered {status} {why}")
            }
            Self::Shape(path) => say!(
                language,
                "{place}: a resposta de {path} não é a de um Wazuh 4",
                "{place}: the answer of {path} is not one of a Wazuh 4"
            ),
        })
    }
}

/// Whether the daemons that every manager needs run.
async fn daemons(manager: &Manager<'_>, probe: &WazuhProbe) -> Result<Seen, Trouble> {
    const PATH: &str = "/manager/status";
    let language = manager.language();
    let data = manager.get(PATH).await?;
    let all: BTreeMap<&str, &str> = data
        .get("affected_items")
        .and_then(|items| items.get(0))
        .and_then(Value::as_object)
        .ok_or(Trouble::Shape(PATH))?
        .iter()
        .filter_map(|(name, state)| {
            let short = name.strip_prefix("wazuh-").or_else(|| name.strip_prefix("ossec-")).unwrap_or(name);
            Some((short, state.as_str()?))
        })
        .collect();
    let mut said = Said::new(language);
    let stopped = |names: &[&str]| -> Vec<String> {
        let stopped = names.iter().filter_map(|name| all.get(name).map(|state| (*name, *state)));
        stopped
            .filter(|(_, state)| *state != "running")
            .map(|(name, state)| format!("{name} ({})", quoted(state)))
            .collect()
    };
    let (grave, light) = (stopped(&CRITICAL), stopped(&USUAL));
    let absent: Vec<String> =
        CRITICAL.iter().chain(&USUAL).filter(|name| !all.contains_key(**name)).map(|name| (*name).to_owned()).collect();
    let runs = all.values().filter(|state| **state == "running").count();
    let gone = count(grave.len() + light.len());
    for (status, items) in [(Status::Critical, &grave), (Status::Warning, &light)] {
        if !items.is_empty() {
            let names = listed(language, items);
            said.say(status, say!(language, "parado no gerente: {names}", "not running in the manager: {names}"));
        }
    }
    said.judge(
        &probe.limits,
        gone,
        "count",
        &say!(language, "{runs} processos do gerente funcionam", "{runs} daemons of the manager run"),
    );
    if !absent.is_empty() {
        let names = listed(language, &absent);
        said.say(Status::Unknown, say!(language, "sem notícia de {names}", "nothing is said of {names}"));
    }
    Ok(said.seen())
}

/// How many agents are disconnected.
async fn agents(manager: &Manager<'_>, probe: &WazuhProbe) -> Result<Seen, Trouble> {
    const PATH: &str = "/agents/summary/status";
    let language = manager.language();
    let data = manager.get(PATH).await?;
    // Releases before 4.3 have the counts at the top.
    let counts = data.get("connection").unwrap_or(&data).as_object().ok_or(Trouble::Shape(PATH))?;
    let number = |key: &str| counts.get(key).and_then(integer).and_then(|number| usize::try_from(number).ok());
    let mut said = Said::new(language);
    let Some(gone) = number("disconnected") else {
        return Ok(Seen::unknown(say!(
            language,
            "o gerente não diz quantos agentes estão desconectados",
            "the manager does not tell how many agents are disconnected"
        )));
    };
    let Some(total) = number("total").filter(|total| *total > 0) else {
        return Ok(Seen::unknown(say!(
            language,
            "o gerente não mostra nenhum agente, nem a si mesmo: dê agent:read em agent:id:* ao usuário",
            "the manager shows no agent, not even itself: give the user agent:read on agent:id:*"
        )));
    };
    let never = number("never_connected").unwrap_or(0);
    let never = if never == 0 {
        String::new()
    } else {
        say!(language, "; {never} nunca se conectaram", "; {never} never connected")
    };
    let names = if gone == 0 { String::new() } else { disconnected(manager, language).await };
    let text = say!(
        language,
        "{gone} de {total} agentes desconectados{names}{never}",
        "{gone} of {total} agents disconnected{names}{never}"
    );
    said.judge(&limits_or(&probe.limits, above(Some(1.0), None)), count(gone), "count", &text);
    Ok(said.seen())
}

/// Who they are, as far as that can be read: the count stands without it.
async fn disconnected(manager: &Manager<'_>, language: Language) -> String {
    let read = manager.get("/agents?status=disconnected&select=id,name&limit=20").await.unwrap_or_default();
    let items = read.get("affected_items").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<String> = items.iter().filter_map(|item| item.get("name").and_then(text)).map(quoted).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", listed(language, &names)) }
}

#[cfg(test)]
mod tests;
