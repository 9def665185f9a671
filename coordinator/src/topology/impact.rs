//! What goes down with what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use utoipa::ToSchema;

use super::{Edge, EdgeKind, Graph, Node};

/// One thing that depends, or is depended on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// The node.
    pub id: String,
    /// How the edge that leads here says it depends.
    pub kind: EdgeKind,
    /// The node from which it was reached.
    pub by: String,
    /// Edges from the node in question, 1 or more.
    pub distance: u32,
}

/// A node with all that it stands on and all that stands on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Impact {
    /// The node in question.
    pub node: Node,
    /// What it stands on, the nearest first.
    pub depends_on: Vec<Step>,
    /// What stands on it, the nearest first: what fails with it.
    pub dependents: Vec<Step>,
    /// The edges among all of these, removed ones of the node itself too.
    pub edges: Vec<Edge>,
    /// The nodes among all of these.
    pub nodes: Vec<Node>,
}

/// What a node's failure means. None where there is no such node.
#[must_use]
pub fn of(graph: &Graph, id: &str) -> Option<Impact> {
    let node = graph.nodes.iter().find(|node| node.id == id)?.clone();
    let depends_on = walk(graph, id, |edge| (&edge.from, &edge.to));
    let dependents = walk(graph, id, |edge| (&edge.to, &edge.from));
    let near: BTreeSet<&str> = depends_on.iter().chain(&dependents).map(|step| step.id.as_str()).chain([id]).collect();
    let own = |edge: &&Edge| edge.from == id || edge.to == id;
    let among = |edge: &&Edge| edge.counts() && near.contains(edge.from.as_str()) && near.contains(edge.to.as_str());
    let edges: Vec<Edge> = graph.edges.iter().filter(|edge| own(edge) || among(edge)).cloned().collect();
    let ends: BTreeSet<&str> = edges.iter().flat_map(|edge| [edge.from.as_str(), edge.to.as_str()]).collect();
    let nodes = graph.nodes.iter().filter(|node| node.id == id || ends.contains(node.id.as_str())).cloned().collect();
    Some(Impact { node, depends_on, dependents, edges, nodes })
}

/// Everything that can be reached by edges that count, the nearest first. A
/// circle is walked once.
fn walk<'a>(graph: &'a Graph, start: &str, ends: impl Fn(&'a Edge) -> (&'a String, &'a String)) -> Vec<Step> {
    let mut next: BTreeMap<&str, Vec<(&str, EdgeKind)>> = BTreeMap::new();
    for edge in graph.edges.iter().filter(|edge| edge.counts()) {
        let (here, there) = ends(edge);
        next.entry(here).or_default().push((there, edge.kind));
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut steps = Vec::new();
    let mut queue = VecDeque::from([(start, 0_u32)]);
    while let Some((here, distance)) = queue.pop_front() {
        for (there, kind) in next.get(here).into_iter().flatten() {
            if *there != start && seen.insert(there) {
                let distance = distance + 1;
                steps.push(Step { id: (*there).to_owned(), kind: *kind, by: here.to_owned(), distance });
                queue.push_back((there, distance));
            }
        }
    }
    steps
}
