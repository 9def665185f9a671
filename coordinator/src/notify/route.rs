//! From routes to who is told, a pure function: the same for a finding and for
//! the preview of one.

use std::time::Duration;

use farol_protocol::registry::{
    Persona, Severity,
    notify::{Route, To},
};

use super::Reason;
use crate::{config::Config, roster};

/// What a route looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The finding's scenario.
    pub scenario: &'a str,
    /// Site of its host.
    pub site: Option<&'a str>,
    /// Who speaks.
    pub persona: Persona,
    /// How bad it is.
    pub severity: Severity,
}

/// What is decided of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is told, after this long if nobody acknowledged by then.
    Told(Duration),
    /// It is not told.
    Not(Reason),
}

/// A channel with a place in it: one message of each kind goes there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// `email`, `ntfy` (the server of the environment) or `integration:NAME`.
    pub name: String,
    /// An address, a topic, a room; empty for the integration's own.
    pub recipient: String,
}

impl Channel {
    /// The channel of a route.
    #[must_use]
    pub fn of(to: &To) -> Self {
        let (name, recipient) = match to {
            To::Email(address) => ("email".to_owned(), address.clone()),
            To::Ntfy(topic) => ("ntfy".to_owned(), topic.clone()),
            To::Integration { name, place } => (format!("integration:{name}"), place.clone().unwrap_or_default()),
        };
        Self { name, recipient }
    }

    /// Its integration's name, if it is one.
    #[must_use]
    pub fn integration(&self) -> Option<&str> {
        self.name.strip_prefix("integration:")
    }
}

/// The routes that are in force: those of the registry, else those of the
/// environment.
#[must_use]
pub fn in_force(registry: Option<&Vec<Route>>, config: &Config) -> Vec<Route> {
    if let Some(routes) = registry {
        return routes.clone();
    }
    let mail = config.mail.as_ref().and_then(|mail| mail.to.clone()).map(To::Email);
    let ntfy = config.ntfy.topic.clone().map(To::Ntfy);
    mail.into_iter().chain(ntfy).map(|to| Route::all(to, Severity::High)).collect()
}

/// What one route says of a subject.
#[must_use]
pub fn judge(route: &Route, subject: &Subject<'_>) -> Verdict {
    let Subject { scenario, site, persona, severity } = *subject;
    let named = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => scenario.starts_with(beginning),
        None => scenario == pattern,
    };
    if !route.scenarios.is_empty() && !route.scenarios.iter().any(named) {
        return Verdict::Not(Reason::OtherScenario { scenario: scenario.to_owned() });
    }
    if !route.sites.is_empty() && !site.is_some_and(|site| route.sites.iter().any(|known| known == site)) {
        return Verdict::Not(Reason::OtherSite { site: site.map(str::to_owned) });
    }
    if !route.personas.is_empty() && !route.personas.contains(&persona) {
        return Verdict::Not(Reason::OtherPersona { persona });
    }
    let hears = |role: &String| roster::member(persona).inbox_roles.iter().any(|known| known.as_str() == role);
    if !route.roles.is_empty() && !route.roles.iter().any(hears) {
        return Verdict::Not(Reason::OtherRole { persona });
    }
    if severity < route.at_least {
        return Verdict::Not(Reason::Severity { severity, at_least: route.at_least });
    }
    Verdict::Told(route.after)
}

/// What is decided of each channel, in the order in which routes name them. Of
/// several routes to one channel the one that tells it soonest counts; where
/// none does, the one that was nearest to it says why.
#[must_use]
pub fn decide(routes: &[Route], subject: &Subject<'_>) -> Vec<(Channel, Verdict)> {
    let mut decided: Vec<(Channel, Verdict)> = Vec::new();
    for route in routes {
        let (channel, verdict) = (Channel::of(&route.to), judge(route, subject));
        match decided.iter_mut().find(|(known, _)| *known == channel) {
            None => decided.push((channel, verdict)),
            Some((_, known)) => {
                let better = match (&*known, &verdict) {
                    (Verdict::Told(before), Verdict::Told(now)) => now < before,
                    (Verdict::Told(_), Verdict::Not(_)) => false,
                    (Verdict::Not(_), Verdict::Told(_)) => true,
                    (Verdict::Not(before), Verdict::Not(now)) => now > before,
                };
                if better {
                    *known = verdict;
                }
            }
        }
    }
    decided
}

#[cfg(test)]
mod tests {
    use farol_protocol::registry::notify::ROLES;

    use super::*;
    use crate::roster::Role;

    const SUBJECT: Subject<'static> =
        Subject { scenario: "mail.queue", site: Some("lab"), persona: Persona::A2, severity: Severity::High };

    fn route(change: impl FnOnce(&mut Route)) -> Route {
        let mut route = Route::all(To::Ntfy("ops".to_owned()), Severity::High);
        change(&mut route);
        route
    }

    fn told(change: impl FnOnce(&mut Route)) -> Verdict {
        judge(&route(change), &SUBJECT)
    }

    #[test]
    fn the_roles_of_the_registry_are_those_of_the_roster() {
        assert_eq!(Role::ALL.map(Role::as_str), ROLES);
    }

    #[test]
    fn a_route_tells_what_fits_all_it_names_and_else_says_what_does_not() {
        let at_once = Verdict::Told(Duration::ZERO);
        assert_eq!(told(|_| ()), at_once);
        assert_eq!(told(|route| route.scenarios = vec!["mail.*".to_owned()]), at_once);
        assert_eq!(told(|route| route.roles = vec!["seo".to_owned(), "devops".to_owned()]), at_once);
        assert_eq!(told(|route| route.after = Duration::from_secs(9)), Verdict::Told(Duration::from_secs(9)));
        assert_eq!(
            told(|route| route.scenarios = vec!["mail".to_owned()]),
            Verdict::Not(Reason::OtherScenario { scenario: "mail.queue".to_owned() })
        );
        assert_eq!(
            told(|route| route.sites = vec!["b".to_owned()]),
            Verdict::Not(Reason::OtherSite { site: Some("lab".to_owned()) })
        );
        assert_eq!(
            told(|route| route.personas = vec![Persona::A1]),
            Verdict::Not(Reason::OtherPersona { persona: Persona::A2 })
        );
        assert_eq!(
            told(|route| route.roles = vec!["super_admin".to_owned()]),
            Verdict::Not(Reason::OtherRole { persona: Persona::A2 })
        );
        assert_eq!(
            told(|route| route.at_least = Severity::Critical),
            Verdict::Not(Reason::Severity { severity: Severity::High, at_least: Severity::Critical })
        );
    }

    #[test]
    fn vigia_speaks_to_every_role_and_the_curator_to_none() {
        for (persona, hears) in [(Persona::Vigia, true), (Persona::Curador, false)] {
            let subject = Subject { persona, ..SUBJECT };
            for role in ROLES {
                let verdict = judge(&route(|route| route.roles = vec![role.to_owned()]), &subject);
                assert_eq!(matches!(verdict, Verdict::Told(_)), hears, "{persona:?} {role}");
            }
        }
    }

    #[test]
    fn of_several_routes_to_one_channel_the_soonest_counts_and_else_the_nearest_says_why() {
        let later = route(|route| route.after = Duration::from_secs(60));
        let worse = route(|route| route.at_least = Severity::Critical);
        let other = route(|route| route.scenarios = vec!["web".to_owned()]);
        let of = |routes: &[Route]| {
            let decided = decide(routes, &SUBJECT);
            assert_eq!(decided.len(), 1);
            decided[0].1.clone()
        };
        assert_eq!(of(&[other.clone(), later.clone(), worse.clone()]), Verdict::Told(Duration::from_secs(60)));
        assert_eq!(of(&[later, route(|_| ())]), Verdict::Told(Duration::ZERO));
        for pair in [[other.clone(), worse.clone()], [worse, other]] {
            assert!(matches!(of(&pair), Verdict::Not(Reason::Severity { .. })));
        }
        let elsewhere = Route::all(To::Ntfy("other".to_owned()), Severity::Info);
        assert_eq!(decide(&[route(|_| ()), elsewhere], &SUBJECT).len(), 2);
    }
}
