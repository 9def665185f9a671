//! The scenarios of the shipped registry, run as an operator runs them, against
//! stand-ins that are healthy, broken, away, locked and not configured: each
//! case has its outcome and its words. `asked` does the same for those on VM123.

use std::{collections::HashSet, path::Path, time::Duration};

use farol_tests::{
    Site,
    pfsense::{FakePfsense, KEY, Package},
    process,
    product::{Fault, Product, Reply},
    proxmox::{FakeProxmox, SECRET, USER},
    wait_until,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use time::{Duration as Span, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpListener;

use crate::asked::{Hand, nobody, words};

/// For a finding to open and to resolve, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Outcomes, and what was said so far.
#[derive(Default)]
struct Told(HashSet<String>);

impl Told {
    /// The one report of a check says `outcome` in words that no other case
    /// had. `unconfigured` is unknown for want of configuration; no other
    /// outcome may hide behind that.
    fn saw(&mut self, reports: &[Value], outcome: &str, word: &str) {
        let [report] = reports else { panic!("not one report: {reports:?}") };
        let (status, text) = (words(report, "status"), words(report, "text"));
        let seen = if report["cause"] == "not_configured" { "unconfigured" } else { status.as_str() };
        assert_eq!(seen, outcome, "{text}");
        assert!(status == "unknown" || report["cause"].is_null(), "{report}");
        assert!(text.contains(word), "`{word}` is not in: {text}");
        assert!((1..=400).contains(&text.chars().count()), "{text}");
        assert!(self.0.insert(essence(&text)), "said twice: {text}");
    }
}

/// Without what differs from look to look: measured times and ports.
fn essence(text: &str) -> String {
    let parts: Vec<&str> = text.split(' ').collect();
    let word = |(at, part): (usize, &&str)| match parts.get(at + 1) {
        Some(next) if next.starts_with("ms") => "N".to_owned(),
        _ => match part.split_once("127.0.0.1:") {
            Some((before, after)) => format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => (*part).to_owned(),
        },
    };
    parts.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// The shipped registry with an integration that `farol integration add` made.
async fn with(name: &str, arguments: &[&str], secret: &str) -> Hand {
    let hand = Hand::shipped();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let mut command = hand.farol(&["integration", "add", name, "--kind", name], &[]);
    process::output(command.args(arguments).arg("--secret-file").arg(file)).await.unwrap();
    hand
}

/// What a proxy says for a server that it does not reach.
fn bad_gateway() -> Reply {
    Reply::html(502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
}

/// A public page of somebody else, with 200.
fn page() -> Reply {
    Reply::html(200, "<!doctype html><title>Bem-vindo</title>")
}

/// A health answer of Farol's own make.
fn health(change: impl FnOnce(&mut Value)) -> Reply {
    let mut body = json!({"status": "ok", "checks": {"store": "ok", "telemetry": "ok", "registry": "ok",
        "agents": "ok", "mail": "off", "llm": "off"}});
    change(&mut body);
    Reply::json(200, &body)
}

fn degraded() -> Reply {
    health(|body| {
        body["status"] = json!("degraded");
        body["checks"]["store"] = json!("cannot be written; look at the log and at the free space");
    })
}

/// The Desk: its API answers at the one path, everything else is unknown there.
async fn desk() -> Product {
    Product::start_plain(|asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/api/v1/agents/health") => health(|_| {}),
        _ => Reply::json(404, &json!({"type": "about:blank", "title": "Not Found", "status": 404})),
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_desk_tells_its_outcomes_apart() {
    let hand = Hand::shipped();
    let mut told = Told::default();
    let desk = desk().await;
    let url = desk.url();
    let problem = |status: u16, title: &str| Reply::json(status, &json!({"title": title, "status": status}));
    let part = |name: &'static str, says: &'static str| {
        health(|body| {
            body["status"] = json!("degraded");
            body["checks"][name] = json!(says);
        })
    };
    for (reply, outcome, word) in [
        (None, "ok", "respondeu 200"),
        (Some(degraded()), "critical", "`/checks/store` é \"cannot be written"),
        (Some(part("agents", "none of 4 enrolled hosts is connected")), "critical", "\"none of 4 enrolled hosts"),
        (Some(part("mail", "the last mails were refused")), "critical", "`/status` é \"degraded\" (esperado \"ok\")"),
        (Some(Reply::json(200, &json!({"hello": "world"}))), "critical", "`/checks/store` é —"),
        (Some(page()), "critical", "o corpo não é um documento JSON"),
        (Some(problem(401, "Unauthorized")), "critical", "recusou o acesso: respondeu 401"),
        (Some(problem(403, "Forbidden")), "critical", "recusou o acesso: respondeu 403"),
        (Some(problem(500, "Internal Server Error")), "critical", "respondeu 500"),
        (Some(bad_gateway()), "critical", "respondeu 502"),
    ] {
        desk.heal();
        reply.into_iter().for_each(|reply| desk.fault("/api/v1/agents/health", Fault::Reply(reply)));
        told.saw(&hand.check("desk.api.health/api", &[("DESK_BASE_URL", &url)]).await, outcome, word);
    }
    assert!(desk.asked().iter().all(|asked| asked.path == "/api/v1/agents/health" && asked.method == "GET"));
    desk.heal();
    desk.fault("/", Fault::Cut(20));
    let seen = hand.check("desk.api.health/api", &[("DESK_BASE_URL", &url)]).await;
    told.saw(&seen, "critical", "o corpo não chegou inteiro");
    let seen = hand.check("desk.api.health/api", &[("DESK_BASE_URL", &nobody().await)]).await;
    told.saw(&seen, "critical", "conexão recusada");
    told.saw(&hand.check("desk.api.health/api", &[]).await, "unconfigured", "DESK_BASE_URL");

    let mut told = Told::default();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap().to_string();
    let look = async || hand.check("desk.api.health/agents", &[("DESK_AGENTS_ADDRESS", &address)]).await;
    told.saw(&look().await, "ok", "aceitou a conexão");
    drop(port);
    told.saw(&look().await, "critical", "conexão recusada");
    told.saw(&hand.check("desk.api.health/agents", &[]).await, "unconfigured", "DESK_AGENTS_ADDRESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_desk_becomes_a_finding_with_a_thread_and_resolves() {
    let shipped = Hand::shipped().text();
    let desk = desk().await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, address) = (desk.url(), port.local_addr().unwrap().to_string());
    let environment =
        [("DESK_BASE_URL", url.as_str()), ("DESK_AGENTS_ADDRESS", address.as_str()), ("AGENTIC_INTERVAL_SEC", "1")];
    let mut site = Site::start(&shipped, &environment).await.unwrap();
    let of_desk = |finding: &Value| finding["scenario"] == "desk.api.health";
    let seen = async |wanted: &dyn Fn(&Value) -> bool, what: &str| {
        wait_until(what, PATIENCE, async || {
            let findings = site.api().items("/api/v1/findings?state=all").await?;
            Ok(findings.into_iter().find(|finding| of_desk(finding) && wanted(finding)))
        })
        .await
        .unwrap()
    };
    wait_until("the desk to be asked twice", PATIENCE, async || Ok((desk.asked().len() > 1).then_some(())))
        .await
        .unwrap();
    assert!(site.api().items("/api/v1/findings?state=all").await.unwrap().is_empty(), "nothing else opens one");

    desk.fault("/api/v1/agents/health", Fault::Reply(degraded()));
    let finding = seen(&|finding| finding["state"] == "open", "the finding").await;
    assert_eq!((&finding["severity"], &finding["host"]), (&json!("high"), &json!("vm122")), "{finding}");
    let messages = async || {
        let thread = finding["thread_id"].as_str().unwrap();
        site.api().items(&format!("/api/v1/agents/threads/{thread}/messages")).await.unwrap()
    };
    let opened = messages().await.into_iter().find(|message| message["kind"] == "finding").unwrap();
    assert!(opened["body"].as_str().unwrap().contains("/checks/store"), "{opened}");

    desk.heal();
    let resolved = seen(&|finding| finding["state"] == "resolved", "the resolution").await;
    assert_eq!(resolved["id"], finding["id"]);
    wait_until("the thread to say so", PATIENCE, async || {
        Ok(messages().await.into_iter().find(|message| message["kind"] == "resolved"))
    })
    .await
    .unwrap();
    let all = site.api().items("/api/v1/findings?state=all").await.unwrap();
    assert_eq!(all.len(), 1, "what is not configured opens nothing: {all:?}");
    site.stop_coordinator().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_wizard_tells_its_outcomes_apart() {
    let hand = Hand::shipped();
    for (check, variable) in [("api", "WIZARD_API_URL"), ("portal", "WIZARD_PORTAL_URL")] {
        let name = format!("wizard.vm112.bundle/{check}");
        let mut told = Told::default();
        let wizard = Product::start_plain(|asked| match asked.path.as_str() {
            "/health" => Reply::json(200, &json!({"status": "ok", "version": "3.2"})),
            _ => Reply::json(404, &json!({"detail": "Not Found"})),
        })
        .await
        .unwrap();
        let url = wizard.url();
        for (reply, outcome, word) in [
            (None, "ok", "respondeu 200"),
            // A part that is well is not the whole.
            (
                Some(Reply::json(200, &json!({"status": "degraded", "database": "ok"}))),
                "critical",
                "`/status` é \"degraded\"",
            ),
            (Some(Reply::json(200, &json!({"status": "broken"}))), "critical", "\"broken\""),
            (Some(Reply::json(503, &json!({"status": "starting"}))), "critical", "respondeu 503"),
            (Some(page()), "critical", "não é um documento JSON"),
            (Some(Reply::json(401, &json!({"detail": "Not authenticated"}))), "critical", "recusou o acesso"),
            (Some(bad_gateway()), "critical", "respondeu 502"),
        ] {
            wizard.heal();
            reply.into_iter().for_each(|reply| wizard.fault("/health", Fault::Reply(reply)));
            told.saw(&hand.check(&name, &[(variable, &url)]).await, outcome, word);
        }
        assert!(wizard.asked().iter().all(|asked| asked.path == "/health"));
        told.saw(&hand.check(&name, &[(variable, &nobody().await)]).await, "critical", "conexão recusada");
        told.saw(&hand.check(&name, &[]).await, "unconfigured", variable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_pfsense_tells_its_outcomes_apart() {
    let fake = FakePfsense::start().await.unwrap();
    let (url, pin) = (fake.product.url(), fake.product.pin());
    let hand = with("pfsense", &["--url", &url, "--pin", &pin], KEY).await;
    let mut told = Told::default();
    let look = async |check: &str| hand.check(&format!("pfsense.api.system/{check}"), &[]).await;

    assert_eq!(hand.check("pfsense.api.system", &[]).await.len(), 3);
    told.saw(&look("system").await, "ok", "memória 21%");
    told.saw(&look("gateways").await, "ok", "");
    told.saw(&look("services").await, "ok", "");

    fake.change(|firewall| {
        firewall.data.get_mut("/status/system").unwrap()["disk_usage"] = json!(97);
        firewall.data.get_mut("/status/gateways").unwrap()[1]["status"] = json!("down");
        firewall.data.get_mut("/status/gateways").unwrap()[1]["loss"] = json!(100);
        firewall.data.get_mut("/status/services").unwrap()[0]["status"] = json!(false);
    });
    told.saw(&look("system").await, "critical", "disco 97%");
    told.saw(&look("gateways").await, "critical", "WAN2");
    told.saw(&look("services").await, "critical", "unbound");

    fake.change(|firewall| {
        firewall.forbidden.insert("/status/services".to_owned());
        firewall.data.get_mut("/status/system").unwrap().as_object_mut().unwrap().remove("disk_usage");
    });
    told.saw(
        &look("services").await,
        "unknown",
        "a chave de API não tem o privilégio de GET em /api/v2/status/services",
    );
    told.saw(&look("system").await, "unknown", "não informa: disco");
    fake.change(|firewall| firewall.allowed = false);
    told.saw(&look("system").await, "unknown", "lista de acesso");
    fake.change(|firewall| (firewall.allowed, firewall.enabled) = (true, false));
    told.saw(&look("system").await, "critical", "ligue-a em System > REST API");
    fake.change(|firewall| (firewall.enabled, firewall.package) = (true, Package::Missing));
    told.saw(&look("system").await, "critical", "instale pfSense-pkg-RESTAPI de novo");
    let seen = look("gateways").await;
    assert_eq!(seen[0]["status"], "unknown", "of gateways nothing is known then: {seen:?}");
    fake.product.fault("/", Fault::Reply(bad_gateway()));
    told.saw(&look("system").await, "unknown", "502");
    fake.product.heal();
    fake.product.fault("/", Fault::Reply(page()));
    told.saw(&look("system").await, "unknown", "não parece um pfSense");
    fake.product.heal();
    fake.change(|firewall| firewall.package = Package::V1);
    told.saw(&look("system").await, "unknown", "atualize o pacote para a v2");

    fake.change(|firewall| (firewall.package, firewall.refused) = (Package::V2, 0));
    let wrong = with("pfsense", &["--url", &url, "--pin", &pin], "0123456789abcdef").await;
    told.saw(&wrong.check("pfsense.api.system/system", &[]).await, "unknown", "(401 AUTH_AUTHENTICATION_FAILED)");
    assert_eq!(fake.refused(), 1, "one refused login a look");
    fake.product.forget();
    fake.product.change_certificate().unwrap();
    told.saw(&look("system").await, "unknown", "mostrou outro certificado");
    assert!(fake.product.asked().is_empty(), "the key went to somebody else");

    let away = with("pfsense", &["--url", &away().await, "--pin", &pin], KEY).await;
    told.saw(&away.check("pfsense.api.system/system", &[]).await, "critical", "conexão recusada");
    let hand = Hand::shipped();
    let keyless = ["integration", "add", "pfsense", "--kind", "pfsense", "--url", &url, "--pin", &pin];
    let output = hand.farol(&keyless, &[]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the secret is missing"), "{said}");
    let none = hand.check("pfsense.api.system/system", &[]).await;
    told.saw(&none, "unconfigured", "farol integration add pfsense --kind pfsense");
}

/// [`nobody`] with TLS.
async fn away() -> String {
    nobody().await.replace("http://", "https://")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_proxmox_tells_its_outcomes_apart() {
    const ALL: [&str; 7] = ["quorum", "nodes", "guests", "storage", "replication", "tasks", "backups"];
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let started = || async { FakeProxmox::start(now).await.unwrap() };
    let of = |fake: &FakeProxmox| {
        let (url, pin) = (fake.product.url(), fake.product.pin());
        async move { with("proxmox", &["--url", &url, "--pin", &pin, "--user", USER], SECRET).await }
    };
    let mut told = Told::default();

    let fake = started().await;
    let hand = of(&fake).await;
    let look = async |check: &str| hand.check(&format!("proxmox.cluster/{check}"), &[]).await;
    told.saw(&look("backups").await, "warning", "sem tarefa de backup: 200 lab");
    fake.change(|cluster| {
        cluster.data.insert("/cluster/backup-info/not-backed-up".to_owned(), json!([]));
    });
    told.saw(&look("backups").await, "critical", "sem nenhum backup: 200 lab");
    fake.change(|cluster| {
        cluster.add(
            "/nodes/a/storage/nas/content",
            json!({"volid": "nas:backup/vzdump-qemu-200.vma.zst", "ctime": now - 3600, "size": 12_345, "vmid": 200,
                "format": "vma.zst", "content": "backup"}),
        );
    });
    for check in ALL {
        told.saw(&look(check).await, "ok", "");
    }
    let old = now - 60 * 3600;
    fake.change(|cluster| {
        cluster.row("/cluster/resources", "id", "qemu/112")["status"] = json!("stopped");
        cluster.each("/nodes/a/qemu", |row| {
            if row["vmid"] == 112 {
                (row["status"], row["qmpstatus"]) = (json!("stopped"), json!("stopped"));
            }
        });
        cluster.row("/cluster/resources", "id", "storage/a/nas")["disk"] = json!(990_000_000_000_u64);
        cluster.each("/nodes/a/storage/nas/content", |row| {
            if row["vmid"] == 122 {
                row["ctime"] = json!(old);
            }
        });
        cluster.each("/nodes/a/replication", |row| (row["fail_count"], row["error"]) = (json!(4), json!("no route")));
        cluster.add(
            "/nodes/b/tasks",
            json!({"upid": "UPID:b:1:2:3:qmstart:123:root@pam:", "node": "b", "pid": 1, "pstart": 2,
                "starttime": now - 700, "endtime": now - 600, "type": "qmstart", "id": "123", "user": "root@pam",
                "status": "start failed: out of memory"}),
        );
    });
    told.saw(&look("guests").await, "critical", "112");
    told.saw(&look("storage").await, "critical", "nas");
    told.saw(&look("backups").await, "critical", "122");
    told.saw(&look("replication").await, "critical", "112-0");
    told.saw(&look("tasks").await, "warning", "qmstart");
    fake.change(|cluster| cluster.row("/cluster/status", "type", "cluster")["quorate"] = json!(0));
    told.saw(&look("quorum").await, "critical", "quórum");
    // A node that goes away between two questions: its own API answers 595.
    let gone = Reply::new(595, "text/plain", String::new()).because("No route to host");
    fake.product.fault("/api2/json/nodes/b/", Fault::Reply(gone));
    told.saw(&look("tasks").await, "unknown", "nos outros nós nenhuma tarefa falhou");

    let fake = started().await;
    let hand = of(&fake).await;
    let look = async |check: &str| hand.check(&format!("proxmox.cluster/{check}"), &[]).await;
    fake.lose_node("b");
    told.saw(&look("nodes").await, "critical", "b");
    told.saw(&look("guests").await, "unknown", "123");
    fake.product.fault("/", Fault::Reply(page()));
    told.saw(&look("quorum").await, "unknown", "não é a de um Proxmox VE");
    fake.product.heal();
    fake.product.fault("/", Fault::Reply(bad_gateway()));
    told.saw(&look("quorum").await, "unknown", "502");
    fake.product.heal();
    fake.take_rights();
    told.saw(&look("quorum").await, "unknown", "PVEAuditor");
    for check in ALL {
        let seen = look(check).await;
        assert_eq!((&seen[0]["status"], &seen[0]["cause"]), (&json!("unknown"), &Value::Null), "{seen:?}");
    }
    let (url, pin) = (fake.product.url(), fake.product.pin());
    let wrong = with("proxmox", &["--url", &url, "--pin", &pin, "--user", USER], "another-secret").await;
    told.saw(&wrong.check("proxmox.cluster/quorum", &[]).await, "unknown", "401");
    fake.product.forget();
    fake.product.change_certificate().unwrap();
    told.saw(&look("quorum").await, "unknown", "mostrou outro certificado");
    assert!(fake.product.asked().is_empty(), "the token went to somebody else");
    let away = with("proxmox", &["--url", &away().await, "--pin", &pin, "--user", USER], SECRET).await;
    told.saw(&away.check("proxmox.cluster/quorum", &[]).await, "critical", "conexão recusada");
    let none = Hand::shipped().check("proxmox.cluster", &[]).await;
    assert!(none.len() == ALL.len() && none.iter().all(|report| report["cause"] == "not_configured"), "{none:?}");
    told.saw(&none[..1], "unconfigured", "farol integration add proxmox --kind proxmox");
}

async fn database(path: &Path, statements: &[String]) -> SqliteConnection {
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    for statement in statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(&mut connection).await.unwrap();
    }
    connection
}

/// So many hours ago, as ISO 8601 in UTC.
fn ago(hours: i64) -> String {
    (OffsetDateTime::now_utc() - Span::hours(hours)).replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

/// The cases in which an SQLite file cannot be asked, with a file that lacks the tables.
async fn no_answer(told: &mut Told, check: &str, variable: &str, folder: &Path) {
    let hand = Hand::shipped();
    let path = |name: &str| folder.join(name).display().to_string();
    database(Path::new(&path("other.db")), &["create table other (n)".to_owned()]).await.close().await.unwrap();
    std::fs::write(path("text.db"), "status;created_at\nopen;2026-01-01\n".repeat(100)).unwrap();
    std::fs::create_dir(path("folder.db")).unwrap();
    for (file, outcome, word) in [
        ("other.db", "unknown", "no such table"),
        ("text.db", "unknown", "not a database"),
        ("none.db", "unknown", "não existe"),
        ("folder.db", "unknown", "é uma pasta"),
    ] {
        told.saw(&hand.check(check, &[(variable, &path(file))]).await, outcome, word);
    }
    assert!(!Path::new(&path("none.db")).exists(), "a look makes no file");
    told.saw(&hand.check(check, &[]).await, "unconfigured", variable);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_funnel_tells_its_outcomes_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, mut told, hand) = (folder.path().join("tickets.db"), Told::default(), Hand::shipped());
    let path = file.display().to_string();
    let look = async || hand.check("funnel.stuck.onboarding", &[("TICKETS_DB", &path)]).await;
    let ticket = |status: &str, created: &str| format!("insert into tickets values ({status}, '{created}')");
    // As the Desk keeps it: with a write-ahead log, and open while Farol looks.
    let mut desk = database(
        &file,
        &[
            "pragma journal_mode = wal".to_owned(),
            "create table tickets (status text, created_at text)".to_owned(),
            ticket("'open'", &ago(2)),
            ticket("'Closed'", &ago(900)),
            ticket("'done'", &ago(70)),
        ],
    )
    .await;
    let mut write = async |statement: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut desk).await.unwrap();
    };
    told.saw(&look().await, "ok", "nenhum chamado parado há mais de 24 h (0)");
    let oldest = ago(50);
    write(ticket("'open'", &oldest)).await;
    // Without a status it is not closed.
    write(ticket("null", &ago(30))).await;
    told.saw(&look().await, "warning", &format!("o mais antigo é de {oldest} (2; limite 1)"));
    write(ticket("'waiting'", "31/12/2025 10:00")).await;
    told.saw(&look().await, "warning", &format!("alguns sem data legível, o mais antigo é de {oldest} (3; limite 1)"));
    for _ in 0..3 {
        write(ticket("'open'", &ago(40))).await;
    }
    write("delete from tickets where created_at like '%/%'".to_owned()).await;
    told.saw(&look().await, "critical", "(5; limite 5)");
    write("update tickets set created_at = 'ontem'".to_owned()).await;
    told.saw(&look().await, "critical", "created_at não é uma data");
    no_answer(&mut told, "funnel.stuck.onboarding", "TICKETS_DB", folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenario_of_the_webhooks_tells_its_outcomes_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, mut told, hand) = (folder.path().join("events.db"), Told::default(), Hand::shipped());
    let path = file.display().to_string();
    let look = async || hand.check("integration.webhook.gap", &[("WEBHOOK_DB", &path)]).await;
    let sent = |id: &str, created: &str| format!("insert into vm112_events values ('{id}', '{created}')");
    let received = |id: &str| format!("insert into vm122_events values ('{id}', '{}')", ago(0));
    let mut events = database(
        &file,
        &[
            "create table vm112_events (event_id text, created_at text)".to_owned(),
            "create table vm122_events (event_id text, created_at text)".to_owned(),
            sent("a", &ago(3)),
            received("a"),
            // On its way, and forgotten.
            sent("b", &ago(0)),
            sent("c", &ago(24 * 8)),
        ],
    )
    .await;
    let mut write = async |statement: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut events).await.unwrap();
    };
    told.saw(&look().await, "ok", "nenhum evento da VM112 falta na VM122 (0)");
    let oldest = ago(5);
    write(sent("d", &oldest)).await;
    told.saw(&look().await, "warning", &format!("o mais antigo é de {oldest} (1; limite 1)"));
    write(sent("e", "há pouco")).await;
    told.saw(&look().await, "warning", "alguns sem data legível");
    for id in 0..9 {
        write(sent(&format!("f{id}"), &ago(2))).await;
    }
    write("delete from vm112_events where event_id = 'e'".to_owned()).await;
    told.saw(&look().await, "critical", "(10; limite 10)");
    no_answer(&mut told, "integration.webhook.gap", "WEBHOOK_DB", folder.path()).await;
    write(received("d")).await;
}
