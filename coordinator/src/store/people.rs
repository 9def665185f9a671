//! Accounts of people. A password is here as its hash, a secret sealed.

use farol_protocol::Timestamp;
use serde::Serialize;
use sqlx::{Any, AnyConnection, FromRow, QueryBuilder};
use uuid::Uuid;

use super::{Store, audit, tokens::hash, word};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    integrations::Secret,
    people::Typed,
    roster::Role,
};

/// A person's account, without what lets them in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UserRow {
    /// Identifier.
    pub id: String,
    /// The name in the record.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Only these sites; null for all.
    pub sites: Option<Vec<String>>,
    /// When the account was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was disabled; null while it is in use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
    /// When the person signed in last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub signed_in_at: Option<Timestamp>,
    /// When the password was set.
    #[schema(value_type = String, format = DateTime)]
    pub password_at: Timestamp,
    /// Whether a code of an app is asked for beside the password.
    pub totp: bool,
    /// Passkeys in use.
    pub passkeys: i64,
}

/// What signing in needs. Not `Debug`: it holds secrets.
pub struct Account {
    /// Identifier.
    pub id: String,
    /// The name in the record.
    pub name: String,
    /// Hash of the password.
    pub password: String,
    /// The sealed secret of an app that was confirmed.
    pub totp: Option<String>,
    /// Whether the account is disabled.
    pub disabled: bool,
}

/// An account to make. The password is a hash already.
#[derive(Debug)]
pub struct NewUser<'a> {
    /// The name in the record.
    pub name: &'a str,
    /// What they may do.
    pub role: Role,
    /// Only these sites; none for all.
    pub sites: Option<&'a [String]>,
    /// Hash of the password.
    pub password: &'a str,
}

/// What changes of an account; what is none stays.
#[derive(Debug, Default)]
pub struct Change<'a> {
    /// What they may do.
    pub role: Option<Role>,
    /// Only these sites; the inner none for all.
    pub sites: Option<Option<&'a [String]>>,
    /// Whether it is disabled.
    pub disabled: Option<bool>,
    /// Hash of another password.
    pub password: Option<&'a str>,
    /// Forget the app and the recovery codes.
    pub reset_second_factor: bool,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    name: String,
    role: String,
    sites: Option<String>,
    created_ms: i64,
    created_by: String,
    disabled_ms: Option<i64>,
    signed_in_ms: Option<i64>,
    password_ms: i64,
    totp_confirmed_ms: Option<i64>,
    passkeys: i64,
}

impl TryFrom<Raw> for UserRow {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self> {
        Ok(Self {
            id: raw.id,
            name: raw.name,
            role: word("role", &raw.role)?,
            sites: list("sites", raw.sites.as_deref())?,
            created_at: Timestamp::from_ms(raw.created_ms),
            created_by: raw.created_by,
            disabled_at: raw.disabled_ms.map(Timestamp::from_ms),
            signed_in_at: raw.signed_in_ms.map(Timestamp::from_ms),
            password_at: Timestamp::from_ms(raw.password_ms),
            totp: raw.totp_confirmed_ms.is_some(),
            passkeys: raw.passkeys,
        })
    }
}

const SELECT: &str = "select u.id, u.name, u.role, u.sites, u.created_ms, u.created_by, u.disabled_ms, u.signed_in_ms, \
     u.password_ms, u.totp_confirmed_ms, \
     (select count(*) from passkey p where p.user_id = u.id and p.revoked_ms is null) as passkeys from user_account u";

/// Reads a column that holds a JSON list of words.
pub(super) fn list(what: &'static str, text: Option<&str>) -> Result<Option<Vec<String>>> {
    text.map(|text| serde_json::from_str(text).map_err(|_| Error::Corrupt { what, value: text.to_owned() })).transpose()
}

/// Writes such a column.
pub(super) fn json(list: &[String]) -> String {
    serde_json::Value::from(list.to_vec()).to_string()
}

fn entry<'a>(by: &'a str, verb: &'a str, user: &'a str, detail: &'a str, at: Timestamp) -> audit::NewEntry<'a> {
    audit::NewEntry { at, actor: by, verb, object: ("user", user), detail }
}

impl Store {
    /// Whether there is an account, and whether there is a token.
    ///
    /// # Errors
    /// The store failed.
    pub async fn anybody(&self) -> Result<(bool, bool)> {
        let mut read = self.state().read().await?;
        let (users, tokens): (i64, i64) = sqlx::query_as(
            "select (select count(*) from user_account), (select count(*) from api_token where revoked_ms is null)",
        )
        .fetch_one(&mut *read)
        .await
        .context("count the accounts")?;
        Ok((users > 0, tokens > 0))
    }

    /// Makes an account. `first`: only where there is none.
    ///
    /// # Errors
    /// The name is taken, or there is an account although it was to be the
    /// first, or the store failed.
    pub async fn create_user(&self, by: &Operator, new: NewUser<'_>, first: bool, now: Timestamp) -> Result<UserRow> {
        crate::auth::check_name(new.name).map_err(Error::InvalidName)?;
        let key = new.name.to_ascii_lowercase();
        let mut write = self.state().write().await?;
        if first && users_exist(&mut write).await? {
            return Err(Error::Refused("there is an account already; sign in with it".to_owned()));
        }
        let token: Option<(String,)> =
            sqlx::query_as("select name from api_token where lower(name) = $1 and revoked_ms is null")
                .bind(&key)
                .fetch_optional(&mut *write)
                .await
                .context("read the tokens")?;
        if let Some((token,)) = token {
            return Err(Error::Refused(format!(
                "a token is called `{token}`, and the record would not tell the two apart; end it first with \
                 `farol token revoke {token}`"
            )));
        }
        let inserted = sqlx::query(
            "insert into user_account (id, name, name_key, role, sites, password, password_ms, created_ms, created_by)
             values ($1, $2, $3, $4, $5, $6, $7, $7, $8) on conflict (name_key) do nothing",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(new.name)
        .bind(&key)
        .bind(new.role.as_str())
        .bind(new.sites.map(json))
        .bind(new.password)
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("store the account")?;
        if inserted.rows_affected() == 0 {
            return Err(Error::Exists { what: "user", id: new.name.to_owned() });
        }
        let detail = format!("user with role {}{}", new.role, of_sites(new.sites));
        audit::insert(&mut write, entry(by.name(), "user.created", new.name, &detail, now)).await?;
        write.commit().await?;
        self.user(new.name).await
    }

    /// All accounts by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn users(&self) -> Result<Vec<UserRow>> {
        let mut read = self.state().read().await?;
        let rows: Vec<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} order by u.name_key")))
            .fetch_all(&mut *read)
            .await
            .context("read the accounts")?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// One account, by name.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub async fn user(&self, name: &str) -> Result<UserRow> {
        let mut read = self.state().read().await?;
        one(&mut read, name).await
    }

    /// What signing in needs to know of whoever has this name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn account(&self, name: &str) -> Result<Option<Account>> {
        type Row = (String, String, String, Option<String>, Option<i64>, Option<i64>);
        let mut read = self.state().read().await?;
        let row: Option<Row> = sqlx::query_as(
            "select id, name, password, totp, totp_confirmed_ms, disabled_ms from user_account where name_key = $1",
        )
        .bind(name.to_ascii_lowercase())
        .fetch_optional(&mut *read)
        .await
        .context("read the account")?;
        Ok(row.map(|(id, name, password, totp, confirmed, disabled)| Account {
            id,
            name,
            password,
            totp: totp.filter(|_| confirmed.is_some()),
            disabled: disabled.is_some(),
        }))
    }

    /// Changes an account. Whatever it is, the person's sessions end: they sign
    /// in again with what they have now.
    ///
    /// # Errors
    /// No such account, nobody could manage accounts any more, or the store
    /// failed.
    pub async fn change_user(&self, by: &Operator, name: &str, change: Change<'_>, now: Timestamp) -> Result<UserRow> {
        let mut write = self.state().write().await?;
        let user = one(&mut write, name).await?;
        let loses = change.disabled == Some(true) || change.role.is_some_and(|role| role != Role::SuperAdmin);
        if loses && user.role == Role::SuperAdmin && user.disabled_at.is_none() {
            let (others,): (i64,) = sqlx::query_as(
                "select count(*) from user_account where role = 'super_admin' and disabled_ms is null and id <> $1",
            )
            .bind(&user.id)
            .fetch_one(&mut *write)
            .await
            .context("count the accounts")?;
            if others == 0 {
                return Err(Error::Refused(format!("`{}` is the last super_admin; make another one first", user.name)));
            }
        }
        let mut said: Vec<String> = Vec::new();
        let mut update = QueryBuilder::<Any>::new("update user_account set name = name");
        if let Some(role) = change.role {
            update.push(", role = ").push_bind(role.as_str());
            said.push(format!("role {} instead of {}", role, user.role));
        }
        if let Some(sites) = change.sites {
            update.push(", sites = ").push_bind(sites.map(json));
            said.push(format!("sites:{}", if sites.is_none() { " all".to_owned() } else { of_sites(sites) }));
        }
        match change.disabled {
            Some(true) => {
                update.push(", disabled_ms = coalesce(disabled_ms, ").push_bind(now.as_ms()).push(")");
                said.push("disabled".to_owned());
            }
            Some(false) => {
                update.push(", disabled_ms = null");
                said.push("enabled".to_owned());
            }
            None => {}
        }
        if let Some(password) = change.password {
            update.push(", password = ").push_bind(password.to_owned());
            update.push(", password_ms = ").push_bind(now.as_ms());
            said.push("another password".to_owned());
        }
        if change.reset_second_factor {
            update.push(", totp = null, totp_confirmed_ms = null, totp_step = 0");
            forget_recovery_codes(&mut write, &user.id).await?;
            super::passkeys::end_all(&mut write, by, &user.id, now).await?;
            said.push("no second factor and no passkey any more".to_owned());
        }
        if said.is_empty() {
            return Ok(user);
        }
        update.push(" where id = ").push_bind(user.id.clone());
        update.build().execute(&mut *write).await.context("change the account")?;
        end_sessions(&mut write, &user.id, None, now).await?;
        if change.password.is_some() || change.disabled == Some(true) {
            forget_devices(&mut write, &user.id).await?;
        }
        let detail = said.join(", ");
        audit::insert(&mut write, entry(by.name(), "user.changed", &user.name, &detail, now)).await?;
        write.commit().await?;
        self.user(&user.name).await
    }

    /// A person sets another password of their own. Their other sessions end.
    ///
    /// # Errors
    /// No such account, or the store failed.
    pub async fn change_password(&self, by: &Operator, user: &str, password: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("update user_account set password = $2, password_ms = $3 where id = $1")
            .bind(user)
            .bind(password)
            .bind(now.as_ms())
            .execute(&mut *write)
            .await
            .context("change the password")?;
        forget_devices(&mut write, user).await?;
        end_sessions(&mut write, user, by.session().map(|session| session.id.as_str()), now).await?;
        let verb = "user.password_changed";
        audit::insert(&mut write, entry(by.name(), verb, by.person(), "their own password", now)).await?;
        write.commit().await
    }

    /// Keeps the secret of an app until a code of it is entered.
    ///
    /// # Errors
    /// There is one already, or the store failed.
    pub async fn propose_totp(&self, user: &str, sealed: &str) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query("update user_account set totp = $2 where id = $1 and totp_confirmed_ms is null")
            .bind(user)
            .bind(sealed)
            .execute(&mut *write)
            .await
            .context("store the secret")?;
        if changed.rows_affected() == 0 {
            return Err(Error::Refused("an app is set up already; remove it first".to_owned()));
        }
        write.commit().await
    }

    /// The sealed secret of an account, and whether it was confirmed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn totp(&self, user: &str) -> Result<Option<(String, bool)>> {
        let mut read = self.state().read().await?;
        let row: Option<(Option<String>, Option<i64>)> =
            sqlx::query_as("select totp, totp_confirmed_ms from user_account where id = $1")
                .bind(user)
                .fetch_optional(&mut *read)
                .await
                .context("read the secret")?;
        Ok(row.and_then(|(sealed, confirmed)| Some((sealed?, confirmed.is_some()))))
    }

    /// Takes an app into use, with new recovery codes. Other sessions end.
    ///
    /// # Errors
    /// It is in use already, or the store failed.
    pub async fn confirm_totp(
        &self,
        by: &Operator,
        user: &str,
        step: i64,
        codes: &[String],
        now: Timestamp,
    ) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update user_account set totp_confirmed_ms = $2, totp_step = $3
             where id = $1 and totp is not null and totp_confirmed_ms is null",
        )
        .bind(user)
        .bind(now.as_ms())
        .bind(step)
        .execute(&mut *write)
        .await
        .context("confirm the app")?;
        if changed.rows_affected() == 0 {
            return Err(Error::Refused("no app waits to be confirmed; begin again".to_owned()));
        }
        replace_recovery_codes(&mut write, user, codes, now).await?;
        end_sessions(&mut write, user, by.session().map(|session| session.id.as_str()), now).await?;
        audit::insert(&mut write, entry(by.name(), "user.totp_added", by.person(), "", now)).await?;
        write.commit().await
    }

    /// Removes an app with its recovery codes. Other sessions end.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub async fn remove_totp(&self, by: &Operator, user: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update user_account set totp = null, totp_confirmed_ms = null, totp_step = 0
             where id = $1 and totp is not null",
        )
        .bind(user)
        .execute(&mut *write)
        .await
        .context("remove the app")?;
        if changed.rows_affected() == 0 {
            return Err(Error::NotFound { what: "app that shows codes", id: by.person().to_owned() });
        }
        forget_recovery_codes(&mut write, user).await?;
        end_sessions(&mut write, user, by.session().map(|session| session.id.as_str()), now).await?;
        audit::insert(&mut write, entry(by.name(), "user.totp_removed", by.person(), "", now)).await?;
        write.commit().await
    }

    /// Uses a time step up; answers whether it was newer than all before.
    ///
    /// # Errors
    /// The store failed.
    pub async fn use_totp_step(&self, user: &str, step: i64) -> Result<bool> {
        let mut write = self.state().write().await?;
        let used = sqlx::query("update user_account set totp_step = $2 where id = $1 and totp_step < $2")
            .bind(user)
            .bind(step)
            .execute(&mut *write)
            .await
            .context("use the code")?;
        write.commit().await?;
        Ok(used.rows_affected() > 0)
    }

    /// Makes new recovery codes in the place of the old ones.
    ///
    /// # Errors
    /// The store failed.
    pub async fn new_recovery_codes(&self, by: &Operator, user: &str, codes: &[String], now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        replace_recovery_codes(&mut write, user, codes, now).await?;
        audit::insert(&mut write, entry(by.name(), "user.recovery_codes_made", by.person(), "", now)).await?;
        write.commit().await
    }

    /// Uses a recovery code up; answers whether it was there to be used.
    ///
    /// # Errors
    /// The store failed.
    pub async fn use_recovery_code(&self, (id, name): (&str, &str), code: &str, now: Timestamp) -> Result<bool> {
        let mut write = self.state().write().await?;
        let used =
            sqlx::query("update recovery_code set used_ms = $3 where hash = $1 and user_id = $2 and used_ms is null")
                .bind(hash(code))
                .bind(id)
                .bind(now.as_ms())
                .execute(&mut *write)
                .await
                .context("use the recovery code")?
                .rows_affected()
                > 0;
        if used {
            audit::insert(&mut write, entry(name, "user.recovery_code_used", name, "", now)).await?;
        }
        write.commit().await?;
        Ok(used)
    }

    /// Recovery codes that are left.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recovery_codes_left(&self, user: &str) -> Result<i64> {
        let mut read = self.state().read().await?;
        let (left,): (i64,) =
            sqlx::query_as("select count(*) from recovery_code where user_id = $1 and used_ms is null")
                .bind(user)
                .fetch_one(&mut *read)
                .await
                .context("count the recovery codes")?;
        Ok(left)
    }

    /// Writes to the record what happened at the door.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record_sign_in(&self, verb: &str, user: &str, detail: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        audit::insert(&mut write, entry("unknown", verb, user, detail, now)).await?;
        write.commit().await
    }

    /// Counts an attempt for a name that nobody has. Those are told together, at
    /// most once a minute, so that strangers do not fill the record; each costs
    /// as much time as one that is told.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record_stranger(&self, from: &str, now: Timestamp) -> Result<()> {
        const NAME: &str = "sign_in.strangers";
        const TOLD_EVERY_MS: i64 = 60_000;
        let mut write = self.state().write().await?;
        let row: Option<(String,)> = sqlx::query_as("select value from setting where name = $1")
            .bind(NAME)
            .fetch_optional(&mut *write)
            .await
            .context("count an attempt")?;
        let known = row.as_ref().and_then(|(value,)| value.split_once(' '));
        let (told, count) = known.and_then(|(ms, n)| Some((ms.parse().ok()?, n.parse().ok()?))).unwrap_or((0, 0));
        let (mut told, mut count): (i64, u64) = (told, count + 1);
        if now.as_ms() - told >= TOLD_EVERY_MS {
            let detail = format!("{count} attempts for names that nobody has, the last from {from}");
            audit::insert(&mut write, entry("unknown", "session.refused", "unknown", &detail, now)).await?;
            (told, count) = (now.as_ms(), 0);
        }
        sqlx::query("insert into setting (name, value) values ($1, $2) on conflict (name) do update set value = $2")
            .bind(NAME)
            .bind(format!("{told} {count}"))
            .execute(&mut *write)
            .await
            .context("count an attempt")?;
        write.commit().await
    }

    /// Whether a browser has signed this person in before.
    ///
    /// # Errors
    /// The store failed.
    pub async fn knows_device(&self, user: &str, device: &Typed) -> Result<bool> {
        let mut read = self.state().read().await?;
        let row: Option<(i64,)> = sqlx::query_as("select seen_ms from known_device where hash = $1 and user_id = $2")
            .bind(hash(device.expose()))
            .bind(user)
            .fetch_optional(&mut *read)
            .await
            .context("read the device")?;
        Ok(row.is_some())
    }

    /// Remembers that a browser signed this person in.
    ///
    /// # Errors
    /// The store failed.
    pub async fn remember_device(&self, user: &str, device: &Secret, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into known_device (hash, user_id, created_ms, seen_ms) values ($1, $2, $3, $3)
             on conflict (hash) do update set seen_ms = $3",
        )
        .bind(hash(device.expose()))
        .bind(user)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("remember the device")?;
        write.commit().await
    }
}

fn of_sites(sites: Option<&[String]>) -> String {
    sites.map_or_else(String::new, |sites| format!(" on {}", sites.join(", ")))
}

async fn one(connection: &mut AnyConnection, name: &str) -> Result<UserRow> {
    let row: Option<Raw> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} where u.name_key = $1")))
        .bind(name.to_ascii_lowercase())
        .fetch_optional(connection)
        .await
        .context("read the account")?;
    row.ok_or_else(|| Error::NotFound { what: "user", id: name.to_owned() })?.try_into()
}

/// Whether there is any account, disabled ones too.
pub(super) async fn users_exist(connection: &mut AnyConnection) -> Result<bool> {
    let (count,): (i64,) = sqlx::query_as("select count(*) from user_account")
        .fetch_one(connection)
        .await
        .context("count the accounts")?;
    Ok(count > 0)
}

/// Ends the sessions of an account, but for one.
pub(super) async fn end_sessions(
    connection: &mut AnyConnection,
    user: &str,
    keep: Option<&str>,
    now: Timestamp,
) -> Result<u64> {
    let ended = sqlx::query("update session set ended_ms = $2 where user_id = $1 and ended_ms is null and id <> $3")
        .bind(user)
        .bind(now.as_ms())
        .bind(keep.unwrap_or_default())
        .execute(connection)
        .await
        .context("end the sessions")?;
    Ok(ended.rows_affected())
}

async fn forget_devices(connection: &mut AnyConnection, user: &str) -> Result<()> {
    let forget = sqlx::query("delete from known_device where user_id = $1").bind(user).execute(connection);
    forget.await.context("forget the devices")?;
    Ok(())
}

async fn forget_recovery_codes(connection: &mut AnyConnection, user: &str) -> Result<()> {
    let forget = sqlx::query("delete from recovery_code where user_id = $1").bind(user).execute(connection);
    forget.await.context("forget the recovery codes")?;
    Ok(())
}

async fn replace_recovery_codes(
    connection: &mut AnyConnection,
    user: &str,
    codes: &[String],
    now: Timestamp,
) -> Result<()> {
    forget_recovery_codes(connection, user).await?;
    for code in codes {
        let code = crate::people::codes::normal(&Typed::new(code.clone())).unwrap_or_default();
        sqlx::query("insert into recovery_code (hash, user_id, created_ms) values ($1, $2, $3)")
            .bind(hash(&code))
            .bind(user)
            .bind(now.as_ms())
            .execute(&mut *connection)
            .await
            .context("store the recovery codes")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
