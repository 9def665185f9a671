//! Who is told of what: the section `notify`.
//!
//! Secrets are not in it: a route names an e-mail address, or an integration
//! whose secret is sealed in the store.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;

use super::{Persona, Severity};
use crate::yaml::{self, Location, Mistake, Spanned};

/// Roles of people, as a route names them. The coordinator's own list is the
/// same, which a test of it holds.
pub const ROLES: [&str; 7] =
    ["super_admin", "ops_lead", "agentic_operator", "devops", "seo", "technician", "security_analyst"];

/// Scenarios that are in no registry: of the coordinator's own checks, and of what others send.
const OWN_SCENARIOS: [&str; 6] = ["agent.silence", "host.telemetry", "host.clock", "host.identity", "signal", "alert"];
/// Beginnings of the scenarios of what others send.
const SENT: [&str; 2] = ["signal.", "alert."];
/// Longest mail address.
const MAX_ADDRESS: usize = 254;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// A mail address, by the configured mail server.
    Email(String),
    /// The ntfy server of the environment, a topic.
    Ntfy(String),
    /// An integration of a kind that takes messages.
    Integration {
        /// Its name.
        name: String,
        /// Topic or room there; absent stands for the one that the integration names.
        place: Option<String>,
    },
}

/// Who is told of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where messages go.
    pub to: To,
    /// Less bad findings are not told.
    pub at_least: Severity,
    /// Only what personas say to one of these roles; empty for all.
    pub roles: Vec<String>,
    /// Only these scenarios, or those that begin alike where one ends in `*`; empty for all.
    pub scenarios: Vec<String>,
    /// Only hosts of these sites; empty for all.
    pub sites: Vec<String>,
    /// Only what these personas say; empty for all.
    pub personas: Vec<Persona>,
    /// Told only if nobody has acknowledged after this long; zero for at once.
    pub after: Duration,
}

impl Route {
    /// Tells whoever is there of everything from `at_least` on, at once.
    #[must_use]
    pub const fn all(to: To, at_least: Severity) -> Self {
        Self {
            to,
            at_least,
            roles: Vec::new(),
            scenarios: Vec::new(),
            sites: Vec::new(),
            personas: Vec::new(),
            after: Duration::ZERO,
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct NotifyDoc {
    #[serde(default)]
    routes: Vec<RouteDoc>,
}

/// `to` is `email:ADDRESS`, `integration:NAME` or `ntfy:TOPIC` (the server of the environment).
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct RouteDoc {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    to: Spanned<String>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    topic: Option<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    room: Option<Spanned<String>>,
    #[serde(default = "high")]
    at_least: Severity,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    scenarios: Vec<Spanned<String>>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    sites: Vec<Spanned<String>>,
    #[serde(default)]
    personas: Vec<Persona>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    after: Option<Spanned<String>>,
}

const fn high() -> Severity {
    Severity::High
}

/// Judges the routes. `scenarios` and `sites` are those of the document.
///
/// # Errors
/// The first mistake, at its place.
pub(super) fn resolve(
    doc: NotifyDoc,
    scenarios: &BTreeSet<String>,
    sites: &BTreeSet<&str>,
) -> Result<Vec<Route>, Mistake> {
    doc.routes.into_iter().map(|route| one(route, scenarios, sites)).collect()
}

fn one(doc: RouteDoc, scenarios: &BTreeSet<String>, sites: &BTreeSet<&str>) -> Result<Route, Mistake> {
    let to = to(&doc.to, doc.topic.as_ref(), doc.room.as_ref())?;
    let listed = |list: &[Spanned<String>], check: &dyn Fn(&str) -> Result<(), String>| {
        list.iter()
            .map(|item| match check(&item.value) {
                Ok(()) => Ok(item.value.clone()),
                Err(why) => Err(Mistake::at(item.referenced, why)),
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let role = |name: &str| known("role", name, ROLES);
    let site = |name: &str| known("site", name, sites.iter().copied());
    let scenario = |name: &str| {
        if name.ends_with('*') || SENT.iter().any(|sent| name.starts_with(sent)) {
            return Ok(());
        }
        known("scenario", name, scenarios.iter().map(String::as_str).chain(OWN_SCENARIOS))
    };
    Ok(Route {
        to,
        at_least: doc.at_least,
        roles: listed(&doc.roles, &role)?,
        scenarios: listed(&doc.scenarios, &scenario)?,
        sites: listed(&doc.sites, &site)?,
        personas: doc.personas,
        after: doc.after.as_ref().map_or(Ok(Duration::ZERO), super::duration)?,
    })
}

fn known<'a>(what: &str, name: &str, all: impl IntoIterator<Item = &'a str> + Clone) -> Result<(), String> {
    if all.clone().into_iter().any(|known| known == name) {
        return Ok(());
    }
    let near = yaml::nearest(name, all).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(format!("there is no {what} `{name}`{near}"))
}

/// Reads where messages go, with a topic or a room beside it.
///
/// # Errors
/// It is no way to reach anybody.
pub(super) fn to(
    to: &Spanned<String>,
    topic: Option<&Spanned<String>>,
    room: Option<&Spanned<String>>,
) -> Result<To, Mistake> {
    let place = to.referenced;
    let stray = |option: Option<&Spanned<String>>, name: &str| match option {
        Some(option) => {
            Err(Mistake::at(option.referenced, format!("`{name}` belongs to a route with `to: integration:NAME`")))
        }
        None => Ok(()),
    };
    let (channel, rest) = to.value.split_once(':').unwrap_or((&to.value, ""));
    let rest = rest.trim();
    match channel.trim() {
        "email" => {
            stray(topic, "topic")?;
            stray(room, "room")?;
            check_address(rest, place)?;
            Ok(To::Email(rest.to_owned()))
        }
        "ntfy" => {
            stray(topic, "topic")?;
            stray(room, "room")?;
            check_topic(rest, place)?;
            Ok(To::Ntfy(rest.to_owned()))
        }
        "integration" => {
            if !(1..=64).contains(&rest.len()) || !rest.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            {
                return Err(Mistake::at(place, format!("`{rest}` is not the name of an integration")));
            }
            if let Some(topic) = topic {
                check_topic(&topic.value, topic.referenced)?;
            }
            let room = match (topic, room) {
                (Some(_), Some(room)) => {
                    return Err(Mistake::at(
                        room.referenced,
                        "a route has a `topic` (ntfy) or a `room` (Matrix), not both",
                    ));
                }
                (None, Some(room)) => {
                    check_room(&room.value).map_err(|why| Mistake::at(room.referenced, why))?;
                    Some(room.value.clone())
                }
                (topic, None) => topic.map(|topic| topic.value.clone()),
            };
            Ok(To::Integration { name: rest.to_owned(), place: room })
        }
        _ => Err(Mistake::at(
            place,
            format!("`{}` is no way to reach anybody; write email:ADDRESS, integration:NAME or ntfy:TOPIC", to.value),
        )),
    }
}

fn check_address(text: &str, place: Location) -> Result<(), Mistake> {
    let (user, domain) = text.rsplit_once('@').unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>,;:\"()[]\\".contains(c);
    if user.is_empty() || domain.is_empty() || text.len() > MAX_ADDRESS || text.contains(odd) || user.contains('@') {
        return Err(Mistake::at(place, format!("`{text}` is not a mail address such as email:farol@example.org")));
    }
    Ok(())
}

fn check_topic(text: &str, place: Location) -> Result<(), Mistake> {
    if is_topic(text) {
        return Ok(());
    }
    Err(Mistake::at(place, format!("`{text}` is not an ntfy topic: 1 to 64 ASCII letters, digits, `-` and `_`")))
}

/// Whether ntfy takes this as the name of a topic.
#[must_use]
pub fn is_topic(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// What is wrong with a Matrix room, if anything is.
///
/// # Errors
/// It is not a room's id.
pub fn check_room(text: &str) -> Result<(), String> {
    if text.starts_with('!') && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic()) && text.len() > 1 {
        return Ok(());
    }
    let why = if text.starts_with('#') { "an alias, and rooms can change theirs" } else { "not a room" };
    Err(format!("`{text}` is {why}; give the room's id, which begins with `!` (room settings, advanced)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn parse(routes: &str) -> Result<Option<Vec<Route>>, Mistake> {
        let text = format!("version: 1\nsites: [{{id: lab, name: Lab}}]\nnotify:\n  routes:\n{routes}");
        Registry::parse(&text, &|_| None).map(|registry| registry.notify)
    }

    #[test]
    fn a_route_says_where_from_how_bad_on_for_whom_and_after_how_long() {
        let routes = parse(
            "    - to: email:root@example.org
    - {to: integration:phone, topic: plantao, at_least: critical, roles: [ops_lead], sites: [lab], after: 15m}
    - {to: integration:team, room: '!abc:example.org', scenarios: ['mail.*', agent.silence, alert.web], personas: [A5]}
    - {to: 'ntfy:ops', at_least: info}
",
        )
        .expect("valid")
        .expect("a section");
        assert_eq!(routes[0], Route::all(To::Email("root@example.org".to_owned()), Severity::High));
        assert_eq!((routes[1].at_least, routes[1].after), (Severity::Critical, Duration::from_secs(900)));
        assert_eq!(routes[1].to, To::Integration { name: "phone".to_owned(), place: Some("plantao".to_owned()) });
        assert_eq!(routes[2].scenarios, ["mail.*", "agent.silence", "alert.web"]);
        assert_eq!(routes[2].personas, [Persona::A5]);
        assert_eq!(routes[3].to, To::Ntfy("ops".to_owned()));
    }

    #[test]
    fn no_section_is_not_the_same_as_no_routes() {
        let parse = |text: &str| Registry::parse(text, &|_| None).expect("valid").notify;
        assert_eq!(parse("version: 1\n"), None);
        assert_eq!(parse("version: 1\nnotify: {}\n"), Some(Vec::new()));
    }

    #[test]
    fn mistakes_are_refused_at_their_place() {
        for (route, column, says) in [
            ("{to: root@example.org}", 12, "write email:ADDRESS"),
            ("{to: 'email:root'}", 12, "not a mail address"),
            ("{to: 'email:a b@example.org'}", 12, "not a mail address"),
            ("{to: 'email:a@b.org', topic: x}", 36, "`topic` belongs to"),
            ("{to: 'integration:a/b'}", 12, "not the name of an integration"),
            ("{to: 'integration:'}", 12, "not the name of an integration"),
            ("{to: 'integration:a', topic: 'a b'}", 36, "not an ntfy topic"),
            ("{to: 'integration:a', room: '#ops:x'}", 35, "alias"),
            ("{to: 'integration:a', topic: x, room: '!a:x'}", 45, "not both"),
            ("{to: 'ntfy:'}", 12, "not an ntfy topic"),
            ("{to: 'ntfy:a', roles: [root]}", 30, "no role `root`"),
            ("{to: 'ntfy:a', roles: [opslead]}", 30, "did you mean `ops_lead`"),
            ("{to: 'ntfy:a', sites: [lba]}", 30, "did you mean `lab`"),
            ("{to: 'ntfy:a', scenarios: [agent.silense]}", 34, "did you mean `agent.silence`"),
            ("{to: 'ntfy:a', after: soon}", 29, "not a duration"),
        ] {
            let mistake = parse(&format!("    - {route}\n")).expect_err(route);
            assert!(mistake.message.contains(says), "{route}: {mistake}");
            assert_eq!((mistake.line, mistake.column), (5, column), "{route}: {mistake}");
        }
        let mistake = parse("    - {to: 'ntfy:a', att_least: low}\n").expect_err("unknown");
        assert!(mistake.message.contains("did you mean `at_least`"), "{mistake}");
    }
}
