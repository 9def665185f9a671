use farol_protocol::report::Limits;
use farol_tests::{
    product::{Asked, Product, Reply},
    traefik::{FakeTraefik, router, service},
};
use serde_json::json;

use super::*;
use crate::{
    checks::system::testing::{asking, disturbed},
    integrations::http::Clients,
    topology::RouteFact,
};

async fn seen(url: &str, limits: Limits) -> Seen {
    let clients = Clients::default();
    let seen = ask(&asking(&clients), &TraefikProbe { url: url.to_owned(), pin: None, limits }).await;
    assert!(plain(&seen.text, 4000).chars().count() <= 800, "{}", seen.text);
    seen
}

fn route(host_rule: &str, service: &str, backend: &str) -> RouteFact {
    RouteFact { host_rule: host_rule.to_owned(), service: service.to_owned(), backend: backend.to_owned() }
}

#[tokio::test]
async fn a_healthy_proxy_is_ok_and_tells_who_answers_behind_which_name() {
    let fake = FakeTraefik::start().await.unwrap();
    let seen = seen(&format!("{}/", fake.product.url()), Limits::default()).await;
    assert_eq!(
        (seen.status, seen.value, seen.text.as_str()),
        (Status::Ok, Some(0.0), "0 in error among 3 routers and 4 services of Traefik")
    );
    let routes = seen.facts.unwrap().routes;
    assert_eq!(
        routes,
        [
            route("app.example.org", "app@docker", "http://172.18.0.5:3000"),
            route("shop.example.org", "shop@file", "http://10.10.10.112:8080"),
            route("shop.example.org", "shop@file", "http://10.10.10.122:8080"),
            route("www.shop.example.org", "shop@file", "http://10.10.10.112:8080"),
            route("www.shop.example.org", "shop@file", "http://10.10.10.122:8080"),
        ]
    );
}

#[tokio::test]
async fn what_carries_no_traffic_is_critical_and_what_is_warned_of_a_warning() {
    let fake = FakeTraefik::start().await.unwrap();
    fake.change(|proxy| {
        let mut late = router("late@file", "Host(`late.example.org`)", "late");
        late["status"] = json!("warning");
        late["error"] = json!(["entryPoint \"old\" doesn't exist"]);
        proxy.routers.push(late);
    });
    let warned = seen(&fake.product.url(), Limits::default()).await;
    assert_eq!((warned.status, warned.value), (Status::Warning, Some(1.0)), "{}", warned.text);
    assert!(warned.text.contains("late@file (entryPoint \"old\" doesn't exist)"), "{}", warned.text);

    fake.change(|proxy| {
        let mut lost = router("lost@docker", "Host(`lost.example.org`)", "lost");
        lost["status"] = json!("disabled");
        lost["error"] = json!(["the service \"lost@docker\" does not exist"]);
        proxy.routers.push(lost);
        let down = "http://10.10.10.9:80";
        let mut dead = service("dead@file", &[down]);
        dead["serverStatus"] = json!({down: "DOWN"});
        proxy.services.push(dead);
        let mut half = service("half@file", &[down, "http://10.10.10.8:80"]);
        half["serverStatus"] = json!({down: "DOWN", "http://10.10.10.8:80": "UP"});
        proxy.services.push(half);
    });
    let broken = seen(&fake.product.url(), Limits::default()).await;
    assert_eq!((broken.status, broken.value), (Status::Critical, Some(3.0)), "{}", broken.text);
    for part in ["lost@docker (the service", "service dead@file (no server up)", "servers down: half@file (1 of 2)"] {
        assert!(broken.text.contains(part), "{part}: {}", broken.text);
    }
    assert!(!broken.facts.unwrap().routes.iter().any(|route| route.host_rule == "lost.example.org"));
    let lenient = Limits { warning: Some(3.0), critical: Some(10.0), ..Limits::default() };
    assert_eq!(seen(&fake.product.url(), lenient).await.status, Status::Warning);
}

#[tokio::test]
async fn every_page_of_a_list_is_read_and_a_row_that_cannot_be_read_costs_itself() {
    let fake = FakeTraefik::start().await.unwrap();
    fake.change(|proxy| {
        for at in 0..230 {
            proxy.routers.push(router(&format!("r{at}@file"), &format!("Host(`h{at}.example.org`)"), "shop"));
        }
        proxy.routers.push(json!({"rule": "Host(`nameless`)"}));
    });
    let seen = seen(&fake.product.url(), Limits::default()).await;
    assert_eq!(seen.text, "0 in error among 233 routers and 4 services of Traefik; 1 row could not be read");
    let pages = fake.product.asked().iter().filter(|asked| asked.path == "/api/http/routers").count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_proxy_without_its_api_is_unknown_and_the_text_says_what_to_do() {
    for (reply, words) in [
        (Reply::new(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned()), "enable it"),
        (Reply::new(401, "text/plain", "401 Unauthorized\n".to_owned()), "asks for a login (401)"),
        (Reply::html(200, "<html>a shop</html>"), "is not at this address (200)"),
        (Reply::json(200, &json!({"status": "ok"})), "is not at this address (200)"),
    ] {
        let answer = move |_: &Asked| reply.clone();
        let product = Product::start_plain(answer).await.unwrap();
        let seen = seen(&product.url(), Limits::default()).await;
        assert_eq!((seen.status, seen.facts), (Status::Unknown, None), "{}", seen.text);
        assert!(seen.text.contains(words), "{}", seen.text);
    }
}

#[tokio::test]
async fn no_list_however_disturbed_breaks_the_look() {
    let fake = FakeTraefik::start().await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let url = fake.product.url();
    for _ in 0..60 {
        fake.change(|proxy| {
            for list in [&mut proxy.routers, &mut proxy.services] {
                let changed = list.iter().map(|row| disturbed(&mut random, row)).collect();
                *list = changed;
            }
        });
        seen(&url, Limits::default()).await;
        fake.heal();
    }
}

#[test]
fn the_names_of_a_rule_are_those_that_it_matches() {
    use super::read::hosts;
    for (rule, names) in [
        ("Host(`a.org`)", vec!["a.org"]),
        ("Host(`A.org`, \"b.org\") && PathPrefix(`/x`)", vec!["a.org", "b.org"]),
        ("(Host(`a.org`) || Host(`b.org`)) && !Host(`c.org`)", vec!["a.org", "b.org"]),
        ("HostRegexp(`.+`)", vec![]),
        ("HostSNI(`a.org`) || XHost(`b.org`)", vec![]),
        ("Host(`open", vec![]),
        ("Host(", vec![]),
        ("PathPrefix(`/`)", vec![]),
    ] {
        assert_eq!(hosts(rule), names, "{rule}");
    }
}
