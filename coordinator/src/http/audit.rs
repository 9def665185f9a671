//! The record as a chain: to read, to verify, to take along.

use std::{io, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use farol_protocol::Timestamp;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Limit, List, Query, Start},
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    error::Error,
    record::{
        self, Place, RecordKey, Verdict,
        bundle::{Range, export, settled},
    },
    store::audit::{Entry, Wanted},
};

/// For so long a verdict counts for whoever asks again.
const FRESH: Duration = Duration::from_secs(5);
/// An export is over by then.
const LONGEST_EXPORT: Duration = Duration::from_secs(1800);
/// Pieces of a bundle that wait for their reader.
const PIECES: usize = 4;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Who.
    #[serde(default)]
    actor: String,
    /// Beginning of what was done, such as `action.` or `action.approval`.
    #[serde(default)]
    verb: String,
    /// To what: a kind such as `host`, or a kind and an id such as `host:vm112`.
    #[serde(default)]
    object: String,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

/// The record with each entry's place in the chain, newest first
#[utoipa::path(get, path = "/api/v1/audit", tag = "record", operation_id = "audit", params(AuditQuery),
    responses((status = 200, body = List<Entry>)))]
pub(super) async fn list(State(app): State<App>, Query(query): Query<AuditQuery>) -> Answer<List<Entry>> {
    let (kind, id) = query.object.split_once(':').unwrap_or((&query.object, ""));
    let wanted = Wanted {
        actor: query.actor.clone(),
        verb: query.verb.clone(),
        object_kind: kind.to_owned(),
        object_id: id.to_owned(),
    };
    let page = app.store.audit_of(&wanted, &query.cursor.0, query.limit.0).await?;
    Ok(Json(List::of(page, |entry| entry)))
}

/// Where the chain ends.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeadView {
    /// `SEQ:HASH`; null before anything was sealed.
    #[schema(example = "118:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    head: Option<String>,
    /// When it was sealed.
    #[schema(value_type = Option<String>, format = DateTime)]
    sealed_at: Option<Timestamp>,
    /// The key that signed it.
    public_key: Option<String>,
    /// Its signature, base64url.
    signature: Option<String>,
    /// Entries that are not sealed yet.
    unsealed: u64,
    /// When the oldest of them was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    unsealed_since: Option<Timestamp>,
    /// Why nothing is sealed, if so.
    trouble: Option<String>,
}

/// Where the chain ends, signed
///
/// Keep `head` elsewhere: nothing before it can be changed or cut off any more without being found.
#[utoipa::path(get, path = "/api/v1/audit/head", tag = "record", operation_id = "audit_head",
    responses((status = 200, body = HeadView)))]
pub(super) async fn head(State(app): State<App>) -> Answer<HeadView> {
    let (head, unsealed) = (app.store.head().await?, app.store.unsealed().await?);
    Ok(Json(HeadView {
        sealed_at: head.as_ref().map(|head| head.sealed_at),
        public_key: head.as_ref().map(|head| head.public_key.clone()),
        signature: head.as_ref().map(|head| head.signature.clone()),
        head: head.map(|head| head.place.to_string()),
        unsealed: unsealed.count,
        unsealed_since: unsealed.since,
        trouble: app.sealing.error(),
    }))
}

/// What to compare with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyQuery {
    /// A head that was kept elsewhere, `SEQ:HASH`.
    #[serde(default)]
    against: Option<String>,
}

/// Verifies all of the record
///
/// Takes about ten seconds for a million entries. Who asks while another verification runs waits for it; `ok` says what
/// came of it, `faults` names what is not as it was written.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "record", operation_id = "verify_audit", params(VerifyQuery),
    responses((status = 200, body = Verdict)))]
pub(super) async fn verify(State(app): State<App>, Query(query): Query<VerifyQuery>) -> Answer<Verdict> {
    let against: Vec<Place> =
        query.against.as_deref().map(str::parse).transpose().map_err(ApiError::invalid_query)?.into_iter().collect();
    let mut last = app.sealing.verified.lock().await;
    if let Some((at, verdict)) = last.as_ref().filter(|(at, _)| against.is_empty() && at.elapsed() < FRESH) {
        tracing::debug!(age_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(0), "a fresh verdict counts");
        return Ok(Json(verdict.clone()));
    }
    let key = RecordKey::open_or_create(&app.config.data_dir)?;
    let verdict = record::verify(&app.store, Some(&key), &against, |_| {}).await?;
    if !verdict.ok {
        tracing::error!(faults = verdict.fault_count, "the record is not as it was written");
    }
    if against.is_empty() {
        *last = Some((Instant::now(), verdict.clone()));
    }
    Ok(Json(verdict))
}

/// Which time.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    /// From here on; all where neither is given.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// The record as a bundle that verifies without Farol's database
///
/// A tar with entries, chain, plans, decisions, signatures, keys and evidence; `farol audit verify --bundle FILE` reads
/// it. One that broke off on its way has no manifest, which the verification tells.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "record", operation_id = "export_audit", params(ExportQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/x-tar")))]
pub(super) async fn bundle(State(app): State<App>, Query(query): Query<ExportQuery>) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let key = RecordKey::open_or_create(&app.config.data_dir)?;
    settled(&app.store, None, now).await?;
    let (to, mut pieces) = mpsc::channel(PIECES);
    let range = Range { from: query.from, until: query.until };
    let store = app.store.clone();
    let Some(turn) = app.sealing.exports.turn() else {
        let detail = "the record is being exported already; try again when that has ended".to_owned();
        return Err(Error::NotReady { code: "busy", detail }.into());
    };
    let task = tokio::spawn(async move {
        let exported = tokio::time::timeout(LONGEST_EXPORT, export(&store, &key, range, now, to)).await;
        drop(turn);
        exported.unwrap_or_else(|_| Err(Error::Refused("the export took too long; export a part of it".to_owned())))
    });
    // What cannot be exported at all is an answer of its own.
    let Some(first) = pieces.recv().await else {
        let exported = task.await.map_err(|error| ApiError::internal(&error.to_string()))?;
        return Err(match exported {
            Err(error) => error.into(),
            Ok(_) => ApiError::internal("an export ended before it began"),
        });
    };
    let body = stream::unfold((Some(first), pieces, Some(task)), |(first, mut pieces, task)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, pieces, task)));
        }
        if let Some(piece) = pieces.recv().await {
            return Some((Ok(piece), (None, pieces, task)));
        }
        match task?.await {
            Ok(Ok(_)) => None,
            ended => {
                tracing::error!("an export broke off: {ended:?}");
                Some((Err(io::Error::other("the export broke off")), (None, pieces, None)))
            }
        }
    });
    let name = format!("farol-record-{}.tar", now.to_string().get(..10).unwrap_or("export"));
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar")),
        (header::CONTENT_DISPOSITION, attachment(&name)),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// A file for whoever asks, never a page.
pub(super) fn attachment(name: &str) -> HeaderValue {
    let harmless: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{harmless}\""))
        .unwrap_or(HeaderValue::from_static("attachment"))
}
