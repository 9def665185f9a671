//! A look at a spool from outside.

use std::path::Path;

use farol_protocol::{StreamId, Timestamp};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::lane::count;
use crate::Error;

/// What `farol-agent status` and `doctor` show of a spool.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// The live stream.
    pub stream: StreamId,
    /// Batches in the file, backlog included; the newest may be acknowledged already.
    pub batches: u64,
    /// Their size.
    pub bytes: u64,
    /// When the oldest was closed.
    pub oldest: Option<Timestamp>,
    /// Batches of the backlog, which are sent beside the live ones.
    pub backlog: u64,
    /// Ranges that had to be dropped and are not yet told.
    pub gaps: u64,
    /// Batches in those ranges.
    pub lost: u64,
}

/// Looks at a spool that an agent may be using.
///
/// # Errors
/// The file cannot be read.
pub async fn summary(path: &Path) -> Result<Summary, Error> {
    let look = async {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let row = sqlx::query(
            "select (select id from stream) as stream,
                    (select count(*) from backlog_batch) as backlog,
                    count(*) as batches, coalesce(sum(size), 0) as bytes, min(ts) as oldest,
                    (select count(*) from gap) + (select count(*) from backlog_gap) as gaps,
                    (select coalesce(sum(last_seq - first_seq + 1), 0) from gap)
                    + (select coalesce(sum(last_seq - first_seq + 1), 0) from backlog_gap) as lost
             from (select ts, size from batch union all select ts, size from backlog_batch)",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        let stream: String = row.try_get("stream")?;
        Ok(Summary {
            stream: stream.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            batches: count(row.try_get("batches")?),
            bytes: count(row.try_get("bytes")?),
            oldest: row.try_get::<Option<i64>, _>("oldest")?.map(Timestamp::from_ms),
            backlog: count(row.try_get("backlog")?),
            gaps: count(row.try_get("gaps")?),
            lost: count(row.try_get("lost")?),
        })
    };
    look.await.map_err(|source| Error::Spool { operation: "read", path: path.to_owned(), source })
}
