use std::collections::BTreeSet;

use farol_protocol::{
    Timestamp,
    report::{Limits, UnknownCause},
};
use farol_tests::{
    opnsense::{FakeOpnsense, KEY, SECRET},
    product::{Fault, Product, Reply},
};
use serde_json::json;

use super::*;
use crate::{
    checks::system::testing::{NOW, asking, connection, disturbed},
    integrations::{Kind, Secret, http::Clients},
};

const LOOKS: [OpnsenseLook; 4] =
    [OpnsenseLook::System, OpnsenseLook::Gateways, OpnsenseLook::Firmware, OpnsenseLook::Disk];

fn probe(look: OpnsenseLook) -> OpnsenseProbe {
    OpnsenseProbe { integration: "casa".to_owned(), look, names: Vec::new(), limits: Limits::default() }
}

async fn firewall() -> (FakeOpnsense, Connection) {
    let fake = FakeOpnsense::start().await.expect("a stand-in");
    let connection = connection(Kind::Opnsense, &fake.product, Some(KEY), SECRET);
    (fake, connection)
}

async fn seen(connection: &Connection, look: OpnsenseLook) -> (Status, Option<f64>, String) {
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &probe(look), connection).await;
    assert!(seen.text.chars().count() <= 400 && !seen.text.contains(SECRET), "{}", seen.text);
    (seen.status, seen.value, seen.text)
}

#[tokio::test]
async fn a_healthy_firewall_is_ok_in_every_look_in_new_and_old_releases() {
    let (_fake, new) = firewall().await;
    let old = FakeOpnsense::start_24().await.expect("a stand-in");
    let old = connection(Kind::Opnsense, &old.product, Some(KEY), SECRET);
    for connection in [&new, &old] {
        for (look, value, words) in [
            (OpnsenseLook::System, 0.0, "the firewall has no notices"),
            (
                OpnsenseLook::Gateways,
                0.0,
                "2 of 2 gateways online; worst loss: 0% on WAN_GW; not monitored, so it always looks online: LTE",
            ),
            (OpnsenseLook::Firmware, 1.4, "OPNsense 26.7.1, looked for updates 1.4 days ago"),
            (OpnsenseLook::Disk, 20.0, "the fullest of 1 file systems: / 20%"),
        ] {
            assert_eq!(seen(connection, look).await, (Status::Ok, Some(value), words.to_owned()), "{look:?}");
        }
    }
}

#[tokio::test]
async fn the_spelling_that_works_is_remembered() {
    let fake = FakeOpnsense::start_24().await.expect("a stand-in");
    let connection = connection(Kind::Opnsense, &fake.product, Some(KEY), SECRET);
    let clients = Clients::default();
    for _ in 0..3 {
        assert_eq!(ask(&asking(&clients), &probe(OpnsenseLook::Disk), &connection).await.status, Status::Ok);
    }
    let paths: Vec<String> = fake.product.asked().into_iter().map(|one| one.path).collect();
    assert_eq!(
        paths,
        [
            "/api/diagnostics/system/system_disk",
            "/api/diagnostics/system/systemDisk",
            "/api/diagnostics/system/systemDisk",
            "/api/diagnostics/system/systemDisk"
        ]
    );
}

#[tokio::test]
async fn subsystems_in_trouble_are_named_in_both_formats() {
    let (fake, connection) = firewall().await;
    fake.change(|firewall| {
        firewall.bodies.insert(
            "core/system/status".to_owned(),
            json!({"metadata": {"system": {"status": "ERROR"}}, "subsystems": {
                "diskspace": {"status": "WARNING", "statusCode": 0, "message": "Disk space is running low."},
                "crashreporter": {"status": "ERROR", "statusCode": "-1", "message": "An issue was detected."},
                "odd": 7}}),
        );
    });
    let (status, value, text) = seen(&connection, OpnsenseLook::System).await;
    assert_eq!((status, value), (Status::Critical, Some(2.0)));
    assert_eq!(
        text,
        "error: crashreporter (An issue was detected.); warning: diskspace (Disk space is running low.); \
         2 subsystems in trouble; 1 row could not be read"
    );
    fake.change(|firewall| {
        firewall.bodies.insert(
            "core/system/status".to_owned(),
            json!({"LiveMedia": {"statusCode": 0, "message": "Live media.", "status": "Warning"}, "System": {"status": "warning"}}),
        );
    });
    let (status, _, text) = seen(&connection, OpnsenseLook::System).await;
    assert_eq!(status, Status::Warning);
    assert!(text.starts_with("warning: LiveMedia (Live media.)"), "{text}");
    // The key may not see the page of the subsystem, which is then left out.
    fake.change(|firewall| {
        firewall.bodies.insert(
            "core/system/status".to_owned(),
            json!({"metadata": {"system": {"status": "ERROR"}}, "subsystems": []}),
        );
    });
    let (status, _, text) = seen(&connection, OpnsenseLook::System).await;
    assert_eq!(status, Status::Critical);
    assert!(text.contains("that the key may not see"), "{text}");
}

#[tokio::test]
async fn gateways_are_told_by_the_reverse_words() {
    let (fake, connection) = firewall().await;
    let set = |status: &'static str, loss: &'static str| {
        fake.change(|firewall| {
            let wan = &mut firewall.bodies.get_mut("routes/gateway/status").expect("there")["items"][0];
            wan["status"] = json!(status);
            wan["loss"] = json!(loss);
        });
    };
    set("delay+loss", "14.0 %");
    let (status, value, text) = seen(&connection, OpnsenseLook::Gateways).await;
    assert_eq!((status, value), (Status::Warning, Some(14.0)));
    assert!(text.starts_with("gateway with loss or delay: WAN_GW (delay+loss, 14%, 12.3 ms)"), "{text}");
    set("down", "100.0 %");
    let (status, _, text) = seen(&connection, OpnsenseLook::Gateways).await;
    assert_eq!(status, Status::Critical);
    assert!(text.starts_with("gateway down: WAN_GW"), "{text}");
    set("online", "0.0 %");
    assert_eq!(seen(&connection, OpnsenseLook::Gateways).await.0, Status::Unknown, "no word of OPNsense's");
    set("none", "0.0 %");
    let named = OpnsenseProbe { names: vec!["WAN3".to_owned()], ..probe(OpnsenseLook::Gateways) };
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &named, &connection).await;
    assert_eq!(seen.status, Status::Critical);
    assert!(seen.text.starts_with("gateway left out of the list: WAN3"), "{}", seen.text);
}

#[tokio::test]
async fn updates_mean_nothing_without_the_date_of_the_last_look() {
    let (fake, connection) = firewall().await;
    let set = |key: &'static str, value: serde_json::Value| {
        fake.change(|firewall| firewall.bodies.get_mut("core/firmware/status").expect("there")[key] = value);
    };
    set("status", json!("update"));
    set("needs_reboot", json!("1"));
    let (status, _, text) = seen(&connection, OpnsenseLook::Firmware).await;
    assert_eq!(status, Status::Warning);
    assert!(text.contains("there are updates (26.7.1); it needs a restart"), "{text}");
    let clients = Clients::default();
    let later = Asking { now: Timestamp::from_ms((NOW + 30 * 86_400) * 1000), ..asking(&clients) };
    set("status", json!("none"));
    set("needs_reboot", json!("0"));
    let old = ask(&later, &probe(OpnsenseLook::Firmware), &connection).await;
    assert_eq!((old.status, old.value), (Status::Warning, Some(31.4)));
    assert!(old.text.contains("too old to count"), "{}", old.text);
    set("last_check", json!("unknown"));
    let (status, value, text) = seen(&connection, OpnsenseLook::Firmware).await;
    assert_eq!((status, value), (Status::Unknown, None));
    assert!(text.contains("it never looked for updates"), "{text}");
}

#[tokio::test]
async fn a_full_disk_is_critical_and_an_absent_figure_is_no_zero() {
    let (fake, connection) = firewall().await;
    let set = |value: serde_json::Value| {
        fake.change(|firewall| {
            firewall.bodies.get_mut("diagnostics/system/system_disk").expect("there")["devices"][0]["used_pct"] = value;
        });
    };
    set(json!("97%"));
    let (status, value, text) = seen(&connection, OpnsenseLook::Disk).await;
    assert_eq!((status, value), (Status::Critical, Some(97.0)));
    assert_eq!(text, "file system full: / 97% (limit 95 %)");
    set(json!(null));
    let (status, value, text) = seen(&connection, OpnsenseLook::Disk).await;
    assert_eq!((status, value), (Status::Unknown, None));
    assert_eq!(text, "the firewall lists no file system; 1 row could not be read");
}

#[tokio::test]
async fn every_way_of_not_answering_has_a_text_of_its_own() {
    let (fake, mut connection) = firewall().await;
    let mut texts = BTreeSet::new();
    let mut tell = async |connection: &Connection, expected: Status, words: &str| {
        let (status, _, text) = seen(connection, OpnsenseLook::Disk).await;
        assert_eq!(status, expected, "{text}");
        assert!(text.contains(words), "`{words}` is missing in: {text}");
        assert!(texts.insert(text), "said before");
    };
    tell(&connection, Status::Ok, "the fullest").await;
    fake.change(|firewall| {
        firewall.forbidden.insert("diagnostics/system/system_disk".to_owned());
    });
    tell(&connection, Status::Unknown, "may not read diagnostics/system/system_disk (403)").await;
    fake.change(|firewall| {
        firewall.forbidden.clear();
        firewall.other_spelling.clear();
        firewall.bodies.remove("diagnostics/system/system_disk");
    });
    tell(&connection, Status::Unknown, "this release of OPNsense has no diagnostics/system/system_disk").await;
    fake.product.fault("/", Fault::Reply(Reply::json(200, &json!({"result": "failed"}))));
    tell(&connection, Status::Unknown, "answered 200").await;
    fake.product.heal();
    fake.product.fault("/", Fault::Reply(Reply::html(200, "<html>Login</html>")));
    tell(&connection, Status::Unknown, "is not one of an OPNsense").await;
    fake.product.heal();
    connection.secret = Some(Secret::new("wrong".to_owned()));
    tell(&connection, Status::Unknown, "refused the API key (401)").await;
    fake.product.change_certificate().expect("another");
    tell(&connection, Status::Unknown, "showed another certificate").await;
    fake.product.stop();
    tell(&connection, Status::Critical, "could not be reached").await;
    connection.user = None;
    tell(&connection, Status::Unknown, "needs an API key").await;
    let clients = Clients::default();
    let bare = ask(&asking(&clients), &probe(OpnsenseLook::Disk), &connection).await;
    assert_eq!(bare.cause, Some(UnknownCause::NotConfigured));
}

#[tokio::test]
async fn no_answer_makes_a_look_panic() {
    let (fake, connection) = firewall().await;
    let healthy = {
        let mut bodies = None;
        fake.change(|firewall| bodies = Some(firewall.bodies.clone()));
        bodies.expect("bodies")
    };
    let clients = Clients::default();
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        fake.change(|firewall| {
            firewall.bodies = healthy.iter().map(|(path, body)| (path.clone(), disturbed(&mut random, body))).collect();
        });
        for look in LOOKS {
            let seen = ask(&asking(&clients), &probe(look), &connection).await;
            assert!(seen.text.chars().count() <= 400);
            assert!(seen.value.is_none_or(f64::is_finite), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn json_that_says_neither_version_nor_status_is_no_healthy_firewall() {
    let product = Product::start(|_| Reply::json(200, &json!({}))).await.expect("a server");
    let connection = connection(Kind::Opnsense, &product, Some(KEY), SECRET);
    let clients = Clients::default();
    let asking = asking(&clients);
    let there = api::Firewall::of(&asking, &connection).expect("configured");
    let health = facts::health(&there).await;
    assert!(!health.ok && health.error.is_some(), "{health:?}");
    assert_eq!(health.tried.len(), 4);
}

#[tokio::test]
async fn the_addresses_of_its_interfaces_are_told() {
    let (_fake, connection) = firewall().await;
    let clients = Clients::default();
    let told = addresses(&asking(&clients), &connection).await.unwrap();
    assert!(told.iter().any(|address| address.to_string() == "192.0.2.10"), "{told:?}");
}
