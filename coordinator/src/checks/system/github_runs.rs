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

#[cfg(test)]
mod tests {
    use farol_protocol::{report::Limits, system::SystemProbe};
    use farol_tests::product::{Product, Reply};
    use serde_json::json;

    use crate::{
        checks::system::{
            ask,
            testing::{asking, connection},
        },
        integrations::{Kind, http::Clients},
    };

    #[tokio::test]
    async fn a_token_that_the_server_repeats_is_hidden_in_all_its_spellings_also_where_a_text_is_cut() {
        // `octo:pa/ss+word99`
        let long = format!("{}pa/ss+word99", "x".repeat(190));
        for told in ["pa/ss+word99", "pa%2Fss%2Bword99", "b2N0bzpwYS9zcyt3b3JkOTk=", &long] {
            let body = json!({"message": format!("said {told} here")});
            let product = Product::start(move |_| Reply::json(500, &body)).await.expect("a server");
            let connection = connection(Kind::Github, &product, Some("octo"), "pa/ss+word99");
            let probe = SystemProbe::GithubRuns(super::GithubRunsProbe {
                integration: "casa".to_owned(),
                repository: "o/r".to_owned(),
                branch: None,
                limits: Limits::default(),
            });
            let clients = Clients::default();
            let seen = ask(&asking(&clients), &probe, Some(&connection)).await;
            assert!(seen.text.contains('•'), "{told}: {}", seen.text);
            assert!(
                !seen.text.contains("pa/") && !seen.text.contains("pa%") && !seen.text.contains("b2N0"),
                "{}",
                seen.text
            );
        }
    }
}
