//! A finding becomes an issue elsewhere, once: `issue.create`.
//!
//! Making an issue is not idempotent, so each carries a marker that nobody
//! sees. Before one is made it is looked for, here and there; when the answer
//! to making it is lost, it is looked for again and never made twice at once.

use std::time::Duration;

use farol_protocol::{Language, Timestamp};
use tokio::sync::Mutex;

use crate::{
    auth::Operator,
    error::Error,
    integrations::github::{Github, Issue, Repository, Trouble},
    store::{Store, findings::FindingRow},
    text::{clock, plain, say},
};

/// How long GitHub may take for each of its answers.
pub const LIMIT: Duration = Duration::from_secs(15);

/// How long nobody makes an issue again that may have been made.
const DOUBT_MS: i64 = 5 * 60_000;

/// One ticket at a time: two at once would both find nothing.
static TURN: Mutex<()> = Mutex::const_new(());

/// The issue of a finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which.
    pub issue: Issue,
    /// Whether it was made now.
    pub created: bool,
}

/// Why there is none.
#[derive(Debug)]
pub enum NotOpened {
    /// The store failed, or there is no such finding.
    Store(Error),
    /// GitHub refused, and it was not made.
    Refused(Trouble),
    /// Nobody knows whether it was made; asking again finds out.
    Unknown(Trouble),
    /// As before, and the issue is not found yet. None is made before this time.
    Doubtful(Timestamp),
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// What the issue says.
#[derive(Debug)]
pub struct Text {
    /// Its title.
    pub title: String,
    /// Its body without the marker.
    pub body: String,
}

/// What an issue says about a finding. Texts of hosts are data: they stand in
/// a block in which nothing is a mention, a link or a command.
#[must_use]
pub fn text(finding: &FindingRow, host: &str, language: Language) -> Text {
    let (title, severity) = (plain(&finding.title, 150), &finding.severity);
    let said = plain(&finding.text, 1000).replace('`', "'");
    let (opened, id, check) = (clock(finding.opened_at(), language), &finding.id, &finding.check_id);
    Text {
        title: format!("{} ({})", title.replace('@', "@\u{200b}"), plain(host, 100)),
        body: say!(
            language,
            "Aberto pelo Farol.\n\n- Host: `{host}`\n- Verificação: `{check}`\n- Severidade: {severity}\n- Desde: {opened}\n- Achado: `{id}`\n\n```text\n{said}\n```",
            "Opened by Farol.\n\n- Host: `{host}`\n- Check: `{check}`\n- Severity: {severity}\n- Since: {opened}\n- Finding: `{id}`\n\n```text\n{said}\n```",
        ),
    }
}

/// Opens the issue of a finding, or finds the one that is there.
///
/// # Errors
/// It was refused, or nobody knows whether it was made.
pub async fn open(
    store: &Store,
    github: &Github<'_>,
    repository: &Repository,
    by: &Operator,
    finding: &FindingRow,
    text: &Text,
    now: Timestamp,
) -> Result<Opened, NotOpened> {
    let _turn = TURN.lock().await;
    let ticket = store.begin_ticket(by, &finding.id, &repository.to_string(), now).await?;
    if let Some(issue) = ticket.issue {
        return Ok(Opened { issue, created: false });
    }
    let marker = ticket.marker;
    let finish = async |issue: Issue, created: bool| {
        store.finish_ticket(by, &marker, &issue, created, now).await?;
        Ok(Opened { issue, created })
    };
    if let Some(issue) = github.find_issue(repository, &marker).await.map_err(NotOpened::Refused)? {
        return finish(issue, false).await;
    }
    // Search lags behind: what was made without an answer may not be seen yet.
    if let Some(until) = ticket.attempted_at.map(|at| at.plus_ms(DOUBT_MS)).filter(|until| now < *until) {
        return Err(NotOpened::Doubtful(until));
    }
    store.attempt_ticket(&marker, Some(now)).await?;
    let body = format!("{}\n\n<!-- {marker} -->\n", text.body);
    match github.create_issue(repository, &text.title, &body).await {
        Ok(issue) => finish(issue, true).await,
        // An error of the server may come after the deed, as no answer may.
        Err(lost @ (Trouble::Unanswered(_) | Trouble::Refused(200..=299 | 500.., _))) => {
            match github.find_issue(repository, &marker).await {
                Ok(Some(issue)) => finish(issue, true).await,
                Ok(None) | Err(_) => Err(NotOpened::Unknown(lost)),
            }
        }
        Err(trouble) => {
            store.attempt_ticket(&marker, None).await?;
            Err(NotOpened::Refused(trouble))
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use serde_json::json;

    use super::*;
    use crate::integrations::{
        Connection,
        github::tests::{Fault, StandIn},
        http::Clients,
    };

    const ISSUES: &str = "/repos/lab/portal/issues";

    struct Desk {
        _folder: tempfile::TempDir,
        store: Store,
        github: StandIn,
        connection: Connection,
        finding: FindingRow,
    }

    impl Desk {
        async fn start() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Store::open(folder.path()).await.expect("a store");
            let finding = store.some_finding("Disco cheio @equipe", "97 % ``` @equipe").await;
            let (github, connection) = StandIn::start().await;
            Self { _folder: folder, store, github, connection, finding }
        }

        async fn open(&self, after_ms: i64) -> Result<Opened, NotOpened> {
            let (clients, now) = (Clients::default(), Timestamp::from_ms(1_800_000_000_000 + after_ms));
            let limit = Duration::from_millis(1500);
            let github = Github::new(&clients, &self.connection, limit, now).expect("a client");
            let repository = "lab/portal".parse().expect("a repository");
            let text = text(&self.finding, "vm112", Language::En);
            let by = Operator::local_administrator();
            open(&self.store, &github, &repository, &by, &self.finding, &text, now).await
        }
    }

    #[tokio::test]
    async fn a_finding_has_one_issue_however_often_it_is_asked_for() {
        let desk = Desk::start().await;
        let (first, second) = tokio::join!(desk.open(0), desk.open(0));
        let (first, second) = (first.expect("opened"), second.expect("found"));
        assert_eq!((first.created, second.created), (true, false));
        assert_eq!(first.issue, second.issue);
        let posts = desk.github.asked(Method::POST);
        assert_eq!((posts.len(), desk.github.issues()), (1, 1), "exactly one was made");
        assert_eq!(posts[0].headers["authorization"], "Bearer ghp_right_token");
        let body: serde_json::Value = serde_json::from_str(&posts[0].body).expect("JSON");
        let text = body["body"].as_str().expect("a body");
        assert!(text.contains(&format!("<!-- farol-finding-{}", desk.finding.id)), "{text}");
        assert!(text.contains("97 % \'\'\' @equipe\n```"), "a host\'s text does not leave its block: {text}");
        assert!(!body["title"].as_str().expect("a title").contains("@equipe"), "{body}");
    }

    #[tokio::test]
    async fn an_answer_that_is_lost_makes_no_second_issue() {
        let desk = Desk::start().await;
        desk.github.fail(Method::POST, ISSUES, Fault::Silent);
        assert!(desk.open(0).await.expect("it was made").created);
        assert_eq!((desk.github.issues(), desk.github.asked(Method::POST).len()), (1, 1));

        // Not even when it cannot be looked for at once.
        let desk = Desk::start().await;
        desk.github.fail(Method::POST, ISSUES, Fault::Silent);
        desk.github.fail(Method::GET, ISSUES, Fault::Answer(200, vec![], json!([])));
        desk.github.fail(Method::GET, ISSUES, Fault::Answer(502, vec![], json!({"message": "Bad gateway"})));
        assert!(matches!(desk.open(0).await, Err(NotOpened::Unknown(_))));
        assert!(!desk.open(0).await.expect("found").created);
        assert_eq!(desk.github.issues(), 1);
    }

    #[tokio::test]
    async fn an_issue_that_may_be_there_is_only_looked_for_until_five_minutes_have_passed() {
        let desk = Desk::start().await;
        let lost = || Fault::Answer(502, vec![], json!({"message": "Bad gateway"}));
        desk.github.fail(Method::POST, ISSUES, lost());
        assert!(matches!(desk.open(0).await, Err(NotOpened::Unknown(_))));
        let Err(NotOpened::Doubtful(until)) = desk.open(1000).await else { panic!("it was made again") };
        assert_eq!(until, Timestamp::from_ms(1_800_000_000_000 + DOUBT_MS));
        assert_eq!(desk.github.asked(Method::POST).len(), 1);
        assert!(desk.open(DOUBT_MS).await.expect("opened").created);
        assert_eq!((desk.github.issues(), desk.github.asked(Method::POST).len()), (1, 2));
    }

    #[tokio::test]
    async fn a_marked_issue_that_cannot_be_read_is_not_absent() {
        let desk = Desk::start().await;
        let by = Operator::local_administrator();
        let now = Timestamp::from_ms(1_800_000_000_000);
        let ticket = desk.store.begin_ticket(&by, &desk.finding.id, "lab/portal", now).await.expect("begun");
        let odd = json!([{"number": "?", "body": format!("x <!-- {} -->", ticket.marker)}]);
        desk.github.fail(Method::GET, ISSUES, Fault::Answer(200, vec![], odd));
        assert!(matches!(desk.open(0).await, Err(NotOpened::Refused(Trouble::Refused(200, _)))));
        assert_eq!(desk.github.asked(Method::POST).len(), 0);
    }

    #[tokio::test]
    async fn a_refusal_makes_nothing_and_says_which_it_was() {
        let desk = Desk::start().await;
        desk.github.fail(Method::POST, ISSUES, Fault::Answer(410, vec![], json!({"message": "Issues are disabled"})));
        assert!(matches!(desk.open(0).await, Err(NotOpened::Refused(Trouble::IssuesOff))));
        let slow_down = vec![("retry-after", "30".to_owned())];
        desk.github.fail(
            Method::POST,
            ISSUES,
            Fault::Answer(429, slow_down, json!({"message": "secondary rate limit"})),
        );
        let Err(NotOpened::Refused(Trouble::TooOften(until))) = desk.open(0).await else {
            panic!("it was asked too often")
        };
        assert_eq!(until, Timestamp::from_ms(1_800_000_030_000));
        let before = desk.github.asked(Method::GET).len();
        assert!(matches!(desk.open(10_000).await, Err(NotOpened::Refused(Trouble::TooOften(_)))));
        assert_eq!(desk.github.asked(Method::GET).len(), before, "it was left alone");
        assert!(desk.open(31_000).await.expect("opened").created);
        assert_eq!(desk.github.issues(), 1);
    }

    #[tokio::test]
    async fn an_issue_that_cannot_be_looked_for_is_not_made() {
        let desk = Desk::start().await;
        desk.github.fail(Method::GET, "/search/issues", Fault::Answer(503, vec![], json!({"message": "down"})));
        assert!(matches!(desk.open(0).await, Err(NotOpened::Refused(Trouble::Refused(503, _)))));
        assert_eq!(desk.github.asked(Method::POST).len(), 0);
    }
}
