//! Signals: facts that others send. Each is stored, then becomes a report that
//! passes the same way as any other: writer, correlator, finding, thread.
//!
//! A signal and its report lie in two databases. The signal is stored first and
//! says whether its report is; what a crash leaves in between is reported by
//! [`waiting`], and the report's id keeps it from counting twice.

pub mod alertmanager;
pub mod judge;
pub mod runbooks;

use std::{sync::Arc, time::Duration};

use farol_protocol::{Status, Timestamp};
use hyper::{HeaderMap, header};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::{
    app::Shared,
    error::{Error, Result},
    fleet::http::Denied,
    ingest::{self, Refusal, Sender},
    store::{
        bulk::Bulk,
        hosts::{Enrolment, HostKey, SITE_PREFIX},
        signals::{Alert, NewSignal, SignalRow},
    },
    text::plain,
};

/// Largest detail, in bytes of JSON.
const DETAIL_BYTES: usize = 32 * 1024;
/// Longest summary that is kept.
const SUMMARY: usize = 1000;
/// How long an answer waits for the report's commit. The signal is on disk by
/// then, so a slow writer costs the sender nothing.
const COMMIT_WAIT: Duration = Duration::from_secs(5);
/// Signals that are reported at once after a crash.
const BATCH: i64 = 500;
/// Stands for all sites that the registry does not list. No site is called so.
const UNLISTED: &str = "~unlisted";

/// The shared token among the keys whose requests are counted. No key is called so.
const SHARED: &str = "~signals";

/// A signal as it was understood, before it is known which host it is about.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    site_id: String,
    kind: String,
    summary: String,
    detail: Map<String, Value>,
    severity: String,
    source: String,
    observed_at: Option<Timestamp>,
    status: Status,
    /// Names that the host may have here, the surest first.
    hosts: Vec<String>,
    /// Name of the alert and its key, for one of Alertmanager's.
    alert: Option<(String, Alert)>,
}

/// What `POST /api/signals` takes.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) site_id: String,
    pub(crate) kind: String,
    pub(crate) summary: String,
    pub(crate) detail: Option<Map<String, Value>>,
    pub(crate) severity: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) observed_at: Option<String>,
}

impl Draft {
    /// Judges what a sender says.
    ///
    /// # Errors
    /// Which field is wrong, and how it should be.
    pub(crate) fn new(fields: Fields) -> Result<Self, String> {
        let summary = plain(&fields.summary, SUMMARY);
        if summary.is_empty() {
            return Err("`summary` is empty".to_owned());
        }
        let observed_at = match fields.observed_at.as_deref() {
            None => None,
            Some(text) => Some(judge::time(text).ok_or_else(|| {
                format!("`observed_at` is `{}`, not an ISO 8601 time such as 2026-11-20T12:00:00Z", plain(text, 64))
            })?),
        };
        let severity = word("severity", fields.severity.as_deref().unwrap_or("info"), 32)?;
        let detail = judge::tidy(fields.detail.unwrap_or_default());
        check_size(&detail)?;
        Ok(Self {
            site_id: word("site_id", &fields.site_id, 64)?,
            kind: word("kind", &fields.kind, 64)?,
            hosts: judge::hosts_in(&detail).into_iter().map(str::to_owned).collect(),
            status: judge::status(&severity),
            source: word("source", fields.source.as_deref().unwrap_or("agent"), 64)?,
            summary,
            detail,
            severity,
            observed_at,
            alert: None,
        })
    }
}

fn check_size(detail: &Map<String, Value>) -> Result<(), String> {
    match serde_json::to_vec(detail).map_or(usize::MAX, |bytes| bytes.len()) {
        size if size > DETAIL_BYTES => Err(format!("`detail` is larger than {DETAIL_BYTES} bytes")),
        _ => Ok(()),
    }
}

/// A short text that stays as it is, or is refused.
fn word(name: &str, text: &str, max: usize) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    if text.chars().count() > max || text.chars().any(char::is_control) {
        return Err(format!("`{name}` is not one line of at most {max} characters"));
    }
    Ok(text.to_owned())
}

/// Who posts a signal: whoever may post telemetry, or holds the shared token.
///
/// # Errors
/// There is no token, it is not known, or it may not post.
pub(crate) async fn sender(app: &Shared, headers: &HeaderMap, now: Timestamp) -> Result<Sender, Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        None => Err(Refusal::Unauthenticated(
            "unauthenticated",
            "send `authorization: Bearer TOKEN`; make a token with `farol host key add` or `farol token create`, or set \
             FAROL_SIGNALS_TOKEN"
                .to_owned(),
        )),
        Some(token) if app.config.access.is_signals_token(token) => {
            if !app.http_keys.admit(SHARED, now) {
                return Err(Refusal::Denied(Denied::TooMany));
            }
            Ok(Sender::Anyone)
        }
        Some(_) => ingest::bearer(app, headers, now).await,
    }
}

/// Stores signals in one transaction, reports them, and answers each as it is
/// stored; none for an alert that was stored already.
///
/// # Errors
/// The store failed; nothing was stored.
pub(crate) async fn take(
    app: &Shared,
    sender: &Sender,
    drafts: Vec<Draft>,
    now: Timestamp,
) -> Result<Vec<Option<SignalRow>>> {
    let mut new = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let (host, elsewhere) = host_of(app, sender, &draft, now).await?;
        let (check, alert) = match draft.alert {
            None => (judge::check_of_signal(&draft.kind, &draft.detail, elsewhere.as_deref()), None),
            Some((name, alert)) => (judge::check_of_alert(&name, &alert.fingerprint), Some(alert)),
        };
        new.push(NewSignal {
            row: SignalRow {
                id: 0,
                site_id: draft.site_id,
                kind: draft.kind,
                summary: draft.summary,
                detail: draft.detail,
                severity: draft.severity,
                source: draft.source,
                observed_at: judge::observed(draft.observed_at, now),
                received_at: now,
                host,
                check,
                status: draft.status,
                listed_only: false,
            },
            alert,
            own_host: matches!(sender, Sender::Host(_)),
        });
    }
    let stored = app.store.add_signals(new).await?;
    let rows: Vec<&SignalRow> = stored.iter().flatten().filter(|row| !row.listed_only).collect();
    // They are on disk: what goes wrong from here on is made good by the job.
    if let Err(error) = report(app, &rows).await {
        tracing::warn!("signals are stored but not reported yet: {error}");
    }
    Ok(stored)
}

/// Reports what is stored but was not reported: after a crash, or when the
/// writer was slow.
///
/// # Errors
/// The store failed.
pub(crate) async fn waiting(app: &Shared) -> Result<()> {
    loop {
        let rows = app.store.waiting_signals(BATCH).await?;
        if rows.is_empty() || report(app, &rows.iter().collect::<Vec<_>>()).await? == 0 {
            return Ok(());
        }
    }
}

/// Answers how many are reported.
async fn report(app: &Shared, rows: &[&SignalRow]) -> Result<usize> {
    let mut sent = Vec::with_capacity(rows.len());
    for row in rows {
        let done = Arc::new(Notify::new());
        let item = Bulk::Push {
            host: row.host,
            id: format!("signal/{}/{}", row.id, row.received_at.as_ms()),
            observed_at: row.observed_at,
            received_at: row.received_at,
            payload: "{}".to_owned(),
            reports: vec![judge::report(row)],
            stream: None,
            done: Arc::clone(&done),
        };
        if app.bulk.send(item).await.is_err() {
            break;
        }
        sent.push((row.id, done));
    }
    let mut reported = Vec::with_capacity(sent.len());
    let deadline = tokio::time::Instant::now() + COMMIT_WAIT;
    for (id, done) in sent {
        if tokio::time::timeout_at(deadline, done.notified()).await.is_ok() {
            reported.push(id);
        }
    }
    app.store.signals_reported(&reported).await?;
    Ok(reported.len())
}

/// The host that a signal is about, and what sets its checks apart where that is
/// one that stands for a site: many senders share it. A host's own token speaks
/// for that host alone.
async fn host_of(app: &Shared, sender: &Sender, draft: &Draft, now: Timestamp) -> Result<(HostKey, Option<String>)> {
    if let Sender::Host(own) = sender {
        return Ok((*own, None));
    }
    let watched = app.watched();
    for name in &draft.hosts {
        for (candidate, is_short) in judge::names_of(name) {
            let site = watched.registry.host(&candidate).and_then(|host| host.site.as_deref());
            if !judge::may_be(is_short, site, &draft.site_id) {
                continue;
            }
            match app.store.host(&candidate).await {
                Ok(host) if host.name == candidate && host.enrolment != Enrolment::Revoked => {
                    return Ok((host.key, None));
                }
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let listed = watched.registry.sites.iter().any(|site| site.id == draft.site_id);
    let name = format!("{SITE_PREFIX}{}", if listed { &draft.site_id } else { UNLISTED });
    let teller = match draft.hosts.first() {
        Some(name) => format!("host {}", name.to_lowercase()),
        None => format!("source {}", draft.source),
    };
    Ok((app.store.site_host(&name, now).await?, Some(format!("{}\n{teller}", draft.site_id))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields() -> Fields {
        Fields {
            site_id: "lab".to_owned(),
            kind: "container_down".to_owned(),
            summary: "Container web is down".to_owned(),
            detail: json!({"container": "web"}).as_object().cloned(),
            severity: None,
            source: None,
            observed_at: None,
        }
    }

    #[test]
    fn what_is_not_said_has_its_default_and_texts_are_one_line() {
        let draft = Draft::new(Fields { summary: "a\u{1b}b\nc".to_owned(), ..fields() }).expect("good");
        assert_eq!((draft.severity.as_str(), draft.source.as_str(), draft.status), ("info", "agent", Status::Ok));
        assert_eq!(draft.summary, "a b c");
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let large = json!({"list": vec!["x".repeat(1500); 30]}).as_object().cloned();
        for (fields, says) in [
            (Fields { site_id: " ".to_owned(), ..fields() }, "`site_id` is empty"),
            (Fields { kind: "k".repeat(65), ..fields() }, "`kind`"),
            (Fields { summary: "\u{7}".to_owned(), ..fields() }, "`summary` is empty"),
            (Fields { severity: Some("a\nb".to_owned()), ..fields() }, "`severity`"),
            (Fields { observed_at: Some("soon".to_owned()), ..fields() }, "`observed_at` is `soon`"),
            (Fields { detail: large, ..fields() }, "`detail` is larger"),
        ] {
            let said = Draft::new(fields).expect_err(says);
            assert!(said.contains(says), "{said}");
        }
    }
}
