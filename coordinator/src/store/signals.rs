//! Signals as they were sent, and what each says of which check.

use farol_protocol::{CheckId, Status, Timestamp};
use serde_json::{Map, Value};
use sqlx::{Any, FromRow, QueryBuilder};

use super::{Store, hosts, hosts::HostKey, serde_word, word};
use crate::error::{Error, Result, StoreContext as _};

/// A signal as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalRow {
    /// Counts from 1; never given twice.
    pub id: i64,
    /// The site that its sender names.
    pub site_id: String,
    /// What it is about.
    pub kind: String,
    /// One line.
    pub summary: String,
    /// Whatever belongs to it.
    pub detail: Map<String, Value>,
    /// Its sender's word.
    pub severity: String,
    /// What sent it.
    pub source: String,
    /// When it was observed, as its sender says.
    pub observed_at: Timestamp,
    /// When it came.
    pub received_at: Timestamp,
    /// The host it is about; one that stands for a site where it names none.
    pub host: HostKey,
    /// The check it reports on.
    pub check: CheckId,
    /// What it reports.
    pub status: Status,
}

/// What makes an alert one that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Of its labels.
    pub fingerprint: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether it still burns.
    pub firing: bool,
}

/// A signal on its way in; its `id` is given by the store.
#[derive(Debug)]
pub struct NewSignal {
    /// Everything but the id.
    pub row: SignalRow,
    /// For an alert: by what a repeat is known.
    pub alert: Option<Alert>,
}

/// Which signals.
#[derive(Debug, Default)]
pub struct Filter {
    /// Of this site.
    pub site_id: Option<String>,
    /// Of this severity.
    pub severity: Option<String>,
    /// Observed from then on.
    pub since: Option<Timestamp>,
}

#[derive(FromRow)]
struct Raw {
    id: i64,
    site_id: String,
    kind: String,
    summary: String,
    detail: String,
    severity: String,
    source: String,
    observed_ms: i64,
    received_ms: i64,
    host_key: i64,
    check_id: String,
    status: String,
}

const COLUMNS: &str = "id, site_id, kind, summary, detail, severity, source, observed_ms, received_ms, host_key, \
                       check_id, status";

impl TryFrom<Raw> for SignalRow {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        Ok(Self {
            detail: serde_json::from_str(&raw.detail).map_err(|_| Error::Corrupt {
                what: "signal's detail",
                value: raw.detail.chars().take(64).collect(),
            })?,
            check: word("check id", &raw.check_id)?,
            status: serde_word("status", &raw.status)?,
            id: raw.id,
            site_id: raw.site_id,
            kind: raw.kind,
            summary: raw.summary,
            severity: raw.severity,
            source: raw.source,
            observed_at: Timestamp::from_ms(raw.observed_ms),
            received_at: Timestamp::from_ms(raw.received_ms),
            host: HostKey(raw.host_key),
        })
    }
}

impl Store {
    /// Stores signals, all or none, and answers them with their ids; none for
    /// an alert whose newest signal says the same.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_signals(&self, new: Vec<NewSignal>) -> Result<Vec<Option<SignalRow>>> {
        let mut write = self.state().write().await?;
        let (last,): (Option<i64>,) =
            sqlx::query_as("select max(id) from signal").fetch_one(&mut *write).await.context("read the signals")?;
        let mut id = last.unwrap_or(0);
        let mut stored = Vec::with_capacity(new.len());
        for NewSignal { mut row, alert } in new {
            if let Some(alert) = &alert {
                let known: Option<(i64, i64, i64)> = sqlx::query_as(
                    "select alert_started_ms, alert_firing, observed_ms from signal
                     where alert = $1 and host_key = $2 order by id desc limit 1",
                )
                .bind(&alert.fingerprint)
                .bind(row.host.0)
                .fetch_optional(&mut *write)
                .await
                .context("read an alert")?;
                if let Some((started_ms, firing, observed_ms)) = known {
                    if started_ms == alert.started_at.as_ms() && (firing != 0) == alert.firing {
                        stored.push(None);
                        continue;
                    }
                    // An alert that burns again keeps the time it first began
                    // at; it is news all the same.
                    row.observed_at = row.observed_at.max(Timestamp::from_ms(observed_ms));
                }
            }
            id += 1;
            row.id = id;
            sqlx::query(
                "insert into signal (id, site_id, kind, summary, detail, severity, source, observed_ms, received_ms,
                     host_key, check_id, status, alert, alert_started_ms, alert_firing)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            )
            .bind(row.id)
            .bind(&row.site_id)
            .bind(&row.kind)
            .bind(&row.summary)
            .bind(Value::Object(row.detail.clone()).to_string())
            .bind(&row.severity)
            .bind(&row.source)
            .bind(row.observed_at.as_ms())
            .bind(row.received_at.as_ms())
            .bind(row.host.0)
            .bind(row.check.as_str())
            .bind(row.status.as_str())
            .bind(alert.as_ref().map(|alert| alert.fingerprint.clone()))
            .bind(alert.as_ref().map(|alert| alert.started_at.as_ms()))
            .bind(alert.as_ref().map(|alert| i64::from(alert.firing)))
            .execute(&mut *write)
            .await
            .context("store a signal")?;
            stored.push(Some(row));
        }
        write.commit().await?;
        Ok(stored)
    }

    /// Notes that the reports of these signals are committed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn signals_reported(&self, ids: &[i64]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut write = self.state().write().await?;
        for chunk in ids.chunks(100) {
            let mut update = QueryBuilder::<Any>::new("update signal set reported = 1 where id in (");
            let mut list = update.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            update.push(")");
            update.build().execute(&mut *write).await.context("note reported signals")?;
        }
        write.commit().await
    }

    /// Signals whose reports may not be committed, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn waiting_signals(&self, limit: i64) -> Result<Vec<SignalRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from signal where reported = 0 order by id limit $1"
        )))
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the signals")?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Signals, the newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn signals(&self, filter: &Filter, limit: i64) -> Result<Vec<SignalRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from signal
             where ($1 = '' or site_id = $1) and ($2 = '' or severity = $2) and observed_ms >= $3
             order by id desc limit $4"
        )))
        .bind(filter.site_id.as_deref().unwrap_or_default())
        .bind(filter.severity.as_deref().unwrap_or_default())
        .bind(filter.since.map_or(i64::MIN, Timestamp::as_ms))
        .bind(limit)
        .fetch_all(&mut *read)
        .await
        .context("read the signals")?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// One signal.
    ///
    /// # Errors
    /// There is none of this id, or the store failed.
    pub async fn signal(&self, id: i64) -> Result<SignalRow> {
        let mut read = self.state().read().await?;
        let row: Option<Raw> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from signal where id = $1")))
                .bind(id)
                .fetch_optional(&mut *read)
                .await
                .context("read a signal")?;
        row.ok_or_else(|| Error::NotFound { what: "signal", id: id.to_string() })?.try_into()
    }

    /// Forgets signals that came before `before` and are reported. The newest
    /// one stays, so that no id is given twice.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_signals(&self, before: Timestamp) -> Result<u64> {
        let mut write = self.state().write().await?;
        let removed = sqlx::query(
            "delete from signal where received_ms < $1 and reported = 1 and id < (select max(id) from signal)",
        )
        .bind(before.as_ms())
        .execute(&mut *write)
        .await
        .context("remove old signals")?
        .rows_affected();
        write.commit().await?;
        Ok(removed)
    }

    /// What stands for a site among the hosts, made if need be.
    ///
    /// # Errors
    /// The store failed.
    pub async fn site_host(&self, name: &str, now: Timestamp) -> Result<HostKey> {
        match self.host(name).await {
            Ok(host) => return Ok(host.key),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut write = self.state().write().await?;
        hosts::ensure(&mut write, name, now).await?;
        write.commit().await?;
        Ok(self.host(name).await?.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        (folder, store)
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000 + ms)
    }

    fn new(site: &str, received_ms: i64, alert: Option<(i64, bool)>) -> NewSignal {
        NewSignal {
            row: SignalRow {
                id: 0,
                site_id: site.to_owned(),
                kind: "k".to_owned(),
                summary: "s".to_owned(),
                detail: Map::from_iter([("n".to_owned(), Value::from(1.5))]),
                severity: "low".to_owned(),
                source: "agent".to_owned(),
                observed_at: at(received_ms),
                received_at: at(received_ms),
                host: HostKey(3),
                check: "signal.k".parse().expect("a check"),
                status: Status::Warning,
            },
            alert: alert.map(|(started_ms, firing)| Alert {
                fingerprint: "c0ffee".to_owned(),
                started_at: at(started_ms),
                firing,
            }),
        }
    }

    #[tokio::test]
    async fn signals_are_counted_listed_newest_first_and_wait_until_they_are_reported() {
        let (_folder, store) = store().await;
        let stored =
            store.add_signals(vec![new("a", 1, None), new("b", 2, None), new("a", 3, None)]).await.expect("ok");
        let ids: Vec<i64> = stored.iter().flatten().map(|row| row.id).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(
            store.signals(&Filter::default(), 2).await.expect("read").iter().map(|row| row.id).collect::<Vec<_>>(),
            [3, 2]
        );
        let of_a = Filter { site_id: Some("a".to_owned()), since: Some(at(2)), ..Filter::default() };
        assert_eq!(store.signals(&of_a, 9).await.expect("read").iter().map(|row| row.id).collect::<Vec<_>>(), [3]);
        assert_eq!(store.signal(1).await.expect("read"), stored[0].clone().expect("stored"));
        store.signals_reported(&[1, 3]).await.expect("noted");
        assert_eq!(store.waiting_signals(9).await.expect("read").iter().map(|row| row.id).collect::<Vec<_>>(), [2]);
        assert!(matches!(store.signal(9).await, Err(Error::NotFound { .. })));
    }

    #[tokio::test]
    async fn an_alert_is_stored_when_it_says_something_new_and_never_before_its_last_word() {
        let (_folder, store) = store().await;
        let add = async |alert: NewSignal| store.add_signals(vec![alert]).await.expect("ok").remove(0);
        assert!(add(new("a", 10, Some((10, true)))).await.is_some());
        assert!(add(new("a", 20, Some((10, true)))).await.is_none(), "a repeat");
        assert!(add(new("a", 30, Some((10, false)))).await.is_some());
        assert!(add(new("a", 30, Some((10, false)))).await.is_none());
        let again = add(new("a", 10, Some((10, true)))).await.expect("it burns again");
        assert_eq!(again.observed_at, at(30));
    }

    #[tokio::test]
    async fn old_signals_go_but_no_id_comes_back_and_none_goes_unreported() {
        let (_folder, store) = store().await;
        store.add_signals(vec![new("a", 1, None), new("a", 2, None), new("a", 3, None)]).await.expect("ok");
        store.signals_reported(&[2, 3]).await.expect("noted");
        assert_eq!(store.prune_signals(at(1000)).await.expect("pruned"), 1);
        let left: Vec<i64> =
            store.signals(&Filter::default(), 9).await.expect("read").iter().map(|row| row.id).collect();
        assert_eq!(left, [3, 1]);
        let next = store.add_signals(vec![new("a", 4, None)]).await.expect("ok").remove(0).expect("stored");
        assert_eq!(next.id, 4);
    }
}
