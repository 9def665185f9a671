//! How findings are made of reports, beyond each scenario's own numbers.

use std::time::Duration;

use serde::Deserialize;

use super::duration;
use crate::yaml::{Location, Mistake, Spanned};

/// How findings are made of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation {
    /// How long a problem that another may explain waits to be told, while
    /// nothing shows that what it depends on is alive; absent: as long as it
    /// takes to notice a silent agent.
    pub hold: Option<Duration>,
    /// How long after the last of alike problems another one joins them.
    pub group: Duration,
    /// After how long unacknowledged a problem rises by one level; absent: never.
    pub rise: Option<Duration>,
    /// Whether a check that keeps changing is told once and not each time.
    pub flapping: bool,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(super) struct CorrelationDoc {
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    hold: Option<Spanned<String>>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    group: Spanned<String>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    rise: Spanned<String>,
    flapping: bool,
}

impl Default for CorrelationDoc {
    fn default() -> Self {
        let text = |text: &str| Spanned::new(text.to_owned(), Location::UNKNOWN, Location::UNKNOWN);
        Self { hold: None, group: text("10m"), rise: text("4h"), flapping: true }
    }
}

impl CorrelationDoc {
    pub(super) fn resolve(&self) -> Result<Correlation, Mistake> {
        Ok(Correlation {
            hold: self.hold.as_ref().map(duration).transpose()?,
            group: duration(&self.group)?,
            rise: rise(&self.rise)?,
            flapping: self.flapping,
        })
    }
}

/// A duration, or `never`.
pub(super) fn rise(text: &Spanned<String>) -> Result<Option<Duration>, Mistake> {
    if text.value == "never" { Ok(None) } else { duration(text).map(Some) }
}
