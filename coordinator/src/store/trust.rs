//! What is known of hosts' certificates and machines, and what people decide
//! about them.

use std::collections::HashMap;

use farol_protocol::{HostId, Timestamp};
use sqlx::{AnyConnection, FromRow};

use super::{Store, audit, hosts::HostKey};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    fleet::identity::{Choice, Known},
};

/// A host's certificate and machine as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustRow {
    /// Key identifier of the authority that issued its certificate.
    pub issuer: Option<String>,
    /// Roots it trusts; none: it does not say.
    pub roots: Option<Vec<String>>,
    /// Its machine.
    pub known: Known,
    /// Why it did not take the last certificate it was sent.
    pub refused: Option<String>,
    /// Since when it asks for a person's consent.
    pub asked_at: Option<Timestamp>,
    /// Until when a person has consented.
    pub consent_until: Option<Timestamp>,
}

/// What the running coordinator has to do about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attention {
    /// Nothing.
    None = 0,
    /// Say what is so now.
    Report = 1,
    /// Cut its connection too.
    Cut = 2,
}

/// A certificate that a host holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) serial: String,
    pub(crate) not_after: Timestamp,
}

/// What is to be saved of a host.
#[derive(Debug)]
pub(crate) struct Revision {
    /// All that is known of it now.
    pub(crate) row: TrustRow,
    /// The certificate that it holds, where it shows another.
    pub(crate) shown: Option<Shown>,
    /// What the running coordinator has to do.
    pub(crate) attention: Attention,
}

#[derive(FromRow)]
struct Raw {
    host_key: i64,
    issuer: Option<String>,
    roots: Option<String>,
    identity: String,
    refused: Option<String>,
    asked_ms: Option<i64>,
    consent_ms: Option<i64>,
}

const COLUMNS: &str = "host_key, issuer, roots, identity, refused, asked_ms, consent_ms";

impl TryFrom<Raw> for (HostKey, TrustRow) {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        let known = serde_json::from_str(&raw.identity)
            .map_err(|_| Error::Corrupt { what: "host identity", value: raw.identity.clone() })?;
        let row = TrustRow {
            issuer: raw.issuer,
            roots: raw.roots.map(|roots| roots.split(',').filter(|root| !root.is_empty()).map(str::to_owned).collect()),
            known,
            refused: raw.refused,
            asked_at: raw.asked_ms.map(Timestamp::from_ms),
            consent_until: raw.consent_ms.map(Timestamp::from_ms),
        };
        Ok((HostKey(raw.host_key), row))
    }
}

impl Store {
    /// What is known of a host; nothing much before its first hello.
    ///
    /// # Errors
    /// The store failed.
    pub async fn trust_of(&self, host: HostKey) -> Result<TrustRow> {
        let mut connection = self.state().read().await?;
        select(&mut connection, host).await
    }

    /// What is known of all hosts.
    ///
    /// # Errors
    /// The store failed.
    pub async fn trust(&self) -> Result<HashMap<HostKey, TrustRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from host_trust")))
            .fetch_all(&mut *read)
            .await
            .context("read the hosts' trust")?;
        rows.into_iter().map(TryFrom::try_from).collect()
    }

    /// Saves what follows from what is known of a host. `decide` is asked
    /// about what is stored at first, so that nothing is locked where nothing
    /// changes, and again inside the change: a person may have decided in
    /// between, and that must not be overwritten.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn revise_trust<T>(
        &self,
        host: HostKey,
        decide: impl Fn(TrustRow) -> (T, Option<Revision>),
    ) -> Result<T> {
        let (said, revision) = decide(self.trust_of(host).await?);
        if revision.is_none() {
            return Ok(said);
        }
        let mut write = self.state().write().await?;
        let (said, revision) = decide(select(&mut write, host).await?);
        if let Some(Revision { row, shown, attention }) = revision {
            let holds = row.known.holds_orders();
            if upsert(&mut write, host, &row, attention).await? {
                record_held(&mut write, host, holds).await?;
            }
            if let Some(shown) = &shown {
                hold_certificate(&mut write, host, shown).await?;
            }
        }
        write.commit().await?;
        Ok(said)
    }

    /// A host was given a certificate for its key after its own had been
    /// refused: a consent is spent.
    ///
    /// # Errors
    /// The host is not enrolled with this key any more, or the store failed.
    pub(crate) async fn renewed(&self, host: HostKey, key_sha256: &str, shown: &Shown, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let name: Option<(String,)> =
            sqlx::query_as("select name from host where host_key = $1 and key_sha256 = $2 and state = 'enrolled'")
                .bind(host.0)
                .bind(key_sha256)
                .fetch_optional(&mut *write)
                .await
                .context("read the host")?;
        let Some((name,)) = name else {
            return Err(Error::NotFound { what: "live key", id: key_sha256.to_owned() });
        };
        let mut row = select(&mut write, host).await?;
        (row.asked_at, row.consent_until) = (None, None);
        upsert(&mut write, host, &row, Attention::Report).await?;
        hold_certificate(&mut write, host, shown).await?;
        let detail = format!("certificate {} until {}", shown.serial, shown.not_after);
        let entry =
            audit::NewEntry { at: now, actor: &name, verb: "host.renewed", object: ("host", &name), detail: &detail };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Hosts that the running coordinator has to look at; what is taken from
    /// here is not given again.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn take_attention(&self) -> Result<Vec<(HostKey, TrustRow, Attention)>> {
        let mut read = self.state().read().await?;
        let waiting: Option<(i64,)> = sqlx::query_as("select host_key from host_trust where attention > 0 limit 1")
            .fetch_optional(&mut *read)
            .await
            .context("read the hosts' trust")?;
        if waiting.is_none() {
            return Ok(Vec::new());
        }
        let mut write = self.state().write().await?;
        let hosts: Vec<(i64, i64)> =
            sqlx::query_as("select host_key, attention from host_trust where attention > 0 limit 500")
                .fetch_all(&mut *write)
                .await
                .context("read the hosts' trust")?;
        let mut rows = Vec::with_capacity(hosts.len());
        for (key, attention) in hosts {
            let host = HostKey(key);
            let attention = if attention >= 2 { Attention::Cut } else { Attention::Report };
            rows.push((host, select(&mut write, host).await?, attention));
            sqlx::query("update host_trust set attention = 0 where host_key = $1")
                .bind(key)
                .execute(&mut *write)
                .await
                .context("save the hosts' trust")?;
        }
        write.commit().await?;
        Ok(rows)
    }

    /// A person consents that a host that was away for too long gets a new
    /// certificate.
    ///
    /// # Errors
    /// No such enrolled host, or the store failed.
    pub async fn consent(&self, by: &Operator, name: &str, until: Timestamp, now: Timestamp) -> Result<()> {
        self.decide(by, name, "host.consented", &format!("renewal until {until}"), now, Attention::Report, |row| {
            row.consent_until = Some(until);
            Ok(())
        })
        .await
    }

    /// A person decides which machine a host is.
    ///
    /// # Errors
    /// No such enrolled host or machine, or the store failed.
    pub async fn accept_machine(&self, by: &Operator, name: &str, choice: Choice<'_>, now: Timestamp) -> Result<()> {
        let detail = match choice {
            Choice::Machine(id) => format!("machine {id}"),
            Choice::Boot(id) => format!("boot {id}"),
        };
        self.decide(by, name, "host.accepted", &detail, now, Attention::Cut, |row| {
            row.known = row.known.after(choice).map_err(Error::Refused)?;
            Ok(())
        })
        .await
    }

    #[expect(clippy::too_many_arguments, reason = "one decision has all of these")]
    async fn decide(
        &self,
        by: &Operator,
        name: &str,
        verb: &str,
        detail: &str,
        now: Timestamp,
        attention: Attention,
        change: impl FnOnce(&mut TrustRow) -> Result<()>,
    ) -> Result<()> {
        let host = self.host(name).await?;
        if host.enrolment != super::hosts::Enrolment::Enrolled {
            return Err(Error::Refused(format!(
                "the host `{}` is not enrolled; `farol host add {}` makes a token for it",
                host.name, host.name
            )));
        }
        let mut write = self.state().write().await?;
        let mut row = select(&mut write, host.key).await?;
        change(&mut row)?;
        upsert(&mut write, host.key, &row, attention).await?;
        let entry = audit::NewEntry { at: now, actor: by.name(), verb, object: ("host", &host.name), detail };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Gives a host another name.
    ///
    /// # Errors
    /// No such host, the name is taken, or the store failed.
    pub async fn rename_host(&self, by: &Operator, old: &str, new: &HostId, now: Timestamp) -> Result<()> {
        let host = self.host(old).await?;
        let mut write = self.state().write().await?;
        let taken: Option<(i64,)> = sqlx::query_as("select host_key from host where name = $1")
            .bind(new.as_str())
            .fetch_optional(&mut *write)
            .await
            .context("read the host")?;
        if taken.is_some() {
            return Err(Error::Exists { what: "host", id: new.to_string() });
        }
        sqlx::query("update host set name = $2 where host_key = $1")
            .bind(host.key.0)
            .bind(new.as_str())
            .execute(&mut *write)
            .await
            .context("rename the host")?;
        let detail = format!("renamed from {}", host.name);
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "host.renamed",
            object: ("host", new.as_str()),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Records a change of the authority.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record_authority(&self, by: &Operator, verb: &str, detail: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let entry = audit::NewEntry { at: now, actor: by.name(), verb, object: ("authority", "farol"), detail };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }
}

/// A new key knows nothing of the machine before.
pub(super) async fn forget(connection: &mut AnyConnection, host_id: &str) -> Result<()> {
    for sql in [
        "delete from host_trust where host_key = (select host_key from host where id = $1)",
        "update host set held = 0 where id = $1",
    ] {
        sqlx::query(sql).bind(host_id).execute(&mut *connection).await.context("forget the old machine")?;
    }
    Ok(())
}

async fn select(connection: &mut AnyConnection, host: HostKey) -> Result<TrustRow> {
    let row: Option<Raw> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from host_trust where host_key = $1")))
            .bind(host.0)
            .fetch_optional(connection)
            .await
            .context("read a host's trust")?;
    match row {
        None => Ok(TrustRow::default()),
        Some(raw) => <(HostKey, TrustRow)>::try_from(raw).map(|(_, row)| row),
    }
}

/// That a host's orders wait from now on, because two machines answer under its
/// name, or wait no more.
async fn record_held(connection: &mut AnyConnection, host: HostKey, holds: bool) -> Result<()> {
    let name: Option<(String,)> = sqlx::query_as("select name from host where host_key = $1")
        .bind(host.0)
        .fetch_optional(&mut *connection)
        .await
        .context("read the host")?;
    let Some((name,)) = name else { return Ok(()) };
    let (verb, detail) = if holds {
        ("host.held", "two machines answer under its name; orders wait")
    } else {
        ("host.released", "one machine answers under its name; orders wait no more")
    };
    let entry = audit::NewEntry { at: Timestamp::now(), actor: "farol", verb, object: ("host", &name), detail };
    audit::insert(connection, entry).await
}

/// Answers whether its orders wait from now on and did not, or the other way round.
async fn upsert(connection: &mut AnyConnection, host: HostKey, row: &TrustRow, attention: Attention) -> Result<bool> {
    let identity = farol_protocol::frame::encode(&row.known);
    sqlx::query(
        "insert into host_trust (host_key, issuer, roots, identity, refused, asked_ms, consent_ms, attention)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (host_key) do update set issuer = $2, roots = $3, identity = $4, refused = $5, asked_ms = $6,
             consent_ms = $7,
             attention = case when host_trust.attention > $8 then host_trust.attention else $8 end",
    )
    .bind(host.0)
    .bind(&row.issuer)
    .bind(row.roots.as_ref().map(|roots| roots.join(",")))
    .bind(identity)
    .bind(&row.refused)
    .bind(row.asked_at.map(Timestamp::as_ms))
    .bind(row.consent_until.map(Timestamp::as_ms))
    .bind(attention as i64)
    .execute(&mut *connection)
    .await
    .context("save a host's trust")?;
    let held = sqlx::query("update host set held = $2 where host_key = $1 and held <> $2")
        .bind(host.0)
        .bind(i64::from(row.known.holds_orders()))
        .execute(connection)
        .await
        .context("save a host's trust")?;
    Ok(held.rows_affected() > 0)
}

async fn hold_certificate(connection: &mut AnyConnection, host: HostKey, shown: &Shown) -> Result<()> {
    sqlx::query("update host set cert_serial = $2, cert_not_after_ms = $3 where host_key = $1")
        .bind(host.0)
        .bind(&shown.serial)
        .bind(shown.not_after.as_ms())
        .execute(connection)
        .await
        .context("save a host's certificate")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::{runtime::Handle, task::block_in_place};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_person_decides_while_a_hello_is_judged_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        let (by, now) = (Operator::local_administrator(), Timestamp::now());
        store.add_http_key(&by, "pf", now).await.expect("a host");
        let host = store.host("pf").await.expect("the host").key;
        let revision = |row| ((), Some(Revision { row, shown: None, attention: Attention::None }));
        let known = Known { machine: Some("a".repeat(32)), ..Known::default() };
        store
            .revise_trust(host, |row| revision(TrustRow { known: known.clone().after_replacements(now), ..row }))
            .await
            .expect("two machines take turns");
        assert!(store.trust_of(host).await.expect("readable").known.holds_orders());

        let asked = Cell::new(0);
        let decide = |row: TrustRow| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                // The person is faster than the write.
                let choice = Choice::Machine("aaaaaaaa");
                block_in_place(|| Handle::current().block_on(store.accept_machine(&by, "pf", choice, now)))
                    .expect("accepted");
            }
            revision(TrustRow { refused: Some("full".to_owned()), ..row })
        };
        store.revise_trust(host, decide).await.expect("saved");
        let row = store.trust_of(host).await.expect("readable");
        assert!(!row.known.holds_orders(), "the decision was overwritten");
        assert_eq!((asked.get(), row.refused.as_deref()), (2, Some("full")));
        assert_eq!(store.take_attention().await.expect("readable")[0].2, Attention::Cut);

        store.revise_trust(host, |_| ((), None)).await.expect("nothing to save");
        assert_eq!(store.trust_of(host).await.expect("readable"), row);
    }
}
