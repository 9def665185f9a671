//! Real services as Debian packages them, watched by a real coordinator: in
//! order, with a wrong credential, stopped.

use std::{collections::BTreeMap, path::Path, time::Duration};

use farol_tests::{
    Site, process,
    service::{self, Service},
    wait_until,
};
use serde_json::Value;

use crate::asked::Hand;

const SECRET: &str = "s3cret-of-this-test";
const WRONG: &str = "wr0ng-of-this-test";
/// For services to be seen, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds an integration; its secret goes through a file, never an argument.
async fn add(
    command: impl Fn(&[&str]) -> tokio::process::Command,
    folder: &Path,
    name: &str,
    arguments: &[&str],
    secret: Option<&str>,
) {
    let mut command = command(&["integration", "add", name]);
    command.args(arguments);
    if let Some(secret) = secret {
        let file = folder.join(format!("{name}.secret"));
        std::fs::write(&file, secret).unwrap();
        command.arg("--secret-file").arg(file);
    }
    process::output(&mut command).await.unwrap();
}

#[derive(Default)]
struct Watched {
    services: Vec<Service>,
    checks: String,
    wrong: String,
    expected: BTreeMap<&'static str, &'static str>,
}

impl Watched {
    /// `word` is what its text says while all is well.
    fn check(&mut self, name: &'static str, probe: &str, word: &'static str) {
        self.checks.push_str(&format!("      - {{name: {name}, probe: {probe}}}\n"));
        self.expected.insert(name, word);
    }

    fn wrong(&mut self, name: &str, probe: &str) {
        self.wrong.push_str(&format!("      - {{name: {name}, probe: {probe}}}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_seen_in_order_not_known_without_credentials_and_broken_once_it_stopped() {
    let (pg, redis, postfix, docker, alertmanager, sshd) = tokio::join!(
        service::postgres(SECRET, true),
        service::redis(SECRET),
        service::postfix(40),
        service::docker(),
        service::alertmanager(),
        service::sshd(),
    );
    let mut watched = Watched::default();
    let mut integrations: Vec<(&str, Vec<String>, Option<&str>)> = Vec::new();
    let given = |kind: &str, url: String, more: &[&str]| {
        let mut all = vec!["--kind".to_owned(), kind.to_owned(), "--url".to_owned(), url];
        all.extend(more.iter().map(|word| (*word).to_owned()));
        all
    };
    if let Some((service, certificate)) = pg.unwrap() {
        let pin = certificate.unwrap().pin;
        let url = format!("postgres://{}", service.address());
        let right = ["--user", "postgres", "--pin", pin.as_str()];
        integrations.push(("pg", given("postgres", url.clone(), &right), Some(SECRET)));
        integrations.push(("pg-wrong", given("postgres", url.clone(), &right), Some(WRONG)));
        integrations.push(("pg-nowhere", given("postgres", format!("{url}/nowhere"), &right), Some(SECRET)));
        let other = format!("sha256:{}", "ab".repeat(32));
        integrations.push(("pg-pin", given("postgres", url, &["--user", "postgres", "--pin", &other]), Some(SECRET)));
        watched.check("postgres", "{postgres: {integration: pg}}", "pg responde (PostgreSQL 1");
        watched.check("connections", "{postgres: {integration: pg, look: connections}}", "conexões em uso");
        for name in ["pg-wrong", "pg-nowhere", "pg-pin"] {
            watched.wrong(name, &format!("{{postgres: {{integration: {name}}}}}"));
        }
        watched.services.push(service);
    }
    if let Some(service) = redis.unwrap() {
        let url = format!("redis://{}", service.address());
        integrations.push(("cache", given("redis", url.clone(), &[]), Some(SECRET)));
        integrations.push(("cache-wrong", given("redis", url.clone(), &[]), Some(WRONG)));
        integrations.push(("cache-user", given("redis", url, &["--user", "nobody"]), Some(SECRET)));
        watched.check("redis", "{redis: {integration: cache}}", "cache responde");
        watched.check("saved", "{redis: {integration: cache, look: persistence}}", "cache não tem nada por gravar");
        watched.check("memory", "{redis: {integration: cache, look: memory}}", "MiB da máquina");
        for name in ["cache-wrong", "cache-user"] {
            watched.wrong(name, &format!("{{redis: {{integration: {name}}}}}"));
        }
        watched.services.push(service);
    }
    if let Some((service, certificate)) = postfix.unwrap() {
        let (address, pin) = (service.address(), certificate.pin);
        watched.check(
            "smtp",
            &format!("{{smtp: {{address: '{address}', pin: '{pin}'}}}}"),
            "certificado válido por mais 39 dias",
        );
        watched.check("smtp.plain", &format!("{{smtp: {{address: '{address}', tls: none}}}}"), "sem TLS");
        let other = format!("sha256:{}", "cd".repeat(32));
        watched.wrong("smtp.pin", &format!("{{smtp: {{address: '{address}', pin: '{other}'}}}}"));
        // It signs itself, so that no authority of this machine vouches for it.
        watched.wrong("smtp.self", &format!("{{smtp: {{address: '{address}'}}}}"));
        watched.services.push(service);
    }
    let mut engine = None;
    if let Some(service) = docker.unwrap() {
        let run = ["run", "-d", "--network", "none", "--restart", "always", "--name", "web", "tiny", "/bin/busybox"];
        service::docker_cli(&service, &[run.as_slice(), &["sleep", "3600"]].concat()).await.unwrap();
        integrations.push(("engine", given("docker", format!("tcp://{}", service.address()), &[]), None));
        watched.check("docker", "{docker: {integration: engine}}", "1 containers em engine estão como devem");
        engine = Some(service);
    }
    if let Some(service) = alertmanager.unwrap() {
        let url = format!("http://{}", service.address());
        watched.check("alertmanager", &format!("{{alertmanager: {{url: '{url}'}}}}"), "está pronto, sem cluster");
        watched.services.push(service);
    }
    if let Some(service) = sshd.unwrap() {
        let address = service.address();
        watched.check("sshd", &format!("{{tcp: {{address: '{address}'}}}}"), "");
        watched.services.push(service);
    }
    if let Some(service) = service::prometheus(&[]).await.unwrap() {
        let url = format!("http://{}", service.address());
        watched.check(
            "prometheus",
            &format!("{{prometheus: {{url: '{url}'}}}}"),
            "Prometheus está pronto; nenhum dos 1 alvos",
        );
        let query = "query: 'max(up{job=\"itself\"})'";
        watched.check("expression", &format!("{{prometheus: {{url: '{url}', {query}}}}}"), "dá 1");
        let gone = "query: 'up{job=\"gone\"}'";
        watched.wrong("expression.gone", &format!("{{prometheus: {{url: '{url}', {gone}}}}}"));
        watched.wrong("expression.bad", &format!("{{prometheus: {{url: '{url}', query: 'up{{'}}}}"));
        // The same behind TLS that signs itself, and behind a login.
        let locations = format!("location / {{ proxy_pass {url}; }} location /locked/ {{ return 401; }}");
        if let Some((front, certificate)) = service::nginx(&locations, true).await.unwrap() {
            let (https, pin) = (format!("https://{}", front.address()), certificate.unwrap().pin);
            watched.check(
                "https",
                &format!("{{prometheus: {{url: '{https}', pin: '{pin}'}}}}"),
                "Prometheus está pronto",
            );
            watched.wrong("https.self", &format!("{{prometheus: {{url: '{https}'}}}}"));
            watched.wrong("https.login", &format!("{{prometheus: {{url: '{https}/locked', pin: '{pin}'}}}}"));
            watched.services.push(front);
        }
        watched.services.push(service);
    }
    if let Some((service, _)) = service::nginx("location /ok { return 200 'fine'; }", false).await.unwrap() {
        let url = format!("http://{}/ok", service.address());
        watched.check("nginx", &format!("{{http: {{url: '{url}', contains: fine}}}}"), "");
        watched.services.push(service);
    }

    let scenario = |id: &str, checks: &str| {
        format!(
            "  - id: {id}\n    title: {id}\n    persona: A1\n    severity: low\n    hosts: [vm112]\n    every: 1s\n    \
             timeout: 5s\n    checks:\n{checks}"
        )
    };
    let (checks, wrong) = (scenario("right", &watched.checks), scenario("wrong", &watched.wrong));
    let site = Site::start("version: 1\nhosts: [{name: vm112}]\n", &[]).await.unwrap();
    for (name, arguments, secret) in &integrations {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        add(|words| site.farol(words).unwrap(), site.folder(), name, &arguments, *secret).await;
    }
    // Taken into use while it runs.
    let registry = format!("version: 1\nhosts: [{{name: vm112}}]\nscenarios:\n{checks}{wrong}");
    std::fs::write(site.folder().join("registry.yaml"), registry).unwrap();

    wait_until("every service to be seen in order", PATIENCE, async || {
        let seen = seen(&site, "right").await?;
        let bad = watched
            .expected
            .iter()
            .find(|(name, word)| seen.get(**name).is_none_or(|(status, text)| status != "ok" || !text.contains(*word)));
        match bad {
            None => Ok(Some(())),
            Some((name, word)) => anyhow_bail(&format!("{name} ({word}): {:?}", seen.get(*name))),
        }
    })
    .await
    .unwrap();
    wait_until("wrong credentials to leave it unknown", PATIENCE, async || {
        let seen = seen(&site, "wrong").await?;
        let all = seen.values().all(|(status, text)| status == "unknown" && !text.is_empty());
        if all && !seen.is_empty() { Ok(Some(())) } else { anyhow_bail(&format!("{seen:?}")) }
    })
    .await
    .unwrap();
    for (name, (_, text)) in seen(&site, "wrong").await.unwrap() {
        assert!(!text.contains(SECRET) && !text.contains(WRONG), "{name}: {text}");
        eprintln!("{name}: {text}");
    }

    if let Some(mut engine) = engine {
        service::docker_cli(&engine, &["stop", "-t", "0", "web"]).await.unwrap();
        wait_for(&site, "docker", "critical", "web (saiu com 137)").await;
        service::docker_cli(&engine, &["rm", "-f", "web"]).await.unwrap();
        engine.stop().await.unwrap();
        wait_for(&site, "docker", "critical", "conexão recusada").await;
    }
    for service in &mut watched.services {
        service.stop().await.unwrap();
    }
    wait_until("every stopped service to be seen", PATIENCE, async || {
        let seen = seen(&site, "right").await?;
        let well = seen.iter().find(|(_, (status, _))| status != "critical");
        match well {
            None => Ok(Some(())),
            Some(still) => anyhow_bail(&format!("{still:?}")),
        }
    })
    .await
    .unwrap();
    // Neither the log nor a list tells a secret.
    let log = site.coordinator().unwrap().log().join("\n");
    let listed = process::output(&mut site.farol(&["integration", "list", "--json"]).unwrap()).await.unwrap();
    assert!(![log, listed].iter().any(|text| text.contains(SECRET) || text.contains(WRONG)));
}

fn anyhow_bail<T>(text: &str) -> anyhow::Result<T> {
    anyhow::bail!("{text}")
}

/// What the checks of a scenario said last.
async fn seen(site: &Site, scenario: &str) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let all = site.api().items("/api/v1/agents/scenarios").await?;
    let found = all.iter().find(|found| found["id"] == scenario);
    let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let checks = found.and_then(|found| found["checks"].as_array()).cloned().unwrap_or_default();
    Ok(checks.iter().map(|check| (word(check, "name"), (word(check, "status"), word(check, "text")))).collect())
}

async fn wait_for(site: &Site, check: &str, status: &str, word: &str) {
    wait_until(&format!("{check} to be {status}"), PATIENCE, async || {
        let seen = seen(site, "right").await?;
        match seen.get(check) {
            Some((is, text)) if is == status && text.contains(word) => Ok(Some(())),
            other => anyhow_bail(&format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_looked_into_and_never_written_to() {
    let Some((pg, _)) = service::postgres(SECRET, false).await.unwrap() else { return };
    service::psql(&pg, SECRET, "create table t (n int); insert into t values (41), (42)").await.unwrap();
    service::psql(&pg, SECRET, "create role watcher login password 'w4tcher-of-this-test'").await.unwrap();
    let probe = |name: &str, rest: &str| {
        format!("      - {{name: {name}, probe: {{postgres: {{integration: pg, {rest}}}}}}}\n")
    };
    let checks: String = [
        ("number", "look: query, query: \"select max(n), 'of ' || count(*) from t;\", unit: n, limits: {warning: 40}"),
        ("no.row", "look: query, query: 'select n from t where n > 99'"),
        ("a.text", "look: query, query: \"select 'x'\""),
        ("writes", "look: query, query: 'delete from t returning n'"),
        ("two", "look: query, query: 'select 1; delete from t'"),
        ("wrong", "look: query, query: 'select nothing from t'"),
        ("slow", "look: query, query: 'select 1 from pg_sleep(30)'"),
        ("longest", "look: transaction, limits: {warning: 1}"),
        ("replicas", "look: replication"),
    ]
    .iter()
    .map(|(name, rest)| probe(name, rest))
    .collect();
    let weak = "      - {name: weak, probe: {postgres: {integration: weak, look: transaction}}}\n      \
                - {name: tls, probe: {postgres: {integration: tls}}}\n";
    let hand = Hand::new(&format!(
        "version: 1\nlanguage: en\nhosts: [{{name: vm112}}]\nscenarios:\n  - id: s\n    title: S\n    persona: A1\n    \
         severity: low\n    hosts: [vm112]\n    timeout: 3s\n    checks:\n{checks}{weak}"
    ));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgres://{}", pg.address());
    let farol = |words: &[&str]| hand.farol(words, &[]);
    add(farol, folder.path(), "pg", &["--kind", "postgres", "--url", &url, "--user", "postgres"], Some(SECRET)).await;
    add(
        farol,
        folder.path(),
        "weak",
        &["--kind", "postgres", "--url", &url, "--user", "watcher"],
        Some("w4tcher-of-this-test"),
    )
    .await;
    let wants_tls = ["--kind", "postgres", "--url", &url, "--user", "postgres", "--option", "sslmode=require"];
    add(farol, folder.path(), "tls", &wants_tls, Some(SECRET)).await;
    // A transaction that stays open.
    let sleeper = service::psql_command_of(&pg, SECRET, "begin; select count(*) from t; select pg_sleep(60)");
    let mut sleeper = sleeper.unwrap().spawn().unwrap();

    wait_until("the transaction to be seen", PATIENCE, async || {
        let (status, text) = hand.one("s/longest", &[]).await;
        Ok((status == "warning" && text.contains("postgres on postgres")).then_some(()))
    })
    .await
    .unwrap();
    for (name, status, word) in [
        ("number", "warning", "gives 42 n: of 2 (limit 40 n)"),
        ("no.row", "unknown", "no row"),
        ("a.text", "unknown", "`x` instead of a number"),
        ("writes", "unknown", "refused"),
        ("two", "unknown", "42601"),
        ("wrong", "unknown", "42703"),
        ("slow", "unknown", "did not answer within 3 s"),
        ("replicas", "critical", "no replica"),
        ("weak", "unknown", "GRANT pg_monitor"),
        ("tls", "unknown", "offers no TLS"),
    ] {
        let seen = hand.one(&format!("s/{name}"), &[]).await;
        assert!(seen.0 == status && seen.1.contains(word), "{name}: {seen:?}");
    }
    assert_eq!(service::psql(&pg, SECRET, "select count(*) from t").await.unwrap().trim(), "2");
    sleeper.kill().await.unwrap();
}
