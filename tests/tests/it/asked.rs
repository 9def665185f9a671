//! Systems that the coordinator asks, by hand as an operator does: `farol check`
//! over real sockets, against stand-ins that speak each product's own words.

use std::{collections::HashSet, net::IpAddr, path::Path};

use farol_tests::{
    application::{Fake, Product},
    dns::Dns,
    ollama::{self, FakeOllama},
    process,
    process::binary,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// A data folder and a registry, without a server.
pub(crate) struct Hand {
    folder: TempDir,
}

impl Hand {
    pub(crate) fn new(registry: &str) -> Self {
        let hand = Self { folder: tempfile::tempdir().unwrap() };
        hand.registry(registry);
        hand
    }

    /// With the registry that is shipped, whose addresses are taken out.
    pub(crate) fn shipped() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry.yaml");
        let registry = std::fs::read_to_string(path).unwrap();
        let (head, tail) = registry.split_once("variables:\n").unwrap();
        let (variables, rest) = tail.split_once("\nsites:").unwrap();
        let mut unset = String::new();
        for line in variables.lines() {
            match line.split_once(": ") {
                Some((name, _)) if !line.trim_start().starts_with('#') => unset.push_str(&format!("{name}:\n")),
                _ => unset.push_str(&format!("{line}\n")),
            }
        }
        Self::new(&format!("{head}variables:\n{unset}\nsites:{rest}"))
    }

    /// Its registry.
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("registry.yaml")).unwrap()
    }

    pub(crate) fn registry(&self, registry: &str) {
        std::fs::write(self.folder.path().join("registry.yaml"), registry).unwrap();
    }

    pub(crate) fn farol(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(binary("farol").unwrap());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("FAROL_DATA_DIR", self.folder.path().join("data"))
            .env("FAROL_REGISTRY", self.folder.path().join("registry.yaml"))
            .envs(environment.iter().copied());
        command
    }

    /// The reports of a check or a scenario.
    pub(crate) async fn check(&self, name: &str, environment: &[(&str, &str)]) -> Vec<Value> {
        let reports = process::json(&mut self.farol(&["check", name, "--json"], environment)).await.unwrap();
        reports.as_array().unwrap().clone()
    }

    /// The one report of a check: its status and what it says.
    pub(crate) async fn one(&self, name: &str, environment: &[(&str, &str)]) -> (String, String) {
        let reports = self.check(name, environment).await;
        assert_eq!(reports.len(), 1, "{reports:?}");
        (words(&reports[0], "status"), words(&reports[0], "text"))
    }
}

pub(crate) fn words(report: &Value, key: &str) -> String {
    report[key].as_str().unwrap_or_else(|| panic!("no {key}: {report}")).to_owned()
}

/// An address of loopback where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Asserts the outcome and that its text was not said before.
fn saw(told: &mut HashSet<String>, (status, text): (String, String), expected: &str, word: &str) {
    assert_eq!(status, expected, "{text}");
    assert!(text.contains(word), "`{word}` is not in: {text}");
    assert!(text.chars().count() <= 400, "{text}");
    assert!(told.insert(text.clone()), "said twice: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_ollama_tells_its_outcomes_apart() {
    let hand = Hand::shipped();
    let told = &mut HashSet::new();
    let fake = FakeOllama::start(ollama::Mood::Fine).await.unwrap();
    let url = fake.url();
    let model = ("AGENTIC_LLM_MODEL", "qwen2.5:7b-instruct");
    let look = async || hand.one("ollama.vm123.health/service", &[("OLLAMA_BASE_URL", &url), model]).await;

    saw(told, look().await, "ok", "tem o modelo `qwen2.5:7b-instruct` (7.6B, Q4_K_M)");
    fake.set_models(json!([ollama::model("nomic-embed-text:latest")]));
    saw(told, look().await, "critical", "`ollama pull qwen2.5:7b-instruct`");
    fake.set_models(json!([{"name": 7}, ollama::model("nomic-embed-text:latest")]));
    saw(told, look().await, "unknown", "1 linhas ilegíveis");
    let mut away = ollama::model("qwen2.5:7b-instruct");
    away["remote_host"] = json!("https://ollama.com:443");
    fake.set_models(json!([away]));
    saw(told, look().await, "ok", "fora deste servidor");
    fake.set_mood(ollama::Mood::Locked);
    saw(told, look().await, "unknown", "recusou o acesso (401");
    let proxy = Fake::start(Product::BadGateway).await.unwrap();
    let seen = hand.one("ollama.vm123.health/service", &[("OLLAMA_BASE_URL", &proxy.url()), model]).await;
    saw(told, seen, "critical", "502");
    let seen = hand.one("ollama.vm123.health/service", &[("OLLAMA_BASE_URL", &nobody().await), model]).await;
    saw(told, seen, "critical", "conexão recusada");
    let reports = hand.check("ollama.vm123.health/service", &[model]).await;
    assert_eq!(reports[0]["cause"], "not_configured", "{reports:?}");
    saw(told, (words(&reports[0], "status"), words(&reports[0], "text")), "unknown", "OLLAMA_BASE_URL");
    assert!(fake.prompts().is_empty(), "looking for a model asks it nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_must_answer_is_asked_and_one_that_runs_elsewhere_never() {
    let fake = FakeOllama::start(ollama::Mood::Fine).await.unwrap();
    let hand = Hand::new(&format!(
        "version: 1
language: en
hosts: [{{name: vm123}}]
scenarios:
  - {{id: s, title: S, persona: A0, severity: low, hosts: [vm123], timeout: 2s, checks: [
      {{name: llm, probe: {{ollama: {{url: '{}', model: 'qwen2.5:7b-instruct', answers: true}}}}}}]}}
",
        fake.url()
    ));
    let told = &mut HashSet::new();
    saw(told, hand.one("s", &[]).await, "ok", "answered the question");
    assert_eq!(fake.prompts()[0]["stream"], false);
    fake.set_mood(ollama::Mood::Broken);
    saw(told, hand.one("s", &[]).await, "critical", "out of memory");
    fake.set_mood(ollama::Mood::Cut);
    saw(told, hand.one("s", &[]).await, "critical", "empty or incomplete");
    fake.set_mood(ollama::Mood::Fine);
    let mut away = ollama::model("qwen2.5:7b-instruct");
    away["remote_host"] = json!("https://ollama.com:443");
    fake.set_models(json!([away]));
    let before = fake.prompts().len();
    saw(told, hand.one("s", &[]).await, "unknown", "nothing was sent to it");
    assert_eq!(fake.prompts().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_finance_stack_tells_its_outcomes_apart() {
    let hand = Hand::shipped();
    let told = &mut HashSet::new();
    let (billing, odoo) = (Fake::start(Product::Fossbilling).await.unwrap(), Fake::start(Product::Odoo).await.unwrap());
    let (billing_url, odoo_url) = (billing.url(), odoo.url());
    let environment = [("FOSSBILLING_URL", billing_url.as_str()), ("ODOO_URL", odoo_url.as_str())];
    let check = async |name: &str| hand.one(&format!("vm123.finance.stack/{name}"), &environment).await;

    assert_eq!(hand.check("vm123.finance.stack", &environment).await.len(), 2);
    for (product, status, word) in [
        (Product::Odoo, "ok", "Odoo e o banco de dados respondem"),
        (Product::OdooWithoutDatabase, "critical", "o banco de dados não"),
        (Product::Odoo14, "ok", "Odoo 14.0-20230101 responde"),
        (Product::Odoo14Broken, "critical", "could not connect to server"),
        (Product::BadGateway, "critical", "502"),
        (Product::Page, "unknown", "text/html"),
    ] {
        odoo.set(product);
        saw(told, check("odoo").await, status, word);
    }
    assert!(odoo.asked().iter().all(|(_, path)| path != "/"), "a look at `/` leaves a session behind");
    for (product, status, word) in [
        (Product::Fossbilling, "ok", "FOSSBilling responde"),
        (Product::FossbillingBroken, "critical", "SQLSTATE[HY000]"),
        (Product::FossbillingLimited, "unknown", "esperar 60 s"),
        (Product::FossbillingForOthers, "unknown", "Unauthorized IP"),
        (Product::BadGateway, "critical", "FOSSBilling respondeu com erro 502"),
        (Product::Page, "unknown", "Bem-vindo"),
    ] {
        billing.set(product);
        saw(told, check("fossbilling").await, status, word);
    }
    let none = nobody().await;
    let away = [("FOSSBILLING_URL", none.as_str()), ("ODOO_URL", none.as_str())];
    saw(told, hand.one("vm123.finance.stack/odoo", &away).await, "critical", "conexão recusada");
    saw(told, hand.one("vm123.finance.stack/fossbilling", &away).await, "critical", "conexão recusada");
    saw(told, hand.one("vm123.finance.stack/odoo", &[]).await, "unknown", "ODOO_URL");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_bridge_tells_its_outcomes_apart() {
    let hand = Hand::shipped();
    let told = &mut HashSet::new();
    let bridge = Fake::start(Product::Bridge).await.unwrap();
    let url = bridge.url();
    for (product, status, word) in [
        (Product::Bridge, "ok", "1.4.0 diz que está bem (2 partes)"),
        (Product::BridgePartDown, "critical", "openpanel (connect ECONNREFUSED"),
        (Product::BridgeNotReady, "critical", "shutting down"),
        (Product::BridgeLocked, "unknown", "Not authenticated"),
        (Product::BadGateway, "critical", "502"),
        (Product::Page, "unknown", "em vez de JSON"),
    ] {
        bridge.set(product);
        saw(told, hand.one("vm123.openpanel.bridge", &[("OPENPANEL_BRIDGE_URL", &url)]).await, status, word);
    }
    let none = nobody().await;
    let seen = hand.one("vm123.openpanel.bridge", &[("OPENPANEL_BRIDGE_URL", &none)]).await;
    saw(told, seen, "critical", "conexão recusada");
    saw(told, hand.one("vm123.openpanel.bridge", &[]).await, "unknown", "OPENPANEL_BRIDGE_URL");
}

/// A registry with one check of `probe`, whose limit is 2 s.
fn with(probe: &str, every: &str) -> String {
    format!(
        "version: 1
language: en
hosts: [{{name: mail}}]
scenarios:
  - {{id: s, title: S, persona: A4, severity: low, hosts: [mail], every: {every}, timeout: 2s, checks: [{{name: c, probe: {probe}}}]}}
"
    )
}

async fn mail(dns: &Dns, look: &str) -> (String, String) {
    let (domain, rest) = look.split_once(' ').unwrap();
    let probe = format!("{{mail_domain: {{domain: '{domain}', {rest}, resolver: '{}'}}}}", dns.address());
    Hand::new(&with(&probe, "5m")).one("s", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_domain_is_looked_at_record_by_record() {
    let dns = Dns::start().await.unwrap();
    let told = &mut HashSet::new();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();

    dns.mx("good.test", 10, "mx1.good.test");
    dns.address_of("mx1.good.test", ip("192.0.2.10"));
    saw(told, mail(&dns, "good.test look: mx").await, "ok", "1 MX");
    dns.mx("good.test", 20, "mx2.good.test");
    saw(told, mail(&dns, "good.test look: mx").await, "warning", "mx2.good.test");
    dns.txt("plain.test", "hello");
    saw(told, mail(&dns, "plain.test look: mx").await, "critical", "has no MX");
    dns.mx("null.test", 0, ".");
    saw(told, mail(&dns, "null.test look: mx").await, "critical", "takes no mail");
    dns.fail("broken.test");
    saw(told, mail(&dns, "broken.test look: mx").await, "unknown", "failed for broken.test");
    dns.silence("silent.test");
    saw(told, mail(&dns, "silent.test look: mx").await, "unknown", "did not answer");

    dns.txt("good.test", "v=spf1 mx include:spf.good.test -all");
    dns.txt("spf.good.test", "v=spf1 a:mx1.good.test ip4:192.0.2.0/24 -all");
    saw(told, mail(&dns, "good.test look: spf").await, "ok", "costs 3 of 10");
    dns.txt("two.test", "v=spf1 -all");
    dns.txt("two.test", "v=spf1 ~all");
    saw(told, mail(&dns, "two.test look: spf").await, "critical", "2 SPF records");
    dns.txt("loop.test", "v=spf1 include:loop.test -all");
    saw(told, mail(&dns, "loop.test look: spf").await, "critical", "more than 20 lookups");
    dns.txt("void.test", "v=spf1 a:x1.void.test a:x2.void.test a:x3.void.test -all");
    saw(told, mail(&dns, "void.test look: spf").await, "critical", "3 names that do not exist");
    dns.txt("open.test", "v=spf1 +all");
    saw(told, mail(&dns, "open.test look: spf").await, "critical", "permits everybody");
    saw(told, mail(&dns, "plain.test look: spf").await, "critical", "plain.test has no SPF");

    // Longer than one piece of 255, and than one datagram together.
    let key = rsa_key(2048).await;
    for _ in 0..3 {
        dns.txt("s1._domainkey.good.test", &"x".repeat(600));
    }
    saw(told, mail(&dns, "good.test look: dkim, selector: s1").await, "critical", "3 DKIM records");
    dns.clear("s1._domainkey.good.test");
    dns.txt("s1._domainkey.good.test", &format!("v=DKIM1; k=rsa; p={key}"));
    saw(told, mail(&dns, "good.test look: dkim, selector: s1").await, "ok", "RSA with 2048 bits");
    dns.txt("s2._domainkey.good.test", "v=DKIM1; p=");
    saw(told, mail(&dns, "good.test look: dkim, selector: s2").await, "critical", "revoked");
    dns.txt("s3._domainkey.good.test", &format!("v=DKIM1; p={}", rsa_key(1024).await));
    saw(told, mail(&dns, "good.test look: dkim, selector: s3").await, "warning", "replace it by one of 2048");
    saw(told, mail(&dns, "good.test look: dkim, selector: s4").await, "critical", "no DKIM key");

    dns.txt("_dmarc.good.test", "v=DMARC1; p=reject; sp=none; rua=mailto:d@good.test");
    saw(told, mail(&dns, "good.test look: dmarc").await, "ok", "`reject`");
    saw(told, mail(&dns, "news.good.test look: dmarc").await, "warning", "`none` (of good.test)");
    saw(told, mail(&dns, "plain.test look: dmarc").await, "critical", "nor have the domains above");

    dns.ptr(ip("192.0.2.10"), "mx1.good.test");
    saw(told, mail(&dns, "192.0.2.10 look: ptr").await, "ok", "leads back");
    dns.ptr(ip("192.0.2.11"), "mx1.good.test");
    saw(told, mail(&dns, "192.0.2.11 look: ptr").await, "critical", "does not lead back");
    saw(told, mail(&dns, "192.0.2.12 look: ptr").await, "critical", "no reverse name");

    saw(told, mail(&dns, "good.test look: mta_sts").await, "critical", "has no MTA-STS");
}

/// The public half of a new key, as a record holds it.
async fn rsa_key(bits: u32) -> String {
    let script =
        format!("openssl genrsa {bits} 2>/dev/null | openssl rsa -pubout -outform der 2>/dev/null | base64 -w0");
    process::output(Command::new("sh").args(["-c", &script])).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_list_is_believed_only_after_its_own_test() {
    let dns = Dns::start().await.unwrap();
    let told = &mut HashSet::new();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let look = async |subject: &str, zones: &str| {
        let resolver = dns.address();
        let probe = format!("{{block_list: {{subject: '{subject}', zones: [{zones}], resolver: '{resolver}'}}}}");
        Hand::new(&with(&probe, "1h")).one("s", &[]).await
    };
    dns.address_of("2.0.0.127.good.test", ip("127.0.0.2"));
    saw(told, look("192.0.2.99", "good.test").await, "ok", "none of the 1 lists");
    dns.address_of("99.2.0.192.good.test", ip("127.0.0.4"));
    dns.txt("99.2.0.192.good.test", "spam source, see example.test");
    saw(told, look("192.0.2.99", "good.test").await, "critical", "good.test (spam source");
    saw(told, look("192.0.2.1", "dead.test").await, "unknown", "failed its own test");
    dns.address_of("2.0.0.127.public.test", ip("127.255.255.254"));
    saw(told, look("192.0.2.1", "public.test").await, "unknown", "refuses public name servers");
    dns.address_of("2.0.0.127.all.test", ip("127.0.0.2"));
    dns.address_of("1.0.0.127.all.test", ip("127.0.0.2"));
    saw(told, look("192.0.2.2", "all.test").await, "unknown", "failed its own test");
    saw(told, look("192.0.2.99", "good.test, dead.test").await, "critical", "on 1 of 2 lists");

    // More often than the lists' terms allow is a mistake of the registry.
    let probe = "{block_list: {subject: '192.0.2.99', zones: [good.test]}}";
    let hand = Hand::new(&with(probe, "5m"));
    let output = hand.farol(&["check", "s"], &[]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("every: 1h"), "{said}");
}
