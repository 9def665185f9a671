//! The record: who did what, when.

use axum::{Json, extract::State};
use farol_protocol::{ActionId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Limit, List, Query, Start},
    problem::Answer,
};
use crate::{
    app::App,
    store::audit::{Entry, Wanted},
};

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    /// Only the story of this action: plan, decisions, states, evidence.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    action: Option<ActionId>,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

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
    params(LogQuery), responses((status = 200, body = List<EntryView>)))]
pub(super) async fn list(State(app): State<App>, Query(query): Query<LogQuery>) -> Answer<List<EntryView>> {
    let (object_kind, object_id) = query.action.map(|id| ("action".to_owned(), id.to_string())).unwrap_or_default();
    let wanted = Wanted { object_kind, object_id, ..Wanted::default() };
    let page = app.store.audit_of(&wanted, &query.cursor.0, query.limit.0).await?;
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
