//! Inventories of real agents, and the graph that people correct.

use std::net::TcpListener;

use farol_tests::{
    Site,
    peer::{Identity, Peer},
    pfsense::FakePfsense,
    process,
    proxmox::FakeProxmox,
    site::PATIENCE,
    traefik::FakeTraefik,
    wait_until,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{QUIET, SHELL_POLICY};

const REGISTRY: &str = "version: 1
sites: [{id: lab, name: Lab}]
hosts:
  - {name: pve, site: lab}
  - {name: vm112, site: lab, parent: pve, depends_on: [pfsense]}
  - {name: pfsense, site: lab}
";

const STREAM: &str = "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4c";

fn now() -> String {
    time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap()
}

async fn said_hello(site: &Site, identity: &Identity) -> Peer {
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    let hello = json!({"method": "hello", "agent_id": "vm112", "name": "vm112", "version": "9.9.9", "capabilities": [],
        "timestamp": now(), "protocol": {"min": 1, "max": 1},
        "journal": {"id": "0198c7a2-5d3e-7c41-9a77-3f0c5d1e2b4b", "seq": 0}, "stream": STREAM});
    peer.send(&hello).await.unwrap();
    assert_eq!(peer.receive().await.unwrap()["ok"], true);
    peer
}

/// Sends a batch and waits until it is acknowledged.
async fn push(peer: &mut Peer, seq: u64, payload: Value) {
    let frame = json!({"method": "telemetry.push", "stream": STREAM, "seq": seq, "ts": now(), "payload": payload});
    peer.send(&frame).await.unwrap();
    assert_eq!(peer.expect("telemetry.ack").await.unwrap()["seq"], seq);
}

fn edge<'a>(graph: &'a Value, from: &str, kind: &str, to: &str) -> Option<&'a Value> {
    let edges = graph["edges"].as_array().unwrap();
    edges.iter().find(|edge| edge["from"] == from && edge["kind"] == kind && edge["to"] == to)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_inventory_comes_with_its_session_and_follows_what_changes() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut agent = site.enrol("vm112", Some(SHELL_POLICY)).await.unwrap();
    agent.configure("interval: 1s\ninventory_interval: 1s\n").unwrap();
    let none = site.api().call(Method::GET, "/api/v1/hosts/vm112/inventory", None).await.unwrap();
    assert_eq!(none.0, StatusCode::NOT_FOUND, "{}", none.1);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    agent.start().unwrap();
    let listed = async |wanted: bool| {
        wait_until(&format!("port {port} to be listed: {wanted}"), PATIENCE, async || {
            let (status, answer) = site.api().call(Method::GET, "/api/v1/hosts/vm112/inventory", None).await?;
            let ports = answer["inventory"]["ports"].as_array().filter(|_| status == StatusCode::OK);
            Ok(ports.filter(|ports| ports.iter().any(|item| item["port"] == port) == wanted).cloned())
        })
        .await
        .unwrap()
    };
    let ports = listed(true).await;
    let own = ports.iter().find(|item| item["port"] == port).unwrap();
    assert_eq!((&own["address"], &own["transport"]), (&json!("127.0.0.1"), &json!("tcp")));
    // The agent of the tests runs as the same user and may see whose it is.
    assert!(own["process"].as_str().is_some_and(|name| !name.is_empty()), "{own}");
    drop(listener);
    listed(false).await;

    // What would be sent can be looked at on the host.
    let shown = process::json(&mut agent.command(&["inventory", "--json"]).unwrap()).await.unwrap();
    assert!(shown["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty()), "{shown}");
    let text = process::output(&mut agent.command(&["inventory"]).unwrap()).await.unwrap();
    assert!(text.contains("virtualisation") && text.contains("kernel"), "{text}");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_inventory_costs_neither_its_batch_nor_the_session() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peer = said_hello(&site, &identity).await;
    let bad = json!({"metrics": {"uptime_seconds": 77}, "inventory": {"ports": "many"}});
    push(&mut peer, 1, bad).await;
    let host = site.api().get("/api/v1/hosts/vm112").await.unwrap();
    assert_eq!(host["metrics"]["uptime_seconds"], 77, "{host}");
    let (_, metrics) = site.api().raw(Method::GET, "/metrics", None).await.unwrap();
    assert!(metrics.contains("farol_malformed_inventories_total 1"), "{metrics}");

    push(&mut peer, 2, json!({"inventory": {"name": "vm112", "gpu": 1}})).await;
    let found = site.api().get("/api/v1/hosts/vm112/inventory").await.unwrap();
    assert_eq!(found["inventory"]["name"], "vm112", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graph_is_drawn_and_a_persons_word_on_it_wins_until_it_is_taken_back() {
    let mut site = Site::start(REGISTRY, &[]).await.unwrap();
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peer = said_hello(&site, &identity).await;
    let interface = json!({"name": "ens18", "addresses": [{"address": "10.10.10.112", "prefix": 24}]});
    let inventory = json!({"inventory": {"interfaces": [interface], "gateways": ["10.10.10.1"]}});
    push(&mut peer, 1, inventory.clone()).await;

    let graph = site.api().get("/api/v1/topology").await.unwrap();
    assert_eq!(edge(&graph, "host:vm112", "runs_on", "host:pve").unwrap()["state"], "stated");
    let gateway = ("host:vm112", "routes_through", "firewall:lab/10.10.10.1");
    let found = edge(&graph, gateway.0, gateway.1, gateway.2).unwrap();
    assert_eq!((&found["state"], &found["evidence"][0]["key"]), (&json!("discovered"), &json!("gateway")));
    assert!(graph["updated_at"].is_string());
    let impact = site.api().get("/api/v1/topology/pve").await.unwrap();
    assert_eq!(impact["dependents"][0]["id"], "host:vm112", "{impact}");

    // Who may not decide may look and is told who may.
    let technician = site.token("tom", "technician", None).await.unwrap();
    let technician = site.api().with_token(Some(&technician));
    let remove = json!({"from": gateway.0, "to": gateway.2, "kind": gateway.1, "decision": "remove", "comment": "old"});
    let (status, _) = technician.call(Method::POST, "/api/v1/topology/edges", Some(remove.clone())).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(technician.get("/api/v1/topology").await.is_ok());

    let said = site.api().post("/api/v1/topology/edges", remove).await.unwrap();
    assert_eq!((&said["by"], &said["from"]), (&json!("tests"), &json!("host:vm112")), "{said}");
    // Found again, and after a restart, it stays removed.
    push(&mut peer, 2, inventory).await;
    site.stop_coordinator().await.unwrap();
    site.start_coordinator().await.unwrap();
    let graph = site.api().get("/api/v1/topology").await.unwrap();
    let removed = edge(&graph, gateway.0, gateway.1, gateway.2).unwrap();
    assert_eq!((&removed["state"], &removed["correction"]["comment"]), (&json!("removed"), &json!("old")));

    // What is removed counts for nothing; what a person adds does.
    let add = json!({"from": "pve", "to": "pfsense", "kind": "depends_on", "decision": "add"});
    site.api().post("/api/v1/topology/edges", add).await.unwrap();
    let impact = site.api().get("/api/v1/topology/pfsense").await.unwrap();
    let ids: Vec<&str> =
        impact["dependents"].as_array().unwrap().iter().filter_map(|step| step["id"].as_str()).collect();
    assert_eq!(ids, ["host:pve", "host:vm112"]);
    let nobody = json!({"from": "pve", "to": "nobody", "kind": "depends_on", "decision": "add"});
    let (status, problem) = site.api().call(Method::POST, "/api/v1/topology/edges", Some(nobody)).await.unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_body")), "{problem}");

    let path = format!("/api/v1/topology/edges/{}/revoke", said["id"].as_str().unwrap());
    let back = site.api().post(&path, json!({"comment": "it is so after all"})).await.unwrap();
    assert!(back["revoked_at"].is_string() && back["revoked_by"] == "tests", "{back}");
    let graph = site.api().get("/api/v1/topology").await.unwrap();
    assert_eq!(edge(&graph, gateway.0, gateway.1, gateway.2).unwrap()["state"], "discovered");
    let (status, _) = site.api().call(Method::POST, &path, Some(json!({}))).await.unwrap();
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(site.api().items("/api/v1/topology/edges").await.unwrap().len(), 2);

    // The same on the command line.
    let token = site.token("ana", "ops_lead", None).await.unwrap();
    let show = async |arguments: &[&str]| {
        let mut command = site.farol(&[&["topology"], arguments, &["--url", site.api().base()]].concat()).unwrap();
        process::output(command.env("FAROL_TOKEN", &token)).await.unwrap()
    };
    let tree = show(&[]).await;
    assert!(tree.contains("pfsense") && tree.contains("vm112 [host] (runs_on, stated)"), "{tree}");
    assert!(show(&["vm112"]).await.contains("stands on:"));
    assert!(show(&["--dot"]).await.starts_with("digraph farol {"));
    let document: Value = serde_json::from_str(&show(&["--json"]).await).unwrap();
    assert!(document["nodes"].as_array().is_some_and(|nodes| nodes.len() >= 4), "{document}");
}

/// Looks at Proxmox, a firewall and a proxy, all at once.
fn watching(traefik: &str) -> String {
    let scenario = |id: &str, host: &str, probe: &str| {
        format!(
            "  - {{id: {id}, title: S, persona: A1, severity: low, hosts: [{host}], every: 1s, timeout: 10s, checks: [{{name: c, probe: {{{probe}}}}}]}}\n"
        )
    };
    let scenarios = [
        scenario("guests", "pve", "proxmox: {integration: casa, look: guests}"),
        scenario("firewall", "edge", "pfsense: {integration: fw, look: carp}"),
        scenario("proxy", "vm112", &format!("traefik: {{url: '{traefik}'}}")),
    ];
    format!(
        "version: 1\nlanguage: en\nhosts: [{{name: pve}}, {{name: edge}}, {{name: vm112}}]\nscenarios:\n{}",
        scenarios.concat()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proxmox_a_firewall_and_a_proxy_tell_becomes_part_of_the_graph_until_they_are_removed() {
    let cluster = FakeProxmox::start(time::OffsetDateTime::now_utc().unix_timestamp()).await.unwrap();
    let firewall = FakePfsense::start().await.unwrap();
    let proxy = FakeTraefik::start().await.unwrap();
    let site = Site::start(&watching(&proxy.product.url()), &[]).await.unwrap();
    for (name, kind, product, user, secret) in [
        ("casa", "proxmox", &cluster.product, Some(farol_tests::proxmox::USER), farol_tests::proxmox::SECRET),
        ("fw", "pfsense", &firewall.product, None, farol_tests::pfsense::KEY),
    ] {
        let body = json!({"name": name, "kind": kind, "endpoints": [product.url()], "tls": {"pin": product.pin()},
            "user": user, "secret": secret});
        let (status, made) = site.api().call(Method::POST, "/api/v1/integrations", Some(body)).await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
    let agent = site.enrol("vm112", None).await.unwrap();
    let identity = Identity::load(&agent.state_dir().join("identity")).unwrap();
    let mut peer = said_hello(&site, &identity).await;
    let address = json!({"address": "10.10.10.112", "prefix": 24});
    let interface = json!({"name": "ens18", "mac": "bc:24:11:0a:0b:0c", "addresses": [address]});
    push(&mut peer, 1, json!({"inventory": {"interfaces": [interface], "gateways": ["10.10.10.1"]}})).await;

    // By what its configuration in Proxmox says of its network card; the list has another name for it.
    let drawn = async |what: &str, from: &str, kind: &str, to: &str| {
        wait_until(what, PATIENCE, async || {
            let graph = site.api().get("/api/v1/topology").await?;
            Ok(edge(&graph, from, kind, to).cloned())
        })
        .await
        .unwrap()
    };
    let guest = drawn("the guest", "host:vm112", "runs_on", "node:casa/a").await;
    assert_eq!((&guest["confidence"], &guest["evidence"][0]["key"]), (&json!("certain"), &json!("mac")), "{guest}");
    assert_eq!(guest["evidence"][0]["of"], "casa");
    drawn("the firewall", "host:vm112", "routes_through", "host:edge").await;
    let service = "service:traefik/proxy/shop.example.org";
    let served = drawn("the service", service, "served_by", "host:vm112").await;
    let evidence = served["evidence"].as_array().unwrap();
    assert!(evidence.iter().any(|one| one["value"] == "http://10.10.10.112:8080"), "{served}");
    drawn("its proxy", service, "proxied_by", "integration:traefik/proxy").await;
    let graph = site.api().get("/api/v1/topology").await.unwrap();
    assert!(graph["unmatched"].as_array().unwrap().iter().any(|one| one["id"] == "guest:casa/123"), "{graph}");
    let impact = site.api().get("/api/v1/topology/node:casa%2Fa").await.unwrap();
    assert!(impact["dependents"].as_array().unwrap().iter().any(|one| one["id"] == service), "{impact}");

    // A look a second, and the configurations were read once.
    let asked = cluster.product.asked();
    assert_eq!(asked.iter().filter(|asked| asked.path.ends_with("/qemu/112/config")).count(), 1);

    let (status, _) = site.api().raw(Method::DELETE, "/api/v1/integrations/casa", None).await.unwrap();
    assert_eq!(status, StatusCode::NO_CONTENT);
    std::fs::write(site.folder().join("registry.yaml"), REGISTRY).unwrap();
    wait_until("what is gone to be forgotten", PATIENCE, async || {
        let graph = site.api().get("/api/v1/topology").await?;
        let is_gone = edge(&graph, "host:vm112", "runs_on", "node:casa/a").is_none()
            && edge(&graph, service, "served_by", "host:vm112").is_none();
        Ok(is_gone.then_some(()))
    })
    .await
    .unwrap();
}
