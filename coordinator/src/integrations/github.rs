//! GitHub, or a server with its API: workflow runs and issues.
//!
//! **Invariant.** Once GitHub says that it was asked too often, it is not asked
//! again before the time it names.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use farol_protocol::{Language, Timestamp};
use reqwest::{Client, Method, RequestBuilder, header};
use serde_json::{Map, Value, json};

use super::{
    Connection,
    http::{Answer, Clients, Failure, exchange, redacted},
    lenient::{self, Rows},
};
use crate::text::{clock, plain, say};

/// The version of the API that is spoken.
const VERSION: &str = "2022-11-28";
/// Rows of a page; GitHub gives no more.
const PAGE: &str = "100";
/// Where GitHub does not say how long to wait.
const PAUSE_MS: i64 = 60_000;
/// What is waited for at most, whatever a server says.
const LONGEST_PAUSE_MS: i64 = 3_600_000;

/// Until when each connection is left alone.
static PAUSES: LazyLock<Mutex<HashMap<String, Timestamp>>> = LazyLock::new(Mutex::default);

/// A repository, `OWNER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(String);

impl std::str::FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            (1..=100).contains(&part.len())
                && part != "."
                && part != ".."
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Ok(Self(text.to_owned())),
            _ => Err(format!("`{}` is not a repository such as owner/name", plain(text, 100))),
        }
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The newest run of a workflow that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which workflow.
    pub workflow: i64,
    /// Its name.
    pub name: String,
    /// Branch.
    pub branch: String,
    /// Whether it failed.
    pub failed: bool,
    /// Its page.
    pub url: String,
}

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Number in its repository.
    pub number: i64,
    /// Its page.
    pub url: String,
}

/// Why GitHub did not do it.
#[derive(Debug)]
pub enum Trouble {
    /// There was no answer that can be read; what was asked may have been done.
    Unanswered(Failure),
    /// The token is wrong, expired or revoked.
    Unauthorized,
    /// The token may not do this.
    Forbidden(String),
    /// There is no such repository, or the token may not see it.
    NotFound,
    /// The repository has no issues.
    IssuesOff,
    /// It was asked too often.
    TooOften(Timestamp),
    /// Anything else.
    Refused(u16, String),
}

impl Trouble {
    /// In the operator's words. `limit` is how long was waited.
    #[must_use]
    pub fn words(&self, language: Language, limit: Duration) -> String {
        match self {
            Self::Unanswered(failure) => failure.words(language, limit),
            Self::Unauthorized => say!(
                language,
                "recusou o token; faça outro e atualize a integração",
                "refused the token; make another one and update the integration"
            ),
            Self::Forbidden(why) => {
                say!(language, "não permite isso ao token: {why}", "does not allow the token this: {why}")
            }
            Self::NotFound => say!(
                language,
                "não mostra o repositório; confira o nome e o acesso do token",
                "does not show the repository; check its name and what the token may see"
            ),
            Self::IssuesOff => {
                say!(
                    language,
                    "tem as issues desativadas neste repositório",
                    "has issues turned off in this repository"
                )
            }
            Self::TooOften(until) => {
                let until = clock(*until, language);
                say!(language, "limitou as consultas até {until}", "limits requests until {until}")
            }
            Self::Refused(status, why) => say!(language, "respondeu {status}: {why}", "answered {status}: {why}"),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Unanswered(failure)
    }
}

/// A client for one connection.
pub struct Github<'a> {
    client: Client,
    connection: &'a Connection,
    base: &'a str,
    limit: Duration,
    now: Timestamp,
}

impl<'a> Github<'a> {
    /// Uses `connection`; each question has `limit`.
    ///
    /// # Errors
    /// It has no address, or its TLS choice cannot be used.
    pub fn new(
        clients: &Clients,
        connection: &'a Connection,
        limit: Duration,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let base = connection.endpoints.first().ok_or_else(|| Failure::Unusable("it has no address".to_owned()))?;
        Ok(Self { client: clients.of(&connection.tls)?, connection, base: base.trim_end_matches('/'), limit, now })
    }

    /// Of each workflow the newest run on `branch` (the default branch where
    /// none is given) that has ended in a way that says something.
    ///
    /// # Errors
    /// There was no answer, or not with runs.
    pub async fn newest_runs(&self, repository: &Repository, branch: Option<&str>) -> Result<Rows<Run>, Trouble> {
        let branch = match branch {
            Some(branch) => branch.to_owned(),
            None => {
                let document = self.get(&format!("/repos/{repository}"), &[]).await?;
                lenient::text(&document["default_branch"])
                    .map(str::to_owned)
                    .ok_or_else(|| unreadable("the repository names no default branch"))?
            }
        };
        let path = format!("/repos/{repository}/actions/runs");
        let query = [("branch", branch.as_str()), ("exclude_pull_requests", "true"), ("per_page", PAGE)];
        let document = self.get(&path, &query).await?;
        let rows = lenient::rows(&document["workflow_runs"], run)
            .ok_or_else(|| unreadable("the answer holds no list of runs"))?;
        let mut newest: Vec<Run> = Vec::new();
        // The newest come first.
        for run in rows.good.into_iter().flatten() {
            if !newest.iter().any(|known| (known.workflow, &known.branch) == (run.workflow, &run.branch)) {
                newest.push(run);
            }
        }
        Ok(Rows { good: newest, bad: rows.bad })
    }

    /// An issue whose text holds `marker`: among the newest, which are always
    /// up to date, then by search, which lags behind but sees all.
    ///
    /// # Errors
    /// It could not be looked for everywhere.
    pub async fn find_issue(&self, repository: &Repository, marker: &str) -> Result<Option<Issue>, Trouble> {
        let query = [("state", "all"), ("sort", "created"), ("direction", "desc"), ("per_page", PAGE)];
        let newest = self.get(&format!("/repos/{repository}/issues"), &query).await?;
        if let Some(issue) = with_marker(&newest, marker)? {
            return Ok(Some(issue));
        }
        let wanted = format!("repo:{repository} is:issue in:body \"{marker}\"");
        let found = self.get("/search/issues", &[("q", &wanted), ("per_page", PAGE)]).await?;
        with_marker(&found["items"], marker)
    }

    /// Makes an issue. Where this fails with [`Trouble::Unanswered`] it may
    /// have been made all the same.
    ///
    /// # Errors
    /// It was refused, or nobody knows.
    pub async fn create_issue(&self, repository: &Repository, title: &str, body: &str) -> Result<Issue, Trouble> {
        let request = self
            .request(Method::POST, &format!("/repos/{repository}/issues"))?
            .json(&json!({"title": title, "body": body}));
        let answer = self.answer(request).await?;
        issue(&answer).ok_or_else(|| unreadable("the answer names no issue"))
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Trouble> {
        self.answer(self.request(Method::GET, path)?.query(query)).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Trouble> {
        let paused = PAUSES.lock().unwrap_or_else(PoisonError::into_inner).get(&self.place()).copied();
        if let Some(until) = paused.filter(|until| *until > self.now) {
            return Err(Trouble::TooOften(until));
        }
        Ok(self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(self.connection.secret())
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("X-GitHub-Api-Version", VERSION))
    }

    /// What shares a limit.
    fn place(&self) -> String {
        format!("{}\n{}", self.connection.id, self.base)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, Trouble> {
        let answer = exchange(request, self.limit).await?;
        if answer.is_success() {
            return Ok(answer.json()?);
        }
        let said = answer.json().ok().and_then(|body| body["message"].as_str().map(str::to_owned));
        let said = said.map_or_else(
            || answer.start(&[self.connection.secret()]),
            |said| plain(&redacted(&said, &[self.connection.secret()]), 200),
        );
        if matches!(answer.status, 403 | 429)
            && let Some(until) = pause(&answer, self.now)
        {
            PAUSES.lock().unwrap_or_else(PoisonError::into_inner).insert(self.place(), until);
            return Err(Trouble::TooOften(until));
        }
        Err(match answer.status {
            401 => Trouble::Unauthorized,
            403 => Trouble::Forbidden(said),
            404 => Trouble::NotFound,
            410 => Trouble::IssuesOff,
            status => Trouble::Refused(status, said),
        })
    }
}

fn unreadable(why: &str) -> Trouble {
    Trouble::Refused(200, why.to_owned())
}

/// Until when not to ask again; none for a refusal that has other reasons.
fn pause(answer: &Answer, now: Timestamp) -> Option<Timestamp> {
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let until = match (number("retry-after"), number("x-ratelimit-remaining")) {
        (Some(seconds), _) => now.plus_ms(seconds.max(1).saturating_mul(1000)),
        (None, Some(0)) => {
            number("x-ratelimit-reset").map_or(now.plus_ms(PAUSE_MS), |at| Timestamp::from_ms(at.saturating_mul(1000)))
        }
        (None, _) if answer.status == 429 => now.plus_ms(PAUSE_MS),
        (None, _) => return None,
    };
    Some(until.clamp(now.plus_ms(1000), now.plus_ms(LONGEST_PAUSE_MS)))
}

/// A row of the list of runs: `Some(None)` for one that says nothing, since it
/// has not ended or was not meant to.
fn run(row: &Map<String, Value>) -> Option<Option<Run>> {
    let field = |name: &str| lenient::text(row.get(name)?);
    let (workflow, branch) = (lenient::integer(row.get("workflow_id")?)?, field("head_branch")?);
    if field("status")? != "completed" {
        return Some(None);
    }
    let failed = match field("conclusion")? {
        "failure" | "timed_out" | "startup_failure" => true,
        "success" | "neutral" => false,
        // Cancelled, skipped, stale, waiting for somebody, or newer than this.
        _ => return Some(None),
    };
    Some(Some(Run {
        workflow,
        name: plain(field("name").unwrap_or("workflow"), 80),
        branch: plain(branch, 80),
        failed,
        url: plain(field("html_url").unwrap_or_default(), 200),
    }))
}

fn issue(row: &Value) -> Option<Issue> {
    Some(Issue { number: lenient::integer(&row["number"])?, url: plain(lenient::text(&row["html_url"])?, 300) })
}

fn with_marker(list: &Value, marker: &str) -> Result<Option<Issue>, Trouble> {
    let list = list.as_array().ok_or_else(|| unreadable("the answer holds no list of issues"))?;
    let marked = |row: &&Value| row["body"].as_str().is_some_and(|body| body.contains(marker));
    // Pull requests are in the list of issues too.
    let mut marked = list.iter().filter(|row| row.get("pull_request").is_none()).filter(marked).peekable();
    if marked.peek().is_none() {
        return Ok(None);
    }
    // It is there: whoever takes it for absent makes a second one.
    marked.find_map(issue).map(Some).ok_or_else(|| unreadable("the issue with the marker cannot be read"))
}

#[cfg(test)]
pub(crate) mod tests;
