//! Gateways. The good status is the word `none`, and figures are texts with a
//! unit, or `~` where nothing is measured.

use farol_protocol::{Language, Status, system::OpnsenseProbe};
use serde_json::Value;

use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, limits_or, listed, quoted},
    },
    integrations::lenient::{number, rows, text},
    text::{number as in_words, say},
};

struct Gateway {
    name: String,
    status: String,
    /// Per cent; none where it is not watched.
    loss: Option<f64>,
    /// ms.
    delay: Option<f64>,
}

/// `12.3 ms` or `0.0 %`.
pub(super) fn figure(value: &Value) -> Option<f64> {
    let word = match value {
        Value::String(text) => text.trim().trim_end_matches(['%', 'm', 's', ' ']),
        other => return number(other),
    };
    number(&word.into())
}

pub(super) fn look(language: Language, probe: &OpnsenseProbe, body: &Value) -> Option<Seen> {
    let read = rows(body.get("items")?, |row| {
        Some(Gateway {
            name: quoted(row.get("name").and_then(text)?),
            status: quoted(row.get("status").and_then(text)?).to_ascii_lowercase(),
            loss: row.get("loss").and_then(figure),
            delay: row.get("delay").and_then(figure),
        })
    })?;
    let mut said = Said::new(language);
    let limits = limits_or(&probe.limits, above(Some(10.0), Some(25.0)));
    let gateways = &read.good;
    let missing: Vec<String> =
        probe.names.iter().filter(|name| !gateways.iter().any(|gateway| gateway.name == **name)).cloned().collect();
    if !missing.is_empty() {
        let names = listed(language, &missing);
        let status = if read.bad == 0 { Status::Critical } else { Status::Unknown };
        said.say(status, say!(language, "gateway fora da lista: {names}", "gateway left out of the list: {names}"));
    }
    if gateways.is_empty() {
        said.say(
            Status::Unknown,
            say!(language, "o firewall não lista nenhum gateway", "the firewall lists no gateway"),
        );
    }
    let described = |gateway: &Gateway| {
        let loss = gateway.loss.map(|loss| format!(", {}%", in_words(loss, language))).unwrap_or_default();
        let delay = gateway.delay.map(|delay| format!(", {} ms", in_words(delay, language))).unwrap_or_default();
        format!("{} ({}{loss}{delay})", gateway.name, gateway.status)
    };
    let of = |words: &[&str]| -> Vec<String> {
        gateways.iter().filter(|gateway| words.contains(&gateway.status.as_str())).map(described).collect()
    };
    const KNOWN: [&str; 6] = ["none", "down", "force_down", "delay", "loss", "delay+loss"];
    let strange: Vec<String> =
        gateways.iter().filter(|gateway| !KNOWN.contains(&gateway.status.as_str())).map(described).collect();
    let parts: [(Status, Vec<String>, String); 4] = [
        (Status::Critical, of(&["down"]), say!(language, "gateway fora do ar", "gateway down")),
        (Status::Unknown, strange, say!(language, "estado de gateway desconhecido", "unknown state of a gateway")),
        (
            Status::Warning,
            of(&["force_down"]),
            say!(language, "gateway desligado à mão", "gateway forced down by hand"),
        ),
        (
            Status::Warning,
            of(&["delay", "loss", "delay+loss"]),
            say!(language, "gateway com perda ou atraso", "gateway with loss or delay"),
        ),
    ];
    for (status, items, what) in parts {
        if !items.is_empty() {
            said.say(status, format!("{what}: {}", listed(language, &items)));
        }
    }
    let up = gateways.iter().filter(|gateway| !matches!(gateway.status.as_str(), "down" | "force_down")).count();
    let all = gateways.len();
    let unwatched: Vec<String> = gateways
        .iter()
        .filter(|gateway| gateway.status == "none" && gateway.loss.is_none())
        .map(|gateway| gateway.name.clone())
        .collect();
    let summary = say!(language, "{up} de {all} gateways no ar", "{up} of {all} gateways online");
    let worst = gateways.iter().filter_map(|gateway| Some((gateway.loss?, gateway))).max_by(|a, b| a.0.total_cmp(&b.0));
    match worst {
        Some((loss, gateway)) => {
            let (share, name) = (in_words(loss, language), &gateway.name);
            said.judge(
                &limits,
                loss,
                "%",
                &say!(
                    language,
                    "{summary}; maior perda: {share}% em {name}",
                    "{summary}; worst loss: {share}% on {name}"
                ),
            );
        }
        None if !gateways.is_empty() => said.say(Status::Ok, summary),
        None => {}
    }
    if !unwatched.is_empty() {
        let names = listed(language, &unwatched);
        said.say(
            Status::Ok,
            say!(
                language,
                "sem monitoramento, parece sempre no ar: {names}",
                "not monitored, so it always looks online: {names}"
            ),
        );
    }
    said.lost(read.bad);
    Some(said.seen())
}
