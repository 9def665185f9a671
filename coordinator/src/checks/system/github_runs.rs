//! Workflow runs of GitHub: of each workflow the newest run that has ended.

use farol_protocol::{Language, system::GithubRunsProbe};

use super::{Asking, Seen};
use crate::{
    integrations::{
        Connection,
        github::{Github, Repository, Run, Trouble},
        lenient::Rows,
    },
    text::say,
};

/// Failed workflows that a text names.
const NAMED: usize = 3;

pub(super) async fn ask(asking: &Asking<'_>, probe: &GithubRunsProbe, connection: &Connection) -> Seen {
    let repository: Repository = match probe.repository.parse() {
        Ok(repository) => repository,
        Err(why) => return Seen::not_configured(why),
    };
    let runs = async {
        let github = Github::new(asking.clients, connection, asking.limit, asking.now)?;
        github.newest_runs(&repository, probe.branch.as_deref()).await
    };
    match runs.await {
        Ok(rows) => judge(asking.language, probe, &rows),
        Err(Trouble::Unanswered(failure)) => asking.failed(&probe.repository, &failure),
        // GitHub keeps us from looking: nothing is known of the runs.
        Err(trouble) => {
            let says = trouble.words(asking.language, asking.limit);
            Seen::unknown(format!("GitHub ({repository}) {says}"))
        }
    }
}

/// What the runs say.
#[expect(clippy::cast_precision_loss, reason = "a repository has few workflows")]
fn judge(language: Language, probe: &GithubRunsProbe, rows: &Rows<Run>) -> Seen {
    let repository = &probe.repository;
    let bad = rows.bad;
    if rows.good.is_empty() {
        return Seen::unknown(if bad > 0 {
            say!(
                language,
                "nenhuma das {bad} execuções de {repository} pôde ser lida",
                "none of the {bad} runs of {repository} could be read"
            )
        } else {
            say!(
                language,
                "{repository} não tem execução concluída; confira o ramo e se as Actions estão ativas",
                "{repository} has no completed run; check the branch and whether Actions are on"
            )
        });
    }
    let failed: Vec<&Run> = rows.good.iter().filter(|run| run.failed).collect();
    let (count, all) = (failed.len(), rows.good.len());
    let mut text = if failed.is_empty() {
        say!(language, "{repository}: {all} fluxos, nenhum falhou", "{repository}: {all} workflows, none failed")
    } else {
        let named: Vec<String> =
            failed.iter().take(NAMED).map(|run| format!("{} ({}) {}", run.name, run.branch, run.url)).collect();
        let named = named.join("; ");
        say!(
            language,
            "{repository}: {count} de {all} fluxos falharam: {named}",
            "{repository}: {count} of {all} workflows failed: {named}"
        )
    };
    if bad > 0 {
        text.push_str(&say!(language, "; {bad} execuções não puderam ser lidas", "; {bad} runs could not be read"));
    }
    Seen::judged(language, &probe.limits, count as f64, "count", &text)
}
