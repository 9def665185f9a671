//! The personas.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::List;
use crate::{
    app::App,
    roster::{ROSTER, Role},
};

/// A persona.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberView {
    /// `A0` to `A7`, `vigia`, `curador`.
    id: &'static str,
    /// Name that people read.
    name: &'static str,
    /// Name of its work.
    codename: &'static str,
    /// Roles whose inbox shows what it says.
    inbox_roles: &'static [Role],
    /// What it does.
    duty: &'static str,
}

/// The roster
#[utoipa::path(get, path = "/api/v1/agents/roster", tag = "agents", operation_id = "roster",
    responses((status = 200, body = List<MemberView>)))]
pub(super) async fn list(State(app): State<App>) -> Json<List<MemberView>> {
    let language = app.language();
    let members = ROSTER.iter().map(|member| MemberView {
        id: member.id.as_str(),
        name: member.name,
        codename: member.codename,
        inbox_roles: member.inbox_roles,
        duty: member.duty(language),
    });
    Json(List::whole(members.collect()))
}
