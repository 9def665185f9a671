//! Calls of the OPNsense API in both spellings of its commands.
//!
//! Release 25.7 moved the rights of a key to snake_case; the router takes both
//! spellings, but a limited key gets 403 for the one that its release does not
//! list. So the new one is tried first, then the old one, and the one that
//! works is remembered for the firewall and the command.

use farol_protocol::{Language, Timestamp};
use reqwest::Client;
use serde_json::Value;

use crate::{
    checks::system::{
        Asking, Seen,
        phrase::quoted,
        reach::{Reach, Unreached, json},
    },
    integrations::{Connection, http::Answer},
    text::say,
};

/// One look's way to a firewall.
pub(crate) struct Firewall<'a> {
    pub(super) reach: Reach<'a>,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No address answered.
    Unreached(Unreached),
    /// The key is refused.
    Login,
    /// The key may not do this.
    Forbidden { command: &'static str },
    /// This release has no such command.
    NoCommand { command: &'static str },
    /// Something else than success.
    Refused { command: &'static str, status: u16, why: String },
    /// The answer is not what this command gives.
    Shape { command: &'static str },
}

impl<'a> Firewall<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The integration lacks something.
    pub(crate) fn of(asking: &'a Asking<'a>, connection: &'a Connection) -> Result<Self, Seen> {
        let name = &connection.name;
        if connection.user().is_empty() || connection.secret().is_empty() {
            return Err(Seen::not_configured(say!(
                asking.language,
                "a integração `{name}` precisa de uma chave de API como `user` e do segredo dela",
                "the integration `{name}` needs an API key as its `user`, and the key's secret"
            )));
        }
        Ok(Self { reach: Reach::new(asking, connection)? })
    }

    pub(crate) const fn language(&self) -> Language {
        self.reach.asking.language
    }

    pub(super) const fn now(&self) -> Timestamp {
        self.reach.asking.now
    }

    /// The body of a reading command, such as `core/firmware/status`, given in
    /// snake_case.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn get(&self, command: &'static str) -> Result<Value, Trouble> {
        let older = camel(command);
        if older == command {
            return read(command, &self.call(command).await?);
        }
        let older_first = self.reach.known(|known| known.spelled_older.get(command).copied()).unwrap_or(false);
        let order = if older_first { [older.as_str(), command] } else { [command, older.as_str()] };
        let first = self.call(order[0]).await?;
        if !matches!(first.status, 400 | 403 | 404) {
            return read(command, &first);
        }
        let second = self.call(order[1]).await?;
        if second.is_success() {
            self.reach.known(|known| known.spelled_older.insert(command.to_owned(), !older_first));
            return read(command, &second);
        }
        // A key that lacks a right hears 403 for the spelling that its release
        // knows; the other one may be a plain 404.
        read(command, if first.status == 403 { &first } else { &second })
    }

    async fn call(&self, command: &str) -> Result<Answer, Trouble> {
        let connection = self.reach.connection;
        let make = |client: &Client, base: &str| {
            client
                .get(format!("{base}/api/{command}"))
                .basic_auth(connection.user(), Some(connection.secret()))
                .header(reqwest::header::ACCEPT, "application/json")
        };
        self.reach.send(make).await.map_err(Trouble::Unreached)
    }
}

fn read(command: &'static str, answer: &Answer) -> Result<Value, Trouble> {
    match answer.status {
        200..=299 => {
            let body = json(answer).ok_or(Trouble::Shape { command })?;
            let word = |key: &str| body.get(key).and_then(Value::as_str);
            // A command that acts says so with 200 when it is only read.
            if word("result") == Some("failed") || word("status") == Some("failure") {
                return Err(Trouble::Refused { command, status: answer.status, why: reason(answer) });
            }
            Ok(body)
        }
        401 => Err(Trouble::Login),
        403 => Err(Trouble::Forbidden { command }),
        404 => Err(Trouble::NoCommand { command }),
        status => Err(Trouble::Refused { command, status, why: reason(answer) }),
    }
}

fn reason(answer: &Answer) -> String {
    let body = json(answer).unwrap_or_default();
    let word = |key: &str| body.get(key).and_then(Value::as_str);
    quoted(word("errorMessage").or_else(|| word("message")).or_else(|| word("status_msg")).unwrap_or_default())
}

impl Trouble {
    /// As the outcome of a look.
    pub(crate) fn seen(&self, firewall: &Firewall<'_>) -> Seen {
        let (language, place) = (firewall.language(), firewall.reach.place());
        Seen::unknown(match self {
            Self::Unreached(unreached) => return unreached.seen(firewall.reach.asking),
            Self::Login => say!(
                language,
                "{place} recusou a chave de API (401): confira a chave e o segredo dela",
                "{place} refused the API key (401): see to the key and its secret"
            ),
            Self::Forbidden { command } => {
                let right = right(command);
                say!(
                    language,
                    "{place}: a chave não pode ler {command} (403): dê ao usuário dela o privilégio `{right}`",
                    "{place}: the key may not read {command} (403): give its user the privilege `{right}`"
                )
            }
            Self::NoCommand { command } => say!(
                language,
                "{place}: esta versão do OPNsense não tem {command} (404), ou outro serviço responde ali",
                "{place}: this release of OPNsense has no {command} (404), or another service answers there"
            ),
            Self::Refused { command, status, why } => say!(
                language,
                "{place}: {command} respondeu {status} {why}",
                "{place}: {command} answered {status} {why}"
            ),
            Self::Shape { command } => say!(
                language,
                "{place}: a resposta de {command} não é a de um OPNsense",
                "{place}: the answer of {command} is not one of an OPNsense"
            ),
        })
    }
}

/// The privilege that lets a key read a command, as System > Access names it.
fn right(command: &str) -> &'static str {
    match command.split('/').next() {
        Some("routes") => "System: Gateways",
        Some("interfaces") => "Interfaces: Overview",
        Some("diagnostics") => "Lobby: Dashboard",
        _ if command.starts_with("core/firmware") => "System: Firmware",
        _ => "System: Status",
    }
}

/// The last word of a command in camelCase.
fn camel(command: &str) -> String {
    let (path, last) = command.rsplit_once('/').unwrap_or(("", command));
    let mut word = String::new();
    for (at, part) in last.split('_').enumerate() {
        match part.chars().next() {
            Some(first) if at > 0 => {
                word.push(first.to_ascii_uppercase());
                word.push_str(&part[first.len_utf8()..]);
            }
            _ => word.push_str(part),
        }
    }
    if path.is_empty() { word } else { format!("{path}/{word}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_its_older_spelling() {
        assert_eq!(camel("diagnostics/system/system_disk"), "diagnostics/system/systemDisk");
        assert_eq!(camel("core/firmware/status"), "core/firmware/status");
        assert_eq!(camel("interfaces/overview/interfaces_info"), "interfaces/overview/interfacesInfo");
    }
}
