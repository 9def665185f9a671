//! The page behind a link in a message: opening it changes nothing, so that
//! scanners and previews may; its button acknowledges, once, without a login.
//!
//! **Invariant.** No script, nothing from elsewhere, nothing kept: whoever has
//! the link sees title, host, severity and time of one finding, no more.

use std::sync::LazyLock;

use axum::{extract::State, http::StatusCode, response::Response};
use farol_protocol::{Language, Timestamp, registry::Severity};

use super::{extract::Segment, page::Page};
use crate::{
    app::App,
    auth::Operator,
    error::Result,
    notify::matrix::html,
    store::{findings::FindingRow, links::Link},
    text::{clock, say, severity_word},
};

static PAGE: LazyLock<Page> = LazyLock::new(|| Page::new("", None));

/// Shows what a link acknowledges
///
/// Changes nothing.
#[utoipa::path(get, path = "/n/{token}", tag = "notifications", operation_id = "show_link", security(()),
    params(("token" = String, Path, description = "The link's secret")),
    responses((status = 200, body = String, content_type = "text/html"),
        (status = 404, body = String, content_type = "text/html"),
        (status = 410, body = String, content_type = "text/html")))]
pub(super) async fn show(State(app): State<App>, Segment(token): Segment<String>) -> Response {
    let language = app.language();
    match look(&app, &token).await {
        Ok(seen) => page(language, &seen),
        Err(error) => trouble(language, &error),
    }
}

/// Acknowledges what a link is about, once
#[utoipa::path(post, path = "/n/{token}", tag = "notifications", operation_id = "use_link", security(()),
    params(("token" = String, Path, description = "The link's secret")),
    responses((status = 200, body = String, content_type = "text/html"),
        (status = 404, body = String, content_type = "text/html"),
        (status = 409, body = String, content_type = "text/html"),
        (status = 410, body = String, content_type = "text/html")))]
pub(super) async fn acknowledge(State(app): State<App>, Segment(token): Segment<String>) -> Response {
    let language = app.language();
    match act(&app, &token).await {
        Ok(seen) => page(language, &seen),
        Err(error) => trouble(language, &error),
    }
}

/// What a link is now.
enum Seen {
    Unknown,
    Expired(Timestamp),
    /// It was used, and this is how the finding is.
    Used(Finding),
    /// There is something to acknowledge.
    Open(Finding),
    /// Somebody has acknowledged it, by this link just now or in another way.
    Acknowledged(Finding, bool),
    /// It is over; whether that was to be changed.
    Resolved(Finding, bool),
}

struct Finding {
    row: FindingRow,
    host: String,
}

async fn look(app: &App, token: &str) -> Result<Seen> {
    let Some(link) = app.store.link(token).await? else { return Ok(Seen::Unknown) };
    let finding = finding(app, &link).await?;
    Ok(if link.used_at().is_some() {
        Seen::Used(finding)
    } else if link.expires_at() <= Timestamp::now() {
        Seen::Expired(link.expires_at())
    } else {
        // One that is kept quiet may be acknowledged too.
        match (finding.row.state.as_str(), finding.row.acknowledged_at()) {
            ("resolved", _) => Seen::Resolved(finding, false),
            (_, Some(_)) => Seen::Acknowledged(finding, false),
            (_, None) => Seen::Open(finding),
        }
    })
}

async fn finding(app: &App, link: &Link) -> Result<Finding> {
    let row = app.store.finding(&link.finding_id).await?;
    let host = app.store.host_by_key(row.host()).await?.name;
    Ok(Finding { row, host })
}

async fn act(app: &App, token: &str) -> Result<Seen> {
    match look(app, token).await? {
        Seen::Open(_) => {}
        Seen::Resolved(finding, _) => return Ok(Seen::Resolved(finding, true)),
        other => return Ok(other),
    }
    if !app.store.use_link(token, Timestamp::now()).await? {
        // Somebody was quicker with the same link.
        return look(app, token).await;
    }
    let Some(link) = app.store.link(token).await? else { return Ok(Seen::Unknown) };
    let channel = match link.channel.strip_prefix("integration:") {
        Some(name) => name,
        None if link.channel == "email" => "e-mail",
        None => &link.channel,
    };
    let by = Operator::holder_of_link(&link.recipient, channel);
    match app.acknowledge(&by, &link.finding_id, None).await {
        Ok(row) => {
            let host = app.store.host_by_key(row.host()).await?.name;
            let finding = Finding { row, host };
            Ok(if finding.row.state == "resolved" {
                Seen::Resolved(finding, true)
            } else {
                Seen::Acknowledged(finding, true)
            })
        }
        Err(error) => {
            app.store.give_link_back(token).await?;
            // It may have resolved in between.
            match look(app, token).await? {
                Seen::Resolved(finding, _) => Ok(Seen::Resolved(finding, true)),
                _ => Err(error),
            }
        }
    }
}

fn page(language: Language, seen: &Seen) -> Response {
    let (status, heading, text, finding) = match seen {
        Seen::Unknown => (
            StatusCode::NOT_FOUND,
            say!(language, "Link desconhecido", "Unknown link"),
            say!(
                language,
                "Este link não existe ou foi esquecido. Veja o achado no Farol.",
                "This link does not exist or was forgotten. Look at the finding in Farol."
            ),
            None,
        ),
        Seen::Expired(at) => {
            let at = clock(*at, language);
            (
                StatusCode::GONE,
                say!(language, "Link expirado", "Expired link"),
                say!(
                    language,
                    "Este link valia até {at}. Reconheça o achado no Farol.",
                    "This link was good until {at}. Acknowledge the finding in Farol."
                ),
                None,
            )
        }
        Seen::Used(finding) => (
            StatusCode::GONE,
            say!(language, "Link já usado", "Link used already"),
            say!(
                language,
                "Cada link vale uma vez. O achado está assim:",
                "Each link is good once. This is how the finding is:"
            ),
            Some(finding),
        ),
        Seen::Open(finding) => (
            StatusCode::OK,
            finding.row.title.clone(),
            say!(
                language,
                "Reconhecer diz a todos que alguém está cuidando. Nada é executado.",
                "Acknowledging tells everybody that somebody looks after it. Nothing is run."
            ),
            Some(finding),
        ),
        Seen::Acknowledged(finding, true) => (
            StatusCode::OK,
            say!(language, "Reconhecido", "Acknowledged"),
            say!(language, "Obrigado. Os outros já sabem.", "Thank you. The others know."),
            Some(finding),
        ),
        Seen::Acknowledged(finding, false) => (
            StatusCode::OK,
            say!(language, "Já reconhecido", "Acknowledged already"),
            say!(language, "Não há nada a fazer aqui.", "There is nothing to do here."),
            Some(finding),
        ),
        Seen::Resolved(finding, wanted) => (
            if *wanted { StatusCode::CONFLICT } else { StatusCode::OK },
            say!(language, "Já resolvido", "Resolved already"),
            say!(
                language,
                "O problema acabou, então não há o que reconhecer.",
                "The problem is over, so there is nothing to acknowledge."
            ),
            Some(finding),
        ),
    };
    let button = if matches!(seen, Seen::Open(_)) {
        let label = say!(language, "Reconhecer", "Acknowledge");
        format!("<form method=\"post\"><button type=\"submit\">{label}</button></form>")
    } else {
        String::new()
    };
    let facts = finding.map_or_else(String::new, |finding| facts(language, finding));
    PAGE.answer(language, status, &heading, &text, &format!("{facts}{button}"))
}

fn facts(language: Language, Finding { row, host }: &Finding) -> String {
    let severity = [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical]
        .into_iter()
        .find(|known| known.as_str() == row.severity)
        .map_or(row.severity.as_str(), |severity| severity_word(severity, language));
    let mut lines = vec![
        (say!(language, "Achado", "Finding"), row.title.clone()),
        ("Host".to_owned(), host.clone()),
        (say!(language, "Gravidade", "Severity"), severity.to_owned()),
        (say!(language, "Desde", "Since"), clock(row.opened_at(), language)),
    ];
    if let (Some(by), Some(at)) = (&row.acknowledged_by, row.acknowledged_at()) {
        let at = clock(at, language);
        lines.push((say!(language, "Reconhecido por", "Acknowledged by"), format!("{by}, {at}")));
    }
    if let Some(at) = row.resolved_at() {
        lines.push((say!(language, "Resolvido", "Resolved"), clock(at, language)));
    }
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", html(name), html(value))).collect();
    format!("<dl>{}</dl>", lines.concat())
}

fn trouble(language: Language, error: &crate::error::Error) -> Response {
    tracing::warn!("a link could not be used: {error}");
    PAGE.answer(
        language,
        StatusCode::SERVICE_UNAVAILABLE,
        &say!(language, "Não foi possível", "This did not work"),
        &say!(
            language,
            "O Farol não conseguiu fazer isto agora. O link continua valendo; tente de novo.",
            "Farol could not do this now. The link is still good; try again."
        ),
        "",
    )
}
