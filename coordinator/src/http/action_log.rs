//! The record: who did what, when.

use axum::{Json, extract::State};
use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    extract::{List, PageQuery, Query},
    problem::Answer,
};
use crate::{app::App, store::audit::Entry};

/// One thing that was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    /// Identifier; sorts by time.
    id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Operator, persona, host or `farol`.
    actor: String,
    /// What was done, such as `action.approved`.
    verb: String,
    /// To what.
    object: ObjectView,
    /// More about it.
    detail: String,
    /// SHA-256 over the entry, in hexadecimal.
    hash: String,
}

/// What something was done to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ObjectView {
    /// `action`, `finding`, `host`, `message`, `scenario`, `token`.
    kind: String,
    /// Its id or name.
    id: String,
}

/// The record, newest first
#[utoipa::path(get, path = "/api/v1/agents/action-log", tag = "agents", operation_id = "action_log",
    params(PageQuery), responses((status = 200, body = List<EntryView>)))]
pub(super) async fn list(State(app): State<App>, Query(page): Query<PageQuery>) -> Answer<List<EntryView>> {
    let page = app.store.audit(&page.cursor.0, page.limit.0).await?;
    Ok(Json(List::of(page, view)))
}

fn view(entry: Entry) -> EntryView {
    EntryView {
        id: entry.id,
        at: entry.at,
        actor: entry.actor,
        verb: entry.verb,
        object: ObjectView { kind: entry.object_kind, id: entry.object_id },
        detail: entry.detail,
        hash: entry.hash,
    }
}
