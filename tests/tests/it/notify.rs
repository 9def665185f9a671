//! Who is told of what, by real services and by stand-ins that refuse, limit
//! and hang like the true ones.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use farol_tests::{
    Site,
    matrix::{ENCRYPTED, FakeMatrix, ROOM},
    ntfy::FakeNtfy,
    process,
    product::{Fault, Product, Reply},
    receiver::Receiver,
    service,
    site::{PATIENCE, free_address},
    smtp::Smtp,
    wait_until,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, process::Command};

const TOKEN: &str = "tk_of_this_test";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PUBLIC: &str = "https://farol.test/base";
/// With waits after refusals.
const LONG: Duration = Duration::from_secs(90);

/// One scenario, a port that nobody listens on or somebody does.
fn registry(routes: &str, ports: &[SocketAddr]) -> String {
    let scenarios: String = ports
        .iter()
        .enumerate()
        .map(|(n, port)| {
            format!(
                "  - {{id: s{n}, title: Porta {n}, persona: A1, severity: high, hosts: [vm122], every: 200ms, attempts: 1,
     checks: [{{name: c, probe: {{tcp: {{address: '{port}'}}}}}}]}}\n"
            )
        })
        .collect();
    let scenarios = if scenarios.is_empty() { String::new() } else { format!("scenarios:\n{scenarios}") };
    format!(
        "version: 1\nsites: [{{id: lab, name: Lab}}]\nhosts: [{{name: vm122, site: lab}}]\nnotify: {{routes: [{routes}]}}\n{scenarios}"
    )
}

/// Replaces the registry of a running coordinator.
fn watch(site: &Site, registry: &str) {
    std::fs::write(site.folder().join("registry.yaml"), registry).unwrap();
}

async fn integrate(site: &Site, name: &str, kind: &str, url: &str, secret: Option<&str>, options: Value) {
    let body =
        json!({"name": name, "kind": kind, "endpoints": [url], "tls": "verify", "secret": secret, "options": options});
    site.api().post("/api/v1/integrations", body).await.unwrap();
}

/// What the API says of a finding's messages, once `wanted` takes it.
async fn notifications(site: &Site, finding: &Value, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let path = format!("/api/v1/findings/{}/notifications", finding["id"].as_str().unwrap());
    wait_until(what, LONG, async || {
        let items = site.api().items(&path).await?;
        if wanted(&items) { Ok(Some(items)) } else { anyhow::bail!("{items:?}") }
    })
    .await
    .unwrap()
}

fn all(items: &[Value], what: &str, state: &str, count: usize) -> bool {
    items.iter().filter(|item| item["what"] == what && item["state"] == state).count() == count
}

async fn open(site: &Site, scenario: &str) -> Value {
    site.wait_finding("a finding", |finding| finding["scenario"] == scenario && finding["state"] == "open")
        .await
        .unwrap()
}

/// What Postfix has queued, each as `postcat` shows it.
async fn queued(folder: &Path) -> Vec<String> {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    for queue in ["incoming", "active", "deferred"] {
        files(&folder.join("queue").join(queue), &mut found);
    }
    let mut mails = Vec::new();
    for path in found {
        let mut postcat = Command::new("postcat");
        postcat.arg("-c").arg(folder.join("conf")).arg(&path);
        // It may move to another queue while it is looked at.
        if let Ok(mail) = process::output(&mut postcat).await {
            mails.push(mail);
        }
    }
    mails
}

#[tokio::test(flavor = "multi_thread")]
async fn every_channel_hears_of_a_problem_and_its_end_once_and_its_link_acknowledges_on_post_alone() {
    let (ntfy, matrix) = (FakeNtfy::start(TOKEN).await.unwrap(), FakeMatrix::start("syt_x").await.unwrap());
    let hook = Receiver::start(SECRET).await.unwrap();
    let smtp = Smtp::start().await.unwrap();
    let postfix = service::postfix(10).await.unwrap();
    let smtp_url = postfix.as_ref().map_or_else(|| smtp.url(), |(there, _)| format!("smtp://{}", there.address()));
    let routes = "{to: 'email:root@farol.test'}, {to: 'integration:phone'}, {to: 'integration:team', room: '!ops:farol.test'}, \
         {to: 'integration:hook'}, {to: 'email:boss@farol.test', at_least: critical}";
    let environment = [("FAROL_SMTP_URL", smtp_url.as_str()), ("FAROL_PUBLIC_URL", PUBLIC)];
    let site = Site::start(&registry(routes, &[]), &environment).await.unwrap();
    integrate(&site, "phone", "ntfy", &ntfy.product.url(), Some(TOKEN), json!({"topic": "plantao"})).await;
    integrate(&site, "team", "matrix", &matrix.product.url(), Some("syt_x"), json!({})).await;
    integrate(&site, "hook", "webhook", &hook.product.url(), Some(SECRET), json!({})).await;
    let port = free_address().await.unwrap();
    watch(&site, &registry(routes, &[port]));
    let finding = open(&site, "s0").await;
    let items = notifications(&site, &finding, "four to be told", |items| all(items, "problem", "sent", 4)).await;
    let skipped = items.iter().find(|item| item["state"] == "skipped").unwrap();
    assert_eq!((&skipped["recipient"], &skipped["reason"]["code"]), (&json!("boss@farol.test"), &json!("severity")));
    assert!(skipped["reason"]["text"].as_str().unwrap().contains("a partir de crítico"), "{skipped}");

    let push = &ntfy.published()[0];
    assert_eq!(
        (&push["topic"], &push["priority"], &push["title"]),
        (&json!("plantao"), &json!(4), &json!("Porta 0 em vm122"))
    );
    let event = &matrix.events()[0];
    assert_eq!((&event["msgtype"], &event["format"]), (&json!("m.text"), &json!("org.matrix.custom.html")));
    let body = &hook.hooks()[0].body;
    assert_eq!((&body["type"], &body["data"]["host"]), (&json!("finding.problem"), &json!("vm122")), "{body}");
    assert_eq!((&body["data"]["finding_id"], &body["data"]["site"]), (&finding["id"], &json!("lab")), "{body}");

    // Opening a link changes nothing; only the button does, and once.
    let url = push["actions"][0]["url"].as_str().unwrap();
    assert_eq!((&push["click"], &push["actions"][0]["method"]), (&json!(url), &json!("POST")));
    let path = url.strip_prefix(PUBLIC).expect("the public address");
    let stranger = site.api().with_token(None);
    for _ in 0..2 {
        let (status, page) = stranger.raw(Method::GET, path, None).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.contains("Porta 0") && page.contains("<button") && page.contains("lang=\"pt-BR\""), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }
    let path_of = format!("/api/v1/findings/{}", finding["id"].as_str().unwrap());
    assert_eq!(site.api().get(&path_of).await.unwrap()["state"], "open");
    let (status, page) = stranger.raw(Method::POST, path, None).await.unwrap();
    assert!(status == StatusCode::OK && page.contains("Reconhecido"), "{status} {page}");
    let seen = site.api().get(&path_of).await.unwrap();
    assert_eq!((&seen["state"], &seen["acknowledged_by"]), (&json!("acknowledged"), &json!("via phone")), "{seen}");
    let (status, page) = stranger.raw(Method::POST, path, None).await.unwrap();
    assert!(status == StatusCode::GONE && page.contains("já usado"), "{status} {page}");
    // Another channel's link is for the same finding.
    let other = body["data"]["ack_url"].as_str().unwrap().strip_prefix(PUBLIC).unwrap();
    let (status, page) = stranger.raw(Method::POST, other, None).await.unwrap();
    assert!(status == StatusCode::OK && page.contains("Já reconhecido") && page.contains("via phone"), "{page}");
    let (status, _) = stranger.raw(Method::POST, &format!("/n/{}", "x".repeat(43)), None).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);

    let _listener = TcpListener::bind(port).await.unwrap();
    notifications(&site, &finding, "four recoveries", |items| all(items, "recovery", "sent", 4)).await;
    assert_eq!((ntfy.published().len(), matrix.events().len(), hook.hooks().len()), (2, 2, 2));
    assert_eq!(ntfy.published()[1]["tags"], json!(["white_check_mark"]));
    assert_eq!(matrix.events()[1]["m.relates_to"]["m.in_reply_to"]["event_id"], "$event0");
    assert_eq!(hook.hooks()[1].body["type"], "finding.recovery");
    let (status, page) = stranger.raw(Method::POST, other, None).await.unwrap();
    assert!(status == StatusCode::CONFLICT && page.contains("Já resolvido"), "{status} {page}");
    match &postfix {
        None => assert_eq!(smtp.received().len(), 2),
        Some((there, _)) => {
            let mails = wait_until("two mails in the queue", PATIENCE, async || {
                let mails = queued(there.folder()).await;
                Ok((mails.len() >= 2).then_some(mails))
            })
            .await
            .unwrap();
            assert_eq!(mails.len(), 2, "{mails:?}");
            assert!(mails.iter().all(|mail| mail.contains("root@farol.test")), "{mails:?}");
            let (id, follows) = ("Message-ID: <vm122-s0.1.problem@farol>", "References: <vm122-s0.1.problem@farol>");
            assert!(mails.iter().any(|mail| mail.contains(id)), "{mails:?}");
            assert!(mails.iter().any(|mail| mail.contains(follows)), "{mails:?}");
        }
    }

    // The same on the command line, and before anything happens.
    let farol = async |arguments: &[&str]| {
        let mut command = site.farol(arguments).unwrap();
        let token = site.token(&format!("t{}", uuid::Uuid::now_v7().simple()), "technician", None).await.unwrap();
        command.env("FAROL_URL", site.api().base()).env("FAROL_TOKEN", token);
        process::output(&mut command).await.unwrap()
    };
    let told = farol(&["findings", "notifications", finding["id"].as_str().unwrap()]).await;
    assert!(told.contains("integration:team") && told.contains("a partir de crítico"), "{told}");
    let preview =
        farol(&["notifications", "preview", "--scenario", "s0", "--host", "vm122", "--severity", "low"]).await;
    assert_eq!(preview.matches(" no ").count(), 5, "{preview}");
    let preview = farol(&["notifications", "preview", "--scenario", "s0", "--host", "vm122", "--json"]).await;
    let preview: Value = serde_json::from_str(&preview).unwrap();
    let told = preview["channels"].as_array().unwrap().iter().filter(|line| line["told"] == true).count();
    assert_eq!(told, 4, "{preview}");
    let tested = farol(&["integration", "test", "phone"]).await;
    assert!(tested.contains("ok") && ntfy.published()[2]["title"] == "Teste do Farol", "{tested}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_refusals_are_dead_letters_and_a_slow_channel_delays_no_other() {
    let (ntfy, matrix) = (FakeNtfy::start(TOKEN).await.unwrap(), FakeMatrix::start("syt_x").await.unwrap());
    let (hook, slow) = (Receiver::start(SECRET).await.unwrap(), Receiver::start(SECRET).await.unwrap());
    slow.product.fault("/", Fault::Silent);
    hook.refuse(Some(410));
    ntfy.limit(1);
    matrix.limit(1);
    let routes = format!(
        "{{to: 'integration:slow'}}, {{to: 'integration:phone', topic: ops}}, {{to: 'integration:team', room: '{ROOM}'}}, \
         {{to: 'integration:team', room: '{ENCRYPTED}'}}, {{to: 'integration:hook'}}, {{to: 'integration:wrong', topic: ops}}, \
         {{to: 'integration:nobody'}}"
    );
    let site = Site::start(&registry(&routes, &[]), &[]).await.unwrap();
    integrate(&site, "slow", "webhook", &slow.product.url(), Some(SECRET), json!({})).await;
    integrate(&site, "phone", "ntfy", &ntfy.product.url(), Some(TOKEN), json!({})).await;
    integrate(&site, "wrong", "ntfy", &ntfy.product.url(), Some("tk_wr0ng_secret"), json!({})).await;
    integrate(&site, "team", "matrix", &matrix.product.url(), Some("syt_x"), json!({})).await;
    integrate(&site, "hook", "webhook", &hook.product.url(), Some(SECRET), json!({})).await;
    watch(&site, &registry(&routes, &[free_address().await.unwrap()]));
    let finding = open(&site, "s0").await;
    let of = |items: &[Value], channel: &str, recipient: &str| {
        let found = items.iter().find(|item| item["channel"] == channel && item["recipient"] == recipient);
        found.cloned().unwrap_or_default()
    };
    let items = notifications(&site, &finding, "the others to be told while one hangs", |items| {
        of(items, "integration:phone", "ops")["state"] == "sent"
            && of(items, "integration:team", ROOM)["state"] == "sent"
            && of(items, "integration:team", ENCRYPTED)["state"] == "dead"
            && of(items, "integration:hook", "")["state"] == "dead"
            && of(items, "integration:wrong", "ops")["last_error"].is_string()
            && of(items, "integration:nobody", "")["last_error"].is_string()
    })
    .await;
    assert_eq!(of(&items, "integration:slow", "")["tries"], 0, "it hangs: {items:?}");
    assert_eq!((ntfy.published().len(), matrix.events().len()), (1, 1));
    assert_eq!(of(&items, "integration:phone", "ops")["tries"], 2, "{items:?}");
    let said =
        |channel: &str, recipient: &str| of(&items, channel, recipient)["last_error"].as_str().unwrap().to_owned();
    assert!(said("integration:team", ENCRYPTED).contains("criptografada"), "{items:?}");
    assert!(said("integration:wrong", "ops").contains("unauthorized (40101)"), "{items:?}");
    assert!(said("integration:nobody", "").contains("farol integration add nobody"), "{items:?}");
    assert!(!items.iter().any(|item| item.to_string().contains("wr0ng")), "{items:?}");

    // The receiver that wants no more is off, which is said, until a person tries again.
    let dead = of(&items, "integration:hook", "");
    assert!(dead["last_error"].as_str().unwrap().contains("410"), "{dead}");
    let health = site.api().get("/api/v1/agents/health").await.unwrap();
    assert!(health["checks"]["notifications"].as_str().unwrap().contains("off"), "{health}");
    let preview = json!({"severity": "high", "scenario": "s0", "host": "vm122"});
    let preview = site.api().post("/api/v1/notifications/preview", preview).await.unwrap();
    assert!(preview.to_string().contains("canal desligado"), "{preview}");
    hook.refuse(None);
    let dead = site.api().items("/api/v1/notifications?state=dead").await.unwrap();
    assert_eq!(dead.len(), 2, "{dead:?}");
    let id = dead.iter().find(|item| item["channel"] == "integration:hook").unwrap()["id"].as_str().unwrap();
    let path = format!("/api/v1/notifications/{id}/resend");
    let seo = site.api().with_token(Some(&site.token("sara", "seo", None).await.unwrap()));
    let (status, _) = seo.call(Method::POST, &path, Some(json!({}))).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(site.api().post(&path, json!({})).await.unwrap()["state"], "pending");
    notifications(&site, &finding, "the message to arrive", |items| {
        of(items, "integration:hook", "")["state"] == "sent"
    })
    .await;
    assert_eq!(hook.hooks()[0].id, id);
    let (status, refused) = site.api().call(Method::POST, &path, Some(json!({}))).await.unwrap();
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("refused")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_while_it_delivers_loses_nothing_and_doubles_nothing_where_the_channel_allows() {
    const PROBLEMS: usize = 6;
    let (matrix, hook) = (FakeMatrix::start("syt_x").await.unwrap(), Receiver::start(SECRET).await.unwrap());
    // What came is kept, and its answer lost.
    for product in [&matrix.product, &hook.product] {
        product.fault("/", Fault::Delay(Duration::from_millis(700)));
    }
    let routes = format!("{{to: 'integration:team', room: '{ROOM}'}}, {{to: 'integration:hook'}}");
    let mut site = Site::start(&registry(&routes, &[]), &[]).await.unwrap();
    integrate(&site, "team", "matrix", &matrix.product.url(), Some("syt_x"), json!({})).await;
    integrate(&site, "hook", "webhook", &hook.product.url(), Some(SECRET), json!({})).await;
    let mut ports = Vec::new();
    for _ in 0..PROBLEMS {
        ports.push(free_address().await.unwrap());
    }
    watch(&site, &registry(&routes, &ports));
    for round in 1..=2 {
        wait_until("messages to be on their way", PATIENCE, async || {
            let put = matrix.product.asked().iter().filter(|asked| asked.method == "PUT").count();
            Ok((put >= round && hook.hooks().len() >= round).then_some(()))
        })
        .await
        .unwrap();
        site.kill_coordinator().await.unwrap();
        site.start_coordinator().await.unwrap();
    }
    for product in [&matrix.product, &hook.product] {
        product.heal();
    }
    wait_until("every problem to be told", LONG, async || {
        let sent = site.api().items("/api/v1/notifications?state=sent&limit=200").await?;
        Ok((sent.len() == 2 * PROBLEMS).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(matrix.events().len(), PROBLEMS, "one event each, however often it was put");
    let ids: BTreeSet<String> = hook.hooks().iter().map(|hook| hook.id.clone()).collect();
    let findings: BTreeSet<String> =
        hook.hooks().iter().map(|hook| hook.body["data"]["fingerprint"].to_string()).collect();
    assert_eq!((ids.len(), findings.len()), (PROBLEMS, PROBLEMS), "a repetition has the same id");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_next_is_told_only_where_nobody_acknowledged_in_time() {
    let ntfy = FakeNtfy::start(TOKEN).await.unwrap();
    let routes = "{to: 'ntfy:first'}, {to: 'ntfy:next', after: 3s}";
    let environment = [("FAROL_NTFY_URL", ntfy.product.url()), ("FAROL_NTFY_TOKEN", TOKEN.to_owned())];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ports = [free_address().await.unwrap(), free_address().await.unwrap()];
    let site = Site::start(&registry(routes, &ports), &environment).await.unwrap();
    let (seen, unseen) = (open(&site, "s0").await, open(&site, "s1").await);
    let ack = format!("/api/v1/agents/findings/{}/ack", seen["id"].as_str().unwrap());
    site.api().post(&ack, json!({})).await.unwrap();
    let items = notifications(&site, &seen, "the escalation to be taken back", |items| {
        all(items, "problem", "cancelled", 1) && all(items, "problem", "sent", 1)
    })
    .await;
    let cancelled = items.iter().find(|item| item["state"] == "cancelled").unwrap();
    assert_eq!((&cancelled["recipient"], &cancelled["reason"]["code"]), (&json!("next"), &json!("acknowledged")));
    notifications(&site, &unseen, "the next to be told", |items| all(items, "problem", "sent", 2)).await;
    let next: Vec<Value> = ntfy.published().into_iter().filter(|push| push["topic"] == "next").collect();
    assert_eq!(next.len(), 1, "{next:?}");
    assert!(next[0]["message"].as_str().unwrap().starts_with("Ninguém reconheceu em 3 s."), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alertmanager_has_the_alert_until_the_finding_is_over() {
    let Some(alertmanager) = service::alertmanager().await.unwrap() else { return };
    let base = format!("http://{}", alertmanager.address());
    let routes = "{to: 'integration:am'}";
    let site = Site::start(&registry(routes, &[]), &[]).await.unwrap();
    integrate(&site, "am", "alertmanager", &base, None, json!({"resend": "1s"})).await;
    let port = free_address().await.unwrap();
    watch(&site, &registry(routes, &[port]));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let alerts = async || -> anyhow::Result<Vec<Value>> {
        let text = client.get(format!("{base}/api/v2/alerts")).send().await?.text().await?;
        Ok(serde_json::from_str(&text)?)
    };
    let first = wait_until("the alert", PATIENCE, async || Ok(alerts().await?.into_iter().next())).await.unwrap();
    assert_eq!(
        (&first["labels"]["alertname"], &first["labels"]["host"], &first["labels"]["severity"]),
        (&json!("s0"), &json!("vm122"), &json!("high")),
        "{first}"
    );
    wait_until("the alert to be sent again", PATIENCE, async || {
        let now = alerts().await?;
        Ok((now.len() == 1 && now[0]["updatedAt"] != first["updatedAt"]).then_some(()))
    })
    .await
    .unwrap();
    let _listener = TcpListener::bind(port).await.unwrap();
    wait_until("the alert to end", PATIENCE, async || Ok(alerts().await?.is_empty().then_some(()))).await.unwrap();
    let finding = site.wait_finding("its end", |finding| finding["state"] == "resolved").await.unwrap();
    notifications(&site, &finding, "its recovery", |items| all(items, "recovery", "sent", 1)).await;
    assert!(alerts().await.unwrap().is_empty(), "it stays over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_metrics_and_promtool_has_nothing_to_say() {
    let ntfy = FakeNtfy::start(TOKEN).await.unwrap();
    let url = ntfy.product.url();
    let environment = [("FAROL_NTFY_URL", url.as_str()), ("FAROL_NTFY_TOKEN", TOKEN), ("DESK_OPS_NTFY_TOPIC", "ops")];
    let registry = registry("", &[free_address().await.unwrap()]).replace("notify: {routes: []}\n", "");
    let site = Site::start(&registry, &environment).await.unwrap();
    let finding = open(&site, "s0").await;
    notifications(&site, &finding, "the environment's topic to be told", |items| all(items, "problem", "sent", 1))
        .await;
    let text = site.api().raw(Method::GET, "/metrics", None).await.unwrap().1;
    assert!(text.contains("farol_notifications_total{channel=\"ntfy\",result=\"sent\"} 1"), "{text}");
    if Path::new("/usr/bin/promtool").exists() {
        let mut promtool = Command::new("/usr/bin/promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        let said = promtool.wait_with_output().await.unwrap();
        let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success() && words.trim().is_empty(), "{words}\n{text}");
    } else {
        eprintln!("SKIPPED: promtool is missing; install the package prometheus");
    }
    let address: SocketAddr = site.api().base().trim_start_matches("http://").parse().unwrap();
    let Some(prometheus) = service::prometheus(&[address]).await.unwrap() else { return };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let query = format!("http://{}/api/v1/query?query=farol_notifications_total", prometheus.address());
    wait_until("Prometheus to have scraped it", PATIENCE, async || {
        let answer: Value = serde_json::from_str(&client.get(&query).send().await?.text().await?)?;
        Ok((answer["data"]["result"][0]["value"][1] == "1").then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_says_outside_that_the_coordinator_is_alive() {
    let outside = Product::start_plain(|_| Reply::new(200, "text/plain", "OK".to_owned())).await.unwrap();
    let url = format!("{}/ping/s3cret-uuid", outside.url());
    let environment = [("FAROL_HEARTBEAT_URL", url.as_str()), ("FAROL_HEARTBEAT_URL_EVERY", "200ms")];
    let mut site = Site::start(&registry("", &[]), &environment).await.unwrap();
    let beats = |more: usize| {
        let (outside, before) = (outside.clone(), outside.asked().len());
        async move {
            wait_until("beats", PATIENCE, async || Ok((outside.asked().len() >= before + more).then_some(()))).await
        }
    };
    beats(3).await.unwrap();
    assert_eq!(outside.asked()[0].path, "/ping/s3cret-uuid");
    let heartbeat =
        async || site.api().get("/api/v1/agents/health").await.map(|health| health["checks"]["heartbeat"].clone());
    assert_eq!(heartbeat().await.unwrap(), "ok");
    outside.fault("/", Fault::Reply(Reply::new(500, "text/plain", String::new())));
    wait_until("health to say so", PATIENCE, async || {
        let said = heartbeat().await?;
        Ok(said.as_str().is_some_and(|said| said.contains("did not arrive")).then_some(()))
    })
    .await
    .unwrap();
    let metrics = site.api().raw(Method::GET, "/metrics", None).await.unwrap().1;
    assert!(metrics.contains("farol_heartbeats_total{result=\"failed\"}"), "{metrics}");
    outside.heal();
    wait_until("health to be well again", PATIENCE, async || Ok((heartbeat().await? == "ok").then_some(())))
        .await
        .unwrap();
    let log = site.coordinator().unwrap().log().join("\n");
    assert!(log.contains("a heartbeat did not arrive") && !log.contains("s3cret"), "{log}");
    site.stop_coordinator().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_with_its_channel_soon_after_its_finding_is_committed() {
    const FINDINGS: usize = 40;
    let hook = Receiver::start(SECRET).await.unwrap();
    let routes = "{to: 'integration:hook'}";
    let site = Site::start(&registry(routes, &[]), &[]).await.unwrap();
    integrate(&site, "hook", "webhook", &hook.product.url(), Some(SECRET), json!({})).await;
    let ports = vec![free_address().await.unwrap(); FINDINGS];
    // Spread over some seconds, as in life.
    watch(&site, &registry(routes, &ports).replace("every: 200ms", "every: 8s"));
    let sent = wait_until("all to be told", LONG, async || {
        let sent = site.api().items("/api/v1/notifications?state=sent&limit=200").await?;
        Ok((sent.len() == FINDINGS).then_some(sent))
    })
    .await
    .unwrap();
    let ms =
        |item: &Value, field: &str| item[field].as_str().unwrap().parse::<farol_protocol::Timestamp>().unwrap().as_ms();
    let mut took: Vec<i64> = sent.iter().map(|item| ms(item, "sent_at") - ms(item, "created_at")).collect();
    took.sort_unstable();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!("from the finding to its channel, commit included: median {median} ms, worst {worst} ms of {FINDINGS}");
    assert!(median < 1_000, "{took:?}");
}
