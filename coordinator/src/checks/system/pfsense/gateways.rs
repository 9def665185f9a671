//! Gateways. One whose monitor does not answer is left out of pfSense's list,
//! so only a name can tell that it is missing.

use farol_protocol::{Language, Status, system::PfsenseProbe};
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
    substatus: String,
    /// Per cent; none where it is not watched.
    loss: Option<f64>,
    /// ms.
    delay: Option<f64>,
}

pub(super) fn look(language: Language, probe: &PfsenseProbe, data: &Value) -> Option<Seen> {
    let read = rows(data, |row| {
        let word = |key: &str| row.get(key).and_then(text).map(quoted);
        Some(Gateway {
            name: word("name")?,
            status: word("status")?.to_ascii_lowercase(),
            substatus: word("substatus").unwrap_or_default().to_ascii_lowercase(),
            loss: row.get("loss").and_then(number),
            delay: row.get("delay").and_then(number),
        })
    })?;
    let mut said = Said::new(language);
    let limits = limits_or(&probe.limits, above(Some(10.0), Some(25.0)));
    let gateways = &read.good;
    let lost: Vec<String> =
        probe.names.iter().filter(|name| !gateways.iter().any(|gateway| gateway.name == **name)).cloned().collect();
    if !lost.is_empty() {
        let names = listed(language, &lost);
        // A row that could not be read may be the one that is missing.
        let status = if read.bad == 0 { Status::Critical } else { Status::Unknown };
        said.say(
            status,
            say!(
                language,
                "gateway fora da lista: {names} (o monitor dpinger não responde, ou ele foi removido)",
                "gateway left out of the list: {names} (its monitor dpinger does not answer, or it was removed)"
            ),
        );
    }
    if gateways.is_empty() {
        said.say(Status::Unknown, say!(language, "a API não lista nenhum gateway", "the API lists no gateway"));
    }
    let described = |gateway: &Gateway| {
        let loss = gateway.loss.map(|loss| format!(", {}%", in_words(loss, language))).unwrap_or_default();
        let delay = gateway.delay.map(|delay| format!(", {} ms", in_words(delay, language))).unwrap_or_default();
        let how = if gateway.status == "online" { &gateway.substatus } else { &gateway.status };
        let more = if gateway.status != "online" && !gateway.substatus.is_empty() && gateway.substatus != gateway.status
        {
            format!("/{}", gateway.substatus)
        } else {
            String::new()
        };
        format!("{} ({how}{more}{loss}{delay})", gateway.name)
    };
    let those = |pick: &dyn Fn(&Gateway) -> bool| -> Vec<String> {
        gateways.iter().filter(|gateway| pick(gateway)).map(described).collect()
    };
    let online = |gateway: &Gateway| gateway.status == "online";
    let by_hand = |gateway: &Gateway| gateway.substatus == "force_down" || gateway.status == "force_down";
    let calm = |gateway: &Gateway| matches!(gateway.substatus.as_str(), "" | "none");
    let known = |gateway: &Gateway| matches!(gateway.status.as_str(), "online" | "down" | "offline" | "force_down");
    let down = those(&|gateway| known(gateway) && !online(gateway) && !by_hand(gateway));
    let strange = those(&|gateway| !known(gateway));
    let parts: [(Status, Vec<String>, String); 4] = [
        (Status::Critical, down, say!(language, "gateway fora do ar", "gateway down")),
        (Status::Unknown, strange, say!(language, "estado de gateway desconhecido", "unknown state of a gateway")),
        (Status::Warning, those(&by_hand), say!(language, "gateway desligado à mão", "gateway forced down by hand")),
        (
            Status::Warning,
            those(&|gateway| online(gateway) && !by_hand(gateway) && !calm(gateway)),
            say!(language, "gateway com perda ou atraso", "gateway with loss or delay"),
        ),
    ];
    for (status, items, what) in parts {
        if !items.is_empty() {
            said.say(status, format!("{what}: {}", listed(language, &items)));
        }
    }
    let names: Vec<String> = gateways.iter().filter(|gateway| online(gateway)).map(|g| g.name.clone()).collect();
    let (up, all) = (names.len(), gateways.len());
    let names = listed(language, &names);
    let summary = say!(language, "{up} de {all} gateways no ar: {names}", "{up} of {all} gateways online: {names}");
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
        // Watching may be turned off; the status still counts.
        None if !gateways.is_empty() => {
            said.say(Status::Ok, say!(language, "{summary}; perda não medida", "{summary}; loss is not measured"));
        }
        None => {}
    }
    said.lost(read.bad);
    Some(said.seen())
}
