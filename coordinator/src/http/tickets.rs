//! Findings as issues elsewhere.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::{Language, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, Segment},
    problem::ApiError,
};
use crate::{
    app::{App, Shared},
    integrations::{
        Connection, Kind,
        github::{Github, Repository, Trouble},
        http::Clients,
    },
    tickets::{self, LIMIT, NotOpened},
};

/// Option of the integration that names its repositories, with commas between
/// them.
const REPOSITORY: &str = "repository";

/// Where an issue is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueBody {
    /// The integration; needed where there are several of GitHub.
    #[serde(default)]
    integration: Option<String>,
    /// `OWNER/NAME`, one of those in the integration's option `repository`; needed where that names several.
    #[serde(default)]
    repository: Option<String>,
}

/// The issue of a finding.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IssueView {
    /// Its number in the repository.
    number: i64,
    /// Its page.
    html_url: String,
    /// Whether it was opened now; otherwise it was there.
    created: bool,
}

/// Opens an issue about a finding
///
/// Once: whoever asks again gets the one that is there, with `created` false. Where GitHub's answer was lost, asking
/// again finds out. 201 when it was opened now, else 200.
#[utoipa::path(post, path = "/api/v1/findings/{id}/issue", tag = "findings", operation_id = "open_issue",
    params(("id" = String, Path, description = "The finding")), request_body = IssueBody,
    responses((status = 200, body = IssueView), (status = 201, body = IssueView)))]
pub(super) async fn open(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(body): Body<IssueBody>,
) -> Result<(StatusCode, Json<IssueView>), ApiError> {
    let finding = app.store.finding(&id).await?;
    let connection = connection(&app, body.integration.as_deref())?;
    let own = connection.options.get(REPOSITORY).map(String::as_str).unwrap_or_default();
    let repository = repository(body.repository.as_deref(), own).map_err(ApiError::invalid_body)?;
    let host = app.store.host_by_key(finding.host()).await?.name;
    let text = tickets::text(&finding, &host, app.language());
    let (clients, now) = (Clients::default(), Timestamp::now());
    let github = Github::new(&clients, &connection, LIMIT, now)
        .map_err(|failure| ApiError::of(409, "integration_unusable", failure.words(Language::En, LIMIT)))?;
    let opened = tickets::open(&app.store, &github, &repository, &operator, &finding, &text, now)
        .await
        .map_err(|not_opened| refusal(not_opened, now))?;
    let status = if opened.created { StatusCode::CREATED } else { StatusCode::OK };
    let view = IssueView { number: opened.issue.number, html_url: opened.issue.url, created: opened.created };
    Ok((status, Json(view)))
}

/// The repository that is asked for, which is one of the integration's `own`.
fn repository(asked: Option<&str>, own: &str) -> Result<Repository, String> {
    let own: Vec<&str> = own.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let chosen = match (asked, own.as_slice()) {
        (_, []) => return Err("the integration has no option `repository`; set it to OWNER/NAME".to_owned()),
        (None, [only]) => only,
        (None, _) => return Err("the integration has several repositories; name one in `repository`".to_owned()),
        (Some(asked), own) => own.iter().find(|name| name.eq_ignore_ascii_case(asked.trim())).ok_or_else(|| {
            "`repository` is none of those in the integration's option `repository`; add it there".to_owned()
        })?,
    };
    chosen.parse()
}

fn connection(app: &Shared, name: Option<&str>) -> Result<Arc<Connection>, ApiError> {
    let refuse = |detail: &str| Err(ApiError::of(409, "no_integration", detail.to_owned()));
    let all: Vec<_> = app.integrations.all().into_iter().filter(|there| there.kind == Kind::Github).collect();
    match (name, all.as_slice()) {
        (None, [only]) => Ok(Arc::clone(only)),
        (None, []) => refuse("there is no integration of the kind github; make one with `farol integration add`"),
        (None, _) => refuse("there are several integrations of the kind github; name one in `integration`"),
        (Some(name), _) => match all.into_iter().find(|there| there.name == name) {
            Some(there) => Ok(there),
            None => refuse("no integration of the kind github has the name in `integration`"),
        },
    }
}

fn refusal(not_opened: NotOpened, now: Timestamp) -> ApiError {
    let said = |trouble: &Trouble| format!("GitHub {}", trouble.words(Language::En, LIMIT));
    match not_opened {
        NotOpened::Store(error) => error.into(),
        NotOpened::Doubtful(until) => {
            let seconds = u64::try_from(until.since(now) / 1000 + 1).unwrap_or(1);
            let detail = "an earlier attempt had no answer and its issue is not found yet; ask again, which makes a new \
                          one only after five minutes";
            ApiError::of(504, "issue_unknown", detail.to_owned()).retry_after(seconds)
        }
        NotOpened::Refused(trouble @ Trouble::IssuesOff) => ApiError::of(409, "issues_disabled", said(&trouble)),
        NotOpened::Refused(Trouble::TooOften(until)) => {
            let trouble = Trouble::TooOften(until);
            let seconds = u64::try_from(until.since(now) / 1000 + 1).unwrap_or(1);
            ApiError::of(503, "github_rate_limited", said(&trouble)).retry_after(seconds)
        }
        NotOpened::Refused(trouble) => {
            ApiError::of(502, "github_refused", format!("{}; nothing was opened", said(&trouble)))
        }
        NotOpened::Unknown(trouble) => ApiError::of(
            504,
            "issue_unknown",
            format!("{}; whether the issue was opened is not known, and asking again finds out", said(&trouble)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_goes_to_one_of_the_integrations_own_repositories_only() {
        let named = |asked, own| repository(asked, own).map(|there| there.to_string());
        assert_eq!(named(None, "lab/portal").as_deref(), Ok("lab/portal"));
        assert_eq!(named(Some("Lab/Other"), "lab/portal, lab/other").as_deref(), Ok("lab/other"));
        for (asked, own, says) in [
            (Some("lab/secret"), "lab/portal", "none of those"),
            (Some("lab/portal"), "", "no option"),
            (None, "lab/portal,lab/other", "several"),
        ] {
            let said = named(asked, own).expect_err(says);
            assert!(said.contains(says), "{said}");
        }
    }
}
