//! Keys with which hosts sign their requests, and the requests that were taken.

use farol_protocol::{Timestamp, http_signing::NONCE_LIFE_MS};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Store, audit,
    hosts::{HostKey, LiveSet},
    word,
};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
};

/// In the live set, a host's signing key is found under this and its id. The
/// keys of certificates are digests, which never begin so.
const LIVE_PREFIX: &str = "http:";

/// A signing key as people see it; its secret is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpKey {
    /// Its id, which requests name.
    pub id: String,
    /// The host that it speaks for.
    pub host: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The name of a signing key in the live set.
pub(crate) fn live_name(key: &str) -> String {
    format!("{LIVE_PREFIX}{key}")
}

impl Store {
    /// Makes a key for a host, known or new, which from then on counts as
    /// enrolled. Keys that the host has stay good. Answers the key and the
    /// host's id.
    ///
    /// # Errors
    /// The name is not one of a host, or the store failed.
    pub async fn add_http_key(&self, by: &Operator, host: &str, now: Timestamp) -> Result<(HttpKey, String)> {
        host.parse::<farol_protocol::HostId>().map_err(|error| Error::Refused(error.to_string()))?;
        let id = Uuid::now_v7().to_string();
        let mut write = self.state().write().await?;
        let host_id = super::hosts::ensure(&mut write, host, now).await?;
        sqlx::query("insert into http_key (id, host_id, created_ms) values ($1, $2, $3)")
            .bind(&id)
            .bind(&host_id)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("store the key")?;
        sqlx::query(
            "update host set state = 'enrolled', enrolled_ms = $2, revoked_ms = null where id = $1 and state <> 'enrolled'",
        )
        .bind(&host_id)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("let the host in")?;
        let detail = format!("signing key {id}");
        record(&mut write, by, "host.key_added", host, &detail, now).await?;
        write.commit().await?;
        Ok((HttpKey { id, host: host.to_owned(), created_at: now, revoked_at: None }, host_id))
    }

    /// Keys by host and age, of one host where one is named; revoked ones too.
    ///
    /// # Errors
    /// No such host, or the store failed.
    pub async fn http_keys(&self, host: Option<&str>) -> Result<Vec<HttpKey>> {
        let name = match host {
            Some(host) => Some(self.host(host).await?.name),
            None => None,
        };
        let mut read = self.state().read().await?;
        let rows: Vec<(String, String, i64, Option<i64>)> = sqlx::query_as(
            "select http_key.id, host.name, http_key.created_ms, http_key.revoked_ms
             from http_key join host on host.id = http_key.host_id order by host.name, http_key.created_ms, http_key.id",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the keys")?;
        let keys = rows.into_iter().map(|(id, host, created, revoked)| HttpKey {
            id,
            host,
            created_at: Timestamp::from_ms(created),
            revoked_at: revoked.map(Timestamp::from_ms),
        });
        Ok(keys.filter(|key| name.as_ref().is_none_or(|name| *name == key.host)).collect())
    }

    /// Takes a key out of the live set for ever.
    ///
    /// # Errors
    /// No such key, it is revoked already, or the store failed.
    pub async fn revoke_http_key(&self, by: &Operator, id: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let row: Option<(String, Option<i64>)> = sqlx::query_as(
            "select host.name, http_key.revoked_ms from http_key join host on host.id = http_key.host_id
             where http_key.id = $1",
        )
        .bind(id)
        .fetch_optional(&mut *write)
        .await
        .context("read the key")?;
        let Some((host, revoked)) = row else { return Err(Error::NotFound { what: "key", id: id.to_owned() }) };
        if revoked.is_some() {
            return Err(Error::Refused(format!("the key `{id}` is revoked already")));
        }
        sqlx::query("update http_key set revoked_ms = $2 where id = $1")
            .bind(id)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("revoke the key")?;
        let detail = format!("signing key {id}");
        record(&mut write, by, "host.key_revoked", &host, &detail, now).await?;
        write.commit().await
    }

    /// Adds the live signing keys to the live set.
    pub(super) async fn add_live_http_keys(&self, live: &mut LiveSet) -> Result<()> {
        let mut read = self.state().read().await?;
        let rows: Vec<(String, i64, String)> = sqlx::query_as(
            "select http_key.id, host.host_key, host.id from http_key join host on host.id = http_key.host_id
             where http_key.revoked_ms is null and host.state = 'enrolled'",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the live set")?;
        for (key, host, id) in rows {
            live.insert(live_name(&key), (HostKey(host), word("host id", &id)?));
        }
        Ok(())
    }

    /// Notes that a request was taken. False when it was before, also by a
    /// coordinator that has stopped since.
    ///
    /// # Errors
    /// The store failed.
    pub async fn take_nonce(&self, key: &str, nonce: &str, now: Timestamp) -> Result<bool> {
        let mut write = self.state().write().await?;
        let inserted =
            sqlx::query("insert into http_nonce (key_id, nonce, at_ms) values ($1, $2, $3) on conflict do nothing")
                .bind(key)
                .bind(nonce)
                .bind(now.as_ms())
                .execute(&mut *write)
                .await
                .context("note the request")?;
        write.commit().await?;
        Ok(inserted.rows_affected() > 0)
    }

    /// Forgets requests whose time is not acceptable any more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_nonces(&self, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("delete from http_nonce where at_ms < $1")
            .bind(now.plus_ms(-NONCE_LIFE_MS).as_ms())
            .execute(&mut *write)
            .await
            .context("forget old requests")?;
        write.commit().await
    }
}

async fn record(
    connection: &mut sqlx::AnyConnection,
    by: &Operator,
    verb: &str,
    host: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let entry = audit::NewEntry { at: now, actor: by.name(), verb, object: ("host", host), detail };
    audit::insert(connection, entry).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        (folder, store)
    }

    #[tokio::test]
    async fn keys_overlap_and_a_revoked_key_or_host_leaves_the_live_set() {
        let (_folder, store) = store().await;
        let by = Operator::local_administrator();
        let now = Timestamp::now();
        let (old, host_id) = store.add_http_key(&by, "pf", now).await.expect("made");
        let (new, same) = store.add_http_key(&by, "pf", now.plus_ms(1)).await.expect("made");
        assert_eq!(host_id, same);
        let live = store.live_set().await.expect("readable");
        assert_eq!(live.len(), 2);
        assert_eq!(live[&live_name(&old.id)].1.as_str(), host_id);

        store.revoke_http_key(&by, &old.id, now).await.expect("revoked");
        let again = store.revoke_http_key(&by, &old.id, now).await.expect_err("twice");
        assert!(again.to_string().contains("revoked already"), "{again}");
        assert!(matches!(store.revoke_http_key(&by, "nothing", now).await, Err(Error::NotFound { .. })));
        let live = store.live_set().await.expect("readable");
        assert_eq!(live.keys().collect::<Vec<_>>(), [&live_name(&new.id)]);
        let listed = store.http_keys(Some("pf")).await.expect("readable");
        assert_eq!(listed.iter().map(|key| key.revoked_at.is_some()).collect::<Vec<_>>(), [true, false]);

        store.revoke_host(&by, "pf", now).await.expect("revoked");
        assert!(store.live_set().await.expect("readable").is_empty());
        // A new key lets the host in again, but not its old keys.
        let (newest, _) = store.add_http_key(&by, "pf", now.plus_ms(2)).await.expect("made");
        let live = store.live_set().await.expect("readable");
        assert_eq!(live.keys().collect::<Vec<_>>(), [&live_name(&newest.id)]);
    }

    #[tokio::test]
    async fn a_nonce_is_taken_once_also_by_the_next_process() {
        let (folder, store) = store().await;
        let now = Timestamp::now();
        assert!(store.take_nonce("k", "n", now).await.expect("stored"));
        assert!(store.take_nonce("other", "n", now).await.expect("stored"));
        store.close().await;
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        assert!(!store.take_nonce("k", "n", now).await.expect("stored"));
        store.prune_nonces(now.plus_ms(NONCE_LIFE_MS)).await.expect("pruned");
        assert!(!store.take_nonce("k", "n", now).await.expect("stored"), "forgotten too early");
        store.prune_nonces(now.plus_ms(NONCE_LIFE_MS + 1)).await.expect("pruned");
        assert!(store.take_nonce("k", "n", now).await.expect("stored"), "kept for ever");
    }
}
