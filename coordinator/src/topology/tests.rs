//! The graph of hand-written inventories.

use farol_protocol::inventory::{Address, Interface, Inventory, Mount, Port, Published};

use super::*;
use crate::topology::graph::build;

fn then() -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn interface(name: &str, mac: &str, address: &str) -> Interface {
    let address = Address { address: ip(address), prefix: 24 };
    Interface { name: name.to_owned(), mac: Some(mac.to_owned()), addresses: vec![address] }
}

fn host(name: &str, inventory: Option<Inventory>) -> KnownHost {
    KnownHost {
        name: name.to_owned(),
        inventory: inventory.map(|inventory| (inventory, then())),
        ..KnownHost::default()
    }
}

fn with_address(name: &str, last: u8) -> KnownHost {
    let address = format!("10.10.10.{last}");
    let interfaces = vec![interface("ens18", &format!("bc:24:11:00:00:{last:02x}"), &address)];
    host(name, Some(Inventory { interfaces, gateways: vec![ip("10.10.10.1")], ..Inventory::default() }))
}

fn guest(vmid: u32, name: &str) -> GuestFact {
    let (node, status) = ("pve1".to_owned(), "running".to_owned());
    GuestFact { node, vmid, name: name.to_owned(), status, ..GuestFact::default() }
}

fn said(integration: &str, facts: IntegrationFacts) -> Said {
    Said { integration: integration.to_owned(), at: then(), is_fresh: true, facts }
}

fn guests(guests: Vec<GuestFact>) -> Vec<Said> {
    vec![said("proxmox", IntegrationFacts { guests, ..IntegrationFacts::default() })]
}

fn correction(decision: Decision, from: &str, kind: EdgeKind, to: &str) -> Correction {
    let [id, from, to, comment, by] = ["c1", from, to, "because", "ana"].map(str::to_owned);
    Correction { id, from, to, kind, decision, comment, by, at: then() }
}

fn edge<'a>(graph: &'a Graph, from: &str, kind: EdgeKind, to: &str) -> Option<&'a Edge> {
    graph.edges.iter().find(|edge| edge.from == from && edge.kind == kind && edge.to == to)
}

#[track_caller]
fn has<'a>(graph: &'a Graph, from: &str, kind: EdgeKind, to: &str) -> &'a Edge {
    edge(graph, from, kind, to).unwrap_or_else(|| panic!("no {from} {kind:?} {to}: {:#?}", graph.edges))
}

fn kind(graph: &Graph, id: &str) -> Option<NodeKind> {
    graph.nodes.iter().find(|node| node.id == id).map(|node| node.kind)
}

#[test]
fn two_hosts_behind_one_gateway_hang_on_it_whether_it_is_known_or_not() {
    let mut input = Input { hosts: vec![with_address("a", 5), with_address("b", 6)], ..Input::default() };
    let graph = build(&input);
    for name in ["host:a", "host:b"] {
        let edge = has(&graph, name, EdgeKind::RoutesThrough, "firewall:10.10.10.1");
        assert_eq!((edge.state, edge.confidence), (EdgeState::Discovered, Confidence::Certain));
        assert_eq!((edge.evidence[0].key, edge.evidence[0].value.as_str()), ("gateway", "10.10.10.1"));
        has(&graph, name, EdgeKind::AttachedTo, "network:10.10.10.0/24");
    }

    // The firewall has no agent; its integration knows its addresses.
    input.hosts.push(host("pfsense", None));
    let fact = AddressFact { host: "pfsense".to_owned(), addresses: vec![ip("10.10.10.1")] };
    input.said = vec![said("pf", IntegrationFacts { addresses: vec![fact], ..IntegrationFacts::default() })];
    let graph = build(&input);
    has(&graph, "host:a", EdgeKind::RoutesThrough, "host:pfsense");
    assert_eq!(kind(&graph, "host:pfsense"), Some(NodeKind::Firewall));
    assert_eq!(kind(&graph, "firewall:10.10.10.1"), None);
    let down: Vec<String> =
        impact::of(&graph, "host:pfsense").expect("there").dependents.into_iter().map(|step| step.id).collect();
    assert_eq!(down, ["host:a", "host:b"]);

    // Two machines claim the gateway's address: nobody is guessed.
    input.hosts.push(with_address("c", 1));
    let graph = build(&input);
    has(&graph, "host:a", EdgeKind::RoutesThrough, "firewall:10.10.10.1");
    let unclear = &graph.unmatched[0];
    assert_eq!((unclear.why, unclear.key), (Why::Ambiguous, Some("address")));
    assert_eq!(unclear.candidates, ["host:c", "host:pfsense"]);
}

#[test]
fn an_address_means_something_only_within_its_site() {
    let at = |name: &str, site: &str| KnownHost { site: Some(site.to_owned()), ..with_address(name, 5) };
    let gateway = KnownHost { site: Some("b".to_owned()), ..with_address("gw-b", 1) };
    let graph = build(&Input { hosts: vec![at("one", "a"), at("two", "b"), gateway], ..Input::default() });
    has(&graph, "host:one", EdgeKind::RoutesThrough, "firewall:a/10.10.10.1");
    has(&graph, "host:two", EdgeKind::RoutesThrough, "host:gw-b");
}

#[test]
fn a_guest_is_matched_by_each_of_its_signs_the_best_first() {
    let uuid = "2c2a6a3e-1f0d-4a8c-9a51-0d6f4a2b7c11";
    let by_vmid = KnownHost { vmid: Some(112), ..host("by-vmid", None) };
    let mut by_uuid = Inventory::default();
    by_uuid.dmi.uuid = Some(uuid.to_owned());
    let hosts = || {
        vec![
            by_vmid.clone(),
            host("by-uuid", Some(by_uuid.clone())),
            with_address("by-mac", 7),
            with_address("by-address", 8),
            host("by-name", None),
        ]
    };
    let facts = vec![
        guest(112, "by-name-of-nobody"),
        GuestFact { uuid: Some(uuid.to_ascii_uppercase()), ..guest(1, "x") },
        GuestFact { macs: vec!["BC:24:11:00:00:07".to_owned()], ..guest(2, "y") },
        GuestFact { addresses: vec![ip("fe80::1"), ip("10.10.10.8")], ..guest(3, "z") },
        guest(4, "by-name"),
    ];
    let graph = build(&Input { hosts: hosts(), said: guests(facts), ..Input::default() });
    for (name, key, confidence) in [
        ("host:by-vmid", "vmid", Confidence::Certain),
        ("host:by-uuid", "uuid", Confidence::Certain),
        ("host:by-mac", "mac", Confidence::Certain),
        ("host:by-address", "address", Confidence::Likely),
        ("host:by-name", "name", Confidence::Likely),
    ] {
        let edge = has(&graph, name, EdgeKind::RunsOn, "node:proxmox/pve1");
        assert_eq!((edge.evidence[0].key, edge.confidence), (key, confidence), "{name}");
    }
    assert_eq!(graph.unmatched, []);
    assert!(graph.nodes.iter().all(|node| node.kind != NodeKind::Guest));

    // All signs of one guest at once: the registry's number goes first.
    let all = GuestFact {
        uuid: Some(uuid.to_owned()),
        macs: vec!["bc:24:11:00:00:07".to_owned()],
        addresses: vec![ip("10.10.10.8")],
        ..guest(112, "by-name")
    };
    let graph = build(&Input { hosts: hosts(), said: guests(vec![all]), ..Input::default() });
    has(&graph, "host:by-vmid", EdgeKind::RunsOn, "node:proxmox/pve1");
    assert_eq!(graph.edges.iter().filter(|edge| edge.kind == EdgeKind::RunsOn).count(), 1);
}

#[test]
fn what_fits_several_is_shown_and_not_guessed() {
    // A cloned machine: two hosts with the same firmware.
    let mut clone = Inventory::default();
    clone.dmi.uuid = Some("2c2a6a3e-1f0d-4a8c-9a51-0d6f4a2b7c11".to_owned());
    let hosts = vec![host("a", Some(clone.clone())), host("b", Some(clone.clone())), with_address("c", 9)];
    let facts = vec![
        GuestFact { uuid: clone.dmi.uuid.clone(), ..guest(1, "a") },
        // Two guests show the same hardware address.
        GuestFact { macs: vec!["bc:24:11:00:00:09".to_owned()], ..guest(2, "x") },
        GuestFact { macs: vec!["bc:24:11:00:00:09".to_owned()], ..guest(3, "y") },
        // By its name it would be one that a better sign gave away.
        guest(4, "c"),
        guest(5, "nobody"),
    ];
    let graph = build(&Input { hosts, said: guests(facts), ..Input::default() });
    let told: Vec<(&str, Why, Option<&str>, &[String])> =
        graph.unmatched.iter().map(|row| (row.id.as_str(), row.why, row.key, &row.candidates[..])).collect();
    let [both, c] = [["host:a".to_owned(), "host:b".to_owned()].to_vec(), vec!["host:c".to_owned()]];
    assert_eq!(
        told,
        [
            ("guest:proxmox/1", Why::Ambiguous, Some("uuid"), &both[..]),
            ("guest:proxmox/2", Why::Ambiguous, Some("mac"), &c[..]),
            ("guest:proxmox/3", Why::Ambiguous, Some("mac"), &c[..]),
            ("guest:proxmox/4", Why::Taken, Some("name"), &c[..]),
            ("guest:proxmox/5", Why::Nobody, None, &[][..]),
        ]
    );
    for vmid in 1..=5 {
        has(&graph, &format!("guest:proxmox/{vmid}"), EdgeKind::RunsOn, "node:proxmox/pve1");
    }
    assert!(
        ["host:a", "host:b", "host:c"]
            .iter()
            .all(|id| edge(&graph, id, EdgeKind::RunsOn, "node:proxmox/pve1").is_none())
    );
}

#[test]
fn an_address_that_is_the_same_on_many_machines_matches_none() {
    let inner = |name: &str| {
        host(
            name,
            Some(Inventory {
                interfaces: vec![interface("docker0", "02:42:00:00:00:01", "172.17.0.1")],
                ..Inventory::default()
            }),
        )
    };
    let facts = vec![GuestFact { addresses: vec![ip("172.17.0.1")], ..guest(1, "x") }];
    let graph = build(&Input { hosts: vec![inner("a"), inner("b")], said: guests(facts), ..Input::default() });
    assert_eq!((graph.unmatched[0].why, graph.unmatched[0].key), (Why::Nobody, None));
    assert!(graph.nodes.iter().all(|node| node.kind != NodeKind::Network));
}

#[test]
fn a_node_of_proxmox_is_the_host_of_its_name_or_the_only_one_of_its_integration() {
    let mut facts = IntegrationFacts { guests: vec![guest(1, "x")], ..IntegrationFacts::default() };
    facts.host = Some("proxmox".to_owned());
    let with = |hosts: Vec<KnownHost>, facts: &IntegrationFacts| {
        build(&Input { hosts, said: vec![said("proxmox", facts.clone())], ..Input::default() })
    };
    let named = with(vec![host("proxmox", None), host("pve1", None)], &facts);
    has(&named, "guest:proxmox/1", EdgeKind::RunsOn, "host:pve1");
    assert_eq!(kind(&named, "host:pve1"), Some(NodeKind::ProxmoxNode));
    let alone = with(vec![host("proxmox", None)], &facts);
    has(&alone, "guest:proxmox/1", EdgeKind::RunsOn, "host:proxmox");
    facts.guests.push(GuestFact { node: "pve2".to_owned(), ..guest(2, "y") });
    let several = with(vec![host("proxmox", None)], &facts);
    has(&several, "guest:proxmox/1", EdgeKind::RunsOn, "node:proxmox/pve1");
    has(&several, "guest:proxmox/2", EdgeKind::RunsOn, "node:proxmox/pve2");
}

fn proxied() -> Input {
    let container = |name: &str, address: &str, port: Option<u16>| farol_protocol::inventory::ContainerItem {
        name: name.to_owned(),
        image: None,
        state: "running".to_owned(),
        addresses: vec![ip(address)],
        published: port
            .map(|port| Published {
                transport: farol_protocol::inventory::Transport::Tcp,
                address: None,
                port,
                inside: 80,
            })
            .into_iter()
            .collect(),
    };
    let mut proxy = with_address("edge", 2);
    let mut web = with_address("web", 3);
    if let Some((inventory, _)) = &mut proxy.inventory {
        inventory.containers = Some(vec![container("desk", "172.18.0.2", None)]);
    }
    if let Some((inventory, _)) = &mut web.inventory {
        inventory.containers = Some(vec![container("portal", "172.18.0.2", Some(8080))]);
        inventory.ports = vec![Port {
            transport: farol_protocol::inventory::Transport::Tcp,
            port: 443,
            address: ip("0.0.0.0"),
            process: Some("nginx".to_owned()),
        }];
    }
    let route = |rule: &str, backend: &str| {
        let [host_rule, service, backend] = [rule, "svc", backend].map(str::to_owned);
        RouteFact { host_rule, service, backend }
    };
    let routes = vec![
        route("desk", "http://172.18.0.2:80"),
        route("named", "http://desk:80/"),
        route("portal", "http://10.10.10.3:8080"),
        route("site", "https://web.example.org"),
        route("own", "http://127.0.0.1:9000"),
        route("lost", "http://10.99.0.1:80"),
        route("broken", "http://:80"),
    ];
    let facts = IntegrationFacts { host: Some("edge".to_owned()), routes, ..IntegrationFacts::default() };
    Input { hosts: vec![proxy, web], said: vec![said("traefik", facts)], ..Input::default() }
}

#[test]
fn a_route_leads_to_its_proxy_and_to_the_container_or_host_behind_it() {
    let graph = build(&proxied());
    for (rule, to, confidence) in [
        ("desk", "container:edge/desk", Confidence::Likely),
        ("named", "container:edge/desk", Confidence::Likely),
        ("portal", "container:web/portal", Confidence::Certain),
        ("site", "host:web", Confidence::Certain),
        ("own", "host:edge", Confidence::Likely),
    ] {
        let service = format!("service:traefik/{rule}");
        has(&graph, &service, EdgeKind::ProxiedBy, "integration:traefik");
        assert_eq!(has(&graph, &service, EdgeKind::ServedBy, to).confidence, confidence, "{rule}");
    }
    let site = has(&graph, "service:traefik/site", EdgeKind::ServedBy, "host:web");
    assert!(site.evidence.iter().any(|evidence| evidence.value == "443 nginx"), "{site:?}");
    let lost: Vec<&str> = graph.unmatched.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(lost, ["service:traefik/broken", "service:traefik/lost"]);

    let down = impact::of(&graph, "host:edge").expect("there");
    let ids: Vec<&str> = down.dependents.iter().map(|step| step.id.as_str()).collect();
    assert!(ids.contains(&"service:traefik/portal"), "the proxy is on it: {ids:?}");
    let portal = down.dependents.iter().find(|step| step.id == "service:traefik/portal").expect("there");
    assert_eq!((portal.distance, portal.by.as_str()), (2, "integration:traefik"));
    let needs = impact::of(&graph, "service:traefik/portal").expect("there").depends_on;
    assert!(needs.iter().any(|step| step.id == "host:web" && step.distance == 2), "{needs:?}");
    assert_eq!(impact::of(&graph, "host:nobody"), None);
}

#[test]
fn what_the_registry_states_and_what_is_mounted_is_drawn() {
    let mut a = with_address("a", 5);
    a.parent = Some("pve".to_owned());
    a.depends_on = vec!["db".to_owned()];
    if let Some((inventory, _)) = &mut a.inventory {
        let mount = |device: &str, kind: &str| Mount {
            mount: "/m".to_owned(),
            device: device.to_owned(),
            kind: kind.to_owned(),
        };
        inventory.mounts =
            vec![mount("10.10.10.6:/x", "nfs4"), mount("//NAS/share", "cifs"), mount("/dev/sda1", "ext4")];
    }
    let hosts = vec![a, host("pve", None), host("db", None), with_address("files", 6), host("nas", None)];
    let graph = build(&Input { hosts, ..Input::default() });
    for (kind, to) in [(EdgeKind::RunsOn, "host:pve"), (EdgeKind::DependsOn, "host:db")] {
        let edge = has(&graph, "host:a", kind, to);
        assert_eq!((edge.state, edge.confidence), (EdgeState::Stated, Confidence::Stated));
    }
    has(&graph, "host:a", EdgeKind::DependsOn, "host:files");
    has(&graph, "host:a", EdgeKind::DependsOn, "host:nas");
}

#[test]
fn a_persons_word_wins_over_discovery_and_stays() {
    let mut input = Input { hosts: vec![with_address("a", 5), with_address("gw", 1)], ..Input::default() };
    input.corrections = vec![correction(Decision::Remove, "host:a", EdgeKind::RoutesThrough, "host:gw")];
    let graph = build(&input);
    let edge_ = has(&graph, "host:a", EdgeKind::RoutesThrough, "host:gw");
    assert_eq!((edge_.state, edge_.counts()), (EdgeState::Removed, false));
    assert_eq!(edge_.correction.as_ref().map(|correction| correction.by.as_str()), Some("ana"));
    assert_eq!(impact::of(&graph, "host:gw").expect("there").dependents, []);

    // It goes, and is found again: it stays removed.
    let seen = input.hosts[0].inventory.take();
    assert_eq!(edge(&build(&input), "host:a", EdgeKind::RoutesThrough, "host:gw"), None);
    input.hosts[0].inventory = seen;
    assert_eq!(has(&build(&input), "host:a", EdgeKind::RoutesThrough, "host:gw").state, EdgeState::Removed);

    // Confirmed, it outlives what showed it; added, it needs nothing but its ends.
    input.corrections = vec![
        correction(Decision::Confirm, "host:a", EdgeKind::RoutesThrough, "host:gw"),
        correction(Decision::Add, "host:gw", EdgeKind::DependsOn, "host:a"),
        correction(Decision::Add, "host:gw", EdgeKind::DependsOn, "host:gone"),
    ];
    input.hosts[0].inventory = None;
    let graph = build(&input);
    assert_eq!(has(&graph, "host:a", EdgeKind::RoutesThrough, "host:gw").state, EdgeState::Confirmed);
    let added = has(&graph, "host:gw", EdgeKind::DependsOn, "host:a");
    assert_eq!((added.state, added.evidence.len()), (EdgeState::Added, 0));
    assert_eq!(graph.unmatched.iter().map(|row| row.why).collect::<Vec<_>>(), [Why::Gone]);
    // A circle is walked once.
    assert_eq!(impact::of(&graph, "host:a").expect("there").dependents.len(), 1);
}

#[test]
fn facts_count_while_they_are_fresh_and_say_when_they_are_not() {
    let facts = Facts::default();
    let guests = IntegrationFacts { guests: vec![guest(1, "x")], ..IntegrationFacts::default() };
    facts.set("proxmox", guests, then(), Duration::from_secs(60));
    assert!(facts.all(then().plus_ms(60_000))[0].is_fresh);
    let graph = build(&Input { said: facts.all(then().plus_ms(60_001)), ..Input::default() });
    assert!(graph.nodes.is_empty() && graph.edges.is_empty());
    assert_eq!((graph.unmatched[0].id.as_str(), graph.unmatched[0].why), ("integration:proxmox", Why::Stale));
    facts.forget("proxmox");
    assert!(facts.all(then()).is_empty());
}

#[test]
fn the_same_input_in_another_order_gives_the_same_graph() {
    let mut input = proxied();
    input.said.extend(guests(vec![guest(1, "web"), guest(2, "y")]));
    let graph = build(&input);
    input.hosts.reverse();
    input.said.reverse();
    assert_eq!(build(&input), graph);
}

#[test]
fn an_inventory_is_news_when_it_is_another_and_not_older() {
    let (live, host) = (Live::default(), HostKey(1));
    assert!(live.note(host, then(), "a".to_owned()));
    assert!(!live.note(host, then().plus_ms(1), "a".to_owned()));
    assert!(live.note(host, then().plus_ms(2), "b".to_owned()));
    assert!(!live.note(host, then().plus_ms(1), "c".to_owned()), "it was kept while the host was away");
}
