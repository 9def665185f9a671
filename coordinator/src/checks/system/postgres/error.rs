//! What it means that PostgreSQL did not give what was asked for.

use std::error::Error as _;

use farol_protocol::Language;
use tokio_postgres::error::SqlState;

use super::tls::Unbelieved;
use crate::{
    checks::{seen::Seen, system::Asking},
    integrations::{
        Connection,
        http::{Failure, redacted},
        stream,
    },
    text::{plain, say},
};

/// Why there is nothing to judge.
pub(super) enum Trouble {
    /// No way to the server.
    Transport(Failure),
    /// The server, or its protocol.
    Server(tokio_postgres::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Transport(failure)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.as_db_error().is_some() {
            return Self::Server(error);
        }
        let is_tls = error.source().is_some_and(|source| source.is::<Unbelieved>());
        let is_io = error.source().is_some_and(|source| source.is::<std::io::Error>());
        if is_tls || is_io || error.is_closed() {
            return Self::Transport(match error.into_source() {
                Some(source) => match source.downcast::<Unbelieved>() {
                    Ok(unbelieved) => unbelieved.0,
                    Err(source) => stream::failure(source),
                },
                None => Failure::Refused(Box::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))),
            });
        }
        Self::Server(error)
    }
}

impl Trouble {
    pub(super) fn seen(self, asking: &Asking<'_>, connection: &Connection) -> Seen {
        match self {
            Self::Transport(failure) => asking.failed(&connection.name, &failure),
            Self::Server(error) => refused(asking, connection, &error),
        }
    }
}

fn refused(asking: &Asking<'_>, connection: &Connection, error: &tokio_postgres::Error) -> Seen {
    let (language, name) = (asking.language, &connection.name);
    let clean = |text: &str| plain(&redacted(text, &[connection.secret()]), 160);
    let Some(db) = error.as_db_error() else {
        let why = clean(&error.source().map_or_else(|| error.to_string(), ToString::to_string));
        if why.contains("does not support TLS") {
            return Seen::unknown(say!(
                language,
                "{name} não oferece TLS; ligue `ssl` no servidor, ou grave a integração com `--option sslmode=disable`",
                "{name} offers no TLS; turn `ssl` on at the server, or store the integration with `--option sslmode=disable`"
            ));
        }
        return Seen::unknown(say!(
            language,
            "{name} não completou o diálogo do PostgreSQL: {why}",
            "{name} did not complete the dialogue of PostgreSQL: {why}"
        ));
    };
    let (code, why) = (db.code(), clean(db.message()));
    let user = plain(connection.user(), 60);
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        return Seen::unknown(say!(
            language,
            "{name} recusou o login de `{user}`; corrija usuário e senha da integração, ou o pg_hba.conf: {why}",
            "{name} refused the login of `{user}`; correct user and password of the integration, or pg_hba.conf: {why}"
        ));
    }
    if *code == SqlState::INVALID_CATALOG_NAME {
        return Seen::unknown(say!(
            language,
            "{name} não tem esse banco de dados; corrija a integração: {why}",
            "{name} has no such database; correct the integration: {why}"
        ));
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Seen::unknown(say!(
            language,
            "o usuário `{user}` de {name} não tem o direito; execute `GRANT pg_monitor TO {user}`: {why}",
            "the user `{user}` of {name} lacks the right; run `GRANT pg_monitor TO {user}`: {why}"
        ));
    }
    if *code == SqlState::TOO_MANY_CONNECTIONS {
        return Seen::critical(say!(
            language,
            "{name} não aceita mais conexões: {why}",
            "{name} takes no more connections: {why}"
        ));
    }
    if *code == SqlState::CANNOT_CONNECT_NOW
        || *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || code.code().starts_with("58")
        || code.code().starts_with("XX")
    {
        return Seen::critical(say!(
            language,
            "{name} diz que não atende: {why}",
            "{name} says that it does not serve: {why}"
        ));
    }
    if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE {
        return asking.failed(name, &Failure::Timeout);
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Seen::unknown(say!(
            language,
            "a consulta em {name} quer escrever, e verificações só leem: {why}",
            "the query on {name} wants to write, and checks only read: {why}"
        ));
    }
    let code = code.code();
    Seen::unknown(say!(
        language,
        "{name} recusou a pergunta ({code}): {why}",
        "{name} refused the question ({code}): {why}"
    ))
}
