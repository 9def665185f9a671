//! API tokens. Only their hash is kept.

use farol_protocol::{Timestamp, action::hex};
use ring::rand::SecureRandom as _;
use serde::Serialize;
use uuid::Uuid;

use super::{Store, audit, word};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    roster::Role,
};

/// A token as it is shown once. Not `Debug`: it is a secret.
pub struct NewToken {
    /// The secret.
    pub token: String,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    /// Who uses it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// SHA-256 of a secret that was made from 256 random bits, so that no salt or
/// slow function is needed.
pub(super) fn hash(secret: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref())
}

/// A secret of 256 random bits behind a prefix that scanners can recognise.
pub(super) fn secret(prefix: &str) -> Result<String> {
    let mut bytes = [0_u8; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
    Ok(format!("{prefix}_{}", hex(&bytes)))
}

/// What a presented token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// It may act.
    Valid(Operator),
    /// Its time has passed.
    Expired,
    /// It is not known, or was revoked.
    Unknown,
}

impl Store {
    /// Makes a token; its secret is not kept.
    ///
    /// # Errors
    /// The name is taken, or the store failed.
    pub async fn create_token(
        &self,
        by: &Operator,
        name: &str,
        role: Role,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<NewToken> {
        let token = secret("farol")?;
        let mut write = self.state().write().await?;
        let inserted = sqlx::query(
            "insert into api_token (id, name, role, hash, created_ms, expires_ms) values ($1, $2, $3, $4, $5, $6)
             on conflict (name) do nothing",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(name)
        .bind(role.as_str())
        .bind(hash(&token))
        .bind(now.as_ms())
        .bind(expires_at.map(Timestamp::as_ms))
        .execute(&mut *write)
        .await
        .context("store the token")?;
        if inserted.rows_affected() == 0 {
            return Err(Error::Exists { what: "token", id: name.to_owned() });
        }
        let detail = format!("token with role {}", role.as_str());
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "token.created",
            object: ("token", name),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(NewToken { token, expires_at })
    }

    /// All tokens by name, without their secrets.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        type Row = (String, String, i64, Option<i64>, Option<i64>);
        let mut read = self.state().read().await?;
        let rows: Vec<Row> =
            sqlx::query_as("select name, role, created_ms, expires_ms, revoked_ms from api_token order by name")
                .fetch_all(&mut *read)
                .await
                .context("read the tokens")?;
        rows.into_iter()
            .map(|(name, role, created, expires, revoked)| {
                Ok(TokenRow {
                    name,
                    role: word("role", &role)?,
                    created_at: Timestamp::from_ms(created),
                    expires_at: expires.map(Timestamp::from_ms),
                    revoked_at: revoked.map(Timestamp::from_ms),
                })
            })
            .collect()
    }

    /// Ends a token.
    ///
    /// # Errors
    /// No such token, it is revoked already, or the store failed.
    pub async fn revoke_token(&self, by: &Operator, name: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query("update api_token set revoked_ms = $2 where name = $1 and revoked_ms is null")
            .bind(name)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("revoke the token")?;
        if changed.rows_affected() == 0 {
            return Err(Error::NotFound { what: "token that is not revoked", id: name.to_owned() });
        }
        let entry =
            audit::NewEntry { at: now, actor: by.name(), verb: "token.revoked", object: ("token", name), detail: "" };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Who presents `token`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn authenticate(&self, token: &str, now: Timestamp) -> Result<TokenState> {
        let mut read = self.state().read().await?;
        let row: Option<(String, String, Option<i64>)> =
            sqlx::query_as("select name, role, expires_ms from api_token where hash = $1 and revoked_ms is null")
                .bind(hash(token))
                .fetch_optional(&mut *read)
                .await
                .context("read the token")?;
        let Some((name, role, expires_ms)) = row else { return Ok(TokenState::Unknown) };
        if expires_ms.is_some_and(|at| at <= now.as_ms()) {
            return Ok(TokenState::Expired);
        }
        Ok(TokenState::Valid(Operator::authenticated(name, word("role", &role)?)))
    }
}
