//! Streams of hosts and what is counted in them.

use farol_protocol::{Timestamp, frame::Backlog};
use serde::Serialize;

use super::{Store, bulk::StreamKey, hosts::HostKey};
use crate::error::{Result, StoreContext as _};

/// What a host has sent, over all its streams.
#[derive(Debug, Default)]
pub struct HostTelemetry {
    /// Batches committed.
    pub received: i64,
    /// Those of them that were observed before the session in which they came.
    pub backfilled: i64,
    /// Batches that the host had to drop.
    pub lost: i64,
    /// Batches of the backlog that have still to come, as far as is known.
    pub backlog: i64,
    /// The newest loss.
    pub last_gap: Option<LastGap>,
    /// Latest readings.
    pub metrics: Option<serde_json::Value>,
    /// When they were taken.
    pub metrics_at: Option<Timestamp>,
}

/// A loss, by the corrected times of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LastGap {
    /// When the first lost batch was closed.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// When the last one was.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// How many they were.
    pub count: i64,
}

#[derive(sqlx::FromRow)]
struct Raw {
    received: i64,
    backfilled: i64,
    lost: i64,
    last_seq: i64,
    announced_seq: i64,
    gap_from_ms: Option<i64>,
    gap_to_ms: Option<i64>,
    gap_batches: Option<i64>,
    metrics: Option<String>,
    metrics_ms: Option<i64>,
}

impl Store {
    /// The stream of a host's backlog, as its hello names it, and its last
    /// committed number. A host has one backlog at a time: others that it
    /// announced before are not waited for any more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn backlog(&self, host: HostKey, backlog: Option<Backlog>) -> Result<Option<(StreamKey, u64)>> {
        let announced = match backlog {
            Some(backlog) => Some((self.stream(host, backlog.stream).await?, backlog.last_seq)),
            None => None,
        };
        let mut read = self.telemetry().read().await?;
        let known: Vec<(i64, i64, i64)> =
            sqlx::query_as("select id, last_seq, announced_seq from stream where host_key = $1 and announced_seq <> 0")
                .bind(host.0)
                .fetch_all(&mut *read)
                .await
                .context("read the backlog")?;
        let mut changes = Vec::new();
        if let Some(((stream, _), last_seq)) = announced {
            let last_seq = i64::try_from(last_seq).unwrap_or(i64::MAX);
            if !known.iter().any(|(id, _, announced)| *id == stream.0 && *announced == last_seq) {
                changes.push((stream.0, last_seq));
            }
        }
        let current = announced.map(|((stream, _), _)| stream.0);
        let gone = known.iter().filter(|(id, last, announced)| Some(*id) != current && announced > last);
        changes.extend(gone.map(|(id, ..)| (*id, 0)));
        if !changes.is_empty() {
            let mut write = self.telemetry().write().await?;
            for (id, announced) in changes {
                sqlx::query("update stream set announced_seq = $2 where id = $1")
                    .bind(id)
                    .bind(announced)
                    .execute(&mut *write)
                    .await
                    .context("store the backlog")?;
            }
            write.commit().await?;
        }
        Ok(announced.map(|(stream, _)| stream))
    }

    /// Latest readings and counts of a host over all its streams.
    ///
    /// # Errors
    /// The store failed.
    pub async fn telemetry_of(&self, host: HostKey) -> Result<HostTelemetry> {
        let mut read = self.telemetry().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(
            "select received, backfilled, lost, last_seq, announced_seq, gap_from_ms, gap_to_ms, gap_batches,
                    metrics, metrics_ms
             from stream where host_key = $1 order by id",
        )
        .bind(host.0)
        .fetch_all(&mut *read)
        .await
        .context("read the telemetry")?;
        let mut all = HostTelemetry::default();
        for row in rows {
            all.received += row.received;
            all.backfilled += row.backfilled;
            all.lost += row.lost;
            all.backlog += (row.announced_seq - row.last_seq).max(0);
            if let (Some(from), Some(to), Some(count)) = (row.gap_from_ms, row.gap_to_ms, row.gap_batches) {
                let gap = LastGap { from: Timestamp::from_ms(from), to: Timestamp::from_ms(to), count };
                if all.last_gap.is_none_or(|known| known.to <= gap.to) {
                    all.last_gap = Some(gap);
                }
            }
            // A backlog's readings are older than those of the live stream.
            if let (Some(metrics), Some(at)) = (row.metrics, row.metrics_ms)
                && all.metrics_at.is_none_or(|known| known.as_ms() <= at)
            {
                all.metrics = serde_json::from_str(&metrics).ok();
                all.metrics_at = Some(Timestamp::from_ms(at));
            }
        }
        Ok(all)
    }
}
