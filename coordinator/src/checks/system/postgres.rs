//! PostgreSQL, in a transaction that only reads and that the server itself ends
//! when it takes too long.

mod error;
mod tls;

use std::time::{Duration, Instant};

use farol_protocol::{
    Language,
    system::{PostgresLook, PostgresProbe},
};
use reqwest::Url;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Row, config::SslMode};

use self::{error::Trouble, tls::Rustls};
use super::{
    Asking, Seen,
    reach::{is_passed_over, share},
};
use crate::{
    integrations::{
        Connection, Tls,
        http::{Failure, hidden},
        lenient,
        stream::{self, Place},
    },
    text::{duration, number, plain, say},
};

const PORT: u16 = 5432;
/// Longest text that a query may give, in characters.
const KEPT: u16 = 4096;

pub(super) async fn ask(asking: &Asking<'_>, probe: &PostgresProbe, connection: &Connection) -> Seen {
    let began = Instant::now();
    let left = || asking.limit.saturating_sub(began.elapsed());
    let mut last = Failure::Unusable("no address".to_owned());
    for (at, endpoint) in connection.endpoints.iter().enumerate() {
        let limit = share(left(), at, connection.endpoints.len());
        let dialogue = timeout(limit, dialogue(asking, probe, connection, endpoint));
        match dialogue.await.unwrap_or(Err(Trouble::Transport(Failure::Timeout))) {
            Ok(seen) => return seen,
            // Who answers, counts; whoever cannot be reached, has the next one asked.
            Err(Trouble::Transport(failure)) if is_passed_over(&failure) => last = failure,
            Err(trouble) => return trouble.seen(asking, connection),
        }
    }
    Trouble::Transport(last).seen(asking, connection)
}

async fn dialogue(
    asking: &Asking<'_>,
    probe: &PostgresProbe,
    connection: &Connection,
    endpoint: &str,
) -> Result<Seen, Trouble> {
    let url = Url::parse(endpoint).map_err(|error| Failure::Unusable(error.to_string()))?;
    let place = Place::of(&url, PORT).ok_or_else(|| Failure::Unusable("the address has no host".to_owned()))?;
    let config = config(&url, &place, connection)?;
    let tls = Rustls { place: place.clone(), config: stream::client_config(&connection.tls)? };
    let began = Instant::now();
    let stream = place.connect().await?;
    let (mut client, driver) = config.connect_raw(stream, tls).await?;
    tokio::select! {
        seen = look(asking, probe, connection, &mut client, began) => Ok(seen?),
        ended = driver => Err(match ended {
            Err(error) => error.into(),
            Ok(()) => Failure::Refused(Box::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))).into(),
        }),
    }
}

fn config(url: &Url, place: &Place, connection: &Connection) -> Result<Config, Failure> {
    let option = |name: &str| {
        let of_url = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        of_url.or_else(|| connection.options.get(name).cloned())
    };
    // A password goes over a network in TLS only, unless somebody says otherwise.
    let mode = match option("sslmode").as_deref() {
        Some("disable") => SslMode::Disable,
        Some("prefer" | "allow") => SslMode::Prefer,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        None if connection.tls == Tls::Verify && place.is_loopback() => SslMode::Disable,
        None => SslMode::Require,
        Some(other) => {
            return Err(Failure::Unusable(format!("`sslmode={other}` is not one of disable, prefer, require")));
        }
    };
    let path = url.path().trim_matches('/');
    let database = if path.is_empty() { option("database") } else { Some(path.to_owned()) };
    let mut config = Config::new();
    config
        .user(connection.user())
        .dbname(database.as_deref().unwrap_or("postgres"))
        .application_name("farol")
        .ssl_mode(mode);
    if connection.secret.is_some() {
        config.password(connection.secret());
    }
    Ok(config)
}

async fn look(
    asking: &Asking<'_>,
    probe: &PostgresProbe,
    connection: &Connection,
    client: &mut Client,
    began: Instant,
) -> Result<Seen, tokio_postgres::Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    // The server stops what nobody waits for any more.
    let left = asking.limit.saturating_sub(began.elapsed()).as_millis().max(1);
    transaction
        .batch_execute(&format!("set local statement_timeout = {left}; set local lock_timeout = {left}"))
        .await?;
    let (language, name) = (asking.language, connection.name.as_str());
    let seen = match probe.look {
        PostgresLook::Answers => {
            let row = transaction.query_one(ANSWERS, &[]).await?;
            answers(language, probe, name, &row, began.elapsed())
        }
        PostgresLook::Connections => {
            connections(language, probe, name, &transaction.query_one(CONNECTIONS, &[]).await?)
        }
        PostgresLook::Transaction => longest(language, probe, name, &transaction.query_one(LONGEST, &[]).await?),
        PostgresLook::Replication => {
            let row = transaction.query_one(ROLE, &[]).await?;
            if flag(&row, "standby") == Some(true) {
                standby(language, probe, name, &transaction.query_one(STANDBY, &[]).await?)
            } else {
                replicas(language, probe, name, &transaction.query(REPLICAS, &[]).await?)
            }
        }
        PostgresLook::Query => {
            let query = probe.query.as_deref().unwrap_or_default().trim().trim_end_matches(';');
            // Prepared, so that it is one statement. Its columns take the
            // names below, and come as text whatever their types are.
            let columns = transaction.prepare(query).await?.columns().len();
            let (names, note) = if columns > 1 { ("value, note", "note::text") } else { ("value", "null::text") };
            // Cut by the server: nothing of such a length is read by a person.
            let read = format!(
                "select left(value::text, {KEPT}) as value, left({note}, {KEPT}) as note from (\n{query}\n) as farol({names}) limit 1"
            );
            match transaction.query_opt(&read, &[]).await? {
                Some(row) => query_gave(language, probe, name, &row),
                None => Seen::unknown(say!(
                    language,
                    "a consulta em {name} não deu nenhuma linha",
                    "the query on {name} gave no row"
                )),
            }
        }
    };
    transaction.rollback().await?;
    Ok(seen)
}

const ANSWERS: &str = "select current_setting('server_version') as version, pg_is_in_recovery() as standby";

/// Rows of other users' sessions are there for everybody, only without details.
const CONNECTIONS: &str = "select count(*) as used, \
    current_setting('max_connections')::bigint as most, \
    current_setting('superuser_reserved_connections')::bigint \
    + coalesce(nullif(current_setting('reserved_connections', true), '')::bigint, 0) as reserved \
    from pg_stat_activity where datid is not null and coalesce(backend_type, 'client backend') = 'client backend'";

const LONGEST: &str = "select pg_has_role(current_user, 'pg_read_all_stats', 'usage') as may, \
    t.pid::bigint, t.datname::text, t.usename::text, t.state::text, \
    extract(epoch from clock_timestamp() - t.xact_start)::float8 as age \
    from (select 1) as one left join lateral ( \
    select pid, datname, usename, state, xact_start from pg_stat_activity \
    where xact_start is not null and backend_type = 'client backend' and pid <> pg_backend_pid() \
    order by xact_start limit 1) as t on true";

const ROLE: &str = "select pg_is_in_recovery() as standby";

const REPLICAS: &str = "select coalesce(nullif(application_name, ''), client_addr::text, pid::text) as name, \
    state::text, case when replay_lsn = pg_current_wal_lsn() then 0 \
    else extract(epoch from replay_lag) end::float8 as lag from pg_stat_replication";

const STANDBY: &str = "select pg_has_role(current_user, 'pg_read_all_stats', 'usage') as may, \
    (select status::text from pg_stat_wal_receiver) as status, \
    case when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0 \
    else extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) end::float8 as lag";

fn text(row: &Row, column: &str) -> Option<String> {
    row.try_get::<_, Option<String>>(column).ok().flatten().map(|text| plain(&hidden(&text), 80))
}

fn whole(row: &Row, column: &str) -> Option<i64> {
    row.try_get::<_, Option<i64>>(column).ok().flatten()
}

fn float(row: &Row, column: &str) -> Option<f64> {
    row.try_get::<_, Option<f64>>(column).ok().flatten().filter(|number| number.is_finite())
}

fn flag(row: &Row, column: &str) -> Option<bool> {
    row.try_get::<_, Option<bool>>(column).ok().flatten()
}

fn answers(language: Language, probe: &PostgresProbe, name: &str, row: &Row, took: Duration) -> Seen {
    let ms = (took.as_secs_f64() * 1000.0).round();
    let version = text(row, "version").unwrap_or_default();
    let version = version.split(' ').next().unwrap_or_default();
    let text = if flag(row, "standby") == Some(true) {
        say!(
            language,
            "{name} responde (PostgreSQL {version}, réplica)",
            "{name} answers (PostgreSQL {version}, standby)"
        )
    } else {
        say!(language, "{name} responde (PostgreSQL {version})", "{name} answers (PostgreSQL {version})")
    };
    Seen::judged(language, &probe.limits, ms, "ms", &text)
}

fn missing(language: Language, name: &str, what: &str) -> Seen {
    Seen::unknown(say!(language, "{name} não diz {what}", "{name} does not say {what}"))
}

#[expect(clippy::cast_precision_loss, reason = "numbers of connections are small")]
fn connections(language: Language, probe: &PostgresProbe, name: &str, row: &Row) -> Seen {
    let (Some(used), Some(most)) = (whole(row, "used"), whole(row, "most")) else {
        return missing(language, name, "max_connections");
    };
    let most = most - whole(row, "reserved").unwrap_or(0);
    if most <= 0 {
        return missing(language, name, "max_connections");
    }
    let share = (used as f64 / most as f64 * 1000.0).round() / 10.0;
    let shown = number(share, language);
    let text = say!(
        language,
        "{name} tem {used} de {most} conexões em uso ({shown}%)",
        "{name} has {used} of {most} connections in use ({shown}%)"
    );
    Seen::judged(language, &probe.limits, share, "%", &text)
}

/// What needs the role `pg_monitor` and is asked without it.
fn not_allowed(language: Language, name: &str) -> Seen {
    Seen::unknown(say!(
        language,
        "o usuário de {name} não vê as sessões dos outros; execute `GRANT pg_monitor TO usuário`",
        "the user of {name} does not see the sessions of others; run `GRANT pg_monitor TO user`"
    ))
}

fn longest(language: Language, probe: &PostgresProbe, name: &str, row: &Row) -> Seen {
    if flag(row, "may") != Some(true) {
        return not_allowed(language, name);
    }
    let Some(age) = float(row, "age") else {
        return Seen::judged(
            language,
            &probe.limits,
            0.0,
            "s",
            &say!(language, "{name} não tem transação aberta", "{name} has no open transaction"),
        );
    };
    let age = age.max(0.0).round();
    let shown = ago(age);
    let word = |column: &str| text(row, column).unwrap_or_else(|| "?".to_owned());
    let (database, user, state) = (word("datname"), word("usename"), word("state"));
    let pid = whole(row, "pid").unwrap_or_default();
    let text = say!(
        language,
        "a transação mais longa de {name} está aberta há {shown} (pid {pid}, {user} em {database}, {state})",
        "the longest transaction of {name} has been open for {shown} (pid {pid}, {user} on {database}, {state})"
    );
    Seen::judged(language, &probe.limits, age, "s", &text)
}

#[expect(clippy::cast_possible_truncation, reason = "ages in seconds are far below 2^52")]
fn ago(seconds: f64) -> String {
    duration((seconds * 1000.0) as i64)
}

fn replicas(language: Language, probe: &PostgresProbe, name: &str, rows: &[Row]) -> Seen {
    if rows.is_empty() {
        return Seen::critical(say!(
            language,
            "nenhuma réplica está ligada a {name}",
            "no replica is connected to {name}"
        ));
    }
    let count = rows.len();
    let mut furthest: Option<(f64, String)> = None;
    for row in rows {
        let replica = text(row, "name").unwrap_or_else(|| "?".to_owned());
        // Without the role the row is there, with nothing in it.
        let Some(state) = text(row, "state") else { return not_allowed(language, name) };
        if state != "streaming" {
            return Seen::warning(say!(
                language,
                "a réplica {replica} de {name} está em `{state}` e não recebe o fluxo",
                "the replica {replica} of {name} is in `{state}` and does not stream"
            ));
        }
        let Some(lag) = float(row, "lag") else {
            return Seen::unknown(say!(
                language,
                "a réplica {replica} de {name} não diz o seu atraso",
                "the replica {replica} of {name} does not say how far behind it is"
            ));
        };
        if furthest.as_ref().is_none_or(|(most, _)| lag > *most) {
            furthest = Some((lag, replica));
        }
    }
    let (lag, replica) = furthest.unwrap_or_default();
    let lag = (lag * 10.0).round() / 10.0;
    let shown = number(lag, language);
    let text = say!(
        language,
        "{name} tem {count} réplicas; a mais atrasada é {replica}, {shown} s",
        "{name} has {count} replicas; the furthest behind is {replica}, {shown} s"
    );
    Seen::judged(language, &probe.limits, lag, "s", &text)
}

fn standby(language: Language, probe: &PostgresProbe, name: &str, row: &Row) -> Seen {
    match text(row, "status").as_deref() {
        Some("streaming") => {}
        None if flag(row, "may") != Some(true) => return not_allowed(language, name),
        other => {
            let state = other.unwrap_or("–").to_owned();
            return Seen::critical(say!(
                language,
                "a réplica {name} não recebe nada do primário (receptor: {state})",
                "the standby {name} receives nothing from its primary (receiver: {state})"
            ));
        }
    }
    let Some(lag) = float(row, "lag") else { return missing(language, name, "pg_last_xact_replay_timestamp") };
    let lag = (lag.max(0.0) * 10.0).round() / 10.0;
    let shown = number(lag, language);
    let text = say!(
        language,
        "a réplica {name} está {shown} s atrás do primário",
        "the standby {name} is {shown} s behind its primary"
    );
    Seen::judged(language, &probe.limits, lag, "s", &text)
}

fn query_gave(language: Language, probe: &PostgresProbe, name: &str, row: &Row) -> Seen {
    let given = text(row, "value");
    let Some(value) = given.as_deref().and_then(|given| lenient::number(&serde_json::Value::from(given))) else {
        let given = given.unwrap_or_else(|| "null".to_owned());
        return Seen::unknown(say!(
            language,
            "a consulta em {name} deu `{given}` em vez de um número",
            "the query on {name} gave `{given}` instead of a number"
        ));
    };
    let unit = probe.unit.as_deref().unwrap_or("count");
    let shown = number(value, language);
    let unit_shown = probe.unit.as_deref().map(|unit| format!(" {}", plain(unit, 20))).unwrap_or_default();
    let note = row.try_get::<_, Option<String>>("note").ok().flatten().map(|note| plain(&hidden(&note), 200));
    let note = note.map(|note| format!(": {note}")).unwrap_or_default();
    let text = say!(
        language,
        "a consulta em {name} dá {shown}{unit_shown}{note}",
        "the query on {name} gives {shown}{unit_shown}{note}"
    );
    Seen::judged(language, &probe.limits, value, unit, &text)
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, report::Limits};
    use farol_tests::product::{Product, Reply};
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        checks::system::testing::{asking, connection},
        integrations::{Kind, http::Clients},
    };

    async fn seen(endpoints: Vec<String>) -> Seen {
        let product = Product::start_plain(|_| Reply::json(200, &json!({}))).await.expect("a server");
        let connection =
            Connection { endpoints, tls: Tls::Verify, ..connection(Kind::Postgres, &product, Some("u"), "pw") };
        let (look, query, unit) = (PostgresLook::Answers, None, None);
        let probe = PostgresProbe { integration: "casa".to_owned(), look, query, unit, limits: Limits::default() };
        let clients = Clients::default();
        let asking = Asking { limit: Duration::from_secs(1), ..asking(&clients) };
        ask(&asking, &probe, &connection).await
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next_and_one_without_tls_says_the_option() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let bare = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = |listener: &TcpListener| {
            format!("postgres://{}/?sslmode=require", listener.local_addr().expect("an address"))
        };
        let endpoints = vec![url(&silent), url(&bare)];
        let server = tokio::spawn(async move {
            let (mut stream, _) = bare.accept().await.expect("a client");
            stream.read_exact(&mut [0; 8]).await.expect("a question for TLS");
            stream.write_all(b"N").await.expect("answered");
        });
        let seen = seen(endpoints).await;
        assert_eq!(seen.status, Status::Unknown);
        assert!(seen.text.contains("--option sslmode=disable"), "{}", seen.text);
        server.await.expect("asked");
    }
}
