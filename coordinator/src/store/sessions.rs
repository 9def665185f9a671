//! Sessions of people who signed in. Only the hash of a session's secret is kept.

use farol_protocol::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{
    Store, audit,
    people::{end_sessions, list},
    tokens::{hash, secret},
    word,
};
use crate::{
    auth::{Credential, Operator, SessionRef},
    error::{Error, Result, StoreContext as _},
    integrations::Secret,
    people::Limits,
};

/// A session is written to at most this often, in ms.
const SEEN_EVERY_MS: i64 = 60_000;
/// How long a browser is known that signs nobody in, in ms.
const DEVICE_MS: i64 = 180 * 86_400_000;
/// How long an ended session is known, in ms.
const REMEMBERED_MS: i64 = 30 * 86_400_000;

/// A session without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SessionRow {
    /// Identifier.
    pub id: String,
    /// Whose.
    pub user: String,
    /// `password` or `passkey`.
    pub method: String,
    /// Network that it was begun from.
    pub address: String,
    /// What the browser calls itself.
    pub browser: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: Timestamp,
    /// When it ends at the latest.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// How a session begins.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// The account's id and name.
    pub user: (&'a str, &'a str),
    /// `password` or `passkey`.
    pub method: &'a str,
    /// Network that it is begun from.
    pub address: &'a str,
    /// What the browser calls itself.
    pub browser: &'a str,
    /// The one that it takes the place of.
    pub replaces: Option<&'a Secret>,
}

/// What a presented session is.
#[derive(Debug)]
pub enum SessionState {
    /// It may act.
    Valid(Operator, Box<SessionRow>),
    /// Its time has passed, or it was not used for too long.
    Expired,
    /// It is not known, or was ended.
    Unknown,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    user_id: String,
    name: String,
    role: String,
    sites: Option<String>,
    method: String,
    address: String,
    browser: String,
    created_ms: i64,
    proved_ms: i64,
    seen_ms: i64,
    expires_ms: i64,
}

const SELECT: &str = "select s.id, s.user_id, u.name, u.role, u.sites, s.method, s.address, s.browser, s.created_ms, \
     s.proved_ms, s.seen_ms, s.expires_ms from session s join user_account u on u.id = s.user_id \
     where s.ended_ms is null and u.disabled_ms is null";

impl Raw {
    fn alive(&self, limits: Limits, now: Timestamp) -> bool {
        now.as_ms() < self.expires_ms && now.as_ms() - self.seen_ms < limits.idle_ms()
    }

    fn row(self) -> SessionRow {
        SessionRow {
            id: self.id,
            user: self.name,
            method: self.method,
            address: self.address,
            browser: self.browser,
            created_at: Timestamp::from_ms(self.created_ms),
            seen_at: Timestamp::from_ms(self.seen_ms),
            expires_at: Timestamp::from_ms(self.expires_ms),
        }
    }
}

impl Store {
    /// Begins a session; answers its secret, which is not kept, and its id.
    ///
    /// # Errors
    /// The account was disabled meanwhile, or the store failed.
    pub async fn begin_session(&self, new: NewSession<'_>, limits: Limits, now: Timestamp) -> Result<(Secret, String)> {
        let token = secret("farol_session")?;
        let id = Uuid::now_v7().to_string();
        let (user_id, name) = new.user;
        let mut write = self.state().write().await?;
        let alive = sqlx::query("update user_account set signed_in_ms = $2 where id = $1 and disabled_ms is null")
            .bind(user_id)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("begin the session")?;
        if alive.rows_affected() == 0 {
            return Err(Error::Forbidden("the account is disabled".to_owned()));
        }
        if let Some(old) = new.replaces {
            sqlx::query("update session set ended_ms = $2 where hash = $1 and ended_ms is null")
                .bind(hash(old.expose()))
                .bind(now.as_ms())
                .execute(&mut *write)
                .await
                .context("end the session before")?;
        }
        sqlx::query(
            "insert into session (id, hash, user_id, method, address, browser, created_ms, proved_ms, seen_ms, expires_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $7, $7, $8)",
        )
        .bind(&id)
        .bind(hash(&token))
        .bind(user_id)
        .bind(new.method)
        .bind(new.address)
        .bind(new.browser)
        .bind(now.as_ms())
        .bind(now.plus(limits.lifetime).as_ms())
        .execute(&mut *write)
        .await
        .context("store the session")?;
        let detail = format!("with {} from {}", new.method, new.address);
        let entry =
            audit::NewEntry { at: now, actor: name, verb: "session.began", object: ("user", name), detail: &detail };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok((Secret::new(token), id))
    }

    /// Who presents the session `token`. Its use is noted once a minute.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session(&self, token: &str, limits: Limits, now: Timestamp) -> Result<SessionState> {
        let raw: Option<Raw> = {
            let mut read = self.state().read().await?;
            sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} and s.hash = $1")))
                .bind(hash(token))
                .fetch_optional(&mut *read)
                .await
                .context("read the session")?
        };
        let Some(raw) = raw else { return Ok(SessionState::Unknown) };
        if !raw.alive(limits, now) {
            return Ok(SessionState::Expired);
        }
        if now.as_ms() - raw.seen_ms >= SEEN_EVERY_MS {
            let mut write = self.state().write().await?;
            sqlx::query("update session set seen_ms = $2 where id = $1 and ended_ms is null and seen_ms < $2")
                .bind(&raw.id)
                .bind(now.as_ms())
                .execute(&mut *write)
                .await
                .context("note the session's use")?;
            write.commit().await?;
        }
        let session = SessionRef { id: raw.id.clone(), user_id: raw.user_id.clone(), proved_ms: raw.proved_ms };
        let sites = list("sites", raw.sites.as_deref())?;
        let operator = Operator::signed_in(raw.name.clone(), word("role", &raw.role)?, sites, session);
        Ok(SessionState::Valid(operator, Box::new(raw.row())))
    }

    /// Whether what somebody came with is still good.
    ///
    /// # Errors
    /// The store failed.
    pub async fn still_good(&self, credential: &Credential, limits: Limits, now: Timestamp) -> Result<bool> {
        let mut read = self.state().read().await?;
        match credential {
            Credential::Local => Ok(true),
            Credential::Session(session) => {
                let raw: Option<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} and s.id = $1")))
                    .bind(&session.id)
                    .fetch_optional(&mut *read)
                    .await
                    .context("read the session")?;
                // Whoever listens uses it, so only its end counts.
                Ok(raw.is_some_and(|raw| Raw { seen_ms: now.as_ms(), ..raw }.alive(limits, now)))
            }
            Credential::Token { id, .. } => {
                let row: Option<(i64,)> = sqlx::query_as(
                    "select t.created_ms from api_token t
                     left join user_account u on u.name = t.owner
                     where t.id = $1 and t.revoked_ms is null and (t.expires_ms is null or t.expires_ms > $2)
                     and (t.owner is null or u.disabled_ms is null)",
                )
                .bind(id)
                .bind(now.as_ms())
                .fetch_optional(&mut *read)
                .await
                .context("read the token")?;
                Ok(row.is_some())
            }
        }
    }

    /// Gives a session another secret; answers it. `proved`: the person has just
    /// proved who they are.
    ///
    /// # Errors
    /// It has ended, or the store failed.
    pub async fn rotate_session(&self, id: &str, proved: bool, now: Timestamp) -> Result<Secret> {
        let token = secret("farol_session")?;
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update session set hash = $2, seen_ms = $3, proved_ms = case when $4 = 1 then $3 else proved_ms end
             where id = $1 and ended_ms is null",
        )
        .bind(id)
        .bind(hash(&token))
        .bind(now.as_ms())
        .bind(i64::from(proved))
        .execute(&mut *write)
        .await
        .context("renew the session")?;
        if changed.rows_affected() == 0 {
            return Err(Error::NotFound { what: "session that goes on", id: id.to_owned() });
        }
        write.commit().await?;
        Ok(Secret::new(token))
    }

    /// The sessions of a person that go on, the newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sessions_of(&self, user: &str, limits: Limits, now: Timestamp) -> Result<Vec<SessionRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} and u.name = $1 order by s.created_ms desc, s.id")))
                .bind(user)
                .fetch_all(&mut *read)
                .await
                .context("read the sessions")?;
        Ok(rows.into_iter().filter(|raw| raw.alive(limits, now)).map(Raw::row).collect())
    }

    /// Ends a session. `of`: only if it is this person's.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub async fn end_session(&self, by: &Operator, id: &str, of: Option<&str>, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let name: Option<(String,)> = sqlx::query_as(
            "select u.name from session s join user_account u on u.id = s.user_id where s.id = $1 and s.ended_ms is null",
        )
        .bind(id)
        .fetch_optional(&mut *write)
        .await
        .context("read the session")?;
        let Some((name,)) = name.filter(|(name,)| of.is_none_or(|of| of == name)) else {
            return Err(Error::NotFound { what: "session that goes on", id: id.to_owned() });
        };
        sqlx::query("update session set ended_ms = $2 where id = $1")
            .bind(id)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("end the session")?;
        let entry =
            audit::NewEntry { at: now, actor: by.name(), verb: "session.ended", object: ("user", &name), detail: "" };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// Ends all sessions of a person; answers how many there were.
    ///
    /// # Errors
    /// No such person, or the store failed.
    pub async fn end_sessions_of(&self, by: &Operator, name: &str, now: Timestamp) -> Result<u64> {
        let user = self.user(name).await?;
        let mut write = self.state().write().await?;
        let ended = end_sessions(&mut write, &user.id, None, now).await?;
        let detail = format!("{ended} sessions");
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "session.ended",
            object: ("user", &user.name),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        Ok(ended)
    }

    /// Forgets sessions that ended long ago, and browsers not seen for long.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_sessions(&self, limits: Limits, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("delete from session where ended_ms < $1 or expires_ms < $1 or seen_ms < $2")
            .bind(now.plus_ms(-REMEMBERED_MS).as_ms())
            .bind(now.plus_ms(-REMEMBERED_MS - limits.idle_ms()).as_ms())
            .execute(&mut *write)
            .await
            .context("forget old sessions")?;
        sqlx::query("delete from known_device where seen_ms < $1")
            .bind(now.plus_ms(-DEVICE_MS).as_ms())
            .execute(&mut *write)
            .await
            .context("forget old devices")?;
        write.commit().await
    }
}
