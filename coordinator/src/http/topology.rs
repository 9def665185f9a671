//! What stands on what, and what hosts are made of.

use axum::{Json, extract::State, http::StatusCode};
use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    extract::{Body, Caller, Comment, List, MAX_COMMENT, Segment, check_length, check_text},
    problem::{Answer, ApiError},
};
use crate::{
    app::{App, Shared},
    error::{Error, Result},
    events::Noun,
    store::topology::CorrectionRow,
    topology::{
        Correction, Decision, EdgeKind, Graph,
        drawn::{Names, draw},
        graph,
        impact::{self, Impact},
    },
};

/// What a host is made of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InventoryView {
    /// The host's name.
    host: String,
    /// When its agent looked.
    #[schema(value_type = String, format = DateTime)]
    observed_at: Timestamp,
    /// When that arrived.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// As in docs/SPEC.md, section 7.
    #[schema(value_type = Object)]
    inventory: Value,
}

/// What a person says about an edge.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCorrection {
    /// Node that depends, such as `host:vm112`; a bare name stands for a host.
    from: String,
    /// Node that it depends on.
    to: String,
    /// How.
    kind: EdgeKind,
    /// Whether it is so.
    decision: Decision,
    /// Why, at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    comment: String,
}

/// A person's word with what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CorrectionView {
    #[serde(flatten)]
    correction: Correction,
    /// When it was taken back or replaced; null while it counts.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// By whom.
    revoked_by: Option<String>,
}

/// What a host is made of
///
/// Addresses, listening ports, services, containers, mounts and what it runs on, as its agent saw them last.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/inventory", tag = "hosts", operation_id = "host_inventory",
    params(("host" = String, Path, description = "Its id or name")),
    responses((status = 200, body = InventoryView)))]
pub(super) async fn inventory(State(app): State<App>, Segment(host): Segment<String>) -> Answer<InventoryView> {
    let row = app.store.host(&host).await?;
    let found = app.store.inventory(row.key).await?;
    let found = found.ok_or(Error::NotFound { what: "inventory", id: host })?;
    let inventory = serde_json::from_str(&found.body)
        .map_err(|_| Error::Corrupt { what: "inventory", value: crate::text::plain(&found.body, 100) })?;
    Ok(Json(InventoryView {
        host: row.name,
        observed_at: found.observed_at,
        received_at: found.received_at,
        inventory,
    }))
}

/// What stands on what
///
/// Every edge points from what depends to what it depends on and says why it is there. What could not be placed is
/// listed apart; nothing is guessed.
#[utoipa::path(get, path = "/api/v1/topology", tag = "topology", operation_id = "topology",
    responses((status = 200, body = Graph)))]
pub(super) async fn whole(State(app): State<App>) -> Answer<Graph> {
    Ok(Json(draw(&app).await?))
}

/// What fails with a host, and what it stands on
#[utoipa::path(get, path = "/api/v1/topology/{host}", tag = "topology", operation_id = "topology_impact",
    params(("host" = String, Path, description = "A host's id or name, or a node's id such as `node:proxmox/pve1`")),
    responses((status = 200, body = Impact)))]
pub(super) async fn one(State(app): State<App>, Segment(host): Segment<String>) -> Answer<Impact> {
    let graph = draw(&app).await?;
    let named = if host.contains(':') { host.clone() } else { graph::host_id(&app.store.host(&host).await?.name) };
    let impact = impact::of(&graph, &named).ok_or(Error::NotFound { what: "node", id: host })?;
    Ok(Json(impact))
}

/// What people said about edges
#[utoipa::path(get, path = "/api/v1/topology/edges", tag = "topology", operation_id = "topology_corrections",
    responses((status = 200, body = List<CorrectionView>)))]
pub(super) async fn corrections(State(app): State<App>) -> Answer<List<CorrectionView>> {
    let names = Names::read(&app).await?;
    let rows = app.store.corrections().await?;
    Ok(Json(List::whole(rows.into_iter().map(|row| view_of(&names, row)).collect())))
}

/// Adds, removes or confirms an edge
///
/// It wins over what is found, now and later, until it is taken back. What was said about the edge before is replaced.
#[utoipa::path(post, path = "/api/v1/topology/edges", tag = "topology", operation_id = "correct_topology",
    request_body = NewCorrection, responses((status = 201, body = CorrectionView)))]
pub(super) async fn correct(
    State(app): State<App>,
    Caller(operator): Caller,
    Body(new): Body<NewCorrection>,
) -> Result<(StatusCode, Json<CorrectionView>), ApiError> {
    check_length("comment", &new.comment, MAX_COMMENT)?;
    for (name, node) in [("from", &new.from), ("to", &new.to)] {
        check_text(name, node, 600)?;
    }
    let names = Names::read(&app).await?;
    let [from, to] = [names.by_name(&new.from), names.by_name(&new.to)];
    if from == to {
        return Err(ApiError::invalid_body("`from` and `to` are the same: nothing depends on itself"));
    }
    let graph = draw(&app).await?;
    // What is to be removed may be gone just now.
    if new.decision != Decision::Remove {
        for (name, node) in [("from", &from), ("to", &to)] {
            if !graph.nodes.iter().any(|known| known.id == *node) {
                let node = crate::text::plain(node, 200);
                let detail = format!("`{name}`: there is no node `{node}`; GET /api/v1/topology lists them");
                return Err(ApiError::invalid_body(detail));
            }
        }
    }
    let [from, to] = [names.by_id(&from), names.by_id(&to)];
    let now = Timestamp::now();
    let edge = (from.as_str(), new.kind, to.as_str());
    let id = app.store.correct(&operator, edge, new.decision, &new.comment, now).await?;
    app.events.publish(Noun::Topology, &id, new.decision.as_str());
    Ok((StatusCode::CREATED, Json(correction(&app, &names, &id).await?)))
}

/// Takes a correction back
#[utoipa::path(post, path = "/api/v1/topology/edges/{id}/revoke", tag = "topology",
    operation_id = "revoke_topology_correction", params(("id" = String, Path, description = "The correction")),
    request_body = Comment, responses((status = 200, body = CorrectionView)))]
pub(super) async fn revoke(
    State(app): State<App>,
    Caller(operator): Caller,
    Segment(id): Segment<String>,
    Body(comment): Body<Comment>,
) -> Answer<CorrectionView> {
    let comment = comment.comment.unwrap_or_default();
    check_length("comment", &comment, MAX_COMMENT)?;
    app.store.revoke_correction(&operator, &id, &comment, Timestamp::now()).await?;
    app.events.publish(Noun::Topology, &id, "revoked");
    let names = Names::read(&app).await?;
    Ok(Json(correction(&app, &names, &id).await?))
}

async fn correction(app: &Shared, names: &Names, id: &str) -> Result<CorrectionView> {
    let rows = app.store.corrections().await?;
    let row = rows.into_iter().find(|row| row.correction.id == id);
    row.map(|row| view_of(names, row)).ok_or_else(|| Error::NotFound { what: "correction", id: id.to_owned() })
}

fn view_of(names: &Names, row: CorrectionRow) -> CorrectionView {
    let correction = names.named(row.correction);
    CorrectionView { correction, revoked_at: row.revoked_at, revoked_by: row.revoked_by }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_stored_by_its_id_and_shown_by_its_name() {
        let names = Names(vec![("0190".to_owned(), "vm112".to_owned())]);
        for text in ["vm112", "host:vm112", "0190", "host:0190"] {
            assert_eq!(names.by_name(text), "host:vm112");
        }
        assert_eq!(names.by_id("host:vm112"), "host:0190");
        for text in ["node:pve/pve1", "host:gone", "network:10.0.0.0/8"] {
            assert_eq!((names.by_name(text), names.by_id(text)), (text.to_owned(), text.to_owned()));
        }
    }
}
