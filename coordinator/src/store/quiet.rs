//! Silences and maintenance windows. What has ended stays, for whoever asks
//! later why nobody was told.

use std::time::Duration;

use farol_protocol::Timestamp;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{
    Cursor, Page, Store, audit,
    hosts::{HostKey, SITE_PREFIX},
};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    quiet::{Place, SavedBackups, Scope, Window},
};

const BACKUPS: &str = "quiet.backups";

/// What is quiet until a time because a person said so.
#[derive(Debug, Clone)]
pub struct Silence {
    /// Identifier.
    pub id: String,
    /// What it covers.
    pub scope: Scope,
    /// The finding that it was set on.
    pub finding_id: Option<String>,
    /// Why.
    pub comment: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Who.
    pub created_by: String,
    /// Until when.
    pub until: Timestamp,
    /// When a person ended it before its time.
    pub ended_at: Option<Timestamp>,
    /// Who did.
    pub ended_by: Option<String>,
}

impl Silence {
    /// Whether it counts at `now`.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.until
    }
}

/// A silence to be.
#[derive(Debug, Clone)]
pub struct NewSilence {
    /// What it covers.
    pub scope: Scope,
    /// The finding that it is set on.
    pub finding_id: Option<String>,
    /// Why.
    pub comment: String,
    /// Until when.
    pub until: Timestamp,
}

/// Planned work, during which nobody is told.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// Identifier.
    pub id: String,
    /// What it is.
    pub plan: Plan,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
    /// When it was taken back.
    pub ended_at: Option<Timestamp>,
    /// By whom.
    pub ended_by: Option<String>,
}

/// What maintenance is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// For people.
    pub name: String,
    /// What it covers.
    pub scope: Scope,
    /// When.
    pub window: Window,
    /// Whether it counts.
    pub enabled: bool,
    /// Why.
    pub comment: String,
}

impl Maintenance {
    /// Its window, while it counts.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        (self.plan.enabled && self.ended_at.is_none()).then_some(&self.plan.window)
    }
}

/// Which ones to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that have not ended.
    Current,
    /// Past ones too.
    All,
}

#[derive(FromRow)]
struct RawSilence {
    id: String,
    scope: String,
    finding_id: Option<String>,
    comment: String,
    created_ms: i64,
    created_by: String,
    until_ms: i64,
    ended_ms: Option<i64>,
    ended_by: Option<String>,
}

const SILENCE: &str = "id, scope, finding_id, comment, created_ms, created_by, until_ms, ended_ms, ended_by";

impl TryFrom<RawSilence> for Silence {
    type Error = Error;

    fn try_from(raw: RawSilence) -> Result<Self> {
        Ok(Self {
            scope: scope(&raw.scope)?,
            id: raw.id,
            finding_id: raw.finding_id,
            comment: raw.comment,
            created_at: Timestamp::from_ms(raw.created_ms),
            created_by: raw.created_by,
            until: Timestamp::from_ms(raw.until_ms),
            ended_at: raw.ended_ms.map(Timestamp::from_ms),
            ended_by: raw.ended_by,
        })
    }
}

#[derive(FromRow)]
struct RawMaintenance {
    id: String,
    name: String,
    scope: String,
    comment: String,
    starts: String,
    zone: String,
    duration_ms: i64,
    repeats: Option<String>,
    enabled: i64,
    created_ms: i64,
    created_by: String,
    updated_ms: i64,
    updated_by: String,
    ended_ms: Option<i64>,
    ended_by: Option<String>,
}

const MAINTENANCE: &str = "id, name, scope, comment, starts, zone, duration_ms, repeats, enabled, created_ms, \
     created_by, updated_ms, updated_by, ended_ms, ended_by";

impl TryFrom<RawMaintenance> for Maintenance {
    type Error = Error;

    fn try_from(raw: RawMaintenance) -> Result<Self> {
        let duration = Duration::from_millis(u64::try_from(raw.duration_ms).unwrap_or(0));
        let window = Window::read(&raw.starts, &raw.zone, duration, raw.repeats.as_deref())
            .map_err(|error| Error::Corrupt { what: "maintenance window", value: format!("{}: {error}", raw.id) })?;
        Ok(Self {
            plan: Plan {
                scope: scope(&raw.scope)?,
                name: raw.name,
                window,
                enabled: raw.enabled != 0,
                comment: raw.comment,
            },
            id: raw.id,
            created_at: Timestamp::from_ms(raw.created_ms),
            created_by: raw.created_by,
            updated_at: Timestamp::from_ms(raw.updated_ms),
            updated_by: raw.updated_by,
            ended_at: raw.ended_ms.map(Timestamp::from_ms),
            ended_by: raw.ended_by,
        })
    }
}

fn scope(text: &str) -> Result<Scope> {
    serde_json::from_str(text).map_err(|_| Error::Corrupt { what: "scope", value: text.to_owned() })
}

fn written(scope: &Scope) -> String {
    serde_json::to_string(scope).unwrap_or_else(|error| unreachable!("a scope is texts: {error}"))
}

async fn silence(connection: &mut AnyConnection, id: &str) -> Result<Silence> {
    let raw: Option<RawSilence> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select {SILENCE} from silence where id = $1")))
            .bind(id)
            .fetch_optional(connection)
            .await
            .context("read a silence")?;
    raw.ok_or_else(|| Error::NotFound { what: "silence", id: id.to_owned() })?.try_into()
}

async fn maintenance(connection: &mut AnyConnection, id: &str) -> Result<Maintenance> {
    let raw: Option<RawMaintenance> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select {MAINTENANCE} from maintenance where id = $1")))
            .bind(id)
            .fetch_optional(connection)
            .await
            .context("read maintenance")?;
    raw.ok_or_else(|| Error::NotFound { what: "maintenance", id: id.to_owned() })?.try_into()
}

impl Store {
    /// One silence.
    ///
    /// # Errors
    /// There is none of this id, or the store failed.
    pub async fn silence(&self, id: &str) -> Result<Silence> {
        silence(&mut *self.state().read().await?, id).await
    }

    /// Silences, the newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn silences(&self, which: Which, now: Timestamp, from: &Cursor, limit: i64) -> Result<Page<Silence>> {
        let (filter, after) = match which {
            Which::Current => ("ended_ms is null and", now.as_ms()),
            Which::All => ("", 0),
        };
        let mut read = self.state().read().await?;
        let rows: Vec<RawSilence> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {SILENCE} from silence where {filter} until_ms > $4 and (created_ms < $1 or (created_ms = $1 and id < $2))
             order by created_ms desc, id desc limit $3"
        )))
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .bind(after)
        .fetch_all(&mut *read)
        .await
        .context("read the silences")?;
        let rows: Vec<Silence> = rows.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page::cut(rows, limit, |row| (row.created_at, row.id.clone())))
    }

    /// The silences that count at `now`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn silences_in_force(&self, now: Timestamp) -> Result<Vec<Silence>> {
        let mut read = self.state().read().await?;
        let rows: Vec<RawSilence> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {SILENCE} from silence where until_ms > $1 and ended_ms is null order by id"
        )))
        .bind(now.as_ms())
        .fetch_all(&mut *read)
        .await
        .context("read the silences")?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Sets a silence from now on.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_silence(&self, by: &Operator, new: &NewSilence, now: Timestamp) -> Result<Silence> {
        let id = Uuid::now_v7().to_string();
        let scope = written(&new.scope);
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into silence (id, scope, finding_id, comment, created_ms, created_by, until_ms)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&id)
        .bind(&scope)
        .bind(&new.finding_id)
        .bind(&new.comment)
        .bind(now.as_ms())
        .bind(by.name())
        .bind(new.until.as_ms())
        .execute(&mut *write)
        .await
        .context("store a silence")?;
        let detail = format!("until {}: {scope}: {}", new.until, new.comment);
        record(&mut write, by, "silence.added", ("silence", &id), &detail, now).await?;
        let made = silence(&mut write, &id).await?;
        write.commit().await?;
        Ok(made)
    }

    /// Ends a silence before its time.
    ///
    /// # Errors
    /// There is none of this id, it is over already, or the store failed.
    pub async fn end_silence(&self, by: &Operator, id: &str, now: Timestamp) -> Result<Silence> {
        let mut write = self.state().write().await?;
        let ended = sqlx::query(
            "update silence set ended_ms = $2, ended_by = $3 where id = $1 and ended_ms is null and until_ms > $2",
        )
        .bind(id)
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("end a silence")?;
        let row = silence(&mut write, id).await?;
        if ended.rows_affected() == 0 {
            return Err(Error::Refused(format!("the silence `{id}` is over already")));
        }
        let detail = format!("before {}", row.until);
        record(&mut write, by, "silence.ended", ("silence", id), &detail, now).await?;
        write.commit().await?;
        Ok(row)
    }

    /// One maintenance.
    ///
    /// # Errors
    /// There is none of this id, or the store failed.
    pub async fn maintenance(&self, id: &str) -> Result<Maintenance> {
        maintenance(&mut *self.state().read().await?, id).await
    }

    /// Maintenance, the newest first. Taken back is what is past: what came
    /// once stays current until a person takes it back.
    ///
    /// # Errors
    /// The store failed.
    pub async fn maintenances(&self, which: Which, from: &Cursor, limit: i64) -> Result<Page<Maintenance>> {
        let filter = match which {
            Which::Current => "ended_ms is null and",
            Which::All => "",
        };
        let mut read = self.state().read().await?;
        let rows: Vec<RawMaintenance> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {MAINTENANCE} from maintenance where {filter} (created_ms < $1 or (created_ms = $1 and id < $2))
             order by created_ms desc, id desc limit $3"
        )))
        .bind(from.ms)
        .bind(&from.id)
        .bind(limit + 1)
        .fetch_all(&mut *read)
        .await
        .context("read the maintenance")?;
        let rows: Vec<Maintenance> = rows.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
        Ok(Page::cut(rows, limit, |row| (row.created_at, row.id.clone())))
    }

    /// All maintenance that counts, whether in force or not. A row that cannot
    /// be read is left out and logged: it must not end what the others say.
    ///
    /// # Errors
    /// The store failed.
    pub async fn maintenance_enabled(&self) -> Result<Vec<Maintenance>> {
        let mut read = self.state().read().await?;
        let rows: Vec<RawMaintenance> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {MAINTENANCE} from maintenance where enabled = 1 and ended_ms is null order by id"
        )))
        .fetch_all(&mut *read)
        .await
        .context("read the maintenance")?;
        let read = |raw: RawMaintenance| match Maintenance::try_from(raw) {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::error!("maintenance that cannot be read keeps nothing quiet: {error}");
                None
            }
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Remembers the backups that run, for the next start.
    ///
    /// # Errors
    /// The store failed.
    pub async fn save_backups(&self, backups: &SavedBackups) -> Result<()> {
        let text = serde_json::to_string(backups)
            .map_err(|error| Error::Corrupt { what: "running backups", value: error.to_string() })?;
        self.set_setting(BACKUPS, &text).await
    }

    /// The backups that ran at the stop. What cannot be read is as good as
    /// unknown: the next look at the hypervisor says it again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn saved_backups(&self) -> Result<Option<SavedBackups>> {
        let text = self.setting(BACKUPS).await?;
        Ok(text.and_then(|text| {
            serde_json::from_str(&text)
                .inspect_err(|error| tracing::warn!("the backups that ran at the stop cannot be read: {error}"))
                .ok()
        }))
    }

    /// Plans maintenance.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_maintenance(&self, by: &Operator, plan: &Plan, now: Timestamp) -> Result<Maintenance> {
        let id = Uuid::now_v7().to_string();
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into maintenance (id, name, scope, comment, starts, zone, duration_ms, repeats, enabled,
             created_ms, created_by, updated_ms, updated_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10, $11)",
        )
        .bind(&id)
        .bind(&plan.name)
        .bind(written(&plan.scope))
        .bind(&plan.comment)
        .bind(plan.window.start())
        .bind(plan.window.zone())
        .bind(duration_ms(&plan.window))
        .bind(plan.window.rule().map(ToString::to_string))
        .bind(i64::from(plan.enabled))
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("store maintenance")?;
        record(&mut write, by, "maintenance.added", ("maintenance", &id), &in_record(plan), now).await?;
        let made = maintenance(&mut write, &id).await?;
        write.commit().await?;
        Ok(made)
    }

    /// Replaces what maintenance is to be.
    ///
    /// # Errors
    /// There is none of this id, it was taken back, or the store failed.
    pub async fn change_maintenance(
        &self,
        by: &Operator,
        id: &str,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Maintenance> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update maintenance set name = $2, scope = $3, comment = $4, starts = $5, zone = $6, duration_ms = $7,
             repeats = $8, enabled = $9, updated_ms = $10, updated_by = $11 where id = $1 and ended_ms is null",
        )
        .bind(id)
        .bind(&plan.name)
        .bind(written(&plan.scope))
        .bind(&plan.comment)
        .bind(plan.window.start())
        .bind(plan.window.zone())
        .bind(duration_ms(&plan.window))
        .bind(plan.window.rule().map(ToString::to_string))
        .bind(i64::from(plan.enabled))
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("change maintenance")?;
        let row = maintenance(&mut write, id).await?;
        is_there(changed.rows_affected(), id)?;
        record(&mut write, by, "maintenance.changed", ("maintenance", id), &in_record(plan), now).await?;
        write.commit().await?;
        Ok(row)
    }

    /// Turns maintenance on or off.
    ///
    /// # Errors
    /// There is none of this id, it was taken back, or the store failed.
    pub async fn enable_maintenance(
        &self,
        by: &Operator,
        id: &str,
        enabled: bool,
        now: Timestamp,
    ) -> Result<Maintenance> {
        let mut write = self.state().write().await?;
        let changed = sqlx::query(
            "update maintenance set enabled = $2, updated_ms = $3, updated_by = $4 where id = $1 and ended_ms is null",
        )
        .bind(id)
        .bind(i64::from(enabled))
        .bind(now.as_ms())
        .bind(by.name())
        .execute(&mut *write)
        .await
        .context("change maintenance")?;
        let row = maintenance(&mut write, id).await?;
        is_there(changed.rows_affected(), id)?;
        let verb = if enabled { "maintenance.enabled" } else { "maintenance.disabled" };
        record(&mut write, by, verb, ("maintenance", id), &row.plan.name, now).await?;
        write.commit().await?;
        Ok(row)
    }

    /// Takes maintenance back, an occurrence that is in force with it.
    ///
    /// # Errors
    /// There is none of this id, it was taken back already, or the store failed.
    pub async fn end_maintenance(&self, by: &Operator, id: &str, now: Timestamp) -> Result<Maintenance> {
        let mut write = self.state().write().await?;
        let ended =
            sqlx::query("update maintenance set ended_ms = $2, ended_by = $3 where id = $1 and ended_ms is null")
                .bind(id)
                .bind(now.as_ms())
                .bind(by.name())
                .execute(&mut *write)
                .await
                .context("end maintenance")?;
        let row = maintenance(&mut write, id).await?;
        is_there(ended.rows_affected(), id)?;
        record(&mut write, by, "maintenance.ended", ("maintenance", id), &row.plan.name, now).await?;
        write.commit().await?;
        Ok(row)
    }

    /// Where hosts are. What stands for a site is in it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn places(&self) -> Result<Vec<Place>> {
        let mut read = self.state().read().await?;
        let rows: Vec<(i64, String, String, Option<String>)> =
            sqlx::query_as("select host_key, id, name, site from host order by host_key")
                .fetch_all(&mut *read)
                .await
                .context("read the hosts")?;
        let place = |(key, id, name, site): (i64, String, String, Option<String>)| {
            let itself = name.strip_prefix(SITE_PREFIX).map(str::to_owned);
            Place { key: HostKey(key), id, site: itself.or(site), name }
        };
        Ok(rows.into_iter().map(place).collect())
    }
}

fn is_there(changed: u64, id: &str) -> Result<()> {
    match changed {
        0 => Err(Error::Refused(format!("the maintenance `{id}` was taken back; plan another one"))),
        _ => Ok(()),
    }
}

fn duration_ms(window: &Window) -> i64 {
    i64::try_from(window.duration().as_millis()).unwrap_or(i64::MAX)
}

fn in_record(plan: &Plan) -> String {
    let Plan { name, scope, window, enabled, comment } = plan;
    let off = if *enabled { "" } else { " (off)" };
    let again = window.rule().map(|rule| format!(" {rule}")).unwrap_or_default();
    let (start, zone, minutes) = (window.start(), window.zone(), window.duration().as_secs() / 60);
    format!("{name}{off}: {start} {zone} for {minutes} min{again}: {}: {comment}", written(scope))
}

async fn record(
    connection: &mut AnyConnection,
    by: &Operator,
    verb: &str,
    object: (&str, &str),
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    audit::insert(connection, audit::NewEntry { at: now, actor: by.name(), verb, object, detail }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("data")).await.expect("a store");
        (folder, store)
    }

    async fn verbs(store: &Store) -> Vec<String> {
        let page = store.audit(&Cursor::start(), 20).await.expect("readable");
        let mut verbs: Vec<String> = page.items.into_iter().map(|entry| entry.verb).collect();
        verbs.reverse();
        verbs
    }

    #[tokio::test]
    async fn a_silence_counts_until_its_time_or_its_early_end_and_stays_in_the_list() {
        let (_folder, store) = store().await;
        let (by, now) = (Operator::local_administrator(), Timestamp::now());
        let new = |comment: &str, minutes: i64| NewSilence {
            scope: Scope { hosts: vec!["id1".to_owned()], ..Scope::default() },
            finding_id: None,
            comment: comment.to_owned(),
            until: now.plus_ms(minutes * 60_000),
        };
        let first = store.add_silence(&by, &new("disk", 10), now).await.expect("set");
        let second = store.add_silence(&by, &new("power", 60), now.plus_ms(1)).await.expect("set");
        assert!(first.in_force(now) && !first.in_force(first.until));
        let ids = async |which, at: Timestamp| -> Vec<String> {
            let page = store.silences(which, at, &Cursor::start(), 10).await.expect("readable");
            page.items.into_iter().map(|row| row.id).collect()
        };
        assert_eq!(ids(Which::Current, now).await, [second.id.as_str(), first.id.as_str()]);
        let later = now.plus_ms(11 * 60_000);
        assert_eq!(ids(Which::Current, later).await, [second.id.as_str()]);
        assert_eq!(store.silences_in_force(later).await.expect("readable").len(), 1);

        let ended = store.end_silence(&by, &second.id, later).await.expect("ended");
        assert_eq!((ended.ended_at, ended.ended_by.as_deref()), (Some(later), Some("cli")));
        for (id, says) in [(&first.id, "over already"), (&second.id, "over already"), (&"x".to_owned(), "no silence")] {
            let error = store.end_silence(&by, id, later).await.expect_err("refused");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(ids(Which::Current, later).await, [""; 0]);
        assert_eq!(ids(Which::All, later).await, [second.id, first.id]);
        assert_eq!(verbs(&store).await, ["silence.added", "silence.added", "silence.ended"]);
    }

    #[tokio::test]
    async fn maintenance_is_stored_as_it_was_planned_and_each_change_is_recorded() {
        let (_folder, store) = store().await;
        let (by, now) = (Operator::local_administrator(), Timestamp::now());
        let rule = Some("freq=weekly;byday=su");
        let window = Window::parse("2026-11-22T02:00", "America/Sao_Paulo", Duration::from_secs(7200), rule);
        let plan = Plan {
            name: "patches".to_owned(),
            scope: Scope { sites: vec!["lab".to_owned()], ..Scope::default() },
            window: window.expect("a window"),
            enabled: true,
            comment: String::new(),
        };
        let made = store.add_maintenance(&by, &plan, now).await.expect("planned");
        assert_eq!(store.maintenance(&made.id).await.expect("there").plan, plan);
        let off = store.enable_maintenance(&by, &made.id, false, now).await.expect("off");
        assert!(off.window().is_none() && store.maintenance_enabled().await.expect("readable").is_empty());
        let other = Plan { name: "more patches".to_owned(), ..plan };
        let changed = store.change_maintenance(&by, &made.id, &other, now).await.expect("changed");
        assert!(changed.plan == other && changed.window().is_some());
        assert_eq!(store.maintenance_enabled().await.expect("readable").len(), 1);

        store.end_maintenance(&by, &made.id, now).await.expect("ended");
        assert!(store.maintenance_enabled().await.expect("readable").is_empty());
        let errors = [
            store.end_maintenance(&by, &made.id, now).await.expect_err("refused"),
            store.enable_maintenance(&by, &made.id, true, now).await.expect_err("refused"),
            store.change_maintenance(&by, &made.id, &other, now).await.expect_err("refused"),
        ];
        assert!(errors.iter().all(|error| error.to_string().contains("was taken back")), "{errors:?}");
        assert!(
            store.end_maintenance(&by, "x", now).await.expect_err("unknown").to_string().contains("no maintenance")
        );
        let listed = async |which| store.maintenances(which, &Cursor::start(), 10).await.expect("readable").items.len();
        assert_eq!((listed(Which::Current).await, listed(Which::All).await), (0, 1));
        let expected = ["added", "disabled", "changed", "ended"].map(|verb| format!("maintenance.{verb}"));
        assert_eq!(verbs(&store).await, expected);
    }
}
