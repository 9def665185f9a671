//! One lane of the spool: a stream, its batches and its gaps in the file.

use farol_protocol::{StreamId, Timestamp, telemetry::Gap};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Batch, gaps};

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What is observed now.
    Live,
    /// What waited through a partition.
    Backlog,
}

/// Where a lane stands.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) stream: StreamId,
    /// The last number in use.
    pub(super) last: u64,
    /// Committed at the coordinator; what lies below may still be in the file.
    pub(super) acked: u64,
    pub(super) bytes: u64,
    pub(super) gaps: Vec<Gap>,
}

impl Lane {
    /// The beginning of its tables' names.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Backlog => "backlog_",
        }
    }

    /// Writes the lane's tables into `{}` of a statement; the names are ours.
    fn sql(self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace("{}", self.prefix()))
    }

    pub(super) async fn create(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(self.sql(
            "create table if not exists {}stream (id text not null, floor integer not null);
             create table if not exists {}batch (seq integer primary key, ts integer not null, size integer not null, body text not null);
             create table if not exists {}gap (first_seq integer primary key, last_seq integer not null, first_ts integer not null, last_ts integer not null);",
        ))
        .execute(connection)
        .await
        .map(drop)
    }

    /// Begins a stream where there is none; its numbers begin above `floor`.
    pub(super) async fn begin(self, connection: &mut SqliteConnection, floor: u64) -> Result<bool, sqlx::Error> {
        sqlx::query(self.sql("insert into {}stream (id, floor) select ?, ? where not exists (select 1 from {}stream)"))
            .bind(StreamId::new().to_string())
            .bind(int(floor))
            .execute(connection)
            .await
            .map(|done| done.rows_affected() > 0)
    }

    /// What the file says; none without a stream.
    pub(super) async fn load(self, connection: &mut SqliteConnection) -> Result<Option<State>, sqlx::Error> {
        let row = sqlx::query(self.sql(
            "select id, max(floor, (select coalesce(max(seq), 0) from {}batch), (select coalesce(max(last_seq), 0) from {}gap)) as last,
                    (select coalesce(sum(size), 0) from {}batch) as bytes
             from {}stream",
        ))
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let gaps = sqlx::query(self.sql("select first_seq, last_seq, first_ts, last_ts from {}gap order by first_seq"))
            .fetch_all(connection)
            .await?;
        let stream: String = row.try_get("id")?;
        Ok(Some(State {
            stream: stream.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            last: count(row.try_get("last")?),
            acked: 0,
            bytes: count(row.try_get("bytes")?),
            gaps: gaps.iter().map(read_gap).collect::<Result<_, _>>()?,
        }))
    }

    /// Removes what is committed at the coordinator; answers its size.
    pub(super) async fn let_go(self, connection: &mut SqliteConnection, acked: u64) -> Result<u64, sqlx::Error> {
        let freed: i64 = sqlx::query_scalar(self.sql("select coalesce(sum(size), 0) from {}batch where seq <= ?"))
            .bind(int(acked))
            .fetch_one(&mut *connection)
            .await?;
        if freed > 0 {
            sqlx::query(self.sql("delete from {}batch where seq <= ?")).bind(int(acked)).execute(connection).await?;
        }
        Ok(count(freed))
    }

    /// Ends the stream.
    pub(super) async fn end(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(self.sql("delete from {}batch; delete from {}gap; delete from {}stream"))
            .execute(connection)
            .await
            .map(drop)
    }

    /// Drops the oldest batch into `gaps` and answers its size; none where
    /// there is nothing to drop. The newest of a backlog stays: a later batch
    /// has to tell the gap.
    pub(super) async fn drop_oldest(
        self,
        connection: &mut SqliteConnection,
        gaps: &mut Vec<Gap>,
        border: Option<u64>,
    ) -> Result<Option<u64>, sqlx::Error> {
        let statement = match self {
            Self::Live => "delete from {}batch where seq = (select min(seq) from {}batch) returning seq, ts, size",
            Self::Backlog => {
                "delete from {}batch where seq = (select min(seq) from {}batch)
                 and seq < (select max(seq) from {}batch) returning seq, ts, size"
            }
        };
        let oldest = sqlx::query(self.sql(statement)).fetch_optional(connection).await?;
        let Some(oldest) = oldest else { return Ok(None) };
        let at = Timestamp::from_ms(oldest.try_get("ts")?);
        let seq = count(oldest.try_get("seq")?);
        gaps::add(gaps, Gap { first_seq: seq, last_seq: seq, from: at, to: at }, border);
        Ok(Some(count(oldest.try_get("size")?)))
    }

    pub(super) async fn save_gaps(self, connection: &mut SqliteConnection, gaps: &[Gap]) -> Result<(), sqlx::Error> {
        sqlx::query(self.sql("delete from {}gap")).execute(&mut *connection).await?;
        for gap in gaps {
            sqlx::query(self.sql("insert into {}gap (first_seq, last_seq, first_ts, last_ts) values (?, ?, ?, ?)"))
                .bind(int(gap.first_seq))
                .bind(int(gap.last_seq))
                .bind(gap.from.as_ms())
                .bind(gap.to.as_ms())
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// Numbers what the file holds from 1 in a new stream.
    pub(super) async fn restart(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let first: Option<i64> = sqlx::query_scalar(self.sql(
            "select min(first) from (select min(seq) as first from {}batch union all select min(first_seq) from {}gap)",
        ))
        .fetch_one(&mut *connection)
        .await?;
        let before = first.unwrap_or(1) - 1;
        sqlx::query(self.sql("update {}batch set seq = seq - ?")).bind(before).execute(&mut *connection).await?;
        sqlx::query(self.sql("update {}gap set first_seq = first_seq - ?1, last_seq = last_seq - ?1"))
            .bind(before)
            .execute(&mut *connection)
            .await?;
        sqlx::query(self.sql("update {}stream set id = ?, floor = 0"))
            .bind(StreamId::new().to_string())
            .execute(connection)
            .await?;
        Ok(())
    }

    /// The next batches above `seq`, oldest first.
    pub(super) async fn after(
        self,
        connection: &mut SqliteConnection,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<Batch>, sqlx::Error> {
        sqlx::query(self.sql("select seq, ts, body from {}batch where seq > ? order by seq limit ?"))
            .bind(int(seq))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .and_then(|rows| rows.iter().map(read_batch).collect())
    }
}

fn read_batch(row: &SqliteRow) -> Result<Batch, sqlx::Error> {
    let body: String = row.try_get("body")?;
    Ok(Batch {
        seq: count(row.try_get("seq")?),
        ts: Timestamp::from_ms(row.try_get("ts")?),
        payload: serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

fn read_gap(row: &SqliteRow) -> Result<Gap, sqlx::Error> {
    Ok(Gap {
        first_seq: count(row.try_get("first_seq")?),
        last_seq: count(row.try_get("last_seq")?),
        from: Timestamp::from_ms(row.try_get("first_ts")?),
        to: Timestamp::from_ms(row.try_get("last_ts")?),
    })
}

pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
