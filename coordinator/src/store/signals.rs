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
    /// Whether it is listed and no more: its host has too many checks.
    pub listed_only: bool,
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
    /// Whether its sender speaks for this host alone. Otherwise the host was
    /// found by a name, which may be another's tomorrow.
    pub own_host: bool,
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

impl Filter {
    /// Says only what is asked for, so that an index can answer it.
    fn narrow(&self, query: &mut QueryBuilder<Any>) {
        if let Some(site) = &self.site_id {
            query.push(" and site_id = ").push_bind(site.clone());
        }
        if let Some(severity) = &self.severity {
            query.push(" and severity = ").push_bind(severity.clone());
        }
        if let Some(since) = self.since {
            query.push(" and observed_ms >= ").push_bind(since.as_ms());
        }
    }
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
    reported: i64,
}

const COLUMNS: &str = "id, site_id, kind, summary, detail, severity, source, observed_ms, received_ms, host_key, \
                       check_id, status, reported";

/// Checks of signals and alerts that a host has at most.
const CHECKS: i64 = 1000;
/// `reported` of a signal that is listed only.
const LISTED_ONLY: i64 = 2;
/// Signals that are forgotten in one transaction.
const STEP: i64 = 500;

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
            listed_only: raw.reported == LISTED_ONLY,
        })
    }
}

impl Store {
    /// Stores signals, all or none, and answers them with their ids; none for
    /// an alert whose newest signal says the same. An alert that still burns
    /// stays with the host and check it began with, unless its sender speaks for
    /// one host alone. What would be a check too many of its host is listed only.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_signals(&self, new: Vec<NewSignal>) -> Result<Vec<Option<SignalRow>>> {
        let mut write = self.state().write().await?;
        let (last,): (Option<i64>,) =
            sqlx::query_as("select max(id) from signal").fetch_one(&mut *write).await.context("read the signals")?;
        let mut id = last.unwrap_or(0);
        let mut stored = Vec::with_capacity(new.len());
        for NewSignal { mut row, alert, own_host } in new {
            if let Some(alert) = &alert {
                let known: Option<(i64, i64, i64, i64, String)> = sqlx::query_as(
                    "select alert_started_ms, alert_firing, observed_ms, host_key, check_id from signal
                     where alert = $1 and (host_key = $2 or ($3 = 0 and own_host = 0)) order by id desc limit 1",
                )
                .bind(&alert.fingerprint)
                .bind(row.host.0)
                .bind(i64::from(own_host))
                .fetch_optional(&mut *write)
                .await
                .context("read an alert")?;
                if let Some((started_ms, firing, observed_ms, host, check)) = known {
                    if started_ms == alert.started_at.as_ms() && (firing != 0) == alert.firing {
                        stored.push(None);
                        continue;
                    }
                    // An alert that burns again keeps the time it first began
                    // at; it is news all the same.
                    row.observed_at = row.observed_at.max(Timestamp::from_ms(observed_ms));
                    if firing != 0 {
                        (row.host, row.check) = (HostKey(host), word("check id", &check)?);
                    }
                }
            }
            row.listed_only = too_many(&mut write, &row).await?;
            id += 1;
            row.id = id;
            sqlx::query(
                "insert into signal (id, site_id, kind, summary, detail, severity, source, observed_ms, received_ms,
                     host_key, check_id, status, alert, alert_started_ms, alert_firing, reported, own_host)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
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
            .bind(if row.listed_only { LISTED_ONLY } else { 0 })
            .bind(i64::from(own_host))
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
        let mut query = QueryBuilder::<Any>::new(format!("select {COLUMNS} from signal where 1 = 1"));
        filter.narrow(&mut query);
        query.push(" order by id desc limit ").push_bind(limit);
        let rows: Vec<Raw> = query.build_query_as().fetch_all(&mut *read).await.context("read the signals")?;
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
    /// one stays, so that no id is given twice. Steps are short, since all other
    /// writers wait for each.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_signals(&self, before: Timestamp) -> Result<u64> {
        let (mut after, mut removed) = (0, 0);
        loop {
            let mut write = self.state().write().await?;
            // By id, in which order they came: the step ends where the next begins.
            let (last, count): (Option<i64>, i64) = sqlx::query_as(
                "select max(id), count(*) from (select id from signal where id > $1
                     and id < (select max(id) from signal) and received_ms < $2 order by id limit $3) as step",
            )
            .bind(after)
            .bind(before.as_ms())
            .bind(STEP)
            .fetch_one(&mut *write)
            .await
            .context("read old signals")?;
            let Some(last) = last else { return Ok(removed) };
            removed +=
                sqlx::query("delete from signal where id > $1 and id <= $2 and received_ms < $3 and reported <> 0")
                    .bind(after)
                    .bind(last)
                    .bind(before.as_ms())
                    .execute(&mut *write)
                    .await
                    .context("remove old signals")?
                    .rows_affected();
            write.commit().await?;
            if count < STEP {
                return Ok(removed);
            }
            after = last;
        }
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

/// Whether a signal would be a check too many of its host, said once in the log
/// for each host.
async fn too_many(write: &mut sqlx::AnyConnection, row: &SignalRow) -> Result<bool> {
    let known: Option<(i64,)> =
        sqlx::query_as("select 1 from signal where host_key = $1 and check_id = $2 and reported <> 2 limit 1")
            .bind(row.host.0)
            .bind(row.check.as_str())
            .fetch_optional(&mut *write)
            .await
            .context("read a signal's check")?;
    if known.is_some() {
        return Ok(false);
    }
    let (checks,): (i64,) =
        sqlx::query_as("select count(distinct check_id) from signal where host_key = $1 and reported <> 2")
            .bind(row.host.0)
            .fetch_one(&mut *write)
            .await
            .context("count a host's checks")?;
    if checks < CHECKS {
        return Ok(false);
    }
    let said: Option<(i64,)> = sqlx::query_as("select 1 from signal where host_key = $1 and reported = 2 limit 1")
        .bind(row.host.0)
        .fetch_optional(&mut *write)
        .await
        .context("read the signals")?;
    if said.is_none() {
        tracing::warn!(
            host_key = row.host.0,
            check = row.check.as_str(),
            "a host has {CHECKS} checks of signals and alerts; further ones are stored and listed, but open no finding"
        );
    }
    Ok(true)
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
                listed_only: false,
            },
            own_host: false,
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
    async fn an_alert_that_burns_stays_with_its_host_and_check_until_it_is_resolved() {
        let (_folder, store) = store().await;
        let add = async |host: i64, check: &str, firing: bool, own_host: bool| {
            let mut alert = new("a", 10, Some((10, firing)));
            (alert.row.host, alert.row.check) = (HostKey(host), check.parse().expect("a check"));
            alert.own_host = own_host;
            store.add_signals(vec![alert]).await.expect("ok").remove(0).map(|row| (row.host.0, row.check.to_string()))
        };
        let is = |host: i64, check: &str| Some((host, check.to_owned()));
        assert_eq!(add(9, "alert.own", true, true).await, is(9, "alert.own"));
        assert_eq!(add(3, "alert.x", true, false).await, is(3, "alert.x"), "another host's own word is not followed");
        assert_eq!(add(4, "alert.y", true, false).await, None, "a repeat");
        assert_eq!(add(5, "alert.z", false, true).await, is(5, "alert.z"), "a host speaks for itself alone");
        assert_eq!(add(4, "alert.y", false, false).await, is(3, "alert.x"), "resolved where it began");
        assert_eq!(add(4, "alert.y", true, false).await, is(4, "alert.y"), "what begins anew has its new host");
    }

    #[tokio::test]
    async fn a_check_too_many_of_a_host_is_listed_and_waits_for_no_report() {
        let (_folder, store) = store().await;
        let of = |host: i64, n: i64| {
            let mut signal = new("a", n, None);
            (signal.row.host, signal.row.check) = (HostKey(host), format!("signal.k{n}").parse().expect("a check"));
            signal
        };
        let mut many: Vec<NewSignal> = (0..=CHECKS).map(|n| of(3, n)).collect();
        many.extend([of(3, 7), of(4, CHECKS)]);
        let stored = store.add_signals(many).await.expect("ok");
        let only: Vec<i64> = stored.iter().flatten().filter(|row| row.listed_only).map(|row| row.id).collect();
        assert_eq!(only, [CHECKS + 1], "known checks and other hosts go on");
        assert!(store.signal(CHECKS + 1).await.expect("it is stored").listed_only);
        assert_eq!(store.waiting_signals(9999).await.expect("read").len(), stored.len() - 1);
    }

    #[tokio::test]
    async fn lists_of_a_site_or_a_severity_are_read_from_an_index() {
        let (_folder, store) = store().await;
        for (filter, index) in [
            (Filter { site_id: Some("a".to_owned()), ..Filter::default() }, "signal_by_site"),
            (Filter { severity: Some("low".to_owned()), ..Filter::default() }, "signal_by_severity"),
        ] {
            let mut read = store.state().read().await.expect("a reader");
            let mut query = QueryBuilder::<Any>::new("explain query plan select id from signal where 1 = 1");
            filter.narrow(&mut query);
            query.push(" order by id desc limit 300");
            let plan: Vec<(i64, i64, i64, String)> =
                query.build_query_as().fetch_all(&mut *read).await.expect("a plan");
            assert!(plan.len() == 1 && plan[0].3.contains(index), "{plan:?}");
        }
    }

    #[tokio::test]
    async fn many_old_signals_go_in_steps_past_those_that_are_not_reported() {
        let (_folder, store) = store().await;
        let count = 2 * STEP + 7;
        store.add_signals((0..count).map(|_| new("a", 1, None)).collect()).await.expect("ok");
        let reported: Vec<i64> = (STEP - 1..=count).filter(|id| *id != STEP + 1).collect();
        store.signals_reported(&reported).await.expect("noted");
        let gone = u64::try_from(reported.len()).expect("few") - 1;
        assert_eq!(store.prune_signals(at(1000)).await.expect("pruned"), gone, "all but the newest");
        let waiting = store.waiting_signals(9999).await.expect("read");
        assert_eq!(waiting.iter().map(|row| row.id).max(), Some(STEP + 1));
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
