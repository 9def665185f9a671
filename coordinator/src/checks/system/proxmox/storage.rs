//! The fullest storage.

use farol_protocol::{Language, Status, report::Limits, system::ProxmoxProbe};

use super::{
    api::{Cluster, Trouble},
    ignored,
    rows::{Standing, Store},
};
use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, limits_or, listed},
    },
    text::{number, say},
};

/// `local on a`, and only the name of what all nodes share.
pub(super) fn label(store: &Store, language: Language) -> String {
    let Store { name, node, .. } = store;
    if store.shared { name.clone() } else { say!(language, "{name} em {node}", "{name} on {node}") }
}

pub(super) async fn look(cluster: &Cluster<'_>, probe: &ProxmoxProbe, standing: &Standing) -> Result<Seen, Trouble> {
    let language = cluster.language();
    let resources = cluster.resources().await?;
    let mut said = Said::new(language);
    let limits = limits_or(&probe.limits, above(Some(85.0), Some(95.0)));
    let counted = resources.stores.iter().filter(|store| !ignored(probe, &[store.name.as_str(), store.node.as_str()]));
    // What a node that is away had is its own trouble, unless the others see it too.
    let (away, stores): (Vec<&Store>, Vec<&Store>) = counted.partition(|store| standing.is_away(&store.node));
    let lonely: Vec<String> = away.iter().filter(|store| !store.shared).map(|store| label(store, language)).collect();
    if stores.is_empty() {
        said.say(
            Status::Unknown,
            say!(
                language,
                "o token não vê nenhum storage: dê-lhe o papel PVEAuditor em `/` (Datastore.Audit)",
                "the token sees no storage: give it the role PVEAuditor on `/` (Datastore.Audit)"
            ),
        );
    }
    let (mut full, mut gone, mut unmeasured) = (Vec::new(), Vec::new(), Vec::new());
    for store in &stores {
        if !store.available {
            let node_is_mute = resources.nodes.iter().any(|(node, status)| *node == store.node && status != "online");
            // A shared one may be missing on one node alone, so its node is said.
            let Store { name, node, .. } = store;
            let text = say!(language, "{name} em {node}", "{name} on {node}");
            if node_is_mute {
                unmeasured.push(text)
            } else {
                gone.push(text)
            }
            continue;
        }
        match share(store) {
            Some(share) => full.push((share, label(store, language))),
            None => unmeasured.push(label(store, language)),
        }
    }
    full.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    full.dedup_by(|a, b| a.1 == b.1);
    if let Some((fullest, _)) = full.first() {
        said.judge(&limits, *fullest, "%", &fullness(language, &limits, &full));
    }
    if !gone.is_empty() {
        let names = listed(language, &gone);
        said.say(Status::Critical, say!(language, "storage indisponível: {names}", "storage not available: {names}"));
    }
    unmeasured.sort_unstable();
    unmeasured.dedup();
    if !unmeasured.is_empty() {
        let names = listed(language, &unmeasured);
        said.say(
            Status::Unknown,
            say!(language, "ocupação desconhecida de {names}", "how full {names} is, is not known"),
        );
    }
    if !lonely.is_empty() {
        let names = listed(language, &lonely);
        said.say(Status::Unknown, say!(language, "o nó de {names} está fora do ar", "the node of {names} is away"));
    }
    said.lost(resources.bad);
    Ok(said.seen())
}

/// Per cent.
fn share(store: &Store) -> Option<f64> {
    let (used, size) = (store.used?, store.size.filter(|size| *size > 0.0)?);
    Some((used / size * 1000.0).round() / 10.0)
}

/// The storages beyond a limit, else the fullest.
fn fullness(language: Language, limits: &Limits, full: &[(f64, String)]) -> String {
    let name = |(share, store): &(f64, String)| {
        let share = number(*share, language);
        format!("{store} {share}%")
    };
    let beyond: Vec<String> = full.iter().filter(|(share, _)| limits.judge(*share) != Status::Ok).map(name).collect();
    if beyond.is_empty() {
        let (all, first) = (full.len(), full.first().map(name).unwrap_or_default());
        say!(language, "o mais cheio de {all} storages: {first}", "the fullest of {all} storages: {first}")
    } else {
        let names = listed(language, &beyond);
        say!(language, "storage cheio: {names}", "storage full: {names}")
    }
}
