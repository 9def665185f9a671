//! Traefik by its API: routers and services that it cannot use, services whose
//! servers are all down, and for the topology who answers behind which name.
//!
//! The API is off unless somebody turns it on, and is often served behind a
//! password: that nothing but its absence was seen says nothing of the proxy.

mod read;

use std::collections::BTreeMap;

use farol_protocol::{Language, Status, system::TraefikProbe};

use self::read::{Router, Service, State, routes};
use super::{
    Asking, Seen,
    phrase::{Said, count, listed},
    talk::{Talk, base},
};
use crate::{
    integrations::{http::Answer, lenient::rows},
    text::{plain, say},
    topology::IntegrationFacts,
};

/// Rows of a page.
const PER_PAGE: usize = 100;
/// Pages of a list that are read.
const MOST_PAGES: usize = 50;

pub(super) async fn ask(asking: &Asking<'_>, probe: &TraefikProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &TraefikProbe) -> Result<Seen, Seen> {
    let talk = Talk::new(asking, "Traefik", probe.pin.as_deref())?;
    let url = base(&probe.url);
    let routers = list(&talk, url, "routers", Router::read).await?;
    let services = list(&talk, url, "services", Service::read).await?;
    let seen = judge(&talk, probe, &routers, &services);
    let facts = IntegrationFacts { routes: routes(&routers.rows, &services.rows), ..IntegrationFacts::default() };
    Ok(Seen { facts: Some(Box::new(facts)), ..seen })
}

/// A list of the API, by the names of its rows.
struct List<T> {
    rows: BTreeMap<String, T>,
    /// Rows that could not be read.
    bad: usize,
    /// Whether there was more than is read.
    is_cut: bool,
}

type Read<T> = fn(&serde_json::Map<String, serde_json::Value>) -> Option<(String, T)>;

/// All pages of a list.
async fn list<T>(talk: &Talk<'_>, url: &str, what: &str, read: Read<T>) -> Result<List<T>, Seen> {
    let mut list = List { rows: BTreeMap::new(), bad: 0, is_cut: false };
    let mut page = 1;
    loop {
        let request = talk.client.get(format!("{url}/api/http/{what}?page={page}&per_page={PER_PAGE}"));
        let answer = talk.send(request).await.map_err(|failure| talk.failed(&failure))?;
        // The list became shorter between two pages.
        if answer.status == 400 && page > 1 {
            return Ok(list);
        }
        let some = answer.json().ok().filter(|_| answer.is_success()).and_then(|body| rows(&body, read));
        let Some(some) = some else { return Err(absent(talk, &answer)) };
        list.bad += some.bad;
        list.rows.extend(some.good);
        let next = answer.headers.get("x-next-page").and_then(|next| next.to_str().ok()?.trim().parse::<usize>().ok());
        match next.filter(|next| *next > page) {
            None => return Ok(list),
            Some(_) if page == MOST_PAGES => {
                list.is_cut = true;
                return Ok(list);
            }
            // Its own word is believed only that there is one more.
            Some(_) => page += 1,
        }
    }
}

/// What an answer means that is no list.
fn absent(talk: &Talk<'_>, answer: &Answer) -> Seen {
    let (language, status) = (talk.language(), answer.status);
    match status {
        401 | 403 => Seen::unknown(say!(
            language,
            "a API do Traefik pede login ({status}); sirva-a ao coordenador sem senha, num entrypoint interno",
            "the API of Traefik asks for a login ({status}); serve it to the coordinator without one, on an internal entry point"
        )),
        200..=299 | 404 => Seen::unknown(say!(
            language,
            "a API do Traefik não está neste endereço ({status}): habilite-a (`api: {{}}`) e aponte `url` para o entrypoint que serve `api@internal`",
            "the API of Traefik is not at this address ({status}): enable it (`api: {{}}`) and point `url` at the entry point that serves `api@internal`"
        )),
        _ => talk.turned_down(answer),
    }
}

fn judge(talk: &Talk<'_>, probe: &TraefikProbe, routers: &List<Router>, services: &List<Service>) -> Seen {
    let language = talk.language();
    let named = |name: &str, why: Option<&String>| match why {
        Some(why) => format!("{} ({})", plain(name, 80), plain(why, 80)),
        None => plain(name, 80),
    };
    let (mut failing, mut warned, mut strange, mut partly) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let of_routers = routers.rows.iter().map(|(name, router)| ("router", name, &router.state, router.why.as_ref()));
    let of_services =
        services.rows.iter().map(|(name, service)| ("service", name, &service.state, service.why.as_ref()));
    for (kind, name, state, why) in of_routers.chain(of_services) {
        let label = format!("{kind} {}", named(name, why));
        match state {
            State::Enabled => {}
            State::Disabled => failing.push(label),
            State::Warning => warned.push(label),
            State::Other(word) => strange.push(format!("{kind} {} ({})", plain(name, 80), plain(word, 40))),
        }
    }
    for (name, service) in services.rows.iter().filter(|(_, service)| service.state != State::Disabled) {
        let (down, all, name) = (service.down, service.down + service.up, plain(name, 80));
        if down > 0 && service.up == 0 {
            // What is warned of as well counts once.
            let label = format!("service {}", named(&name, service.why.as_ref()));
            warned.retain(|warned| *warned != label);
            failing.push(say!(language, "service {name} (sem servidor no ar)", "service {name} (no server up)"));
        } else if down > 0 {
            partly.push(say!(language, "{name} ({down} de {all})", "{name} ({down} of {all})"));
        }
    }
    let mut said = Said::new(language);
    let (routes, behind) = (routers.rows.len(), services.rows.len());
    let whole = failing.len() + warned.len();
    let limited = probe.limits.warning.is_some() || probe.limits.critical.is_some();
    let status = |unlimited: Status| if limited { Status::Ok } else { unlimited };
    if limited || whole == 0 {
        let text = say!(
            language,
            "{whole} com erro entre {routes} routers e {behind} serviços do Traefik",
            "{whole} in error among {routes} routers and {behind} services of Traefik"
        );
        said.judge(&probe.limits, count(whole), "count", &text);
    } else {
        said.measure(count(whole), "count");
    }
    if !failing.is_empty() {
        let names = listed(language, &failing);
        said.say(status(Status::Critical), say!(language, "não atende: {names}", "carries no traffic: {names}"));
    }
    if !warned.is_empty() {
        let names = listed(language, &warned);
        said.say(status(Status::Warning), say!(language, "com aviso: {names}", "warned of: {names}"));
    }
    if !partly.is_empty() {
        let names = listed(language, &partly);
        said.say(status(Status::Warning), say!(language, "servidores fora: {names}", "servers down: {names}"));
    }
    if !strange.is_empty() {
        let names = listed(language, &strange);
        said.say(
            Status::Unknown,
            say!(language, "estado que o Farol não conhece: {names}", "a state that Farol does not know: {names}"),
        );
    }
    if routers.is_cut || services.is_cut {
        let most = PER_PAGE * MOST_PAGES;
        said.say(
            Status::Unknown,
            say!(
                language,
                "só os primeiros {most} de uma lista foram lidos",
                "only the first {most} of a list were read"
            ),
        );
    }
    said.lost(routers.bad + services.bad);
    said.seen()
}

#[cfg(test)]
mod tests;
