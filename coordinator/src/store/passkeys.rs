//! Passkeys, with which people sign in and sign approvals: each is one of their
//! signing keys too.

use farol_protocol::{Timestamp, signing::PublicKey};
use serde::Serialize;
use sqlx::AnyConnection;

use super::{Store, audit, word};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    people::passkey::NewPasskey,
};

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PasskeyRow {
    /// The credential's id, base64url.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The signing key that it is, as `operators/keys` lists it.
    pub key_id: String,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When somebody signed in with it last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
}

/// Who signs in with a passkey.
#[derive(Debug)]
pub struct Holder {
    /// The account's id.
    pub user_id: String,
    /// The name in the record.
    pub name: String,
    /// The key.
    pub public: PublicKey,
}

impl Store {
    /// Registers a passkey, as a signing key of its owner too. Their other
    /// sessions end.
    ///
    /// # Errors
    /// It is known, or the store failed.
    pub async fn add_passkey(
        &self,
        by: &Operator,
        user: &str,
        name: &str,
        new: &NewPasskey,
        now: Timestamp,
    ) -> Result<PasskeyRow> {
        let key_id = new.public.id();
        let known = |what: &str| Error::Exists { what: "passkey", id: what.to_owned() };
        let mut write = self.state().write().await?;
        let inserted = sqlx::query(
            "insert into operator_key (key_id, operator, alg, public, created_ms, created_by)
             values ($1, $2, $3, $4, $5, $6) on conflict (key_id) do nothing",
        )
        .bind(&key_id)
        .bind(by.person())
        .bind(new.public.alg().as_str())
        .bind(new.public.to_string())
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("store the key")?;
        if inserted.rows_affected() == 0 {
            return Err(known(&key_id));
        }
        let inserted = sqlx::query(
            "insert into passkey (credential_id, user_id, name, public, key_id, created_ms)
             values ($1, $2, $3, $4, $5, $6) on conflict (credential_id) do nothing",
        )
        .bind(&new.credential_id)
        .bind(user)
        .bind(name)
        .bind(new.public.to_string())
        .bind(&key_id)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("store the passkey")?;
        if inserted.rows_affected() == 0 {
            return Err(known(&new.credential_id));
        }
        let detail = format!("passkey {} of {}", new.public, by.person());
        let entry =
            audit::NewEntry { at: now, actor: by.name(), verb: "key.added", object: ("key", &key_id), detail: &detail };
        audit::insert(&mut write, entry).await?;
        let own = by.session().map(|session| session.id.as_str());
        super::people::end_sessions(&mut write, user, own, now).await?;
        write.commit().await?;
        Ok(PasskeyRow { id: new.credential_id.clone(), name: name.to_owned(), key_id, created_at: now, used_at: None })
    }

    /// The passkeys of an account that are in use, the oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn passkeys(&self, user: &str) -> Result<Vec<PasskeyRow>> {
        type Row = (String, String, String, i64, Option<i64>);
        let mut read = self.state().read().await?;
        let rows: Vec<Row> = sqlx::query_as(
            "select credential_id, name, key_id, created_ms, used_ms from passkey
             where user_id = $1 and revoked_ms is null order by created_ms, credential_id",
        )
        .bind(user)
        .fetch_all(&mut *read)
        .await
        .context("read the passkeys")?;
        let row = |(id, name, key_id, created, used): Row| PasskeyRow {
            id,
            name,
            key_id,
            created_at: Timestamp::from_ms(created),
            used_at: used.map(Timestamp::from_ms),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Who signs in with a credential; none where it is not known, was taken
    /// back, or its owner is disabled.
    ///
    /// # Errors
    /// The store failed.
    pub async fn holder(&self, credential: &str) -> Result<Option<Holder>> {
        let mut read = self.state().read().await?;
        let row: Option<(String, String, String)> = sqlx::query_as(
            "select u.id, u.name, p.public from passkey p join user_account u on u.id = p.user_id
             where p.credential_id = $1 and p.revoked_ms is null and u.disabled_ms is null",
        )
        .bind(credential)
        .fetch_optional(&mut *read)
        .await
        .context("read the passkey")?;
        row.map(|(user_id, name, public)| Ok(Holder { user_id, name, public: word("public key", &public)? }))
            .transpose()
    }

    /// Notes that somebody signed in with a passkey.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_passkey(&self, credential: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("update passkey set used_ms = $2 where credential_id = $1")
            .bind(credential)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("note the passkey's use")?;
        write.commit().await
    }

    /// Takes a passkey back, and the signing key that it is.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub async fn revoke_passkey(&self, by: &Operator, user: &str, credential: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let key: Option<(String,)> = sqlx::query_as(
            "update passkey set revoked_ms = $3 where credential_id = $1 and user_id = $2 and revoked_ms is null
             returning key_id",
        )
        .bind(credential)
        .bind(user)
        .bind(now.as_ms())
        .fetch_optional(&mut *write)
        .await
        .context("revoke the passkey")?;
        let (key,) = key.ok_or_else(|| Error::NotFound { what: "passkey in use", id: credential.to_owned() })?;
        sqlx::query("update operator_key set revoked_ms = $2 where key_id = $1 and revoked_ms is null")
            .bind(&key)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("revoke the key")?;
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "key.revoked",
            object: ("key", &key),
            detail: "a passkey",
        };
        audit::insert(&mut write, entry).await?;
        let own = by.session().map(|session| session.id.as_str());
        super::people::end_sessions(&mut write, user, own, now).await?;
        write.commit().await
    }
}

/// Ends the passkey that a signing key is, and the sessions of its owner: whoever
/// takes the key away means the person's way in too.
pub(super) async fn end_by_key(connection: &mut AnyConnection, key: &str, now: Timestamp) -> Result<()> {
    let user: Option<(String,)> =
        sqlx::query_as("update passkey set revoked_ms = $2 where key_id = $1 and revoked_ms is null returning user_id")
            .bind(key)
            .bind(now.as_ms())
            .fetch_optional(&mut *connection)
            .await
            .context("revoke the passkey")?;
    if let Some((user,)) = user {
        super::people::end_sessions(connection, &user, None, now).await?;
    }
    Ok(())
}

/// Ends every passkey of an account, with the signing keys that they are.
pub(super) async fn end_all(connection: &mut AnyConnection, by: &Operator, user: &str, now: Timestamp) -> Result<()> {
    let keys: Vec<(String,)> =
        sqlx::query_as("update passkey set revoked_ms = $2 where user_id = $1 and revoked_ms is null returning key_id")
            .bind(user)
            .bind(now.as_ms())
            .fetch_all(&mut *connection)
            .await
            .context("revoke the passkeys")?;
    for (key,) in keys {
        sqlx::query("update operator_key set revoked_ms = $2 where key_id = $1 and revoked_ms is null")
            .bind(&key)
            .bind(now.as_ms())
            .execute(&mut *connection)
            .await
            .context("revoke the key")?;
        let object = ("key", key.as_str());
        let entry = audit::NewEntry { at: now, actor: by.name(), verb: "key.revoked", object, detail: "a passkey" };
        audit::insert(connection, entry).await?;
    }
    Ok(())
}
