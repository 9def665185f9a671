//! Alertmanager: ready, and what it says about its cluster.

use farol_protocol::{Language, system::ServiceProbe};

use super::{
    Asking, Seen, prometheus,
    talk::{Talk, base},
};
use crate::{
    integrations::lenient::text,
    text::{plain, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &ServiceProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &ServiceProbe) -> Result<Seen, Seen> {
    let talk = Talk::new(asking, "Alertmanager", probe.pin.as_deref())?;
    let (language, url) = (asking.language, base(&probe.url));
    let ms = prometheus::ready(&talk, url).await?.ms;
    let answer = talk.get(&format!("{url}/api/v2/status")).await?;
    let body = talk.json(&answer)?;
    let version = text(&body["versionInfo"]["version"]).map(|version| plain(version, 40)).unwrap_or_default();
    let peers = body["cluster"]["peers"].as_array().map_or(0, Vec::len);
    let text = match text(&body["cluster"]["status"]) {
        Some("ready") => say!(
            language,
            "Alertmanager {version} está pronto, com {peers} membros no cluster",
            "Alertmanager {version} is ready, with {peers} members in its cluster"
        ),
        Some("disabled") => {
            say!(
                language,
                "Alertmanager {version} está pronto, sem cluster",
                "Alertmanager {version} is ready, without a cluster"
            )
        }
        Some("settling") => {
            return Err(Seen::warning(say!(
                language,
                "o cluster do Alertmanager {version} ainda se acerta ({peers} membros)",
                "the cluster of Alertmanager {version} is still settling ({peers} members)"
            ))
            .measured(ms, "ms"));
        }
        other => {
            let other = plain(other.unwrap_or("?"), 40);
            return Err(Seen::unknown(say!(
                language,
                "Alertmanager {version} diz do seu cluster `{other}`, que o Farol não conhece",
                "Alertmanager {version} says `{other}` of its cluster, which Farol does not know"
            )));
        }
    };
    Ok(Seen::judged(language, &probe.limits, ms, "ms", &text))
}
