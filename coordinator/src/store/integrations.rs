//! Systems that the coordinator talks to with credentials.

use std::collections::BTreeMap;

use farol_protocol::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{AnyConnection, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{Store, audit};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    integrations::{Connection, Kind, Secret, Tls, Vault},
};

/// Longest name.
const MAX_NAME: usize = 64;
/// Most addresses.
const MAX_ENDPOINTS: usize = 16;

/// An integration as people see it: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Integration {
    /// Identifier.
    pub id: String,
    /// Name, by which checks mean it.
    pub name: String,
    /// What is there.
    pub kind: Kind,
    /// Site that it belongs to.
    pub site: Option<String>,
    /// Base addresses.
    pub endpoints: Vec<String>,
    /// Whom to believe.
    pub tls: Tls,
    /// Words of the operator's.
    pub tags: Vec<String>,
    /// What else its kind wants to know.
    pub options: BTreeMap<String, String>,
    /// Who Farol is to it.
    pub user: Option<String>,
    /// Whether it has a secret, which is never shown.
    pub has_secret: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it last answered.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success: Option<Timestamp>,
    /// Why it did not answer last; null since it answers again.
    pub last_error: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_error_at: Option<Timestamp>,
}

/// What an integration is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// What is there.
    pub kind: Kind,
    /// Site.
    pub site: Option<String>,
    /// Base addresses.
    pub endpoints: Vec<String>,
    /// Whom to believe.
    pub tls: Tls,
    /// Words of the operator's.
    pub tags: Vec<String>,
    /// What else its kind wants to know.
    pub options: BTreeMap<String, String>,
    /// Who Farol is to it.
    pub user: Option<String>,
    /// Its secret; none keeps the one that is there.
    pub secret: Option<Secret>,
}

impl Wanted {
    /// Puts the addresses into one form.
    ///
    /// # Errors
    /// Something is not what its kind takes.
    pub fn checked(mut self) -> Result<Self> {
        let refuse = |why: String| Err(Error::Refused(why));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=MAX_NAME).contains(&self.name.len()) || !self.name.chars().all(allowed) {
            return refuse(format!("a name has 1 to {MAX_NAME} ASCII letters, digits and `._-`"));
        }
        if self.endpoints.is_empty() && self.kind == Kind::Github {
            self.endpoints.push("https://api.github.com".to_owned());
        }
        if !(1..=MAX_ENDPOINTS).contains(&self.endpoints.len()) {
            return refuse(format!("an integration has 1 to {MAX_ENDPOINTS} addresses"));
        }
        for endpoint in &mut self.endpoints {
            let trimmed = endpoint.trim().trim_end_matches('/').to_owned();
            let schemes = self.kind.schemes();
            if !schemes.iter().any(|scheme| trimmed.starts_with(scheme) && trimmed.len() > scheme.len()) {
                return refuse(format!("an address of {} begins with {}", self.kind.as_str(), schemes.join(" or ")));
            }
            let host = trimmed.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
            if host.contains('@') {
                return refuse("an address holds no user and no password: give them by themselves".to_owned());
            }
            if trimmed.contains(['?', '#', ' ']) || trimmed.chars().any(char::is_control) {
                return refuse("an address holds no `?`, `#` or space".to_owned());
            }
            *endpoint = trimmed;
        }
        if let Some(mistake) = self.tls.mistake() {
            return refuse(mistake);
        }
        self.refuse_plain_text()?;
        if self.kind == Kind::Proxmox && self.user.as_deref().is_none_or(|user| !user.contains('!')) {
            return refuse("Proxmox wants the token's id as its user, such as `farol@pve!watch`".to_owned());
        }
        self.refuse_unusable_channel()?;
        if self.kind == Kind::Opnsense && self.user.is_none() {
            return refuse("OPNsense wants the API key as its user, and the key's secret as the secret".to_owned());
        }
        Ok(self)
    }
}

impl Wanted {
    fn refuse_unusable_channel(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::Refused(why.to_owned()));
        let secret = self.secret.as_ref().map(Secret::expose);
        if self.kind == Kind::Webhook && secret.is_some_and(|secret| !crate::notify::webhook::is_secret(secret)) {
            return refuse(
                "a webhook's secret is `whsec_` and base64 of 24 to 64 bytes; several have spaces between them",
            );
        }
        if let Some(topic) = self.options.get("topic").filter(|_| self.kind == Kind::Ntfy)
            && !farol_protocol::registry::notify::is_topic(topic)
        {
            return refuse("an ntfy topic has 1 to 64 ASCII letters, digits, `-` and `_`");
        }
        if let Some(room) = self.options.get("room").filter(|_| self.kind == Kind::Matrix) {
            farol_protocol::registry::notify::check_room(room).map_err(Error::Refused)?;
        }
        if let Some(resend) = self.options.get("resend").filter(|_| self.kind == Kind::Alertmanager)
            && humantime::parse_duration(resend).is_err()
        {
            return refuse("`resend` is not a duration such as 2m");
        }
        Ok(())
    }

    /// Credentials travel in the clear only where a person said so, and a pin
    /// that nobody looks at is refused.
    fn refuse_plain_text(&self) -> Result<()> {
        let is_on = |name: &str, value: &str| self.options.get(name).is_some_and(|given| given == value);
        let believes_one = matches!(self.tls, Tls::Pin(_) | Tls::Ca(_));
        let sslmode = self.options.get("sslmode").map(String::as_str);
        if self.kind == Kind::Postgres && believes_one && sslmode.is_some_and(|mode| mode != "require") {
            return Err(Error::Refused("a pin or an authority needs sslmode=require, as by default".to_owned()));
        }
        for endpoint in &self.endpoints {
            let (scheme, rest) = endpoint.split_once("://").unwrap_or_default();
            if !matches!(scheme, "http" | "tcp" | "redis") {
                continue;
            }
            if believes_one {
                return Err(Error::Refused(format!(
                    "{endpoint} is not encrypted, so its certificate cannot be looked at; use the address that is"
                )));
            }
            if self.kind != Kind::Docker && !is_loopback(rest) && !is_on("plaintext", "yes") {
                return Err(Error::Refused(format!(
                    "{endpoint} is not encrypted: whoever is in between reads the credentials; use the address that is, or \
                     say `--option plaintext=yes`"
                )));
            }
        }
        Ok(())
    }
}

/// Whether what follows the scheme of an address leads to this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Store {
    /// Makes an integration, or with `replace` changes the one of its name.
    ///
    /// # Errors
    /// The name is taken, or not there to be replaced, or the store failed.
    pub async fn save_integration(
        &self,
        by: &Operator,
        wanted: &Wanted,
        replace: bool,
        vault: &Vault,
        now: Timestamp,
    ) -> Result<Integration> {
        let mut write = self.state().write().await?;
        let known: Option<(String, String)> = sqlx::query_as("select id, kind from integration where name = $1")
            .bind(&wanted.name)
            .fetch_optional(&mut *write)
            .await
            .context("read the integration")?;
        let id = match (known, replace) {
            (Some(_), false) => {
                return Err(Error::Exists { what: "integration", id: wanted.name.clone() });
            }
            (None, true) => return Err(Error::NotFound { what: "integration", id: wanted.name.clone() }),
            (Some((_, kind)), true) if kind != wanted.kind.as_str() => {
                return Err(Error::Refused(format!(
                    "`{}` is of the kind {kind}; remove it first, or use another name",
                    wanted.name
                )));
            }
            (Some((id, _)), true) => id,
            (None, false) => Uuid::now_v7().to_string(),
        };
        let secret = wanted.secret.as_ref().map(|secret| vault.seal(&id, secret)).transpose()?;
        let (endpoints, tags) = (json(&wanted.endpoints)?, json(&wanted.tags)?);
        let (tls, options) = (json(&wanted.tls)?, json(&wanted.options)?);
        sqlx::query(
            "insert into integration (id, name, kind, site, endpoints, tls, tags, options, user_name, secret, created_ms, updated_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
             on conflict (id) do update set site = $4, endpoints = $5, tls = $6, tags = $7, options = $8, user_name = $9,
                 secret = coalesce($10, integration.secret), updated_ms = $11, last_error = null, last_error_ms = null",
        )
        .bind(&id)
        .bind(&wanted.name)
        .bind(wanted.kind.as_str())
        .bind(&wanted.site)
        .bind(&endpoints)
        .bind(&tls)
        .bind(&tags)
        .bind(&options)
        .bind(&wanted.user)
        .bind(&secret)
        .bind(now.as_ms())
        .execute(&mut *write)
        .await
        .context("save the integration")?;
        bump(&mut write).await?;
        let verb = if replace { "integration.changed" } else { "integration.added" };
        let insecure = if wanted.tls == Tls::Insecure { ", without verifying its certificate" } else { "" };
        let detail = format!("{} at {}{insecure}", wanted.kind.as_str(), wanted.endpoints.join(", "));
        let entry =
            audit::NewEntry { at: now, actor: by.name(), verb, object: ("integration", &wanted.name), detail: &detail };
        audit::insert(&mut write, entry).await?;
        write.commit().await?;
        self.integration(&wanted.name).await
    }

    /// Removes an integration with its secret.
    ///
    /// # Errors
    /// No such integration, or the store failed.
    pub async fn remove_integration(&self, by: &Operator, name: &str, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let removed = sqlx::query("delete from integration where name = $1")
            .bind(name)
            .execute(&mut *write)
            .await
            .context("remove the integration")?
            .rows_affected();
        if removed == 0 {
            return Err(Error::NotFound { what: "integration", id: name.to_owned() });
        }
        bump(&mut write).await?;
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "integration.removed",
            object: ("integration", name),
            detail: "with its secret",
        };
        audit::insert(&mut write, entry).await?;
        write.commit().await
    }

    /// By name or id.
    ///
    /// # Errors
    /// No such integration, or the store failed.
    pub async fn integration(&self, name: &str) -> Result<Integration> {
        let all = self.integrations().await?;
        let found = all.into_iter().find(|known| known.name == name || known.id == name);
        found.ok_or_else(|| Error::NotFound { what: "integration", id: name.to_owned() })
    }

    /// All of them, by name, without their secrets.
    ///
    /// # Errors
    /// The store failed.
    pub async fn integrations(&self) -> Result<Vec<Integration>> {
        let mut read = self.state().read().await?;
        let rows = rows(&mut read).await?;
        rows.iter().map(|row| row_of(row).map(|(integration, _)| integration)).collect()
    }

    /// Changes whenever an integration does.
    ///
    /// # Errors
    /// The store failed.
    pub async fn integrations_version(&self) -> Result<String> {
        Ok(self.setting(VERSION).await?.unwrap_or_default())
    }

    /// All of them with their secrets, for those who use them. One whose
    /// secret does not open is there without it, which the log says.
    ///
    /// # Errors
    /// The store failed.
    pub async fn connections(&self, vault: &Vault) -> Result<Vec<Connection>> {
        let mut read = self.state().read().await?;
        let rows = rows(&mut read).await?;
        rows.iter()
            .map(|row| {
                let (found, sealed) = row_of(row)?;
                let secret = sealed.as_ref().and_then(|sealed| vault.open(&found.id, sealed));
                if sealed.is_some() && secret.is_none() {
                    tracing::error!(
                        integration = found.name,
                        "its secret does not open with this installation's secrets.key; enter it again with \
                         `farol integration set {}`",
                        found.name
                    );
                }
                Ok(Connection {
                    id: found.id,
                    name: found.name,
                    kind: found.kind,
                    site: found.site,
                    endpoints: found.endpoints,
                    tls: found.tls,
                    user: found.user,
                    is_locked: sealed.is_some() && secret.is_none(),
                    secret,
                    tags: found.tags,
                    options: found.options,
                })
            })
            .collect()
    }

    /// Writes down that it answered, or why it did not.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_integration(&self, id: &str, error: Option<&str>, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        let query = match error {
            None => "update integration set last_success_ms = $2, last_error = null where id = $1 and $3 = ''",
            Some(_) => "update integration set last_error = $3, last_error_ms = $2 where id = $1",
        };
        sqlx::query(query)
            .bind(id)
            .bind(now.as_ms())
            .bind(error.unwrap_or_default())
            .execute(&mut *write)
            .await
            .context("note how the integration is")?;
        write.commit().await
    }
}

/// Name of the setting that changes whenever an integration does.
const VERSION: &str = "integrations_version";

async fn bump(connection: &mut AnyConnection) -> Result<()> {
    sqlx::query("insert into setting (name, value) values ($1, $2) on conflict (name) do update set value = $2")
        .bind(VERSION)
        .bind(Uuid::now_v7().to_string())
        .execute(connection)
        .await
        .context("note the change")?;
    Ok(())
}

async fn rows(connection: &mut AnyConnection) -> Result<Vec<AnyRow>> {
    sqlx::query(
        "select id, name, kind, site, endpoints, tls, tags, options, user_name, secret, created_ms, updated_ms,
         last_success_ms, last_error, last_error_ms from integration order by name",
    )
    .fetch_all(connection)
    .await
    .context("read the integrations")
}

fn row_of(row: &AnyRow) -> Result<(Integration, Option<String>)> {
    let get = |error: sqlx::Error| Error::Store { what: "read an integration", source: error };
    let kind: String = row.try_get(2).map_err(get)?;
    let sealed: Option<String> = row.try_get(9).map_err(get)?;
    let time = |at: Option<i64>| at.map(Timestamp::from_ms);
    let integration = Integration {
        id: row.try_get(0).map_err(get)?,
        name: row.try_get(1).map_err(get)?,
        kind: super::word("kind of integration", &kind)?,
        site: row.try_get(3).map_err(get)?,
        endpoints: read_json("endpoints", row.try_get(4).map_err(get)?)?,
        tls: read_json("tls", row.try_get(5).map_err(get)?)?,
        tags: read_json("tags", row.try_get(6).map_err(get)?)?,
        options: read_json("options", row.try_get(7).map_err(get)?)?,
        user: row.try_get(8).map_err(get)?,
        has_secret: sealed.is_some(),
        created_at: Timestamp::from_ms(row.try_get(10).map_err(get)?),
        updated_at: Timestamp::from_ms(row.try_get(11).map_err(get)?),
        last_success: time(row.try_get(12).map_err(get)?),
        last_error: row.try_get(13).map_err(get)?,
        last_error_at: time(row.try_get(14).map_err(get)?),
    };
    Ok((integration, sealed))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Refused(format!("it cannot be stored: {error}")))
}

fn read_json<T: DeserializeOwned>(what: &'static str, text: String) -> Result<T> {
    serde_json::from_str(&text).map_err(|_| Error::Corrupt { what, value: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(secret: Option<&str>) -> Wanted {
        Wanted {
            name: "pve".to_owned(),
            kind: Kind::Proxmox,
            site: None,
            endpoints: vec!["https://127.0.0.1:8006/".to_owned()],
            tls: Tls::Pin(format!("sha256:{}", "ab".repeat(32))),
            tags: vec!["lab".to_owned()],
            options: BTreeMap::new(),
            user: Some("farol@pve!watch".to_owned()),
            secret: secret.map(|secret| Secret::new(secret.to_owned())),
        }
    }

    #[tokio::test]
    async fn a_secret_is_stored_sealed_kept_on_a_change_and_gone_with_its_integration() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, vault) = (
            Store::open(folder.path()).await.expect("a store"),
            Vault::open_or_create(folder.path()).expect("a vault"),
        );
        let (by, now) = (Operator::local_administrator(), Timestamp::from_ms(1_000));
        let first = wanted(Some("s3cret-value")).checked().expect("good");
        let made = store.save_integration(&by, &first, false, &vault, now).await.expect("made");
        assert_eq!((made.endpoints[0].as_str(), made.has_secret), ("https://127.0.0.1:8006", true));
        assert!(matches!(store.save_integration(&by, &first, false, &vault, now).await, Err(Error::Exists { .. })));
        let before = store.integrations_version().await.expect("a version");
        let second = Wanted { endpoints: vec!["https://127.0.0.2:8006".to_owned()], ..wanted(None) };
        store.save_integration(&by, &second, true, &vault, Timestamp::from_ms(2_000)).await.expect("changed");
        assert_ne!(store.integrations_version().await.expect("a version"), before);
        let connections = store.connections(&vault).await.expect("read");
        assert_eq!(
            (connections[0].secret(), connections[0].endpoints[0].as_str()),
            ("s3cret-value", "https://127.0.0.2:8006")
        );
        store.note_integration(&made.id, Some("refused"), Timestamp::from_ms(3_000)).await.expect("noted");
        assert_eq!(store.integration("pve").await.expect("there").last_error.as_deref(), Some("refused"));
        store.note_integration(&made.id, None, Timestamp::from_ms(4_000)).await.expect("noted");
        let noted = store.integration("pve").await.expect("there");
        assert_eq!((noted.last_error, noted.last_success), (None, Some(Timestamp::from_ms(4_000))));
        store.close().await;
        for entry in std::fs::read_dir(folder.path()).expect("a folder") {
            let bytes = std::fs::read(entry.expect("an entry").path()).unwrap_or_default();
            assert!(!bytes.windows(12).any(|window| window == b"s3cret-value"), "the secret is on the disk");
        }
    }

    #[test]
    fn what_its_kind_does_not_take_is_refused() {
        let refused = |change: &dyn Fn(&mut Wanted)| {
            let mut wanted = wanted(None);
            change(&mut wanted);
            wanted.checked().expect_err("refused").to_string()
        };
        assert!(refused(&|w| w.endpoints = vec!["ftp://x".to_owned()]).contains("https://"));
        assert!(refused(&|w| w.endpoints = vec!["https://a:b@x".to_owned()]).contains("no password"));
        assert!(refused(&|w| w.endpoints.clear()).contains("1 to"));
        assert!(refused(&|w| w.name = "a/b".to_owned()).contains("name"));
        assert!(refused(&|w| w.user = Some("root@pam".to_owned())).contains("token"));
        assert!(refused(&|w| w.tls = Tls::Pin("sha1:00".to_owned())).contains("SHA-256"));
        assert!(refused(&|w| w.tls = Tls::Ca("no pem".to_owned())).contains("authority"));
        // The pin would not be looked at.
        assert!(refused(&|w| w.endpoints = vec!["http://127.0.0.1".to_owned()]).contains("not encrypted"));
        let plain = |w: &mut Wanted| (w.endpoints, w.tls) = (vec!["http://10.0.0.1".to_owned()], Tls::Verify);
        assert!(refused(&plain).contains("plaintext=yes"));
        let mut said = wanted(None);
        plain(&mut said);
        said.options.insert("plaintext".to_owned(), "yes".to_owned());
        assert!(said.checked().is_ok());
        for (rest, expected) in
            [("localhost:80/a", true), ("127.1.2.3", true), ("[::1]:8", true), ("127.evil.example", false)]
        {
            assert_eq!(is_loopback(rest), expected, "{rest}");
        }
    }
}
