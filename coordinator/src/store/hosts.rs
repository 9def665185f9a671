//! Hosts, their enrolment and their identity.

use std::collections::{HashMap, HashSet};

use farol_protocol::{
    ActionId, HostId, JournalId, RiskClass, Timestamp,
    frame::{Hello, JournalHead},
    registry::Registry,
};
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, FromRow, QueryBuilder};
use uuid::Uuid;

use super::{Store, audit, serde_word, tokens, word};
use crate::{
    auth::Operator,
    error::{EnrolmentRefusal, Error, Result, StoreContext as _},
};

/// A host inside the coordinator and its databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostKey(pub(crate) i64);

impl HostKey {
    /// A key that no store gave out, for measurements on recorded reports.
    #[must_use]
    pub const fn unstored(key: i64) -> Self {
        Self(key)
    }
}

/// Where a host's identity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enrolment {
    /// Known, never enrolled.
    Pending,
    /// Has a certificate.
    Enrolled,
    /// Had one.
    Revoked,
}

impl std::str::FromStr for Enrolment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "pending" => Ok(Self::Pending),
            "enrolled" => Ok(Self::Enrolled),
            "revoked" => Ok(Self::Revoked),
            _ => Err(()),
        }
    }
}

/// A host as stored.
#[derive(Debug, Clone)]
pub struct HostRow {
    /// Inside the databases.
    pub key: HostKey,
    /// In the certificate.
    pub id: HostId,
    /// For people.
    pub name: String,
    /// Its site.
    pub site: Option<String>,
    /// Identity.
    pub enrolment: Enrolment,
    /// Of the agent that said hello last.
    pub agent_version: Option<String>,
    /// Highest class without a signature, as the host's policy says.
    pub max_unsigned_class: Option<RiskClass>,
    /// Methods that its agent takes; none before its first hello.
    pub capabilities: Option<Vec<String>>,
    /// Protocol version; 0 for a peer without one.
    pub protocol: Option<i64>,
    /// Whether the host allows any effect.
    pub effects_allowed: Option<bool>,
    /// Whether its orders wait, because two machines answer under its name.
    pub held: bool,
    /// The action that changed it and could not be undone: until a person says so, nothing more begins there.
    pub halted_by: Option<ActionId>,
    /// End of its certificate.
    pub cert_not_after: Option<Timestamp>,
    /// When it was last heard, as far as it was saved.
    pub last_seen: Option<Timestamp>,
    /// When it was made known.
    pub created_at: Timestamp,
    /// When it enrolled.
    pub enrolled_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    host_key: i64,
    name: String,
    site: Option<String>,
    state: String,
    cert_not_after_ms: Option<i64>,
    protocol: Option<i64>,
    agent_version: Option<String>,
    capabilities: Option<String>,
    max_unsigned_class: Option<String>,
    effects_allowed: Option<i64>,
    last_seen_ms: Option<i64>,
    created_ms: i64,
    enrolled_ms: Option<i64>,
    revoked_ms: Option<i64>,
    held: i64,
    halted_by: Option<String>,
}

const COLUMNS: &str = "id, host_key, name, site, state, cert_not_after_ms, protocol, agent_version, \
     capabilities, max_unsigned_class, effects_allowed, last_seen_ms, created_ms, enrolled_ms, revoked_ms, held, halted_by";

impl TryFrom<Raw> for HostRow {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        Ok(Self {
            key: HostKey(raw.host_key),
            id: word("host id", &raw.id)?,
            enrolment: word("host state", &raw.state)?,
            max_unsigned_class: raw.max_unsigned_class.map(|class| serde_word("risk class", &class)).transpose()?,
            name: raw.name,
            site: raw.site,
            agent_version: raw.agent_version,
            capabilities: raw.capabilities.map(|list| list.split(',').map(str::to_owned).collect()),
            protocol: raw.protocol,
            effects_allowed: raw.effects_allowed.map(|allowed| allowed != 0),
            held: raw.held != 0,
            halted_by: super::brakes::halted(raw.halted_by)?,
            cert_not_after: raw.cert_not_after_ms.map(Timestamp::from_ms),
            last_seen: raw.last_seen_ms.map(Timestamp::from_ms),
            created_at: Timestamp::from_ms(raw.created_ms),
            enrolled_at: raw.enrolled_ms.map(Timestamp::from_ms),
            revoked_at: raw.revoked_ms.map(Timestamp::from_ms),
        })
    }
}

/// Names of what stands for a site among the hosts start so. No host can be
/// called that: it is no [`HostId`].
pub const SITE_PREFIX: &str = "site:";

/// Enrolment tokens start with this.
const TOKEN_PREFIX: &str = "farol-enrol";

/// A token for one enrolment, shown once. Not `Debug`: it is a secret.
pub struct NewEnrolment {
    /// The secret.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Pinned keys of the hosts that may connect.
pub type LiveSet = HashMap<String, (HostKey, HostId)>;

impl Store {
    /// Makes the registry's hosts known, so that their scenarios have a host
    /// before an agent enrols, and updates their sites.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sync_hosts(&self, registry: &Registry, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        for host in &registry.hosts {
            ensure(&mut write, &host.name, now).await?;
            sqlx::query("update host set site = $2 where name = $1 and (site is null or site <> $2)")
                .bind(&host.name)
                .bind(&host.site)
                .execute(&mut *write)
                .await
                .context("update a host")?;
        }
        write.commit().await
    }

    /// Prepares the enrolment of a host, known or new. A host that is enrolled
    /// stays so until the token is used; then its old key is no longer live.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_host(
        &self,
        by: &Operator,
        name: &str,
        ttl: std::time::Duration,
        now: Timestamp,
    ) -> Result<NewEnrolment> {
        name.parse::<HostId>().map_err(|error| Error::Refused(error.to_string()))?;
        let token = tokens::secret(TOKEN_PREFIX)?;
        let expires_at = now.plus(ttl);
        let mut write = self.state().write().await?;
        let id = ensure(&mut write, name, now).await?;
        sqlx::query("insert into enrolment_token (hash, host_id, created_ms, expires_ms) values ($1, $2, $3, $4)")
            .bind(tokens::hash(&token))
            .bind(&id)
            .bind(now.as_ms())
            .bind(expires_at.as_ms())
            .execute(&mut *write)
            .await
            .context("store the enrolment token")?;
        let detail = format!("enrolment token until {expires_at}");
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "host.token_created",
            object: ("host", name),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(NewEnrolment { token, expires_at })
    }

    /// Spends an enrolment token and pins the key that `certify` signs, in one
    /// transaction: a token makes one certificate, whatever crashes.
    ///
    /// # Errors
    /// The token is not usable, `certify` failed, or the store did.
    pub async fn enrol(
        &self,
        token: &str,
        now: Timestamp,
        certify: impl FnOnce(&HostId) -> Result<farol_pki::HostCertificate>,
    ) -> Result<(HostRow, farol_pki::HostCertificate)> {
        let hash = tokens::hash(token);
        let mut write = self.state().write().await?;
        let row: Option<(String, i64, i64, Option<i64>)> =
            sqlx::query_as("select host_id, created_ms, expires_ms, used_ms from enrolment_token where hash = $1")
                .bind(&hash)
                .fetch_optional(&mut *write)
                .await
                .context("read the enrolment token")?;
        let Some((host_id, created_ms, expires_ms, used_ms)) = row else {
            return Err(Error::Enrolment(EnrolmentRefusal::Unknown));
        };
        if used_ms.is_some() {
            return Err(Error::Enrolment(EnrolmentRefusal::Used));
        }
        if expires_ms <= now.as_ms() {
            return Err(Error::Enrolment(EnrolmentRefusal::Expired));
        }
        let host = select(&mut write, "id", &host_id).await?;
        if host.revoked_at.is_some_and(|at| at.as_ms() >= created_ms) {
            return Err(Error::Enrolment(EnrolmentRefusal::Revoked));
        }
        let certificate = certify(&host.id)?;
        sqlx::query("update enrolment_token set used_ms = $2 where hash = $1")
            .bind(&hash)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("spend the enrolment token")?;
        sqlx::query(
            "update host set state = 'enrolled', key_sha256 = $2, cert_serial = $3, cert_not_after_ms = $4,
                 enrolled_ms = $5, revoked_ms = null
             where id = $1",
        )
        .bind(&host_id)
        .bind(&certificate.key_sha256)
        .bind(&certificate.serial)
        .bind(Timestamp::from(certificate.not_after).as_ms())
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("pin the host's key")?;
        super::trust::forget(&mut write, &host_id).await?;
        let detail = format!("key {} pinned", certificate.key_sha256);
        let entry = audit::NewEntry {
            at: now,
            actor: &host.name,
            verb: "host.enrolled",
            object: ("host", &host.name),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        let host = select(&mut write, "id", &host_id).await?;
        write.commit().await?;
        Ok((host, certificate))
    }

    /// Takes the host's key out of the live set. Its unused tokens die too.
    ///
    /// # Errors
    /// No such host, or it is not enrolled, or the store failed.
    pub async fn revoke_host(&self, by: &Operator, name: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update host set state = 'revoked', revoked_ms = $2, key_sha256 = null where name = $1 and state = 'enrolled'",
        )
        .bind(name)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("revoke the host")?;
        if changed.rows_affected() == 0 {
            let host = select(&mut write, "name", name).await?;
            return Err(Error::Refused(match host.enrolment {
                Enrolment::Revoked => format!("the host `{name}` is revoked already"),
                _ => format!("the host `{name}` has not enrolled, so there is nothing to revoke"),
            }));
        }
        sqlx::query(
            "update http_key set revoked_ms = $2
             where revoked_ms is null and host_id = (select id from host where name = $1)",
        )
        .bind(name)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("revoke the host's keys")?;
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "host.revoked",
            object: ("host", name),
            detail: "key removed from the live set",
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Keys that may connect.
    ///
    /// # Errors
    /// The store failed.
    pub async fn live_set(&self) -> Result<LiveSet> {
        let mut read = self.state().read().await?;
        let rows: Vec<(String, i64, String)> = sqlx::query_as(
            "select key_sha256, host_key, id from host where state = 'enrolled' and key_sha256 is not null",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the live set")?;
        let mut live = rows
            .into_iter()
            .map(|(key, host, id)| Ok((key, (HostKey(host), word("host id", &id)?))))
            .collect::<Result<LiveSet>>()?;
        self.add_live_http_keys(&mut live).await?;
        Ok(live)
    }

    /// All hosts by name, without what stands for a site.
    ///
    /// # Errors
    /// The store failed.
    pub async fn hosts(&self) -> Result<Vec<HostRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from host where name not like '{SITE_PREFIX}%' order by name"
        )))
        .fetch_all(&mut *read)
        .await
        .context("read the hosts")?;
        rows.into_iter().map(HostRow::try_from).collect()
    }

    /// A host by its id or its name.
    ///
    /// # Errors
    /// No such host, or the store failed.
    pub async fn host(&self, id_or_name: &str) -> Result<HostRow> {
        let mut connection = self.state().read().await?;
        match select(&mut connection, "name", id_or_name).await {
            Err(Error::NotFound { .. }) => select(&mut connection, "id", id_or_name).await,
            found => found,
        }
    }

    /// A host by its key.
    ///
    /// # Errors
    /// No such host, or the store failed.
    pub async fn host_by_key(&self, key: HostKey) -> Result<HostRow> {
        let mut read = self.state().read().await?;
        let row: Option<Raw> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from host where host_key = $1")))
                .bind(key.0)
                .fetch_optional(&mut *read)
                .await
                .context("read the host")?;
        row.ok_or_else(|| Error::NotFound { what: "host", id: key.0.to_string() })?.try_into()
    }

    /// Hosts by their keys, as far as they are known.
    ///
    /// # Errors
    /// The store failed.
    pub async fn hosts_of(&self, keys: impl Iterator<Item = HostKey>) -> Result<HashMap<HostKey, HostRow>> {
        let mut keys: Vec<HostKey> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        let mut hosts = HashMap::with_capacity(keys.len());
        for chunk in keys.chunks(500) {
            let mut select = QueryBuilder::<Any>::new(format!("select {COLUMNS} from host where host_key in ("));
            let mut list = select.separated(", ");
            for key in chunk {
                list.push_bind(key.0);
            }
            select.push(")");
            let mut read = self.state().read().await?;
            let rows: Vec<Raw> = select.build_query_as().fetch_all(&mut *read).await.context("read the hosts")?;
            for raw in rows {
                let row = HostRow::try_from(raw)?;
                hosts.insert(row.key, row);
            }
        }
        Ok(hosts)
    }

    /// Names by key, for lists.
    ///
    /// # Errors
    /// The store failed.
    pub async fn host_names(&self) -> Result<HashMap<HostKey, String>> {
        let mut read = self.state().read().await?;
        let rows: Vec<(i64, String)> =
            sqlx::query_as("select host_key, name from host").fetch_all(&mut *read).await.context("read the hosts")?;
        Ok(rows.into_iter().map(|(key, name)| (HostKey(key), name)).collect())
    }

    /// Where a host's action journal stood when it was last heard of.
    ///
    /// # Errors
    /// The store failed.
    pub async fn journal_of(&self, host: HostKey) -> Result<Option<JournalHead>> {
        let mut connection = self.state().read().await?;
        journal(&mut connection, host).await
    }

    /// Saves what a host says of itself, where that is not what it said before:
    /// of a whole fleet that comes back at once, as after a restart of the
    /// coordinator, nothing has to be written. When it was last heard is saved
    /// by [`Self::save_last_seen`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn said_hello(
        &self,
        before: &HostRow,
        journal: Option<JournalHead>,
        hello: &Hello,
        now: Timestamp,
    ) -> Result<()> {
        let host = before.key;
        if before.agent_version.as_ref() == Some(&hello.version)
            && before.capabilities.as_ref() == Some(&hello.capabilities)
            && before.max_unsigned_class == hello.max_unsigned_class
            && before.effects_allowed == Some(hello.effects_allowed)
            && before.protocol == Some(i64::from(farol_protocol::version::CURRENT))
            && journal == Some(hello.journal)
        {
            return Ok(());
        }
        let mut write = self.state().write().await?;
        sqlx::query(
            "update host set agent_version = $2, capabilities = $3, max_unsigned_class = $4, effects_allowed = $5,
                 protocol = $6, journal_id = $7, journal_seq = $8, last_seen_ms = $9
             where host_key = $1",
        )
        .bind(host.0)
        .bind(&hello.version)
        .bind(hello.capabilities.join(","))
        .bind(hello.max_unsigned_class.map(RiskClass::as_str))
        .bind(i64::from(hello.effects_allowed))
        .bind(i64::from(farol_protocol::version::CURRENT))
        .bind(hello.journal.id.to_string())
        .bind(i64::try_from(hello.journal.seq).unwrap_or(i64::MAX))
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("save the hello")?;
        let is = (hello.max_unsigned_class, hello.effects_allowed);
        record_policy(&mut write, before, is, now).await?;
        write.commit().await
    }

    /// Saves what a peer without a protocol version says of itself.
    ///
    /// # Errors
    /// The store failed.
    pub async fn said_legacy_hello(
        &self,
        before: &HostRow,
        version: Option<&str>,
        capabilities: &[String],
        now: Timestamp,
    ) -> Result<()> {
        let host = before.key;
        let mut write = self.state().write().await?;
        sqlx::query(
            "update host set agent_version = $2, capabilities = $3, max_unsigned_class = null, effects_allowed = 1,
                 protocol = 0, last_seen_ms = $4
             where host_key = $1",
        )
        .bind(host.0)
        .bind(version)
        .bind(capabilities.join(","))
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("save the hello")?;
        record_policy(&mut write, before, (None, true), now).await?;
        write.commit().await
    }

    /// Saves when hosts were last heard.
    ///
    /// # Errors
    /// The store failed.
    pub async fn save_last_seen(&self, seen: &[(HostKey, Timestamp)]) -> Result<()> {
        let mut write = self.state().write().await?;
        for (host, at) in seen {
            sqlx::query("update host set last_seen_ms = $2 where host_key = $1")
                .bind(host.0)
                .bind(at.as_ms())
                .execute(&mut *write)
                .await
                .context("save when a host was seen")?;
        }
        write.commit().await
    }

    /// Hosts that are enrolled.
    ///
    /// # Errors
    /// The store failed.
    pub async fn enrolled(&self) -> Result<HashSet<HostKey>> {
        Ok(self.live_set().await?.into_values().map(|(key, _)| key).collect())
    }
}

/// What a host's policy lets through without a signature decides who has to
/// sign: that it changed is recorded, the first time that it is told too.
async fn record_policy(
    connection: &mut AnyConnection,
    before: &HostRow,
    is: (Option<RiskClass>, bool),
    now: Timestamp,
) -> Result<()> {
    let was = before.effects_allowed.map(|allowed| (before.max_unsigned_class, allowed));
    if was == Some(is) {
        return Ok(());
    }
    let words = |(class, allowed): (Option<RiskClass>, bool)| {
        let class = class.map_or("no class", RiskClass::as_str);
        format!("max_unsigned_class {class}, effects {}", if allowed { "allowed" } else { "refused" })
    };
    let detail = match was {
        Some(was) => format!("{} (was: {})", words(is), words(was)),
        None => words(is),
    };
    let entry = audit::NewEntry {
        at: now,
        actor: &before.name,
        verb: "host.policy_changed",
        object: ("host", &before.name),
        detail: &detail,
    };
    audit::insert(connection, entry).await
}

async fn journal(connection: &mut AnyConnection, host: HostKey) -> Result<Option<JournalHead>> {
    let row: Option<(Option<String>, Option<i64>)> =
        sqlx::query_as("select journal_id, journal_seq from host where host_key = $1")
            .bind(host.0)
            .fetch_optional(connection)
            .await
            .context("read the host's journal")?;
    let Some((Some(id), Some(seq))) = row else { return Ok(None) };
    let id: JournalId = word("journal id", &id)?;
    Ok(Some(JournalHead { id, seq: u64::try_from(seq).unwrap_or(0) }))
}

/// How far journals are known to have come; one that is no longer the host's
/// stays as it is.
pub(super) async fn advance_journals(connection: &mut AnyConnection, heads: &[(HostKey, JournalHead)]) -> Result<()> {
    for chunk in heads.chunks(50) {
        let mut update = QueryBuilder::<Any>::new("update host set journal_seq = v.column3 from (");
        update.push_values(chunk, |mut row, (host, head)| {
            row.push_bind(host.0).push_bind(head.id.to_string()).push_bind(i64::try_from(head.seq).unwrap_or(i64::MAX));
        });
        update.push(
            ") as v where host.host_key = v.column1 and host.journal_id = v.column2 and host.journal_seq < v.column3",
        );
        update.build().execute(&mut *connection).await.context("save the hosts' journal positions")?;
    }
    Ok(())
}

/// `column` is one of ours, never input.
async fn select(connection: &mut AnyConnection, column: &'static str, value: &str) -> Result<HostRow> {
    let row: Option<Raw> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from host where {column} = $1")))
            .bind(value)
            .fetch_optional(connection)
            .await
            .context("read the host")?;
    row.ok_or_else(|| Error::NotFound { what: "host", id: value.to_owned() })?.try_into()
}

/// The id of the host called `name`, which is made if need be.
pub(super) async fn ensure(connection: &mut AnyConnection, name: &str, now: Timestamp) -> Result<String> {
    let known: Option<(String,)> = sqlx::query_as("select id from host where name = $1")
        .bind(name)
        .fetch_optional(&mut *connection)
        .await
        .context("read the host")?;
    if let Some((id,)) = known {
        return Ok(id);
    }
    let id = Uuid::now_v7().to_string();
    sqlx::query(
        "insert into host (id, host_key, name, state, created_ms)
         select $1, coalesce(max(host_key), 0) + 1, $2, 'pending', $3 from host",
    )
    .bind(&id)
    .bind(name)
    .bind(now.as_ms())
    .execute(connection)
    .await
    .context("store the host")?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Duration};

    use farol_protocol::FromAgent;
    use serde_json::json;

    use super::*;

    fn hello(version: &str, journal_seq: u64) -> Hello {
        let text = json!({
            "method": "hello", "agent_id": "h", "name": "h", "version": version, "capabilities": ["command.exec"],
            "timestamp": Timestamp::now(), "protocol": {"min": 1, "max": 1},
            "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": journal_seq},
            "stream": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4c", "max_unsigned_class": "R2", "effects_allowed": true,
        })
        .to_string();
        match FromAgent::parse(&text) {
            Ok(FromAgent::Hello(hello)) => *hello,
            other => panic!("no hello: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_hello_that_says_nothing_new_is_not_written_and_any_other_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let now = Timestamp::now();
        let by = Operator::local_administrator();
        store.add_host(&by, "h", Duration::from_secs(60), now).await.expect("a host");
        let said = async |hello: &Hello| {
            let host = store.host("h").await.expect("the host");
            let journal = store.journal_of(host.key).await.expect("read");
            let before = store.state().commits.load(Ordering::Relaxed);
            store.said_hello(&host, journal, hello, now).await.expect("saved");
            store.state().commits.load(Ordering::Relaxed) - before
        };
        assert_eq!(said(&hello("1", 4)).await, 1, "the first");
        assert_eq!(said(&hello("1", 4)).await, 0, "the same");
        assert_eq!(said(&hello("1", 5)).await, 1, "a journal that went on");
        assert_eq!(said(&hello("2", 5)).await, 1, "another version");
        let host = store.host("h").await.expect("the host");
        assert_eq!(host.agent_version.as_deref(), Some("2"));
        let journal = store.journal_of(host.key).await.expect("read").expect("known");
        assert_eq!(journal.seq, 5);
    }
}
