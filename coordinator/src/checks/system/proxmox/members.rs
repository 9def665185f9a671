//! Quorum and nodes.

use farol_protocol::{
    Language, Status,
    report::{Limits, Worse},
    system::ProxmoxProbe,
};

use super::{
    api::{Cluster, Trouble},
    ignored,
    rows::Standing,
};
use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, count, limits_or, listed},
    },
    text::say,
};

/// Whether the cluster has its quorum, which only its own entry says.
pub(super) fn quorum(language: Language, probe: &ProxmoxProbe, standing: &Standing) -> Seen {
    let (online, away) = (standing.names(true), standing.names(false));
    let (here, all) = (online.len(), standing.members.good.len());
    let mut said = Said::new(language);
    let Some(cluster) = &standing.cluster else {
        let node = listed(language, &online);
        // Several nodes are a cluster, and a row that could not be read may be its.
        if all + standing.members.bad > 1 {
            said.say(
                Status::Unknown,
                say!(
                    language,
                    "{node} não diz nada do seu cluster que possa ser lido: nada se sabe do quórum",
                    "{node} says nothing of its cluster that can be read: nothing is known of its quorum"
                ),
            );
            said.lost(standing.members.bad);
            return said.seen();
        }
        said.judge(
            &probe.limits,
            count(here),
            "count",
            &say!(
                language,
                "{node} está sozinho: sem cluster, sem quórum",
                "{node} is by itself: no cluster, no quorum"
            ),
        );
        said.lost(standing.members.bad);
        return said.seen();
    };
    let name = &cluster.name;
    let all = cluster.nodes.and_then(|nodes| usize::try_from(nodes).ok()).map_or(all, |nodes| nodes.max(all));
    let absent = if away.is_empty() {
        String::new()
    } else {
        let names = listed(language, &away);
        say!(language, " (fora: {names})", " (away: {names})")
    };
    let nodes = say!(language, "{here} de {all} nós no ar{absent}", "{here} of {all} nodes online{absent}");
    match cluster.quorate {
        Some(true) => {
            let text =
                say!(language, "o cluster {name} tem quórum: {nodes}", "the cluster {name} has its quorum: {nodes}");
            let limits = Limits { worse: Worse::Below, ..probe.limits };
            said.judge(&limits, count(here), "count", &text);
        }
        Some(false) => {
            said.measure(count(here), "count");
            said.say(
                Status::Critical,
                say!(
                    language,
                    "o cluster {name} está sem quórum: {nodes}; /etc/pve só aceita leitura e nenhum guest inicia",
                    "the cluster {name} has lost its quorum: {nodes}; /etc/pve is read-only and no guest starts"
                ),
            );
        }
        None => said.say(
            Status::Unknown,
            say!(
                language,
                "o cluster {name} não diz se tem quórum: {nodes}",
                "the cluster {name} does not say whether it has its quorum: {nodes}"
            ),
        ),
    }
    said.lost(standing.members.bad);
    said.seen()
}

/// Whether every node is online and tells how it is.
pub(super) async fn nodes(cluster: &Cluster<'_>, probe: &ProxmoxProbe, standing: &Standing) -> Result<Seen, Trouble> {
    let language = cluster.language();
    let resources = cluster.resources().await?;
    let counts = |name: &String| !ignored(probe, &[name.as_str()]);
    let away: Vec<String> = standing.names(false).into_iter().filter(counts).collect();
    let online: Vec<String> = standing.names(true).into_iter().filter(counts).collect();
    let mut said = Said::new(language);
    let limits = limits_or(&probe.limits, above(None, Some(1.0)));
    let names = listed(language, if away.is_empty() { &online } else { &away });
    let (gone, all) = (away.len(), away.len() + online.len());
    let text = if gone == 0 {
        say!(language, "{all} nós no ar: {names}", "{all} nodes online: {names}")
    } else {
        say!(language, "{gone} de {all} nós fora do ar: {names}", "{gone} of {all} nodes away: {names}")
    };
    said.judge(&limits, count(gone), "count", &text);
    // A member of the cluster whose own statistics have stopped.
    let mute: Vec<String> = online
        .iter()
        .filter(|name| resources.nodes.iter().any(|(node, status)| node == *name && status != "online"))
        .cloned()
        .collect();
    if !mute.is_empty() {
        let names = listed(language, &mute);
        said.say(
            Status::Warning,
            say!(
                language,
                "sem estatísticas de {names}: veja o pvestatd nele",
                "no statistics of {names}: see its pvestatd"
            ),
        );
    }
    said.lost(standing.members.bad);
    Ok(said.seen())
}
