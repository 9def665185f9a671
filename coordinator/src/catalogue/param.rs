//! Typed parameters. Each type says which texts it takes, so that none of them
//! can be mistaken for an option, leave its place, or hide from who reads it.

use farol_protocol::effect::MAX_FILE_TEXT;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Words;

/// A parameter of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What it is called.
    pub title: Words,
    /// What counts where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub default: Option<Value>,
    /// The least number, of `number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The greatest number, of `number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// The values there are, of `choice`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// A service's name, without `.service`.
    Service,
    /// A container's name.
    Container,
    /// A name of anything else: letters, digits and `._:@+-`, not beginning with `-`.
    Name,
    /// A package of Debian: neither a pattern nor an order to remove one.
    Package,
    /// A plain absolute path.
    Path,
    /// A whole number between `min` and `max`.
    Number,
    /// One of `of`.
    Choice,
    /// Text of any kind, such as the content of a file.
    Text,
}

impl Param {
    /// The value, if it is one.
    pub(super) fn read(&self, value: &Value) -> Result<Value, String> {
        if self.kind == Type::Number {
            // From a form or a command line it comes as text.
            let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            let Some(number) = number else { return Err("a whole number is needed".to_owned()) };
            let (min, max) = (self.min.unwrap_or(i64::MIN), self.max.unwrap_or(i64::MAX));
            if !(min..=max).contains(&number) {
                return Err(format!("{number} lies outside {min} to {max}"));
            }
            return Ok(json!(number));
        }
        let Some(text) = value.as_str() else { return Err("a text is needed".to_owned()) };
        let named = |most: usize, extra: &str| {
            let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let good = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
            if begins && text.len() <= most && text.chars().all(good) {
                Ok(())
            } else {
                Err(format!("at most {most} letters, digits and `{extra}`, beginning with a letter or digit"))
            }
        };
        match self.kind {
            Type::Service => named(200, "._:@-\\")?,
            Type::Container => named(128, "_.-")?,
            Type::Name => named(200, "._:@+-")?,
            Type::Package => {
                named(200, "+-.")?;
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
                if !text.chars().all(plain) || text.ends_with(['-', '.']) {
                    return Err("a package's name is needed: lowercase, not ending in `-` or `.`".to_owned());
                }
            }
            Type::Path => {
                let parts = text.strip_prefix('/').filter(|rest| !rest.is_empty());
                let plain = |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
                let is_root = text == "/";
                if !is_root && !parts.is_some_and(plain) || text.len() > 1000 || text.chars().any(char::is_control) {
                    return Err("a plain absolute path is needed: no `.`, `..` or empty part".to_owned());
                }
            }
            Type::Choice if !self.of.iter().any(|known| known == text) => {
                return Err(format!("one of {} is needed", self.of.join(", ")));
            }
            Type::Text if text.len() > MAX_FILE_TEXT || text.contains('\0') => {
                return Err(format!("a text of at most {MAX_FILE_TEXT} bytes without NUL is needed"));
            }
            Type::Choice | Type::Text | Type::Number => {}
        }
        Ok(value.clone())
    }

    /// Whether its own description holds together.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kind != Type::Number && (self.min.is_some() || self.max.is_some()) {
            return Err("only a number has `min` and `max`".to_owned());
        }
        if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            return Err("`min` lies above `max`".to_owned());
        }
        if (self.kind == Type::Choice) == self.of.is_empty() {
            return Err("a choice, and nothing else, has `of`".to_owned());
        }
        match &self.default {
            Some(default) => self.read(default).map(drop).map_err(|why| format!("the default is not one: {why}")),
            None => Ok(()),
        }
    }

    /// A value that it takes.
    pub(super) fn sample(&self) -> Value {
        if let Some(default) = &self.default {
            return default.clone();
        }
        match self.kind {
            Type::Service | Type::Container | Type::Name | Type::Package => json!("sample"),
            Type::Path => json!("/etc/sample"),
            Type::Number => json!(self.min.or(self.max).unwrap_or(1)),
            Type::Choice => json!(self.of.first()),
            Type::Text => json!(""),
        }
    }
}
