//! Inbox, threads and messages.

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{self, Body, Caller, Comment, Limit, List, MAX_COMMENT, PageQuery, Query, Segment, Start},
    problem::{Answer, ApiError},
};
use crate::{
    app::App,
    events::Noun,
    roster::{ROSTER, Role},
    store::inbox::{Message, Thread},
};

const MAX_REPLY: usize = 8000;

/// Which part of the inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct InboxQuery {
    /// Only what is meant for this role.
    role: Option<Role>,
    /// Items on a page, 1 to 200; 50 unless said otherwise.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Start,
}

/// A person's answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// What they say, at most 8,000 characters.
    #[schema(min_length = 1, max_length = 8000)]
    text: String,
}

/// What personas said to the caller's role and nobody archived yet
///
/// Newest first. Leads see what is meant for any role.
#[utoipa::path(get, path = "/api/v1/agents/inbox", tag = "agents", operation_id = "inbox", params(InboxQuery),
    responses((status = 200, body = List<Message>)))]
pub(super) async fn pending(
    State(app): State<App>,
    Caller(operator): Caller,
    Query(query): Query<InboxQuery>,
) -> Answer<List<Message>> {
    let personas = personas(operator.role(), query.role);
    let page = app.store.pending_messages(&personas, &query.cursor.0, query.limit.0).await?;
    Ok(Json(List::of(page, |message| message)))
}

/// Whose messages a role sees, of those meant for `only` where it is given.
fn personas(role: Role, only: Option<Role>) -> Vec<&'static str> {
    let lead = matches!(role, Role::SuperAdmin | Role::OpsLead);
    ROSTER
        .iter()
        .filter(|member| lead || member.inbox_roles.contains(&role))
        .filter(|member| only.is_none_or(|only| member.inbox_roles.contains(&only)))
        .map(|member| member.id.as_str())
        .collect()
}

/// Threads, the one that changed last first
#[utoipa::path(get, path = "/api/v1/agents/threads", tag = "agents", operation_id = "threads", params(PageQuery),
    responses((status = 200, body = List<Thread>)))]
pub(super) async fn threads(State(app): State<App>, Query(page): Query<PageQuery>) -> Answer<List<Thread>> {
    let page = app.store.threads(&page.cursor.0, page.limit.0).await?;
    Ok(Json(List::of(page, |thread| thread)))
}

/// Messages of a thread, oldest first
#[utoipa::path(get, path = "/api/v1/agents/threads/{id}/messages", tag = "agents", operation_id = "messages",
    params(("id" = String, Path, description = "The thread")),
    responses((status = 200, body = List<Message>)))]
pub(super) async fn messages(State(app): State<App>, Segment(id): Segment<String>) -> Answer<List<Message>> {
    Ok(Json(List::whole(app.store.messages(&id).await?)))
}

/// Answers in a thread
///
/// The answer is the thread with what was said.
#[utoipa::path(post, path = "/api/v1/agents/threads/{id}/reply", tag = "agents", operation_id = "reply",
    params(("id" = String, Path, description = "The thread")), request_body = Reply,
    responses((status = 201, body = List<Message>)))]
pub(super) async fn reply(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(reply): Body<Reply>,
) -> Result<(StatusCode, Json<List<Message>>), ApiError> {
    extract::check_text("text", &reply.text, MAX_REPLY)?;
    let messages = app.reply(&operator, &id, &reply.text).await?;
    Ok((StatusCode::CREATED, Json(List::whole(messages))))
}

/// Archives a message
///
/// It leaves the inbox and stays in its thread. Archiving it again changes nothing.
#[utoipa::path(post, path = "/api/v1/agents/messages/{id}/ack", tag = "agents", operation_id = "archive_message",
    params(("id" = String, Path, description = "The message")), request_body = Comment,
    responses((status = 200, body = Message)))]
pub(super) async fn archive(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(body): Body<Comment>,
) -> Answer<Message> {
    let comment = body.comment.unwrap_or_default();
    extract::check_length("comment", &comment, MAX_COMMENT)?;
    let message = app.store.archive_message(&operator, &id, &comment, Timestamp::now()).await?;
    app.events.publish(Noun::Thread, &message.thread_id, "archived");
    Ok(Json(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_sees_its_own_personas_and_the_sentinel() {
        assert_eq!(personas(Role::Devops, None), ["A2", "vigia"]);
        assert_eq!(personas(Role::SecurityAnalyst, None), ["A4", "A5", "vigia"]);
    }

    #[test]
    fn a_lead_sees_all_and_may_look_through_a_role() {
        assert_eq!(personas(Role::OpsLead, None).len(), ROSTER.len());
        assert_eq!(personas(Role::SuperAdmin, Some(Role::Seo)), ["A3", "vigia"]);
        assert_eq!(personas(Role::Devops, Some(Role::Seo)), ["vigia"]);
    }
}
