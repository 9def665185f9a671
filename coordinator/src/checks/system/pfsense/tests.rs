use std::collections::BTreeSet;

use farol_protocol::{Timestamp, report::UnknownCause};
use farol_tests::{
    pfsense::{FakePfsense, KEY, PASSWORD, Package, USER},
    product::{Fault, Reply},
};
use serde_json::json;

use super::*;
use crate::{
    checks::system::testing::{NOW, asking, connection, disturbed},
    integrations::{Kind, Secret, http::Clients},
};

const LOOKS: [PfsenseLook; 4] = [PfsenseLook::System, PfsenseLook::Gateways, PfsenseLook::Services, PfsenseLook::Carp];

fn probe(look: PfsenseLook, names: &[&str]) -> PfsenseProbe {
    PfsenseProbe {
        integration: "casa".to_owned(),
        look,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        limits: Limits::default(),
    }
}

async fn firewall() -> (FakePfsense, Connection) {
    let fake = FakePfsense::start().await.expect("a stand-in");
    let connection = connection(Kind::Pfsense, &fake.product, None, KEY);
    (fake, connection)
}

async fn seen(connection: &Connection, look: PfsenseLook, names: &[&str]) -> (Status, Option<f64>, String) {
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &probe(look, names), connection).await;
    assert!(seen.text.chars().count() <= 400, "{}", seen.text);
    assert!(!seen.text.contains(KEY), "{}", seen.text);
    (seen.status, seen.value, seen.text)
}

#[tokio::test]
async fn a_healthy_firewall_is_ok_in_every_look_with_a_key_and_with_a_user() {
    let (fake, key) = firewall().await;
    let user = connection(Kind::Pfsense, &fake.product, Some(USER), PASSWORD);
    for connection in [&key, &user] {
        for (look, value, words) in [
            (PfsenseLook::System, 21.0, "the API answers: memory 21%, disk 12%, mbufs 3%, swap 0%"),
            (PfsenseLook::Gateways, 0.0, "2 of 2 gateways online: WAN_DHCP, WAN2; worst loss: 0% on WAN2"),
            (PfsenseLook::Services, 0.0, "5 services run"),
            (PfsenseLook::Carp, 1.0, "CARP is on"),
        ] {
            assert_eq!(seen(connection, look, &[]).await, (Status::Ok, Some(value), words.to_owned()));
        }
    }
    let asked = fake.product.asked();
    assert_eq!(asked.iter().filter(|one| one.header("x-api-key") == Some(KEY) && one.basic().is_none()).count(), 4);
    assert_eq!(asked.iter().filter(|one| one.basic().is_some() && one.header("x-api-key").is_none()).count(), 4);
}

#[tokio::test]
async fn a_full_disk_and_an_absent_figure_differ() {
    let (fake, connection) = firewall().await;
    let set = |key: &'static str, value: serde_json::Value| {
        fake.change(|firewall| firewall.data.get_mut("/status/system").expect("there")[key] = value);
    };
    set("disk_usage", json!("96.5"));
    let (status, value, text) = seen(&connection, PfsenseLook::System, &[]).await;
    assert_eq!((status, value), (Status::Critical, Some(96.5)));
    assert_eq!(text, "the API answers: disk 96.5%, memory 21%, mbufs 3%, swap 0% (limit 95 %)");
    set("disk_usage", json!(null));
    let (status, value, text) = seen(&connection, PfsenseLook::System, &[]).await;
    assert_eq!((status, value), (Status::Unknown, Some(21.0)));
    assert!(text.starts_with("the API does not tell: disk"), "{text}");
}

#[tokio::test]
async fn a_gateway_that_is_down_one_with_loss_and_one_left_out_differ() {
    let (fake, connection) = firewall().await;
    let set = |status: &'static str, substatus: &'static str, loss: serde_json::Value| {
        fake.change(|firewall| {
            let wan2 = &mut firewall.data.get_mut("/status/gateways").expect("there")[1];
            wan2["status"] = json!(status);
            wan2["substatus"] = json!(substatus);
            wan2["loss"] = loss;
        });
    };
    set("online", "loss", json!(12));
    let (status, value, text) = seen(&connection, PfsenseLook::Gateways, &[]).await;
    assert_eq!((status, value), (Status::Warning, Some(12.0)));
    assert!(text.starts_with("gateway with loss or delay: WAN2 (loss, 12%, 9.8 ms)"), "{text}");
    set("down", "highloss", json!(100));
    let (status, value, text) = seen(&connection, PfsenseLook::Gateways, &[]).await;
    assert_eq!((status, value), (Status::Critical, Some(100.0)));
    assert!(text.contains("gateway down: WAN2 (down/highloss, 100%, 9.8 ms)"), "{text}");
    set("down", "force_down", json!(null));
    assert_eq!(seen(&connection, PfsenseLook::Gateways, &[]).await.0, Status::Warning);
    set("pending", "", json!(null));
    let (status, _, text) = seen(&connection, PfsenseLook::Gateways, &[]).await;
    assert_eq!(status, Status::Unknown, "{text}");
    fake.change(|firewall| {
        firewall.data.get_mut("/status/gateways").expect("there").as_array_mut().expect("a list").pop();
    });
    assert_eq!(seen(&connection, PfsenseLook::Gateways, &[]).await.0, Status::Ok);
    let (status, _, text) = seen(&connection, PfsenseLook::Gateways, &["WAN_DHCP", "WAN2"]).await;
    assert_eq!(status, Status::Critical);
    assert!(text.starts_with("gateway left out of the list: WAN2"), "{text}");
}

#[tokio::test]
async fn services_that_do_not_run_are_named_and_disabled_ones_count_only_by_name() {
    let (fake, connection) = firewall().await;
    fake.change(|firewall| firewall.data.get_mut("/status/services").expect("there")[3]["status"] = json!(0));
    let (status, value, text) = seen(&connection, PfsenseLook::Services, &[]).await;
    assert_eq!((status, value), (Status::Critical, Some(1.0)));
    assert_eq!(text, "1 of 5 services do not run: openvpn (filial) (limit 1)");
    assert_eq!(seen(&connection, PfsenseLook::Services, &["unbound", "matriz"]).await.0, Status::Ok);
    assert_eq!(seen(&connection, PfsenseLook::Services, &["snmpd"]).await.0, Status::Critical);
    let (status, _, text) = seen(&connection, PfsenseLook::Services, &["unbound", "squid"]).await;
    assert_eq!(status, Status::Critical);
    assert!(text.starts_with("no such service: squid"), "{text}");
    fake.change(|firewall| firewall.data.get_mut("/status/services").expect("there")[0] = json!({"name": 7}));
    let (status, _, text) = seen(&connection, PfsenseLook::Services, &["ntpd"]).await;
    assert_eq!((status, text.as_str()), (Status::Ok, "1 services run; 1 row could not be read"));
}

#[tokio::test]
async fn high_availability_that_is_off_or_resting_is_a_warning() {
    let (fake, connection) = firewall().await;
    fake.change(|firewall| firewall.data.get_mut("/status/carp").expect("there")["maintenance_mode"] = json!(true));
    let resting = seen(&connection, PfsenseLook::Carp, &[]).await;
    assert_eq!(resting, (Status::Warning, Some(0.0), "CARP is in maintenance mode".to_owned()));
    fake.change(|firewall| firewall.data.get_mut("/status/carp").expect("there")["enable"] = json!(false));
    assert_eq!(seen(&connection, PfsenseLook::Carp, &[]).await.2, "CARP is off");
    fake.change(|firewall| firewall.data.get_mut("/status/carp").expect("there")["enable"] = json!(null));
    assert_eq!(seen(&connection, PfsenseLook::Carp, &[]).await.0, Status::Unknown);
}

#[tokio::test]
async fn every_way_of_not_answering_has_a_text_of_its_own() {
    let (fake, mut connection) = firewall().await;
    let mut texts = BTreeSet::new();
    let mut tell = async |connection: &Connection, expected: Status, words: &str| {
        let (status, _, text) = seen(connection, PfsenseLook::System, &[]).await;
        assert_eq!(status, expected, "{text}");
        assert!(text.contains(words), "`{words}` is missing in: {text}");
        assert!(texts.insert(text), "said before");
    };
    tell(&connection, Status::Ok, "the API answers").await;
    fake.change(|firewall| firewall.allowed = false);
    tell(&connection, Status::Unknown, "access list of the REST API").await;
    fake.change(|firewall| (firewall.allowed, firewall.enabled) = (true, false));
    tell(&connection, Status::Critical, "turned off").await;
    fake.change(|firewall| {
        firewall.enabled = true;
        firewall.forbidden.insert("/status/system".to_owned());
    });
    tell(&connection, Status::Unknown, "lacks the privilege to GET /api/v2/status/system").await;
    fake.change(|firewall| firewall.package = Package::Missing);
    tell(&connection, Status::Critical, "its REST API package is missing (404)").await;
    assert_eq!(seen(&connection, PfsenseLook::Gateways, &[]).await.0, Status::Unknown);
    fake.change(|firewall| firewall.package = Package::V1);
    tell(&connection, Status::Unknown, "the REST API v1 answers").await;
    fake.change(|firewall| (firewall.package, firewall.refused) = (Package::V2, 0));
    fake.product.fault("/", Fault::Reply(Reply::new(404, "text/plain", "404 page not found".to_owned())));
    tell(&connection, Status::Unknown, "does not look like a pfSense (404): 404 page not found").await;
    fake.product.heal();
    fake.product.fault("/", Fault::Reply(Reply::html(502, "Bad Gateway")));
    tell(&connection, Status::Unknown, "answered 502 without the REST API").await;
    fake.product.heal();
    connection.secret = Some(Secret::new("wrong".to_owned()));
    tell(&connection, Status::Unknown, "refused the API key (401 AUTH_AUTHENTICATION_FAILED)").await;
    fake.product.stop();
    tell(&connection, Status::Critical, "could not be reached").await;
    connection.secret = None;
    tell(&connection, Status::Unknown, "has no API key").await;
    assert_eq!(texts.len(), 11);
}

#[tokio::test]
async fn a_missing_secret_waits_for_a_person_and_opens_nothing() {
    let (_fake, mut connection) = firewall().await;
    connection.secret = None;
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &probe(PfsenseLook::System, &[]), &connection).await;
    assert_eq!(seen.cause, Some(UnknownCause::NotConfigured));
}

#[tokio::test]
async fn after_a_refused_login_the_firewall_is_left_alone_until_later_or_until_the_key_changes() {
    let (fake, mut connection) = firewall().await;
    connection.secret = Some(Secret::new("wrong".to_owned()));
    let clients = Clients::default();
    let at = |minutes: i64| Asking { now: Timestamp::from_ms((NOW + minutes * 60) * 1000), ..asking(&clients) };
    let probe = probe(PfsenseLook::System, &[]);
    for minutes in [0, 5, 10, 29] {
        let seen = ask(&at(minutes), &probe, &connection).await;
        assert_eq!(seen.status, Status::Unknown);
        assert_eq!(seen.text.contains("asks again only after"), minutes > 0, "{}", seen.text);
    }
    assert_eq!(fake.refused(), 1, "pfSense blocks who fails three times");
    let right = Connection { secret: Some(Secret::new(KEY.to_owned())), ..connection.clone() };
    assert_eq!(ask(&at(29), &probe, &right).await.status, Status::Ok, "a new key is tried at once");
    ask(&at(31), &probe, &connection).await;
    assert_eq!(fake.refused(), 2);
}

#[tokio::test]
async fn version_1_is_asked_once_in_a_while_since_it_counts_failed_logins() {
    let (fake, connection) = firewall().await;
    fake.change(|firewall| firewall.package = Package::V1);
    let clients = Clients::default();
    for _ in 0..4 {
        let seen = ask(&asking(&clients), &probe(PfsenseLook::System, &[]), &connection).await;
        assert!(seen.text.contains("REST API v1 answers"), "{}", seen.text);
    }
    assert_eq!(fake.refused(), 1);
    assert!(
        fake.product.asked().iter().all(|one| !one.path.starts_with("/api/v1") || one.header("x-api-key").is_none())
    );
}

#[tokio::test]
async fn another_certificate_ends_the_look_before_the_key_is_sent() {
    let (fake, connection) = firewall().await;
    fake.product.change_certificate().expect("another");
    let (status, _, text) = seen(&connection, PfsenseLook::System, &[]).await;
    assert_eq!(status, Status::Unknown);
    assert!(text.contains("showed another certificate"), "{text}");
    assert_eq!(fake.product.asked().len(), 0);
}

#[tokio::test]
async fn no_answer_makes_a_look_panic() {
    let (fake, connection) = firewall().await;
    let healthy = {
        let mut data = None;
        fake.change(|firewall| data = Some(firewall.data.clone()));
        data.expect("data")
    };
    let clients = Clients::default();
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        fake.change(|firewall| {
            firewall.data = healthy.iter().map(|(path, data)| (path.clone(), disturbed(&mut random, data))).collect();
        });
        for look in LOOKS {
            let seen = ask(&asking(&clients), &probe(look, &["WAN2"]), &connection).await;
            assert!(seen.text.chars().count() <= 400);
            assert!(seen.value.is_none_or(f64::is_finite), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn the_addresses_of_its_interfaces_are_told_and_a_missing_privilege_is_named() {
    let (fake, connection) = firewall().await;
    let clients = Clients::default();
    let told = addresses(&asking(&clients), &connection).await.unwrap();
    assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.10", "10.10.10.1"]);
    fake.change(|firewall| {
        firewall.forbidden.insert("/status/interfaces".to_owned());
    });
    let why = addresses(&asking(&clients), &connection).await.unwrap_err();
    assert_eq!(why, "/api/v2/status/interfaces answered 403 AUTH_AUTHORIZATION_FAILED");
}
