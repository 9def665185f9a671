//! API tokens. Only their hash is kept. One that has an owner acts as that
//! person, and as long as they may.

use farol_protocol::{Timestamp, action::hex};
use ring::rand::SecureRandom as _;
use serde::Serialize;
use uuid::Uuid;

use super::{Store, audit, people, word};
use crate::{
    auth::{Operator, Scope},
    error::{Error, Result, StoreContext as _},
    roster::Role,
};

/// A token as it is shown once. Not `Debug`: it is a secret.
pub struct NewToken {
    /// Its id.
    pub id: String,
    /// The secret.
    pub token: String,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TokenRow {
    /// Identifier.
    pub id: String,
    /// The name in the record, behind that of its owner.
    pub name: String,
    /// Whose it is; null where it stands for itself.
    pub owner: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Only what changes nothing.
    pub read_only: bool,
    /// Only these permissions; null for all of its role.
    pub permissions: Option<Vec<String>>,
    /// Only these sites; null for all.
    pub sites: Option<Vec<String>>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
    /// When it was revoked; null while it is in use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// A token to make.
#[derive(Debug)]
pub struct TokenSpec<'a> {
    /// Its name, unlike that of any person or other token.
    pub name: &'a str,
    /// Whose it is; none where it stands for itself.
    pub owner: Option<&'a str>,
    /// What it may do.
    pub role: Role,
    /// What of that.
    pub scope: Scope,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
}

/// A token's use is written at most this often, in ms.
const USED_EVERY_MS: i64 = 60_000;

/// SHA-256 of a secret that was made from 256 random bits, so that no salt or
/// slow function is needed.
pub(crate) fn hash(secret: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref())
}

/// A secret of 256 random bits behind a prefix that scanners can recognise.
pub(crate) fn secret(prefix: &str) -> Result<String> {
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
    /// Makes a token that stands for itself; its secret is not kept.
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
        let spec = TokenSpec { name, owner: None, role, scope: Scope::default(), expires_at };
        self.create_scoped_token(by, spec, now).await
    }

    /// Makes a token; its secret is not kept.
    ///
    /// # Errors
    /// The name is taken by a token or a person, the owner is not known or may
    /// not as much, or the store failed.
    pub async fn create_scoped_token(&self, by: &Operator, spec: TokenSpec<'_>, now: Timestamp) -> Result<NewToken> {
        let name = spec.name;
        crate::auth::check_name(name).map_err(Error::InvalidName)?;
        let token = secret("farol")?;
        let id = Uuid::now_v7().to_string();
        let mut write = self.state().write().await?;
        let person: Option<(String,)> = sqlx::query_as("select name from user_account where name_key = $1")
            .bind(name.to_ascii_lowercase())
            .fetch_optional(&mut *write)
            .await
            .context("read the accounts")?;
        if person.is_some() {
            return Err(Error::Exists { what: "user", id: name.to_owned() });
        }
        if let Some(owner) = spec.owner {
            let row: Option<OwnerRow> =
                sqlx::query_as(OWNER).bind(owner).fetch_optional(&mut *write).await.context(READ)?;
            let role = row.map(|(role, _, _)| word::<Role>("role", &role)).transpose()?;
            match role {
                None => return Err(Error::NotFound { what: "user", id: owner.to_owned() }),
                Some(own) if !may_lend(own, spec.role) => {
                    return Err(Error::Forbidden(format!(
                        "`{owner}` is {own}, so no token of theirs can be {}",
                        spec.role
                    )));
                }
                Some(_) => {}
            }
        }
        let inserted = sqlx::query(
            "insert into api_token (id, name, role, hash, created_ms, expires_ms, owner, sites, permissions, read_only)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (name) do nothing",
        )
        .bind(&id)
        .bind(name)
        .bind(spec.role.as_str())
        .bind(hash(&token))
        .bind(now.as_ms())
        .bind(spec.expires_at.map(Timestamp::as_ms))
        .bind(spec.owner)
        .bind(spec.scope.sites.as_deref().map(people::json))
        .bind(spec.scope.permissions.as_deref().map(people::json))
        .bind(i64::from(spec.scope.read_only))
        .execute(&mut *write)
        .await
        .context("store the token")?;
        if inserted.rows_affected() == 0 {
            return Err(Error::Exists { what: "token", id: name.to_owned() });
        }
        let of = spec.owner.map(|owner| format!(" of {owner}")).unwrap_or_default();
        let detail = format!("token{of} with role {}", spec.role);
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "token.created",
            object: ("token", name),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(NewToken { id, token, expires_at: spec.expires_at })
    }

    /// All tokens by name, without their secrets.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(
            "select id, name, owner, role, read_only, permissions, sites, created_ms, expires_ms, used_ms, revoked_ms
             from api_token order by name",
        )
        .fetch_all(&mut *read)
        .await
        .context("read the tokens")?;
        rows.into_iter().map(TryInto::try_into).collect()
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

    /// Who presents `token`. Its use is noted once a minute.
    ///
    /// # Errors
    /// The store failed.
    pub async fn authenticate(&self, token: &str, now: Timestamp) -> Result<TokenState> {
        let (raw, owner) = {
            let mut read = self.state().read().await?;
            let raw: Option<Raw> = sqlx::query_as(
                "select id, name, owner, role, read_only, permissions, sites, created_ms, expires_ms, used_ms, revoked_ms
                 from api_token where hash = $1 and revoked_ms is null",
            )
            .bind(hash(token))
            .fetch_optional(&mut *read)
            .await
            .context(READ)?;
            let Some(raw) = raw else { return Ok(TokenState::Unknown) };
            let owner: Option<OwnerRow> = match &raw.owner {
                Some(owner) => sqlx::query_as(OWNER).bind(owner).fetch_optional(&mut *read).await.context(READ)?,
                None => None,
            };
            (raw, owner)
        };
        let row: TokenRow = raw.try_into()?;
        if row.expires_at.is_some_and(|at| at <= now) {
            return Ok(TokenState::Expired);
        }
        let (mut sites, mut has_account) = (row.sites, false);
        if row.owner.is_some() {
            // It ends with its owner, and with the owner's role.
            let Some((role, own_sites, account)) = owner else { return Ok(TokenState::Unknown) };
            if !may_lend(word("role", &role)?, row.role) {
                return Ok(TokenState::Unknown);
            }
            has_account = account != 0;
            sites = match (people::list("sites", own_sites.as_deref())?, sites) {
                (Some(own), Some(sites)) => Some(sites.into_iter().filter(|site| own.contains(site)).collect()),
                (own, sites) => sites.or(own),
            };
        }
        if row.used_at.is_none_or(|at| now.since(at) >= USED_EVERY_MS) {
            let mut write = self.state().write().await?;
            sqlx::query("update api_token set used_ms = $2 where id = $1")
                .bind(&row.id)
                .bind(now.as_ms())
                .execute(&mut *write)
                .await
                .context("note the token's use")?;
            write.commit().await?;
        }
        let scope = Scope { read_only: row.read_only, permissions: row.permissions, sites };
        Ok(TokenState::Valid(Operator::token((row.id, has_account), row.name, row.owner, row.role, scope)))
    }
}

const READ: &str = "read the token";
/// Role and sites of whoever owns a token, and whether it is a person with an
/// account: otherwise a token that stands for itself.
const OWNER: &str = "select role, sites, 1 from user_account where name = $1 and disabled_ms is null
     union all select role, sites, 0 from api_token where name = $1 and owner is null and revoked_ms is null";
type OwnerRow = (String, Option<String>, i64);

/// Whether somebody with role `own` can have a token with role `wanted`.
fn may_lend(own: Role, wanted: Role) -> bool {
    own == Role::SuperAdmin || own == wanted
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: String,
    name: String,
    owner: Option<String>,
    role: String,
    read_only: i64,
    permissions: Option<String>,
    sites: Option<String>,
    created_ms: i64,
    expires_ms: Option<i64>,
    used_ms: Option<i64>,
    revoked_ms: Option<i64>,
}

impl TryFrom<Raw> for TokenRow {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        Ok(Self {
            id: raw.id,
            name: raw.name,
            owner: raw.owner,
            role: word("role", &raw.role)?,
            read_only: raw.read_only != 0,
            permissions: people::list("permissions", raw.permissions.as_deref())?,
            sites: people::list("sites", raw.sites.as_deref())?,
            created_at: Timestamp::from_ms(raw.created_ms),
            expires_at: raw.expires_ms.map(Timestamp::from_ms),
            used_at: raw.used_ms.map(Timestamp::from_ms),
            revoked_at: raw.revoked_ms.map(Timestamp::from_ms),
        })
    }
}
