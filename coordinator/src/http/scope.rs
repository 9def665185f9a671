//! What silences and maintenance are about, by the names that people know.

use farol_protocol::{CheckId, registry::Registry, yaml};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::ApiError;
use crate::{
    app::Shared,
    correlate::{ALERT_PREFIX, CLOCK, IDENTITY, SIGNAL_PREFIX, SILENCE, TELEMETRY},
    quiet::{Place, Scope},
    text::plain,
};

/// Names in one list.
const MOST_NAMES: usize = 200;

/// What is meant. All that is given must fit; hosts and sites are one list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScopeView {
    /// Names of hosts; ids are taken too.
    pub(super) hosts: Vec<String>,
    /// Sites, all of whose hosts are meant.
    pub(super) sites: Vec<String>,
    /// A scenario, or the beginning of several with `*` behind it.
    #[schema(example = "proxmox.*")]
    pub(super) scenario: Option<String>,
    /// One check.
    #[schema(value_type = Option<String>)]
    pub(super) check: Option<CheckId>,
    /// Whether everything is meant, so that none of the others is given.
    pub(super) all: bool,
}

/// Finds what names mean, and refuses those that mean nothing: a silence with a
/// slip in it would be silent about nothing.
pub(super) fn meant(app: &Shared, places: &[Place], given: ScopeView) -> Result<Scope, ApiError> {
    let watched = app.watched();
    let registry = &watched.registry;
    for (field, list) in [("hosts", &given.hosts), ("sites", &given.sites)] {
        if list.len() > MOST_NAMES {
            return Err(ApiError::invalid_body(format!(
                "`{field}` lists {} names; at most {MOST_NAMES} fit",
                list.len()
            )));
        }
    }
    let mut scope = Scope { scenario: given.scenario, check: given.check, ..Scope::default() };
    for name in &given.hosts {
        let place = places.iter().find(|place| place.name == *name || place.id == *name);
        let place =
            place.ok_or_else(|| unknown("hosts", "host", name, places.iter().map(|place| place.name.as_str())))?;
        if !scope.hosts.contains(&place.id) {
            scope.hosts.push(place.id.clone());
        }
    }
    let sites = || {
        let written = registry.sites.iter().map(|site| site.id.as_str());
        written.chain(places.iter().filter_map(|place| place.site.as_deref()))
    };
    for name in given.sites {
        if !sites().any(|site| site == name) {
            return Err(unknown("sites", "site", &name, sites()));
        }
        if !scope.sites.contains(&name) {
            scope.sites.push(name);
        }
    }
    if let Some(pattern) = &scope.scenario {
        check_scenario(registry, pattern)?;
    }
    match (given.all, scope.is_all()) {
        (true, false) => Err(ApiError::invalid_body("`all` means everything; leave out what narrows it, or `all`")),
        (false, true) => Err(ApiError::invalid_body(
            "say what is meant: `hosts`, `sites`, `scenario`, `check`, or `all` for everything",
        )),
        _ => Ok(scope),
    }
}

fn check_scenario(registry: &Registry, pattern: &str) -> Result<(), ApiError> {
    if pattern == "*" {
        return Err(ApiError::invalid_body("`scenario`: `*` alone means everything; give `all` instead"));
    }
    let own = [SILENCE, TELEMETRY, CLOCK, IDENTITY];
    let known = || registry.scenarios.iter().map(|scenario| scenario.id.as_str()).chain(own);
    let fits = match pattern.strip_suffix('*') {
        // What others send has names that nobody can list beforehand.
        Some(beginning) => {
            known().any(|id| id.starts_with(beginning))
                || [SIGNAL_PREFIX, ALERT_PREFIX].iter().any(|prefix| is_beginning(prefix, beginning))
        }
        None => known().any(|id| id == pattern) || [SIGNAL_PREFIX, ALERT_PREFIX].iter().any(|p| pattern.starts_with(p)),
    };
    if fits && pattern.len() <= 200 { Ok(()) } else { Err(unknown("scenario", "scenario", pattern, known())) }
}

/// Whether one of both begins with the other.
fn is_beginning(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn unknown<'a>(field: &str, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let near = yaml::nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    ApiError::invalid_body(format!("`{field}`: no {what} is called `{}`{near}", plain(name, 100)))
}

/// It as people see it.
pub(super) fn view(places: &[Place], scope: Scope) -> ScopeView {
    let all = scope.is_all();
    let name = |id: String| places.iter().find(|place| place.id == id).map_or(id, |place| place.name.clone());
    ScopeView {
        hosts: scope.hosts.into_iter().map(name).collect(),
        sites: scope.sites,
        scenario: scope.scenario,
        check: scope.check,
        all,
    }
}
