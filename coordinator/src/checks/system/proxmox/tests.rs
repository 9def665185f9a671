use std::{collections::BTreeSet, time::Duration};

use farol_protocol::{Language, Status, report::UnknownCause};
use farol_tests::{
    product::{Fault, Product, Reply},
    proxmox::{FakeProxmox, SECRET, USER},
};
use serde_json::json;

use super::*;
use crate::{
    checks::system::testing::{NOW, asking, connection, disturbed},
    integrations::{Kind, Secret, http::Clients},
};

const LOOKS: [ProxmoxLook; 7] = [
    ProxmoxLook::Quorum,
    ProxmoxLook::Nodes,
    ProxmoxLook::Guests,
    ProxmoxLook::Storage,
    ProxmoxLook::Replication,
    ProxmoxLook::Tasks,
    ProxmoxLook::Backups,
];

fn probe(look: ProxmoxLook) -> ProxmoxProbe {
    ProxmoxProbe {
        integration: "casa".to_owned(),
        look,
        guests: Vec::new(),
        ignore: Vec::new(),
        limits: farol_protocol::report::Limits::default(),
    }
}

async fn cluster() -> (FakeProxmox, Connection) {
    let fake = FakeProxmox::start(NOW).await.expect("a stand-in");
    let connection = connection(Kind::Proxmox, &fake.product, Some(USER), SECRET);
    (fake, connection)
}

async fn looked(connection: &Connection, probe: &ProxmoxProbe) -> Seen {
    let clients = Clients::default();
    ask(&asking(&clients), probe, connection).await
}

async fn seen(connection: &Connection, look: ProxmoxLook) -> (Status, Option<f64>, String) {
    let seen = looked(connection, &probe(look)).await;
    assert!(seen.text.chars().count() <= 400, "{}", seen.text);
    assert!(!seen.text.contains(SECRET), "{}", seen.text);
    (seen.status, seen.value, seen.text)
}

#[tokio::test]
async fn a_healthy_cluster_is_ok_in_every_look_but_for_the_guest_without_a_backup_job() {
    let (fake, connection) = cluster().await;
    for (look, status, value, words) in [
        (ProxmoxLook::Quorum, Status::Ok, 2.0, "the cluster casa has its quorum: 2 of 2 nodes online"),
        (ProxmoxLook::Nodes, Status::Ok, 0.0, "2 nodes online: a, b"),
        (ProxmoxLook::Guests, Status::Ok, 0.0, "4 of 4 guests run; stopped on purpose: 200 lab"),
        (ProxmoxLook::Storage, Status::Ok, 50.0, "the fullest of 3 storages: nas 50%"),
        (ProxmoxLook::Replication, Status::Ok, 10.0, "1 jobs; the oldest last sync is of 112-0 a→b, 10 min ago"),
        (ProxmoxLook::Tasks, Status::Ok, 0.0, "no task failed within 24 h"),
        (
            ProxmoxLook::Backups,
            Status::Warning,
            8.0,
            "in no backup job: 200 lab; 4 guests with a backup; the oldest is of 104 mail, 8 h ago",
        ),
    ] {
        assert_eq!(seen(&connection, look).await, (status, Some(value), words.to_owned()), "{look:?}");
    }
    let asked = fake.product.asked();
    assert!(asked.iter().all(|one| one.method == "GET" && one.body.is_empty()));
    assert!(asked.iter().all(|one| one.header("authorization") == Some(&format!("PVEAPIToken={USER}={SECRET}"))));
}

#[tokio::test]
async fn a_cluster_without_quorum_is_critical_and_a_node_that_is_away_is_named() {
    let (fake, connection) = cluster().await;
    fake.lose_node("b");
    let (status, _, text) = seen(&connection, ProxmoxLook::Nodes).await;
    assert_eq!((status, text.as_str()), (Status::Critical, "1 of 2 nodes away: b (limit 1)"));
    assert_eq!(
        seen(&connection, ProxmoxLook::Quorum).await.2,
        "the cluster casa has its quorum: 1 of 2 nodes online (away: b)"
    );
    fake.change(|cluster| cluster.row("/cluster/status", "type", "cluster")["quorate"] = json!(0));
    let (status, value, text) = seen(&connection, ProxmoxLook::Quorum).await;
    assert_eq!((status, value), (Status::Critical, Some(1.0)));
    assert_eq!(
        text,
        "the cluster casa has lost its quorum: 1 of 2 nodes online (away: b); /etc/pve is read-only and no guest starts"
    );
}

#[tokio::test]
async fn what_a_node_that_is_away_would_tell_is_unknown_and_never_calm() {
    let (fake, connection) = cluster().await;
    fake.lose_node("b");
    for look in [ProxmoxLook::Guests, ProxmoxLook::Storage, ProxmoxLook::Replication, ProxmoxLook::Tasks] {
        let (status, _, text) = seen(&connection, look).await;
        assert_eq!(status, Status::Unknown, "{look:?}: {text}");
        assert!(text.contains(" b") && text.contains("away"), "{look:?}: {text}");
    }
    // The cluster still takes it for online, and it does not answer.
    fake.change(|cluster| cluster.row("/cluster/status", "name", "b")["online"] = json!("1"));
    let (status, _, text) = seen(&connection, ProxmoxLook::Tasks).await;
    assert_eq!(status, Status::Unknown);
    assert!(text.starts_with("b: the node does not answer the rest of the cluster"), "{text}");
}

#[tokio::test]
async fn a_guest_that_should_run_and_does_not_is_critical_with_its_number_and_name() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| cluster.row("/cluster/resources", "id", "qemu/112")["status"] = json!("stopped"));
    let (status, value, text) = seen(&connection, ProxmoxLook::Guests).await;
    assert_eq!((status, value), (Status::Critical, Some(1.0)));
    assert!(text.starts_with("1 of 4 guests do not run: 112 wizard (stopped on a) (limit 1)"), "{text}");
    let listed = ProxmoxProbe { guests: vec![200, 104, 777, 900], ..probe(ProxmoxLook::Guests) };
    let text = looked(&connection, &listed).await.text;
    assert!(text.contains("200 lab (stopped on b)"), "{text}");
    assert!(text.contains("777 is not in the list") && text.contains("900 debian is a template"), "{text}");
    let ignoring = ProxmoxProbe { ignore: vec!["wizard".to_owned()], ..probe(ProxmoxLook::Guests) };
    assert_eq!(looked(&connection, &ignoring).await.status, Status::Ok);
}

#[tokio::test]
async fn a_guest_halted_by_a_disk_error_is_found_although_it_is_called_running() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| {
        cluster.each("/nodes/a/qemu", |row| row["qmpstatus"] = json!("io-error"));
        let current = cluster.data.get_mut("/nodes/a/qemu/122/status/current").expect("there");
        current["qmpstatus"] = json!("io-error");
    });
    let (status, value, text) = seen(&connection, ProxmoxLook::Guests).await;
    assert_eq!((status, value), (Status::Critical, Some(2.0)), "{text}");
    assert!(text.contains("122 desk (halted by a disk error"), "{text}");
    let listed = ProxmoxProbe { guests: vec![122], ..probe(ProxmoxLook::Guests) };
    assert_eq!(looked(&connection, &listed).await.status, Status::Critical);
}

#[tokio::test]
async fn a_guest_halted_for_its_backup_is_a_warning_and_high_availability_in_error_is_critical() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| {
        let guest = cluster.row("/cluster/resources", "id", "qemu/112");
        guest["status"] = json!("stopped");
        guest["lock"] = json!("backup");
    });
    let (status, _, text) = seen(&connection, ProxmoxLook::Guests).await;
    assert_eq!(status, Status::Warning);
    assert!(text.starts_with("halted for a backup or a snapshot: 112 wizard"), "{text}");
    fake.change(|cluster| cluster.row("/cluster/resources", "id", "lxc/104")["hastate"] = json!("error"));
    let (status, _, text) = seen(&connection, ProxmoxLook::Guests).await;
    assert_eq!(status, Status::Critical);
    assert!(text.starts_with("high availability fails for: 104 mail (error)"), "{text}");
}

#[tokio::test]
async fn a_full_storage_a_missing_one_and_an_absent_figure_differ() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| cluster.row("/cluster/resources", "id", "storage/a/local")["disk"] = json!("960000000000"));
    let (status, value, text) = seen(&connection, ProxmoxLook::Storage).await;
    assert_eq!((status, value), (Status::Critical, Some(96.0)));
    assert!(text.starts_with("storage full: local on a 96% (limit 95 %)"), "{text}");
    fake.change(|cluster| cluster.row("/cluster/resources", "id", "storage/a/local")["disk"] = json!(null));
    let (status, value, text) = seen(&connection, ProxmoxLook::Storage).await;
    assert_eq!((status, value), (Status::Unknown, Some(50.0)));
    assert!(text.starts_with("how full local on a is, is not known"), "{text}");
    fake.change(|cluster| cluster.row("/cluster/resources", "id", "storage/b/nas")["status"] = json!("unknown"));
    let (status, _, text) = seen(&connection, ProxmoxLook::Storage).await;
    assert_eq!(status, Status::Critical);
    assert!(text.starts_with("storage not available: nas on b"), "{text}");
}

#[tokio::test]
async fn a_replication_that_fails_warns_and_then_is_critical_and_a_late_one_is_said() {
    let (fake, connection) = cluster().await;
    let set = |key: &'static str, value: serde_json::Value| {
        fake.change(|cluster| cluster.row("/nodes/a/replication", "id", "112-0")[key] = value);
    };
    set("fail_count", json!("1"));
    set("error", json!("command 'zfs recv' failed: exit code 1"));
    let (status, _, text) = seen(&connection, ProxmoxLook::Replication).await;
    assert_eq!(status, Status::Warning);
    assert!(text.starts_with("112-0 a→b failed 1×: command 'zfs recv' failed"), "{text}");
    set("fail_count", json!(3));
    assert_eq!(seen(&connection, ProxmoxLook::Replication).await.0, Status::Critical);
    set("fail_count", json!(0));
    set("next_sync", json!(NOW - 7200));
    let (status, _, text) = seen(&connection, ProxmoxLook::Replication).await;
    assert_eq!(status, Status::Warning);
    assert!(text.starts_with("should have begun: 112-0 a→b (2 h ago)"), "{text}");
    set("next_sync", json!(NOW + 60));
    set("last_sync", json!(0));
    let (status, value, text) = seen(&connection, ProxmoxLook::Replication).await;
    assert_eq!((status, value), (Status::Unknown, None), "no zero stands for never: {text}");
    fake.change(|cluster| cluster.each("/nodes/a/replication", |row| row["disable"] = json!(1)));
    let none = seen(&connection, ProxmoxLook::Replication).await;
    assert_eq!(none, (Status::Ok, None, "there is no replication job".to_owned()));
    fake.change(|cluster| cluster.each("/cluster/resources", |row| row["type"] = json!("pool")));
    let blind = seen(&connection, ProxmoxLook::Replication).await;
    assert_eq!(blind.0, Status::Unknown);
    assert!(blind.2.starts_with("neither guests nor replication jobs in sight"), "{}", blind.2);
}

#[tokio::test]
async fn failed_tasks_are_counted_without_consoles_warnings_and_what_is_old() {
    let (fake, connection) = cluster().await;
    let task = |kind: &str, id: &str, ago: i64, status: &str| {
        json!({"upid": "UPID:b:1", "node": "b", "type": kind, "id": id, "starttime": NOW - ago - 5, "endtime": NOW - ago,
            "user": "root@pam", "status": status})
    };
    fake.change(|cluster| {
        for row in [
            task("vzdump", "104", 3_600, "job errors"),
            task("qmstart", "200", 7_200, "start failed: QEMU exited with code 1"),
            task("qmstart", "200", 90_000, "an old one"),
            task("vncshell", "", 10, "connection closed"),
        ] {
            cluster.add("/nodes/b/tasks", row);
        }
    });
    let (status, value, text) = seen(&connection, ProxmoxLook::Tasks).await;
    assert_eq!((status, value), (Status::Warning, Some(2.0)));
    assert_eq!(
        text,
        "tasks that failed within 24 h: 2: vzdump 104 on b (job errors), qmstart 200 on b (start failed: QEMU exited with code 1) (limit 1)"
    );
    let ignoring = ProxmoxProbe { ignore: vec!["qmstart".to_owned()], ..probe(ProxmoxLook::Tasks) };
    assert_eq!(looked(&connection, &ignoring).await.value, Some(1.0));
}

#[tokio::test]
async fn a_guest_without_a_backup_is_critical_only_where_every_storage_was_read() {
    let (fake, connection) = cluster().await;
    let listed = ProxmoxProbe { guests: vec![112, 104], ..probe(ProxmoxLook::Backups) };
    assert_eq!(looked(&connection, &listed).await.status, Status::Ok);
    fake.change(|cluster| {
        let list = cluster.data.get_mut("/nodes/a/storage/nas/content").expect("there").as_array_mut().expect("a list");
        list.retain(|row| row["vmid"] != 104);
    });
    let seen = looked(&connection, &listed).await;
    assert_eq!((seen.status, seen.value), (Status::Critical, Some(6.0)));
    assert!(seen.text.starts_with("without any backup: 104 mail"), "{}", seen.text);
    // Another storage may hold it.
    fake.change(|cluster| {
        cluster.add(
            "/cluster/resources",
            json!({"id": "storage/b/usb", "type": "storage", "storage": "usb", "node": "b", "status": "unknown",
                "shared": 0, "content": "backup"}),
        );
    });
    let seen = looked(&connection, &listed).await;
    assert_eq!(seen.status, Status::Unknown);
    assert!(seen.text.contains("backups not read: usb on b (not available)"), "{}", seen.text);
    // A task says that it was made: words beside what is not known.
    fake.change(|cluster| {
        cluster.add(
            "/nodes/b/tasks",
            json!({"node": "b", "type": "vzdump", "id": "104", "starttime": NOW - 4000, "endtime": NOW - 3600, "status": "OK"}),
        );
    });
    let seen = looked(&connection, &listed).await;
    assert_eq!(seen.status, Status::Unknown);
    assert!(
        seen.text.contains("backup tasks that ended well, though what they made is not seen: 104 mail 1 h ago"),
        "{}",
        seen.text
    );
}

#[tokio::test]
async fn a_task_that_ended_well_hides_no_deleted_and_no_damaged_backup() {
    let (fake, connection) = cluster().await;
    let listed = ProxmoxProbe { guests: vec![112, 104], ..probe(ProxmoxLook::Backups) };
    fake.change(|cluster| {
        for vmid in ["104", "112"] {
            cluster.add(
                "/nodes/b/tasks",
                json!({"node": "b", "type": "vzdump", "id": vmid, "starttime": NOW - 400, "endtime": NOW - 300, "status": "OK"}),
            );
        }
        cluster.each("/nodes/a/storage/nas/content", |row| {
            if row["vmid"] == 112 && row["ctime"] == json!(NOW - 6 * 3600) {
                row["verification"] = json!({"state": "failed", "upid": "UPID:x"});
            }
        });
        let list = cluster.data.get_mut("/nodes/a/storage/nas/content").expect("there").as_array_mut().expect("a list");
        list.retain(|row| row["vmid"] != 104);
    });
    let seen = looked(&connection, &listed).await;
    assert_eq!((seen.status, seen.value), (Status::Critical, Some(30.0)), "{}", seen.text);
    assert!(seen.text.contains("without any backup: 104 mail"), "{}", seen.text);
    assert!(seen.text.contains("backup failed its verification: 112 wizard"), "{}", seen.text);
    assert!(!seen.text.contains("ended well"), "{}", seen.text);
}

#[tokio::test]
async fn nothing_that_could_be_read_is_no_healthy_cluster() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| {
        cluster.each("/nodes/a/replication", |row| row["fail_count"] = json!("often"));
        cluster.each("/nodes/b/replication", |row| row["fail_count"] = json!("often"));
        cluster.row("/cluster/status", "type", "cluster")["type"] = json!(7);
    });
    let (status, _, text) = seen(&connection, ProxmoxLook::Replication).await;
    assert_eq!(status, Status::Unknown, "{text}");
    assert!(text.contains("of the replication jobs could be read"), "{text}");
    let (status, _, text) = seen(&connection, ProxmoxLook::Quorum).await;
    assert_eq!(status, Status::Unknown, "{text}");
    assert!(text.contains("says nothing of its cluster"), "{text}");
}

#[tokio::test]
async fn an_old_backup_and_one_that_failed_its_verification_are_said() {
    let (fake, connection) = cluster().await;
    let listed = ProxmoxProbe { guests: vec![112], ..probe(ProxmoxLook::Backups) };
    fake.change(|cluster| {
        cluster.each("/nodes/a/storage/nas/content", |row| {
            if row["vmid"] == 112 && row["ctime"] == json!(NOW - 6 * 3600) {
                row["verification"] = json!({"state": "failed", "upid": "UPID:x"});
            }
        });
    });
    let seen = looked(&connection, &listed).await;
    assert_eq!((seen.status, seen.value), (Status::Warning, Some(30.0)));
    assert!(seen.text.contains("old backups: 112 wizard; the oldest 1 d 6 h ago (limit 26 h)"), "{}", seen.text);
    assert!(seen.text.contains("backup failed its verification: 112 wizard"), "{}", seen.text);
    fake.change(|cluster| {
        cluster.data.get_mut("/nodes/a/storage/nas/content").expect("there").as_array_mut().expect("a list").clear();
        cluster.forbidden.insert("/nodes/a/storage/nas/content".to_owned());
    });
    let seen = looked(&connection, &listed).await;
    assert_eq!(seen.status, Status::Unknown);
    assert!(seen.text.contains("no permission for /nodes/a/storage/nas/content"), "{}", seen.text);
}

#[tokio::test]
async fn healthy_broken_unreachable_unauthorised_and_unconfigured_are_told_apart() {
    let (fake, mut connection) = cluster().await;
    let mut texts = BTreeSet::new();
    let healthy = looked(&connection, &probe(ProxmoxLook::Guests)).await;
    assert_eq!(healthy.status, Status::Ok);
    texts.insert(healthy.text);

    fake.change(|cluster| cluster.row("/cluster/resources", "id", "qemu/112")["status"] = json!("stopped"));
    texts.insert(looked(&connection, &probe(ProxmoxLook::Guests)).await.text);
    fake.change(|cluster| cluster.row("/cluster/status", "type", "cluster")["quorate"] = json!(0));
    texts.insert(looked(&connection, &probe(ProxmoxLook::Quorum)).await.text);

    connection.secret = Some(Secret::new("wrong".to_owned()));
    let refused = looked(&connection, &probe(ProxmoxLook::Guests)).await;
    assert_eq!(refused.status, Status::Unknown);
    assert!(refused.text.contains("the token farol@pve!watch was refused (401"), "{}", refused.text);
    texts.insert(refused.text);

    connection.secret = Some(Secret::new(SECRET.to_owned()));
    fake.take_rights();
    let blind = looked(&connection, &probe(ProxmoxLook::Guests)).await;
    assert_eq!(blind.status, Status::Unknown);
    assert!(blind.text.contains("403 Permission check failed (/, Sys.Audit)"), "{}", blind.text);
    texts.insert(blind.text);
    // Even where the gate is open, an empty list is no calm cluster.
    fake.change(|cluster| {
        cluster.forbidden.clear();
        cluster.add("/cluster/status", json!({"type": "node", "name": "a", "online": 1}));
    });
    for look in [ProxmoxLook::Guests, ProxmoxLook::Storage, ProxmoxLook::Backups] {
        let empty = looked(&connection, &probe(look)).await;
        assert_eq!(empty.status, Status::Unknown, "{look:?}");
        assert!(empty.text.contains("PVEAuditor"), "{}", empty.text);
        texts.insert(empty.text);
    }

    fake.product.stop();
    let gone = looked(&connection, &probe(ProxmoxLook::Guests)).await;
    assert_eq!(gone.status, Status::Critical);
    assert!(gone.text.contains("could not be reached"), "{}", gone.text);
    texts.insert(gone.text);

    connection.user = None;
    let bare = looked(&connection, &probe(ProxmoxLook::Guests)).await;
    assert_eq!((bare.status, bare.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)));
    texts.insert(bare.text);
    connection.user = Some(USER.to_owned());
    connection.secret = None;
    let bare = looked(&connection, &probe(ProxmoxLook::Guests)).await;
    assert_eq!(bare.cause, Some(UnknownCause::NotConfigured));
    texts.insert(bare.text);
    assert_eq!(texts.len(), 10, "{texts:#?}");
}

#[tokio::test]
async fn another_certificate_ends_the_look_before_the_token_is_sent() {
    let (fake, connection) = cluster().await;
    fake.product.change_certificate().expect("another");
    let (status, _, text) = seen(&connection, ProxmoxLook::Quorum).await;
    assert_eq!(status, Status::Unknown);
    assert!(text.contains("showed another certificate (sha256:"), "{text}");
    assert_eq!(fake.product.asked().len(), 0);
}

#[tokio::test]
async fn the_next_address_is_asked_when_one_cannot_be_reached_and_remembered() {
    let (fake, mut connection) = cluster().await;
    let (dead, silent) = (FakeProxmox::start(NOW).await.expect("one"), FakeProxmox::start(NOW).await.expect("one"));
    dead.product.stop();
    connection.tls = crate::integrations::Tls::Insecure;
    silent.product.fault("/", Fault::Silent);
    connection.endpoints = vec![dead.product.url(), silent.product.url(), fake.product.url()];
    let clients = Clients::default();
    let asking = Asking { limit: Duration::from_secs(2), ..asking(&clients) };
    let first = ask(&asking, &probe(ProxmoxLook::Quorum), &connection).await;
    assert_eq!(first.status, Status::Ok, "{}", first.text);
    silent.product.forget();
    assert_eq!(ask(&asking, &probe(ProxmoxLook::Quorum), &connection).await.status, Status::Ok);
    assert_eq!(silent.product.asked().len(), 0, "the one that answered is asked first");
    connection.endpoints.truncate(2);
    let none = ask(&asking, &probe(ProxmoxLook::Quorum), &connection).await;
    assert_eq!(none.status, Status::Unknown, "one refuses, of the other nothing is known");
    assert!(none.text.contains(&dead.product.url()) && none.text.contains(&silent.product.url()), "{}", none.text);
}

#[tokio::test]
async fn one_malformed_row_costs_that_row_and_is_said() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| {
        cluster.add("/cluster/resources", json!({"type": "qemu", "vmid": "x", "node": "a", "status": "running"}));
        cluster.add("/cluster/resources", json!(7));
        cluster.add("/cluster/resources", json!({"type": "hologram", "id": "new"}));
    });
    let (status, value, text) = seen(&connection, ProxmoxLook::Guests).await;
    assert_eq!((status, value), (Status::Ok, Some(0.0)));
    assert!(text.ends_with("2 rows could not be read"), "{text}");
}

#[tokio::test]
async fn an_answer_that_breaks_is_unknown_and_says_how() {
    let (fake, connection) = cluster().await;
    let html = Reply::html(502, "<html>Bad gateway</html>");
    for (fault, words) in [
        (Fault::ContentType("text/html"), "is not one of a Proxmox VE"),
        (Fault::Reply(html), "/cluster/status answered 502"),
        (Fault::Reply(Reply::json(200, &json!({"data": null}))), "is not one of a Proxmox VE"),
        (Fault::Reply(Reply::new(596, "text/plain", String::new())), "the node does not answer"),
        (
            Fault::Reply(Reply::json(500, &json!({"message": "got no quorum\n"})).because("Internal Server Error")),
            "/cluster/status answered 500 got no quorum",
        ),
    ] {
        fake.product.heal();
        fake.product.fault("/api2/json/cluster/status", fault);
        let (status, _, text) = seen(&connection, ProxmoxLook::Quorum).await;
        assert_eq!(status, Status::Unknown, "{text}");
        assert!(text.contains(words), "{text}");
    }
    fake.product.heal();
    fake.product.fault("/", Fault::Pieces(3));
    assert_eq!(seen(&connection, ProxmoxLook::Quorum).await.0, Status::Ok);
    fake.product.heal();
    fake.product.fault("/", Fault::Cut(20));
    assert_ne!(seen(&connection, ProxmoxLook::Quorum).await.0, Status::Ok);
}

#[tokio::test]
async fn a_secret_that_the_system_repeats_is_not_shown_and_odd_characters_reach_it() {
    let product = Product::start(|asked| {
        let shown = asked.header("authorization").unwrap_or_default().to_owned();
        Reply::json(400, &json!({"data": null, "errors": {"token": shown}}))
    })
    .await
    .expect("a server");
    let connection = connection(Kind::Proxmox, &product, Some(USER), "semi;colon%and");
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &probe(ProxmoxLook::Quorum), &connection).await;
    assert!(seen.text.contains("400 token: PVEAPIToken=farol@pve!watch=•••"), "{}", seen.text);
    let asked = product.asked();
    let sent = asked.first().and_then(|asked| asked.header("authorization"));
    assert_eq!(sent, Some("PVEAPIToken=farol@pve!watch=semi%3Bcolon%25and"));
    let echo = crate::checks::system::testing::connection(Kind::Proxmox, &product, Some(USER), SECRET);
    let seen = ask(&asking(&clients), &probe(ProxmoxLook::Quorum), &echo).await;
    assert!(seen.text.contains("•••") && !seen.text.contains(SECRET), "{}", seen.text);
}

#[tokio::test]
async fn every_look_speaks_portuguese() {
    let (_fake, connection) = cluster().await;
    let clients = Clients::default();
    for look in LOOKS {
        let english = ask(&asking(&clients), &probe(look), &connection).await;
        let asking = Asking { language: Language::PtBr, ..asking(&clients) };
        let portuguese = ask(&asking, &probe(look), &connection).await;
        assert_eq!(english.status, portuguese.status);
        assert_ne!(english.text, portuguese.text);
    }
}

#[tokio::test]
async fn no_answer_makes_a_look_panic() {
    let (fake, connection) = cluster().await;
    let clients = Clients::default();
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        fake.change(|cluster| {
            for value in cluster.data.values_mut() {
                *value = disturbed(&mut random, value);
            }
        });
        for look in LOOKS {
            let seen = ask(&asking(&clients), &probe(look), &connection).await;
            assert!(seen.text.chars().count() <= 400);
            assert!(seen.value.is_none_or(f64::is_finite), "{seen:?}");
        }
        let _whatever = facts(&asking(&Clients::default()), &connection).await;
        if seed % 8 == 7 {
            let fresh = FakeProxmox::start(NOW).await.expect("a stand-in");
            fresh.change(|healthy| fake.change(|cluster| cluster.data.clone_from(&healthy.data)));
        }
    }
}

#[tokio::test]
async fn its_guests_are_told_with_the_signs_of_their_configurations_which_are_read_once_an_hour() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| {
        let mail = "name=eth1,bridge=vmbr1,hwaddr=BC:24:11:0A:0B:05,ip=10.10.20.104/24,ip6=auto,type=veth";
        cluster.data.get_mut("/nodes/b/lxc/104/config").expect("a configuration")["net1"] = json!(mail);
        cluster.add("/cluster/resources", json!({"type": "qemu", "vmid": "many", "node": "a", "status": "running"}));
    });
    let clients = Clients::default();
    let guests = facts(&asking(&clients), &connection).await.unwrap();
    let by = |vmid: u32| guests.iter().find(|guest| guest.vmid == vmid).unwrap();
    assert_eq!(guests.iter().map(|guest| guest.vmid).collect::<Vec<_>>(), [104, 112, 122, 123, 200]);
    let wizard = by(112);
    assert_eq!((wizard.node.as_str(), wizard.name.as_str(), wizard.status.as_str()), ("a", "wizard", "running"));
    assert_eq!(wizard.macs, ["bc:24:11:0a:0b:0c"]);
    assert_eq!(wizard.uuid.as_deref(), Some("1d4f1a6e-6e8f-4c53-9a0e-0f6b2d7f0112"));
    assert_eq!(by(104).macs, ["bc:24:11:0a:0b:04", "bc:24:11:0a:0b:05"]);
    assert_eq!(by(104).addresses, ["10.10.20.104".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((by(200).macs.len(), &by(200).uuid), (0, &None));

    // Within the hour only the list is asked for.
    fake.product.forget();
    fake.change(|cluster| cluster.row("/cluster/resources", "id", "qemu/112")["status"] = json!("stopped"));
    let later = |minutes: i64| Asking {
        now: farol_protocol::Timestamp::from_ms((NOW + minutes * 60) * 1000),
        ..asking(&clients)
    };
    let again = facts(&later(59), &connection).await.unwrap();
    assert_eq!(fake.product.asked().len(), 1);
    let wizard = again.iter().find(|guest| guest.vmid == 112).unwrap();
    assert_eq!((wizard.status.as_str(), wizard.macs.len()), ("stopped", 1));

    // After it, what cannot be read is kept, and a node that is away is not asked.
    fake.lose_node("b");
    fake.change(|cluster| {
        cluster.forbidden.insert("/nodes/a/qemu/112/config".to_owned());
    });
    let kept = facts(&later(61), &connection).await.unwrap();
    assert!(kept.iter().all(|guest| guest.vmid == 200 || guest.macs.len() + guest.addresses.len() > 0), "{kept:?}");
    assert!(!fake.product.asked().iter().any(|asked| asked.path.contains("/nodes/b/")));
}

#[tokio::test]
async fn a_guest_whose_configuration_cannot_be_read_is_told_as_the_list_has_it() {
    let (fake, connection) = cluster().await;
    fake.change(|cluster| {
        cluster.forbidden.insert("/nodes/a/qemu/112/config".to_owned());
    });
    let clients = Clients::default();
    let guests = facts(&asking(&clients), &connection).await.unwrap();
    let wizard = guests.iter().find(|guest| guest.vmid == 112).unwrap();
    assert_eq!((wizard.name.as_str(), wizard.macs.len(), &wizard.uuid), ("wizard", 0, &None));
    fake.change(|cluster| {
        cluster.forbidden.insert("/cluster/resources".to_owned());
    });
    let why = facts(&asking(&clients), &connection).await.unwrap_err();
    assert!(why.contains("PVEAuditor") && !why.contains(SECRET), "{why}");
}
