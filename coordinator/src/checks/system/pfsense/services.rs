//! Services.

use farol_protocol::{Language, Status, system::PfsenseProbe};
use serde_json::Value;

use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, count, limits_or, listed, quoted},
    },
    integrations::lenient::{flag, rows, text},
    text::say,
};

struct Service {
    name: String,
    /// Tells apart several of one name, such as VPN servers.
    description: String,
    enabled: bool,
    runs: bool,
}

pub(super) fn look(language: Language, probe: &PfsenseProbe, data: &Value) -> Option<Seen> {
    let read = rows(data, |row| {
        Some(Service {
            name: quoted(row.get("name").and_then(text)?),
            description: row.get("description").and_then(text).map(quoted).unwrap_or_default(),
            enabled: row.get("enabled").and_then(flag)?,
            runs: row.get("status").and_then(flag)?,
        })
    })?;
    let mut said = Said::new(language);
    let limits = limits_or(&probe.limits, above(None, Some(1.0)));
    let is = |service: &Service, name: &str| service.name == name || service.description == name;
    let meant: Vec<&Service> = read
        .good
        .iter()
        .filter(|service| match probe.names.as_slice() {
            [] => service.enabled,
            names => names.iter().any(|name| is(service, name)),
        })
        .collect();
    let several = |service: &Service| meant.iter().filter(|other| other.name == service.name).count() > 1;
    let label = |service: &Service| match service {
        Service { name, description, .. } if several(service) && !description.is_empty() => {
            format!("{name} ({description})")
        }
        Service { name, .. } => name.clone(),
    };
    let missing: Vec<String> =
        probe.names.iter().filter(|name| !read.good.iter().any(|service| is(service, name))).cloned().collect();
    if !missing.is_empty() {
        let names = listed(language, &missing);
        // A row that could not be read may be the one that is missing.
        let status = if read.bad == 0 { Status::Critical } else { Status::Unknown };
        said.say(status, say!(language, "serviço inexistente: {names}", "no such service: {names}"));
    }
    if meant.is_empty() {
        if missing.is_empty() {
            said.say(
                Status::Unknown,
                say!(language, "a API não lista nenhum serviço habilitado", "the API lists no enabled service"),
            );
        }
    } else {
        let down: Vec<String> = meant.iter().filter(|service| !service.runs).map(|service| label(service)).collect();
        let (gone, all) = (down.len(), meant.len());
        let text = if gone == 0 {
            say!(language, "{all} serviços funcionam", "{all} services run")
        } else {
            let names = listed(language, &down);
            say!(language, "{gone} de {all} serviços parados: {names}", "{gone} of {all} services do not run: {names}")
        };
        said.judge(&limits, count(gone), "count", &text);
    }
    said.lost(read.bad);
    Some(said.seen())
}
