//! The copilot. It speaks; it never acts.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{self, Body},
    problem::Answer,
};
use crate::{
    advice::{Citation, Source},
    app::App,
    error::Error,
};

const MAX_MESSAGE: usize = 4000;

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// At most 4,000 characters.
    #[schema(min_length = 1, max_length = 4000)]
    message: String,
    /// The finding it is about.
    #[serde(default)]
    finding_id: Option<String>,
    /// Or the thread of that finding.
    #[serde(default)]
    thread_id: Option<String>,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatReply {
    /// Its text.
    reply: String,
    /// `t0` from the facts alone, `t1` from a model that was checked against them.
    source: Source,
    /// The facts it rests on.
    citations: Vec<Citation>,
}

/// Asks the copilot
#[utoipa::path(post, path = "/api/v1/agents/chat", tag = "agents", operation_id = "chat", request_body = Question,
    responses((status = 200, body = ChatReply)))]
pub(super) async fn ask(State(app): State<App>, Body(question): Body<Question>) -> Answer<ChatReply> {
    extract::check_text("message", &question.message, MAX_MESSAGE)?;
    let asked = app.chat(&question.message, question.finding_id.as_deref(), question.thread_id.as_deref());
    let advice = tokio::select! {
        advice = asked => advice?,
        // A model may think for a minute, which a stop does not wait for.
        () = app.stop.cancelled() => return Err(Error::Refused("the coordinator is stopping".to_owned()).into()),
    };
    let reply = advice.body();
    let mut citations: Vec<Citation> = Vec::new();
    for citation in advice.sentences.into_iter().flat_map(|sentence| sentence.cites) {
        if !citations.iter().any(|known| known.id == citation.id) {
            citations.push(citation);
        }
    }
    Ok(Json(ChatReply { reply, source: advice.source, citations }))
}
