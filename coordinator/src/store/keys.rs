//! The keys that people sign with, and their signatures.

use farol_protocol::{ActionId, Timestamp, signing::PublicKey, signing::Signature};

use super::{Store, audit, word};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    roster::Role,
};

/// A person's public key.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// Whose: the person's name, or that of a token which stands for itself.
    pub operator: String,
    /// What they may do; none where nobody has that name any more.
    pub role: Option<Role>,
    /// The key.
    pub public: PublicKey,
    /// When it was registered.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

/// A signature with the role its operator had when they gave it.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The role.
    pub role: Role,
    /// The signature.
    pub signature: Signature,
}

impl Store {
    /// Registers a key. One key is one person's, for ever: a revoked key does
    /// not come back under another name.
    ///
    /// # Errors
    /// The key is known, nobody has that name, or the store failed.
    pub async fn add_key(&self, by: &Operator, operator: &str, public: &PublicKey, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let known: Option<(String,)> = sqlx::query_as(
            "select name from user_account where name = $1 and disabled_ms is null
                 union select name from api_token where name = $1 and owner is null and revoked_ms is null",
        )
        .bind(operator)
        .fetch_optional(&mut *write)
        .await
        .context("read the token")?;
        if known.is_none() {
            return Err(Error::NotFound { what: "user or token of nobody", id: operator.to_owned() });
        }
        let id = public.id();
        let inserted = sqlx::query(
            "insert into operator_key (key_id, operator, alg, public, created_ms, created_by)
             values ($1, $2, $3, $4, $5, $6) on conflict (key_id) do nothing",
        )
        .bind(&id)
        .bind(operator)
        .bind(public.alg().as_str())
        .bind(public.to_string())
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("store the key")?;
        if inserted.rows_affected() == 0 {
            return Err(Error::Exists { what: "key", id });
        }
        let detail = format!("key {public} of {operator}");
        let entry =
            audit::NewEntry { at: now, actor: by.name(), verb: "key.added", object: ("key", &id), detail: &detail };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Takes a key back: no approval is taken with it from now on. Hosts go by
    /// their own lists.
    ///
    /// # Errors
    /// No such key, it is revoked already, or the store failed.
    pub async fn revoke_key(&self, by: &Operator, key_id: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query("update operator_key set revoked_ms = $2 where key_id = $1 and revoked_ms is null")
            .bind(key_id)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("revoke the key")?;
        if changed.rows_affected() == 0 {
            return Err(Error::NotFound { what: "key that is in use", id: key_id.to_owned() });
        }
        super::passkeys::end_by_key(&mut write, key_id, now).await?;
        let entry =
            audit::NewEntry { at: now, actor: by.name(), verb: "key.revoked", object: ("key", key_id), detail: "" };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// All keys, by operator, the oldest of each first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keys(&self) -> Result<Vec<KeyRow>> {
        type Row = (String, Option<String>, String, i64, String, Option<i64>);
        let mut read = self.state().read().await?;
        let rows: Vec<Row> = sqlx::query_as(
            "select k.operator, coalesce(u.role, t.role), k.public, k.created_ms, k.created_by, k.revoked_ms
             from operator_key k
             left join user_account u on u.name = k.operator and u.disabled_ms is null
             left join api_token t on t.name = k.operator and t.owner is null and t.revoked_ms is null
             order by k.operator, k.created_ms, k.key_id",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the keys")?;
        rows.into_iter()
            .map(|(operator, role, public, created, created_by, revoked)| {
                Ok(KeyRow {
                    operator,
                    role: role.map(|role| word("role", &role)).transpose()?,
                    public: word("public key", &public)?,
                    created_at: Timestamp::from_ms(created),
                    created_by,
                    revoked_at: revoked.map(Timestamp::from_ms),
                })
            })
            .collect()
    }

    /// The keys with which an operator may sign now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keys_of(&self, operator: &str) -> Result<Vec<PublicKey>> {
        let mut read = self.state().read().await?;
        let rows: Vec<(String,)> =
            sqlx::query_as("select public from operator_key where operator = $1 and revoked_ms is null")
                .bind(operator)
                .fetch_all(&mut *read)
                .await
                .context("read the keys")?;
        rows.iter().map(|(public,)| word("public key", public)).collect()
    }

    /// The signatures under an action's plan, in the order they were given.
    ///
    /// # Errors
    /// The store failed.
    pub async fn signatures(&self, id: ActionId) -> Result<Vec<Signed>> {
        let mut read = self.state().read().await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select role, signature from approval
             where action_id = $1 and decision = 'approved' and signature is not null order by at_ms, approver",
        )
        .bind(id.to_string())
        .fetch_all(&mut *read)
        .await
        .context("read the signatures")?;
        rows.into_iter()
            .map(|(role, signature)| Ok(Signed { role: word("role", &role)?, signature: stored(&signature)? }))
            .collect()
    }
}

/// Reads the column `signature`.
pub(super) fn stored(text: &str) -> Result<Signature> {
    serde_json::from_str(text).map_err(|_| Error::Corrupt { what: "signature", value: text.to_owned() })
}
