//! SQLite's own check of a file that belongs to somebody else.

use std::time::Instant;

use farol_protocol::Status;
pub(super) use farol_protocol::report::SqliteIntegrityProbe;
use sqlx::Row as _;
use tokio::time::timeout;

use super::{Access, Probing, Seen, path::allowed, sqlite, text::Text};
use crate::text::cut;

/// One row with the number of faults and the first of them. `quick_check`
/// leaves out what makes the full check slow: comparing indexes with tables.
const CHECK: &str = "select sum(fault), coalesce(max(case when fault then said end), '') from \
                     (select quick_check as said, quick_check <> 'ok' as fault from pragma_quick_check)";
/// What SQLite says of a file that is none of its own, or no longer is.
const DAMAGED: [&str; 2] = ["file is not a database", "database disk image is malformed"];

pub(super) async fn run(probing: Probing, access: &Access, probe: &SqliteIntegrityProbe) -> Seen {
    let deadline = Instant::now() + probing.limit;
    let path = match allowed(probing, access, &probe.path).await {
        Ok(path) => path,
        Err(seen) => return seen,
    };
    let file = ("file", probe.path.as_str());
    let asked = timeout(sqlite::left(deadline), sqlite::ask(&path, CHECK.to_owned(), deadline)).await;
    match asked {
        Ok(Ok(Some(row))) => {
            let faults = row.try_get_unchecked::<i64, _>(0).ok().and_then(|faults| usize::try_from(faults).ok());
            let said = row.try_get_unchecked::<String, _>(1).unwrap_or_default();
            match faults {
                Some(0) => probing.counted(Status::Ok, 0, Text::IntegrityOk, &[file]),
                Some(faults) => {
                    let why = cut(said.lines().next().unwrap_or_default(), 200);
                    probing.counted(Status::Critical, faults, Text::IntegrityBad, &[file, ("why", &why)])
                }
                None => probing.unknown(Text::SqliteNone, &[file]),
            }
        }
        Ok(Ok(None)) => probing.unknown(Text::SqliteNone, &[file]),
        Ok(Err(_)) | Err(_) if Instant::now() >= deadline => {
            probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())])
        }
        Ok(Err(sqlx::Error::Database(error))) if DAMAGED.iter().any(|said| error.message().contains(said)) => {
            probing.critical(Text::IntegrityBad, &[file, ("why", error.message())])
        }
        Ok(Err(error)) => probing.unknown(Text::SqliteFailed, &[file, ("why", &cut(&error.to_string(), 200))]),
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use farol_protocol::report::UnknownCause;
    use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::{
        super::tests::{probing, reading},
        *,
    };

    async fn look(access: &Access, path: &Path) -> Seen {
        run(probing(), access, &SqliteIntegrityProbe { path: path.to_string_lossy().into_owned() }).await
    }

    #[tokio::test]
    async fn a_sound_file_is_ok_and_a_damaged_one_critical() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, access) = (folder.path().join("a.db"), reading(folder.path()));
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("opens");
        let fill = "create table t (a text); with recursive n(i) as (select 1 union all select i + 1 from n \
                    where i < 500) insert into t select hex(randomblob(100)) from n; create index i on t (a)";
        sqlx::raw_sql(fill).execute(&mut connection).await.expect("runs");
        connection.close().await.expect("closed");
        let seen = look(&access, &file).await;
        assert_eq!((seen.status, seen.value), (Status::Ok, Some(0.0)), "{}", seen.text);

        let mut bytes = fs::read(&file).expect("read");
        let length = bytes.len();
        bytes[4096..length / 2].fill(0x5a);
        fs::write(&file, &bytes).expect("written");
        let seen = look(&access, &file).await;
        assert_eq!((seen.status, seen.cause), (Status::Critical, None), "{}", seen.text);

        fs::write(&file, "this is no database, however long it may be made to look like one").expect("written");
        let seen = look(&access, &file).await;
        assert_eq!((seen.status, seen.value), (Status::Critical, None), "{}", seen.text);
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_read_or_is_not_there_is_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let seen = look(&Access::NoPolicy, &folder.path().join("a.db")).await;
        assert_eq!((seen.status, seen.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)), "{}", seen.text);
        let seen = look(&reading(folder.path()), &folder.path().join("a.db")).await;
        assert_eq!((seen.status, seen.cause), (Status::Unknown, None), "{}", seen.text);
    }
}
