//! One SELECT on an SQLite file that belongs to somebody else.
//!
//! The file is opened read-only and never created, its own triggers and views
//! may not call functions with side effects, and a progress handler stops the
//! query at the deadline, however heavy it is.

use std::{
    path::Path,
    time::{Duration, Instant},
};

pub(super) use farol_protocol::report::SqliteProbe;
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Row as _, SqliteConnection, TypeInfo as _, ValueRef as _,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tokio::time::timeout;

use super::{Access, Probing, Seen, crossed, path::allowed, text::Text};
use crate::text::cut;

/// Instructions of SQLite's virtual machine between two looks at the clock.
const PROGRESS_OPS: i32 = 1_000;
/// What the progress handler is given to act before the query is abandoned.
const SLACK: Duration = Duration::from_secs(1);

pub(super) async fn run(probing: Probing, access: &Access, probe: &SqliteProbe) -> Seen {
    let deadline = Instant::now() + probing.limit;
    let path = match allowed(probing, access, &probe.path).await {
        Ok(path) => path,
        Err(seen) => return seen,
    };
    let Some(query) = single_select(&probe.query) else {
        return probing.not_configured(Text::SqliteBadQuery, &[]);
    };
    // SQLite has the same words for this as for a file that may not be read.
    let found = path.clone();
    let is_folder = move || Ok::<_, std::io::Error>(found.is_dir());
    match probing.blocking_on(&probe.path, Text::WhatFiles, is_folder).await {
        Ok(true) => return probing.unknown(Text::PathFolder, &[("path", &probe.path)]),
        Ok(false) => {}
        Err(seen) => return seen,
    }
    let file = probe.path.as_str();
    match timeout(left(deadline), ask(&path, query, deadline)).await {
        Ok(Ok(row)) => judge(probing, probe, row.as_ref()),
        Ok(Err(_)) | Err(_) if Instant::now() >= deadline => {
            probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())])
        }
        Ok(Err(error)) => {
            let why = match &error {
                sqlx::Error::Database(error) => error.message().to_owned(),
                other => other.to_string(),
            };
            probing.unknown(Text::SqliteFailed, &[("file", file), ("why", &cut(&why, 200))])
        }
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

/// What there is until the query is abandoned.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()) + SLACK
}

/// The query without its trailing semicolon, if it is one SELECT or WITH.
fn single_select(query: &str) -> Option<String> {
    let query = query.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let word: String = query.chars().take_while(char::is_ascii_alphabetic).collect();
    let reads = ["select", "with"].iter().any(|allowed| word.eq_ignore_ascii_case(allowed));
    (reads && !query.contains([';', '\0'])).then(|| query.to_owned())
}

pub(super) async fn ask(path: &Path, query: String, deadline: Instant) -> Result<Option<SqliteRow>, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(5)))
        .statement_cache_capacity(0)
        .row_buffer_size(1)
        .pragma("query_only", "on")
        .pragma("trusted_schema", "off");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    connection.lock_handle().await?.set_progress_handler(PROGRESS_OPS, move || Instant::now() < deadline);
    let row = sqlx::query(AssertSqlSafe(query)).fetch_optional(&mut connection).await;
    // The answer is in; how the connection ends changes nothing about it.
    let _ = connection.close().await;
    row
}

fn judge(probing: Probing, probe: &SqliteProbe, row: Option<&SqliteRow>) -> Seen {
    let file = ("file", probe.path.as_str());
    let Some(value) = row.and_then(|row| row.try_get_raw(0).ok()).filter(|value| !value.is_null()) else {
        return probing.unknown(Text::SqliteNone, &[file]);
    };
    let number = match value.type_info().name() {
        "TEXT" | "BLOB" => None,
        _ => row.and_then(|row| row.try_get_unchecked::<f64, _>(0).ok()),
    };
    let Some(number) = number else {
        return probing.unknown(Text::SqliteNoNumber, &[file]);
    };
    let texts = [Text::SqliteOk, Text::SqliteOver];
    let mut seen = probing.judged(&probe.limits, number, &probe.unit, texts, &[file, ("unit", &probe.unit)]);
    let said = row
        .filter(|row| row.columns().get(1).is_some_and(|column| column.ordinal() == 1))
        .and_then(|row| row.try_get_unchecked::<Option<String>, _>(1).ok().flatten())
        .filter(|said| !said.is_empty());
    if let Some(said) = said {
        let (said, value) = (cut(&said, 250), probing.number(number));
        seen.text = match crossed(&probe.limits, number) {
            None => format!("{said} ({value})"),
            Some(limit) => {
                let limit = probing.number(limit);
                probing.say(Text::SqliteSaid, &[("said", &said), ("value", &value), ("limit", &limit)])
            }
        };
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_reading_statement_passes() {
        for fine in ["select 1", " SELECT 1 ; ", "with a as (select 1) select * from a", "Select\n1;;"] {
            assert!(single_select(fine).is_some(), "{fine:?}");
        }
        for bad in ["", "delete from a", "select 1; select 2", "pragma user_version", "-- x\nselect 1", "selectx 1"] {
            assert!(single_select(bad).is_none(), "{bad:?}");
        }
    }
}
