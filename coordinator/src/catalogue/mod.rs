//! The catalogue of remediation: what may be done to a host, as data.
//!
//! An entry is typed parameters and the steps that they fill in. What comes
//! with Farol is `catalogue.yaml` of its sources; a site's own file beside its
//! registry adds entries and replaces those of the same id. Whoever proposes,
//! person or persona, gives an id and parameters, never a command.

mod param;
mod template;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use farol_protocol::{
    Effect, Language, RiskClass,
    action::ActionKind,
    effect::MAX_TIMEOUT_MS,
    yaml::{self, Mistake, Spanned},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use self::param::{Param, Type};
use crate::error::{Error, Result};

const BUILT_IN: &str = include_str!("../../../catalogue.yaml");

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// Brazilian Portuguese.
    #[serde(rename = "pt-BR")]
    pub pt_br: String,
    /// English.
    pub en: String,
}

impl Words {
    /// In one language.
    #[must_use]
    pub fn of(&self, language: Language) -> &str {
        match language {
            Language::PtBr => &self.pt_br,
            Language::En => &self.en,
        }
    }
}

/// How far an entry reaches beyond what it names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affects {
    /// What its parameters name.
    #[default]
    Target,
    /// The whole host, and what stands on it.
    Host,
}

/// Something that may be done.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Identity, such as `service.restart`.
    pub id: String,
    /// What it is called.
    pub title: Words,
    /// The least class, whatever its steps are.
    pub class: RiskClass,
    /// How far it reaches.
    pub affects: Affects,
    /// What has to be given, by name.
    pub params: BTreeMap<String, Param>,
    /// Time limit from the first step to the last verification.
    pub timeout: Duration,
    steps: Value,
}

impl Entry {
    /// The steps with these parameters, as the params of `remediation.run`, and
    /// their effect. Nothing of what is given can become another step, another
    /// command or another argument: it fills in texts.
    ///
    /// # Errors
    /// A parameter is missing, unknown or not what its type takes.
    pub fn fill(&self, given: &Map<String, Value>) -> Result<(Value, Effect)> {
        if let Some(name) = given.keys().find(|name| !self.params.contains_key(*name)) {
            let near = yaml::nearest(name, self.params.keys().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Error::Params(format!("`{}` has no parameter `{name}`{hint}", self.id)));
        }
        let mut values = BTreeMap::new();
        for (name, param) in &self.params {
            let value = match given.get(name).or(param.default.as_ref()) {
                Some(value) => param.read(value).map_err(|why| Error::Params(format!("`{name}`: {why}")))?,
                None => return Err(Error::Params(format!("`{}` needs the parameter `{name}`", self.id))),
            };
            values.insert(name.as_str(), value);
        }
        let steps = template::fill(&self.steps, &values);
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(MAX_TIMEOUT_MS);
        let params = json!({"entry": self.id, "steps": steps, "timeout": timeout});
        let effect = Effect::parse(ActionKind::RemediationRun, &params)?;
        Ok((params, effect))
    }
}

/// Every entry, by id.
#[derive(Debug, Clone, Default)]
pub struct Catalogue(BTreeMap<String, Entry>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Spanned<u32>,
    entries: Vec<EntryDoc>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryDoc {
    id: Spanned<String>,
    title: Words,
    #[serde(default)]
    class: Option<RiskClass>,
    #[serde(default)]
    affects: Affects,
    #[serde(default)]
    params: BTreeMap<String, Spanned<Param>>,
    timeout: Spanned<String>,
    steps: Spanned<Value>,
}

impl Catalogue {
    /// What comes with Farol, and over it a site's own document.
    ///
    /// # Errors
    /// The first mistake in the site's document.
    pub fn with(own: Option<&str>) -> Result<Self, Mistake> {
        let mut entries = parse(BUILT_IN)?;
        if let Some(own) = own {
            entries.extend(parse(own)?);
        }
        Ok(Self(entries))
    }

    /// One entry.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn entry(&self, id: &str) -> Result<&Entry> {
        self.0.get(id).ok_or_else(|| Error::NotFound { what: "entry of the catalogue", id: id.to_owned() })
    }

    /// Every entry, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, Entry>, Mistake> {
    let document: Document = yaml::read(text)?;
    if document.version.value != 1 {
        let message = format!("version {} is not supported, only 1 is", document.version.value);
        return Err(Mistake::at(document.version.referenced, message));
    }
    let mut entries = BTreeMap::new();
    for doc in document.entries {
        let place = doc.id.referenced;
        let entry = entry(doc)?;
        let id = entry.id.clone();
        if entries.insert(id.clone(), entry).is_some() {
            return Err(Mistake::at(place, format!("`{id}` is listed twice")));
        }
    }
    Ok(entries)
}

fn entry(doc: EntryDoc) -> Result<Entry, Mistake> {
    let id = &doc.id.value;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    if id.is_empty() || id.len() > 100 || !id.chars().all(plain) {
        let message = format!("`{id}` is no id: at most 100 lowercase letters, digits, `.`, `-` and `_`");
        return Err(Mistake::at(doc.id.referenced, message));
    }
    let timeout = humantime::parse_duration(&doc.timeout.value)
        .ok()
        .filter(|timeout| (1..=u128::from(MAX_TIMEOUT_MS)).contains(&timeout.as_millis()))
        .ok_or_else(|| Mistake::at(doc.timeout.referenced, "the timeout is no duration of at most 1h, such as 5m"))?;
    let mut params = BTreeMap::new();
    let mut sample = Map::new();
    for (name, param) in doc.params {
        let place = param.referenced;
        if !template::is_name(&name) {
            return Err(Mistake::at(place, format!("`{name}` is no name of a parameter: lowercase letters and `_`")));
        }
        param.value.check().map_err(|why| Mistake::at(place, format!("`{name}`: {why}")))?;
        sample.insert(name.clone(), param.value.sample());
        params.insert(name, param.value);
    }
    let place = doc.steps.referenced;
    if let Some(name) = template::names(&doc.steps.value).find(|name| !params.contains_key(*name)) {
        return Err(Mistake::at(place, format!("`{{{name}}}` is none of the parameters of `{id}`")));
    }
    let entry = Entry {
        id: doc.id.value,
        title: doc.title,
        class: doc.class.unwrap_or(RiskClass::R0),
        affects: doc.affects,
        params,
        timeout,
        steps: doc.steps.value,
    };
    // What cannot be carried out with any parameters is a mistake of the file, not of who proposes it at night.
    match entry.fill(&sample) {
        Ok(_) => Ok(entry),
        Err(error) => Err(Mistake::at(place, format!("the steps of `{}` cannot be planned: {error}", entry.id))),
    }
}

/// The catalogue in use.
#[derive(Debug, Default)]
pub struct Live(RwLock<Arc<Catalogue>>);

impl Live {
    /// Begins with this one.
    #[must_use]
    pub fn new(catalogue: Catalogue) -> Self {
        Self(RwLock::new(Arc::new(catalogue)))
    }

    /// The present one.
    #[must_use]
    pub fn get(&self) -> Arc<Catalogue> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in its place.
    pub fn replace(&self, catalogue: Catalogue) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
    }
}

/// Reads a site's own file, which may be absent.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Unreadable { path: path.to_owned(), source }),
    }
}

/// The catalogue with a site's own file over it.
///
/// # Errors
/// The first mistake, with its place.
pub fn load(path: &Path, text: Option<&str>) -> Result<Catalogue> {
    Catalogue::with(text).map_err(|mistake| Error::Document { path: path.to_owned(), mistake })
}

#[cfg(test)]
mod tests;
