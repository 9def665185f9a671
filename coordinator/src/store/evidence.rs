//! Evidence: what a step left, with the hash of its content. Each artifact is
//! written with an entry of the record that says what it is, so that the chain
//! covers its content.

use farol_protocol::{ActionId, Timestamp, action::Outcome};
use serde_json::Value;
use sqlx::{Any, AnyConnection, FromRow, QueryBuilder, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{Store, audit};
use crate::{
    error::{Error, Result, StoreContext as _},
    record::Hash,
};

/// Step under which the outcome of an action lies.
pub const OUTCOME: &str = "outcome";
/// Name of the outcome without its texts, which are artifacts of their own.
pub const OUTCOME_FILE: &str = "outcome.json";
/// Name of a step of a remediation without its texts.
const STEP_FILE: &str = "step.json";
/// Steps whose texts are artifacts of their own; those of others stay in the outcome.
const MOST_STEPS: usize = 100;
/// Rows of one statement.
const ROWS: usize = 20;

/// What an artifact is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// An action.
    Action(ActionId),
    /// A finding.
    Finding(String),
}

impl About {
    fn object(&self) -> (&'static str, String) {
        match self {
            Self::Action(id) => ("action", id.to_string()),
            Self::Finding(id) => ("finding", id.clone()),
        }
    }
}

/// How an artifact is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// UTF-8.
    Text,
    /// UTF-8 that is JSON.
    Json,
    /// Anything.
    Bytes,
}

impl MediaType {
    /// The word in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
        }
    }
}

/// An artifact to store.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// What it is about.
    pub about: About,
    /// Which step left it: a word such as `outcome`, `snapshot`, `verify`.
    pub step: String,
    /// A file's name: 1 to 100 letters, digits and `._-`.
    pub name: String,
    /// How it is read.
    pub media_type: MediaType,
    /// All of it.
    pub content: Vec<u8>,
    /// Host, operator or `farol`.
    pub by: String,
    /// When it was taken.
    pub at: Timestamp,
}

/// A stored artifact without its content.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ArtifactRow {
    /// Identifier.
    pub id: String,
    /// The action it is about.
    pub action_id: Option<String>,
    /// The finding it is about.
    pub finding_id: Option<String>,
    /// Which step left it.
    pub step: String,
    /// A file's name.
    pub name: String,
    /// How it is read.
    pub media_type: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// How much it is.
    pub bytes: i64,
    /// When it was taken, in ms.
    pub at_ms: i64,
}

pub(super) const COLUMNS: &str = "id, action_id, finding_id, step, name, media_type, sha256, bytes, at_ms";

impl ArtifactRow {
    /// When it was taken.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        Timestamp::from_ms(self.at_ms)
    }

    /// What the entry `evidence.stored` says of it. Begins with its id.
    #[must_use]
    pub fn in_record(&self) -> String {
        let Self { id, step, name, media_type, sha256, bytes, .. } = self;
        format!("{id} {step}/{name}, {media_type}, {bytes} bytes, sha256:{sha256}")
    }
}

/// Stores an artifact in the transaction of what left it.
///
/// # Errors
/// Step or name are no words, or the store failed.
pub async fn insert(connection: &mut AnyConnection, new: &NewArtifact) -> Result<ArtifactRow> {
    let mut rows = insert_all(connection, std::slice::from_ref(new)).await?;
    rows.pop().ok_or_else(|| Error::Refused("the artifact was not stored".to_owned()))
}

/// Stores artifacts, as [`insert`] does, in their order.
///
/// # Errors
/// See [`insert`].
pub async fn insert_all(connection: &mut AnyConnection, all: &[NewArtifact]) -> Result<Vec<ArtifactRow>> {
    let mut rows = Vec::with_capacity(all.len());
    for chunk in all.chunks(ROWS) {
        let chunk: Vec<(&NewArtifact, ArtifactRow)> =
            chunk.iter().map(|new| Ok((new, row(new)?))).collect::<Result<_>>()?;
        let mut insert = QueryBuilder::<Any>::new(format!("insert into evidence ({COLUMNS}, content) "));
        insert.push_values(&chunk, |mut values, (new, row)| {
            values
                .push_bind(row.id.clone())
                .push_bind(row.action_id.clone())
                .push_bind(row.finding_id.clone())
                .push_bind(row.step.clone())
                .push_bind(row.name.clone())
                .push_bind(row.media_type.clone())
                .push_bind(row.sha256.clone())
                .push_bind(row.bytes)
                .push_bind(row.at_ms)
                .push_bind(new.content.clone());
        });
        insert.build().execute(&mut *connection).await.context("store the evidence")?;
        let said: Vec<(&NewArtifact, (&str, String), String)> =
            chunk.iter().map(|(new, row)| (*new, new.about.object(), row.in_record())).collect();
        let entries: Vec<audit::NewEntry<'_>> = said
            .iter()
            .map(|(new, (kind, id), detail)| audit::NewEntry {
                at: new.at,
                actor: &new.by,
                verb: "evidence.stored",
                object: (kind, id),
                detail,
            })
            .collect();
        audit::insert_chunk(connection, &entries).await?;
        rows.extend(chunk.into_iter().map(|(_, row)| row));
    }
    Ok(rows)
}

fn row(new: &NewArtifact) -> Result<ArtifactRow> {
    for (what, text) in [("step", &new.step), ("name", &new.name)] {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=100).contains(&text.len()) || !text.chars().all(is_word) || text.starts_with('.') {
            return Err(Error::Refused(format!(
                "the {what} of an artifact has 1 to 100 letters, digits and `._-`, and does not begin with a point: `{}`",
                crate::text::plain(text, 100)
            )));
        }
    }
    let (action_id, finding_id) = match &new.about {
        About::Action(id) => (Some(id.to_string()), None),
        About::Finding(id) => (None, Some(id.clone())),
    };
    Ok(ArtifactRow {
        id: Uuid::now_v7().to_string(),
        action_id,
        finding_id,
        step: new.step.clone(),
        name: new.name.clone(),
        media_type: new.media_type.as_str().to_owned(),
        sha256: Hash::of(&new.content).to_string(),
        bytes: i64::try_from(new.content.len()).unwrap_or(i64::MAX),
        at_ms: new.at.as_ms(),
    })
}

/// The artifacts of an outcome: what it holds beside its texts, then each text
/// that is not empty.
///
/// # Errors
/// It cannot be written as JSON.
pub fn of_outcome(id: ActionId, by: &str, outcome: &Outcome, at: Timestamp) -> Result<Vec<NewArtifact>> {
    let value =
        serde_json::to_value(outcome).map_err(|error| Error::Corrupt { what: "outcome", value: error.to_string() })?;
    let artifact = |Part { step, name, content }: Part| NewArtifact {
        about: About::Action(id),
        step,
        name: name.to_owned(),
        media_type: if name.ends_with(".json") { MediaType::Json } else { MediaType::Text },
        content: content.into_bytes(),
        by: by.to_owned(),
        at,
    };
    Ok(parts(value).into_iter().map(artifact).collect())
}

/// A part of an outcome.
pub(crate) struct Part {
    /// [`OUTCOME`], or of a step of a remediation that, a point and its id.
    pub(crate) step: String,
    /// A file's name.
    pub(crate) name: &'static str,
    /// All of it.
    pub(crate) content: String,
}

/// The parts of an outcome as the store keeps it. Not by its type: what an
/// older version wrote has to give the same parts for ever.
pub(crate) fn parts(mut outcome: Value) -> Vec<Part> {
    let mut texts = texts(&mut outcome, OUTCOME);
    let steps = outcome.get_mut("steps").and_then(Value::as_array_mut);
    for step in steps.into_iter().flatten().take(MOST_STEPS) {
        // A host wrote the id.
        let id: String = step["id"].as_str().unwrap_or_default().chars().take(80).collect();
        let id = id.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "_");
        let place = format!("{OUTCOME}.{id}");
        let of_step = self::texts(step, &place);
        texts.push(Part { step: place, name: STEP_FILE, content: step.to_string() });
        texts.extend(of_step);
    }
    let rest = Part { step: OUTCOME.to_owned(), name: OUTCOME_FILE, content: outcome.to_string() };
    std::iter::once(rest).chain(texts).collect()
}

/// Takes the texts out that are not empty.
fn texts(of: &mut Value, step: &str) -> Vec<Part> {
    let mut text = |pointer: &str, field: &str| match of.pointer_mut(pointer).and_then(Value::as_object_mut) {
        Some(fields) => match fields.remove(field) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        },
        None => String::new(),
    };
    let texts = [
        ("stdout.txt", text("", "stdout")),
        ("stderr.txt", text("", "stderr")),
        ("diff.patch", text("/file", "patch")),
    ];
    let part = |(name, content)| Part { step: step.to_owned(), name, content };
    texts.into_iter().map(part).filter(|part| !part.content.is_empty()).collect()
}

/// Whoever changed it may have made a text of it.
pub(super) fn content(row: &AnyRow) -> Result<Vec<u8>, sqlx::Error> {
    row.try_get::<Vec<u8>, _>("content").or_else(|_| row.try_get::<String, _>("content").map(String::into_bytes))
}

impl Store {
    /// The artifacts of an action, the oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn evidence_of(&self, action: ActionId) -> Result<Vec<ArtifactRow>> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from evidence where action_id = $1 order by id")))
            .bind(action.to_string())
            .fetch_all(&mut *read)
            .await
            .context("read the evidence")
    }

    /// One artifact.
    ///
    /// # Errors
    /// No such artifact, or the store failed.
    pub async fn artifact(&self, id: &str) -> Result<ArtifactRow> {
        let mut read = self.state().read().await?;
        sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from evidence where id = $1")))
            .bind(id)
            .fetch_optional(&mut *read)
            .await
            .context("read the evidence")?
            .ok_or_else(|| Error::NotFound { what: "artifact", id: id.to_owned() })
    }

    /// One artifact with its content. Content that is not what was stored is
    /// not handed out.
    ///
    /// # Errors
    /// No such artifact, it was changed, or the store failed.
    pub async fn artifact_content(&self, id: &str) -> Result<(ArtifactRow, Vec<u8>)> {
        let row = self.artifact(id).await?;
        let mut read = self.state().read().await?;
        let content: Vec<u8> = sqlx::query("select content from evidence where id = $1")
            .bind(id)
            .fetch_one(&mut *read)
            .await
            .and_then(|row| self::content(&row))
            .context("read the evidence")?;
        if Hash::of(&content).to_string() != row.sha256 {
            return Err(Error::Refused(format!(
                "the content of artifact {id} is not what was stored; `farol audit verify` says what else was changed"
            )));
        }
        Ok((row, content))
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::action::FileOutcome;

    use super::*;
    use crate::store::Cursor;

    fn artifact(name: &str, content: &[u8]) -> NewArtifact {
        NewArtifact {
            about: About::Finding("f1".to_owned()),
            step: "verify".to_owned(),
            name: name.to_owned(),
            media_type: MediaType::Bytes,
            content: content.to_vec(),
            by: "ana".to_owned(),
            at: Timestamp::now(),
        }
    }

    #[tokio::test]
    async fn an_artifact_is_stored_with_an_entry_that_holds_its_hash_and_is_handed_out_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let mut write = store.state().write().await.expect("a change");
        let row = insert(&mut write, &artifact("x.bin", &[0, 255, 10])).await.expect("stored");
        write.commit().await.expect("committed");
        let (again, content) = store.artifact_content(&row.id).await.expect("readable");
        assert_eq!((again, content), (row.clone(), vec![0, 255, 10]));
        let entry = store.audit(&Cursor::start(), 1).await.expect("readable").items.remove(0);
        assert_eq!(
            (entry.actor.as_str(), entry.verb.as_str(), entry.object_id.as_str()),
            ("ana", "evidence.stored", "f1")
        );
        assert!(entry.detail.starts_with(&row.id) && entry.detail.ends_with(&format!("sha256:{}", row.sha256)));
        assert!(matches!(store.artifact("x").await, Err(Error::NotFound { .. })));

        let mut write = store.state().write().await.expect("a change");
        sqlx::query("update evidence set content = 'y'").execute(&mut *write).await.expect("changed");
        write.commit().await.expect("committed");
        assert!(
            store.artifact_content(&row.id).await.expect_err("changed").to_string().contains("not what was stored")
        );
    }

    #[tokio::test]
    async fn a_name_that_could_lead_anywhere_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let mut write = store.state().write().await.expect("a change");
        for name in ["", "../etc", "a/b", ".profile", "a b", "ä", &"x".repeat(101)] {
            assert!(insert(&mut write, &artifact(name, b"")).await.is_err(), "{name}");
        }
    }

    #[test]
    fn each_step_of_a_remediation_has_its_own_artifacts_whatever_a_host_calls_it() {
        let step = |id: &str, stdout: &str| serde_json::json!({"id": id, "phase": "modify", "stdout": stdout});
        let outcome = serde_json::json!({"stdout": "", "steps": [step("restart", "done"), step("../../x y", "")]});
        let found: Vec<(String, &str)> = parts(outcome).into_iter().map(|part| (part.step, part.name)).collect();
        let wanted = [
            ("outcome", "outcome.json"),
            ("outcome.restart", "step.json"),
            ("outcome.restart", "stdout.txt"),
            ("outcome..._.._x_y", "step.json"),
        ];
        assert_eq!(found, wanted.map(|(step, name)| (step.to_owned(), name)));
    }

    #[test]
    fn an_outcome_becomes_its_texts_and_the_rest() {
        let file = FileOutcome { path: "/x".to_owned(), patch: Some("+a".to_owned()), ..FileOutcome::default() };
        let mut outcome: Outcome = serde_json::from_value(serde_json::json!({
            "exit_code": 0, "stdout": "out", "stderr": "", "truncated": false, "duration_ms": 7,
        }))
        .expect("an outcome");
        outcome.file = Some(file);
        let all = of_outcome(ActionId::new(), "vm112", &outcome, Timestamp::from_ms(1)).expect("JSON");
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["outcome.json", "stdout.txt", "diff.patch"]);
        let rest: Value = serde_json::from_slice(&all[0].content).expect("JSON");
        let wanted = serde_json::json!({"exit_code": 0, "truncated": false, "duration_ms": 7,
            "file": {"path": "/x", "applied": false}});
        assert_eq!(rest, wanted);
    }
}
