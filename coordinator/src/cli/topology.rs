//! `farol topology`: what stands on what, as a tree, as JSON or for Graphviz.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value;

use super::{Connection, client::Client, output};
use crate::{error::Result, text::plain};

/// Longest line of a tree.
const WIDEST: usize = 200;

/// Shows everything, or what has to do with one host.
pub(super) async fn show(to: &Connection, host: Option<&str>, dot: bool) -> Result<()> {
    let path: Vec<&str> = ["topology"].into_iter().chain(host).collect();
    let document: Value = Client::new(to)?.get(&path, &[]).await?;
    if to.json {
        return output::json(&document);
    }
    let drawing = Drawing::of(&document);
    if dot {
        return output::line(&drawing.dot());
    }
    let text = match host {
        Some(_) => drawing.both_ways(document["node"]["id"].as_str().unwrap_or_default()),
        None => drawing.forest(&document["unmatched"]),
    };
    output::line(text.trim_end())
}

/// An edge seen from one of its ends.
struct Link<'a> {
    kind: &'a str,
    state: &'a str,
    there: &'a str,
}

struct Drawing<'a> {
    nodes: BTreeMap<&'a str, &'a Value>,
    edges: Vec<&'a Value>,
    /// What each node stands on.
    down: BTreeMap<&'a str, Vec<Link<'a>>>,
    /// What stands on each node.
    up: BTreeMap<&'a str, Vec<Link<'a>>>,
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Removed edges and networks are shown by `--json` and `--dot` only.
fn counts(edge: &Value) -> bool {
    field(edge, "state") != "removed" && field(edge, "kind") != "attached_to"
}

impl<'a> Drawing<'a> {
    fn of(document: &'a Value) -> Self {
        let list = |name: &str| document[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let edges: Vec<&Value> = list("edges").iter().collect();
        let (mut down, mut up) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for edge in edges.iter().filter(|edge| counts(edge)) {
            let (from, to) = (field(edge, "from"), field(edge, "to"));
            let link = |there| Link { kind: field(edge, "kind"), state: field(edge, "state"), there };
            down.entry(from).or_default().push(link(to));
            up.entry(to).or_default().push(link(from));
        }
        let nodes = list("nodes").iter().map(|node| (field(node, "id"), node)).collect();
        Self { nodes, edges, down, up }
    }

    fn name(&self, id: &str) -> String {
        let Some(node) = self.nodes.get(id) else { return plain(id, WIDEST) };
        let status = node["status"].as_str().map(|status| format!(" ({status})")).unwrap_or_default();
        let kind = field(node, "kind").replace('_', " ");
        plain(&format!("{} [{kind}]{status}", field(node, "label")), WIDEST)
    }

    /// Trees of what stands on what, from the ground up; then what could not be
    /// placed.
    fn forest(&self, unmatched: &Value) -> String {
        let mut text = String::new();
        let mut seen = BTreeSet::new();
        let shown = |id: &&&str| self.nodes.get(**id).is_some_and(|node| field(node, "kind") != "network");
        let ground = self.nodes.keys().filter(shown).filter(|id| !self.down.contains_key(**id));
        let ground: Vec<&str> = ground.copied().collect();
        // Whatever stands only on itself, in a circle, has no ground.
        let rest: Vec<&str> = self.nodes.keys().filter(shown).copied().collect();
        for id in ground.into_iter().chain(rest) {
            if !seen.contains(id) {
                let _ = writeln!(text, "{}", self.name(id));
                branches(&self.up, id, self, "", &mut seen, &mut text);
            }
        }
        let unmatched = unmatched.as_array().map(Vec::as_slice).unwrap_or_default();
        if !unmatched.is_empty() {
            text.push_str("\nNot placed:\n");
        }
        for row in unmatched {
            let candidates: Vec<&str> =
                row["candidates"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let fits = if candidates.is_empty() { String::new() } else { format!(": {}", candidates.join(", ")) };
            let key = row["key"].as_str().map(|key| format!(" by {key}")).unwrap_or_default();
            let line = format!("  {} {} is {}{key}{fits}", field(row, "id"), field(row, "label"), field(row, "why"));
            let _ = writeln!(text, "{}", plain(&line, WIDEST));
        }
        text
    }

    /// One node with what it stands on and what stands on it.
    fn both_ways(&self, id: &str) -> String {
        let mut text = format!("{}\n", self.name(id));
        for (head, links) in [("stands on", &self.down), ("carries", &self.up)] {
            let _ = writeln!(text, "\n{head}:");
            if links.contains_key(id) {
                branches(links, id, self, "", &mut BTreeSet::new(), &mut text);
            } else {
                text.push_str("  nothing that is known\n");
            }
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = String::from("digraph farol {\n  rankdir=BT;\n  node [shape=box];\n");
        for (id, node) in &self.nodes {
            let shape = match field(node, "kind") {
                "network" => "ellipse",
                "firewall" => "octagon",
                "proxmox_node" => "box3d",
                "container" | "service" => "component",
                _ => "box",
            };
            let _ = writeln!(text, "  {} [label={}, shape={shape}];", quoted(id), quoted(&self.name(id)));
        }
        for edge in &self.edges {
            let style = match field(edge, "state") {
                "removed" => ", style=dotted, color=gray",
                "stated" | "added" | "confirmed" => ", style=bold",
                _ => "",
            };
            let (from, to) = (quoted(field(edge, "from")), quoted(field(edge, "to")));
            let _ = writeln!(text, "  {from} -> {to} [label={}{style}];", quoted(field(edge, "kind")));
        }
        text.push('}');
        text
    }
}

/// The branches below a node. One that was shown before is named and not gone
/// into again, so that circles end.
fn branches<'a>(
    links: &BTreeMap<&'a str, Vec<Link<'a>>>,
    id: &'a str,
    drawing: &Drawing<'a>,
    indent: &str,
    seen: &mut BTreeSet<&'a str>,
    text: &mut String,
) {
    let first = seen.insert(id);
    let list = links.get(id).map(Vec::as_slice).unwrap_or_default();
    for (at, link) in list.iter().enumerate().filter(|_| first) {
        let last = at + 1 == list.len();
        let (branch, next) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let again = seen.contains(link.there) && links.contains_key(link.there);
        let mark = if link.state == "discovered" { String::new() } else { format!(", {}", link.state) };
        let more = if again { " …" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}{branch}{} ({}{mark}){more}", drawing.name(link.there), link.kind);
        branches(links, link.there, drawing, &format!("{indent}{next}"), seen, text);
    }
}

fn quoted(text: &str) -> String {
    let text = plain(text, WIDEST);
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let node = |id: &str, kind: &str| json!({"id": id, "kind": kind, "label": id, "status": null});
        let edge = |from: &str, kind: &str, to: &str, state: &str| json!({"from": from, "kind": kind, "to": to, "state": state});
        json!({
            "nodes": [node("fw", "firewall"), node("net", "network"), node("pve", "proxmox_node"), node("vm\"1", "host")],
            "edges": [
                edge("vm\"1", "runs_on", "pve", "discovered"),
                edge("pve", "routes_through", "fw", "stated"),
                edge("vm\"1", "attached_to", "net", "discovered"),
                edge("fw", "depends_on", "vm\"1", "removed"),
            ],
            "unmatched": [{"id": "guest:p/9", "label": "x\u{1b}[31m", "why": "ambiguous", "key": "mac", "candidates": ["host:a", "host:b"]}],
        })
    }

    #[test]
    fn the_forest_grows_from_the_ground_and_names_what_is_not_placed() {
        let document = document();
        let text = Drawing::of(&document).forest(&document["unmatched"]);
        let tree = "fw [firewall]\n└─ pve [proxmox node] (routes_through, stated)\n   └─ vm\"1 [host] (runs_on)\n";
        assert!(text.starts_with(tree), "{text}");
        assert!(text.contains("guest:p/9") && text.contains("ambiguous by mac: host:a, host:b"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn one_node_is_shown_both_ways_and_a_circle_ends() {
        let mut document = document();
        document["edges"][3]["state"] = json!("added");
        let drawing = Drawing::of(&document);
        let text = drawing.both_ways("pve");
        assert!(text.contains("stands on:\n└─ fw [firewall]"), "{text}");
        assert!(text.contains("carries:\n└─ vm\"1 [host] (runs_on)"), "{text}");
        assert!(drawing.forest(&json!([])).contains('…'), "{}", drawing.forest(&json!([])));
        document["edges"] = json!([]);
        assert!(Drawing::of(&document).both_ways("pve").contains("nothing that is known"));
    }

    #[test]
    fn graphviz_gets_every_edge_with_names_it_can_read() {
        let document = document();
        let text = Drawing::of(&document).dot();
        assert!(text.starts_with("digraph farol {") && text.ends_with('}'), "{text}");
        assert!(text.contains(r#""vm\"1" -> "pve" [label="runs_on"];"#), "{text}");
        assert!(text.contains("style=dotted"), "{text}");
    }
}
